//! One repository as an OCI image layout on disk (image spec, "OCI Image Layout").
//!
//! Beside the layout's own files stand `.partial/`, where files are written before they are
//! renamed into place, and `.lock`, held while tags change. Whoever is killed leaves at most files
//! in `.partial/`, which the next writer removes.

mod blob;
mod index;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub use blob::{BlobReader, BlobWriter};
pub(crate) use index::new_index;
pub use index::{PutManifest, TagRule};
use sign::Digest;

use crate::{Error, Result};

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_FILE: &str = "index.json";
const EMPTY_INDEX: &[u8] =
    br#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;
const PARTIAL: &str = ".partial";
const LOCK: &str = ".lock";
/// Younger files in `.partial/` are left alone, since their writer may be about to lock them.
const PARTIAL_AGE: Duration = Duration::from_secs(600);

/// One repository as an OCI image layout. Any number of threads and processes may use the same
/// folder at once.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Opens the layout in `folder`, making one where there is none.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::NotALayout`] for a layout of another version.
    pub fn create(folder: impl Into<PathBuf>) -> Result<Self> {
        let layout = Self { folder: folder.into() };
        if !layout.is_there()? {
            for name in ["blobs/sha256", PARTIAL] {
                let path = layout.folder.join(name);
                fs::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
            }
            let _lock = layout.lock()?;
            let index = layout.folder.join(INDEX_FILE);
            if !index.try_exists().map_err(Error::io(&index, "look up"))? {
                layout.replace(INDEX_FILE, EMPTY_INDEX)?;
            }
            layout.replace(LAYOUT_FILE, LAYOUT_CONTENT.as_bytes())?;
            if let Some(parent) = layout.folder.parent().filter(|path| !path.as_os_str().is_empty()) {
                sync_folder(parent)?;
            }
        }
        layout.clean(SystemTime::now())?;
        Ok(layout)
    }

    /// Opens the layout in `folder`; none if there is no such folder or no layout in it.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::NotALayout`] for a layout of another version.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Option<Self>> {
        let layout = Self { folder: folder.into() };
        Ok(layout.is_there()?.then_some(layout))
    }

    /// The layout's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn is_there(&self) -> Result<bool> {
        let path = self.folder.join(LAYOUT_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(false);
            }
            Err(error) => return Err(Error::io(&path, "read")(error)),
        };
        let version = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| Some(value.get("imageLayoutVersion")?.as_str()?.to_owned()));
        match version.as_deref() {
            Some("1.0.0") => Ok(true),
            Some(other) => {
                Err(Error::NotALayout { path, reason: format!("`imageLayoutVersion` is `{other}`, expected `1.0.0`") })
            }
            None => Err(Error::NotALayout { path, reason: "no `imageLayoutVersion` in it".into() }),
        }
    }

    /// Removes files in `.partial/` whose writer is gone: not locked, and not young at `now`.
    pub(crate) fn clean(&self, now: SystemTime) -> Result<()> {
        let folder = self.folder.join(PARTIAL);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(&folder, "read")(error)),
        };
        for entry in entries {
            let path = entry.map_err(Error::io(&folder, "read"))?.path();
            match remove_abandoned(&path, now) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(Error::io(&path, "remove"))?,
            }
        }
        Ok(())
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// Held while `index.json` is read and replaced; released when the file is dropped.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join(LOCK);
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path, "open"))?;
        file.lock().map_err(Error::io(&path, "lock"))?;
        Ok(file)
    }

    fn partial(&self) -> Result<tempfile::NamedTempFile> {
        let folder = self.folder.join(PARTIAL);
        let make = || {
            fs::create_dir_all(&folder)?;
            let file = tempfile::Builder::new()
                .prefix("")
                .rand_bytes(16)
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(&folder)?;
            file.as_file().lock()?;
            Ok(file)
        };
        make().map_err(Error::io(&folder, "write in"))
    }

    /// A file that stays when its process ends, for another to go on with.
    fn kept_partial(&self, id: &str) -> Result<tempfile::NamedTempFile> {
        let folder = self.folder.join(PARTIAL);
        let make = || {
            fs::create_dir_all(&folder)?;
            let file = tempfile::Builder::new()
                .prefix(id)
                .rand_bytes(0)
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .disable_cleanup(true)
                .tempfile_in(&folder)?;
            file.as_file().lock()?;
            Ok(file)
        };
        make().map_err(Error::io(&folder, "write in"))
    }

    /// Such a file, if it is there and its process is gone.
    fn open_partial(&self, id: &str) -> Result<Option<tempfile::NamedTempFile>> {
        let path = self.folder.join(PARTIAL).join(id);
        let open = || {
            let file = File::options().read(true).append(true).open(&path)?;
            if file.try_lock().is_err() {
                return Ok(None);
            }
            let mut file = tempfile::NamedTempFile::from_parts(file, tempfile::TempPath::try_from_path(&path)?);
            file.disable_cleanup(true);
            Ok(Some(file))
        };
        let opened: io::Result<_> = open();
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map_err(Error::io(&path, "open")),
        }
    }

    /// Puts a file of the layout in place as a whole.
    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let mut file = self.partial()?;
        let written = file.write_all(content).and_then(|()| file.as_file().sync_all());
        written.map_err(Error::io(&path, "write"))?;
        file.persist(&path).map_err(|error| Error::io(&path, "replace")(error.error))?;
        sync_folder(&self.folder)
    }
}

fn remove_abandoned(path: &Path, now: SystemTime) -> io::Result<()> {
    let file = File::open(path)?;
    let age = now.duration_since(file.metadata()?.modified()?).unwrap_or_default();
    if age > PARTIAL_AGE && file.try_lock().is_ok() {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io(path, "sync"))
}
