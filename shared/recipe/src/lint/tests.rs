use super::*;

const SHA256: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const COMMIT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A definition that keeps every rule.
fn good() -> String {
    format!(
        "package:
  name: hello
  version: 1.2.3
  epoch: 0
  copyright:
    - license: MIT
environment:
  contents:
    packages: [make, gcc]
var-transforms:
  - from: ${{{{package.version}}}}
    match: \\.
    replace: _
    to: mangled
pipeline:
  - uses: git-checkout
    with:
      repository: https://github.com/org/hello.git
      tag: v${{{{package.version}}}}
      expected-commit: {COMMIT}
  - uses: fetch
    with:
      uri: https://example.org/hello-${{{{vars.mangled}}}}.tar.gz
      expected-sha256: {SHA256}
  - runs: |
      # CHECK-WHEN-VERSION-CHANGES: 1.2.3
      echo hello
update:
  enabled: true
  schedule: {{period: daily}}
  github:
    identifier: Org/hello
test:
  pipeline:
    - runs: |
        hello --serve > log 2>&1 &
        true && echo up
"
    )
}

fn found(text: &str) -> Vec<(&'static str, usize)> {
    let definition = PackageDefinition::parse(text, "hello.yaml").unwrap();
    lint(&definition).into_iter().map(|finding| (finding.rule, finding.location.line)).collect()
}

#[test]
fn a_definition_that_keeps_every_rule_has_no_findings() {
    assert_eq!(found(&good()), []);
}

/// Each rule that looks at one definition: what is changed in the good one, and the line it is found on.
#[test]
fn each_rule_finds_what_breaks_it_where_it_stands() {
    let cases: &[(&str, &str, &str, usize)] = &[
        ("contains-epoch", "  epoch: 0\n", "", 3),
        ("one-document", "update:", "--- # another\nupdate:", 28),
        ("uses-or-pipeline", "- uses: fetch", "- uses: fetch\n    pipeline: [{runs: x}]", 21),
        ("negative-priority", "  epoch: 0", "  epoch: 0\n  dependencies: {provider-priority: -1}", 5),
        ("bad-version", "version: 1.2.3", "version: 1.2.3rc1", 3),
        ("bad-version", "version: 1.2.3", "version: 1.2.3-r1", 3),
        ("valid-copyright-header", "  copyright:\n    - license: MIT\n", "", 2),
        ("valid-spdx-license", "license: MIT", "license: Apache License 2.0", 6),
        ("valid-spdx-license", "license: MIT", "operator: OR\n      licenses: [{license: MIT}, {license: no such}]", 7),
        (
            "valid-package-or-subpackage-test",
            "test:\n  pipeline:",
            "data:\n  - name: x\n    items: {}\nsubpackages:\n  - name: y\n    pipeline:",
            2,
        ),
        ("no-repeated-deps", "[make, gcc]", "[make, gcc, make]", 9),
        ("valid-pipeline-fetch-uri", "https://example.org/hello", "https://ex\u{e4}mple.org/hello", 23),
        ("valid-pipeline-fetch-uri", "https://github.com/org/hello.git", "github.com/org/hello", 18),
        ("valid-pipeline-fetch-digest", "expected-sha256: ", "expected-sha256: 0", 24),
        ("valid-pipeline-fetch-digest", "expected-sha256: ", "expected-none: the server changes it # ", 21),
        ("valid-pipeline-git-checkout-commit", "expected-commit: ", "expected-commit: 0", 20),
        ("valid-pipeline-git-checkout-commit", "expected-commit: ", "type-hint: x # ", 16),
        ("valid-pipeline-git-checkout-tag", "tag: v${{package.version}}", "branch: v${{package.version}}", 16),
        ("fetch-templating", "tag: v${{package.version}}", "tag: v1.2.3", 19),
        (
            "git-checkout-must-use-github-updates",
            "github:\n    identifier: Org/hello",
            "release-monitor:\n    identifier: 7",
            18,
        ),
        ("update-identifier-must-match-git-repository", "Org/hello", "other/hello", 32),
        ("update-without-identifier", "identifier: Org/hello", "use-tag: true", 2),
        ("update-disabled-reason", "enabled: true", "enabled: false", 2),
        ("valid-update-schedule", "{period: daily}", "{period: hourly}", 30),
        ("valid-update-schedule", "{period: daily}", "{reason: calm}", 30),
        ("bad-template-var", "echo hello", "mkdir \"$pkgdir\"/usr", 27),
        ("check-when-version-changes", "CHANGES: 1.2.3", "CHANGES: 1.2.2", 26),
        ("background-process-without-redirect", "hello --serve > log 2>&1 &", "hello --serve &", 36),
        ("background-process-without-redirect", "hello --serve > log 2>&1 &", "hello --serve --daemonize", 36),
        ("background-process-without-redirect", "hello --serve > log 2>&1 &", "hello & sleep 2", 36),
        (
            "tagged-repository-in-environment-repos",
            "packages: [make",
            "build_repositories: ['@local ./x']\n    packages: [make",
            9,
        ),
        (
            "forbidden-repository-used",
            "packages: [make",
            "repositories: [https://packages.wolfi.dev/os]\n    packages: [make",
            9,
        ),
        (
            "forbidden-keyring-used",
            "packages: [make",
            "keyring: [https://packages.wolfi.dev/os/wolfi-signing.rsa.pub]\n    packages: [make",
            9,
        ),
        ("unused-var-transform", "${{vars.mangled}}", "{{vars.mangled}}-${{package.version}}", 14),
    ];
    for (rule, from, to, line) in cases {
        let text = good();
        assert!(text.contains(from), "{rule}: {from}");
        // A version that no longer fits breaks the rule about its comment too; only the named one is looked at.
        let broken = text.replacen(from, to, 1);
        let findings = found(&broken);
        assert!(findings.contains(&(rule, *line)), "{rule} from {from:?} to {to:?}: {findings:?}");
    }
    let tested: Vec<&str> = cases.iter().map(|case| case.0).chain(["uri-mimic"]).collect();
    for rule in rules() {
        assert!(tested.contains(&rule.id), "rule {} has no case", rule.id);
        assert!(!rule.what.is_empty() && !rule.why.is_empty());
    }
}

