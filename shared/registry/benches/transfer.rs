//! Pushing to and pulling from Debian's docker-registry, beside skopeo doing the same: the best of
//! three runs each, in turns. `not run` where one of them is not installed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use registry::{CopyOptions, Digest, Layouts, Manifest, Registry, Remote, RemoteOptions, Repository, TagRule, copy};
use serde_json::json;

const RUNS: usize = 3;
/// The sizes of the image's layers, in bytes.
const LAYERS: [usize; 4] = [100 << 20, 20 << 20, 4 << 20, 1 << 20];

/// Bytes that do not compress.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

async fn image(layouts: &Layouts, name: &Repository) -> Digest {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
    let mut layers = Vec::new();
    let mut diffs = Vec::new();
    for (number, size) in LAYERS.into_iter().enumerate() {
        let layer = noise(number as u64 + 1, size);
        diffs.push(support::push_blob(layouts, name, &layer).await);
        layers.push(descriptor("application/vnd.oci.image.layer.v1.tar", &layer));
    }
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = serde_json::to_vec(&config).unwrap();
    support::push_blob(layouts, name, &config).await;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers,
    });
    let manifest = Manifest::new(serde_json::to_vec(&manifest).unwrap()).unwrap();
    layouts.put_manifest(name, &manifest, Some(&support::tag("1")), TagRule::Move).await.unwrap();
    manifest.digest
}

async fn skopeo(from: &str, to: &str) -> Option<Duration> {
    let start = Instant::now();
    let arguments = [
        "--insecure-policy",
        "copy",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        from,
        to,
    ];
    let (good, text) = support::tool("skopeo", &arguments).await?;
    assert!(good, "{text}");
    Some(start.elapsed())
}

fn row(what: &str, ours: Duration, theirs: Duration) {
    let (ours, theirs) = (ours.as_secs_f64(), theirs.as_secs_f64());
    println!("{what:28} {ours:8.2} s {theirs:8.2} s {:8.2}x", ours / theirs);
    println!("ratio | {what} | {ours:.2} s | skopeo: {theirs:.2} s | {:.3}", ours / theirs);
}

async fn run(folder: &Path) -> Option<()> {
    let layouts = Layouts::new(folder.join("source"));
    let name = support::repository("image");
    let digest = image(&layouts, &name).await;
    let options = CopyOptions { tag: Some(support::tag("1")), ..CopyOptions::default() };
    let tag = support::tag("1").into();
    let source = format!("oci:{}:1", layouts.root().join("image").display());
    let mut best = [Duration::MAX; 4];
    for number in 0..RUNS {
        // A registry of its own for each push: skopeo mounts what it remembers to have pushed.
        let place = |what: &str| folder.join(format!("{what}-{number}"));
        std::fs::create_dir_all(place("ours")).unwrap();
        std::fs::create_dir_all(place("theirs")).unwrap();
        let (_running, address) = support::docker_registry(&place("ours")).await?;
        let client = Remote::new(&address, RemoteOptions::default()).unwrap();
        let start = Instant::now();
        copy((&layouts, &name), &tag, (&client, &name), &options).await.unwrap();
        best[0] = best[0].min(start.elapsed());
        let (_theirs, other) = support::docker_registry(&place("theirs")).await?;
        best[1] = best[1].min(skopeo(&source, &format!("docker://{other}/image:1")).await?);

        let pulled = Layouts::new(place("pulled"));
        let start = Instant::now();
        copy((&client, &name), &tag, (&pulled, &name), &options).await.unwrap();
        best[2] = best[2].min(start.elapsed());
        assert_eq!(pulled.resolve(&name, &tag).await.unwrap(), Some(digest));
        let target = format!("oci:{}:1", place("skopeo").display());
        best[3] = best[3].min(skopeo(&format!("docker://{address}/image:1"), &target).await?);
    }
    let size = LAYERS.iter().sum::<usize>() >> 20;
    println!("{:28} {:>10} {:>10} {:>9}", format!("image of {size} MB"), "mill", "skopeo", "ratio");
    row("push to docker-registry", best[0], best[1]);
    row("pull from docker-registry", best[2], best[3]);
    Some(())
}

fn main() {
    // `cargo test` builds benches and runs them without a thing to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(run(folder.path()));
}
