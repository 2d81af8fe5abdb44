//! Images that are published in another registry: Debian's docker-registry, and ECR as ministack
//! plays it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use registry::{Digest, Registry};
use serde_json::{Value, json};
use tests::factory::{Factory, rows, text};
use tests::layout;
use tests::servers::{DockerRegistry, Ministack};
use tests::watched::{Asked, Watched};
use tokio::runtime::Runtime;

const MILL: &str = env!("CARGO_BIN_EXE_mill");

fn configure(factory: &Factory, settings: &str) {
    fs::create_dir_all(factory.home()).unwrap();
    fs::write(factory.home().join("mill.toml"), settings).unwrap();
}

fn publish_at(factory: &Factory, place: &str) {
    configure(factory, &format!("[registry]\npublish = \"{place}\"\n"));
}

/// What skopeo says of an image; none, with `not run`, where it is not installed.
fn skopeo(arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new("skopeo").args(arguments).output() {
        Ok(output) => Some((
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )),
        Err(error) => {
            println!("not run: skopeo: {error}");
            None
        }
    }
}

#[test]
fn a_cycle_publishes_in_debians_registry_and_strangers_and_mill_find_it_there() {
    let factory = Factory::new(MILL);
    let Some(registry) = DockerRegistry::start(factory.folder()) else { return };
    let address = &registry.address;
    publish_at(&factory, &format!("{address}/team/images"));
    let first = factory.cycle();
    first.expect_code(0);
    let digest = text(&first.image("hello", "1")["digest"]).to_owned();
    assert!(!factory.layout("hello").exists(), "nothing is published in the home");

    let image = format!("docker://{address}/team/images/hello");
    let Some((good, raw)) = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("{image}:1.0.0")]) else {
        return;
    };
    assert!(good, "{raw}");
    assert_eq!(format!("sha256:{}", tests::archive::sha256_hex(raw.trim_end().as_bytes())), digest);
    let (good, tags) = skopeo(&["list-tags", "--tls-verify=false", &image]).unwrap();
    assert!(good && tags.contains("1.0.0-202603040600"), "{tags}");

    // By the factory's own name, and as anybody's image with the factory's key.
    factory.run(&["verify", "hello:1"]).expect_code(0);
    let key = factory.home().join("keys/minimill.pub");
    let elsewhere = format!("{address}/team/images/hello:1");
    factory.run(&["verify", &elsewhere, "--key", key.to_str().unwrap()]).expect_code(0);

    // The next version moves the tags there; a cycle with nothing new sends nothing.
    factory.release("hello-mill", "1.1.0");
    let second = factory.cycle();
    second.expect_code(0);
    let moved = text(&second.image("hello", "1")["digest"]).to_owned();
    assert_ne!(moved, digest);
    let (_, raw) = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("{image}:1")]).unwrap();
    assert_eq!(format!("sha256:{}", tests::archive::sha256_hex(raw.trim_end().as_bytes())), moved);
    let third = factory.cycle();
    third.expect_code(0);
    assert_eq!(third.json["stages"]["image-publish"], Value::Null, "{:#}", third.json["stages"]);
}

#[test]
fn a_registry_that_is_down_leaves_nothing_half_published_and_the_next_cycle_goes_on() {
    let factory = Factory::new(MILL);
    let Some(mut registry) = DockerRegistry::start(factory.folder()) else { return };
    publish_at(&factory, &format!("{}/images", registry.address));
    registry.stop();
    let failed = factory.cycle();
    assert_ne!(failed.code, Some(0));
    assert!(registry.resume());
    factory.cycle().expect_code(0);
    factory.run(&["verify", "hello:1.0.0"]).expect_code(0);
}

