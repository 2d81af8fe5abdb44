//! What can be wrong with keys, signatures and attestations.

use std::{io, path::PathBuf};

use crate::Digest;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with keys, signatures and attestations.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key file, or its folder, could not be read or written.
    #[error("key file `{}`: cannot {action}: {source}", path.display())]
    KeyFile {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A private key file that others may read.
    #[error(
        "key file `{}` has mode {mode:04o}, so that others may use the key; make it 0600",
        path.display()
    )]
    KeyFileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file that holds no usable key.
    #[error("key file `{}`: {reason}", path.display())]
    KeyFileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The public key file beside a private key is of another key.
    #[error(
        "public key file `{}` does not belong to the private key beside it; \
         move it away and run again to have it written anew",
        path.display()
    )]
    PublicKeyMismatch {
        /// The public key file.
        path: PathBuf,
    },
    /// A text that is no public key of a supported kind.
    #[error("not a public key: {reason}; expected a PEM `PUBLIC KEY` of ECDSA P-256 or RSA")]
    PublicKey {
        /// What is wrong with it.
        reason: String,
    },
    /// A key could not be made.
    #[error("cannot generate a key: {reason}")]
    Generate {
        /// The reason.
        reason: String,
    },
    /// A signer could not sign.
    #[error("key `{key}` cannot sign: {reason}")]
    Sign {
        /// The key's name.
        key: String,
        /// The reason.
        reason: String,
    },
    /// Something is larger than allowed.
    #[error("{what} is {found} bytes long; at most {limit} are accepted")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
        /// The size found in bytes.
        found: usize,
    },
    /// A bundle, envelope, statement or payload does not have the form it should have.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What is malformed, with the field.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The bundle was signed with another key.
    #[error("signed with another key: the trusted key is `{expected}`, the bundle names `{found}`")]
    WrongKey {
        /// The id of the trusted key: base64 of the SHA-256 of the DER public key.
        expected: String,
        /// The key that the bundle names.
        found: String,
    },
    /// The bundle names the trusted key, but its signature does not match its content.
    #[error("the signature does not match the content under key `{key}`: one of them was changed")]
    BadSignature {
        /// The id of the trusted key.
        key: String,
    },
    /// None of the trusted keys made the signature.
    #[error("none of the {} trusted keys made the signature: {}", reasons.len(), reasons.join("; "))]
    NoTrustedKey {
        /// What is wrong with it under each key.
        reasons: Vec<String>,
    },
    /// A signature without a key whose certificate, identity or log entry is not good.
    #[error("the signer is not trusted: {reason}")]
    Identity {
        /// What is wrong.
        reason: String,
    },
    /// The signed statement is about something else.
    #[error("the statement is about {found}, expected {expected}")]
    WrongSubject {
        /// The digest that was asked for.
        expected: Digest,
        /// The subjects of the statement, comma separated.
        found: String,
    },
    /// The signed statement is of another type.
    #[error("the statement's predicate type is `{found}`, expected `{expected}`")]
    WrongPredicateType {
        /// The type that was asked for.
        expected: String,
        /// The type of the statement.
        found: String,
    },
}

impl Error {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}

/// An error with all its causes, in one line; a cause that the text has already is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
