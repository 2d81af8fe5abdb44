//! Packages: built, read back, signed, damaged.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use apk::{Checksum, Error, FileKind, IndexEntry, Keyring, Package, PrivateKey, Report, Script};
use sha2::Digest as _;
use support::{EPOCH, KEY_NAME, build, corpus, key, keyring, signed, spec, tree};

#[test]
fn what_is_built_reads_back() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path(), false);
    let (built, bytes) = signed(root.path());
    let mut package = Package::from_bytes("hello.apk", &bytes).unwrap();
    assert_eq!(package.information(), &built.information);
    assert_eq!(package.checksum(), built.checksum);
    assert_eq!(package.control_sha256(), &built.control_sha256);
    assert_eq!(package.verify(&keyring()).unwrap(), KEY_NAME);
    assert_eq!(package.control_file(".melange.yaml").unwrap(), b"package:\n  name: hello\n");
    let scripts: Vec<_> = package.scripts().map(|(script, text)| (script, text.to_vec())).collect();
    assert_eq!(
        scripts,
        [(Script::Trigger, b"#!/bin/sh\n".to_vec()), (Script::PostInstall, b"#!/bin/sh\nexit 0\n".to_vec())]
    );
    let members = package.members().clone();
    assert_eq!(members.signature.end, members.control.start);
    assert_eq!(members.control.end, members.data.start);
    assert_eq!(members.data.end, bytes.len() as u64);

    let mut found = BTreeMap::new();
    let mut order = Vec::new();
    package
        .visit::<Error>(|entry, content| {
            let mut text = Vec::new();
            content.read_to_end(&mut text).unwrap();
            assert_eq!(entry.mtime, EPOCH);
            order.push(entry.path.clone());
            found.insert(entry.path.clone(), (entry.clone(), text));
            Ok(())
        })
        .unwrap();
    assert_eq!(order.first().map(String::as_str), Some("etc"));
    assert!(
        order.iter().position(|path| path == "usr-x").unwrap()
            > order.iter().position(|path| path == "usr/bin").unwrap()
    );
    let (hello, content) = &found["usr/bin/hello"];
    assert_eq!((hello.mode, hello.uid, hello.gid), (0o755, 0, 0));
    assert_eq!(hello.checksum, Some(Checksum::of(content)));
    assert_eq!(hello.xattrs, spec().xattrs["usr/bin/hello"]);
    assert_eq!(found["usr/bin/su"].0.mode, 0o4755);
    assert_eq!(found["usr/bin/hello2"].0.kind, FileKind::Hardlink("usr/bin/hello".into()));
    assert_eq!(found["usr/bin/hi"].0.kind, FileKind::Symlink("hello".into()));
    assert_eq!(found["usr/bin/hi"].0.checksum, Some(Checksum::of(b"hello")));
    assert_eq!(found["usr/bin/long-link"].0.kind, FileKind::Symlink(format!("/{}", "t".repeat(200))));
    assert_eq!((found["etc/hello.conf"].0.uid, found["etc/hello.conf"].0.gid), (0, 65532));
    assert_eq!(found["var/empty"].0.mode, 0o1777);
    assert_eq!(found["usr/share/h\u{e9}llo.txt"].1, b"unicode");
    assert!(found.keys().any(|path| path.len() > 250));
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(first.path(), false);
    tree(second.path(), true);
    std::fs::File::open(second.path().join("usr/bin/su")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(build(first.path()), build(second.path()));
}

#[test]
fn a_package_file_appears_complete_or_not_at_all() {
    let (root, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(root.path(), false);
    let path = output.path().join("hello-1.0-r0.apk");
    let built = apk::build_package_file(&spec(), root.path(), &path).unwrap();
    let (same, bytes) = build(root.path());
    assert_eq!(built, same);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    std::fs::remove_file(&path).unwrap();

    let listener = std::os::unix::net::UnixListener::bind(root.path().join("usr/socket")).unwrap();
    let error = apk::build_package_file(&spec(), root.path(), &path).unwrap_err();
    drop(listener);
    assert!(error.to_string().ends_with("usr/socket: sockets can't be packaged"), "{error}");
    assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 0);
}

#[test]
fn every_flipped_byte_is_detected() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path(), false);
    let (_, bytes) = signed(root.path());
    let keyring = keyring();
    // Where the signature itself lies: past the gzip, block and tar headers.
    let start = 10 + 5 + 512;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let checked =
            Package::from_bytes("hello.apk", &damaged).and_then(|package| package.verify(&keyring).map(str::to_owned));
        let Err(error) = checked else { panic!("byte {at} of {}", bytes.len()) };
        assert!(error.to_string().starts_with("hello.apk"), "byte {at}: {error}");
        let named = (start..start + 200).contains(&at);
        assert!(!named || error.to_string().contains("signature"), "byte {at}: {error}");
    }
}

#[test]
fn every_truncation_is_detected() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path(), false);
    let (_, bytes) = signed(root.path());
    for length in 0..bytes.len() {
        let error = Package::from_bytes("hello.apk", &bytes[..length]).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("hello.apk"), "{length} bytes: {error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(Package::from_bytes("hello.apk", &longer), Err(Error::Digest { .. })));
}

