//! The one HTTP client: attempts and back-off, limits of time and size, conditional requests.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{
    ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LINK, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{RequestBuilder, Response, StatusCode};
use sha2::{Digest, Sha256, Sha512};

use crate::cache::{Entry, HttpCache};
use crate::error::{Error, Result};
use crate::hosts::{Hosts, jittered};
use crate::rate_limit::Lifted;
use crate::store::{self, Blob, BlobStore, SHA512_DIGITS, sha256_hex};

const REDIRECTS: usize = 10;
/// The longest pause before another attempt; one that the server asks for is cut to it.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How the client behaves.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Answer from the cache alone, never from the network.
    pub offline: bool,
    /// Attempts per request, at least 1.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each later one.
    pub first_wait: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes of a response.
    pub idle_timeout: Duration,
    /// Longest time for one attempt, response included.
    pub total_timeout: Duration,
    /// Requests at once per host, at least 1.
    pub requests_per_host: usize,
    /// For how long a host that could not be reached is not asked again.
    pub unreachable_for: Duration,
    /// What the differences between waits are taken from; another one for each process, so that
    /// processes that failed together don't come again together.
    pub jitter_seed: u64,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            offline: false,
            attempts: 4,
            first_wait: Duration::from_millis(300),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(900),
            requests_per_host: 8,
            unreachable_for: Duration::from_secs(300),
            jitter_seed: 0,
        }
    }
}

/// What a download must turn out to be; what is `None` isn't checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) sha256: Option<String>,
    /// SHA-512, lower-case hexadecimal.
    pub(crate) sha512: Option<String>,
    pub(crate) size: Option<u64>,
}

impl Expected {
    /// Compares with what was found; the SHA-512 counts where one is expected.
    fn check(&self, what: &str, size: u64, sha256: &str, sha512: &str) -> Result<()> {
        if let Some(expected) = self.size.filter(|expected| *expected != size) {
            return Err(Error::Size { what: what.to_owned(), expected, found: size, kept: None });
        }
        check_digest(what, self.sha256.as_deref(), sha256)?;
        check_digest(what, self.sha512.as_deref(), sha512)
    }
}

/// A small response held in memory.
#[derive(Debug, Clone)]
pub struct Document {
    /// The body.
    pub bytes: Bytes,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub sha256: String,
    /// Whether the body came from the cache, the server having said that it is unchanged or
    /// offline mode being on.
    pub cached: bool,
    /// The `Link` header (RFC 8288), which names the next page of a list.
    pub link: Option<String>,
}

