//! Files that appear whole or not at all, and the store of fetched files by digest.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256, Sha512};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// SHA-256 of `bytes`, lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-512 of a file, lower-case hexadecimal.
pub(crate) fn sha512_hex(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha512::new();
    read_parts(&mut file, path, |part| hash.update(part))?;
    Ok(hex::encode(hash.finalize()))
}

/// Gives all of a file to `take`, in parts.
fn read_parts(file: &mut File, path: &Path, mut take: impl FnMut(&[u8])) -> Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            return Ok(size);
        };
        take(part);
        size += count as u64;
    }
}

/// Whether `text` is a SHA-256 in lower-case hexadecimal.
pub(crate) fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether `text` is lower-case hexadecimal.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Digits of a SHA-512 in hexadecimal, by which it is told from a SHA-256.
pub(crate) const SHA512_DIGITS: usize = 128;

/// Makes the folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// A new unnamed-to-readers file in `folder`, for [`keep`].
pub(crate) fn temporary_in(folder: &Path) -> Result<NamedTempFile> {
    make_folder(folder)?;
    tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(folder)
        .map_err(Error::io("create a temporary file in", folder))
}

/// Syncs `file` and gives it its name, replacing what was there.
pub(crate) fn keep(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(Error::io("sync", path))?;
    file.persist(path).map_err(|error| Error::io("rename into place", path)(error.error))?;
    Ok(())
}

/// [`keep`] in a folder that is made when it isn't there.
pub(crate) fn keep_in_folder(file: NamedTempFile, path: &Path) -> Result<()> {
    make_folder(path.parent().unwrap_or_else(|| Path::new(".")))?;
    keep(file, path)
}

/// Writes `bytes` to `path` so that a reader sees the old content or the new, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = temporary_in(folder)?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    keep(file, path)
}

/// Reads at most `limit` bytes; `None` when the file doesn't exist.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if read as u64 > limit {
        return Err(Error::TooLarge { url: path.display().to_string(), limit });
    }
    Ok(Some(bytes))
}

/// Folder of a cache for what was refused.
const REFUSED: &str = "refused";

/// Keeps a document that was refused in a cache, as evidence.
pub(crate) fn keep_refused(cache: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let path = cache.join(REFUSED).join(sha256_hex(bytes));
    write_atomically(&path, bytes)?;
    Ok(path)
}

/// Fetched files, each named by its SHA-256 in lower-case hexadecimal.
#[derive(Debug, Clone)]
pub struct BlobStore {
    folder: PathBuf,
}

/// A file of the [`BlobStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

impl BlobStore {
    /// A store in `folder`, which is made when first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }

    /// Where a file is kept that is not what it must be: beside the store, so that nothing takes it
    /// for a source.
    pub(crate) fn refused(&self, sha256: &str) -> PathBuf {
        self.folder.with_file_name(REFUSED).join(sha256)
    }

    /// The stored file with this digest, after hashing its bytes again. A file whose bytes have
    /// changed is removed and reported as absent.
    pub(crate) fn verified(&self, sha256: &str) -> Result<Option<Blob>> {
        if !is_sha256_hex(sha256) {
            return Ok(None);
        }
        let path = self.path(sha256);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let mut hash = Sha256::new();
        let size = read_parts(&mut file, &path, |part| hash.update(part))?;
        if hex::encode(hash.finalize()) == sha256 {
            return Ok(Some(Blob { path, sha256: sha256.to_owned(), size }));
        }
        tracing::warn!(path = %path.display(), "stored file was altered; fetching it again");
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        Ok(None)
    }
}
