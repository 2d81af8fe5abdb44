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
    structure(image, text, "structure.yaml", &bench.facilities(containers, &limits)).await
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
  - {name: executable, path: "${PATH}/tool", isExecutableBy: group, uid: 0, permissions: ""}
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
  unboundEnvVars: [{key: DEBUG}]
  labels: [{key: org.opencontainers.image.title, value: Web}]
  exposedPorts: [8080]
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
    assert_eq!((report.status(), report.checks.len()), (Status::Passed, 12), "{report:?}");
    let bad = r#"
schemaVersion: 2.0.0
metadataTest:
  env: [{key: PATH, value: /usr/bin}, {key: HOME, value: /}]
  unboundEnvVars: [{key: VERSION, value: "any"}]
  labels: [{key: org.opencontainers.image.title, value: "^x", isRegex: true}]
  exposedPorts: ["80"]
  unexposedPorts: ["8080/tcp", "8080"]
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
            "the environment variable `VERSION` is `8.1.2`; it should not be set",
            "the label `org.opencontainers.image.title` is `Web`, expected `^x`",
            "`80` is not in the configuration; it has [8080/tcp]",
            "`8080/tcp` is in the configuration; it should not be",
            "`8080` is in the configuration; it should not be",
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
  - {name: variables, command: $PATH/echo, args: ["${VERSION} $PLACE $NONE", $$], expectedOutput: ['^8\.1\.2 /bin/there \$NONE \$\$\n$']}
  - {name: tear-down, command: "true", teardown: [[nothing]]}
  - name: characters
    command: printf
    args: ['\377 \303\251\n']
    expectedOutput: ['\x{e9}', '\pL\n$']
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
    for name in ["variables", "tear-down", "characters"] {
        assert_eq!(command(name).0, Status::Passed, "{:?}", check(&report, &format!("structure/command/{name}")));
    }
    let torn = check(&report, "structure/command/tear-down");
    assert!(torn.evidence[0].starts_with("tear-down [nothing]: "), "{:?}", torn.evidence);
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
    let report = run(&bench, &image, COMMANDS, &Containers::Unavailable(reason.into())).await.unwrap();
    assert!(report.checks.iter().all(|check| check.status == Status::NotRun));
    assert_eq!(check(&report, "structure/command/good").message, reason);
    assert_eq!((report.status(), report.blocking().count()), (Status::NotRun, 10));
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
        (
            "schemaVersion: 2.0.0\ncommandTests:\n  - name: ''\n    command: a\n",
            ("structure.yaml:3:11: ", "it is empty; give it a value"),
        ),
        (
            "schemaVersion: 2.0.0\ncommandTests:\n  - name: a\n    command: a\n    setup: [[b],\n      []]\n",
            ("structure.yaml:6:7: ", "the command is empty; name a program, or remove it"),
        ),
        (
            "schemaVersion: 2.0.0\nmetadataTest:\n  labels:\n    - {key: a, value: '(', isRegex: true}\n",
            ("structure.yaml:4:", "`(` is no regular expression: unclosed group"),
        ),
        ("schemaVersion: 2.0.0\ncontainerRunOptions:\n  network: host\n", ("structure.yaml:3:3: ", "network")),
        (
            "{\"schemaVersion\": \"2.0.0\",\n \"commandTests\": [{\"name\": \"a\", \"cmd\": \"b\"}]}",
            ("structure.yaml:2:", "cmd"),
        ),
        ("schemaVersion: [\n", ("structure.yaml:", "")),
    ] {
        let message = run(&bench, &image, text, &unavailable).await.unwrap_err().to_string();
        assert!(message.starts_with(expected.0) && message.contains(expected.1), "{message}");
    }
}

/// The options' own file, as the format's documentation has it.
const OPTIONS: &str = r#"
schemaVersion: '2.0.0' # Make sure to test the latest schema version
commandTests:
- name: "user, variables and mounts"
  command: "sh"
  args: ["-c", "id -u; echo $FOO $BAR; cat /mounted/data; touch /mounted/data 2>&1; cat /proc/self/status"]
  expectedOutput: ["^0\\nkeepitsecret! of the file\\nread me\\n.*Read-only", "(?m)^CapEff:\\s+0000000000000401$"]
  envVars: [{key: BAR, value: of the test}]
containerRunOptions:
  user: "root"
  envFile: tests/envfile
  capabilities: ["net_bind_service", "CAP_CHOWN"]
  bindMounts: ["tests/mounted:/mounted"]
"#;

