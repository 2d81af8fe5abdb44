//! An image to build on: apko's `contents.baseimage`.

mod layer;
mod layout;
mod records;
mod root;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apk::{Architecture, InstalledPackage};
use oci_spec::image::Descriptor;
use serde_json::{Map, Value};

pub(crate) use root::BaseFiles;

use crate::Error;
use crate::compose::{ComposedLayer, created};
use crate::facts::PackageFile;
use crate::sink::BlobSink;
use layout::LayoutReader;

/// An image of one architecture in an OCI layout, with what is installed in it.
///
/// Neither the layout nor the record of what is installed is trusted: sizes, counts and paths are
/// bounded, every digest is checked, and nothing outside their folders is read.
#[derive(Debug)]
pub struct BaseImage {
    layout: LayoutReader,
    architecture: Architecture,
    manifest: Descriptor,
    annotations: BTreeMap<String, String>,
    configuration: Map<String, Value>,
    layers: Vec<ComposedLayer>,
    index: PathBuf,
    packages: Vec<InstalledPackage>,
}

impl BaseImage {
    /// Opens the image for `architecture` in the OCI layout `layout`, whose packages `apk_index/ARCH/APKINDEX`
    /// lists in the form of an installed database. Its layers are read when an image is composed on it.
    ///
    /// `index.json` may lead to an index with an image per platform. What it lists beside images for the
    /// architecture, such as attestations, is passed over.
    ///
    /// # Errors
    /// [`Error::Base`], [`Error::BaseDigest`] and [`Error::BasePlatform`] for the layout,
    /// [`Error::BaseIndex`] and [`Error::Package`] for the list.
    pub fn open(layout: &Path, apk_index: &Path, architecture: Architecture) -> Result<Self, Error> {
        let layout = LayoutReader::open(layout)?;
        let found = layout.image(architecture)?;
        let (index, packages) = records::read(apk_index, architecture)?;
        Ok(Self {
            layout,
            architecture,
            manifest: found.manifest,
            annotations: found.annotations,
            configuration: found.configuration,
            layers: found.layers,
            index,
            packages,
        })
    }

    /// The architecture.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The packages, in the order of the list.
    pub fn packages(&self) -> &[InstalledPackage] {
        &self.packages
    }

    /// Digest of the image's manifest, `sha256:HEX`.
    pub fn digest(&self) -> String {
        self.manifest.digest().to_string()
    }

    /// The time of an image of these packages on this one: as [`created`], with the base's packages.
    pub fn created(&self, source_date_epoch: Option<i64>, packages: &[PackageFile]) -> i64 {
        let own = self.packages.iter().map(|package| package.entry.information.build_date).max().unwrap_or(0);
        source_date_epoch.unwrap_or_else(|| own.max(created(None, packages)))
    }

    pub(crate) fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    pub(crate) fn configuration(&self) -> &Map<String, Value> {
        &self.configuration
    }

    pub(crate) fn layers(&self) -> &[ComposedLayer] {
        &self.layers
    }

    /// Copies the layers as they are to the sink, and lists the files that they make together.
    pub(crate) fn read(&self, sink: &mut dyn BlobSink) -> Result<BaseFiles, Error> {
        let mut root = root::Root::default();
        for layer in &self.layers {
            layer::copy(&self.layout, layer, &mut root, sink)?;
        }
        let files = root.finish(self.packages.clone(), self.layout.shown())?;
        records::check(&self.index, &files)?;
        Ok(files)
    }
}
