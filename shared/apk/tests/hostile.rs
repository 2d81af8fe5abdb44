//! Packages made to do harm: each is refused with an error that names the entry.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::io::Write;

use apk::{Error, Package, PackageInformation};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A tar entry with a name that a careful writer would refuse.
fn entry(kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, name.as_bytes(), b"", content)
}

/// An unsigned package with these tar bytes as its data.
fn package(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    tar.extend_from_slice(&[0; 1024]);
    let data = gzip(&tar);
    let information = format!("pkgname = evil\npkgver = 1-r0\ndatahash = {}\n", hex::encode(Sha256::digest(&data)));
    let mut bytes = gzip(&file(".PKGINFO", information.as_bytes()));
    bytes.extend_from_slice(&data);
    bytes
}

fn problem(data: &[u8]) -> String {
    let bytes = package(data);
    Package::from_bytes("evil.apk", &bytes).unwrap().files().expect_err("it was accepted").to_string()
}

#[test]
fn paths_that_escape_are_refused() {
    for (name, expected) in [
        (&b"../etc/passwd"[..], "`../etc/passwd`: its path has a `..` component, which would escape the root"),
        (b"a/../../b", "`a/../../b`: its path has a `..` component, which would escape the root"),
        (b"/etc/passwd", "`/etc/passwd`: its path is absolute"),
        (b"a//b", "`a//b`: its path has an empty component"),
        (b"a/./b", "`a/./b`: its path has a `.` component"),
        (b"a\xff", "its path is not UTF-8"),
        (b"", "its path has an empty component"),
    ] {
        let found = problem(&entry(EntryType::Regular, name, b"", b"x"));
        assert!(found.starts_with("evil.apk: data member: entry `"), "{found}");
        assert!(found.ends_with(expected), "{found}");
    }
    // The same through a pax record, which may hold what a header can't.
    let mut long = entry(EntryType::XHeader, b"x", b"", b"17 path=a/../b/c\n");
    long.extend(file("harmless", b"x"));
    assert!(problem(&long).contains("`a/../b/c`: its path has a `..` component"));
    let mut nul = entry(EntryType::XHeader, b"x", b"", b"12 path=a\0b\n");
    nul.extend(file("harmless", b"x"));
    assert!(problem(&nul).contains("its path holds NUL"));
}

#[test]
fn files_through_links_and_duplicates_are_refused() {
    let mut data = entry(EntryType::Symlink, b"etc", b"/etc", b"");
    data.extend(file("etc/passwd", b"root::0:0"));
    assert!(problem(&data).ends_with("entry `etc/passwd`: `etc`, which it lies below, is not a directory"));
    let mut data = file("a", b"1");
    data.extend(file("a", b"2"));
    assert!(problem(&data).ends_with("entry `a`: it comes twice"));
    let data = entry(EntryType::Link, b"a", b"etc/shadow", b"");
    assert!(problem(&data).contains("links to `etc/shadow`, which is no regular file before it"));
    let data = entry(EntryType::Link, b"a", b"../../etc/shadow", b"");
    assert!(problem(&data).contains("`..` component"));
}

#[test]
fn devices_and_pipes_are_refused() {
    for (kind, expected) in [
        (EntryType::Char, "device nodes are not allowed in a package"),
        (EntryType::Block, "device nodes are not allowed in a package"),
        (EntryType::Fifo, "named pipes are not allowed in a package"),
        (EntryType::GNUSparse, "entries of type `S` are not supported"),
    ] {
        assert!(problem(&entry(kind, b"dev/x", b"", b"")).ends_with(&format!("entry `dev/x`: {expected}")));
    }
}

#[test]
fn content_that_differs_from_its_checksum_is_named() {
    let record = format!("68 APK-TOOLS.checksum.SHA1={}\n", "0".repeat(40));
    assert_eq!(record.len(), 68);
    let mut data = entry(EntryType::XHeader, b"x", b"", record.as_bytes());
    data.extend(file("usr/bin/x", b"content"));
    let found = problem(&data);
    assert!(
        found.starts_with("evil.apk: SHA-1 of `usr/bin/x` differs from its `APK-TOOLS.checksum.SHA1`: expected 0000")
    );
    assert!(found.ends_with("found 040f06fd774092478d450774f5ba30c5da78acc8"), "{found}");
}

#[test]
fn damaged_tar_streams_are_refused() {
    let good = file("a", b"content");
    let mut checksum = good.clone();
    checksum[0] = b'b';
    assert!(problem(&checksum).ends_with("a tar header doesn't match its checksum"));
    let mut after = good.clone();
    after.extend_from_slice(&[0; 1024]);
    after.extend(file("b", b""));
    assert!(problem(&after).ends_with("something follows the end of the tar stream"));
    let mut lonely = entry(EntryType::XHeader, b"x", b"", b"10 path=a\n");
    lonely.truncate(1024);
    assert!(problem(&lonely).ends_with("an extended header is followed by no entry"));
    for record in [&b"99 path=a\n"[..], b"path=a\n", b"0 a=b\n", b"6 ab\n\n", b"18446744073709551615 a=b\n"] {
        let mut bad = entry(EntryType::XHeader, b"x", b"", record);
        bad.extend(good.clone());
        assert!(problem(&bad).ends_with("malformed pax record"), "{}", record.escape_ascii());
    }
    let mut huge = entry(EntryType::XHeader, b"x", b"", b"");
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(1 << 30);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    assert!(problem(&huge).ends_with("an extended header of the data member in bytes passes the limit of 1048576"));
}

