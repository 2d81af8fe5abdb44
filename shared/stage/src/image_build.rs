use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use apk::Architecture;
use async_trait::async_trait;
use image::{BlobSink, BlobWriter, Composed, Composition, LayerCache, PackageFile, Settings};
use ports::{Condition, Digest, Key, Transaction};
use recipe::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::image_plan::Plan;
use crate::record::{self, BuiltImage};
use crate::{Context, ImageTest, Outcome, Stage, StageError, chain, repository};

const MAXIMUM_PLAN_BYTES: u64 = 64 << 20;
const LAYER_CACHE_BYTES: u64 = 2 << 30;

/// Composes an image from its plan, for every architecture, twice: an image is only handed on when
/// both compositions give the same digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageBuild {
    /// Image name.
    pub image: String,
    /// Stream name.
    pub stream: String,
    /// The [`Plan`].
    pub plan: Digest,
}

/// A composed image, all of whose content is among the blobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRecord {
    /// Image name.
    pub image: String,
    /// Stream name.
    pub stream: String,
    /// The plan it was built from.
    pub plan: Digest,
    /// Upstream version of the primary package.
    pub version: String,
    /// The image index.
    pub index: Digest,
    /// The index as each composition gave it; builds of older versions don't say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compositions: Vec<Digest>,
    /// SPDX document of the index.
    pub sbom: Digest,
    /// CycloneDX document of the index; builds of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bom: Option<Digest>,
    /// One image per architecture.
    pub platforms: BTreeMap<Architecture, Platform>,
    /// `created` of the newest platform, in seconds since 1970.
    pub created: i64,
    /// The program that composed it; builds of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Digest>,
}

/// The image of one architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The manifest.
    pub manifest: Digest,
    /// Configuration and layers, with their sizes in bytes.
    pub content: Vec<(Digest, u64)>,
    /// SPDX document.
    pub sbom: Digest,
    /// CycloneDX document; builds of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bom: Option<Digest>,
    /// The files of the image that no package owns.
    pub composed_files: Vec<String>,
}

#[async_trait]
impl Stage for ImageBuild {
    const NAME: &'static str = "image-build";

    fn subject(&self) -> String {
        format!("{}:{}", self.image, self.stream)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let plan: Plan = context.load("plan", self.plan, MAXIMUM_PLAN_BYTES).await?;
        let record = match build(context, self.plan, &plan).await {
            Ok(record) => record,
            Err(StageError::Rejected(reason)) => {
                crate::image_test::record_failure(context, &self.image, &self.stream, &reason, None).await?;
                return Ok(Outcome::Failed(reason));
            }
            Err(error) => return Err(error),
        };
        let index = record.index;
        let build = context.store(&record).await?;
        let mut transaction = Transaction::default();
        let key = Key::new(record::image(&self.image), format!("built#{}", self.stream));
        transaction.put(key, Condition::Any, &BuiltImage { index, build })?;
        transaction.send(ImageTest { image: self.image, stream: self.stream, build }.envelope()?);
        context.state.commit(transaction).await?;
        Ok(Outcome::Done(format!("{} composed as {index}", plan.version)))
    }
}

async fn build(context: &Context, digest: Digest, plan: &Plan) -> Result<BuildRecord, StageError> {
    let scratch = tempfile::Builder::new()
        .prefix("compose-")
        .tempdir_in(&context.settings.work)
        .map_err(|error| StageError::environment("make a scratch folder")(&error))?;
    let mut packages = BTreeMap::new();
    for (architecture, planned) in &plan.packages {
        packages.insert(*architecture, repository::files(context, planned).await?);
    }
    let settings = settings(context, plan, &plan.parsed()?)?;
    let (folder, source_date_epoch) = (scratch.path().join("layout"), context.settings.source_date_epoch);
    let made = {
        let (folder, settings) = (folder.clone(), settings);
        let cache = context.settings.layer_cache.clone();
        tokio::task::spawn_blocking(move || compose(&folder, cache.as_deref(), &settings, &packages, source_date_epoch))
            .await
            .map_err(ports::PortError::from)??
    };
    store(context, digest, plan, &folder, made).await
}

