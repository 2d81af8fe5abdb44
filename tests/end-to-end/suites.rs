//! `mill image test`: today's suites on what was built.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use serde_json::{Value, json};
use tests::factory::{Factory, text};

const MILL: &str = env!("CARGO_BIN_EXE_mill");
const STRUCTURE: &str = "images/hello/tests/structure.yaml";

fn statuses(build: &Value, suite: &str) -> Vec<(String, String)> {
    let suites = build["platforms"]["x86_64"]["suites"].as_array().unwrap();
    let suite = suites.iter().find(|found| found["suite"] == suite).unwrap();
    let checks = suite["checks"].as_array().unwrap().iter();
    checks.map(|check| (text(&check["id"]).to_owned(), text(&check["status"]).to_owned())).collect()
}

#[test]
fn image_test_runs_todays_suites_and_writes_junit_and_sarif() {
    let factory = Factory::after_first_cycle(MILL);
    let published = factory.run(&["image", "list"]);
    let digest = text(&published.json[0]["digest"]).to_owned();
    let good = factory.run(&["image", "test", "hello:1", "--junit", "good.xml", "--sarif", "good.sarif"]);
    good.expect_code(0);
    assert_eq!(good.json["passed"], true);
    assert_eq!(good.json["builds"][0]["digest"], json!(digest));
    let read = |name: &str| std::fs::read_to_string(factory.folder().join(name)).unwrap();
    let xml = read("good.xml");
    assert!(xml.contains("<testsuite name=\"hello:1 linux/amd64 structure\"") && !xml.contains("<failure"), "{xml}");
    let sarif: Value = serde_json::from_str(&read("good.sarif")).unwrap();
    assert_eq!(sarif["runs"][0]["results"], json!([]));
    let platform = text(&published.json[0]["platforms"]["x86_64"]).to_owned();
    for subject in [format!("hello@{digest}"), format!("hello@{platform}"), "hello".to_owned()] {
        let same = factory.run(&["image", "test", &subject]);
        same.expect_code(0);
        assert_eq!(same.json["builds"][0]["digest"], json!(digest));
    }

    // A suite that was changed since; what has been published is held against it.
    factory.edit(STRUCTURE, "^hello 1", "^hello 9");
    let bad = factory.run(&["image", "test", "hello:1", "--junit", "bad.xml", "--sarif", "bad.sarif"]);
    bad.expect_code(1);
    assert_eq!(bad.json["passed"], false);
    let failed = ("structure/command/version and greeting".to_owned(), "failed".to_owned());
    assert!(statuses(&bad.json["builds"][0], "structure").contains(&failed), "{:#}", bad.json);
    assert!(
        read("bad.xml").contains("<failure message=\"standard output does not match `^hello 9"),
        "{}",
        read("bad.xml")
    );
    let sarif: Value = serde_json::from_str(&read("bad.sarif")).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&json!("structure/command"), &json!("error")));
    let place = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert!(text(place).ends_with(STRUCTURE), "{place}");

    // A build that its suites have kept from being published is the newest all the same.
    factory.release("hello-mill", "1.1.0");
    factory.cycle();
    let newest = factory.run(&["image", "test", "hello"]);
    newest.expect_code(1);
    assert_ne!(newest.json["builds"][0]["digest"], json!(digest));
    factory.run(&["image", "test", "hello:1.1.0"]).expect_code(1);
    factory.edit(STRUCTURE, "^hello 9", "^hello 1");
    factory.run(&["image", "test", "hello"]).expect_code(0);

    // Unit tests are required where there is a file.
    factory.write(
        "images/hello/tests/unit.yaml",
        "packages: {present: [hello], absent: [busybox]}\nexposed: []\nowners: [{path: /usr, user: 0, most: '0755'}]\n\
         runs: [{name: as anybody, user: random, read-only: true, stop: {within: 30s}}]\n",
    );
    let unit = factory.run(&["image", "test", "hello"]);
    unit.expect_code(0);
    assert_eq!(statuses(&unit.json["builds"][0], "unit").len(), 6, "{:#}", unit.json);
    factory.edit("images/hello/tests/unit.yaml", "absent: [busybox]", "absent: [hello]");
    let unit = factory.run(&["image", "test", "hello"]);
    unit.expect_code(1);
    let failed = ("unit/package-absent/hello".to_owned(), "failed".to_owned());
    assert!(statuses(&unit.json["builds"][0], "unit").contains(&failed), "{:#}", unit.json);

    // A suite that can't be read is named with its place.
    factory.edit(STRUCTURE, "commandTests", "commandTest");
    let unread = factory.run(&["image", "test", "hello"]);
    unread.expect_code(1);
    assert!(unread.stderr.contains("tests/structure.yaml:3:1: "), "{}", unread.stderr);
}

#[test]
fn what_was_never_built_is_not_run_and_what_is_unknown_is_told() {
    let factory = Factory::new(MILL);
    let never = factory.run(&["image", "test", "hello"]);
    never.expect_code(1);
    assert_eq!(never.json["not-run"], json!({"1": "nothing has been built of it; run `mill cycle`"}));
    assert_eq!(never.json["passed"], false);
    let unknown = factory.run(&["image", "test", "hello:1.0.0"]);
    unknown.expect_code(1);
    assert!(unknown.stderr.contains("`hello:1.0.0` was never published"), "{}", unknown.stderr);
    let unknown = factory.run(&["image", "test", "helo"]);
    unknown.expect_code(1);
    assert!(unknown.stderr.contains("the catalog has no image `helo`"), "{}", unknown.stderr);
    factory.run(&["image", "test", "hello@sha256:12"]).expect_code(2);
}
