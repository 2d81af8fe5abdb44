//! The build job: sources and build dependencies in, unsigned packages out. It holds no key and
//! runs what upstream wrote, so it works on files only and knows no port.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use apk::{BuiltPackage, PackageInformation, PackageSpec, Scan, ScanOptions, Script};
use async_trait::async_trait;
use lint::{Contents, Finding, Interface, Level, Subject};
use recipe::{BuildPlan, Output, OutputScriptlets};
use sandbox::{Bootstrap, Bubblewrap, BuilderRoot, Limits};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::package_test::{self, TestJob, TestRun};
use crate::{chain, licences};

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
    /// The compiler wrappers, and `bootstrap.yaml`.
    pub bootstrap: PathBuf,
    /// What the host's tool chain stands in for: names of `bootstrap.yaml`.
    pub host_tools: Vec<String>,
    /// The build repeats another, in other surroundings and in this folder: a build in it must
    /// depend on neither.
    pub repeated_in: Option<PathBuf>,
}

/// A package that is built and not yet signed.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// What it says of itself, and what is to be signed.
    pub built: BuiltPackage,
    /// The file.
    pub path: PathBuf,
    /// What its libraries export and its programs import.
    pub interface: Interface,
}

/// What a job left. The packages go when it is dropped.
#[derive(Debug)]
pub struct BuildProduct {
    /// The packages.
    pub packages: Vec<Unsigned>,
    /// What the linters warn of.
    pub findings: Vec<Finding>,
    /// The host's packages that stood in for build dependencies: name and version.
    pub host_packages: Vec<(String, String)>,
    /// The whole log, which stays.
    pub log: PathBuf,
    /// Holds the packages.
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

    /// Runs one package's test to its end.
    async fn test(&self, job: &TestJob) -> Result<TestRun, BuildError>;
}

/// Builds in bubblewrap on this machine.
pub struct LocalBuilder {
    sandbox: Bubblewrap,
    work: PathBuf,
    logs: PathBuf,
}

impl LocalBuilder {
    /// A builder that makes its scratch folders under `work`, and keeps the log of the last build
    /// of each version as `logs/NAME-VERSION-ARCH.log`.
    pub fn new(sandbox: Bubblewrap, work: PathBuf, logs: PathBuf) -> Self {
        Self { sandbox, work, logs }
    }
}

#[async_trait]
impl Builder for LocalBuilder {
    async fn build(&self, job: &BuildJob) -> Result<BuildProduct, BuildError> {
        let host_packages = host_packages(job)?;
        let place = job.repeated_in.as_ref().unwrap_or(&self.work);
        let folder = tempfile::Builder::new()
            .prefix(&format!("build-{}-", job.plan.name))
            .tempdir_in(place)
            .map_err(|error| BuildError::Environment(format!("make a folder in `{}`: {error}", place.display())))?;
        let root = prepare(job, folder.path()).await?;
        let plan = &job.plan;
        let kind = if job.repeated_in.is_some() { "repeated.log" } else { "log" };
        let log = self.logs.join(format!("{}-{}-{}.{kind}", plan.name, plan.full_version, plan.architecture));
        let definition: BTreeMap<String, String> = job.plan.environment.variables.iter().cloned().collect();
        let environment = BuilderRoot::environment(plan.architecture.apk(), job.source_date_epoch, &definition);
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
        let (packages, findings) = blocking(move || assemble(&job, &work, &packages)).await?;
        Ok(BuildProduct { packages, findings, host_packages, log, folder })
    }

    async fn test(&self, job: &TestJob) -> Result<TestRun, BuildError> {
        package_test::run_job(&self.sandbox, &self.work, job).await
    }
}

