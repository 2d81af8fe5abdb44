//! Package tests: each package's `test:` pipeline, in a root made of the package under test and
//! what the test wants, all from the factory's own repository.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use apk::Architecture;
use recipe::{Output, TestPlan};
use sandbox::{Bubblewrap, Job, Limits, Mount, Program};
use serde::Serialize;

use crate::{Context, StageError, chain, load_package, repository};

const WORKSPACE: &str = "/home/build";
const TEMPORARY_BYTES: u64 = 1 << 30;
const WALL_TIME: Duration = Duration::from_secs(600);

/// What came of one package's test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageTestReport {
    /// Package name.
    pub package: String,
    /// What came of it.
    pub status: PackageTestStatus,
    /// The steps that ran, or why it failed or has not run.
    pub message: String,
}

/// What came of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageTestStatus {
    /// It ran and holds.
    Passed,
    /// It ran and does not hold.
    Failed,
    /// The definition has no test for this package.
    NotRun,
}

/// One test in a prepared root.
async fn sandboxed(sandbox: &Bubblewrap, root: &Path, plan: &TestPlan, log: &Path) -> Result<(), StageError> {
    let mut mounts = root_mounts(root).map_err(|error| StageError::environment("list the test's root")(&error))?;
    for inside in ["/tmp", WORKSPACE] {
        mounts.push(Mount::Temporary { inside: inside.into(), size: TEMPORARY_BYTES });
    }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let fixed = [("PATH", path), ("HOME", WORKSPACE), ("TZ", "UTC")];
    let mut environment: BTreeMap<String, String> =
        fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    environment.extend(plan.environment.variables.iter().cloned());
    let job = Job {
        program: Program::Script(plan.script.clone().into_bytes()),
        mounts,
        environment,
        working_directory: WORKSPACE.into(),
        hostname: "test".to_owned(),
        limits: Limits { wall_time: WALL_TIME, ..Limits::default() },
        log: log.to_owned(),
    };
    match sandbox.run(&job).await.and_then(sandbox::Outcome::success) {
        Ok(_) => Ok(()),
        Err(error) if error.is_environment() => Err(StageError::environment("run the test")(&error)),
        Err(error) => Err(StageError::Rejected(chain(&error))),
    }
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
    sandbox: &Bubblewrap,
    name: &str,
    architecture: Architecture,
) -> Result<Vec<PackageTestReport>, StageError> {
    let package = load_package(context, name, architecture).await?;
    let mut reports = Vec::new();
    for output in &package.plan.outputs {
        let (status, message) = match &output.test {
            None => (PackageTestStatus::NotRun, "the definition has no test for it".to_owned()),
            Some(plan) => match run(context, sandbox, output, plan, architecture).await {
                Ok(()) => (PackageTestStatus::Passed, plan.steps.join(", ")),
                Err(StageError::Rejected(reason)) => (PackageTestStatus::Failed, reason),
                Err(error) => return Err(error),
            },
        };
        reports.push(PackageTestReport { package: output.name.clone(), status, message });
    }
    Ok(reports)
}

async fn run(
    context: &Context,
    sandbox: &Bubblewrap,
    output: &Output,
    plan: &TestPlan,
    architecture: Architecture,
) -> Result<(), StageError> {
    let resolved = repository::resolve(context, architecture, &output.name, &plan.environment.packages).await?;
    let packages = repository::files(context, &resolved).await?;
    let folder = tempfile::Builder::new()
        .prefix("package-test-")
        .tempdir_in(&context.settings.work)
        .map_err(|error| StageError::environment("make a scratch folder")(&error))?;
    let root = folder.path().join("root");
    std::fs::create_dir(&root).map_err(|error| StageError::environment("make a scratch folder")(&error))?;
    let target = root.clone();
    tokio::task::spawn_blocking(move || image::unpack_root(&packages, &target))
        .await
        .map_err(ports::PortError::from)?
        .map_err(|error| StageError::Rejected(chain(&error)))?;
    sandboxed(sandbox, &root, plan, &folder.path().join("log")).await
}
