//! A started image: how it is started, what is looked at while it runs, how it ends. See [`crate::runtime`] for the
//! keys.

mod ask;
mod inside;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sandbox::{Capability, ContainerJob, Limits, Process, TemporaryFolder};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::document::{Expression, Text};
use crate::report::{Checks, Finding};
use crate::structure::capability;
use crate::{Containers, Error, Facilities, Image};

const TEMPORARY_SIZE: u64 = 64 << 20;
const DEFAULT_WITHIN: Duration = Duration::from_secs(5);
const DEFAULT_STOP: Duration = Duration::from_secs(10);
const MOST_RETRIES: usize = 3;
/// User ids that no account of an image has.
const RANDOM_USERS: std::ops::Range<u64> = 1_000_000_000..2_000_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Run {
    /// In a list of runs.
    #[serde(default)]
    pub(crate) name: String,
    arguments: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    user: Option<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    temporary: Vec<String>,
    #[serde(default, deserialize_with = "capabilities")]
    capabilities: Vec<Capability>,
    ready: Option<Ready>,
    pid_1: Option<Text>,
    listening: Option<Vec<Port>>,
    #[serde(default = "yes")]
    drops_capabilities: bool,
    #[serde(default)]
    reaps: bool,
    #[serde(default)]
    checks: Vec<Question>,
    #[serde(default)]
    stop: Stop,
    #[serde(default)]
    pub(crate) limits: SuiteLimits,
    #[serde(default, deserialize_with = "retries")]
    retries: usize,
}

/// What one container of a suite may use; never more than the factory allows.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuiteLimits {
    #[serde(default, deserialize_with = "some_duration")]
    time: Option<Duration>,
    #[serde(default, deserialize_with = "some_size")]
    memory: Option<u64>,
    processes: Option<usize>,
}

impl SuiteLimits {
    pub(crate) fn within(self, limits: &Limits) -> Limits {
        Limits {
            wall_time: self.time.map_or(limits.wall_time, |time| time.min(limits.wall_time)),
            memory: self.memory.map_or(limits.memory, |memory| memory.min(limits.memory)),
            processes: self.processes.map_or(limits.processes, |processes| processes.min(limits.processes)),
            ..limits.clone()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    port: Port,
    #[serde(default = "default_stop", deserialize_with = "duration")]
    within: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    name: Text,
    port: Port,
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

fn yes() -> bool {
    true
}

fn default_within() -> Duration {
    DEFAULT_WITHIN
}

fn default_stop() -> Duration {
    DEFAULT_STOP
}

/// 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.map(Port).ok_or_else(|| serde::de::Error::custom(format!("`{number}` is no port: 1 to 65535 is expected")))
    }
}

fn retries<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if number > MOST_RETRIES {
        return Err(serde::de::Error::custom(format!(
            "{number} retries hide what is wrong; at most {MOST_RETRIES} are allowed"
        )));
    }
    Ok(number)
}

fn capabilities<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Capability>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| capability(name).map_err(serde::de::Error::custom)).collect()
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no duration: a whole number with `ms`, `s` or `m` is expected"))
    })
}

fn some_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn some_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = parse_number(&text, |unit| match unit {
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    });
    size.map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no size: a whole number with `KiB`, `MiB` or `GiB` is expected"))
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let milliseconds = parse_number(text, |unit| match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    });
    milliseconds.map(Duration::from_millis)
}

/// A whole number with a unit, in what the unit is counted in.
fn parse_number(text: &str, factor: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    number.parse::<u64>().ok()?.checked_mul(factor(unit)?)
}

impl Run {
    /// Why the keys don't fit together.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let needs_ready = !self.checks.is_empty() || self.pid_1.is_some() || self.listening.is_some() || self.reaps;
        (self.ready.is_none() && needs_ready)
            .then_some("`checks`, `pid-1`, `listening` and `reaps` need `ready`, the port that is waited for")
    }

    /// Starts the image, as often as it takes and `retries` allows, and adds the checks of the last attempt.
    pub(crate) async fn run(
        &self,
        image: &Image,
        prefix: &str,
        facilities: &Facilities<'_>,
        checks: &mut Checks,
    ) -> Result<(), Error> {
        let runc = match facilities.containers {
            Containers::Available(runc) => runc,
            Containers::Unavailable(reason) => {
                self.not_run(prefix, checks, reason);
                return Ok(());
            }
        };
        let limits = self.limits.within(facilities.limits);
        let mut attempts = Vec::new();
        loop {
            let mut attempt = checks.attempt();
            let root = image.fresh_root(facilities.scratch)?;
            match self.job(image, root.path(), &limits) {
                Ok(job) => self.ask(&job, runc, prefix, &mut attempt).await?,
                Err(error) => attempt.add(format!("{prefix}/start"), Finding::failed(error.to_string(), Vec::new())),
            }
            let is_last = !attempt.any_failed() || attempts.len() == self.retries;
            attempts.push(attempt);
            if is_last {
                break;
            }
        }
        checks.absorb(attempts);
        Ok(())
    }

    fn job(&self, image: &Image, root: &Path, limits: &Limits) -> Result<ContainerJob, sandbox::Error> {
        let mut configuration = image.configuration().clone();
        let mut config = configuration.config().clone().unwrap_or_default();
        if let Some(user) = &self.user {
            let user = if user == "random" { random_user(image) } else { user.clone() };
            config.set_user(Some(user));
        }
        if let Some(arguments) = &self.arguments {
            config.set_cmd(Some(arguments.clone()));
        }
        configuration.set_config(Some(config));
        let mut process = Process::of_image(&configuration, root, None)?;
        for (name, value) in &self.environment {
            crate::structure::set(&mut process.environment, name, value);
        }
        let mut job = ContainerJob::new(root.to_path_buf(), process, limits.clone());
        job.read_only = self.read_only;
        job.capabilities.clone_from(&self.capabilities);
        job.temporary = self
            .temporary
            .iter()
            .map(|inside| TemporaryFolder { inside: inside.into(), size: TEMPORARY_SIZE })
            .collect();
        Ok(job)
    }

    fn not_run(&self, prefix: &str, checks: &mut Checks, reason: &str) {
        let mut names = vec!["start".to_owned()];
        if self.ready.is_some() {
            names.push("ready".to_owned());
            names.extend(self.pid_1.is_some().then(|| "pid-1".to_owned()));
            names.extend(self.listening.is_some().then(|| "listening".to_owned()));
            names.push("capabilities".to_owned());
            names.extend(self.reaps.then(|| "reaps".to_owned()));
            names.extend(self.checks.iter().map(|question| format!("answer/{}", question.name)));
            names.push("stop".to_owned());
        } else {
            names.push("end".to_owned());
        }
        for name in names {
            checks.add(format!("{prefix}/{name}"), Finding::not_run(reason));
        }
    }
}

/// A user that the image can't know, in the root group, as some clusters choose it; the same for the same image.
fn random_user(image: &Image) -> String {
    let hash = Sha256::digest(image.digest());
    let number = hash.iter().take(7).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{}:0", RANDOM_USERS.start + number % (RANDOM_USERS.end - RANDOM_USERS.start))
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

    #[test]
    fn a_suite_only_lowers_the_factorys_limits() {
        let own = SuiteLimits { time: Some(Duration::from_secs(9)), memory: Some(u64::MAX), processes: None };
        let limits = own.within(&Limits { wall_time: Duration::from_secs(20), ..Limits::default() });
        assert_eq!(limits.wall_time, Duration::from_secs(9));
        assert_eq!((limits.memory, limits.processes), (Limits::default().memory, Limits::default().processes));
    }
}
