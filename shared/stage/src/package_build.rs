use std::collections::BTreeMap;
use std::time::Duration;

use apk::{Architecture, IndexEntry};
use async_trait::async_trait;
use ports::{Condition, Digest, Transaction};
use sandbox::Limits;
use serde::{Deserialize, Serialize};

use crate::elsewhere::{Found, Step};
use crate::evaluation::Package;
use crate::job::{BuildError, BuildJob, BuildProduct};
use crate::job_archive::{ExpectedBuild, Job, build_answer};
use crate::package_test::{self, PackageTestReport, Tested};
use crate::packages::{Retry, load_package, send_due};
use crate::record::{Built, Event, Failure, PublishedPackage, RepositoryEntry};
use crate::standing::{built_key, failure_key, published_key};
use crate::{Context, Outcome, PackagePublish, Stage, StageError, authenticity, build_sources, repository, resolve};

/// Builds the packages of a definition, without any key: verified sources in, unsigned bytes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageBuild {
    /// Name of the package definition.
    pub package: String,
    /// The full version that the definition has been given.
    pub version: String,
    /// What to build for.
    pub architecture: Architecture,
    /// Digest of the definition.
    pub definition: Digest,
}

/// What a build made, as handed to the signing stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildResult {
    /// Name of the package definition.
    pub package: String,
    /// Full version.
    pub version: String,
    /// Architecture.
    pub architecture: Architecture,
    /// Digest of the definition.
    pub definition: Digest,
    /// The definition's text.
    pub text: Digest,
    /// Time of everything in the packages, in seconds since 1970.
    pub source_date_epoch: i64,
    /// Unsigned packages.
    pub packages: Vec<UnsignedPackage>,
    /// Sources with the proof of their authenticity.
    pub sources: Vec<SourceEvidence>,
    /// Build dependencies from the factory's own repository.
    pub dependencies: Vec<BuildDependency>,
    /// The host's packages that stood in for build dependencies: name and version.
    pub bootstrap: Vec<(String, String)>,
    /// The catalog's own compiler wrappers and the like: path below `bootstrap/` and digest.
    #[serde(default)]
    pub bootstrap_files: Vec<(String, Digest)>,
    /// The build's log.
    pub log: Digest,
    /// What the linters warn of.
    #[serde(default)]
    pub findings: Vec<lint::Finding>,
    /// What came of the packages' tests.
    #[serde(default)]
    pub tests: Vec<PackageTestReport>,
    /// What each package's libraries export and its programs import: a map from package name to
    /// [`lint::Interface`].
    #[serde(default)]
    pub interfaces: Option<Digest>,
    /// Packages whose `checks.disabled` names `abi`.
    #[serde(default)]
    pub unchecked_interfaces: Vec<String>,
    /// The program that ran the build; those of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Digest>,
}

/// An unsigned package file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsignedPackage {
    /// Package name.
    pub name: String,
    /// The file.
    pub blob: Digest,
    /// SHA-256 of its control member, which is what is signed.
    pub control: Digest,
}

/// A source and how it was proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEvidence {
    /// Where it comes from.
    pub uri: String,
    /// Its digest.
    pub sha256: String,
    /// The chain of proof.
    pub evidence: serde_json::Value,
    /// What the definition states of it, as `sha256:HEX`, `sha512:HEX` or `git:COMMIT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// How it stands by the package's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticity: Option<authenticity::Verdict>,
}

/// A package that was installed for the build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildDependency {
    /// Package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// The signed file.
    pub blob: Digest,
}

#[async_trait]
impl Stage for PackageBuild {
    const NAME: &'static str = "package-build";

