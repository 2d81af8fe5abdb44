//! `unit.yaml`: each kind of check passing, and broken with a message that tells what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod fixture;

use std::time::Duration;

use fixture::{Bench, Item, Layer, check, results};
use sandbox::Limits;
use serde_json::json;
use verify::{Containers, Status, SuiteReport, unit};

const DATABASE: &str = "P:web\nV:1.2.3-r0\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3-r1\nA:x86_64\nL:Zlib\n\n";

/// Serves, waits for its children and ends when told.
const SERVER: &str = "trap 'exit 0' TERM\n\
    nc -ll -p 6379 -e /bin/cat &\n\
    while :; do sleep 1 & wait $!; done\n";
/// Serves, but process 1 waits for nobody and hears no signal.
const CARELESS: &str = "nc -ll -p 6379 -e /bin/cat &\nexec sleep 600\n";

async fn still(layer: Layer, text: &str) -> Result<SuiteReport, verify::Error> {
    let bench = Bench::new();
    let config = json!({"Env": ["PATH=/bin", "MODE=web"], "ExposedPorts": {"8080/tcp": {}, "53/udp": {}}});
    let image = bench.image(&[layer], config);
    let containers = Containers::Unavailable("`runc` is not installed; install the Debian package `runc`".into());
    unit(&image, text, "unit.yaml", &bench.facilities(&containers, &Limits::default())).await
}

fn files() -> Layer {
    Layer::default()
        .folder("lib/apk/db", 0o755)
        .file("lib/apk/db/installed", 0o644, DATABASE)
        .folder("etc", 0o755)
        .file("etc/web.conf", 0o644, "x")
        .symlink("etc/link", "web.conf")
        .add("etc/open", Item::File(0o666, b"x".to_vec()), (1000, 0))
        .add("data", Item::Folder(0o700), (65532, 65532))
}

#[tokio::test]
async fn packages_environment_ports_and_owners() {
    let good = r#"
packages: {present: [web, "web~1.2", "zlib>=1.3"], absent: [busybox]}
environment: {set: {PATH: "^/bin$", MODE: web}, unset: [LD_PRELOAD]}
exposed: ["8080", "53/udp"]
owners:
  - {path: /lib, user: 0, group: 0, most: "0755"}
  - {path: /data, user: 65532, most: "0750"}
"#;
    let report = still(files(), good).await.unwrap();
    assert_eq!((report.status(), report.checks.len()), (Status::Passed, 10), "{report:?}");
    let bad = r#"
packages: {present: [musl, "web~1.3"], absent: [zlib]}
environment: {set: {PATH: "^/usr", HOME: .}, unset: [MODE]}
exposed: ["80", "53/udp"]
owners:
  - {path: /etc, user: 0, most: "0644"}
  - {path: /srv}
"#;
    let report = still(files(), bad).await.unwrap();
    assert!(report.checks.iter().all(|check| check.status == Status::Failed), "{report:?}");
    let messages: Vec<_> = report.checks.iter().map(|check| check.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the package `musl` is not installed; add it to `contents.packages`",
            "the package `web` is 1.2.3-r0, expected `web~1.3`; pin its version",
            "`zlib` 1.3-r1 is installed; find what wants it by `mill image solve`, and drop it",
            "`HOME` is not set; add it to `environment` of apko.yaml",
            "`PATH` is `/bin`, which does not match `^/usr`",
            "`MODE` is `web`; take it out of `environment` of apko.yaml",
            "the port 80/tcp is not exposed; the port 8080/tcp is exposed; it should not be",
            "`/etc` has the mode 0755, expected no more than 0644; `/etc/open` belongs to the user 1000, expected 0; \
             `/etc/open` has the mode 0666, expected no more than 0644",
            "`/srv` is not in the image",
        ]
    );
    let report = still(Layer::default(), "packages: {absent: [a]}\n").await.unwrap();
    assert!(report.checks[0].message.starts_with("the image has no apk database"), "{report:?}");
}

#[tokio::test]
async fn a_wrong_file_names_the_place() {
    for (text, place, what) in [
        ("package: {}\n", "unit.yaml:1:1: ", "package"),
        ("packages:\n  present: ['!busybox']\n", "unit.yaml:2:", "name it under `absent`"),
        ("owners:\n  - path: /\n    most: rwx\n", "unit.yaml:3:11: ", "`rwx` are no permissions"),
        ("runs: [{}]\n", "unit.yaml:1:1: ", "each of `runs` needs a `name`"),
        ("runs: [{name: a}, {name: a}]\n", "unit.yaml:1:1: ", "two of `runs` are called `a`"),
        (
            "runs: [{name: a, reaps: true}]\n",
            "unit.yaml:1:1: ",
            "run `a`: `checks`, `pid-1`, `listening` and `reaps` need",
        ),
        ("runs:\n  - name: a\n    retries: 9\n", "unit.yaml:3:14: ", "9 retries hide what is wrong"),
        ("runs:\n  - name: a\n    limits: {memory: 5MB}\n", "unit.yaml:3:", "`5MB` is no size"),
        ("runs:\n  - name: a\n    capabilities: [SYS_ADMIN]\n", "unit.yaml:3:", "something of the machine's"),
    ] {
        let message = still(Layer::default(), text).await.unwrap_err().to_string();
        assert!(message.starts_with(place) && message.contains(what), "{message}");
    }
}

