//! An npm registry with its keys, from a server of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use support::{Answer, Recorded};
use upstream::{
    EndpointSettings, Endpoints, Error, Evidence, FetchOptions, Options, SourceUri, Surroundings, Upstreams, Verdict,
    Watch,
};

const TARBALL: &[u8] = b"the bytes of a tarball";
const NAME: &str = "@mill/hello";
const DOCUMENT: &str = "/npm/@mill%2Fhello";
const KEYS: &str = "/npm/-/npm/v1/keys";

struct Bench {
    server: Recorded,
    cache: tempfile::TempDir,
    keys: Option<PathBuf>,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self { server: Recorded::start().await, cache: tempfile::tempdir().unwrap(), keys: None };
        bench.server.put("/npm/files/hello.tgz", Answer::ok(TARBALL));
        bench
    }

    fn upstreams(&self) -> Upstreams {
        let settings = EndpointSettings {
            npm: Some(format!("{}/npm/", self.server.base())),
            npm_keys: self.keys.clone(),
            ..EndpointSettings::default()
        };
        let folder = self.cache.path();
        let surroundings = Surroundings {
            apt_folder: folder.join("apt"),
            debian_keyring: folder.join("none.gpg"),
            cargo_home: None,
            working_folder: folder.to_owned(),
            run_clients: false,
        };
        let fetch = FetchOptions { attempts: 2, first_wait: Duration::from_millis(1), ..FetchOptions::default() };
        Upstreams::new(Endpoints::new(settings, surroundings), folder, Options { fetch, ..Options::default() }).unwrap()
    }

    fn publish(&self, versions: &Value) {
        let document = json!({
            "name": NAME,
            "dist-tags": { "latest": "1.1.0", "next": "2.0.0" },
            "versions": versions,
            "time": { "created": "2020-01-01T00:00:00.000Z", "1.1.0": "2024-03-01T00:00:00.000Z" },
        });
        self.server.put(DOCUMENT, Answer::ok(document.to_string()).header("etag", "\"1\""));
    }

    async fn fetch(&self, version: &str) -> Result<upstream::Fetched, Error> {
        self.upstreams().fetch(&source(&format!("pkg:npm/%40mill/hello@{version}")), None).await
    }
}

fn source(text: &str) -> SourceUri {
    text.parse().unwrap()
}

fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)))
}

/// A version as the registry states it, signed by `secret` under the id `one`.
fn version(version: &str, integrity: &str, secret: Option<&SigningKey>) -> Value {
    let mut dist = json!({ "tarball": "files/hello.tgz", "shasum": "00", "integrity": integrity });
    if let Some(secret) = secret {
        let signature: Signature = secret.sign(format!("{NAME}@{version}:{integrity}").as_bytes());
        dist["signatures"] = json!([{ "keyid": "one", "sig": STANDARD.encode(signature.to_der()) }]);
    }
    json!({ "name": NAME, "version": version, "dist": dist })
}

fn keys(secret: &SigningKey, expires: Value) -> String {
    let key = STANDARD.encode(secret.verifying_key().to_public_key_der().unwrap());
    let kind = "ecdsa-sha2-nistp256";
    json!({ "keys": [{ "expires": expires, "keyid": "one", "keytype": kind, "scheme": kind, "key": key }] }).to_string()
}

#[tokio::test]
async fn the_newest_version_that_maintainers_offer_is_chosen() {
    let bench = Bench::new().await;
    let whole = integrity(TARBALL);
    let mut deprecated = version("1.1.1", &whole, None);
    deprecated["deprecated"] = json!("use 1.1.0");
    let mut unproved = version("1.0.9", &whole, None);
    unproved["dist"] = json!({ "tarball": "files/hello.tgz", "shasum": "00" });
    bench.publish(&json!({
        "1.0.0": version("1.0.0", &whole, None),
        "1.0.9": unproved,
        "1.1.0": version("1.1.0", &whole, None),
        "1.1.1": deprecated,
        "1.2.0-rc.1": version("1.2.0-rc.1", &whole, None),
        "2.0.0": version("2.0.0", &whole, None),
    }));
    let watch = || Watch { current: Some("1.0.0".to_owned()), ..Watch::new(source("pkg:npm/%40mill/hello")) };
    let decision = bench.upstreams().check(&watch()).await.unwrap();
    let verdicts: Vec<_> =
        decision.considered.iter().map(|one| (one.version.as_str(), one.verdict, one.reason.as_str())).collect();
    assert_eq!(
        verdicts,
        [
            ("1.1.0", Verdict::Taken, "the newest release, above `1.0.0`"),
            ("1.0.0", Verdict::Current, "the version that is built already"),
            ("1.0.9", Verdict::PassedOver, "the registry states no SHA-512 of it"),
            ("1.1.1", Verdict::PassedOver, "deprecated: use 1.1.0"),
            ("1.2.0-rc.1", Verdict::PassedOver, "a pre-release"),
            ("2.0.0", Verdict::PassedOver, "above `1.1.0`, which its maintainers call `latest`"),
        ]
    );
    assert_eq!(decision.considered[0].place.as_deref(), Some("latest"));
    let digest = format!("sha512:{}", hex::encode(Sha512::digest(TARBALL)));
    assert_eq!(decision.considered[0].identity, Some(digest));

    bench.server.asked();
    let seen = [("1.1.0".to_owned(), "sha512:00".to_owned())].into();
    let decision = bench.upstreams().check(&Watch { seen, ..watch() }).await.unwrap();
    assert_eq!(decision.chosen, None);
    assert!(decision.considered.iter().any(|one| one.verdict == Verdict::Republished && one.version == "1.1.0"));
    assert_eq!(bench.server.asked()[0].status, 304);

    let error = bench.upstreams().check(&Watch::new(source("pkg:npm/none"))).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPackage { .. }), "{error}");
}

