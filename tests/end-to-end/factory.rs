//! A whole factory over a small catalog and a local archive: what is built, when, and under which tags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::archive::sha256_hex;
use tests::factory::{Factory, answer, rows, text, texts};
use tests::layout;

const MILL: &str = env!("CARGO_BIN_EXE_mill");

#[test]
fn a_first_cycle_builds_and_publishes_everything() {
    let factory = Factory::new(MILL);
    let cycle = factory.cycle();
    cycle.expect_code(0);
    for (stage, done) in [
        ("package-build", 2),
        ("package-publish", 2),
        ("image-plan", 1),
        ("image-build", 1),
        ("image-test", 1),
        ("image-publish", 1),
    ] {
        assert_eq!(cycle.count(stage, "done"), done, "{stage}: {:#}", cycle.json["stages"]);
        assert_eq!(cycle.count(stage, "failed"), 0, "{stage}: {:#}", cycle.json["stages"]);
    }
    assert_eq!(cycle.json["failed"], serde_json::json!([]));
    let image = cycle.image("hello", "1");
    assert_eq!(image["version"], "1.0.0");
    assert_eq!(texts(&image["tags"]), ["1.0.0", "1.0", "1", "latest"]);
    assert_eq!(image["timestamp_tag"], "1.0.0-202603040600");
    assert!(image["size"].as_u64().unwrap() > 1000, "{image:#}");
    let (passed, all) = text(&image["tests"]).split_once('/').unwrap();
    assert_eq!(passed, all);
    assert!(all.parse::<u32>().unwrap() >= 5, "{image:#}");

    let contents = factory.contents();
    let digest = text(&image["digest"]);
    let named: Vec<&str> = contents.tags.keys().map(String::as_str).collect();
    assert_eq!(named, ["hello:1", "hello:1.0", "hello:1.0.0", "hello:1.0.0-202603040600", "hello:latest"]);
    assert!(contents.tags.values().all(|tagged| tagged == digest), "{contents:#?}");
    let packages: Vec<&str> = contents.packages.keys().map(String::as_str).collect();
    assert_eq!(
        packages,
        [
            "greeting-data 2025a-r0",
            "greeting-data-de 2025a-r0",
            "greeting-data-fr 2025a-r0",
            "hello 1.0.0-r0",
            "hello-doc 1.0.0-r0"
        ]
    );

    let list = factory.run(&["image", "list"]);
    assert_eq!(rows(&list.json).len(), 1, "{:#}", list.json);
    assert_eq!(list.json[0]["digest"], image["digest"]);
    let plan = factory.run(&["image", "plan"]);
    plan.expect_code(0);
    assert_eq!((&plan.json[0]["image"], &plan.json[0]["plan"]), (&"hello".into(), &"not due".into()));
}

#[test]
fn what_is_published_verifies_with_the_public_keys_alone() {
    let factory = Factory::after_first_cycle(MILL);
    let keys = tempfile::tempdir().unwrap();
    for name in ["minimill.pub", "minimill.rsa.pub"] {
        fs::copy(factory.home().join("keys").join(name), keys.path().join(name)).unwrap();
    }
    let (image_key, package_key) = (keys.path().join("minimill.pub"), keys.path().join("minimill.rsa.pub"));
    let verified = factory.run(&["verify", "hello:1", "--key", image_key.to_str().unwrap()]);
    verified.expect_code(0);
    // The index and the one platform, each with signature, SBOM, provenance and test result.
    let manifests = rows(&verified.json["manifests"]);
    assert_eq!(manifests.len(), 2, "{:#}", verified.json);
    for manifest in manifests {
        assert!(rows(&manifest["statements"]).len() >= 3, "{manifest:#}");
    }

    let folder = factory.home().join("apk/x86_64");
    let mut checked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".apk") || name == "APKINDEX.tar.gz" {
            let key = package_key.to_str().unwrap();
            factory.run(&["apk", "verify", path.to_str().unwrap(), "--key", key]).expect_code(0);
            checked += 1;
        }
    }
    assert_eq!(checked, 6);
    let other = Factory::new(MILL);
    let foreign = tempfile::tempdir().unwrap();
    fs::remove_dir_all(other.home().join("keys")).unwrap();
    other.run(&["image", "list"]).expect_code(0);
    fs::copy(other.home().join("keys/minimill.pub"), foreign.path().join("minimill.pub")).unwrap();
    let refused = factory.run(&["verify", "hello:1", "--key", foreign.path().join("minimill.pub").to_str().unwrap()]);
    refused.expect_code(1);
}

