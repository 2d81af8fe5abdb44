//! A git server on the loopback interface, which speaks git's own protocol (`git://`), and
//! repositories to serve.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test helper: what can't be set up ends the test"
)]

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Repositories below one folder, served until dropped.
pub struct GitServer {
    folder: tempfile::TempDir,
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stopping: AtomicBool,
    asked: AtomicUsize,
}

impl GitServer {
    /// A server with no repository yet.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (folder, state) = (tempfile::tempdir().unwrap(), Arc::new(State::default()));
        let (root, shared) = (folder.path().to_owned(), state.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::SeqCst) {
                    return;
                }
                shared.asked.fetch_add(1, Ordering::SeqCst);
                serve(&root, stream.unwrap());
            }
        });
        Self { folder, address, state, thread: Some(thread) }
    }

    /// The address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    /// Connections so far.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// A new repository called `name`, empty.
    pub fn repository(&self, name: &str) -> Repository {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let repository = Repository { folder };
        repository.git(&["init", "--quiet"]);
        repository
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request: a packet with service and path (gitprotocol-pack), then the service's own talk.
fn serve(root: &Path, mut stream: TcpStream) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    let mut request = vec![0; length - 4];
    stream.read_exact(&mut request).unwrap();
    let request = String::from_utf8(request).unwrap();
    let mut parts = request.split('\0');
    let path = parts.next().unwrap().strip_prefix("git-upload-pack /").unwrap().to_owned();
    let protocol = parts.find(|part| part.starts_with("version=")).unwrap_or_default().to_owned();
    let output = OwnedFd::from(stream.try_clone().unwrap());
    let mut child = Command::new("git")
        .args(["upload-pack", "--strict"])
        .arg(root.join(path).join(".git"))
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::spawn(move || child.wait());
}

/// A repository with a work tree.
#[derive(Clone)]
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// Its work tree.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs git in it, at a fixed time by a fixed author; the trimmed output.
    ///
    /// # Panics
    /// When git fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.folder)
            .args(["-c", "init.defaultBranch=main", "-c", "protocol.allow=always", "-c", "advice.detachedHead=false"])
            .args(arguments)
            .envs([("GIT_AUTHOR_NAME", "mill"), ("GIT_AUTHOR_EMAIL", "mill@localhost")])
            .envs([("GIT_COMMITTER_NAME", "mill"), ("GIT_COMMITTER_EMAIL", "mill@localhost")])
            .envs([("GIT_AUTHOR_DATE", "@1700000000 +0000"), ("GIT_COMMITTER_DATE", "@1700000000 +0000")])
            .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes files, and commits everything that is there; the commit.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Puts an annotated tag on the newest commit.
    pub fn tag(&self, name: &str) {
        self.git(&["tag", "--force", "--annotate", "--message", name, name]);
    }
}
