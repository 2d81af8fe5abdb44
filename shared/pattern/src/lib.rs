//! Regular expressions in the syntax of Go's `regexp` (RE2), in which definitions write them.
//!
//! The syntaxes of Go and of the `regex` crate agree but for a few forms, which [`compile`] writes as the
//! crate wants them: what is plain text in Go and an operator in the crate, octal and quoted text, negated
//! names of character classes, and `\\d`, `\\s`, `\\w` and `\\b`, which are about ASCII in Go. Both run in time
//! linear in the text.
//!
//! ```
//! let numbered = pattern::compile(r"^(\d+)_(\d+)$")?;
//! assert_eq!(numbered.replace("1_10", "${1}.$2"), "1.10");
//! assert!(pattern::compile(r"(a)\1").is_err());
//! # Ok::<(), pattern::Error>(())
//! ```

mod translate;

use regex::{Regex, RegexBuilder};
use translate::translated;

const MOST_MEMORY: usize = 4 * 1024 * 1024;

/// Why a pattern can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Go's syntax does not have this, or it would take more than 4 MiB.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, in one line.
        reason: String,
    },
}

/// The expression, ready to use.
///
/// # Errors
/// What is wrong with it, in one line; more than 4 MiB of compiled program is wrong too.
pub fn compile(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&translated(pattern)?).size_limit(MOST_MEMORY).build().map_err(invalid)
}

/// The expression for text that need not be UTF-8. As in Go, characters are those of UTF-8; unlike there, a byte
/// that belongs to none is matched by nothing.
///
/// # Errors
/// As [`compile`].
pub fn compile_bytes(pattern: &str) -> Result<regex::bytes::Regex, Error> {
    regex::bytes::RegexBuilder::new(&translated(pattern)?).size_limit(MOST_MEMORY).build().map_err(invalid)
}

fn invalid(error: regex::Error) -> Error {
    let text = error.to_string();
    Error::Invalid { reason: text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned() }
}

/// A replacement in which a group's number ends where its digits do. Go takes `$1_beta` as a group
/// called `1_beta`, which is nothing where there is none; definitions mean `${1}_beta`.
#[must_use]
pub fn replacement(text: &str, pattern: &Regex) -> String {
    let mut written = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        written.push_str(before);
        written.push('$');
        rest = after;
        if let Some(tail) = rest.strip_prefix('$') {
            written.push('$');
            rest = tail;
            continue;
        }
        let is_named = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let (name, tail) = rest.split_at(rest.bytes().take_while(|byte| is_named(byte)).count());
        let (digits, other) = name.split_at(name.bytes().take_while(u8::is_ascii_digit).count());
        let is_group = pattern.capture_names().flatten().any(|known| known == name);
        if !digits.is_empty() && !other.is_empty() && !is_group {
            written.push_str(&format!("{{{digits}}}{other}"));
            rest = tail;
        }
    }
    written.push_str(rest);
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_go_mean_the_same_here() {
        for (pattern, matching, other) in [
            (r"^v\Q1.x+\E$", "v1.x+", "v12x+"),
            ("^[[a]$", "[", "]"),
            ("^[]a]$", "]", "["),
            ("^[^]a]$", "b", "]"),
            ("^[a&&b]$", "&", "c"),
            ("^[+--]$", ",", "a"),
            ("^[--a]$", "A", "b"),
            (r"^[\d-z]$", "-", "b"),
            ("^[[:alpha:]-]+$", "a-b", "a1"),
            (r"^a{x}$", "a{x}", "ax"),
            (r"^a{2,3}$", "aaa", "aaaa"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^\<a\>$", "<a>", "a"),
            (r"^[\d.]+\-rc\d$", "1.2-rc3", "1.2"),
            (r"(?i)^RC", "rc1", "1rc"),
            ("^x\\]$", "x]", "x"),
            (r"^\d+$", "12", "\u{661}\u{662}"),
            (r"^[\w.-]+$", "a_1.-", "\u{e9}"),
            (r"^[^\s\D]$", "7", "a"),
            (r"^\W$", "\u{e9}", "e"),
            (r"^\S$", "\u{b}", " "),
            (r"v\b", "v\u{e9}", "v1"),
            (r"v\B", "v1", "v."),
            (r"^\p{^L}$", "1", "a"),
            (r"^\P{^L}$", "a", "1"),
            (r"^\pN\p{Nd}$", "12", "1a"),
            (r"^[\pL\x{30}]$", "0", "1"),
            (r"^\101\x42\0$", "AB\0", "ABC"),
            (r"^(?P<year>\d{4})(?i:RC)$", "2024rc", "2024r"),
            (r"^\_\ \-\/\:$", "_ -/:", "_"),
        ] {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(regex.is_match(matching) && !regex.is_match(other), "{pattern}: {regex}");
        }
    }

    #[test]
    fn bytes_are_matched_by_the_same_syntax() {
        let regex = compile_bytes(r"^\Qa+\E\d$").unwrap();
        assert!(regex.is_match(b"a+1") && !regex.is_match(b"aa1"));
        assert!(compile_bytes("v1").unwrap().is_match(b"\xff v1 \xfe"));
        assert_eq!(compile_bytes("(").unwrap_err(), compile("(").unwrap_err());
    }

    #[test]
    fn a_groups_number_ends_where_its_digits_do() {
        let pattern = compile(r"^(\d+)_(\d+)(?P<tail>.*)$").unwrap();
        for (text, replaced) in [
            ("$1_p$2", "1_p2"),
            ("${1}_p$2", "1_p2"),
            ("$1.${2}x", "1.2x"),
            ("$tail-$$1", "rc-$1"),
            ("$1$2", "12"),
            ("$", "$"),
            ("${nothing}$9", ""),
        ] {
            let written = replacement(text, &pattern);
            assert_eq!(pattern.replace_all("1_2rc", written.as_str()), replaced, "{text}: {written}");
        }
    }

    #[test]
    fn what_is_invalid_in_go_is_invalid_here() {
        for pattern in [
            "*ignore_me",
            "(",
            "[a",
            r"(a)\1",
            "a(?=b)",
            "+",
            r"\",
            r"\C",
            r"a\Z",
            r"\u0041",
            "(?x)a b",
            r"[\b]",
            r"\9",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
