use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use apk::Architecture;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File};
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::compose::ComposedLayer;
use crate::digest::sha256_text;

/// The most bytes of an index, manifest or configuration, as registries agree on it.
const DOCUMENT_BYTES: u64 = 4 << 20;
/// How deep indexes may lead to indexes.
const DEPTH: usize = 4;
/// The most layers of an image: no runtime mounts more.
const LAYERS: usize = 127;

const ONE: &str = "copy the one to build on to a layout of its own, for example with `skopeo copy --all`";

const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIGURATION: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// An OCI layout that is only read, and never beyond its folder.
#[derive(Debug)]
pub(super) struct LayoutReader {
    folder: Dir,
    path: PathBuf,
}

/// The image of a layout for one architecture.
pub(super) struct Found {
    pub manifest: Descriptor,
    pub annotations: BTreeMap<String, String>,
    pub configuration: Map<String, Value>,
    pub layers: Vec<ComposedLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

impl LayoutReader {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Base { layout: path.to_owned(), problem };
        let folder = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(|error| wrong(format!("it can't be read: {error}")))?;
        let layout = Self { folder, path: path.to_owned() };
        let version: LayoutFile = serde_json::from_slice(&layout.document("oci-layout")?)
            .map_err(|error| wrong(format!("`oci-layout` in it: {error}")))?;
        if version.image_layout_version != "1.0.0" {
            let found = version.image_layout_version.escape_debug();
            return Err(wrong(format!("`imageLayoutVersion` is `{found}`, expected `1.0.0`")));
        }
        Ok(layout)
    }

    pub(super) fn shown(&self) -> &Path {
        &self.path
    }

