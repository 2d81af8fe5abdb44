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
    assert!(read.check_configuration(&path, &checksum).unwrap());
    let error = read.check_configuration(&path, &configuration_checksum(&["a: c\n".to_owned()])).unwrap_err();
    assert!(error.to_string().contains("lock it again"), "{error}");
}

/// A lock as apko writes it, with these `contents` and this top.
fn opened(top: &str, contents: &str) -> Result<Lock, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apko.lock.json");
    std::fs::write(&path, format!("{{\"version\": \"v1\", {top}\"contents\": {{{contents}}}}}\n")).unwrap();
    Lock::open(&path)
}

#[test]
fn the_shapes_that_apko_has_written_are_read() {
    let member = |first: u64, last: u64, algorithm: &str| {
        format!("{{\"range\": \"bytes={first}-{last}\", \"checksum\": \"{algorithm}-AAAA\"}}")
    };
    let package = |architecture: &str, end: &str| {
        let [signature, control, data] = [(0, 684, "sha1"), (685, 964, "sha1"), (965, 2899, "sha256")]
            .map(|(first, last, algorithm)| member(first, last, algorithm));
        format!(
            "{{\"name\": \"layout\", \"url\": \"./packages/{architecture}/layout-1.0.0-r0.apk\", \"version\": \
             \"1.0.0-r0\", \"architecture\": \"{architecture}\", \"signature\": {signature}, \"control\": {control}, \
             \"data\": {data}{end}}}"
        )
    };
    let repository = "{\"name\": \"./packages/x86_64\", \"url\": \"./packages/x86_64/APKINDEX.tar.gz\", \"architecture\": \
                      \"x86_64\"}";
    // Before 0.13: no checksum of packages, and nothing says of which definition it is.
    let packages = [package("x86_64", ""), package("aarch64", "")].join(", ");
    let key = "{\"name\": \"./k.rsa.pub\", \"url\": \"./k.rsa.pub\"}";
    let contents = format!("\"keyring\": [{key}], \"repositories\": [{repository}], \"packages\": [{packages}]");
    let old = opened("", &contents).unwrap();
    assert_eq!(old.packages(Architecture::Aarch64).count(), 1);
    assert_eq!(old.contents.packages[0].checksum, "");
    assert!(!old.check_configuration("apko.lock.json".as_ref(), "sha256-AAAA").unwrap());
    // Then with both, and lists that Go never made.
    let top = "\"config\": {\"name\": \"apko.yaml\", \"checksum\": \"sha256-AAAA\"}, ";
    let packages = package("x86_64", ", \"checksum\": \"Q1AAAA\"");
    let contents = format!(
        "\"keyring\": null, \"build_repositories\": null, \"repositories\": [{repository}], \"packages\": [{packages}]"
    );
    let newer = opened(top, &contents).unwrap();
    assert!(newer.check_configuration("apko.lock.json".as_ref(), "sha256-AAAA").unwrap());
    newer.check_configuration("apko.lock.json".as_ref(), "sha256-BBBB").unwrap_err();
    // With keys of the definition itself, and found ones whose names are escaped; repositories of all three kinds.
    let keys = "{\"name\": \"a.rsa.pub\", \"url\": \"\", \"content\": \"PEM\"}, {\"name\": \
                \"h.example/keys/a%40b.rsa.pub\", \"url\": \"https://h.example/keys/a%40b.rsa.pub\"}";
    let contents = format!(
        "\"keyring\": [{keys}], \"build_repositories\": [], \"runtime_repositories\": [{repository}], \
         \"repositories\": [], \"packages\": [{packages}], \"ecosystem_packages\": null"
    );
    let newest = opened(top, &contents).unwrap();
    assert_eq!((newest.contents.keyring.len(), newest.contents.runtime_repositories.len()), (2, 1));
    assert!(!newest.to_json().unwrap().contains("ecosystem"));
}

#[test]
fn locked_packages_of_ecosystems_are_refused_by_name() {
    let contents = "\"packages\": [], \"ecosystem_packages\": [{\"ecosystem\": \"python\", \"name\": \"flask\"}]";
    let error = opened("", contents).unwrap_err().to_string();
    assert!(error.contains("`contents.ecosystem_packages` locks 1 of language ecosystems"), "{error}");
    assert!(error.contains("lock it again"), "{error}");
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
        (r#"{"version":"v1","contents":{"ecosystem_packages":[1]}}"#, "ecosystem_packages"),
        (r#"{"version":"v1","contents":{"packages":[{"name":"a"}]}}"#, "url"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Lock::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::write(&path, r#"{"version":"v1","contents":{"keyring":null,"packages":null}}"#).unwrap();
    let old = Lock::open(&path).unwrap();
    assert!(!old.check_configuration(&path, "sha256-x").unwrap());
}
