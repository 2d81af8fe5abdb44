//! Streams, their variants, and what becomes of what they have published.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::factory::{Answer, Factory, rows, text, texts};
use tests::layout;

const MILL: &str = env!("CARGO_BIN_EXE_mill");

/// A factory whose repository has `library` in these versions.
fn with_versions(versions: &[&str]) -> Factory {
    let factory = Factory::new(MILL);
    for version in versions {
        publish(&factory, version);
    }
    factory
}

fn publish(factory: &Factory, version: &str) {
    factory.add_package("library", version, &[], "mkdir -p ${{targets.destdir}}/usr/share/library");
    factory.cycle().expect_code(0);
}

/// The status of each published build of `library`, by timestamp tag.
fn statuses(factory: &Factory) -> BTreeMap<String, String> {
    let list = factory.run(&["image", "list"]);
    list.expect_code(0);
    let of_library = rows(&list.json).iter().filter(|row| row["name"] == "library");
    of_library.map(|row| (text(&row["timestamp_tag"]).to_owned(), text(&row["status"]).to_owned())).collect()
}

fn plans(answer: &Answer) -> Vec<(&str, &str)> {
    let of_library = rows(&answer.json).iter().filter(|row| row["image"] == "library");
    of_library.map(|row| (text(&row["stream"]), text(&row["plan"]))).collect()
}

#[test]
fn a_variant_adds_its_packages_under_its_own_tags() {
    let factory = with_versions(&["1.0.0"]);
    factory.add_package("tools", "5", &[], "mkdir -p ${{targets.destdir}}/usr/share/tools");
    factory.add_image("library", "library", &[("1", "~1")]);
    factory.edit("images/library/image.yaml", "    version: \"~1\"\n", "    version: \"~1\"\n    tags: [lts]\n");
    factory.edit("images/library/image.yaml", "suites:", "variants:\n  - name: dev\n    packages: [tools]\nsuites:");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let (plain, dev) = (cycle.image("library", "1"), cycle.image("library", "1-dev"));
    assert_eq!(texts(&plain["tags"]), ["1.0.0", "1.0", "1", "lts", "latest"]);
    assert_eq!(texts(&dev["tags"]), ["1.0.0-dev", "1.0-dev", "1-dev", "lts-dev", "latest-dev"]);
    assert_eq!(dev["timestamp_tag"], "1.0.0-202603040600-dev");
    assert_ne!(plain["digest"], dev["digest"]);
    let (installed, world) = (files(&factory, plain), files(&factory, dev));
    assert!(world.contains("P:tools\n") && !installed.contains("P:tools\n"), "{installed}\n{world}");

    // An update of what only the variant has leaves the plain image alone.
    factory.add_package("tools", "6", &[], "mkdir -p ${{targets.destdir}}/usr/share/tools");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.image("library", "1")["digest"], plain["digest"]);
    assert_eq!(cycle.image("library", "1-dev")["reason"], "tools 5-r0 -> 6-r0");
    factory.run(&["verify", "library:latest-dev"]).expect_code(0);
}

/// The database of installed packages of an image's platform.
fn files(factory: &Factory, row: &Value) -> String {
    let database = layout::file(&factory.layout("library"), text(&row["platforms"]["x86_64"]), "lib/apk/db/installed");
    assert!(!database.is_empty(), "the package database is empty");
    String::from_utf8(database).unwrap()
}

