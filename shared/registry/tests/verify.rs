//! Signing, copying and verifying images.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;

use registry::{
    CopyOptions, Digest, Error, Expectations, Layouts, Outcome, Reference, Registry, Repository, attach,
    attach_simple_signature, copy, verify_image,
};
use serde_json::json;
use sign::{Bundle, LocalEcdsaKey, Signer, Statement, predicate, simple_signing};
use support::{Image, docker_registry, open_to_all, push_image, remote, repository, serve, tag};
use tempfile::TempDir;

const TYPES: [&str; 3] = [predicate::SIGNATURE, predicate::SPDX, predicate::PROVENANCE];

fn key(folder: &TempDir, name: &str) -> LocalEcdsaKey {
    LocalEcdsaKey::load_or_create(&folder.path().join(name)).unwrap()
}

async fn sign(
    registry: &dyn Registry,
    name: &Repository,
    subject: Digest,
    key: &LocalEcdsaKey,
    predicate_type: &str,
) -> Digest {
    let statement = Statement::new(subject, predicate_type, &json!({})).unwrap();
    let bundle = Bundle::sign(key, &statement).await.unwrap().to_bytes().unwrap();
    attach(registry, name, subject, &bundle, predicate_type, None).await.unwrap()
}

async fn signed_image(registry: &dyn Registry, name: &Repository, key: &LocalEcdsaKey) -> Image {
    let image = push_image(registry, name, &tag("1"), "hello").await;
    for subject in image.platforms.iter().chain([&image.index]) {
        for predicate_type in TYPES {
            sign(registry, name, *subject, key, predicate_type).await;
        }
    }
    image
}

async fn problems(registry: &dyn Registry, name: &Repository, key: &LocalEcdsaKey) -> Vec<String> {
    let reference: Reference = tag("1").into();
    let expectations = Expectations::default();
    verify_image(registry, name, &reference, key.public_key(), &expectations).await.unwrap().problems()
}

#[tokio::test]
async fn bundles_are_attached_as_cosign_does() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name) = (Layouts::new(folder.path().join("r")), repository("redis"));
    let key = key(&folder, "a.key");
    let image = push_image(&layouts, &name, &tag("1"), "hello").await;
    let digest = sign(&layouts, &name, image.index, &key, predicate::SIGNATURE).await;
    assert_eq!(digest, sign(&layouts, &name, image.index, &key, predicate::SIGNATURE).await);
    assert_eq!(layouts.referrers(&name, image.index, None).await.unwrap().len(), 1);

    let manifest = layouts.manifest(&name, &digest.into()).await.unwrap().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer = &found["layers"][0];
    let bundle: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
    let index = layouts.manifest(&name, &image.index.into()).await.unwrap().unwrap();
    assert_eq!(
        found,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2
            },
            "layers": [{
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": bundle,
                "size": layer["size"],
                "annotations": {
                    "org.opencontainers.image.title": format!("sha256-{}.sigstore.json", bundle.hex())
                }
            }],
            "subject": {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "digest": image.index,
                "size": index.bytes.len()
            },
            "annotations": {
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1"
            }
        })
    );
    let list = layouts.referrers(&name, image.index, Some(sign::BUNDLE_MEDIA_TYPE)).await.unwrap();
    assert_eq!(list[0].annotations().as_ref().unwrap()["dev.sigstore.bundle.predicateType"], predicate::SIGNATURE);
    let absent = Digest::of(b"absent");
    let error = attach(&layouts, &name, absent, b"{}", predicate::SPDX, None).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_signed_image_verifies_and_each_fault_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name) = (Layouts::new(folder.path().join("r")), repository("redis"));
    let (key, other) = (key(&folder, "a.key"), key(&folder, "b.key"));
    let image = signed_image(&layouts, &name, &key).await;
    let reference: Reference = tag("1").into();
    let expectations = Expectations::default();
    let report = verify_image(&layouts, &name, &reference, key.public_key(), &expectations)
        .await
        .unwrap()
        .into_result()
        .unwrap();
    assert_eq!(report.digest, image.index);
    let names: Vec<_> = report.manifests.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["index", "linux/amd64", "linux/arm64"]);
    assert!(report.manifests.iter().all(|found| found.statements.len() == 3));
    assert!(report.manifests[1..].iter().all(|found| found.content.len() == 2));
    assert!(matches!(report.manifests[1].statements[0].outcome, Outcome::Good { bundle: Some(_) }));

    // The wrong key: everything that is signed is bad.
    let found = problems(&layouts, &name, &other).await;
    assert_eq!(found.len(), 9, "{found:#?}");
    assert!(found.iter().all(|line| line.contains("signed with another key")), "{found:#?}");

    // A signature of another key beside the good one does no harm.
    sign(&layouts, &name, image.index, &other, predicate::SIGNATURE).await;
    assert!(problems(&layouts, &name, &key).await.is_empty());

    // A statement about another subject, attached here.
    let statement = Statement::new(image.platforms[0], predicate::SPDX, &json!({})).unwrap();
    let moved = Bundle::sign(&key, &statement).await.unwrap().to_bytes().unwrap();
    for listed in layouts.referrers(&name, image.platforms[1], None).await.unwrap() {
        if listed.annotations().as_ref().unwrap()["dev.sigstore.bundle.predicateType"] == predicate::SPDX {
            let digest: Digest = listed.digest().as_ref().parse().unwrap();
            layouts.delete_manifest(&name, &digest.into()).await.unwrap();
        }
    }
    let found = problems(&layouts, &name, &key).await;
    assert_eq!(found, [format!("linux/arm64 {}: SPDX attestation is missing", image.platforms[1])]);
    attach(&layouts, &name, image.platforms[1], &moved, predicate::SPDX, None).await.unwrap();
    let found = problems(&layouts, &name, &key).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("SPDX attestation is bad") && found[0].contains("expected sha256:"), "{found:#?}");
    sign(&layouts, &name, image.platforms[1], &key, predicate::SPDX).await;
    assert!(problems(&layouts, &name, &key).await.is_empty());

    // One byte of a layer.
    let path = folder.path().join("r/redis/blobs/sha256").join(image.layers[0].hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[513] ^= 0x20;
    fs::write(&path, &bytes).unwrap();
    let found = problems(&layouts, &name, &key).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let expected = format!("linux/amd64 {}: layer 1 {} is bad: ", image.platforms[0], image.layers[0]);
    assert!(found[0].starts_with(&expected), "{found:#?}");
    fs::remove_file(&path).unwrap();
    let found = problems(&layouts, &name, &key).await;
    assert!(found[0].contains("layer 1") && found[0].ends_with("is missing"), "{found:#?}");
}

