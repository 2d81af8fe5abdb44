//! Started images that answer, and that don't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod fixture;

use std::time::Duration;

use fixture::{Bench, Layer, check, results};
use sandbox::Limits;
use serde_json::json;
use verify::{Containers, Error, Status, SuiteReport, runtime};

const SERVER: &str = "trap 'exit 0' TERM\n\
    nc -ll -p 6379 -e /bin/sh -c 'read line; echo \"+PONG $MODE\"' &\n\
    while :; do sleep 1 & wait $!; done\n";

async fn run(script: &str, text: &str) -> Option<Result<SuiteReport, Error>> {
    let bench = Bench::new();
    let (image, containers) = bench.server(script).await?;
    let limits = Limits { wall_time: Duration::from_secs(60), ..Limits::default() };
    Some(runtime(&image, text, "runtime.yaml", &bench.facilities(&containers, &limits)).await)
}

#[tokio::test]
async fn a_server_that_answers_passes() {
    let text = r#"
environment: {MODE: tested}
read-only: true
temporary: [/tmp]
ready: {port: 6379, within: 20s}
checks:
  - {name: answers PING, port: 6379, send: "PING\r\n", expect: '^\+PONG tested\n'}
stop: {within: 10s, exit-code: [0, 143]}
"#;
    let Some(report) = run(SERVER, text).await else { return };
    let report = report.unwrap();
    assert_eq!(report.status(), Status::Passed, "{report:?}");
    let ids: Vec<_> = report.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(
        ids,
        ["runtime/start", "runtime/ready", "runtime/capabilities", "runtime/answer/answers PING", "runtime/stop"]
    );
}

#[tokio::test]
async fn a_wrong_answer_a_closed_port_and_a_deaf_server_fail() {
    let text = r#"
ready: {port: 6379, within: 20s}
checks:
  - {name: wrong, port: 6379, send: "PING\r\n", expect: '^\+QUEUED', within: 2s}
  - {name: closed, port: 6380, send: "PING\r\n", expect: '.', within: 500ms}
stop: {within: 1s}
"#;
    let Some(report) = run(&SERVER.replace("exit 0", ":"), text).await else { return };
    let report = report.unwrap();
    let results = results(&report);
    assert_eq!(
        results["runtime/answer/wrong"],
        (Status::Failed, r"the answer of port 6379 does not match `^\+QUEUED`")
    );
    assert_eq!(check(&report, "runtime/answer/wrong").evidence[0], "answer:\n+PONG \n");
    assert_eq!(
        results["runtime/answer/closed"],
        (Status::Failed, "port 6380 does not accept: Connection refused (os error 111)")
    );
    assert_eq!(results["runtime/stop"], (Status::Failed, "alive 1000 ms after SIGTERM"));
}

#[tokio::test]
async fn a_server_that_never_listens_or_ends_early_fails() {
    let text = "ready: {port: 6379, within: 1s}\nchecks: [{name: a, port: 6379, expect: x}]\nstop: {within: 1s}\n";
    let Some(report) = run("echo started >&2; exec sleep 60", text).await else { return };
    let report = report.unwrap();
    let ready = check(&report, "runtime/ready");
    assert_eq!(ready.status, Status::Failed);
    assert!(ready.message.starts_with("port 6379 does not accept within 1000 ms"), "{}", ready.message);
    assert_eq!(ready.evidence[1], "standard error:\nstarted\n");
    assert_eq!(check(&report, "runtime/answer/a").status, Status::NotRun);

    let report = run("echo no disk >&2; exit 5", text).await.unwrap().unwrap();
    let stop = check(&report, "runtime/stop");
    assert_eq!((stop.status, stop.message.as_str()), (Status::Failed, "it ended by itself with exit code 5"));
    assert_eq!(stop.evidence[1], "standard error:\nno disk\n");
}

#[tokio::test]
async fn a_program_that_ends_by_itself() {
    let text = "arguments: [-c, 'exit 3']\nstop: {within: 5s, exit-code: 3}\n";
    let Some(report) = run("", text).await else { return };
    assert_eq!(report.unwrap().status(), Status::Passed);
    let text = "stop: {within: 500ms}\n";
    let report = run("sleep 60", text).await.unwrap().unwrap();
    assert_eq!(check(&report, "runtime/end").message, "it runs after 500 ms");
    let text = "user: nobody\nstop: {}\n";
    let report = run("", text).await.unwrap().unwrap();
    assert_eq!(check(&report, "runtime/start").message, "the image has no user `nobody` in `/etc/passwd`");
}

#[tokio::test]
async fn without_containers_nothing_is_run() {
    let bench = Bench::new();
    let image = bench.image(&[Layer::default()], json!({}));
    let reason = "`runc` is not installed; install the Debian package `runc`";
    let text = "ready: {port: 80}\nchecks: [{name: a, port: 80, expect: x}]\n";
    let containers = Containers::Unavailable(reason.into());
    let report = runtime(&image, text, "r", &bench.facilities(&containers, &Limits::default())).await.unwrap();
    assert_eq!((report.status(), report.checks.len()), (Status::NotRun, 5));
    assert!(report.checks.iter().all(|check| check.status == Status::NotRun && check.message == reason));
}

#[tokio::test]
async fn a_wrong_file_names_the_place() {
    let bench = Bench::new();
    let image = bench.image(&[Layer::default()], json!({}));
    for (text, place, what) in [
        ("ready: {port: 70000}\n", "r:1:", "`70000` is no port"),
        ("ready:\n  port: 80\n  within: soon\n", "r:3:11: ", "`soon` is no duration"),
        ("checks: [{name: a, port: 80, expect: x}]\n", "r:1:1: ", "need `ready`"),
        ("stop:\n  signal: KILL\n", "r:2:11: ", "KILL"),
    ] {
        let containers = Containers::Unavailable("not asked".into());
        let message = runtime(&image, text, "r", &bench.facilities(&containers, &Limits::default()))
            .await
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(place) && message.contains(what), "{message}");
    }
}
