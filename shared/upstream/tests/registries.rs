//! Against the registries that this machine's own clients use. Says `not run` where there are
//! none, or where they can't be reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::path::Path;
use std::time::{Duration, Instant};

use upstream::{
    EndpointSettings, Endpoints, Error, Evidence, FetchOptions, Options, SourceUri, Surroundings, Upstreams, Watch,
};

fn upstreams(cache: &Path, suites: &[&str], offline: bool) -> Upstreams {
    let settings = EndpointSettings {
        debian_suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
        ..EndpointSettings::default()
    };
    let variable = |name: &str| std::env::var(name).ok();
    let surroundings = Surroundings::of_machine(variable, std::env::current_dir().unwrap());
    let endpoints = Endpoints::new(settings.overridden_by(variable), surroundings);
    let fetch =
        FetchOptions { offline, attempts: 2, connect_timeout: Duration::from_secs(5), ..FetchOptions::default() };
    Upstreams::new(endpoints, cache, Options { fetch, ..Options::default() }).unwrap()
}

fn watch(source: &str) -> Watch {
    Watch::new(source.parse::<SourceUri>().unwrap())
}

/// Whether an error only means that there is nothing to run against.
fn not_run(error: &Error) -> bool {
    let absent = matches!(error, Error::Endpoint { .. } | Error::Request { .. } | Error::Keyring { .. });
    if absent {
        println!("not run: {error}");
    }
    absent
}

