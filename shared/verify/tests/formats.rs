//! Reports as JUnit XML and SARIF, read by others' parsers and schemas.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use quick_xml::events::Event;
use serde_json::Value;
use verify::{Check, Complaint, Report, Status, Suite, SuiteReport, Tested, Waived, junit, sarif};

fn check(id: &str, status: Status, message: &str) -> Check {
    Check {
        id: id.into(),
        status,
        message: message.into(),
        duration: Duration::from_millis(1500),
        evidence: Vec::new(),
        complaints: Vec::new(),
        earlier: Vec::new(),
    }
}

fn report() -> Report {
    let mut failed = check("structure/command/a <name> & more", Status::Failed, "exit code 1, expected 0");
    failed.evidence = vec!["standard output:\n\u{1b}[31mred\u{0}".into()];
    let mut flaky = check("runtime/ready", Status::Passed, "port 80 accepts");
    flaky.earlier = vec!["port 80 does not accept".into()];
    let mut waived = check("compliance/set-id", Status::Waived, "waived until 2027-01-01: `su` needs it");
    waived.complaints = vec![Complaint {
        path: Some("bin/su".into()),
        package: None,
        message: "set-user-id".into(),
        waived: Some(Waived { reason: "`su` needs it".into(), expires: "2027-01-01".into() }),
    }];
    Report {
        digest: format!("sha256:{}", "0".repeat(64)),
        platform: "linux/arm64".into(),
        emulated: true,
        suites: vec![
            SuiteReport {
                suite: Suite::Structure,
                checks: vec![check("structure/file-existence/x", Status::Passed, "there"), failed],
            },
            SuiteReport {
                suite: Suite::Runtime,
                checks: vec![flaky, check("runtime/stop", Status::NotRun, "`runc` is not installed")],
            },
            SuiteReport::not_applicable(Suite::Integrity, "it has no files"),
            SuiteReport {
                suite: Suite::Compliance,
                checks: vec![check("compliance/shell", Status::Warned, "it has a shell"), waived],
            },
        ],
    }
}

fn sources() -> BTreeMap<Suite, String> {
    BTreeMap::from([(Suite::Structure, "catalog/images/web/tests/structure of it.yaml".to_owned())])
}

/// Name and attributes of every element, in order.
fn elements(xml: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) => {
                let name = String::from_utf8(element.name().as_ref().to_vec()).unwrap();
                let attributes = element.attributes().map(|attribute| {
                    let attribute = attribute.unwrap();
                    let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                    (key, attribute.unescape_value().unwrap().into_owned())
                });
                found.push((name.clone(), attributes.collect()));
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

#[test]
fn junit_counts_what_failed_and_what_was_not_run() {
    let (report, sources) = (report(), sources());
    let xml = junit(&[Tested { name: "web:1", report: &report, sources: &sources }]).unwrap();
    let elements = elements(&xml);
    let of =
        |name: &str| elements.iter().filter(|(other, _)| other == name).map(|(_, found)| found).collect::<Vec<_>>();
    let total = of("testsuites")[0];
    assert_eq!((&*total["tests"], &*total["failures"], &*total["errors"]), ("7", "1", "1"));
    let suites = of("testsuite");
    assert_eq!(suites[0]["name"], "web:1 linux/arm64 structure");
    assert_eq!(suites[0]["time"], "3.000");
    assert!(of("property").iter().any(|property| property["name"] == "emulated"));
    let cases = of("testcase");
    assert_eq!(cases[1]["name"], "structure/command/a <name> & more");
    let failure = of("failure")[0];
    assert_eq!((&*failure["type"], &*failure["message"]), ("failed", "exit code 1, expected 0"));
    let not_run = of("error")[0];
    assert_eq!((&*not_run["type"], &*not_run["message"]), ("not-run", "not run: `runc` is not installed"));
    assert_eq!(
        of("skipped").iter().map(|found| &*found["message"]).collect::<Vec<_>>(),
        ["it has no files", "waived until 2027-01-01: `su` needs it"]
    );
    assert!(xml.contains("<system-out>warned: it has a shell</system-out>"), "{xml}");
    assert_eq!(of("flakyFailure")[0]["message"], "port 80 does not accept");
    assert!(!xml.contains('\u{0}'), "XML has no such character");
}

#[test]
fn sarif_is_of_its_schema_and_names_what_blocks() {
    let (report, sources) = (report(), sources());
    let text = sarif(&[Tested { name: "web:1", report: &report, sources: &sources }]).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/schemas/sarif-2.1.0.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let run = &document["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let results = run["results"].as_array().unwrap();
    let rows: Vec<_> = results
        .iter()
        .map(|found| {
            (
                found["ruleId"].as_str().unwrap(),
                found["level"].as_str().unwrap(),
                found["message"]["text"].as_str().unwrap(),
                found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            (
                "structure/command",
                "error",
                "web:1 (linux/arm64): exit code 1, expected 0",
                "catalog/images/web/tests/structure%20of%20it.yaml"
            ),
            (
                "runtime/ready",
                "note",
                "web:1 (linux/arm64): passed when tried again; before: port 80 does not accept",
                "web%3A1"
            ),
            ("runtime/stop", "error", "web:1 (linux/arm64): not run: `runc` is not installed", "web%3A1"),
            ("compliance/shell", "warning", "web:1 (linux/arm64): it has a shell", "web%3A1"),
            ("compliance/set-id", "error", "web:1 (linux/arm64): waived until 2027-01-01: `su` needs it", "web%3A1"),
        ]
    );
    let rules: Vec<_> = run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    assert_eq!(results[4]["suppressions"][0]["justification"], "until 2027-01-01: `su` needs it");
    assert_eq!(rules.len(), 7, "{rules:?}");
}
