//! What can be wrong before anything is signed or verified.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong before anything is signed or verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that would carry the token in the clear, or is none.
    #[error("`{url}` is not the address of a {service}: {reason}")]
    Endpoint {
        /// The service.
        service: &'static str,
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
    /// The token that proves the identity can't be had.
    #[error("no identity token: {reason}")]
    Token {
        /// What is wrong, with the file or variable.
        reason: String,
    },
    /// A trusted root that can't be used.
    #[error("trusted root `{}`: {reason}", path.display())]
    TrustedRoot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
