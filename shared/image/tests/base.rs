//! Images on a base: what is below stays byte for byte, what is on top follows the rules of packages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use apk::{Architecture, parse_installed};
use image::{
    BaseImage, Composed, Composition, Entrypoint, Error, FileOwner, Group, Key, Layout, PackageFile, Settings, User,
    compose_on,
};
use oci_spec::image::MediaType;
use serde_json::{Value, json};
use support::{EPOCH, Workshop, composed, layer_listing, tool};

/// A base in `FOLDER/base`, the list of its packages in `FOLDER/list`, and an image on it in `FOLDER/image`.
struct Place {
    folder: tempfile::TempDir,
    workshop: Workshop,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), workshop: Workshop::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A base as it is made here, with accounts and an applet link.
    fn base(&self) -> Composed {
        let layout = self
            .workshop
            .package("layout")
            .directory("usr/lib", 0o755)
            .symlink("lib", "usr/lib")
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
            .file("usr/share/notes", "old\n", 0o644)
            .file("usr/share/same", "same\n", 0o644)
            .directory("srv/open", 0o1777)
            .file("var/lib/db/sbom/layout-1.0-r0.spdx.json", "{\"spdxVersion\": \"SPDX-2.3\"}", 0o644);
        let busybox = self.workshop.package("busybox").file("bin/busybox", "#!x\n", 0o755).file(
            "etc/busybox-paths.d/busybox",
            "/usr/bin/wget\n",
            0o644,
        );
        let packages = [self.workshop.build(layout), self.workshop.build(busybox)];
        let settings = Settings {
            users: vec![User { name: "app".to_owned(), uid: 1000, gid: 1000, shell: None, home: None }],
            groups: vec![Group { name: "app".to_owned(), gid: 1000, members: Vec::new() }],
            run_as: Some("app".to_owned()),
            entrypoint: Entrypoint::Command("/bin/busybox sh".to_owned()),
            environment: vec![("LANG".to_owned(), "C".to_owned())],
            annotations: vec![("org.opencontainers.image.title".to_owned(), "base".to_owned())],
            keys: vec![Key { name: "base.rsa.pub".to_owned(), content: "base".to_owned() }],
            world: vec!["busybox".to_owned(), "layout".to_owned()],
            ..Settings::default()
        };
        let base = composed(&packages, &settings, &self.path("base")).unwrap();
        let database = layer_listing(&self.path("base"), base.layers[0].descriptor.digest().as_ref());
        self.list(content(&database["usr/lib/apk/db/installed"]));
        base
    }

    fn list(&self, text: &str) {
        fs::create_dir_all(self.path("list/x86_64")).unwrap();
        fs::write(self.path("list/x86_64/APKINDEX"), text).unwrap();
    }

    fn open(&self) -> Result<BaseImage, Error> {
        BaseImage::open(&self.path("base"), &self.path("list"), Architecture::X86_64)
    }

    fn compose(&self, packages: &[PackageFile], settings: &Settings) -> Result<Composed, Error> {
        let base = self.open()?;
        let created = base.created(None, packages);
        let composition = Composition { packages, settings, architecture: Architecture::X86_64, created };
        let mut sink = Layout::create(&self.path("image"))?;
        let composed = compose_on(&base, &composition, &mut sink)?;
        let mut named = composed.manifest.clone();
        named.set_annotations(Some([("org.opencontainers.image.ref.name".to_owned(), "test".to_owned())].into()));
        sink.write_index(vec![named])?;
        Ok(composed)
    }

    /// The entries of the layer on top.
    fn top(&self, composed: &Composed) -> BTreeMap<String, String> {
        layer_listing(&self.path("image"), composed.layers.last().unwrap().descriptor.digest().as_ref())
    }

    fn refusal(&self, packages: &[PackageFile]) -> String {
        let error = self.compose(packages, &Settings::default()).unwrap_err();
        assert!(!self.path("image/index.json").exists(), "{error}");
        error.to_string()
    }
}

/// The content in a line of a listing, after mode, owner and time.
fn content(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).unwrap()
}

