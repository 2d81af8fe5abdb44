//! Connections that break, servers that restart, disks that fill, and who gets credentials.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex, atomic::Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    pkcs8::DecodePrivateKey,
};
use proxy::{Limits, UNLIMITED, proxy};
use registry::{
    CopyOptions, Credentials, Digest, Error, Layouts, Registry, Remote, RemoteOptions, Repository, copy, router,
};
use serde_json::json;
use support::{
    docker_registry, docker_registry_with, open_to_all, push_blob, push_image, remote, repository, serve, tag,
};

fn content(size: u32) -> Vec<u8> {
    (0..size).map(|number| (number % 251) as u8).collect()
}

fn openssl(folder: &Path, arguments: &str) -> bool {
    match Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output() {
        Ok(output) => {
            assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            println!("not run: openssl: {error}");
            false
        }
    }
}

/// Pushes and pulls through connections that break after some bytes, the first `count` of them.
async fn through_breaking_connections(address: String, count: usize) {
    let content = content(2_000_000);
    let name = repository("a");
    let breaking =
        proxy(
            address.clone(),
            move |number| {
                if number < count { Limits { up: 300_000, down: u64::MAX } } else { UNLIMITED }
            },
        )
        .await;
    let client = remote(&breaking.address, 1_000_000);
    let digest = push_blob(&client, &name, &content).await;
    assert!(breaking.connections.load(Ordering::SeqCst) > count, "the connections did break");
    let direct = remote(&address, 1_000_000);
    let blob = direct.blob(&name, digest).await.unwrap().unwrap();
    assert_eq!(blob.read(1 << 22).await.unwrap(), content);

    let breaking =
        proxy(address, move |number| if number < count { Limits { up: u64::MAX, down: 300_000 } } else { UNLIMITED })
            .await;
    let blob = remote(&breaking.address, 1000).blob(&name, digest).await.unwrap().unwrap();
    assert_eq!(blob.read(1 << 22).await.unwrap(), content);
    assert!(breaking.connections.load(Ordering::SeqCst) > count, "the connections did break");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_go_on_where_they_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    through_breaking_connections(serve(Layouts::new(folder.path()), open_to_all()).await, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_with_debians_registry_go_on_where_they_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_running, address)) = docker_registry(folder.path()).await else { return };
    // It forgets an upload whose piece was cut off, so that the copy begins the blob anew.
    let layouts = Layouts::new(folder.path().join("r"));
    let name = repository("a");
    let image = push_image(&layouts, &name, &tag("1"), &"hello".repeat(200_000)).await;
    let breaking =
        proxy(address.clone(), |number| if number < 2 { Limits { up: 300_000, down: u64::MAX } } else { UNLIMITED })
            .await;
    let client = remote(&breaking.address, 500_000);
    let options = CopyOptions { tag: Some(tag("1")), parallel: 1, ..CopyOptions::default() };
    copy((&layouts, &name), &tag("1").into(), (&client, &name), &options).await.unwrap();
    assert!(breaking.connections.load(Ordering::SeqCst) > 2, "the connections did break");
    assert_eq!(remote(&address, 1000).resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index));

    let breaking =
        proxy(address, |number| if number < 3 { Limits { up: u64::MAX, down: 300_000 } } else { UNLIMITED }).await;
    let client = remote(&breaking.address, 1000);
    let pulled = Layouts::new(folder.path().join("pulled"));
    copy((&client, &name), &tag("1").into(), (&pulled, &name), &options).await.unwrap();
    assert_eq!(pulled.resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index));
    assert!(breaking.connections.load(Ordering::SeqCst) > 3, "the connections did break");
}

#[tokio::test]
async fn a_connection_that_always_breaks_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path());
    let name = repository("a");
    let digest = push_blob(&layouts, &name, &content(100_000)).await;
    let address = serve(layouts, open_to_all()).await;
    let stuck =
        proxy(
            address,
            |number| if number == 0 { Limits { up: u64::MAX, down: 50_000 } } else { Limits { up: 0, down: 0 } },
        );
    let blob = remote(&stuck.await.address, 1000).blob(&name, digest).await.unwrap().unwrap();
    let error = blob.read(1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::Http { .. }), "{error}");
}

