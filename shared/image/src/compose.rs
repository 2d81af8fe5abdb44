use apk::{Architecture, PackageInformation};
use oci_spec::image::Descriptor;

use crate::cache::LayerCache;
use crate::facts::{Opened, PackageFile};
use crate::install::install;
use crate::layer::write_layers;
use crate::settings::Settings;
use crate::sink::BlobSink;
use crate::tree::{Kind, Owner};
use crate::{Error, accounts, certificates, database, layering, loader_cache, mutate, oci, services, system};

/// The time of what no package brings, as in apko: it depends on nothing.
const NO_TIME: u64 = 0;

/// What an image of one architecture is made of.
#[derive(Clone, Copy, Debug)]
pub struct Composition<'a> {
    /// The packages, in the order in which they are installed.
    pub packages: &'a [PackageFile],
    /// What the image holds beside them.
    pub settings: &'a Settings,
    /// The architecture of the image.
    pub architecture: Architecture,
    /// Seconds since 1970-01-01 UTC: the image's time, and that of its certificates and trust stores.
    /// What else no package brings has the time 0. See [`created`].
    pub created: i64,
}

/// An image of one architecture, all of its blobs written.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The manifest, with its platform.
    pub manifest: Descriptor,
    /// The configuration.
    pub configuration: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<ComposedLayer>,
    /// The packages, in the order in which they were installed.
    pub packages: Vec<ComposedPackage>,
    /// Every path of the root file system, sorted.
    pub files: Vec<ComposedFile>,
    /// The architecture.
    pub architecture: Architecture,
    /// Seconds since 1970-01-01 UTC.
    pub created: i64,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedLayer {
    /// The compressed layer.
    pub descriptor: Descriptor,
    /// `sha256:HEX` of the uncompressed layer.
    pub diff_id: String,
}

/// A package of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedPackage {
    /// What the package says of itself.
    pub information: PackageInformation,
    /// `Q1...` checksum of its control member.
    pub checksum: String,
    /// Bytes of the package file.
    pub size: u64,
    /// The SPDX document that it carries at `/var/lib/db/sbom`.
    pub sbom: Option<Vec<u8>>,
}

/// A path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedFile {
    /// Path without its leading `/`.
    pub path: String,
    /// What is there.
    pub kind: FileType,
    /// Mode bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Who brought it.
    pub owner: FileOwner,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// Another name of a regular file.
    Hardlink,
    /// A character device.
    Device,
}

/// Who brought a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOwner {
    /// The package with this name.
    Package(String),
    /// The composition itself.
    Composition,
}

/// The time of an image: `SOURCE_DATE_EPOCH` if given, else the newest build date of its packages.
pub fn created(source_date_epoch: Option<i64>, packages: &[PackageFile]) -> i64 {
    source_date_epoch
        .unwrap_or_else(|| packages.iter().map(|package| package.entry.information.build_date).max().unwrap_or(0))
}

/// Composes the image of one architecture and writes its layers, configuration and manifest.
///
/// Reads every package twice, once for its facts and once for its content, and holds none in
/// memory. Facts are read and layers compressed on every processor. The bytes depend on nothing but
/// the composition.
///
/// # Errors
/// A package that is damaged, of another architecture, or not the one of its index entry; a path
/// that two unrelated packages hold or that leaves the root; settings that can't be; a sink that
/// fails. What was committed to the sink before stays there unreferenced.
pub fn compose(composition: &Composition<'_>, sink: &mut dyn BlobSink) -> Result<Composed, Error> {
    compose_with(composition, None, sink)
}

/// As [`compose`], and takes layers that were made before from the cache, so that their packages'
/// files are neither read again nor compressed.
///
/// # Errors
/// As [`compose`], and when the cache can't be written.
pub fn compose_cached(
    composition: &Composition<'_>,
    cache: &LayerCache,
    sink: &mut dyn BlobSink,
) -> Result<Composed, Error> {
    compose_with(composition, Some(cache), sink)
}

fn compose_with(
    composition: &Composition<'_>,
    cache: Option<&LayerCache>,
    sink: &mut dyn BlobSink,
) -> Result<Composed, Error> {
    let Composition { packages, settings, architecture, created } = *composition;
    let built = u64::try_from(created).map_err(|_| Error::Setting {
        setting: "created",
        value: created.to_string(),
        problem: "images are not from before 1970".to_owned(),
    })?;
    // The order is apko's: what `paths` asks for comes after the packages and accounts, and before the
    // certificates.
    let mut installation = install(packages, Some(architecture), system::base(NO_TIME), NO_TIME)?;
    let tree = &mut installation.tree;
    database::add(tree, &installation.packages, NO_TIME)?;
    system::database_link(tree, NO_TIME)?;
    let merged = accounts::merge(settings, &installation.captured)?;
    let user = accounts::run_as(settings, &merged)?;
    accounts::homes(tree, &merged, NO_TIME)?;
    system::write(tree, "etc/passwd", merged.passwd.into_bytes(), NO_TIME)?;
    if !merged.group.is_empty() {
        system::write(tree, "etc/group", merged.group.into_bytes(), NO_TIME)?;
    }
    system::files(tree, settings, architecture, NO_TIME)?;
    mutate::mutate(tree, &settings.paths, NO_TIME)?;
    certificates::install(&mut installation, settings, built)?;
    let tree = &mut installation.tree;
    services::write(tree, &settings.services, NO_TIME)?;
    system::busybox_links(tree, &installation.captured, NO_TIME)?;
    system::devices(tree, NO_TIME)?;
    loader_cache::add(tree, &mut installation.packages, &installation.captured, NO_TIME)?;

    let layers = layering::plan(&installation.packages, settings.layering)?;
    let layers = write_layers(&mut installation, &layers, settings.compression, cache, sink)?;
    let (manifest, configuration, layers) = oci::write_image(settings, architecture, created, user, layers, sink)?;
    let files = installation
        .tree
        .iter()
        .map(|(path, node)| ComposedFile {
            path: path.to_owned(),
            kind: match node.kind {
                Kind::Directory => FileType::Directory,
                Kind::File(_) => FileType::Regular,
                Kind::Symlink(_) => FileType::Symlink,
                Kind::Hardlink(_) => FileType::Hardlink,
                Kind::Device { .. } => FileType::Device,
            },
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            owner: match node.owner {
                Owner::Package(number) => installation
                    .packages
                    .get(number)
                    .map_or(FileOwner::Composition, |opened| FileOwner::Package(opened.information.name.clone())),
                Owner::Composition | Owner::Implied => FileOwner::Composition,
            },
        })
        .collect();
    Ok(Composed {
        manifest,
        configuration,
        layers,
        packages: installation.packages.into_iter().map(package).collect(),
        files,
        architecture,
        created,
    })
}

fn package(opened: Opened) -> ComposedPackage {
    ComposedPackage { information: opened.information, checksum: opened.checksum, size: opened.size, sbom: opened.sbom }
}

/// RFC 3339 in UTC.
pub(crate) fn time(seconds: i64) -> Result<String, Error> {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).map_err(|_| Error::Setting {
        setting: "created",
        value: seconds.to_string(),
        problem: "it is past the year 9999".to_owned(),
    })
}
