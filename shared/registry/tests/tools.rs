//! The tools that others use: skopeo, umoci, Debian's docker-registry.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use registry::{Digest, Layouts, Registry, RouterOptions, TagRule, bytes_stream};
use serde_json::Value;
use support::{docker_registry, open_to_all, push_image, remote, repository, serve, tag, tool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_pulls_from_the_server_and_pushes_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path().join("r"));
    let name = repository("team/redis");
    let image = push_image(&layouts, &name, &tag("8.2"), "hello").await;
    let address = serve(layouts.clone(), open_to_all()).await;
    let source = format!("docker://{address}/team/redis:8.2");
    let inspect = ["inspect", "--tls-verify=false", &source];
    let Some((good, text)) = tool("skopeo", &inspect).await else { return };
    assert!(good, "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["Digest"], image.index.to_string());
    assert_eq!(found["Layers"][0], image.layers[0].to_string());
    assert_eq!(found["RepoTags"][0], "8.2");

    let pulled = format!("oci:{}:8.2", folder.path().join("pulled").display());
    let pull = ["--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", &source, &pulled];
    let (good, text) = tool("skopeo", &pull).await.unwrap();
    assert!(good, "{text}");

    let pushed = format!("docker://{address}/copy/redis:next");
    let push =
        ["--insecure-policy", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &pulled, &pushed];
    let (good, text) = tool("skopeo", &push).await.unwrap();
    assert!(good, "{text}");
    let found = layouts.resolve(&repository("copy/redis"), &tag("next").into()).await.unwrap();
    assert_eq!(found, Some(image.index));

    // A read-only server says so.
    let closed = serve(layouts, RouterOptions::default()).await;
    let denied = format!("docker://{closed}/x:1");
    let push = ["--insecure-policy", "copy", "--dest-tls-verify=false", &pulled, &denied];
    let (good, text) = tool("skopeo", &push).await.unwrap();
    assert!(!good && text.contains("denied"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_and_umoci_read_the_layout_itself() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path().join("r"));
    let name = repository("redis");
    let image = push_image(&layouts, &name, &tag("1"), "hello").await;
    let (manifest, _) = support::push_platform(&layouts, &name, "amd64", "hello").await;
    assert_eq!(manifest.digest, image.platforms[0]);
    layouts.put_manifest(&name, &manifest, Some(&tag("amd64")), TagRule::Move).await.unwrap();
    let path = folder.path().join("r/redis");
    let layout = path.to_str().unwrap();

    let reference = format!("oci:{layout}:1");
    if let Some((good, text)) = tool("skopeo", &["inspect", "--raw", &reference]).await {
        assert!(good, "{text}");
        assert_eq!(Digest::of(text.trim_end().as_bytes()), image.index);
    }
    let Some((good, text)) = tool("umoci", &["list", "--layout", layout]).await else { return };
    assert!(good, "{text}");
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["1", "amd64"]);
    let bundle = folder.path().join("bundle");
    let unpack = ["unpack", "--image", &format!("{layout}:amd64"), bundle.to_str().unwrap()];
    let (good, text) = tool("umoci", &unpack).await.unwrap();
    assert!(good, "{text}");
    assert_eq!(std::fs::read_to_string(bundle.join("rootfs/hello")).unwrap(), "hello amd64");
    // Its garbage collection takes nothing that a tag leads to.
    let (good, text) = tool("umoci", &["gc", "--layout", layout]).await.unwrap();
    assert!(good, "{text}");
    for digest in image.layers.iter().chain(&image.platforms) {
        assert!(layouts.blob_size(&name, *digest).await.unwrap().is_some(), "{digest}");
    }
    assert_eq!(layouts.tags(&name).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_works_with_debians_registry() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_running, address)) = docker_registry(folder.path()).await else { return };
    let client = remote(&address, 1000);
    client.ping().await.unwrap();
    let (name, other) = (repository("team/redis"), repository("other"));
    let image = push_image(&client, &name, &tag("1"), "hello").await;
    assert_eq!(client.resolve(&name, &tag("1").into()).await.unwrap(), Some(image.index));
    assert_eq!(client.resolve(&name, &tag("2").into()).await.unwrap(), None);
    assert_eq!(client.tags(&name).await.unwrap(), [tag("1")]);
    assert_eq!(client.repositories().await.unwrap(), std::slice::from_ref(&name));
    assert!(client.mount_blob(&other, image.layers[0], &name).await.unwrap());
    assert!(!client.mount_blob(&other, Digest::of(b"absent"), &name).await.unwrap());
    for size in [0_usize, 1, 999, 1000, 1001, 4567] {
        let content = vec![u8::try_from(size % 251).unwrap(); size];
        let digest = support::push_blob(&client, &other, &content).await;
        assert_eq!(client.blob_size(&other, digest).await.unwrap(), Some(size as u64), "{size}");
        let blob = client.blob(&other, digest).await.unwrap().unwrap();
        assert_eq!(blob.read(10_000).await.unwrap(), content);
    }
    let stream = bytes_stream(&b"short"[..]);
    let error = client.put_blob(&other, Digest::of(b"shorter"), 7, stream).await.unwrap_err();
    assert!(matches!(error, registry::Error::Size { expected: 7, found: 5, .. }), "{error}");
    assert!(client.delete_manifest(&name, &image.index.into()).await.unwrap());
    assert!(!client.delete_manifest(&name, &image.index.into()).await.unwrap());
    assert_eq!(client.manifest(&name, &image.index.into()).await.unwrap(), None);
}
