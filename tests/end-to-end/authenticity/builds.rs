//! Builds: what is refused is not run, and kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::archive::{ArchiveKey, sha256_hex};
use tests::factory::{Answer, Factory, rows, source_archive, text};

use crate::MILL;

const PACKAGE: &str = "greeting-data";

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Whether the home keeps these bytes as a blob.
fn kept(factory: &Factory, bytes: &[u8]) -> bool {
    let blobs = files(&factory.home().join("blobs"));
    blobs.iter().any(|path| fs::read(path).unwrap() == bytes)
}

/// A factory whose `greeting-data` has a policy with an OpenPGP proof of this key; its source's
/// bytes.
fn factory(policy: &str, key: &ArchiveKey) -> (Factory, Vec<u8>) {
    let factory = Factory::new(MILL);
    factory.write("authenticity/keys/upstream.asc", &key.armored_public_key());
    factory.write(
        &format!("authenticity/{PACKAGE}.yaml"),
        &format!(
            "policy: {policy}\nproofs:\n  - openpgp:\n      signature: {}/signatures/${{version}}.asc\n      keys: \
             [upstream.asc]\n",
            factory.upstream()
        ),
    );
    (factory, source_archive("greeting-data", "2025a"))
}

fn offer(factory: &Factory, signature: &str) {
    factory.archive.put("signatures/2025a.asc", signature.as_bytes());
}

fn build(factory: &Factory) -> Answer {
    factory.run(&["package", "build", PACKAGE])
}

fn is_published(factory: &Factory) -> bool {
    factory.package_index().contains_key("greeting-data 2025a-r0")
}

#[test]
fn a_signed_source_is_built_and_its_provenance_says_by_whom() {
    let key = ArchiveKey::generate();
    let (factory, source) = factory("required", &key);
    offer(&factory, &key.detach_sign(&source));
    build(&factory).expect_code(0);
    assert!(is_published(&factory));
    let fingerprint = key.fingerprint();
    let blobs = files(&factory.home().join("blobs"));
    let provenance = blobs.iter().filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).ok());
    let proofs: Vec<Value> = provenance
        .filter_map(|document| document.pointer("/buildDefinition/resolvedDependencies").cloned())
        .flat_map(|materials| rows(&materials).to_vec())
        .filter_map(|material| material.pointer("/annotations/authenticity/proofs/0").cloned())
        .collect();
    let results = blobs.iter().filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).ok());
    let results: Vec<Value> =
        results.filter_map(|document| document.pointer("/sources/0/authenticity/proofs/0").cloned()).collect();
    let proof = proofs.first().or(results.first()).expect("a build result with its proof");
    assert_eq!(proof["kind"], "openpgp");
    assert_eq!(proof["result"], "holds");
    assert_eq!(proof["evidence"]["signers"][0]["fingerprint"], fingerprint.as_str(), "{proof:#}");
    assert_eq!(factory.documents(&format!("package#{PACKAGE}"), "refused#"), Vec::new());
}

#[test]
fn a_wrong_signature_stops_the_build_whatever_the_policy_and_is_kept() {
    let key = ArchiveKey::generate();
    for policy in ["required", "preferred"] {
        for signature in [
            key.detach_sign(b"something else"),
            ArchiveKey::generate().detach_sign(&source_archive("greeting-data", "2025a")),
            "not a signature".to_owned(),
        ] {
            let (factory, source) = factory(policy, &key);
            offer(&factory, &signature);
            let answer = build(&factory);
            answer.expect_code(1);
            let reason = text(&answer.json["failed"][0]["text"]);
            assert!(reason.contains("is not proved") && reason.contains("openpgp"), "{reason}");
            assert!(!is_published(&factory));
            let events = factory.documents("event", "");
            let event = events.iter().find(|(_, event)| event["kind"] == "source.unauthentic");
            let (_, event) = event.unwrap_or_else(|| panic!("{events:#?}"));
            assert_eq!(event["subject"], PACKAGE);
            let refused = factory.documents(&format!("package#{PACKAGE}"), "refused#");
            assert_eq!(refused.len(), 1, "{refused:#?}");
            let (sort, refused) = &refused[0];
            assert_eq!(sort, "refused#2025a");
            assert_eq!(refused["verdict"]["policy"], policy);
            assert_eq!(refused["verdict"]["proofs"][0]["result"], "bad");
            assert_eq!(refused["source"], format!("sha256:{}", sha256_hex(&source)));
            assert!(kept(&factory, signature.as_bytes()) && kept(&factory, &source));
        }
    }
}

#[test]
fn a_missing_signature_stops_the_build_only_where_it_is_required() {
    let key = ArchiveKey::generate();
    let (strict, _) = factory("required", &key);
    let answer = build(&strict);
    answer.expect_code(1);
    let reason = text(&answer.json["failed"][0]["text"]);
    assert!(reason.contains("does not exist"), "{reason}");
    assert!(!is_published(&strict));
    // Upstream signs after all: the next build goes through.
    offer(&strict, &key.detach_sign(&source_archive("greeting-data", "2025a")));
    build(&strict).expect_code(0);
    assert!(is_published(&strict));

    let (lenient, _) = factory("preferred", &key);
    build(&lenient).expect_code(0);
    assert!(is_published(&lenient));
    assert_eq!(lenient.documents(&format!("package#{PACKAGE}"), "refused#"), Vec::new());
}

#[test]
fn what_a_policy_gets_wrong_keeps_its_package_from_being_built() {
    for (name, policy, expected) in [
        ("unknown key", "policy: required\nprofs: []\n", "did you mean `proofs`"),
        (
            "no key file",
            "policy: required\nproofs:\n  - openpgp: {signature: \"${uri}.asc\", keys: [a.asc]}\n",
            "a.asc",
        ),
    ] {
        let factory = Factory::new(MILL);
        factory.write(&format!("authenticity/{PACKAGE}.yaml"), policy);
        let answer = build(&factory);
        assert_ne!(answer.code, Some(0), "{name}: {:#}", answer.json);
        assert!(!is_published(&factory));
        let check = factory.run(&["catalog", "check"]);
        assert!(check.json.to_string().contains(expected), "{name}: {}\n{:#}", check.stderr, check.json);
    }
}

#[test]
fn a_stated_digest_alone_can_be_forbidden() {
    let factory = Factory::new(MILL);
    fs::create_dir_all(factory.home()).unwrap();
    fs::write(factory.home().join("mill.toml"), "[authenticity]\ndefault = \"ecosystem\"\n").unwrap();
    // From the archive: its own proof does.
    build(&factory).expect_code(0);
    factory.archive.put("other.tar.gz", source_archive("greeting-data", "2025a"));
    let address = format!("{}/other.tar.gz", factory.upstream());
    let uri = "pkg:deb/debian/greeting-data@${{package.version}}?arch=source";
    factory.edit(&format!("packages/{PACKAGE}.yaml"), uri, &address);
    let answer = build(&factory);
    answer.expect_code(1);
    let reason = text(&answer.json["failed"][0]["text"]);
    assert!(reason.contains("only the digest that the definition states"), "{reason}");
    fs::write(factory.home().join("mill.toml"), "[authenticity]\ndefault = \"pinned\"\n").unwrap();
    build(&factory).expect_code(0);
}
