//! Signatures and attestations as OpenSSL and a reader of plain JSON see them, and `mill verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tests::openvex;

use crate::support::{Image, Server, assert_signed, assert_spdx, factory, installed, mill, run, told};

const SPDX: &str = "https://spdx.dev/Document";
const CYCLONEDX: &str = "https://cyclonedx.org/bom";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const OPENVEX: [&str; 2] = ["https://openvex.dev/ns/v0.2.0", "https://openvex.dev/ns"];

/// What DSSE signs (protocol v1.0.2, "Signature Definition").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// The predicates that are attached to a digest, by type, each verified by OpenSSL.
fn predicates(server: &Server, image: &Image, digest: &str, key: &Path) -> BTreeMap<String, Value> {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let referrers = server.json(&format!("/v2/{}/referrers/{digest}", image.name));
    let fallback = server.json(&format!("/v2/{}/manifests/sha256-{hex}", image.name));
    assert_eq!(referrers["manifests"], fallback["manifests"], "{} {digest}", image.name);
    let mut found = BTreeMap::new();
    for descriptor in referrers["manifests"].as_array().unwrap() {
        let reference = descriptor["digest"].as_str().unwrap();
        let manifest = server.json(&format!("/v2/{}/manifests/{reference}", image.name));
        assert_eq!(manifest["subject"]["digest"], digest);
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
        let bundle = server.json(&format!("/v2/{}/blobs/{}", image.name, layer["digest"].as_str().unwrap()));
        let envelope = &bundle["dsseEnvelope"];
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let signature = STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap();
        let signed = pre_authentication(envelope["payloadType"].as_str().unwrap(), &payload);
        assert_signed(key, &signature, &signed);
        let statement: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], hex);
        let kind = statement["predicateType"].as_str().unwrap().to_owned();
        assert_eq!(descriptor["annotations"]["dev.sigstore.bundle.predicateType"], kind);
        let known = found.insert(kind, statement["predicate"].clone());
        assert!(known.is_none(), "{} {digest} has two statements of one type", image.name);
    }
    found
}

#[test]
fn openssl_verifies_every_statement_about_every_index_and_platform() {
    let Some(factory) = factory() else { return };
    if !installed("openssl") {
        return;
    }
    let server = Server::start(&factory.home);
    let key = factory.home.join("keys/minimill.pub");
    for image in factory.images() {
        let name = &image.name;
        let packages = server.installed(&image);
        for digest in [&image.digest, &image.platform] {
            let found = predicates(&server, &image, digest, &key);
            let mut kinds: BTreeSet<&str> = found.keys().map(String::as_str).collect();
            // What is known of vulnerabilities is attested under two types, where anything is known.
            assert_eq!(found.get(OPENVEX[0]), found.get(OPENVEX[1]), "{name} {digest}");
            if let Some(document) = found.get(OPENVEX[0]) {
                assert_eq!(openvex::problems(document), Vec::<String>::new(), "{name} {digest}");
            }
            kinds.retain(|kind| !OPENVEX.contains(kind));
            assert_eq!(kinds, BTreeSet::from([SIGNATURE, SPDX, CYCLONEDX, PROVENANCE, TEST_RESULT]), "{name} {digest}");
            assert_eq!(found[SIGNATURE], serde_json::json!({}));
            assert_eq!(found[CYCLONEDX]["specVersion"], "1.6");
            assert_eq!(found[TEST_RESULT]["result"], "PASSED", "{name} {digest}");
            let materials = found[PROVENANCE]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
            for (package, version) in &packages {
                let file = format!("{package}-{version}.apk");
                let served = hex::encode(Sha256::digest(server.get(&format!("/apk/x86_64/{file}"))));
                // An index has both architectures' packages, which have the same names.
                let is_served =
                    |material: &&Value| material["name"] == file && material["digest"]["sha256"] == served.as_str();
                assert_eq!(materials.iter().filter(is_served).count(), 1, "{name}: {file} in {materials:#?}");
            }
            if *digest == image.platform {
                let count = materials.iter().filter(|material| is_package(material)).count();
                assert_eq!(count, packages.len(), "{name}");
            }
        }
    }
}

fn is_package(material: &Value) -> bool {
    material["name"].as_str().is_some_and(|name| name.ends_with(".apk"))
}

#[test]
fn attested_sboms_are_valid_and_name_every_package() {
    let Some(factory) = factory() else { return };
    if !installed("openssl") {
        return;
    }
    let server = Server::start(&factory.home);
    let key = factory.home.join("keys/minimill.pub");
    for image in factory.images() {
        for digest in [&image.digest, &image.platform] {
            let subject = format!("{} {digest}", image.name);
            assert_spdx(&predicates(&server, &image, digest, &key)[SPDX], &subject);
        }
        let document = &predicates(&server, &image, &image.platform, &key)[SPDX];
        let elements = document["packages"].as_array().unwrap();
        for (name, version) in server.installed(&image) {
            let known = elements.iter().any(|element| element["name"] == name && element["versionInfo"] == version);
            assert!(known, "{}: the SBOM has no {name} {version}", image.name);
        }
    }
}

#[test]
fn mill_verifies_from_the_home_and_over_http_and_refuses_another_key() {
    let Some(factory) = factory() else { return };
    if !installed("openssl") {
        return;
    }
    let server = Server::start(&factory.home);
    let own = factory.home.join("keys/minimill.pub");
    let folder = tempfile::tempdir().unwrap();
    let private = folder.path().join("other.pem");
    let other = folder.path().join("other.pub");
    run(Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
        .arg(&private));
    run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&other));
    for image in factory.images() {
        let local = format!("{}:{}", image.name, image.tag);
        let told_home = run(mill().arg("--home").arg(&factory.home).args(["verify", &local]));
        assert!(told_home.contains(&image.digest) && told_home.contains("\nverified\n"), "{told_home}");
        let remote = format!("{}/{local}", server.address);
        let told_http = run(mill().args(["verify", &remote, "--key"]).arg(&own));
        assert!(told_http.contains(&image.digest) && told_http.contains("\nverified\n"), "{told_http}");
        for place in [&local, &remote] {
            let output =
                mill().arg("--home").arg(&factory.home).args(["verify", place, "--key"]).arg(&other).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{place}: {}", told(&output));
            let message = told(&output);
            assert!(message.contains("key") && !message.contains("\nverified\n"), "{place}: {message}");
        }
    }
}