#[test]
fn a_second_cycle_builds_nothing_and_says_why() {
    let mut factory = Factory::after_first_cycle(MILL);
    let before = factory.contents();
    factory.at("2026-03-05T06:00:00Z");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    for stage in ["package-build", "package-publish", "image-build", "image-test", "image-publish"] {
        assert_eq!(cycle.count(stage, "done"), 0, "{stage}: {:#}", cycle.json);
    }
    let digest = text(&cycle.image("hello", "1")["digest"]).to_owned();
    assert_eq!(cycle.texts("skipped", "image-plan", "hello:1"), [format!("no package changed since {digest}")]);
    assert_eq!(cycle.texts("skipped", "upstream-check", "hello"), ["1.0.0 is the newest release"]);
    assert_eq!(factory.contents(), before);

    let mut command = factory.command();
    let output = command.arg("cycle").output().unwrap();
    let summary = String::from_utf8(output.stdout).unwrap();
    for part in ["0 package definitions built, 0 images published", "1.0.0 1.0 1 latest", "no package changed since"] {
        assert!(summary.contains(part), "no `{part}` in\n{summary}");
    }
}

#[test]
fn upstream_releases_become_new_tags_and_new_digests() {
    let mut factory = Factory::after_first_cycle(MILL);
    let first = factory.contents().tags;

    // A new version of the primary package: new tags, and the moving ones move.
    factory.release("hello-mill", "1.1.0");
    factory.at("2026-03-05T06:00:00Z");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let image = cycle.image("hello", "1");
    assert_eq!(texts(&image["tags"]), ["1.1.0", "1.1", "1", "latest"]);
    assert_eq!(image["reason"], "hello 1.0.0-r0 -> 1.1.0-r0");
    assert_eq!(cycle.count("package-build", "done"), 1, "only `hello` is built again: {:#}", cycle.json["stages"]);
    let second = factory.contents().tags;
    assert_ne!(second["hello:1"], first["hello:1"]);
    for moved in ["hello:1.1.0", "hello:1.1", "hello:latest", "hello:1.1.0-202603050600"] {
        assert_eq!(second[moved], second["hello:1"], "{moved}");
    }
    for stays in ["hello:1.0.0", "hello:1.0", "hello:1.0.0-202603040600"] {
        assert_eq!(second[stays], first[stays], "{stays}");
    }

    // An update of another package, within the same minute: the same tags, another digest.
    factory.release("greeting-data", "2025b");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let image = cycle.image("hello", "1");
    assert_eq!(image["reason"], "greeting-data 2025a-r0 -> 2025b-r0");
    assert_eq!(texts(&image["tags"]), ["1.1.0", "1.1", "1", "latest"]);
    let third = factory.contents().tags;
    for moved in ["hello:1.1.0", "hello:1.1", "hello:1", "hello:latest"] {
        assert_ne!(third[moved], second[moved], "{moved}");
        assert_eq!(third[moved], text(&image["digest"]), "{moved}");
    }
    assert_eq!(third[&format!("hello:{}", text(&image["timestamp_tag"]))], text(&image["digest"]));
    for stays in ["hello:1.1.0-202603050600", "hello:1.0.0", "hello:1.0", "hello:1.0.0-202603040600"] {
        assert_eq!(third[stays], second[stays], "{stays}");
    }
    for digest in [&first["hello:1"], &second["hello:1"]] {
        factory.run(&["verify", &format!("hello@{digest}")]).expect_code(0);
    }

    let history = factory.documents("image#hello", "history#");
    let moves = |tag: &str| -> Vec<(Option<String>, String)> {
        let moves = history.iter().filter(|(_, moved)| moved["tag"] == tag);
        moves.map(|(_, moved)| (moved["from"].as_str().map(str::to_owned), text(&moved["to"]).to_owned())).collect()
    };
    let digests = [&first["hello:1"], &second["hello:1"], &third["hello:1"]].map(Clone::clone);
    let [one, two, three] = digests;
    assert_eq!(moves("1.0.0"), [(None, one.clone())]);
    // Two of them are of one moment: they come in the order in which they were made.
    assert_eq!(moves("latest"), [(None, one.clone()), (Some(one), two.clone()), (Some(two), three)]);
}

