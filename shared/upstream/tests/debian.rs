//! The Debian chain against an archive made and signed here, whole and with every kind of damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tests::archive::{Archive, ArchiveKey, Fault, Server, tarball};
use upstream::filter::Verdict;
use upstream::{
    DebianOptions, EndpointSettings, Endpoints, Error, Evidence, FetchOptions, Options, SourceUri, Surroundings,
    Upstreams, Watch,
};

const HELLO: &str = "pkg:deb/debian/hello?arch=source";
const HELLO_1_1: &str = "pkg:deb/debian/hello@1.1?arch=source";
const IN_RELEASE: &str = "dists/trixie/InRelease";
const TARBALL: &str = "pool/main/h/hello/hello_1.1.orig.tar.gz";

/// An archive with the source package `hello`, its server, and a cache.
struct Bench {
    archive: Archive,
    server: Server,
    cache: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::signed_by(ArchiveKey::generate())
    }

    fn signed_by(key: ArchiveKey) -> Self {
        let archive = Archive::new(key);
        archive.add_source("hello", "1.0-1", "hello_1.0.orig.tar.gz", content("1.0", 1_000));
        archive.add_source("hello", "1.1-2", "hello_1.1.orig.tar.gz", content("1.1", 2_000));
        archive.publish();
        let server = archive.serve();
        Self { archive, server, cache: tempfile::tempdir().unwrap() }
    }

    fn options() -> Options {
        Options {
            fetch: FetchOptions {
                attempts: 3,
                first_wait: Duration::from_millis(1),
                total_timeout: Duration::from_secs(20),
                ..FetchOptions::default()
            },
            debian: DebianOptions { revalidate_after: Duration::ZERO, ..DebianOptions::default() },
            ..Options::default()
        }
    }

    fn upstreams(&self) -> Upstreams {
        self.with(&["trixie"], Self::options())
    }

    fn with(&self, suites: &[&str], options: Options) -> Upstreams {
        upstreams(&self.server, self.server.keyring(), suites, self.cache.path(), options)
    }

    async fn fetch(&self) -> Result<upstream::Fetched, Error> {
        self.upstreams().fetch(&source(HELLO_1_1), None).await
    }

    /// Files in the store of sources.
    fn kept(&self) -> usize {
        std::fs::read_dir(self.cache.path().join("sources")).map_or(0, Iterator::count)
    }
}

fn upstreams(server: &Server, keyring: PathBuf, suites: &[&str], cache: &Path, options: Options) -> Upstreams {
    let settings = EndpointSettings {
        debian: Some(server.base()),
        debian_suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
        debian_keyrings: vec![keyring],
        ..EndpointSettings::default()
    };
    let surroundings = Surroundings {
        apt_folder: server.folder().join("apt"),
        debian_keyring: server.folder().join("none.gpg"),
        cargo_home: None,
        working_folder: server.folder().to_owned(),
        run_clients: false,
    };
    Upstreams::new(Endpoints::new(settings, surroundings), cache, options).unwrap()
}

fn content(version: &str, mtime: u64) -> Vec<u8> {
    tarball(&format!("hello-{version}"), mtime, &[("hello.c", version.as_bytes())])
}

fn source(text: &str) -> SourceUri {
    text.parse().unwrap()
}

fn watch(text: &str, current: Option<&str>) -> Watch {
    Watch { current: current.map(str::to_owned), ..Watch::new(source(text)) }
}

