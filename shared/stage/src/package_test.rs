//! Package tests: each package's `test:` pipeline, in a fresh root made of the package under test
//! and what the test wants. They run at the end of a build, before anything is signed, against the
//! repository as it would be with the new packages; `mill package test` runs them on what is
//! published.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use apk::Architecture;
use image::{PackageFile, RootUser};
use ports::Digest;
use recipe::{BuildPlan, TestPlan};
use sandbox::{Bubblewrap, Limits, Mount, Program};
use serde::{Deserialize, Serialize};
use sign::ResourceDescriptor;
use sign::predicate::{TestOutcome, TestResult};

use crate::elsewhere::{Found, Step};
use crate::job::BuildError;
use crate::job_archive::{Job, test_answers};
use crate::package_build::BuildResult;
use crate::record::RepositoryEntry;
use crate::{Context, StageError, chain, load_package, repository, universes};

const WORKSPACE: &str = "/home/build";
const TEMPORARY_BYTES: u64 = 1 << 30;
const WALL_TIME: Duration = Duration::from_secs(600);

/// What came of one package's test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageTestReport {
    /// Package name.
    pub package: String,
    /// What came of it.
    pub status: PackageTestStatus,
    /// The steps that ran, or why it failed or has not run.
    pub message: String,
    /// The log of a test that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Digest>,
}

/// What came of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageTestStatus {
    /// It ran and holds.
    Passed,
    /// It ran and does not hold.
    Failed,
    /// What it wants is not in the repository, or its root can't run it.
    NotRun,
    /// The definition has no test for this package.
    NoTest,
}

/// One test, with the packages of its root in install order.
#[derive(Clone, Debug)]
pub struct TestJob {
    /// The package under test.
    pub package: String,
    /// What runs.
    pub plan: TestPlan,
    /// The package under test and what the test wants.
    pub packages: Vec<PackageFile>,
}

/// What came of a test that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestRun {
    /// It ran and holds.
    Passed,
    /// Its root has nothing to run it with, and what is missing.
    NotRun(String),
}

/// Runs one test in a root of its own below `work`.
pub(crate) async fn run_job(sandbox: &Bubblewrap, work: &Path, job: &TestJob) -> Result<TestRun, BuildError> {
    let scratch = |error: std::io::Error| BuildError::Environment(format!("make a scratch folder: {error}"));
    let folder = tempfile::Builder::new().prefix("package-test-").tempdir_in(work).map_err(scratch)?;
    let root = folder.path().join("root");
    std::fs::create_dir(&root).map_err(scratch)?;
    let (packages, target) = (job.packages.clone(), root.clone());
    tokio::task::spawn_blocking(move || image::unpack_root(&packages, &target))
        .await
        .map_err(|error| BuildError::Environment(error.to_string()))?
        .map_err(|error| BuildError::Failed { reason: chain(&error), log: None })?;
    if apk::resolve_in_tree(&root, "bin/sh").is_none() {
        let reason = "its root has no `/bin/sh`; name a package with a shell in the test's environment";
        return Ok(TestRun::NotRun(reason.to_owned()));
    }
    let log = folder.path().join("log");
    let user = account(&root, &job.plan)
        .map_err(|error| BuildError::Failed { reason: format!("the test's accounts: {}", chain(&error)), log: None })?;
    let job = sandbox_job(&root, &job.plan, &user, &log)
        .map_err(|error| BuildError::Environment(format!("list the test's root: {error}")))?;
    match sandbox.run(&job).await.and_then(sandbox::Outcome::success) {
        Ok(_) => Ok(TestRun::Passed),
        Err(error) if error.is_environment() => Err(BuildError::Environment(chain(&error))),
        Err(error) => Err(BuildError::Failed { reason: chain(&error), log: std::fs::read(&log).ok() }),
    }
}

