//! Names of repositories, tags, and references to manifests (distribution spec, "Pulling
//! manifests").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sign::Digest;

use crate::Error;

/// The longest repository name, as clients agree on it.
const MAX_REPOSITORY: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;
/// Parts of an image layout, which would collide with a repository's own files.
const RESERVED: [&str; 3] = ["blobs", "index.json", "oci-layout"];

/// The name of a repository: `redis`, `team/redis`. Its components are safe as file names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

/// A tag: `8.2.1`, `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// What names a manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

fn invalid(what: &'static str, text: &str, reason: &'static str) -> Error {
    Error::Name { what, text: text.chars().take(300).collect(), reason }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| invalid("repository name", text, reason);
        if text.len() > MAX_REPOSITORY {
            return Err(invalid("it is longer than 255 characters"));
        }
        for component in text.split('/') {
            if !is_component(component) {
                return Err(invalid(
                    "each part between `/` must be lowercase letters and digits, \
                     with `.`, `_`, `__` or `-` between them",
                ));
            }
            if RESERVED.contains(&component) {
                return Err(invalid("`blobs`, `index.json` and `oci-layout` are reserved"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
pub(crate) fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else {
        return false;
    };
    alphanumeric(first)
        && alphanumeric(last)
        && text
            .split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| invalid("tag", text, reason);
        if text.is_empty() || text.len() > MAX_TAG {
            return Err(invalid("it must have 1 to 128 characters"));
        }
        if text.starts_with(['.', '-'])
            || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            return Err(invalid("it must be letters, digits, `_`, `.` and `-`, not starting with `.` or `-`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.contains(':') {
            text.parse()
                .map(Self::Digest)
                .map_err(|_| invalid("digest", text, "expected `sha256:` and 64 lowercase hex digits"))
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl Repository {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which the referrers of `subject` are listed where a registry lacks the
    /// referrers API (distribution spec, "Referrers Tag Schema"): `sha256-HEX`.
    pub fn of_referrers(subject: Digest) -> Self {
        Self(format!("sha256-{}", subject.hex()))
    }

    /// Whether this is such a tag, which is no version for people to choose.
    pub fn is_of_referrers(&self) -> bool {
        self.0.strip_prefix("sha256-").is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok())
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<String> for Tag {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(name: Repository) -> Self {
        name.0
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_specification() {
        for good in ["a", "redis", "team/redis", "a.b/c_d/e__f/g---h/0", "a/b/c/d/e"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "..",
            "a/../b",
            ".a",
            "a.",
            "-a",
            "a-",
            "_a",
            "a___b",
            "a._b",
            "a b",
            "ä",
            "a\0",
            "blobs",
            "a/blobs/b",
            "a/index.json",
            "oci-layout",
            "a:b",
            "a@b",
            &long,
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_and_references_follow_the_specification() {
        for good in ["latest", "8.2.1-202607010000", "_x", "A", &"a".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a b", "é", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse::<Reference>().unwrap(), Reference::Digest(digest));
        assert!("sha256:00".parse::<Reference>().is_err());
        assert!("sha512:00".parse::<Reference>().is_err());
        assert!(Tag::of_referrers(digest).is_of_referrers());
        assert!(!"sha256-00".parse::<Tag>().unwrap().is_of_referrers());
    }
}