#[test]
fn killed_between_push_and_tag_the_old_tag_stays_and_the_next_cycle_moves_it() {
    let factory = Factory::new(MILL);
    let (registry, layouts) = Watched::registry(&factory.folder().join("published"));
    let (address, runtime) = (&registry.address, &registry.runtime);
    let name = "team/hello".parse().unwrap();
    let tagged = |tag: &str| {
        let tag: registry::Tag = tag.parse().unwrap();
        runtime.block_on(layouts.resolve(&name, &tag.into())).unwrap().map(|digest| digest.to_string())
    };
    let is_there = |digest: &str| {
        let digest: Digest = digest.parse().unwrap();
        runtime.block_on(layouts.resolve(&name, &digest.into())).unwrap().is_some()
    };
    publish_at(&factory, &format!("{address}/team"));
    let first = factory.cycle();
    first.expect_code(0);
    let old = text(&first.image("hello", "1")["digest"]).to_owned();

    // On the same minute: moves of one moment have an order in the history.
    factory.release("hello-mill", "1.1.0");
    registry.hold(0, false, |method, target| {
        method == "PUT" && target.split_once("/manifests/").is_some_and(|(_, reference)| !reference.contains(':'))
    });
    registry.kill_cycle(&factory);
    for tag in ["1.0.0", "1", "latest"] {
        assert_eq!(tagged(tag).as_ref(), Some(&old), "{tag}");
    }
    assert_eq!(tagged("1.1.0"), None);
    let pushed: Vec<String> = factory
        .documents("image#hello", "release#")
        .into_iter()
        .filter_map(|(_, release)| (release["complete"] == false).then(|| text(&release["digest"]).to_owned()))
        .collect();
    assert!(pushed.len() == 1 && pushed[0] != old && is_there(&pushed[0]), "the new index is there: {pushed:?}");

    let next = factory.cycle();
    next.expect_code(0);
    assert_eq!(next.image("hello", "1")["digest"], pushed[0].as_str());
    for tag in ["1.1.0", "1", "latest"] {
        assert_eq!(tagged(tag).as_ref(), Some(&pushed[0]), "{tag}");
    }
    assert_eq!(tagged("1.0.0").as_ref(), Some(&old));
    let history = factory.run(&["image", "history", "hello", "--tag", "1"]);
    let moves: Vec<_> = rows(&history.json).iter().map(|moved| (&moved["from"], &moved["to"])).collect();
    let (old, new) = (json!(old), json!(pushed[0]));
    assert_eq!(moves, [(&Value::Null, &old), (&old, &new)], "each move once, with its old and new digest");
    factory.run(&["verify", "hello:1"]).expect_code(0);
}

/// A factory of one image whose packages have a layer each.
fn with_layers() -> Factory {
    let factory = Factory::new(MILL);
    fs::remove_dir_all(factory.catalog().join("images/hello")).unwrap();
    add_layered(&factory, "one", "");
    factory
}

/// An image of `greeting-data`, and of further packages, each with a layer of its own.
fn add_layered(factory: &Factory, name: &str, further: &str) {
    factory.add_image(name, "greeting-data", &[("1", "")]);
    let apko = format!("images/{name}/apko.yaml");
    let layered = format!("{further}layering: {{strategy: origin, budget: 5}}\naccounts:\n");
    factory.edit(&apko, "accounts:\n", &layered);
}

/// Digests of the layers of a platform's image.
fn layers(layouts: &impl Registry, runtime: &Runtime, image: &str, platform: &str) -> Vec<String> {
    let (name, digest): (_, Digest) = (image.parse().unwrap(), platform.parse().unwrap());
    let manifest = runtime.block_on(layouts.manifest(&name, &digest.into())).unwrap().unwrap();
    let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    rows(&manifest["layers"]).iter().map(|layer| text(&layer["digest"]).to_owned()).collect()
}

/// The statuses of the requests that asked for this, in their order.
fn statuses(asked: &[Asked], method: &str, parts: &[&str]) -> Vec<u16> {
    let matching =
        asked.iter().filter(|one| one.method == method && parts.iter().all(|part| one.target.contains(part)));
    matching.map(|one| one.status).collect()
}

