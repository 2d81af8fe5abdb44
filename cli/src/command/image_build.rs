//! `mill image build`, and what a catalog image gets.

use std::collections::BTreeMap;
use std::path::Path;

use apk::Architecture;
use image::{Composition, PackageFile, Settings};
use recipe::{ImageConfiguration, ImageDefinition, LayerCompression};
use serde_json::json;
use stage::{Context, files, resolve_for_all};
use upstream::Fetcher;

use crate::arguments::{Global, RepositoryArguments};
use crate::base_image::Bases;
use crate::factory::{self, Factory};
use crate::output::{self, Failure, Format, OrFail};
use crate::sources::{self, Sources};

use super::{image_lock, image_solve};

/// An image's configurations, one per stream.
fn configurations(context: &Context, name: &str) -> Result<Vec<ImageConfiguration>, Failure> {
    let source =
        context.catalog.images.get(name).ok_or_else(|| {
            Failure::usage(format!("the catalog has no image `{name}`; a file's name ends in `.yaml`"))
        })?;
    let file = format!("images/{name}/apko.yaml");
    let streams = source.definition.streams.iter();
    streams
        .map(|stream| {
            ImageConfiguration::parse(&ImageDefinition::expand(&source.configuration, stream), &file).or_bad()
        })
        .collect()
}

/// The architectures that an image of the catalog is built for here.
fn built(context: &Context, name: &str) -> Vec<Architecture> {
    let named = context.catalog.images.get(name).map_or(&[][..], |source| &source.definition.architectures);
    named.iter().copied().filter(|one| context.settings.architectures.contains(one)).collect()
}

fn wants(configuration: &ImageConfiguration) -> Vec<String> {
    configuration.contents.packages.iter().map(|want| want.value.clone()).collect()
}

/// What every stream of a catalog image gets from the home's packages.
pub async fn solve_from_catalog(
    global: &Global,
    name: &Path,
    architecture: Option<Architecture>,
) -> Result<u8, Failure> {
    let context = &Factory::open(global).await?.context;
    let name = name.display().to_string();
    let architectures = match architecture {
        Some(asked) => vec![asked],
        None => built(context, &name),
    };
    let mut lines = Vec::new();
    for configuration in configurations(context, &name)? {
        let mut resolution =
            resolve_for_all(context, &architectures, &name, &wants(&configuration)).await.map_err(Failure::of_stage)?;
        let host = Architecture::host().and_then(|host| resolution.packages.remove(&host));
        let shown = host.or_else(|| resolution.packages.into_values().next()).unwrap_or_default();
        lines.extend(shown.into_iter().map(|resolved| {
            let information = resolved.entry.information;
            format!("{}={}", information.name, information.version)
        }));
    }
    image_solve::print(global.format, &lines)?;
    Ok(0)
}

/// Where a build writes.
#[derive(Clone, Copy)]
pub struct Folders<'f> {
    /// The OCI layout.
    pub layout: &'f Path,
    /// SPDX documents, if they are wanted.
    pub documents: Option<&'f Path>,
}

/// Composes an image without testing or publishing it: of the catalog or of a file that names no
/// repositories from the home's packages, else from those of the file's repositories.
/// With a lock, a file gets exactly the packages that the lock names.
pub async fn run(
    global: &Global,
    name: &str,
    Folders { layout: folder, documents }: Folders<'_>,
    arguments: &RepositoryArguments,
    lockfile: Option<&Path>,
    compression: Option<LayerCompression>,
) -> Result<u8, Failure> {
    let file = Path::new(name);
    let mut bases = Bases::default();
    let mut catalogs = LayerCompression::default();
    let (configuration, packages, keys) = if let Some(lockfile) = lockfile {
        if !image_solve::is_file_name(file) {
            return Err(Failure::usage("a lock is of a file; its name ends in `.yaml`"));
        }
        let definition = image_solve::load(file)?;
        let sources = Sources::of(&definition.configuration, file, arguments)?;
        let keys = image_keys(&sources, &image_solve::fetcher(global, arguments)?).await?;
        let architectures = sources::architectures(&definition.configuration, None)?;
        bases = Bases::open(&definition.configuration, file, &architectures)?;
        let packages = image_lock::packages(global, lockfile, &definition, &bases, arguments).await?;
        (definition.configuration, packages, keys)
    } else if image_solve::is_file_name(file) {
        let (configuration, sources) = image_solve::read(file, arguments)?;
        if let Some(base) = &configuration.contents.base_image {
            return Err(Failure::bad(format!(
                "{name}:{}: an image on `contents.baseimage` is built from a lock: `mill image lock {name}`, then build with --lockfile",
                base.image.position.line
            )));
        }
        if sources.is_empty() {
            let factory = Factory::open(global).await?;
            let architectures = &factory.context.settings.architectures;
            let packages = from_home(&factory.context, architectures, name, &configuration).await?;
            (configuration, packages, Vec::new())
        } else {
            let (packages, keys) = from_repositories(global, file, &configuration, &bases, &sources, arguments).await?;
            let files = |chosen: Vec<Chosen>| chosen.into_iter().map(|chosen| chosen.package).collect();
            let packages = packages.into_iter().map(|(architecture, chosen)| (architecture, files(chosen)));
            (configuration, packages.collect(), keys)
        }
    } else {
        let context = &Factory::open(global).await?.context;
        let configuration = configurations(context, name)?.into_iter().last();
        let configuration = configuration.ok_or_else(|| Failure::bad(format!("image `{name}` has no stream")))?;
        let packages = from_home(context, &built(context, name), name, &configuration).await?;
        catalogs = context.catalog.images.get(name).map(|source| source.definition.compression).unwrap_or_default();
        (configuration, packages, Vec::new())
    };
    let settings = match configuration.contents.base_image {
        Some(_) => Settings::over_base(&configuration, keys),
        None => Settings::from_definition(&configuration, keys),
    };
    let mut settings = settings.or_bad()?;
    settings.compression = compression.unwrap_or(catalogs).into();
    let mut layout = image::Layout::create(folder).or_bad()?;
    let mut composed = Vec::new();
    for (architecture, packages) in &packages {
        let (base, epoch) = (bases.image(*architecture), factory::source_date_epoch()?);
        let created = base.map_or_else(|| image::created(epoch, packages), |base| base.created(epoch, packages));
        let composition = Composition { packages, settings: &settings, architecture: *architecture, created };
        let image = match base {
            Some(base) => image::compose_on(base, &composition, &mut layout),
            None => image::compose(&composition, &mut layout),
        };
        composed.push(image.or_bad()?);
    }
    let (mut index, _) = image::compose_index(&composed, &settings, &mut layout).or_bad()?;
    let digest = index.digest().to_string();
    index.set_annotations(Some([("org.opencontainers.image.ref.name".to_owned(), "latest".to_owned())].into()));
    if let Some(documents) = documents {
        write_documents(documents, name, &digest, &composed)?;
    }
    layout.write_index(vec![index]).or_bad()?;
    let platforms: BTreeMap<&str, String> =
        composed.iter().map(|image| (image.architecture.oci(), image.manifest.digest().to_string())).collect();
    match global.format {
        Format::Json => {
            output::json(&json!({ "image": name, "digest": digest, "platforms": platforms, "output": folder }))?
        }
        Format::Text => output::text(format!("{} {digest}", folder.display()))?,
    }
    Ok(0)
}

