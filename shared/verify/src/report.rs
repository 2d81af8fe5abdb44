//! The results of suites, as they are stored, shown and attested.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A test suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// The image agrees with itself.
    Integrity,
    /// The image is built as its structure file says.
    Structure,
    /// The image runs and answers.
    Runtime,
}

/// The result of a check, or of all of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was run and holds.
    Passed,
    /// It was run and doesn't hold.
    Failed,
    /// It could not be run here; the message says why.
    NotRun,
    /// There is nothing that it could be run on; the message says why.
    NotApplicable,
}

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `SUITE/KIND/NAME`, the same for the same check of every image.
    pub id: String,
    /// What came of it.
    pub status: Status,
    /// One sentence: what was found, and if it failed what was expected.
    pub message: String,
    /// Wall time it took.
    #[serde(rename = "milliseconds", with = "milliseconds")]
    pub duration: Duration,
    /// What it was judged by: output, a list of files. Empty when the message has it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// All checks of one suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteReport {
    /// The suite.
    pub suite: Suite,
    /// Its checks, in their order.
    pub checks: Vec<Check>,
}

/// All suites on one platform's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `sha256:HEX` of the platform's manifest.
    pub digest: String,
    /// For example `linux/amd64`.
    pub platform: String,
    /// The image's programs ran through an emulator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emulated: bool,
    /// What was looked at.
    pub suites: Vec<SuiteReport>,
}

impl SuiteReport {
    /// A suite that an image's definition says has nothing to look at.
    #[must_use]
    pub fn not_applicable(suite: Suite, reason: &str) -> Self {
        SuiteReport::single(suite, Status::NotApplicable, reason)
    }

    /// A suite that could not be run, or that the image lacks.
    #[must_use]
    pub fn not_run(suite: Suite, reason: &str) -> Self {
        SuiteReport::single(suite, Status::NotRun, reason)
    }

    fn single(suite: Suite, status: Status, reason: &str) -> Self {
        let id = match suite {
            Suite::Integrity => "integrity",
            Suite::Structure => "structure",
            Suite::Runtime => "runtime",
        };
        let check = Check {
            id: id.to_owned(),
            status,
            message: reason.to_owned(),
            duration: Duration::ZERO,
            evidence: Vec::new(),
        };
        SuiteReport { suite, checks: vec![check] }
    }

    /// The worst of the checks: failed, not run, passed; not applicable only when all are. A
    /// suite without checks was not run.
    #[must_use]
    pub fn status(&self) -> Status {
        let any = |status| self.checks.iter().any(|check| check.status == status);
        if any(Status::Failed) {
            Status::Failed
        } else if any(Status::NotRun) || self.checks.is_empty() {
            Status::NotRun
        } else if any(Status::Passed) {
            Status::Passed
        } else {
            Status::NotApplicable
        }
    }

    /// The checks that keep the image from being published.
    pub fn blocking(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| matches!(check.status, Status::Failed | Status::NotRun))
    }
}

impl Report {
    /// Whether the image may be published: there are suites, and each has passed or is not
    /// applicable.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.suites.is_empty()
            && self.suites.iter().all(|suite| matches!(suite.status(), Status::Passed | Status::NotApplicable))
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

/// Collects the checks of a suite, timing each.
pub(crate) struct Checks {
    suite: Suite,
    checks: Vec<Check>,
    since: std::time::Instant,
}

/// What a check found, before it has a name and a time.
pub(crate) struct Finding {
    pub(crate) status: Status,
    pub(crate) message: String,
    pub(crate) evidence: Vec<String>,
}

impl Finding {
    pub(crate) fn passed(message: impl Into<String>) -> Self {
        Finding { status: Status::Passed, message: message.into(), evidence: Vec::new() }
    }

    pub(crate) fn failed(message: impl Into<String>, evidence: Vec<String>) -> Self {
        Finding { status: Status::Failed, message: message.into(), evidence }
    }

    pub(crate) fn not_run(message: impl Into<String>) -> Self {
        Finding { status: Status::NotRun, message: message.into(), evidence: Vec::new() }
    }

    pub(crate) fn not_applicable(message: impl Into<String>) -> Self {
        Finding { status: Status::NotApplicable, message: message.into(), evidence: Vec::new() }
    }

    /// Passed when there are no complaints, else failed with the first `most` of them, and with all
    /// as evidence when there is more than one.
    pub(crate) fn listing(complaints: Vec<String>, most: usize, passed: impl Into<String>) -> Self {
        let mut shown = complaints.iter().take(most).cloned().collect::<Vec<_>>();
        if complaints.len() > most {
            shown.push(format!("{} more are in the evidence", complaints.len() - most));
        }
        let mut finding = Finding::of(shown, passed);
        finding.evidence = if complaints.len() > 1 { complaints } else { Vec::new() };
        finding
    }

    /// Passed when there are no complaints, else failed with all of them.
    pub(crate) fn of(complaints: Vec<String>, passed: impl Into<String>) -> Self {
        if complaints.is_empty() { Finding::passed(passed) } else { Finding::failed(complaints.join("; "), Vec::new()) }
    }
}

impl Checks {
    pub(crate) fn new(suite: Suite) -> Self {
        Checks { suite, checks: Vec::new(), since: std::time::Instant::now() }
    }

    /// Adds a check that took all the time since the one before.
    pub(crate) fn add(&mut self, id: impl Into<String>, finding: Finding) {
        let Finding { status, message, evidence } = finding;
        let duration = self.since.elapsed();
        self.since = std::time::Instant::now();
        self.checks.push(Check { id: id.into(), status, message, duration, evidence });
    }

    pub(crate) fn finish(self) -> SuiteReport {
        SuiteReport { suite: self.suite, checks: self.checks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_run_never_counts_as_passed() {
        let report = |statuses: &[Status]| {
            let mut checks = Checks::new(Suite::Structure);
            for status in statuses {
                checks.add("structure/x", Finding { status: *status, message: String::new(), evidence: Vec::new() });
            }
            Report {
                digest: "sha256:00".into(),
                platform: "linux/amd64".into(),
                emulated: false,
                suites: vec![checks.finish()],
            }
        };
        assert!(report(&[Status::Passed, Status::NotApplicable]).passed());
        assert!(report(&[Status::NotApplicable]).passed());
        assert!(!report(&[Status::Passed, Status::NotRun]).passed());
        assert!(!report(&[Status::Passed, Status::Failed]).passed());
        assert!(!report(&[]).passed());
        assert!(!Report { digest: String::new(), platform: String::new(), emulated: false, suites: vec![] }.passed());
    }

    #[test]
    fn a_report_survives_json() {
        let mut suite = SuiteReport::not_run(Suite::Runtime, "`runc` is not installed");
        suite.checks[0].duration = Duration::from_millis(12);
        let report =
            Report { digest: "sha256:00".into(), platform: "linux/amd64".into(), emulated: false, suites: vec![suite] };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"digest":"sha256:00","platform":"linux/amd64","suites":[{"suite":"runtime","checks":[{"id":"runtime","status":"not-run","message":"`runc` is not installed","milliseconds":12}]}]}"#
        );
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
