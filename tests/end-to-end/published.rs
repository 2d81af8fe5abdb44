//! Images that are published in another registry: Debian's docker-registry, and ECR as ministack
//! plays it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tests::factory::{Factory, text};

const MILL: &str = env!("CARGO_BIN_EXE_mill");

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Starts a server and waits until it listens; none, with `not run`, where it is not installed.
fn start(mut command: Command, address: &str) -> Option<Running> {
    let program = command.get_program().to_string_lossy().into_owned();
    let running = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Running(child),
        Err(error) => {
            println!("not run: {program}: {error}");
            return None;
        }
    };
    for _ in 0..600 {
        if TcpStream::connect(address).is_ok() {
            return Some(running);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{program} does not listen on {address}");
}

fn docker_registry(folder: &Path) -> Option<(Running, String)> {
    let address = free_address();
    let config = folder.join("registry.yml");
    let storage = folder.join("registry-storage");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: \
         true}}\nhttp: {{addr: \"{address}\"}}\n",
        storage.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config);
    start(command, &address).map(|running| (running, address))
}

fn publish_at(factory: &Factory, place: &str) {
    fs::create_dir_all(factory.home()).unwrap();
    fs::write(factory.home().join("mill.toml"), format!("[registry]\npublish = \"{place}\"\n")).unwrap();
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
    let Some((_running, address)) = docker_registry(factory.folder()) else { return };
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
    let Some((running, address)) = docker_registry(factory.folder()) else { return };
    publish_at(&factory, &format!("{address}/images"));
    drop(running);
    let failed = factory.cycle();
    assert_ne!(failed.code, Some(0));
    let config = factory.folder().join("registry.yml");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config);
    let _running = start(command, &address).unwrap();
    factory.cycle().expect_code(0);
    factory.run(&["verify", "hello:1.0.0"]).expect_code(0);
}

#[test]
fn a_cycle_publishes_in_ecr_as_ministack_plays_it() {
    let factory = Factory::new(MILL);
    let address = free_address();
    let mut command = Command::new("ministack");
    command.env("GATEWAY_PORT", address.rsplit(':').next().unwrap());
    let Some(_running) = start(command, &address) else { return };
    let call = |action: &str, body: &str| -> Value {
        let authorization = "authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/ecr/aws4_request, \
                             SignedHeaders=host, Signature=0";
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", &format!("http://{address}/"), "-d", body])
            .args(["-H", "content-type: application/x-amz-json-1.1", "-H", authorization])
            .args(["-H", &format!("x-amz-target: AmazonEC2ContainerRegistry_V20150921.{action}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    call("CreateRepository", r#"{"repositoryName":"factory/hello"}"#);
    let answer = call("GetAuthorizationToken", "{}");
    let token = text(&answer["authorizationData"][0]["authorizationToken"]);
    assert!(String::from_utf8(STANDARD.decode(token).unwrap()).unwrap().starts_with("AWS:"));
    let docker = factory.folder().join("docker");
    fs::create_dir(&docker).unwrap();
    let config = serde_json::json!({ "auths": { &address: { "auth": token } } });
    fs::write(docker.join("config.json"), config.to_string()).unwrap();
    publish_at(&factory, &format!("{address}/factory"));
    let run = |arguments: &[&str]| {
        let mut command = factory.command();
        command.args(["--format", "json"]).args(arguments).env("DOCKER_CONFIG", &docker);
        tests::factory::answer(command)
    };
    let cycle = run(&["cycle"]);
    cycle.expect_code(0);
    run(&["verify", "hello:1.0.0"]).expect_code(0);
    let digest = text(&cycle.image("hello", "1")["digest"]).to_owned();
    let listed = call("ListImages", r#"{"repositoryName":"factory/hello"}"#);
    assert!(listed.to_string().contains(&digest), "{listed:#}");
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
