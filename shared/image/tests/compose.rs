//! What a composition holds, and which compositions are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::process::Command;

use apk::{Architecture, Script, parse_installed};
use image::{
    Composed, Composition, Entrypoint, Error, FileOwner, Group, Key, Layout, PackageFile, PathKind, PathMutation,
    Settings, User, compose, compose_index, created,
};
use support::{EPOCH, Workshop, composed, json, listing};

fn redis_settings() -> Settings {
    Settings {
        world: vec!["redis".to_owned(), "base".to_owned()],
        repositories: vec!["https://packages.example/os".to_owned()],
        keys: vec![Key { name: "a.rsa.pub".to_owned(), content: "KEY\n".to_owned() }],
        users: vec![User {
            name: "redis".to_owned(),
            uid: 65532,
            gid: 65532,
            shell: None,
            home: Some("/data".to_owned()),
        }],
        groups: vec![Group { name: "redis".to_owned(), gid: 65532, members: Vec::new() }],
        run_as: Some("redis".to_owned()),
        entrypoint: Entrypoint::Command("/usr/bin/redis-server '--name=a b'".to_owned()),
        command: Some("/etc/redis.conf".to_owned()),
        working_directory: Some("/data".to_owned()),
        stop_signal: Some("SIGTERM".to_owned()),
        volumes: vec!["/data".to_owned(), "/backup".to_owned()],
        environment: vec![("LANG".to_owned(), "C".to_owned())],
        annotations: vec![("org.opencontainers.image.title".to_owned(), "redis".to_owned())],
        ..Settings::default()
    }
}

fn fixture(workshop: &Workshop) -> Vec<PackageFile> {
    let mut base = workshop
        .package("base")
        .directory("tmp", 0o1777)
        .file("etc/passwd", "root:x:0:0:root:/root:/bin/ash\n", 0o644)
        .file("usr/share/private", "", 0o600);
    base.spec.scripts.insert(Script::PostInstall, "#!/bin/sh\ntouch /ran\n".to_owned());
    let redis = workshop
        .package("redis")
        .file("usr/bin/redis-server", "#!server\n", 0o4755)
        .symlink("usr/bin/redis", "redis-server")
        .hardlink("usr/bin/redis-check", "usr/bin/redis-server")
        .file(&format!("usr/share/{}/ü", "n".repeat(120)), "long", 0o644)
        .file("var/lib/redis/dump", "data", 0o640)
        .owned("var/lib/redis/dump", 65532, 65532)
        .file("var/lib/db/sbom/redis-1.0-r0.spdx.json", "{}", 0o644)
        .say(|information| information.triggers = vec!["/usr/lib".to_owned()]);
    vec![workshop.build(base), workshop.build(redis)]
}

fn digest_of(composed: &Composed) -> String {
    composed.manifest.digest().to_string()
}

