//! Lists in several pages, each naming the next in its `Link` header (RFC 8288).

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::fetcher::Fetcher;

/// What is read of a list.
pub(super) struct Pages<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) headers: HeaderMap,
    /// Most pages.
    pub(super) pages: usize,
    /// Longest page, in bytes.
    pub(super) longest: u64,
    /// Whether more pages than that are left unread, or are an error.
    pub(super) newest_only: bool,
}

impl Pages<'_> {
    /// Every page from `first` on, each read as JSON.
    pub(super) async fn read<T: DeserializeOwned>(&self, first: Url) -> Result<Vec<T>> {
        let mut pages = Vec::new();
        let mut next = Some(first);
        while let Some(url) = next.take() {
            if pages.len() == self.pages {
                if self.newest_only {
                    break;
                }
                let reason = format!("the list goes on after {} pages, which is as far as it is read", self.pages);
                return Err(Error::Listing { url: url.into(), reason });
            }
            let document = self.fetcher.document_with(url.as_str(), &self.headers, self.longest).await?;
            pages.push(json(&url, &document.bytes)?);
            next = document.link.as_deref().and_then(next_target).map(|target| follow(&url, target)).transpose()?;
        }
        Ok(pages)
    }
}

/// A document as JSON of a known shape.
pub(super) fn json<T: DeserializeOwned>(url: &Url, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Listing {
        url: url.to_string(),
        reason: format!("the answer is not of the form that is known: {error}"),
    })
}

/// The target that a `Link` header calls `next`.
fn next_target(link: &str) -> Option<&str> {
    let mut rest = link;
    while let Some((_, tail)) = rest.split_once('<') {
        let (target, tail) = tail.split_once('>')?;
        let (parameters, _) = tail.split_once('<').unwrap_or((tail, ""));
        let is_next = parameters.split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target);
        }
        rest = tail;
    }
    None
}

/// The address of a next page, which must be on the same server: credentials go there too.
fn follow(page: &Url, target: &str) -> Result<Url> {
    let next = page.join(target).ok().filter(|next| next.origin() == page.origin());
    next.ok_or_else(|| Error::Listing {
        url: page.to_string(),
        reason: format!("it names `{target}` as its next page, which is not an address on the same server"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        let both = r#"<http://localhost/a?page=1>; rel="prev", <http://localhost/a?page=3,4>; rel="next""#;
        assert_eq!(next_target(both), Some("http://localhost/a?page=3,4"));
        assert_eq!(next_target("</v2/a/tags/list?last=x&n=2>;rel=next"), Some("/v2/a/tags/list?last=x&n=2"));
        assert_eq!(next_target(r#"<http://localhost/a>; title="x"; rel="last next""#), Some("http://localhost/a"));
        for text in ["", "<", r#"<http://localhost/a>; rel="last""#, "rel=next"] {
            assert_eq!(next_target(text), None, "{text}");
        }
    }

    #[test]
    fn a_next_page_elsewhere_is_refused() {
        let page = Url::parse("http://localhost:1/a?page=1").unwrap();
        assert_eq!(follow(&page, "/a?page=2").unwrap().as_str(), "http://localhost:1/a?page=2");
        for target in ["http://localhost:2/a", "https://localhost:1/a", "//other/a", "file:///a"] {
            assert!(follow(&page, target).is_err(), "{target}");
        }
    }
}
