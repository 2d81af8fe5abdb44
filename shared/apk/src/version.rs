use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A package version as apk writes it: `1.2.3b_rc1~abcdef-r4`.
///
/// The grammar is `digits(.digits)* letter? (_suffix digits?)* (~hash)? (-rdigits)?`, where a suffix
/// is one of alpha, beta, pre, rc (before the plain version) or cvs, svn, git, hg, p (after it), a
/// hash is lowercase hexadecimal and a letter is one of a to z.
///
/// Two versions are equal when apk orders neither before the other, so `1-r1` equals `1-r01`; the
/// text is kept as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(Box<str>);

/// The text is no apk version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid version `{text}`: unexpected {found} at character {}, expected digits(.digits)* then optionally a letter, `_suffix` (alpha, beta, pre, rc, cvs, svn, git, hg, p) with a number, `~` and lowercase hexadecimal, `-r` and digits",
    position + 1
)]
pub struct InvalidVersion {
    /// The text as given.
    pub text: String,
    /// Byte offset of the first part that does not fit.
    pub position: usize,
    /// What stands there.
    pub found: String,
}

impl Version {
    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version without its `-rN`.
    pub fn upstream(&self) -> &str {
        split_revision(&self.0).0
    }

    /// The `N` of `-rN`; `None` without one, or where `N` is above `u32::MAX`.
    pub fn revision(&self) -> Option<u32> {
        split_revision(&self.0).1?.parse().ok()
    }

    /// The same upstream version with `-rN` set to `revision`.
    #[must_use]
    pub fn with_revision(&self, revision: u32) -> Self {
        Self(format!("{}-r{revision}", self.upstream()).into())
    }
}

fn split_revision(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once("-r") {
        Some((upstream, revision)) => (upstream, Some(revision)),
        None => (text, None),
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut tokens = Tokens::new(text);
        loop {
            match tokens.next_token() {
                Token::End => return Ok(Self(text.into())),
                Token::Invalid => {
                    let position = tokens.start;
                    let found = text
                        .get(position..)
                        .and_then(|rest| rest.chars().next())
                        .map_or_else(|| "end".to_owned(), |found| format!("`{found}`"));
                    return Err(InvalidVersion { text: text.to_owned(), position, found });
                }
                _ => {}
            }
        }
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0.into()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Version {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        order(&self.0, &other.0, false)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut tokens = Tokens::new(&self.0);
        loop {
            let token = tokens.next_token();
            token.rank().hash(state);
            match token {
                Token::End | Token::Invalid => return,
                Token::Initial(number) | Token::SuffixNumber(number) | Token::Revision(number) => {
                    number.trim_start_matches('0').hash(state);
                }
                Token::Number(text) | Token::Hash(text) => text.hash(state),
                Token::Letter(letter) => letter.hash(state),
                Token::Suffix(suffix) => (suffix as u8).hash(state),
            }
        }
    }
}

/// How apk orders two versions, without allocating; `None` when either is no version.
///
/// ```
/// use std::cmp::Ordering;
/// assert_eq!(apk::compare_versions("1.2_rc1", "1.2-r3"), Some(Ordering::Less));
/// assert_eq!(apk::compare_versions("1.2", "1.2bc"), None);
/// ```
pub fn compare_versions(left: &str, right: &str) -> Option<Ordering> {
    (is_version(left) && is_version(right)).then(|| order(left, right, false))
}

/// Whether `text` fits apk's version grammar.
pub fn is_version(text: &str) -> bool {
    let mut tokens = Tokens::new(text);
    loop {
        match tokens.next_token() {
            Token::End => return true,
            Token::Invalid => return false,
            _ => {}
        }
    }
}

/// Orders two texts the way apk does, without checking or allocating: where a part of one is no
/// version, the comparison ends at that part. [`compare_versions`] is the strict one.
pub fn order_versions(left: &str, right: &str) -> Ordering {
    order(left, right, false)
}

/// As [`order_versions`]. With `fuzzy`, `left` equals `right` once all of `right` has matched, which
/// makes `right` a prefix: 1.2.9-r3 equals 1.2, and 1.20 does not.
pub(crate) fn order(left: &str, right: &str, fuzzy: bool) -> Ordering {
    let (mut lefts, mut rights) = (Tokens::new(left), Tokens::new(right));
    loop {
        let (l, r) = (lefts.next_token(), rights.next_token());
        let same_kind = l.rank() == r.rank();
        if same_kind {
            match l.compare_same_kind(r) {
                Some(Ordering::Equal) => continue,
                Some(unequal) => return unequal,
                None => return Ordering::Equal,
            }
        }
        if fuzzy && r == Token::End {
            return Ordering::Equal;
        }
        if l.is_before_release() {
            return Ordering::Less;
        }
        if r.is_before_release() {
            return Ordering::Greater;
        }
        // Ends and later parts rank higher, and the version that stops sooner is the lower one.
        return r.rank().cmp(&l.rank());
    }
}

/// Suffixes in apk's order: the first four come before the plain version, the others after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix {
    Alpha,
    Beta,
    Pre,
    Rc,
    Cvs,
    Svn,
    Git,
    Hg,
    P,
}

