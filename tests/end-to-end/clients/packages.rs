//! The apk repository over HTTP, by the facts of the format: gzip members, checksums, signatures.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::GzDecoder;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::support::{Server, assert_signed, assert_spdx, factory, fed, installed, records};

/// A gzip member: as it is stored, and what it holds.
struct Member<'b> {
    stored: &'b [u8],
    content: Vec<u8>,
}

fn members(bytes: &[u8]) -> Vec<Member<'_>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut decoder = GzDecoder::new(rest);
        let mut content = Vec::new();
        decoder.read_to_end(&mut content).unwrap();
        let after = decoder.into_inner();
        found.push(Member { stored: &rest[..rest.len() - after.len()], content });
        rest = after;
    }
    found
}

/// Name and content of the one file of a signature member, or of the first file of another.
fn first_file(member: &Member<'_>) -> (String, Vec<u8>) {
    let mut archive = tar::Archive::new(member.content.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let name = entry.path().unwrap().display().to_string();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    (name, content)
}

/// Asserts that a signature member covers `bytes` by the key that it names.
fn assert_member_signs(member: &Member<'_>, bytes: &[u8], key: &Path) {
    let (name, signature) = first_file(member);
    assert_eq!(name, format!(".SIGN.RSA256.{}", key.file_name().unwrap().display()));
    assert_signed(key, &signature, bytes);
}

#[test]
fn every_package_of_the_signed_index_downloads_and_is_what_the_index_says() {
    let Some(factory) = factory() else { return };
    if !installed("openssl") {
        return;
    }
    let server = Server::start(&factory.home);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("minimill.rsa.pub");
    std::fs::write(&key, server.get("/apk/keys/minimill.rsa.pub")).unwrap();

    let rows = factory.report["packages"].as_array().unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let architectures: BTreeSet<String> = rows.iter().map(|row| text(row, "architecture")).collect();
    for architecture in architectures {
        let known = packages_of(&server, &architecture, &key);
        let reported: BTreeSet<_> = rows
            .iter()
            .filter(|row| row["architecture"] == architecture.as_str())
            .map(|row| (text(row, "name"), text(row, "version"), text(row, "checksum")))
            .collect();
        assert_eq!(known, reported, "{architecture}");
        assert!(known.len() >= 20, "{known:?}");
    }
}

/// Name, version and checksum of each package of an architecture's index, all downloaded and read.
fn packages_of(server: &Server, architecture: &str, key: &Path) -> BTreeSet<(String, String, String)> {
    let index = server.get(&format!("/apk/{architecture}/APKINDEX.tar.gz"));
    let parts = members(&index);
    assert_member_signs(&parts[0], &index[parts[0].stored.len()..], key);
    let listed = fed(Command::new("tar").args(["-tzf", "-"]), &index);
    assert_eq!(listed.lines().collect::<Vec<_>>(), [".SIGN.RSA256.minimill.rsa.pub", "APKINDEX", "DESCRIPTION"]);
    let index = fed(Command::new("tar").args(["-xzOf", "-", "APKINDEX"]), &index);

    let mut known = BTreeSet::new();
    for record in records(&index) {
        let (name, version) = (record.value('P'), record.value('V'));
        let file = format!("{name}-{version}.apk");
        let bytes = server.get(&format!("/apk/{architecture}/{file}"));
        assert_eq!(bytes.len().to_string(), record.value('S'), "{file}");
        let [signature, control, data] = &members(&bytes)[..] else { panic!("{file} is not three gzip members") };
        let checksum = format!("Q1{}", STANDARD.encode(Sha1::digest(control.stored)));
        assert_eq!(checksum, record.value('C'), "{file}");
        assert_member_signs(signature, control.stored, key);
        let (first, information) = first_file(control);
        assert_eq!(first, ".PKGINFO", "{file}");
        let information = String::from_utf8(information).unwrap();
        let hash = format!("datahash = {}", hex::encode(Sha256::digest(data.stored)));
        for line in [format!("pkgname = {name}"), format!("pkgver = {version}"), hash] {
            assert!(information.lines().any(|other| other == line), "{file}: no `{line}` in\n{information}");
        }
        assert_tar_reads(&bytes, &name, &version);
        known.insert((name, version, checksum));
    }
    known
}

/// GNU tar reads a package as one archive: the signature, what the package says of itself, files.
fn assert_tar_reads(bytes: &[u8], name: &str, version: &str) {
    let listed = fed(Command::new("tar").args(["--warning=no-unknown-keyword", "-tzf", "-"]), bytes);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[..3], [".SIGN.RSA256.minimill.rsa.pub", ".PKGINFO", ".melange.yaml"], "{name}");
    let sbom = format!("var/lib/db/sbom/{name}-{version}.spdx.json");
    let document = fed(Command::new("tar").args(["--warning=no-unknown-keyword", "-xzOf", "-", &sbom]), bytes);
    assert_spdx(&serde_json::from_str(&document).unwrap(), name);
}
