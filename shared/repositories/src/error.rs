use std::path::PathBuf;

use apk::Architecture;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A repository, key or package can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The line names no repository.
    #[error("repository `{line}`: {problem}; expected `PATH`, `URL`, `@tag PATH` or `@tag URL`")]
    Line {
        /// The line as given.
        line: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no index where the line points.
    #[error("repository `{location}` has no index for {architecture}; looked for {}", shown(.looked))]
    NoIndex {
        /// The path as given.
        location: String,
        /// For which architecture.
        architecture: Architecture,
        /// Where it would be.
        looked: Vec<PathBuf>,
    },
    /// Something on the network was asked of [`crate::Repositories::open_local`].
    #[error("`{url}` is on the network")]
    Remote {
        /// What.
        url: String,
    },
    /// An index, key or package is not what it should be.
    #[error(transparent)]
    Apk(#[from] apk::Error),
    /// It can't be fetched.
    #[error(transparent)]
    Fetch(#[from] upstream::Error),
    /// A fetched key is not text.
    #[error("key `{url}` is not text")]
    Key {
        /// Where it is from.
        url: String,
    },
    /// The repositories do not make a universe.
    #[error(transparent)]
    Universe(#[from] solve::Error),
    /// The package was chosen from no repository.
    #[error("package `{package}` is in no repository")]
    Homeless {
        /// `NAME-VERSION`.
        package: String,
    },
    /// A package file is not the one that the index lists.
    #[error(
        "package `{}` is not what its index lists: {what} is {found}, expected {expected}; update the index or the package",
        path.display()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// As listed.
        expected: String,
        /// As found.
        found: String,
    },
    /// A file can't be read or removed.
    #[error("{action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Background work ended early.
    #[error("checking a package was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    paths.join(", ")
}
