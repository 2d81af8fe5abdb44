use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::{Blobs, Digest, PortError};

/// Blobs as files `XX/REST` under a folder, named by their SHA-256.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    root: PathBuf,
}

impl FileBlobs {
    /// Blobs under `root`, which exists.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.hex();
        let (shard, rest) = name.split_at(2);
        self.root.join(shard).join(rest)
    }

    fn store(&self, source: &mut dyn Read, from: &Path) -> Result<Digest, PortError> {
        let failed = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| PortError::File { action, path, source }
        };
        let mut temporary = tempfile::Builder::new()
            .prefix(".blob-")
            .tempfile_in(&self.root)
            .map_err(failed("create a temporary file in", &self.root))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0_u8; 128 * 1024];
        loop {
            let count = source.read(&mut buffer).map_err(failed("read", from))?;
            let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
            hasher.update(chunk);
            temporary.write_all(chunk).map_err(failed("write a blob in", &self.root))?;
        }
        let digest = Digest::from_bytes(hasher.finalize().into());
        let path = self.path(digest);
        if path.exists() {
            return Ok(digest);
        }
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed("create folder", folder))?;
        temporary.as_file().sync_all().map_err(failed("sync", &path))?;
        temporary.persist(&path).map_err(|error| failed("rename to", &path)(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
        Ok(digest)
    }

    fn open(&self, digest: Digest) -> Result<(File, PathBuf), PortError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(PortError::NoBlob(digest)),
            Err(source) => Err(PortError::File { action: "open", path, source }),
        }
    }

    fn checked(&self, digest: Digest) -> Result<PathBuf, PortError> {
        let (mut file, path) = self.open(digest)?;
        let found =
            digest_of(&mut file).map_err(|source| PortError::File { action: "read", path: path.clone(), source })?;
        if found == digest { Ok(path) } else { Err(PortError::Damaged { expected: digest, found }) }
    }

    fn read(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, PortError> {
        let (file, path) = self.open(digest)?;
        let failed = |source| PortError::File { action: "read", path: path.clone(), source };
        let size = file.metadata().map_err(failed)?.len();
        if size > limit {
            return Err(PortError::TooLarge { digest, size, limit });
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        let found = Digest::of(&bytes);
        if found == digest { Ok(bytes) } else { Err(PortError::Damaged { expected: digest, found }) }
    }
}

/// The digest of a file's content.
///
/// # Errors
/// [`PortError::File`] when it can't be read.
pub async fn digest_of_file(path: &Path) -> Result<Digest, PortError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let read = File::open(&path).and_then(|mut file| digest_of(&mut file));
        read.map_err(|source| PortError::File { action: "read", path, source })
    })
    .await?
}

/// Digest of all that is left to read.
///
/// # Errors
/// The reader's own.
pub fn digest_of(reader: &mut dyn Read) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        hasher.update(chunk);
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PortError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.store(&mut bytes.as_slice(), &this.root)).await?
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, PortError> {
        let (this, path) = (self.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut file =
                File::open(&path).map_err(|source| PortError::File { action: "open", path: path.clone(), source })?;
            this.store(&mut file, &path)
        })
        .await?
    }

    async fn get(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, PortError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.read(digest, limit)).await?
    }

    async fn file(&self, digest: Digest) -> Result<PathBuf, PortError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.checked(digest)).await?
    }

    async fn contains(&self, digest: Digest) -> Result<bool, PortError> {
        Ok(self.path(digest).exists())
    }

    async fn remove(&self, digest: Digest) -> Result<(), PortError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(PortError::File { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }
}