/// Adds the test's users and groups to its root, and finds the one that it runs as.
fn account(root: &Path, plan: &TestPlan) -> Result<RootUser, image::Error> {
    let users = plan.users.iter().cloned().map(|user| image::User {
        name: user.name,
        uid: user.uid,
        gid: user.gid,
        shell: user.shell,
        home: user.home,
    });
    let groups = plan.groups.iter().cloned();
    let groups = groups.map(|group| image::Group { name: group.name, gid: group.gid, members: group.members });
    let (users, groups): (Vec<_>, Vec<_>) = (users.collect(), groups.collect());
    image::add_accounts(root, &users, &groups, plan.run_as.as_deref())
}

fn sandbox_job(root: &Path, plan: &TestPlan, user: &RootUser, log: &Path) -> std::io::Result<sandbox::Job> {
    let mut mounts = root_mounts(root)?;
    for inside in ["/tmp", WORKSPACE] {
        mounts.push(Mount::Temporary { inside: inside.into(), size: TEMPORARY_BYTES });
    }
    // A user's home that packages bring is read-only, as the rest of the root is.
    let home = user.home.as_deref().map(Path::new);
    let home = home.filter(|home| home.strip_prefix("/home").is_ok_and(|name| name.components().count() == 1));
    if let Some(home) = home.filter(|home| *home != Path::new(WORKSPACE)) {
        mounts.push(Mount::Temporary { inside: home.to_owned(), size: TEMPORARY_BYTES });
    }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let fixed = [("PATH", path), ("HOME", WORKSPACE), ("TZ", "UTC")];
    let mut environment: BTreeMap<String, String> =
        fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    environment.extend(plan.environment.variables.iter().cloned());
    Ok(sandbox::Job {
        program: Program::Script(plan.script.clone().into_bytes()),
        mounts,
        environment,
        working_directory: WORKSPACE.into(),
        hostname: "test".to_owned(),
        user: (user.id, user.group),
        limits: Limits { wall_time: WALL_TIME, ..Limits::default() },
        log: log.to_owned(),
    })
}

/// The root's own entries, read-only; the sandbox brings its own `/proc`, `/dev`, `/tmp` and `/run`.
fn root_mounts(root: &Path) -> std::io::Result<Vec<Mount>> {
    let mut entries = std::fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    let mut mounts = Vec::new();
    for host in entries {
        let Some(name) = host.file_name() else { continue };
        let inside = Path::new("/").join(name);
        if ["proc", "dev", "sys", "tmp", "home", "run"].iter().any(|own| name == *own) {
            continue;
        }
        mounts.push(if host.is_symlink() {
            Mount::Symlink { target: std::fs::read_link(&host)?, inside }
        } else {
            Mount::ReadOnly { host, inside }
        });
    }
    Ok(mounts)
}

/// Runs the tests of all packages that a definition makes, as they are published.
///
/// # Errors
/// [`StageError::Rejected`] when the catalog has no such definition, [`StageError::Environment`]
/// when tests can't be run here.
pub async fn test_package(
    context: &Context,
    name: &str,
    architecture: Architecture,
) -> Result<Vec<PackageTestReport>, StageError> {
    let package = load_package(context, name, architecture).await?;
    let entries = repository::entries(context, architecture).await?;
    let packages: Vec<String> = package.plan.outputs.iter().map(|output| output.name.clone()).collect();
    let prepared = prepare(context, &package.plan, &entries, &packages).await?;
    run_here(context, prepared).await
}

/// What the tests of a definition's packages came to.
pub(crate) enum Tested {
    /// One report per package.
    Reports(Vec<PackageTestReport>),
    /// They are a job elsewhere that has not ended; a sentence for a person.
    Waiting(String),
    /// That job gave no answer, and why.
    GivenUp(String),
}