#[tokio::test]
async fn a_tarball_is_proved_by_its_integrity_and_the_registrys_signature() {
    let mut bench = Bench::new().await;
    let (secret, other) = (SigningKey::from_slice(&[1; 32]).unwrap(), SigningKey::from_slice(&[2; 32]).unwrap());
    let whole = integrity(TARBALL);
    let signed = version("1.1.0", &whole, Some(&secret));
    let key_id = |fetched: &upstream::Fetched| match &fetched.evidence {
        Evidence::Npm { signed_by, .. } => signed_by.clone(),
        other => panic!("{other:?}"),
    };

    // A registry without keys: the integrity alone.
    bench.publish(&json!({ "1.1.0": signed }));
    let fetched = bench.fetch("1.1.0").await.unwrap();
    assert_eq!(fetched.sha256, hex::encode(Sha256::digest(TARBALL)));
    assert_eq!((fetched.file_name.as_str(), key_id(&fetched)), ("hello-1.1.0.tgz", None));

    bench.server.put(KEYS, Answer::ok(keys(&secret, Value::Null)));
    let fetched = bench.fetch("1.1.0").await.unwrap();
    assert_eq!(key_id(&fetched).as_deref(), Some("one"));
    let Evidence::Npm { package, integrity: stated, .. } = &fetched.evidence else { panic!() };
    assert_eq!((package.as_str(), stated), (NAME, &whole));

    // A key that has expired since counts for what was published in its time.
    bench.server.put(KEYS, Answer::ok(keys(&secret, json!("2025-01-29T00:00:00.000Z"))));
    assert_eq!(key_id(&bench.fetch("1.1.0").await.unwrap()).as_deref(), Some("one"));
    bench.server.put(KEYS, Answer::ok(keys(&secret, json!("2024-01-29T00:00:00.000Z"))));
    let error = bench.fetch("1.1.0").await.unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");

    // Keys named in the settings count, whatever the server says.
    let file = bench.cache.path().join("keys.json");
    std::fs::write(&file, keys(&other, Value::Null)).unwrap();
    bench.keys = Some(file);
    let error = bench.fetch("1.1.0").await.unwrap_err();
    assert!(matches!(&error, Error::Unproved { reason, .. } if reason.contains("not valid")), "{error}");
}

#[tokio::test]
async fn what_is_not_proved_is_not_kept() {
    let bench = Bench::new().await;
    let secret = SigningKey::from_slice(&[1; 32]).unwrap();
    bench.server.put(KEYS, Answer::ok(keys(&secret, Value::Null)));
    let mut only_sha1 = version("1.1.0", "", None);
    only_sha1["dist"] = json!({ "tarball": "files/hello.tgz", "shasum": "00" });
    for (stated, reason) in [
        (version("1.1.0", &integrity(b"other bytes"), Some(&secret)), "sha512 mismatch"),
        (version("1.1.0", &integrity(TARBALL), None), "not signed"),
        (version("1.1.0", "sha1-AAAA", Some(&secret)), "no SHA-512"),
        (only_sha1, "SHA-1"),
    ] {
        bench.server.put(DOCUMENT, Answer::ok(json!({ "versions": { "1.1.0": stated } }).to_string()));
        let error = bench.fetch("1.1.0").await.unwrap_err();
        let unproved = matches!(&error, Error::Unproved { .. } | Error::Digest { .. });
        assert!(unproved && error.to_string().contains(reason), "{reason}: {error}");
        let kept = std::fs::read(error.kept().unwrap().1).unwrap();
        let document = json!({ "versions": { "1.1.0": stated } }).to_string();
        assert!(kept == TARBALL || kept == document.as_bytes(), "{reason}");
    }
    let kept = std::fs::read_dir(bench.cache.path().join("sources")).map_or(0, Iterator::count);
    assert_eq!(kept, 0);
    let error = bench.fetch("9.9.9").await.unwrap_err().to_string();
    assert!(error.contains("9.9.9") && error.contains("1.1.0"), "{error}");
}
