use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndexBuilder, MediaType, SCHEMA_VERSION};
use tempfile::NamedTempFile;

use crate::Error;
use crate::oci::canonical;
use crate::sink::{BlobSink, BlobWriter};

/// An OCI image layout in a directory, as a sink for blobs.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens the layout, creating what is missing of it.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn create(root: &Path) -> Result<Self, Error> {
        let layout = Self { root: root.to_owned() };
        fs::create_dir_all(layout.blobs()).map_err(Error::write(root.display().to_string()))?;
        layout.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// Writes `index.json`: the manifests or indexes that can be found in the layout by name, which
    /// is their annotation `org.opencontainers.image.ref.name`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_index(&self, manifests: Vec<Descriptor>) -> Result<(), Error> {
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()
            .map_err(|error| Error::Document { document: "index", reason: error.to_string() })?;
        self.replace("index.json", &canonical("index", &index)?)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.root.join(name);
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(&self.root)?;
            file.write_all(content)?;
            persist(file, &path)
        };
        write().map_err(Error::write(path.display().to_string()))
    }
}

impl BlobSink for Layout {
    fn begin(&mut self) -> io::Result<Box<dyn BlobWriter + '_>> {
        let directory = self.blobs();
        let file = NamedTempFile::new_in(&directory)?;
        Ok(Box::new(LayoutBlob { directory, file }))
    }
}

struct LayoutBlob {
    directory: PathBuf,
    file: NamedTempFile,
}

impl Write for LayoutBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter for LayoutBlob {
    fn commit(self: Box<Self>, digest: &str, _size: u64) -> io::Result<()> {
        let hexadecimal = digest
            .strip_prefix("sha256:")
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("`{digest}` is not sha256:HEX")))?;
        persist(self.file, &self.directory.join(hexadecimal))
    }
}

/// Syncs the file, gives it its name, and syncs the directory so that the name stays.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