/// The host's packages behind the tools that the build takes from it; all must be there.
fn host_packages(job: &BuildJob) -> Result<Vec<(String, String)>, BuildError> {
    if job.host_tools.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error: sandbox::Error| BuildError::Environment(chain(&error));
    let (bootstrap, target) =
        (Bootstrap::load(&job.bootstrap.join("bootstrap.yaml")).map_err(failed)?, job.plan.architecture.apk());
    let missing = bootstrap.missing(&job.host_tools, target);
    if !missing.is_empty() {
        return Err(BuildError::Environment(missing.join("; ")));
    }
    bootstrap.versions(&job.host_tools, target).map_err(failed)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BuildError::Environment(error.to_string()))?
}

/// Lays out workspace, sources and sysroot below `folder`.
async fn prepare(job: &BuildJob, folder: &Path) -> Result<BuilderRoot, BuildError> {
    let root = BuilderRoot {
        sysroot: folder.join("sysroot"),
        bootstrap: job.bootstrap.clone(),
        sources: folder.join("sources"),
        work: folder.join("work"),
        repeats: job.repeated_in.is_some(),
    };
    let (job, made) = (job.clone(), root.clone());
    blocking(move || {
        for folder in [&made.sysroot, &made.sources, &made.work] {
            std::fs::create_dir(folder)
                .map_err(|error| BuildError::Environment(format!("make `{}`: {error}", folder.display())))?;
        }
        for (name, path) in &job.sources {
            let target = made.sources.join(name);
            std::fs::hard_link(path, &target)
                .or_else(|_| std::fs::copy(path, &target).map(drop))
                .map_err(|error| BuildError::Environment(format!("copy `{}`: {error}", path.display())))?;
        }
        if let Some(files) = &job.files {
            copy_tree(files, &made.work)
                .map_err(|error| BuildError::Environment(format!("copy `{}`: {error}", files.display())))?;
        }
        image::unpack_root(&job.sysroot, &made.sysroot)
            .map_err(|error| BuildError::Failed { reason: chain(&error), log: None })
    })
    .await?;
    Ok(root)
}

/// Copies a folder's content. Of the modes only the executable bit counts: the others depend on the
/// umask under which the catalog was checked out, which must not show in packages.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            make_folder(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else if metadata.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            std::fs::set_permissions(&target, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Makes a folder of mode 0755, whatever the umask; one that is there stays as it is. What a build
/// left in its place, such as a link out of the tree, is an error.
fn make_folder(path: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => real_folder(path),
        Err(error) => Err(error),
    }
}

/// An error unless `path` itself is a folder: a link to one is none.
fn real_folder(path: &Path) -> std::io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    Err(std::io::Error::new(std::io::ErrorKind::NotADirectory, format!("`{}` must be a folder", path.display())))
}

/// Makes the unsigned packages of the outputs below `work`, unless a linter refuses one.
fn assemble(job: &BuildJob, work: &Path, packages: &Path) -> Result<(Vec<Unsigned>, Vec<Finding>), BuildError> {
    std::fs::create_dir(packages)
        .map_err(|error| BuildError::Environment(format!("make `{}`: {error}", packages.display())))?;
    let texts = licences::texts(&job.plan, work).map_err(|reason| BuildError::Failed { reason, log: None })?;
    let mut findings = Vec::new();
    for output in &job.plan.outputs {
        let root = output_tree(output, work)?;
        findings.extend(lint_output(output, &root).map_err(failed(output))?);
    }
    let refused: Vec<String> =
        findings.iter().filter(|found| found.level == Level::Require).map(ToString::to_string).collect();
    if !refused.is_empty() {
        let reason = format!("the linters refuse what was built\n{}", refused.join("\n"));
        return Err(BuildError::Failed { reason, log: None });
    }
    let made = job.plan.outputs.iter().map(|output| assemble_one(job, output, &texts, work, packages));
    Ok((made.collect::<Result<_, _>>()?, findings))
}

/// A build error that names the package.
fn failed<E: std::error::Error>(output: &Output) -> impl Fn(E) -> BuildError + Copy {
    |error| BuildError::Failed { reason: format!("package `{}`: {}", output.name, chain(&error)), log: None }
}

