//! The crate's error type.

/// Why something is not proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pinned key can't be used.
    #[error("key `{origin}`: {reason}")]
    Key {
        /// File or field that holds it.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A signature, checksum file or attestation doesn't have its format.
    #[error("not a {format}: {reason}")]
    Malformed {
        /// What it should be.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is larger than its format allows here.
    #[error("the {what} is longer than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// No signature is valid by a pinned key.
    #[error("no valid {format} by a pinned key: {}", reasons.join("; "))]
    Signature {
        /// The kind of signature.
        format: &'static str,
        /// For each signature, why it doesn't count.
        reasons: Vec<String>,
    },
    /// A checksum file says nothing of the file.
    #[error("the checksum file does not list `{file}`; it lists {listed} files")]
    NotListed {
        /// Name that was looked for.
        file: String,
        /// Files that it lists.
        listed: usize,
    },
    /// A checksum file lists the file by a digest that proves nothing.
    #[error(
        "the checksum file lists `{file}` only by {algorithm}, which is too weak; SHA-256, SHA-384 or SHA-512 is needed"
    )]
    WeakDigest {
        /// Name of the file.
        file: String,
        /// The algorithm.
        algorithm: &'static str,
    },
    /// Bytes don't have the digest that they must have.
    #[error("{what}: {algorithm} mismatch: expected {expected}, found {found}")]
    Digest {
        /// Name of the file or object.
        what: String,
        /// The algorithm.
        algorithm: &'static str,
        /// Expected digest, lower-case hexadecimal.
        expected: String,
        /// Found digest, lower-case hexadecimal.
        found: String,
    },
    /// A git object is forged: two contents of one SHA-1 were made from it.
    #[error("git object {id} is part of a SHA-1 collision; its id proves nothing")]
    Collision {
        /// The object's id.
        id: String,
    },
    /// A git object carries no signature.
    #[error("git {kind} {id} is not signed")]
    NotSigned {
        /// `tag` or `commit`.
        kind: &'static str,
        /// The object's id.
        id: String,
    },
    /// A signed tag names something else.
    #[error("git {kind}: {field} is `{found}`, expected `{expected}`")]
    GitTarget {
        /// `tag` or `commit`.
        kind: &'static str,
        /// What differs.
        field: &'static str,
        /// What was asked for.
        expected: String,
        /// What the object says.
        found: String,
    },
    /// A certificate was issued to somebody else.
    #[error("signed by another publisher: {field} is `{found}`, expected `{expected}`")]
    Publisher {
        /// The certificate's field.
        field: &'static str,
        /// What the policy wants.
        expected: String,
        /// What the certificate says; empty when it says nothing.
        found: String,
    },
    /// A sigstore bundle or attestation doesn't verify.
    #[error("sigstore: {0}")]
    Sigstore(String),
    /// The bytes to prove can't be read.
    #[error("can't read what is to be proved: {0}")]
    Read(#[from] std::io::Error),
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn malformed(format: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { format, reason: reason.to_string() }
    }

    pub(crate) fn key(origin: &str, reason: impl ToString) -> Self {
        Self::Key { origin: origin.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn signature(format: &'static str, reason: impl ToString) -> Self {
        Self::Signature { format, reasons: vec![reason.to_string()] }
    }
}
