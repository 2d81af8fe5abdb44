use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::Duration;

use apk::Architecture;
use async_trait::async_trait;
use ports::{Condition, Digest, Key, Transaction};
use recipe::{Edition, ImageDefinition, Requirement, Variant};
use serde::{Deserialize, Serialize};
use sign::predicate::{TestOutcome, TestResult};
use tempfile::TempDir;
use verify::{Compliance, Image, Integrity, Report, Suite, SuiteReport};

use crate::catalog::ImageSource;
use crate::elsewhere::{Found, Step};
use crate::image_build::{BuildRecord, Platform};
use crate::image_suites::{ImageTestJob, ImageTestRun, SuiteFile};
use crate::job::BuildError;
use crate::job_archive::{Job, image_answers};
use crate::record::{self, Event, Failure};
use crate::{Context, ImagePublish, Outcome, Stage, StageError, chain};

pub(crate) const MAXIMUM_RECORD_BYTES: u64 = 64 << 20;

/// Runs the test suites on a composed image. Only an image whose every suite has passed, or is
/// declared not applicable, goes on to be published: what has not run blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTest {
    /// Image name.
    pub image: String,
    /// Stream name.
    pub stream: String,
    /// The [`BuildRecord`].
    pub build: Digest,
}

/// The reports of all platforms of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// The image index.
    pub digest: Digest,
    /// One report per architecture.
    pub platforms: BTreeMap<Architecture, Report>,
}

impl Reports {
    /// How many checks of all platforms have this status.
    fn count(&self, status: verify::Status) -> usize {
        let checks = self.platforms.values().flat_map(|report| &report.suites).flat_map(|suite| &suite.checks);
        checks.filter(|check| check.status == status).count()
    }

    /// `passed/all` of the checks that decide: neither those not applicable, nor what is only told or let pass.
    pub fn summary(&self) -> String {
        use verify::Status::{Failed, NotRun, Passed};
        let passed = self.count(Passed);
        format!("{passed}/{}", passed + self.count(Failed) + self.count(NotRun))
    }

    /// What is only told, and what is let pass: `, 1 warned, 2 waived`.
    fn remarks(&self) -> String {
        let counted = [("warned", verify::Status::Warned), ("waived", verify::Status::Waived)]
            .map(|(what, status)| (self.count(status), what));
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect()
    }

    /// The predicate of a test-result attestation (in-toto test-result v0.1). A check that passed only when it
    /// was tried again is among the warned ones.
    pub fn attestation(&self, architecture: Option<Architecture>) -> TestResult {
        let platforms =
            self.platforms.iter().filter(|(other, _)| architecture.is_none_or(|architecture| **other == architecture));
        let checks = platforms.flat_map(|(_, report)| &report.suites).flat_map(|suite| &suite.checks);
        let (mut passed, mut warned, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for check in checks {
            match check.status {
                verify::Status::Passed if check.earlier.is_empty() => passed.push(check.id.clone()),
                verify::Status::Passed => warned.push(check.id.clone()),
                verify::Status::Failed | verify::Status::NotRun => failed.push(check.id.clone()),
                verify::Status::Warned | verify::Status::Waived => warned.push(check.id.clone()),
                verify::Status::NotApplicable => {}
            }
        }
        let result = match (failed.is_empty(), warned.is_empty()) {
            (true, true) => TestOutcome::Passed,
            (true, false) => TestOutcome::Warned,
            (false, _) => TestOutcome::Failed,
        };
        TestResult {
            result,
            configuration: Vec::new(),
            url: None,
            passed_tests: passed,
            warned_tests: warned,
            failed_tests: failed,
        }
    }
}

#[async_trait]
impl Stage for ImageTest {
    const NAME: &'static str = "image-test";

