//! A new upstream version written into a definition's text.

use crate::error::Error;
use crate::package::PackageDefinition;
use crate::text::Location;
use crate::yaml::{self, Node, Value};

/// What the new version's source is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewChecksum {
    /// Hex SHA-256, for the first `expected-sha256`.
    Sha256(String),
    /// Hex SHA-512, for the first `expected-sha512`.
    Sha512(String),
    /// Hex commit, for the first `expected-commit`.
    Commit(String),
}

impl NewChecksum {
    fn field(&self) -> (&'static str, &str) {
        match self {
            Self::Sha256(hex) => ("expected-sha256", hex),
            Self::Sha512(hex) => ("expected-sha512", hex),
            Self::Commit(hex) => ("expected-commit", hex),
        }
    }
}

/// The definition's text with `package.version` set to `version`, `package.epoch` to 0, and each checksum in
/// the first step of the main `pipeline` that has its field. Every other byte stays: comments, order,
/// quotes.
///
/// # Errors
///
/// A text that is no package definition, a field that is not there ([`Error::NothingToUpdate`]), or a
/// version or checksum that would not be valid in its place.
pub fn update_definition_text(
    text: &str,
    file: &str,
    version: &str,
    checksums: &[NewChecksum],
) -> Result<String, Error> {
    let root = yaml::parse(text, file)?;
    let nothing = |field: &str, reason: &str| Error::NothingToUpdate {
        file: file.to_owned(),
        field: field.to_owned(),
        reason: reason.to_owned(),
    };
    let package = root.get("package");
    let node = package.and_then(|package| package.get("version")).ok_or_else(|| nothing("version", "in `package`"))?;
    let mut edits = vec![edit(node, text, file, "package.version", version)?];
    if let Some(node) = package.and_then(|package| package.get("epoch")).filter(|node| !node.is_null()) {
        edits.push(edit(node, text, file, "package.epoch", "0")?);
    }
    for checksum in checksums {
        let (field, hex) = checksum.field();
        let steps = root.get("pipeline").map(Node::items).unwrap_or_default();
        let node = find(steps, field).ok_or_else(|| nothing(field, "in any step of `pipeline`"))?;
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Invalid {
                location: Location::new(file, node.position),
                field: field.to_owned(),
                value: hex.to_owned(),
                reason: "the new value must be hexadecimal".to_owned(),
            });
        }
        edits.push(edit(node, text, file, field, hex)?);
    }
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.0.start));
    let mut updated = text.to_owned();
    for (range, replacement) in edits {
        updated.replace_range(range, &replacement);
    }
    PackageDefinition::parse(&updated, file)?;
    Ok(updated)
}

fn find<'n>(steps: &'n [Node], field: &str) -> Option<&'n Node> {
    steps.iter().find_map(|step| {
        let own = step.get("with").and_then(|with| with.get(field));
        own.or_else(|| find(step.get("pipeline").map(Node::items).unwrap_or_default(), field))
    })
}

/// The bytes of a scalar and what to put there, in the scalar's own quotes.
fn edit(
    node: &Node,
    text: &str,
    file: &str,
    field: &str,
    value: &str,
) -> Result<(std::ops::Range<usize>, String), Error> {
    let start = node.position.offset;
    let wrong = |reason: &str| Error::Invalid {
        location: Location::new(file, node.position),
        field: field.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    };
    let Value::Scalar { text: old, .. } = &node.value else {
        return Err(wrong("the place of the old value is not a text"));
    };
    let written = text.get(start..).unwrap_or_default();
    for quote in ["\"", "'", ""] {
        let whole = format!("{quote}{old}{quote}");
        if written.starts_with(&whole) {
            return Ok((start..start + whole.len(), format!("{quote}{value}{quote}")));
        }
    }
    Err(wrong("the old value is not written plainly; write it on one line without escapes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Kept: \u{e9}\npackage:\n  name: hello\n  version: \"1.9\" # the version\n  epoch: 3 # why\n  description: version 1.9\npipeline:\n  - name: group\n    pipeline:\n      - uses: fetch\n        with:\n          uri: https://example.org/hello-${{package.version}}.tar.gz\n          expected-sha256: aaaa # checked\n  - uses: git-checkout\n    with: {repository: x, expected-commit: 'bbbb'}\n";

    #[test]
    fn only_the_values_change() {
        let updated = update_definition_text(
            TEXT,
            "hello.yaml",
            "1.10",
            &[NewChecksum::Sha256("cccc".to_owned()), NewChecksum::Commit("dddd".to_owned())],
        )
        .unwrap();
        let expected = TEXT
            .replace("\"1.9\"", "\"1.10\"")
            .replace("epoch: 3", "epoch: 0")
            .replace("aaaa", "cccc")
            .replace("bbbb", "dddd");
        assert_eq!(updated, expected);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let update = |text: &str, version: &str, checksum| {
            update_definition_text(text, "hello.yaml", version, &[checksum]).unwrap_err().to_string()
        };
        assert_eq!(
            update(TEXT, "2", NewChecksum::Sha512("cc".to_owned())),
            "hello.yaml: nothing to update: no `expected-sha512` in any step of `pipeline`"
        );
        assert_eq!(
            update("package: {name: x}", "2", NewChecksum::Commit("cc".to_owned())),
            "hello.yaml: nothing to update: no `version` in `package`"
        );
        assert!(update(TEXT, "2\" x", NewChecksum::Sha256("cc".to_owned())).contains("hello.yaml:4:"));
        assert!(
            update(TEXT, "2", NewChecksum::Sha256("c c".to_owned()))
                .starts_with("hello.yaml:13:28: `expected-sha256` is `c c`")
        );
    }
}