/// Runs the tests of some packages of a plan with what `entries` offer, here or, where `step` says so, as
/// a job elsewhere. All run, whatever comes of the first.
///
/// # Errors
/// [`StageError::Environment`] when tests can't be run here.
pub(crate) async fn run_tests(
    context: &Context,
    plan: &BuildPlan,
    entries: &[RepositoryEntry],
    packages: &[String],
    step: Option<&Step<'_>>,
) -> Result<Tested, StageError> {
    let Some(step) = step else {
        let prepared = prepare(context, plan, entries, packages).await?;
        return Ok(Tested::Reports(run_here(context, prepared).await?));
    };
    let answered = match step.look().await? {
        Found::Answered(answered) => *answered,
        Found::Waiting(text) => return Ok(Tested::Waiting(text)),
        Found::GivenUp(reason) => return Ok(Tested::GivenUp(reason)),
        Found::None => {
            let prepared = prepare(context, plan, entries, packages).await?;
            let tests: Vec<TestJob> = prepared.iter().filter_map(|one| one.job.clone()).collect();
            if tests.is_empty() {
                return Ok(Tested::Reports(prepared.into_iter().map(|one| one.report).collect()));
            }
            let reports: Vec<Expected> = prepared.into_iter().map(Expected::from).collect();
            let time = WALL_TIME * u32::try_from(tests.len()).unwrap_or(u32::MAX) + SETTING_UP;
            return Ok(Tested::Waiting(step.begin(Job::Tests(tests), &reports, time).await?));
        }
    };
    let expected: Vec<Expected> = answered.work(context).await?;
    let count = expected.iter().filter(|one| one.runs).count();
    let file = std::fs::File::open(&answered.file)
        .map_err(|error| StageError::environment("open the answer of a job")(&error))?;
    let mut runs = match test_answers(file, &context.settings.work, answered.archive, count) {
        Ok(runs) => runs.into_iter(),
        Err(error) => {
            return match step.refuse(answered, &chain(&error)).await? {
                Found::Waiting(text) => Ok(Tested::Waiting(text)),
                Found::GivenUp(reason) => Ok(Tested::GivenUp(reason)),
                Found::None | Found::Answered(_) => Ok(Tested::GivenUp(chain(&error))),
            };
        }
    };
    let mut reports = Vec::new();
    for one in expected {
        reports.push(match one.runs.then(|| runs.next()).flatten() {
            Some(run) => report(context, one.report, run).await?,
            None => one.report,
        });
    }
    Ok(Tested::Reports(reports))
}

/// How long a machine may take to unpack what a job of tests is given.
const SETTING_UP: Duration = Duration::from_secs(600);

/// A package's test that is ready to run.
struct Prepared {
    /// What came of it where nothing runs, else what it comes to when it passes.
    report: PackageTestReport,
    job: Option<TestJob>,
}

/// What is kept of it while its job runs elsewhere.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    report: PackageTestReport,
    runs: bool,
}

impl From<Prepared> for Expected {
    fn from(prepared: Prepared) -> Self {
        Self { runs: prepared.job.is_some(), report: prepared.report }
    }
}

async fn prepare(
    context: &Context,
    plan: &BuildPlan,
    entries: &[RepositoryEntry],
    packages: &[String],
) -> Result<Vec<Prepared>, StageError> {
    let mut prepared = Vec::new();
    for output in plan.outputs.iter().filter(|output| packages.contains(&output.name)) {
        let report =
            |status, message: String| PackageTestReport { package: output.name.clone(), status, message, log: None };
        let Some(test) = &output.test else {
            let report = report(PackageTestStatus::NoTest, "the definition has no test for it".to_owned());
            prepared.push(Prepared { report, job: None });
            continue;
        };
        let subject = format!("the test of {}", output.name);
        let chosen = match universes::choose(entries, plan.architecture, &subject, &test.environment.packages) {
            Ok(chosen) => chosen,
            Err(StageError::Rejected(reason)) => {
                prepared.push(Prepared { report: report(PackageTestStatus::NotRun, reason), job: None });
                continue;
            }
            Err(error) => return Err(error),
        };
        let packages = repository::files(context, &chosen).await?;
        let job = TestJob { package: output.name.clone(), plan: test.clone(), packages };
        prepared.push(Prepared { report: report(PackageTestStatus::Passed, test.steps.join(", ")), job: Some(job) });
    }
    Ok(prepared)
}

async fn run_here(context: &Context, prepared: Vec<Prepared>) -> Result<Vec<PackageTestReport>, StageError> {
    let mut reports = Vec::new();
    for Prepared { report: expected, job } in prepared {
        reports.push(match job {
            None => expected,
            Some(job) => report(context, expected, context.builder.test(&job).await).await?,
        });
    }
    Ok(reports)
}

