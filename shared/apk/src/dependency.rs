use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Version;
use crate::version::{InvalidVersion, is_version, order};

/// A want: `name`, `name=1.2-r0`, `name<2`, `name>=1.2`, `name~1.2` (any 1.2.x), `name@tag`,
/// `!name` (must be absent) or `name><Q1...` (the package with that checksum).
///
/// The same grammar states what a package provides: `so:libz.so.1=1.3.1`, or a plain name for a
/// virtual one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dependency {
    /// Whether the name must be absent (`!name`).
    pub conflict: bool,
    /// The wanted name: a package's, or one that a package provides.
    pub name: String,
    /// The repository tag, without its `@`.
    pub tag: Option<String>,
    /// Which providers of the name will do.
    pub requirement: Requirement,
}

/// Which providers of a name satisfy a [`Dependency`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Any of them.
    Any,
    /// Those whose version stands in this relation to the one given.
    Version(Operator, Version),
    /// The package with this `Q1...` checksum.
    Checksum(String),
}

/// The relation of a provider's version to the one that a [`Dependency`] states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `<~`: lower, or beginning with the version.
    LessOrFuzzy,
    /// `=`
    Equal,
    /// `~`, also written `=~` or `~=`: beginning with the version, so `~1.2` takes 1.2.9-r3 and
    /// not 1.20.
    Fuzzy,
    /// `>~`: higher, or beginning with the version.
    GreaterOrFuzzy,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
    /// `><`: the version is a package checksum.
    Checksum,
}

impl Operator {
    const LESS: u8 = 1;
    const EQUAL: u8 = 2;
    const GREATER: u8 = 4;
    const FUZZY: u8 = 8;