    fn subject(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let package = load_package(context, &self.package, self.architecture).await?;
        if package.claim.definition != self.definition || package.claim.version() != self.version {
            return Ok(Outcome::Skipped(format!(
                "its definition has changed; {} is built instead",
                package.claim.version()
            )));
        }
        let key = published_key(&self.package, &self.version, self.architecture);
        if let Some(document) = context.state.get(&key).await? {
            let published: PublishedPackage = document.decode()?;
            if published.definition == self.definition {
                return Ok(Outcome::Skipped("already published".to_owned()));
            }
        }
        let key = built_key(&self.package, &self.version, self.architecture);
        if let Some(document) = context.state.get(&key).await? {
            let built: Built = document.decode()?;
            if built.definition == self.definition {
                self.hand_on(context, Transaction::default(), built.result).await?;
                return Ok(Outcome::Skipped("already built".to_owned()));
            }
        }
        let (message, subject) = (self.envelope()?, self.subject());
        let steps = Steps {
            build: Step::of(context, &message, &subject, "build"),
            tests: Step::of(context, &message, &subject, "tests"),
        };
        match self.build(context, &package, &steps).await {
            Ok((result, sources)) => {
                let mut transaction = steps.end();
                transaction.put(key, Condition::Any, &Built { definition: self.definition, result })?;
                self.hand_on(context, transaction, result).await?;
                let count = package.plan.outputs.len();
                let packages = if count == 1 { "package" } else { "packages" };
                Ok(Outcome::Done(format!("{count} {packages} built; {sources}")))
            }
            Err(Halt::Waiting(text)) => Ok(Outcome::Done(text)),
            Err(Halt::Bad { reason, log }) => {
                let log = match log {
                    Some(bytes) => Some(context.blobs.put(bytes).await?),
                    None => None,
                };
                self.fail(context, steps.end(), FAILED, reason, log).await
            }
            Err(Halt::Tests { reason, log }) => {
                self.fail(context, steps.end(), "package.test-failed", reason, log).await
            }
            Err(Halt::Stage(StageError::Rejected(reason))) => {
                self.fail(context, steps.end(), FAILED, reason, None).await
            }
            Err(Halt::Stage(error)) => Err(error),
        }
    }
}

/// How long a machine may take to unpack what a job is given.
const SETTING_UP: Duration = Duration::from_secs(1_800);

/// The kind of the event of a build that failed.
const FAILED: &str = "package.failed";

/// Why a build stops.
enum Halt {
    Bad {
        reason: String,
        log: Option<Vec<u8>>,
    },
    Tests {
        reason: String,
        log: Option<Digest>,
    },
    /// For a job elsewhere, which will bring the message again.
    Waiting(String),
    Stage(StageError),
}

/// What of a build may be a job elsewhere.
struct Steps<'s> {
    build: Option<Step<'s>>,
    tests: Option<Step<'s>>,
}

impl Steps<'_> {
    /// A transaction that forgets the jobs.
    fn end(&self) -> Transaction {
        let mut transaction = Transaction::default();
        for step in [&self.build, &self.tests].into_iter().flatten() {
            step.forget(&mut transaction);
        }
        transaction
    }
}

/// What a build goes on with once its packages are made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    source_date_epoch: i64,
    sources: Vec<SourceEvidence>,
    dependencies: Vec<BuildDependency>,
}

impl Halt {
    fn from_build(error: BuildError) -> Self {
        match error {
            BuildError::Failed { reason, log } => Self::Bad { reason, log },
            BuildError::Environment(reason) => {
                StageError::Environment { action: "run the build".to_owned(), reason }.into()
            }
        }
    }

    fn from_found(found: Found) -> Self {
        match found {
            Found::Waiting(text) => Self::Waiting(text),
            Found::GivenUp(reason) => Self::Bad { reason, log: None },
            // Another run of the stage came first.
            Found::None | Found::Answered(_) => Self::Waiting("another run has its job".to_owned()),
        }
    }
}

impl<E: Into<StageError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Stage(error.into())
    }
}