/// Writes the SPDX documents of an image, named as apko names them.
fn write_documents(folder: &Path, name: &str, digest: &str, composed: &[image::Composed]) -> Result<(), Failure> {
    let called = Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.display().to_string());
    let documents = stage::spdx_documents(&called, digest, composed).or_bad()?;
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::environment(format!("make the folder `{}`: {error}", folder.display())))?;
    let write = |part: &str, document: &[u8]| {
        let file = std::path::absolute(folder.join(format!("sbom-{part}.spdx.json"))).or_environment()?;
        ports::local::write_atomically(&file, document).or_environment()
    };
    for (architecture, document) in &documents.platforms {
        write(architecture.apk(), document)?;
    }
    write("index", &documents.index)
}

/// An image's packages per architecture, in install order.
pub type Packages = BTreeMap<Architecture, Vec<PackageFile>>;

/// A package of a repository.
pub struct Chosen {
    /// Its file on this machine.
    pub package: PackageFile,
    /// Where the repository has it: a path or a URL.
    pub location: String,
}

async fn from_home(
    context: &Context,
    architectures: &[Architecture],
    name: &str,
    configuration: &ImageConfiguration,
) -> Result<Packages, Failure> {
    if architectures.is_empty() {
        return Err(Failure::bad(format!("no architecture of `{name}` can be built on this machine")));
    }
    let resolution =
        resolve_for_all(context, architectures, name, &wants(configuration)).await.map_err(Failure::of_stage)?;
    let mut packages = BTreeMap::new();
    for (architecture, resolved) in resolution.packages {
        packages.insert(architecture, files(context, &resolved).await.or_bad()?);
    }
    Ok(packages)
}

/// The packages that a definition gets from its repositories, in install order and without those of its base,
/// and the keys that the image trusts.
pub async fn from_repositories(
    global: &Global,
    file: &Path,
    configuration: &ImageConfiguration,
    bases: &Bases,
    sources: &Sources,
    arguments: &RepositoryArguments,
) -> Result<(BTreeMap<Architecture, Vec<Chosen>>, Vec<image::Key>), Failure> {
    if sources.is_unverified() {
        return Err(Failure::bad(
            "the file names no keyring, so nobody vouches for the packages; name `contents.keyring`, or pass --keyring-append or --ignore-signatures",
        ));
    }
    let fetcher = image_solve::fetcher(global, arguments)?;
    let architectures = sources::architectures(configuration, None)?;
    let mut repositories = Vec::new();
    for architecture in &architectures {
        repositories.push((*architecture, sources.open(*architecture, &fetcher).await?));
    }
    let universes = bases.universes(&repositories)?;
    let wants = image_solve::wants(configuration)?;
    let cache = global.home.join("cache/packages");
    let mut packages = BTreeMap::new();
    for (universe, (architecture, repositories)) in universes.iter().zip(&repositories) {
        let solution = bases.solved(universe, &file.display().to_string(), &wants)?;
        let mut files = Vec::new();
        for chosen in solution.packages().filter(|chosen| !bases.has(*architecture, chosen.entry.name())) {
            let (entry, path) = repositories.package(chosen, &fetcher, &cache).await.or_bad()?;
            let location = repositories.location(chosen).or_bad()?;
            files.push(Chosen { package: PackageFile { entry, path }, location });
        }
        packages.insert(*architecture, files);
    }
    Ok((packages, image_keys(sources, &fetcher).await?))
}

async fn image_keys(sources: &Sources, fetcher: &Fetcher) -> Result<Vec<image::Key>, Failure> {
    let keys = sources.keys(fetcher).await?.into_iter();
    keys.map(|key| Ok(image::Key { name: key.name().to_owned(), content: key.to_pem().or_bad()? })).collect()
}
