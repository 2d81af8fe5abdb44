//! A new upstream version written into a definition's text.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::error::Error;
use crate::package::PackageDefinition;
use crate::substitute::{Part, parts};
use crate::text::Location;
use crate::yaml::{self, Node, Value};

/// What a source is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChecksumKind {
    /// `expected-sha256`.
    Sha256,
    /// `expected-sha512`.
    Sha512,
    /// `expected-commit`.
    Commit,
}

impl ChecksumKind {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Commit];

    fn field(self) -> &'static str {
        match self {
            Self::Sha256 => "expected-sha256",
            Self::Sha512 => "expected-sha512",
            Self::Commit => "expected-commit",
        }
    }
}

/// What the new version's source is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewChecksum {
    /// Hex SHA-256, for `expected-sha256`.
    Sha256(String),
    /// Hex SHA-512, for `expected-sha512`.
    Sha512(String),
    /// Hex commit, for `expected-commit`.
    Commit(String),
}

impl NewChecksum {
    fn parts(&self) -> (ChecksumKind, &str) {
        match self {
            Self::Sha256(hex) => (ChecksumKind::Sha256, hex),
            Self::Sha512(hex) => (ChecksumKind::Sha512, hex),
            Self::Commit(hex) => (ChecksumKind::Commit, hex),
        }
    }
}

/// A source whose checksum a new version changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedSource {
    /// Where its step stands, as [`Source::location`](crate::Source::location) has it.
    pub location: Location,
    /// What it is checked against.
    pub kind: ChecksumKind,
}

/// The sources whose checksums a new version changes, in the order in which [`update_definition_text`]
/// takes new ones of each kind: those of builds, then those of tests, each checksum once.
///
/// A source follows the version when its address, tag or branch is made from `package.version`, by way of
/// variables too. A checkout of a commit alone follows it where no other does; and so does the only source
/// that there is.
///
/// # Errors
///
/// A text that is no YAML, or past a bound.
pub fn versioned_sources(text: &str, file: &str) -> Result<Vec<VersionedSource>, Error> {
    let root = yaml::parse_first(text, file)?.0;
    let mut sources: Vec<(usize, VersionedSource)> = Vec::new();
    for kind in ChecksumKind::ALL {
        for step in groups_to_change(&root, kind).iter().filter_map(|group| group.first()) {
            let location = Location::new(file, step.position);
            sources.push((step.position.offset, VersionedSource { location, kind }));
        }
    }
    sources.sort_by_key(|(offset, _)| *offset);
    Ok(sources.into_iter().map(|(_, source)| source).collect())
}

/// The definition's text with `package.version` set to `version`, `package.epoch` to 0, and each checksum in
/// its source's step: the first of a kind in the first source of [`versioned_sources`] of that kind, and so
/// on. Sources that had one checksum, as the same tag checked out for the build and for a test, get one new
/// checksum. One that is written as `${{vars.NAME}}` is changed in `vars`. Every other byte stays:
/// comments, order, quotes, and the checksums of sources that do not follow the version.
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
    let root = yaml::parse_first(text, file)?.0;
    let nothing = |field: &str, reason: &str| Error::NothingToUpdate {
        file: file.to_owned(),
        field: field.to_owned(),
        reason: reason.to_owned(),
    };
    let package = root.get("package");
    let node = package.and_then(|package| package.get("version")).ok_or_else(|| nothing("version", "in `package`"))?;
    let node = variable(&root, node).unwrap_or(node);
    if scalar(node).is_some_and(|version| version.contains("${{")) {
        return Err(Error::Invalid {
            location: Location::new(file, node.position),
            field: "package.version".to_owned(),
            value: scalar(node).unwrap_or_default().to_owned(),
            reason: "it is made from variables, of which only a single one can be updated; write the version itself"
                .to_owned(),
        });
    }
    let mut edits = vec![edit(node, text, file, "package.version", version)?];
    if let Some(node) = package.and_then(|package| package.get("epoch")).filter(|node| !node.is_null()) {
        edits.push(edit(node, text, file, "package.epoch", "0")?);
    }
    for kind in ChecksumKind::ALL {
        let field = kind.field();
        let given = checksums.iter().map(NewChecksum::parts).filter(|(given, _)| *given == kind);
        let mut groups = groups_to_change(&root, kind).into_iter();
        for (_, hex) in given {
            let group = groups.next().ok_or_else(|| nothing(field, "in any step whose source follows the version"))?;
            for step in group {
                let node = step.get("with").and_then(|with| with.get(field));
                let node = node.ok_or_else(|| nothing(field, "in any step of `pipeline`"))?;
                let node = variable(&root, node).unwrap_or(node);
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
        }
    }
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.0.start));
    // A variable or an anchor that several places use is one edit.
    edits.dedup();
    let mut updated = text.to_owned();
    for (range, replacement) in edits {
        updated.replace_range(range, &replacement);
    }
    PackageDefinition::parse(&updated, file)?;
    Ok(updated)
}

