//! container-structure-test files, schema version 2.0.0.
//!
//! Files are judged by the layers' own listing and the unpacked root, metadata by the image's configuration,
//! commands in containers without network, each on a root file system of its own. A command is given to the
//! image's user without the image's entrypoint, as the original does; its set-up and tear-down commands share its
//! root file system, and, as there, only their failing to start counts, that of the tear-down not even that.
//!
//! Variables (`$NAME`, `${NAME}`) are replaced by the image's and the global ones in paths, commands and arguments;
//! in the latter two, unknown ones are left to the shell that may follow, where the original puts nothing.
//!
//! Of `containerRunOptions`, `user`, `envFile`, `capabilities` and `bindMounts` are heeded; paths are inside the
//! image's folder in the catalog, and mounts read-only. What would give a container the machine (`privileged`,
//! some capabilities, absolute mounts), a terminal, and variables of whoever runs the tests are refused: the
//! commands are then not run.

mod command;
mod environment;
mod files;
mod licences;
mod metadata;
mod options;

pub(crate) use environment::{set, value};
pub(crate) use options::capability;

use serde::Deserialize;

use crate::document::{self, Arguments, Expression, Text, or_default};
use crate::report::{Checks, Finding};
use crate::{Containers, Error, Facilities, Image, Suite, SuiteReport};

const EVIDENCE_BYTES: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    schema_version: SchemaVersion,
    #[serde(default, deserialize_with = "or_default")]
    global_env_vars: Vec<Variable>,
    #[serde(default, deserialize_with = "or_default")]
    command_tests: Vec<CommandTest>,
    #[serde(default, deserialize_with = "or_default")]
    file_existence_tests: Vec<files::ExistenceTest>,
    #[serde(default, deserialize_with = "or_default")]
    file_content_tests: Vec<files::ContentTest>,
    metadata_test: Option<metadata::MetadataTest>,
    #[serde(default, deserialize_with = "or_default")]
    license_tests: Vec<licences::LicenceTest>,
    #[serde(default, deserialize_with = "or_default")]
    container_run_options: options::RunOptions,
}

#[derive(Deserialize)]
enum SchemaVersion {
    #[serde(rename = "2.0.0")]
    Two,
}

/// A variable that is set. `isRegex` belongs to the type and says nothing here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Variable {
    key: Text,
    #[serde(default, deserialize_with = "or_default")]
    value: String,
    #[serde(default, rename = "isRegex")]
    _is_regex: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CommandTest {
    name: Text,
    #[serde(default, deserialize_with = "or_default")]
    setup: Vec<Arguments>,
    #[serde(default, deserialize_with = "or_default")]
    teardown: Vec<Arguments>,
    #[serde(default, deserialize_with = "or_default")]
    env_vars: Vec<Variable>,
    command: Text,
    #[serde(default, deserialize_with = "or_default")]
    args: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    exit_code: i32,
    #[serde(default, deserialize_with = "or_default")]
    expected_output: Vec<Expression>,
    #[serde(default, deserialize_with = "or_default")]
    excluded_output: Vec<Expression>,
    #[serde(default, deserialize_with = "or_default")]
    expected_error: Vec<Expression>,
    #[serde(default, deserialize_with = "or_default")]
    excluded_error: Vec<Expression>,
}

/// Evaluates a container-structure-test file. `text` is its content, `file` its name in messages; each command
/// runs within the limits of `facilities`.
///
/// # Errors
/// [`Error::Document`] with line and column when the file is not of its format; trouble with
/// this machine. What the image lacks is in the report.
pub async fn structure(
    image: &Image,
    text: &str,
    file: &str,
    facilities: &Facilities<'_>,
) -> Result<SuiteReport, Error> {
    let document: Document = document::parse(text, file)?;
    let SchemaVersion::Two = document.schema_version;
    let mut checks = Checks::new(Suite::Structure);
    let environment = environment::of_image(image);
    for test in &document.file_existence_tests {
        checks.add(format!("structure/file-existence/{}", test.name), files::existence(image, test, &environment));
    }
    for test in &document.file_content_tests {
        checks.add(format!("structure/file-content/{}", test.name), files::content(image, test, &environment)?);
    }
    if let Some(test) = &document.metadata_test {
        metadata::metadata(image, test, &mut checks);
    }
    let granted = options::granted(&document.container_run_options, facilities.folder)?;
    for test in &document.command_tests {
        let finding = match (facilities.containers, &granted) {
            (_, Err(refusal)) => Finding::not_run(refusal),
            (Containers::Unavailable(reason), _) => Finding::not_run(reason),
            (Containers::Available(runc), Ok(granted)) => {
                let setting = command::Setting { image, globals: &document.global_env_vars, granted, facilities };
                command::command(&setting, test, runc).await?
            }
        };
        checks.add(format!("structure/command/{}", test.name), finding);
    }
    for (number, test) in (1..).zip(&document.license_tests) {
        checks.add(format!("structure/license/{number}"), licences::licences(image, test)?);
    }
    Ok(checks.finish())
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

/// What does not match of expressions that must, or matches of those that must not.
fn matches(what: &str, bytes: &[u8], expressions: &[Expression], expected: bool) -> Vec<String> {
    let wrong = |expression: &&Expression| expression.is_match(bytes) != expected;
    let verb = if expected { "does not match" } else { "matches the excluded" };
    expressions.iter().filter(wrong).map(|expression| format!("{what} {verb} `{expression}`")).collect()
}

fn excerpt(what: &str, bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(bytes.get(..EVIDENCE_BYTES).unwrap_or(bytes));
    let more = if bytes.len() > EVIDENCE_BYTES { " (beginning)" } else { "" };
    format!("{what}{more}:\n{shown}")
}
