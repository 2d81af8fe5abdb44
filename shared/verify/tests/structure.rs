//! container-structure-test files, each kind passing and failing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod fixture;

use std::time::Duration;

use fixture::{Bench, Item, Layer, check, results};
use sandbox::Limits;
use serde_json::{Value, json};
use verify::{Containers, Error, Image, Status, SuiteReport, structure};

fn config() -> Value {
    json!({
        "User": "web", "Env": ["PATH=/bin", "VERSION=8.1.2"], "Entrypoint": ["/bin/server"], "Cmd": ["--port", "80"],
        "WorkingDir": "/data", "ExposedPorts": {"8080/tcp": {}}, "Volumes": {"/data": {}},
        "Labels": {"org.opencontainers.image.title": "Web"},
    })
}

async fn run(bench: &Bench, image: &Image, text: &str, containers: &Containers) -> Result<SuiteReport, Error> {
    let limits = Limits { wall_time: Duration::from_secs(2), ..Limits::default() };
    structure(image, text, "structure.yaml", containers, &limits, &bench.scratch()).await
}

#[tokio::test]
async fn files_and_contents() {
    let bench = Bench::new();
    let layer = Layer::default()
        .folder("etc", 0o755)
        .file("etc/web.conf", 0o640, "listen 8080;\ndaemon off;\n")
        .symlink("etc/link.conf", "/etc/web.conf")
        .add("data", Item::Folder(0o1770), (65532, 65533))
        .file("bin/tool", 0o710, "#!/bin/sh\n");
    let image = bench.image(&[layer], config());
    let text = r#"
schemaVersion: "2.0.0"
fileExistenceTests:
  - {name: good, path: /data, shouldExist: true, permissions: dtrwxrwx---, uid: 65532, gid: 65533}
  - {name: absent, path: /bin/sh, shouldExist: false}
  - {name: link, path: /etc/link.conf, permissions: Lrwxrwxrwx}
  - {name: executable, path: /bin/tool, isExecutableBy: group}
  - {name: missing, path: /bin/sh}
  - {name: present, path: /etc/web.conf, shouldExist: false}
  - {name: wrong, path: /etc/web.conf, permissions: -rw-r--r--, uid: 1, gid: 2}
  - {name: closed, path: /bin/tool, isExecutableBy: other}
fileContentTests:
  - {name: good, path: /etc/link.conf, expectedContents: ["listen \\d+;", "(?m)^daemon off;$"], excludedContents: [ssl]}
  - {name: wrong, path: /etc/web.conf, expectedContents: [ssl], excludedContents: ["listen 8080"]}
  - {name: missing, path: /etc/other.conf, expectedContents: [x]}
"#;
    let report = run(&bench, &image, text, &Containers::Unavailable("not asked".into())).await.unwrap();
    let results = results(&report);
    let existence = |name: &str| results[format!("structure/file-existence/{name}").as_str()];
    for name in ["good", "absent", "link", "executable"] {
        assert_eq!(existence(name).0, Status::Passed, "{name}: {}", existence(name).1);
    }
    assert_eq!(existence("missing"), (Status::Failed, "`/bin/sh` is not in the image; it should be"));
    assert_eq!(existence("present"), (Status::Failed, "`/etc/web.conf` is in the image; it should not be"));
    assert_eq!(
        existence("wrong"),
        (
            Status::Failed,
            "`/etc/web.conf` has the permissions `-rw-r-----`, expected `-rw-r--r--`; \
             `/etc/web.conf` belongs to the user 0, expected 1; `/etc/web.conf` belongs to the group 0, expected 2"
        )
    );
    assert_eq!(
        existence("closed"),
        (Status::Failed, "`/bin/tool` with permissions `-rwx--x---` is not executable by other")
    );
    let content = |name: &str| results[format!("structure/file-content/{name}").as_str()];
    assert_eq!(content("good").0, Status::Passed);
    assert_eq!(
        content("wrong"),
        (Status::Failed, "`/etc/web.conf` does not match `ssl`; `/etc/web.conf` matches the excluded `listen 8080`")
    );
    assert_eq!(content("missing"), (Status::Failed, "`/etc/other.conf` is no file of the image"));
    assert!(check(&report, "structure/file-content/wrong").evidence[0].contains("daemon off;"));
    assert_eq!(report.status(), Status::Failed);
}

