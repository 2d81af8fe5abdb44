use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::{Digest, PortError};

/// Content-addressed bytes. Storing the same bytes twice is free, and a blob never changes.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores bytes; they are durable when this returns.
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PortError>;

    /// Stores a file's content; the file itself is left in place.
    async fn put_file(&self, path: &Path) -> Result<Digest, PortError>;

    /// The bytes of a blob of at most `limit` bytes, checked against the digest.
    async fn get(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, PortError>;

    /// A local file with the blob's bytes, checked against the digest. The file is read-only to
    /// the caller.
    async fn file(&self, digest: Digest) -> Result<PathBuf, PortError>;

    /// Whether the blob is stored.
    async fn contains(&self, digest: Digest) -> Result<bool, PortError>;

    /// Removes a blob; one that is not there is removed already. The caller sees to it that nobody
    /// needs it.
    async fn remove(&self, digest: Digest) -> Result<(), PortError>;
}
