//! Registries in ECR: as ministack plays it, and what only AWS does as a stand-in of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../../../tests/contract/faults.rs"]
mod faults;
#[path = "../../registry/tests/support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ecr::{Address, Ecr};
use faults::{FaultProxy, How};
use registry::{Digest, Error, Layouts, Provider, Registry, Remote, RemoteOptions, router};
use serde_json::json;
use support::{open_to_all, push_blob, push_image, repository, tag};

fn config(endpoint: &str) -> SdkConfig {
    let credentials = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials)
        .endpoint_url(endpoint)
        .http_client(ecr::http_client())
        .build()
}

fn remote(address: &str, provider: Arc<dyn Provider>) -> Remote {
    Remote::new(address, RemoteOptions { provider: Some(provider), piece: 1000, ..RemoteOptions::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repositories_are_made_before_a_push_and_images_removed_in_ecr_as_ministack_plays_it() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let environment = [("GATEWAY_PORT", port.to_string())];
    let address = format!("127.0.0.1:{port}");
    let Some(_running) = support::start("ministack", &[], &environment, &address).await else { return };
    let config = config(&format!("http://{address}"));
    let ecr = || Arc::new(Ecr::new(&config, None));
    let client = remote(&address, ecr()).below(repository("team"));
    let name = repository("redis");
    assert_eq!(client.repositories().await.unwrap(), []);
    assert_eq!(client.tags(&name).await.unwrap(), []);
    let image = push_image(&client, &name, &tag("8.2"), "hello").await;
    assert_eq!(client.resolve(&name, &tag("8.2").into()).await.unwrap(), Some(image.index));
    assert_eq!(client.repositories().await.unwrap(), std::slice::from_ref(&name));

    // Timestamp tags are immutable there; another process finds the repository made.
    let api = aws_sdk_ecr::Client::new(&config);
    let described = api.describe_repositories().send().await.unwrap();
    let found = &described.repositories()[0];
    assert_eq!(found.repository_name(), Some("team/redis"));
    assert_eq!(found.image_tag_mutability().unwrap().as_str(), "MUTABLE_WITH_EXCLUSION");
    let again = remote(&address, ecr()).below(repository("team"));
    let content: Vec<u8> = (0..4567_u32).map(|number| (number % 251) as u8).collect();
    let digest = push_blob(&again, &name, &content).await;
    let blob = again.blob(&name, digest).await.unwrap().unwrap();
    assert_eq!(blob.read(10_000).await.unwrap(), content);
    assert_eq!(api.describe_repositories().send().await.unwrap().repositories().len(), 1);

    let bundle = registry::attach(&client, &name, image.index, b"{}", "https://example.org/t", None).await.unwrap();
    let referrers = client.referrers(&name, image.index, None).await.unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0].digest().to_string(), bundle.to_string());

    assert!(client.delete_manifest(&name, &image.index.into()).await.unwrap());
    assert!(!client.delete_manifest(&name, &image.index.into()).await.unwrap());
    assert!(!client.delete_manifest(&repository("absent"), &image.index.into()).await.unwrap());
    let listed = api.list_images().repository_name("team/redis").send().await.unwrap();
    let is_left = |digest: &Digest| {
        listed.image_ids().iter().any(|image| image.image_digest() == Some(digest.to_string().as_str()))
    };
    assert!(!is_left(&image.index));
    assert!(image.platforms.iter().all(is_left));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_ecr_is_asked_again_and_a_repository_is_made_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (environment, address) = ([("GATEWAY_PORT", port.to_string())], format!("127.0.0.1:{port}"));
    let Some(_running) = support::start("ministack", &[], &environment, &address).await else { return };
    let proxy = FaultProxy::before(&address).await;
    let config = config(&proxy.url);
    let client = || remote(&address, Arc::new(Ecr::new(&config, None))).below(repository("team"));
    for (number, how) in
        [How::json(400, "ThrottlingException"), How::json(500, "ServerException"), How::Lost, How::Done]
            .into_iter()
            .enumerate()
    {
        proxy.spoil(".GetAuthorizationToken", 1, how.clone());
        let name = repository(&format!("busy-{number}"));
        assert_eq!(Ecr::new(&config, None).credentials().await.unwrap().user, "AWS", "{how:?}");
        assert_eq!(proxy.came(".GetAuthorizationToken"), 2, "{how:?}");
        for call in [".DescribeRepositories", ".CreateRepository"] {
            proxy.spoil(call, 1, how.clone());
        }
        let image = push_image(&client(), &name, &tag("1"), "hello").await;
        assert_eq!(client().resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index), "{how:?}");
        assert_eq!(proxy.came(".CreateRepository"), 2, "{how:?}");
    }
    assert_eq!(client().repositories().await.unwrap().len(), 4);
    proxy.came("");
    proxy.spoil(".GetAuthorizationToken", u32::MAX, How::json(400, "ExpiredTokenException"));
    let error = Ecr::new(&config, None).credentials().await.unwrap_err();
    assert!(matches!(&error, Error::Provider { action: "GetAuthorizationToken", .. }), "{error}");
    assert!(error.to_string().contains("ExpiredTokenException"), "{error}");
    assert!(proxy.came(".GetAuthorizationToken") <= 3);
}

