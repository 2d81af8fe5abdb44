//! One platform's image, unpacked for the suites.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::Error;
use crate::files::{Files, Kind};
use crate::layer::Unpacking;

const MAXIMUM_DOCUMENT: u64 = 4 << 20;

/// Where the blobs of images are.
pub trait Blobs: Send + Sync {
    /// The blob with this digest, `sha256:HEX`. Its bytes need not be checked.
    ///
    /// # Errors
    /// What reading gives, `NotFound` for an unknown blob.
    fn open(&self, digest: &str) -> io::Result<Box<dyn Read + Send>>;
}

/// The blobs of an OCI image layout.
#[derive(Debug, Clone)]
pub struct LayoutBlobs(
    /// The folder with `oci-layout`.
    pub PathBuf,
);

impl Blobs for LayoutBlobs {
    fn open(&self, digest: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.0.join("blobs").join(digest.replacen(':', "/", 1)))?))
    }
}

/// One platform's image: manifest, configuration, and its files, unpacked.
pub struct Image {
    digest: String,
    size: u64,
    manifest: ImageManifest,
    configuration: ImageConfiguration,
    files: Files,
    root: TempDir,
    blobs: Box<dyn Blobs>,
}

impl Image {
    /// Reads the image with the manifest `digest` and unpacks it to a new folder in `scratch`,
    /// which goes with this value. All digests are checked, also those of the uncompressed layers.
    ///
    /// # Errors
    /// [`Error::Blob`], [`Error::Digest`], [`Error::Format`] and [`Error::Layer`] name the blob.
    pub fn open(blobs: Box<dyn Blobs>, digest: &str, scratch: &Path) -> Result<Self, Error> {
        let bytes = document(&*blobs, digest)?;
        let size = bytes.len() as u64;
        let manifest =
            ImageManifest::from_reader(bytes.as_slice()).map_err(|error| format(digest, "manifest", error))?;
        let configuration_digest = manifest.config().digest().to_string();
        let bytes = document(&*blobs, &configuration_digest)?;
        same_size(manifest.config(), bytes.len() as u64)?;
        let configuration = ImageConfiguration::from_reader(bytes.as_slice())
            .map_err(|error| format(&configuration_digest, "configuration", error))?;
        let (layers, diff_ids) = (manifest.layers().len(), configuration.rootfs().diff_ids().len());
        if layers != diff_ids {
            let message = format!("it has {diff_ids} `diff_ids` and the manifest {layers} layers");
            return Err(Error::Format { digest: configuration_digest, what: "configuration", message });
        }
        let root = folder(scratch)?;
        let files = unpack(&*blobs, &manifest, &configuration, root.path())?;
        Ok(Image { digest: digest.to_owned(), size, manifest, configuration, files, root, blobs })
    }

    /// `sha256:HEX` of the manifest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Size of the manifest in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// The configuration.
    #[must_use]
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// For example `linux/amd64`.
    #[must_use]
    pub fn platform(&self) -> String {
        format!("{}/{}", self.configuration.os(), self.configuration.architecture())
    }

    /// What is at which path.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The unpacked root file system. It is not to be changed.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Unpacks the image once more, for a container that may change it.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn fresh_root(&self, scratch: &Path) -> Result<TempDir, Error> {
        let root = folder(scratch)?;
        unpack(&*self.blobs, &self.manifest, &self.configuration, root.path())?;
        Ok(root)
    }

    /// The content of a file, links followed inside the image; none when there is no regular
    /// file.
    ///
    /// # Errors
    /// [`Error::Io`], also for a file of more than `limit` bytes.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(place) = self.files.follow(path) else { return Ok(None) };
        let Some(Kind::Regular(size)) = self.files.get(&place).map(|entry| &entry.kind) else { return Ok(None) };
        let failed = |source| Error::io("read", &self.root.path().join(&place), source);
        if *size > limit {
            return Err(failed(io::Error::other(format!("it has {size} bytes; at most {limit} are read"))));
        }
        let root = Dir::open_ambient_dir(self.root.path(), ambient_authority()).map_err(failed)?;
        Ok(Some(root.read(&place).map_err(failed)?))
    }
}

