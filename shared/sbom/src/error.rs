/// A document can't be written from what was given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The creation time is outside of what an SBOM can say.
    #[error("creation time {seconds} is not a time between the years 0 and 9999")]
    Created {
        /// The seconds since 1970-01-01 UTC that were given.
        seconds: i64,
    },
    /// A digest is not lowercase hexadecimal of the right length.
    #[error("`{value}` of {subject} is not a {algorithm} in lowercase hexadecimal")]
    Digest {
        /// What the digest is of.
        subject: String,
        /// `SHA1` or `SHA256`.
        algorithm: &'static str,
        /// The text that was given.
        value: String,
    },
    /// The `Q1...` checksum of a package can't be read.
    #[error("checksum `{checksum}` of package `{package}` is not `Q1` and the base64 of a SHA-1")]
    Checksum {
        /// The package.
        package: String,
        /// The text that was given.
        checksum: String,
    },
    /// The document inside a package is too large to be merged.
    #[error("the SBOM inside package `{package}` has {size} bytes, more than the limit of {limit}")]
    EmbeddedSize {
        /// The package.
        package: String,
        /// Its document's size in bytes.
        size: usize,
        /// The most that is read, in bytes.
        limit: usize,
    },
    /// The document inside a package is no SPDX 2 JSON.
    #[error("the SBOM inside package `{package}` can't be read: {reason}")]
    Embedded {
        /// The package.
        package: String,
        /// What is wrong, with line and column when the JSON is malformed.
        reason: String,
    },
    /// The document can't be written as JSON.
    #[error("the SBOM can't be written as JSON")]
    Json(#[source] serde_json::Error),
}
