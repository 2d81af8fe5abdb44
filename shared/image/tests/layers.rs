//! Layers of packages: which packages share one, that it does not change with others, and that
//! one made before is not made again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::path::Path;

use apk::Architecture;
use image::{
    Composed, Composition, Compression, LayerCache, Layering, Layout, PackageFile, Settings, compose, compose_cached,
};
use support::{EPOCH, Workshop, composed, layer_listing};

fn layered(budget: u64) -> Settings {
    Settings { layering: Some(Layering { budget }), ..Settings::default() }
}

fn package(workshop: &Workshop, name: &str, version: &str, origin: &str, size: usize) -> PackageFile {
    let recipe = workshop
        .package(name)
        .file(&format!("usr/bin/{name}"), &format!("{name} {version} {}", "x".repeat(size)), 0o755)
        .hardlink(&format!("usr/bin/{name}-too"), &format!("usr/bin/{name}"))
        .symlink(&format!("usr/lib/{name}"), "elsewhere")
        .directory("srv/shared", 0o755);
    workshop.build(recipe.say(|information| {
        information.version = version.to_owned();
        information.origin = origin.to_owned();
        // A later version is built later, which makes the image newer.
        information.build_date = EPOCH - 100 + i64::from(version.as_bytes()[0]);
    }))
}

fn packages(workshop: &Workshop, version: &str) -> Vec<PackageFile> {
    vec![
        package(workshop, "libc", "1.0-r0", "libc", 50),
        package(workshop, "small", "1.0-r0", "small", 1),
        package(workshop, "server", version, "server", 900),
        package(workshop, "server-tools", version, "server", 100),
        package(workshop, "tiny", "1.0-r0", "tiny", 2),
    ]
}

fn digests(composed: &Composed) -> Vec<String> {
    composed.layers.iter().map(|layer| layer.descriptor.digest().to_string()).collect()
}

/// The names of the packages whose database records a layer holds.
fn names(layout: &Path, digest: &str) -> Vec<String> {
    let files = layer_listing(layout, digest);
    let lines = files["usr/lib/apk/db/installed"].lines();
    lines.filter_map(|line| line.strip_prefix("P:")).map(str::to_owned).collect()
}

#[test]
fn packages_share_layers_by_origin_within_the_budget() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let composed = composed(&packages(&workshop, "1.0-r0"), &layered(3), out.path()).unwrap();
    let layers: Vec<_> = digests(&composed).iter().map(|digest| names(out.path(), digest)).collect();
    assert_eq!(layers.len(), 4);
    assert_eq!(layers[..3], [vec!["server", "server-tools"], vec!["libc"], vec!["small", "tiny"]]);
    assert_eq!(layers[3], ["libc", "small", "server", "server-tools", "tiny"], "the whole database is on top");

    let server = layer_listing(out.path(), &digests(&composed)[0]);
    assert!(server["usr/bin/server-too"].contains("server 1.0-r0") || server["usr/bin/server"].contains("1.0-r0"));
    assert!(server.contains_key("usr/lib/server") && !server.contains_key("srv"));
    let top = layer_listing(out.path(), &digests(&composed)[3]);
    assert!(top.contains_key("srv/shared") && top.contains_key("dev/null") && !top.contains_key("usr/bin/server"));
    // Together the layers are what one layer holds.
    let single = support::composed(&packages(&workshop, "1.0-r0"), &Settings::default(), out.path()).unwrap();
    let mut all = std::collections::BTreeMap::new();
    for digest in digests(&composed) {
        all.extend(layer_listing(out.path(), &digest));
    }
    assert_eq!(all, support::listing(out.path(), &single));
    assert_eq!(composed.files, single.files);
}

#[test]
fn packages_that_replace_each_other_share_a_layer() {
    let workshop = Workshop::new();
    let mut packages = packages(&workshop, "1.0-r0");
    let heir = workshop.package("heir").file("usr/bin/tiny", "heir", 0o755);
    packages.push(workshop.build(heir.say(|information| {
        information.replaces = vec!["tiny".to_owned()];
        information.origin = "heir".to_owned();
    })));
    let out = tempfile::tempdir().unwrap();
    let error = composed(&packages, &layered(10), out.path()).unwrap_err();
    assert!(error.to_string().contains("which another package replaced"), "{error}");
    let heir = workshop.package("heir").file("usr/share/heir", "heir", 0o644);
    *packages.last_mut().unwrap() = workshop.build(heir.say(|information| {
        information.replaces = vec!["tiny".to_owned()];
        information.origin = "heir".to_owned();
    }));
    let composed = composed(&packages, &layered(10), out.path()).unwrap();
    let layers: Vec<_> = digests(&composed).iter().map(|digest| names(out.path(), digest)).collect();
    assert!(layers.contains(&vec!["heir".to_owned(), "tiny".to_owned()]), "{layers:?}");
}

