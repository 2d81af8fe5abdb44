//! A loopback server that gives prepared answers and keeps what it was asked.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, ETAG, IF_NONE_MATCH};
use axum::http::{Response, StatusCode};

/// One prepared answer; an `etag` among its headers is compared with `If-None-Match`.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// `Authorization` without which the second, a challenge, is all that is answered.
    private: Option<(String, String)>,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), private: None }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request: path with query, credentials, the status it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub authorization: Option<String>,
    pub status: u16,
}

#[derive(Default)]
struct Inner {
    answers: HashMap<String, Answer>,
    asked: Vec<Asked>,
}

/// The server, which runs as long as the test's runtime; clones share it.
#[derive(Clone)]
pub struct Recorded {
    base: String,
    inner: Arc<Mutex<Inner>>,
}

impl Recorded {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { base, inner: Arc::default() };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Answers a path, its query included, so from now on.
    pub fn put(&self, path: &str, answer: Answer) {
        self.inner.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// Answers a path so to whoever is authorized, and the rest with a challenge.
    pub fn put_private(&self, path: &str, authorization: &str, challenge: &str, answer: Answer) {
        self.put(path, Answer { private: Some((authorization.to_owned(), challenge.to_owned())), ..answer });
    }

    /// Requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inner.lock().unwrap().asked)
    }
}

async fn answer(State(server): State<Recorded>, request: Request) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut inner = server.inner.lock().unwrap();
    let mut answer = inner.answers.get(&path).cloned().unwrap_or_else(|| Answer::status(404));
    if let Some((wanted, challenge)) = answer.private.take()
        && header(AUTHORIZATION).as_ref() != Some(&wanted)
    {
        answer = Answer::status(401).header("www-authenticate", challenge);
    }
    let tag = answer.headers.iter().find(|(name, _)| *name == ETAG.as_str()).map(|(_, value)| value.clone());
    if answer.status == 200 && tag.is_some() && tag == header(IF_NONE_MATCH) {
        answer = Answer::status(304);
    }
    inner.asked.push(Asked { path, authorization: header(AUTHORIZATION), status: answer.status });
    let response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    let response = answer.headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
    response.body(Body::from(answer.body)).unwrap()
}
