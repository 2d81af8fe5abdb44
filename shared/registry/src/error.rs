//! What can go wrong with registries.

use std::{io, path::PathBuf, time::Duration};

use sign::Digest;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with registries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A repository name, tag or reference that the distribution spec does not allow.
    #[error("`{text}` is not a {what}: {reason}")]
    Name {
        /// What it should have been.
        what: &'static str,
        /// The text as given, at most 300 characters of it.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A folder that is no OCI image layout, or a broken one.
    #[error("`{}` is not an OCI image layout: {reason}", path.display())]
    NotALayout {
        /// The folder or the file in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Stored or received content that does not have its digest any more.
    #[error("{what} is corrupt: expected {expected}, found {found}")]
    Corrupt {
        /// The file or address.
        what: String,
        /// The digest that it is kept under.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// Content shorter or longer than was said.
    #[error("{what} is {found} bytes long, expected {expected}")]
    Size {
        /// The content.
        what: String,
        /// The size that was said.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// Content over a limit.
    #[error("{what} is longer than the limit of {limit} bytes")]
    TooLarge {
        /// The content.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Bytes that are no manifest or index.
    #[error("invalid manifest: {reason}")]
    ManifestInvalid {
        /// What is wrong, with the field.
        reason: String,
    },
    /// A manifest that names content which the repository lacks.
    #[error("the manifest names content that `{repository}` does not have: {}; push that first", list(missing))]
    ContentMissing {
        /// The repository.
        repository: String,
        /// What is missing.
        missing: Vec<Digest>,
    },
    /// A repository lacks a manifest.
    #[error("`{repository}` has no manifest `{reference}`")]
    ManifestUnknown {
        /// The repository.
        repository: String,
        /// The tag or digest.
        reference: String,
    },
    /// A repository lacks a blob.
    #[error("`{repository}` has no blob {digest}")]
    BlobUnknown {
        /// The repository.
        repository: String,
        /// The digest.
        digest: Digest,
    },
    /// An immutable tag that stands for something else already.
    #[error("tag `{tag}` already is {found}, and it may not be moved to {wanted}")]
    TagConflict {
        /// The tag.
        tag: String,
        /// What it stands for.
        found: Digest,
        /// What it should have stood for.
        wanted: Digest,
    },
    /// A pattern for tags that is none.
    #[error("`{pattern}` is not a pattern for tags: {reason}")]
    TagPattern {
        /// The regular expression as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address that would carry credentials or images in the clear.
    #[error("`{url}` is not https; plain http is for loopback, or where `allow_http` is set")]
    Insecure {
        /// The address.
        url: String,
    },
    /// An address that can't be used.
    #[error("`{url}` is not the address of a registry: {reason}")]
    Endpoint {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A registry that can't be reached, or that broke off.
    #[error("{method} {url}: {}", sign::chain(source))]
    Http {
        /// The request's method.
        method: String,
        /// The request's address, without query.
        url: String,
        /// The reason.
        source: reqwest::Error,
    },
    /// A registry that answered with an error.
    #[error("{method} {url}: the registry answered {status}: {message}")]
    Status {
        /// The request's method.
        method: String,
        /// The request's address, without query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The error codes and messages in the answer, or the start of it.
        message: String,
        /// How long the registry asked to wait.
        retry_after: Option<Duration>,
    },
    /// A file of credentials that can't be used.
    #[error("credentials file `{}`: {reason}", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A program that keeps credentials did not give them.
    #[error("credential helper `{program}` for `{registry}`: {reason}")]
    CredentialHelper {
        /// The program.
        program: String,
        /// The registry asked for.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// A registry's provider could not be asked, or refused.
    #[error("{provider} `{action}`: {reason}")]
    Provider {
        /// The provider.
        provider: &'static str,
        /// The call.
        action: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// A registry's answer that breaks the distribution spec.
    #[error("{url}: the registry's answer is wrong: {reason}")]
    Answer {
        /// The request's address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A background task ended without a result.
    #[error("a background task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A signature or attestation is not good.
    #[error(transparent)]
    Sign(#[from] sign::Error),
    /// An image is not as its signatures and attestations say, or lacks them.
    #[error("{image} is not verified:\n  {}", problems.join("\n  "))]
    NotVerified {
        /// The image.
        image: String,
        /// What is missing or bad, one line each.
        problems: Vec<String>,
    },
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Io { path, action, source },
        }
    }

    pub(crate) fn manifest(reason: impl ToString) -> Self {
        Self::ManifestInvalid { reason: reason.to_string() }
    }
}
