//! Which tags a build moves.
//!
//! A build of stream `8.2` at version 8.2.1 moves `8.2.1` and `8.2`, and the shorter `8` and
//! `latest` when no other stream is published at a higher version. It also gets the immutable
//! timestamp tag `8.2.1-YYYYMMDDHHMM` (UTC).

use std::cmp::Ordering;

use jiff::{Timestamp, tz::TimeZone};

/// The tag for the highest version of an image.
pub const LATEST: &str = "latest";

/// The tags that move to a build, most specific first.
///
/// `others` are the versions at which the image's other streams are published now. All versions
/// are upstream versions, without a revision.
pub fn moving(stream: &str, version: &str, others: &[String]) -> Vec<String> {
    let exact = tag_text(version);
    let mut tags = vec![exact.clone()];
    let mut add = |tag: String| {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    };
    let mut prefix = exact.as_str();
    while let Some((shorter, _)) = prefix.rsplit_once('.') {
        prefix = shorter;
        let in_line = |other: &&String| {
            tag_text(other).strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if prefix == stream || highest(version, others.iter().filter(in_line)) {
            add(prefix.to_owned());
        }
    }
    add(tag_text(stream));
    if highest(version, others.iter()) {
        add(LATEST.to_owned());
    }
    tags
}

/// The immutable tag of a build: version and minute of publication in UTC.
pub fn timestamp(version: &str, at: Timestamp) -> String {
    format!("{}-{}", tag_text(version), at.to_zoned_datetime(TimeZone::UTC).strftime("%Y%m%d%H%M"))
}

fn highest<'a>(version: &str, mut others: impl Iterator<Item = &'a String>) -> bool {
    others.all(|other| apk::compare_versions(version, other) != Some(Ordering::Less))
}

/// A version as a tag. Tags allow `[A-Za-z0-9_.-]`, at most 128 characters, and no leading `.` or
/// `-` (OCI distribution specification, "Pulling manifests"); other characters become `_`.
fn tag_text(version: &str) -> String {
    let mut text: String = version
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "_.-".contains(character) { character } else { '_' })
        .take(100)
        .collect();
    if text.starts_with(['.', '-']) {
        text.insert(0, '_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        let cases: [(&str, &str, &[&str], &[&str]); 8] = [
            ("8.2", "8.2.1", &[], &["8.2.1", "8.2", "8", "latest"]),
            ("8.2", "8.2.1", &["8.1.9"], &["8.2.1", "8.2", "8", "latest"]),
            ("8.1", "8.1.9", &["8.2.1"], &["8.1.9", "8.1"]),
            ("7.4", "7.4.2", &["8.2.1"], &["7.4.2", "7.4", "7"]),
            ("8.10", "8.10.0", &["8.9.1", "80.1.0"], &["8.10.0", "8.10", "8"]),
            ("2025", "20250419", &[], &["20250419", "2025", "latest"]),
            ("1", "1.0.0_rc1", &[], &["1.0.0_rc1", "1.0", "1", "latest"]),
            ("lts", "3.1.2~b", &["4.0.0"], &["3.1.2_b", "3.1", "3", "lts"]),
        ];
        for (stream, version, others, expected) in cases {
            let others: Vec<String> = others.iter().map(|other| (*other).to_owned()).collect();
            assert_eq!(moving(stream, version, &others), expected, "stream {stream} at {version} beside {others:?}");
        }
    }

    #[test]
    fn the_timestamp_tag_is_in_utc() {
        assert_eq!(timestamp("8.2.1", "2026-03-04T23:05:59-02:00".parse().unwrap()), "8.2.1-202603050105");
    }
}
