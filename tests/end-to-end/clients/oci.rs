//! Images as `skopeo` copies and `umoci` unpacks them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Image, Server, factory, installed, run};

fn skopeo(action: &str) -> Command {
    let mut command = Command::new("skopeo");
    command.arg(action);
    command
}

#[test]
fn skopeo_inspects_lists_and_copies_the_digests_that_were_published() {
    let Some(factory) = factory() else { return };
    if !installed("skopeo") {
        return;
    }
    let server = Server::start(&factory.home);
    for image in factory.images() {
        let place = format!("docker://{}/{}", server.address, image.name);
        let tagged = format!("{place}:{}", image.tag);
        let inspected: Value =
            serde_json::from_str(&run(skopeo("inspect").args(["--tls-verify=false", &tagged]))).unwrap();
        assert_eq!(inspected["Digest"], image.digest, "{}", image.name);
        assert_eq!(inspected["Architecture"], "amd64");

        let listed: Value =
            serde_json::from_str(&run(skopeo("list-tags").args(["--tls-verify=false", &place]))).unwrap();
        let listed: BTreeSet<&str> = listed["Tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for tag in ["latest", &image.tag] {
            assert!(listed.contains(tag), "{}: no `{tag}` in {listed:?}", image.name);
        }

        let folder = tempfile::tempdir().unwrap();
        let layout = format!("oci:{}:copied", folder.path().display());
        run(skopeo("copy").args([
            "--quiet",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            &tagged,
            &layout,
        ]));
        let index: Value = serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], image.digest, "{}", image.name);
    }
    assert_eq!(server.end(), Some(0));
}

/// An image's files, and what it says of how it is to be run.
struct Unpacked {
    _folder: tempfile::TempDir,
    root: PathBuf,
    runtime: Value,
}

fn unpack(server: &Server, image: &Image) -> Unpacked {
    let folder = tempfile::tempdir().unwrap();
    let layout = format!("{}:copied", folder.path().join("layout").display());
    let source = format!("docker://{}/{}:{}", server.address, image.name, image.tag);
    run(skopeo("copy").args(["--quiet", "--src-tls-verify=false", &source, &format!("oci:{layout}")]));
    let bundle = folder.path().join("bundle");
    let mut umoci = Command::new("umoci");
    umoci.arg("unpack");
    if run(Command::new("id").arg("-u")).trim() != "0" {
        umoci.arg("--rootless");
    }
    run(umoci.args(["--image", &layout]).arg(&bundle));
    let runtime = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    Unpacked { _folder: folder, root: bundle.join("rootfs"), runtime }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What `readelf` says between `before` and the next `]`, in every line that has it.
fn bracketed(text: &str, before: &str) -> Vec<String> {
    let parts = text.lines().filter_map(|line| line.split_once(before)?.1.split_once(']'));
    parts.map(|(part, _)| part.trim().to_owned()).collect()
}

#[test]
fn umoci_unpacks_images_that_bring_every_library_and_none_of_the_host() {
    let Some(factory) = factory() else { return };
    if !installed("skopeo") || !installed("umoci") || !installed("readelf") {
        return;
    }
    let server = Server::start(&factory.home);
    let (mut programs, mut libraries) = (0, 0);
    for image in factory.images() {
        let unpacked = unpack(&server, &image);
        let name = &image.name;
        assert_eq!(unpacked.runtime["process"]["user"]["uid"], 65532, "{name}");
        assert!(unpacked.root.join("etc/passwd").is_file(), "{name}");
        let mut found = Vec::new();
        files(&unpacked.root, &mut found);
        for path in &found {
            let shown = format!("{name}: {}", path.strip_prefix(&unpacked.root).unwrap().display());
            let file = path.file_name().unwrap().to_str().unwrap();
            let of_glibc = ["libc.so.6", "libpthread.so", "libm.so", "libdl.so", "ld-linux"];
            assert!(!of_glibc.iter().any(|other| file.starts_with(other)), "{shown}");
            // Devices are no files to read: /dev/zero never ends.
            let regular = fs::symlink_metadata(path).unwrap().is_file();
            if !regular || !fs::read(path).unwrap().starts_with(b"\x7fELF") {
                continue;
            }
            programs += 1;
            let told = run(Command::new("readelf").args(["-dlW"]).arg(path));
            for interpreter in bracketed(&told, "program interpreter:") {
                assert_eq!(interpreter, "/lib/ld-musl-x86_64.so.1", "{shown}");
            }
            for library in bracketed(&told, "(NEEDED)             Shared library: [") {
                let places = ["lib", "usr/lib"].map(|folder| unpacked.root.join(folder).join(&library));
                assert!(places.iter().any(|place| place.exists()), "{shown} needs {library}, which is not there");
                libraries += 1;
            }
        }
        assert_eq!(found.iter().any(|path| path.ends_with("lib/ld-musl-x86_64.so.1")), name != "static", "{name}");
    }
    assert!(programs >= 8 && libraries >= programs / 2, "{programs} ELF files need {libraries} libraries in all");
}