#[test]
fn what_only_looks_like_a_mistake_is_left_alone() {
    let cases: &[(&str, &str)] = &[
        ("license: MIT", "license: GPL-2.0+ AND LicenseRef-own OR LGPL-2.1"),
        ("license: MIT", "license: PROPRIETARY"),
        ("version: 1.2.3\n  epoch: 0", "version: 1.2.3_rc1\n  epoch: 0\n  description: '#nolint:'"),
        ("echo hello", "pkgdir=/tmp/x\n      mkdir $pkgdir"),
        ("echo hello", "for pkgname in a b; do echo $pkgname; done"),
        ("hello --serve > log 2>&1 &", "hello --serve \\\n          --more > log 2>&1 &"),
        ("hello --serve > log 2>&1 &", "hello 2>&1 | grep x"),
        ("hello --serve > log 2>&1 &", "# hello &"),
        ("https://github.com/org/hello.git", "https://github.com/ORG/Hello/"),
        ("identifier: Org/hello", "identifier: org/hello"),
        ("uri: https://example.org/", "uri: https://${{vars.mangled}}.example.org/"),
        ("uri: https://example.org/hello-${{vars.mangled}}", "uri: https://example.org/${{vars.mangled}}/data-2.0"),
        ("enabled: true", "enabled: false\n  exclude-reason: upstream is gone"),
    ];
    for (from, to) in cases {
        let text = good().replacen(from, to, 1).replace("CHANGES: 1.2.3", "CHANGES: VERSION");
        let version = PackageDefinition::parse(&text, "hello.yaml").unwrap().package.version;
        assert_eq!(found(&text.replace("CHANGES: VERSION", &format!("CHANGES: {version}"))), [], "{to}");
    }
}

#[test]
fn comments_turn_rules_off_for_a_file_or_a_line() {
    let broken = good().replace("version: 1.2.3", "version: 1.2.3rc1").replace("[make, gcc]", "[make, make]");
    let rules = |text: &str| found(text).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>();
    assert_eq!(rules(&broken), ["bad-version", "no-repeated-deps", "check-when-version-changes"]);
    assert_eq!(
        rules(&format!("#nolint:bad-version, no-repeated-deps because it is so\n{broken}")),
        ["check-when-version-changes"]
    );
    let line = broken.replace("1.2.3rc1", "1.2.3rc1 # nolint:bad-version,check-when-version-changes");
    assert_eq!(rules(&line), ["no-repeated-deps", "check-when-version-changes"]);
    assert_eq!(
        rules(&format!(" #nolint:bad-version\n{broken}")).len(),
        3,
        "a comment that is indented is a line's own"
    );
}

#[test]
fn hosts_are_compared_with_those_of_other_definitions() {
    let of = |host: &str| {
        let text = good().replace("example.org", host);
        PackageDefinition::parse(&text, "hello.yaml").unwrap()
    };
    let (one, two, three) = (of("files.example.org"), of("files.example.org"), of("files.examp1e.org"));
    let findings = lint_together(&[&one, &two, &three]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].rule, findings[0].location.line), ("uri-mimic", 23));
    assert!(findings[0].message.contains("`files.examp1e.org` is almost `files.example.org`"));
    assert_eq!(lint_together(&[&one, &two, &of("files.example.net")]).len(), 1);
    assert_eq!(lint_together(&[&one, &two, &of("mirror.elsewhere.net")]), []);
    assert_eq!(lint_together(&[&one, &three]), [], "two hosts used once each say nothing about each other");
}