#[tokio::test]
async fn an_upload_goes_on_with_the_next_server() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name, content) = (Layouts::new(folder.path()), repository("a"), content(600_000));
    remote("127.0.0.1:1", 1);
    let start = |layouts: Layouts| async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::serve(listener, router(layouts, open_to_all()));
        (base, tokio::spawn(async move { server.await.unwrap() }))
    };
    let (base, server) = start(layouts.clone()).await;
    let client = reqwest::Client::new();
    let begun = client.post(format!("{base}/v2/a/blobs/uploads/")).send().await.unwrap();
    let path = begun.headers()["location"].to_str().unwrap().to_owned();
    let patch =
        client.patch(format!("{base}{path}")).header("content-range", "0-399999").body(content[..400_000].to_vec());
    assert_eq!(patch.send().await.unwrap().status(), 202);
    drop(client);
    server.abort();
    let _ = server.await;

    let (base, _server) = start(layouts.clone()).await;
    let client = reqwest::Client::new();
    let status = client.get(format!("{base}{path}")).send().await.unwrap();
    assert_eq!(status.status(), 204);
    let range = status.headers()["range"].to_str().unwrap().to_owned();
    let arrived: usize = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!(arrived <= 400_000, "{range}");
    let digest = Digest::of(&content);
    let put = client.put(format!("{base}{path}?digest={digest}")).body(content[arrived..].to_vec());
    assert_eq!(put.send().await.unwrap().status(), 201);
    assert_eq!(layouts.blob_size(&name, digest).await.unwrap(), Some(600_000));
    let left = std::fs::read_dir(folder.path().join("a/.partial")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of the upload");
    // One that was cancelled leaves nothing either, and an id is no path.
    let begun = client.post(format!("{base}/v2/a/blobs/uploads/")).send().await.unwrap();
    let path = begun.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(client.delete(format!("{base}{path}")).send().await.unwrap().status(), 204);
    assert_eq!(std::fs::read_dir(folder.path().join("a/.partial")).unwrap().count(), 0);
    let outside = client.get(format!("{base}/v2/a/blobs/uploads/..%2Findex.json")).send().await.unwrap();
    assert!(matches!(outside.status().as_u16(), 400 | 404), "{}", outside.status());
}

/// A small file system of its own, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        match Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder.path()).output() {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                println!("not run: mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("not run: mount: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::new("2m") else { return };
    let layouts = Layouts::new(disk.0.path());
    let name = repository("a");
    let address = serve(layouts.clone(), open_to_all()).await;
    let client = remote(&address, 1 << 20);
    let small = push_blob(&client, &name, &content(1000)).await;
    let large = content(4_000_000);
    for piece in [1 << 20, 8 << 20] {
        let client = remote(&address, piece);
        let stream = registry::bytes_stream(large.clone());
        let error = client.put_blob(&name, Digest::of(&large), 4_000_000, stream).await.unwrap_err();
        assert!(matches!(error, Error::Status { status: 507 | 404, .. }), "{error}");
        assert_eq!(layouts.blob_size(&name, Digest::of(&large)).await.unwrap(), None);
        assert_eq!(std::fs::read_dir(disk.0.path().join("a/.partial")).unwrap().count(), 0, "nothing is left");
    }
    push_image(&client, &name, &tag("1"), "there is room again").await;
    assert_eq!(client.blob_size(&name, small).await.unwrap(), Some(1000));
}