    fn from_text(text: &str) -> Option<Self> {
        let mut bits = 0;
        for byte in text.bytes() {
            bits |= match byte {
                b'<' => Self::LESS,
                b'=' => Self::EQUAL,
                b'>' => Self::GREATER,
                b'~' => Self::EQUAL | Self::FUZZY,
                _ => return None,
            };
        }
        Some(match bits {
            1 => Self::Less,
            2 => Self::Equal,
            3 => Self::LessOrEqual,
            4 => Self::Greater,
            5 => Self::Checksum,
            6 => Self::GreaterOrEqual,
            10 => Self::Fuzzy,
            11 => Self::LessOrFuzzy,
            14 => Self::GreaterOrFuzzy,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Less => 1,
            Self::Equal => 2,
            Self::LessOrEqual => 3,
            Self::Greater => 4,
            Self::Checksum => 5,
            Self::GreaterOrEqual => 6,
            Self::Fuzzy => 10,
            Self::LessOrFuzzy => 11,
            Self::GreaterOrFuzzy => 14,
        }
    }

    /// The operator as apk prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::LessOrFuzzy => "<~",
            Self::Equal => "=",
            Self::Fuzzy => "~",
            Self::GreaterOrFuzzy => ">~",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Checksum => "><",
        }
    }

    /// Whether the version `found` will do where `wanted` is stated, without allocating.
    ///
    /// Both are compared as text ([`Operator::Checksum`]) or as versions; where a part of one is no
    /// version, the comparison ends at that part, as in apk.
    ///
    /// ```
    /// assert!(apk::Operator::Fuzzy.accepts("1.2.9-r3", "1.2"));
    /// assert!(!apk::Operator::Fuzzy.accepts("1.20", "1.2"));
    /// ```
    pub fn accepts(self, found: &str, wanted: &str) -> bool {
        if self == Self::Checksum {
            return found == wanted;
        }
        let bits = self.bits();
        let relation = match order(found, wanted, bits & Self::FUZZY != 0) {
            Ordering::Less => Self::LESS,
            Ordering::Equal => Self::EQUAL,
            Ordering::Greater => Self::GREATER,
        };
        relation & bits != 0
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no dependency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDependency {
    /// There is no name before the operator, tag or end.
    #[error("invalid dependency `{text}`: the name is empty")]
    EmptyName {
        /// The text as given.
        text: String,
    },
    /// The name holds a character that no name has.
    #[error("invalid dependency `{text}`: a name holds no {found:?}")]
    Character {
        /// The text as given.
        text: String,
        /// The character.
        found: char,
    },
    /// The characters `<`, `=`, `>`, `~` make no operator in this order.
    #[error("invalid dependency `{text}`: unknown operator `{operator}`, expected one of < <= <~ = ~ =~ ~= >~ >= > ><")]
    Operator {
        /// The text as given.
        text: String,
        /// What stands where the operator should.
        operator: String,
    },
    /// An operator without a version, or with something that is none.
    #[error("invalid dependency `{text}`: {source}")]
    Version {
        /// The text as given.
        text: String,
        /// What is wrong with the version.
        source: InvalidVersion,
    },
    /// `@` without a tag, or twice.
    #[error("invalid dependency `{text}`: expected one repository tag of letters, digits, `_`, `-`, `.` after `@`")]
    Tag {
        /// The text as given.
        text: String,
    },
}

/// A dependency taken apart without copying its text, for whoever reads many of them.
///
/// The version is not checked here: [`DependencyParts::has_valid_version`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyParts<'t> {
    /// Whether the name must be absent.
    pub conflict: bool,
    /// The wanted or provided name.
    pub name: &'t str,
    /// The repository tag, without its `@`.
    pub tag: Option<&'t str>,
    /// The relation and the version (or checksum) it holds to.
    pub constraint: Option<(Operator, &'t str)>,
}

impl<'t> DependencyParts<'t> {
    /// Takes `text` apart. A tag stands after the name (apk) or at the end (apko).
    pub fn parse(text: &'t str) -> Result<Self, InvalidDependency> {
        let (conflict, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let is_operator = |byte: &u8| matches!(byte, b'<' | b'=' | b'>' | b'~');
        let (name, constraint) = match rest.as_bytes().iter().position(is_operator) {
            None => (rest, None),
            Some(at) => {
                let (name, rest) = rest.split_at(at);
                let length = rest.bytes().take_while(is_operator).count();
                let (operator, version) = rest.split_at(length);
                let parsed = Operator::from_text(operator).ok_or_else(|| InvalidDependency::Operator {
                    text: text.to_owned(),
                    operator: operator.to_owned(),
                })?;
                (name, Some((parsed, version)))
            }
        };
        let (name, name_tag) = split_tag(name);
        let (constraint, version_tag) = match constraint {
            Some((operator, version)) => {
                let (version, tag) = split_tag(version);
                (Some((operator, version)), tag)
            }
            None => (None, None),
        };
        let tag = name_tag.or(version_tag);
        let valid_tag = |tag: &str| {
            !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if (name_tag.is_some() && version_tag.is_some()) || !tag.is_none_or(valid_tag) {
            return Err(InvalidDependency::Tag { text: text.to_owned() });
        }
        if name.is_empty() {
            return Err(InvalidDependency::EmptyName { text: text.to_owned() });
        }
        let unfit = |c: &char| c.is_whitespace() || c.is_control() || *c == '!';
        let doubtful = |byte: u8| !byte.is_ascii_graphic() || byte == b'!';
        if name.bytes().any(doubtful)
            && let Some(found) = name.chars().find(unfit)
        {
            return Err(InvalidDependency::Character { text: text.to_owned(), found });
        }
        Ok(Self { conflict, name, tag, constraint })
    }

    /// Whether the stated version, if any, fits the version grammar.
    pub fn has_valid_version(&self) -> bool {
        match self.constraint {
            None => true,
            Some((Operator::Checksum, checksum)) => !checksum.is_empty(),
            Some((_, version)) => is_version(version),
        }
    }
}

fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((before, tag)) => (before, Some(tag)),
        None => (text, None),
    }
}

impl Dependency {
    /// A want for any provider of `name`, which is not checked.
    pub fn any(name: impl Into<String>) -> Self {
        Self { conflict: false, name: name.into(), tag: None, requirement: Requirement::Any }
    }

    /// Whether a provider of the name will do, given the version in which it provides the name:
    /// `None` for one that provides it without a version, which no stated version accepts.
    ///
    /// For a conflict this says whether the provider may stay. A checksum is never satisfied by a
    /// version.
    pub fn satisfied_by(&self, version: Option<&Version>) -> bool {
        let matches = match (&self.requirement, version) {
            (Requirement::Any, _) => true,
            (Requirement::Version(operator, wanted), Some(found)) => operator.accepts(found.as_str(), wanted.as_str()),
            (Requirement::Version(..), None) | (Requirement::Checksum(_), _) => false,
        };
        matches != self.conflict
    }
}

impl FromStr for Dependency {
    type Err = InvalidDependency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = DependencyParts::parse(text)?;
        let requirement = match parts.constraint {
            None => Requirement::Any,
            Some((Operator::Checksum, checksum)) if !checksum.is_empty() => Requirement::Checksum(checksum.to_owned()),
            Some((operator, version)) => {
                let version =
                    version.parse().map_err(|source| InvalidDependency::Version { text: text.to_owned(), source })?;
                Requirement::Version(operator, version)
            }
        };
        Ok(Self {
            conflict: parts.conflict,
            name: parts.name.to_owned(),
            tag: parts.tag.map(str::to_owned),
            requirement,
        })
    }
}