#[test]
fn an_older_version_is_frozen_and_its_rebuilds_are_superseded() {
    let mut factory = with_versions(&["1.0.0"]);
    factory.add_package("tools", "5", &[], "mkdir -p ${{targets.destdir}}/usr/share/tools");
    factory.add_image("library", "library", &[("1", "~1")]);
    factory.edit("images/library/apko.yaml", "- library${version}\n", "- library${version}\n    - tools\n");
    factory.cycle().expect_code(0);
    factory.at("2026-03-05T06:00:00Z");
    factory.add_package("tools", "6", &[], "mkdir -p ${{targets.destdir}}/usr/share/tools");
    factory.cycle().expect_code(0);
    factory.at("2026-03-06T06:00:00Z");
    publish(&factory, "1.1.0");
    let expected =
        [("1.0.0-202603040600", "superseded"), ("1.0.0-202603050600", "frozen"), ("1.1.0-202603060600", "current")];
    assert_eq!(statuses(&factory), expected.map(|(tag, status)| (tag.to_owned(), status.to_owned())).into());

    // What is frozen stays as it was when its packages change, and stays pullable.
    let frozen = factory.contents().tags["library:1.0.0"].clone();
    factory.add_package("tools", "7", &[], "mkdir -p ${{targets.destdir}}/usr/share/tools");
    factory.at("2026-03-07T06:00:00Z");
    factory.cycle().expect_code(0);
    assert_eq!(factory.contents().tags["library:1.0.0"], frozen);
    factory.run(&["verify", "library:1.0.0"]).expect_code(0);
    let reports = factory.run(&["scan", "library"]);
    reports.expect_code(0);
    let report = rows(&reports.json).iter().find(|report| report["digest"] == frozen.as_str()).unwrap();
    assert_eq!(report["status"], "frozen", "{report:#}");

    let history = factory.run(&["image", "history", "library", "--tag", "1"]);
    history.expect_code(0);
    let moves = rows(&history.json);
    let reasons: Vec<&str> = moves.iter().map(|moved| text(&moved["reason"])).collect();
    let third = "library 1.0.0-r0 -> 1.1.0-r0";
    assert_eq!(reasons, ["first build of the stream", "tools 5-r0 -> 6-r0", third, "tools 6-r0 -> 7-r0"]);
    assert!(moves[0]["from"].is_null());
    for pair in moves.windows(2) {
        assert_eq!(pair[1]["from"], pair[0]["to"]);
    }
    assert_eq!(moves[1]["to"], frozen.as_str());
    factory.run(&["image", "history", "library", "--tag", "nosuch"]).expect_code(1);
}

#[test]
fn a_new_version_line_is_proposed_once() {
    let mut factory = with_versions(&["9.0.1"]);
    factory.add_image("library", "library", &[("9.0", "~9.0")]);
    factory.cycle().expect_code(0);
    assert_eq!(plans(&factory.run(&["image", "plan"])), [("9.0", "not due")]);
    publish(&factory, "9.1.0");
    factory.at("2026-03-05T06:00:00Z");
    publish(&factory, "9.1.2");
    let plan = factory.run(&["image", "plan"]);
    plan.expect_code(0);
    assert_eq!(plans(&plan), [("9.0", "not due"), ("9.1", "proposed")]);
    let proposal = rows(&plan.json).iter().find(|row| row["plan"] == "proposed").unwrap();
    assert!(text(&proposal["reason"]).contains("9.1.2"), "{proposal:#}");
    let events = factory.documents("event", "");
    let proposed = events.iter().filter(|(_, event)| event["kind"] == "image.stream-proposed");
    assert_eq!(proposed.count(), 1, "{events:#?}");

    factory.edit("images/library/image.yaml", "streams:\n", "streams:\n  - name: \"9.1\"\n    version: \"~9.1\"\n");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(texts(&cycle.image("library", "9.1")["tags"]), ["9.1.2", "9.1", "9", "latest"]);
    assert_eq!(plans(&factory.run(&["image", "plan"])), [("9.1", "not due"), ("9.0", "not due")]);
}

#[test]
fn a_stream_is_not_built_after_its_end() {
    let mut factory = with_versions(&["1.0.0"]);
    factory.add_image("library", "library", &[("1", "~1")]);
    let dated = "    version: \"~1\"\n    end-of-life: 2026-03-31\n";
    factory.edit("images/library/image.yaml", "    version: \"~1\"\n", dated);
    factory.at("2026-03-31T23:00:00Z");
    factory.cycle().expect_code(0);
    factory.at("2026-04-01T00:00:00Z");
    publish(&factory, "1.1.0");
    assert_eq!(
        statuses(&factory).into_iter().collect::<Vec<_>>(),
        [("1.0.0-202603312300".to_owned(), "end-of-life".to_owned())]
    );
    let plan = factory.run(&["image", "plan"]);
    let row = rows(&plan.json).iter().find(|row| row["image"] == "library").unwrap();
    assert_eq!(
        (&row["plan"], &row["reason"]),
        (&"not due".into(), &"the stream reached its end of life on 2026-03-31".into())
    );
}