    fn subject(&self) -> String {
        format!("{}:{}", self.image, self.stream)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let build: BuildRecord = context.load("build record", self.build, MAXIMUM_RECORD_BYTES).await?;
        let source = context
            .catalog
            .images
            .get(&self.image)
            .ok_or_else(|| StageError::Rejected(format!("the catalog has no image `{}`", self.image)))?;
        let edition = source
            .definition
            .edition(&self.stream)
            .ok_or_else(|| StageError::Rejected(format!("image `{}` has no stream `{}`", self.image, self.stream)))?;
        let (message, subject) = (self.envelope()?, self.subject());
        let step = Step::of(context, &message, &subject, "suites");
        let platforms = match suites(context, source, edition, &build, step.as_ref()).await {
            Ok(Tested::Reports(platforms)) => waived(context, source, platforms),
            Ok(Tested::Waiting(text)) => return Ok(Outcome::Done(text)),
            Ok(Tested::GivenUp(reason)) | Err(StageError::Rejected(reason)) => {
                record_failure(context, &self.image, &self.stream, &reason, None).await?;
                end(context, step.as_ref()).await?;
                return Ok(Outcome::Failed(reason));
            }
            Err(error) => return Err(error),
        };
        let reports = Reports { digest: build.index, platforms };
        let report = context.store(&reports).await?;
        if reports.platforms.values().all(Report::passed) {
            let (summary, remarks) = (reports.summary(), reports.remarks());
            let message = ImagePublish { image: self.image, stream: self.stream, build: self.build, report };
            context.state.commit(Transaction { messages: vec![message.envelope()?], ..Transaction::default() }).await?;
            end(context, step.as_ref()).await?;
            return Ok(Outcome::Done(format!("{summary} checks passed{remarks}")));
        }
        let reason = blocking(&reports);
        record_failure(context, &self.image, &self.stream, &reason, Some(report)).await?;
        end(context, step.as_ref()).await?;
        Ok(Outcome::Failed(reason))
    }
}

fn waived(
    context: &Context,
    source: &ImageSource,
    mut platforms: BTreeMap<Architecture, Report>,
) -> BTreeMap<Architecture, Report> {
    let today = jiff::tz::Offset::UTC.to_datetime(context.clock.now()).date();
    platforms.values_mut().for_each(|report| source.waivers.apply(&mut report.suites, today));
    platforms
}

/// Runs the suites on every platform of a build, on this machine.
pub(crate) async fn test_build(
    context: &Context,
    source: &ImageSource,
    edition: Edition<'_>,
    build: &BuildRecord,
) -> Result<Reports, StageError> {
    match suites(context, source, edition, build, None).await? {
        Tested::Reports(platforms) => {
            Ok(Reports { digest: build.index, platforms: waived(context, source, platforms) })
        }
        Tested::Waiting(reason) | Tested::GivenUp(reason) => Err(StageError::Rejected(reason)),
    }
}

/// The files of the suites that have one, inside the image's folder.
pub(crate) fn suite_files(definition: &ImageDefinition, edition: Edition<'_>) -> BTreeMap<Suite, String> {
    let own = |test: fn(&Variant) -> Option<&String>| edition.variant.and_then(test);
    let structure = own(|variant| variant.structure_test.as_ref()).unwrap_or(&definition.structure_test);
    let unit = own(|variant| variant.unit_test.as_ref()).unwrap_or(&definition.unit_test);
    let runtime = own(|variant| variant.runtime_test.as_ref()).unwrap_or(&definition.runtime_test);
    let files = [(Suite::Structure, structure), (Suite::Unit, unit), (Suite::Runtime, runtime)];
    files.map(|(suite, file)| (suite, file.clone())).into()
}

/// Forgets the job of the suites, whose reports have led to something.
async fn end(context: &Context, step: Option<&Step<'_>>) -> Result<(), StageError> {
    let mut transaction = Transaction::default();
    if let Some(step) = step {
        step.forget(&mut transaction);
    }
    Ok(context.state.commit(transaction).await?)
}

/// What came of the suites of all platforms.
enum Tested {
    Reports(BTreeMap<Architecture, Report>),
    /// They are a job elsewhere that has not ended; a sentence for a person.
    Waiting(String),
    /// That job gave no answer, and why.
    GivenUp(String),
}

/// How long a machine may take to unpack an image, and for its suites: their checks have bounds of their own.
const JOB_TIME: Duration = Duration::from_secs(3_600);

async fn suites(
    context: &Context,
    source: &ImageSource,
    edition: Edition<'_>,
    build: &BuildRecord,
    step: Option<&Step<'_>>,
) -> Result<Tested, StageError> {
    let Some(step) = step else {
        let mut platforms = BTreeMap::new();
        for (architecture, platform) in &build.platforms {
            let prepared = prepare(context, source, edition, build, *architecture, platform).await?;
            let run = prepared.job.run(&prepared.image, &context.containers, prepared.scratch.path()).await;
            platforms.insert(*architecture, prepared.stated.with(run.map_err(failed)?));
        }
        return Ok(Tested::Reports(platforms));
    };
    let answered = match step.look().await? {
        Found::Answered(answered) => *answered,
        Found::Waiting(text) => return Ok(Tested::Waiting(text)),
        Found::GivenUp(reason) => return Ok(Tested::GivenUp(reason)),
        Found::None => {
            let (mut jobs, mut stated) = (Vec::new(), BTreeMap::new());
            for (architecture, platform) in &build.platforms {
                let prepared = prepare(context, source, edition, build, *architecture, platform).await?;
                stated.insert(*architecture, prepared.stated);
                jobs.push(prepared.job);
            }
            if jobs.iter().all(|job| job.suites().next().is_none()) {
                let reports = stated.into_iter().map(|(architecture, stated)| (architecture, stated.report));
                return Ok(Tested::Reports(reports.collect()));
            }
            return Ok(Tested::Waiting(step.begin(Job::Images(jobs), &stated, JOB_TIME).await?));
        }
    };
    let stated: BTreeMap<Architecture, Stated> = answered.work(context).await?;
    let expected: Vec<Vec<Suite>> = stated.values().map(|stated| stated.to_run.clone()).collect();
    let file =
        File::open(&answered.file).map_err(|error| StageError::environment("open the answer of a job")(&error))?;
    match image_answers(file, &context.settings.work, answered.archive, &expected) {
        Ok(runs) => {
            let reports = stated.into_iter().zip(runs);
            let reports = reports.map(|((architecture, stated), run)| (architecture, stated.with(run)));
            Ok(Tested::Reports(reports.collect()))
        }
        Err(BuildError::Failed { reason, .. }) => Err(StageError::Rejected(reason)),
        Err(BuildError::Environment(reason)) => Ok(match step.refuse(answered, &reason).await? {
            Found::Waiting(text) => Tested::Waiting(text),
            Found::GivenUp(reason) => Tested::GivenUp(reason),
            Found::None | Found::Answered(_) => Tested::GivenUp(reason),
        }),
    }
}

/// A platform's image before the suites that run its programs.
struct Prepared {
    job: ImageTestJob,
    image: Image,
    stated: Stated,
    scratch: TempDir,
}

/// What is known of a platform without running its programs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    /// Without the suites that are to be run.
    report: Report,
    to_run: Vec<Suite>,
}

