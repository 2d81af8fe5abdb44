//! Debian versions (deb-version(7)): order, and the upstream version inside.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Bytes of a version; longer ones are refused.
pub const LONGEST: usize = 256;

/// The text is no Debian version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a Debian version: {reason}")]
pub struct InvalidVersion {
    /// The text as given, cut to [`LONGEST`] characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A Debian version: `[epoch:]upstream[-revision]`. Ordered as dpkg orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianVersion {
    text: String,
    epoch: u32,
    upstream: String,
    revision: String,
}

impl DebianVersion {
    /// The epoch, 0 when none is written.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The version without epoch and revision, as file names carry it, for example
    /// `1.3.dfsg+really1.3.1`.
    pub fn upstream_part(&self) -> &str {
        &self.upstream
    }

    /// Whether this is a native package's version, which has no revision.
    pub fn is_native(&self) -> bool {
        self.revision.is_empty()
    }

    /// The version that the upstream project gave its release: what follows the last `+really`,
    /// without the marks of a repacked archive (`+dfsg1`, `.dfsg`, `+ds2`, ...), and without a
    /// native package's mark of a stable update (`+deb13u1`).
    pub fn upstream_version(&self) -> &str {
        let mut version = self.upstream.as_str();
        if let Some((_, real)) = version.rsplit_once("+really")
            && !real.is_empty()
        {
            version = real;
        }
        while let Some(shorter) = without_mark(version, self.is_native()) {
            version = shorter;
        }
        version
    }

    /// Why this isn't an upstream release, if it isn't: a pre-release (`~rc1`) or a snapshot of
    /// the development tree (`+git20240102`).
    pub fn unreleased(&self) -> Option<&'static str> {
        let version = self.upstream_version();
        let lower = version.to_ascii_lowercase();
        let snapshot = ["git", "svn", "hg", "bzr", "cvs", "snapshot"].iter().any(|mark| {
            lower
                .match_indices(mark)
                .any(|(at, _)| lower.get(..at).is_some_and(|before| before.ends_with(['+', '~', '.', '-'])))
        });
        if snapshot {
            Some("a snapshot of the development tree, not a release")
        } else if version.contains('~') {
            Some("a pre-release")
        } else {
            None
        }
    }
}

const MARKS: [&str; 8] = ["dfsg", "ds", "repack", "repacked", "debian", "nosubmodules", "clean", "deb"];

/// The version without its last mark, when it ends in one.
fn without_mark(version: &str, native: bool) -> Option<&str> {
    let at = version.rfind(['+', '~']).or_else(|| {
        let at = version.find(".dfsg")?;
        Some(at)
    })?;
    let (before, mark) = version.split_at_checked(at)?;
    let mark = mark.get(1..)?;
    let word: &str = mark.split(|character: char| !character.is_ascii_alphabetic()).next().unwrap_or_default();
    let rest = mark.strip_prefix(word)?;
    let known = MARKS.contains(&word) && (word != "deb" || native);
    let tail_fits = match word {
        "deb" => rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'u'),
        _ => rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
    };
    (known && tail_fits && !before.is_empty()).then_some(before)
}