#[test]
fn an_image_holds_packages_accounts_and_database() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&fixture(&workshop), &redis_settings(), out.path()).unwrap();
    let files = listing(out.path(), &composed);
    let at = |path: &str| files.get(path).unwrap_or_else(|| panic!("no {path} in {files:#?}")).as_str();

    assert_eq!(at("usr/bin/redis-check"), "4755 0:0 1700000000 #!server\n");
    assert_eq!(at("usr/bin/redis"), "777 0:0 1700000000 -> redis-server");
    assert_eq!(at("usr/bin/redis-server"), "4755 0:0 1700000000 = usr/bin/redis-check");
    assert_eq!(at("var/lib/redis/dump"), "640 65532:65532 1700000000 data");
    assert_eq!(at(&format!("usr/share/{}/ü", "n".repeat(120))), "644 0:0 1700000000 long");
    assert_eq!(at("tmp"), "1777 0:0 1700000000 directory");
    assert_eq!(at("proc"), "555 0:0 0 directory");
    assert_eq!(at("data"), "700 65532:65532 0 directory");
    assert_eq!(
        at("etc/passwd"),
        "644 0:0 1700000000 root:x:0:0:root:/root:/bin/ash\nredis:x:65532:65532:Account created by apko:/data:/bin/sh\n"
    );
    assert_eq!(at("etc/apk/world"), "644 0:0 0 base\nredis\n");
    assert_eq!(at("etc/apk/arch"), "644 0:0 0 x86_64\n");
    assert_eq!(at("etc/apk/repositories"), "644 0:0 0 https://packages.example/os\n");
    assert_eq!(at("etc/apk/keys/a.rsa.pub"), "644 0:0 0 KEY\n");
    assert!(at("etc/os-release").contains("ID=minimill\n"));
    assert_eq!(at("usr/lib/apk/db/lock"), "600 0:0 0 ");
    assert_eq!(at("lib/apk"), "777 0:0 0 -> ../usr/lib/apk");
    assert_eq!(at("dev/null"), "666 0:0 0 device 1:3");
    assert_eq!(at("dev/console"), "620 0:0 0 device 5:1");
    assert_eq!(at("root"), "700 0:0 0 directory");
    assert_eq!(at("var/cache/misc"), "755 0:0 0 directory");
    assert!(!files.contains_key("ran"), "package scripts must not run");
    assert!(at("usr/lib/apk/db/scripts.tar").contains("base-1.0-r0.Q1"));
    assert!(at("usr/lib/apk/db/scripts.tar").contains(".post-install"));
    assert!(at("usr/lib/apk/db/triggers").ends_with(" /usr/lib\n"));

    let database = at("usr/lib/apk/db/installed").split_once(' ').unwrap().1.splitn(3, ' ').nth(2).unwrap().to_owned();
    let installed = parse_installed("installed", &database).unwrap();
    let names: Vec<&str> = installed.iter().map(|package| package.entry.information.name.as_str()).collect();
    assert_eq!(names, ["base", "redis"]);
    let server = installed[1].files.iter().find(|file| file.path == "usr/bin/redis-check").unwrap();
    assert_eq!((server.mode, server.checksum.is_some()), (0o4755, true));

    assert_eq!(composed.packages[1].sbom.as_deref(), Some(b"{}".as_slice()));
    let owner = |path: &str| composed.files.iter().find(|file| file.path == path).unwrap().owner.clone();
    assert_eq!(owner("usr/bin/redis"), FileOwner::Package("redis".to_owned()));
    assert_eq!(owner("etc/apk/world"), FileOwner::Composition);
    assert_eq!(composed.files.len(), files.len());
}

#[test]
fn the_configuration_says_how_to_start() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&fixture(&workshop), &redis_settings(), out.path()).unwrap();
    let configuration = json(out.path(), composed.configuration.digest().as_ref());
    assert_eq!(
        configuration["config"],
        serde_json::json!({
            "Cmd": ["/etc/redis.conf"],
            "Entrypoint": ["/usr/bin/redis-server", "--name=a b"],
            "Env": [
                "LANG=C",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin",
                "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
            ],
            "Labels": {
                "org.opencontainers.image.created": "2025-06-15T15:06:40Z",
                "org.opencontainers.image.title": "redis",
            },
            "StopSignal": "SIGTERM",
            "User": "65532",
            "Volumes": {"/backup": {}, "/data": {}},
            "WorkingDir": "/data",
        })
    );
    assert_eq!(configuration["architecture"], "amd64");
    assert_eq!(configuration["created"], "2025-06-15T15:06:40Z");
    assert_eq!(configuration["rootfs"]["diff_ids"][0], composed.layers[0].diff_id);
    let manifest = json(out.path(), composed.manifest.digest().as_ref());
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "redis");
    assert_eq!(manifest["layers"][0]["digest"], composed.layers[0].descriptor.digest().to_string());
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
}

#[test]
fn the_same_composition_gives_the_same_bytes() {
    let digest = || {
        let (workshop, out) = (Workshop::new(), tempfile::tempdir().unwrap());
        digest_of(&composed(&fixture(&workshop), &redis_settings(), out.path()).unwrap())
    };
    let first = digest();
    // Maps of annotations and labels have another order in each process and each map.
    for _ in 0..8 {
        assert_eq!(first, digest());
    }
    // This test binary again, under another umask, in another directory.
    if std::env::var_os("MINIMILL_DIGEST_TO").is_none() {
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("digest");
        let status = Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" --exact the_same_composition_gives_the_same_bytes"])
            .arg(std::env::current_exe().unwrap())
            .env("MINIMILL_DIGEST_TO", &file)
            .env("TMPDIR", out.path())
            .current_dir("/")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read_to_string(file).unwrap(), first);
    } else {
        std::fs::write(std::env::var_os("MINIMILL_DIGEST_TO").unwrap(), first).unwrap();
    }
}

