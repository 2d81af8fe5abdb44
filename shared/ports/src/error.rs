use std::path::PathBuf;

use crate::{Digest, Key};

/// What goes wrong at a port. Callers act on three kinds: a conflict (read again and decide), a
/// missing thing, and an environment that does not work (retried by the queue).
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another writer came first: the condition on `key` does not hold.
    #[error("`{key}` was changed by another writer: expected {expected}, found {found}")]
    Conflict {
        /// The document whose condition failed.
        key: Key,
        /// What the writer expected.
        expected: String,
        /// What is stored.
        found: String,
    },
    /// No blob with this digest is stored.
    #[error("blob {0} is not stored")]
    NoBlob(Digest),
    /// A stored blob's bytes do not hash to its name.
    #[error("blob {expected} is damaged: its bytes hash to {found}; remove the file and build again")]
    Damaged {
        /// The digest that names the blob.
        expected: Digest,
        /// The digest of the bytes found.
        found: Digest,
    },
    /// A blob is larger than the caller allows.
    #[error("blob {digest} has {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A stored document does not decode.
    #[error("document `{key}` does not decode: {source}")]
    Document {
        /// The document.
        key: Key,
        /// What the decoder says.
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("{action} `{}`: {source}", path.display())]
    File {
        /// What was being done, such as `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("database `{}`: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A service answered with an error, after its client's own retries, or could not be reached.
    #[error("{service} `{action}`: {reason}")]
    Service {
        /// The service, such as `DynamoDB`.
        service: &'static str,
        /// The call, such as `GetItem`.
        action: &'static str,
        /// The error with its causes.
        reason: String,
    },
    /// Another process works in this home.
    #[error("another `mill` works in `{}`: wait for it or use another --home", path.display())]
    HomeBusy {
        /// The lock file.
        path: PathBuf,
    },
    /// A background task ended without an answer.
    #[error("a background task was ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}
