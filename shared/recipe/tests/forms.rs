//! Every key of the format in the forms that it may have, and YAML as people write it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use apk::Architecture;
use recipe::{BuildPlan, ImageConfiguration, Options, PackageDefinition, Pipelines, evaluate};

const HEAD: &str = "package:\n  name: x\n  version: 1.10\n  epoch: 0\n";

fn parse(text: &str) -> PackageDefinition {
    PackageDefinition::parse(text, "x.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn plan(text: &str) -> BuildPlan {
    let pipelines = Pipelines::built_in().unwrap();
    evaluate(&parse(text), &Options::new(Architecture::X86_64, &pipelines))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str) -> String {
    PackageDefinition::parse(text, "x.yaml").unwrap_err().to_string()
}

#[test]
fn line_ends_byte_order_marks_and_tabs_do_not_matter() {
    let text = "# a\tcomment\npackage:\t# another\n  name: x\n  version:   1.10\t\n  epoch: 0 #\ttabs\n\npipeline:\n  - runs: |\n      if true; then\n      \techo tab\n      fi\n";
    let crlf = text.replace('\n', "\r\n");
    for text in [
        text.to_owned(),
        format!("\u{feff}{text}"),
        crlf,
        format!("---\n{text}...\n"),
        format!("{text}---\n"),
        format!("%YAML 1.2\n---\n{text}"),
    ] {
        let definition = parse(&text);
        assert_eq!(definition.package.version, "1.10");
        assert_eq!(definition.pipeline[0].runs.as_deref().unwrap(), "if true; then\n\techo tab\nfi\n");
    }
}

#[test]
fn flow_collections_may_span_lines_and_end_with_a_comma() {
    let definition = parse(
        "package: {\n  name: x, # the name\n  \"version\": '1.10',\n  epoch: 0,\n}\nenvironment:\n  contents:\n    packages: [\n      make,\n      # a comment\n      \"gcc\",\n    ]\npipeline:\n- uses: strip\n- {uses: patch, with: {patches: a.patch\n    b.patch}}\n",
    );
    assert_eq!(definition.environment.contents.packages.len(), 2);
    assert_eq!(definition.pipeline[1].with[0].1, "a.patch b.patch");
}

#[test]
fn block_texts_keep_or_drop_what_their_headers_say() {
    let runs = |header: &str, body: &str| {
        parse(&format!("{HEAD}pipeline:\n  - runs: {header}\n{body}\n  - uses: strip\n")).pipeline[0]
            .runs
            .clone()
            .unwrap()
            .value
    };
    assert_eq!(runs("|-", "      a\n       b"), "a\n b");
    assert_eq!(runs("|2", "       a\n      b"), " a\nb\n");
    assert_eq!(runs(">", "      a\n      b\n\n      c"), "a b\nc\n");
    assert_eq!(runs("|+", "      a\n\n"), "a\n\n\n");
    assert_eq!(runs(">- # folded", "      a\n        b\n      c"), "a\n  b\nc");
    assert_eq!(runs("\"a \\\n      b\\tc\"", ""), "a b\tc");
}

#[test]
fn anchors_aliases_and_merges_are_resolved() {
    let definition = parse(&format!(
        "{HEAD}vars: &vars {{a: one, b: two}}\npipeline:\n  - &first\n    uses: autoconf/make\n    with: &with {{opts: -k}}\n  - <<: *first\n    name: again\n  - <<: [{{name: merged}}, *first]\n    with:\n      <<: *with\n      dir: sub\n    environment: *vars\n"
    ));
    assert_eq!(definition.pipeline[1].uses.as_deref(), Some("autoconf/make"));
    assert_eq!(definition.pipeline[2].name.as_deref(), Some("merged"));
    assert_eq!(definition.pipeline[2].with.len(), 2);
    assert_eq!(definition.pipeline[2].environment[1].1, "two");
}

#[test]
fn tags_say_what_a_value_is() {
    let definition = parse(
        "package: {name: x, version: !!str 1.10, epoch: !!int \"7\"}\nvars: {a: !!str null, b: !!str}\nupdate: {enabled: !!bool 'true'}\n",
    );
    assert_eq!((definition.package.version.as_str(), definition.package.epoch), ("1.10", 7));
    assert_eq!(definition.variables[0].1, "null");
    assert_eq!(definition.update.enabled, Some(true));
}

#[test]
fn numbers_and_booleans_are_texts_where_texts_are_expected() {
    let definition = parse(
        "package:\n  name: 7zip\n  version: 20260101\n  epoch: 1.0\n  description: yes\n  url: 1e3\n  commit: 0755\n  annotations: {1: true, b: 2026-01-01}\n  copyright: [{license: 0BSD, attestation: true, paths: ['*']}]\n  dependencies: {provider-priority: 10, replaces-priority: \"0\", runtime: [7zip, 1.5], provides: [a=1]}\n  cpe: {part: a, vendor: 7, product: zip, edition: ~, language: en, sw_edition: x, target_sw: y, target_hw: z, other: w}\n  resources: {cpu: 4, cpumodel: any, memory: 8Gi, disk: 10Gi}\n  test-resources: {cpu: 0.5}\n  timeout: 2h45m\nvars: {a: 0755, b: .5, c: off, d: 1_000, e: null, f: 0x1F}\n",
    );
    assert_eq!((definition.package.version.as_str(), definition.package.epoch), ("20260101", 1));
    let values: Vec<&str> = definition.variables.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["0755", ".5", "off", "1_000", "", "0x1F"]);
    assert_eq!(definition.package.timeout_seconds, Some(9900));
    assert_eq!(definition.package.dependencies.runtime[1], "1.5");
    // Upstream's reader refuses a quoted number as a number.
    assert!(refused("package: {name: x, version: 1, epoch: '0'}").contains("`package.epoch` must be a whole number"));
    assert!(refused("package: {name: x, version: 1, epoch: -1}").contains("whole number"));
    assert!(refused("package: {name: x, version: 1, epoch: 1.5}").contains("whole number"));
}

