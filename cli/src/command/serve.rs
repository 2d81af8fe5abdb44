use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{self, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ports::local::Home;
use registry::{Layouts, RouterOptions, router};
use tokio::fs::File;
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;

use crate::arguments::Global;
use crate::factory::configuration;
use crate::output::{self, Failure, OrFail};

pub async fn run(global: &Global, listen: SocketAddr, writable: bool) -> Result<u8, Failure> {
    let home = Home::open(&global.home).or_environment()?;
    serve(&home, listen, writable, ended()).await?;
    Ok(0)
}

/// Serves a home until `stop` is done.
pub async fn serve(
    home: &Home,
    listen: SocketAddr,
    writable: bool,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::environment(format!("listen on {listen}: {error}")))?;
    let address = listener.local_addr().or_environment()?;
    let immutable_tags = configuration(home.root())?.registry.immutable_tags()?;
    let options = RouterOptions { push: writable, immutable_tags, ..RouterOptions::default() };
    let layouts = Layouts::new(home.path("registry"));
    layouts.clean(SystemTime::now()).or_environment()?;
    let router = router(layouts, options).merge(packages(home));
    output::text(format!("serving http://{address}/v2/ (OCI registry) and http://{address}/apk/ (apk repository)"))?;
    axum::serve(listener, router).with_graceful_shutdown(stop).await.or_environment()
}

/// Done when the process is asked to end, by SIGINT or SIGTERM.
pub async fn ended() {
    let interrupted = tokio::signal::ctrl_c();
    let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        // Without a handler for SIGTERM, SIGINT still ends the server in order.
        let _ = interrupted.await;
        return;
    };
    tokio::select! {
        _ = interrupted => {}
        _ = terminated.recv() => {}
    }
}

#[derive(Clone)]
struct Packages {
    folder: PathBuf,
    keys: PathBuf,
}

/// The apk repository: `/apk/ARCH/FILE`, and its public key at `/apk/keys/NAME.rsa.pub`.
fn packages(home: &Home) -> Router {
    let state = Packages { folder: home.path("apk"), keys: home.path("keys") };
    Router::new().route("/apk/{folder}/{file}", get(file)).with_state(state)
}

async fn file(
    State(packages): State<Packages>,
    extract::Path((folder, name)): extract::Path<(String, String)>,
) -> Response {
    let plain = |part: &str| !part.starts_with('.') && !part.contains(['/', '\\', '\0']);
    let path = match folder.as_str() {
        "keys" if plain(&name) && name.ends_with(".pub") => packages.keys.join(&name),
        architecture
            if plain(&name)
                && architecture.parse::<apk::Architecture>().is_ok_and(|known| known.apk() == architecture) =>
        {
            packages.folder.join(architecture).join(&name)
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match open(&path).await {
        Ok(Some((opened, size))) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, size.to_string()),
            ];
            (headers, Body::from_stream(ReaderStream::new(opened))).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(path = %path.display(), "{error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A regular file and its size, or nothing where there is none or its name can't be one.
async fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    let opened = match File::open(path).await {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let metadata = opened.metadata().await?;
    Ok(metadata.is_file().then_some((opened, metadata.len())))
}