/// The definition's settings, with what the catalog says of the image as annotations where the
/// definition is silent.
fn settings(context: &Context, plan: &Plan, configuration: &ImageConfiguration) -> Result<Settings, StageError> {
    let mut settings =
        Settings::from_definition(configuration, Vec::new()).map_err(|error| StageError::Rejected(chain(&error)))?;
    let definition = context.catalog.images.get(&plan.image).map(|source| &source.definition);
    settings.compression = definition.map(|definition| definition.compression.into()).unwrap_or_default();
    let known = [
        ("title", definition.map(|definition| definition.title.value.clone())),
        ("description", definition.map(|definition| definition.description.value.clone())),
        ("url", definition.and_then(|definition| definition.url.as_ref()).map(|url| url.value.clone())),
        ("version", Some(plan.version.clone())),
    ];
    for (name, value) in known {
        let name = format!("org.opencontainers.image.{name}");
        if let Some(value) = value.filter(|_| settings.annotations.iter().all(|(known, _)| *known != name)) {
            settings.annotations.push((name, value));
        }
    }
    Ok(settings)
}

struct Made {
    platforms: Vec<Composed>,
    index: String,
    /// The index that composing again gave.
    again: Option<String>,
}

fn compose(
    folder: &Path,
    cache: Option<&Path>,
    settings: &Settings,
    packages: &BTreeMap<Architecture, Vec<PackageFile>>,
    source_date_epoch: Option<i64>,
) -> Result<Made, StageError> {
    let mut layout = image::Layout::create(folder).map_err(|error| failed(&error))?;
    let cache =
        cache.map(|folder| LayerCache::open(folder, LAYER_CACHE_BYTES)).transpose().map_err(|error| failed(&error))?;
    let mut first = compose_into(&mut layout, cache.as_ref(), settings, packages, source_date_epoch)?;
    // Without the cache, so that this holds what it gave against the packages too.
    let again = compose_into(&mut Discard, None, settings, packages, source_date_epoch)?;
    if first.index != again.index {
        let reason =
            format!("composing twice gave {} and then {}; the image is not reproducible", first.index, again.index);
        return Err(StageError::Rejected(reason));
    }
    first.again = Some(again.index);
    Ok(first)
}

fn compose_into(
    sink: &mut dyn BlobSink,
    cache: Option<&LayerCache>,
    settings: &Settings,
    packages: &BTreeMap<Architecture, Vec<PackageFile>>,
    source_date_epoch: Option<i64>,
) -> Result<Made, StageError> {
    let mut platforms = Vec::new();
    for (architecture, packages) in packages {
        let created = image::created(source_date_epoch, packages);
        let composition = Composition { packages, settings, architecture: *architecture, created };
        let composed = match cache {
            Some(cache) => image::compose_cached(&composition, cache, sink),
            None => image::compose(&composition, sink),
        };
        platforms.push(composed.map_err(|error| failed(&error))?);
    }
    let (index, _) = image::compose_index(&platforms, settings, sink).map_err(|error| failed(&error))?;
    Ok(Made { platforms, index: index.digest().to_string(), again: None })
}

fn failed(error: &image::Error) -> StageError {
    if matches!(error, image::Error::Write { .. } | image::Error::Package(apk::Error::Io { .. })) {
        StageError::environment("compose the image")(error)
    } else {
        StageError::Rejected(chain(error))
    }
}

/// Takes bytes and keeps none: for composing again only to compare digests.
struct Discard;

impl BlobSink for Discard {
    fn begin(&mut self) -> io::Result<Box<dyn BlobWriter + '_>> {
        Ok(Box::new(Self))
    }
}