#[test]
fn an_index_lists_architectures_in_order_and_once() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let mut sink = Layout::create(out.path()).unwrap();
    let settings = Settings::default();
    let package = workshop.build(
        workshop.package("data").file("usr/share/data", "x", 0o644).say(|i| i.architecture = "noarch".to_owned()),
    );
    let packages = [package];
    let mut images = Vec::new();
    for architecture in [Architecture::Aarch64, Architecture::X86_64] {
        let composition = Composition { packages: &packages, settings: &settings, architecture, created: EPOCH };
        images.push(compose(&composition, &mut sink).unwrap());
    }
    let (descriptor, bytes) = compose_index(&images, &settings, &mut sink).unwrap();
    let index = json(out.path(), descriptor.digest().as_ref());
    assert_eq!(index, serde_json::from_slice::<serde_json::Value>(&bytes).unwrap());
    let architectures: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|m| m["platform"]["architecture"].clone()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    images.reverse();
    assert_eq!(compose_index(&images, &settings, &mut sink).unwrap().1, bytes);

    let twice = [images[0].clone(), images[0].clone()];
    assert!(compose_index(&twice, &settings, &mut sink).is_err());
    assert!(compose_index(&[], &settings, &mut sink).is_err());
}

#[test]
fn the_time_is_the_epoch_or_the_newest_package() {
    let workshop = Workshop::new();
    let old = workshop.build(workshop.package("old").file("a", "", 0o644).say(|i| i.build_date = 5));
    let new = workshop.build(workshop.package("new").file("b", "", 0o644).say(|i| i.build_date = 7));
    let packages = [new, old];
    assert_eq!(created(None, &packages), 7);
    assert_eq!(created(Some(3), &packages), 3);
}

fn compose_of(packages: &[PackageFile]) -> Result<Composed, Error> {
    let out = tempfile::tempdir().unwrap();
    composed(packages, &Settings::default(), out.path())
}

fn files_of(packages: &[PackageFile]) -> std::collections::BTreeMap<String, String> {
    let out = tempfile::tempdir().unwrap();
    let composed = composed(packages, &Settings::default(), out.path()).unwrap();
    listing(out.path(), &composed)
}

