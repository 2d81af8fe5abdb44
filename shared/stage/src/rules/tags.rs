//! Which tags a build moves.
//!
//! A build of stream `8.2` at version 8.2.1 moves `8.2.1` and `8.2`, and the shorter `8` and
//! `latest` when no other stream is published at a higher version. It also gets the immutable
//! timestamp tag `8.2.1-YYYYMMDDHHMM` (UTC). Further tags that the stream names follow it. All tags of
//! a variant end in its suffix: `8.2.1-dev`, `latest-dev`, `8.2.1-YYYYMMDDHHMM-dev`.

use std::cmp::Ordering;

use jiff::{Timestamp, tz::TimeZone};

/// The tag for the highest version of an image.
pub const LATEST: &str = "latest";

/// What a build is tagged as.
#[derive(Clone, Copy, Debug)]
pub struct Tagged<'a> {
    /// Name of the stream, without a variant.
    pub stream: &'a str,
    /// Further tags that follow the stream.
    pub further: &'a [String],
    /// The variant, when it is one.
    pub variant: Option<&'a str>,
    /// Upstream version of the primary package, without a revision.
    pub version: &'a str,
}

/// The tags that move to a build, most specific first.
///
/// `others` are the versions at which the image's other streams are published now, in the same
/// variant, as upstream versions.
pub fn moving(build: Tagged<'_>, others: &[String]) -> Vec<String> {
    let Tagged { stream, further, variant, version } = build;
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
    for tag in further {
        add(tag_text(tag));
    }
    if highest(version, others.iter()) {
        add(LATEST.to_owned());
    }
    tags.into_iter().map(|tag| in_variant(tag, variant)).collect()
}

/// The immutable tag of a build: version and minute of publication in UTC.
pub fn timestamp(version: &str, variant: Option<&str>, at: Timestamp) -> String {
    let minute = at.to_zoned_datetime(TimeZone::UTC).strftime("%Y%m%d%H%M").to_string();
    in_variant(format!("{}-{minute}", tag_text(version)), variant)
}

fn in_variant(tag: String, variant: Option<&str>) -> String {
    match variant {
        None => tag,
        Some(variant) => format!("{tag}-{variant}"),
    }
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
        .take(60)
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
            let build = Tagged { stream, further: &[], variant: None, version };
            assert_eq!(moving(build, &others), expected, "stream {stream} at {version} beside {others:?}");
        }
    }

    #[test]
    fn a_variant_has_the_tags_of_its_stream_with_a_suffix() {
        let further = ["lts".to_owned()];
        let build = Tagged { stream: "8.2", further: &further, variant: Some("dev"), version: "8.2.1" };
        let tags = ["8.2.1-dev", "8.2-dev", "8-dev", "lts-dev", "latest-dev"];
        assert_eq!(moving(build, &["8.1.9".to_owned()]), tags);
        assert_eq!(moving(build, &["9.0.0".to_owned()]), ["8.2.1-dev", "8.2-dev", "8-dev", "lts-dev"]);
    }

    #[test]
    fn the_timestamp_tag_is_in_utc() {
        let at = "2026-03-04T23:05:59-02:00".parse().unwrap();
        assert_eq!(timestamp("8.2.1", None, at), "8.2.1-202603050105");
        assert_eq!(timestamp("8.2.1", Some("dev"), at), "8.2.1-202603050105-dev");
    }
}