/// The steps whose checksum of this kind a new version changes, those that have one checksum together.
fn groups_to_change(root: &Node, kind: ChecksumKind) -> Vec<Vec<&Node>> {
    let mut groups: Vec<(Option<&str>, Vec<&Node>)> = Vec::new();
    for step in steps_to_change(root, kind) {
        let checksum = given(step, kind.field());
        match groups.iter_mut().find(|(known, _)| *known == checksum) {
            Some((_, group)) => group.push(step),
            None => groups.push((checksum, vec![step])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The steps whose checksum of this kind a new version changes.
fn steps_to_change(root: &Node, kind: ChecksumKind) -> Vec<&Node> {
    let mut all = Vec::new();
    let subpackages = root.get("subpackages").map(Node::items).unwrap_or_default();
    let packages = || std::iter::once(root).chain(subpackages);
    for holder in packages().chain(packages().filter_map(|package| package.get("test"))) {
        collect(holder.get("pipeline").map(Node::items).unwrap_or_default(), kind.field(), &mut all);
    }
    let variables = version_variables(root);
    let following: Vec<&Node> = all
        .iter()
        .filter(|step| {
            let places = ["uri", "tag", "branch", "repository"];
            places.into_iter().filter_map(|field| given(step, field)).any(|place| follows(place, &variables))
        })
        .copied()
        .collect();
    if !following.is_empty() {
        return following;
    }
    let bare: Vec<&Node> = all
        .iter()
        .filter(|step| kind == ChecksumKind::Commit && given(step, "tag").is_none() && given(step, "branch").is_none())
        .take(1)
        .copied()
        .collect();
    if bare.is_empty() && all.len() == 1 { all } else { bare }
}

/// Steps that have this checksum, outer ones first.
fn collect<'n>(steps: &'n [Node], field: &str, out: &mut Vec<&'n Node>) {
    for step in steps {
        if step.get("with").and_then(|with| with.get(field)).is_some_and(|node| !node.is_null()) {
            out.push(step);
        }
        collect(step.get("pipeline").map(Node::items).unwrap_or_default(), field, out);
    }
}

/// An input that a step gives.
fn given<'n>(step: &'n Node, input: &str) -> Option<&'n str> {
    step.get("with").and_then(|with| with.get(input)).and_then(scalar)
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// Names of the variables that are made from the version, through others too.
fn version_variables(root: &Node) -> BTreeSet<&str> {
    let mut made: Vec<(&str, &str)> = Vec::new();
    if let Some(Value::Mapping(entries)) = root.get("vars").map(|node| &node.value) {
        made.extend(entries.iter().filter_map(|(name, node)| Some((name.as_str(), scalar(node)?))));
    }
    for transform in root.get("var-transforms").map(Node::items).unwrap_or_default() {
        made.extend(transform.get("to").and_then(scalar).zip(transform.get("from").and_then(scalar)));
    }
    let mut names = BTreeSet::new();
    // The variable that the version itself is.
    if let Some(version) = root.get("package").and_then(|package| package.get("version")).and_then(scalar) {
        let of_version = parts(version).into_iter().filter_map(|part| match part {
            Part::Variable(name, _) => name.strip_prefix("vars."),
            Part::Literal(_) => None,
        });
        names.extend(of_version);
    }
    // Each round finds those that are one variable further away.
    while let Some((name, _)) = made.iter().find(|(name, from)| !names.contains(name) && follows(from, &names)) {
        names.insert(*name);
    }
    names
}

fn follows(template: &str, variables: &BTreeSet<&str>) -> bool {
    parts(template).iter().any(|part| match part {
        Part::Variable("package.version" | "package.full-version", _) => true,
        Part::Variable(name, _) => name.strip_prefix("vars.").is_some_and(|name| variables.contains(name)),
        Part::Literal(_) => false,
    })
}

/// The entry of `vars` that a value stands for, where it is `${{vars.NAME}}` and nothing else.
fn variable<'n>(root: &'n Node, node: &Node) -> Option<&'n Node> {
    match parts(scalar(node)?.trim()).as_slice() {
        [Part::Variable(name, _)] => root.get("vars")?.get(name.strip_prefix("vars.")?),
        _ => None,
    }
}

