//! The shell script of a build or test.

use crate::substitute::quote;

/// One step ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) label: String,
    pub(crate) directory: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) runs: String,
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
    for (index, action) in actions.iter().enumerate() {
        let label = one_line(&action.label);
        script.push_str(&format!(
            "\nstep={}\nprintf '::step %s\\n' \"$step\"\n(\n",
            quote(&format!("{} {label}", index + 1))
        ));
        for (name, value) in &action.environment {
            script.push_str(&format!("export {name}={}\n", quote(value)));
        }
        let directory = quote(&action.directory);
        script.push_str(&format!("mkdir -p {directory}\ncd {directory}\n"));
        script.push_str(action.runs.trim_end_matches('\n'));
        script.push_str("\n)\n");
    }
    script
}

fn one_line(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ")
}
