//! Whether a published version can be built again, byte for byte, in other surroundings.

use std::path::{Path, PathBuf};

use apk::Architecture;
use image::PackageFile;
use jiff::Timestamp;
use ports::{Condition, Digest, Key, Transaction};
use sandbox::BuilderRoot;
use serde::{Deserialize, Serialize};

use crate::abi::build_result;
use crate::evaluation::Package;
use crate::job::{BuildError, BuildJob, BuildProduct};
use crate::package_build::BuildResult;
use crate::package_difference::{self, Explanation};
use crate::record::{self, PublishedPackage, RepositoryEntry};
use crate::standing::published_key;
use crate::{Context, StageError, build_sources, load_package};

/// A file system in memory, which lists a folder in another order than those on disks.
const MEMORY: &str = "/dev/shm";

/// What came of building a published version again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reproducibility {
    /// When it was built again.
    pub time: Timestamp,
    /// All packages have the published bytes, but for the signature.
    pub reproducible: bool,
    /// In what the second build's surroundings differed from the first's.
    pub varied: Vec<String>,
    /// What could not differ, and why not.
    pub not_varied: Vec<String>,
    /// Packages of the host's tool chain that are no longer those of the first build:
    /// `NAME BEFORE -> NOW`.
    pub changed_tools: Vec<String>,
    /// Each package.
    pub packages: Vec<Repeated>,
}

/// A package of a repeated build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// Package name.
    pub package: String,
    /// Digest of the unsigned package that was signed and published.
    pub published: Digest,
    /// Digest of the one that was built again; none when the build no longer makes it.
    pub repeated: Option<Digest>,
    /// How they differ, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Explanation>,
}

/// The key of what came of building a version again.
pub(crate) fn reproducible_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("reproducible#{version}#{architecture}"))
}

/// Builds the current version of a definition again from the same inputs, in other surroundings,
/// holds the packages against those that were published, and records what came of it.
///
/// # Errors
/// [`StageError::Rejected`] when the current version is not published or no longer builds;
/// [`StageError::Environment`] when it can't be built here.
pub async fn check_reproducible(
    context: &Context,
    name: &str,
    architecture: Architecture,
) -> Result<Reproducibility, StageError> {
    let package = load_package(context, name, architecture).await?;
    let version = package.claim.version();
    let document = context.state.get(&published_key(name, &version, architecture)).await?;
    let document = document.ok_or_else(|| {
        StageError::Rejected(format!("{name} {version} is not published for {architecture}, so it can't be repeated"))
    })?;
    let published: PublishedPackage = document.decode()?;
    let result = build_result(context, published.build).await?;
    let mut job = job(context, name, &package, &result).await?;
    let (product, order) = repeat(context, &mut job).await?;
    let mut packages = Vec::new();
    for unsigned in &result.packages {
        let again = product.packages.iter().find(|one| one.built.information.name == unsigned.name);
        packages.push(compare(context, &unsigned.name, unsigned.blob, again.map(|one| one.path.as_path())).await?);
    }
    let mut varied: Vec<String> = BuilderRoot::VARIED.iter().map(|what| (*what).to_owned()).collect();
    varied.push("time (later)".to_owned());
    let mut not_varied = vec!["umask (the build's root sets 022, whatever the caller's)".to_owned()];
    match order {
        Ok(order) => varied.push(order),
        Err(reason) => not_varied.push(reason),
    }
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) == 1 {
        varied.retain(|what| !what.starts_with("processors"));
        not_varied.push("processors (this machine has one)".to_owned());
    }
    let found = Reproducibility {
        time: context.clock.now(),
        reproducible: packages.iter().all(|one| one.repeated == Some(one.published)),
        varied,
        not_varied,
        changed_tools: changed_tools(&product.host_packages, &result),
        packages,
    };
    let mut transaction = Transaction::default();
    transaction.put(reproducible_key(name, &version, architecture), Condition::Any, &found)?;
    context.state.commit(transaction).await?;
    Ok(found)
}

