//! Environments, and variables in texts by the rules of Go's `os.Expand`.

use crate::Image;

/// `NAME=value` of the image's configuration.
pub(super) fn of_image(image: &Image) -> Vec<String> {
    image.configuration().config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default()
}

/// The value of a variable; of several the last counts.
pub(crate) fn value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    let mut known = environment.iter().rev().filter_map(|line| line.split_once('='));
    known.find_map(|(other, value)| (other == name).then_some(value))
}

/// Sets a variable, or replaces it.
pub(crate) fn set(environment: &mut Vec<String>, name: &str, value: &str) {
    environment.retain(|line| line.split_once('=').is_none_or(|(other, _)| other != name));
    environment.push(format!("{name}={value}"));
}

/// Variables replaced by their values, unknown ones by nothing.
pub(super) fn expanded(text: &str, environment: &[String]) -> String {
    replaced(text, |name, _| value(environment, name).unwrap_or_default().to_owned())
}

/// Variables replaced by their values; unknown ones stay as they are written.
pub(super) fn expanded_where_known(text: &str, environment: &[String]) -> String {
    replaced(text, |name, written| value(environment, name).unwrap_or(written).to_owned())
}

fn replaced(text: &str, replacement: impl Fn(&str, &str) -> String) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, width) = reference(after);
        let (reference, left) = after.split_at(width);
        match name {
            // A `$` that begins no reference is text.
            "" if width == 0 => result.push('$'),
            // `${}` and `${` without an end are eaten, as in Go.
            "" => {}
            name => result.push_str(&replacement(name, &format!("${reference}"))),
        }
        rest = left;
    }
    result.push_str(rest);
    result
}

/// The name that what follows a `$` begins with, and how many bytes the reference takes.
fn reference(after: &str) -> (&str, usize) {
    if let Some(inner) = after.strip_prefix('{') {
        return inner.split_once('}').map_or(("", 1), |(name, _)| (name, name.len() + 2));
    }
    if after.starts_with(|first: char| "*#$@!?-0123456789".contains(first)) {
        return (after.get(..1).unwrap_or_default(), 1);
    }
    let end = after.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let name = after.get(..end.unwrap_or(after.len())).unwrap_or_default();
    (name, name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_go_does() {
        let environment = ["PATH=/bin".to_owned(), "A=1".to_owned(), "A=2".to_owned(), "E=".to_owned()];
        for (text, known, all) in [
            ("x$PATH:${PATH}y$NONE", "x/bin:/biny$NONE", "x/bin:/biny"),
            ("$A$E-", "2-", "2-"),
            ("100$", "100$", "100$"),
            ("$ x", "$ x", "$ x"),
            ("a${b", "ab", "ab"),
            ("${}x", "x", "x"),
            ("$1 $$ $?", "$1 $$ $?", "  "),
            ("$10", "$10", "0"),
        ] {
            assert_eq!(expanded_where_known(text, &environment), known, "{text}");
            assert_eq!(expanded(text, &environment), all, "{text}");
        }
    }

    #[test]
    fn a_variable_is_set_once() {
        let mut environment = vec!["A=1".to_owned(), "B=2".to_owned()];
        set(&mut environment, "A", "3");
        assert_eq!(environment, ["B=2", "A=3"]);
    }
}
