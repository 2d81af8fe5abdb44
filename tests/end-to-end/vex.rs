//! What is known of vulnerabilities: stated by people or proved by the factory, attested with images, followed
//! when it changes, and applied in scans.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;

use registry::{Layouts, Registry};
use serde_json::{Value, json};
use tests::factory::{Factory, rows, text};
use tests::watched::Watched;
use tests::{layout, openvex};

const MILL: &str = env!("CARGO_BIN_EXE_mill");
const VERSIONED: &str = "https://openvex.dev/ns/v0.2.0";
const UNVERSIONED: &str = "https://openvex.dev/ns";

const STATED: &str = "package: greeting-data
author: security@example.org
statements:
  - vulnerability: CVE-2026-2000
    aliases: [GHSA-2222-3333-4444]
    status: not_affected
    justification: vulnerable_code_not_present
    impact: it is text
    timestamp: 2026-03-01T00:00:00Z
    images: [hello]
";

/// A record of the factory's own ecosystem that calls a package affected from the first version, up to `fixed`.
fn record(factory: &Factory, cve: &str, package: &str, fixed: Option<&str>) {
    let mut events = vec![json!({"introduced": "0"})];
    events.extend(fixed.map(|fixed| json!({"fixed": fixed})));
    let id = format!("MINIMILL-{}", cve.trim_start_matches("CVE-"));
    let record = json!({
        "id": id, "modified": "2026-02-01T00:00:00Z", "aliases": [cve],
        "affected": [{"package": {"ecosystem": "Minimill", "name": package},
            "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
        "database_specific": {"severity": "CRITICAL"},
    });
    factory.write(&format!("feed/{id}.json"), &record.to_string());
}

/// A factory whose `hello` is patched, with records and a statement.
fn factory() -> Factory {
    let factory = Factory::new(MILL);
    factory.edit(
        "bootstrap/bootstrap.yaml",
        "provides:\n",
        "provides:\n  builder-tools:\n    debian: [patch]\n    commands: [patch]\n",
    );
    factory.edit(
        "packages/hello.yaml",
        "  - uses: autoconf/make\n",
        "  - uses: patch\n    with:\n      patches: CVE-2026-1000.patch\n\n  - uses: autoconf/make\n",
    );
    factory
        .write("packages/hello/CVE-2026-1000.patch", "--- /dev/null\n+++ b/SECURITY\n@@ -0,0 +1 @@\n+it is safe now\n");
    record(&factory, "CVE-2026-1000", "hello", None);
    record(&factory, "CVE-2026-2000", "greeting-data", None);
    record(&factory, "CVE-2026-3000", "hello", Some("0.9-r0"));
    record(&factory, "CVE-2026-4000", "hello", None);
    factory.write("vex/greeting.yaml", STATED);
    factory
}

/// The VEX documents that `mill verify` finds good, by digest of what they are about and predicate type.
fn documents(factory: &Factory) -> BTreeMap<(String, String), Vec<Value>> {
    let verified = factory.run(&["verify", "hello:1"]);
    verified.expect_code(0);
    let mut found = BTreeMap::new();
    for manifest in rows(&verified.json["manifests"]) {
        for statement in rows(&manifest["statements"]) {
            let documents = rows(&statement["predicates"]).to_vec();
            if !documents.is_empty() {
                let key = (text(&manifest["digest"]).to_owned(), text(&statement["predicate_type"]).to_owned());
                found.insert(key, documents);
            }
        }
    }
    found
}

/// The predicate types of what refers to a digest, as the list of referrers in the layout has them.
fn referrers(factory: &Factory, digest: &str) -> Vec<String> {
    let folder = factory.layout("hello");
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let tag = digest.replace(':', "-");
    let list = rows(&index["manifests"])
        .iter()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag.as_str())
        .unwrap_or_else(|| panic!("no list of referrers of {digest}"));
    let list = layout::document(&folder, text(&list["digest"]));
    let types = rows(&list["manifests"]).iter().map(|one| &one["annotations"]["dev.sigstore.bundle.predicateType"]);
    let mut types: Vec<String> = types.map(|kind| text(kind).to_owned()).collect();
    types.sort();
    types
}

/// Vulnerabilities, statuses and notes of a document.
fn told(document: &Value) -> Vec<(&str, &str, &str)> {
    let statements = rows(&document["statements"]).iter();
    let told = statements.map(|one| (&one["vulnerability"]["name"], &one["status"], &one["status_notes"]));
    told.map(|(name, status, notes)| (text(name), text(status), text(notes))).collect()
}

#[test]
fn statements_and_proofs_are_attested_followed_and_applied_in_scans() {
    let mut factory = factory();
    let first = factory.cycle();
    first.expect_code(0);
    let row = first.image("hello", "1");
    let (index, platform) = (text(&row["digest"]).to_owned(), text(&row["platforms"]["x86_64"]).to_owned());
    assert_eq!(row["vulnerabilities"], "1 critical, 2 suppressed");

    // One query finds the document of each digest, beside everything else.
    for digest in [&index, &platform] {
        let found = referrers(&factory, digest);
        assert_eq!(found.len(), 7, "{found:?}");
        assert_eq!(found.iter().filter(|kind| [VERSIONED, UNVERSIONED].contains(&kind.as_str())).count(), 2);
        for needed in ["https://spdx.dev/Document", "https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"] {
            assert!(found.iter().any(|kind| kind == needed), "{digest}: {found:?}");
        }
    }
    let before = documents(&factory);
    assert_eq!(before.len(), 4);
    for ((digest, kind), documents) in &before {
        let [document] = documents.as_slice() else { panic!("{digest} {kind}: {documents:?}") };
        assert_eq!(openvex::problems(document), Vec::<String>::new(), "{document:#}");
        let product = &document["statements"][0]["products"][0];
        assert_eq!(product["@id"], format!("pkg:oci/hello@{digest}"));
        assert_eq!(product["hashes"]["sha-256"], digest.trim_start_matches("sha256:"));
        assert_eq!((&document["version"], &document["last_updated"]), (&json!(1), &Value::Null));
        assert_eq!(
            told(document),
            [
                ("CVE-2026-1000", "fixed", "patch CVE-2026-1000.patch of hello 1.0.0-r0"),
                ("CVE-2026-2000", "not_affected", "it is text; stated by security@example.org"),
                ("CVE-2026-3000", "fixed", "record MINIMILL-2026-3000: fixed in hello 0.9-r0"),
            ]
        );
        // Parts are named as the SBOM names them.
        let part = &rows(&product["subcomponents"])[0];
        assert_eq!(part["@id"], "pkg:apk/minimill/hello@1.0.0-r0?arch=x86_64&distro=minimill");
        let sbom = text(&part["@id"]);
        assert!(factory.holds_blob(&format!("\"referenceLocator\": \"{sbom}\"")), "no SBOM has {sbom}");
    }

    let scanned = factory.run(&["scan", "hello"]);
    let report = &scanned.json[0]["report"];
    assert_eq!(report["counts"]["critical"], 1, "{report:#}");
    assert_eq!(report["findings"][0]["id"], "CVE-2026-4000");
    let suppressed: Vec<(&str, &str)> =
        rows(&report["suppressed"]).iter().map(|one| (text(&one["id"]), text(&one["reason"]))).collect();
    assert_eq!(
        suppressed,
        [
            ("CVE-2026-1000", "patch CVE-2026-1000.patch of hello 1.0.0-r0"),
            ("CVE-2026-2000", "vulnerable_code_not_present; it is text; stated by security@example.org"),
        ]
    );
    let mut verify = factory.command();
    let printed = verify.args(["verify", "hello:1"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let line = "    vex: CVE-2026-2000 not_affected in pkg:apk/minimill/greeting-data@2025a-r0: vulnerable_code_not_\
                present; it is text; stated by security@example.org\n";
    assert_eq!(printed.matches(line).count(), 2, "{printed}");

    // What changes is attested anew in place of the old, and nothing is rebuilt.
    factory.at("2026-03-05T06:00:00Z");
    let newer = "  - vulnerability: CVE-2026-2000\n    status: affected\n    action: do not read it\n    timestamp: \
                 2026-03-05T00:00:00Z\n  - vulnerability: CVE-2026-4000\n    status: fixed\n    timestamp: \
                 2026-03-05T00:00:00Z\n    versions: '>=9'\n";
    factory.write("vex/greeting.yaml", &format!("{STATED}{newer}"));
    let second = factory.cycle();
    second.expect_code(0);
    assert_eq!(second.count("image-vex", "done"), 1, "{:#}", second.json);
    assert_eq!(second.json["stages"]["image-publish"], Value::Null);
    assert_eq!(second.image("hello", "1")["vulnerabilities"], "2 critical, 1 suppressed");
    for digest in [&index, &platform] {
        assert_eq!(referrers(&factory, digest).len(), 7, "the old documents are gone");
    }
    let after = documents(&factory);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (key, documents) in &after {
        let [document] = documents.as_slice() else { panic!("{documents:?}") };
        assert_eq!(openvex::problems(document), Vec::<String>::new(), "{document:#}");
        assert_eq!((&document["version"], &document["last_updated"]), (&json!(2), &json!("2026-03-05T06:00:00Z")));
        assert_eq!(document["@id"], before[key][0]["@id"]);
        assert_eq!(document["timestamp"], before[key][0]["timestamp"]);
        assert_eq!(told(document)[1], ("CVE-2026-2000", "affected", "stated by security@example.org"));
    }
    let third = factory.cycle();
    third.expect_code(0);
    assert_eq!(third.json["stages"]["image-vex"], Value::Null);

    // A file that can't be read takes nothing back.
    factory.write("vex/greeting.yaml", &STATED.replace("not_affected", "not_afected"));
    let broken = factory.cycle();
    assert!(broken.failure("catalog", "greeting").contains("vex/greeting.yaml:6:13: `statements[0].status`"));
    assert_eq!(documents(&factory), after);
    let check = factory.run(&["catalog", "check"]);
    check.expect_code(1);
    assert_eq!(check.json["failures"][0]["file"], "vex/greeting.yaml");
    assert_eq!(check.json["failures"][0]["line"], 6);
    assert!(text(&check.json["failures"][0]["error"]).contains("did you mean `not_affected`?"), "{:#}", check.json);
    factory.write("vex/greeting.yaml", &STATED.replace("greeting-data", "greting-data"));
    let check = factory.run(&["catalog", "check"]);
    let error = text(&check.json["failures"][0]["error"]);
    assert_eq!(error, "the catalog has no usable package `greting-data`; did you mean `greeting-data`?");

    // One that is gone does.
    fs::remove_file(factory.catalog().join("vex/greeting.yaml")).unwrap();
    factory.cycle().expect_code(0);
    let last = documents(&factory);
    let document = &last.values().next().unwrap()[0];
    assert_eq!(document["version"], 3);
    assert_eq!(told(document).len(), 2);
}

#[test]
fn an_image_that_nothing_is_known_of_has_no_document() {
    let factory = Factory::after_first_cycle(MILL);
    assert!(documents(&factory).is_empty());
    let index = text(&factory.run(&["image", "list"]).json[0]["digest"]).to_owned();
    assert_eq!(referrers(&factory, &index).len(), 5);
}

/// What the registry's list of referrers says of VEX documents about a digest: their predicate types.
fn attached(registry: &Watched, layouts: &Layouts, digest: &str) -> Vec<String> {
    let (name, digest) = ("team/hello".parse().unwrap(), digest.parse().unwrap());
    let referrers = registry.runtime.block_on(layouts.referrers(&name, digest, None)).unwrap();
    let types = referrers.iter().filter_map(|one| one.annotations().as_ref()?.get("dev.sigstore.bundle.predicateType"));
    let mut types: Vec<String> =
        types.filter(|kind| [VERSIONED, UNVERSIONED].contains(&kind.as_str())).cloned().collect();
    types.sort();
    types
}

#[test]
fn killed_at_any_step_of_attaching_the_next_cycle_leaves_the_current_documents_alone() {
    let factory = factory();
    let (registry, layouts) = Watched::registry(&factory.folder().join("published"));
    let settings = format!("[registry]\npublish = \"{}/team\"\n", registry.address);
    fs::create_dir_all(factory.home()).unwrap();
    fs::write(factory.home().join("mill.toml"), settings).unwrap();
    let state = |impact: &str| factory.write("vex/greeting.yaml", &STATED.replace("it is text", impact));
    let first = factory.cycle();
    first.expect_code(0);
    let row = first.image("hello", "1");
    let digests = [&row["digest"], &row["platforms"]["x86_64"]].map(|digest| text(digest).to_owned());

    let puts = |method: &str, target: &str| method == "PUT" && target.contains("/manifests/");
    let deletes = |method: &str, target: &str| method == "DELETE" && target.contains("/manifests/");
    // Which request is held, how many of its kind pass before it, and whether it is carried out.
    let (put, delete) = ((true, puts as fn(&str, &str) -> bool), (false, deletes as fn(&str, &str) -> bool));
    for (round, ((putting, kind), passing, done, then)) in [
        (put, 0, false, "changed"),
        (put, 0, true, "changed"),
        (put, 2, true, "signed anew"),
        (put, 3, true, "changed"),
        (delete, 0, true, "changed"),
        (delete, 3, true, "the same"),
    ]
    .into_iter()
    .enumerate()
    {
        let step = format!("{} {passing}, {done}, {then}", if putting { "put" } else { "delete" });
        state(&format!("it is text, round {round}"));
        registry.hold(passing, done, kind);
        registry.kill_cycle(&factory);
        match then {
            "changed" => state(&format!("it is text, round {round} again")),
            "signed anew" => factory.run(&["key", "rotate", "image"]).expect_code(0),
            _ => {}
        }
        factory.cycle().expect_code(0);
        let expected = fs::read_to_string(factory.catalog().join("vex/greeting.yaml")).unwrap();
        for digest in &digests {
            assert_eq!(attached(&registry, &layouts, digest), [UNVERSIONED, VERSIONED], "{step}");
        }
        let found = documents(&factory);
        assert_eq!(found.len(), 4, "{step}");
        for documents in found.values() {
            let [document] = documents.as_slice() else { panic!("{step}: {documents:?}") };
            let impact = told(document)[1].2.trim_end_matches("; stated by security@example.org");
            assert!(expected.contains(&format!("impact: {impact}\n")), "{step}: {impact}");
        }
        let record = &factory.documents("image#hello", "vex#")[0].1;
        assert_eq!((&record["complete"], rows(&record["superseded"]).len()), (&json!(true), 0), "{step}");
    }
}
