//! Which release to take: the rules of an `update:` block over a provider's candidates.

use std::cmp::Reverse;

use apk::Version;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Words that mark a pre-release when no letter stands before them.
const PRERELEASE_WORDS: [&str; 7] = ["alpha", "beta", "rc", "pre", "dev", "snapshot", "nightly"];

/// One release as a provider knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The version or tag in the upstream project's words; the rules work on it.
    pub version: String,
    /// How the ecosystem names the release where that differs, for example a Debian version.
    pub label: Option<String>,
    /// Where it was found when there are several places, for example a suite.
    pub place: Option<String>,
    /// Versions with a higher epoch are newer whatever they are.
    pub epoch: u32,
    /// Why the ecosystem calls it a pre-release, if it does.
    pub prerelease: Option<String>,
    /// Why it may not be used at all, if so (yanked, a snapshot).
    pub withdrawn: Option<String>,
    /// Git commit that the release was made of, in hexadecimal, where the ecosystem states it.
    pub commit: Option<String>,
    /// The annotated tag's own object, in hexadecimal, where there is one and it is known.
    pub tag_object: Option<String>,
    /// Digest of the source, as `ALGORITHM:VALUE`, where the ecosystem states it.
    pub digest: Option<String>,
    /// Why it isn't the release that was seen under this name before, if so.
    pub republished: Option<String>,
}

impl Candidate {
    /// A release about which nothing is known but its version.
    pub fn new(version: impl Into<String>) -> Self {
        Self { version: version.into(), ..Self::default() }
    }

    /// What the release's content is known by: its commit, else the digest of its source.
    pub fn identity(&self) -> Option<&str> {
        self.commit.as_deref().or(self.digest.as_deref())
    }

    /// Marks the candidate as republished unless it is what `seen` says of it.
    pub(crate) fn compare(&mut self, seen: &str) {
        let Some(found) = self.identity() else { return };
        if found != seen && self.tag_object.as_deref() != Some(seen) {
            self.republished = Some(format!("republished: it was `{seen}` and is `{found}` now"));
        }
    }
}

/// Replaces every match of a regular expression; the replacement may name groups as `${1}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transform {
    /// Regular expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Replacement.
    pub replace: String,
}

/// The rules of a definition's `update:` block, those of its provider included. Applied in this
/// order: filters, stripping, ignore patterns, separator, pre-release check, transforms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Rules {
    /// Take only tags that start with this.
    pub filter_prefix: Option<String>,
    /// Take only tags that contain this.
    pub filter_contains: Option<String>,
    /// Removed from the front of a tag that has it.
    pub strip_prefix: Option<String>,
    /// Removed from the end of a tag that has it.
    pub strip_suffix: Option<String>,
    /// Pass over versions in which one of these regular expressions matches.
    pub ignore_regex_patterns: Vec<String>,
    /// Replaced by `.` wherever it stands.
    pub version_separator: Option<String>,
    /// Applied one after the other.
    pub version_transform: Vec<Transform>,
    /// Take pre-releases too; so are they where the current version is one.
    pub enable_prerelease_tags: bool,
    /// Take the lowest version above the current one, so that none is left out.
    pub require_sequential: bool,
}

/// What came of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is the one to build.
    Taken,
    /// It is the version that the definition has.
    Current,
    /// It is not to be built.
    PassedOver,
    /// It has become another than it was; not to be built until a person accepts it.
    Republished,
}

/// One candidate and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The version after the rules, or the candidate's own words if a rule dropped it.
    pub version: String,
    /// The candidate's own words where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Its commit or the digest of its source, where the ecosystem states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// How the ecosystem names the release where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Where it was found when there are several places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Considered {
    /// The version in the upstream project's words.
    pub fn upstream(&self) -> &str {
        self.upstream.as_deref().unwrap_or(&self.version)
    }
}

/// The release to build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Package version after the rules, without a revision.
    pub version: String,
    /// The version in the upstream project's words, as a package URL or tag names it.
    pub upstream: String,
    /// How the ecosystem names the release where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Git commit that the release was made of, in hexadecimal, where the ecosystem states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// The answer to "is there something newer?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The version to build; `None` when nothing is newer than the current one.
    pub chosen: Option<Chosen>,
    /// Every candidate, newest first, those that aren't versions last.
    pub considered: Vec<Considered>,
}