impl Stated {
    /// The report with what the others came to.
    fn with(self, run: ImageTestRun) -> Report {
        let mut report = self.report;
        report.emulated = run.emulated;
        report.suites.extend(run.suites);
        report.suites.sort_by_key(|suite| suite.suite);
        report
    }
}

fn blocking(reports: &Reports) -> String {
    let checks = reports.platforms.iter().flat_map(|(architecture, report)| {
        let checks = report.suites.iter().flat_map(SuiteReport::blocking);
        checks.map(move |check| {
            let status = if check.status == verify::Status::NotRun { "not run" } else { "failed" };
            format!("{architecture} {} {status}: {}", check.id, check.message)
        })
    });
    format!("not published: {}", checks.collect::<Vec<_>>().join("; "))
}

/// Records why a stream was not published, until it is.
pub(crate) async fn record_failure(
    context: &Context,
    image: &str,
    stream: &str,
    reason: &str,
    log: Option<Digest>,
) -> Result<(), StageError> {
    let time = context.clock.now();
    let failure = Failure { time, reason: reason.to_owned(), log };
    let event =
        Event { time, kind: "image.failed".to_owned(), subject: format!("{image}:{stream}"), text: reason.to_owned() };
    let mut transaction = Transaction::default();
    transaction.put(Key::new(record::image(image), format!("failure#{stream}")), Condition::Any, &failure)?;
    transaction.put(event.key(), Condition::Any, &event)?;
    Ok(context.state.commit(transaction).await?)
}

/// Whether the machine is at fault, and not the image or its suites' files.
pub(crate) fn is_environment(error: &verify::Error) -> bool {
    match error {
        verify::Error::Io { .. } => true,
        verify::Error::Sandbox(error) => error.is_environment(),
        _ => false,
    }
}