#[tokio::test]
async fn without_containers_runs_are_not_run() {
    let text = "runs: [{name: a, ready: {port: 80}, pid-1: x, listening: [80], reaps: true}, {name: b}]\n";
    let report = still(Layer::default(), text).await.unwrap();
    let ids: Vec<_> = report.checks.iter().map(|check| check.id.as_str()).collect();
    let of_a =
        ["start", "ready", "pid-1", "listening", "capabilities", "reaps", "stop"].map(|name| format!("unit/a/{name}"));
    assert_eq!(ids[..7], of_a);
    assert_eq!(ids[7..], ["unit/b/start", "unit/b/end"]);
    assert!(report.checks.iter().all(|check| check.status == Status::NotRun));
}

async fn run(script: &str, text: &str) -> Option<SuiteReport> {
    let bench = Bench::new();
    let (image, containers) = bench.server(script).await?;
    let limits = Limits { wall_time: Duration::from_secs(90), ..Limits::default() };
    Some(unit(&image, text, "unit.yaml", &bench.facilities(&containers, &limits)).await.unwrap())
}

#[tokio::test]
async fn a_careful_server_passes_as_any_user() {
    let text = r#"
runs:
  - name: as anybody
    user: random
    read-only: true
    temporary: [/tmp]
    ready: {port: 6379, within: 30s}
    pid-1: busybox
    listening: [6379]
    reaps: true
    checks: [{name: echo, port: 6379, send: "hello\n", expect: '^hello\n', within: 20s}]
    stop: {within: 20s}
    limits: {time: 80s, memory: 256MiB, processes: 40}
"#;
    let Some(report) = run(SERVER, text).await else { return };
    assert_eq!((report.status(), report.checks.len()), (Status::Passed, 8), "{report:?}");
    let started = &check(&report, "unit/as anybody/start").message;
    let user: u32 = started.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(user >= 1_000_000_000, "{started}");
    assert!(report.checks.iter().all(|check| check.earlier.is_empty()));
}

#[tokio::test]
async fn a_careless_server_fails_with_what_to_do() {
    let text = r#"
runs:
  - name: careless
    user: "0"
    capabilities: [CHOWN]
    ready: {port: 6379, within: 30s}
    pid-1: server
    listening: [6380]
    reaps: true
    stop: {within: 1s}
    retries: 1
"#;
    let Some(report) = run(CARELESS, text).await else { return };
    let results = results(&report);
    let of = |name: &str| results[format!("unit/careless/{name}").as_str()];
    assert_eq!(
        of("pid-1"),
        (
            Status::Failed,
            "process 1 is `/bin/busybox`, expected `server`; start it by `exec`, so that signals reach it"
        )
    );
    assert_eq!(
        of("listening"),
        (
            Status::Failed,
            "nothing listens on port 6380; something listens on port 6379; turn it off, or add it to `listening`"
        )
    );
    assert!(of("capabilities").0 == Status::Failed, "{report:?}");
    assert!(of("capabilities").1.contains("CapEff 0000000000000001); let it drop them"), "{}", of("capabilities").1);
    assert!(of("reaps").0 == Status::Failed && of("reaps").1.contains("start it by an init"), "{:?}", of("reaps"));
    assert_eq!(of("stop"), (Status::Failed, "alive 1000 ms after SIGTERM"));
    // It was tried twice, which each check tells.
    assert_eq!(check(&report, "unit/careless/stop").earlier, ["alive 1000 ms after SIGTERM"]);
}

#[tokio::test]
async fn a_run_that_hangs_or_eats_memory_is_ended() {
    let text = r#"
runs:
  - {name: hung, arguments: [-c, "sleep 600"], limits: {time: 1s}, stop: {within: 30s}}
  - name: eats
    arguments: [-c, "x=$(/bin/busybox head -c 100000000 /dev/zero | /bin/busybox tr '\\0' a); sleep 600"]
    limits: {memory: 32MiB}
    stop: {within: 60s}
  - {name: writes, arguments: [-c, "echo x > /file"], read-only: true, stop: {within: 30s}}
"#;
    let Some(report) = run("", text).await else { return };
    let results = results(&report);
    assert_eq!(results["unit/hung/end"], (Status::Failed, "was ended: timed out after 1 s"));
    assert_eq!(results["unit/eats/end"], (Status::Failed, "was ended: more than 33554432 bytes of memory"));
    assert_eq!(results["unit/writes/end"], (Status::Failed, "ended with exit code 1, expected one of [0]"));
    assert!(check(&report, "unit/writes/end").evidence[1].contains("Read-only file system"));
}