#[test]
fn signature_problems_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path(), false);
    let (built, unsigned) = build(root.path());
    let read = |bytes: &[u8], keyring: &Keyring| {
        Package::from_bytes("a.apk", bytes).unwrap().verify(keyring).map(str::to_owned)
    };
    assert!(matches!(read(&unsigned, &keyring()), Err(Error::Unsigned { .. })));

    let (_, bytes) = signed(root.path());
    let error = read(&bytes, &Keyring::default()).unwrap_err();
    assert_eq!(error.to_string(), "a.apk: signed by `test.rsa.pub`, which is not in the keyring (which is empty)");
    let other = Keyring::new([PrivateKey::generate(2048).unwrap().public(KEY_NAME).unwrap()]);
    assert!(matches!(read(&bytes, &other), Err(Error::BadSignature { .. })));

    let wrong = key().sign_sha256_digest(&[7; 32]).unwrap();
    let mut bytes = Vec::new();
    apk::attach_signature(&mut unsigned.as_slice(), KEY_NAME, &wrong, 0, &mut bytes).unwrap();
    assert!(matches!(read(&bytes, &keyring()), Err(Error::BadSignature { .. })));

    // A second signature in front, by a key that isn't known here, does no harm.
    let good = key().sign_sha256_digest(&built.control_sha256).unwrap();
    let mut once = Vec::new();
    apk::attach_signature(&mut unsigned.as_slice(), KEY_NAME, &good, 0, &mut once).unwrap();
    let mut twice = Vec::new();
    apk::attach_signature(&mut once.as_slice(), "other.rsa.pub", &good, 0, &mut twice).unwrap();
    assert_eq!(read(&twice, &keyring()).unwrap(), KEY_NAME);
    assert_eq!(Package::from_bytes("a.apk", &twice).unwrap().signatures().len(), 2);

    assert!(apk::signature_member("../x.rsa.pub", &good, 0).is_err());
    assert!(apk::signature_member("x.pem", &good, 0).is_err());
}

#[test]
fn openssl_agrees_with_our_signature() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("not run: no openssl");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    tree(root.path(), false);
    let (_, bytes) = signed(root.path());
    let package = Package::from_bytes("hello.apk", &bytes).unwrap();
    let control = &bytes[usize::try_from(package.members().control.start).unwrap()
        ..usize::try_from(package.members().control.end).unwrap()];
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content).unwrap();
        path
    };
    let public = file("key.pub", key().public(KEY_NAME).unwrap().to_pem().unwrap().as_bytes());
    let signature = file("signature", &package.signatures()[0].bytes);
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-verify"])
        .args([&public, std::path::Path::new("-signature"), &signature, &file("control", control)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "Verified OK");

    // A key that openssl made (PKCS#8) signs as well, and ours reads back.
    let pem = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .unwrap();
    let theirs = PrivateKey::from_pem("theirs", &String::from_utf8(pem.stdout).unwrap()).unwrap();
    let signature = theirs.sign_sha256_digest(&[1; 32]).unwrap();
    assert!(theirs.public(KEY_NAME).unwrap().verifies_sha256(&[1; 32], &signature));
    let again = PrivateKey::from_pem("ours", &key().to_pem().unwrap()).unwrap();
    assert_eq!(again.sign_sha256_digest(&[1; 32]).unwrap(), key().sign_sha256_digest(&[1; 32]).unwrap());
}

#[test]
fn corpus_packages_parse_and_their_content_matches() {
    let Some(corpus) = corpus() else { return };
    let beside = Keyring::from_folder(&corpus.join("packages")).unwrap();
    let mut read = 0;
    let mut verified = 0;
    for path in walk(&corpus).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "apk")) {
        let mut package = Package::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(!package.files().unwrap_or_else(|error| panic!("{error}")).is_empty());
        let entry = IndexEntry::from_package(&package);
        assert_eq!(entry.size, path.metadata().unwrap().len());
        if path.starts_with(corpus.join("packages")) {
            assert_eq!(package.verify(&beside).unwrap_or_else(|error| panic!("{error}")), "melange.rsa.pub");
            verified += 1;
        }
        read += 1;
    }
    assert!(read >= 5, "{read} packages");
    assert!(verified >= 2, "{verified} verified");
}

#[test]
fn files_are_verified_and_folders_indexed() {
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(root.path(), false);
    let (built, bytes) = signed(root.path());
    let path = folder.path().join("hello-1.0-r0.apk");
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(folder.path().join("README"), "not a package").unwrap();
    let entries = apk::index_directory(folder.path()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].checksum, built.checksum.to_string());
    assert_eq!(entries[0].size, bytes.len() as u64);
    match apk::verify_file(&path, &keyring()).unwrap() {
        Report::Package { name, signed_by, files, .. } => {
            assert_eq!((name.as_str(), signed_by.as_str()), ("hello", KEY_NAME));
            assert!(files > 15, "{files}");
        }
        other => panic!("{other:?}"),
    }

    let index = apk::Index { description: "d".into(), entries };
    let unsigned = index.write(0).unwrap();
    let signature = key().sign_sha256_digest(&sha2::Sha256::digest(&unsigned).into()).unwrap();
    let mut signed_index = Vec::new();
    apk::attach_signature(&mut unsigned.as_slice(), KEY_NAME, &signature, 0, &mut signed_index).unwrap();
    // The name says nothing: this is an index all the same.
    let path = folder.path().join("b.apk");
    std::fs::write(&path, &signed_index).unwrap();
    let report = apk::verify_file(&path, &keyring()).unwrap();
    assert_eq!(report, Report::Index { signed_by: KEY_NAME.into(), description: "d".into(), packages: 1 });
    assert!(apk::index_directory(folder.path()).is_err());

    std::fs::write(&path, &bytes).unwrap();
    let error = apk::index_directory(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("b.apk: it must be named `hello-1.0-r0.apk`, as it would be looked for"), "{error}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