/// The bytes of a scalar and what to put there, in the scalar's own quotes.
fn edit(node: &Node, text: &str, file: &str, field: &str, value: &str) -> Result<(Range<usize>, String), Error> {
    let wrong = |reason: &str| Error::Invalid {
        location: Location::new(file, node.position),
        field: field.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    };
    let old = scalar(node).ok_or_else(|| wrong("the place of the old value is not a text"))?;
    let mut start = node.position.offset;
    let mut written = text.get(start..).unwrap_or_default();
    // An anchor, a tag and the header of a block stand before the value itself.
    while written.starts_with(['&', '!', '|', '>']) {
        let skipped = written.find(char::is_whitespace).unwrap_or(written.len());
        let rest = written.get(skipped..).unwrap_or_default();
        start += written.len() - rest.trim_start().len();
        written = rest.trim_start();
    }
    for (quote, old) in [("\"", old), ("'", old), ("", old.trim_end())] {
        let whole = format!("{quote}{old}{quote}");
        if !old.is_empty() && written.starts_with(&whole) {
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
            "hello.yaml: nothing to update: no `expected-sha512` in any step whose source follows the version"
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

    /// The lines of `updated` that are not those of `text`.
    fn changed<'u>(text: &str, updated: &'u str) -> Vec<&'u str> {
        assert_eq!(text.lines().count(), updated.lines().count());
        text.lines().zip(updated.lines()).filter(|(old, new)| old != new).map(|(_, new)| new.trim()).collect()
    }

    #[test]
    fn only_sources_that_follow_the_version_change() {
        let text = "package: {name: x, version: 1.2.3}\nvars:\n  series: '2'\n  full: ${{package.version}}-final\nvar-transforms:\n  - {from: '${{vars.full}}', match: \\., replace: _, to: mangled}\npipeline:\n  - uses: fetch\n    with:\n      uri: https://example.org/data-${{vars.series}}.tar\n      expected-sha256: aaaa\n  - uses: git-checkout\n    with:\n      repository: https://example.org/x\n      tag: rel_${{vars.mangled}}\n      expected-commit: bbbb\n  - uses: git-checkout\n    with:\n      repository: https://example.org/tools\n      tag: v7\n      expected-commit: cccc\n  - pipeline:\n      - uses: fetch\n        with:\n          uri: https://example.org/x-${{package.version}}.tar\n          expected-sha256: dddd\nsubpackages:\n  - name: docs\n    pipeline:\n      - uses: fetch\n        with: {uri: 'https://example.org/docs-${{vars.full}}.tar', expected-sha256: eeee}\n";
        let sources: Vec<(ChecksumKind, usize)> = versioned_sources(text, "x.yaml")
            .unwrap()
            .into_iter()
            .map(|source| (source.kind, source.location.line))
            .collect();
        assert_eq!(sources, [(ChecksumKind::Commit, 12), (ChecksumKind::Sha256, 23), (ChecksumKind::Sha256, 30)]);
        let checksums = [
            NewChecksum::Sha256("1111".to_owned()),
            NewChecksum::Commit("2222".to_owned()),
            NewChecksum::Sha256("3333".to_owned()),
        ];
        let updated = update_definition_text(text, "x.yaml", "1.3", &checksums).unwrap();
        let expected =
            text.replace("1.2.3", "1.3").replace("dddd", "1111").replace("bbbb", "2222").replace("eeee", "3333");
        assert_eq!(updated, expected);
        let one_more = [checksums.as_slice(), &[NewChecksum::Commit("44".to_owned())]].concat();
        assert!(
            update_definition_text(text, "x.yaml", "1.3", &one_more)
                .unwrap_err()
                .to_string()
                .contains("follows the version")
        );
    }

    #[test]
    fn one_checksum_in_several_places_changes_in_all() {
        let checkout =
            "- uses: git-checkout\n    with:\n      tag: v${{package.version}}\n      expected-commit: bbbb\n";
        let text = format!(
            "package: {{name: x, version: 1.2.3}}\npipeline:\n  {checkout}test:\n  pipeline:\n  {checkout}subpackages:\n- name: y\n  test:\n   pipeline:\n   - uses: git-checkout\n     with: {{tag: 'v${{{{package.version}}}}', expected-commit: bbbb}}\n"
        );
        assert_eq!(versioned_sources(&text, "x.yaml").unwrap().len(), 1);
        let updated =
            update_definition_text(&text, "x.yaml", "1.2.4", &[NewChecksum::Commit("cccc".to_owned())]).unwrap();
        assert_eq!(updated, text.replace("1.2.3", "1.2.4").replace("bbbb", "cccc"));
    }

    #[test]
    fn values_are_found_in_every_way_of_writing_them() {
        for (version, commit, vars) in [
            ("&v 1.2.3", "'bbbb'", ""),
            ("!!str 1.2.3", "!!str \"bbbb\" # why", ""),
            ("|-\n    1.2.3", ">-\n        bbbb", ""),
            ("1.2.3", "|\n        bbbb", ""),
            ("'1.2.3'", "${{vars.commit}}", "vars:\n  commit: bbbb # of the tag\n"),
        ] {
            let text = format!(
                "{vars}package:\n  name: x\n  version: {version}\n  epoch: 0x1 # one\npipeline:\n  - uses: git-checkout\n    with:\n      tag: v${{{{package.version}}}}\n      expected-commit: {commit}\n"
            );
            let updated = update_definition_text(&text, "x.yaml", "1.2.4", &[NewChecksum::Commit("2222".to_owned())])
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let expected = text.replace("1.2.3", "1.2.4").replace("bbbb", "2222").replace("0x1", "0");
            assert_eq!(updated, expected);
            assert_eq!(changed(&text, &updated).len(), 3, "{updated}");
            assert_eq!(PackageDefinition::parse(&updated, "x.yaml").unwrap().full_version(), "1.2.4-r0");
        }
    }
}
