//! What is said about text that is no definition, and hostile text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use recipe::{ImageConfiguration, PackageDefinition, PathKind, SchedulePeriod};

fn error(text: &str) -> String {
    PackageDefinition::parse(text, "p.yaml").map(|_| ()).unwrap_err().to_string()
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    for (text, message) in [
        ("", "p.yaml:1:1: the definition needs `package`"),
        ("- a", "p.yaml:1:1: `the definition` must be a mapping, found a list"),
        ("package:\n  name: x\n", "p.yaml:2:3: `package` needs `version`"),
        (
            "package:\n  name: x\n  version: 1\n  epoch: one\n",
            "p.yaml:4:10: `package.epoch` must be a whole number of 0 or more, found `one`",
        ),
        (
            "package:\n  name: x\n  version: 1\n  epoch: '1'\n",
            "p.yaml:4:10: `package.epoch` must be a whole number of 0 or more, found string `1`",
        ),
        (
            "package:\n  name: x\n  version: 1\n  descripton: y\n",
            "p.yaml:4:3: unknown key `descripton` in `package`; did you mean `description`?",
        ),
        ("package:\n  name: x\n  version: 1\n  zzz: y\n", "p.yaml:4:3: unknown key `zzz` in `package`"),
        ("package:\n  name: x\n  name: y\n", "p.yaml:3:3: key `name` is given twice (first on line 2); keep one"),
        ("package:\n  name: x\n  version: [1]\n", "p.yaml:3:12: `package.version` must be text, found a list"),
        ("package:\n  name: ../x\n  version: 1\n", "p.yaml:2:9: `package.name` is `../x`"),
        ("package:\n  name: x\n  version: 1 2\n", "p.yaml:3:12: `package.version` is `1 2`"),
        ("package:\n  name: x\n  version: 1\n  timeout: soon\n", "p.yaml:4:12: `package.timeout` is `soon`"),
        (
            "package: {name: x, version: 1}\npipeline:\n  - run: y\n",
            "p.yaml:3:5: unknown key `run` in `pipeline[0]`; did you mean `runs`?",
        ),
        (
            "package: {name: x, version: 1}\npipeline:\n  runs: y\n",
            "p.yaml:3:3: `pipeline` must be a list, found a mapping",
        ),
        (
            "package: {name: x, version: 1}\nupdate:\n  enabled: maybe\n",
            "p.yaml:3:12: `update.enabled` must be `true` or `false`, found `maybe`",
        ),
        (
            "package:\n  name: x\n  version: 1\n  copyright: [{license: MIT, licenses: [{license: MIT}]}]\n",
            "p.yaml:4:25: `package.copyright[0].license` is `MIT`: an entry has `license` or `licenses`",
        ),
        (
            "package:\n  name: x\n  version: 1\n  copyright: [{operator: XOR, licenses: [{license: MIT}]}]\n",
            "p.yaml:4:26: `package.copyright[0].operator` is `XOR`: must be `AND` or `OR`",
        ),
        (
            "package:\n  name: x\n  version: 1\n  copyright: [{operator: OR}]\n",
            "p.yaml:4:15: `package.copyright[0]` needs `license`",
        ),
        (
            "package: {name: x, version: 1}\nenvironment:\n  contents:\n    package: [y]\n",
            "p.yaml:4:5: unknown key `package` in `environment.contents`; did you mean `packages`?",
        ),
        ("package: {name: x\n", "p.yaml:2:1: not valid YAML"),
        ("package:\n\tname: x\n", "p.yaml:2:"),
        ("package: *nowhere\n", "p.yaml:1:10: not valid YAML"),
        ("? [a]\n: b\n", "p.yaml:1:3: not valid YAML: a key must be a plain name"),
    ] {
        let error = error(text);
        assert!(error.starts_with(message), "{text:?}\n gives {error}\n  not {message}");
    }
}

#[test]
fn yaml_is_read_as_the_field_reads_it() {
    let text = "common: &common\n".to_owned();
    assert!(error(&text).contains("unknown key `common`"));
    let definition = PackageDefinition::parse(
        "package:\n  name: x\n  version: 1.10\n  epoch: 0x10\n  description: >\n    two\n    lines\n  url:\nvars: &vars {a: 0755, b: yes, c: ~, d: 'q'}\npipeline:\n  - &step {runs: one, environment: *vars}\n  - <<: *step\n    runs: two\nupdate: {enabled: yes, git: {}, schedule: {period: weekly}}\n",
        "p.yaml",
    )
    .unwrap();
    assert_eq!(definition.package.version, "1.10");
    assert_eq!(definition.package.epoch, 16);
    assert_eq!(definition.package.description, "two lines\n");
    assert_eq!(definition.package.url, "");
    let values: Vec<_> = definition.variables.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["0755", "yes", "", "q"]);
    assert_eq!(definition.pipeline[1].runs.as_ref().unwrap().as_str(), "two");
    assert_eq!(definition.pipeline[1].environment.len(), 4);
    assert_eq!(definition.update.enabled, Some(true));
    assert!(definition.update.git.is_some());
    assert_eq!(definition.update.schedule.unwrap().period, Some(SchedulePeriod::Weekly));
}