#[test]
fn control_members_hold_only_control_files() {
    let data = gzip(&[0; 1024]);
    let with = |control: Vec<u8>| {
        let mut bytes = gzip(&control);
        bytes.extend_from_slice(&data);
        Package::from_bytes("evil.apk", &bytes).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(with(file(".post-install", b"x")), "evil.apk: has no `.PKGINFO` in its control member");
    assert!(with(file("usr/bin/x", b"x")).contains("entry `usr/bin/x`: the control member holds only regular files"));
    let mut mixed = file(".PKGINFO", b"pkgname = a\npkgver = 1\n");
    mixed.extend(file(".SIGN.RSA256.a.rsa.pub", b"x"));
    assert!(with(mixed).contains("a signature must be in a member of its own"));
    assert_eq!(with(file(".PKGINFO", b"pkgname = a\n")), "evil.apk: .PKGINFO: has no `pkgver`");
    let bomb = with(file(".PKGINFO", &vec![b' '; 17 << 20]));
    assert_eq!(bomb, "evil.apk: the decompressed control member in bytes passes the limit of 16777216");
    let alone = gzip(&file(".PKGINFO", b"pkgname = a\npkgver = 1\n"));
    assert_eq!(Package::from_bytes("a", &alone).map(|_| ()).unwrap_err().to_string(), "a: has no data member");
}

#[test]
fn other_files_are_told_apart() {
    let problem = |bytes: &[u8]| Package::from_bytes("x", bytes).map(|_| ()).unwrap_err().to_string();
    assert_eq!(problem(b""), "x: not an apk v2 archive: it is empty");
    assert_eq!(problem(b"ADBd...."), "x: not an apk v2 archive: it is an apk v3 (ADB) file");
    assert_eq!(problem(b"PK\x03\x04...."), "x: not an apk v2 archive: it begins with bytes 504b0304");
}

#[test]
fn a_signature_does_not_vouch_for_a_package_without_data_hash() {
    let mut unsigned = gzip(&file(".PKGINFO", b"pkgname = a\npkgver = 1\n"));
    let digest = Sha256::digest(&unsigned).into();
    unsigned.extend(gzip(&[0; 1024]));
    let signature = support::key().sign_sha256_digest(&digest).unwrap();
    let mut bytes = Vec::new();
    apk::attach_signature(&mut unsigned.as_slice(), support::KEY_NAME, &signature, 0, &mut bytes).unwrap();
    let package = Package::from_bytes("a.apk", &bytes).unwrap();
    assert!(matches!(package.verify(&support::keyring()), Err(Error::Missing { .. })));
}

#[test]
fn older_kinds_of_signature_are_read_or_passed_over() {
    let data = gzip(&[0; 1024]);
    let information = format!("pkgname = a\npkgver = 1\ndatahash = {}\n", hex::encode(Sha256::digest(&data)));
    let control = gzip(&file(".PKGINFO", information.as_bytes()));
    let key = rsa::PrivateKey::from_pkcs1_pem(&support::key().to_pem().unwrap()).unwrap();
    let signature = key.pkcs1v15_sign_prehash::<sha1::Sha1>(&sha1::Sha1::digest(&control)).unwrap();
    let read = |entries: &[(&str, &[u8])]| {
        let tar: Vec<u8> = entries.iter().flat_map(|(name, content)| file(name, content)).collect();
        let bytes = [gzip(&tar), control.clone(), data.clone()].concat();
        Package::from_bytes("a.apk", &bytes)?.verify(&support::keyring()).map(str::to_owned)
    };
    assert_eq!(read(&[(".SIGN.RSA.test.rsa.pub", &signature)]).unwrap(), "test.rsa.pub");
    assert_eq!(read(&[(".SIGN.DSA.x", b"x"), (".SIGN.RSA.test.rsa.pub", &signature)]).unwrap(), "test.rsa.pub");
    // The SHA-1 signature under the SHA-256 name is no signature.
    assert!(matches!(read(&[(".SIGN.RSA256.test.rsa.pub", &signature)]), Err(Error::BadSignature { .. })));
    let error = read(&[(".SIGN.DSA.x", b"x"), (".SIGN.RSA512.test.rsa.pub", b"x")]).unwrap_err().to_string();
    assert!(error.starts_with("a.apk: no usable signature: `.SIGN.DSA.x`, `.SIGN.RSA512.test.rsa.pub`"), "{error}");
    let error = read(&[(".SIGN.ED25519.x", b"x")]).unwrap_err().to_string();
    assert!(error.contains("entry `.SIGN.ED25519.x`: unknown kind of signature"), "{error}");
    let error = read(&[(".SIGN.RSA.test.rsa.pub", &signature), ("usr/bin/x", b"x")]).unwrap_err().to_string();
    assert!(error.contains("entry `usr/bin/x`: expected a `.SIGN.` entry"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Bytes changed below the hash and the compression, where only the tar reader stands.
    #[test]
    fn changed_tar_streams_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut data = entry(EntryType::Directory, b"usr", b"", b"");
        data.extend(entry(EntryType::XHeader, b"x", b"", b"13 path=usr/b\n"));
        data.extend(file("a", b"content"));
        data.extend(entry(EntryType::Symlink, b"usr/c", b"b", b""));
        data.extend(entry(EntryType::Link, b"usr/d", b"usr/b", b""));
        data.extend(entry(EntryType::GNULongName, b"l", b"", b"usr/long\0"));
        data.extend(file("a", b""));
        let blocks = data.len() / 512;
        for (at, value) in changes {
            let at = at.index(data.len());
            data[at] = value;
        }
        // Headers get their checksums right, so that the change itself is looked at.
        for block in 0..blocks {
            let bytes: &mut [u8] = &mut data[block * 512..(block + 1) * 512];
            if &bytes[257..262] == b"ustar" {
                let mut header = Header::from_byte_slice(bytes).clone();
                header.set_cksum();
                bytes.copy_from_slice(header.as_bytes());
            }
        }
        let bytes = package(&data);
        if let Ok(files) = Package::from_bytes("evil.apk", &bytes).unwrap().files() {
            for file in files {
                prop_assert!(!file.path.starts_with('/') && !file.path.split('/').any(|part| part == ".."), "{file:?}");
            }
        }
    }

    #[test]
    fn any_information_round_trips(
        name in "[a-z0-9+_][a-z0-9.+_-]{0,20}",
        texts in proptest::collection::vec("([!-~][ -~]{0,20}[!-~])?", 6),
        words in proptest::collection::vec("[!-~]{1,20}", 0..5),
        numbers in proptest::array::uniform3(any::<u64>()),
        date in any::<i64>(),
    ) {
        let information = PackageInformation {
            version: format!("{}-r0", numbers[0]),
            name,
            description: texts[0].clone(),
            url: texts[1].clone(),
            commit: texts[2].clone(),
            maintainer: texts[3].clone(),
            origin: texts[4].clone(),
            licenses: Some(texts[5].clone()).filter(|text| !text.is_empty()).into_iter().collect(),
            depends: words.clone(),
            provides: words.clone(),
            replaces: words.clone(),
            install_if: words.clone(),
            triggers: words,
            installed_size: numbers[0],
            provider_priority: numbers[1],
            replaces_priority: numbers[2],
            build_date: date,
            architecture: "x86_64".to_owned(),
            data_hash: "0".repeat(64),
        };
        let text = information.write(&[]).unwrap();
        prop_assert_eq!(PackageInformation::parse("p", &text).unwrap(), information);
    }
}

/// A visitor's own error comes back as it is.
#[test]
fn a_visitor_can_stop() {
    #[derive(Debug)]
    enum Mine {
        Stop,
        Apk(#[allow(dead_code)] Error),
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Self::Apk(error)
        }
    }
    let mut data = file("a", b"1");
    data.extend(file("b", b"2"));
    let bytes = package(&data);
    let mut package = Package::from_bytes("a.apk", &bytes).unwrap();
    let mut seen = 0;
    let stopped = package.visit(|_, _| {
        seen += 1;
        Err(Mine::Stop)
    });
    assert!(matches!(stopped, Err(Mine::Stop)));
    assert_eq!(seen, 1);
}

#[test]
fn a_large_package_is_read_in_little_memory() {
    let size: u64 = 256 << 20;
    let root = tempfile::tempdir().unwrap();
    let large = std::fs::File::create(root.path().join("large")).unwrap();
    large.set_len(size).unwrap();
    let path = root.path().with_extension("apk");
    let spec = apk::PackageSpec {
        information: apk::PackageInformation { name: "large".into(), version: "1".into(), ..Default::default() },
        ..Default::default()
    };
    apk::build_package_file(&spec, root.path(), &path).unwrap();
    let mut read = 0;
    let mut package = Package::open(&path).unwrap();
    package
        .visit::<Error>(|_, content| {
            let mut buffer = vec![0; 64 << 10];
            loop {
                match content.read(&mut buffer).unwrap() {
                    0 => return Ok(()),
                    count => read += count as u64,
                }
            }
        })
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read, size);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    println!("peak resident memory: {peak} kB");
    assert!(peak < 128 << 10, "{peak} kB");
}
