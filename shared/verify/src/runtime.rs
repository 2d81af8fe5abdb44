//! Starting an image and asking it: Minimill's own `tests/runtime.yaml`.
//!
//! ```yaml
//! # How the image is started; all optional. Without these it is started as configured, with a
//! # root file system that it can change, in a network of its own, without capabilities.
//! arguments: ["--port", "6379"]     # in place of the image's command (not its entrypoint)
//! environment: {LOG: debug}         # besides the image's own
//! user: "12345"                     # in place of the image's user
//! read-only: true                   # the root file system
//! temporary: [/tmp, /run]           # folders in memory, 64 MiB each, owned as in the image
//! ready:                            # the server is ready when this TCP port accepts
//!   port: 6379
//!   within: 10s
//! checks:                           # one connection each, in order
//!   - name: answers PING
//!     port: 6379
//!     send: "PING\r\n"              # sent as it is
//!     expect: '^\+PONG\r\n'         # regular expression over all bytes received so far
//!     within: 5s                    # default 5s
//! stop:
//!   signal: TERM                    # default TERM
//!   within: 10s                     # default 10s
//!   exit-code: 0                    # or a list; default 0
//! ```
//!
//! Durations are whole numbers with `ms`, `s` or `m`. An image whose program ends by itself has
//! no `ready` and no `checks`; then `stop` says how long it may take and its exit code.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sandbox::{Container, ContainerJob, Ending, Exchange, Finished, Limits, Process, Request, Runc, TemporaryFolder};
use serde::Deserialize;

use crate::document::{self, Expression};
use crate::report::{Checks, Finding};
use crate::{Containers, Error, Image, Suite, SuiteReport};

const TEMPORARY_SIZE: u64 = 64 << 20;
const EVIDENCE_BYTES: usize = 4096;
const DEFAULT_WITHIN: Duration = Duration::from_secs(5);
const DEFAULT_STOP: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    arguments: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    user: Option<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    temporary: Vec<String>,
    ready: Option<Ready>,
    #[serde(default)]
    checks: Vec<Question>,
    #[serde(default)]
    stop: Stop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    #[serde(deserialize_with = "port")]
    port: u16,
    #[serde(default = "default_stop", deserialize_with = "duration")]
    within: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    name: String,
    #[serde(deserialize_with = "port")]
    port: u16,
    #[serde(default)]
    send: String,
    expect: Expression,
    #[serde(default = "default_within", deserialize_with = "duration")]
    within: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Stop {
    #[serde(default)]
    signal: Signal,
    #[serde(default = "default_stop", deserialize_with = "duration")]
    within: Duration,
    #[serde(default)]
    exit_code: ExitCodes,
}

