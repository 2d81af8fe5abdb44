//! What can go wrong around a suite, with the facts of it. A failed check is no error.

use std::path::{Path, PathBuf};

/// Why a suite could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A suite's file is not of its format.
    #[error("{file}:{line}:{column}: {message}")]
    Document {
        /// The file, as the caller named it.
        file: String,
        /// Line, from 1; 0 when there is no place.
        line: u64,
        /// Column, from 1; 0 when there is no place.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// A blob of the image cannot be read.
    #[error("cannot read the blob `{digest}`: {source}")]
    Blob {
        /// The blob.
        digest: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A blob's bytes are not those of its digest.
    #[error("the {what} `{expected}` has the digest `{found}`")]
    Digest {
        /// `blob` or `uncompressed layer`.
        what: &'static str,
        /// What the image says.
        expected: String,
        /// What the bytes give.
        found: String,
    },
    /// A blob is not as large as its descriptor says.
    #[error("the blob `{digest}` has {found} bytes, its descriptor says {expected}")]
    Size {
        /// The blob.
        digest: String,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What it has, in bytes.
        found: u64,
    },
    /// A manifest or configuration is not of its format.
    #[error("the blob `{digest}` is no image {what}: {message}")]
    Format {
        /// The blob.
        digest: String,
        /// `manifest` or `configuration`.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A layer holds something that can't be unpacked.
    #[error("layer `{layer}`, entry `{path}`: {message}")]
    Layer {
        /// The layer's digest.
        layer: String,
        /// The entry's path, as the archive says it.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A file or folder of this machine could not be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Reports could not be written for another tool.
    #[error("cannot write the reports as {format}: {message}")]
    Written {
        /// `JUnit XML` or `SARIF`.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A container could not be handled.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::Io { action, path: path.to_path_buf(), source }
    }
}