fn failed(error: verify::Error) -> StageError {
    if is_environment(&error) {
        StageError::environment("test the image")(&error)
    } else {
        StageError::Rejected(chain(&error))
    }
}

async fn prepare(
    context: &Context,
    source: &ImageSource,
    edition: Edition<'_>,
    build: &BuildRecord,
    architecture: Architecture,
    platform: &Platform,
) -> Result<Prepared, StageError> {
    let definition = &source.definition;
    let files = suite_files(definition, edition);
    let file = |suite| files.get(&suite).map_or("", String::as_str);
    let mut blobs = BTreeMap::new();
    for digest in platform.content.iter().map(|(digest, _)| *digest).chain([platform.manifest]) {
        blobs.insert(digest, context.blobs.file(digest).await?);
    }
    let mut suites = Vec::new();
    let mut suite_of = |suite: Suite, requirement: &Requirement, file: &str| {
        Ok::<_, StageError>(match (requirement, text(source, file)?) {
            (Requirement::NotApplicable { reason }, _) => {
                suites.push(SuiteReport::not_applicable(suite, reason));
                None
            }
            (Requirement::Required, None) => {
                let reason = format!("the image's folder has no `{file}`");
                suites.push(SuiteReport::not_run(suite, &reason));
                None
            }
            (Requirement::Required, Some(text)) => Some(SuiteFile { name: file.to_owned(), text }),
        })
    };
    let job = ImageTestJob {
        manifest: platform.manifest,
        architecture,
        blobs,
        folder: Some(source.folder.clone()),
        structure: suite_of(Suite::Structure, &definition.suites.structure, file(Suite::Structure))?,
        unit: match &definition.suites.unit {
            Some(requirement) => suite_of(Suite::Unit, requirement, file(Suite::Unit))?,
            None => {
                let name = file(Suite::Unit).to_owned();
                text(source, &name)?.map(|text| SuiteFile { name, text })
            }
        },
        runtime: suite_of(Suite::Runtime, &definition.suites.runtime, file(Suite::Runtime))?,
    };
    let scratch = tempfile::Builder::new()
        .prefix("test-")
        .tempdir_in(&context.settings.work)
        .map_err(|error| StageError::environment("make a scratch folder")(&error))?;
    let image = job.open(scratch.path()).await.map_err(failed)?;
    suites.push(match &definition.suites.integrity {
        Requirement::NotApplicable { reason } => SuiteReport::not_applicable(Suite::Integrity, reason),
        Requirement::Required => {
            let composed: BTreeSet<String> = platform.composed_files.iter().cloned().collect();
            let sbom = context.blobs.get(platform.sbom, MAXIMUM_RECORD_BYTES).await?;
            let bom = match platform.bom {
                Some(bom) => Some(context.blobs.get(bom, MAXIMUM_RECORD_BYTES).await?),
                None => None,
            };
            let index = context.blobs.get(build.index, MAXIMUM_RECORD_BYTES).await?;
            let compositions: Vec<String> = build.compositions.iter().map(Digest::to_string).collect();
            let known = Integrity {
                composed: Some(&composed),
                sbom: Some(&sbom),
                bom: bom.as_deref(),
                index: Some(&index),
                compositions: &compositions,
            };
            verify::integrity(&image, &known).map_err(failed)?
        }
    });
    let now = context.clock.now();
    suites.push(match &definition.suites.compliance {
        Requirement::NotApplicable { reason } => SuiteReport::not_applicable(Suite::Compliance, reason),
        Requirement::Required => {
            let development = |variant: &Variant| variant.name.split('-').any(|part| part == "dev");
            let known = Compliance {
                policy: &context.catalog.policy,
                image: &build.image,
                edition: &build.stream,
                primary: Some(&definition.primary),
                development: edition.variant.is_some_and(development),
                now,
                search_path: &context.settings.search_path,
            };
            verify::compliance(&image, &known).await.map_err(failed)?
        }
    });
    suites.sort_by_key(|report| report.suite);
    let report = Report { digest: image.digest().to_owned(), platform: image.platform(), emulated: false, suites };
    let stated = Stated { report, to_run: job.suites().collect() };
    Ok(Prepared { job, image, stated, scratch })
}

fn text(source: &ImageSource, file: &str) -> Result<Option<String>, StageError> {
    match std::fs::read_to_string(source.folder.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StageError::environment(format!("read `{file}`"))(&error)),
    }
}
