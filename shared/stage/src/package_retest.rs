//! Tests that could not run when their package was published, run again when they can.
//!
//! A published version with such tests is listed as untested. Once nothing else is left to build,
//! each whose tests find what they want is tried, and again only when they would find something
//! else: a test that still can't run is not tried twice with the same packages.

use apk::Architecture;
use async_trait::async_trait;
use ports::{Condition, Digest, Document, Key, Transaction, Write};
use recipe::BuildPlan;
use serde::{Deserialize, Serialize};
use sign::predicate;

use crate::elsewhere::Step;
use crate::package_build::BuildResult;
use crate::package_publish::MAXIMUM_RESULT_BYTES;
use crate::package_test::{PackageTestReport, PackageTestStatus, Tested, run_tests};
use crate::record::{self, Event, LaterTests, PublishedPackage, RepositoryEntry, Unlisted, Untested};
use crate::standing::published_key;
use crate::{
    Context, Outcome, Stage, StageError, load_package, package_index, package_publish, package_test, repository,
    universes,
};

/// Runs the tests of a published version that have not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageTest {
    /// Name of the package definition.
    pub package: String,
    /// Full version.
    pub version: String,
    /// Architecture.
    pub architecture: Architecture,
    /// Digest of the packages that the tests want, as they are now.
    pub with: Digest,
}

#[async_trait]
impl Stage for PackageTest {
    const NAME: &'static str = "package-test";

    fn subject(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let key = record::untested(self.architecture, &self.package, &self.version);
        let Some(document) = context.state.get(&key).await? else {
            return Ok(Outcome::Skipped("its tests have run".to_owned()));
        };
        let mut untested: Untested = document.decode()?;
        let condition = Condition::Revision(document.revision);
        let package = load_package(context, &self.package, self.architecture).await?;
        if package.claim.version() != self.version {
            let writes = vec![Write { key, condition, value: None }];
            context.state.commit(Transaction { writes, ..Transaction::default() }).await?;
            return Ok(Outcome::Skipped(format!("{} follows it", package.claim.version())));
        }
        let entries = repository::entries(context, self.architecture).await?;
        let (message, subject) = (self.envelope()?, self.subject());
        let step = Step::of(context, &message, &subject, "tests");
        let reports = match run_tests(context, &package.plan, &entries, &untested.packages, step.as_ref()).await? {
            Tested::Reports(reports) => reports,
            Tested::Waiting(text) => return Ok(Outcome::Done(text)),
            Tested::GivenUp(reason) => return Ok(Outcome::Failed(reason)),
        };
        let of = |status: PackageTestStatus| reports.iter().filter(move |report| report.status == status);
        let time = context.clock.now();
        let mut transaction = Transaction::default();
        if let Some(step) = &step {
            step.forget(&mut transaction);
        }
        untested.packages = of(PackageTestStatus::NotRun).map(|report| report.package.clone()).collect();
        untested.tried = Some(self.with);
        if untested.packages.is_empty() {
            transaction.writes.push(Write { key, condition, value: None });
        } else {
            transaction.put(key, condition, &untested)?;
        }
        let later = later_key(&self.package, &self.version, self.architecture);
        let known: Option<LaterTests> = context.state.get(&later).await?.as_ref().map(Document::decode).transpose()?;
        let LaterTests { mut tests, mut replaced, .. } = known.unwrap_or_default();
        tests.retain(|test| reports.iter().all(|report| report.package != test.package));
        tests.extend(reports.iter().cloned());
        if reports.iter().any(|report| report.status != PackageTestStatus::NotRun) {
            replaced.extend(self.attest(context, &tests, &mut transaction).await?);
        }
        transaction.put(later, Condition::Any, &LaterTests { time, tests, replaced })?;
        let told = |report: &PackageTestReport| format!("the test of {}: {}", report.package, report.message);
        let failed: Vec<String> = of(PackageTestStatus::Failed).map(told).collect();
        let outcome = if failed.is_empty() {
            match of(PackageTestStatus::Passed).count() {
                0 => Outcome::Skipped(of(PackageTestStatus::NotRun).map(told).collect::<Vec<_>>().join("; ")),
                passed => Outcome::Done(format!("{passed} tests passed that could not run before")),
            }
        } else {
            let text = format!(
                "{} {} is published, and fails now that its tests can run: {}; `mill package withdraw` takes it out",
                self.package,
                self.version,
                failed.join("; ")
            );
            let (kind, subject) = ("package.test-failed".to_owned(), self.package.clone());
            let event = Event { time, kind, subject, text: text.clone() };
            transaction.put(event.key(), Condition::Any, &event)?;
            Outcome::Failed(text)
        };
        context.state.commit(transaction).await?;
        Ok(outcome)
    }
}