#[test]
fn nothing_is_as_good_as_absent() {
    let keys = "environment:\npipeline:\nsubpackages:\ndata:\nupdate:\nvars:\nvar-transforms:\noptions:\ntest:\ncapabilities:\n";
    let package = "  description:\n  url:\n  commit:\n  annotations:\n  target-architecture:\n  copyright:\n  dependencies:\n  options:\n  scriptlets:\n  checks:\n  cpe:\n  setcap:\n  timeout:\n  resources:\n  test-resources:\n";
    let definition = parse(&format!("{HEAD}{package}{keys}"));
    assert!(definition.pipeline.is_empty() && definition.test.is_none() && definition.package.copyright.is_empty());
    let steps = "if:\n    name:\n    uses:\n    with:\n    pipeline:\n    inputs:\n    needs:\n    label:\n    assertions:\n    working-directory:\n    environment:\n";
    assert_eq!(plan(&format!("{HEAD}pipeline:\n  - runs: 'true'\n    {steps}")).steps, ["line 6"]);
    let subpackage = "if:\n    range:\n    pipeline:\n    dependencies:\n    options:\n    scriptlets:\n    description:\n    url:\n    commit:\n    annotations:\n    checks:\n    setcap:\n    test:\n";
    assert_eq!(plan(&format!("{HEAD}subpackages:\n  - name: y\n    {subpackage}")).outputs.len(), 2);
    let update = "enabled:\n  manual:\n  shared:\n  require-sequential:\n  version-separator:\n  ignore-regex-patterns:\n  version-transform:\n  exclude-reason:\n  schedule:\n  enable-prerelease-tags:\n  github:\n  release-monitor:\n  git:\n  oci:\n  version_data:\n";
    assert!(parse(&format!("{HEAD}update:\n  {update}")).update.git.is_some());
    for text in ["", "# only a comment\n", "---\n", "~\n"] {
        assert!(refused(text).contains("needs `package`"), "{text:?}: {}", refused(text));
    }
}

