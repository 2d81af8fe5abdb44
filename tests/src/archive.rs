//! A small Debian archive made in the test, signed by a key made in the test and served on the
//! loopback interface, with request counts and faults to switch on.
//!
//! ```
//! use tests::archive::{Archive, ArchiveKey, tarball};
//!
//! let archive = Archive::new(ArchiveKey::generate());
//! archive.add_source("hello", "1.0-1", "hello_1.0.orig.tar.gz", tarball("hello-1.0", 1, &[]));
//! archive.publish();
//! let server = archive.serve();
//! assert!(server.base().starts_with("http://127.0.0.1:"));
//! archive.add_source("hello", "1.1-1", "hello_1.1.orig.tar.gz", tarball("hello-1.1", 2, &[]));
//! archive.publish(); // the same server now lists both versions
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test helper: what can't be set up ends the test"
)]

mod key;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use key::ArchiveKey;
pub use server::Server;

/// What goes wrong with one path.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The next `times` requests get this status.
    Status {
        /// HTTP status.
        code: u16,
        /// How many requests it hits.
        times: u32,
    },
    /// The body ends after this many bytes, with a length header that agrees.
    Truncate(usize),
    /// The connection breaks after this many bytes, short of what the length header promises.
    Break(usize),
    /// Other bytes are served.
    Replace(Vec<u8>),
    /// The body never ends.
    Endless,
}

/// How often a path was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// All requests.
    pub total: u32,
    /// Those answered with 304, "not modified".
    pub unchanged: u32,
}

/// What the release file says, and how it is signed.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `Date`; the time of publishing when `None`.
    pub date: Option<Timestamp>,
    /// `Valid-Until`; left out when `None`.
    pub valid_until: Option<Timestamp>,
    /// Whether files are served by digest, and the release file says so.
    pub by_hash: bool,
    /// Serve only a plain `Release`, as an unsigned archive does.
    pub unsigned: bool,
    /// Serve the unsigned text under the name `InRelease`.
    pub plain_in_release: bool,
    /// Sign with this key, which the keyring lacks.
    pub signed_by: Option<ArchiveKey>,
    /// `Codename` and `Suite` to state in place of the true one.
    pub codename: Option<String>,
}

struct Source {
    suite: String,
    name: String,
    version: String,
    directory: String,
    file: String,
    bytes: Vec<u8>,
    stated: Option<(String, u64)>,
}

#[derive(Default)]
struct State {
    sources: Vec<Source>,
    settings: Settings,
    files: HashMap<String, Arc<[u8]>>,
    others: HashMap<String, Arc<[u8]>>,
    faults: HashMap<String, Fault>,
    requests: BTreeMap<String, Requests>,
}

/// The archive; clones share it.
#[derive(Clone)]
pub struct Archive {
    key: ArchiveKey,
    state: Arc<Mutex<State>>,
}

impl Archive {
    /// An empty archive that `key` signs, with files by digest.
    pub fn new(key: ArchiveKey) -> Self {
        let state = State { settings: Settings { by_hash: true, ..Settings::default() }, ..State::default() };
        Self { key, state: Arc::new(Mutex::new(state)) }
    }

    /// Adds a source package with one source archive to the suite `trixie`.
    pub fn add_source(&self, name: &str, version: &str, file: &str, bytes: Vec<u8>) {
        self.add_source_in("trixie", name, version, file, bytes);
    }

    /// Adds a source package with one source archive to a suite.
    pub fn add_source_in(&self, suite: &str, name: &str, version: &str, file: &str, bytes: Vec<u8>) {
        let initial = name.get(..1).unwrap_or("x");
        self.state().sources.push(Source {
            suite: suite.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            directory: format!("pool/main/{initial}/{name}"),
            file: file.to_owned(),
            bytes,
            stated: None,
        });
    }

    /// Makes the source index state another digest and length for the source archive last added.
    pub fn misstate(&self, sha256: &str, size: u64) {
        let mut state = self.state();
        let last = state.sources.last_mut().expect("a source was added");
        last.stated = Some((sha256.to_owned(), size));
    }

    /// Makes the source index name another folder for the source archive last added.
    pub fn move_to(&self, directory: &str) {
        let mut state = self.state();
        let last = state.sources.last_mut().expect("a source was added");
        last.directory = directory.to_owned();
    }

