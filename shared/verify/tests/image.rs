//! Layers are unpacked as the specification says, and never out of their folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod fixture;

use fixture::{Bench, Item, Layer};
use serde_json::json;
use verify::Kind;

#[test]
fn layers_lie_over_each_other() {
    let bench = Bench::new();
    let lower = Layer::default()
        .folder("usr/lib", 0o755)
        .symlink("lib", "/usr/lib")
        .file("a", 0o644, "lower")
        .file("gone", 0o644, "x")
        .folder("opaque", 0o755)
        .file("opaque/old", 0o644, "x")
        .add("data", Item::Folder(0o700), (7, 8));
    let upper = Layer::default()
        .file("./a", 0o600, "upper")
        .file(".wh.gone", 0o644, "")
        .file("opaque/.wh..wh..opq", 0o644, "")
        .file("opaque/new", 0o4755, "x")
        .file("lib/libx.so", 0o755, "library")
        .add("lib/hard", Item::Hardlink("a"), (0, 0));
    let image = bench.image(&[lower, upper], json!({}));
    let paths: Vec<_> = image.files().iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        ["a", "data", "lib", "opaque", "opaque/new", "usr", "usr/lib", "usr/lib/hard", "usr/lib/libx.so"]
    );
    assert_eq!(image.read("/lib/libx.so", 100).unwrap().unwrap(), b"library");
    assert_eq!(image.read("lib/hard", 100).unwrap().unwrap(), b"upper");
    assert_eq!(image.read("gone", 100).unwrap(), None);
    assert!(!fixture::exists(&image.root().join("opaque/old")));
    let data = image.files().get("data").unwrap();
    assert_eq!((&data.kind, data.mode, data.uid, data.gid), (&Kind::Directory, 0o700, 7, 8));
    assert_eq!(image.files().get("opaque/new").unwrap().mode, 0o4755);
    assert_eq!(image.platform(), "linux/amd64");
    let fresh = image.fresh_root(&bench.scratch()).unwrap();
    assert_eq!(std::fs::read(fresh.path().join("usr/lib/libx.so")).unwrap(), b"library");
}

#[test]
fn nothing_leaves_the_folder() {
    let bench = Bench::new();
    let secret = bench.folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let outside: &'static str = Box::leak(bench.folder.path().display().to_string().into_boxed_str());
    let error = |layer: Layer| bench.open(&bench.write(&[layer], json!({}))).err().unwrap().to_string();
    assert!(
        error(Layer::default().file("../x", 0o644, "x")).ends_with("entry `../x`: the path leads out of the image")
    );
    assert!(error(Layer::default().file("a/../../x", 0o644, "x")).contains("leads out of the image"));
    let message = error(Layer::default().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, "x"));
    assert!(message.contains("links in a circle"), "{message}");
    let message = error(Layer::default().file("a", 0o644, "x").file("a/b", 0o644, "x"));
    assert!(message.contains("`a` is no folder"), "{message}");
    let message = error(Layer::default().add("a", Item::Hardlink("../secret"), (0, 0)));
    assert!(message.contains("leads out of the image"), "{message}");

    // A link to a place of this machine is a link to that place of the image.
    let digest =
        bench.write(&[Layer::default().symlink("out", outside).file("out/secret", 0o644, "changed")], json!({}));
    let image = bench.open(&digest).unwrap();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(image.read("out/secret", 100).unwrap().unwrap(), b"changed");
}

#[test]
fn a_changed_byte_is_found_and_named() {
    let bench = Bench::new();
    let digest = bench.write(&[Layer::default().file("a", 0o644, vec![b'x'; 100_000])], json!({}));
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.layout().join("blobs").join(digest.replace(':', "/"))).unwrap())
            .unwrap();
    for blob in
        [&digest, manifest["layers"][0]["digest"].as_str().unwrap(), manifest["config"]["digest"].as_str().unwrap()]
    {
        let path = bench.layout().join("blobs").join(blob.replace(':', "/"));
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let error = bench.open(&digest).err().unwrap().to_string();
        assert!(error.contains(blob), "{error}");
        std::fs::write(&path, good).unwrap();
    }
    bench.open(&digest).unwrap();
}