#[test]
fn every_key_is_read() {
    let plan = plan(&format!(
        "{HEAD}  description: |
    the package
  url: https://example.org/${{{{package.version}}}}
  commit: abc
  annotations: {{a: '${{{{package.name}}}}'}}
  target-architecture: [all, x86_64]
  copyright:
    - paths: ['*']
      attestation: by us
      license: MIT
      license-path: COPYING
      detection-override: checked
  dependencies:
    runtime: [a, 'b=${{{{package.full-version}}}}', '!c', d~1, 'e>=2', 'f<3']
    provides: [g, 'h=1', '!i']
    replaces: ['j<2']
    provider-priority: ${{{{vars.priority}}}}
    replaces-priority: '5'
  options: {{no-provides: true, no-depends: true, no-commands: true, no-versioned-shlib-deps: true}}
  scriptlets:
    trigger: {{paths: [/usr/share/fonts/*], script: 'true'}}
    pre-install: a
    post-install: b
    pre-deinstall: c
    post-deinstall: d
    pre-upgrade: e
    post-upgrade: f
  checks: {{disabled: [usrlocal]}}
  setcap: [{{path: /usr/bin/x, add: {{cap_net_bind_service: '+ep'}}, reason: ports}}]
environment:
  contents: {{packages: [make], repositories: [r], keyring: [k]}}
  environment: {{CFLAGS: -O2, N: 3}}
capabilities: {{add: [CAP_SYS_PTRACE], drop: [CAP_KILL]}}
vars: {{priority: 10}}
var-transforms: [{{from: '${{{{package.version}}}}', match: ^(\\d+).*, replace: $1, to: major}}]
options:
  debug:
    vars: {{level: '1'}}
    environment: {{contents: {{packages: {{add: [gdb], remove: [make]}}}}}}
data: [{{name: langs, items: {{de: German, 1: One}}}}]
pipeline:
  - name: configure
    label: first
    if: ${{{{options.debug.enabled}}}} == 'false'
    runs: echo ${{{{vars.major}}}}
    working-directory: sub
    environment: {{LEVEL: 2}}
    needs: {{packages: ['tool-${{{{vars.major}}}}']}}
    assertions: {{required-steps: 1}}
    pipeline:
      - runs: pwd
subpackages:
  - range: langs
    name: x-${{{{range.key}}}}
    if: ${{{{range.key}}}} != 'de'
    description: ${{{{range.value}}}} of ${{{{subpkg.name}}}}
    url: u
    commit: c
    annotations: {{k: v}}
    dependencies: {{provider-priority: 1}}
    options: {{no-provides: false}}
    scriptlets: {{post-install: x}}
    checks: {{disabled: [empty]}}
    setcap: []
    pipeline: [{{runs: 'ls ${{{{targets.subpkgdir}}}} ${{{{context.name}}}}'}}]
    test: {{environment: {{contents: {{packages: [curl]}}, environment: {{A: b}}}}, pipeline: [{{runs: x}}]}}
test:
  environment: {{accounts: {{run-as: nobody}}}}
  pipeline: [{{uses: test/tw/ldd-check}}]
"
    ));
    let main = &plan.outputs[0];
    assert_eq!(main.dependencies.runtime[1], "b=1.10-r0");
    assert_eq!((main.dependencies.provider_priority, main.dependencies.replaces_priority), (10, 5));
    assert!(main.options.no_provides && main.options.no_versioned_shared_library_dependencies);
    assert_eq!(main.scriptlets.trigger.as_ref().unwrap().0, ["/usr/share/fonts/*"]);
    assert_eq!(main.capabilities[0].add[0].1, "+ep");
    assert_eq!(plan.environment.packages, ["make", "tool-1"]);
    // The nested step runs in the folder of the one around it.
    assert_eq!(plan.script.matches("cd '/home/build/sub'\n").count(), 2, "{}", plan.script);
    assert_eq!(plan.script.matches("export LEVEL='2'\n").count(), 2);
    assert_eq!(plan.outputs.len(), 2);
    assert_eq!((plan.outputs[1].name.as_str(), plan.outputs[1].description.as_str()), ("x-1", "One of x-1"));
    assert_eq!(plan.outputs[1].test.as_ref().unwrap().environment.packages[1], "curl");
}

#[test]
fn the_environment_has_the_keys_of_an_image() {
    let keys = "contents: {build_repositories: [a], runtime_repositories: [b], repositories: [c], keyring: [d], packages: [e]}\nentrypoint: {type: service-bundle, command: /bin/sh, shell-fragment: x, services: {a: b}}\ncmd: run\nstop-signal: SIGTERM\nwork-dir: /work\naccounts: {run-as: '0', users: [{username: u, uid: 1000, gid: 1000, shell: /bin/sh, homedir: /home/u}], groups: [{groupname: g, gid: 1000, members: [u]}]}\narchs: [x86_64, aarch64]\nenvironment: {A: 1}\npaths: [{path: /a, type: directory, uid: 1, gid: 2, permissions: 0o755, source: /b, recursive: true}]\nvcs-url: https://example.org\nannotations: {a: b}\nvolumes: [/data]\n";
    ImageConfiguration::parse(keys, "apko.yaml").unwrap();
    let inside: String = keys.lines().map(|line| format!("  {line}\n")).collect();
    let nested: String = keys.lines().map(|line| format!("    {line}\n")).collect();
    parse(&format!("{HEAD}environment:\n{inside}test:\n  environment:\n{nested}"));
}

#[test]
fn inputs_reach_the_steps_of_pipelines_inside_pipelines() {
    let mut pipelines = Pipelines::built_in().unwrap();
    pipelines.add("inner", "inputs: {word: {default: none}}\nneeds: {packages: ['pkg-${{inputs.word}}']}\npipeline: [{runs: 'echo inner ${{inputs.word}}'}]\n", "inner.yaml").unwrap();
    pipelines.add("outer", "description: d\ninputs:\n  word: {required: true}\n  go: {default: true}\npipeline:\n  - if: ${{inputs.go}} == 'true'\n    uses: inner\n    with: {word: 'x-${{inputs.word}}'}\n  - working-directory: deep\n    pipeline: [{runs: 'echo outer ${{inputs.word}}'}]\n", "outer.yaml").unwrap();
    let definition = parse(&format!(
        "{HEAD}pipeline:\n  - uses: outer\n    working-directory: top\n    with: {{word: '${{{{package.name}}}}'}}\n"
    ));
    let plan = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap();
    assert_eq!(plan.environment.packages, ["pkg-x-x"]);
    assert!(plan.script.contains("cd '/home/build/top'\necho inner x-x\n"), "{}", plan.script);
    assert!(plan.script.contains("cd '/home/build/deep'\necho outer x\n"), "{}", plan.script);
}

/// melange reads the first document and stops there.
#[test]
fn a_second_document_is_not_read() {
    let definition = parse(&format!("# first\n---\n{HEAD}--- # second\nname: [unclosed\n"));
    assert_eq!(definition.package.name, "x");
    assert_eq!(definition.other_document.map(|position| position.line), Some(7));
    assert_eq!(parse(&format!("{HEAD}...\n---\n# nothing\n---\n")).other_document, None);
    // Other files are one document.
    let image = ImageConfiguration::parse("cmd: a\n---\ncmd: b\n", "apko.yaml").unwrap_err().to_string();
    assert!(image.starts_with("apko.yaml:2:1: not valid YAML: a second document"), "{image}");
}

#[test]
fn items_with_nothing_in_them_are_left_out() {
    let definition = parse(&format!(
        "{HEAD}  dependencies:\n    runtime:\n      - a\n      -\n      - ~\n      - ''\npipeline:\n  -\n  - runs: b\nsubpackages: [~]\n"
    ));
    assert_eq!(definition.package.dependencies.runtime.len(), 2);
    assert_eq!((definition.pipeline.len(), definition.subpackages.len()), (1, 0));
}

#[test]
fn what_upstream_takes_for_true_and_false() {
    let enabled = |text: &str| parse(&format!("{HEAD}update:\n  enabled: {text}\n")).update.enabled;
    for text in ["true", "TRUE", "yes", "'yes'", "\"on\"", "y", "'Y'"] {
        assert_eq!(enabled(text), Some(true), "{text}");
    }
    for text in ["False", "no", "'no'", "\"off\"", "n"] {
        assert_eq!(enabled(text), Some(false), "{text}");
    }
    for text in ["'true'", "Yes", "ON", "1"] {
        assert!(refused(&format!("{HEAD}update: {{enabled: {text}}}\n")).contains("`true` or `false`"), "{text}");
    }
}

#[test]
fn a_package_of_any_architecture_is_built_for_each() {
    let definition = parse(&format!("{HEAD}  target-architecture: [noarch]\n"));
    assert!(definition.builds_for(Architecture::X86_64) && definition.builds_for(Architecture::Aarch64));
    assert!(!parse(&format!("{HEAD}  target-architecture: [aarch64]\n")).builds_for(Architecture::X86_64));
}

#[test]
fn a_trigger_without_a_script_is_none_and_a_provider_may_leave_the_repository_out() {
    let definition = parse(&format!(
        "{HEAD}  scriptlets: {{trigger: {{paths: [/usr/lib]}}}}\nupdate:\n  github: {{use-tag: true, strip-prefix: v}}\n"
    ));
    assert!(definition.package.scriptlets.trigger.is_none());
    let github = definition.update.github.unwrap();
    assert!(github.identifier.is_none() && github.use_tags);
}
