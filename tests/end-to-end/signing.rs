//! Keys that are rotated, and images that are verified where they lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

use tests::factory::{Factory, rows, text};

const MILL: &str = env!("CARGO_BIN_EXE_mill");

fn key(factory: &Factory, name: &str) -> String {
    factory.home().join("keys").join(name).to_str().unwrap().to_owned()
}

fn packages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "apk")).collect()
}

#[test]
fn what_was_signed_before_a_rotation_verifies_still_and_what_comes_after_does_with_the_new_key() {
    let mut factory = Factory::after_first_cycle(MILL);
    let first = text(&factory.run(&["image", "list"]).json[0]["digest"]).to_owned();
    let before = packages(&factory.home().join("apk/x86_64"));
    factory.at("2026-03-05T06:00:00Z");
    for used_for in ["image", "package"] {
        factory.run(&["key", "rotate", used_for]).expect_code(0);
    }
    let keys = factory.run(&["key", "list"]);
    keys.expect_code(0);
    let listed: Vec<_> =
        rows(&keys.json).iter().map(|key| (text(&key["name"]), key["from"].as_str(), key["until"].as_str())).collect();
    let day = Some("2026-03-05T06:00:00Z");
    assert_eq!(
        listed,
        [
            ("minimill", None, day),
            ("minimill.rsa", None, day),
            ("minimill-2", day, None),
            ("minimill-2.rsa", day, None)
        ]
    );
    assert!(!factory.home().join("keys/minimill").exists(), "the old private key signs no more");

    // The first image verifies with the home's keys, and with the old one alone.
    factory.run(&["verify", &format!("hello@{first}")]).expect_code(0);
    let (old, new) = (key(&factory, "minimill.pub"), key(&factory, "minimill-2.pub"));
    factory.run(&["verify", &format!("hello@{first}"), "--key", &old]).expect_code(0);
    factory.run(&["verify", &format!("hello@{first}"), "--key", &new]).expect_code(1);

    factory.release("hello-mill", "1.1.0");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let second = text(&cycle.image("hello", "1")["digest"]).to_owned();
    assert_ne!(second, first);
    factory.run(&["verify", "hello:1"]).expect_code(0);
    factory.run(&["verify", "hello:1", "--key", &new]).expect_code(0);
    factory.run(&["verify", "hello:1", "--key", &old, "--key", &new]).expect_code(0);
    let refused = factory.run(&["verify", "hello:1", "--key", &old]);
    refused.expect_code(1);
    assert!(refused.json.to_string().contains("signed with another key"), "{:#}", refused.json);

    // Packages likewise; the index is signed with the new key.
    let (old, new) = (key(&factory, "minimill.rsa.pub"), key(&factory, "minimill-2.rsa.pub"));
    let folder = factory.home().join("apk/x86_64");
    let verify = |path: &Path, key: &str| factory.run(&["apk", "verify", path.to_str().unwrap(), "--key", key]).code;
    let mut made_after = 0;
    for path in packages(&folder) {
        let is_old = before.contains(&path);
        assert_eq!(verify(&path, &old) == Some(0), is_old, "{}", path.display());
        assert_eq!(verify(&path, &new) == Some(0), !is_old, "{}", path.display());
        made_after += u32::from(!is_old);
    }
    assert!(made_after > 0);
    assert_eq!(verify(&folder.join("APKINDEX.tar.gz"), &new), Some(0));
}

#[test]
fn images_are_verified_in_an_oci_layout() {
    let factory = Factory::after_first_cycle(MILL);
    let layout = factory.folder().join("copied");
    let copied = std::process::Command::new("cp").arg("-r").arg(factory.layout("hello")).arg(&layout).status().unwrap();
    assert!(copied.success());
    let public = key(&factory, "minimill.pub");
    let verify = |image: String| factory.run(&["verify", &image, "--key", &public]);
    let verified = verify(format!("oci:{}:1.0.0", layout.display()));
    verified.expect_code(0);
    let digest = text(&verified.json["digest"]).to_owned();
    verify(format!("oci:{}@{digest}", layout.display())).expect_code(0);
    // Several tags, absent ones, no layout.
    let several = verify(format!("oci:{}", layout.display()));
    several.expect_code(2);
    assert!(several.stderr.contains("1.0.0"), "{}", several.stderr);
    verify(format!("oci:{}:9", layout.display())).expect_code(1);
    verify(format!("oci:{}/absent", layout.display())).expect_code(1);

    // One changed byte of one layer is named.
    let manifest = text(&verified.json["manifests"][1]["digest"]).to_owned();
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let value: serde_json::Value = serde_json::from_slice(&fs::read(blob(&manifest)).unwrap()).unwrap();
    let layer = text(&value["layers"][0]["digest"]).to_owned();
    let mut bytes = fs::read(blob(&layer)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(blob(&layer), bytes).unwrap();
    let refused = verify(format!("oci:{}:1.0.0", layout.display()));
    refused.expect_code(1);
    let named = rows(&refused.json["manifests"][1]["content"])
        .iter()
        .any(|content| content["digest"] == layer && content["outcome"] == "bad");
    assert!(named, "{:#}", refused.json);
}

#[test]
fn a_signing_mode_that_lacks_a_setting_is_named() {
    let factory = Factory::new(MILL);
    for (text, expected) in [
        ("[signing]\nmode = \"keyless\"\n", "needs `fulcio`"),
        ("[signing]\nmode = \"keyless\"\nfulcio = \"https://f\"\nrekor = \"https://r\"\n", "MINIMILL_IDENTITY_TOKEN"),
        ("[signing]\nmode = \"keyless\"\nlegacy-tags = true\n", "`legacy-tags` needs a key"),
        ("[signing]\nmode = \"other\"\n", "other"),
    ] {
        fs::write(factory.home().join("mill.toml"), text).unwrap();
        let refused = factory.run(&["cycle"]);
        refused.expect_code(2);
        assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
    }
}
