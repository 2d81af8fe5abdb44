//! Findings that are let pass for a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "fixture/described.rs"]
mod described;
mod fixture;

use described::{layer, run};
use fixture::check;
use verify::{Check, Status, SuiteReport, Waivers};

/// What is left of an image with two traces of sessions, one of which the package `web` has.
fn applied(waivers: &str) -> SuiteReport {
    let report = run(layer().file("root/.ash_history", 0o600, "x").file("opt/.viminfo", 0o600, "x"), "65532");
    let mut suites = [report];
    let waivers = Waivers::parse(waivers, "waivers.yaml").unwrap();
    waivers.apply(&mut suites, "2026-11-25".parse().unwrap());
    let [report] = suites;
    report
}

fn leftovers(waivers: &str) -> Check {
    check(&applied(waivers), "integrity/leftovers").clone()
}

const ONE: &str = "- {check: integrity/leftovers, path: /root/.ash_history, reason: kept for a test, expires: ";

#[test]
fn a_waived_finding_is_listed_with_its_reason_and_blocks_no_more() {
    let all = leftovers("waivers:\n- {check: integrity/leftovers, reason: known, expires: 2026-11-25}\n");
    assert_eq!((all.status, all.message.as_str()), (Status::Waived, "waived until 2026-11-25: known"));
    assert_eq!(all.complaints.len(), 2);
    assert!(all.complaints.iter().all(|complaint| complaint.waived.as_ref().unwrap().reason == "known"));
    let json = serde_json::to_value(&all).unwrap();
    assert_eq!(json["status"], "waived");
    assert_eq!(json["complaints"][0]["waived"]["expires"], "2026-11-25");

    let some = leftovers(&format!("waivers:\n{ONE}2027-01-01}}\n"));
    assert_eq!(
        (some.status, some.message.as_str()),
        (Status::Failed, "`/opt/.viminfo` is a trace of a session; remove it; 1 more is waived")
    );
    let below =
        leftovers("waivers:\n- {check: integrity/leftovers, path: /root/, reason: known, expires: 2027-01-01}\n");
    assert_eq!(below.message, some.message);
}

#[test]
fn an_expired_waiver_blocks_and_says_so() {
    let expired = leftovers(&format!("waivers:\n{ONE}2026-11-24}}\n"));
    assert_eq!(expired.status, Status::Failed);
    assert_eq!(
        expired.message,
        "`/opt/.viminfo` is a trace of a session; remove it; \
         `/root/.ash_history` is a trace of a session; remove it; the waiver for it in `waivers.yaml` has expired on \
         2026-11-24 (kept for a test): mend it, or state a later day"
    );
}

#[test]
fn waivers_are_for_packages_and_those_that_nothing_needs_are_told() {
    let package = |name: &str| {
        let mut web = layer();
        web.0.retain(|(path, ..)| path != "usr/bin/web");
        let web = web.file("usr/bin/web", 0o755, "in /home/build/src/x.c");
        let mut suites = [run(web, "65532")];
        let text = format!(
            "waivers:\n- {{check: integrity/build-paths, package: {name}, reason: old, expires: 2027-01-01}}\n"
        );
        Waivers::parse(&text, "waivers.yaml").unwrap().apply(&mut suites, "2026-11-25".parse().unwrap());
        let [report] = suites;
        (check(&report, "integrity/build-paths").status, check(&report, "compliance/waivers").clone())
    };
    let (status, needed) = package("web");
    assert_eq!((status, needed.status), (Status::Waived, Status::Passed));
    let (status, unused) = package("data");
    assert_eq!((status, unused.status), (Status::Failed, Status::Warned));
    assert_eq!(
        unused.message,
        "the waiver for `integrity/build-paths` of the package `data` in `waivers.yaml` lets nothing pass; remove it"
    );
}

#[test]
fn what_has_not_run_is_not_waived() {
    let mut suites = [run(layer(), "65532")];
    for check in &mut suites[0].checks {
        if check.id == "integrity/index" {
            check.status = Status::NotRun;
        }
    }
    let text = "waivers:\n- {check: integrity/index, reason: known, expires: 2027-01-01}\n";
    Waivers::parse(text, "waivers.yaml").unwrap().apply(&mut suites, "2026-11-25".parse().unwrap());
    assert_eq!(suites[0].status(), Status::NotRun);
}

#[test]
fn a_file_that_is_not_of_the_format_is_refused_with_its_place() {
    for (text, expected) in [
        ("waivers:\n- {check: integrity/pie, reason: x}\n", "expires"),
        ("waivers:\n- {check: integrity/pie, reason: x, expires: soon}\n", "soon"),
        ("waivers:\n- {check: integrity/pie, reason: ' ', expires: 2027-01-01}\n", "has no reason; state why"),
        ("waivers:\n- {check: pie, reason: x, expires: 2027-01-01}\n", "`check: pie` is no id of a check"),
        ("waivers:\n- {check: integrity/pie, reason: x, expires: 2027-01-01, until: x}\n", "until"),
        ("waiver: []\n", "waiver"),
    ] {
        let error = Waivers::parse(text, "waivers.yaml").unwrap_err().to_string();
        assert!(error.starts_with("waivers.yaml:") && error.contains(expected), "{error}");
    }
}
