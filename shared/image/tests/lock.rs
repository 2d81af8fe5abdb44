//! Lock files in apko's format.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use apk::Architecture;
use base64::Engine as _;
use image::{
    Error, Lock, LockedConfiguration, LockedContents, LockedMember, LockedPackage, LockedRepository, PackageFile,
    configuration_checksum,
};
use support::{Workshop, chosen, corpus};

fn lock(packages: Vec<LockedPackage>) -> Lock {
    Lock::new(
        LockedConfiguration { name: "apko.yaml".to_owned(), checksum: configuration_checksum(&["a: b\n".to_owned()]) },
        LockedContents {
            repositories: vec![LockedRepository::new("https://packages.example/os/", Architecture::X86_64)],
            packages,
            ..LockedContents::default()
        },
    )
}

#[test]
fn a_lock_is_read_back_as_it_was_written() {
    let workshop = Workshop::new();
    let package = workshop.build(workshop.package("p").file("x", "x", 0o644));
    let url = "https://packages.example/os/x86_64/p-1.0-r0.apk";
    let locked = LockedPackage::of(&package, url.to_owned(), Architecture::X86_64).unwrap();
    assert_eq!(locked.signature, LockedMember::default(), "it is not signed");
    let path = workshop.directory.path().join("apko.lock.json");
    let written = lock(vec![locked.clone()]);
    std::fs::write(&path, written.to_json().unwrap()).unwrap();
    let read = Lock::open(&path).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.packages(Architecture::X86_64).collect::<Vec<_>>(), [&locked]);
    assert_eq!(read.packages(Architecture::Aarch64).count(), 0);
    assert_eq!(read.contents.repositories[0].name, "packages.example/os/x86_64");
    assert_eq!(read.contents.repositories[0].url, "https://packages.example/os/x86_64/APKINDEX.tar.gz");
    assert_eq!(locked.check(&package.path).unwrap().entry, package.entry);

    let other = workshop.build(workshop.package("q").file("x", "x", 0o644));
    let error = locked.check(&other.path).unwrap_err();
    assert!(matches!(&error, Error::OtherPackage { .. }), "{error}");
    let checksum = configuration_checksum(&["a: ".to_owned(), "b\n".to_owned()]);
    read.check_configuration(&path, &checksum).unwrap();
    let error = read.check_configuration(&path, &configuration_checksum(&["a: c\n".to_owned()])).unwrap_err();
    assert!(error.to_string().contains("lock it again"), "{error}");
}

#[test]
fn members_are_at_the_bytes_that_the_lock_says() {
    let Some(corpus) = corpus() else { return };
    let path = corpus.join("apk/hello-wolfi-2.12.1-r0.apk");
    let package: PackageFile = chosen(&path);
    let locked = LockedPackage::of(&package, path.display().to_string(), Architecture::X86_64).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let member = |member: &LockedMember| {
        let (first, last) = member.range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        bytes[first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()].to_vec()
    };
    let (signature, control, data) = (member(&locked.signature), member(&locked.control), member(&locked.data));
    assert_eq!([signature, control.clone(), data.clone()].concat(), bytes);
    let encoded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    use sha2::Digest as _;
    assert_eq!(locked.data.checksum, format!("sha256-{}", encoded(&sha2::Sha256::digest(&data))));
    let sha1 = encoded(&<sha1::Sha1 as sha1::Digest>::digest(&control));
    assert_eq!(locked.control.checksum, format!("sha1-{sha1}"));
    assert_eq!(locked.checksum, format!("Q1{sha1}"));
}

#[test]
fn what_is_no_lock_is_refused_by_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock.json");
    for (text, expected) in [
        ("{", "EOF"),
        (r#"{"version":"v2","contents":{}}"#, "found `v2`"),
        (r#"{"version":"v1","contents":{"ecosystem_packages":[]}}"#, "ecosystem_packages"),
        (r#"{"version":"v1","contents":{"packages":[{"name":"a"}]}}"#, "url"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Lock::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::write(&path, r#"{"version":"v1","contents":{"keyring":null,"packages":null}}"#).unwrap();
    let old = Lock::open(&path).unwrap();
    assert!(old.check_configuration(&path, "sha256-x").unwrap_err().to_string().contains("checksum none"));
}
