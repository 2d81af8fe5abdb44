//! in-toto statements: a claim of some type about digests (attestation framework v1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, Error, Result};

/// The `_type` of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The most subjects that a statement may have.
const MAX_SUBJECTS: usize = 4096;

/// An in-toto Statement v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Always [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What the statement is about.
    pub subject: Vec<ResourceDescriptor>,
    /// The type of `predicate`, a URI; see [`crate::predicate`].
    pub predicate_type: String,
    /// The claim; an object.
    #[serde(default)]
    pub predicate: Value,
}

/// Names a thing, usually by digest (attestation framework v1, "ResourceDescriptor").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDescriptor {
    /// A name, meaningful to whoever wrote the statement.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A URI, for example a package URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Digests by algorithm: `sha256` to 64 hex digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// Where it was had from, if that is not `uri`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub download_location: String,
    /// Its media type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String, Value>,
}

impl ResourceDescriptor {
    /// A thing known by its digest alone.
    pub fn of(digest: Digest) -> Self {
        Self { digest: BTreeMap::from([("sha256".into(), digest.hex())]), ..Self::default() }
    }

    /// The same, with a name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same, with a URI.
    pub fn with_uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = uri.into();
        self
    }
}

impl Statement {
    /// A statement about one digest, as `cosign` makes them: the subject has no name.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the predicate is not a JSON object.
    pub fn new(subject: Digest, predicate_type: &str, predicate: &impl Serialize) -> Result<Self> {
        Self::about(vec![ResourceDescriptor::of(subject)], predicate_type, predicate)
    }

    /// A statement about several things, each with its digest.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the predicate is not a JSON object.
    pub fn about(subject: Vec<ResourceDescriptor>, predicate_type: &str, predicate: &impl Serialize) -> Result<Self> {
        let predicate = serde_json::to_value(predicate).map_err(|error| Error::malformed("predicate", error))?;
        if !predicate.is_object() {
            return Err(Error::malformed("predicate", "not a JSON object"));
        }
        Ok(Self { kind: STATEMENT_TYPE.to_owned(), subject, predicate_type: predicate_type.to_owned(), predicate })
    }

    /// Reads a statement and checks its form, not yet its subject and type.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let statement: Self = serde_json::from_slice(bytes).map_err(|error| Error::malformed("statement", error))?;
        if statement.kind != STATEMENT_TYPE {
            return Err(Error::malformed(
                "statement",
                format!("`_type` is `{}`, expected `{STATEMENT_TYPE}`", statement.kind),
            ));
        }
        if statement.subject.is_empty() || statement.subject.len() > MAX_SUBJECTS {
            return Err(Error::malformed(
                "statement",
                format!("{} in `subject`, expected 1 to {MAX_SUBJECTS}", statement.subject.len()),
            ));
        }
        Ok(statement)
    }

    /// The statement as compact JSON, the form that is signed.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it can't be written as JSON (not known to happen).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::malformed("statement", error))
    }

    /// Fails unless the statement is about `subject` and of type `predicate_type`.
    ///
    /// # Errors
    /// [`Error::WrongSubject`] or [`Error::WrongPredicateType`].
    pub fn expect(&self, subject: Digest, predicate_type: &str) -> Result<()> {
        let digests = || self.subject.iter().filter_map(|found| found.digest.get("sha256"));
        let wanted = subject.hex();
        if !digests().any(|found| *found == wanted) {
            let mut found: Vec<_> = digests().take(5).map(|found| format!("sha256:{found}")).collect();
            if found.is_empty() {
                found.push("nothing that has a sha256 digest".into());
            }
            return Err(Error::WrongSubject { expected: subject, found: found.join(", ") });
        }
        if self.predicate_type != predicate_type {
            return Err(Error::WrongPredicateType {
                expected: predicate_type.to_owned(),
                found: self.predicate_type.clone(),
            });
        }
        Ok(())
    }
}
