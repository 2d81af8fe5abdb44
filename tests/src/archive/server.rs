//! The loopback server of an archive.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test helper: what can't be set up ends the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use axum::http::{Response, StatusCode};
use futures_util::stream;

use super::{Archive, Fault, sha256_hex};

/// A running server; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    folder: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(archive: Archive) -> Self {
        let folder = tempfile::tempdir().unwrap();
        archive.write_keyring(&folder.path().join("archive.gpg"));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        // Its own thread and runtime, so that synchronous tests can use it too.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = Router::new().fallback(answer).with_state(archive);
                let serving = axum::serve(listener, router);
                tokio::select! {
                    result = serving => result.unwrap(),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, folder, stop: Some(stop), thread: Some(thread) }
    }

    /// The archive's base address.
    pub fn base(&self) -> String {
        format!("http://{}/debian", self.address)
    }

    /// The keyring file, binary, with the archive's key.
    pub fn keyring(&self) -> PathBuf {
        self.folder.path().join("archive.gpg")
    }

    /// A folder that lives as long as the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(State(archive): State<Archive>, request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches("/debian/").to_owned();
    let mut state = archive.state();
    let unchanged = state.files.get(&path).is_some_and(|bytes| {
        let tag = format!("\"{}\"", sha256_hex(bytes));
        request.headers().get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes())
    });
    let fault = state.faults.get_mut(&path).and_then(|fault| match fault {
        Fault::Status { times: 0, .. } => None,
        Fault::Status { times, .. } => {
            *times -= 1;
            Some(fault.clone())
        }
        other => Some(other.clone()),
    });
    let counts = state.requests.entry(path.clone()).or_default();
    counts.total += 1;
    counts.unchanged += u32::from(unchanged && fault.is_none());
    let Some(bytes) = state.files.get(&path).cloned() else {
        return empty(StatusCode::NOT_FOUND);
    };
    drop(state);
    match fault {
        None if unchanged => empty(StatusCode::NOT_MODIFIED),
        None => whole(bytes.to_vec()),
        Some(Fault::Status { code, .. }) => empty(StatusCode::from_u16(code).unwrap()),
        Some(Fault::Truncate(length)) => whole(bytes.iter().copied().take(length).collect()),
        Some(Fault::Replace(other)) => whole(other),
        Some(Fault::Break(length)) => {
            let part: Vec<u8> = bytes.iter().copied().take(length).collect();
            let parts = vec![Ok(Bytes::from(part)), Err(std::io::Error::other("broken off"))];
            Response::builder()
                .header(CONTENT_LENGTH, bytes.len())
                .body(Body::from_stream(stream::iter(parts)))
                .unwrap()
        }
        Some(Fault::Endless) => {
            let block = Bytes::from(vec![b'x'; 64 * 1024]);
            let endless = std::iter::repeat_with(move || Ok::<_, Infallible>(block.clone()));
            Response::new(Body::from_stream(stream::iter(endless)))
        }
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn whole(bytes: Vec<u8>) -> Response<Body> {
    Response::builder()
        .header(ETAG, format!("\"{}\"", sha256_hex(&bytes)))
        .header(LAST_MODIFIED, "Sat, 21 Nov 2026 09:15:44 GMT")
        .body(Body::from(bytes))
        .unwrap()
}