fn bytes(layout: &Path, digest: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut support::blob(layout, digest), &mut bytes).unwrap();
    bytes
}

#[test]
fn one_layer_lies_on_a_base_that_stays_as_it_is() {
    let place = Place::new();
    let base = place.base();
    let tool_package = place
        .workshop
        .package("tool")
        .file("lib/libtool.so", "elf", 0o755)
        .file("srv/open/mine", "m", 0o600)
        .file("usr/bin/wget", "real", 0o755)
        .say(|information| information.build_date = EPOCH + 50);
    let packages = [place.workshop.build(tool_package)];
    let settings = Settings {
        world: vec!["tool".to_owned()],
        annotations: vec![("org.opencontainers.image.source".to_owned(), "https://code.example".to_owned())],
        keys: vec![Key { name: "tool.rsa.pub".to_owned(), content: "tool".to_owned() }],
        ..Settings::default()
    };
    let composed = place.compose(&packages, &settings).unwrap();
    assert_eq!(composed.layers.len(), base.layers.len() + 1);
    assert_eq!(composed.layers[..base.layers.len()], base.layers);
    let below = base.layers[0].descriptor.digest().to_string();
    assert_eq!(bytes(&place.path("image"), &below), bytes(&place.path("base"), &below));
    assert_eq!(composed.created, EPOCH + 50);

    let top = place.top(&composed);
    let database = parse_installed("installed", content(&top["usr/lib/apk/db/installed"])).unwrap();
    let names: Vec<&str> = database.iter().map(|package| package.entry.information.name.as_str()).collect();
    assert_eq!(names, ["layout", "busybox", "tool"]);
    assert_eq!(content(&top["etc/apk/world"]), "busybox=1.0-r0\nlayout=1.0-r0\ntool\n");
    // A link of the base is followed, and the applet's gives way to the program.
    assert_eq!(content(&top["usr/lib/libtool.so"]), "elf");
    assert_eq!(content(&top["usr/bin/wget"]), "real");
    let link = composed.files.iter().find(|file| file.path == "lib").unwrap();
    assert_eq!((link.kind, &link.owner), (image::FileType::Symlink, &FileOwner::Package("layout".to_owned())));
    // What is not new is not there, but for the directories above what is.
    for path in
        ["lib", "etc/passwd", "etc/group", "etc/os-release", "bin/busybox", "dev/null", "etc/apk/keys/base.rsa.pub"]
    {
        assert!(!top.contains_key(path), "{path}");
    }
    assert!(top["srv/open"].starts_with("1777 0:0"), "{}", top["srv/open"]);
    assert_eq!(content(&top["etc/apk/keys/tool.rsa.pub"]), "tool");

    let configuration = support::json(&place.path("image"), composed.configuration.digest().as_ref());
    let config = &configuration["config"];
    assert_eq!(config["Entrypoint"], json!(["/bin/busybox", "sh"]));
    assert_eq!(config["User"], "1000");
    assert!(config["Env"].as_array().unwrap().iter().all(|variable| variable != "LANG=C"), "{config}");
    assert_eq!(config["Labels"]["org.opencontainers.image.source"], "https://code.example");
    assert!(config["Labels"].get("org.opencontainers.image.title").is_none(), "{config}");
    assert_eq!(configuration["history"].as_array().unwrap().len(), 2);
    let diff_ids: Vec<&str> = composed.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    assert_eq!(configuration["rootfs"]["diff_ids"], json!(diff_ids));
    let manifest = support::json(&place.path("image"), composed.manifest.digest().as_ref());
    let digest = base.manifest.digest().to_string();
    assert_eq!(manifest["annotations"]["org.opencontainers.image.base.digest"], digest);
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "base");

    let sboms: Vec<bool> = composed.packages.iter().map(|package| package.sbom.is_some()).collect();
    assert_eq!(sboms, [true, false, false]);
    let again = place.compose(&packages, &settings).unwrap();
    assert_eq!(again.manifest, composed.manifest);
}