/// The provenance in a sigstore bundle, if it is one of a provenance.
fn provenance(bundle: &[u8]) -> Option<Value> {
    let bundle: Value = serde_json::from_slice(bundle).ok()?;
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str()?).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    (statement["predicateType"] == "https://slsa.dev/provenance/v1").then(|| statement["predicate"].clone())
}

#[test]
fn provenance_of_packages_and_images_names_the_program_that_built() {
    let factory = Factory::after_first_cycle(MILL);
    let program = sha256_hex(&fs::read(MILL).unwrap());
    let package = fs::read(factory.home().join("apk/x86_64/hello-1.0.0-r0.apk.sigstore.json")).unwrap();
    let mut found = vec![provenance(&package).unwrap()];
    for blob in fs::read_dir(factory.layout("hello").join("blobs/sha256")).unwrap() {
        found.extend(provenance(&fs::read(blob.unwrap().path()).unwrap()));
    }
    assert_eq!(found.len(), 3, "of a package, the index and the platform");
    for provenance in found {
        let builder = &provenance["runDetails"]["builder"];
        assert_eq!(builder["version"]["minimill"], env!("CARGO_PKG_VERSION"));
        let [dependency] = rows(&builder["builderDependencies"]) else { panic!("{builder:#}") };
        assert_eq!((&dependency["name"], &dependency["digest"]["sha256"]), (&"mill".into(), &program.as_str().into()));
    }
    factory.run(&["verify", "hello:1"]).expect_code(0);
}

#[test]
fn two_factories_with_their_own_keys_make_the_same_bytes() {
    let one = Factory::after_first_cycle(MILL);
    let mut other = Factory::without_keys(MILL);
    other.at("2027-01-02T03:04:05+05:30");
    let inner = other.command();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; cd /; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.args(["--format", "json", "cycle"]).env("TZ", "Asia/Kolkata").env("LC_ALL", "C.UTF-8");
    for (name, value) in inner.get_envs() {
        value.map(|value| command.env(name, value));
    }
    answer(command).expect_code(0);
    let read = |factory: &Factory| fs::read(factory.home().join("keys/minimill.rsa.pub")).unwrap();
    assert_ne!(read(&one), read(&other), "the factories have keys of their own");
    let (one, other) = (one.contents(), other.contents());
    assert_eq!(one.images, other.images);
    assert_eq!(one.packages, other.packages);
}

#[test]
fn source_date_epoch_is_the_time_of_packages_and_images() {
    let factory = Factory::new(MILL);
    let mut command = factory.command();
    command.args(["--format", "json", "cycle"]).env("SOURCE_DATE_EPOCH", "1600000000");
    let cycle = answer(command);
    cycle.expect_code(0);
    let layout = factory.layout("hello");
    let platform = text(&cycle.image("hello", "1")["platforms"]["x86_64"]).to_owned();
    let manifest = layout::document(&layout, &platform);
    let configuration = layout::document(&layout, text(&manifest["config"]["digest"]));
    assert_eq!(configuration["created"], "2020-09-13T12:26:40Z");
    let package = factory.home().join("apk/x86_64/hello-1.0.0-r0.apk");
    let shown = factory.run(&["apk", "show", package.to_str().unwrap()]);
    assert_eq!(shown.json["information"]["build_date"], 1_600_000_000, "{:#}", shown.json);
}