#[test]
fn a_layer_that_another_image_has_is_taken_from_there_and_what_is_there_is_not_sent() {
    let factory = with_layers();
    let (registry, layouts) = Watched::registry(&factory.folder().join("published"));
    let runtime = &registry.runtime;
    publish_at(&factory, &format!("{}/team", registry.address));
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let platform = text(&cycle.image("one", "1")["platforms"]["x86_64"]).to_owned();
    let first = layers(&layouts, runtime, "team/one", &platform);
    assert_eq!(first.len(), 2, "one of `greeting-data`, one of the rest");
    let asked = registry.asked();
    for layer in &first {
        let heads = statuses(&asked, "HEAD", &["/team/one/blobs/", layer]);
        assert!(!heads.is_empty() && heads.iter().all(|status| *status == 404), "{heads:?}");
        assert_eq!(statuses(&asked, "PUT", &["/team/one/blobs/uploads/", &layer[7..]]), [201]);
    }
    assert_eq!(statuses(&asked, "POST", &["mount="]), [0_u16; 0]);

    add_layered(&factory, "two", "    - hello\n");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let platform = text(&cycle.image("two", "1")["platforms"]["x86_64"]).to_owned();
    let second = layers(&layouts, runtime, "team/two", &platform);
    let (shared, own): (Vec<&String>, Vec<&String>) = second.iter().partition(|layer| first.contains(layer));
    assert_eq!((shared.len(), own.len()), (1, 2), "{first:?} {second:?}");
    let asked = registry.asked();
    assert_eq!(statuses(&asked, "HEAD", &["/team/two/blobs/", shared[0]]), [404]);
    let digest = &shared[0][7..];
    assert_eq!(statuses(&asked, "POST", &["/team/two/blobs/uploads/?mount=", digest, "from=team%2Fone"]), [201]);
    assert_eq!(statuses(&asked, "PUT", &["/team/two/blobs/", digest]), [0_u16; 0]);
    for layer in own {
        assert_eq!(statuses(&asked, "PUT", &["/team/two/blobs/uploads/", &layer[7..]]), [201]);
    }
    factory.run(&["verify", "two:1"]).expect_code(0);

    // A new build of both sends what is new and asks for nothing else but whether it is there.
    factory.edit("images/two/image.yaml", "title: two", "title: two, again");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let asked = registry.asked();
    for layer in &second {
        assert_eq!(statuses(&asked, "HEAD", &["/team/two/blobs/", layer]), [200], "{layer}");
        assert_eq!(statuses(&asked, "PUT", &["/team/two/blobs/", &layer[7..]]), [0_u16; 0], "{layer}");
    }
    assert_eq!(statuses(&asked, "POST", &["mount="]), [0_u16; 0]);
}

#[test]
fn layers_are_taken_from_another_image_in_debians_registry_too() {
    let factory = with_layers();
    let Some(debian) = DockerRegistry::start(factory.folder()) else { return };
    let registry = Watched::before(&debian.address);
    publish_at(&factory, &format!("{}/team", registry.address));
    factory.cycle().expect_code(0);
    add_layered(&factory, "two", "    - hello\n");
    registry.asked();
    factory.cycle().expect_code(0);
    let asked = registry.asked();
    assert_eq!(statuses(&asked, "POST", &["/team/two/blobs/uploads/?mount=", "from=team%2Fone"]), [201], "{asked:#?}");
    let uploads = statuses(&asked, "PUT", &["/team/two/blobs/uploads/"]).len();
    let missing = asked.iter().filter(|one| one.method == "HEAD" && one.target.contains("/team/two/blobs/"));
    let missing: BTreeSet<&str> = missing.filter(|one| one.status == 404).map(|one| one.target.as_str()).collect();
    assert_eq!(uploads, missing.len() - 1, "all that was missing but the layer that was mounted");
    factory.run(&["verify", "two:1"]).expect_code(0);

    // What the other repository has lost is sent.
    factory.add_image("three", "hello", &[("1", "")]);
    factory.edit("images/three/apko.yaml", "accounts:\n", "layering: {strategy: origin, budget: 5}\naccounts:\n");
    fs::remove_dir_all(factory.folder().join("registry-storage/docker/registry/v2/repositories/team/two")).unwrap();
    factory.cycle().expect_code(0);
    let asked = registry.asked();
    let refused = statuses(&asked, "POST", &["/team/three/blobs/uploads/?mount=", "from=team%2Ftwo"]);
    assert_eq!(refused, [202], "{asked:#?}");
    factory.run(&["verify", "three:1"]).expect_code(0);
}

