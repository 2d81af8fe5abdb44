use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use apk::Architecture;
use async_trait::async_trait;
use ports::{Condition, Digest, Key, Transaction};
use recipe::{Edition, Requirement, Variant};
use sandbox::Limits;
use serde::{Deserialize, Serialize};
use sign::predicate::{TestOutcome, TestResult};
use verify::{Blobs, Compliance, Image, Integrity, Report, Suite, SuiteReport};

use crate::catalog::ImageSource;
use crate::image_build::{BuildRecord, Platform};
use crate::record::{self, Event, Failure};
use crate::{Context, ImagePublish, Outcome, Stage, StageError, chain};

const MAXIMUM_RECORD_BYTES: u64 = 64 << 20;
const WALL_TIME: std::time::Duration = std::time::Duration::from_secs(120);

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

    /// The predicate of a test-result attestation (in-toto test-result v0.1).
    pub fn attestation(&self, architecture: Option<Architecture>) -> TestResult {
        let platforms =
            self.platforms.iter().filter(|(other, _)| architecture.is_none_or(|architecture| **other == architecture));
        let checks = platforms.flat_map(|(_, report)| &report.suites).flat_map(|suite| &suite.checks);
        let (mut passed, mut warned, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for check in checks {
            match check.status {
                verify::Status::Passed => passed.push(check.id.clone()),
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
        let mut platforms = BTreeMap::new();
        for (architecture, platform) in &build.platforms {
            let report = match test(context, source, edition, &build, *architecture, platform).await {
                Ok(report) => report,
                Err(StageError::Rejected(reason)) => {
                    record_failure(context, &self.image, &self.stream, &reason, None).await?;
                    return Ok(Outcome::Failed(reason));
                }
                Err(error) => return Err(error),
            };
            platforms.insert(*architecture, report);
        }
        let reports = Reports { digest: build.index, platforms };
        let report = context.store(&reports).await?;
        if reports.platforms.values().all(Report::passed) {
            let (summary, remarks) = (reports.summary(), reports.remarks());
            let message = ImagePublish { image: self.image, stream: self.stream, build: self.build, report };
            context.state.commit(Transaction { messages: vec![message.envelope()?], ..Transaction::default() }).await?;
            return Ok(Outcome::Done(format!("{summary} checks passed{remarks}")));
        }
        let reason = blocking(&reports);
        record_failure(context, &self.image, &self.stream, &reason, Some(report)).await?;
        Ok(Outcome::Failed(reason))
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

/// Blobs that have been fetched to local files.
struct LocalBlobs(BTreeMap<String, PathBuf>);

impl Blobs for LocalBlobs {
    fn open(&self, digest: &str) -> std::io::Result<Box<dyn Read + Send>> {
        let path = self.0.get(digest).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(path)?))
    }
}

fn failed(error: verify::Error) -> StageError {
    let environment = match &error {
        verify::Error::Io { .. } => true,
        verify::Error::Sandbox(error) => error.is_environment(),
        _ => false,
    };
    if environment { StageError::environment("test the image")(&error) } else { StageError::Rejected(chain(&error)) }
}

async fn test(
    context: &Context,
    source: &ImageSource,
    edition: Edition<'_>,
    build: &BuildRecord,
    architecture: Architecture,
    platform: &Platform,
) -> Result<Report, StageError> {
    let mut blobs = BTreeMap::new();
    for digest in platform.content.iter().map(|(digest, _)| *digest).chain([platform.manifest]) {
        blobs.insert(digest.to_string(), context.blobs.file(digest).await?);
    }
    let scratch = tempfile::Builder::new()
        .prefix("test-")
        .tempdir_in(&context.settings.work)
        .map_err(|error| StageError::environment("make a scratch folder")(&error))?;
    let (folder, digest) = (scratch.path().to_owned(), platform.manifest.to_string());
    let image = tokio::task::spawn_blocking(move || Image::open(Box::new(LocalBlobs(blobs)), &digest, &folder))
        .await
        .map_err(ports::PortError::from)?
        .map_err(failed)?;
    let definition = &source.definition;
    let own = |test: fn(&Variant) -> Option<&String>| edition.variant.and_then(test);
    let structure_test = own(|variant| variant.structure_test.as_ref()).unwrap_or(&definition.structure_test);
    let runtime_test = own(|variant| variant.runtime_test.as_ref()).unwrap_or(&definition.runtime_test);
    let mut suites = Vec::new();
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
    let limits = Limits { wall_time: WALL_TIME, ..Limits::default() };
    let scratch = scratch.path();
    let containers = &context.containers;
    suites.push(match (&definition.suites.structure, text(source, structure_test)?) {
        (Requirement::NotApplicable { reason }, _) => SuiteReport::not_applicable(Suite::Structure, reason),
        (Requirement::Required, None) => missing(Suite::Structure, structure_test),
        (Requirement::Required, Some(text)) => {
            verify::structure(&image, &text, structure_test, containers, &limits, scratch).await.map_err(failed)?
        }
    });
    suites.push(match (&definition.suites.runtime, text(source, runtime_test)?) {
        (Requirement::NotApplicable { reason }, _) => SuiteReport::not_applicable(Suite::Runtime, reason),
        (Requirement::Required, None) => missing(Suite::Runtime, runtime_test),
        (Requirement::Required, Some(text)) => {
            verify::runtime(&image, &text, runtime_test, containers, &limits, scratch).await.map_err(failed)?
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
    source.waivers.apply(&mut suites, jiff::tz::Offset::UTC.to_datetime(now).date());
    let emulated = matches!(sandbox::machine_for(architecture.apk()), Ok(sandbox::Machine::Emulated { .. }));
    Ok(Report { digest: image.digest().to_owned(), platform: image.platform(), emulated, suites })
}

fn missing(suite: Suite, file: &str) -> SuiteReport {
    SuiteReport::not_run(suite, &format!("the image's folder has no `{file}`"))
}

fn text(source: &ImageSource, file: &str) -> Result<Option<String>, StageError> {
    match std::fs::read_to_string(source.folder.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StageError::environment(format!("read `{file}`"))(&error)),
    }
}
