//! A repository that apko's own tests use: signed index, two packages, from a folder and over HTTP.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apk::{Architecture, Dependency, Keyring};
use repositories::{Error, KeySource, Repositories, RepositoryLine, Signatures};
use solve::{Task, solve};
use upstream::{FetchOptions, Fetcher};

fn corpus() -> Option<PathBuf> {
    let corpus = std::env::var_os("MINIMILL_CORPUS")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").into(), PathBuf::from);
    let folder = corpus.join("apk/packages");
    if !folder.is_dir() {
        println!("not run: no corpus at {}", corpus.display());
        return None;
    }
    Some(folder)
}

fn line(text: &str) -> RepositoryLine {
    RepositoryLine::parse(text, &[]).unwrap()
}

fn signatures(folder: &Path) -> Signatures {
    let key = KeySource::parse("melange.rsa.pub", &[folder]).read_local().unwrap();
    Signatures::By(Keyring::new([key]))
}

fn wants() -> [Dependency; 1] {
    ["pretend-baselayout".parse().unwrap()]
}

fn fetcher(cache: &Path, offline: bool) -> Fetcher {
    let options = FetchOptions { offline, attempts: 1, ..FetchOptions::default() };
    Fetcher::new(cache, options, Arc::new(jiff::Timestamp::now)).unwrap()
}

#[tokio::test]
async fn a_folder_is_verified_solved_and_its_package_checked() {
    let Some(folder) = corpus() else { return };
    let lines = [line(folder.to_str().unwrap())];
    let unknown = Signatures::By(Keyring::default());
    let error = Repositories::open_local(&lines, Architecture::X86_64, &unknown).unwrap_err();
    assert!(matches!(error, Error::Apk(apk::Error::UnknownKey { .. })), "{error}");
    let error = Repositories::open_local(&lines, Architecture::Aarch64, &Signatures::Ignored).unwrap_err();
    assert!(matches!(&error, Error::NoIndex { looked, .. } if looked.len() == 2), "{error}");

    let repositories = Repositories::open_local(&lines, Architecture::X86_64, &signatures(&folder)).unwrap();
    let universe = repositories.universe().unwrap();
    let solution = solve(&universe, &Task::new("image", &wants())).unwrap();
    let chosen = solution.packages().next().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (entry, path) = repositories.package(chosen, &fetcher(scratch.path(), true), scratch.path()).await.unwrap();
    assert_eq!(entry.information.name, "pretend-baselayout");
    assert!(path.starts_with(&folder));
}

/// Serves `folder` and counts the answers with a body; `swap` gives one package in place of all.
async fn serve(folder: PathBuf, bodies: Arc<AtomicUsize>, swap: bool) -> String {
    use axum::http::{HeaderMap, StatusCode, Uri, header};
    let answer = move |uri: Uri, headers: HeaderMap| {
        let (folder, bodies) = (folder.clone(), bodies.clone());
        async move {
            let path = uri.path().trim_start_matches('/').to_owned();
            let path = if swap && path.ends_with(".apk") { "x86_64/replayout-1.0.0-r0.apk".to_owned() } else { path };
            let Ok(bytes) = std::fs::read(folder.join(path)) else {
                return (StatusCode::NOT_FOUND, [(header::ETAG, "\"none\"")], Vec::new());
            };
            if headers.contains_key(header::IF_NONE_MATCH) {
                return (StatusCode::NOT_MODIFIED, [(header::ETAG, "\"one\"")], Vec::new());
            }
            bodies.fetch_add(1, Ordering::SeqCst);
            (StatusCode::OK, [(header::ETAG, "\"one\"")], bytes)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await.unwrap() });
    format!("http://{address}")
}

async fn fetch(lines: &[RepositoryLine], trust: &Signatures, home: &Path, offline: bool) -> Result<PathBuf, Error> {
    let fetcher = fetcher(&home.join("http"), offline);
    let repositories = Repositories::open(lines, Architecture::X86_64, trust, &fetcher).await?;
    let universe = repositories.universe()?;
    let solution = solve(&universe, &Task::new("image", &wants())).unwrap();
    let chosen = solution.packages().next().unwrap();
    Ok(repositories.package(chosen, &fetcher, &home.join("packages")).await?.1)
}

#[tokio::test]
async fn over_http_what_is_cached_is_not_fetched_again_and_serves_offline() {
    let Some(folder) = corpus() else { return };
    let bodies = Arc::new(AtomicUsize::new(0));
    let url = serve(folder.clone(), bodies.clone(), false).await;
    let home = tempfile::tempdir().unwrap();
    let lines = [line(&url)];
    let trust = signatures(&folder);
    let error = fetch(&lines, &trust, home.path(), true).await.unwrap_err();
    assert!(matches!(error, Error::Fetch(upstream::Error::Offline { .. })), "{error}");
    let first = fetch(&lines, &trust, home.path(), false).await.unwrap();
    assert_eq!(bodies.load(Ordering::SeqCst), 2);
    assert_eq!(fetch(&lines, &trust, home.path(), false).await.unwrap(), first);
    assert_eq!(fetch(&lines, &trust, home.path(), true).await.unwrap(), first);
    assert_eq!(bodies.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn another_package_than_the_listed_one_is_refused_and_not_kept() {
    let Some(folder) = corpus() else { return };
    let url = serve(folder.clone(), Arc::default(), true).await;
    let home = tempfile::tempdir().unwrap();
    let error = fetch(&[line(&url)], &signatures(&folder), home.path(), false).await.unwrap_err();
    let kept = std::fs::read_dir(home.path().join("packages")).map_or(0, Iterator::count);
    assert_eq!(kept, 0, "{error}");
    assert!(error.to_string().contains("package") || error.to_string().contains("bytes"), "{error}");
}
