//! `mill image lock`, and images that are built from a lock or without the network.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use apk::{Index, Package, PackageInformation, PackageSpec, build_package_file};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tests::watched::Watched;

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
        self.publish_package("hello", version, text, &[]);
    }

    /// Puts a package into the repository, with `text` in its file.
    fn publish_package(&self, name: &str, version: &str, text: &str, depends: &[&str]) {
        let root = self.path(&format!("root-{name}"));
        fs::create_dir_all(root.join("usr/share")).unwrap();
        fs::write(root.join("usr/share").join(name), text).unwrap();
        let information = PackageInformation {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "x86_64".to_owned(),
            licenses: vec!["MIT".to_owned()],
            build_date: 1_750_000_000,
            depends: depends.iter().map(|depend| (*depend).to_owned()).collect(),
            ..PackageInformation::default()
        };
        let spec = PackageSpec { information, source_date_epoch: 1_750_000_000, ..PackageSpec::default() };
        build_package_file(&spec, &root, &self.path(&format!("repository/x86_64/{name}-{version}.apk"))).unwrap();
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

    // A lock that does not say which definition it is of is taken, and that is told.
    let mut unstated = lock.clone();
    unstated.as_object_mut().unwrap().remove("config");
    place.write("old.lock.json", &unstated.to_string());
    let output = place.mill(&["build", "image.yaml", "--lockfile", "old.lock.json", "--output", "old"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("`old.lock.json` does not say which definition"), "{told}");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["digest"], first.as_str());

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

/// A base made here, and an image on it.
fn based() -> Place {
    let place = Place::new();
    place.publish("1-r0", "one");
    place.publish_package("tool", "1-r0", "tool", &["hello"]);
    place.write(
        "base.yaml",
        "contents:\n  repositories: [./repository]\n  packages: [hello]\ncmd: /usr/share/hello\narchs: [x86_64]\n",
    );
    place.digest(&["build", "base.yaml", "--output", "base"]);
    fs::create_dir_all(place.path("list/x86_64")).unwrap();
    place.write("list/x86_64/APKINDEX", &database(&place));
    place.write("image.yaml", IMAGE);
    place
}

const IMAGE: &str = "contents:\n  repositories: [./repository]\n  packages: [tool]\n  baseimage: {image: ./base, apkindex: ./list}\narchs: [x86_64]\n";
const FROM_LOCK: [&str; 6] = ["build", "image.yaml", "--lockfile", "image.lock.json", "--output", "image"];

#[test]
fn an_image_on_a_base_is_locked_without_it_and_built_from_the_lock() {
    let place = based();
    // A newer version than the base's does not come in by the way.
    place.publish("2-r0", "two");
    let output = place.mill(&["solve", "image.yaml"]);
    assert_eq!(
        serde_json::from_slice::<Vec<String>>(&output.stdout).unwrap(),
        ["hello=1-r0", "tool=1-r0"],
        "{output:?}"
    );
    let message = place.refusal(&["build", "image.yaml", "--output", "image"]);
    assert!(message.contains("image.yaml:4:") && message.contains("mill image lock image.yaml"), "{message}");
    let output = place.mill(&["lock", "image.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lock = locked(&place.path("image.lock.json"));
    let names: Vec<&str> = lock["contents"]["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["tool"]);

    let digest = place.digest(&[&FROM_LOCK[..], &["--offline"]].concat());
    assert_eq!(tests::layout::problems(&place.path("image")), [] as [String; 0]);
    let layers = |layout: &str, digest: &str| {
        let index = tests::layout::document(&place.path(layout), digest);
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let layers = tests::layout::document(&place.path(layout), &manifest)["layers"].as_array().unwrap().clone();
        (manifest, layers)
    };
    let base = locked(&place.path("base/index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let (_, below) = layers("base", &base);
    let (manifest, all) = layers("image", &digest);
    assert_eq!((&all[..below.len()], all.len()), (&below[..], below.len() + 1));
    let top = Value::Array(all[below.len()..].to_vec());
    assert_eq!(top[0]["mediaType"], below[0]["mediaType"]);
    let configuration = tests::layout::document(&place.path("image"), &manifest)["config"]["digest"].clone();
    let configuration = tests::layout::document(&place.path("image"), configuration.as_str().unwrap());
    assert_eq!(configuration["config"]["Cmd"], serde_json::json!(["/usr/share/hello"]));
    // The same again, and nothing to add when the base has all.
    assert_eq!(place.digest(&[&FROM_LOCK[..], &["--sbom-path", "sboms"]].concat()), digest);
    let names = |part: &str| -> Vec<String> {
        let document = locked(&place.path(&format!("sboms/sbom-{part}.spdx.json")));
        let packages = document["packages"].as_array().unwrap().iter();
        packages.map(|package| package["name"].as_str().unwrap().to_owned()).collect()
    };
    let platform = names("x86_64");
    assert!(["hello", "tool"].iter().all(|name| platform.iter().any(|known| known == name)), "{platform:?}");
    assert!(!names("index").is_empty());
    place.write("image.yaml", &IMAGE.replace("[tool]", "[hello]"));
    assert!(place.mill(&["lock", "image.yaml"]).status.success());
    place.digest(&FROM_LOCK);
}

#[test]
fn a_base_that_does_not_fit_is_refused() {
    let place = based();
    place.publish("2-r0", "two");
    place.write("image.yaml", &IMAGE.replace("[tool]", "['hello>1-r0']"));
    let message = place.refusal(&["lock", "image.yaml"]);
    assert!(message.contains("the base image has `hello=1-r0`") && message.contains("2-r0"), "{message}");
    place.write("image.yaml", &IMAGE.replace("./list", "./lists"));
    let message = place.refusal(&["lock", "image.yaml"]);
    assert!(
        message.contains("image.yaml:4:") && message.contains("`contents.baseimage.apkindex` is `./lists`"),
        "{message}"
    );
    place.write("image.yaml", &IMAGE.replace("x86_64", "aarch64"));
    let message = place.refusal(&["solve", "image.yaml"]);
    assert!(message.contains("no index for aarch64") || message.contains("is not there for linux/arm64"), "{message}");
    place.write("image.yaml", &format!("{IMAGE}cmd: own\n"));
    assert!(place.refusal(&["lock", "image.yaml"]).contains("image.yaml:6:6: `cmd` is `own`"));

    // The base becomes another after the image was locked.
    place.write("image.yaml", IMAGE);
    assert!(place.mill(&["lock", "image.yaml"]).status.success());
    place.write("base.yaml", "contents:\n  repositories: [./repository]\n  packages: [tool]\narchs: [x86_64]\n");
    fs::remove_dir_all(place.path("base")).unwrap();
    place.digest(&["build", "base.yaml", "--output", "base"]);
    let message = place.refusal(&FROM_LOCK);
    assert!(message.contains("differs from the image's own"), "{message}");
    place.write("list/x86_64/APKINDEX", &database(&place));
    let message = place.refusal(&FROM_LOCK);
    assert!(message.contains("is not for the base image as it is now (`tool` is in both)"), "{message}");
    assert!(!place.path("image/index.json").exists());

    // A layer that is not what its digest says.
    let layer = fs::read_dir(place.path("base/blobs/sha256")).unwrap().map(|file| file.unwrap().path());
    let layer = layer.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    bytes[4] ^= 1;
    fs::write(&layer, bytes).unwrap();
    place.write("image.yaml", &IMAGE.replace("[tool]", "[hello]"));
    assert!(place.mill(&["lock", "image.yaml"]).status.success());
    let message = place.refusal(&FROM_LOCK);
    assert!(message.contains("has the digest sha256:") && message.contains("fetch it again"), "{message}");
    assert!(!place.path("image/index.json").exists());
}

/// The apk database of the base.
fn database(place: &Place) -> String {
    let layout = place.path("base");
    let index = locked(&layout.join("index.json"));
    let index = tests::layout::document(&layout, index["manifests"][0]["digest"].as_str().unwrap());
    let manifest = index["manifests"][0]["digest"].as_str().unwrap();
    String::from_utf8(tests::layout::file(&layout, manifest, "usr/lib/apk/db/installed")).unwrap()
}

/// The files of a folder over HTTP.
fn served(folder: PathBuf) -> Watched {
    Watched::over(Router::new().fallback(move |request: Request| async move {
        match fs::read(folder.join(request.uri().path().trim_start_matches('/'))) {
            Ok(bytes) => Response::new(Body::from(bytes)),
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        }
    }))
}

#[test]
fn an_image_of_repositories_over_http_is_built_again_offline_from_the_cache() {
    let place = Place::new();
    place.publish("1-r0", "one");
    for step in
        ["genrsa -traditional -out signer.rsa 2048", "rsa -in signer.rsa -pubout -out repository/signer.rsa.pub"]
    {
        let made = Command::new("openssl").args(step.split(' ')).current_dir(place.folder.path()).output();
        match made {
            Ok(made) => assert!(made.status.success(), "{made:?}"),
            Err(error) => return println!("not run: openssl: {error}"),
        }
    }
    let mill = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mill"));
        command.current_dir(place.folder.path()).args(["--format", "json"]).args(arguments).output().unwrap()
    };
    let signed = mill(&["apk", "index", "repository/x86_64", "--key", "signer.rsa"]);
    assert!(signed.status.success(), "{signed:?}");

    let server = served(place.path("repository"));
    let base = format!("http://{}", server.address);
    let pem = fs::read_to_string(place.path("repository/signer.rsa.pub")).unwrap();
    let inline = format!("{{name: signer.rsa.pub, content: {}}}", Value::from(pem));
    let keys =
        [("inline", inline), ("url", format!("{base}/signer.rsa.pub")), ("path", "repository/signer.rsa.pub".into())];
    let build = |home: &str, name: &str, offline: bool| {
        let (file, output) = (format!("{name}.yaml"), format!("{name}-{offline}"));
        let mut arguments = vec!["--home", home, "image", "build", &file, "--output", &output];
        arguments.extend(offline.then_some("--offline"));
        mill(&arguments)
    };
    let digest = |output: &Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let mut online = Vec::new();
    for (name, key) in &keys {
        let contents =
            format!("contents: {{keyring: [{key}], repositories: [{base}], packages: [hello]}}\narchs: [x86_64]\n");
        place.write(&format!("{name}.yaml"), &contents);
        online.push(digest(&build("home", name, false)));
    }
    let asked = server.asked();
    let fetched = |end: &str| asked.iter().filter(|one| one.target.ends_with(end) && one.status == 200).count();
    assert_eq!(fetched("/x86_64/hello-1-r0.apk"), 1, "a package is fetched once: {asked:#?}");
    assert!(fetched("/x86_64/APKINDEX.tar.gz") >= 1 && fetched("/signer.rsa.pub") >= 1, "{asked:#?}");

    drop(server);
    for ((name, _), online) in keys.iter().zip(&online) {
        assert_eq!(digest(&build("home", name, true)), *online, "{name}");
        let refused = build("other", name, true);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(told.contains(&base) && told.contains("not in the cache"), "{name}: {told}");
        assert!(!place.path("other/index.json").exists());
    }
}
