use std::fmt;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Envelope, PortError};

/// The name of a document: a partition that is listed as one, and a sort key within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What is listed together, such as `package#zlib`.
    pub partition: String,
    /// The order within the partition, by bytes.
    pub sort: String,
}

impl Key {
    /// A key from its two parts.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.sort)
    }
}

/// A stored document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its name.
    pub key: Key,
    /// Raised by one with each write; the first is 1.
    pub revision: u64,
    /// Its content.
    pub value: serde_json::Value,
}

impl Document {
    /// The content as a type.
    ///
    /// # Errors
    /// [`PortError::Document`] when the content has another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PortError> {
        T::deserialize(&self.value).map_err(|source| PortError::Document { key: self.key.clone(), source })
    }
}

/// What must hold of a document for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It must not exist.
    Absent,
    /// It must be at this revision.
    Revision(u64),
    /// Anything goes: for documents whose every writer writes the same.
    Any,
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The document.
    pub key: Key,
    /// What must hold of it.
    pub condition: Condition,
    /// Its new content; `None` removes it.
    pub value: Option<serde_json::Value>,
}

/// Writes and messages that take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// Document writes, in order; at most 90, so that every adapter can keep them in one transaction.
    pub writes: Vec<Write>,
    /// Messages to send.
    pub messages: Vec<Envelope>,
}

impl Transaction {
    /// Adds a write of `value` under a condition.
    ///
    /// # Errors
    /// [`PortError::Document`] when the value has no JSON form.
    pub fn put(&mut self, key: Key, condition: Condition, value: &impl Serialize) -> Result<(), PortError> {
        let value = serde_json::to_value(value).map_err(|source| PortError::Document { key: key.clone(), source })?;
        self.writes.push(Write { key, condition, value: Some(value) });
        Ok(())
    }

    /// Adds a message.
    pub fn send(&mut self, message: Envelope) {
        self.messages.push(message);
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Documents in the order of their sort keys.
    pub documents: Vec<Document>,
    /// Where the next page starts: pass it as `after`. `None` on the last page.
    pub next: Option<String>,
}

/// The factory's memory: documents with conditional writes.
#[async_trait]
pub trait State: Send + Sync {
    /// A document, or `None`.
    async fn get(&self, key: &Key) -> Result<Option<Document>, PortError>;

    /// Documents of a partition whose sort key starts with `prefix`, after the sort key `after`.
    async fn list(&self, partition: &str, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, PortError>;

    /// Applies all writes and sends all messages, or does nothing.
    ///
    /// # Errors
    /// [`PortError::Conflict`] when a condition does not hold.
    async fn commit(&self, transaction: Transaction) -> Result<(), PortError>;

    /// All documents of each partition, one list per partition, but those with the sort keys `without`.
    async fn list_partitions(&self, partitions: &[String], without: &[&str]) -> Result<Vec<Vec<Document>>, PortError> {
        let mut lists = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let mut documents = self.list_all(partition, "").await?;
            documents.retain(|document| !without.contains(&document.key.sort.as_str()));
            lists.push(documents);
        }
        Ok(lists)
    }

    /// All documents of a partition whose sort key starts with `prefix`.
    async fn list_all(&self, partition: &str, prefix: &str) -> Result<Vec<Document>, PortError> {
        let mut documents = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.list(partition, prefix, after.as_deref(), 500).await?;
            documents.extend(page.documents);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(documents),
            }
        }
    }
}
