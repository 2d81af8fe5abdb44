use std::fmt;
use std::io;
use std::path::Path;

/// Which of the concatenated gzip members of a package or index is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// Holds `.SIGN.*` entries and comes first.
    Signature,
    /// Holds `.PKGINFO` and the scripts.
    Control,
    /// Holds the files.
    Data,
    /// Holds `APKINDEX` and `DESCRIPTION`.
    Index,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "signature",
            Self::Control => "control",
            Self::Data => "data",
            Self::Index => "index",
        })
    }
}

/// Why a package, index, key or tree was refused. `file` is the name under which it was opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed for a reason outside the format.
    #[error("{what}: {source}")]
    Io {
        /// The file or stream.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file doesn't begin like an apk v2 package or index.
    #[error("{file}: not an apk v2 archive: {found}")]
    NotApk {
        /// The file.
        file: String,
        /// What it looks like instead.
        found: String,
    },
    /// A member's gzip or tar stream is damaged, truncated, or in the wrong place.
    #[error("{file}: {member} member: {problem}")]
    Damaged {
        /// The file.
        file: String,
        /// The member.
        member: Member,
        /// What is wrong with it.
        problem: String,
    },
    /// One entry of an archive breaks a rule.
    #[error("{file}: {member} member: entry `{entry}`: {problem}")]
    Entry {
        /// The file.
        file: String,
        /// The member that holds the entry.
        member: Member,
        /// The entry's path, control characters escaped.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something passes a bound of [`crate::limits`].
    #[error("{file}: {what} passes the limit of {limit}")]
    Limit {
        /// The file.
        file: String,
        /// What was counted, with its unit.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A digest differs from the one stated.
    #[error("{file}: {what}: expected {expected}, found {found}")]
    Digest {
        /// The file.
        file: String,
        /// What was hashed and how.
        what: String,
        /// The digest stated.
        expected: String,
        /// The digest of the bytes at hand.
        found: String,
    },
    /// Something that the format requires is absent.
    #[error("{file}: has no {what}")]
    Missing {
        /// The file.
        file: String,
        /// What is absent.
        what: String,
    },
    /// A line of `.PKGINFO`, `APKINDEX` or `installed` can't be read.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The text's name.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A value can't be written in the format.
    #[error("`{field}` can't be `{value}`: {problem}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value, control characters escaped.
        value: String,
        /// Why not.
        problem: &'static str,
    },
    /// Nothing signs the file.
    #[error("{file}: is not signed; sign it, or read it as unverified")]
    Unsigned {
        /// The file.
        file: String,
    },
    /// Only signatures of kinds that aren't verified (DSA, RSA512) are there.
    #[error("{file}: no usable signature: `{found}` is of a kind that isn't verified; sign with RSA256")]
    UnusableSignature {
        /// The file.
        file: String,
        /// The signature entries found.
        found: String,
    },
    /// The signing key isn't in the keyring.
    #[error("{file}: signed by `{key}`, which is not in the keyring ({known})")]
    UnknownKey {
        /// The file.
        file: String,
        /// The name of the key in the signature entry.
        key: String,
        /// The names of the keys at hand.
        known: String,
    },
    /// The key is known and its signature doesn't match the bytes.
    #[error("{file}: the {member} member does not match its signature by `{key}`")]
    BadSignature {
        /// The file.
        file: String,
        /// The member that is signed.
        member: Member,
        /// The key's name.
        key: String,
    },
    /// A key can't be used.
    #[error("key `{key}`: {problem}")]
    Key {
        /// The key's name.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something in a tree can't be packaged or scanned.
    #[error("{path}: {problem}")]
    Tree {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: impl fmt::Display, source: io::Error) -> Self {
        Self::Io { what: what.to_string(), source }
    }

    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::io(path.display(), source)
    }

    pub(crate) fn damaged(file: &str, member: Member, problem: impl fmt::Display) -> Self {
        Self::Damaged { file: file.to_owned(), member, problem: problem.to_string() }
    }

    pub(crate) fn limit(file: &str, what: impl fmt::Display, limit: u64) -> Self {
        Self::Limit { file: file.to_owned(), what: what.to_string(), limit }
    }

    pub(crate) fn missing(file: &str, what: impl fmt::Display) -> Self {
        Self::Missing { file: file.to_owned(), what: what.to_string() }
    }

    pub(crate) fn line(file: &str, line: usize, problem: impl fmt::Display) -> Self {
        Self::Line { file: file.to_owned(), line, problem: problem.to_string() }
    }

    pub(crate) fn tree(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Tree { path: path.display().to_string(), problem: problem.to_string() }
    }
}