#[test]
fn a_layer_keeps_its_digest_when_other_packages_change() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let compose_version = |version: &str| {
        let packages = packages(&workshop, version);
        let created = image::created(None, &packages);
        let settings = layered(10);
        let composition =
            Composition { packages: &packages, settings: &settings, architecture: Architecture::X86_64, created };
        (created, digests(&compose(&composition, &mut Layout::create(out.path()).unwrap()).unwrap()))
    };
    let (first_time, first) = compose_version("1.0-r0");
    let (second_time, second) = compose_version("2.0-r0");
    assert_ne!(first_time, second_time);
    assert_ne!(first[0], second[0], "the server's layer");
    assert_eq!(first[1..4], second[1..4], "the layers of libc, tiny and small");
    assert_ne!(first[4], second[4], "the top layer has the image's time");
}

#[test]
fn a_layer_that_was_made_before_is_taken_from_the_cache() {
    let workshop = Workshop::new();
    let scratch = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(&scratch.path().join("cache"), 1 << 20).unwrap();
    let settings = layered(10);
    let run = |packages: &[PackageFile], name: &str| {
        let composition =
            Composition { packages, settings: &settings, architecture: Architecture::X86_64, created: EPOCH };
        let layout = scratch.path().join(name);
        compose_cached(&composition, &cache, &mut Layout::create(&layout).unwrap()).unwrap()
    };
    let old = packages(&workshop, "1.0-r0");
    let first = run(&old, "first");
    let stored = || {
        let files = std::fs::read_dir(scratch.path().join("cache")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "layer")).collect::<Vec<_>>()
    };
    assert_eq!(stored().len(), 5);
    // What the cache holds is handed out: a layer that is not what it was is made anew instead.
    let times = |paths: Vec<std::path::PathBuf>| {
        let mut times: Vec<_> =
            paths.iter().map(|path| (path.clone(), std::fs::metadata(path).unwrap().len())).collect();
        times.sort();
        times
    };
    let before = times(stored());
    assert_eq!(digests(&run(&old, "again")), digests(&first));
    assert_eq!(times(stored()), before);
    let changed = run(&packages(&workshop, "2.0-r0"), "changed");
    assert_eq!(stored().len(), 7, "only the server's layer and the top one are new");
    assert_eq!(digests(&changed)[1..4], digests(&first)[1..4]);
    for path in stored() {
        std::fs::write(path, "damaged").unwrap();
    }
    assert_eq!(digests(&run(&packages(&workshop, "1.0-r0"), "repaired")), digests(&first));
    assert!(layer_listing(&scratch.path().join("repaired"), &digests(&first)[0]).contains_key("usr/bin/server"));

    let small = LayerCache::open(&scratch.path().join("cache"), 1).unwrap();
    let composition = Composition {
        packages: &old,
        settings: &Settings::default(),
        architecture: Architecture::X86_64,
        created: EPOCH,
    };
    compose_cached(&composition, &small, &mut Layout::create(&scratch.path().join("single")).unwrap()).unwrap();
    assert_eq!(stored().len(), 0, "past the limit the oldest go");
}

#[test]
fn zstd_layers_hold_the_same_tar() {
    let workshop = Workshop::new();
    let out = tempfile::tempdir().unwrap();
    let packages = packages(&workshop, "1.0-r0");
    let gzip = composed(&packages, &Settings::default(), out.path()).unwrap();
    let settings = Settings { compression: Compression::Zstd, ..Settings::default() };
    let zstd = composed(&packages, &settings, out.path()).unwrap();
    assert_eq!(zstd.layers[0].diff_id, gzip.layers[0].diff_id);
    let descriptor = &zstd.layers[0].descriptor;
    assert_eq!(descriptor.media_type().to_string(), "application/vnd.oci.image.layer.v1.tar+zstd");
    let tar = zstd::decode_all(support::blob(out.path(), descriptor.digest().as_ref())).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert!(names.contains(&"usr/bin/server".to_owned()), "{names:?}");
}