#[tokio::test]
async fn credentials_stay_with_the_registry() {
    // The registry, which asks for a password, sends blobs from another place.
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path());
    let name = repository("a");
    let body = content(50_000);
    let digest = push_blob(&layouts, &name, &body).await;
    let asked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let elsewhere = {
        let (asked, body) = (Arc::clone(&asked), body.clone());
        let answer = move |request: Request| async move {
            let given = request.headers().get(header::AUTHORIZATION);
            asked.lock().unwrap().push(given.map(|value| value.to_str().unwrap().to_owned()));
            if request.uri().path() == "/blob" {
                return Response::new(Body::from(body));
            }
            let challenge = r#"Basic realm="give me your password""#;
            Response::builder().status(401).header("www-authenticate", challenge).body(Body::empty()).unwrap()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    };
    for (path, good) in [("blob", true), ("closed", false)] {
        let target = format!("http://{elsewhere}/{path}");
        let app = Router::new().fallback(move |request: Request| async move {
            let authorized = request.headers().contains_key(header::AUTHORIZATION);
            let response = Response::builder();
            let response = match authorized {
                false => response.status(401).header("www-authenticate", r#"Basic realm="r""#),
                true => response.status(StatusCode::TEMPORARY_REDIRECT).header("location", target),
            };
            response.body(Body::empty()).unwrap()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let credentials = Some(Credentials { user: "mill".into(), password: "secret".into() });
        let options = RemoteOptions { credentials, ..RemoteOptions::default() };
        let client = Remote::new(&address, options).unwrap();
        match client.blob(&name, digest).await {
            Ok(blob) if good => assert_eq!(blob.unwrap().read(1 << 20).await.unwrap(), body),
            Err(Error::Status { status: 401, .. }) if !good => {}
            other => panic!("{path}: {:?}", other.map(|blob| blob.map(|blob| blob.size))),
        }
    }
    assert_eq!(*asked.lock().unwrap(), [None, None], "no credentials were sent there");
}

#[tokio::test]
async fn debians_registry_with_passwords_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    // `mill`, with the password `secret`.
    std::fs::write(&users, "mill:$2b$05$qfcfURldLDhBecmRsJ4rDufn76LaiEYw4VieKMyM1SDjptAK6NCZK\n").unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", users.display());
    let Some((_running, address)) = docker_registry_with(folder.path(), "", &auth).await else { return };
    let with = |password: &str| {
        let credentials = Some(Credentials { user: "mill".into(), password: password.into() });
        Remote::new(&address, RemoteOptions { credentials, piece: 1000, ..RemoteOptions::default() }).unwrap()
    };
    let name = repository("team/redis");
    let image = push_image(&with("secret"), &name, &tag("1"), "hello").await;
    push_blob(&with("secret"), &name, &content(5000)).await;
    assert_eq!(with("secret").resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index));
    for client in [with("wrong"), remote(&address, 1000)] {
        let error = client.resolve(&name, &tag("1").into()).await.unwrap_err();
        assert!(matches!(error, Error::Status { status: 401, .. }), "{error}");
    }
}

/// A token service: who knows the password gets the scope that was asked for.
async fn token_service(key: SigningKey, certificate: String, asked: Arc<Mutex<Vec<String>>>) -> String {
    let answer = move |request: Request| {
        let (key, certificate, asked) = (key.clone(), certificate.clone(), Arc::clone(&asked));
        async move {
            let given = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            if given.as_deref() != Some("Basic bWlsbDpzZWNyZXQ=") {
                return Response::builder().status(401).body(Body::empty()).unwrap();
            }
            let url = reqwest::Url::parse(&format!("http://x{}", request.uri())).unwrap();
            let mut access = Vec::new();
            for (_, scope) in url.query_pairs().filter(|(name, _)| name == "scope") {
                asked.lock().unwrap().push(scope.to_string());
                let (kind, rest) = scope.split_once(':').unwrap();
                let (name, actions) = rest.rsplit_once(':').unwrap();
                let actions: Vec<_> = actions.split(',').collect();
                access.push(json!({"type": kind, "name": name, "actions": actions}));
            }
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let head = encode(json!({"typ": "JWT", "alg": "ES256", "x5c": [certificate]}));
            let claims = encode(json!({
                "iss": "issuer", "aud": "registry", "sub": "mill", "jti": "1",
                "iat": now, "nbf": now, "exp": now + 300, "access": access,
            }));
            let signature: Signature = key.sign(format!("{head}.{claims}").as_bytes());
            let token = format!("{head}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
            Response::new(Body::from(json!({"token": token, "expires_in": 300}).to_string()))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}/token")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debians_registry_with_tokens_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out certificate.pem -subj /CN=t -days 30";
    if !openssl(folder.path(), new) {
        return;
    }
    let key = std::fs::read_to_string(folder.path().join("key.pem")).unwrap();
    let pem = std::fs::read_to_string(folder.path().join("certificate.pem")).unwrap();
    let certificate: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let realm = token_service(SigningKey::from_pkcs8_pem(&key).unwrap(), certificate, Arc::clone(&asked)).await;
    let auth = format!(
        "auth: {{token: {{realm: \"{realm}\", service: registry, issuer: issuer, rootcertbundle: {}}}}}\n",
        folder.path().join("certificate.pem").display()
    );
    let Some((_running, address)) = docker_registry_with(folder.path(), "", &auth).await else { return };
    let credentials = Some(Credentials { user: "mill".into(), password: "secret".into() });
    let options = RemoteOptions { credentials, piece: 1000, ..RemoteOptions::default() };
    let client = Remote::new(&address, options).unwrap();
    let (name, other) = (repository("team/redis"), repository("team/other"));
    let image = push_image(&client, &name, &tag("1"), "hello").await;
    push_blob(&client, &name, &content(5000)).await;
    assert_eq!(client.resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index));
    assert!(client.mount_blob(&other, image.layers[0], &name).await.unwrap());
    assert!(client.delete_manifest(&name, &image.index.into()).await.unwrap());
    let asked: std::collections::BTreeSet<_> = asked.lock().unwrap().iter().cloned().collect();
    let scope = |name: &Repository, actions: &str| format!("repository:{name}:{actions}");
    for wanted in [scope(&name, "pull"), scope(&name, "pull,push"), scope(&other, "pull,push")] {
        assert!(asked.contains(&wanted), "{wanted}: {asked:?}");
    }
    let error = remote(&address, 1000).resolve(&name, &tag("1").into()).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    for step in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 30",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=r",
        "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out tls.pem -days 30",
    ] {
        if !openssl(folder.path(), step) {
            return;
        }
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!(", tls: {{certificate: {}, key: {}}}", path("tls.pem"), path("tls.key"));
    let Some((_running, address)) = docker_registry_with(folder.path(), &tls, "").await else { return };
    let endpoint = format!("https://{address}");
    let certificates = std::fs::read(path("ca.pem")).unwrap();
    let client = Remote::new(&endpoint, RemoteOptions { certificates, ..RemoteOptions::default() }).unwrap();
    let image = push_image(&client, &repository("a"), &tag("1"), "hello").await;
    assert_eq!(client.resolve(&repository("a"), &tag("1").into()).await.unwrap(), Some(image.index));
    let retry = registry::Retry { tries: 1, ..registry::Retry::default() };
    let stranger = Remote::new(&endpoint, RemoteOptions { retry, ..RemoteOptions::default() }).unwrap();
    let error = stranger.ping().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let options = RemoteOptions {
        certificates: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
        ..RemoteOptions::default()
    };
    assert!(Remote::new(&endpoint, options).is_err(), "broken certificates are refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_mount_what_another_repository_has() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path().join("r"));
    let (name, other) = (repository("redis"), repository("copy"));
    let image = push_image(&layouts, &name, &tag("1"), "hello").await;
    let Some((_running, address)) = docker_registry(folder.path()).await else { return };
    let client = remote(&address, 1000);
    let options = CopyOptions { tag: Some(tag("1")), ..CopyOptions::default() };
    let first = copy((&layouts, &name), &tag("1").into(), (&client, &name), &options).await.unwrap();
    assert_eq!((first.blobs, first.mounted), (4, 0));
    let options = CopyOptions { mount_from: Some(name.clone()), ..options };
    let second = copy((&layouts, &name), &tag("1").into(), (&client, &other), &options).await.unwrap();
    assert_eq!((second.blobs, second.mounted, second.bytes), (0, 4, 0));
    assert_eq!(client.resolve(&other, &tag("1").into()).await.unwrap(), Some(image.index));
    let third = copy((&layouts, &name), &tag("1").into(), (&client, &other), &options).await.unwrap();
    assert_eq!((third.blobs, third.mounted, third.manifests), (0, 0, 0));
}
