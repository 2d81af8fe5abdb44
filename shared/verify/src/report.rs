//! The results of suites, as they are stored, shown and attested.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::database::Database;

/// A test suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// The image agrees with itself.
    Integrity,
    /// The image is built as its structure file says.
    Structure,
    /// The image has what its unit file says, and behaves so alone.
    Unit,
    /// The image runs and answers.
    Runtime,
    /// The image keeps to rules that are not its own.
    Compliance,
}

impl Suite {
    /// The suite as the first part of its checks' ids.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Suite::Integrity => "integrity",
            Suite::Structure => "structure",
            Suite::Unit => "unit",
            Suite::Runtime => "runtime",
            Suite::Compliance => "compliance",
        }
    }
}

/// The result of a check, or of all of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was run and holds.
    Passed,
    /// It was run and doesn't hold, which is told and keeps nothing from being published.
    Warned,
    /// It was run and doesn't hold, which a person lets pass; its complaints have the reasons.
    Waived,
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
    /// What it complains of one by one, where it does so; the message may have only the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<Complaint>,
    /// What the attempts before this one said, when it was tried again; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
}

/// One thing that a check complains of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// The path in the image that it is about, without a slash at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The package that it is about, or that has the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
    /// Why it is let pass, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
}

/// Why a complaint is let pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// The reason that the waiver gives.
    pub reason: String,
    /// The last day on which it holds, `YYYY-MM-DD`.
    pub expires: String,
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Complaint { path: None, package: None, message, waived: None }
    }
}

impl Complaint {
    pub(crate) fn at(path: &str, message: String) -> Self {
        Complaint { path: Some(path.to_owned()), ..Complaint::from(message) }
    }

    pub(crate) fn of_package(package: &str, message: String) -> Self {
        Complaint { package: Some(package.to_owned()), ..Complaint::from(message) }
    }
}

/// Complaints that a message has.
const LISTED: usize = 10;

/// The first complaints as one message.
fn listed<'a>(complaints: impl Iterator<Item = &'a Complaint> + Clone) -> String {
    let mut shown: Vec<String> = complaints.clone().take(LISTED).map(|complaint| complaint.message.clone()).collect();
    let more = complaints.count().saturating_sub(LISTED);
    if more > 0 {
        shown.push(format!("{more} more are listed in the report"));
    }
    shown.join("; ")
}

impl Check {
    /// Status and message by the complaints of which some are waived.
    pub(crate) fn weigh(&mut self) {
        let left = self.complaints.iter().filter(|complaint| complaint.waived.is_none());
        let message = listed(left.clone());
        let waived: Vec<&Waived> = self.complaints.iter().filter_map(|complaint| complaint.waived.as_ref()).collect();
        match (left.count(), waived.as_slice()) {
            (0, [first, ..]) => {
                self.message = format!("waived until {}: {}", first.expires, first.reason);
                self.status = Status::Waived;
            }
            (_, []) => self.message = message,
            (_, [_]) => self.message = format!("{message}; 1 more is waived"),
            (_, several) => self.message = format!("{message}; {} more are waived", several.len()),
        }
    }
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
        let check = Check {
            id: suite.as_str().to_owned(),
            status,
            message: reason.to_owned(),
            duration: Duration::ZERO,
            evidence: Vec::new(),
            complaints: Vec::new(),
            earlier: Vec::new(),
        };
        SuiteReport { suite, checks: vec![check] }
    }

    /// The worst of the checks: failed, not run, passed, which warned and waived ones count as; not
    /// applicable only when all are. A suite without checks was not run.
    #[must_use]
    pub fn status(&self) -> Status {
        let any = |status| self.checks.iter().any(|check| check.status == status);
        if any(Status::Failed) {
            Status::Failed
        } else if any(Status::NotRun) || self.checks.is_empty() {
            Status::NotRun
        } else if any(Status::Passed) || any(Status::Warned) || any(Status::Waived) {
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

/// A report with what it is about, to be written for other tools.
#[derive(Debug, Clone, Copy)]
pub struct Tested<'a> {
    /// The image, for example `nginx:1.26`.
    pub name: &'a str,
    /// What was found.
    pub report: &'a Report,
    /// The file that declares a suite, relative to the root of the sources.
    pub sources: &'a std::collections::BTreeMap<Suite, String>,
}

impl Tested<'_> {
    /// The file that declares a suite; the image's name when that is not known.
    pub(crate) fn source(&self, suite: Suite) -> &str {
        self.sources.get(&suite).map_or(self.name, String::as_str)
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
    pub(crate) complaints: Vec<Complaint>,
}

impl Finding {
    fn new(status: Status, message: impl Into<String>) -> Self {
        Finding { status, message: message.into(), evidence: Vec::new(), complaints: Vec::new() }
    }

    pub(crate) fn passed(message: impl Into<String>) -> Self {
        Finding::new(Status::Passed, message)
    }

    pub(crate) fn failed(message: impl Into<String>, evidence: Vec<String>) -> Self {
        Finding { evidence, ..Finding::new(Status::Failed, message) }
    }

    pub(crate) fn not_run(message: impl Into<String>) -> Self {
        Finding::new(Status::NotRun, message)
    }

    pub(crate) fn not_applicable(message: impl Into<String>) -> Self {
        Finding::new(Status::NotApplicable, message)
    }

    /// Passed when there are no complaints, else failed with the first of them as message, and with
    /// all as what a waiver can be for.
    pub(crate) fn listing(complaints: Vec<impl Into<Complaint>>, passed: impl Into<String>) -> Self {
        if complaints.is_empty() {
            return Finding::passed(passed);
        }
        let complaints: Vec<Complaint> = complaints.into_iter().map(Into::into).collect();
        Finding { complaints: complaints.clone(), ..Finding::new(Status::Failed, listed(complaints.iter())) }
    }

    /// What is only told when it fails.
    pub(crate) fn warning(mut self) -> Self {
        if self.status == Status::Failed {
            self.status = Status::Warned;
        }
        self
    }

    /// Where something is found, with why that is a rule.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        if matches!(self.status, Status::Failed | Status::Warned) {
            self.evidence.push(format!("the rule's reason: {reason}"));
        }
        self
    }

    /// Passed when there are no complaints, else failed with all of them.
    pub(crate) fn of(complaints: Vec<String>, passed: impl Into<String>) -> Self {
        if complaints.is_empty() { Finding::passed(passed) } else { Finding::failed(complaints.join("; "), Vec::new()) }
    }
}