#[tokio::test]
async fn a_source_is_fetched_with_its_chain_of_proof() {
    for key in [ArchiveKey::generate(), ArchiveKey::generate_with_subkey()] {
        let bench = Bench::signed_by(key.clone());
        let fetched = bench.fetch().await.unwrap();
        assert_eq!(std::fs::read(&fetched.path).unwrap(), content("1.1", 2_000));
        assert_eq!(fetched.file_name, "hello_1.1.orig.tar.gz");
        assert_eq!(fetched.newest_mtime().unwrap(), 2_000);
        assert_eq!(fetched.path.file_name().unwrap().to_str().unwrap(), fetched.sha256);
        let Evidence::Debian { suite, signers, sources, version, file, sha256, .. } = fetched.evidence else {
            panic!("another chain")
        };
        assert_eq!((suite.as_str(), version.as_str()), ("trixie", "1.1-2"));
        assert_eq!(sources, "main/source/Sources.xz");
        assert_eq!(file, TARBALL);
        assert_eq!(sha256, fetched.sha256);
        assert_eq!(signers.len(), 1);
        assert_eq!(signers[0].fingerprint, key.fingerprint());
        assert_eq!(signers[0].user, "Test archive <archive@localhost>");
    }
}

#[tokio::test]
async fn an_armored_keyring_serves_too() {
    let key = ArchiveKey::generate();
    let bench = Bench::signed_by(key.clone());
    let keyring = bench.server.folder().join("archive.asc");
    std::fs::write(&keyring, key.armored_public_key()).unwrap();
    let upstreams = upstreams(&bench.server, keyring, &["trixie"], bench.cache.path(), Bench::options());
    upstreams.fetch(&source(HELLO_1_1), None).await.unwrap();
}

#[tokio::test]
async fn the_newest_of_all_suites_is_chosen_and_the_rest_explained() {
    let bench = Bench::new();
    let add = |version: &str, file: &str| {
        bench.archive.add_source_in("sid", "hello", version, file, content(version, 3_000));
    };
    add("1.2~rc1-1", "hello_1.2~rc1.orig.tar.gz");
    add("1.1+dfsg-1", "hello_1.1+dfsg.orig.tar.gz");
    bench.archive.publish();
    let upstreams = bench.with(&["trixie", "sid"], Bench::options());
    let decision = upstreams.check(&watch(HELLO, Some("1.0"))).await.unwrap();
    let chosen = decision.chosen.unwrap();
    assert_eq!((chosen.version.as_str(), chosen.label.as_deref()), ("1.1", Some("1.1+dfsg-1")));
    let considered: Vec<_> = decision
        .considered
        .iter()
        .map(|one| (one.label.as_deref().unwrap(), one.place.as_deref().unwrap(), one.verdict))
        .collect();
    assert_eq!(
        considered,
        [
            ("1.1+dfsg-1", "sid", Verdict::Taken),
            ("1.1-2", "trixie", Verdict::PassedOver),
            ("1.0-1", "trixie", Verdict::Current),
            ("1.2~rc1-1", "sid", Verdict::PassedOver),
        ]
    );
    assert_eq!(decision.considered[3].reason, "a pre-release");
    // The definition's digest says which of the archives of one version is meant.
    let trixie = bench.fetch().await.unwrap();
    let fetched = upstreams.fetch(&source(HELLO_1_1), Some(&trixie.sha256)).await.unwrap();
    assert_eq!(fetched.file_name, "hello_1.1.orig.tar.gz");
    // The qualifier restricts to one suite, configured or not.
    let one = "pkg:deb/debian/hello?arch=source&distro=trixie";
    let decision = upstreams.check(&watch(one, None)).await.unwrap();
    assert_eq!(decision.chosen.unwrap().label.as_deref(), Some("1.1-2"));
}