/// The report of a test that ran, given what it comes to when it passes.
async fn report(
    context: &Context,
    expected: PackageTestReport,
    run: Result<TestRun, BuildError>,
) -> Result<PackageTestReport, StageError> {
    let (status, message, log) = match run {
        Ok(TestRun::Passed) => return Ok(expected),
        Ok(TestRun::NotRun(reason)) => (PackageTestStatus::NotRun, reason, None),
        Err(BuildError::Environment(reason)) => {
            let action = format!("run the test of {}", expected.package);
            return Err(StageError::Environment { action, reason });
        }
        Err(BuildError::Failed { reason, log }) => {
            let log = match log {
                Some(bytes) => Some(context.blobs.put(bytes).await?),
                None => None,
            };
            (PackageTestStatus::Failed, reason, log)
        }
    };
    Ok(PackageTestReport { status, message, log, ..expected })
}

/// What the tests of a build's packages came to (in-toto test-result v0.1), unless none has run.
/// Tests are named by their packages; one that could not run is warned of.
pub(crate) fn attestation(result: &BuildResult, reports: &[PackageTestReport]) -> Option<TestResult> {
    let of = |status: PackageTestStatus| {
        let reports = reports.iter().filter(|report| report.status == status);
        reports.map(|report| report.package.clone()).collect::<Vec<_>>()
    };
    let (passed, warned) = (of(PackageTestStatus::Passed), of(PackageTestStatus::NotRun));
    let failed = of(PackageTestStatus::Failed);
    if passed.is_empty() && failed.is_empty() {
        return None;
    }
    Some(TestResult {
        result: match (failed.is_empty(), warned.is_empty()) {
            (false, _) => TestOutcome::Failed,
            (true, false) => TestOutcome::Warned,
            (true, true) => TestOutcome::Passed,
        },
        configuration: vec![ResourceDescriptor::of(result.text).named(format!("{}.yaml", result.package))],
        url: None,
        passed_tests: passed,
        warned_tests: warned,
        failed_tests: failed,
    })
}

/// Why a build's packages are not published, judged by their tests: one failed, or, where the
/// factory requires tests, none passed or one has not run.
pub(crate) fn refusal(reports: &[PackageTestReport], required: bool) -> Option<String> {
    let of = |status: PackageTestStatus| reports.iter().filter(move |report| report.status == status);
    let told = |what: &str, report: &PackageTestReport| format!("{what} of {}: {}", report.package, report.message);
    let mut reasons: Vec<String> = of(PackageTestStatus::Failed).map(|report| told("the test", report)).collect();
    if required {
        reasons.extend(of(PackageTestStatus::NotRun).map(|report| told("not run: the test", report)));
        if reasons.is_empty() && of(PackageTestStatus::Passed).next().is_none() {
            reasons.push("no package of it has a test, and `require-tests` is set".to_owned());
        }
    }
    (!reasons.is_empty()).then(|| format!("not published: {}", reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_run_never_counts_as_passed() {
        use PackageTestStatus::{Failed, NoTest, NotRun, Passed};
        let cases: [(&[PackageTestStatus], bool, bool); 8] = [
            (&[NoTest], true, false),
            (&[NotRun], true, false),
            (&[Passed], true, true),
            (&[Passed, NoTest], true, true),
            (&[Passed, NotRun], true, false),
            (&[Failed], false, false),
            (&[Passed, Failed], false, false),
            (&[], true, false),
        ];
        for (statuses, without, with) in cases {
            let reports: Vec<PackageTestReport> = statuses
                .iter()
                .map(|status| PackageTestReport {
                    package: "p".to_owned(),
                    status: *status,
                    message: "m".to_owned(),
                    log: None,
                })
                .collect();
            assert_eq!(refusal(&reports, false).is_none(), without, "{statuses:?}");
            assert_eq!(refusal(&reports, true).is_none(), with, "{statuses:?} with `require-tests`");
        }
    }
}
