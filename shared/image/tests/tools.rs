//! Other programs read what is composed: umoci unpacks it, skopeo inspects it, syft sees its
//! packages. Each says `not run` where the program is not installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use image::{FileType, PackageFile, PathKind, PathMutation, Settings, User};
use support::{Workshop, chosen, composed, corpus, tool};

fn packages(workshop: &Workshop) -> Vec<PackageFile> {
    let server = workshop
        .package("server")
        .file("usr/bin/server", "#!x\n", 0o755)
        .hardlink("usr/bin/other", "usr/bin/server")
        .symlink("usr/bin/alias", "server")
        .file(&format!("usr/share/{}/ü", "n".repeat(150)), "long", 0o600)
        .file("var/lib/server/state", "s", 0o640)
        .owned("var/lib/server/state", 1000, 1001);
    vec![workshop.build(workshop.package("base").file("etc/hosts", "", 0o644)), workshop.build(server)]
}

#[test]
fn umoci_unpacks_what_was_composed() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let settings = Settings {
        users: vec![User { name: "app".to_owned(), uid: 1000, gid: 1001, shell: None, home: None }],
        paths: vec![PathMutation {
            path: "/data".to_owned(),
            kind: PathKind::Directory,
            uid: Some(3_000_000_000),
            gid: Some(1001),
            permissions: Some(0o2770),
            source: None,
            recursive: false,
        }],
        ..Settings::default()
    };
    let layout = out.path().join("layout");
    let composed = composed(&packages(&workshop), &settings, &layout).unwrap();
    let bundle = out.path().join("bundle");
    let image = format!("{}:test", layout.display());
    let as_root = std::fs::metadata(out.path()).unwrap().uid() == 0;
    let mut arguments = vec!["unpack", "--image", &image];
    if !as_root {
        arguments.push("--rootless");
    }
    arguments.push(bundle.to_str().unwrap());
    let Some(output) = tool("umoci", &arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut found = BTreeMap::new();
    walk(&bundle.join("rootfs"), "", &mut found);
    let expected: BTreeMap<String, (FileType, u32, u32, u32)> = composed
        .files
        .iter()
        .map(|file| {
            let kind = if file.kind == FileType::Hardlink { FileType::Regular } else { file.kind };
            let owner = if as_root { (file.uid, file.gid) } else { (0, 0) };
            (file.path.clone(), (kind, file.mode, owner.0, owner.1))
        })
        .collect();
    if as_root {
        assert_eq!(found, expected);
    } else {
        assert!(found.keys().eq(expected.keys()));
    }
    let link = |path: &str| std::fs::metadata(bundle.join("rootfs").join(path)).unwrap().ino();
    assert_eq!(link("usr/bin/server"), link("usr/bin/other"));
}

fn walk(root: &Path, below: &str, found: &mut BTreeMap<String, (FileType, u32, u32, u32)>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let facts = std::fs::symlink_metadata(entry.path()).unwrap();
        let kind = match facts.file_type() {
            kind if kind.is_dir() => FileType::Directory,
            kind if kind.is_symlink() => FileType::Symlink,
            kind if kind.is_char_device() => FileType::Device,
            _ => FileType::Regular,
        };
        found.insert(path.clone(), (kind, facts.permissions().mode() & 0o7777, facts.uid(), facts.gid()));
        if kind == FileType::Directory {
            walk(root, &path, found);
        }
    }
}

#[test]
fn skopeo_inspects_and_copies_it() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let layout = out.path().join("layout");
    let composed = composed(&packages(&workshop), &Settings::default(), &layout).unwrap();
    let image = format!("oci:{}:test", layout.display());
    let Some(output) = tool("skopeo", &["inspect", &image]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let inspected: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inspected["Digest"], composed.manifest.digest().to_string());
    assert_eq!(inspected["Architecture"], "amd64");
    let copy = format!("oci:{}:copy", out.path().join("copy").display());
    let output = tool("skopeo", &["--insecure-policy", "copy", "--quiet", &image, &copy]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The corpus packages that can be in one x86_64 image.
fn corpus_packages() -> Option<Vec<PackageFile>> {
    let corpus = corpus()?.join("apk");
    Some(
        [
            "packages/x86_64/pretend-baselayout-1.0.0-r0.apk",
            "packages/x86_64/replayout-1.0.0-r0.apk",
            "hello-wolfi-2.12.1-r0.apk",
        ]
        .iter()
        .map(|path| chosen(&corpus.join(path)))
        .collect(),
    )
}

#[test]
fn real_packages_compose() {
    let Some(packages) = corpus_packages() else { return };
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&packages, &Settings::default(), out.path()).unwrap();
    let files = support::listing(out.path(), &composed);
    // `replayout` replaces `pretend-baselayout`, and both bring this file.
    let release = composed.files.iter().find(|file| file.path == "etc/os-release").unwrap();
    assert_eq!(release.owner, image::FileOwner::Package("replayout".to_owned()));
    assert!(files["usr/bin/hello"].contains("ELF"));
    assert!(composed.packages.iter().all(|package| package.sbom.is_some()));

    let corpus = corpus().unwrap().join("apk");
    for (file, architecture) in [
        ("replaces/replaces-0.0.1-r0.apk", apk::Architecture::Aarch64),
        ("alpine-316/alpine-baselayout-3.2.0-r23.apk", apk::Architecture::Aarch64),
    ] {
        let packages = [chosen(&corpus.join(file))];
        let settings = Settings::default();
        let composition =
            image::Composition { packages: &packages, settings: &settings, architecture, created: support::EPOCH };
        let mut sink = image::Layout::create(&out.path().join("other")).unwrap();
        let composed = image::compose(&composition, &mut sink).unwrap();
        assert!(composed.files.len() > 20, "{file}");
    }
}

#[test]
fn syft_sees_exactly_the_packages() {
    let workshop = Workshop::new();
    let mut packages = packages(&workshop);
    packages.extend(corpus_packages().unwrap_or_default());
    let out = tempfile::tempdir().unwrap();
    composed(&packages, &Settings::default(), out.path()).unwrap();
    let source = format!("oci-dir:{}", out.path().display());
    let Some(output) = tool("syft", &["scan", &source, "-q", "-o", "json"]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let label = |package: &serde_json::Value| {
        format!("{}-{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
    };
    let artifacts = seen["artifacts"].as_array().unwrap();
    let found: BTreeSet<String> = artifacts.iter().map(label).collect();
    let expected: BTreeSet<String> = packages
        .iter()
        .map(|package| format!("{}-{}", package.entry.information.name, package.entry.information.version))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(artifacts.len(), expected.len(), "each package once");
    assert!(artifacts.iter().all(|package| package["type"] == "apk"));
    let id = if packages.len() > 2 { "replayout" } else { "minimill" };
    assert!(seen["distro"].to_string().contains(id) || id == "replayout", "{}", seen["distro"]);
}