impl TryFrom<String> for Dependency {
    type Error = InvalidDependency;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Dependency> for String {
    fn from(dependency: Dependency) -> Self {
        dependency.to_string()
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.conflict {
            f.write_str("!")?;
        }
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, "@{tag}")?;
        }
        match &self.requirement {
            Requirement::Any => Ok(()),
            Requirement::Version(operator, version) => write!(f, "{operator}{version}"),
            Requirement::Checksum(checksum) => write!(f, "><{checksum}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(text: &str) -> Dependency {
        text.parse().unwrap()
    }

    #[test]
    fn prints_what_it_read() {
        for text in [
            "a",
            "!a",
            "so:libz.so.1=1.3.1",
            "cmd:[",
            "/bin/sh",
            "a<1",
            "a<=1",
            "a<~1",
            "a~1.2",
            "a>~1",
            "a>=1",
            "a>1",
            "a@edge",
            "a@edge=1.2-r0",
            "!a>1",
            "a><Q1EyN5AdpAOBJWKMR89pp/C66o+OE=",
        ] {
            assert_eq!(dependency(text).to_string(), text);
        }
    }

    #[test]
    fn all_spellings_of_the_fuzzy_operator_mean_the_same() {
        for text in ["a=~1.2", "a~=1.2"] {
            assert_eq!(dependency(text), dependency("a~1.2"));
        }
        assert_eq!(dependency("a=1@edge"), dependency("a@edge=1"));
    }

    #[test]
    fn compares_versions_with_the_operator() {
        let satisfied = |text: &str, version: &str| dependency(text).satisfied_by(Some(&version.parse().unwrap()));
        assert!(satisfied("a~1.2", "1.2.9-r3"));
        assert!(!satisfied("a~1.2", "1.20"));
        assert!(satisfied("a>~2.5", "2.10"));
        assert!(satisfied("a", "1"));
        assert!(!satisfied("!a", "1"));
        assert!(satisfied("!a>1", "1"));
        assert!(!satisfied("!a>1", "2"));
        assert!(dependency("a").satisfied_by(None));
        assert!(!dependency("a>=0").satisfied_by(None));
    }

    #[test]
    fn says_what_is_wrong() {
        let fails = |text: &str| text.parse::<Dependency>().unwrap_err().to_string();
        assert!(fails("").contains("name is empty"));
        assert!(fails("=1").contains("name is empty"));
        assert!(fails("a==").contains("unexpected end"));
        assert!(fails("a<>=1").contains("unknown operator `<>=`"));
        assert!(fails("a=invalid").contains("invalid version `invalid`"));
        assert!(fails("a b").contains("' '"));
        assert!(fails("a@").contains("repository tag"));
        assert!(fails("a@x=1@y").contains("repository tag"));
    }
}