/// The rules, ready to use.
struct Compiled<'a> {
    rules: &'a Rules,
    ignored: Vec<Regex>,
    transforms: Vec<(Regex, String)>,
    takes_prereleases: bool,
}

/// Chooses among `candidates` by `rules`. Nothing that isn't newer than `current`, a package
/// version without revision, is ever chosen. Of candidates with the same version the first given
/// counts.
///
/// # Errors
/// A regular expression that doesn't compile, or a `current` that is no version.
pub fn choose(candidates: &[Candidate], rules: &Rules, current: Option<&str>) -> Result<Decision> {
    // Whoever has a pre-release follows the project by its pre-releases.
    let takes_prereleases = rules.enable_prerelease_tags || current.is_some_and(|text| prerelease_word(text).is_some());
    let compiled = Compiled::new(rules, takes_prereleases)?;
    let current = current.map(parse_current).transpose()?;
    let mut versions: Vec<(Version, &Candidate)> = Vec::new();
    let mut dropped = Vec::new();
    for candidate in candidates {
        match compiled.version(candidate) {
            Ok(version) => match refused(&version, candidate, current.as_ref()) {
                None => versions.push((version, candidate)),
                Some((verdict, reason)) => dropped.push(considered(version.to_string(), candidate, verdict, reason)),
            },
            Err((version, reason)) => {
                dropped.push(considered(version, candidate, Verdict::PassedOver, reason));
            }
        }
    }
    // A stable sort, so that equal versions keep the order in which they were given.
    versions
        .sort_by(|(left, a), (right, b)| (Reverse(a.epoch), Reverse(left)).cmp(&(Reverse(b.epoch), Reverse(right))));
    let is_newer = |version: &Version| current.as_ref().is_none_or(|current| version > current);
    let mut newer = versions.iter().enumerate().filter(|(_, (version, _))| is_newer(version));
    let taken = if rules.require_sequential && current.is_some() {
        let lowest = newer.next_back().map(|(_, (version, _))| version);
        lowest.and_then(|lowest| versions.iter().position(|(version, _)| version == lowest))
    } else {
        newer.next().map(|(at, _)| at)
    };
    let taken_version = taken.and_then(|at| versions.get(at)).map(|(version, _)| version);
    let mut list = Vec::with_capacity(candidates.len());
    for (at, (version, candidate)) in versions.iter().enumerate() {
        let (verdict, reason) = if Some(at) == taken {
            let reason = match (&current, rules.require_sequential) {
                (None, _) => "the newest release".to_owned(),
                (Some(current), false) => format!("the newest release, above `{current}`"),
                (Some(current), true) => format!("the next release above `{current}`"),
            };
            (Verdict::Taken, reason)
        } else if taken_version == Some(version) {
            (Verdict::PassedOver, "the same version as the one taken".to_owned())
        } else if current.as_ref() == Some(version) {
            (Verdict::Current, "the version that is built already".to_owned())
        } else if let Some(current) = current.as_ref().filter(|current| version < *current) {
            (Verdict::PassedOver, format!("older than `{current}`"))
        } else {
            match taken_version {
                Some(taken) if version < taken => (Verdict::PassedOver, format!("older than `{taken}`")),
                Some(taken) => (Verdict::PassedOver, format!("its turn is after `{taken}`")),
                None => (Verdict::PassedOver, "not newer".to_owned()),
            }
        };
        list.push(considered(version.to_string(), candidate, verdict, reason));
    }
    list.append(&mut dropped);
    let chosen = taken.and_then(|at| versions.get(at)).map(|(version, candidate)| Chosen {
        version: version.to_string(),
        upstream: candidate.version.clone(),
        label: candidate.label.clone(),
        commit: candidate.commit.clone(),
    });
    Ok(Decision { chosen, considered: list })
}

