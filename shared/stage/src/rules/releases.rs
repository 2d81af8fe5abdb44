//! Releases that change after they were seen: a tag that was moved, a source that was replaced.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upstream::{Considered, Verdict};

/// How many of the newest releases are remembered per check.
const REMEMBERED: usize = 50;
/// How many are remembered at most, those that upstream no longer lists included.
const MOST: usize = 400;

/// What is remembered of a package's releases, by their names in the upstream project's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// The commit or digest that each had when it was first seen, or when a person accepted it.
    pub seen: BTreeMap<String, String>,
    /// Those that are another now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub republished: BTreeMap<String, Republished>,
}

/// A release that has become another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Republished {
    /// Package version.
    pub version: String,
    /// Commit or digest when it was first seen.
    pub was: String,
    /// Commit or digest now.
    pub now: String,
    /// When that was found.
    pub found: Timestamp,
}

impl Releases {
    /// Takes note of a check at `time`, whose watch knew what is seen. The answer is the releases
    /// that were found to be another just now, by name.
    pub fn note(&mut self, considered: &[Considered], time: Timestamp) -> Vec<(String, Republished)> {
        let mut news = Vec::new();
        let mut fresh = Vec::new();
        let named = considered.iter().filter_map(|one| Some((one, one.upstream(), one.identity.as_deref()?)));
        for (number, (one, name, identity)) in named.enumerate() {
            if one.verdict == Verdict::Republished {
                let known = self.republished.get(name);
                if known.is_none_or(|known| known.now != identity) {
                    let found = Republished {
                        version: one.version.clone(),
                        was: self.seen.get(name).cloned().unwrap_or_default(),
                        now: identity.to_owned(),
                        found: time,
                    };
                    self.republished.insert(name.to_owned(), found.clone());
                    news.push((name.to_owned(), found));
                }
            } else if number < REMEMBERED || self.seen.contains_key(name) {
                self.seen.insert(name.to_owned(), identity.to_owned());
                self.republished.remove(name);
                fresh.push(name);
            }
        }
        if self.seen.len() > MOST {
            let republished = &self.republished;
            self.seen.retain(|name, _| fresh.contains(&name.as_str()) || republished.contains_key(name));
        }
        news
    }

    /// Takes the release of a version, or of that name, as it is now. `None` when none of that
    /// version is another than it was.
    pub fn accept(&mut self, version: &str) -> Option<(String, Republished)> {
        let mut all = self.republished.iter();
        let name = all.find(|(name, one)| one.version == version || *name == version)?.0.clone();
        let republished = self.republished.remove(&name)?;
        self.seen.insert(name.clone(), republished.now.clone());
        Some((name, republished))
    }
}

#[cfg(test)]
mod tests {
    use upstream::{Candidate, Rules, choose};

    use super::*;

    fn considered(tag: &str, identity: &str, verdict: Verdict) -> Considered {
        let candidate = Candidate { commit: Some(identity.to_owned()), ..Candidate::new(tag) };
        let rules = Rules { strip_prefix: Some("v".to_owned()), ..Rules::default() };
        let mut considered = choose(&[candidate], &rules, None).unwrap().considered;
        Considered { verdict, ..considered.remove(0) }
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_release_that_changes_is_told_once_until_it_is_accepted() {
        let mut releases = Releases::default();
        assert_eq!(releases.note(&[considered("v1.0", "a", Verdict::Current)], time(1)), []);
        let changed = [considered("v1.0", "b", Verdict::Republished)];
        let news = releases.note(&changed, time(2));
        let expected = Republished { version: "1.0".into(), was: "a".into(), now: "b".into(), found: time(2) };
        assert_eq!(news, [("v1.0".to_owned(), expected)]);
        assert_eq!(releases.seen["v1.0"], "a");
        assert_eq!(releases.note(&changed, time(3)), []);
        assert_eq!(releases.note(&[considered("v1.0", "c", Verdict::Republished)], time(4)).len(), 1);
        assert_eq!(releases.accept("1.1"), None);
        assert_eq!(releases.accept("1.0").unwrap().1.now, "c");
        assert_eq!((releases.seen["v1.0"].as_str(), releases.republished.len()), ("c", 0));
    }

    #[test]
    fn a_release_that_is_what_it_was_again_is_no_longer_told() {
        let mut releases = Releases::default();
        releases.note(&[considered("v1.0", "a", Verdict::Current)], time(1));
        releases.note(&[considered("v1.0", "b", Verdict::Republished)], time(2));
        releases.note(&[considered("v1.0", "a", Verdict::Current)], time(3));
        assert_eq!(releases.republished.len(), 0);
        assert_eq!(releases.accept("1.0"), None);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut releases = Releases::default();
        let all: Vec<_> =
            (0..200).map(|number| considered(&format!("v1.{number}"), "a", Verdict::PassedOver)).collect();
        releases.note(&all, time(1));
        assert_eq!(releases.seen.len(), REMEMBERED);
        for generation in 2..12 {
            let all: Vec<_> = (0..50)
                .map(|number| considered(&format!("v{generation}.{number}"), "a", Verdict::PassedOver))
                .collect();
            releases.note(&all, time(generation));
        }
        assert!(releases.seen.len() <= MOST, "{}", releases.seen.len());
        assert!(releases.seen.contains_key("v11.0"));
    }
}