/// The tree that the build left for an output; an empty one where it left none.
fn output_tree(output: &Output, work: &Path) -> Result<PathBuf, BuildError> {
    let folder = work.join("melange-out");
    let root = folder.join(&output.name);
    make_folder(&folder).and_then(|()| make_folder(&root)).map_err(failed(output))?;
    Ok(root)
}

fn lint_output(output: &Output, root: &Path) -> lint::Result<Vec<Finding>> {
    let tested_with = output.test.as_ref().map(|test| test.pipelines.as_slice()).unwrap_or_default();
    let subject = Subject {
        name: &output.name,
        disabled: &output.disabled_checks,
        tested_with,
        no_provides: output.options.no_provides,
        ..Subject::default()
    };
    Ok(lint::lint(&Contents::of_tree(root)?, &subject))
}

fn assemble_one(
    job: &BuildJob,
    output: &Output,
    texts: &[sbom::LicenceText],
    work: &Path,
    packages: &Path,
) -> Result<Unsigned, BuildError> {
    let failed = |error: &dyn std::error::Error| BuildError::Failed {
        reason: format!("package `{}`: {}", output.name, chain(error)),
        log: None,
    };
    let tree = |name: &str| work.join("melange-out").join(name);
    let root = tree(&output.name);
    let mut information = information(&job.plan, job.source_date_epoch, output);
    let siblings: Vec<PathBuf> =
        job.plan.outputs.iter().filter(|other| other.name != output.name).map(|other| tree(&other.name)).collect();
    let siblings: Vec<&Path> = siblings.iter().map(PathBuf::as_path).collect();
    let scan = Scan {
        name: &output.name,
        version: &job.plan.full_version,
        root: &root,
        siblings: &siblings,
        declared_depends: &output.dependencies.runtime,
        library_versions: &library_versions(job),
        options: scan_options(output),
    };
    let found = scan.run().map_err(|error| failed(&error))?;
    (information.depends, information.provides) =
        found.complete(&output.dependencies.runtime, &output.dependencies.provides);
    let interface = Interface::of_tree(&root).map_err(|error| failed(&error))?;
    let document = document(job, output, &information, texts, &root).map_err(|error| failed(error.as_ref()))?;
    let sbom = format!("{}-{}.spdx.json", information.name, information.version);
    write_document(&root, &sbom, &document).map_err(|error| failed(&error))?;
    let spec = PackageSpec {
        definition: Some(job.text.clone()),
        scripts: scripts(&output.scriptlets),
        source_date_epoch: u64::try_from(job.source_date_epoch).unwrap_or(0),
        vendored: found.vendored,
        xattrs: capabilities(output).map_err(|error| failed(&error))?,
        information,
        ..PackageSpec::default()
    };
    let path = packages.join(spec.information.file_name());
    let built = apk::build_package_file(&spec, &root, &path).map_err(|error| failed(&error))?;
    Ok(Unsigned { built, path, interface })
}

fn scan_options(output: &Output) -> ScanOptions {
    let options = output.options;
    ScanOptions {
        no_provides: options.no_provides,
        no_depends: options.no_depends,
        no_commands: options.no_commands,
        no_versioned_shlib_deps: options.no_versioned_shared_library_dependencies,
    }
}

