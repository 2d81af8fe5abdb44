//! Reports as SARIF 2.1.0, for code scanning.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::report::Tested;
use crate::{Check, Error, Status};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    invocations: [Invocation; 1],
    results: Vec<Finding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    /// Whether every check was run.
    execution_successful: bool,
}

/// A `result`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_id: String,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
    partial_fingerprints: Fingerprints,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suppressions: Vec<Suppression>,
    properties: Properties,
}

/// Why a result does not count.
#[derive(Serialize)]
struct Suppression {
    kind: &'static str,
    justification: String,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
    logical_locations: [LogicalLocation; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: Artifact,
}

#[derive(Serialize)]
struct Artifact {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation {
    fully_qualified_name: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct Fingerprints {
    #[serde(rename = "check/v1")]
    check: String,
}

#[derive(Serialize)]
struct Properties {
    check: String,
    status: Status,
    platform: String,
    digest: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    emulated: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<String>,
}

/// One `result` for each check that failed or was not run (`error`), is waived (`error`, suppressed), is only warned
/// of (`warning`), or passed only when it was tried again (`note`), at the file that declares it. A rule is a kind of check, `SUITE/KIND`.
///
/// # Errors
/// [`Error::Written`] when the document can't be written.
pub fn sarif(tested: &[Tested<'_>]) -> Result<String, Error> {
    let checks = || {
        tested.iter().flat_map(|image| {
            let suites = image.report.suites.iter();
            suites.flat_map(move |suite| suite.checks.iter().map(move |check| (image, suite.suite, check)))
        })
    };
    let rules: BTreeSet<String> = checks().map(|(_, _, check)| rule(check)).collect();
    let results = checks().filter_map(|(image, suite, check)| finding(image, image.source(suite), check)).collect();
    let run = Run {
        tool: Tool {
            driver: Driver {
                name: "minimill",
                version: env!("CARGO_PKG_VERSION"),
                rules: rules.into_iter().map(|id| Rule { id }).collect(),
            },
        },
        invocations: [Invocation {
            execution_successful: checks().all(|(_, _, check)| check.status != Status::NotRun),
        }],
        results,
    };
    serde_json::to_string_pretty(&Log { schema: SCHEMA, version: "2.1.0", runs: [run] })
        .map_err(|error| Error::Written { format: "SARIF", message: error.to_string() })
}

/// The suite and the kind of a check.
fn rule(check: &Check) -> String {
    check.id.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
}

fn finding(image: &Tested<'_>, source: &str, check: &Check) -> Option<Finding> {
    let (level, text) = match check.status {
        Status::Failed => ("error", check.message.clone()),
        Status::NotRun => ("error", format!("not run: {}", check.message)),
        Status::Warned => ("warning", check.message.clone()),
        Status::Waived => ("error", check.message.clone()),
        Status::Passed if !check.earlier.is_empty() => {
            ("note", format!("passed when tried again; before: {}", check.earlier.join("; ")))
        }
        Status::Passed | Status::NotApplicable => return None,
    };
    let report = image.report;
    let waivers = check.complaints.iter().filter_map(|complaint| complaint.waived.as_ref());
    let suppressions = waivers
        .filter(|_| check.status == Status::Waived)
        .map(|waived| Suppression {
            kind: "external",
            justification: format!("until {}: {}", waived.expires, waived.reason),
        })
        .collect();
    let place = format!("{} {} {}", image.name, report.platform, check.id);
    Some(Finding {
        rule_id: rule(check),
        level,
        message: Text { text: format!("{} ({}): {text}", image.name, report.platform) },
        partial_fingerprints: Fingerprints { check: hex::encode(Sha256::digest(&place)) },
        suppressions,
        locations: [Location {
            physical_location: PhysicalLocation { artifact_location: Artifact { uri: percent_encoded(source) } },
            logical_locations: [LogicalLocation { fully_qualified_name: place, kind: "check" }],
        }],
        properties: Properties {
            check: check.id.clone(),
            status: check.status,
            platform: report.platform.clone(),
            digest: report.digest.clone(),
            emulated: report.emulated,
            evidence: check.evidence.clone(),
            earlier: check.earlier.clone(),
        },
    })
}

/// A relative path as a URI reference.
fn percent_encoded(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