fn folder(scratch: &Path) -> Result<TempDir, Error> {
    std::fs::create_dir_all(scratch).map_err(|source| Error::io("create the folder", scratch, source))?;
    let folder = tempfile::Builder::new()
        .prefix("root-")
        .tempdir_in(scratch)
        .map_err(|source| Error::io("create a folder in", scratch, source))?;
    // Programs in the container that aren't root must be able to enter it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode)
        .map_err(|source| Error::io("change the mode of", folder.path(), source))?;
    Ok(folder)
}

fn format(digest: &str, what: &'static str, error: oci_spec::OciSpecError) -> Error {
    Error::Format { digest: digest.to_owned(), what, message: error.to_string() }
}

fn document(blobs: &dyn Blobs, digest: &str) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Blob { digest: digest.to_owned(), source };
    let mut bytes = Vec::new();
    let read =
        blobs.open(digest).map_err(failed)?.take(MAXIMUM_DOCUMENT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > MAXIMUM_DOCUMENT {
        return Err(failed(io::Error::other(format!("it has more than {MAXIMUM_DOCUMENT} bytes"))));
    }
    same_digest("blob", digest, Sha256::digest(&bytes).as_slice())?;
    Ok(bytes)
}

fn same_digest(what: &'static str, expected: &str, found: &[u8]) -> Result<(), Error> {
    let found = format!("sha256:{}", hex::encode(found));
    if found == expected { Ok(()) } else { Err(Error::Digest { what, expected: expected.to_owned(), found }) }
}

/// A descriptor's size is what a client fetches; the digest alone does not hold it.
fn same_size(descriptor: &Descriptor, found: u64) -> Result<(), Error> {
    let expected = descriptor.size();
    if found == expected {
        Ok(())
    } else {
        Err(Error::Size { digest: descriptor.digest().to_string(), expected, found })
    }
}

fn unpack(
    blobs: &dyn Blobs,
    manifest: &ImageManifest,
    configuration: &ImageConfiguration,
    root: &Path,
) -> Result<Files, Error> {
    let mut unpacking = Unpacking::new(root)?;
    for (layer, diff_id) in manifest.layers().iter().zip(configuration.rootfs().diff_ids()) {
        unpack_layer(blobs, layer, diff_id, &mut unpacking)?;
    }
    Ok(unpacking.finish())
}

fn unpack_layer(blobs: &dyn Blobs, layer: &Descriptor, diff_id: &str, unpacking: &mut Unpacking) -> Result<(), Error> {
    let digest = layer.digest().to_string();
    let failed = |source| Error::Blob { digest: digest.clone(), source };
    let mut compressed = Hashing::new(blobs.open(&digest).map_err(failed)?);
    let uncompressed = match layer.media_type() {
        MediaType::ImageLayer => {
            let mut archive = Hashing::new(&mut compressed);
            unpacking.layer(&digest, &mut archive)?;
            archive.finish()
        }
        MediaType::ImageLayerGzip => {
            let mut archive = Hashing::new(flate2::read::MultiGzDecoder::new(&mut compressed));
            unpacking.layer(&digest, &mut archive)?;
            archive.finish()
        }
        MediaType::ImageLayerZstd => {
            // It refuses frames that want more memory than 128 MiB for their window.
            let mut archive = Hashing::new(zstd::Decoder::new(&mut compressed).map_err(failed)?);
            unpacking.layer(&digest, &mut archive)?;
            archive.finish()
        }
        other => {
            let message = format!("layers of the type `{other}` can't be unpacked; use gzip or zstd");
            return Err(Error::Layer { layer: digest, path: String::new(), message });
        }
    }
    .map_err(failed)?;
    let (found, size) = compressed.finish().map_err(failed)?;
    same_size(layer, size)?;
    same_digest("blob", &digest, &found)?;
    same_digest("uncompressed layer", diff_id, &uncompressed.0)
}

/// A reader that knows the digest and the size of what went through it.
struct Hashing<R> {
    reader: R,
    size: u64,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(reader: R) -> Self {
        Hashing { reader, size: 0, hash: Sha256::new() }
    }

    /// Reads what is left.
    fn finish(mut self) -> io::Result<(Vec<u8>, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.hash.finalize().to_vec(), self.size))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.size += read as u64;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}