#[test]
fn hostile_text_is_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    for (text, message) in [
        (laughs, "nodes (aliases counted each time they are used); split it"),
        ("[".repeat(100), "levels of nesting"),
        ("[".repeat(100_000), "recursion limit"),
        ("{a: ".repeat(100_000), "recursion limit"),
        ((0..3_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>(), ""),
        ("- ".repeat(100_000), ""),
        ("? ".repeat(100_000), ""),
        ("x".repeat(3 * 1024 * 1024), "more than 2097152 bytes"),
        (format!("package:\n{}", "  - a\n".repeat(200_000)), "more than 100000 nodes"),
        ("&a ".repeat(50_000), ""),
        ("!".repeat(100_000), ""),
        ("a: &a [*a]\n".to_owned(), "it would hold itself"),
        ("\"".repeat(100_001), ""),
        ("- |\n  x\n- >-9\n".repeat(20_000), ""),
        ("\u{0}\u{feff}\u{85}a: b".to_owned(), ""),
        ("%TAG ! tag:\n".repeat(10_000), ""),
    ] {
        let started = Instant::now();
        let start: String = text.chars().take(20).collect();
        let found = error(&text);
        assert!(found.contains(message), "{start:?}: {found}");
        assert!(found.len() < 1_000, "{start:?}: a message of {} bytes", found.len());
        assert!(started.elapsed() < Duration::from_secs(5), "{start:?} took {:?}", started.elapsed());
    }
}

#[test]
fn cut_and_changed_definitions_never_panic() {
    let text = "package:\n  name: é\n  version: \"1\"\n  epoch: 1\nvars: {a: '${{vars.b}}'}\npipeline:\n  - uses: fetch\n    with: {uri: |-\n      x}\n  - runs: >\n      a ${{\nsubpackages: [{name: x, range: y}]\n";
    for (index, character) in text.char_indices() {
        let end = index + character.len_utf8();
        let _ = PackageDefinition::parse(&text[..index], "p.yaml");
        for replacement in ["{", "]", "\n", "\t", "*a", "&a", "\u{0}", "}}", "'"] {
            let changed = format!("{}{replacement}{}", &text[..index], &text[end..]);
            let _ = PackageDefinition::parse(&changed, "p.yaml");
        }
    }
}

#[test]
fn an_image_configuration_is_read_whole() {
    let image = ImageConfiguration::parse(
        "contents:
  repositories: ['@local /apk', https://example.org/apk]
  build_repositories: [a]
  runtime_repositories: [b]
  keyring: [k.rsa.pub]
  runtime_keyring: [{name: k, content: \"-----BEGIN PUBLIC KEY-----\\nAA\\n-----END PUBLIC KEY-----\"}]
  packages: [redis~8.0, busybox@local]
entrypoint: {command: /usr/bin/redis-server, shell-fragment: x, type: service-bundle, services: {a: b}}
cmd: --port 1
stop-signal: SIGTERM
work-dir: /data
accounts:
  run-as: '65532'
  users: [{username: redis, uid: 65532, gid: 65532, shell: /bin/sh, homedir: /data}]
  groups: [{groupname: redis, gid: 65532, members: [redis]}]
archs: [x86_64, arm64]
environment: {A: 1.10}
paths:
  - {path: /data, type: directory, uid: 65532, gid: 65532, permissions: 0o750, recursive: true}
  - {path: /a, type: symlink, source: /b}
  - {path: /c, type: permissions, permissions: 0755}
vcs-url: https://example.org
annotations: {k: v}
include: other.yaml
volumes: [/data]
layering: {strategy: origin, budget: 10}
format: tar
certificates: {additional: [{name: c, content: \"-----BEGIN CERTIFICATE-----\\nAA\\n-----END CERTIFICATE-----\"}], providers: [p]}
",
        "apko.yaml",
    )
    .unwrap();
    assert_eq!(image.contents.packages[1], "busybox@local");
    assert_eq!(image.accounts.users[0].uid, 65532);
    assert_eq!(image.environment[0].1, "1.10");
    assert_eq!(image.paths[0].permissions, Some(0o750));
    assert_eq!((image.paths[1].kind, image.paths[1].permissions), (PathKind::SymbolicLink, None));
    assert_eq!(image.paths[2].permissions, Some(0o755));
    assert_eq!(image.include.unwrap(), "other.yaml");
    assert_eq!(image.layering.unwrap().budget, Some(10));
    for (text, message) in [
        ("paths: [{path: /a, type: symlink}]", "a.yaml:1:9: `paths[0]` needs `source`"),
        ("paths: [{path: /a, type: dir}]", "a.yaml:1:26: `paths[0].type` is `dir`: must be `directory`"),
        ("entrypoint: {type: init}", "a.yaml:1:20: `entrypoint.type` is `init`"),
        (
            "accounts: {users: [{username: x, uid: 5000000000}]}",
            "a.yaml:1:39: `accounts.users[0].uid` must be a number below 4294967296",
        ),
        ("layering: {strategy: single}", "a.yaml:1:22: `layering.strategy` is `single`"),
    ] {
        let error = ImageConfiguration::parse(text, "a.yaml").unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