impl Write for Discard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Discard {
    fn commit(self: Box<Self>, _: &str, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn digest(text: &str) -> Result<Digest, StageError> {
    text.parse().map_err(|error: ports::InvalidDigest| StageError::Rejected(error.to_string()))
}

async fn store(
    context: &Context,
    plan_digest: Digest,
    plan: &Plan,
    folder: &Path,
    made: Made,
) -> Result<BuildRecord, StageError> {
    let index = digest(&made.index)?;
    let compositions =
        std::iter::once(&made.index).chain(&made.again).map(|text| digest(text)).collect::<Result<_, _>>()?;
    let mut platforms = BTreeMap::new();
    let mut images = Vec::new();
    let mut created = 0;
    put(context, folder, index).await?;
    for composed in &made.platforms {
        let manifest = digest(composed.manifest.digest().as_ref())?;
        put(context, folder, manifest).await?;
        let mut content = Vec::new();
        for descriptor in
            std::iter::once(&composed.configuration).chain(composed.layers.iter().map(|layer| &layer.descriptor))
        {
            let blob = digest(descriptor.digest().as_ref())?;
            put(context, folder, blob).await?;
            content.push((blob, descriptor.size()));
        }
        let (facts, refused) =
            (image_sbom(&plan.image, composed), |error: sbom::Error| StageError::Rejected(chain(&error)));
        let sbom = context.blobs.put(sbom::image_document(&facts).map_err(refused)?).await?;
        let bom = Some(context.blobs.put(sbom::image_bom(&facts).map_err(refused)?).await?);
        images.push(sbom::PlatformImage {
            digest: manifest.to_string(),
            architecture: composed.architecture.oci().to_owned(),
        });
        created = created.max(composed.created);
        let composed_files = composed
            .files
            .iter()
            .filter(|file| file.owner == image::FileOwner::Composition)
            .map(|file| file.path.clone());
        let platform = Platform { manifest, content, sbom, bom, composed_files: composed_files.collect() };
        platforms.insert(composed.architecture, platform);
    }
    let index_sbom = sbom::IndexSbom { repository: plan.image.clone(), digest: index.to_string(), images, created };
    let document = sbom::index_document(&index_sbom).map_err(|error| StageError::Rejected(chain(&error)))?;
    let bom = sbom::index_bom(&index_sbom).map_err(|error| StageError::Rejected(chain(&error)))?;
    Ok(BuildRecord {
        image: plan.image.clone(),
        stream: plan.stream.clone(),
        plan: plan_digest,
        version: plan.version.clone(),
        index,
        compositions,
        sbom: context.blobs.put(document).await?,
        bom: Some(context.blobs.put(bom).await?),
        platforms,
        created,
        program: context.program().await?,
    })
}

async fn put(context: &Context, folder: &Path, blob: Digest) -> Result<(), StageError> {
    let path: PathBuf = folder.join("blobs/sha256").join(blob.hex());
    let stored = context.blobs.put_file(&path).await?;
    if stored == blob {
        Ok(())
    } else {
        Err(StageError::Port(ports::PortError::Damaged { expected: blob, found: stored }))
    }
}

/// The SPDX documents of a composed image that is not published, JSON.
pub struct SpdxDocuments {
    /// One per platform; what a base image brings is in it too.
    pub platforms: Vec<(Architecture, Vec<u8>)>,
    /// That of the index.
    pub index: Vec<u8>,
}

/// The SPDX documents of an image: `repository` is what it is called, `index` the digest of its index.
///
/// # Errors
/// When a package's own document, or what a package says of itself, can't be read.
pub fn spdx_documents(repository: &str, index: &str, images: &[Composed]) -> Result<SpdxDocuments, sbom::Error> {
    let platform =
        |composed: &Composed| Ok((composed.architecture, sbom::image_document(&image_sbom(repository, composed))?));
    let index = sbom::IndexSbom {
        repository: repository.to_owned(),
        digest: index.to_owned(),
        images: images
            .iter()
            .map(|composed| sbom::PlatformImage {
                digest: composed.manifest.digest().to_string(),
                architecture: composed.architecture.oci().to_owned(),
            })
            .collect(),
        created: images.iter().map(|composed| composed.created).max().unwrap_or(0),
    };
    Ok(SpdxDocuments {
        platforms: images.iter().map(platform).collect::<Result<_, sbom::Error>>()?,
        index: sbom::index_document(&index)?,
    })
}

fn image_sbom(repository: &str, composed: &Composed) -> sbom::ImageSbom {
    let distribution = image::Distribution::default();
    sbom::ImageSbom {
        repository: repository.to_owned(),
        digest: composed.manifest.digest().to_string(),
        architecture: composed.architecture.oci().to_owned(),
        distribution: sbom::Distribution {
            id: distribution.id,
            name: distribution.name,
            version: distribution.version,
        },
        layers: composed
            .layers
            .iter()
            .map(|layer| sbom::Layer {
                digest: layer.descriptor.digest().to_string(),
                diff_id: layer.diff_id.clone(),
                media_type: layer.descriptor.media_type().to_string(),
            })
            .collect(),
        packages: composed
            .packages
            .iter()
            .map(|package| sbom::InstalledPackage {
                information: package.information.clone(),
                checksum: package.checksum.clone(),
                embedded: package.sbom.clone(),
            })
            .collect(),
        created: composed.created,
    }
}