/// The version of each shared library's package in the sysroot, by `SONAME`.
fn library_versions(job: &BuildJob) -> BTreeMap<String, String> {
    let provides = job.sysroot.iter().flat_map(|package| &package.entry.information.provides);
    let versions = provides.filter_map(|provided| provided.strip_prefix("so-ver:")?.split_once('='));
    versions.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

/// Extended attributes, name and value, by path.
type ExtendedAttributes = BTreeMap<String, Vec<(String, Vec<u8>)>>;

/// File capabilities as the extended attributes that hold them, by path.
fn capabilities(output: &Output) -> apk::Result<ExtendedAttributes> {
    let mut attributes = BTreeMap::new();
    for file in &output.capabilities {
        let clauses: Vec<String> = file.add.iter().map(|(name, flags)| format!("{name}{flags}")).collect();
        let value = apk::file_capabilities(&clauses.join(" "))?;
        let path = file.path.trim_start_matches('/').to_owned();
        attributes.insert(path, vec![(apk::CAPABILITY_ATTRIBUTE.to_owned(), value.to_vec())]);
    }
    Ok(attributes)
}

/// The package's own SPDX document.
fn document(
    job: &BuildJob,
    output: &Output,
    information: &PackageInformation,
    texts: &[sbom::LicenceText],
    root: &Path,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    digest_files(root, root, &mut files)?;
    files.sort();
    let attestations: Vec<&str> =
        output.licences.iter().filter_map(|licence| licence.attestation.as_deref()).map(str::trim).collect();
    let document = sbom::PackageSbom {
        information: information.clone(),
        distribution: DISTRIBUTION.to_owned(),
        copyright: attestations.join("\n"),
        cpe: output.cpe.clone(),
        originator: String::new(),
        licence_texts: texts.to_vec(),
        files,
        sources: job.origins.clone(),
        definition: Some(sbom::Definition {
            name: format!("{}.yaml", job.plan.name),
            sha256: sign::Digest::of(job.text.as_bytes()).hex(),
        }),
        created: job.source_date_epoch,
    };
    Ok(sbom::package_document(&document)?)
}

fn digest_files(root: &Path, folder: &Path, files: &mut Vec<sbom::FileDigests>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            digest_files(root, &path, files)?;
        } else if kind.is_file() {
            let mut file = std::fs::File::open(&path)?;
            let (mut sha1, mut sha256) = (Sha1::new(), Sha256::new());
            let mut buffer = vec![0_u8; 128 * 1024];
            loop {
                let count = file.read(&mut buffer)?;
                let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
                sha1.update(chunk);
                sha256.update(chunk);
            }
            files.push(sbom::FileDigests {
                path: path.strip_prefix(root).unwrap_or(&path).display().to_string(),
                sha1: hex::encode(sha1.finalize()),
                sha256: hex::encode(sha256.finalize()),
            });
        }
    }
    Ok(())
}

/// Puts the package's SBOM into its tree, with modes that don't depend on the umask. The tree is
/// what upstream's build left, so no link in it is followed.
fn write_document(root: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut folder = root.to_owned();
    for part in ["var", "lib", "db", "sbom"] {
        folder.push(part);
        make_folder(&folder)?;
    }
    let path = folder.join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::File::create_new(&path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))
}

/// What the definition says of a package.
pub(crate) fn information(plan: &BuildPlan, source_date_epoch: i64, output: &Output) -> PackageInformation {
    let dependencies = &output.dependencies;
    PackageInformation {
        name: output.name.clone(),
        version: plan.full_version.clone(),
        architecture: plan.architecture.to_string(),
        origin: plan.name.clone(),
        description: output.description.clone(),
        url: output.url.clone(),
        commit: output.commit.clone(),
        build_date: source_date_epoch,
        licenses: vec![output.licence_expression()].into_iter().filter(|licence| !licence.is_empty()).collect(),
        depends: dependencies.runtime.clone(),
        provides: dependencies.provides.clone(),
        replaces: dependencies.replaces.clone(),
        install_if: dependencies.install_if.clone(),
        provider_priority: dependencies.provider_priority,
        replaces_priority: dependencies.replaces_priority,
        triggers: output.scriptlets.trigger.as_ref().map(|(paths, _)| paths.clone()).unwrap_or_default(),
        ..PackageInformation::default()
    }
}

pub(crate) fn scripts(scriptlets: &OutputScriptlets) -> BTreeMap<Script, String> {
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