    /// Serves other bytes beside the archive, below its base, from now on.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes: Arc<[u8]> = bytes.into().into();
        let mut state = self.state();
        state.others.insert(path.to_owned(), bytes.clone());
        state.files.insert(path.to_owned(), bytes);
    }

    /// No longer serves what was put beside the archive.
    pub fn remove(&self, path: &str) {
        let mut state = self.state();
        state.others.remove(path);
        state.files.remove(path);
    }

    /// Changes what the next [`publish`](Self::publish) writes.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Writes indexes and signed release files anew. The suite `trixie` is always there.
    pub fn publish(&self) {
        let mut state = self.state();
        let mut suites = vec!["trixie".to_owned()];
        for source in &state.sources {
            if !suites.contains(&source.suite) {
                suites.push(source.suite.clone());
            }
        }
        let mut files = state.others.clone();
        for suite in suites {
            self.publish_suite(&state, &suite, &mut files);
        }
        for source in &state.sources {
            let path = format!("{}/{}", source.directory, source.file);
            files.insert(path, Arc::from(source.bytes.as_slice()));
        }
        state.files = files;
    }

    fn publish_suite(&self, state: &State, suite: &str, files: &mut HashMap<String, Arc<[u8]>>) {
        let settings = &state.settings;
        let mut text = String::new();
        for source in state.sources.iter().filter(|source| source.suite == suite) {
            text.push_str(&stanza(source));
        }
        let folder = format!("dists/{suite}");
        let mut digests = String::new();
        for (ending, bytes) in [("", text.clone().into_bytes()), (".gz", gzip(text.as_bytes())), (".xz", xz(&text))] {
            let path = format!("main/source/Sources{ending}");
            let sha256 = sha256_hex(&bytes);
            digests.push_str(&format!(" {sha256} {:>8} {path}\n", bytes.len()));
            let bytes: Arc<[u8]> = bytes.into();
            if settings.by_hash {
                files.insert(format!("{folder}/main/source/by-hash/SHA256/{sha256}"), bytes.clone());
            }
            files.insert(format!("{folder}/{path}"), bytes);
        }
        let codename = settings.codename.as_deref().unwrap_or(suite);
        let date = settings.date.unwrap_or_else(Timestamp::now);
        let mut release =
            format!("Origin: Test\nSuite: {codename}\nCodename: {codename}\nDate: {}\n", debian_time(date));
        if let Some(until) = settings.valid_until {
            release.push_str(&format!("Valid-Until: {}\n", debian_time(until)));
        }
        if settings.by_hash {
            release.push_str("Acquire-By-Hash: yes\n");
        }
        release.push_str(&format!("Components: main\nSHA256:\n{digests}"));
        if settings.unsigned {
            files.insert(format!("{folder}/Release"), release.into_bytes().into());
            return;
        }
        let in_release = if settings.plain_in_release {
            release
        } else {
            settings.signed_by.as_ref().unwrap_or(&self.key).clear_sign(&release)
        };
        files.insert(format!("{folder}/InRelease"), in_release.into_bytes().into());
    }

    /// Serves the archive on a port of the loopback interface until the result is dropped.
    pub fn serve(&self) -> Server {
        Server::start(self.clone())
    }

    /// Makes something go wrong with one path, for example `dists/trixie/InRelease`.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state().faults.insert(path.to_owned(), fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How often each path was asked for.
    pub fn requests(&self) -> BTreeMap<String, Requests> {
        self.state().requests.clone()
    }

    /// How often paths that contain `part` were asked for.
    pub fn requests_of(&self, part: &str) -> Requests {
        let mut sum = Requests::default();
        for (_, requests) in self.state().requests.iter().filter(|(path, _)| path.contains(part)) {
            sum.total += requests.total;
            sum.unchanged += requests.unchanged;
        }
        sum
    }

    /// Forgets the counts.
    pub fn forget_requests(&self) {
        self.state().requests.clear();
    }

    /// The bytes served under a path, without its faults.
    pub fn file(&self, path: &str) -> Option<Arc<[u8]>> {
        self.state().files.get(path).cloned()
    }

    /// Writes the keyring, binary, to a file.
    pub fn write_keyring(&self, path: &Path) {
        std::fs::write(path, self.key.public_key()).unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gzipped tar archive with the folder `root` and `files` in it, every time set to `mtime`.
/// Names ending in `.sh`, and `configure`, are executable.
pub fn tarball(root: &str, mtime: u64, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_mtime(mtime);
    header.set_size(0);
    builder.append_data(&mut header, format!("{root}/"), std::io::empty()).unwrap();
    for (name, bytes) in files {
        let executable = name.ends_with(".sh") || name.ends_with("configure");
        let mut header = tar::Header::new_gnu();
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_mtime(mtime);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, format!("{root}/{name}"), *bytes).unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

fn stanza(source: &Source) -> String {
    let (sha256, size) =
        source.stated.clone().unwrap_or_else(|| (sha256_hex(&source.bytes), source.bytes.len() as u64));
    let Source { name, version, directory, file, .. } = source;
    format!(
        "Package: {name}\nBinary: {name}\nVersion: {version}\nMaintainer: Nobody\n\
         Architecture: any\nChecksums-Sha256:\n {sha256} {size} {file}\nDirectory: {directory}\n\n"
    )
}

fn debian_time(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(text: &str) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
