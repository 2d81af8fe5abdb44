//! What registries state and sign of their packages, from a server of recorded shape.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use tests::archive::{Fault, sha256_hex};

use super::signatures::{BUNDLE, BUNDLED, BUNDLED_FILE, publisher};
use super::table::{Case, Outcome, Table, fetch};
use crate::plain::source;

fn taken(kind: &str, holds: Vec<(&'static str, Value)>) -> Outcome {
    Outcome::Taken { kind: kind.to_owned(), holds }
}

fn refused(kind: &str, reason: &str, kept: Vec<Vec<u8>>) -> Outcome {
    Outcome::Refused { kind: kind.to_owned(), reason: reason.to_owned(), kept }
}

/// A case of a package URL whose definition states the digest of `bytes`.
fn case(name: &str, uri: &str, bytes: &[u8], policy: Option<(&'static str, &str)>, outcome: Outcome) -> Case {
    Case {
        name: name.to_owned(),
        source: fetch(uri, "sha256", &sha256_hex(bytes)),
        policy: policy.map(|(policy, proof)| (policy, format!("  - {proof}\n"))),
        outcome,
    }
}

/// The good package; the same with other bytes behind what the registry states (`altered`, in its
/// place in `path`) and with another digest than the definition's in the registry's own statement
/// (`restated`); and a plain address, of which the ecosystem proves nothing.
fn digests(table: &mut Table, kind: &str, uri: impl Fn(&str) -> String, path: impl Fn(&str) -> String) {
    // Each has bytes of its own: what is in the store is not asked for again.
    let (good, altered, restated) = (format!("{kind}-good"), format!("{kind}-altered"), format!("{kind}-restated"));
    let named = vec![("name", json!(kind))];
    table.add(case(&good, &uri(&good), &source(&good), Some(("required", kind)), taken(kind, named)));
    let (bytes, replaced) = (source(&altered), resized(&source(&altered)));
    table.factory.archive.fail(&path(&altered), Fault::Replace(replaced.clone()));
    let mismatch = refused(kind, "mismatch", vec![replaced]);
    table.add(case(&altered, &uri(&altered), &bytes, Some(("preferred", kind)), mismatch));
    let mismatch = refused("expected-sha256", &sha256_hex(&source(&restated)), Vec::new());
    table.add(case(&restated, &uri(&restated), &source("9.9"), None, mismatch));
    let bytes = source("1.0");
    let address = table.put(kind, "source-1.0.tar.gz", &bytes);
    let reason = "no ecosystem that proves it";
    let missing = refused(kind, reason, vec![bytes.clone()]);
    table.add(case(&format!("{kind}-missing"), &address, &bytes, Some(("required", kind)), missing));
    let unproved = Outcome::Unproved { kind: kind.to_owned(), reason: reason.to_owned() };
    table.add(case(&format!("{kind}-preferred"), &address, &bytes, Some(("preferred", kind)), unproved));
}

/// Other bytes of the same length, which no size gives away.
fn resized(bytes: &[u8]) -> Vec<u8> {
    let mut other = bytes.to_vec();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    other
}

pub fn debian(table: &mut Table) {
    for name in ["debian-archive-good", "debian-archive-altered", "debian-archive-restated"] {
        let file = format!("{name}_1.0.orig.tar.gz");
        table.factory.archive.add_source(name, "1.0-1", &file, source(name));
    }
    table.factory.archive.publish();
    let uri = |name: &str| format!("pkg:deb/debian/{name}@1.0?arch=source");
    digests(table, "debian-archive", uri, |name| format!("pool/main/d/{name}/{name}_1.0.orig.tar.gz"));
}

/// The archive's release file is signed by a key that the keyring lacks.
pub fn unsigned_debian(table: &mut Table) {
    let (name, bytes) = ("debian-foreign", source("1.0"));
    let archive = table.factory.archive.clone();
    archive.add_source(name, "1.0-1", "debian-foreign_1.0.orig.tar.gz", bytes.clone());
    archive.publish();
    let release = archive.file("dists/trixie/InRelease").unwrap().to_vec();
    let outcome = refused("debian-archive", "no valid signature by a key of the keyring", vec![release]);
    let uri = format!("pkg:deb/debian/{name}@1.0?arch=source");
    table.add(case(name, &uri, &bytes, Some(("preferred", "debian-archive")), outcome));
}

pub fn crates(table: &mut Table) {
    let archive = table.factory.archive.clone();
    archive.put("index/config.json", format!(r#"{{"dl": "{}/crates"}}"#, table.factory.upstream()));
    for name in ["crates-index-good", "crates-index-altered", "crates-index-restated"] {
        let bytes = source(name);
        let line = json!({
            "name": name, "vers": "1.0.0", "deps": [], "cksum": sha256_hex(&bytes), "features": {}, "yanked": false,
        });
        archive.put(&format!("index/cr/at/{name}"), line.to_string());
        archive.put(&format!("crates/{name}/1.0.0/download"), bytes);
    }
    let uri = |name: &str| format!("pkg:cargo/{name}@1.0.0");
    digests(table, "crates-index", uri, |name| format!("crates/{name}/1.0.0/download"));
}

/// A project's page with one source archive, and where it says that its attestations are.
fn project(table: &Table, name: &str, file: &str, bytes: &[u8], provenance: Option<&str>) {
    let archive = &table.factory.archive;
    let page = json!({
        "meta": { "api-version": "1.3" },
        "name": name,
        "versions": ["1.0"],
        "files": [{
            "filename": file,
            "url": format!("../../python/{name}/{file}"),
            "hashes": { "sha256": sha256_hex(bytes) },
            "size": bytes.len(),
            "yanked": false,
            "provenance": provenance.map(|path| format!("{}/{path}", table.factory.upstream())),
        }],
    });
    archive.put(&format!("simple/{name}/"), page.to_string());
    archive.put(&format!("python/{name}/{file}"), bytes);
}

pub fn pypi(table: &mut Table) {
    for name in ["pypi-digest-good", "pypi-digest-altered", "pypi-digest-restated"] {
        project(table, name, &format!("{}-1.0.tar.gz", name.replace('-', "_")), &source(name), None);
    }
    let uri = |name: &str| format!("pkg:pypi/{name}@1.0");
    digests(table, "pypi-digest", uri, |name| format!("python/{name}/{}-1.0.tar.gz", name.replace('-', "_")));
}

/// PEP 740: a publisher's own bundle, as the index states attestations.
pub fn attestations(table: &mut Table) {
    let bundle: Value = serde_json::from_slice(BUNDLE).unwrap();
    let attestation = json!({
        "version": 1,
        "verification_material": {
            "certificate": bundle["verificationMaterial"]["certificate"]["rawBytes"],
            "transparency_entries": bundle["verificationMaterial"]["tlogEntries"],
        },
        "envelope": {
            "statement": bundle["dsseEnvelope"]["payload"],
            "signature": bundle["dsseEnvelope"]["signatures"][0]["sig"],
        },
    });
    let provenance = json!({ "version": 1, "attestation_bundles": [{
        "publisher": { "kind": "GitHub", "repository": "trailofbits/pypi-attestation-models" },
        "attestations": [attestation],
    }]})
    .to_string();
    table.factory.archive.put("provenance", provenance.clone());
    let provenance = provenance.into_bytes();
    let (models, altered) = ("pypi-attestation-models", source("9.9"));
    project(table, models, BUNDLED_FILE, BUNDLED, Some("provenance"));
    project(table, "altered", "altered-1.0.tar.gz", &altered, Some("provenance"));
    project(table, "unattested", "unattested-1.0.tar.gz", BUNDLED, None);
    let good = format!("pkg:pypi/{models}@0.0.4a2");
    let (other, none) = ("pkg:pypi/altered@1.0", "pkg:pypi/unattested@1.0");
    let kind = "pypi-attestation";
    let proof = |repository: &str| format!("{kind}: {{{}}}", publisher(repository));
    let (pinned, foreign) = (proof("trailofbits/pypi-attestation-models"), proof("trailofbits/other"));
    let repository = json!("https://github.com/trailofbits/pypi-attestation-models");
    let missing = "no attestation of it";
    for (name, uri, bytes, policy, proof, outcome) in [
        ("good", good.as_str(), BUNDLED, "required", &pinned, taken(kind, vec![("repository", repository)])),
        ("foreign", &good, BUNDLED, "preferred", &foreign, refused(kind, "repository", vec![provenance.clone()])),
        ("altered", other, &altered, "required", &pinned, refused(kind, "", vec![altered.clone(), provenance])),
        ("missing", none, BUNDLED, "required", &pinned, refused(kind, missing, vec![BUNDLED.to_vec()])),
        (
            "preferred",
            none,
            BUNDLED,
            "preferred",
            &pinned,
            Outcome::Unproved { kind: kind.to_owned(), reason: missing.to_owned() },
        ),
    ] {
        table.add(case(&format!("{kind}-{name}"), uri, bytes, Some((policy, proof)), outcome));
    }
}

/// The document that a registry answers with, and the tarball. `signed` is what stands under
/// `dist.signatures`.
fn packument(table: &Table, name: &str, bytes: &[u8], signatures: &Value) -> Vec<u8> {
    let archive = &table.factory.archive;
    archive.put(&format!("npm/{name}/-/{name}-1.0.0.tgz"), bytes);
    let document = json!({
        "name": name,
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": { "name": name, "version": "1.0.0", "dist": {
            "tarball": format!("{}/npm/{name}/-/{name}-1.0.0.tgz", table.factory.upstream()),
            "shasum": "0000000000000000000000000000000000000000",
            "integrity": integrity(bytes),
            "signatures": signatures,
        }}},
        "time": { "1.0.0": "2026-01-01T00:00:00.000Z" },
    })
    .to_string();
    archive.put(&format!("npm/{name}"), document.clone());
    document.into_bytes()
}

fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)))
}

