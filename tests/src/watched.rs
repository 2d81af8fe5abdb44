//! A server on loopback, mostly a registry, that notes what it is asked, and leaves requests without an answer on
//! demand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper: what can't be set up ends the test")]

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use registry::{Layouts, RouterOptions, router};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::factory::Factory;

/// Bytes of a request that is handed on.
const MOST_BYTES: usize = 64 << 20;

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Such as `PUT`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The answer's status.
    pub status: u16,
}

type Applies = Box<dyn Fn(&str, &str) -> bool + Send>;

struct Hold {
    /// Of a request's method and target.
    applies: Applies,
    /// So many of those pass first.
    passing: usize,
    /// What is asked is done, and only the answer stays away.
    done: bool,
}

#[derive(Default)]
struct Watch {
    asked: Vec<Asked>,
    hold: Option<Hold>,
    held: usize,
}

/// The server.
pub struct Watched {
    /// `HOST:PORT`.
    pub address: String,
    /// What it runs in, for asynchronous work of the test.
    pub runtime: Runtime,
    watch: Arc<Mutex<Watch>>,
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap()
}

async fn step(State(watch): State<Arc<Mutex<Watch>>>, request: Request, next: Next) -> Response {
    let (method, target) = (request.method().to_string(), request.uri().to_string());
    let held = {
        let mut watch = lock(&watch);
        let held = watch.hold.as_mut().filter(|hold| (hold.applies)(&method, &target)).and_then(|hold| {
            let passes = hold.passing > 0;
            hold.passing = hold.passing.saturating_sub(1);
            (!passes).then_some(hold.done)
        });
        if held == Some(false) {
            watch.held += 1;
        }
        held
    };
    if held == Some(false) {
        std::future::pending::<()>().await;
    }
    let response = next.run(request).await;
    let status = response.status().as_u16();
    lock(&watch).asked.push(Asked { method, target, status });
    if held == Some(true) {
        lock(&watch).held += 1;
        std::future::pending::<()>().await;
    }
    response
}

/// The whole request, its `Host` among the headers, so that the answer leads back here.
async fn hand_on(client: reqwest::Client, url: String, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MOST_BYTES).await.unwrap();
    let answer = client.request(head.method, url).headers(head.headers).body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != header::TRANSFER_ENCODING {
            response = response.header(name, value);
        }
    }
    response.body(answer.bytes().await.unwrap().into()).unwrap()
}

impl Watched {
    /// Serves these routes.
    ///
    /// # Panics
    /// When it can't be set up.
    pub fn over(routes: Router) -> Self {
        let (runtime, watch) = (Runtime::new().unwrap(), Arc::default());
        let routes = routes.layer(from_fn_with_state(Arc::clone(&watch), step));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, runtime, watch }
    }

    /// A registry over a folder, and its repositories, to be read and written beside it.
    ///
    /// # Panics
    /// When it can't be set up.
    pub fn registry(folder: &Path) -> (Self, Layouts) {
        let layouts = Layouts::new(folder);
        let options = RouterOptions { push: true, delete: true, ..RouterOptions::default() };
        (Self::over(router(layouts.clone(), options)), layouts)
    }

    /// Hands on to the server at `target`, `HOST:PORT`.
    ///
    /// # Panics
    /// When it can't be set up.
    pub fn before(target: &str) -> Self {
        // Another test may have installed it, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (client, target) = (reqwest::Client::builder().no_proxy().build().unwrap(), target.to_owned());
        Self::over(Router::new().fallback(move |request: Request| {
            let url = format!("http://{target}{}", request.uri());
            hand_on(client.clone(), url, request)
        }))
    }

    /// From now on requests to which `applies` says yes, given method and target, get no answer after `passing`
    /// of them; with `done` what they ask is done all the same.
    pub fn hold(&self, passing: usize, done: bool, applies: impl Fn(&str, &str) -> bool + Send + 'static) {
        let mut watch = lock(&self.watch);
        watch.held = 0;
        watch.hold = Some(Hold { applies: Box::new(applies), passing, done });
    }

    /// Every request is answered again.
    pub fn release(&self) {
        lock(&self.watch).hold = None;
    }

    /// What was asked and answered since this was called last.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.watch).asked)
    }

    /// Starts a cycle and kills it when one of its requests is held; from then on none is.
    ///
    /// # Panics
    /// When the cycle ends without, or takes longer than two minutes.
    pub fn kill_cycle(&self, factory: &Factory) {
        let mut command = factory.command();
        let mut child = command.arg("cycle").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while lock(&self.watch).held == 0 {
            assert!(begin.elapsed() < Duration::from_secs(120), "no request was held");
            assert!(child.try_wait().unwrap().is_none(), "the cycle ended without a request that is held");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        self.release();
    }
}