#[tokio::test]
async fn an_unsigned_image_lacks_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name) = (Layouts::new(folder.path().join("r")), repository("redis"));
    let key = key(&folder, "a.key");
    push_image(&layouts, &name, &tag("1"), "hello").await;
    let reference: Reference = tag("1").into();
    let report = verify_image(&layouts, &name, &reference, key.public_key(), &Expectations::default()).await.unwrap();
    assert_eq!(report.problems().len(), 9);
    let error = report.into_result().unwrap_err().to_string();
    assert!(error.starts_with("redis:1 is not verified:\n  index sha256:"), "{error}");
    assert!(error.contains("signature is missing") && error.contains("provenance is missing"));
    let absent: Reference = tag("2").into();
    let error = verify_image(&layouts, &name, &absent, key.public_key(), &Expectations::default()).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_copy_takes_signatures_along_and_verifies_at_each_stop() {
    let folder = tempfile::tempdir().unwrap();
    let name = repository("team/redis");
    let key = key(&folder, "a.key");
    let source = Layouts::new(folder.path().join("source"));
    let image = signed_image(&source, &name, &key).await;
    let with_all = CopyOptions { referrers: true, tag: Some(tag("1")), ..CopyOptions::default() };
    let reference: Reference = tag("1").into();

    let served = Layouts::new(folder.path().join("served"));
    let address = serve(served.clone(), open_to_all()).await;
    let ours = remote(&address, 700);
    let report = copy((&source, &name), &reference, (&ours, &name), &with_all).await.unwrap();
    assert_eq!(report.digest, image.index);
    assert_eq!((report.manifests, report.blobs), (3 + 9, 2 + 2 + 9 + 1));
    assert!(problems(&ours, &name, &key).await.is_empty());
    assert!(problems(&served, &name, &key).await.is_empty());
    let again = copy((&source, &name), &reference, (&ours, &name), &with_all).await.unwrap();
    assert_eq!((again.manifests, again.blobs), (0, 0));
    assert_eq!(source.tags(&name).await.unwrap(), ours.tags(&name).await.unwrap());

    let Some((_running, address)) = docker_registry(folder.path()).await else { return };
    let theirs = remote(&address, 700);
    let report = copy((&ours, &name), &reference, (&theirs, &name), &with_all).await.unwrap();
    assert_eq!((report.manifests, report.blobs), (3 + 9, 2 + 2 + 9 + 1));
    assert!(problems(&theirs, &name, &key).await.is_empty(), "by the referrers' tag");
    let back = Layouts::new(folder.path().join("back"));
    copy((&theirs, &name), &reference, (&back, &name), &with_all).await.unwrap();
    assert!(problems(&back, &name, &key).await.is_empty());
    assert_eq!(back.tags(&name).await.unwrap(), source.tags(&name).await.unwrap());
}

