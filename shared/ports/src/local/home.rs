use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::PortError;

/// The folder that holds everything a local factory knows.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

/// Held while a process works on the queue; released when dropped or when the process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// Opens or creates a home.
    ///
    /// # Errors
    /// [`PortError::File`] when a folder can't be made.
    pub fn open(root: &Path) -> Result<Self, PortError> {
        let absolute = std::path::absolute(root).map_err(|source| PortError::File {
            action: "find",
            path: root.to_owned(),
            source,
        })?;
        let home = Self { root: absolute };
        for folder in ["blobs", "registry", "keys", "cache", "work", "logs", "apk"] {
            home.folder(folder)?;
        }
        Ok(home)
    }

    /// The root folder, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A folder below the root, made when missing.
    ///
    /// # Errors
    /// [`PortError::File`] when it can't be made.
    pub fn folder(&self, relative: impl AsRef<Path>) -> Result<PathBuf, PortError> {
        let path = self.path(relative);
        fs::create_dir_all(&path).map_err(|source| PortError::File {
            action: "create folder",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Takes the sole right to work on the queue.
    ///
    /// # Errors
    /// [`PortError::HomeBusy`] when another process holds it.
    pub fn lock(&self) -> Result<HomeLock, PortError> {
        let path = self.path("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| PortError::File { action: "open", path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(PortError::HomeBusy { path }),
            Err(fs::TryLockError::Error(source)) => Err(PortError::File { action: "lock", path, source }),
        }
    }
}

/// Writes a file so that a reader sees the old or the new content, also after a crash: temporary
/// name, sync, rename, sync of the folder.
///
/// # Errors
/// [`PortError::File`] naming the step that failed; the old content then stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), PortError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |action: &'static str| {
        let path = path.to_owned();
        move |source: std::io::Error| PortError::File { action, path, source }
    };
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed("create temporary file for"))?;
    temporary.write_all(bytes).map_err(failed("write"))?;
    temporary.as_file().sync_all().map_err(failed("sync"))?;
    temporary.persist(path).map_err(|error| failed("rename to")(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
}
