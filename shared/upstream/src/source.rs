//! What can be fetched: package URLs and plain addresses.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A package URL (the purl specification), for example
/// `pkg:deb/debian/memcached@1.6.38?arch=source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageUrl {
    inner: packageurl::PackageUrl<'static>,
}

impl PackageUrl {
    /// Ecosystem, lower-case: `deb`, `cargo`, ...
    pub fn kind(&self) -> &str {
        self.inner.ty()
    }

    /// Namespace, for example `debian`.
    pub fn namespace(&self) -> Option<&str> {
        self.inner.namespace()
    }

    /// Package name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Version, in the words of the upstream project.
    pub fn version(&self) -> Option<&str> {
        self.inner.version()
    }

    /// The value of a qualifier.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.inner.qualifiers().get(key).map(AsRef::as_ref)
    }

    /// The version, or an error that says that it is missing.
    pub(crate) fn required_version(&self) -> Result<&str> {
        self.version().ok_or_else(|| Error::Source {
            text: self.to_string(),
            reason: "a fetch needs a version, as in `NAME@VERSION`".to_owned(),
        })
    }
}

impl FromStr for PackageUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match packageurl::PackageUrl::from_str(text) {
            Ok(inner) => Ok(Self { inner }),
            Err(error) => Err(Error::Source { text: text.to_owned(), reason: error.to_string() }),
        }
    }
}

impl fmt::Display for PackageUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

/// A source as a `fetch` step's `uri` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceUri {
    /// A package URL, resolved and proved through its ecosystem.
    Package(PackageUrl),
    /// An `https` address (`http` only on the loopback interface), proved by a stated digest.
    Address(String),
}

impl FromStr for SourceUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("pkg:") {
            return text.parse().map(Self::Package);
        }
        let refuse = |reason: String| Error::Source { text: text.to_owned(), reason };
        let url = reqwest::Url::parse(text).map_err(|error| refuse(error.to_string()))?;
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match url.scheme() {
            "https" => Ok(Self::Address(url.into())),
            "http" if loopback => Ok(Self::Address(url.into())),
            scheme => Err(refuse(format!("`{scheme}` addresses are not fetched; use `https` or a package URL"))),
        }
    }
}

impl fmt::Display for SourceUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(package) => package.fmt(formatter),
            Self::Address(address) => formatter.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_give_their_parts() {
        let text = "pkg:deb/debian/memcached@1.6.38?arch=source";
        let SourceUri::Package(package) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!(package.kind(), "deb");
        assert_eq!(package.namespace(), Some("debian"));
        assert_eq!(package.name(), "memcached");
        assert_eq!(package.version(), Some("1.6.38"));
        assert_eq!(package.qualifier("arch"), Some("source"));
        assert_eq!(package.to_string(), text);
        let plus: PackageUrl = "pkg:deb/debian/x@1.0%2Bgit1?arch=source".parse().unwrap();
        assert_eq!(plus.version(), Some("1.0+git1"));
    }

    #[test]
    fn only_safe_addresses_are_sources() {
        assert!("https://localhost/a.tar.gz".parse::<SourceUri>().is_ok());
        assert!("http://127.0.0.1:80/a.tar.gz".parse::<SourceUri>().is_ok());
        for text in ["http://192.0.2.1/a.tar.gz", "file:///etc/passwd", "a.tar.gz", "pkg:deb"] {
            assert!(text.parse::<SourceUri>().is_err(), "{text}");
        }
    }
}
