//! Regular expressions in the syntax of Go's `regexp` (RE2), in which definitions write them.
//!
//! The syntaxes agree but for a few forms that are plain text in Go and an operator, or an error,
//! in the `regex` crate; those are written here as the crate wants them. Both run in linear time.

use regex::{Regex, RegexBuilder};

const MOST_MEMORY: usize = 4 * 1024 * 1024;

/// The expression, ready to use.
///
/// # Errors
/// What is wrong with it, in one line.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translated(pattern))
        .size_limit(MOST_MEMORY)
        .build()
        .map_err(|error| error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
}

/// A replacement in which a group's number ends where its digits do. Go takes `$1_beta` as a group
/// called `1_beta`, which is nothing where there is none; definitions mean `${1}_beta`.
pub(crate) fn replacement(text: &str, pattern: &Regex) -> String {
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

fn translated(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(first) = rest.chars().next() {
        let (before, after) = rest.split_at(first.len_utf8());
        rest = after;
        match first {
            '\\' => rest = escape(&mut text, rest),
            // A named class such as `[:alpha:]`.
            '[' if in_class && rest.starts_with(':') && rest.contains(":]") => {
                let end = rest.find(":]").map_or(rest.len(), |at| at + 2);
                let (name, tail) = rest.split_at(end);
                text.push('[');
                text.push_str(name);
                rest = tail;
            }
            '[' if in_class => text.push_str("\\["),
            '[' => {
                in_class = true;
                text.push('[');
                if let Some(tail) = rest.strip_prefix('^') {
                    text.push('^');
                    rest = tail;
                }
                // Straight after the opening it is a member.
                if let Some(tail) = rest.strip_prefix(']') {
                    text.push_str("\\]");
                    rest = tail;
                }
            }
            ']' => {
                in_class = false;
                text.push(']');
            }
            // `&&`, `--` and `~~` are operators of classes in the crate only.
            '&' | '~' if in_class => {
                text.push('\\');
                text.push(first);
            }
            '-' if in_class && rest.starts_with('-') => {
                text.push_str("-\\-");
                rest = rest.get(1..).unwrap_or_default();
            }
            '{' if !in_class && !is_repetition(rest) => text.push_str("\\{"),
            _ => text.push_str(before),
        }
    }
    text
}

/// Writes what an escape means; the answer is what follows it.
fn escape<'p>(text: &mut String, rest: &'p str) -> &'p str {
    if let Some(quoted) = rest.strip_prefix('Q') {
        let (quoted, tail) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        text.push_str(&regex::escape(quoted));
        return tail;
    }
    match rest.chars().next() {
        Some(plain @ ('<' | '>')) => text.push(plain),
        Some(next) => {
            text.push('\\');
            text.push(next);
        }
        None => text.push('\\'),
    }
    rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default()
}

/// Whether what follows an opening brace makes it a repetition, as in `{2,}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inside, _)) = rest.split_once('}') else {
        return false;
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !low.is_empty() && is_number(low) && is_number(high)
}

#[cfg(test)]
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
            ("^[[:alpha:]-]+$", "a-b", "a1"),
            (r"^a{x}$", "a{x}", "ax"),
            (r"^a{2,3}$", "aaa", "aaaa"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^\<a\>$", "<a>", "a"),
            (r"^[\d.]+\-rc\d$", "1.2-rc3", "1.2"),
            (r"(?i)^RC", "rc1", "1rc"),
            ("^x\\]$", "x]", "x"),
        ] {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(regex.is_match(matching) && !regex.is_match(other), "{pattern}: {regex}");
        }
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
        for pattern in ["*ignore_me", "(", "[a", r"(a)\1", "a(?=b)", "+", r"\"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
