//! Names of repositories in OCI registries.

use std::fmt;
use std::str::FromStr;

use crate::endpoints::is_private;
use crate::error::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const LONGEST_NAME: usize = 255;

/// A repository in an OCI registry, as `REGISTRY/NAME`, without tag and digest. Without a registry
/// it is one of `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRepository {
    registry: String,
    name: String,
}

impl ImageRepository {
    /// The registry's host, with its port if one is named.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's name there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that the registry's interface is at: `http` on the loopback interface only.
    pub(crate) fn base(&self) -> String {
        let host = if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { self.registry.as_str() };
        let plain = format!("http://{host}");
        if is_private(&plain) { plain } else { format!("https://{host}") }
    }
}

impl FromStr for ImageRepository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::Source { text: text.to_owned(), reason: reason.to_owned() };
        let (registry, name) = match text.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, text.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{text}")),
        };
        let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
        let is_host = !host.is_empty()
            && !host.starts_with(['-', '.'])
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        if !is_host || port.parse::<u16>().is_err() {
            return Err(refuse("its registry is not named as `HOST` or `HOST:PORT`"));
        }
        if name.contains(['@', ':']) {
            return Err(refuse("a repository is watched, so name it without tag and digest"));
        }
        let is_part = |part: &str| {
            let ends = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            ends(part.bytes().next()) && ends(part.bytes().next_back()) && part.bytes().all(plain)
        };
        if name.len() > LONGEST_NAME || !name.split('/').all(is_part) {
            return Err(refuse("it is not the name of a repository in a registry"));
        }
        Ok(Self { registry: registry.to_owned(), name })
    }
}

impl fmt::Display for ImageRepository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_a_registry_and_an_address() {
        for (text, shown, base) in [
            ("alpine", "docker.io/library/alpine", "https://registry-1.docker.io"),
            ("mill/hello", "docker.io/mill/hello", "https://registry-1.docker.io"),
            ("example.org/a/b-c", "example.org/a/b-c", "https://example.org"),
            ("example.org:5000/a", "example.org:5000/a", "https://example.org:5000"),
            ("localhost:5000/a", "localhost:5000/a", "http://localhost:5000"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "http://127.0.0.1:5000"),
        ] {
            let repository: ImageRepository = text.parse().unwrap();
            assert_eq!((repository.to_string().as_str(), repository.base().as_str()), (shown, base));
        }
        for text in [
            "",
            "a:1",
            "example.org/a:1",
            "example.org/a@sha256:00",
            "example.org/../a",
            "example.org/a//b",
            "example.org/A",
            "example.org/a?b",
            "me:secret@example.org/a",
            "example.org:x/a",
            "https://example.org/a",
        ] {
            assert!(text.parse::<ImageRepository>().is_err(), "{text}");
        }
    }
}