#[tokio::test]
async fn run_options() {
    let bench = Bench::new();
    let tests = bench.catalog().join("tests");
    std::fs::create_dir_all(tests.join("mounted")).unwrap();
    std::fs::write(tests.join("envfile"), "# of the test\nFOO=keepitsecret!\nBAR='of the file'\n").unwrap();
    std::fs::write(tests.join("mounted/data"), "read me\n").unwrap();
    let Some(layer) = Layer::busybox() else { return };
    let containers = bench.containers().await;
    if matches!(containers, Containers::Unavailable(_)) {
        return;
    }
    let image = bench.image(&[layer], config());
    let report = run(&bench, &image, OPTIONS, &containers).await.unwrap();
    assert_eq!(report.status(), Status::Passed, "{report:?}");

    for (from, to, message) in [
        ("user: \"root\"", "privileged: true", "`privileged` would give the container the machine"),
        ("user: \"root\"", "allocateTty: true", "`allocateTty` is not offered"),
        ("user: \"root\"", "envVars: [SECRET]", "use `globalEnvVars`"),
        ("\"CAP_CHOWN\"", "sys_admin", "the capability `sys_admin` would give the container something"),
        ("tests/mounted:", "/tmp/test:", "`/tmp/test` is a path of this machine"),
        ("tests/envfile", "tests/absent", "`tests/absent` can't be found in the image's folder"),
        ("tests/envfile", "tests/mounted/data", "tests/mounted/data:1: `read me` is no variable"),
    ] {
        let report = run(&bench, &image, &OPTIONS.replacen(from, to, 1), &containers).await.unwrap();
        let refused = &report.checks[0];
        assert_eq!(refused.status, Status::NotRun, "{refused:?}");
        assert!(refused.message.contains(message), "{}", refused.message);
    }
}

#[tokio::test]
async fn licences() {
    let bench = Bench::new();
    let good = "Format: copyright-format/1.0\nLicense: MIT\n";
    let layer = Layer::default()
        .folder("usr/share/doc", 0o755)
        .folder("usr/share/doc/dash", 0o755)
        .file("usr/share/doc/dash/copyright", 0o644, good)
        .folder("usr/share/doc/libgnutls30", 0o755)
        .file("usr/share/doc/README", 0o644, "WTFPL")
        .file("opt/licence", 0o644, "under the Agpl-3.0");
    let image = bench.image(std::slice::from_ref(&layer), config());
    let unavailable = Containers::Unavailable("not asked".into());
    let text = "schemaVersion: 2.0.0\nlicenseTests:\n- debian: true\n  files: [/usr/share/doc/dash/copyright]\n\
        - {debian: false, files: [/opt/licence, /opt/absent]}\n";
    let report = run(&bench, &image, text, &unavailable).await.unwrap();
    assert_eq!(report.checks[0].status, Status::Passed, "{report:?}");
    assert_eq!(
        (report.checks[1].status, report.checks[1].message.as_str()),
        (
            Status::Failed,
            "`/opt/licence` names the licence AGPL, which is not allowed; \
             the licence file `/opt/absent` is no file of the image"
        )
    );
    let image = bench.image(&[layer.folder("usr/share/doc/tool", 0o755)], config());
    let report = run(&bench, &image, text, &unavailable).await.unwrap();
    assert_eq!(report.checks[0].message, "the licence file `/usr/share/doc/tool/copyright` is no file of the image");
    let image = bench.image(&[Layer::default()], config());
    let report = run(&bench, &image, text, &unavailable).await.unwrap();
    assert!(report.checks[0].message.starts_with("the image has no folder `/usr/share/doc`"), "{report:?}");
}

/// Keys and scalars as files in the wild have them: quoted and plain, numbers for text, lists left empty.
#[tokio::test]
async fn files_of_others_are_read_unchanged() {
    let bench = Bench::new();
    let layer = Layer::default().folder("etc", 0o755).file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/bash\n");
    let image = bench.image(&[layer], config());
    let text = r#"
schemaVersion: '2.0.0' # Make sure to test the latest schema version
globalEnvVars:
fileContentTests:
- name: 'Passwd file'
  expectedContents: ['root:x:0:0:root:/root:/bin/bash']
  excludedContents:
  path: '/etc/passwd'
fileExistenceTests:
- name: 'Root'
  path: '/'
  shouldExist: true
  uid: 0
  gid: 0
- name: 7
  path: '/etc/dummy'
  shouldExist: false
metadataTest:
  env:
  - key: 'VERSION'
    value: '8\.[0-9]+\.2*'
    isRegex: true
  labels: []
  unexposedPorts: ['80']
  unmountedVolumes: ['/root']
licenseTests:
"#;
    let report = run(&bench, &image, text, &Containers::Unavailable("not asked".into())).await.unwrap();
    assert_eq!((report.status(), report.checks.len()), (Status::Passed, 6), "{report:?}");
}