impl PackageBuild {
    async fn hand_on(&self, context: &Context, mut transaction: Transaction, build: Digest) -> Result<(), StageError> {
        let message = PackagePublish { package: self.package.clone(), version: self.version.clone(), build };
        transaction.send(message.envelope()?);
        Ok(context.state.commit(transaction).await?)
    }

    /// The answer is the result's digest, and how the sources stand.
    async fn build(&self, context: &Context, package: &Package, steps: &Steps<'_>) -> Result<(Digest, String), Halt> {
        let (product, inputs) = match &steps.build {
            Some(step) => self.build_elsewhere(context, package, step).await?,
            None => {
                let (job, inputs) = self.job(context, package).await?;
                (context.builder.build(&job).await.map_err(Halt::from_build)?, inputs)
            }
        };
        let standing = build_sources::standing(&inputs.sources);
        let result = self.store(context, package, &product, inputs, steps.tests.as_ref()).await?;
        Ok((result, standing))
    }

    /// What is built from what, and what is kept of that.
    async fn job(&self, context: &Context, package: &Package) -> Result<(BuildJob, Inputs), Halt> {
        let sources = build_sources::fetch(context, &self.package, &package.plan).await?;
        let dependencies = resolve(context, self.architecture, &self.package, &package.wants).await?;
        let sysroot = repository::files(context, &dependencies).await?;
        let job = BuildJob {
            plan: package.plan.clone(),
            text: package.text.clone(),
            source_date_epoch: context.settings.source_date_epoch.or(sources.newest).unwrap_or(0),
            sources: sources.files,
            origins: sources.origins,
            sysroot,
            files: context.catalog.packages.get(&self.package).and_then(|source| source.folder.clone()),
            bootstrap: context.catalog.bootstrap_folder(),
            host_tools: package.bootstrap.clone(),
            repeated_in: None,
        };
        let dependencies = dependencies.into_iter().map(|resolved| BuildDependency {
            name: resolved.entry.information.name,
            version: resolved.entry.information.version,
            blob: resolved.blob,
        });
        let inputs = Inputs {
            source_date_epoch: job.source_date_epoch,
            sources: sources.evidence,
            dependencies: dependencies.collect(),
        };
        Ok((job, inputs))
    }

    /// Begins the build's job, or takes in its answer: with what it was begun with, whatever the repository
    /// offers by now.
    async fn build_elsewhere(
        &self,
        context: &Context,
        package: &Package,
        step: &Step<'_>,
    ) -> Result<(BuildProduct, Inputs), Halt> {
        let answered = match step.look().await? {
            Found::Answered(answered) => *answered,
            Found::None => {
                let (job, inputs) = self.job(context, package).await?;
                let time = job.plan.timeout_seconds.map_or(Limits::default().wall_time, Duration::from_secs);
                let begun = step.begin(Job::Build(Box::new(job)), &inputs, time.saturating_add(SETTING_UP)).await?;
                return Err(Halt::Waiting(begun));
            }
            other => return Err(Halt::from_found(other)),
        };
        let inputs: Inputs = answered.work(context).await?;
        let expected = ExpectedBuild {
            job: answered.archive,
            plan: &package.plan,
            text: &package.text,
            source_date_epoch: inputs.source_date_epoch,
        };
        let file = std::fs::File::open(&answered.file)
            .map_err(|error| StageError::environment("open the answer of a job")(&error))?;
        match build_answer(file, &context.settings.work, &expected) {
            Ok(product) => Ok((product, inputs)),
            Err(BuildError::Environment(reason)) => Err(Halt::from_found(step.refuse(answered, &reason).await?)),
            Err(error) => Err(Halt::from_build(error)),
        }
    }