#[tokio::test(flavor = "multi_thread")]
async fn debian_from_signature_to_source() {
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(cache.path(), &["trixie", "bookworm"], false);
    let names = [
        "memcached",
        "nginx",
        "redis",
        "valkey",
        "pcre2",
        "musl",
        "busybox",
        "zlib",
        "haproxy",
        "openssl",
        "ca-certificates",
        "tzdata",
        "libevent",
        "sqlite3",
        "curl",
    ];
    let started = Instant::now();
    for name in names {
        let mut watch = watch(&format!("pkg:deb/debian/{name}?arch=source"));
        if name == "libevent" {
            watch.rules.strip_suffix = Some("-stable".to_owned());
        }
        let decision = match upstreams.check(&watch).await {
            Err(error) if not_run(&error) => return,
            decision => decision.unwrap(),
        };
        let chosen = decision.chosen.expect(name);
        println!("{name} {} ({})", chosen.version, chosen.label.unwrap_or_default());
    }
    println!("first check of {} packages: {:?}", names.len(), started.elapsed());

    let again = self::upstreams(cache.path(), &["trixie", "bookworm"], false);
    let started = Instant::now();
    for name in names {
        again.check(&watch(&format!("pkg:deb/debian/{name}?arch=source"))).await.unwrap();
    }
    println!("second check, new process: {:?}", started.elapsed());
    let started = Instant::now();
    for name in names {
        again.check(&watch(&format!("pkg:deb/debian/{name}?arch=source"))).await.unwrap();
    }
    println!("third check, same process: {:?}", started.elapsed());

    for name in ["memcached", "busybox", "zlib", "nginx"] {
        let source = format!("pkg:deb/debian/{name}?arch=source");
        let decision = again.check(&watch(&source)).await.unwrap();
        let version = decision.chosen.unwrap().upstream;
        let source: SourceUri = format!("pkg:deb/debian/{name}@{version}?arch=source").parse().unwrap();
        let fetched = again.fetch(&source, None).await.unwrap();
        let epoch = fetched.newest_mtime().unwrap();
        println!("{source}: {} {} {epoch}", fetched.file_name, fetched.sha256);
        assert!(epoch > 1_500_000_000, "{epoch}");
        let Evidence::Debian { signers, sha256, .. } = &fetched.evidence else { panic!() };
        assert!(!signers.is_empty());
        assert_eq!(*sha256, fetched.sha256);
        let offline = self::upstreams(cache.path(), &["trixie"], true);
        let recalled = offline.fetch(&source, Some(&fetched.sha256)).await.unwrap();
        assert_eq!(recalled.evidence, fetched.evidence);
    }
    let missing: SourceUri = "pkg:deb/debian/memcached@0.0.1?arch=source".parse().unwrap();
    let error = again.fetch(&missing, None).await.unwrap_err().to_string();
    assert!(error.contains("0.0.1") && error.contains("it has 1."), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cargo_from_index_to_crate() {
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(cache.path(), &["trixie"], false);
    let decision = match upstreams.check(&watch("pkg:cargo/semver")).await {
        Err(error) if not_run(&error) => return,
        decision => decision.unwrap(),
    };
    let version = decision.chosen.unwrap().version;
    println!("semver {version}, {} considered", decision.considered.len());
    let source: SourceUri = format!("pkg:cargo/semver@{version}").parse().unwrap();
    let fetched = upstreams.fetch(&source, None).await.unwrap();
    assert_eq!(fetched.file_name, format!("semver-{version}.crate"));
    assert!(matches!(fetched.evidence, Evidence::Cargo { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn pypi_from_index_to_source_archive() {
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(cache.path(), &["trixie"], false);
    let decision = match upstreams.check(&watch("pkg:pypi/iniconfig")).await {
        Err(error) if not_run(&error) => return,
        decision => decision.unwrap(),
    };
    let version = decision.chosen.unwrap().upstream;
    println!("iniconfig {version}, {} considered", decision.considered.len());
    let source: SourceUri = format!("pkg:pypi/iniconfig@{version}").parse().unwrap();
    let fetched = upstreams.fetch(&source, None).await.unwrap();
    assert_eq!(fetched.file_name, format!("iniconfig-{version}.tar.gz"));
    assert!(matches!(fetched.evidence, Evidence::Pypi { .. }));
}

/// A file of the archive, which the mirror may not have.
async fn archive_file(upstreams: &Upstreams, path: &str) -> Option<Vec<u8>> {
    let base = upstreams.context().endpoints.debian().unwrap().base;
    let document = upstreams.context().fetcher.document(&format!("{base}/{path}"), 16 << 20).await;
    document.map_err(|error| println!("not run: {error}")).ok().map(|document| document.bytes.to_vec())
}

/// Upstream's key as the Debian maintainers pin it, in the packaging of a source.
async fn signing_key(upstreams: &Upstreams, evidence: &Evidence) -> Option<Vec<u8>> {
    use std::io::Read;
    let Evidence::Debian { file, package, version, .. } = evidence else { panic!("{evidence:?}") };
    let folder = file.rsplit_once('/').unwrap().0;
    let version = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
    let path = format!("{folder}/{package}_{version}.debian.tar.xz");
    let packed = archive_file(upstreams, &path).await?;
    let mut packaging = tar::Archive::new(liblzma::read::XzDecoder::new(packed.as_slice()));
    for entry in packaging.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with("debian/upstream/signing-key.asc") {
            let mut key = Vec::new();
            entry.read_to_end(&mut key).unwrap();
            return Some(key);
        }
    }
    println!("not run: `{path}` pins no key");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_sign_what_debian_ships() {
    use authenticity::{Judged, Keyring, verify_detached};
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(cache.path(), &["trixie"], false);
    let mut verified = Vec::new();
    for (name, version) in [("musl", "1.2.5"), ("libtasn1-6", "4.20.0"), ("xz-utils", "5.8.1"), ("nano", "8.4")] {
        let source: SourceUri = format!("pkg:deb/debian/{name}@{version}?arch=source").parse().unwrap();
        let fetched = match upstreams.fetch(&source, None).await {
            Ok(fetched) => fetched,
            Err(error) if not_run(&error) => return,
            Err(error) => {
                println!("not run: {name}: {error}");
                continue;
            }
        };
        let Some(key) = signing_key(&upstreams, &fetched.evidence).await else { continue };
        let signature = match upstreams.upstream_signature(&source, &fetched.sha256).await {
            Ok(Some(signature)) => signature,
            other => {
                println!("not run: {name}: {other:?}");
                continue;
            }
        };
        let keyring = Keyring::parse([("signing-key.asc", key.as_slice())]).unwrap();
        let now = jiff::Timestamp::now();
        let judge = |bytes: &[u8]| verify_detached(&keyring, &signature, bytes, Judged::AtSigning, now);
        let mut bytes = std::fs::read(&fetched.path).unwrap();
        // musl's upstream signs over SHA-1 to this day, so its signature proves nothing.
        if name == "musl" {
            let error = judge(&bytes).unwrap_err().to_string();
            assert!(error.contains("SHA1 is too weak"), "{error}");
            continue;
        }
        let evidence = judge(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        verified.push(format!("{name} {version}: {}", evidence.summary()));
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        assert!(judge(&bytes).is_err(), "{name} with a changed byte");
        bytes.truncate(middle);
        assert!(judge(&bytes).is_err(), "{name} cut");
    }
    println!("verified: {verified:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_from_document_to_tarball() {
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(cache.path(), &["trixie"], false);
    for name in ["left-pad", "%40types/estree"] {
        let decision = match upstreams.check(&watch(&format!("pkg:npm/{name}"))).await {
            Err(error) if not_run(&error) => return,
            decision => decision.unwrap(),
        };
        // All of a package's versions may be deprecated; they are there all the same.
        let version = decision.chosen.map_or_else(|| decision.considered[0].version.clone(), |chosen| chosen.version);
        println!("{name} {version}, {} considered", decision.considered.len());
        let source: SourceUri = format!("pkg:npm/{name}@{version}").parse().unwrap();
        let fetched = upstreams.fetch(&source, None).await.unwrap();
        let Evidence::Npm { integrity, signed_by, .. } = &fetched.evidence else { panic!() };
        assert!(integrity.starts_with("sha512-"), "{integrity}");
        match signed_by {
            Some(key) => println!("signed by {key}"),
            None => println!("not run: signatures, because this registry publishes no keys"),
        }
        assert!(fetched.newest_mtime().is_ok());
    }
}