#[tokio::test]
async fn the_older_signature_form_stands_under_its_tag() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name) = (Layouts::new(folder.path().join("r")), repository("redis"));
    let key = key(&folder, "a.key");
    let image = push_image(&layouts, &name, &tag("1"), "hello").await;
    let signature = simple_signing::sign(&key, "redis", image.index).await.unwrap();
    let digest = attach_simple_signature(&layouts, &name, image.index, &signature).await.unwrap();
    assert_eq!(digest, attach_simple_signature(&layouts, &name, image.index, &signature).await.unwrap());

    let reference: Reference = tag(&simple_signing::tag(image.index)).into();
    let manifest = layouts.manifest(&name, &reference).await.unwrap().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer = &document["layers"][0];
    assert_eq!(layer["mediaType"], simple_signing::LAYER_MEDIA_TYPE);
    let payload = layouts.blob(&name, layer["digest"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
    let found = simple_signing::SimpleSignature {
        payload: payload.read(1 << 20).await.unwrap(),
        signature: layer["annotations"][simple_signing::SIGNATURE_ANNOTATION].as_str().unwrap().to_owned(),
    };
    assert_eq!(simple_signing::verify(&found, key.public_key(), image.index).unwrap(), "redis");
    assert!(layouts.referrers(&name, image.index, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_further_statement_need_not_be_there_and_must_be_good_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name) = (Layouts::new(folder.path().join("r")), repository("redis"));
    let (trusted, other) = (key(&folder, "a.key"), key(&folder, "b.key"));
    let image = signed_image(&layouts, &name, &trusted).await;
    let (reference, expectations): (Reference, _) = (image.index.into(), Expectations::default());
    let verify = || verify_image(&layouts, &name, &reference, trusted.public_key(), &expectations);
    let of_vex = |report: &registry::Report| {
        let statements = report.manifests[0].statements.iter();
        statements.filter(|found| found.predicate_type == predicate::OPENVEX).cloned().collect::<Vec<_>>()
    };
    let report = verify().await.unwrap();
    assert!(report.problems().is_empty() && of_vex(&report).is_empty(), "{report:?}");
    sign(&layouts, &name, image.index, &other, predicate::OPENVEX).await;
    let problems = verify().await.unwrap().problems();
    assert!(problems.len() == 1 && problems[0].contains("OpenVEX document is bad"), "{problems:?}");
    sign(&layouts, &name, image.index, &trusted, predicate::OPENVEX).await;
    let report = verify().await.unwrap();
    assert!(report.problems().is_empty(), "{:?}", report.problems());
    let found = of_vex(&report);
    assert_eq!((found.len(), found[0].predicates.len()), (1, 1), "only what the trusted key signed is told");
}

#[tokio::test]
async fn one_query_for_the_referrers_of_any_digest_finds_all_statements() {
    let folder = tempfile::tempdir().unwrap();
    let (layouts, name) = (Layouts::new(folder.path().join("r")), repository("redis"));
    let key = key(&folder, "a.key");
    let image = signed_image(&layouts, &name, &key).await;
    for subject in image.platforms.iter().chain([&image.index]) {
        sign(&layouts, &name, *subject, &key, predicate::OPENVEX).await;
        let found = layouts.referrers(&name, *subject, None).await.unwrap();
        let mut types: Vec<_> = found
            .iter()
            .map(|one| one.annotations().as_ref().unwrap()["dev.sigstore.bundle.predicateType"].as_str())
            .collect();
        types.sort_unstable();
        assert_eq!(types, [predicate::OPENVEX, predicate::SIGNATURE, predicate::PROVENANCE, predicate::SPDX]);
    }
    let with_vex: Vec<_> = TYPES.iter().chain([&predicate::OPENVEX]).map(|kind| (*kind).to_owned()).collect();
    let expectations = Expectations { index: with_vex.clone(), platform: with_vex, further: Vec::new() };
    let report = verify_image(&layouts, &name, &tag("1").into(), key.public_key(), &expectations).await.unwrap();
    assert!(report.problems().is_empty(), "{:?}", report.problems());

    // Other tools keep referrers in a layout without the list under the fallback tag.
    let path = folder.path().join("r/redis/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    let mut untagged = Vec::new();
    for subject in image.platforms.iter().chain([&image.index]) {
        for referrer in layouts.referrers(&name, *subject, None).await.unwrap() {
            untagged.push(
                json!({"mediaType": referrer.media_type(), "digest": referrer.digest(), "size": referrer.size()}),
            );
        }
    }
    entries.retain(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == "1");
    entries.extend(untagged);
    fs::write(&path, index.to_string()).unwrap();
    let single = Layouts::single(folder.path().join("r/redis"));
    let any = repository("whatever");
    let report = verify_image(&single, &any, &tag("1").into(), key.public_key(), &expectations).await.unwrap();
    assert!(report.problems().is_empty(), "{:?}", report.problems());
}
