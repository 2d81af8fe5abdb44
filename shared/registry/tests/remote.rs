//! The client against a registry that is slow, strict, lying or failing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, header},
    middleware::{Next, from_fn_with_state},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use registry::{Credentials, Digest, Error, Layouts, Registry, Remote, RemoteOptions, router};
use support::{open_to_all, push_blob, push_image, remote, repository, tag};
use tempfile::TempDir;

type Answer = Response<Body>;

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

/// Serves the registry with something in between.
struct Between {
    _folder: TempDir,
    layouts: Layouts,
    address: String,
}

async fn between<S, F, R>(state: S, step: F) -> Between
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Request, Next, String) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    let middle = move |State(state): State<S>, request: Request, next: Next| step(state, request, next, own.clone());
    let app: Router = router(layouts.clone(), open_to_all())
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(from_fn_with_state(state, middle));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Between { _folder: folder, layouts, address }
}

#[tokio::test]
async fn tokens_are_fetched_per_scope_and_kept() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = between(Arc::clone(&asked), |asked, request, next, address| async move {
        let authorization =
            request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        if request.uri().path() == "/token" {
            let expected = format!("Basic {}", STANDARD.encode("mill:secret"));
            if authorization.as_deref() != Some(&expected) {
                return answer(401, &[], "");
            }
            asked.lock().unwrap().push(request.uri().query().unwrap().to_owned());
            return answer(200, &[], r#"{"access_token":"T"}"#);
        }
        if authorization.as_deref() != Some("Bearer T") {
            let challenge = format!(r#"Bearer realm="http://{address}/token",service="registry""#);
            return answer(401, &[("www-authenticate", &challenge)], "");
        }
        next.run(request).await
    })
    .await;
    let credentials = Credentials { user: "mill".into(), password: "secret".into() };
    let options = RemoteOptions { credentials: Some(credentials), ..RemoteOptions::default() };
    let client = Remote::new(&format!("http://{}", server.address), options).unwrap();
    let name = repository("team/redis");
    push_image(&client, &name, &tag("1"), "hello").await;
    assert_eq!(client.tags(&name).await.unwrap(), [tag("1")]);
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    let scope = "service=registry&scope=repository%3Ateam%2Fredis%3Apull";
    assert_eq!(asked, [scope.to_owned(), format!("{scope}%2Cpush")], "one token for each scope");

    let wrong = Credentials { user: "mill".into(), password: "wrong".into() };
    let options = RemoteOptions { credentials: Some(wrong), ..RemoteOptions::default() };
    let client = Remote::new(&format!("http://{}", server.address), options).unwrap();
    let error = client.tags(&name).await.unwrap_err();
    assert!(matches!(&error, Error::Status { status: 401, url, .. } if url.ends_with("/token")), "{error}");
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_reported() {
    let count = Arc::new(AtomicUsize::new(0));
    let server = between(Arc::clone(&count), |count, request, next, _| async move {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(503, &[], ""),
            1 => answer(429, &[("retry-after", "0")], ""),
            _ => next.run(request).await,
        }
    })
    .await;
    let name = repository("a");
    let image = push_image(&server.layouts, &name, &tag("1"), "hello").await;
    let client = remote(&server.address, 100);
    assert_eq!(client.resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index));
    assert_eq!(count.load(Ordering::SeqCst), 3);

    let server = between(Arc::clone(&count), |count, _, _, _| async move {
        count.fetch_add(1, Ordering::SeqCst);
        answer(500, &[], r#"{"errors":[{"code":"UNKNOWN","message":"broken"}]}"#)
    })
    .await;
    let error = remote(&server.address, 100).manifest(&name, &tag("1").into()).await.unwrap_err();
    assert!(matches!(&error, Error::Status { status: 500, message, .. } if message == "UNKNOWN: broken"), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 6, "three tries more");
    let error = remote("127.0.0.1:1", 100).ping().await.unwrap_err();
    assert!(matches!(error, Error::Http { .. }), "{error}");
}

#[tokio::test]
async fn a_piece_is_sent_again_only_if_it_has_not_arrived() {
    // Every second piece is lost, every third arrives but its answer is lost.
    let count = Arc::new(AtomicUsize::new(0));
    let server = between(Arc::clone(&count), |count, request, next, _| async move {
        if request.method() != "PATCH" {
            return next.run(request).await;
        }
        match count.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => next.run(request).await,
            1 => answer(502, &[], ""),
            _ => {
                next.run(request).await;
                answer(504, &[], "")
            }
        }
    })
    .await;
    let name = repository("a");
    let content: Vec<u8> = (0..10_000_u32).map(|number| (number % 251) as u8).collect();
    let client = remote(&server.address, 1024);
    let digest = push_blob(&client, &name, &content).await;
    assert!(count.load(Ordering::SeqCst) > 10);
    let blob = server.layouts.blob(&name, digest).await.unwrap().unwrap();
    assert_eq!(blob.read(1 << 20).await.unwrap(), content);
}

