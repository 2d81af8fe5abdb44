use std::io;
use std::path::{Path, PathBuf};

/// Why the files of a package could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The tree can't be walked, or the archive is damaged.
    #[error(transparent)]
    Apk(#[from] apk::Error),
}

/// The result of reading a package's files.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