    async fn store(
        &self,
        context: &Context,
        package: &Package,
        product: &BuildProduct,
        inputs: Inputs,
        tests: Option<&Step<'_>>,
    ) -> Result<Digest, Halt> {
        let mut packages = Vec::new();
        let mut interfaces: BTreeMap<&str, &lint::Interface> = BTreeMap::new();
        for unsigned in &product.packages {
            let name = &unsigned.built.information.name;
            packages.push(UnsignedPackage {
                name: name.clone(),
                blob: context.blobs.put_file(&unsigned.path).await?,
                control: Digest::from_bytes(unsigned.built.control_sha256),
            });
            if unsigned.interface != lint::Interface::default() {
                interfaces.insert(name, &unsigned.interface);
            }
        }
        let offered = self.offered(context, product, &packages).await?;
        let names: Vec<String> = package.plan.outputs.iter().map(|output| output.name.clone()).collect();
        let tests = match package_test::run_tests(context, &package.plan, &offered, &names, tests).await? {
            Tested::Reports(reports) => reports,
            Tested::Waiting(text) => return Err(Halt::Waiting(text)),
            Tested::GivenUp(reason) => return Err(Halt::Tests { reason, log: None }),
        };
        if let Some(reason) = package_test::refusal(&tests, context.settings.require_tests) {
            return Err(Halt::Tests { reason, log: tests.iter().find_map(|report| report.log) });
        }
        let unchecked =
            package.plan.outputs.iter().filter(|output| output.disabled_checks.iter().any(|check| check == lint::ABI));
        let result = BuildResult {
            package: self.package.clone(),
            version: self.version.clone(),
            architecture: self.architecture,
            definition: self.definition,
            text: context.blobs.put(package.text.clone().into_bytes()).await?,
            source_date_epoch: inputs.source_date_epoch,
            packages,
            sources: inputs.sources,
            dependencies: inputs.dependencies,
            bootstrap: product.host_packages.clone(),
            bootstrap_files: context
                .catalog
                .bootstrap_files(&package.bootstrap, self.architecture)
                .into_iter()
                .map(|file| (file.path.clone(), file.digest))
                .collect(),
            log: context.blobs.put_file(&product.log).await?,
            findings: product.findings.clone(),
            tests,
            interfaces: Some(context.store(&interfaces).await?),
            unchecked_interfaces: unchecked.map(|output| output.name.clone()).collect(),
            // Elsewhere another program ran it, whose digest is not known here.
            program: if context.jobs.is_none() { context.program().await? } else { None },
        };
        Ok(context.store(&result).await?)
    }

    /// The repository as it would be with the new packages: instead of what the definition has
    /// published before, so that the tests try the new ones together.
    async fn offered(
        &self,
        context: &Context,
        product: &BuildProduct,
        packages: &[UnsignedPackage],
    ) -> Result<Vec<RepositoryEntry>, StageError> {
        let mut offered = repository::entries(context, self.architecture).await?;
        offered.retain(|entry| entry.definition != self.package);
        offered.extend(product.packages.iter().zip(packages).map(|(unsigned, stored)| RepositoryEntry {
            entry: IndexEntry {
                checksum: unsigned.built.checksum.to_string(),
                size: unsigned.built.size,
                information: unsigned.built.information.clone(),
            },
            blob: stored.blob,
            definition: self.package.clone(),
            provenance: stored.blob,
            tests: None,
        }));
        Ok(offered)
    }

    /// Records the failure with `transaction`, and lets those build that can do without this version.
    async fn fail(
        &self,
        context: &Context,
        mut transaction: Transaction,
        kind: &str,
        reason: String,
        log: Option<Digest>,
    ) -> Result<Outcome, StageError> {
        let time = context.clock.now();
        let failure = Failure { time, reason: reason.clone(), log };
        let event = Event { time, kind: kind.to_owned(), subject: self.package.clone(), text: reason.clone() };
        transaction.put(failure_key(&self.package, &self.version, self.architecture), Condition::Any, &failure)?;
        transaction.put(event.key(), Condition::Any, &event)?;
        context.state.commit(transaction).await?;
        send_due(context, self.architecture, Retry::Failed(&self.package)).await?;
        Ok(Outcome::Failed(reason))
    }
}
