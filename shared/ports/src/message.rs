use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Digest, PortError};

/// A message on its way to a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Follows from `stage`, `version` and `body`, so that sending twice is sending once.
    pub id: Digest,
    /// The stage that handles it, such as `package-build`.
    pub stage: String,
    /// Version of the message's shape.
    pub version: u32,
    /// The message.
    pub body: serde_json::Value,
}

impl Envelope {
    /// Wraps a message; the id is the digest of its content.
    pub fn new(stage: &str, version: u32, body: serde_json::Value) -> Self {
        let content = serde_json::json!({ "stage": stage, "version": version, "body": body });
        Self { id: Digest::of(content.to_string().as_bytes()), stage: stage.to_owned(), version, body }
    }
}

/// A message handed out under a lease.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub envelope: Envelope,
    /// How often it has been handed out, this time included.
    pub attempt: u32,
    /// Names this lease: an answer with an older receipt has no effect.
    pub receipt: String,
}

/// What to do with a message that was not handled.
#[derive(Clone, Debug)]
pub enum Release {
    /// Hand it out again after a delay.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Why it failed.
        reason: String,
    },
    /// Put it aside with the reason: it is not handed out again.
    Dead {
        /// Why it can't be handled.
        reason: String,
    },
}

/// At-least-once delivery under leases. Messages are sent through [`crate::State::commit`].
#[async_trait]
pub trait Queue: Send + Sync {
    /// Takes the oldest message that may be handed out now, and leases it.
    async fn receive(&self, lease: Duration) -> Result<Option<Delivery>, PortError>;

    /// Ends a delivery: the message is done.
    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), PortError>;

    /// Ends a delivery without success.
    async fn release(&self, delivery: &Delivery, release: Release) -> Result<(), PortError>;

    /// Messages that wait, are leased, or are due later; dead ones do not count.
    async fn pending(&self) -> Result<u64, PortError>;

    /// Messages put aside, with their reasons.
    async fn dead(&self) -> Result<Vec<(Envelope, String)>, PortError>;
}