/// The registry's signature of a version.
fn signature(secret: &SigningKey, name: &str, bytes: &[u8]) -> Value {
    let signature: Signature = secret.sign(format!("{name}@1.0.0:{}", integrity(bytes)).as_bytes());
    json!([{ "keyid": key_id(secret), "sig": STANDARD.encode(signature.to_der()) }])
}

fn key_id(secret: &SigningKey) -> String {
    let key = secret.verifying_key().to_public_key_der().unwrap();
    format!("SHA256:{}", sha256_hex(key.as_bytes()))
}

/// As `/-/npm/v1/keys` answers.
fn keys(secret: &SigningKey) -> String {
    let key = STANDARD.encode(secret.verifying_key().to_public_key_der().unwrap());
    let kind = "ecdsa-sha2-nistp256";
    let key = json!({ "expires": null, "keyid": key_id(secret), "keytype": kind, "scheme": kind, "key": key });
    json!({ "keys": [key] }).to_string()
}

fn secrets() -> (SigningKey, SigningKey) {
    (SigningKey::from_slice(&[1; 32]).unwrap(), SigningKey::from_slice(&[2; 32]).unwrap())
}

pub fn npm(table: &mut Table) {
    let ((secret, other), bytes) = (secrets(), source("1.0"));
    table.factory.archive.put("npm/-/npm/v1/keys", keys(&secret));
    table.key("npm.json", &keys(&secret));
    table.key("npm-other.json", &keys(&other));
    let (kind, pinned, foreign) =
        ("npm-signature", "npm-signature: {keys: npm.json}", "npm-signature: {keys: npm-other.json}");
    let uri = |name: &str| format!("pkg:npm/{name}@1.0.0");
    let key = || vec![("key", json!(key_id(&secret)))];
    for (name, policy, outcome) in [
        ("npm-good", Some(("required", kind)), taken(kind, key())),
        ("npm-pinned", Some(("required", pinned)), taken(kind, key())),
        ("npm-foreign", Some(("preferred", foreign)), refused(kind, "", vec![bytes.clone()])),
        ("npm-default", None, taken(kind, vec![("name", json!(kind))])),
    ] {
        packument(table, name, &bytes, &signature(&secret, name, &bytes));
        table.add(case(name, &uri(name), &bytes, policy, outcome));
    }
    // The registry publishes its keys: what is not signed by them is refused, whatever the policy.
    let forged = packument(table, "npm-forged", &bytes, &signature(&other, "npm-forged", &bytes));
    let outcome = refused(kind, "", vec![forged]);
    table.add(case("npm-forged", &uri("npm-forged"), &bytes, Some(("preferred", kind)), outcome));
    let bare = packument(table, "npm-unsigned", &bytes, &json!([]));
    let outcome = refused(kind, "not signed", vec![bare]);
    table.add(case("npm-unsigned", &uri("npm-unsigned"), &bytes, None, outcome));
    // Other bytes than the registry signed: stated rightly by the definition, or as they are served.
    let (bytes, altered) = (source("npm-altered"), resized(&source("npm-altered")));
    for (name, stated, kind, reason) in [
        ("npm-altered", &bytes, "expected-sha256", "sha256 mismatch"),
        ("npm-integrity", &altered, "npm-integrity", "sha512 mismatch"),
    ] {
        packument(table, name, &bytes, &signature(&secret, name, &bytes));
        table.factory.archive.fail(&format!("npm/{name}/-/{name}-1.0.0.tgz"), Fault::Replace(altered.clone()));
        let outcome = refused(kind, reason, vec![altered.clone()]);
        table.add(case(name, &uri(name), stated, Some(("preferred", "npm-signature")), outcome));
    }
}

/// A registry that publishes no keys: its signatures count by pinned ones only.
pub fn npm_without_keys(table: &mut Table) {
    let ((secret, _), bytes) = (secrets(), source("1.0"));
    table.key("npm.json", &keys(&secret));
    let (kind, reason) = ("npm-signature", "publishes no keys");
    let unproved = Outcome::Unproved { kind: kind.to_owned(), reason: reason.to_owned() };
    for (name, policy, proof, outcome) in [
        ("npm-missing", "required", kind, refused(kind, reason, vec![bytes.clone()])),
        ("npm-preferred", "preferred", kind, unproved),
        (
            "npm-pinned",
            "required",
            "npm-signature: {keys: npm.json}",
            taken(kind, vec![("key", json!(key_id(&secret)))]),
        ),
    ] {
        packument(table, name, &bytes, &signature(&secret, name, &bytes));
        table.add(case(name, &format!("pkg:npm/{name}@1.0.0"), &bytes, Some((policy, proof)), outcome));
    }
}
