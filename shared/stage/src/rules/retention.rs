//! Which published digests need not be kept any longer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// What is kept beyond what tags need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The newest digests of each stream, this many.
    pub digests: usize,
    /// Digests published within this many days.
    pub days: u32,
}

/// A published digest.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// Its stream.
    pub stream: &'a str,
    /// When it was published.
    pub time: Timestamp,
    /// Who needs it: a tag other than its timestamp, a report of a current version, a mirror.
    pub needed: bool,
}

/// The positions in `published` of what may go: needed by nobody, older than the days, and not
/// among the newest of its stream.
pub fn removable(retention: Retention, published: &[Published<'_>], now: Timestamp) -> Vec<usize> {
    let mut newest: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for one in published {
        newest.entry(one.stream).or_default().push(one.time);
    }
    for times in newest.values_mut() {
        times.sort_by(|a, b| b.cmp(a));
        times.truncate(retention.digests);
    }
    let age = SignedDuration::from_hours(24 * i64::from(retention.days));
    let among_newest = |one: &Published<'_>| {
        newest.get(one.stream).and_then(|times| times.last()).is_some_and(|oldest| one.time >= *oldest)
    };
    published
        .iter()
        .enumerate()
        .filter(|(_, one)| !one.needed && now.duration_since(one.time) > age && !among_newest(one))
        .map(|(position, _)| position)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_goes_and_only_when_old_and_beyond_the_count() {
        let now: Timestamp = "2026-03-31T12:00:00Z".parse().unwrap();
        let day = |day: i64| now.checked_sub(SignedDuration::from_hours(24 * day)).unwrap();
        let published = [
            Published { stream: "1", time: day(40), needed: true },
            Published { stream: "1", time: day(39), needed: false },
            Published { stream: "1", time: day(30), needed: false },
            Published { stream: "1", time: day(8), needed: false },
            Published { stream: "1", time: day(2), needed: false },
            Published { stream: "1", time: day(1), needed: true },
            Published { stream: "2", time: day(300), needed: false },
        ];
        let removed = |digests, days| removable(Retention { digests, days }, &published, now);
        assert_eq!(removed(2, 7), [1, 2, 3]);
        assert_eq!(removed(2, 30), [1]);
        assert_eq!(removed(0, 7), [1, 2, 3, 6]);
        assert_eq!(removed(4, 0), [1]);
        assert_eq!(removed(100, 0), [0_usize; 0]);
    }
}