impl Suffix {
    fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "alpha" => Self::Alpha,
            "beta" => Self::Beta,
            "pre" => Self::Pre,
            "rc" => Self::Rc,
            "cvs" => Self::Cvs,
            "svn" => Self::Svn,
            "git" => Self::Git,
            "hg" => Self::Hg,
            "p" => Self::P,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Initial(&'t str),
    Number(&'t str),
    Letter(u8),
    Suffix(Suffix),
    SuffixNumber(&'t str),
    Hash(&'t str),
    Revision(&'t str),
    End,
    Invalid,
}

impl Token<'_> {
    fn rank(self) -> u8 {
        match self {
            Self::Initial(_) => 0,
            Self::Number(_) => 1,
            Self::Letter(_) => 2,
            Self::Suffix(_) => 3,
            Self::SuffixNumber(_) => 4,
            Self::Hash(_) => 5,
            Self::Revision(_) => 6,
            Self::End => 7,
            Self::Invalid => 8,
        }
    }

    fn is_before_release(self) -> bool {
        matches!(self, Self::Suffix(suffix) if suffix < Suffix::Cvs)
    }

    /// `None` when both versions stop here.
    fn compare_same_kind(self, other: Self) -> Option<Ordering> {
        Some(match (self, other) {
            // A leading zero makes a number a decimal fraction: 1.02 < 1.1, as in Gentoo.
            (Self::Number(l), Self::Number(r)) if l.starts_with('0') || r.starts_with('0') => l.cmp(r),
            (Self::Initial(l), Self::Initial(r))
            | (Self::Number(l), Self::Number(r))
            | (Self::SuffixNumber(l), Self::SuffixNumber(r))
            | (Self::Revision(l), Self::Revision(r)) => compare_digits(l, r),
            (Self::Letter(l), Self::Letter(r)) => l.cmp(&r),
            (Self::Suffix(l), Self::Suffix(r)) => l.cmp(&r),
            (Self::Hash(l), Self::Hash(r)) => l.cmp(r),
            _ => return None,
        })
    }
}

/// Numbers of any length: digits without leading zeros, the longer one is higher.
fn compare_digits(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

struct Tokens<'t> {
    text: &'t str,
    at: usize,
    /// Where the latest token begins.
    start: usize,
    previous: u8,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0, start: 0, previous: u8::MAX }
    }

    fn next_token(&mut self) -> Token<'t> {
        self.start = self.at;
        let token = self.read().unwrap_or(Token::Invalid);
        self.previous = token.rank();
        token
    }

    fn read(&mut self) -> Option<Token<'t>> {
        const INITIAL: u8 = 0;
        const NUMBER: u8 = 1;
        const SUFFIX: u8 = 3;
        const SUFFIX_NUMBER: u8 = 4;
        const HASH: u8 = 5;
        const REVISION: u8 = 6;

        let previous = self.previous;
        if previous == u8::MAX {
            return self.digits().map(Token::Initial);
        }
        let Some(&first) = self.text.as_bytes().get(self.at) else {
            return Some(Token::End);
        };
        match first {
            b'a'..=b'z' if previous <= NUMBER => {
                self.at += 1;
                Some(Token::Letter(first))
            }
            b'.' if previous == INITIAL || previous == NUMBER => {
                self.at += 1;
                self.digits().map(Token::Number)
            }
            b'0'..=b'9' if previous == SUFFIX => self.digits().map(Token::SuffixNumber),
            b'_' if previous <= SUFFIX_NUMBER => {
                self.at += 1;
                let suffix = self.span(|byte| byte.is_ascii_lowercase());
                Suffix::from_text(suffix).map(Token::Suffix)
            }
            b'~' if previous < HASH => {
                self.at += 1;
                let hash = self.span(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                (!hash.is_empty()).then_some(Token::Hash(hash))
            }
            b'-' if previous < REVISION => {
                let rest = self.text.get(self.at..)?;
                if !rest.starts_with("-r") {
                    return None;
                }
                self.at += 2;
                self.digits().map(Token::Revision)
            }
            _ => None,
        }
    }

    fn digits(&mut self) -> Option<&'t str> {
        let digits = self.span(|byte| byte.is_ascii_digit());
        (!digits.is_empty()).then_some(digits)
    }

    fn span(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.bytes().position(|byte| !belongs(byte)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn takes_a_version_apart() {
        let full = version("1.2.3b_rc1~abcdef-r4");
        assert_eq!(full.upstream(), "1.2.3b_rc1~abcdef");
        assert_eq!(full.revision(), Some(4));
        assert_eq!(full.with_revision(12).to_string(), "1.2.3b_rc1~abcdef-r12");
        let plain = version("9");
        assert_eq!((plain.upstream(), plain.revision()), ("9", None));
        assert_eq!(plain.with_revision(0).to_string(), "9-r0");
    }

    #[test]
    fn names_the_part_that_does_not_fit() {
        let error = "1.2_post1".parse::<Version>().unwrap_err();
        assert_eq!((error.position, error.found.as_str()), (3, "`_`"));
        let error = "".parse::<Version>().unwrap_err();
        assert_eq!(error.found, "end");
        assert!(error.to_string().contains("invalid version ``"));
    }

    #[test]
    fn equal_versions_hash_alike() {
        use std::collections::HashSet;
        let set: HashSet<Version> = [version("1.0-r1"), version("01.0-r01")].into();
        assert_eq!(set.len(), 1);
        assert_ne!(version("1.0"), version("1.00"));
    }

    #[test]
    fn numbers_have_no_upper_limit() {
        let low = format!("1.{}", "9".repeat(40));
        let high = format!("1.1{}", "0".repeat(40));
        assert_eq!(compare_versions(&low, &high), Some(Ordering::Less));
    }

    #[test]
    fn serializes_as_its_text_and_refuses_what_is_no_version() {
        let text = serde_json::to_string(&version("1.2-r0")).unwrap();
        assert_eq!(text, "\"1.2-r0\"");
        assert!(serde_json::from_str::<Version>("\"1.2-\"").is_err());
    }
}
