//! A Python package index and its source archives, from a server of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use sha2::{Digest, Sha256};
use support::{Answer, Recorded};
use upstream::{
    EndpointSettings, Endpoints, Error, Evidence, FetchOptions, Options, SourceUri, Surroundings, Upstreams, Verdict,
    Watch,
};

const ARCHIVE: &[u8] = b"the bytes of a source archive";

struct Bench {
    server: Recorded,
    cache: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self { server: Recorded::start().await, cache: tempfile::tempdir().unwrap() }
    }

    fn upstreams(&self) -> Upstreams {
        let pypi = Some(format!("{}/simple/", self.server.base()));
        let folder = self.cache.path();
        let surroundings = Surroundings {
            apt_folder: folder.join("apt"),
            debian_keyring: folder.join("none.gpg"),
            cargo_home: None,
            working_folder: folder.to_owned(),
            run_clients: false,
        };
        let fetch = FetchOptions { attempts: 2, first_wait: Duration::from_millis(1), ..FetchOptions::default() };
        let endpoints = Endpoints::new(EndpointSettings { pypi, ..EndpointSettings::default() }, surroundings);
        Upstreams::new(endpoints, folder, Options { fetch, ..Options::default() }).unwrap()
    }
}

fn file(name: &str, yanked: &str) -> String {
    let sha256 = hex::encode(Sha256::digest(ARCHIVE));
    let size = ARCHIVE.len();
    format!(
        r#"{{"filename":"{name}","url":"../../files/{name}","hashes":{{"sha256":"{sha256}"}},"size":{size},"yanked":{yanked},"requires-python":null}}"#
    )
}

fn project(versions: &[&str], files: &[String]) -> String {
    format!(
        r#"{{"meta":{{"api-version":"1.1"}},"name":"hello-mill","versions":{versions:?},"files":[{}]}}"#,
        files.join(",")
    )
}

fn source(text: &str) -> SourceUri {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_newest_release_with_a_source_archive_is_chosen() {
    let bench = Bench::new().await;
    let files = [
        file("hello_mill-1.0.tar.gz", "false"),
        file("hello-mill-1.1.tar.gz", "false"),
        file("hello_mill-1.1-py3-none-any.whl", "false"),
        file("hello_mill-1.2.tar.gz", "\"wrong licence\""),
        file("hello_mill-1.3a1.tar.gz", "false"),
        file("hello_mill-1.4-py3-none-any.whl", "false"),
        file("other-9.0.tar.gz", "false"),
    ];
    let index = project(&["1.0", "1.1", "1.2", "1.3a1", "1.4"], &files);
    bench.server.put("/simple/hello-mill/", Answer::ok(index));
    let watch = Watch { current: Some("1.0".to_owned()), ..Watch::new(source("pkg:pypi/Hello_Mill")) };
    let decision = bench.upstreams().check(&watch).await.unwrap();
    let verdicts: Vec<_> =
        decision.considered.iter().map(|one| (one.version.as_str(), one.verdict, one.reason.as_str())).collect();
    assert_eq!(
        verdicts,
        [
            ("1.1", Verdict::Taken, "the newest release, above `1.0`"),
            ("1.0", Verdict::Current, "the version that is built already"),
            ("1.2", Verdict::PassedOver, "yanked: wrong licence"),
            ("1.3a1", Verdict::PassedOver, "a pre-release"),
            ("1.4", Verdict::PassedOver, "has no source archive (`.tar.gz`)"),
        ]
    );
}

#[tokio::test]
async fn a_source_archive_is_fetched_by_the_indexs_digest() {
    let bench = Bench::new().await;
    let index = project(&["1.1"], &[file("hello_mill-1.1.tar.gz", "false")]);
    bench.server.put("/simple/hello-mill/", Answer::ok(index.clone()));
    bench.server.put("/files/hello_mill-1.1.tar.gz", Answer::ok("other bytes of the same size"));
    let one = source("pkg:pypi/hello-mill@1.1");
    let error = bench.upstreams().fetch(&one, None).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. } | Error::Size { .. }), "{error}");
    bench.server.put("/files/hello_mill-1.1.tar.gz", Answer::ok(ARCHIVE));
    let fetched = bench.upstreams().fetch(&one, None).await.unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), ARCHIVE);
    let Evidence::Pypi { package, version, index_sha256, sha256, .. } = fetched.evidence else {
        panic!("another chain")
    };
    assert_eq!((package.as_str(), version.as_str(), sha256), ("hello-mill", "1.1", fetched.sha256));
    assert_eq!(index_sha256, hex::encode(Sha256::digest(&index)));
    let error = bench.upstreams().fetch(&one, Some(&"0".repeat(64))).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[tokio::test]
async fn what_the_index_lacks_is_told() {
    let bench = Bench::new().await;
    let upstreams = bench.upstreams();
    let one = source("pkg:pypi/hello-mill@3.0");
    let error = upstreams.fetch(&one, None).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPackage { .. }), "{error}");
    bench.server.put("/simple/hello-mill/", Answer::ok(project(&["1.1"], &[file("hello_mill-1.1.tar.gz", "false")])));
    let error = upstreams.fetch(&one, None).await.unwrap_err();
    assert!(error.to_string().contains("it has 1.1"), "{error}");
    bench.server.put("/simple/hello-mill/", Answer::ok("<!DOCTYPE html>"));
    let error = upstreams.fetch(&one, None).await.unwrap_err();
    assert!(matches!(error, Error::Index { .. }), "{error}");
    let undigested = file("hello_mill-3.0.tar.gz", "false").replace("sha256", "md5");
    bench.server.put("/simple/hello-mill/", Answer::ok(project(&["3.0"], &[undigested])));
    let error = upstreams.fetch(&one, None).await.unwrap_err();
    assert!(matches!(error, Error::Listing { .. }), "{error}");
}
