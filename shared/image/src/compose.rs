use apk::{Architecture, PackageInformation};
use oci_spec::image::Descriptor;

use crate::base::{BaseFiles, BaseImage};
use crate::cache::LayerCache;
use crate::facts::{Opened, PackageFile};
use crate::install::{Installation, install_over};
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
    /// The base image, where no package of it owns the path.
    Base,
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
    compose_with(composition, None, None, sink)
}

/// As [`compose`], on a base image: its layers are copied as they are, and one layer with what the packages and
/// settings bring lies on top.
///
/// What is installed in the base counts: its records come first in the apk database and in what is returned,
/// files in common are settled as between packages, and the base's accounts stay. Of the settings, those that
/// [`Settings::over_base`] can't state are not looked at.
///
/// # Errors
/// As [`compose`]; [`Error::Base`] and its kin for a base that is damaged or not for the architecture, and
/// [`Error::BaseConflict`].
pub fn compose_on(base: &BaseImage, composition: &Composition<'_>, sink: &mut dyn BlobSink) -> Result<Composed, Error> {
    if base.architecture() != composition.architecture {
        return Err(Error::Architecture {
            package: format!("base image {}", base.digest()),
            found: base.architecture().apk().to_owned(),
            expected: composition.architecture.apk().to_owned(),
        });
    }
    compose_with(composition, Some(base), None, sink)
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
    compose_with(composition, None, Some(cache), sink)
}

fn compose_with(
    composition: &Composition<'_>,
    base: Option<&BaseImage>,
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
    let (files, tree) = match base {
        None => (None, system::base(NO_TIME)),
        Some(base) => {
            let mut files = base.read(sink)?;
            let mut tree = std::mem::take(&mut files.tree);
            system::over_base(&mut tree, NO_TIME)?;
            (Some(files), tree)
        }
    };
    let mut installation = install_over(files, packages, Some(architecture), tree, NO_TIME)?;
    let tree = &mut installation.tree;
    database::add(tree, installation.base.as_ref(), &installation.packages, NO_TIME)?;
    system::database_link(tree, NO_TIME)?;
    let user = match base {
        Some(_) => None,
        None => accounts(&mut installation, settings)?,
    };
    let tree = &mut installation.tree;
    system::files(tree, settings, installation.base.as_ref(), architecture, NO_TIME)?;
    mutate::mutate(tree, &settings.paths, NO_TIME)?;
    certificates::install(&mut installation, settings, built)?;
    let tree = &mut installation.tree;
    services::write(tree, &settings.services, NO_TIME)?;
    system::busybox_links(tree, &installation.captured, NO_TIME)?;
    system::devices(tree, NO_TIME)?;
    let Installation { tree, packages: opened, captured, base: files } = &mut installation;
    loader_cache::add(tree, files.as_ref(), opened, captured, NO_TIME)?;

    let layers = layering::plan(&installation.packages, settings.layering)?;
    let layers = write_layers(&mut installation, &layers, settings.compression, cache, sink)?;
    let (manifest, configuration, layers) = match base {
        None => oci::write_image(settings, architecture, created, user, layers, sink)?,
        Some(base) => oci::write_image_on(base, settings, architecture, created, layers, sink)?,
    };
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
                Owner::Base(number) => match installation.base.as_ref().and_then(|base| base.packages().get(number?)) {
                    Some(package) => FileOwner::Package(package.entry.information.name.clone()),
                    None => FileOwner::Base,
                },
                Owner::Composition | Owner::Implied => FileOwner::Composition,
            },
        })
        .collect();
    Ok(Composed {
        manifest,
        configuration,
        layers,
        packages: below(installation.base.as_ref()).chain(installation.packages.into_iter().map(package)).collect(),
        files,
        architecture,
        created,
    })
}

/// Merges the settings' accounts into those of the packages; the user that a container runs as.
fn accounts(installation: &mut Installation, settings: &Settings) -> Result<Option<String>, Error> {
    let tree = &mut installation.tree;
    let merged = accounts::merge(settings, &installation.captured)?;
    let user = accounts::run_as(settings, &merged)?;
    accounts::homes(tree, &merged, NO_TIME)?;
    system::write(tree, "etc/passwd", merged.passwd.into_bytes(), NO_TIME)?;
    if !merged.group.is_empty() {
        system::write(tree, "etc/group", merged.group.into_bytes(), NO_TIME)?;
    }
    Ok(user)
}

/// The packages of a base.
fn below(base: Option<&BaseFiles>) -> impl Iterator<Item = ComposedPackage> {
    base.into_iter().flat_map(|base| {
        base.packages().iter().map(|package| {
            let information = &package.entry.information;
            ComposedPackage {
                information: information.clone(),
                checksum: package.entry.checksum.clone(),
                size: package.entry.size,
                sbom: base.sbom(&information.name, &information.version).map(<[u8]>::to_vec),
            }
        })
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
