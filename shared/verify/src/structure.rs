//! container-structure-test files, schema version 2.0.0.
//!
//! Files are judged by the layers' own listing and the unpacked root, metadata by the image's
//! configuration, commands in containers without network, each on a root file system of its own.
//! A command is given to the image's user without the image's entrypoint, as the original does;
//! its set-up and tear-down commands share its root file system. Licence tests are not run: they
//! read Debian's copyright files. `containerRunOptions` other than `user` are refused.

use std::path::Path;
use std::time::Duration;

use sandbox::{ContainerJob, Ending, Limits, Process, Runc};
use serde::Deserialize;

use crate::document::{self, Expression};
use crate::files::Kind;
use crate::report::{Checks, Finding};
use crate::{Containers, Error, Image, Suite, SuiteReport};

const MAXIMUM_CONTENT: u64 = 64 << 20;
const EVIDENCE_BYTES: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    schema_version: SchemaVersion,
    #[serde(default)]
    global_env_vars: Vec<Variable>,
    #[serde(default)]
    command_tests: Vec<CommandTest>,
    #[serde(default)]
    file_existence_tests: Vec<FileExistenceTest>,
    #[serde(default)]
    file_content_tests: Vec<FileContentTest>,
    metadata_test: Option<MetadataTest>,
    #[serde(default)]
    license_tests: Vec<LicenseTest>,
    container_run_options: Option<RunOptions>,
}