fn parse_current(text: &str) -> Result<Version> {
    text.parse()
        .map_err(|error: apk::InvalidVersion| Error::Version { text: text.to_owned(), reason: error.to_string() })
}

fn considered(version: String, candidate: &Candidate, verdict: Verdict, reason: String) -> Considered {
    Considered {
        upstream: (candidate.version != version).then(|| candidate.version.clone()),
        identity: candidate.identity().map(str::to_owned),
        label: candidate.label.clone(),
        place: candidate.place.clone(),
        version,
        verdict,
        reason,
    }
}

/// Why a candidate that is a version is not to be built, if so.
fn refused(version: &Version, candidate: &Candidate, current: Option<&Version>) -> Option<(Verdict, String)> {
    if let Some(reason) = &candidate.republished {
        return Some((Verdict::Republished, reason.clone()));
    }
    let current = current.filter(|current| version > *current)?;
    let (new, old) = (version.to_string(), current.to_string());
    (starts_with_date(&new) && !starts_with_date(&old))
        .then(|| (Verdict::PassedOver, format!("a date, which `{old}` is not")))
}

/// Whether the first number is a year, or a date or time without separators.
fn starts_with_date(version: &str) -> bool {
    let digits = version.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u32>().ok();
    let within = |number: Option<u32>, low: u32, high: u32| number.is_some_and(|number| (low..=high).contains(&number));
    let is_day = || within(number(4..6), 1, 12) && within(number(6..8), 1, 31);
    let is_year = within(number(0..4), 1980, 2099);
    match digits.len() {
        4 => is_year,
        6 => is_year && within(number(4..6), 1, 12),
        8 | 12 | 14 => is_year && is_day(),
        // Seconds since 1970, since 2001.
        10 => digits.starts_with('1'),
        _ => false,
    }
}

impl<'a> Compiled<'a> {
    fn new(rules: &'a Rules, takes_prereleases: bool) -> Result<Self> {
        let compile = |rule: &'static str, text: &str| {
            pattern::compile(text).map_err(|error| Error::Rule {
                rule,
                text: text.to_owned(),
                reason: error.to_string(),
            })
        };
        let ignored = rules
            .ignore_regex_patterns
            .iter()
            .map(|pattern| compile("ignore-regex-patterns", pattern))
            .collect::<Result<_>>()?;
        let transforms = rules
            .version_transform
            .iter()
            .map(|transform| {
                let regex = compile("version-transform", &transform.pattern)?;
                let replacement = pattern::replacement(&transform.replace, &regex);
                Ok((regex, replacement))
            })
            .collect::<Result<_>>()?;
        Ok(Self { rules, ignored, transforms, takes_prereleases })
    }

    /// The package version of a candidate, or the form it had when it was dropped and why.
    fn version(&self, candidate: &Candidate) -> Result<Version, (String, String)> {
        let rules = self.rules;
        let tag = candidate.version.as_str();
        let drop = |reason: String| Err((tag.to_owned(), reason));
        if let Some(reason) = &candidate.withdrawn {
            return drop(reason.clone());
        }
        if let Some(prefix) = rules.filter_prefix.as_deref().filter(|text| !tag.starts_with(text)) {
            return drop(format!("does not start with `{prefix}`"));
        }
        if let Some(part) = rules.filter_contains.as_deref().filter(|text| !tag.contains(text)) {
            return drop(format!("does not contain `{part}`"));
        }
        let mut text = tag;
        if let Some(prefix) = &rules.strip_prefix {
            text = text.strip_prefix(prefix.as_str()).unwrap_or(text);
        }
        if let Some(suffix) = &rules.strip_suffix {
            text = text.strip_suffix(suffix.as_str()).unwrap_or(text);
        }
        if let Some(pattern) = self.ignored.iter().find(|pattern| pattern.is_match(text)) {
            return drop(format!("ignored by the pattern `{pattern}`"));
        }
        let mut text = match rules.version_separator.as_deref().filter(|text| !text.is_empty()) {
            Some(separator) => text.replace(separator, "."),
            None => text.to_owned(),
        };
        if !self.takes_prereleases {
            if let Some(reason) = &candidate.prerelease {
                return drop(reason.clone());
            }
            if let Some(word) = prerelease_word(&text) {
                return drop(format!("a pre-release (`{word}`)"));
            }
        }
        for (pattern, replacement) in &self.transforms {
            text = pattern.replace_all(&text, replacement.as_str()).into_owned();
        }
        match text.parse::<Version>() {
            Ok(version) if version.revision().is_none() => Ok(version),
            Ok(_) => Err((text, "a package version may not bring its own revision".to_owned())),
            Err(_) => {
                let reason = format!("`{text}` is not a package version");
                Err((tag.to_owned(), reason))
            }
        }
    }
}