#[test]
fn zstd_layers_go_through_the_whole_cycle_and_strangers_unpack_them() {
    const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    let factory = Factory::new(MILL);
    let Some(registry) = DockerRegistry::start(factory.folder()) else { return };
    publish_at(&factory, &format!("{}/team", registry.address));
    factory.edit("images/hello/image.yaml", "category:", "compression: zstd\ncategory:");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let row = cycle.image("hello", "1");
    let (passed, all) = text(&row["tests"]).split_once('/').unwrap();
    assert_eq!(passed, all, "its suites read the layers");
    factory.run(&["verify", "hello:1"]).expect_code(0);

    let image = format!("docker://{}/team/hello", registry.address);
    let platform = format!("{image}@{}", text(&row["platforms"]["x86_64"]));
    let Some((good, raw)) = skopeo(&["inspect", "--raw", "--tls-verify=false", &platform]) else { return };
    assert!(good, "{raw}");
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    let layers = rows(&manifest["layers"]);
    assert!(!layers.is_empty() && layers.iter().all(|layer| layer["mediaType"] == ZSTD), "{manifest:#}");
    // Both documents name the layer; the SPDX one its media type too.
    let digest = text(&layers[0]["digest"]);
    assert!(factory.holds_blob("mediaType=application%2Fvnd.oci.image.layer.v1.tar%2Bzstd"), "no SPDX document");
    assert!(factory.holds_blob(digest), "{digest}");

    // As it is into a layout, without its compression into a folder, and as gzip for who reads no zstd.
    let place = |name: &str| factory.folder().join(name).display().to_string();
    let source = format!("{image}:1");
    let copy = |arguments: &[&str]| {
        let (good, told) = skopeo(&[&["copy", "--quiet", "--src-tls-verify=false"], arguments].concat()).unwrap();
        assert!(good, "{told}");
    };
    copy(&["--all", "--preserve-digests", &source, &format!("oci:{}:copied", place("layout"))]);
    assert_eq!(layout::tags(place("layout").as_ref())["copied"], text(&row["digest"]));
    copy(&["--dest-decompress", &source, &format!("dir:{}", place("plain"))]);
    let plain: Value = serde_json::from_slice(&fs::read(format!("{}/manifest.json", place("plain"))).unwrap()).unwrap();
    let tar = format!("{}/{}", place("plain"), &text(&plain["layers"][0]["digest"])[7..]);
    let program = Command::new("tar").args(["-xOf", &tar, "usr/bin/hello"]).output().unwrap();
    assert!(program.status.success() && program.stdout.starts_with(b"\x7fELF"), "{:?}", program.status);

    let bundle = |layout: &str, name: &str| {
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--rootless", "--image", &format!("{}:copied", place(layout)), &place(name)]).output()
    };
    match bundle("layout", "of-zstd") {
        Err(error) => return println!("not run: umoci: {error}"),
        Ok(output) if output.status.success() => {
            assert!(factory.folder().join("of-zstd/rootfs/usr/bin/hello").is_file())
        }
        Ok(output) => println!("not run: umoci reads no zstd: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
    copy(&["--dest-compress-format=gzip", &source, &format!("oci:{}:copied", place("gzip"))]);
    let output = bundle("gzip", "of-gzip").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(factory.folder().join("of-gzip/rootfs/usr/bin/hello")).unwrap(), program.stdout);
}

#[test]
fn a_cycle_publishes_in_ecr_as_ministack_plays_it() {
    let factory = Factory::new(MILL);
    let Some(ministack) = Ministack::start() else { return };
    let settings = format!("[registry]\npublish = \"{}/factory\"\nservice = \"ecr\"\n", ministack.address);
    configure(&factory, &settings);
    let run = |arguments: &[&str]| ministack.run(&factory, arguments);
    // The repository is made by the first push, with timestamp tags that ECR keeps from moving.
    let cycle = run(&["cycle"]);
    cycle.expect_code(0);
    let found = ministack.call("ecr", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", &json!({}));
    assert_eq!(found["repositories"][0]["repositoryName"], "factory/hello", "{found:#}");
    assert_eq!(found["repositories"][0]["imageTagMutability"], "MUTABLE_WITH_EXCLUSION", "{found:#}");
    run(&["verify", "hello:1.0.0"]).expect_code(0);
    let digest = text(&cycle.image("hello", "1")["digest"]).to_owned();
    let images = json!({"repositoryName": "factory/hello"});
    let listed = ministack.call("ecr", "AmazonEC2ContainerRegistry_V20150921.ListImages", &images);
    assert!(listed.to_string().contains(&digest), "{listed:#}");

    // A second process finds the repository there; the tags move in it.
    factory.release("hello-mill", "1.1.0");
    let cycle = run(&["cycle"]);
    cycle.expect_code(0);
    assert_ne!(text(&cycle.image("hello", "1")["digest"]), digest);
    run(&["verify", "hello:1"]).expect_code(0);
    run(&["verify", &format!("hello@{digest}")]).expect_code(0);
}

#[test]
fn a_place_that_is_none_is_told() {
    let factory = Factory::new(MILL);
    for (place, problem) in [
        ("registry.example", "expected the registry's address, `/` and what the names begin with"),
        ("registry.example/Team", "Team"),
    ] {
        publish_at(&factory, place);
        let answer = factory.cycle();
        answer.expect_code(2);
        assert!(answer.stderr.contains(problem), "{}", answer.stderr);
    }
}