impl PackageTest {
    /// Attests what all tests of the version have come to by now, those of its build included, and
    /// adds to the transaction that this is published in the place of the attestation before. The
    /// answer is that one, if there was one.
    async fn attest(
        &self,
        context: &Context,
        later: &[PackageTestReport],
        transaction: &mut Transaction,
    ) -> Result<Option<Digest>, StageError> {
        let key = published_key(&self.package, &self.version, self.architecture);
        let published = context.state.get(&key).await?;
        let Some(published) = published.as_ref().map(Document::decode::<PublishedPackage>).transpose()? else {
            return Err(StageError::Rejected(format!("{} {} is not published", self.package, self.version)));
        };
        let result: BuildResult = context.load("build result", published.build, MAXIMUM_RESULT_BYTES).await?;
        let Some(tested) = package_test::attestation(&result, &with_later(result.tests.clone(), later)) else {
            return Ok(None);
        };
        let mut entries = Vec::new();
        for name in published.packages.keys() {
            let key = Key::new(record::repository(self.architecture), format!("{name}={}", self.version));
            if let Some(document) = context.state.get(&key).await? {
                entries.push((document.key.clone(), document.revision, document.decode::<RepositoryEntry>()?));
            }
        }
        let subjects = entries.iter().map(|(_, _, entry)| package_publish::subject(&entry.entry, entry.blob)).collect();
        let bundle = package_publish::attest(context, subjects, predicate::TEST_RESULT, &tested).await?;
        let before = entries.iter().find_map(|(_, _, entry)| entry.tests);
        for (key, revision, entry) in entries {
            let entry = RepositoryEntry { tests: Some(bundle), ..entry };
            transaction.put(key, Condition::Revision(revision), &entry)?;
        }
        let packages = published.packages.into_keys().collect();
        let unlisted = Unlisted { package: self.package.clone(), version: self.version.clone(), packages };
        package_index::announce(transaction, self.architecture, &unlisted, context.clock.now())?;
        Ok(before)
    }
}

/// The reports of a build, those of later runs in their places.
pub(crate) fn with_later(mut tests: Vec<PackageTestReport>, later: &[PackageTestReport]) -> Vec<PackageTestReport> {
    for test in &mut tests {
        if let Some(later) = later.iter().find(|later| later.package == test.package) {
            *test = later.clone();
        }
    }
    tests
}

/// Adds to the transaction that publishes a version that some of its tests have not run.
pub(crate) fn note(
    transaction: &mut Transaction,
    architecture: Architecture,
    package: &str,
    version: &str,
    tests: &[PackageTestReport],
) -> Result<(), StageError> {
    let not_run = tests.iter().filter(|report| report.status == PackageTestStatus::NotRun);
    let packages: Vec<String> = not_run.map(|report| report.package.clone()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let untested = Untested { package: package.to_owned(), version: version.to_owned(), packages, tried: None };
    Ok(transaction.put(record::untested(architecture, package, version), Condition::Any, &untested)?)
}

/// Asks for the tests that have not run, and can be tried with what they have not been tried with.
/// The answer is how many definitions are asked for.
pub(crate) async fn send(context: &Context, architecture: Architecture) -> Result<usize, StageError> {
    let documents = context.state.list_all(&record::untested_versions(architecture), "").await?;
    if documents.is_empty() {
        return Ok(0);
    }
    let entries = repository::entries(context, architecture).await?;
    let mut transaction = Transaction::default();
    for document in documents {
        let untested: Untested = document.decode()?;
        if !context.catalog.packages.contains_key(&untested.package) {
            continue;
        }
        let package = match load_package(context, &untested.package, architecture).await {
            Ok(package) => package,
            // Planning tells of it.
            Err(StageError::Rejected(_)) => continue,
            Err(error) => return Err(error),
        };
        let Some(with) = wanted(&package.plan, &untested.packages, &entries, architecture)? else { continue };
        if untested.tried == Some(with) {
            continue;
        }
        let Untested { package, version, .. } = untested;
        transaction.send(PackageTest { package, version, architecture, with }.envelope()?);
    }
    let count = transaction.messages.len();
    context.state.commit(transaction).await?;
    Ok(count)
}

/// Digest of the packages that the tests would run with; none while none of them can run.
fn wanted(
    plan: &BuildPlan,
    packages: &[String],
    entries: &[RepositoryEntry],
    architecture: Architecture,
) -> Result<Option<Digest>, StageError> {
    let mut found = String::new();
    for output in plan.outputs.iter().filter(|output| packages.contains(&output.name)) {
        let Some(test) = &output.test else { continue };
        match universes::choose(entries, architecture, &output.name, &test.environment.packages) {
            Ok(chosen) => found.extend(chosen.iter().map(|one| format!("{} {}\n", output.name, one.blob))),
            Err(StageError::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((!found.is_empty()).then(|| Digest::of(found.as_bytes())))
}

/// The key of what came of tests that ran after their version was published.
pub(crate) fn later_key(package: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(package), format!("tests#{version}#{architecture}"))
}
