//! Which tags never move.

use regex::Regex;

use crate::{Error, Result, Tag, TagRule};

/// The tag of one build: its time to the minute, and the variant if it is one.
const TIMESTAMP: &str = r"^.+-[0-9]{12}(-.+)?$";

/// Which tags never move once they are there: those that one of the patterns matches.
#[derive(Debug, Clone, Default)]
pub struct ImmutableTags(Vec<Regex>);

impl ImmutableTags {
    /// Tags that match one of these regular expressions. They are not anchored: `^` and `$` say
    /// where the tag begins and ends.
    ///
    /// # Errors
    /// [`Error::TagPattern`].
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let compiled = patterns.into_iter().map(|pattern| {
            Regex::new(pattern)
                .map_err(|error| Error::TagPattern { pattern: pattern.to_owned(), reason: error.to_string() })
        });
        compiled.collect::<Result<_>>().map(Self)
    }

    /// No tag.
    pub fn none() -> Self {
        Self::default()
    }

    /// The tags that name one build, `8.2.1-202607010000` or `8.2.1-202607010000-dev`.
    ///
    /// # Errors
    /// As [`ImmutableTags::new`] (not known to happen).
    pub fn timestamps() -> Result<Self> {
        Self::new([TIMESTAMP])
    }

    /// What a push may do to a tag. Lists of referrers grow, so that their tags always move.
    pub fn rule(&self, tag: &Tag) -> TagRule {
        let is_immutable = !tag.is_of_referrers() && self.0.iter().any(|pattern| pattern.is_match(tag.as_str()));
        if is_immutable { TagRule::Immutable } else { TagRule::Move }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_one_build_do_not_move() {
        let rule = |tags: &ImmutableTags, tag: &str| tags.rule(&tag.parse().unwrap());
        let timestamps = ImmutableTags::timestamps().unwrap();
        for tag in ["8.2.1-202607010000", "8.2.1-202607010000-dev"] {
            assert_eq!(rule(&timestamps, tag), TagRule::Immutable, "{tag}");
        }
        for tag in ["8.2.1", "latest", "202607010000", "8-2026070100001", "8-202607010000x"] {
            assert_eq!(rule(&timestamps, tag), TagRule::Move, "{tag}");
        }
        assert_eq!(rule(&ImmutableTags::none(), "8.2.1-202607010000"), TagRule::Move);
        let all = ImmutableTags::new([""]).unwrap();
        assert_eq!(rule(&all, "x"), TagRule::Immutable);
        assert_eq!(all.rule(&Tag::of_referrers(sign::Digest::of(b""))), TagRule::Move);
        assert!(matches!(ImmutableTags::new(["("]), Err(Error::TagPattern { .. })));
    }
}
