//! cargo's sparse index and crates, from a server of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use sha2::{Digest, Sha256};
use tests::archive::{Archive, ArchiveKey, Fault, Server};
use upstream::{
    EndpointSettings, Endpoints, Error, Evidence, FetchOptions, Options, SourceUri, Surroundings, Upstreams, Verdict,
    Watch,
};

const CRATE: &[u8] = b"the bytes of a crate";

struct Bench {
    registry: Archive,
    server: Server,
    cache: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let registry = Archive::new(ArchiveKey::generate());
        let server = registry.serve();
        let download = format!(r#"{{"dl": "{}/crates"}}"#, server.base());
        registry.put("index/config.json", download);
        registry.put("crates/hello-mill/1.2.0/download", CRATE);
        Self { registry, server, cache: tempfile::tempdir().unwrap() }
    }

    fn list(&self, versions: &[(&str, bool)]) {
        let checksum = hex::encode(Sha256::digest(CRATE));
        let lines: Vec<String> = versions
            .iter()
            .map(|(version, yanked)| {
                format!(
                    r#"{{"name":"hello-mill","vers":"{version}","deps":[],"cksum":"{checksum}","features":{{}},"yanked":{yanked}}}"#
                )
            })
            .collect();
        self.registry.put("index/he/ll/hello-mill", lines.join("\n"));
    }

    fn upstreams(&self) -> Upstreams {
        let settings = EndpointSettings {
            cargo: Some(format!("sparse+{}/index/", self.server.base())),
            ..EndpointSettings::default()
        };
        let folder = self.server.folder();
        let surroundings = Surroundings {
            apt_folder: folder.join("apt"),
            debian_keyring: folder.join("none.gpg"),
            cargo_home: None,
            working_folder: folder.to_owned(),
            run_clients: false,
        };
        let fetch = FetchOptions { attempts: 2, first_wait: Duration::from_millis(1), ..FetchOptions::default() };
        let endpoints = Endpoints::new(settings, surroundings);
        Upstreams::new(endpoints, self.cache.path(), Options { fetch, ..Options::default() }).unwrap()
    }
}

fn source(text: &str) -> SourceUri {
    text.parse().unwrap()
}

fn watch(current: Option<&str>) -> Watch {
    Watch { current: current.map(str::to_owned), ..Watch::new(source("pkg:cargo/hello-mill")) }
}

#[tokio::test]
async fn the_newest_release_that_is_not_yanked_is_chosen() {
    let bench = Bench::new();
    bench.list(&[("1.0.0", false), ("1.10.0", true), ("1.9.0", false), ("2.0.0-rc.1", false), ("1.2.0", false)]);
    let decision = bench.upstreams().check(&watch(Some("1.2.0"))).await.unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.9.0");
    let verdicts: Vec<_> = decision.considered.iter().map(|one| (one.version.as_str(), one.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("1.9.0", Verdict::Taken),
            ("1.2.0", Verdict::Current),
            ("1.0.0", Verdict::PassedOver),
            ("1.10.0", Verdict::PassedOver),
            ("2.0.0-rc.1", Verdict::PassedOver),
        ]
    );
    assert_eq!(decision.considered[3].reason, "yanked");
    assert_eq!(decision.considered[4].reason, "a pre-release");
    bench.upstreams().check(&watch(None)).await.unwrap();
    assert_eq!(bench.registry.requests_of("hello-mill").unchanged, 1);
}

#[tokio::test]
async fn a_crate_is_fetched_by_the_indexs_checksum() {
    let bench = Bench::new();
    bench.list(&[("1.2.0", false)]);
    let one = source("pkg:cargo/hello-mill@1.2.0");
    let path = "crates/hello-mill/1.2.0/download";
    bench.registry.fail(path, Fault::Replace(b"other bytes".to_vec()));
    let error = bench.upstreams().fetch(&one, None).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    bench.registry.heal();
    let fetched = bench.upstreams().fetch(&one, None).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), CRATE);
    assert_eq!(fetched.file_name, "hello-mill-1.2.0.crate");
    let Evidence::Cargo { version, sha256, .. } = fetched.evidence else { panic!("another chain") };
    assert_eq!((version.as_str(), sha256), ("1.2.0", fetched.sha256));
    let error = bench.upstreams().fetch(&one, Some(&"0".repeat(64))).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[tokio::test]
async fn unknown_crates_and_versions_are_told() {
    let bench = Bench::new();
    bench.list(&[("1.0.0", false), ("1.2.0", false)]);
    let upstreams = bench.upstreams();
    let error = upstreams.fetch(&source("pkg:cargo/hello-mill@3.0.0"), None).await.unwrap_err();
    assert!(error.to_string().contains("it has 1.2.0, 1.0.0"), "{error}");
    let error = upstreams.fetch(&source("pkg:cargo/goodbye@3.0.0"), None).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPackage { .. }), "{error}");
    let error = upstreams.fetch(&source("pkg:cargo/hello-mill@..%2f"), None).await.unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
}

#[tokio::test]
async fn a_malformed_index_is_refused_with_its_line() {
    let bench = Bench::new();
    let good = r#"{"name":"hello-mill","vers":"1.0.0","cksum":""#.to_owned() + &"a".repeat(64) + "\"}\n";
    for bad in [r#"{"name":"hello-mill"}"#, r#"{"name":"other","vers":"1.0.0","cksum":"00"}"#, "no json"] {
        bench.registry.put("index/he/ll/hello-mill", good.clone() + bad);
        let error = bench.upstreams().check(&watch(None)).await.unwrap_err();
        assert!(matches!(error, Error::Index { line: 2, .. }), "{error}");
    }
}