#[tokio::test]
async fn a_second_check_costs_one_conditional_request() {
    let bench = Bench::new();
    bench.upstreams().check(&watch(HELLO, None)).await.unwrap();
    bench.archive.forget_requests();
    let decision = bench.upstreams().check(&watch(HELLO, Some("1.1"))).await.unwrap();
    assert_eq!(decision.chosen, None);
    assert_eq!(bench.archive.requests_of("").total, 1);
    assert_eq!(bench.archive.requests_of(IN_RELEASE).unchanged, 1);

    bench.archive.add_source("hello", "1.2-1", "hello_1.2.orig.tar.gz", content("1.2", 3_000));
    bench.archive.publish();
    let decision = bench.upstreams().check(&watch(HELLO, Some("1.1"))).await.unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_download() {
    let bench = Bench::new();
    let mut options = Bench::options();
    options.debian.revalidate_after = Duration::from_secs(60);
    let upstreams = Arc::new(bench.with(&["trixie"], options));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let upstreams = upstreams.clone();
            tokio::spawn(async move {
                upstreams.check(&watch(HELLO, None)).await.unwrap();
                upstreams.fetch(&source(HELLO_1_1), None).await.unwrap().sha256
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().len(), 64);
    }
    assert_eq!(bench.archive.requests_of(IN_RELEASE).total, 1);
    assert_eq!(bench.archive.requests_of("Sources").total, 0);
    assert_eq!(bench.archive.requests_of("by-hash").total, 1);
    assert_eq!(bench.archive.requests_of(TARBALL).total, 1);
}

#[tokio::test]
async fn without_by_hash_the_plain_path_is_used() {
    let bench = Bench::new();
    bench.archive.set(|settings| settings.by_hash = false);
    bench.archive.publish();
    bench.fetch().await.unwrap();
    assert_eq!(bench.archive.requests_of("main/source/Sources.xz").total, 1);
}

#[tokio::test]
async fn offline_answers_from_the_cache_alone() {
    let bench = Bench::new();
    let mut offline = Bench::options();
    offline.fetch.offline = true;
    let error = bench.with(&["trixie"], offline.clone()).check(&watch(HELLO, None)).await;
    assert!(matches!(error, Err(Error::Offline { .. })), "{error:?}");
    let fetched = bench.fetch().await.unwrap();
    bench.archive.forget_requests();
    let upstreams = bench.with(&["trixie"], offline);
    upstreams.check(&watch(HELLO, None)).await.unwrap();
    let again = upstreams.fetch(&source(HELLO_1_1), Some(&fetched.sha256)).await.unwrap();
    assert_eq!(again.evidence, fetched.evidence);
    let other = source("pkg:deb/debian/hello@1.0?arch=source");
    let error = upstreams.fetch(&other, None).await.unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    assert_eq!(bench.archive.requests_of("").total, 0);
}

#[tokio::test]
async fn a_proved_source_outlives_its_place_in_the_archive() {
    let bench = Bench::new();
    let fetched = bench.fetch().await.unwrap();
    let empty = Archive::new(ArchiveKey::generate());
    empty.publish();
    let server = empty.serve();
    let upstreams = upstreams(&server, server.keyring(), &["trixie"], bench.cache.path(), Bench::options());
    let again = upstreams.fetch(&source(HELLO_1_1), Some(&fetched.sha256)).await.unwrap();
    assert_eq!(again.path, fetched.path);
    // An altered file is noticed, and can't be had again from an archive that lacks it.
    std::fs::write(&fetched.path, b"altered").unwrap();
    let error = upstreams.fetch(&source(HELLO_1_1), Some(&fetched.sha256)).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPackage { .. }), "{error}");
}

#[tokio::test]
async fn unknown_names_and_versions_are_told() {
    let bench = Bench::new();
    let upstreams = bench.upstreams();
    let missing = source("pkg:deb/debian/hello@9.9?arch=source");
    let error = upstreams.fetch(&missing, None).await.unwrap_err().to_string();
    assert_eq!(error, "`hello` has no version `9.9` in the Debian suites trixie; it has 1.1, 1.0");
    let error = upstreams.check(&watch("pkg:deb/debian/goodbye?arch=source", None)).await;
    assert!(matches!(error, Err(Error::UnknownPackage { .. })), "{error:?}");
    let error = upstreams.check(&watch("pkg:deb/debian/hello", None)).await.unwrap_err();
    assert!(error.to_string().contains("arch=source"), "{error}");
    let error = upstreams.check(&watch("pkg:gem/hello", None)).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn a_changed_signed_text_is_refused() {
    let bench = Bench::new();
    let good = bench.archive.file(IN_RELEASE).unwrap();
    let text = String::from_utf8(good.to_vec()).unwrap().replace("Origin: Test", "Origin: Best");
    bench.archive.fail(IN_RELEASE, Fault::Replace(text.into_bytes()));
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Signature { .. }), "{error}");
    assert!(error.to_string().contains("bad signature"), "{error}");
}