/// The HTTP client with its on-disk cache. Safe for many callers at once: one address is asked
/// once at a time, and later callers profit from the first one's cache entry.
#[derive(Debug)]
pub struct Fetcher {
    client: reqwest::Client,
    cache: HttpCache,
    options: FetchOptions,
    hosts: Hosts,
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    /// A client that keeps its cache in `cache_folder`. `clock` gives the time, by which the end of
    /// a rate limit is told.
    pub fn new(
        cache_folder: impl Into<PathBuf>,
        options: FetchOptions,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Result<Self> {
        // Another part of the process may have installed a provider first; either one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirect = reqwest::redirect::Policy::custom(|attempt| {
            let was_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
            if was_https && attempt.url().scheme() != "https" {
                attempt.error("redirect from https to an address without it")
            } else if attempt.previous().len() > REDIRECTS {
                attempt.error("too many redirects")
            } else {
                attempt.follow()
            }
        });
        let client = reqwest::Client::builder()
            .user_agent(concat!("minimill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.idle_timeout)
            .timeout(options.total_timeout)
            .redirect(redirect)
            .build()
            .map_err(|error| Error::Configuration { origin: "HTTP client".to_owned(), reason: chain(&error) })?;
        let hosts = Hosts::new(options.requests_per_host, options.unreachable_for, clock);
        Ok(Self { client, cache: HttpCache::new(cache_folder), options, hosts, busy: Mutex::new(HashMap::new()) })
    }

    /// What is known of the hosts, for providers that ask by other means.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Whether offline mode is on.
    pub fn offline(&self) -> bool {
        self.options.offline
    }

    /// Gets a document of at most `limit` bytes, asking the server only whether it changed when
    /// the cache holds it.
    pub async fn document(&self, url: &str, limit: u64) -> Result<Document> {
        self.document_with(url, &HeaderMap::new(), limit).await
    }

    /// [`document`](Self::document), with more request headers. They are no part of the cache's
    /// key: an address is always asked with the same ones, but for credentials.
    pub(crate) async fn document_with(&self, url: &str, more: &HeaderMap, limit: u64) -> Result<Document> {
        let turn = self.turn(url);
        let _held = turn.lock().await;
        let cached = self.cache.read(url, limit)?;
        if self.options.offline {
            return cached.map(|entry| document(entry, true)).ok_or_else(|| Error::Offline { url: url.to_owned() });
        }
        let mut headers = more.clone();
        if let Some(entry) = &cached {
            conditional(&mut headers, IF_NONE_MATCH, entry.etag.as_deref());
            conditional(&mut headers, IF_MODIFIED_SINCE, entry.last_modified.as_deref());
        }
        let fetched = self
            .attempt(url, || async {
                let response = self.send(url, self.client.get(url).headers(headers.clone())).await?;
                if response.status() == StatusCode::NOT_MODIFIED {
                    return Ok(None);
                }
                let etag = header(&response, ETAG);
                let last_modified = header(&response, LAST_MODIFIED);
                let link = header(&response, LINK);
                let body = read_body(response, url, limit).await?;
                Ok(Some(Entry { etag, last_modified, link, body }))
            })
            .await?;
        match (fetched, cached) {
            (Some(entry), _) => {
                self.cache.write(url, &entry)?;
                Ok(document(entry, false))
            }
            (None, Some(entry)) => Ok(document(entry, true)),
            (None, None) => Err(Error::Status { url: url.to_owned(), status: 304, attempts: 1 }),
        }
    }

    /// Gets at most `limit` bytes without a look at the cache, and keeps nothing there.
    pub(crate) async fn fresh(&self, url: &str, limit: u64) -> Result<Bytes> {
        if self.options.offline {
            return Err(Error::Offline { url: url.to_owned() });
        }
        self.attempt(url, || async { read_body(self.send(url, self.client.get(url)).await?, url, limit).await }).await
    }

    /// Sends `body` with a POST request that changes nothing there, and gets at most `limit` bytes.
    pub(crate) async fn ask(&self, url: &str, headers: &HeaderMap, body: Bytes, limit: u64) -> Result<Bytes> {
        if self.options.offline {
            return Err(Error::Offline { url: url.to_owned() });
        }
        let request = || self.client.post(url).headers(headers.clone()).body(body.clone());
        self.attempt(url, || async { read_body(self.send(url, request()).await?, url, limit).await }).await
    }

    /// Downloads a file of at most `limit` bytes into `blobs`, hashing it on the way. One that has
    /// not the expected digest and size is kept apart, as evidence that the error leads to. A file
    /// that is already there with the expected digest is not asked for again.
    pub(crate) async fn download(&self, url: &str, limit: u64, expected: &Expected, blobs: &BlobStore) -> Result<Blob> {
        let turn = self.turn(url);
        let _held = turn.lock().await;
        if let Some(sha256) = &expected.sha256
            && let Some(blob) = stored(blobs, sha256).await?
        {
            return Ok(blob);
        }
        if self.options.offline {
            return Err(Error::Offline { url: url.to_owned() });
        }
        let limit = expected.size.map_or(limit, |size| size.min(limit));
        self.attempt(url, || self.download_once(url, limit, expected, blobs)).await
    }

    /// Downloads a file of at most `limit` bytes to `path`, where it appears whole or not at all.
    /// Proving it is the caller's.
    pub async fn file(&self, url: &str, limit: u64, path: &Path) -> Result<()> {
        if self.options.offline {
            return Err(Error::Offline { url: url.to_owned() });
        }
        self.attempt(url, || async {
            let response = self.send(url, self.client.get(url)).await?;
            let folder = path.parent().unwrap_or_else(|| Path::new("."));
            let mut file = store::temporary_in(folder)?;
            receive(response, url, limit, &mut file, &mut |_: &[u8]| {}).await?;
            let target = path.to_owned();
            Ok(run_blocking(move || store::keep(file, &target)).await?)
        })
        .await
    }

    async fn download_once(
        &self,
        url: &str,
        limit: u64,
        expected: &Expected,
        blobs: &BlobStore,
    ) -> Result<Blob, Failure> {
        let response = self.send(url, self.client.get(url)).await?;
        let mut file = store::temporary_in(blobs.folder())?;
        let mut hash = Sha256::new();
        let mut long_hash = expected.sha512.is_some().then(Sha512::new);
        let mut hashes = |part: &[u8]| {
            hash.update(part);
            if let Some(hash) = &mut long_hash {
                hash.update(part);
            }
        };
        let size = receive(response, url, limit, &mut file, &mut hashes).await?;
        let sha256 = hex::encode(hash.finalize());
        let sha512 = long_hash.map(|hash| hex::encode(hash.finalize())).unwrap_or_default();
        if let Err(error) = expected.check(url, size, &sha256, &sha512) {
            let path = blobs.refused(&sha256);
            let error = error.keeping(path.clone());
            run_blocking(move || store::keep_in_folder(file, &path)).await?;
            return Err(error.into());
        }
        let path = blobs.path(&sha256);
        let target = path.clone();
        run_blocking(move || store::keep(file, &target)).await?;
        Ok(Blob { path, sha256, size })
    }

    async fn send(&self, url: &str, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(Failure::Unanswered)?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if let Some(challenge) = header(&response, WWW_AUTHENTICATE).filter(|_| status == StatusCode::UNAUTHORIZED) {
            return Err(Error::Unauthorized { url: url.to_owned(), challenge }.into());
        }
        if let Some(lifted) = Lifted::read(status, response.headers()) {
            self.hosts.limited(url, lifted);
            return Err(Error::RateLimited { url: url.to_owned(), lifted }.into());
        }
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        Err(Failure::Status { status, wait })
    }

    async fn attempt<T, F>(&self, url: &str, mut once: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut attempts = 1;
        let mut wait = self.options.first_wait;
        loop {
            let slot = self.hosts.enter(url).await?;
            let failure = match once().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            drop(slot);
            if attempts >= self.options.attempts || !failure.may_pass() {
                let is_unreachable = failure.is_unreachable();
                let error = failure.into_error(url, attempts);
                if let (true, Error::Request { reason, .. }) = (is_unreachable, &error) {
                    self.hosts.unreachable(url, reason);
                }
                return Err(error);
            }
            let pause = failure.asked_wait().unwrap_or(jittered(wait, self.options.jitter_seed, url, attempts));
            let pause = pause.min(LONGEST_WAIT);
            tracing::debug!(url, attempts, ?pause, "request failed; trying again");
            tokio::time::sleep(pause).await;
            attempts += 1;
            wait *= 2;
        }
    }

    fn turn(&self, url: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, turn| Arc::strong_count(turn) > 1);
        busy.entry(url.to_owned()).or_default().clone()
    }
}