#[derive(Deserialize)]
enum SchemaVersion {
    #[serde(rename = "2.0.0")]
    Two,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RunOptions {
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Variable {
    key: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CommandTest {
    name: String,
    #[serde(default)]
    setup: Vec<Vec<String>>,
    #[serde(default)]
    teardown: Vec<Vec<String>>,
    #[serde(default)]
    env_vars: Vec<Variable>,
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    expected_output: Vec<Expression>,
    #[serde(default)]
    excluded_output: Vec<Expression>,
    #[serde(default)]
    expected_error: Vec<Expression>,
    #[serde(default)]
    excluded_error: Vec<Expression>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileExistenceTest {
    name: String,
    path: String,
    #[serde(default = "yes")]
    should_exist: bool,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    is_executable_by: Option<ExecutableBy>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExecutableBy {
    Owner,
    Group,
    Other,
    Any,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileContentTest {
    name: String,
    path: String,
    #[serde(default)]
    expected_contents: Vec<Expression>,
    #[serde(default)]
    excluded_contents: Vec<Expression>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetadataTest {
    #[serde(default, alias = "env")]
    env_vars: Vec<Variable>,
    #[serde(default)]
    labels: Vec<Variable>,
    #[serde(default)]
    exposed_ports: Vec<String>,
    #[serde(default)]
    unexposed_ports: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    unmounted_volumes: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    workdir: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LicenseTest {
    #[serde(default, rename = "debian")]
    _debian: bool,
    #[serde(default, rename = "files")]
    _files: Vec<String>,
}

fn yes() -> bool {
    true
}

/// Evaluates a container-structure-test file. `text` is its content, `file` its name in
/// messages; containers and root file systems are made under `scratch`, each command within
/// `limits`.
///
/// # Errors
/// [`Error::Document`] with line and column when the file is not of its format; trouble with
/// this machine. What the image lacks is in the report.
pub async fn structure(
    image: &Image,
    text: &str,
    file: &str,
    containers: &Containers,
    limits: &Limits,
    scratch: &Path,
) -> Result<SuiteReport, Error> {
    let document: Document = document::parse(text, file)?;
    let SchemaVersion::Two = document.schema_version;
    let mut checks = Checks::new(Suite::Structure);
    for test in &document.file_existence_tests {
        checks.add(format!("structure/file-existence/{}", test.name), existence(image, test));
    }
    for test in &document.file_content_tests {
        checks.add(format!("structure/file-content/{}", test.name), content(image, test)?);
    }
    if let Some(test) = &document.metadata_test {
        metadata(image, test, file, &mut checks)?;
    }
    for test in &document.command_tests {
        let finding = match containers {
            Containers::Unavailable(reason) => Finding::not_run(reason),
            Containers::Available(runc) => command(image, &document, test, file, runc, limits, scratch).await?,
        };
        checks.add(format!("structure/command/{}", test.name), finding);
    }
    for number in 1..=document.license_tests.len() {
        let reason = "licence tests read Debian's copyright files; use the licences of the SBOM";
        checks.add(format!("structure/license/{number}"), Finding::not_run(reason));
    }
    Ok(checks.finish())
}

fn existence(image: &Image, test: &FileExistenceTest) -> Finding {
    let Some(entry) = image.files().get(&test.path) else {
        return if test.should_exist {
            Finding::failed(format!("`{}` is not in the image; it should be", test.path), Vec::new())
        } else {
            Finding::passed(format!("`{}` is not in the image", test.path))
        };
    };
    if !test.should_exist {
        return Finding::failed(format!("`{}` is in the image; it should not be", test.path), Vec::new());
    }
    let mut complaints = Vec::new();
    let found = permissions(&entry.kind, entry.mode);
    if let Some(expected) = test.permissions.as_ref().filter(|expected| **expected != found) {
        complaints.push(format!("`{}` has the permissions `{found}`, expected `{expected}`", test.path));
    }
    for (what, found, expected) in [("user", entry.uid, test.uid), ("group", entry.gid, test.gid)] {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            complaints.push(format!("`{}` belongs to the {what} {found}, expected {expected}", test.path));
        }
    }
    if let Some(who) = test.is_executable_by {
        let bits = match who {
            ExecutableBy::Owner => 0o100,
            ExecutableBy::Group => 0o010,
            ExecutableBy::Other => 0o001,
            ExecutableBy::Any => 0o111,
        };
        if entry.mode & bits == 0 {
            let who = format!("{who:?}").to_lowercase();
            complaints.push(format!("`{}` with permissions `{found}` is not executable by {who}", test.path));
        }
    }
    Finding::of(complaints, format!("`{}` is there, `{found}` {}:{}", test.path, entry.uid, entry.gid))
}

/// Permissions as Go's `os.FileMode` writes them, which is what the format compares with.
fn permissions(kind: &Kind, mode: u32) -> String {
    let mut text = String::new();
    match kind {
        Kind::Directory => text.push('d'),
        Kind::Symlink(_) => text.push('L'),
        Kind::Other => text.push('D'),
        Kind::Regular(_) => {}
    }
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        if mode & bit != 0 {
            text.push(letter);
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    for (position, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode & (0o400 >> position) == 0 { '-' } else { letter });
    }
    text
}

fn content(image: &Image, test: &FileContentTest) -> Result<Finding, Error> {
    let Some(bytes) = image.read(&test.path, MAXIMUM_CONTENT)? else {
        return Ok(Finding::failed(format!("`{}` is no file of the image", test.path), Vec::new()));
    };
    let mut complaints = matches(&format!("`{}`", test.path), &bytes, &test.expected_contents, true);
    complaints.extend(matches(&format!("`{}`", test.path), &bytes, &test.excluded_contents, false));
    let mut finding = Finding::of(complaints, format!("`{}` is as expected", test.path));
    if finding.status == crate::Status::Failed {
        finding.evidence.push(excerpt(&test.path, &bytes));
    }
    Ok(finding)
}

fn matches(what: &str, bytes: &[u8], expressions: &[Expression], expected: bool) -> Vec<String> {
    let wrong = |expression: &&Expression| expression.0.is_match(bytes) != expected;
    let verb = if expected { "does not match" } else { "matches the excluded" };
    expressions.iter().filter(wrong).map(|expression| format!("{what} {verb} `{}`", expression.0)).collect()
}

fn excerpt(what: &str, bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(bytes.get(..EVIDENCE_BYTES).unwrap_or(bytes));
    let more = if bytes.len() > EVIDENCE_BYTES { " (beginning)" } else { "" };
    format!("{what}{more}:\n{shown}")
}

fn metadata(image: &Image, test: &MetadataTest, file: &str, checks: &mut Checks) -> Result<(), Error> {
    let config = image.configuration().config().clone().unwrap_or_default();
    let mut add = |name: String, finding| checks.add(format!("structure/metadata/{name}"), finding);

    let environment = config.env().clone().unwrap_or_default();
    for variable in &test.env_vars {
        let found = environment
            .iter()
            .find_map(|line| line.split_once('=').filter(|(name, _)| *name == variable.key))
            .map(|(_, value)| value);
        add(format!("env/{}", variable.key), value("environment variable", variable, found, file)?);
    }
    let labels = config.labels().clone().unwrap_or_default();
    for label in &test.labels {
        let found = labels.get(&label.key).map(String::as_str);
        add(format!("label/{}", label.key), value("label", label, found, file)?);
    }
    let ports = config.exposed_ports().clone().unwrap_or_default();
    let volumes = config.volumes().clone().unwrap_or_default();
    for (what, names, found, expected) in [
        ("exposed-port", &test.exposed_ports, &ports, true),
        ("exposed-port", &test.unexposed_ports, &ports, false),
        ("volume", &test.volumes, &volumes, true),
        ("volume", &test.unmounted_volumes, &volumes, false),
    ] {
        for name in names {
            let is_port = what == "exposed-port";
            let same = |other: &String| other == name || is_port && *other == format!("{name}/tcp");
            let finding = match (found.iter().any(same), expected) {
                (true, true) => Finding::passed(format!("`{name}` is in the configuration")),
                (false, false) => Finding::passed(format!("`{name}` is not in the configuration")),
                (false, true) => {
                    let message = format!("`{name}` is not in the configuration; it has {}", list(found));
                    Finding::failed(message, Vec::new())
                }
                (true, false) => {
                    Finding::failed(format!("`{name}` is in the configuration; it should not be"), Vec::new())
                }
            };
            add(format!("{what}/{name}"), finding);
        }
    }
    for (name, expected, found) in
        [("entrypoint", &test.entrypoint, config.entrypoint()), ("cmd", &test.cmd, config.cmd())]
    {
        if let Some(expected) = expected {
            let found = found.clone().unwrap_or_default();
            add(name.to_owned(), same(name, &list(expected), &list(&found)));
        }
    }
    for (name, expected, found) in
        [("workdir", &test.workdir, config.working_dir()), ("user", &test.user, config.user())]
    {
        if let Some(expected) = expected {
            add(name.to_owned(), same(name, expected, found.as_deref().unwrap_or_default()));
        }
    }
    Ok(())
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

fn same(name: &str, expected: &str, found: &str) -> Finding {
    if expected == found {
        Finding::passed(format!("the {name} is `{found}`"))
    } else {
        Finding::failed(format!("the {name} is `{found}`, expected `{expected}`"), Vec::new())
    }
}

fn value(what: &str, expected: &Variable, found: Option<&str>, file: &str) -> Result<Finding, Error> {
    let Some(found) = found else {
        return Ok(Finding::failed(format!("the image has no {what} `{}`", expected.key), Vec::new()));
    };
    let holds = if expected.is_regex {
        let expression = regex::Regex::new(&expected.value).map_err(|error| Error::Document {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: format!("`{}` is no regular expression: {error}", expected.value),
        })?;
        expression.is_match(found)
    } else {
        expected.value == found
    };
    Ok(if holds {
        Finding::passed(format!("the {what} `{}` is `{found}`", expected.key))
    } else {
        let message = format!("the {what} `{}` is `{found}`, expected `{}`", expected.key, expected.value);
        Finding::failed(message, Vec::new())
    })
}

async fn command(
    image: &Image,
    document: &Document,
    test: &CommandTest,
    file: &str,
    runc: &Runc,
    limits: &Limits,
    scratch: &Path,
) -> Result<Finding, Error> {
    let root = image.fresh_root(scratch)?;
    let mut configuration = image.configuration().clone();
    if let Some(user) = document.container_run_options.as_ref().and_then(|options| options.user.clone()) {
        let mut config = configuration.config().clone().unwrap_or_default();
        config.set_user(Some(user));
        configuration.set_config(Some(config));
    }
    let run = async |arguments: Vec<String>| {
        if arguments.is_empty() {
            return Err(Error::Document {
                file: file.to_owned(),
                line: 0,
                column: 0,
                message: format!("the test `{}` has an empty command", test.name),
            });
        }
        let mut process = Process::of_image(&configuration, root.path(), Some(arguments))?;
        for variable in document.global_env_vars.iter().chain(&test.env_vars) {
            set(&mut process.environment, &variable.key, &variable.value);
        }
        Ok(runc.run(&ContainerJob::new(root.path().to_path_buf(), process, limits.clone())).await)
    };
    for setup in &test.setup {
        match run(setup.clone()).await? {
            Ok(finished) if matches!(finished.ending, Ending::Exited(_)) => {}
            Ok(finished) => {
                return Ok(Finding::failed(format!("set-up {}: {}", list(setup), finished.ending), Vec::new()));
            }
            Err(error) => return Ok(Finding::failed(format!("set-up {}: {error}", list(setup)), Vec::new())),
        }
    }
    let arguments = std::iter::once(&test.command).chain(&test.args).cloned().collect();
    let finding = match run(arguments).await? {
        Err(error) => Finding::failed(error.to_string(), Vec::new()),
        Ok(finished) => {
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
            let passed =
                format!("`{}` ended with {} in {} ms", test.command, finished.ending, milliseconds(finished.duration));
            let mut finding = Finding::of(complaints, passed);
            if finding.status == crate::Status::Failed {
                finding.evidence.push(excerpt("standard output", &finished.stdout));
                finding.evidence.push(excerpt("standard error", &finished.stderr));
            }
            finding
        }
    };
    for teardown in &test.teardown {
        if let Err(error) = run(teardown.clone()).await? {
            return Ok(Finding::failed(format!("tear-down {}: {error}", list(teardown)), finding.evidence));
        }
    }
    Ok(finding)
}

fn milliseconds(duration: Duration) -> u128 {
    duration.as_millis()
}

/// Sets a variable; `$NAME` and `${NAME}` in its value mean those set before.
fn set(environment: &mut Vec<String>, name: &str, value: &str) {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (variable, left) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(braced) => braced,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let known = environment.iter().find_map(|line| line.split_once('=').filter(|(name, _)| *name == variable));
        expanded.push_str(known.map_or("", |(_, value)| value));
        rest = left;
    }
    expanded.push_str(rest);
    environment.retain(|line| line.split_once('=').is_none_or(|(other, _)| other != name));
    environment.push(format!("{name}={expanded}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_written_as_go_does() {
        assert_eq!(permissions(&Kind::Regular(0), 0o644), "-rw-r--r--");
        assert_eq!(permissions(&Kind::Directory, 0o755), "drwxr-xr-x");
        assert_eq!(permissions(&Kind::Directory, 0o1777), "dtrwxrwxrwx");
        assert_eq!(permissions(&Kind::Symlink(String::new()), 0o777), "Lrwxrwxrwx");
        assert_eq!(permissions(&Kind::Regular(0), 0o4755), "urwxr-xr-x");
    }

    #[test]
    fn variables_may_name_others() {
        let mut environment = vec!["PATH=/bin".to_owned()];
        set(&mut environment, "A", "x$PATH:${PATH}y$NONE");
        set(&mut environment, "PATH", "/opt:$PATH");
        assert_eq!(environment, ["A=x/bin:/biny", "PATH=/opt:/bin"]);
    }
}