#[tokio::test]
async fn text_around_the_signed_message_is_refused() {
    let bench = Bench::new();
    let good = bench.archive.file(IN_RELEASE).unwrap();
    for (before, after) in [("Suite: evil\n", ""), ("", "Suite: evil\n")] {
        let text = [before.as_bytes(), &good, after.as_bytes()].concat();
        bench.archive.fail(IN_RELEASE, Fault::Replace(text));
        let error = bench.fetch().await.unwrap_err();
        assert!(matches!(error, Error::Unsigned { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_unsigned_archive_is_refused() {
    let bench = Bench::new();
    bench.archive.set(|settings| settings.unsigned = true);
    bench.archive.publish();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Unsigned { .. }), "{error}");
    bench.archive.set(|settings| {
        settings.unsigned = false;
        settings.plain_in_release = true;
    });
    bench.archive.publish();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Unsigned { .. }), "{error}");
}

#[tokio::test]
async fn another_key_is_refused() {
    let bench = Bench::new();
    bench.archive.set(|settings| settings.signed_by = Some(ArchiveKey::generate()));
    bench.archive.publish();
    let error = bench.fetch().await.unwrap_err();
    assert!(error.to_string().contains("not a key of the keyring"), "{error}");
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let bench = Bench::signed_by(ArchiveKey::generate_expiring(7200, 3600));
    let error = bench.fetch().await.unwrap_err();
    assert!(error.to_string().contains("the key has expired"), "{error}");
    Bench::signed_by(ArchiveKey::generate_expiring(3600, 7200)).fetch().await.unwrap();
}

#[tokio::test]
async fn a_missing_or_useless_keyring_is_told() {
    let bench = Bench::new();
    let path = bench.server.folder().join("absent.gpg");
    for bytes in [None, Some(&b"no key"[..])] {
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        let cache = bench.cache.path();
        let upstreams = upstreams(&bench.server, path.clone(), &["trixie"], cache, Bench::options());
        let error = upstreams.check(&watch(HELLO, None)).await.unwrap_err();
        assert!(matches!(error, Error::Keyring { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_expired_release_file_is_refused_unless_allowed() {
    let bench = Bench::new();
    let day = SignedDuration::from_hours(24);
    bench.archive.set(|settings| settings.valid_until = Some(Timestamp::now() - day));
    bench.archive.publish();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    let mut options = Bench::options();
    options.debian.allow_expired = true;
    bench.with(&["trixie"], options).check(&watch(HELLO, None)).await.unwrap();
    bench.archive.set(|settings| settings.valid_until = Some(Timestamp::now() + day));
    bench.archive.publish();
    bench.fetch().await.unwrap();
}

#[tokio::test]
async fn an_older_release_file_than_seen_before_is_refused() {
    let bench = Bench::new();
    bench.fetch().await.unwrap();
    let hour = SignedDuration::from_hours(1);
    bench.archive.set(|settings| settings.date = Some(Timestamp::now() - hour));
    bench.archive.publish();
    let error = bench.upstreams().check(&watch(HELLO, None)).await.unwrap_err();
    assert!(error.to_string().contains("replayed"), "{error}");
    bench.archive.set(|settings| settings.date = None);
    bench.archive.publish();
    bench.upstreams().check(&watch(HELLO, None)).await.unwrap();
}

#[tokio::test]
async fn another_suites_release_file_is_refused() {
    let bench = Bench::new();
    bench.archive.set(|settings| settings.codename = Some("bookworm".to_owned()));
    bench.archive.publish();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Release { .. }), "{error}");
}

#[tokio::test]
async fn a_source_index_with_other_bytes_is_refused() {
    let bench = Bench::new();
    bench.archive.set(|settings| settings.by_hash = false);
    bench.archive.publish();
    let path = "dists/trixie/main/source/Sources.xz";
    let mut bytes = bench.archive.file(path).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bench.archive.fail(path, Fault::Replace(bytes));
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    bench.archive.heal();
    bench.fetch().await.unwrap();
}

#[tokio::test]
async fn a_path_that_leaves_the_archive_is_refused() {
    let bench = Bench::new();
    bench.archive.move_to("pool/../../../etc");
    bench.archive.publish();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Index { .. }), "{error}");
    assert!(error.to_string().contains("`hello`"), "{error}");
}

#[tokio::test]
async fn damaged_source_archives_leave_nothing_behind() {
    let bench = Bench::new();
    bench.archive.fail(TARBALL, Fault::Truncate(20));
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Size { found: 20, .. }), "{error}");
    bench.archive.fail(TARBALL, Fault::Break(20));
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Request { attempts: 3, .. }), "{error}");
    bench.archive.fail(TARBALL, Fault::Endless);
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let mut bytes = content("1.1", 2_000);
    bytes[15] ^= 1;
    bench.archive.fail(TARBALL, Fault::Replace(bytes.clone()));
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }) && error.is_unauthentic(), "{error}");
    // Apart from the sources, as evidence.
    assert_eq!(std::fs::read(error.kept().unwrap().1).unwrap(), bytes);
    assert_eq!(bench.kept(), 0);
    bench.archive.heal();
    bench.fetch().await.unwrap();
    assert_eq!(bench.kept(), 1);
}

