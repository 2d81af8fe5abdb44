//! From Go's syntax to that of the `regex` crate.

use crate::Error;

/// The pattern as the `regex` crate wants it.
///
/// What both refuse is left for the crate to refuse.
pub(crate) fn translated(pattern: &str) -> Result<String, Error> {
    let mut text = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let (before, after) = rest.split_at(first.len_utf8());
        rest = after;
        match first {
            '\\' => rest = escape(&mut text, rest, false)?,
            '[' => rest = class(&mut text, rest)?,
            '{' if !is_repetition(rest) => text.push_str("\\{"),
            '(' => {
                text.push('(');
                flags(rest)?;
            }
            _ => text.push_str(before),
        }
    }
    Ok(text)
}

/// What may come next in a class.
#[derive(PartialEq, Eq)]
enum Place {
    /// A member, or the start of a range.
    Member,
    /// The `-` of a range, after its start.
    AfterMember,
    /// The end of a range.
    RangeEnd,
}

/// Writes the class whose opening stands before `rest`; the answer is what follows it.
fn class<'p>(text: &mut String, mut rest: &'p str) -> Result<&'p str, Error> {
    text.push('[');
    if let Some(tail) = rest.strip_prefix('^') {
        text.push('^');
        rest = tail;
    }
    // Straight after the opening it is a member.
    let mut place = Place::Member;
    if let Some(tail) = rest.strip_prefix(']') {
        text.push_str("\\]");
        rest = tail;
        place = Place::AfterMember;
    }
    while let Some(first) = rest.chars().next() {
        let tail = rest.get(first.len_utf8()..).unwrap_or_default();
        let is_set = matches!(first, '\\') && tail.starts_with(['d', 'D', 's', 'S', 'w', 'W', 'p', 'P']);
        match first {
            ']' => {
                text.push(']');
                return Ok(tail);
            }
            '-' if place == Place::AfterMember && !tail.starts_with(']') => {
                text.push('-');
                rest = tail;
                place = Place::RangeEnd;
                continue;
            }
            '\\' => rest = escape(text, tail, true)?,
            // A named class such as `[:alpha:]`.
            '[' if tail.starts_with(':') && tail.contains(":]") => {
                let (name, tail) = rest.split_at(rest.find(":]").map_or(rest.len(), |at| at + 2));
                text.push_str(name);
                rest = tail;
                place = Place::Member;
                continue;
            }
            // These, alone or twice, are operators of classes in the crate only.
            '[' | '-' | '&' | '~' => {
                text.extend(['\\', first]);
                rest = tail;
            }
            _ => {
                text.push(first);
                rest = tail;
            }
        }
        place = if is_set || place == Place::RangeEnd { Place::Member } else { Place::AfterMember };
    }
    Ok(rest)
}

/// Refuses the flags that only the crate has; they would change what follows.
fn flags(rest: &str) -> Result<(), Error> {
    let Some(group) = rest.strip_prefix('?') else { return Ok(()) };
    let flags: String = group.chars().take_while(|next| next.is_ascii_alphabetic() || *next == '-').collect();
    let is_name = group.starts_with("P<") || group.starts_with('<');
    match flags.chars().find(|flag| !"imsU-".contains(*flag)) {
        Some(flag) if !is_name => Err(invalid(format!("there is no flag `{flag}`"))),
        _ => Ok(()),
    }
}

/// Writes what an escape means; the answer is what follows it.
fn escape<'p>(text: &mut String, rest: &'p str, in_class: bool) -> Result<&'p str, Error> {
    let Some(first) = rest.chars().next() else {
        return Err(invalid("it ends with a `\\`".to_owned()));
    };
    let tail = rest.get(first.len_utf8()..).unwrap_or_default();
    match first {
        'Q' if !in_class => {
            let (quoted, tail) = tail.split_once("\\E").unwrap_or((tail, ""));
            text.push_str(&regex::escape(quoted));
            return Ok(tail);
        }
        'b' | 'B' if !in_class => text.push_str(&format!("(?-u:\\{first})")),
        'd' | 'w' | 's' | 'D' | 'W' | 'S' => perl_class(text, first, in_class),
        // Their braces are no repetition.
        'p' | 'P' | 'x' if tail.starts_with('{') => {
            let (name, tail) = tail.split_once('}').ok_or_else(|| invalid(format!("`\\{first}{{` has no `}}`")))?;
            let name = name.trim_start_matches('{');
            let (letter, name) = match (first, name.strip_prefix('^')) {
                ('p', Some(other)) => ('P', other),
                ('P', Some(other)) => ('p', other),
                _ => (first, name),
            };
            text.push_str(&format!("\\{letter}{{{name}}}"));
            return Ok(tail);
        }
        '0'..='7' => return octal(text, first, tail),
        'A' | 'z' if !in_class => text.extend(['\\', first]),
        'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'x' | 'p' | 'P' => text.extend(['\\', first]),
        '<' | '>' => text.push(first),
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => text.extend(['\\', other]),
        other => return Err(invalid(format!("there is no escape `\\{other}`"))),
    }
    Ok(tail)
}

/// `\d`, `\w`, `\s` and their opposites, of ASCII as in Go.
fn perl_class(text: &mut String, name: char, in_class: bool) {
    let members = match name.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        _ => "\\t\\n\\f\\r ",
    };
    match (in_class, name.is_ascii_uppercase()) {
        (true, false) => text.push_str(members),
        (_, true) => text.push_str(&format!("[^{members}]")),
        (false, false) => text.push_str(&format!("[{members}]")),
    }
}

/// `\0`, `\012`, `\123`: up to three octal digits; one alone, other than 0, would be a group's number, which
/// Go has not.
fn octal<'p>(text: &mut String, first: char, rest: &'p str) -> Result<&'p str, Error> {
    let more = rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    let (digits, tail) = rest.split_at(more);
    if first != '0' && digits.is_empty() {
        return Err(invalid(format!("`\\{first}` would be a group's number, which is not supported")));
    }
    let value = digits.chars().fold(first.to_digit(8), |value, digit| Some(value? * 8 + digit.to_digit(8)?));
    text.push_str(&format!("\\x{{{:x}}}", value.unwrap_or_default()));
    Ok(tail)
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

fn invalid(reason: String) -> Error {
    Error::Invalid { reason }
}
