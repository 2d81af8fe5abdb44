//! Keys that are rotated, keys in KMS and identities that sign whole cycles, and images that are
//! verified where they lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../../shared/keyless/tests/stand_ins/mod.rs"]
mod stand_ins;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use registry::{Layouts, Registry, Remote, RemoteOptions, RouterOptions, router};
use serde_json::{Value, json};
use sign::predicate;
use stand_ins::{Fulcio, Issuer, Rekor, trusted_root};
use tests::factory::{Factory, rows, text};
use tests::servers::{Ministack, free_address};
use tokio::runtime::Runtime;

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

/// What each image has attached to its index and to each platform.
const ATTACHED: [&str; 5] =
    [predicate::SIGNATURE, predicate::SPDX, predicate::CYCLONEDX, predicate::PROVENANCE, predicate::TEST_RESULT];

/// Asks a registry once for the referrers of each digest of a row, and expects all that is attached.
fn expect_attached(address: &str, repository: &str, row: &Value) {
    let platforms: BTreeMap<String, String> = serde_json::from_value(row["platforms"].clone()).unwrap();
    assert!(!platforms.is_empty(), "{row:#}");
    let client = Remote::new(address, RemoteOptions::default()).unwrap();
    let runtime = Runtime::new().unwrap();
    for digest in platforms.values().map(String::as_str).chain([text(&row["digest"])]) {
        let asked = async { client.referrers(&repository.parse().unwrap(), digest.parse().unwrap(), None).await };
        let found = runtime.block_on(asked).unwrap();
        let kinds: BTreeSet<&str> = found
            .iter()
            .map(|one| one.annotations().as_ref().unwrap()["dev.sigstore.bundle.predicateType"].as_str())
            .collect();
        assert_eq!((kinds, found.len()), (ATTACHED.into(), ATTACHED.len()), "{digest}");
    }
}

#[test]
fn keys_that_kms_holds_sign_the_packages_and_images_of_a_cycle() {
    let factory = Factory::new(MILL);
    let Some(ministack) = Ministack::start() else { return };
    let create = |spec: &str| {
        let request = json!({"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"});
        text(&ministack.call("kms", "TrentService.CreateKey", &request)["KeyMetadata"]["KeyId"]).to_owned()
    };
    let (image_key, package_key) = (create("ECC_NIST_P256"), create("RSA_4096"));
    let settings = format!(
        "[registry]\npublish = \"{}/team\"\nservice = \"ecr\"\n[signing]\nmode = \"kms\"\nimage-key = \
         \"{image_key}\"\npackage-key = \"{package_key}\"\n",
        ministack.address
    );
    fs::create_dir_all(factory.home()).unwrap();
    fs::write(factory.home().join("mill.toml"), settings).unwrap();
    let cycle = ministack.run(&factory, &["cycle"]);
    cycle.expect_code(0);
    let row = cycle.image("hello", "1");
    expect_attached(&ministack.address, "team/hello", row);

    let public = key(&factory, "minimill-kms.pub");
    let image = format!("{}/team/hello@{}", ministack.address, text(&row["digest"]));
    ministack.run(&factory, &["verify", "hello:1"]).expect_code(0);
    ministack.run(&factory, &["verify", &image, "--key", &public]).expect_code(0);
    // The home's own key signed nothing of it.
    ministack.run(&factory, &["verify", &image, "--key", &key(&factory, "minimill.pub")]).expect_code(1);
    let folder = factory.home().join("apk/x86_64");
    let public = key(&factory, "minimill-kms.rsa.pub");
    for path in packages(&folder).into_iter().chain([folder.join("APKINDEX.tar.gz")]) {
        factory.run(&["apk", "verify", path.to_str().unwrap(), "--key", &public]).expect_code(0);
    }

    // A cycle with nothing new asks KMS for no signature and changes nothing.
    let again = ministack.run(&factory, &["cycle"]);
    again.expect_code(0);
    assert_eq!(again.image("hello", "1")["digest"], row["digest"]);
    expect_attached(&ministack.address, "team/hello", row);
}

#[test]
fn an_identity_signs_a_cycle_that_verifies_when_fulcio_and_rekor_are_gone() {
    const EMAIL: &str = "mill@example.org";
    let factory = Factory::new(MILL);
    let home = factory.home();
    fs::create_dir_all(&home).unwrap();
    // A registry that has the referrers API.
    let serving = Runtime::new().unwrap();
    let address = free_address();
    let options = RouterOptions { push: true, delete: true, ..RouterOptions::default() };
    let routes = router(Layouts::new(factory.folder().join("published")), options);
    let listener = serving.block_on(tokio::net::TcpListener::bind(&address)).unwrap();
    serving.spawn(async move { axum::serve(listener, routes).await.unwrap() });

    let sigstore = Runtime::new().unwrap();
    let issuer = Issuer::new();
    let fulcio = sigstore.block_on(Fulcio::start(&issuer));
    let rekor = sigstore.block_on(Rekor::start(0));
    fs::write(home.join("trusted_root.json"), trusted_root(&fulcio, &rekor).to_string()).unwrap();
    fs::write(home.join("token"), issuer.token(EMAIL, 3600)).unwrap();
    let settings = format!(
        "[registry]\npublish = \"{address}/team\"\n[signing]\nmode = \"keyless\"\nfulcio = \"{}\"\nrekor = \
         \"{}\"\ntoken-file = \"{home}/token\"\nidentity = \"{EMAIL}\"\nissuer = \"{}\"\ntrusted-root = \
         \"{home}/trusted_root.json\"\n",
        fulcio.url,
        rekor.url,
        issuer.url,
        home = home.display()
    );
    fs::write(home.join("mill.toml"), settings).unwrap();
    let cycle = factory.cycle();
    cycle.expect_code(0);
    sigstore.shutdown_background();
    let row = cycle.image("hello", "1");
    expect_attached(&address, "team/hello", row);

    factory.run(&["verify", "hello:1"]).expect_code(0);
    let image = format!("{address}/team/hello@{}", text(&row["digest"]));
    let root = home.join("trusted_root.json");
    let verify = |identity: &str| {
        let who = ["--identity", identity, "--issuer", &issuer.url, "--trusted-root", root.to_str().unwrap()];
        factory.run(&[&["verify", image.as_str()][..], &who].concat())
    };
    verify(EMAIL).expect_code(0);
    let refused = verify("eve@example.org");
    refused.expect_code(1);
    assert!(refused.json.to_string().contains("the signer is not trusted"), "{:#}", refused.json);
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