#[tokio::test]
async fn metadata() {
    let bench = Bench::new();
    let image = bench.image(&[Layer::default()], config());
    let good = r#"
schemaVersion: 2.0.0
metadataTest:
  envVars: [{key: PATH, value: /bin}, {key: VERSION, value: "^8\\.", isRegex: true}]
  labels: [{key: org.opencontainers.image.title, value: Web}]
  exposedPorts: ["8080"]
  unexposedPorts: ["22"]
  volumes: [/data]
  unmountedVolumes: [/root]
  entrypoint: [/bin/server]
  cmd: [--port, "80"]
  workdir: /data
  user: web
"#;
    let unavailable = Containers::Unavailable("not asked".into());
    let report = run(&bench, &image, good, &unavailable).await.unwrap();
    assert_eq!((report.status(), report.checks.len()), (Status::Passed, 11), "{report:?}");
    let bad = r#"
schemaVersion: 2.0.0
metadataTest:
  env: [{key: PATH, value: /usr/bin}, {key: HOME, value: /}]
  labels: [{key: org.opencontainers.image.title, value: "^x", isRegex: true}]
  exposedPorts: ["80"]
  unexposedPorts: ["8080/tcp"]
  volumes: [/root]
  unmountedVolumes: [/data]
  entrypoint: []
  cmd: [--port]
  workdir: /
  user: root
"#;
    let report = run(&bench, &image, bad, &unavailable).await.unwrap();
    assert!(report.checks.iter().all(|check| check.status == Status::Failed));
    let messages: Vec<_> = report.checks.iter().map(|check| check.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the environment variable `PATH` is `/bin`, expected `/usr/bin`",
            "the image has no environment variable `HOME`",
            "the label `org.opencontainers.image.title` is `Web`, expected `^x`",
            "`80` is not in the configuration; it has [8080/tcp]",
            "`8080/tcp` is in the configuration; it should not be",
            "`/root` is not in the configuration; it has [/data]",
            "`/data` is in the configuration; it should not be",
            "the entrypoint is `[/bin/server]`, expected `[]`",
            "the cmd is `[--port, 80]`, expected `[--port]`",
            "the workdir is `/data`, expected `/`",
            "the user is `web`, expected `root`",
        ]
    );
}

const COMMANDS: &str = r#"
schemaVersion: 2.0.0
globalEnvVars: [{key: PLACE, value: "$PATH/there"}]
commandTests:
  - name: good
    setup: [[touch, /data/made]]
    command: sh
    args: [-c, "id -u; test -e made && echo $PLACE $OWN; echo to error >&2; exit 3"]
    envVars: [{key: OWN, value: mine}]
    exitCode: 3
    expectedOutput: ["^65532\\n/bin/there mine\\n$"]
    excludedOutput: [error]
    expectedError: ["to error"]
    excludedError: ["65532"]
  - {name: alone, command: test, args: ["!", -e, /data/made]}
  - {name: code, command: sh, args: [-c, "exit 1"]}
  - {name: output, command: echo, args: [hello], expectedOutput: [bye], excludedOutput: [hell], expectedError: [x]}
  - {name: hung, command: sleep, args: ["60"]}
  - {name: absent, command: nothing}
  - {name: setup, setup: [[nothing]], command: echo}
"#;

#[tokio::test]
async fn commands() {
    let bench = Bench::new();
    let Some(layer) = Layer::busybox() else { return };
    let containers = bench.containers().await;
    if matches!(containers, Containers::Unavailable(_)) {
        return;
    }
    let image = bench.image(&[layer], config());
    let report = run(&bench, &image, COMMANDS, &containers).await.unwrap();
    let results = results(&report);
    let command = |name: &str| results[format!("structure/command/{name}").as_str()];
    assert_eq!(command("good").0, Status::Passed, "{report:?}");
    assert_eq!(command("alone").0, Status::Passed, "{report:?}");
    assert_eq!(command("code"), (Status::Failed, "exit code 1, expected 0"));
    assert_eq!(
        command("output"),
        (
            Status::Failed,
            "standard output does not match `bye`; standard output matches the excluded `hell`; \
             standard error does not match `x`"
        )
    );
    assert_eq!(check(&report, "structure/command/output").evidence[0], "standard output:\nhello\n");
    assert_eq!(command("hung"), (Status::Failed, "`sleep` was ended: timed out after 2 s"));
    assert_eq!(command("absent").0, Status::Failed);
    assert!(command("absent").1.contains("nothing"), "{}", command("absent").1);
    assert!(command("setup").1.starts_with("set-up [nothing]: "), "{}", command("setup").1);
    assert!(!image.root().join("data/made").exists());
}

#[tokio::test]
async fn without_containers_commands_are_not_run() {
    let bench = Bench::new();
    let image = bench.image(&[Layer::default()], config());
    let reason = "`runc` is not installed; install the Debian package `runc`";
    let text = format!("{COMMANDS}licenseTests: [{{debian: true}}]\n");
    let report = run(&bench, &image, &text, &Containers::Unavailable(reason.into())).await.unwrap();
    assert!(report.checks.iter().all(|check| check.status == Status::NotRun));
    assert_eq!(check(&report, "structure/command/good").message, reason);
    assert_eq!((report.status(), report.blocking().count()), (Status::NotRun, 8));
}

#[tokio::test]
async fn a_wrong_file_names_the_place() {
    let bench = Bench::new();
    let image = bench.image(&[Layer::default()], config());
    let unavailable = Containers::Unavailable("not asked".into());
    for (text, expected) in [
        ("schemaVersion: 2.0.0\nfileTests: []\n", ("structure.yaml:2:1: ", "fileTests")),
        ("schemaVersion: 1.0.0\n", ("structure.yaml:1:16: ", "1.0.0")),
        (
            "schemaVersion: 2.0.0\nfileContentTests:\n  - name: a\n    path: /a\n    expectedContents: ['(']\n",
            ("structure.yaml:5:", "`(` is no regular expression: unclosed group"),
        ),
        ("schemaVersion: 2.0.0\ncommandTests:\n  - name: a\n", ("structure.yaml:3:", "command")),
        ("schemaVersion: [\n", ("structure.yaml:", "")),
    ] {
        let message = run(&bench, &image, text, &unavailable).await.unwrap_err().to_string();
        assert!(message.starts_with(expected.0) && message.contains(expected.1), "{message}");
    }
}