impl Finding {
    /// As the check `id`, which took no time.
    pub(crate) fn named(self, id: impl Into<String>) -> Check {
        let Finding { status, message, evidence, complaints } = self;
        Check { id: id.into(), status, message, duration: Duration::ZERO, evidence, complaints, earlier: Vec::new() }
    }
}

impl Checks {
    pub(crate) fn new(suite: Suite) -> Self {
        Checks { suite, checks: Vec::new(), since: std::time::Instant::now() }
    }

    /// Adds a check that took all the time since the one before.
    pub(crate) fn add(&mut self, id: impl Into<String>, finding: Finding) {
        let duration = self.since.elapsed();
        self.since = std::time::Instant::now();
        self.checks.push(Check { duration, ..finding.named(id) });
    }

    /// Ends the suite; complaints about paths get the packages that have these.
    pub(crate) fn finish_with(mut self, database: Option<&Database>) -> SuiteReport {
        let complaints = self.checks.iter_mut().flat_map(|check| &mut check.complaints);
        for complaint in complaints.filter(|complaint| complaint.package.is_none()) {
            let owner = complaint.path.as_deref().zip(database).and_then(|(path, database)| database.owner(path));
            complaint.package = owner.map(|package| package.entry.information.name.clone());
        }
        self.finish()
    }

    /// Collects the checks of one attempt of several, for [`Checks::absorb`].
    pub(crate) fn attempt(&self) -> Self {
        Checks::new(self.suite)
    }

    pub(crate) fn any_failed(&self) -> bool {
        self.checks.iter().any(|check| check.status == Status::Failed)
    }

    /// Adds the checks of the last attempt, each with what it said in those before if it failed there.
    pub(crate) fn absorb(&mut self, mut attempts: Vec<Self>) {
        let Some(last) = attempts.pop() else { return };
        for mut check in last.checks {
            let before = attempts.iter().flat_map(|attempt| &attempt.checks);
            let failed = before.filter(|other| other.id == check.id && other.status == Status::Failed);
            check.earlier = failed.map(|other| other.message.clone()).collect();
            self.checks.push(check);
        }
        self.since = std::time::Instant::now();
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
                checks.add("structure/x", Finding::new(*status, ""));
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
        assert!(report(&[Status::Warned, Status::Waived]).passed());
        assert!(!report(&[Status::Warned, Status::Failed]).passed());
        assert!(!report(&[Status::Passed, Status::NotRun]).passed());
        assert!(!report(&[Status::Passed, Status::Failed]).passed());
        assert!(!report(&[]).passed());
        assert!(!Report { digest: String::new(), platform: String::new(), emulated: false, suites: vec![] }.passed());
    }

    #[test]
    fn a_check_that_passes_when_tried_again_tells_what_it_said_before() {
        let mut checks = Checks::new(Suite::Unit);
        let attempts = [("deaf", Status::Failed), ("hung", Status::Failed), ("ended", Status::Passed)];
        let attempts = attempts.map(|(message, status)| {
            let mut attempt = checks.attempt();
            attempt.add("unit/a/start", Finding::passed("started"));
            attempt.add("unit/a/stop", Finding::new(status, message));
            assert_eq!(attempt.any_failed(), status == Status::Failed);
            attempt
        });
        checks.absorb(attempts.into());
        let report = checks.finish();
        assert_eq!(report.status(), Status::Passed);
        assert!(report.checks[0].earlier.is_empty());
        assert_eq!(
            (report.checks[1].message.as_str(), &*report.checks[1].earlier),
            ("ended", &["deaf".to_owned(), "hung".to_owned()][..])
        );
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