#[test]
fn a_failed_build_stops_its_dependents_and_nothing_else() {
    let factory = Factory::new(MILL);
    factory.add_package("broken", "2.0", &[], "echo the reason is here\nexit 7");
    factory.add_package("dependent", "3.0", &["broken"], "mkdir -p ${{targets.destdir}}/usr/share/dependent");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "broken");
    for part in ["7", "the reason is here"] {
        assert!(failure.contains(part), "no `{part}` in `{failure}`");
    }
    assert_eq!(cycle.failure("package-build", "dependent"), "not built: it waits for broken");
    assert_eq!(cycle.image("hello", "1")["version"], "1.0.0");
    assert!(!factory.package_index().keys().any(|name| name.starts_with("broken") || name.starts_with("dependent")));
    let log = factory.home().join("logs/broken-2.0-r0-x86_64.log");
    assert!(failure.contains(log.to_str().unwrap()), "the log is not named in `{failure}`");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("the reason is here"), "{log}");
    assert_eq!(factory.documents("package#broken", "failure#").len(), 1);

    // The failed definition has had `2.0-r0`, so that the mended one is a new revision.
    factory.edit("packages/broken.yaml", "exit 7", "mkdir -p ${{targets.destdir}}/usr/share/broken");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let packages = factory.package_index();
    assert!(packages.contains_key("broken 2.0-r1"), "{packages:#?}");
    assert!(packages.contains_key("dependent 3.0-r0"), "{packages:#?}");
    assert_eq!(cycle.count("image-build", "done"), 0, "{:#}", cycle.json);
    assert_eq!(factory.documents("package#broken", "failure#"), []);
}

#[test]
fn an_update_that_does_not_build_holds_nobody_up() {
    let factory = Factory::new(MILL);
    let library = "mkdir -p ${{targets.destdir}}/usr/share/library";
    factory.add_package("library", "1.0", &[], library);
    factory.add_package("program", "1.0", &["library"], "cp -r /sysroot/usr/share ${{targets.destdir}}/");
    factory.cycle().expect_code(0);
    factory.add_package("library", "1.1", &[], "exit 1");
    factory.add_package("program", "2.0", &["library"], "cp -r /sysroot/usr/share ${{targets.destdir}}/");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    cycle.failure("package-build", "library 1.1-r0");
    let packages = factory.package_index();
    assert!(packages.contains_key("program 2.0-r0"), "built with the library that there is: {packages:#?}");

    // What needs the update itself waits, and is built as soon as the update is.
    factory.add_package("program", "3.0", &["library=1.1-r1"], "cp -r /sysroot/usr/share ${{targets.destdir}}/");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "program 3.0-r0");
    assert!(failure.contains("library=1.1-r1"), "{failure}");
    factory.add_package("library", "1.1", &[], library);
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let packages = factory.package_index();
    assert!(packages.contains_key("library 1.1-r1") && packages.contains_key("program 3.0-r0"), "{packages:#?}");
}

#[test]
fn a_changed_definition_gets_the_next_revision() {
    let factory = Factory::after_first_cycle(MILL);
    let before = factory.contents();
    factory.edit("packages/hello.yaml", "prints its version and a greeting", "greets");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let after = factory.contents();
    assert!(after.packages.contains_key("hello 1.0.0-r1"), "{after:#?}");
    assert_eq!(after.packages["hello 1.0.0-r0"], before.packages["hello 1.0.0-r0"]);
    let image = cycle.image("hello", "1");
    assert_eq!(image["reason"], "hello 1.0.0-r0 -> 1.0.0-r1");
    assert_eq!(texts(&image["tags"]), ["1.0.0", "1.0", "1", "latest"]);
    assert_ne!(after.tags["hello:1.0.0"], before.tags["hello:1.0.0"]);

    // Taking the change back is a change as well.
    factory.edit("packages/hello.yaml", "greets", "prints its version and a greeting");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.image("hello", "1")["reason"], "hello 1.0.0-r1 -> 1.0.0-r2");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.count("package-build", "done"), 0, "{:#}", cycle.json);
}

#[test]
fn streams_published_at_once_agree_on_the_tags_they_share() {
    let factory = Factory::new(MILL);
    for version in ["1.0.0", "1.1.0", "2.0.0", "10.0.0"] {
        factory.add_package("library", version, &[], "mkdir -p ${{targets.destdir}}/usr/share/library");
        factory.cycle().expect_code(0);
    }
    factory.add_image("many", "library", &[("10", "~10"), ("1.0", "~1.0"), ("2", "~2"), ("1.1", "~1.1")]);
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.count("image-publish", "done"), 4, "{:#}", cycle.json["stages"]);
    let digest = |stream: &str| text(&cycle.image("many", stream)["digest"]).to_owned();
    let tags = factory.contents().tags;
    for (stream, owned) in [
        ("1.0", &["1.0.0", "1.0"][..]),
        ("1.1", &["1.1.0", "1.1", "1"]),
        ("2", &["2.0.0", "2.0", "2"]),
        ("10", &["10.0.0", "10.0", "10", "latest"]),
    ] {
        for tag in owned {
            assert_eq!(tags[&format!("many:{tag}")], digest(stream), "{tag} of stream {stream}");
        }
    }
}