#[test]
fn retention_removes_only_what_no_tag_needs_and_keeps_its_record() {
    let mut factory = with_versions(&["1.0.0"]);
    for tools in ["5", "6", "7"] {
        factory.add_package("tools", tools, &[], "mkdir -p ${{targets.destdir}}/usr/share/tools");
        factory.cycle().expect_code(0);
    }
    factory.add_image("library", "library", &[("1", "~1")]);
    let vex = "image: library\nauthor: me\nstatements:\n  - vulnerability: CVE-2026-1\n    status: under_investigation\n    \
               timestamp: 2026-03-01T00:00:00Z\n";
    factory.write("vex/library.yaml", vex);
    let mut wanted = "- library${version}\n".to_owned();
    let mut want = |factory: &Factory, tools: &str| {
        let next = format!("- library${{version}}\n    - tools={tools}-r0\n");
        factory.edit("images/library/apko.yaml", &wanted, &next);
        wanted = next;
    };
    for (day, tools) in [("02", "5"), ("03", "6"), ("04", "7")] {
        want(&factory, tools);
        factory.at(&format!("2026-03-{day}T06:00:00Z"));
        factory.cycle().expect_code(0);
    }
    let before = factory.contents();
    factory.run(&["image", "prune"]).expect_code(2);

    std::fs::write(factory.home().join("mill.toml"), "[retention]\ndigests = 1\ndays = 2\n").unwrap();
    factory.at("2026-03-05T18:00:00Z");
    let planned = |factory: &Factory| -> Vec<String> {
        let planned = factory.run(&["image", "prune", "--dry-run"]);
        planned.expect_code(0);
        rows(&planned.json).iter().map(|row| text(&row["timestamp_tag"]).to_owned()).collect()
    };
    // What a mirror still copies stays.
    let copied = &before.tags["library:1.0.0-202603020600"];
    let (needed, need) = (
        format!("needed#{copied}#mirror"),
        json!({"digest": copied, "by": "mirror", "since": tests::factory::MORNING}),
    );
    factory.write_document("image#library", &needed, Some(need));
    assert_eq!(planned(&factory), ["1.0.0-202603030600"]);
    factory.write_document("image#library", &needed, None);
    let tags = planned(&factory);
    assert_eq!(tags, ["1.0.0-202603020600", "1.0.0-202603030600"]);
    assert_eq!(factory.contents(), before);

    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.texts("done", "retention", "library").len(), 2, "{:#}", cycle.json["done"]);
    let after = factory.contents();
    for (tag, digest) in &before.tags {
        let gone = tags.iter().any(|gone| *tag == format!("library:{gone}"));
        assert_eq!(after.tags.get(tag), Some(digest).filter(|_| !gone), "{tag}");
    }
    for tag in ["1.0.0", "1", "latest"] {
        factory.run(&["verify", &format!("library:{tag}")]).expect_code(0);
    }
    let removed = before.tags["library:1.0.0-202603020600"].clone();
    factory.run(&["verify", &format!("library@{removed}")]).expect_code(1);
    let blob = layout::blob(&factory.layout("library"), &removed);
    assert!(!blob.exists(), "{}", blob.display());
    assert_eq!(statuses(&factory)["1.0.0-202603020600"], "removed");
    let history = factory.run(&["image", "history", "library", "--tag", "1.0.0-202603020600"]);
    let moves = rows(&history.json);
    assert_eq!((moves.len(), &moves[1]["from"], &moves[1]["to"]), (2, &removed.as_str().into(), &Value::Null));
    assert_eq!(rows(&factory.run(&["image", "prune"]).json), [] as [Value; 0]);

    // The same digest may come back: it is pushed, signed and tagged anew.
    want(&factory, "5");
    factory.at("2026-03-06T06:00:00Z");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let again = cycle.image("library", "1");
    assert_eq!((&again["digest"], &again["status"]), (&removed.as_str().into(), &"current".into()));
    assert_eq!(again["timestamp_tag"], "1.0.0-202603060600");
    let verified = factory.run(&["verify", "library:1.0.0-202603060600"]);
    verified.expect_code(0);
    for manifest in rows(&verified.json["manifests"]) {
        let types = rows(&manifest["statements"]).iter().map(|statement| text(&statement["predicate_type"]));
        assert_eq!(types.filter(|kind| kind.starts_with("https://openvex.dev/")).count(), 2, "{manifest:#}");
    }
    assert_eq!(factory.contents().tags["library:latest"], removed);
}

