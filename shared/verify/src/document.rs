//! Reading the suites' YAML files: unknown keys, wrong types and wrong expressions are errors
//! with their place.

use serde::de::DeserializeOwned;

use crate::Error;

const MAXIMUM_BYTES: usize = 1 << 20;

pub(crate) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Error> {
    let document = |line, column, message: String| Error::Document { file: file.to_owned(), line, column, message };
    if text.len() > MAXIMUM_BYTES {
        return Err(document(0, 0, format!("the file has {} bytes; at most {MAXIMUM_BYTES} are read", text.len())));
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let message = error.without_snippet().to_string();
        // The place is said once, in front.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        document(line, column, message.to_owned())
    })
}

/// A regular expression of a document. Those of container-structure-test are Go's, whose syntax
/// the `regex` crate shares but for a few escapes.
#[derive(Debug, Clone)]
pub(crate) struct Expression(pub(crate) regex::bytes::Regex);

impl<'de> serde::Deserialize<'de> for Expression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match regex::bytes::RegexBuilder::new(&text).size_limit(1 << 20).build() {
            Ok(expression) => Ok(Expression(expression)),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(serde::de::Error::custom(format!("`{text}` is no regular expression: {reason}")))
            }
        }
    }
}