fn prerelease_word(version: &str) -> Option<&'static str> {
    let lower = version.to_ascii_lowercase();
    PRERELEASE_WORDS.into_iter().find(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let before = lower.get(..at).and_then(|before| before.chars().next_back());
            !before.is_some_and(char::is_alphabetic)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(versions: &[&str]) -> Vec<Candidate> {
        versions.iter().map(|version| Candidate::new(*version)).collect()
    }

    fn chosen(versions: &[&str], rules: &Rules, current: Option<&str>) -> Option<String> {
        choose(&candidates(versions), rules, current).unwrap().chosen.map(|chosen| chosen.version)
    }

    #[test]
    fn the_newest_release_is_taken_and_the_rest_explained() {
        let mut all = candidates(&["1.9", "1.10", "2.0-rc1", "1.2.3.4~x", "1.8"]);
        all.push(Candidate { withdrawn: Some("yanked".to_owned()), ..Candidate::new("3.0") });
        let decision = choose(&all, &Rules::default(), Some("1.9")).unwrap();
        assert_eq!(decision.chosen.unwrap().version, "1.10");
        let verdicts: Vec<_> =
            decision.considered.iter().map(|one| (one.version.as_str(), one.verdict, one.reason.as_str())).collect();
        assert_eq!(
            verdicts,
            [
                ("1.10", Verdict::Taken, "the newest release, above `1.9`"),
                ("1.9", Verdict::Current, "the version that is built already"),
                ("1.8", Verdict::PassedOver, "older than `1.9`"),
                ("2.0-rc1", Verdict::PassedOver, "a pre-release (`rc`)"),
                ("1.2.3.4~x", Verdict::PassedOver, "`1.2.3.4~x` is not a package version"),
                ("3.0", Verdict::PassedOver, "yanked"),
            ]
        );
    }

    #[test]
    fn a_downgrade_is_never_chosen() {
        assert_eq!(chosen(&["1.0", "1.1"], &Rules::default(), Some("1.1")), None);
        assert_eq!(chosen(&["1.0", "1.1"], &Rules::default(), Some("2.0")), None);
        let mut all = candidates(&["1.0"]);
        all[0].epoch = 7;
        assert_eq!(choose(&all, &Rules::default(), Some("2.0")).unwrap().chosen, None);
    }

    #[test]
    fn a_date_is_no_successor_of_a_version() {
        let versions = ["1.2.3", "1.3", "20240101", "2024.1", "202401011200", "1700000000", "19.1", "1950"];
        let decision = choose(&candidates(&versions), &Rules::default(), Some("1.2.3")).unwrap();
        assert_eq!(decision.chosen.unwrap().version, "1950");
        let dates: Vec<_> =
            decision.considered.iter().filter(|one| one.reason == "a date, which `1.2.3` is not").collect();
        assert_eq!(dates.len(), 4, "{:?}", decision.considered);
        assert_eq!(chosen(&versions, &Rules::default(), Some("20231231")).as_deref(), Some("202401011200"));
        assert_eq!(chosen(&["2024.1", "2025.2"], &Rules::default(), Some("2024.1")).as_deref(), Some("2025.2"));
    }

    #[test]
    fn a_republished_release_is_neither_built_nor_counted() {
        let mut all = candidates(&["v1.1", "v1.0"]);
        all[0].commit = Some("2".repeat(40));
        all[0].compare(&"1".repeat(40));
        all[1].commit = Some("2".repeat(40));
        all[1].tag_object = Some("3".repeat(40));
        all[1].compare(&"3".repeat(40));
        let rules = Rules { strip_prefix: Some("v".to_owned()), ..Rules::default() };
        let decision = choose(&all, &rules, Some("0.9")).unwrap();
        assert_eq!(decision.chosen.unwrap().version, "1.0");
        let republished = &decision.considered[1];
        assert_eq!((republished.verdict, republished.version.as_str()), (Verdict::Republished, "1.1"));
        assert_eq!(republished.upstream(), "v1.1");
        assert!(republished.reason.contains(&"1".repeat(40)), "{}", republished.reason);
    }

    #[test]
    fn a_higher_epoch_is_newer() {
        let mut all = candidates(&["2024.1", "1.0"]);
        all[1].epoch = 1;
        let decision = choose(&all, &Rules::default(), None).unwrap();
        assert_eq!(decision.chosen.unwrap().version, "1.0");
    }

    #[test]
    fn rules_apply_in_the_fields_order() {
        let rules = Rules {
            filter_prefix: Some("REL_".to_owned()),
            filter_contains: Some("_".to_owned()),
            strip_prefix: Some("REL_".to_owned()),
            strip_suffix: Some("-stable".to_owned()),
            ignore_regex_patterns: vec!["^9".to_owned()],
            version_separator: Some("_".to_owned()),
            version_transform: vec![Transform {
                pattern: r"^(\d+)\.(\d+)\.0$".to_owned(),
                replace: "${1}.${2}".to_owned(),
            }],
            ..Rules::default()
        };
        let tags = ["v3.0", "REL_2_4_0-stable", "REL_9_0", "REL_2_3_1"];
        let decision = choose(&candidates(&tags), &rules, None).unwrap();
        let chosen = decision.chosen.unwrap();
        assert_eq!((chosen.version.as_str(), chosen.upstream.as_str()), ("2.4", tags[1]));
        assert_eq!(decision.considered[2].reason, "does not start with `REL_`");
        assert_eq!(decision.considered[3].reason, "ignored by the pattern `^9`");
    }

    #[test]
    fn pre_releases_are_taken_only_when_enabled() {
        let rules = Rules {
            enable_prerelease_tags: true,
            version_transform: vec![Transform { pattern: "-rc".to_owned(), replace: "_rc".to_owned() }],
            ..Rules::default()
        };
        let tags = ["1.0", "1.1-rc2"];
        assert_eq!(chosen(&tags, &rules, None).as_deref(), Some("1.1_rc2"));
        assert_eq!(chosen(&tags, &Rules::default(), None).as_deref(), Some("1.0"));
    }

    #[test]
    fn a_project_whose_pre_release_is_built_is_followed_by_them() {
        let rules = Rules {
            strip_prefix: Some("v".to_owned()),
            version_transform: vec![Transform {
                pattern: r"^(\d+\.\d+\.\d+)-beta\.(\d+)$".to_owned(),
                replace: "$1_beta$2".to_owned(),
            }],
            ..Rules::default()
        };
        let tags = ["v1.0.0-beta.55", "v1.0.0-beta.56"];
        assert_eq!(chosen(&tags, &rules, Some("1.0.0_beta55")).as_deref(), Some("1.0.0_beta56"));
        assert_eq!(chosen(&tags, &rules, Some("0.9.0")), None);
    }

    #[test]
    fn sequential_updates_leave_none_out() {
        let rules = Rules { require_sequential: true, ..Rules::default() };
        let versions = ["1.0", "1.3", "1.2", "1.1", "1.1.0"];
        assert_eq!(chosen(&versions, &rules, Some("1.0")).as_deref(), Some("1.1"));
        assert_eq!(chosen(&versions, &rules, Some("1.3")), None);
    }

    #[test]
    fn a_bad_pattern_is_an_error_that_names_it() {
        let rules = Rules { ignore_regex_patterns: vec!["*ignore_me".to_owned()], ..Rules::default() };
        let error = choose(&candidates(&["1"]), &rules, None).unwrap_err().to_string();
        assert!(error.contains("ignore-regex-patterns") && error.contains("*ignore_me"), "{error}");
    }
}
