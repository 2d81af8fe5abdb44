//! Versions on a web page, found by a regular expression.

use std::collections::HashSet;
use std::fmt;

use regex::Regex;

use crate::endpoints::is_private;
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;

const LONGEST_PAGE: u64 = 8 * 1024 * 1024;
const MOST_VERSIONS: usize = 10_000;

/// A page and what versions look like on it.
#[derive(Debug, Clone)]
pub struct WebPage {
    address: String,
    pattern: Regex,
}

impl WebPage {
    /// A page at `address`, `https` (`http` on the loopback interface only). The first group of
    /// `pattern`, in RE2 syntax, is a version; without groups the whole match is.
    ///
    /// # Errors
    /// [`Error::Source`] and [`Error::Rule`] when one of them can't be used.
    pub fn new(address: &str, pattern: &str) -> Result<Self> {
        if !is_private(address) {
            let reason = "a watched page needs an `https` address".to_owned();
            return Err(Error::Source { text: address.to_owned(), reason });
        }
        let pattern = ::pattern::compile(pattern).map_err(|error| Error::Rule {
            rule: "pattern",
            text: pattern.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { address: address.to_owned(), pattern })
    }

    fn versions(&self, text: &str) -> Vec<Candidate> {
        let mut seen = HashSet::new();
        let found = self.pattern.captures_iter(text).take(MOST_VERSIONS);
        found
            .filter_map(|captures| captures.get(1).or_else(|| captures.get(0)))
            .filter(|version| !version.is_empty() && seen.insert(version.as_str().to_owned()))
            .map(|version| Candidate::new(version.as_str()))
            .collect()
    }
}

impl PartialEq for WebPage {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.pattern.as_str() == other.pattern.as_str()
    }
}

impl Eq for WebPage {}

impl fmt::Display for WebPage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address)
    }
}

/// Versions that a page names.
pub(crate) async fn candidates(context: &Context, page: &WebPage) -> Result<Vec<Candidate>> {
    let document = context.fetcher.document(&page.address, LONGEST_PAGE).await?;
    Ok(page.versions(&String::from_utf8_lossy(&document.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_versions_once_each() {
        let text = "<a href=\"hello-1.9.tar.gz\">hello-1.9.tar.gz</a> <a href=\"hello-1.10.tar.gz\">new</a>";
        let versions = |pattern: &str| {
            let page = WebPage::new("https://localhost/download/", pattern).unwrap();
            page.versions(text).into_iter().map(|candidate| candidate.version).collect::<Vec<_>>()
        };
        assert_eq!(versions(r"hello-([\d.]+)\.tar\.gz"), ["1.9", "1.10"]);
        assert_eq!(versions(r"\d+\.\d+"), ["1.9", "1.10"]);
        assert_eq!(versions("x*"), Vec::<String>::new());
        assert!(WebPage::new("http://192.0.2.1/", "a").is_err());
        assert!(WebPage::new("https://localhost/", "*").unwrap_err().to_string().contains("pattern"));
    }
}
