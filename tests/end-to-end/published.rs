//! Images that are published in another registry: Debian's docker-registry, and ECR as ministack
//! plays it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use registry::{Digest, Layouts, Registry, RouterOptions, router};
use serde_json::{Value, json};
use tests::factory::{Factory, rows, text};
use tests::servers::{DockerRegistry, Ministack, free_address};
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

/// Whether pushes of tags are left without an answer, and how many were.
#[derive(Clone, Default)]
struct Holding {
    on: Arc<AtomicBool>,
    held: Arc<AtomicU32>,
}

async fn hold_tags(State(holding): State<Holding>, request: Request, next: Next) -> Response {
    let pushes_tag = request.method() == "PUT"
        && request.uri().path().split_once("/manifests/").is_some_and(|(_, reference)| !reference.contains(':'));
    if pushes_tag && holding.on.load(Ordering::SeqCst) {
        holding.held.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
    next.run(request).await
}

#[test]
fn killed_between_push_and_tag_the_old_tag_stays_and_the_next_cycle_moves_it() {
    let mut factory = Factory::new(MILL);
    let runtime = Runtime::new().unwrap();
    let (address, holding) = (free_address(), Holding::default());
    let layouts = Layouts::new(factory.folder().join("published"));
    let options = RouterOptions { push: true, delete: true, ..RouterOptions::default() };
    let routes = router(layouts.clone(), options).layer(from_fn_with_state(holding.clone(), hold_tags));
    let listener = runtime.block_on(tokio::net::TcpListener::bind(&address)).unwrap();
    runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
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

    // Moves of one moment have no order in the history.
    factory.at("2026-03-05T06:00:00Z");
    factory.release("hello-mill", "1.1.0");
    holding.on.store(true, Ordering::SeqCst);
    let mut command = factory.command();
    let mut child = command.arg("cycle").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while holding.held.load(Ordering::SeqCst) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(120), "no tag was pushed");
        assert!(child.try_wait().unwrap().is_none(), "the cycle ended without pushing a tag");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
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

    holding.on.store(false, Ordering::SeqCst);
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
