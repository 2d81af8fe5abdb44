//! The interface under `/v2/`, case by case from the distribution specification.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use registry::{Credentials, Digest, Error, Layouts, Registry, Remote, RemoteOptions, RouterOptions, TagRule};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use support::{open_to_all, push_blob, push_image, push_platform, remote, repository, serve, tag};
use tempfile::TempDir;

struct Fixture {
    _folder: TempDir,
    layouts: Layouts,
    base: String,
    client: Client,
}

impl Fixture {
    async fn new(options: RouterOptions) -> Self {
        // The client needs a provider of cryptography even for plain HTTP.
        Remote::new("http://127.0.0.1:1", RemoteOptions::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let layouts = Layouts::new(folder.path().join("r"));
        let address = serve(layouts.clone(), options).await;
        let base = format!("http://{address}");
        Self { _folder: folder, layouts, base, client: Client::new() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.into() } else { format!("{}{path}", self.base) };
        self.client.request(method, url)
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn begin(&self, name: &str) -> String {
        let response = self.request(Method::POST, &format!("/v2/{name}/blobs/uploads/")).send().await.unwrap();
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).unwrap_or_else(|| panic!("no header {name}"));
    value.to_str().unwrap().to_owned()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json");
    let body: Value = response.json().await.unwrap();
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn pulling() {
    let fixture = Fixture::new(RouterOptions::default()).await;
    let name = repository("team/redis");
    let image = push_image(&fixture.layouts, &name, &tag("1"), "hello").await;
    for path in ["/v2", "/v2/"] {
        let response = fixture.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    }
    for reference in ["1".to_owned(), image.index.to_string()] {
        let path = format!("/v2/team/redis/manifests/{reference}");
        let head = fixture.request(Method::HEAD, &path).send().await.unwrap();
        let get = fixture.get(&path).await;
        for response in [&head, &get] {
            assert_eq!(response.status(), 200);
            assert_eq!(header(response, "docker-content-digest"), image.index.to_string());
            assert_eq!(header(response, "content-type"), "application/vnd.oci.image.index.v1+json");
        }
        let length: usize = header(&head, "content-length").parse().unwrap();
        let body = get.bytes().await.unwrap();
        assert_eq!((Digest::of(&body), body.len()), (image.index, length));
        assert!(head.bytes().await.unwrap().is_empty());
    }
    let path = format!("/v2/team/redis/blobs/{}", image.layers[0]);
    let head = fixture.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let size: usize = header(&head, "content-length").parse().unwrap();
    let whole = fixture.get(&path).await.bytes().await.unwrap();
    assert_eq!((Digest::of(&whole), whole.len()), (image.layers[0], size));

    for (range, start, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=100-".to_owned(), 100, size),
        ("bytes=-7".to_owned(), size - 7, size),
        (format!("bytes=5-{}", size * 2), 5, size),
    ] {
        let response = fixture.request(Method::GET, &path).header("range", range).send().await.unwrap();
        assert_eq!(response.status(), 206);
        assert_eq!(header(&response, "content-range"), format!("bytes {start}-{}/{size}", end - 1));
        assert_eq!(response.bytes().await.unwrap(), whole[start..end]);
    }
    let beyond = fixture.request(Method::GET, &path).header("range", format!("bytes={size}-"));
    let response = beyond.send().await.unwrap();
    assert_eq!(response.status(), 416);
    assert_eq!(header(&response, "content-range"), format!("bytes */{size}"));

    let absent = Digest::of(b"absent");
    for (path, status, expected) in [
        ("/v2/team/redis/manifests/2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/redis/manifests/{absent}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/redis/manifests/{}", image.layers[0]), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/redis/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
        ("/v2/absent/manifests/1".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/absent/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/team/redis/blobs/sha256:00".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/Team/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a%2f..%2f..%2fetc/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/team/redis/other".to_owned(), 404, "UNSUPPORTED"),
    ] {
        assert_eq!(code(fixture.get(&path).await).await, (status, expected.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn pushes_and_deletes_are_refused_unless_enabled() {
    let fixture = Fixture::new(RouterOptions::default()).await;
    let name = repository("a");
    let image = push_image(&fixture.layouts, &name, &tag("1"), "hello").await;
    for (method, path, expected) in [
        (Method::POST, "/v2/a/blobs/uploads/".to_owned(), (403, "DENIED")),
        (Method::PUT, "/v2/a/manifests/1".to_owned(), (403, "DENIED")),
        (Method::PATCH, "/v2/a/blobs/uploads/x".to_owned(), (403, "DENIED")),
        (Method::DELETE, "/v2/a/manifests/1".to_owned(), (405, "UNSUPPORTED")),
        (Method::DELETE, format!("/v2/a/blobs/{}", image.layers[0]), (405, "UNSUPPORTED")),
    ] {
        let found = code(fixture.request(method, &path).send().await.unwrap()).await;
        assert_eq!(found, (expected.0, expected.1.to_owned()), "{path}");
    }
    let error = remote(&fixture.base[7..], 100)
        .put_blob(&name, Digest::of(b"x"), 1, registry::bytes_stream(&b"x"[..]))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Status { status: 403, message, .. } if message.contains("DENIED: this registry takes no pushes")),
        "{error}"
    );
}

#[tokio::test]
async fn blobs_are_pushed_in_every_way() {
    let fixture = Fixture::new(open_to_all()).await;
    let content = b"0123456789".to_vec();
    let digest = Digest::of(&content);
    let uploaded = |response: Response| async move {
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        header(&response, "location")
    };

    // POST then PUT; with the digest percent-encoded.
    let location = fixture.begin("one").await;
    let put = format!("{location}?digest=sha256%3A{}", digest.hex());
    let response = fixture.request(Method::PUT, &put).body(content.clone()).send().await.unwrap();
    let blob = uploaded(response).await;
    assert_eq!(fixture.get(&blob).await.bytes().await.unwrap(), content);

    // POST alone.
    let post = format!("/v2/two/blobs/uploads/?digest={digest}");
    uploaded(fixture.request(Method::POST, &post).body(content.clone()).send().await.unwrap()).await;

    // In pieces.
    let location = fixture.begin("three").await;
    let patch = |location: &str, range: &str, body: &[u8]| {
        fixture.request(Method::PATCH, location).header("content-range", range).body(body.to_vec()).send()
    };
    let response = patch(&location, "0-3", &content[..4]).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-3".into()));
    for wrong in ["0-3", "5-8", "6-4", "x"] {
        let response = patch(&location, wrong, &content[4..8]).await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "range")), (416, "0-3".into()));
    }
    let response = patch(&location, "4-8", &content[4..8]).await.unwrap();
    assert_eq!(code(response).await, (400, "SIZE_INVALID".into()), "length and range differ");
    let status = fixture.get(&location).await;
    assert_eq!((status.status().as_u16(), header(&status, "range")), (204, "0-3".into()));
    assert_eq!(patch(&location, "4-7", &content[4..8]).await.unwrap().status(), 202);
    let put = format!("{location}?digest={digest}");
    let last = fixture.request(Method::PUT, &put).header("content-range", "8-9");
    uploaded(last.body(content[8..].to_vec()).send().await.unwrap()).await;
    assert_eq!(code(fixture.get(&location).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));

    // A stream without lengths.
    let location = fixture.begin("four").await;
    let pieces = content.chunks(3).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
    let response = fixture.request(Method::PATCH, &location).body(body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-9".into()));
    uploaded(fixture.request(Method::PUT, &format!("{location}?digest={digest}")).send().await.unwrap()).await;

    // Mounted; and not where there is nothing to mount.
    let mount = |from: &str| format!("/v2/five/blobs/uploads/?mount={digest}&from={from}");
    for from in ["absent", "..", "six"] {
        let response = fixture.request(Method::POST, &mount(from)).send().await.unwrap();
        assert_eq!(response.status(), 202, "{from}");
    }
    uploaded(fixture.request(Method::POST, &mount("four")).send().await.unwrap()).await;

    // Another digest than said.
    let location = fixture.begin("six").await;
    let wrong = Digest::of(b"other");
    let put = fixture.request(Method::PUT, &format!("{location}?digest={wrong}"));
    let response = put.body(content.clone()).send().await.unwrap();
    assert_eq!(code(response).await, (400, "DIGEST_INVALID".into()));
    for digest in [digest, wrong] {
        assert_eq!(fixture.layouts.blob_size(&repository("six"), digest).await.unwrap(), None);
    }
    // Without digest, cancelled, of another repository.
    let location = fixture.begin("six").await;
    let response = fixture.request(Method::PUT, &location).send().await.unwrap();
    assert_eq!(code(response).await, (400, "DIGEST_INVALID".into()));
    let other = location.replace("/six/", "/one/");
    assert_eq!(code(fixture.get(&other).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(fixture.request(Method::DELETE, &location).send().await.unwrap().status(), 204);
    assert_eq!(code(fixture.get(&location).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
}

#[tokio::test]
async fn limits_hold() {
    let options =
        RouterOptions { max_blob: 10, max_uploads: 2, upload_lifetime: Duration::from_millis(300), ..open_to_all() };
    let fixture = Fixture::new(options).await;
    let put = fixture.begin("a").await;
    let patch = fixture.request(Method::PATCH, &put).body(vec![0; 11]);
    assert_eq!(code(patch.send().await.unwrap()).await, (413, "SIZE_INVALID".into()));
    let pieces = vec![Ok::<_, std::io::Error>(vec![0; 6]), Ok(vec![0; 6])];
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let patch = fixture.request(Method::PATCH, &put).body(body).send().await.unwrap();
    assert_eq!(code(patch).await, (413, "SIZE_INVALID".into()));
    fixture.begin("a").await;
    let third = fixture.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    assert_eq!(code(third).await, (429, "TOOMANYREQUESTS".into()));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(code(fixture.get(&put).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    fixture.begin("a").await;

    let large = vec![b' '; registry::MAX_MANIFEST_BYTES as usize + 1];
    let put = fixture.request(Method::PUT, "/v2/a/manifests/x").body(large).send().await.unwrap();
    assert_eq!(code(put).await, (413, "SIZE_INVALID".into()));
}

#[tokio::test]
async fn manifests_are_pushed_listed_and_deleted() {
    let fixture = Fixture::new(open_to_all()).await;
    let name = repository("a");
    let (image, _) = push_platform(&fixture.layouts, &name, "amd64", "hello").await;
    let put = |reference: &str, content_type: &str, body: Vec<u8>| {
        fixture
            .request(Method::PUT, &format!("/v2/a/manifests/{reference}"))
            .header("content-type", content_type)
            .body(body)
            .send()
    };
    let bytes = image.bytes.to_vec();
    for tag in ["b", "c", "a", "d", "B"] {
        let response = put(tag, &image.media_type, bytes.clone()).await.unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), image.digest.to_string());
        assert_eq!(header(&response, "location"), format!("/v2/a/manifests/{tag}"));
        assert!(response.headers().get("oci-subject").is_none());
    }
    // Refused ones.
    let bad = [
        ("x", "application/vnd.oci.image.index.v1+json", bytes.clone(), (400, "MANIFEST_INVALID")),
        ("x", image.media_type.as_str(), b"{}".to_vec(), (400, "MANIFEST_INVALID")),
        ("-x", image.media_type.as_str(), bytes.clone(), (400, "MANIFEST_INVALID")),
    ];
    for (reference, content_type, body, expected) in bad {
        let found = code(put(reference, content_type, body).await.unwrap()).await;
        assert_eq!(found, (expected.0, expected.1.to_owned()));
    }
    let other = Digest::of(b"other").to_string();
    let found = code(put(&other, &image.media_type, bytes.clone()).await.unwrap()).await;
    assert_eq!(found, (400, "DIGEST_INVALID".into()));
    let text = String::from_utf8(bytes.clone()).unwrap();
    let config = image.facts().unwrap().config.unwrap().digest().to_string();
    let lacking = text.replace(&config, &other).into_bytes();
    let found = code(put("x", &image.media_type, lacking).await.unwrap()).await;
    assert_eq!(found, (400, "MANIFEST_BLOB_UNKNOWN".into()));

    // Lists, in pages.
    let tags = |query: &'static str| {
        let fixture = &fixture;
        async move {
            let response = fixture.get(&format!("/v2/a/tags/list{query}")).await;
            assert_eq!(response.status(), 200);
            let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["name"], "a");
            (body["tags"].clone(), link)
        }
    };
    assert_eq!(tags("").await, (json!(["B", "a", "b", "c", "d"]), None));
    let next = r#"</v2/a/tags/list?n=2&last=a>; rel="next""#.to_owned();
    assert_eq!(tags("?n=2").await, (json!(["B", "a"]), Some(next)));
    assert_eq!(tags("?n=2&last=c").await, (json!(["d"]), None));
    assert_eq!(tags("?n=0").await, (json!([]), None));
    assert_eq!(code(fixture.get("/v2/a/tags/list?n=x").await).await.0, 400);
    push_image(&fixture.layouts, &repository("b/c"), &tag("1"), "x").await;
    let catalog: Value = fixture.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog, json!({"repositories": ["a", "b/c"]}));
    let page = fixture.get("/v2/_catalog?n=1").await;
    assert_eq!(header(&page, "link"), r#"</v2/_catalog?n=1&last=a>; rel="next""#);
    let client = remote(&fixture.base[7..], 100);
    assert_eq!(client.repositories().await.unwrap(), [name.clone(), repository("b/c")]);
    assert_eq!(client.tags(&name).await.unwrap().len(), 5);
    assert!(client.tags(&repository("absent")).await.unwrap().is_empty());

    // Deletes: a tag alone, then the manifest with all its tags.
    let delete = |path: String| fixture.request(Method::DELETE, &path).send();
    assert_eq!(delete("/v2/a/manifests/d".into()).await.unwrap().status(), 202);
    assert_eq!(fixture.get("/v2/a/manifests/d").await.status(), 404);
    assert_eq!(fixture.get("/v2/a/manifests/c").await.status(), 200);
    let path = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(delete(path.clone()).await.unwrap().status(), 202);
    assert_eq!(code(delete(path.clone()).await.unwrap()).await, (404, "MANIFEST_UNKNOWN".into()));
    for reference in ["c".to_owned(), image.digest.to_string()] {
        assert_eq!(fixture.get(&format!("/v2/a/manifests/{reference}")).await.status(), 404);
    }
    let path = format!("/v2/a/blobs/{config}");
    assert_eq!(delete(path.clone()).await.unwrap().status(), 202);
    assert_eq!(code(delete(path).await.unwrap()).await, (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn referrers_are_listed() {
    let fixture = Fixture::new(open_to_all()).await;
    let name = repository("a");
    let subject = Digest::of(b"subject");
    let empty = push_blob(&fixture.layouts, &name, b"{}").await;
    for (number, artifact_type) in ["application/x", "application/y+json"].iter().enumerate() {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": artifact_type,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [],
            "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 7},
            "annotations": {"number": number.to_string()},
        });
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let put = fixture
            .request(Method::PUT, &format!("/v2/a/manifests/{}", Digest::of(&bytes)))
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(bytes);
        let response = put.send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "oci-subject"), subject.to_string());
    }
    let list = |query: &str| {
        let path = format!("/v2/a/referrers/{subject}{query}");
        let fixture = &fixture;
        async move {
            let response = fixture.get(&path).await;
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, "content-type"), "application/vnd.oci.image.index.v1+json");
            let filtered = response.headers().get("oci-filters-applied").is_some();
            (response.json::<Value>().await.unwrap()["manifests"].clone(), filtered)
        }
    };
    let (all, filtered) = list("").await;
    assert_eq!((all.as_array().unwrap().len(), filtered), (2, false));
    let (some, filtered) = list("?artifactType=application/y%2Bjson").await;
    assert_eq!((some.as_array().unwrap().len(), filtered), (1, true));
    assert_eq!(some[0]["artifactType"], "application/y+json");
    assert_eq!(some[0]["annotations"], json!({"number": "1"}));
    assert_eq!(list("?artifactType=z").await, (json!([]), true));
    let none = fixture.get(&format!("/v2/absent/referrers/{subject}")).await;
    assert_eq!(none.status(), StatusCode::OK, "an empty list, never 404");
    let tagged = fixture.get(&format!("/v2/a/manifests/sha256-{}", subject.hex())).await;
    let tagged: Value = tagged.json().await.unwrap();
    assert_eq!(tagged["manifests"], all);
    let client = remote(&fixture.base[7..], 100);
    let found = client.referrers(&name, subject, Some("application/x")).await.unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn credentials_are_asked_for_and_given() {
    let credentials = Credentials { user: "mill".into(), password: "secret".into() };
    let options = RouterOptions { credentials: Some(credentials.clone()), ..open_to_all() };
    let fixture = Fixture::new(options.clone()).await;
    let address = fixture.base[7..].to_owned();
    let response = fixture.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    assert_eq!(header(&response, "www-authenticate"), r#"Basic realm="minimill""#);
    assert_eq!(code(response).await, (401, "UNAUTHORIZED".into()));
    let with = |credentials: Credentials| {
        let options = RemoteOptions { credentials: Some(credentials), ..RemoteOptions::default() };
        Remote::new(&format!("http://{address}"), options).unwrap()
    };
    let name = repository("a");
    let good = with(credentials);
    push_image(&good, &name, &tag("1"), "hello").await;
    assert_eq!(good.tags(&name).await.unwrap(), [tag("1")]);
    assert_eq!(fixture.get("/v2/a/tags/list").await.status(), 200, "anonymous pulls");
    let wrong = with(Credentials { user: "mill".into(), password: "wrong".into() });
    let stream = registry::bytes_stream(&b"x"[..]);
    let error = wrong.put_blob(&name, Digest::of(b"x"), 1, stream).await.unwrap_err();
    assert!(matches!(&error, Error::Status { status: 401, .. }), "{error}");
    assert!(!error.to_string().contains("secret"));

    let closed = Fixture::new(RouterOptions { anonymous_pull: false, ..options }).await;
    assert_eq!(closed.get("/v2/").await.status(), 401);
}

#[tokio::test]
async fn immutable_tags_conflict_over_http() {
    let options = RouterOptions { immutable_tags: registry::ImmutableTags::new([""]).unwrap(), ..open_to_all() };
    let fixture = Fixture::new(options).await;
    let name = repository("a");
    let (one, _) = push_platform(&fixture.layouts, &name, "amd64", "one").await;
    let (two, _) = push_platform(&fixture.layouts, &name, "amd64", "two").await;
    let client = remote(&fixture.base[7..], 100);
    client.put_manifest(&name, &one, Some(&tag("1")), TagRule::Move).await.unwrap();
    client.put_manifest(&name, &one, Some(&tag("1")), TagRule::Move).await.unwrap();
    let error = client.put_manifest(&name, &two, Some(&tag("1")), TagRule::Move).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 409, .. }), "{error}");
    let error = client.put_manifest(&name, &two, Some(&tag("1")), TagRule::Immutable).await.unwrap_err();
    assert!(matches!(error, Error::TagConflict { found, .. } if found == one.digest), "{error}");
}

#[tokio::test]
async fn a_changed_layer_breaks_off_instead_of_ending() {
    let fixture = Fixture::new(RouterOptions::default()).await;
    let name = repository("a");
    let content = vec![1u8; 3_000_000];
    let digest = push_blob(&fixture.layouts, &name, &content).await;
    let path = fixture.layouts.root().join("a/blobs/sha256").join(digest.hex());
    let mut changed = content.clone();
    changed[1_500_000] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let response = fixture.get(&format!("/v2/a/blobs/{digest}")).await;
    assert!(response.bytes().await.is_err(), "the last piece is kept back");
    let client = remote(&fixture.base[7..], 100);
    let blob = client.blob(&name, digest).await.unwrap().unwrap();
    assert!(blob.read(10_000_000).await.is_err());
}
