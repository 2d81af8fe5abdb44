//! Tags of a repository in an OCI registry (distribution specification 1.1, "Listing Tags"), with
//! the token that registries give to anybody.

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;

use super::ImageRepository;
use super::pages::{self, Pages};
use crate::endpoints::{Token, is_private};
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;

const PER_PAGE: &str = "1000";
const PAGES: usize = 100;
const LONGEST_PAGE: u64 = 8 * 1024 * 1024;
const LONGEST_TOKEN: u64 = 256 * 1024;

/// Tags of repositories in registries.
pub(crate) struct Oci {
    context: Context,
}

/// `GET /v2/NAME/tags/list`.
#[derive(Deserialize)]
struct TagList {
    // `null` where there are none.
    tags: Option<Vec<String>>,
}

/// What a token server answers; older ones use the first name.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

impl Oci {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Every tag of a repository.
    pub(crate) async fn candidates(&self, repository: &ImageRepository) -> Result<Vec<Candidate>> {
        let address = format!("{}/v2/{}/tags/list?n={PER_PAGE}", repository.base(), repository.name());
        let first = Url::parse(&address)
            .map_err(|error| Error::Source { text: repository.to_string(), reason: error.to_string() })?;
        let lists = match self.list(HeaderMap::new(), first.clone()).await {
            Err(Error::Unauthorized { challenge, .. }) => {
                let token = self.token(repository, &first, &challenge).await?;
                self.list(HeaderMap::from_iter([(AUTHORIZATION, token.bearer()?)]), first.clone()).await
            }
            answered => answered,
        };
        let lists = lists.map_err(|error| match error {
            Error::Status { url, status: 404, .. } => {
                Error::UnknownPackage { package: repository.to_string(), place: url }
            }
            other => other,
        })?;
        Ok(lists.into_iter().filter_map(|list| list.tags).flatten().map(Candidate::new).collect())
    }

    async fn list(&self, headers: HeaderMap, first: Url) -> Result<Vec<TagList>> {
        let fetcher = &self.context.fetcher;
        Pages { fetcher, headers, pages: PAGES, longest: LONGEST_PAGE, newest_only: false }.read(first).await
    }

    /// The token that the server named in a challenge gives without credentials.
    async fn token(&self, repository: &ImageRepository, asked: &Url, challenge: &str) -> Result<Token> {
        let refuse = |reason: String| Error::Listing { url: asked.to_string(), reason };
        let realm = parameter(challenge, "realm");
        let mut url = realm
            .filter(|realm| is_private(realm))
            .and_then(|realm| Url::parse(realm).ok())
            .ok_or_else(|| refuse(format!("it wants credentials that can't be asked for: `{challenge}`")))?;
        let scope = format!("repository:{}:pull", repository.name());
        if let Some(service) = parameter(challenge, "service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", parameter(challenge, "scope").unwrap_or(&scope));
        let bytes = self.context.fetcher.fresh(url.as_str(), LONGEST_TOKEN).await?;
        let granted: Granted = pages::json(&url, &bytes)?;
        let token = granted.token.or(granted.access_token);
        Ok(Token::new(token.ok_or_else(|| refuse(format!("`{url}` gave no token")))?))
    }
}

/// A parameter of a `Bearer` challenge (RFC 6750).
fn parameter<'a>(challenge: &'a str, wanted: &str) -> Option<&'a str> {
    let (scheme, mut rest) = challenge.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    while let Some((name, value)) = rest.split_once('=') {
        let (value, tail) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(',').unwrap_or((value, "")),
        };
        if name.trim_matches([' ', ',']).eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_gives_its_parameters() {
        let challenge =
            r#"Bearer realm="https://localhost/token",service="registry", scope="repository:a/b:pull,push""#;
        assert_eq!(parameter(challenge, "realm"), Some("https://localhost/token"));
        assert_eq!(parameter(challenge, "service"), Some("registry"));
        assert_eq!(parameter(challenge, "scope"), Some("repository:a/b:pull,push"));
        assert_eq!(parameter(challenge, "error"), None);
        assert_eq!(parameter("bearer realm=x,service=y", "service"), Some("y"));
        for other in ["Basic realm=\"x\"", "Bearer", "", "Bearer realm=\"x"] {
            assert_eq!(parameter(other, "realm"), None, "{other}");
        }
    }
}