/// The job with the inputs of the first build.
async fn job(context: &Context, name: &str, package: &Package, result: &BuildResult) -> Result<BuildJob, StageError> {
    let sources = build_sources::fetch(context, name, &package.plan).await?;
    let mut sysroot = Vec::new();
    for dependency in &result.dependencies {
        let sort = format!("{}={}", dependency.name, dependency.version);
        let document = context.state.get(&Key::new(record::repository(result.architecture), sort)).await?;
        let document = document.ok_or_else(|| {
            let (name, version) = (&dependency.name, &dependency.version);
            StageError::Rejected(format!("it was built with {name} {version}, of which there is no record"))
        })?;
        let entry: RepositoryEntry = document.decode()?;
        sysroot.push(PackageFile { entry: entry.entry, path: context.blobs.file(dependency.blob).await? });
    }
    Ok(BuildJob {
        plan: package.plan.clone(),
        text: package.text.clone(),
        source_date_epoch: result.source_date_epoch,
        sources: sources.files,
        origins: sources.origins,
        sysroot,
        files: context.catalog.packages.get(name).and_then(|source| source.folder.clone()),
        bootstrap: context.catalog.bootstrap_folder(),
        host_tools: package.bootstrap.clone(),
        repeated_in: None,
    })
}

/// Builds in memory, so that folders are listed in another order, or on the disk where memory does
/// not do. The second answer is what became of the order of files.
async fn repeat(context: &Context, job: &mut BuildJob) -> Result<(BuildProduct, Result<String, String>), StageError> {
    let not = |reason: String| format!("order of files ({reason})");
    let mut order = match memory_folder(&context.settings.work) {
        Ok(folder) => {
            job.repeated_in = Some(folder.path.clone());
            match context.builder.build(job).await {
                Ok(mut product) => {
                    // The packages outlive the memory that they were made in.
                    keep(context, &mut product)?;
                    return Ok((product, Ok(format!("order of files (as `{MEMORY}` lists them)"))));
                }
                Err(error) => Err(not(format!("it does not build in `{MEMORY}`: {error}"))),
            }
        }
        Err(error) => Err(not(format!("`{MEMORY}` can't be used: {error}"))),
    };
    job.repeated_in = Some(context.settings.work.clone());
    let product = context.builder.build(job).await.map_err(|error| match error {
        BuildError::Failed { reason, .. } => StageError::Rejected(format!("it does not build again: {reason}")),
        BuildError::Environment(reason) => StageError::Environment { action: "run the build".to_owned(), reason },
    })?;
    if let Err(reason) = &mut order {
        reason.truncate(reason.char_indices().nth(500).map_or(reason.len(), |(end, _)| end));
    }
    Ok((product, order))
}

/// Moves the packages of a build into the work folder.
fn keep(context: &Context, product: &mut BuildProduct) -> Result<(), StageError> {
    let failed = |error: std::io::Error| StageError::environment("keep what was built again")(&error);
    let kept = tempfile::Builder::new().prefix("repeated-").tempdir_in(&context.settings.work).map_err(failed)?;
    for package in &mut product.packages {
        let target = kept.path().join(package.built.information.file_name());
        std::fs::copy(&package.path, &target).map_err(failed)?;
        package.path = target;
    }
    product.folder = kept;
    Ok(())
}

/// A folder in memory that goes when it is dropped, or with the next one of this home.
struct MemoryFolder {
    path: PathBuf,
}

impl Drop for MemoryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), "not removed: {error}");
        }
    }
}

/// Only one process works in a home, so that a name made from it is nobody else's.
fn memory_folder(work: &Path) -> std::io::Result<MemoryFolder> {
    let name = Digest::of(work.as_os_str().as_encoded_bytes()).hex();
    let name = name.get(..16).unwrap_or_default();
    let path = Path::new(MEMORY).join(format!("minimill-{name}"));
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700).create(&path)?;
    Ok(MemoryFolder { path })
}

async fn compare(
    context: &Context,
    package: &str,
    published: Digest,
    again: Option<&Path>,
) -> Result<Repeated, StageError> {
    let Some(again) = again else {
        return Ok(Repeated { package: package.to_owned(), published, repeated: None, difference: None });
    };
    let repeated = context.blobs.put_file(again).await?;
    let difference = if repeated == published {
        None
    } else {
        let before = context.blobs.file(published).await?;
        Some(package_difference::explain(&context.settings.work, &before, again).await?)
    };
    Ok(Repeated { package: package.to_owned(), published, repeated: Some(repeated), difference })
}

/// The host's packages that are others now.
fn changed_tools(now: &[(String, String)], result: &BuildResult) -> Vec<String> {
    let changed = result.bootstrap.iter().filter(|before| !now.contains(before)).map(|(name, before)| {
        let now = now.iter().find(|(other, _)| other == name).map_or("none", |(_, version)| version);
        format!("{name} {before} -> {now}")
    });
    changed.collect()
}