#[test]
fn one_path_in_two_packages_is_refused() {
    let workshop = Workshop::new();
    let first = workshop.build(workshop.package("first").file("etc/conf", "1", 0o644));
    let second = workshop.build(workshop.package("second").file("etc/conf", "2", 0o644));
    let error = compose_of(&[first.clone(), second]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/etc/conf` is in both `first-1.0-r0` and `second-1.0-r0`: let one `replaces` the other, or take only one"
    );
    let mode = workshop.build(workshop.package("mode").file("etc/conf", "1", 0o600));
    assert_eq!(files_of(&[first.clone(), mode])["etc/conf"], "644 0:0 1700000000 1", "the first one's mode stays");
    let directory = workshop.build(workshop.package("third").file("etc/conf/x", "1", 0o644));
    assert!(matches!(compose_of(&[first.clone(), directory.clone()]), Err(Error::Conflict { .. })));
    assert!(matches!(compose_of(&[directory, first]), Err(Error::Conflict { .. })));
}

#[test]
fn the_same_file_or_link_in_two_packages_stays_with_the_first() {
    let workshop = Workshop::new();
    let package =
        |name: &str| workshop.build(workshop.package(name).file("etc/conf", "1", 0o644).symlink("etc/l", "conf"));
    let files = files_of(&[package("first"), package("second")]);
    assert_eq!(files["etc/conf"], "644 0:0 1700000000 1");
    let database = &files["usr/lib/apk/db/installed"];
    assert_eq!(database.matches("R:conf").count(), 1);
    assert!(database.find("R:conf").unwrap() < database.find("P:second").unwrap());
    let other = workshop.build(workshop.package("other").symlink("etc/l", "elsewhere"));
    assert!(matches!(compose_of(&[package("first"), other]), Err(Error::Conflict { .. })));
}

#[test]
fn replaces_and_origin_settle_who_has_a_path() {
    let workshop = Workshop::new();
    let old = workshop.build(workshop.package("old").file("etc/conf", "old", 0o644).file("etc/old", "", 0o644));
    let too_old = workshop.build(
        workshop.package("stale").file("etc/conf", "x", 0o644).say(|i| i.replaces = vec!["old<1.0-r0".to_owned()]),
    );
    assert!(matches!(compose_of(&[old.clone(), too_old]), Err(Error::Conflict { .. })));
    let unreadable = workshop
        .build(workshop.package("odd").file("etc/conf", "x", 0o644).say(|i| i.replaces = vec!["old<!".to_owned()]));
    assert!(matches!(compose_of(&[old.clone(), unreadable]), Err(Error::Replaces { .. })));
    let new = workshop
        .build(workshop.package("new").file("etc/conf", "new", 0o644).say(|i| i.replaces = vec!["old<2".to_owned()]));
    for packages in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let files = files_of(&packages);
        assert!(files["etc/conf"].ends_with(" new"), "{}", files["etc/conf"]);
        let database = &files["usr/lib/apk/db/installed"];
        assert_eq!(database.matches("R:conf").count(), 1);
        let (of_old, of_new) = (database.find("P:old").unwrap(), database.find("P:new").unwrap());
        let conf = database.find("R:conf").unwrap();
        assert_eq!(conf > of_new, of_new > of_old || conf < of_old, "the file belongs to `new`");
    }
    let origin = |name: &str, content: &str| {
        workshop
            .build(workshop.package(name).file("etc/shared", content, 0o644).say(|i| i.origin = "common".to_owned()))
    };
    let files = files_of(&[origin("a", "a"), origin("b", "b")]);
    assert!(files["etc/shared"].ends_with(" b"));
}

#[test]
fn a_package_is_installed_once() {
    let workshop = Workshop::new();
    let first = workshop.build(workshop.package("p").file("a", "", 0o644));
    let second = workshop.build(workshop.package("p").file("b", "", 0o644).say(|i| i.version = "2.0-r0".to_owned()));
    let error = compose_of(&[first, second]).unwrap_err();
    assert_eq!(error.to_string(), "`p-1.0-r0` and `p-2.0-r0` are the same package: install one of them");
}

#[test]
fn extended_attributes_are_kept() {
    let workshop = Workshop::new();
    let mut package = workshop.package("p").file("usr/bin/ping", "x", 0o755);
    let attribute = ("security.capability".to_owned(), vec![1, 0, 0, 2, 0, 255]);
    package.spec.xattrs.insert("usr/bin/ping".to_owned(), vec![attribute]);
    let files = files_of(&[workshop.build(package)]);
    assert_eq!(files["usr/bin/ping"], "[SCHILY.xattr.security.capability=[1, 0, 0, 2, 0, 255]] 755 0:0 1700000000 x");
}

#[test]
fn a_hard_link_to_what_another_package_replaced_is_refused() {
    let workshop = Workshop::new();
    let links = workshop.build(workshop.package("links").file("bin/a", "1", 0o755).hardlink("bin/b", "bin/a"));
    let other = workshop
        .build(workshop.package("other").file("bin/a", "2", 0o755).say(|i| i.replaces = vec!["links".to_owned()]));
    let error = compose_of(&[links, other]).unwrap_err();
    assert!(error.to_string().contains("`/bin/b` of package `links-1.0-r0`"), "{error}");
}

#[test]
fn a_merged_usr_is_followed_and_the_database_with_it() {
    let workshop = Workshop::new();
    let base = workshop.build(workshop.package("base").directory("usr/lib", 0o755).symlink("lib", "usr/lib"));
    let library = workshop.build(workshop.package("library").file("lib/libx.so.1", "x", 0o755));
    let files = files_of(&[base.clone(), library.clone()]);
    assert_eq!(files["lib"], "777 0:0 1700000000 -> usr/lib");
    assert!(files["usr/lib/libx.so.1"].ends_with(" x"));
    assert!(files["usr/lib/apk/db/installed"].contains("P:library"));
    assert!(!files.keys().any(|path| path.starts_with("lib/")));
    assert_eq!(files_of(std::slice::from_ref(&library))["lib/apk"], "777 0:0 1700000000 -> ../usr/lib/apk");
    assert!(matches!(compose_of(&[library, base]), Err(Error::Conflict { .. })));
}

#[test]
fn busybox_gets_the_links_it_lists() {
    let workshop = Workshop::new();
    let tools = workshop.build(workshop.package("tools").file("bin/ls", "own", 0o755));
    let list = "/bin/ls\n/bin/sh\n/usr/bin/env\n";
    let busybox = || {
        workshop.package("busybox").file("bin/busybox", "bb", 0o755).file("etc/busybox-paths.d/busybox", list, 0o644)
    };
    let files = files_of(&[tools, workshop.build(busybox())]);
    assert_eq!(files["bin/sh"], "777 0:0 1700000000 -> /bin/busybox");
    assert_eq!(files["usr/bin/env"], "777 0:0 0 -> /bin/busybox");
    assert!(files["bin/ls"].ends_with(" own"));

    let evil = busybox().file("etc/busybox-paths.d/more", "/../../out\n", 0o644);
    let error = compose_of(&[workshop.build(evil)]).unwrap_err();
    assert!(error.to_string().contains("/../../out"), "{error}");
}

fn mutation(path: &str, kind: PathKind) -> PathMutation {
    PathMutation {
        path: path.to_owned(),
        kind,
        uid: None,
        gid: None,
        permissions: None,
        source: None,
        recursive: false,
    }
}

#[test]
fn paths_are_changed_in_order() {
    let workshop = Workshop::new();
    let package = workshop.build(
        workshop.package("p").file("srv/www/a", "a", 0o644).file("srv/www/sub/b", "b", 0o644).symlink("srv/www/l", "a"),
    );
    let settings = Settings {
        paths: vec![
            PathMutation {
                uid: Some(7),
                gid: Some(8),
                permissions: Some(0o750),
                ..mutation("/data/x", PathKind::Directory)
            },
            PathMutation { uid: Some(7), ..mutation("/data/x/empty", PathKind::EmptyFile) },
            PathMutation { source: Some("/data/x".to_owned()), ..mutation("/link", PathKind::Symlink) },
            PathMutation { source: Some("/srv/www/a".to_owned()), ..mutation("/hard", PathKind::Hardlink) },
            PathMutation {
                uid: Some(9),
                gid: Some(9),
                permissions: Some(0o700),
                recursive: true,
                ..mutation("/srv", PathKind::Permissions)
            },
            PathMutation { uid: Some(1), ..mutation("/link/inside", PathKind::Directory) },
        ],
        ..Settings::default()
    };
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&[package], &settings, out.path()).unwrap();
    let files = listing(out.path(), &composed);
    assert_eq!(files["data/x"], "750 7:8 0 directory");
    assert_eq!(files["data"], "750 0:0 0 directory", "as in apko, parents have the mode too");
    assert_eq!(files["data/x/empty"], "644 7:0 0 ");
    assert_eq!(files["link"], "777 0:0 0 -> /data/x");
    assert_eq!(files["hard"], "700 9:9 1700000000 = srv/www/a");
    assert_eq!(files["srv/www/a"], "700 9:9 1700000000 a");
    assert_eq!(files["srv/www/sub"], "700 9:9 1700000000 directory");
    assert_eq!(files["srv/www/l"], "777 9:9 1700000000 -> a");
    assert_eq!(files["data/x/inside"], "755 1:0 0 directory");
}

#[test]
fn paths_that_cannot_be_are_refused_by_name() {
    let workshop = Workshop::new();
    let package = workshop.build(workshop.package("p").file("etc/conf", "a", 0o644).symlink("up", "../../x"));
    let packages = [package];
    for (change, expected) in [
        (mutation("relative", PathKind::Directory), "not absolute"),
        (mutation("/a/../../b", PathKind::EmptyFile), "component"),
        (mutation("/none", PathKind::Permissions), "nothing is there"),
        (mutation("/etc/conf/x", PathKind::Directory), "not a directory"),
        (mutation("/up/x", PathKind::EmptyFile), "climbs out of the root"),
        (PathMutation { source: Some("/etc".to_owned()), ..mutation("/h", PathKind::Hardlink) }, "not a regular file"),
        (PathMutation { source: Some("/x".to_owned()), ..mutation("/etc", PathKind::Symlink) }, "something else"),
        (PathMutation { permissions: Some(0o10000), ..mutation("/d", PathKind::Directory) }, "at most 0o7777"),
    ] {
        let settings = Settings { paths: vec![change], ..Settings::default() };
        let out = tempfile::tempdir().unwrap();
        let error = composed(&packages, &settings, out.path()).unwrap_err();
        assert!(matches!(&error, Error::Path { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        let blobs = std::fs::read_dir(out.path().join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs, 0, "nothing half-written after: {error}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let workshop = Workshop::new();
    let packages = [workshop.build(workshop.package("p").file("x", "", 0o644))];
    for (settings, expected) in [
        (Settings { command: Some("a 'b".to_owned()), ..Settings::default() }, "`cmd`"),
        (Settings { working_directory: Some("data".to_owned()), ..Settings::default() }, "`work-dir`"),
        (Settings { environment: vec![("A=".to_owned(), String::new())], ..Settings::default() }, "`environment`"),
        (Settings { repositories: vec!["a\nb".to_owned()], ..Settings::default() }, "`contents.repositories`"),
        (
            Settings { keys: vec![Key { name: "../k".to_owned(), content: String::new() }], ..Settings::default() },
            "`contents.keyring`",
        ),
        (Settings { run_as: Some("ghost".to_owned()), ..Settings::default() }, "`ghost`"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let error = composed(&packages, &settings, out.path()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_package_that_is_not_the_chosen_one_is_refused() {
    let workshop = Workshop::new();
    let mut package = workshop.build(workshop.package("p").file("x", "", 0o644));
    let other =
        workshop.build(workshop.package("q").file("y", "", 0o644).say(|i| i.architecture = "aarch64".to_owned()));
    assert!(matches!(compose_of(std::slice::from_ref(&other)), Err(Error::Architecture { .. })));
    package.entry.checksum = other.entry.checksum;
    assert!(matches!(compose_of(&[package]), Err(Error::OtherPackage { .. })));
}

#[test]
fn a_directory_has_the_first_mode_and_the_last_time() {
    let workshop = Workshop::new();
    let package = |name: &str, mode: u32, time: i64| {
        let mut recipe = workshop.package(name).directory("srv/data", mode);
        recipe.spec.source_date_epoch = time as u64;
        workshop.build(recipe)
    };
    let files = files_of(&[package("first", 0o750, 1_600_000_000), package("second", 0o700, 1_500_000_000)]);
    assert_eq!(files["srv/data"], "750 0:0 1500000000 directory");
}

/// The list of paths, modes and owners that apko's source gives for the definition of its own golden
/// test, with the packages of that test.
#[test]
fn apkos_golden_definition_gives_its_files() {
    let Some(corpus) = support::corpus() else { return };
    let folder = corpus.join("apk/packages/x86_64");
    let packages: Vec<PackageFile> = ["pretend-baselayout-1.0.0-r0.apk", "replayout-1.0.0-r0.apk"]
        .iter()
        .map(|name| support::chosen(&folder.join(name)))
        .collect();
    let definition = recipe::ImageConfiguration::parse(
        "contents: {keyring: [./testdata/melange.rsa.pub], repositories: [./testdata/packages], packages: [replayout]}
entrypoint: {command: /bin/sh -l}
paths: [{path: /run/nginx, type: directory, uid: 10000, gid: 10000, permissions: 0o755}]
archs: [x86_64, aarch64]
",
        "apko.yaml",
    )
    .unwrap();
    let settings = Settings::from_definition(&definition, Vec::new()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&packages, &settings, out.path()).unwrap();
    let files = listing(out.path(), &composed);
    for (path, line) in [
        ("dev/console", "620 0:0 0 device 5:1"),
        ("dev/null", "666 0:0 0 device 1:3"),
        ("etc/apk/arch", "644 0:0 0 x86_64\n"),
        ("etc/apk/repositories", "644 0:0 0 ./testdata/packages\n"),
        ("etc/apk/world", "644 0:0 0 replayout\n"),
        ("run", "755 0:0 0 directory"),
        ("run/nginx", "755 10000:10000 0 directory"),
        ("proc", "555 0:0 0 directory"),
        ("tmp", "1777 0:0 0 directory"),
        ("usr/lib/apk/db/lock", "600 0:0 0 "),
        ("usr/lib/apk/db/triggers", "644 0:0 0 "),
        ("usr/lib/apk/exec", "755 0:0 0 directory"),
        ("var/cache/misc", "755 0:0 0 directory"),
    ] {
        assert_eq!(files.get(path).map(String::as_str), Some(line), "{path}");
    }
    assert!(files["lib/apk"].ends_with(" -> ../usr/lib/apk"));
    assert_eq!(
        files["etc/apko.json"],
        "444 0:0 0 {\"contents\":{\"repositories\":[\"./testdata/packages\"],\
         \"keyring\":[\"./testdata/melange.rsa.pub\"],\"packages\":[\"replayout\"]},\
         \"entrypoint\":{\"command\":\"/bin/sh -l\"},\"accounts\":{},\"archs\":[\"amd64\",\"arm64\"],\
         \"paths\":[{\"path\":\"/run/nginx\",\"type\":\"directory\",\"uid\":10000,\"gid\":10000,\
         \"permissions\":493}]}\n"
    );
}
