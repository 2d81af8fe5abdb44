//! The shell script of a build or test.

use std::time::Duration;

use crate::package::Retry;
use crate::substitute::quote;

/// Something that the script does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Runs one step.
    Run(Run),
    /// Does all of these, again from the first when one of them fails.
    Try(Retry, Vec<Action>),
}

/// One step ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) label: String,
    pub(crate) directory: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) runs: String,
}

/// What the steps of `actions` are called, in the order of their numbers.
pub(crate) fn labels(actions: &[Action]) -> Vec<String> {
    let mut all = Vec::new();
    for action in actions {
        match action {
            Action::Run(run) => all.push(run.label.clone()),
            Action::Try(_, actions) => all.extend(labels(actions)),
        }
    }
    all
}

/// One script for all `actions`, after making `folders`.
///
/// Each step is a subshell, so that its directory, variables and `exit 0` end with it. The step's text
/// stays unindented for its here-documents.
pub(crate) fn render(folders: &[String], actions: &[Action]) -> String {
    let mut script = String::from(
        "#!/bin/sh\nset -e\nstep='0 preparation'\ntrap 'status=$?; [ $status -eq 0 ] || echo \"::failed $step\" >&2' EXIT\n",
    );
    for folder in folders {
        script.push_str(&format!("mkdir -p {}\n", quote(folder)));
    }
    add(actions, &mut 0, &mut script);
    script
}

/// Adds the actions, whose steps are counted on from `number`.
fn add(actions: &[Action], number: &mut usize, script: &mut String) {
    for action in actions {
        match action {
            Action::Run(run) => {
                *number += 1;
                add_run(run, *number, script);
            }
            Action::Try(retry, actions) => add_tries(*retry, actions, number, script),
        }
    }
}

fn add_run(run: &Run, number: usize, script: &mut String) {
    let label = one_line(&run.label);
    script.push_str(&format!("\nstep={}\nprintf '::step %s\\n' \"$step\"\n(\n", quote(&format!("{number} {label}"))));
    for (name, value) in &run.environment {
        script.push_str(&format!("export {name}={}\n", quote(value)));
    }
    let directory = quote(&run.directory);
    script.push_str(&format!("mkdir -p {directory}\ncd {directory}\n"));
    script.push_str(run.runs.trim_end_matches('\n'));
    script.push_str("\n)\n");
}

/// The actions in a loop over the pauses between attempts.
fn add_tries(retry: Retry, actions: &[Action], number: &mut usize, script: &mut String) {
    let pauses: Vec<String> = retry.pauses().map(seconds).collect();
    let first = *number + 1;
    let mut inside = String::new();
    add(actions, number, &mut inside);
    let what = if first == *number { first.to_string() } else { format!("{first} to {number}") };
    script.push_str(&format!("\nstep='{what}, the last attempt'\nfor retry_pause in {} end; do\n", pauses.join(" ")));
    // In a condition the shell would go on after a failed command, so the status is taken outside of one.
    script.push_str("set +e\n(\nset -e");
    script.push_str(&inside);
    script.push_str(")\nretry_status=$?\nset -e\nif [ \"$retry_status\" -eq 0 ]; then break; fi\n");
    script.push_str("if [ \"$retry_pause\" = end ]; then exit \"$retry_status\"; fi\n");
    script.push_str("printf '::retry in %s seconds\\n' \"$retry_pause\"\nsleep \"$retry_pause\"\ndone\n");
}

/// As `sleep` takes it: `2`, `0.5`.
fn seconds(pause: Duration) -> String {
    match pause.subsec_millis() {
        0 => pause.as_secs().to_string(),
        milliseconds => format!("{}.{milliseconds:03}", pause.as_secs()),
    }
}

fn one_line(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ")
}
