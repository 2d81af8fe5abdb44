//! The build job: sources and build dependencies in, unsigned packages out. It holds no key and
//! runs what upstream wrote, so it works on files only and knows no port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apk::{BuiltPackage, PackageInformation, PackageSpec, Script};
use async_trait::async_trait;
use recipe::{BuildPlan, Output, OutputScriptlets};
use sandbox::{BuilderRoot, Bubblewrap, Limits};
use tempfile::TempDir;

use crate::chain;

const DISTRIBUTION: &str = "minimill";

/// All that a build needs.
#[derive(Clone, Debug)]
pub struct BuildJob {
    /// The resolved definition.
    pub plan: BuildPlan,
    /// Its text, which the packages carry.
    pub text: String,
    /// Time of everything in the packages, in seconds since 1970.
    pub source_date_epoch: i64,
    /// Verified sources: the name that the script reads, and the file.
    pub sources: Vec<(String, PathBuf)>,
    /// The sources as SBOMs name them.
    pub origins: Vec<sbom::Source>,
    /// Build dependencies in install order.
    pub sysroot: Vec<image::PackageFile>,
    /// Files that are put into the workspace first.
    pub files: Option<PathBuf>,
    /// The compiler wrappers.
    pub bootstrap: PathBuf,
}

/// A package that is built and not yet signed.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// What it says of itself, and what is to be signed.
    pub built: BuiltPackage,
    /// The file.
    pub path: PathBuf,
}

/// What a job left. The files go when it is dropped.
#[derive(Debug)]
pub struct BuildProduct {
    /// The packages.
    pub packages: Vec<Unsigned>,
    /// The whole log.
    pub log: PathBuf,
    /// Holds the files.
    pub folder: TempDir,
}

/// Why a job made no packages.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The build itself failed.
    #[error("{reason}")]
    Failed {
        /// Step, exit code and the end of the log.
        reason: String,
        /// The whole log.
        log: Option<Vec<u8>>,
    },
    /// The machine does not let the build run.
    #[error("{0}")]
    Environment(String),
}

/// Runs build jobs.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Runs one job to its end.
    async fn build(&self, job: &BuildJob) -> Result<BuildProduct, BuildError>;
}

/// Builds in bubblewrap on this machine.
pub struct LocalBuilder {
    sandbox: Bubblewrap,
    work: PathBuf,
}

impl LocalBuilder {
    /// A builder that makes its scratch folders under `work`.
    pub fn new(sandbox: Bubblewrap, work: PathBuf) -> Self {
        Self { sandbox, work }
    }
}

#[async_trait]
impl Builder for LocalBuilder {
    async fn build(&self, job: &BuildJob) -> Result<BuildProduct, BuildError> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("build-{}-", job.plan.name))
            .tempdir_in(&self.work)
            .map_err(|error| BuildError::Environment(format!("make a folder in `{}`: {error}", self.work.display())))?;
        let root = prepare(job, folder.path()).await?;
        let log = folder.path().join("log");
        let definition: BTreeMap<String, String> = job.plan.environment.variables.iter().cloned().collect();
        let environment = BuilderRoot::environment(job.source_date_epoch, &definition);
        let mut limits = Limits::default();
        if let Some(seconds) = job.plan.timeout_seconds {
            limits.wall_time = std::time::Duration::from_secs(seconds);
        }
        let sandbox_job = root
            .job(job.plan.script.clone().into_bytes(), environment, limits, log.clone())
            .map_err(|error| BuildError::Environment(chain(&error)))?;
        let outcome = self.sandbox.run(&sandbox_job).await.and_then(sandbox::Outcome::success);
        if let Err(error) = outcome {
            return Err(if error.is_environment() {
                BuildError::Environment(chain(&error))
            } else {
                BuildError::Failed { reason: chain(&error), log: std::fs::read(&log).ok() }
            });
        }
        let (job, work, packages) = (job.clone(), root.work.clone(), folder.path().join("packages"));
        let packages = blocking(move || assemble(&job, &work, &packages)).await?;
        Ok(BuildProduct { packages, log, folder })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, BuildError> + Send + 'static) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BuildError::Environment(error.to_string()))?
}

