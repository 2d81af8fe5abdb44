//! Tests that could not run when their package was published, run again when they can.
//!
//! A published version with such tests is listed as untested. Once nothing else is left to build,
//! each whose tests find what they want is tried, and again only when they would find something
//! else: a test that still can't run is not tried twice with the same packages.

use apk::Architecture;
use async_trait::async_trait;
use ports::{Condition, Digest, Key, Transaction, Write};
use recipe::BuildPlan;
use serde::{Deserialize, Serialize};

use crate::package_test::{PackageTestReport, PackageTestStatus, run_tests_of};
use crate::record::{self, Event, LaterTests, RepositoryEntry, Untested};
use crate::{Context, Outcome, Stage, StageError, load_package, repository, universes};

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
        let reports = run_tests_of(context, &package.plan, &entries, &untested.packages).await?;
        let of = |status: PackageTestStatus| reports.iter().filter(move |report| report.status == status);
        let time = context.clock.now();
        let mut transaction = Transaction::default();
        untested.packages = of(PackageTestStatus::NotRun).map(|report| report.package.clone()).collect();
        untested.tried = Some(self.with);
        if untested.packages.is_empty() {
            transaction.writes.push(Write { key, condition, value: None });
        } else {
            transaction.put(key, condition, &untested)?;
        }
        let known = context.state.get(&later_key(&self.package, &self.version, self.architecture)).await?;
        let mut tests: Vec<PackageTestReport> = match &known {
            Some(known) => known.decode::<LaterTests>()?.tests,
            None => Vec::new(),
        };
        tests.retain(|test| reports.iter().all(|report| report.package != test.package));
        tests.extend(reports.iter().cloned());
        let later = later_key(&self.package, &self.version, self.architecture);
        transaction.put(later, Condition::Any, &LaterTests { time, tests })?;
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
