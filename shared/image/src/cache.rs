use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::Error;
use crate::compress::Compressed;
use crate::digest::{Hashing, sha256_text};
use crate::layout::persist;
use crate::sink::BlobSink;

const RECORD_BYTES: u64 = 4096;

/// Layers that were compressed before, in a directory.
///
/// A layer is found by a digest of all that its bytes depend on, so it is the one that would be
/// made, and what the cache hands out is held against the digest that it had when it was made.
/// Several processes may use one directory at once. When the layers pass the limit, those that
/// were not used for longest go.
#[derive(Debug)]
pub struct LayerCache {
    directory: PathBuf,
    limit: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    digest: String,
    size: u64,
    diff_id: String,
}

impl LayerCache {
    /// Opens the cache, making the directory if it is missing. `limit` is in bytes of layers.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn open(directory: &Path, limit: u64) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::write(directory.display().to_string()))?;
        Ok(Self { directory: directory.to_owned(), limit })
    }

    /// Copies the layer with this key into the sink, if it is there and whole.
    pub(crate) fn copy(&self, key: &str, sink: &mut dyn BlobSink) -> Result<Option<Compressed>, Error> {
        let Some(record) = self.record(key) else {
            return Ok(None);
        };
        let path = self.blob(&record.digest);
        let Ok(mut file) = File::open(&path) else {
            return Ok(None);
        };
        let mut into = Hashing::new(sink.begin().map_err(Error::write("layer"))?);
        io::copy(&mut file, &mut into).map_err(Error::write("layer"))?;
        let (blob, sha256, size) = into.finish();
        let digest = sha256_text(sha256);
        if (&digest, size) != (&record.digest, record.size) {
            // Damaged on disk: it is made anew, and this one is replaced then.
            return Ok(None);
        }
        blob.commit(&digest, size).map_err(Error::write("layer"))?;
        // Only the order of removal suffers when this fails.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(Compressed { digest, size, diff_id: record.diff_id }))
    }

    /// A file to write a layer into. What a process that dies leaves is named as all parts in a cache
    /// are, so that it is removed when it is old.
    pub(crate) fn begin(&self) -> Result<NamedTempFile, Error> {
        tempfile::Builder::new().prefix(".partial-").tempfile_in(&self.directory).map_err(self.at())
    }

    /// Keeps a layer that was written whole.
    pub(crate) fn keep(&self, key: &str, file: NamedTempFile, layer: &Compressed) -> Result<(), Error> {
        persist(file, &self.blob(&layer.digest)).map_err(self.at())?;
        let record = Record { digest: layer.digest.clone(), size: layer.size, diff_id: layer.diff_id.clone() };
        let text = serde_json::to_vec(&record).map_err(io::Error::from).map_err(self.at())?;
        let mut file = self.begin()?;
        file.write_all(&text).map_err(self.at())?;
        persist(file, &self.path(key, "json")).map_err(self.at())?;
        self.shrink().map_err(self.at())
    }

    fn record(&self, key: &str) -> Option<Record> {
        let mut text = Vec::new();
        File::open(self.path(key, "json")).ok()?.take(RECORD_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Removes layers that were not used for longest until the rest is within the limit.
    fn shrink(&self) -> io::Result<()> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let path = entry.path();
            // Another process may have removed it since.
            let Ok(facts) = entry.metadata() else { continue };
            if path.extension().is_some_and(|extension| extension == "layer") {
                layers.push((facts.modified()?, facts.len(), path));
            }
        }
        layers.sort();
        let mut total: u64 = layers.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in layers {
            if total <= self.limit {
                break;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= size,
            }
        }
        Ok(())
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.path(digest, "layer")
    }

    /// A file for a digest; whatever else a damaged record says names no file.
    fn path(&self, digest: &str, extension: &str) -> PathBuf {
        let name: String = digest.chars().filter(char::is_ascii_hexdigit).take(128).collect();
        self.directory.join(format!("{name}.{extension}"))
    }

    fn at(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::write(format!("layer cache `{}`", self.directory.display()))
    }
}