/// ECR's interface: what it answers is decided by the name of the call.
#[derive(Clone, Default)]
struct StandIn {
    calls: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn calls(&self, action: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| *call == action).count()
    }
}

fn refused(kind: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"__type": kind, "message": "told by the test"}))).into_response()
}

/// The first token is about to run out, the next ones last.
async fn interface(State(stand_in): State<StandIn>, headers: HeaderMap, body: String) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let action = target.strip_prefix("AmazonEC2ContainerRegistry_V20150921.").unwrap().to_owned();
    assert!(headers["authorization"].to_str().unwrap().contains("/ecr/aws4_request"), "the call is signed");
    stand_in.calls.lock().unwrap().push(action.clone());
    match action.as_str() {
        "GetAuthorizationToken" => {
            let mut tokens = stand_in.tokens.lock().unwrap();
            let token = STANDARD.encode(format!("AWS:password-{}", tokens.len()));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let lasts = if tokens.is_empty() { 300 } else { 12 * 3600 };
            tokens.push(token.clone());
            let data = json!({"authorizationToken": token, "expiresAt": now + lasts, "proxyEndpoint": "x"});
            Json(json!({"authorizationData": [data]})).into_response()
        }
        "DescribeRepositories" => refused("RepositoryNotFoundException"),
        "CreateRepository" if body.contains("forbidden") => refused("AccessDeniedException"),
        // Another process was faster.
        "CreateRepository" => refused("RepositoryAlreadyExistsException"),
        "BatchDeleteImage" => {
            let failure = json!({"failureCode": "ImageReferencedByManifestList", "failureReason": "told by the test"});
            Json(json!({"imageIds": [], "failures": [failure]})).into_response()
        }
        other => panic!("{other}"),
    }
}

/// The registry itself, which lets in who has the newest token.
async fn guarded(State(stand_in): State<StandIn>, request: Request, next: Next) -> Response {
    let newest = stand_in.tokens.lock().unwrap().last().map(|token| format!("Basic {token}"));
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    if newest.is_none() || given != newest.as_deref() {
        let challenge = r#"Basic realm="https://ecr.example/",service="ecr.amazonaws.com""#;
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    next.run(request).await
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_fetched_anew_before_they_run_out_and_refusals_are_told() {
    let stand_in = StandIn::default();
    let endpoint = serve(Router::new().route("/", post(interface)).with_state(stand_in.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let routes = router(Layouts::new(folder.path()), open_to_all());
    let registry = serve(routes.layer(from_fn_with_state(stand_in.clone(), guarded))).await;
    let address = Address { account: "123456789012".into(), region: "eu-west-1".into() };
    let client = remote(&registry, Arc::new(Ecr::new(&config(&endpoint), Some(address))));
    let name = repository("team/redis");
    let image = push_image(&client, &name, &tag("1"), "hello").await;
    assert_eq!(client.tags(&name).await.unwrap(), [tag("1")]);
    assert_eq!(stand_in.calls("GetAuthorizationToken"), 2, "the second lasts");
    assert_eq!(stand_in.calls("CreateRepository"), 1, "once for all that is pushed to it");

    let error = push_to(&client, "team/forbidden").await;
    assert!(matches!(&error, Error::Provider { action: "CreateRepository", .. }), "{error}");
    assert!(error.to_string().contains("AccessDeniedException"), "{error}");
    let error = client.delete_manifest(&name, &image.platforms[0].into()).await.unwrap_err().to_string();
    assert!(error.contains("ImageReferencedByManifestList: told by the test"), "{error}");
}

async fn push_to(client: &Remote, name: &str) -> Error {
    client.put_blob(&repository(name), Digest::of(b"x"), 1, registry::bytes_stream(&b"x"[..])).await.unwrap_err()
}