#[test]
fn other_tools_read_it_and_find_the_files_that_are_listed() {
    let place = Place::new();
    let base = place.base();
    let tool_package = place
        .workshop
        .package("tool")
        .file("lib/libtool.so", "elf", 0o755)
        .hardlink("usr/bin/other", "lib/libtool.so")
        .file("usr/bin/wget", "real", 0o755);
    let composed = place.compose(&[place.workshop.build(tool_package)], &Settings::default()).unwrap();
    let image = place.path("image");
    let Some(output) = tool("skopeo", &["inspect", &format!("oci:{}:test", image.display())]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let inspected: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers: Vec<String> =
        inspected["Layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap().to_owned()).collect();
    let below: Vec<String> = base.layers.iter().map(|layer| layer.descriptor.digest().to_string()).collect();
    assert_eq!((&layers[..below.len()], layers.len()), (&below[..], below.len() + 1));

    let bundle = place.path("bundle");
    let named = format!("{}:test", image.display());
    let mut arguments = vec!["unpack", "--image", &named, bundle.to_str().unwrap()];
    if std::os::unix::fs::MetadataExt::uid(&fs::metadata(place.folder.path()).unwrap()) != 0 {
        arguments.insert(1, "--rootless");
    }
    let Some(output) = tool("umoci", &arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = bundle.join("rootfs");
    let found: BTreeSet<String> = walkdir::WalkDir::new(&root)
        .min_depth(1)
        .into_iter()
        .map(|entry| entry.unwrap().path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
        .collect();
    let listed: BTreeSet<String> = composed.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(found, listed);
    assert!(fs::symlink_metadata(root.join("lib")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(root.join("usr/bin/wget")).unwrap(), "real");
    assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().contains("app:x:1000"));
    for file in composed.files.iter().filter(|file| file.kind == image::FileType::Directory) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(root.join(&file.path)).unwrap().permissions());
        assert_eq!(mode & 0o7777, file.mode, "{}", file.path);
    }
}

#[test]
fn files_in_common_are_settled_as_between_packages() {
    let place = Place::new();
    place.base();
    let notes = |name: &str| place.workshop.package(name).file("usr/share/notes", "new\n", 0o644);
    let error = place.refusal(&[place.workshop.build(notes("other"))]);
    assert!(error.contains("`/usr/share/notes` is in both `layout-1.0-r0` and `other-1.0-r0`"), "{error}");
    let group = place.workshop.package("accounts").file("etc/group", "root:x:0:\n", 0o644);
    let error = place.refusal(&[place.workshop.build(group)]);
    assert!(error.contains("`/etc/group` is in the base image, where no package owns it"), "{error}");
    let key = place.workshop.package("keys").file("etc/apk/keys/base.rsa.pub", "another", 0o644);
    let error = place.refusal(&[place.workshop.build(key)]);
    assert!(error.contains("`/etc/apk/keys/base.rsa.pub` is in the base image"), "{error}");
    let link = place.workshop.package("links").file("bin/busybox/x", "", 0o644);
    assert!(place.refusal(&[place.workshop.build(link)]).contains("bin/busybox"));
    let twice = place.workshop.package("busybox").say(|information| information.version = "2.0-r0".to_owned());
    let error = place.refusal(&[place.workshop.build(twice)]);
    assert!(error.contains("busybox-1.0-r0 (in the base image)"), "{error}");

    let replacing = notes("replacing")
        .file("usr/share/same", "same\n", 0o600)
        .say(|information| information.replaces = vec!["layout".to_owned()]);
    let composed = place.compose(&[place.workshop.build(replacing)], &Settings::default()).unwrap();
    let top = place.top(&composed);
    assert_eq!(content(&top["usr/share/notes"]), "new\n");
    // The same content stays below, with its mode.
    assert!(!top.contains_key("usr/share/same"));
    let database = parse_installed("installed", content(&top["usr/lib/apk/db/installed"])).unwrap();
    let holds = |package: usize, path: &str| database[package].files.iter().any(|file| file.path == path);
    assert!(!holds(0, "usr/share/notes") && holds(2, "usr/share/notes"));
    assert!(holds(0, "usr/share/same") && !holds(2, "usr/share/same"));
}

/// A layout of these layers, each a media type and an uncompressed archive.
fn forge(layout: &Path, layers: &[(&str, Vec<u8>)]) -> Value {
    let put = |bytes: &[u8], media_type: &str| {
        let descriptor = image::descriptor_of(MediaType::from(media_type), bytes).unwrap();
        let digest = descriptor.digest().to_string();
        let folder = layout.join("blobs/sha256");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let mut described = Vec::new();
    let mut diff_ids = Vec::new();
    for (media_type, archive) in layers {
        let uncompressed = image::descriptor_of(MediaType::ImageLayer, archive).unwrap();
        diff_ids.push(uncompressed.digest().to_string());
        let bytes = match media_type.rsplit(['+', '.']).next().unwrap() {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                std::io::Write::write_all(&mut encoder, archive).unwrap();
                encoder.finish().unwrap()
            }
            "zstd" => zstd::encode_all(archive.as_slice(), 19).unwrap(),
            _ => archive.clone(),
        };
        described.push(put(&bytes, media_type));
    }
    let configuration = json!({
        "architecture": "amd64", "os": "linux", "config": { "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let configuration = put(&serde_json::to_vec(&configuration).unwrap(), "application/vnd.oci.image.config.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": configuration, "layers": described });
    let manifest = put(&serde_json::to_vec(&manifest).unwrap(), media_type);
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    index(layout, std::slice::from_ref(&manifest));
    manifest
}

fn index(layout: &Path, manifests: &[Value]) {
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(layout.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        let name = header.as_old_mut();
        name.name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if is_link {
            header.set_link_name_literal(text).unwrap();
        }
        let content = if is_link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

use tar::EntryType::{Directory, Link, Regular, Symlink};

#[test]
fn layers_of_every_kind_stay_as_they_are_and_lie_over_each_other() {
    let place = Place::new();
    let base = place.path("base");
    let manifest = forge(
        &base,
        &[
            (
                PLAIN,
                archive(&[
                    ("a/", Directory, ""),
                    ("a/one", Regular, "1"),
                    ("a/two", Regular, "2"),
                    ("b/x", Regular, "x"),
                ]),
            ),
            (GZIP, archive(&[("a/.wh.one", Regular, ""), ("b/.wh..wh..opq", Regular, ""), ("b/y", Regular, "y")])),
            (ZSTD, archive(&[("c", Symlink, "a"), ("c/three", Regular, "3"), ("a/link", Link, "a/two")])),
            (DOCKER, archive(&[("./d/", Directory, ""), ("d/four", Regular, "4"), ("b", Regular, "file")])),
        ],
    );
    place.list("");
    let package = place.workshop.build(place.workshop.package("tool").file("c/five", "5", 0o644));
    let composed = place.compose(&[package], &Settings::default()).unwrap();
    let files: BTreeSet<&str> = composed.files.iter().map(|file| file.path.as_str()).collect();
    for (path, there) in [
        ("a/one", false),
        ("a/two", true),
        ("a/three", true),
        ("a/link", true),
        ("b", true),
        ("b/x", false),
        ("b/y", false),
        ("c", true),
        ("d/four", true),
        ("a/five", true),
        ("c/five", false),
    ] {
        assert_eq!(files.contains(path), there, "{path}");
    }
    let own = support::json(&base, manifest["digest"].as_str().unwrap());
    let made = support::json(&place.path("image"), composed.manifest.digest().as_ref());
    let (own, made) = (own["layers"].as_array().unwrap(), made["layers"].as_array().unwrap());
    assert_eq!(made.len(), own.len() + 1);
    for (own, made) in own.iter().zip(made) {
        assert_eq!((&own["digest"], &own["size"]), (&made["digest"], &made["size"]));
        let digest = own["digest"].as_str().unwrap();
        assert_eq!(bytes(&base, digest), bytes(&place.path("image"), digest));
    }
    assert_eq!(made[3]["mediaType"], GZIP);
    let configuration = support::json(&place.path("image"), composed.configuration.digest().as_ref());
    assert_eq!(configuration["config"]["Healthcheck"]["Test"], json!(["NONE"]));
    assert_eq!(configuration["history"].as_array().unwrap().len(), 5);
}

#[test]
fn layers_that_leave_the_root_or_are_not_known_are_refused() {
    for (layers, expected) in [
        (vec![(GZIP, archive(&[("../evil", Regular, "x")]))], "would escape the root"),
        (vec![(GZIP, archive(&[("a/../../evil", Regular, "x")]))], "would escape the root"),
        (vec![(GZIP, archive(&[("up", Symlink, "../.."), ("up/evil", Regular, "x")]))], "climbs out of the root"),
        (vec![(GZIP, archive(&[("h", Link, "../../etc/shadow")]))], "would escape the root"),
        (vec![(GZIP, archive(&[("h", Link, "nothing")]))], "no file before it"),
        (vec![(GZIP, archive(&[("f", Regular, "x"), ("f/x", Regular, "x")]))], "not a directory"),
        (vec![(GZIP, archive(&[("s", tar::EntryType::GNUSparse, "")]))], "sparse"),
        (vec![("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Vec::new())], "may not be distributed"),
        (vec![("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Vec::new())], "may not be distributed"),
        (vec![("application/vnd.erofs", Vec::new())], "layers are tar"),
    ] {
        let place = Place::new();
        forge(&place.path("base"), &layers);
        place.list("");
        let error = place.refusal(&[]);
        assert!(error.contains(expected) && error.contains("base image `"), "{expected}: {error}");
        assert!(!place.folder.path().join("evil").exists());
    }
}

#[test]
fn a_base_that_is_not_what_it_says_is_refused() {
    let place = Place::new();
    let base = place.base();
    let layer = place.path("base").join("blobs/sha256").join(&base.layers[0].descriptor.digest().to_string()[7..]);
    let good = fs::read(&layer).unwrap();
    let mut damaged = good.clone();
    // In the gzip header's time, so that it still inflates.
    damaged[4] ^= 1;
    fs::write(&layer, &damaged).unwrap();
    let error = place.refusal(&[]);
    assert!(error.contains("its layer has the digest sha256:") && error.contains("fetch it again"), "{error}");
    fs::write(&layer, [&good[..], &good[..]].concat()).unwrap();
    assert!(place.refusal(&[]).contains("base image"));
    fs::write(&layer, &good[..good.len() / 2]).unwrap();
    assert!(place.refusal(&[]).contains("base image"));
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &layer).unwrap();
    assert!(place.refusal(&[]).contains("can't be read"));
    fs::remove_file(&layer).unwrap();
    fs::write(&layer, &good).unwrap();
    place.open().unwrap();

    for (digest, what) in [(base.manifest.digest(), "manifest"), (base.configuration.digest(), "configuration")] {
        let file = place.path("base").join("blobs/sha256").join(&digest.to_string()[7..]);
        let good = fs::read(&file).unwrap();
        fs::write(&file, [&good[..good.len() - 1], b" "].concat()).unwrap();
        let error = place.open().unwrap_err().to_string();
        assert!(error.contains(&format!("its {what} has the digest")), "{error}");
        fs::write(&file, &good).unwrap();
    }

    let forged = Place::new();
    let manifest = forge(&forged.path("base"), &[(PLAIN, archive(&[("a", Regular, "1")]))]);
    forged.list("");
    forged.compose(&[], &Settings::default()).unwrap();
    // A size that the layer has not.
    let mut document = support::json(&forged.path("base"), manifest["digest"].as_str().unwrap());
    document["layers"][0]["size"] = json!(1);
    let bytes = serde_json::to_vec(&document).unwrap();
    let changed = image::descriptor_of(MediaType::ImageLayer, &bytes).unwrap();
    let digest = changed.digest().to_string();
    fs::write(forged.path("base/blobs/sha256").join(&digest[7..]), &bytes).unwrap();
    index(
        &forged.path("base"),
        &[json!({ "mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len() })],
    );
    fs::remove_file(forged.path("image/index.json")).unwrap();
    let error = forged.refusal(&[]);
    assert!(error.contains("base image") && error.contains("layer sha256:"), "{error}");
}

#[test]
fn the_image_for_the_architecture_is_found_and_told_when_it_is_not_there() {
    let place = Place::new();
    let base = place.path("base");
    let manifest = forge(&base, &[(PLAIN, archive(&[("a", Regular, "1")]))]);
    place.list("");
    let aarch64 = BaseImage::open(&base, &place.path("list"), Architecture::Aarch64).unwrap_err().to_string();
    assert!(aarch64.contains("is not there for linux/arm64; it has: linux/amd64"), "{aarch64}");

    // An attestation, as builders attach it, and an artifact beside the image.
    let mut attestation = manifest.clone();
    attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    attestation["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    index(&base, &[attestation, manifest.clone()]);
    place.open().unwrap();
    let mut other = manifest.clone();
    other["platform"] = json!({ "architecture": "arm64", "os": "linux" });
    index(&base, std::slice::from_ref(&other));
    let wrong = BaseImage::open(&base, &place.path("list"), Architecture::X86_64).unwrap_err().to_string();
    assert!(wrong.contains("it has: linux/arm64"), "{wrong}");
    fs::create_dir_all(place.path("list/aarch64")).unwrap();
    fs::write(place.path("list/aarch64/APKINDEX"), "").unwrap();
    let wrong = BaseImage::open(&base, &place.path("list"), Architecture::Aarch64).unwrap_err().to_string();
    assert!(wrong.contains("for linux/arm64, and its configuration says linux/amd64"), "{wrong}");

    // index.json may lead to the index.
    let nested = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [manifest] })).unwrap();
    let described = image::descriptor_of(MediaType::ImageIndex, &nested).unwrap();
    fs::write(base.join("blobs/sha256").join(&described.digest().to_string()[7..]), &nested).unwrap();
    index(&base, &[serde_json::to_value(&described).unwrap()]);
    place.open().unwrap();
    let second = forge(&base, &[(PLAIN, archive(&[("b", Regular, "1")]))]);
    index(&base, &[manifest, second]);
    let several = place.open().unwrap_err().to_string();
    assert!(several.contains("it has 2 images for linux/amd64: copy the one"), "{several}");
    fs::write(base.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(place.open().unwrap_err().to_string().contains("expected `1.0.0`"));
}

#[test]
fn the_list_of_packages_is_held_against_the_image() {
    let place = Place::new();
    place.base();
    let good = fs::read_to_string(place.path("list/x86_64/APKINDEX")).unwrap();
    place.list(&good.replacen("V:1.0-r0", "V:1.1-r0", 1));
    let error = place.refusal(&[]);
    assert!(error.contains("differs from the image's own /usr/lib/apk/db/installed in `layout`"), "{error}");
    place.list(&format!("{good}\nP:more\nV:1-r0\n\n"));
    assert!(place.refusal(&[]).contains("in `more`"));
    place.list("P:evil\nV:1-r0\nF:../etc\n\n");
    assert!(place.refusal(&[]).contains("would escape the root"));
    place.list(&good.replacen("A:x86_64", "A:aarch64", 1));
    assert!(place.refusal(&[]).contains("is for `aarch64`"));
    fs::write(place.path("secret"), &good).unwrap();
    fs::remove_file(place.path("list/x86_64/APKINDEX")).unwrap();
    std::os::unix::fs::symlink("../../secret", place.path("list/x86_64/APKINDEX")).unwrap();
    let error = place.refusal(&[]);
    assert!(error.contains("list/x86_64/APKINDEX`") && !error.contains("P:"), "{error}");
    fs::remove_dir_all(place.path("list")).unwrap();
    assert!(place.refusal(&[]).contains("list/x86_64/APKINDEX`"));
}
