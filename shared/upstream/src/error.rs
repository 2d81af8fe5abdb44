//! The crate's error type.

use std::path::{Path, PathBuf};

use crate::rate_limit::Lifted;

/// What went wrong while watching or fetching upstream software.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No registry endpoint is configured and none could be taken from the standard client.
    #[error("no {ecosystem} endpoint: {reason}; set `{setting}` under `[endpoints]` in mill.toml, or `{variable}`")]
    Endpoint {
        /// Name of the ecosystem, for example `debian`.
        ecosystem: &'static str,
        /// Why discovery failed.
        reason: String,
        /// Key under `[endpoints]` that names it.
        setting: &'static str,
        /// Environment variable that names it.
        variable: &'static str,
    },
    /// A value in a configuration file or variable can't be used.
    #[error("{origin}: {reason}")]
    Configuration {
        /// File, key or variable.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A request failed after every attempt.
    #[error("{url}: {reason} (after {attempts} attempts)")]
    Request {
        /// Address asked.
        url: String,
        /// Attempts made.
        attempts: u32,
        /// The last failure, with its causes.
        reason: String,
    },
    /// The server answered with a status that isn't success.
    #[error("{url}: server answered {status} (after {attempts} attempts)")]
    Status {
        /// Address asked.
        url: String,
        /// HTTP status code.
        status: u16,
        /// Attempts made.
        attempts: u32,
    },
    /// The server answers no more for now.
    #[error("{url}: rate limit reached; ask again {lifted}, or with a token under `[endpoints]`")]
    RateLimited {
        /// Address asked.
        url: String,
        /// When it answers again.
        lifted: Lifted,
    },
    /// The server's host could not be reached a moment ago, so it was not asked.
    #[error("{url}: not asked, because its host gave no answer before: {reason}")]
    Unreachable {
        /// Address that would have been asked.
        url: String,
        /// The failure that showed it.
        reason: String,
    },
    /// The server wants credentials.
    #[error("{url}: the server wants credentials: `{challenge}`")]
    Unauthorized {
        /// Address asked.
        url: String,
        /// Its `WWW-Authenticate` header.
        challenge: String,
    },
    /// A list of releases can't be read.
    #[error("{url}: {reason}")]
    Listing {
        /// Address of the list.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The `git` command could not list a repository's tags.
    #[error("{url}: {reason}")]
    Git {
        /// Address of the repository.
        url: String,
        /// What git said, or why it could not be asked.
        reason: String,
    },
    /// A tag or branch does not lead to the commit that a definition expects.
    #[error("{url}: {reference} is at commit `{found}`, but `expected-commit` is `{expected}`: {advice}")]
    GitCommit {
        /// Address of the repository.
        url: String,
        /// Tag or branch.
        reference: String,
        /// The commit that is expected.
        expected: String,
        /// The commit that the server gave.
        found: String,
        /// What may have happened.
        advice: &'static str,
    },
    /// What a repository holds can't be the source that a definition asks for.
    #[error("{url}: {reason}")]
    GitTree {
        /// Address of the repository.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A list of releases has none at all.
    #[error("`{subject}` lists no releases; {advice}")]
    NoReleases {
        /// What is watched.
        subject: String,
        /// What to do.
        advice: &'static str,
    },
    /// A response passed its size limit and was cut off.
    #[error("{url}: response is longer than the limit of {limit} bytes")]
    TooLarge {
        /// Address asked.
        url: String,
        /// Limit in bytes.
        limit: u64,
    },
    /// Offline mode, and the cache doesn't hold it.
    #[error("{url}: not in the cache, and offline mode forbids asking for it")]
    Offline {
        /// Address that would have been asked.
        url: String,
    },
    /// A file operation failed.
    #[error("can't {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The text isn't a source that Minimill can fetch.
    #[error("`{text}` is not a source: {reason}")]
    Source {
        /// Text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No provider watches or fetches this subject.
    #[error("`{subject}`: {reason}")]
    Unsupported {
        /// Package URL or address.
        subject: String,
        /// What is unsupported, and what to do.
        reason: String,
    },
    /// A keyring file can't be used.
    #[error("keyring `{}`: {reason}", path.display())]
    Keyring {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A document that must be signed carries no readable OpenPGP clear signature.
    #[error("{url}: not signed: {reason}")]
    Unsigned {
        /// Address of the document.
        url: String,
        /// What was found instead.
        reason: String,
        /// Where the bytes lie that were refused, until whoever keeps evidence takes them away.
        kept: Option<PathBuf>,
    },
    /// No signature on a document is valid by a key of the keyring.
    #[error("{url}: no valid signature by a key of the keyring: {}", reasons.join("; "))]
    Signature {
        /// Address of the document.
        url: String,
        /// For each signature, why it doesn't count.
        reasons: Vec<String>,
        /// Where the bytes lie that were refused, until whoever keeps evidence takes them away.
        kept: Option<PathBuf>,
    },
    /// A signed release file lacks a field or holds a bad one.
    #[error("{url}: {reason}")]
    Release {
        /// Address of the release file.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A release file's `Valid-Until` has passed.
    #[error(
        "{url}: expired: valid until {valid_until}, now {now}; the mirror is out of date, or an old release file is replayed"
    )]
    Expired {
        /// Address of the release file.
        url: String,
        /// Its `Valid-Until`.
        valid_until: jiff::Timestamp,
        /// The time of the check.
        now: jiff::Timestamp,
    },
    /// Bytes don't have the digest that they must have.
    #[error("{what}: {algorithm} mismatch: expected {expected}, found {found}")]
    Digest {
        /// Address or file name.
        what: String,
        /// `sha256` or `sha512`.
        algorithm: &'static str,
        /// Expected digest, lower-case hexadecimal.
        expected: String,
        /// Found digest, lower-case hexadecimal.
        found: String,
        /// Where the bytes lie that were refused, where there were any, until whoever keeps evidence takes them away.
        kept: Option<PathBuf>,
    },
    /// A file can't be proved by what its registry states of it, or is proved to be another.
    #[error("{what}: not proved: {reason}")]
    Unproved {
        /// File or package version.
        what: String,
        /// What is missing or wrong.
        reason: String,
        /// Where what states it lies, until whoever keeps evidence takes them away.
        kept: Option<PathBuf>,
    },
    /// Bytes don't have the length that the signed index states.
    #[error("{what}: size mismatch: expected {expected} bytes, found {found}")]
    Size {
        /// Address or file name.
        what: String,
        /// Expected length in bytes.
        expected: u64,
        /// Found length in bytes.
        found: u64,
        /// Where the bytes lie that were refused, until whoever keeps evidence takes them away.
        kept: Option<PathBuf>,
    },
    /// A package index can't be read.
    #[error("{url}: line {line}: {reason}")]
    Index {
        /// Address or path of the index.
        url: String,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The package isn't in the index.
    #[error("no package `{package}` in {place}")]
    UnknownPackage {
        /// Package name.
        package: String,
        /// Index, suite or suites searched.
        place: String,
    },
    /// The package is in the index, the version isn't.
    #[error("`{package}` has no version `{version}` in {place}; it has {}", available.join(", "))]
    UnknownVersion {
        /// Package name.
        package: String,
        /// Version asked for.
        version: String,
        /// Index, suite or suites searched.
        place: String,
        /// Versions that are there.
        available: Vec<String>,
    },
    /// A plain address was named without the digest that would prove its bytes.
    #[error("`{url}` has no `expected-sha256` or `expected-sha512`; a plain address is fetched only with one")]
    NoDigest {
        /// Address.
        url: String,
    },
    /// A text isn't a version in the form that its ecosystem demands.
    #[error("`{text}` is not a version: {reason}")]
    Version {
        /// Text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule of an `update:` block can't be used.
    #[error("update rule `{rule}`: `{text}`: {reason}")]
    Rule {
        /// Key in the block.
        rule: &'static str,
        /// Its value.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A source archive can't be read.
    #[error("`{}`: {reason}", path.display())]
    Archive {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether what was fetched is another than was stated or signed, or its chain of proof is
    /// broken; not that it can't be had, or was asked for wrongly.
    pub fn is_unauthentic(&self) -> bool {
        matches!(
            self,
            Self::Digest { .. }
                | Self::Size { .. }
                | Self::GitCommit { .. }
                | Self::Unproved { .. }
                | Self::Unsigned { .. }
                | Self::Signature { .. }
                | Self::Release { .. }
                | Self::Expired { .. }
                | Self::TooLarge { .. }
        )
    }

    /// The file that was refused, or that states what can't be proved, where it was kept: what it was
    /// fetched as, and its place.
    pub fn kept(&self) -> Option<(&str, &Path)> {
        match self {
            Self::Digest { what, kept, .. } | Self::Size { what, kept, .. } | Self::Unproved { what, kept, .. } => {
                Some((what, kept.as_deref()?))
            }
            Self::Unsigned { url, kept, .. } | Self::Signature { url, kept, .. } => Some((url, kept.as_deref()?)),
            _ => None,
        }
    }

    /// The same error, with the place of the file that was refused.
    pub(crate) fn keeping(mut self, path: PathBuf) -> Self {
        match &mut self {
            Self::Digest { kept, .. }
            | Self::Size { kept, .. }
            | Self::Unproved { kept, .. }
            | Self::Unsigned { kept, .. }
            | Self::Signature { kept, .. } => *kept = Some(path),
            _ => {}
        }
        self
    }

    /// The error of a request that several callers shared, for one of them.
    pub(crate) fn shared(&self) -> Self {
        match self {
            Self::RateLimited { url, lifted } => Self::RateLimited { url: url.clone(), lifted: *lifted },
            Self::Unreachable { url, reason } => Self::Unreachable { url: url.clone(), reason: reason.clone() },
            Self::Status { url, status, attempts } => {
                Self::Status { url: url.clone(), status: *status, attempts: *attempts }
            }
            Self::Request { url, attempts, reason } => {
                Self::Request { url: url.clone(), attempts: *attempts, reason: reason.clone() }
            }
            other => Self::Listing { url: "a request that was shared".to_owned(), reason: other.to_string() },
        }
    }

    /// Gives a closure that turns an I/O error into [`Error::Io`].
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<debian_version::InvalidVersion> for Error {
    fn from(invalid: debian_version::InvalidVersion) -> Self {
        Self::Version { text: invalid.text, reason: invalid.reason.to_owned() }
    }
}
