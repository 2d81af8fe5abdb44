//! The distribution specification 1.1 as cases, by the categories of its own conformance suite:
//! pull, push, content discovery, content management. Each case runs against the embedded registry
//! and against Debian's docker-registry, so that the cases themselves are proved by a server that
//! was not made here. Where the latter is known to differ stands in `DEVIATIONS`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod content;
mod discovery;
mod management;
mod pull;
mod push;
#[path = "../support/mod.rs"]
mod support;

use std::{future::Future, pin::Pin};

use registry::{Digest, ImmutableTags, Layouts, Remote, RemoteOptions, RouterOptions};
use reqwest::{Client, Method, header::HeaderMap};
use serde_json::Value;

/// What Debian's docker-registry 2.8.2 does otherwise.
const DEVIATIONS: [&str; 17] = [
    // It was made before the referrers API.
    "discovery::an_unknown_subject_has_an_empty_list",
    "discovery::referrers_are_listed_with_type_and_annotations",
    "discovery::referrers_are_filtered_and_the_answer_says_so",
    "discovery::an_index_may_be_a_referrer",
    "discovery::a_deleted_referrer_leaves_the_list",
    "push::a_manifest_with_a_subject_is_acknowledged",
    "push::an_index_with_a_subject_is_acknowledged",
    // It answers with all tags, whatever is asked for.
    "discovery::tags_are_given_in_pages",
    "discovery::tags_go_on_after_the_last_one",
    "discovery::tags_are_in_lexical_order",
    // It ignores `Content-Range`.
    "push::pieces_out_of_order_are_refused",
    "push::a_piece_that_was_sent_already_is_refused",
    // It deletes by digest only.
    "management::a_tag_is_deleted_alone",
    // It answers 404 instead of 400 where a name can't be one.
    "pull::an_invalid_name_is_refused",
    "pull::an_invalid_digest_is_refused",
    // It answers 400 instead of 413.
    "push::a_manifest_over_the_limit_is_refused",
    // It moves every tag.
    "push::an_immutable_tag_is_not_moved",
];

/// Why a case failed.
type Outcome = Result<(), String>;
type Case = (&'static str, fn(Peer) -> Pin<Box<dyn Future<Output = Outcome>>>);

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
/// The cases of a module with their names.
macro_rules! cases {
    ($module:ident: $($case:ident),+ $(,)?) => {
        vec![$((concat!(stringify!($module), "::", stringify!($case)), |peer| Box::pin($module::$case(peer)))),+]
    };
}
pub(crate) use ensure;

/// A registry and a repository of one case's own.
#[derive(Clone)]
struct Peer {
    client: Client,
    base: String,
    name: String,
}

/// An answer.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("not JSON: {error}"))
    }

    fn expect(&self, statuses: &[u16]) -> Result<&Self, String> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!(statuses.contains(&self.status), "status {}, expected {statuses:?}: {text}", self.status);
        Ok(self)
    }

    /// An error whose body has one of these codes (specification, "Error Codes").
    fn expect_code(&self, statuses: &[u16], codes: &[&str]) -> Outcome {
        self.expect(statuses)?;
        let body = self.json()?;
        let code = body["errors"][0]["code"].as_str().unwrap_or_default();
        ensure!(codes.contains(&code), "code `{code}`, expected {codes:?}");
        Ok(())
    }

    fn location(&self) -> Result<String, String> {
        self.header("location").map(str::to_owned).ok_or_else(|| "no `Location`".to_owned())
    }
}

impl Peer {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.to_vec()).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // Debian's registry announces more than it sends with a 416; cases look at what has come.
        Got { status, headers, body: response.bytes().await.unwrap_or_default().to_vec() }
    }

    async fn get(&self, rest: &str) -> Got {
        let accept = format!("{}, {}", content::INDEX, content::MANIFEST);
        self.send(Method::GET, &self.path(rest), &[("accept", &accept)], b"").await
    }

    async fn head(&self, rest: &str) -> Got {
        self.send(Method::HEAD, &self.path(rest), &[], b"").await
    }

    async fn delete(&self, rest: &str) -> Got {
        self.send(Method::DELETE, &self.path(rest), &[], b"").await
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    /// Begins an upload; its address.
    async fn begin(&self) -> Result<String, String> {
        self.send(Method::POST, &self.path("blobs/uploads/"), &[], b"").await.expect(&[202])?.location()
    }

    async fn patch(&self, location: &str, range: &str, body: &[u8]) -> Got {
        let headers = [("content-range", range), ("content-type", "application/octet-stream")];
        self.send(Method::PATCH, location, &headers, body).await
    }

    async fn finish(&self, location: &str, digest: Digest, body: &[u8]) -> Got {
        let separator = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{separator}digest={digest}");
        self.send(Method::PUT, &path, &[("content-type", "application/octet-stream")], body).await
    }

    async fn push_blob(&self, body: &[u8]) -> Result<Digest, String> {
        let digest = Digest::of(body);
        self.finish(&self.begin().await?, digest, body).await.expect(&[201])?;
        Ok(digest)
    }

    async fn put_manifest(&self, reference: &str, manifest: &[u8]) -> Got {
        let value: Value = serde_json::from_slice(manifest).unwrap_or_default();
        let media_type = value["mediaType"].as_str().unwrap_or(content::MANIFEST);
        self.send(Method::PUT, &self.path(&format!("manifests/{reference}")), &[("content-type", media_type)], manifest)
            .await
    }

    /// Pushes a small image under a tag; its manifest.
    async fn push_image(&self, tag: &str, text: &str) -> Result<Vec<u8>, String> {
        let manifest = content::image(self, text).await?;
        self.put_manifest(tag, &manifest).await.expect(&[201])?;
        Ok(manifest)
    }
}

