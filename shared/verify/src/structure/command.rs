//! `commandTests`: commands in containers.

use sandbox::{ContainerJob, Ending, Finished, Process, Runc};

use super::environment::{expanded, expanded_where_known, set};
use super::options::Granted;
use super::{CommandTest, Variable, excerpt, list, matches};
use crate::report::Finding;
use crate::{Error, Facilities, Image, Status};

/// What all commands of a file have in common.
pub(super) struct Setting<'a> {
    pub(super) image: &'a Image,
    pub(super) globals: &'a [Variable],
    pub(super) granted: &'a Granted,
    pub(super) facilities: &'a Facilities<'a>,
}

pub(super) async fn command(setting: &Setting<'_>, test: &CommandTest, runc: &Runc) -> Result<Finding, Error> {
    let root = setting.image.fresh_root(setting.facilities.scratch)?;
    let run = async |arguments: &[String]| -> Result<Result<Finished, sandbox::Error>, Error> {
        let job = match job(setting, test, root.path(), arguments) {
            Ok(job) => job,
            Err(error) => return Ok(Err(error)),
        };
        match runc.run(&job).await {
            Err(error) if error.is_environment() => Err(error.into()),
            ran => Ok(ran),
        }
    };
    for setup in &test.setup {
        let setup: &[String] = setup;
        match run(setup).await? {
            Ok(finished) if matches!(finished.ending, Ending::Exited(_)) => {}
            Ok(finished) => {
                return Ok(Finding::failed(format!("set-up {}: {}", list(setup), finished.ending), Vec::new()));
            }
            Err(error) => return Ok(Finding::failed(format!("set-up {}: {error}", list(setup)), Vec::new())),
        }
    }
    let arguments: Vec<String> = std::iter::once(test.command.to_string()).chain(test.args.clone()).collect();
    let mut finding = match run(arguments.as_slice()).await? {
        Err(error) => Finding::failed(error.to_string(), Vec::new()),
        Ok(finished) => judged(test, &finished),
    };
    for teardown in &test.teardown {
        let teardown: &[String] = teardown;
        if let Err(error) = run(teardown).await? {
            finding.evidence.push(format!("tear-down {}: {error}", list(teardown)));
        }
    }
    Ok(finding)
}

fn job(
    setting: &Setting<'_>,
    test: &CommandTest,
    root: &std::path::Path,
    arguments: &[String],
) -> Result<ContainerJob, sandbox::Error> {
    let mut configuration = setting.image.configuration().clone();
    if let Some(user) = &setting.granted.user {
        let mut config = configuration.config().clone().unwrap_or_default();
        config.set_user(Some(user.clone()));
        configuration.set_config(Some(config));
    }
    let mut process = Process::of_image(&configuration, root, Some(arguments.to_vec()))?;
    let image = process.environment.clone();
    for variable in setting.globals {
        set(&mut process.environment, &variable.key, &expanded(&variable.value, &image));
    }
    let known = process.environment.clone();
    for variable in &test.env_vars {
        set(&mut process.environment, &variable.key, &expanded(&variable.value, &known));
    }
    for (name, value) in &setting.granted.environment {
        set(&mut process.environment, name, value);
    }
    for argument in &mut process.arguments {
        *argument = expanded_where_known(argument, &known);
    }
    let mut job = ContainerJob::new(root.to_path_buf(), process, setting.facilities.limits.clone());
    job.capabilities.clone_from(&setting.granted.capabilities);
    job.mounts.clone_from(&setting.granted.mounts);
    Ok(job)
}

fn judged(test: &CommandTest, finished: &Finished) -> Finding {
    let mut complaints = Vec::new();
    match &finished.ending {
        Ending::Exited(code) if *code == test.exit_code => {}
        ending @ Ending::Exited(_) => complaints.push(format!("{ending}, expected {}", test.exit_code)),
        limit => complaints.push(format!("`{}` was ended: {limit}", test.command)),
    }
    for (what, bytes, expected, excluded) in [
        ("standard output", &finished.stdout, &test.expected_output, &test.excluded_output),
        ("standard error", &finished.stderr, &test.expected_error, &test.excluded_error),
    ] {
        complaints.extend(matches(what, bytes, expected, true));
        complaints.extend(matches(what, bytes, excluded, false));
    }
    let took = finished.duration.as_millis();
    let mut finding =
        Finding::of(complaints, format!("`{}` ended with {} in {took} ms", test.command, finished.ending));
    if finding.status == Status::Failed {
        finding.evidence.push(excerpt("standard output", &finished.stdout));
        finding.evidence.push(excerpt("standard error", &finished.stderr));
    }
    finding
}
