//! Which version lines of a package no stream follows.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A version line that the repository holds and that none of an image's streams follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The stream that it would be, such as `9.1`.
    pub name: String,
    /// Its highest version, as an upstream version.
    pub version: String,
}

/// The lines among `versions`, upstream versions of an image's primary package, that lie above the
/// lowest of its `streams`, lowest first. A line has as many components as the most detailed stream
/// whose name is a version; without such a stream there are none. Prereleases make no line.
pub fn proposed(streams: &[&str], versions: &[&str]) -> Vec<Line> {
    let numbered: Vec<&str> = streams.iter().copied().filter(|name| is_number(name)).collect();
    let Some(components) = numbered.iter().map(|name| name.split('.').count()).max() else {
        return Vec::new();
    };
    let mut lines: BTreeMap<String, &str> = BTreeMap::new();
    for version in versions.iter().copied().filter(|version| is_number(version)) {
        let parts: Vec<&str> = version.split('.').take(components).collect();
        if parts.len() < components {
            continue;
        }
        let highest = lines.entry(parts.join(".")).or_insert(version);
        if apk::compare_versions(version, highest) == Some(Ordering::Greater) {
            *highest = version;
        }
    }
    let followed = |line: &str| {
        numbered
            .iter()
            .any(|stream| line == *stream || line.strip_prefix(*stream).is_some_and(|rest| rest.starts_with('.')))
    };
    let above =
        |line: &str| numbered.iter().any(|stream| apk::compare_versions(line, stream) == Some(Ordering::Greater));
    let mut lines: Vec<Line> = lines
        .into_iter()
        .filter(|(line, _)| above(line) && !followed(line))
        .map(|(name, version)| Line { name, version: version.to_owned() })
        .collect();
    lines.sort_by(|a, b| apk::compare_versions(&a.name, &b.name).unwrap_or(Ordering::Equal));
    lines
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams, versions, and the lines expected with their highest versions.
    type Case = (&'static [&'static str], &'static [&'static str], &'static [(&'static str, &'static str)]);

    #[test]
    fn lines_above_the_lowest_stream_are_proposed() {
        let cases: [Case; 7] = [
            (&["8.1", "9.0"], &["8.0.9", "8.1.4", "9.0.1", "9.1.0", "9.1.2"], &[("9.1", "9.1.2")]),
            (
                &["8.2", "9.0"],
                &["8.3.1", "10.0.0", "9.10.0"],
                &[("8.3", "8.3.1"), ("9.10", "9.10.0"), ("10.0", "10.0.0")],
            ),
            (&["8"], &["8.1.0", "8.2.0", "9.0.0"], &[("9", "9.0.0")]),
            (&["8", "9.1"], &["8.5.0", "9.1.1", "9.2.0"], &[("9.2", "9.2.0")]),
            (&["9.0"], &["9.1.0_rc1", "9"], &[]),
            (&["lts"], &["1.0.0", "2.0.0"], &[]),
            (&["lts", "1"], &["1.0.0", "2.0.0"], &[("2", "2.0.0")]),
        ];
        for (streams, versions, expected) in cases {
            let found = proposed(streams, versions);
            let found: Vec<(&str, &str)> =
                found.iter().map(|line| (line.name.as_str(), line.version.as_str())).collect();
            assert_eq!(found, expected, "{streams:?} {versions:?}");
        }
    }
}
