//! Credentials and tokens (token authentication as registries do it).

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Url, header};
use serde::Deserialize;

use super::{
    Remote,
    request::{Answer, check_scheme, shown},
};
use crate::{Error, Result};

/// The largest token answer accepted, in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// A user and a password or access token.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The user that stands for an identity token in the files of container clients.
const TOKEN_USER: &str = "<token>";

impl Credentials {
    /// An identity token, which a token service takes in place of user and password.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self { user: TOKEN_USER.to_owned(), password: token.into() }
    }

    /// The value of an `Authorization` header.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

/// How a registry wants to know who asks.
#[derive(Clone)]
pub(super) enum Authorization {
    /// By user and password.
    Basic,
    /// By this token.
    Bearer(String),
}

/// What each registry's scope was last asked for.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Authorization>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tokens")
    }
}

impl Tokens {
    pub(super) fn get(&self, scope: &str) -> Option<Authorization> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned()
    }

    fn set(&self, scope: &str, authorization: Authorization) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(scope.to_owned(), authorization);
    }
}

impl Remote {
    /// Notes what a 401 answer asks for; tells whether that can be given.
    pub(super) async fn authorize(&self, answer: &Answer, scope: &str) -> Result<bool> {
        for challenge in answer.headers("www-authenticate") {
            let authorization = match Challenge::parse(challenge) {
                Some(Challenge::Basic) if self.credentials().await?.is_some() => Authorization::Basic,
                Some(Challenge::Bearer { realm, service, scope: asked }) => {
                    Authorization::Bearer(self.token(&realm, service.as_deref(), asked.as_deref(), scope).await?)
                }
                _ => continue,
            };
            self.tokens.set(scope, authorization);
            return Ok(true);
        }
        Ok(false)
    }

    /// The `Authorization` header of a request, where one was asked for in its scope.
    pub(super) async fn authorization(&self, scope: &str) -> Result<Option<String>> {
        Ok(match self.tokens.get(scope) {
            None => None,
            Some(Authorization::Basic) => self.credentials().await?.as_ref().map(Credentials::basic),
            Some(Authorization::Bearer(token)) => Some(format!("Bearer {token}")),
        })
    }

    async fn credentials(&self) -> Result<Option<Credentials>> {
        match &self.options.provider {
            Some(provider) => provider.credentials().await.map(Some),
            None => Ok(self.options.credentials.clone()),
        }
    }

    async fn token(&self, realm: &str, service: Option<&str>, asked: Option<&str>, scope: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut url =
            Url::parse(realm).map_err(|error| Error::Endpoint { url: realm.to_owned(), reason: error.to_string() })?;
        check_scheme(&url, self.options.allow_http)?;
        let scope = if scope.is_empty() { asked.unwrap_or_default() } else { scope };
        let scopes = scope.split(' ').filter(|scope| !scope.is_empty());
        let request = match self.credentials().await? {
            Some(Credentials { user, password }) if user == TOKEN_USER => {
                let mut form = url.clone();
                form.query_pairs_mut()
                    .clear()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", &password)
                    .append_pair("client_id", "minimill")
                    .append_pair("scope", scope)
                    .extend_pairs(service.map(|service| ("service", service)));
                self.client
                    .post(url.clone())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            credentials => {
                url.query_pairs_mut()
                    .extend_pairs(service.map(|service| ("service", service)))
                    .extend_pairs(scopes.map(|scope| ("scope", scope)));
                let request = self.client.get(url.clone());
                match credentials {
                    Some(Credentials { user, password }) => request.basic_auth(user, Some(password)),
                    None => request,
                }
            }
        };
        let answer = self.sent(request, &reqwest::Method::GET, &url).await?.expect(&[200]).await?;
        let bytes = answer.bytes(MAX_TOKEN_BYTES).await?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Answer { url: shown(&url), reason: error.to_string() })?;
        match token.token.or(token.access_token) {
            Some(token) => Ok(token),
            None => Err(Error::Answer { url: shown(&url), reason: "no `token` in it".into() }),
        }
    }
}

/// What a `WWW-Authenticate` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = HashMap::new();
        let mut rest = rest.trim();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            parameters.insert(name.trim().to_ascii_lowercase(), value.to_owned());
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            Challenge::parse(
                r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#
            ),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".into(),
                service: Some("r.example".into()),
                scope: Some("repository:a/b:pull,push".into()),
            })
        );
        for bad in ["", "Negotiate", "Bearer", "Bearer realm", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let credentials = Credentials { user: "u".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