#[test]
fn a_held_stream_keeps_its_last_good_version_and_says_why() {
    let mut factory = Factory::after_first_cycle(MILL);
    let before = factory.contents();
    factory.add_image("other", "greeting-data", &[("2025", "~2025a"), ("2031", "~2031")]);
    factory.edit("images/hello/apko.yaml", "- hello${version}\n", "- hello${version}\n    - greeting-data=2030-r0\n");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let held = cycle.failure("image-plan", "hello:1");
    for part in ["greeting-data", "2030-r0", "2025a-r0"] {
        assert!(held.contains(part), "no `{part}` in `{held}`");
    }
    let held = cycle.failure("image-plan", "other:2031");
    assert!(held.contains("greeting-data~2031"), "{held}");
    assert_eq!(texts(&cycle.image("other", "2025")["tags"]), ["2025a", "2025", "latest"]);

    let after = factory.contents();
    assert!(before.tags.iter().all(|(tag, digest)| after.tags[tag] == *digest), "{after:#?}");
    factory.run(&["verify", "hello:1"]).expect_code(0);
    let plan = factory.run(&["image", "plan"]);
    plan.expect_code(1);
    let plans: BTreeMap<String, &str> = rows(&plan.json)
        .iter()
        .map(|row| (format!("{}:{}", text(&row["image"]), text(&row["stream"])), text(&row["plan"])))
        .collect();
    assert_eq!(
        plans,
        [("hello:1", "held"), ("other:2025", "not due"), ("other:2031", "held")].map(|(a, b)| (a.to_owned(), b)).into()
    );

    // The event is opened once, and closed when the stream is held no longer.
    let kinds = |factory: &Factory| -> Vec<String> {
        let events = factory.documents("event", "");
        let of_hello = events.iter().filter(|(_, event)| event["subject"] == "hello:1");
        let kinds = of_hello.map(|(_, event)| text(&event["kind"]).to_owned());
        kinds.filter(|kind| kind.starts_with("image.held")).collect()
    };
    assert_eq!(kinds(&factory), ["image.held"]);
    factory.at("2026-03-05T06:00:00Z");
    factory.cycle().expect_code(1);
    assert_eq!(kinds(&factory), ["image.held"]);
    factory.edit("images/hello/apko.yaml", "    - greeting-data=2030-r0\n", "");
    factory.at("2026-03-06T06:00:00Z");
    factory.cycle().expect_code(1);
    assert_eq!(kinds(&factory), ["image.held", "image.held-no-longer"]);
}

#[test]
fn an_image_that_fails_a_test_is_not_published() {
    let factory = Factory::after_first_cycle(MILL);
    let before = factory.contents();
    factory.edit("images/hello/tests/structure.yaml", "^hello 1", "^hello 9");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("image-test", "hello:1");
    for part in ["not published", "version and greeting", "^hello 9"] {
        assert!(failure.contains(part), "no `{part}` in `{failure}`");
    }
    assert_eq!(cycle.count("image-publish", "done"), 0);
    assert_eq!(factory.contents(), before);

    // What has not run blocks as well.
    factory.edit("images/hello/tests/structure.yaml", "^hello 9", "^hello 1");
    factory.edit("images/hello/image.yaml", "\n    not-applicable: it prints and ends", " required");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("image-test", "hello:1");
    for part in ["not published", "not run", "runtime"] {
        assert!(failure.contains(part), "no `{part}` in `{failure}`");
    }
    assert_eq!(factory.contents(), before);

    factory.edit("images/hello/image.yaml", "runtime: required", "runtime:\n    not-applicable: it prints and ends");
    factory.cycle().expect_code(0);
    assert_eq!(factory.contents().tags["hello:1"], before.tags["hello:1"]);
}