#[test]
fn retention_keeps_what_reports_are_about_even_when_no_tag_is_left_to_name_it() {
    let mut factory = with_versions(&["1.0.0"]);
    factory.add_image("library", "library", &[("1", "~1")]);
    factory.at("2026-03-02T06:00:00Z");
    factory.cycle().expect_code(0);
    factory.at("2026-03-03T06:00:00Z");
    publish(&factory, "1.1.0");
    std::fs::write(factory.home().join("mill.toml"), "[retention]\ndigests = 0\ndays = 1\n").unwrap();
    factory.at("2026-06-01T06:00:00Z");
    factory.cycle().expect_code(0);
    // The older version is frozen, the newer current: both have reports, however old they are.
    let scans = factory.run(&["scan", "library"]);
    scans.expect_code(0);
    assert_eq!(rows(&scans.json).len(), 2, "{:#}", scans.json);
    for tag in ["1.0.0", "1.1.0"] {
        factory.run(&["verify", &format!("library:{tag}")]).expect_code(0);
    }
    // Nor does the newest of a stream go when tags no longer name it.
    factory.change_documents("image#library", "tags", |sort, mut tags| {
        let newest = tags["tags"]["1.1.0"].clone();
        tags["tags"].as_object_mut().unwrap().retain(|tag, digest| *digest != newest || tag.starts_with("1.1.0-"));
        (sort.to_owned(), tags)
    });
    assert_eq!(rows(&factory.run(&["image", "prune", "--dry-run"]).json), [] as [Value; 0]);
}

#[test]
fn moves_of_tags_that_were_recorded_without_a_number_come_first_and_none_is_lost() {
    let mut factory = Factory::after_first_cycle(MILL);
    let moves = |factory: &Factory| -> Vec<(String, Value)> {
        let history = factory.run(&["image", "history", "hello"]);
        history.expect_code(0);
        rows(&history.json).iter().map(|moved| (text(&moved["tag"]).to_owned(), moved["to"].clone())).collect()
    };
    let before = moves(&factory);
    assert_eq!(before.len(), 5, "{before:?}");
    // As a factory recorded them that numbered none.
    factory.change_documents("image#hello", "history#", |_, moved| {
        let sort =
            format!("history#{}#{}#{}", text(&moved["time"]), text(&moved["tag"]), moved["to"].as_str().unwrap());
        (sort, moved)
    });
    factory.change_documents("image#hello", "tags", |sort, mut tags| {
        tags.as_object_mut().unwrap().remove("moves").expect("moves are counted");
        (sort.to_owned(), tags)
    });
    let mut sorted = before.clone();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(moves(&factory), sorted, "of one moment by tag, as before");

    // On the same minute, and on a day whose text sorts before.
    factory.release("greeting-data", "2025b");
    factory.cycle().expect_code(0);
    let second = moves(&factory);
    assert_eq!(second[..5], sorted);
    let tags: Vec<&str> = second[5..].iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags, ["1.0.0", "1.0", "1", "latest", "1.0.0-202603040601"]);
    factory.at("2026-03-03T06:00:00Z");
    factory.release("hello-mill", "1.1.0");
    factory.cycle().expect_code(0);
    let third = moves(&factory);
    assert_eq!(third[..10], second);
    let tags: Vec<&str> = third[10..].iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags, ["1.1.0", "1.1", "1", "latest", "1.1.0-202603030600"]);
}
