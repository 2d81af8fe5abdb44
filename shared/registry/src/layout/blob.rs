//! Blobs of a layout: written whole or not at all, checked against their digest when read.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};
use sign::Digest;
use tempfile::NamedTempFile;

use super::{Layout, sync_folder};
use crate::{Error, Result};

const BUFFER: usize = 256 << 10;

/// A blob being written. It is in the layout once [`BlobWriter::finish`] returns; dropped before
/// that, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    layout: Layout,
    file: BufWriter<NamedTempFile>,
    hasher: Sha256,
    size: u64,
}

/// A blob being read. Reading to the end fails, instead of ending, if the content does not have
/// the digest.
#[derive(Debug)]
pub struct BlobReader {
    path: PathBuf,
    file: File,
    digest: Digest,
    hasher: Sha256,
    size: u64,
    checked: bool,
}

impl Layout {
    /// Starts a blob of yet unknown digest.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_blob(&self) -> Result<BlobWriter> {
        Ok(BlobWriter {
            layout: self.clone(),
            file: BufWriter::with_capacity(BUFFER, self.partial()?),
            hasher: Sha256::new(),
            size: 0,
        })
    }

    /// Starts a blob whose writing a later process may go on with, by this id, which no other
    /// upload has.
    pub(crate) fn begin_upload(&self, id: &str) -> Result<BlobWriter> {
        Ok(BlobWriter {
            layout: self.clone(),
            file: BufWriter::with_capacity(BUFFER, self.kept_partial(id)?),
            hasher: Sha256::new(),
            size: 0,
        })
    }

    /// Goes on with an upload whose process is gone; none if there is no such upload.
    pub(crate) fn resume_upload(&self, id: &str) -> Result<Option<BlobWriter>> {
        let Some(mut file) = self.open_partial(id)? else { return Ok(None) };
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = file.as_file_mut().read(&mut buffer).map_err(Error::io(file.path(), "read"))?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            size += count as u64;
        }
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Some(BlobWriter { layout: self.clone(), file, hasher, size }))
    }

    /// Writes a blob that is in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let mut writer = self.begin_blob()?;
        writer.write_all(bytes).map_err(Error::io(&self.folder, "write in"))?;
        Ok(writer.finish()?.0)
    }

    /// The size of a blob in bytes, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blob_size(&self, digest: Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, "look up")(error)),
        }
    }

    /// Opens a blob, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open_blob(&self, digest: Digest) -> Result<Option<BlobReader>> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, "open")(error)),
        };
        let size = file.metadata().map_err(Error::io(&path, "look up"))?.len();
        Ok(Some(BlobReader { path, file, digest, hasher: Sha256::new(), size, checked: false }))
    }

    /// A blob of at most `limit` bytes, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], or [`Error::Corrupt`] which names the file.
    pub fn read_blob(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.open_blob(digest)? else { return Ok(None) };
        if reader.size > limit {
            return Err(Error::TooLarge { what: format!("blob {digest}"), limit });
        }
        let mut bytes = Vec::new();
        let path = reader.path.clone();
        reader.read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
        Ok(Some(bytes))
    }

    /// Removes a blob; tells whether it was there. Manifests that name it are not looked at.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn delete_blob(&self, digest: Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(&path, "remove")(error)),
        }
    }

    /// Copies a blob of another layout, checking it; tells whether the other
    /// layout has it.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] which names the file.
    pub fn mount_blob(&self, from: &Self, digest: Digest) -> Result<bool> {
        if self.blob_size(digest)?.is_some() {
            return Ok(true);
        }
        let Some(mut reader) = from.open_blob(digest)? else { return Ok(false) };
        let mut writer = self.begin_blob()?;
        io::copy(&mut reader, &mut writer).map_err(Error::io(from.blob_path(digest), "copy"))?;
        writer.finish_as(digest)?;
        Ok(true)
    }
}

impl BlobWriter {
    /// The bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives up the blob and removes what was written of it.
    pub(crate) fn discard(mut self) {
        self.file.get_mut().disable_cleanup(false);
        // What is still to be written is not worth writing.
        let _ = self.file.into_parts();
    }

    /// Puts the blob in place; its digest and its size in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<(Digest, u64)> {
        let digest = Digest::from_bytes(self.hasher.clone().finalize().into());
        let size = self.finish_as(digest)?;
        Ok((digest, size))
    }

    /// Puts the blob in place if it has this digest; its size in bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it has another digest; [`Error::Io`].
    pub fn finish_as(self, digest: Digest) -> Result<u64> {
        let Self { layout, mut file, hasher, size } = self;
        file.get_mut().disable_cleanup(false);
        let found = Digest::from_bytes(hasher.finalize().into());
        if found != digest {
            return Err(Error::Corrupt { what: "the uploaded content".into(), expected: digest, found });
        }
        let path = layout.blob_path(digest);
        let file = file.into_inner().map_err(|error| Error::io(&path, "write")(error.into_error()))?;
        file.as_file().sync_all().map_err(Error::io(&path, "sync"))?;
        file.persist(&path).map_err(|error| Error::io(&path, "create")(error.error))?;
        sync_folder(&layout.folder.join("blobs/sha256"))?;
        Ok(size)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobReader {
    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file itself, for reading parts of it, which can't be checked.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 {
            self.hasher.update(buffer.get(..count).unwrap_or_default());
        } else if !buffer.is_empty() && !self.checked {
            let found = Digest::from_bytes(self.hasher.finalize_reset().into());
            if found != self.digest {
                return Err(io::Error::other(Error::Corrupt {
                    what: format!("`{}`", self.path.display()),
                    expected: self.digest,
                    found,
                }));
            }
            self.checked = true;
        }
        Ok(count)
    }
}