#[tokio::test]
async fn lies_are_noticed() {
    let server = between((), |(), request, next, _| async move {
        let path = request.uri().path().to_owned();
        let mut response = next.run(request).await;
        if path.contains("/manifests/sha256:") {
            let body = r#"{"schemaVersion":2,"manifests":[]}"#;
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(body);
        } else if path.ends_with("/tags/list") {
            let link = header::HeaderValue::from_static(r#"<http://127.0.0.2:1/v2/>; rel="next""#);
            response.headers_mut().insert(header::LINK, link);
        } else if path.contains("/blobs/") && response.status().is_success() {
            let length = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
            *response.body_mut() = Body::from(vec![b'x'; length]);
        }
        response
    })
    .await;
    let name = repository("a");
    let image = push_image(&server.layouts, &name, &tag("1"), "hello").await;
    let client = remote(&server.address, 100);
    let error = client.manifest(&name, &image.index.into()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { expected, .. } if expected == image.index), "{error}");
    let blob = client.blob(&name, image.layers[0]).await.unwrap().unwrap();
    let error = blob.read(1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { expected, .. } if expected == image.layers[0]), "{error}");
    let error = client.tags(&name).await.unwrap_err();
    assert!(error.to_string().contains("another host"), "{error}");
    let absent = Digest::of(b"absent");
    assert_eq!(client.blob_size(&name, absent).await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_asks_for_each_blob_first_and_sends_what_is_missing() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = between(Arc::clone(&asked), |asked, request, next, _| async move {
        let line = format!("{} {}", request.method(), request.uri().path());
        let response = next.run(request).await;
        asked.lock().unwrap().push(format!("{line} {}", response.status().as_u16()));
        response
    })
    .await;
    let (client, name) = (remote(&server.address, 1 << 20), repository("a"));
    let image = push_image(&client, &name, &tag("1"), "hello").await;
    let first: Vec<String> = asked.lock().unwrap().drain(..).collect();
    let count = |lines: &[String], method: &str, part: &str| {
        lines.iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    };
    // Two configurations and two layers.
    assert_eq!(count(&first, "HEAD", "/blobs/sha256:"), 4, "{first:#?}");
    assert_eq!((count(&first, "POST", "/blobs/uploads/"), count(&first, "PUT", "/blobs/uploads/")), (4, 4));
    for layer in &image.layers {
        let position = |part: &str| first.iter().position(|line| line.contains(part)).unwrap();
        assert!(first[position(&layer.to_string())].starts_with("HEAD"), "{first:#?}");
    }
    // The same again: asked for, and not sent.
    push_image(&client, &name, &tag("2"), "hello").await;
    let second: Vec<String> = asked.lock().unwrap().drain(..).collect();
    assert_eq!(count(&second, "HEAD", "/blobs/sha256:"), 4, "{second:#?}");
    assert_eq!((count(&second, "POST", ""), count(&second, "PUT", "/blobs/uploads/")), (0, 0), "{second:#?}");
}

#[tokio::test]
async fn a_mount_that_is_refused_is_no_failure_and_a_failing_registry_is() {
    let status: Arc<AtomicUsize> = Arc::default();
    let server = between(Arc::clone(&status), |status, request, next, _| async move {
        if request.uri().query().is_some_and(|query| query.contains("mount=")) {
            match u16::try_from(status.load(Ordering::SeqCst)).unwrap() {
                0 => {}
                status => return answer(status, &[], ""),
            }
        }
        next.run(request).await
    })
    .await;
    let (client, name, other) = (remote(&server.address, 1 << 20), repository("a"), repository("b"));
    let digest = push_blob(&client, &name, b"a layer").await;
    for refusal in [401, 403, 404, 405] {
        status.store(refusal, Ordering::SeqCst);
        assert!(!client.mount_blob(&other, digest, &name).await.unwrap(), "{refusal}");
    }
    for failure in [400, 500] {
        status.store(failure, Ordering::SeqCst);
        let error = client.mount_blob(&other, digest, &name).await.unwrap_err();
        assert!(error.to_string().contains(&failure.to_string()), "{error}");
    }
    status.store(0, Ordering::SeqCst);
    assert!(!client.mount_blob(&other, digest, &repository("absent")).await.unwrap());
    assert_eq!(server.layouts.blob_size(&other, digest).await.unwrap(), None);
    assert!(client.mount_blob(&other, digest, &name).await.unwrap());
    assert_eq!(server.layouts.blob_size(&other, digest).await.unwrap(), Some(7));
}