impl FromStr for DebianVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let refuse = |reason| InvalidVersion { text: text.chars().take(LONGEST).collect(), reason };
        if text.len() > LONGEST {
            return Err(refuse("longer than 256 bytes"));
        }
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => {
                if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(refuse("the epoch before `:` is not a number"));
                }
                (epoch.parse().map_err(|_| refuse("the epoch is too large"))?, rest)
            }
            None => (0, text),
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((_, "")) => return Err(refuse("the revision after `-` is empty")),
            Some((upstream, revision)) => (upstream, revision),
            None => (rest, ""),
        };
        if !upstream.starts_with(|character: char| character.is_ascii_digit()) {
            return Err(refuse("it does not start with a digit"));
        }
        let fits =
            |part: &str, more: &[u8]| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
        if !fits(upstream, b".+-~:") || !fits(revision, b".+~") {
            return Err(refuse("it holds a character that versions don't have"));
        }
        Ok(Self { text: text.to_owned(), epoch, upstream: upstream.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for DebianVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl DebianVersion {
    /// Which of two versions is newer, as `dpkg --compare-versions` answers. Differently written
    /// versions can be equal (`1.0` and `1.00`), which is why this isn't `Ord`.
    pub fn compare(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(&self.upstream, &other.upstream))
            .then_with(|| compare_part(&self.revision, &other.revision))
    }
}

/// dpkg's `verrevcmp`: alternating runs of non-digits, ordered by character with `~` before the
/// end and letters before the rest, and of digits, ordered as numbers.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        loop {
            let (a, b) = (non_digit(left), non_digit(right));
            if a.is_none() && b.is_none() {
                break;
            }
            match weight(a).cmp(&weight(b)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            left = if a.is_some() { left.get(1..).unwrap_or_default() } else { left };
            right = if b.is_some() { right.get(1..).unwrap_or_default() } else { right };
        }
        let (a, left_rest) = number(left);
        let (b, right_rest) = number(right);
        let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn non_digit(text: &[u8]) -> Option<u8> {
    text.first().copied().filter(|byte| !byte.is_ascii_digit())
}

fn weight(character: Option<u8>) -> i32 {
    match character {
        None => 0,
        Some(b'~') => -1,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(other) => i32::from(other) + 256,
    }
}

/// The leading number without its leading zeros, and what follows it.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let start = digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len());
    (digits.get(start..).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> DebianVersion {
        text.parse().unwrap()
    }

    #[test]
    fn the_upstream_version_is_what_the_project_released() {
        for (text, upstream) in [
            ("1.6.38-1", "1.6.38"),
            ("1:1.3.dfsg+really1.3.1-1+deb13u1", "1.3.1"),
            ("8.1.1+dfsg1-3+deb13u3", "8.1.1"),
            ("5:8.0.2-3", "8.0.2"),
            ("2.1.13-stable-1~deb13u1", "2.1.13-stable"),
            ("2026f-0+deb13u1", "2026f"),
            ("20250419+deb13u1", "20250419"),
            ("1.2.5-3.1~deb13u1", "1.2.5"),
            ("1.0+ds1+dfsg2-1", "1.0"),
            ("1.2.3.dfsg-1", "1.2.3"),
            ("9.20+ds.1-2", "9.20"),
            ("1.0+deb2-1", "1.0+deb2"),
            ("3.0~rc1-1", "3.0~rc1"),
            ("3.0~rc1+dfsg-1", "3.0~rc1"),
            ("1.0+git20240102.abc-1", "1.0+git20240102.abc"),
        ] {
            assert_eq!(version(text).upstream_version(), upstream, "{text}");
        }
    }

    #[test]
    fn unreleased_versions_are_named() {
        for (text, unreleased) in [
            ("3.0~rc1-1", true),
            ("1.0+git20240102-1", true),
            ("0~svn12-1", true),
            ("1.2.5-3.1~deb13u1", false),
            ("2.1.13-stable-1", false),
            ("1.0-1+git1", false),
            ("1.0digital-1", false),
        ] {
            assert_eq!(version(text).unreleased().is_some(), unreleased, "{text}");
        }
    }

    #[test]
    fn malformed_versions_are_refused() {
        for text in ["", "x1", "a:1", ":1", "1-", "1 2", "1/2", "99999999999:1"] {
            assert!(text.parse::<DebianVersion>().is_err(), "{text}");
        }
    }

    const ORDERED: [(&str, &str, Ordering); 14] = [
        ("1.0", "1.0", Ordering::Equal),
        ("1.0", "1.00", Ordering::Equal),
        ("1.0~rc1", "1.0", Ordering::Less),
        ("1.0~~", "1.0~", Ordering::Less),
        ("1.0a", "1.0+", Ordering::Less),
        ("1.9", "1.10", Ordering::Less),
        ("1:0.1", "9.9", Ordering::Greater),
        ("1.0-1", "1.0-1+b1", Ordering::Less),
        ("1.0-1", "1.0", Ordering::Greater),
        ("1.0-0", "1.0", Ordering::Equal),
        ("1.2.5-3.1~deb13u1", "1.2.5-3.1", Ordering::Less),
        ("2026f-0+deb13u1", "2026f-0", Ordering::Greater),
        ("1.3.dfsg+really1.3.1-1", "1.3.dfsg-3", Ordering::Greater),
        ("1.0.0000000000000000000000001", "1.0.2", Ordering::Less),
    ];

    #[test]
    fn the_order_is_deb_versions() {
        for (left, right, order) in ORDERED {
            assert_eq!(version(left).compare(&version(right)), order, "{left} {right}");
            assert_eq!(version(right).compare(&version(left)), order.reverse(), "{right} {left}");
        }
    }

    #[test]
    fn dpkg_gives_the_same_order() {
        if std::process::Command::new("dpkg").arg("--version").output().is_err() {
            println!("not run: no dpkg here");
            return;
        }
        let parts = ["0", "1", "1.0", "1.0~", "1.0~~a", "1.0a", "1.0+a", "1.10", "1.9", "01.1", "1.a.2"];
        let mut texts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        texts.extend(parts.iter().map(|part| format!("{part}-1~b")));
        texts.extend(["1:0", "0:1.0", "1.0-0", "1.0-00.1+x"].map(str::to_owned));
        for left in &texts {
            for right in &texts {
                let operator = match version(left).compare(&version(right)) {
                    Ordering::Less => "lt",
                    Ordering::Equal => "eq",
                    Ordering::Greater => "gt",
                };
                let agrees = std::process::Command::new("dpkg")
                    .args(["--compare-versions", left, operator, right])
                    .status()
                    .unwrap();
                assert!(agrees.success(), "{left} {operator} {right}");
            }
        }
    }
}