    pub(super) fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::Base { layout: self.path.clone(), problem: problem.into() }
    }

    pub(super) fn mismatch(&self, what: &'static str, expected: &str, found: String) -> Error {
        Error::BaseDigest { layout: self.path.clone(), what, expected: expected.to_owned(), found }
    }

    /// The file of a blob, not checked yet.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<File, Error> {
        let digest = descriptor.digest().to_string();
        let hexadecimal = digest
            .strip_prefix("sha256:")
            .filter(|text| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
            .ok_or_else(|| self.wrong(format!("the digest `{}` is not `sha256:HEX`", digest.escape_debug())))?;
        let path = Path::new("blobs/sha256").join(hexadecimal);
        self.folder.open(&path).map_err(|error| self.wrong(format!("blob `{digest}` can't be read: {error}")))
    }

    /// The image for the architecture, its manifest and configuration checked.
    pub(super) fn image(&self, architecture: Architecture) -> Result<Found, Error> {
        let mut index = self.parsed::<ImageIndex>("index.json", &self.document("index.json")?)?;
        for _ in 0..DEPTH {
            let nested = once(index.manifests(), |entry| is(entry, &MediaType::ImageIndex, DOCKER_INDEX));
            match nested.as_slice() {
                [] => return self.of_index(&index, architecture),
                [one] => index = self.parsed("the index", &self.checked("index", one)?)?,
                several => {
                    let count = several.len();
                    return Err(self.wrong(format!("it has {count} indexes: {ONE}")));
                }
            }
        }
        Err(self.wrong(format!("its indexes lead to indexes more than {DEPTH} times")))
    }

    fn of_index(&self, index: &ImageIndex, architecture: Architecture) -> Result<Found, Error> {
        let mut found = Vec::new();
        let mut others = Vec::new();
        for entry in once(index.manifests(), |entry| is(entry, &MediaType::ImageManifest, DOCKER_MANIFEST)) {
            if entry.artifact_type().is_some() {
                continue;
            }
            if let Some(platform) = entry.platform() {
                let here = (platform.os(), platform.architecture());
                if here != (&Os::Linux, &Arch::from(architecture.oci())) {
                    others.push(format!("{}/{}", here.0, here.1));
                    continue;
                }
            }
            let Some((image, platform)) = self.read(entry)? else { continue };
            if platform == format!("linux/{}", architecture.oci()) {
                found.push(image);
            } else if entry.platform().is_some() {
                let digest = entry.digest();
                return Err(self.wrong(format!(
                    "the index has `{digest}` for linux/{}, and its configuration says {platform}",
                    architecture.oci()
                )));
            } else {
                others.push(platform);
            }
        }
        match (found.pop(), found.len()) {
            (Some(image), 0) => Ok(image),
            (None, _) => {
                others.sort();
                others.dedup();
                Err(Error::BasePlatform {
                    layout: self.path.clone(),
                    expected: architecture.oci().to_owned(),
                    found: others,
                })
            }
            (Some(_), more) => {
                let count = more + 1;
                Err(self.wrong(format!("it has {count} images for linux/{}: {ONE}", architecture.oci())))
            }
        }
    }

    /// An image and its platform; `None` for an artifact that is none.
    fn read(&self, entry: &Descriptor) -> Result<Option<(Found, String)>, Error> {
        let manifest: ImageManifest = self.parsed("the manifest", &self.checked("manifest", entry)?)?;
        let described = manifest.config();
        if manifest.artifact_type().is_some() || !is(described, &MediaType::ImageConfig, DOCKER_CONFIGURATION) {
            return Ok(None);
        }
        let bytes = self.checked("configuration", described)?;
        let configuration: ImageConfiguration = self.parsed("the configuration", &bytes)?;
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let (ids, layers) = (diff_ids.len(), manifest.layers().len());
            return Err(self.wrong(format!("its configuration has {ids} `diff_ids`, its manifest {layers} layers")));
        }
        // One more comes on top.
        if diff_ids.len() >= LAYERS {
            return Err(self.wrong(format!("it has {} layers; an image has at most {LAYERS}", diff_ids.len())));
        }
        let layers = manifest.layers().iter().zip(diff_ids);
        let layers = layers
            .map(|(layer, diff_id)| Ok(ComposedLayer { descriptor: self.layer(layer)?, diff_id: diff_id.clone() }));
        let found = Found {
            manifest: entry.clone(),
            annotations: manifest.annotations().clone().unwrap_or_default().into_iter().collect(),
            configuration: self.parsed("the configuration", &bytes)?,
            layers: layers.collect::<Result<_, Error>>()?,
        };
        Ok(Some((found, format!("{}/{}", configuration.os(), configuration.architecture()))))
    }

    /// A layer's descriptor in OCI's own terms: the same bytes, whatever Docker calls them.
    fn layer(&self, layer: &Descriptor) -> Result<Descriptor, Error> {
        let media_type = match layer.media_type() {
            known @ (MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd) => known.clone(),
            MediaType::Other(name) if name == DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
            MediaType::Other(name) if name == DOCKER_LAYER => MediaType::ImageLayer,
            other => {
                let digest = layer.digest();
                let foreign = matches!(
                    other,
                    MediaType::ImageLayerNonDistributable
                        | MediaType::ImageLayerNonDistributableGzip
                        | MediaType::ImageLayerNonDistributableZstd
                ) || other.to_string().contains(".foreign.");
                let problem = if foreign {
                    format!("its layer `{digest}` may not be distributed (`{other}`): take a base without such layers")
                } else {
                    format!("its layer `{digest}` is `{other}`: layers are tar, plain or by gzip or zstd")
                };
                return Err(self.wrong(problem));
            }
        };
        if layer.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
            return Err(self.wrong(format!("its layer `{}` is to be fetched from elsewhere (`urls`)", layer.digest())));
        }
        let mut known = layer.clone();
        known.set_media_type(media_type);
        Ok(known)
    }

    fn parsed<T: for<'d> Deserialize<'d>>(&self, what: &str, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.wrong(format!("{what} in it: {error}")))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let failed = |error: io::Error| self.wrong(format!("`{name}` in it can't be read: {error}"));
        let mut bytes = Vec::new();
        let file = self.folder.open(name).map_err(failed)?;
        file.take(DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > DOCUMENT_BYTES {
            return Err(self.wrong(format!("`{name}` in it has more than {DOCUMENT_BYTES} bytes")));
        }
        Ok(bytes)
    }

    /// The bytes that a descriptor is of.
    fn checked(&self, what: &'static str, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let (expected, size) = (descriptor.digest().to_string(), descriptor.size());
        if size > DOCUMENT_BYTES {
            return Err(self.wrong(format!("its {what} `{expected}` has {size} bytes, the limit is {DOCUMENT_BYTES}")));
        }
        let mut bytes = Vec::new();
        let source = self.blob(descriptor)?;
        source
            .take(size + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.wrong(format!("its {what} `{expected}` can't be read: {error}")))?;
        let found = sha256_text(Sha256::new_with_prefix(&bytes));
        if found != expected || bytes.len() as u64 != size {
            return Err(self.mismatch(what, &expected, format!("{found} in {} bytes or more", bytes.len())));
        }
        Ok(bytes)
    }
}

/// What is asked for, each digest once: a layout names one image by several tags.
fn once(entries: &[Descriptor], wanted: impl Fn(&Descriptor) -> bool) -> Vec<&Descriptor> {
    let mut found: Vec<&Descriptor> = Vec::new();
    for entry in entries.iter().filter(|entry| wanted(entry)) {
        if found.iter().all(|known| known.digest() != entry.digest()) {
            found.push(entry);
        }
    }
    found
}

fn is(descriptor: &Descriptor, oci: &MediaType, docker: &str) -> bool {
    let media_type = descriptor.media_type();
    media_type == oci || media_type.to_string() == docker
}
