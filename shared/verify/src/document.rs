//! Reading the suites' YAML files: unknown keys, wrong types and wrong expressions are errors
//! with their place.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

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

/// What is wrong with a document as a whole.
pub(crate) fn wrong(file: &str, message: &str) -> Error {
    Error::Document { file: file.to_owned(), line: 1, column: 1, message: message.to_owned() }
}

/// A key without a value is as good as no key, as in Go's libraries.
pub(crate) fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Text that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(String);

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Err(D::Error::custom("it is empty; give it a value")) } else { Ok(Text(text)) }
    }
}

/// A program and its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Arguments(Vec<String>);

impl std::ops::Deref for Arguments {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let arguments = Vec::deserialize(deserializer)?;
        if arguments.is_empty() {
            return Err(D::Error::custom("the command is empty; name a program, or remove it"));
        }
        Ok(Arguments(arguments))
    }
}

/// A regular expression of a document, in Go's syntax.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    written: String,
    compiled: regex::bytes::Regex,
}

impl Expression {
    /// The error names the expression.
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        match pattern::compile_bytes(written) {
            Ok(compiled) => Ok(Expression { written: written.to_owned(), compiled }),
            Err(error) => Err(format!("`{written}` is no regular expression: {error}")),
        }
    }

    pub(crate) fn is_match(&self, bytes: &[u8]) -> bool {
        self.compiled.is_match(bytes)
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Expression::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
