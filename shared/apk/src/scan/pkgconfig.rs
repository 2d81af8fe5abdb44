//! The part of a `.pc` file that names other `.pc` files.

use std::collections::HashMap;

/// Variables may refer to others; deeper than this they refer to themselves.
const DEPTH: usize = 8;

/// The modules that `Requires`, `Requires.private` and `Requires.internal` name, without versions.
pub(super) fn required(text: &str) -> Vec<String> {
    let mut variables: HashMap<&str, &str> = HashMap::new();
    let mut fields = Vec::new();
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(at) = line.find([':', '=']) else {
            continue;
        };
        let (key, value) = line.split_at(at);
        let (key, value) = (key.trim(), value.get(1..).unwrap_or_default().trim());
        if line.get(at..).is_some_and(|rest| rest.starts_with('=')) {
            variables.insert(key, value);
        } else if matches!(key, "Requires" | "Requires.private" | "Requires.internal") {
            fields.push(value);
        }
    }
    fields.into_iter().flat_map(|value| modules(&expand(value, &variables, DEPTH))).collect()
}

fn expand(value: &str, variables: &HashMap<&str, &str>, depth: usize) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        if let Some(value) = variables.get(name)
            && depth > 0
            && expanded.len() < 1 << 16
        {
            expanded.push_str(&expand(value, variables, depth - 1));
        }
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

/// Names in a list such as `zlib >= 1.2, libfoo bar=3`.
fn modules(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut version_follows = false;
    let spaced: String = list
        .chars()
        .map(|c| if c == ',' { ' ' } else { c })
        .collect::<String>()
        .replace(['<', '>', '=', '!'], " \u{1} ");
    for word in spaced.split_whitespace() {
        match word {
            "\u{1}" => version_follows = true,
            _ if version_follows => version_follows = false,
            name => names.push(name.to_owned()),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_their_versions() {
        let text = "prefix=/usr\nver=1.2\nneeds=zlib\n\nName: x\nRequires: ${needs} >= ${ver}, libfoo bar=3 # why\nRequires.private: a>=1 \\\n  b\nLibs: -L${libdir}\n";
        assert_eq!(required(text), ["zlib", "libfoo", "bar", "a", "b"]);
    }

    #[test]
    fn a_variable_that_refers_to_itself_ends() {
        assert!(required("a=${a}${a}\nRequires: ${a}\n").is_empty());
    }
}