fn cases() -> Vec<Case> {
    let pull: Vec<Case> = cases![pull:
        the_base_says_that_this_is_a_registry,
        an_absent_blob_is_not_found,
        a_blob_is_given_with_its_size,
        parts_of_a_blob_are_given,
        an_absent_manifest_is_not_found,
        a_manifest_is_given_by_tag_and_digest,
        a_manifest_is_given_with_its_media_type,
        an_unknown_repository_is_not_found,
        an_invalid_name_is_refused,
        an_invalid_digest_is_refused,
        an_invalid_tag_is_refused,
    ];
    let push: Vec<Case> = cases![push:
        a_blob_goes_in_a_stream_of_unknown_length,
        a_blob_goes_in_one_post_where_that_is_supported,
        a_blob_goes_in_post_and_put,
        an_empty_blob_is_accepted,
        a_blob_goes_in_pieces,
        the_last_piece_may_go_with_the_put,
        pieces_out_of_order_are_refused,
        a_piece_that_was_sent_already_is_refused,
        an_upload_tells_its_status,
        an_upload_is_cancelled,
        an_unknown_upload_is_not_found,
        a_blob_of_another_digest_is_refused,
        an_upload_without_digest_is_refused,
        a_blob_is_mounted_from_another_repository,
        what_is_not_there_can_not_be_mounted,
        a_mount_without_source_begins_an_upload,
        a_manifest_is_pushed_by_tag_and_by_digest,
        a_manifest_without_layers_is_accepted,
        a_tag_moves_to_another_manifest,
        an_index_is_pushed,
        a_manifest_with_a_subject_is_acknowledged,
        an_index_with_a_subject_is_acknowledged,
        a_manifest_whose_blobs_are_absent_is_refused,
        what_is_no_manifest_is_refused,
        a_manifest_over_the_limit_is_refused,
        a_manifest_under_another_digest_is_refused,
        an_immutable_tag_is_not_moved,
        one_blob_is_pushed_by_many_at_once,
    ];
    let discovery: Vec<Case> = cases![discovery:
        tags_are_listed,
        tags_are_in_lexical_order,
        tags_are_given_in_pages,
        tags_go_on_after_the_last_one,
        tags_of_an_unknown_repository_are_not_found,
        an_unknown_subject_has_an_empty_list,
        referrers_are_listed_with_type_and_annotations,
        referrers_are_filtered_and_the_answer_says_so,
        an_index_may_be_a_referrer,
        a_deleted_referrer_leaves_the_list,
    ];
    let management: Vec<Case> = cases![management:
        a_tag_is_deleted_alone,
        a_manifest_is_deleted_with_its_tags,
        an_absent_manifest_is_not_deleted,
        a_blob_is_deleted,
        an_absent_blob_is_not_deleted,
    ];
    [pull, push, discovery, management].into_iter().flatten().collect()
}

/// Runs every case; the names and reasons of those that failed.
async fn run(base: &str) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for (number, (name, case)) in cases().into_iter().enumerate() {
        let peer = Peer { client: Client::new(), base: base.to_owned(), name: format!("conformance/case-{number}") };
        if let Err(reason) = case(peer).await {
            failed.push((name, reason));
        }
    }
    failed
}

fn prepare() {
    // The client needs a provider of cryptography even for plain HTTP.
    Remote::new("http://127.0.0.1:1", RemoteOptions::default()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_registry_conforms() {
    prepare();
    let folder = tempfile::tempdir().unwrap();
    let immutable_tags = ImmutableTags::timestamps().unwrap();
    let options = RouterOptions { immutable_tags, ..support::open_to_all() };
    let address = support::serve(Layouts::new(folder.path().join("r")), options).await;
    let failed = run(&format!("http://{address}")).await;
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), cases().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debians_registry_conforms_but_for_what_is_known() {
    prepare();
    let folder = tempfile::tempdir().unwrap();
    let Some((_running, address)) = support::docker_registry(folder.path()).await else { return };
    let failed = run(&format!("http://{address}")).await;
    let unexpected: Vec<_> = failed.iter().filter(|(name, _)| !DEVIATIONS.contains(name)).collect();
    let cured: Vec<_> = DEVIATIONS.iter().filter(|known| !failed.iter().any(|(name, _)| name == *known)).collect();
    assert!(unexpected.is_empty() && cured.is_empty(), "failed: {unexpected:#?}; known, and did not fail: {cured:#?}");
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_as_the_specification_says() {
    prepare();
    let folder = tempfile::tempdir().unwrap();
    let address = support::serve(Layouts::new(folder.path().join("r")), RouterOptions::default()).await;
    let peer = Peer { client: Client::new(), base: format!("http://{address}"), name: "a".into() };
    let digest = Digest::of(b"x");
    let denied = peer.send(Method::POST, &peer.path("blobs/uploads/"), &[], b"").await;
    denied.expect_code(&[403], &["DENIED"]).unwrap();
    for rest in [format!("manifests/{digest}"), format!("blobs/{digest}"), "manifests/tag".to_owned()] {
        peer.delete(&rest).await.expect_code(&[405], &["UNSUPPORTED"]).unwrap();
    }
    peer.send(Method::PUT, &peer.path("tags/list"), &[], b"").await.expect(&[403, 405]).unwrap();
}
