//! apko's format: what is read, and that what is refused is refused where it stands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use recipe::{ImageConfiguration, KeyEntry};

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n";

fn parse(yaml: &str) -> ImageConfiguration {
    ImageConfiguration::parse(yaml, "apko.yaml").unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// The definitions in apko's format that lie in the corpus, if there are any.
#[test]
fn every_file_of_the_corpus_is_read() {
    let corpus = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let folder = std::path::Path::new(&corpus).join("apko");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("not run: no definitions at {}", folder.display());
        return;
    };
    let mut refused = Vec::new();
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        count += 1;
        if let Err(error) = ImageConfiguration::parse(&text, &path.display().to_string()) {
            refused.push(error.to_string());
        }
    }
    println!("{count} definitions read");
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn every_key_is_read() {
    let configuration = parse(&format!(
        r#"
contents:
  build_repositories: [./packages]
  runtime_repositories: [https://mirror.example/os]
  repositories: ["@edge https://packages.example/os", https://packages.example/main/]
  keyring: [./local.rsa.pub, {{name: inline.rsa.pub, content: "{PUBLIC_KEY}"}}]
  runtime_keyring: [{{name: mirror.rsa.pub, content: "{PUBLIC_KEY}"}}]
  packages: [app=1.2-r0, lib~3, tool@edge, "!bad"]
  ecosystems: {{python: {{packages: [flask], python_version: "3.12", venv: /app}}}}
entrypoint: {{command: /usr/bin/app --a "b c"}}
cmd: serve
stop-signal: SIGQUIT
work-dir: /app
accounts:
  run-as: app
  users: [{{username: app, uid: 65532, gid: 0, shell: /bin/false, homedir: /app}}]
  groups: [{{groupname: app, gid: 65532, members: [app]}}]
archs: [amd64, arm/v7, 386, riscv64, all]
environment: {{A: 1, B: null}}
paths:
  - {{path: run/app, type: directory, permissions: 0755, recursive: true}}
  - {{path: /etc/l, type: symlink, source: ../x}}
  - {{path: /etc/h, type: hardlink, source: etc/hosts}}
vcs-url: https://code.example/x@abc
annotations: {{a: b}}
volumes: [/data]
layering: {{strategy: origin, budget: 10}}
format: erofs+zstd,level=3
certificates: {{providers: [custom-ca-certificates]}}
options: {{debug: {{contents: {{packages: {{add: [busybox]}}}}}}}}
"#
    ));
    let contents = &configuration.contents;
    assert!(matches!(&contents.keyring[0], KeyEntry::Location(path) if path.as_str() == "./local.rsa.pub"));
    assert!(matches!(&contents.keyring[1], KeyEntry::Inline(key) if key.name.as_str() == "inline.rsa.pub"));
    assert_eq!(contents.ecosystems[0].packages[0].as_str(), "flask");
    assert_eq!(contents.packages.len(), 4);
    assert_eq!(configuration.accounts.users[0].gid, Some(0));
    assert_eq!(configuration.paths[0].permissions, Some(0o755));
    assert_eq!(configuration.environment[1].1.as_str(), "");
    assert_eq!(configuration.architectures.len(), 5);
    assert_eq!(configuration.options[0].as_str(), "debug");
}

#[test]
fn a_base_leaves_what_is_on_top_to_say() {
    let base = "contents: {packages: [app], baseimage: {image: ./base, apkindex: ./index}}\n";
    let configuration = parse(&format!(
        "{base}archs: [x86_64]\nvolumes: [/data]\nvcs-url: https://code.example/x@abc\ncertificates: {{providers: [ca]}}\nlayering: {{}}\nentrypoint: {{}}\n"
    ));
    let found = configuration.contents.base_image.as_ref().unwrap();
    assert_eq!((found.image.as_str(), found.apk_index.as_str()), ("./base", "./index"));
    let error = configuration.check_for_catalog("apko.yaml").unwrap_err().to_string();
    assert!(error.starts_with("apko.yaml:1:") && error.contains("would not see that the base changed"), "{error}");
    assert!(parse("contents: {packages: [app]}").check_for_catalog("apko.yaml").is_ok());
    for (field, yaml) in [
        ("entrypoint.type", "entrypoint: {type: service-bundle}"),
        ("entrypoint.command", "entrypoint: {command: /a}"),
        ("entrypoint.shell-fragment", "entrypoint: {shell-fragment: a}"),
        ("entrypoint.services", "entrypoint: {services: {a: b}}"),
        ("cmd", "cmd: a"),
        ("stop-signal", "stop-signal: SIGQUIT"),
        ("work-dir", "work-dir: /a"),
        ("accounts.run-as", "accounts: {run-as: a}"),
        ("accounts.users", "accounts: {users: [{username: a, uid: 1}]}"),
        ("accounts.groups", "accounts: {groups: [{groupname: a, gid: 1}]}"),
        ("environment", "environment: {A: b}"),
        ("paths", "paths: [{path: /a, type: directory}]"),
        ("annotations", "annotations: {a: b}"),
        ("layering.strategy", "layering: {strategy: origin, budget: 2}"),
    ] {
        let error = ImageConfiguration::parse(&format!("{base}{yaml}\n"), "apko.yaml").unwrap_err().to_string();
        assert!(error.starts_with("apko.yaml:2:") && error.contains(&format!("`{field}` is `")), "{error}");
        assert!(error.contains("starts, and is laid out, as its base does"), "{error}");
    }
}

/// How people write their files, found in about fifty public repositories: every one of these is read.
#[test]
fn the_shapes_of_public_files_are_read() {
    // Keys without a value, lists of comments alone, a start that is nothing.
    let empty = parse(
        "contents:\n  packages: [\n    # added by the pipeline\n  ]\n  repositories:\n    # - https://mirror.example/os\n  \
         keyring: []\naccounts:\n  run-as: # a number or name\n  users:\n  groups:\nenvironment:\nannotations:\n  # \
         key: value\ncmd: \"\"\npaths:\nlayering: {}\nvolumes:\narchs:\nentrypoint:\n",
    );
    assert!(empty.contents.packages.is_empty() && empty.environment.is_empty());
    assert!(empty.layering.is_none_or(|layering| layering.strategy.is_none()));
    assert!(empty.accounts.run_as.is_none_or(|user| user.is_empty()));

    // Brackets that close at the indentation of their key, and places behind them.
    let brackets = "contents: {\n  packages: [\n    a,\n  ],\n}\narchs: [\n  x86_64,\n] # all\ncmd: it's\n";
    let error = ImageConfiguration::parse(brackets, "apko.yaml").unwrap_err().to_string();
    assert!(error.starts_with("apko.yaml:9:6: `cmd` is"), "{error}");
    let closed = parse(
        "archs: [\n  x86_64,\n  arm64\n]\ncontents:\n  packages: [\n    a, b\n  ]\npaths: [{\n    path: /é,\n    \
         type: directory\n  }, {path: /b, type: directory}\n]\ncmd: x\n",
    );
    assert_eq!((closed.architectures.len(), closed.contents.packages.len(), closed.paths.len()), (2, 2, 2));
    let position = closed.command.unwrap().position;
    assert_eq!((position.line, position.column), (14, 6));
    assert!(ImageConfiguration::parse("archs: [\n  x86_64\n}\n", "apko.yaml").is_err());
    assert!(ImageConfiguration::parse("cmd: x\n]\n", "apko.yaml").is_err());

    // Lists at the indentation of their key, quotes of both kinds, comments behind values, no end of line.
    let loose = parse(
        "archs:\n- x86_64\n- amd64\n- 'arm64'\ncontents:\n  keyring:\n  - https://packages.example/os/os.rsa.pub\n  - \
         melange.rsa.pub\n  - /run/key.pub\n  repositories:\n  - 'https://packages.example/os'\n  - '@local ./packages'\n  \
         - \"@near packages\"\n  - /work/packages\n  packages: #\n  - ca-certificates=20231127-r0\n  - \
         gcc=13.2.1_git20231014-r0 # pinned\n  - solr-9=9.11.0-r0@local\n  - Upper-Case\n  - php-8.3-pdo_pgsql\n  - \
         libstdc++\n  - g++>12\n  - so:libc.musl-x86_64.so.1\n  - cmd:sh",
    );
    assert_eq!(loose.contents.packages.len(), 9);
    assert_eq!(loose.contents.repositories.len(), 4);

    // Values that YAML reads as numbers, truths and dates are texts here.
    let scalars = parse(
        "environment:\n  PORT: 3000\n  NOTIFY: false\n  HOST: 0.0.0.0\n  VERSION: 1.10\n  DAY: 2026-01-02\n  EMPTY: \
         \"\"\n  PATH: /home/a/bin:$PATH\n  QUOTED: \"{{ .Env.VERSION }}\"\n  MALLOC_TRIM_THRESHOLD_: 131072\nannotations:\n  \
         \"org.opencontainers.image.authors\": \"A B https://h.example/\"\n  org.opencontainers.image.version: 0.1 # \
         release\n  org.opencontainers.image.description: >-\n    several\n    lines\n",
    );
    let value = |name: &str| {
        let found = scalars.environment.iter().chain(&scalars.annotations).find(|(known, _)| known.as_str() == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.as_str()
    };
    for (name, expected) in [
        ("PORT", "3000"),
        ("NOTIFY", "false"),
        ("VERSION", "1.10"),
        ("DAY", "2026-01-02"),
        ("PATH", "/home/a/bin:$PATH"),
        ("org.opencontainers.image.version", "0.1"),
        ("org.opencontainers.image.description", "several lines"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }

    // Accounts and paths.
    let files = parse(
        "accounts:\n  groups:\n  - {groupname: www-data, gid: 33}\n  - groupname: wheel\n    gid: 10\n    members: [a, b]\n  \
         users:\n  - username: www-data\n    uid: 33\n    shell: /sbin/nologin\n  - {username: a, uid: 65532, gid: 0, shell: \
         '', homedir: ''}\n  run-as: a:wheel\nwork-dir: /home/a/\nvolumes: [ \"/config\", \"/cache\" ]\npaths:\n- {path: \
         /home/a/, type: directory, uid: 65532, gid: 65532, permissions: 0o755}\n- {path: /tmp, type: directory, \
         permissions: 0o1777, recursive: true}\n- {path: /usr/bin/x, type: permissions, uid: 0, gid: 0, permissions: \
         0o4755}\n- {path: /etc/b, type: hardlink, source: /etc/a, uid: 1, gid: 1, permissions: 0o644}\n- {path: \
         /var/lock, type: symlink, source: ../run/lock}\n- {path: /old, type: directory, permissions: 0750}\n- {path: \
         /decimal, type: empty-file, permissions: 493}\n",
    );
    let modes: Vec<Option<u32>> = files.paths.iter().map(|path| path.permissions).collect();
    assert_eq!(modes, [0o755, 0o1777, 0o4755, 0o644, 0, 0o750, 0o755].map(|mode| Some(mode).filter(|mode| *mode > 0)));
    assert_eq!(files.accounts.users[0].gid, None);
    assert_eq!(files.accounts.run_as.unwrap().as_str(), "a:wheel");

    // Starts.
    for (yaml, command) in [
        (
            "entrypoint:\n  command: nginx -c /etc/nginx.conf -g \"daemon off;\"",
            "nginx -c /etc/nginx.conf -g \"daemon off;\"",
        ),
        ("entrypoint:\n  command:\n   catatonit -- app", "catatonit -- app"),
        ("entrypoint:\n  type: command\n  command: /usr/bin/node\ncmd: /usr/bin/app", "/usr/bin/node"),
        ("entrypoint:\n  command: >\n    app\n    --port 80\n", "app --port 80\n"),
        (
            "entrypoint:\n  type: service-bundle\n  services:\n    a: /sbin/a -f\n    b.c: /usr/sbin/b -d",
            "/bin/s6-svscan /sv",
        ),
    ] {
        assert_eq!(parse(yaml).entrypoint.command.unwrap().as_str(), command, "{yaml}");
    }
    let fragment = parse("entrypoint:\n  shell-fragment: |\n    set -e\n    exec app \"$@\" # it's fine\n");
    assert!(fragment.entrypoint.shell_fragment.unwrap().contains("it's fine"));

    // A certificate with words before it; an include alone.
    let certificate = "certificates:\n  additional:\n  - name: corp-root_1\n    content: |\n      # Corp root, until 2040\n      \
                       -----BEGIN CERTIFICATE-----\n      AAAA\n      -----END CERTIFICATE-----\n";
    assert_eq!(parse(certificate).certificates.additional.len(), 1);
    assert_eq!(parse("# Alias\ninclude: apko/base.yaml\n").include.unwrap().as_str(), "apko/base.yaml");
    for nothing in ["", "# a comment\n", "---\ncmd: a\n", "\u{feff}cmd: a\n", "cmd: a\r\nwork-dir: /\r\n"] {
        parse(nothing);
    }
}

/// Each bad value, and the message that names its file, line, field and what would do.
#[test]
fn bad_values_are_refused_where_they_stand() {
    let key = |label: &str| format!("-----BEGIN {label}-----\\nAAAA\\n-----END {label}-----\\n");
    for (yaml, expected) in [
        ("contents:\n  packages: app", "apko.yaml:2:13: `contents.packages` must be a list, found `app`"),
        ("contents:\n  packages: [a, 'b~=']", "apko.yaml:2:17: `contents.packages[1]` is `b~=`: "),
        ("contents:\n  package: [a]", "apko.yaml:2:3: unknown key `package` in `contents`; did you mean `packages`?"),
        (
            "contents:\n  repositories: {a: b}",
            "apko.yaml:2:17: `contents.repositories` must be a list, found a mapping",
        ),
        ("contents:\n  keyring:\n  - {name: k.rsa.pub}", "apko.yaml:3:5: `contents.keyring[0]` needs `content`"),
        (
            &format!("contents:\n  keyring:\n  - {{name: ../k, content: \"{PUBLIC_KEY}\"}}"),
            "apko.yaml:3:12: `contents.keyring[].name` is `../k`: a name is letters, digits",
        ),
        (
            &format!("contents:\n  keyring:\n  - {{name: k, content: \"{}\"}}", key("PRIVATE KEY")),
            "apko.yaml:3:24: `contents.keyring[].content` is `the content of `k``: expected a PEM block `PUBLIC KEY`, found `PRIVATE KEY`",
        ),
        (
            &format!(
                "contents:\n  runtime_keyring:\n  - {{name: k, content: \"{PUBLIC_KEY}\"}}\n  - {{name: k, content: \"{PUBLIC_KEY}\"}}"
            ),
            "apko.yaml:4:12: `contents.runtime_keyring[].name` is `k`: it is named twice, first on line 3; keep one",
        ),
        (
            "contents:\n  runtime_keyring: [https://h/k.rsa.pub]",
            "apko.yaml:2:21: `contents.runtime_keyring[0]` must be a mapping, found `https://h/k.rsa.pub`",
        ),
        ("contents:\n  baseimage: {apkindex: x}", "apko.yaml:2:14: `contents.baseimage` needs `image`"),
        ("contents:\n  baseimage: {image: x}", "apko.yaml:2:14: `contents.baseimage` needs `apkindex`"),
        (
            "contents:\n  baseimage: {image: x, index: y}",
            "apko.yaml:2:25: unknown key `index` in `contents.baseimage`; did you mean `apkindex`?",
        ),
        (
            "contents:\n  ecosystems: {python: {pakages: [a]}}",
            "apko.yaml:2:25: unknown key `pakages` in `contents.ecosystems.python`; did you mean `packages`?",
        ),
        ("entrypoint:\n  type: bundle", "apko.yaml:2:9: `entrypoint.type` is `bundle`: only `service-bundle` exists"),
        (
            "entrypoint:\n  type: service_bundle\n  services: {web: run}",
            "apko.yaml:2:9: `entrypoint.type` is `service_bundle`: only `service-bundle` exists",
        ),
        ("entrypoint:\n  command: a \"b", "apko.yaml:2:12: `entrypoint.command` is `a \\\"b`: its quotes don't pair"),
        ("entrypoint:\n  services: {../x: run}", "apko.yaml:2:14: `entrypoint.services` is `../x`: a name is"),
        (
            "entrypoint:\n  shell-fragment: [a]",
            "apko.yaml:2:19: `entrypoint.shell-fragment` must be text, found a list",
        ),
        ("cmd: it's", "apko.yaml:1:6: `cmd` is `it\\'s`: its quotes don't pair"),
        ("stop-signal: sigterm", "apko.yaml:1:14: `stop-signal` is `sigterm`: a signal is a name such as `SIGTERM`"),
        ("work-dir: app", "apko.yaml:1:11: `work-dir` is `app`: it is not absolute"),
        ("volumes:\n- data", "apko.yaml:2:3: `volumes[0]` is `data`: it is not absolute"),
        ("environment:\n  A=B: c", "apko.yaml:2:3: `environment` is `A=B`: a name is not empty and has no `=`"),
        ("environment: [A]", "apko.yaml:1:14: `environment` must be a mapping, found a list"),
        ("annotations:\n  '': x", "apko.yaml:2:3: `annotations` is ``: an annotation has a name"),
        ("archs:\n- x86-64", "apko.yaml:2:3: `archs` is `x86-64`: no such architecture; did you mean `x86_64`?"),
        (
            "accounts:\n  users:\n  - {username: root2, uid: 0}",
            "apko.yaml:3:16: `accounts.users[0].uid` is `0`: a user's number is 1 or more; to run as root, say `run-as: 0`",
        ),
        ("accounts:\n  users:\n  - {uid: 1}", "apko.yaml:3:5: `accounts.users[0]` needs `username`"),
        (
            "accounts:\n  users:\n  - {username: a b, uid: 1}",
            "apko.yaml:3:16: `accounts.users[0].username` is `a b`: a name has",
        ),
        (
            "accounts:\n  users:\n  - {username: a, uid: -1}",
            "apko.yaml:3:24: `accounts.users[0].uid` must be a whole number",
        ),
        (
            "accounts:\n  users:\n  - {username: a, uid: 1, homedir: home}",
            "apko.yaml:3:36: `accounts.users[0].homedir` is `home`: it is not absolute",
        ),
        (
            "accounts:\n  users:\n  - {username: a, uid: 1, shell: 'a:b'}",
            "apko.yaml:3:34: `accounts.users[0].shell` is `a:b`: it holds `:` or a line break",
        ),
        (
            "accounts:\n  users:\n  - {username: a, uid: 1}\n  - {username: a, uid: 2}",
            "apko.yaml:4:16: `accounts.users[].username` is `a`: it is named twice, first on line 3; keep one",
        ),
        ("accounts:\n  groups:\n  - {gid: 1}", "apko.yaml:3:5: `accounts.groups[0]` needs `groupname`"),
        (
            "accounts:\n  groups:\n  - {groupname: a, gid: 4294967296}",
            "apko.yaml:3:25: `accounts.groups[0].gid` must be a number below 4294967296",
        ),
        ("accounts:\n  recursive: true", "apko.yaml:2:3: unknown key `recursive` in `accounts`"),
        (
            "paths:\n- {path: /a, type: file}",
            "apko.yaml:2:20: `paths[0].type` is `file`: must be `directory`, `empty-file`",
        ),
        ("paths:\n- {type: directory}", "apko.yaml:2:3: `paths[0]` needs `path`"),
        ("paths:\n- {path: /a, type: symlink}", "apko.yaml:2:3: `paths[0]` needs `source`"),
        (
            "paths:\n- {path: /a/../b, type: directory}",
            "apko.yaml:2:10: `paths[0].path` is `/a/../b`: it has a component",
        ),
        (
            "paths:\n- {path: /a, type: directory, permissions: 10755}",
            "apko.yaml:2:10: `paths[0].permissions` is `0o25003`: permissions are at most 0o7777; write them in octal",
        ),
        (
            "paths:\n- {path: /a, type: directory, permissions: rwx}",
            "apko.yaml:2:44: `paths[0].permissions` must be a whole number of 0 or more, found `rwx`",
        ),
        (
            "paths:\n- {path: /a, type: directory, recursive: maybe}",
            "apko.yaml:2:42: `paths[0].recursive` must be `true` or `false`, found `maybe`",
        ),
        ("layering: {strategy: size}", "apko.yaml:1:22: `layering.strategy` is `size`: only `origin` exists"),
        ("layering: {budget: 3}", "apko.yaml:1:11: `layering` needs `strategy`"),
        ("layering: {strategy: origin, budget: many}", "apko.yaml:1:38: `layering.budget` must be a whole number"),
        ("format: squashfs", "apko.yaml:1:9: `format` is `squashfs`: layers are `tar` or `erofs`"),
        ("format: tar+gzip", "apko.yaml:1:9: `format` is `tar+gzip`: layers are `tar` or `erofs`"),
        ("vcs-url: [x]", "apko.yaml:1:10: `vcs-url` must be text, found a list"),
        (
            &format!("certificates:\n  additional:\n  - {{name: .a, content: \"{}\"}}", key("CERTIFICATE")),
            "apko.yaml:3:12: `certificates.additional[].name` is `.a`: a name is letters",
        ),
        (
            "certificates:\n  additional:\n  - {name: a, content: none}",
            "apko.yaml:3:24: `certificates.additional[].content` is `the content of `a``: its content is one PEM block",
        ),
        (
            "certificates:\n  providers: custom",
            "apko.yaml:2:14: `certificates.providers` must be a list, found `custom`",
        ),
        ("os-release:\n  id: 'My OS'", "apko.yaml:2:7: `os-release.id` is `My OS`: letters, digits"),
        ("os-release:\n  name: 'a\"b'", "apko.yaml:2:9: `os-release.name` is `a\\\"b`: no quotes"),
        ("include: [a]", "apko.yaml:1:10: `include` must be text, found a list"),
        ("contens: {}", "apko.yaml:1:1: unknown key `contens` in the definition; did you mean `contents`?"),
        ("cmd: a\ncmd: b", "apko.yaml:2:1: key `cmd` is given twice (first on line 1); keep one"),
        ("- a", "apko.yaml:1:1: `the definition` must be a mapping, found a list"),
        ("cmd: [", "apko.yaml:"),
    ] {
        let error = ImageConfiguration::parse(yaml, "apko.yaml").expect_err(yaml).to_string();
        assert!(error.starts_with(expected), "{yaml}\n  {error}\n  {expected}");
    }
}