/// The stored file with this digest, hashed again off the async threads.
pub(crate) async fn stored(blobs: &BlobStore, sha256: &str) -> Result<Option<Blob>> {
    let (blobs, sha256) = (blobs.clone(), sha256.to_owned());
    run_blocking(move || blobs.verified(&sha256)).await
}

/// Runs blocking work off the async threads.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Io {
            action: "finish work on",
            path: Path::new("background thread").to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

/// Compares a found digest, SHA-256 or SHA-512, with the one that is demanded, if any.
pub(crate) fn check_digest(what: &str, expected: Option<&str>, found: &str) -> Result<()> {
    match expected {
        Some(expected) if expected != found => Err(Error::Digest {
            what: what.to_owned(),
            algorithm: if found.len() == SHA512_DIGITS { "sha512" } else { "sha256" },
            expected: expected.to_owned(),
            found: found.to_owned(),
            kept: None,
        }),
        _ => Ok(()),
    }
}

fn document(entry: Entry, cached: bool) -> Document {
    Document { sha256: sha256_hex(&entry.body), bytes: entry.body, cached, link: entry.link }
}

fn conditional(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| value.parse().ok()) {
        headers.insert(name, value);
    }
}

fn header(response: &Response, name: HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

async fn read_body(mut response: Response, url: &str, limit: u64) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(Failure::transport)? {
        if (body.len() + part.len()) as u64 > limit {
            return Err(Error::TooLarge { url: url.to_owned(), limit }.into());
        }
        body.extend_from_slice(&part);
    }
    Ok(body.into())
}

/// Writes a body of at most `limit` bytes to `file`, hashing it on the way. Returns its size.
async fn receive(
    mut response: Response,
    url: &str,
    limit: u64,
    file: &mut tempfile::NamedTempFile,
    hash: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<u64, Failure> {
    let mut size = 0_u64;
    while let Some(part) = response.chunk().await.map_err(Failure::transport)? {
        size += part.len() as u64;
        if size > limit {
            return Err(Error::TooLarge { url: url.to_owned(), limit }.into());
        }
        hash(&part);
        file.write_all(&part).map_err(Error::io("write", file.path()))?;
    }
    Ok(size)
}

/// One attempt's failure, from which the policy decides whether to try again.
enum Failure {
    /// No response began.
    Unanswered(reqwest::Error),
    Transport(reqwest::Error),
    Status {
        status: StatusCode,
        wait: Option<Duration>,
    },
    Final(Error),
}

impl Failure {
    fn transport(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered(error) | Self::Transport(error) => !(error.is_builder() || error.is_redirect()),
            Self::Status { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Final(_) => false,
        }
    }

    fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unanswered(error) if error.is_connect() || error.is_timeout())
    }

    fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    fn into_error(self, url: &str, attempts: u32) -> Error {
        let url = url.to_owned();
        match self {
            Self::Unanswered(error) | Self::Transport(error) => {
                Error::Request { url, attempts, reason: chain(&error.without_url()) }
            }
            Self::Status { status, .. } => Error::Status { url, status: status.as_u16(), attempts },
            Self::Final(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
