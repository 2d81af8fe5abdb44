//! `mill image lock`, and images that are built from a lock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use apk::{Index, Package, PackageInformation, PackageSpec, build_package_file};
use serde_json::Value;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.path("repository/x86_64")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Puts `hello` in a version into the repository, with `text` in its file.
    fn publish(&self, version: &str, text: &str) {
        let root = self.path("root");
        fs::create_dir_all(root.join("usr/share")).unwrap();
        fs::write(root.join("usr/share/hello"), text).unwrap();
        let information = PackageInformation {
            name: "hello".to_owned(),
            version: version.to_owned(),
            architecture: "x86_64".to_owned(),
            licenses: vec!["MIT".to_owned()],
            build_date: 1_750_000_000,
            ..PackageInformation::default()
        };
        let spec = PackageSpec { information, source_date_epoch: 1_750_000_000, ..PackageSpec::default() };
        build_package_file(&spec, &root, &self.path(&format!("repository/x86_64/hello-{version}.apk"))).unwrap();
        let files = fs::read_dir(self.path("repository/x86_64")).unwrap().map(|file| file.unwrap().path());
        let packages = files.filter(|file| file.extension().is_some_and(|extension| extension == "apk"));
        let entries = packages.map(|file| Package::open(&file).unwrap().index_entry()).collect();
        let index = Index { description: String::new(), entries };
        fs::write(self.path("repository/x86_64/APKINDEX.tar.gz"), index.write(0).unwrap()).unwrap();
    }

    fn mill(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mill"));
        command.current_dir(self.folder.path()).args(["--format", "json", "image"]).args(arguments);
        command.arg("--ignore-signatures").output().unwrap()
    }

    fn digest(&self, arguments: &[&str]) -> String {
        let output = self.mill(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["digest"].as_str().unwrap().to_owned()
    }

    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.mill(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn locked(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_lock_keeps_an_image_as_it_is_until_its_definition_changes() {
    let place = Place::new();
    place.publish("1-r0", "one");
    place.write("image.yaml", "include: base.yaml\ncontents:\n  packages: [hello]\narchs: [x86_64]\n");
    place.write("base.yaml", "contents:\n  repositories: [./repository]\n");
    let output = place.mill(&["lock", "image.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let lock = locked(&place.path("image.lock.json"));
    assert_eq!((&lock["version"], &lock["config"]["name"]), (&"v1".into(), &"image.yaml".into()));
    let packages = lock["contents"]["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 1);
    assert_eq!((&packages[0]["name"], &packages[0]["version"]), (&"hello".into(), &"1-r0".into()));
    assert!(packages[0]["control"]["checksum"].as_str().unwrap().starts_with("sha1-"));
    assert!(packages[0]["data"]["checksum"].as_str().unwrap().starts_with("sha256-"));

    let build = |output: &str| place.digest(&["build", "image.yaml", "--output", output]);
    let from_lock = ["build", "image.yaml", "--lockfile", "image.lock.json", "--output"];
    let with_lock = |output: &str| place.digest(&[&from_lock[..], &[output]].concat());
    let first = build("a");
    assert_eq!(with_lock("b"), first);
    place.publish("2-r0", "two");
    assert_eq!(with_lock("c"), first);
    assert_ne!(build("d"), first);

    // An included file is part of the definition.
    let refused = || place.refusal(&[&from_lock[..], &["e"]].concat());
    place.write("base.yaml", "contents:\n  repositories: [./repository]\ncmd: /usr/bin/other\n");
    let message = refused();
    assert!(message.contains("image.lock.json") && message.contains("lock it again"), "{message}");

    place.write("base.yaml", "contents:\n  repositories: [./repository]\n");
    place.publish("1-r0", "another");
    let message = refused();
    assert!(message.contains("hello-1-r0"), "{message}");
    assert!(!place.path("e").join("index.json").exists());
}

#[test]
fn includes_are_found_beside_the_file_and_never_in_a_circle() {
    let place = Place::new();
    place.publish("1-r0", "one");
    fs::create_dir(place.path("images")).unwrap();
    place.write("images/image.yaml", "include: base.yaml\narchs: [x86_64]\n");
    place.write("images/base.yaml", "contents:\n  repositories: [../repository]\n  packages: [hello]\n");
    let output = place.mill(&["solve", "images/image.yaml"]);
    assert_eq!(serde_json::from_slice::<Vec<String>>(&output.stdout).unwrap(), ["hello=1-r0"], "{output:?}");
    place.write("images/base.yaml", "include: base.yaml\n");
    let message = place.refusal(&["solve", "images/image.yaml"]);
    assert!(message.contains("it includes itself"), "{message}");
    place.write("images/base.yaml", "include: gone.yaml\n");
    assert!(place.refusal(&["lock", "images/image.yaml"]).contains("gone.yaml"));
}