impl Default for Stop {
    fn default() -> Self {
        Stop { signal: Signal::default(), within: DEFAULT_STOP, exit_code: ExitCodes::default() }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Signal {
    #[default]
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ExitCodes {
    One(i32),
    Several(Vec<i32>),
}

impl Default for ExitCodes {
    fn default() -> Self {
        ExitCodes::One(0)
    }
}

impl ExitCodes {
    fn as_slice(&self) -> &[i32] {
        match self {
            ExitCodes::One(code) => std::slice::from_ref(code),
            ExitCodes::Several(codes) => codes,
        }
    }
}

fn default_within() -> Duration {
    DEFAULT_WITHIN
}

fn default_stop() -> Duration {
    DEFAULT_STOP
}

fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| serde::de::Error::custom(format!("`{number}` is no port: 1 to 65535 is expected")))
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no duration: a whole number with `ms`, `s` or `m` is expected"))
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

/// Starts the image and evaluates a `runtime.yaml`. `text` is its content, `file` its name in
/// messages; the container is made under `scratch` and lives within `limits`.
///
/// # Errors
/// [`Error::Document`] with line and column when the file is not of its format; trouble with
/// this machine. What the image does wrong is in the report.
pub async fn runtime(
    image: &Image,
    text: &str,
    file: &str,
    containers: &Containers,
    limits: &Limits,
    scratch: &Path,
) -> Result<SuiteReport, Error> {
    let document: Document = document::parse(text, file)?;
    if document.ready.is_none() && !document.checks.is_empty() {
        let message = "`checks` need `ready`, the port that is waited for".to_owned();
        return Err(Error::Document { file: file.to_owned(), line: 1, column: 1, message });
    }
    let mut checks = Checks::new(Suite::Runtime);
    let runc = match containers {
        Containers::Available(runc) => runc,
        Containers::Unavailable(reason) => {
            not_run(&document, &mut checks, reason);
            return Ok(checks.finish());
        }
    };
    let root = image.fresh_root(scratch)?;
    let job = match job(image, &document, root.path(), limits) {
        Ok(job) => job,
        Err(error) => {
            checks.add("runtime/start", Finding::failed(error.to_string(), Vec::new()));
            return Ok(checks.finish());
        }
    };
    ask(&document, &job, runc, &mut checks).await?;
    Ok(checks.finish())
}

fn job(image: &Image, document: &Document, root: &Path, limits: &Limits) -> Result<ContainerJob, sandbox::Error> {
    let mut configuration = image.configuration().clone();
    let mut config = configuration.config().clone().unwrap_or_default();
    if let Some(user) = &document.user {
        config.set_user(Some(user.clone()));
    }
    if let Some(arguments) = &document.arguments {
        config.set_cmd(Some(arguments.clone()));
    }
    configuration.set_config(Some(config));
    let mut process = Process::of_image(&configuration, root, None)?;
    for (name, value) in &document.environment {
        process.environment.retain(|line| line.split_once('=').is_none_or(|(other, _)| other != name));
        process.environment.push(format!("{name}={value}"));
    }
    let mut job = ContainerJob::new(root.to_path_buf(), process, limits.clone());
    job.read_only = document.read_only;
    job.temporary = document
        .temporary
        .iter()
        .map(|inside| TemporaryFolder { inside: inside.into(), size: TEMPORARY_SIZE })
        .collect();
    Ok(job)
}

async fn ask(document: &Document, job: &ContainerJob, runc: &Runc, checks: &mut Checks) -> Result<(), Error> {
    let container = match runc.start(job).await {
        Ok(container) => container,
        Err(error @ sandbox::Error::Runc { .. }) => {
            checks.add("runtime/start", Finding::failed(error.to_string(), Vec::new()));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    checks.add("runtime/start", Finding::passed(format!("started as user {}", job.process.user.id)));
    let Some(ready) = &document.ready else {
        let ended = tokio::time::timeout(document.stop.within, container.finish()).await;
        let finding = match ended {
            Ok(finished) => ended_as_expected(&finished?, document),
            Err(_) => Finding::failed(format!("it runs after {} ms", document.stop.within.as_millis()), Vec::new()),
        };
        checks.add("runtime/end", finding);
        return Ok(());
    };
    let request = Request { port: ready.port, send: Vec::new(), within: ready.within };
    let opened = connect(&container, request, |_| true).await;
    let is_ready = matches!(opened, Ok(Exchange::Answered { .. }));
    let finding = match opened {
        Ok(Exchange::Answered { .. }) => Finding::passed(format!("port {} accepts", ready.port)),
        Ok(Exchange::NoConnection(reason)) => {
            let message =
                format!("port {} does not accept within {} ms: {reason}", ready.port, ready.within.as_millis());
            Finding::failed(message, output(&container))
        }
        Err(reason) => Finding::failed(reason, output(&container)),
    };
    checks.add("runtime/ready", finding);
    for question in &document.checks {
        let finding =
            if is_ready { answer(&container, question).await } else { Finding::not_run("the server was not ready") };
        checks.add(format!("runtime/answer/{}", question.name), finding);
    }
    let signal = format!("{:?}", document.stop.signal).to_uppercase();
    let ended = container.has_ended() || !is_ready && container.ends_soon().await;
    let finding = if ended {
        let finished = container.finish().await?;
        Finding::failed(
            format!("it ended by itself with {}", finished.ending),
            written(&finished.stdout, &finished.stderr),
        )
    } else {
        ended_as_expected(&container.stop(&signal, document.stop.within).await?, document)
    };
    checks.add("runtime/stop", finding);
    Ok(())
}

async fn connect(
    container: &Container,
    request: Request,
    complete: impl Fn(&[u8]) -> bool + Send + 'static,
) -> Result<Exchange, String> {
    match container.exchange(request, complete).await {
        Ok(exchange) => Ok(exchange),
        Err(_) if container.ends_soon().await => Err("it has ended by itself".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn answer(container: &Container, question: &Question) -> Finding {
    let request = Request { port: question.port, send: question.send.clone().into_bytes(), within: question.within };
    let expression = question.expect.0.clone();
    match connect(container, request, move |bytes| expression.is_match(bytes)).await {
        Ok(Exchange::Answered { complete: true, .. }) => {
            Finding::passed(format!("port {} answers `{}`", question.port, question.expect.0))
        }
        Ok(Exchange::Answered { bytes, .. }) => {
            let message = format!("the answer of port {} does not match `{}`", question.port, question.expect.0);
            let mut evidence = vec![excerpt("answer", &bytes)];
            evidence.extend(output(container));
            Finding::failed(message, evidence)
        }
        Ok(Exchange::NoConnection(reason)) => {
            Finding::failed(format!("port {} does not accept: {reason}", question.port), output(container))
        }
        Err(reason) => Finding::failed(reason, output(container)),
    }
}

fn ended_as_expected(finished: &Finished, document: &Document) -> Finding {
    let codes = document.stop.exit_code.as_slice();
    let took = finished.duration.as_millis();
    match &finished.ending {
        Ending::Exited(code) if codes.contains(code) => {
            Finding::passed(format!("ended with exit code {code} in {took} ms"))
        }
        Ending::Exited(code) => {
            let message = format!("ended with exit code {code}, expected one of {codes:?}");
            Finding::failed(message, written(&finished.stdout, &finished.stderr))
        }
        Ending::TimedOut(within) => {
            let signal = format!("{:?}", document.stop.signal).to_uppercase();
            let message = format!("alive {} ms after SIG{signal}", within.as_millis());
            Finding::failed(message, written(&finished.stdout, &finished.stderr))
        }
        other => Finding::failed(format!("was ended: {other}"), written(&finished.stdout, &finished.stderr)),
    }
}

fn not_run(document: &Document, checks: &mut Checks, reason: &str) {
    checks.add("runtime/start", Finding::not_run(reason));
    if document.ready.is_some() {
        checks.add("runtime/ready", Finding::not_run(reason));
    }
    for question in &document.checks {
        checks.add(format!("runtime/answer/{}", question.name), Finding::not_run(reason));
    }
    checks.add(if document.ready.is_some() { "runtime/stop" } else { "runtime/end" }, Finding::not_run(reason));
}

fn output(container: &Container) -> Vec<String> {
    let (stdout, stderr) = container.output();
    written(&stdout, &stderr)
}

fn written(stdout: &[u8], stderr: &[u8]) -> Vec<String> {
    vec![excerpt("standard output", stdout), excerpt("standard error", stderr)]
}

/// The end of what was written, which is where a failure shows.
fn excerpt(what: &str, bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(EVIDENCE_BYTES);
    let more = if from > 0 { " (end)" } else { "" };
    format!("{what}{more}:\n{}", String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("150ms"), Some(Duration::from_millis(150)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for wrong in ["10", "s", "1.5s", "-1s", "10 s", "99999999999999999999s", "18446744073709551615m"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
