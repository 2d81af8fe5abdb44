use glob::Pattern;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Patterns of names, any of which is enough; none at all fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Globs(Vec<Pattern>);

impl Globs {
    /// Patterns from their texts: `*` stands for any text, `?` for one character, `[ab]` for one of
    /// several.
    ///
    /// # Errors
    /// [`Error::Pattern`].
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Result<Self, Error> {
        let parse = |text: &T| {
            let text = text.as_ref();
            let wrong = |reason: String| Error::Pattern { pattern: text.chars().take(200).collect(), reason };
            if text.is_empty() || text.len() > 200 {
                return Err(wrong("it must have 1 to 200 characters".to_owned()));
            }
            Pattern::new(text).map_err(|error| wrong(error.msg.to_owned()))
        };
        Ok(Self(texts.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// Whether one of them fits, or there is none.
    pub fn fit(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(text))
    }

    /// The texts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Pattern::as_str)
    }
}

impl TryFrom<Vec<String>> for Globs {
    type Error = Error;

    fn try_from(texts: Vec<String>) -> Result<Self, Error> {
        Self::new(&texts)
    }
}

impl From<Globs> for Vec<String> {
    fn from(globs: Globs) -> Self {
        globs.texts().map(str::to_owned).collect()
    }
}

/// Which events an action is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Kinds, such as `image.*`.
    pub kinds: Globs,
    /// Names of packages and images, such as `redis`, or with a stream, such as `redis:8.*`.
    pub names: Globs,
}

impl Filter {
    /// Whether an event of this kind about this subject is told.
    pub fn fits(&self, kind: &str, subject: &str) -> bool {
        self.kinds.fit(kind) && (self.names.fit(subject) || self.names.fit(subject_name(subject)))
    }
}

/// The package or image of an event's subject, without what follows it (`redis:8.2`, `zlib 1.3`).
pub fn subject_name(subject: &str) -> &str {
    subject.split([':', ' ', '@', '=']).next().unwrap_or(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_names_are_filtered() {
        let filter = |kinds: &[&str], names: &[&str]| Filter {
            kinds: Globs::new(kinds).unwrap(),
            names: Globs::new(names).unwrap(),
        };
        assert!(filter(&[], &[]).fits("image.published", "redis:8.2"));
        assert!(filter(&["image.*"], &["redis"]).fits("image.published", "redis:8.2"));
        assert!(filter(&["a", "image.held"], &["redis:8.*"]).fits("image.held", "redis:8.2"));
        assert!(!filter(&["image.*"], &[]).fits("package.published", "redis"));
        assert!(!filter(&["image"], &[]).fits("image.published", "redis"));
        assert!(!filter(&[], &["redis"]).fits("image.published", "redis-dev:8.2"));
        assert!(!filter(&[], &["redis:7.*"]).fits("image.published", "redis:8.2"));
        assert!(filter(&[], &["zlib"]).fits("upstream.accepted", "zlib 1.3"));
    }

    #[test]
    fn bad_patterns_are_named() {
        let long = "a".repeat(201);
        for bad in ["", "a***", "[", &long] {
            assert!(matches!(Globs::new(&[bad]), Err(Error::Pattern { .. })), "{bad}");
        }
        assert!(serde_json::from_str::<Globs>(r#"["["]"#).is_err());
    }
}
