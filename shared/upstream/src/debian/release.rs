//! The fields of a release file that the chain needs.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::store::is_sha256_hex;

/// Digest and size of a file that a release file lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) sha256: String,
    pub(super) size: u64,
}

/// A release file, its signature already verified.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) date: Timestamp,
    pub(super) by_hash: bool,
    files: BTreeMap<String, Listed>,
}

impl Release {
    /// Parses the signed text of `url` and checks it against the suite asked for and the time.
    /// `honour_expiry` false lets an expired `Valid-Until` pass.
    pub(super) fn parse(url: &str, text: &str, suite: &str, now: Timestamp, honour_expiry: bool) -> Result<Self> {
        let refuse = |reason: String| Error::Release { url: url.to_owned(), reason };
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut field = "";
        for line in text.lines() {
            if line.is_empty() {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                if field == "SHA256" {
                    let (path, listed) =
                        listed(line).ok_or_else(|| refuse(format!("bad SHA256 line `{}`", line.trim())))?;
                    files.insert(path, listed);
                }
                continue;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| refuse(format!("line without a field: `{line}`")))?;
            field = name;
            if fields.insert(name, value.trim()).is_some() {
                return Err(refuse(format!("field `{name}` stands twice")));
            }
        }
        let names = [fields.get("Codename"), fields.get("Suite")];
        if !names.into_iter().flatten().any(|name| *name == suite) {
            let found = fields.get("Codename").or(fields.get("Suite")).copied().unwrap_or("none");
            return Err(refuse(format!("suite `{suite}` was asked for, the release is `{found}`")));
        }
        let date = fields.get("Date").ok_or_else(|| refuse("no `Date` field".to_owned()))?;
        let date = time(date).ok_or_else(|| refuse(format!("`Date: {date}` is no time")))?;
        if date.as_second() > now.as_second() + 24 * 3600 {
            return Err(refuse(format!("dated {date}, which is in the future; is this machine's clock right?")));
        }
        if let Some(until) = fields.get("Valid-Until").filter(|_| honour_expiry) {
            let valid_until = time(until).ok_or_else(|| refuse(format!("`Valid-Until: {until}` is no time")))?;
            if valid_until < now {
                return Err(Error::Expired { url: url.to_owned(), valid_until, now });
            }
        }
        if files.is_empty() {
            return Err(refuse("it lists no SHA256 digests".to_owned()));
        }
        let by_hash = fields.get("Acquire-By-Hash").is_some_and(|value| *value == "yes");
        Ok(Self { date, by_hash, files })
    }

    /// The listed file at `path`.
    pub(super) fn file(&self, path: &str) -> Option<&Listed> {
        self.files.get(path)
    }
}

fn listed(line: &str) -> Option<(String, Listed)> {
    let mut words = line.split_whitespace();
    let (sha256, size, path) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !is_sha256_hex(sha256) {
        return None;
    }
    Some((path.to_owned(), Listed { sha256: sha256.to_owned(), size: size.parse().ok()? }))
}

/// `Sat, 21 Nov 2026 09:15:44 UTC`, which is RFC 2822 but for the zone's name.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix("UTC").map(|rest| format!("{rest}GMT"));
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://localhost/InRelease";
    const NOW: i64 = 1_795_300_000;

    fn text(lines: &str) -> String {
        format!("Codename: trixie\nSuite: stable\nDate: Sat, 21 Nov 2026 09:15:44 UTC\n{lines}")
    }

    fn parse(text: &str, suite: &str, now: i64) -> Result<Release> {
        Release::parse(URL, text, suite, Timestamp::from_second(now).unwrap(), true)
    }

    fn digests() -> String {
        format!("SHA256:\n {} 12 main/source/Sources.xz\n", "a".repeat(64))
    }

    #[test]
    fn digests_are_read_from_the_sha256_field_alone() {
        let other = format!("MD5Sum:\n {} 1 main/x\n", "b".repeat(32));
        let release = parse(&text(&(other + &digests())), "trixie", NOW).unwrap();
        assert_eq!(release.file("main/source/Sources.xz").unwrap().size, 12);
        assert_eq!(release.file("main/x"), None);
        assert!(!release.by_hash);
        assert_eq!(release.date.to_string(), "2026-11-21T09:15:44Z");
    }

    #[test]
    fn another_suite_is_refused() {
        assert!(parse(&text(&digests()), "stable", NOW).is_ok());
        let error = parse(&text(&digests()), "bookworm", NOW).unwrap_err().to_string();
        assert!(error.contains("bookworm") && error.contains("trixie"), "{error}");
    }

    #[test]
    fn times_are_judged() {
        let until = text(&("Valid-Until: Sat, 28 Nov 2026 09:15:44 UTC\n".to_owned() + &digests()));
        let end = Timestamp::strptime("%F %T %z", "2026-11-28 09:15:44 +0000").unwrap().as_second();
        assert!(parse(&until, "trixie", end).is_ok());
        assert!(matches!(parse(&until, "trixie", end + 1), Err(Error::Expired { .. })));
        let early = parse(&until, "trixie", end - 30 * 86400).unwrap_err().to_string();
        assert!(early.contains("future"), "{early}");
    }

    #[test]
    fn malformed_files_are_refused() {
        for lines in ["", "SHA256:\n zz 1 a\n", "Suite: twice\n", "no field\n"] {
            assert!(parse(&text(lines), "trixie", NOW).is_err(), "{lines}");
        }
    }
}