#[tokio::test]
async fn a_wrong_expected_digest_names_both() {
    let bench = Bench::new();
    let (wrong, upstreams) = ("0".repeat(64), bench.upstreams());
    let error = upstreams.fetch(&source(HELLO_1_1), Some(&wrong)).await.unwrap_err();
    let right = bench.fetch().await.unwrap().sha256;
    let Error::Digest { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (wrong, right));
    let error = upstreams.fetch(&source(HELLO_1_1), Some("abc")).await.unwrap_err();
    assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
}

#[tokio::test]
async fn a_server_error_is_tried_again() {
    let bench = Bench::new();
    bench.archive.fail(IN_RELEASE, Fault::Status { code: 500, times: 2 });
    bench.fetch().await.unwrap();
    assert_eq!(bench.archive.requests_of(IN_RELEASE).total, 3);
    bench.archive.fail(IN_RELEASE, Fault::Status { code: 503, times: 9 });
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, attempts: 3, .. }), "{error}");
    bench.archive.forget_requests();
    bench.archive.fail(IN_RELEASE, Fault::Status { code: 403, times: 9 });
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 403, attempts: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_huge_release_file_is_cut_off() {
    let bench = Bench::new();
    bench.archive.fail(IN_RELEASE, Fault::Endless);
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_plain_address_needs_its_digest() {
    let bench = Bench::new();
    let address = source(&format!("{}/{TARBALL}", bench.server.base()));
    let upstreams = bench.upstreams();
    let error = upstreams.fetch(&address, None).await.unwrap_err();
    assert!(matches!(error, Error::NoDigest { .. }), "{error}");
    let error = upstreams.fetch(&address, Some(&"0".repeat(64))).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert_eq!(bench.kept(), 0);
    let sha256 = bench.fetch().await.unwrap().sha256;
    let fetched = upstreams.fetch(&address, Some(&sha256.to_uppercase())).await.unwrap();
    assert_eq!(fetched.sha256, sha256);
    assert!(matches!(fetched.evidence, Evidence::Declared { .. }));
}