/// Lays out workspace, sources and sysroot below `folder`.
async fn prepare(job: &BuildJob, folder: &Path) -> Result<BuilderRoot, BuildError> {
    let root = BuilderRoot {
        sysroot: folder.join("sysroot"),
        bootstrap: job.bootstrap.clone(),
        sources: folder.join("sources"),
        work: folder.join("work"),
    };
    let (job, made) = (job.clone(), root.clone());
    blocking(move || {
        for folder in [&made.sysroot, &made.sources, &made.work] {
            std::fs::create_dir(folder).map_err(|error| BuildError::Environment(format!("make `{}`: {error}", folder.display())))?;
        }
        for (name, path) in &job.sources {
            let target = made.sources.join(name);
            std::fs::hard_link(path, &target)
                .or_else(|_| std::fs::copy(path, &target).map(drop))
                .map_err(|error| BuildError::Environment(format!("copy `{}`: {error}", path.display())))?;
        }
        if let Some(files) = &job.files {
            copy_tree(files, &made.work).map_err(|error| BuildError::Environment(format!("copy `{}`: {error}", files.display())))?;
        }
        image::unpack_root(&job.sysroot, &made.sysroot).map_err(|error| BuildError::Failed { reason: chain(&error), log: None })
    })
    .await?;
    Ok(root)
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Makes the unsigned packages of the outputs below `work`.
fn assemble(job: &BuildJob, work: &Path, packages: &Path) -> Result<Vec<Unsigned>, BuildError> {
    std::fs::create_dir(packages).map_err(|error| BuildError::Environment(format!("make `{}`: {error}", packages.display())))?;
    job.plan.outputs.iter().map(|output| assemble_one(job, output, work, packages)).collect()
}

fn assemble_one(job: &BuildJob, output: &Output, work: &Path, packages: &Path) -> Result<Unsigned, BuildError> {
    let failed = |error: &dyn std::error::Error| BuildError::Failed { reason: format!("package `{}`: {}", output.name, chain(error)), log: None };
    let tree = work.join("melange-out").join(&output.name);
    let mut information = information(job, output);
    let siblings: Vec<PathBuf> = job.plan.outputs.iter().map(|other| work.join("melange-out").join(&other.name)).collect();
    let found = apk::scan(&tree, &siblings, &information, scan_options(output)).map_err(|error| failed(&error))?;
    information.depends.extend(found.depends);
    information.provides.extend(found.provides);
    for list in [&mut information.depends, &mut information.provides] {
        list.sort();
        list.dedup();
    }
    let document = package_sbom(job, output, &information, &tree).map_err(|error| failed(error.as_ref()))?;
    let sbom = tree.join(format!("var/lib/db/sbom/{}-{}.spdx.json", information.name, information.version));
    write_document(&sbom, &document).map_err(|error| failed(&error))?;
    let spec = PackageSpec {
        definition: Some(job.text.clone()),
        scripts: scripts(&output.scriptlets),
        source_date_epoch: u64::try_from(job.source_date_epoch).unwrap_or(0),
        information,
        ..PackageSpec::default()
    };
    let path = packages.join(spec.information.file_name());
    let built = apk::build_package_file(&spec, &tree, &path).map_err(|error| failed(&error))?;
    Ok(Unsigned { built, path })
}

fn write_document(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)
}

fn information(job: &BuildJob, output: &Output) -> PackageInformation {
    let dependencies = &output.dependencies;
    PackageInformation {
        name: output.name.clone(),
        version: job.plan.full_version.clone(),
        architecture: job.plan.architecture.to_string(),
        origin: job.plan.name.clone(),
        description: output.description.clone(),
        url: output.url.clone(),
        commit: output.commit.clone(),
        build_date: job.source_date_epoch,
        licenses: vec![output.licence_expression()].into_iter().filter(|licence| !licence.is_empty()).collect(),
        depends: dependencies.runtime.clone(),
        provides: dependencies.provides.clone(),
        replaces: dependencies.replaces.clone(),
        provider_priority: dependencies.provider_priority,
        replaces_priority: dependencies.replaces_priority,
        triggers: output.scriptlets.trigger.as_ref().map(|(paths, _)| paths.clone()).unwrap_or_default(),
        ..PackageInformation::default()
    }
}

fn scripts(scriptlets: &OutputScriptlets) -> BTreeMap<Script, String> {
    let trigger = scriptlets.trigger.as_ref().map(|(_, script)| script.clone());
    [
        (Script::Trigger, trigger),
        (Script::PreInstall, scriptlets.pre_install.clone()),
        (Script::PostInstall, scriptlets.post_install.clone()),
        (Script::PreDeinstall, scriptlets.pre_deinstall.clone()),
        (Script::PostDeinstall, scriptlets.post_deinstall.clone()),
        (Script::PreUpgrade, scriptlets.pre_upgrade.clone()),
        (Script::PostUpgrade, scriptlets.post_upgrade.clone()),
    ]
    .into_iter()
    .filter_map(|(kind, script)| script.map(|script| (kind, script)))
    .collect()
}
