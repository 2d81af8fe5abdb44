//! What a definition becomes, and what is said about a wrong one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use apk::Architecture;
use recipe::{
    BuildPlan, Expected, InstallIf, LibraryC, MissingPipelines, Options, PackageDefinition, Pipelines, evaluate,
};

fn plan_with(text: &str, change: impl FnOnce(&mut Options<'_>)) -> Result<BuildPlan, String> {
    let pipelines = Pipelines::built_in().unwrap();
    let definition = PackageDefinition::parse(text, "p.yaml").map_err(|error| error.to_string())?;
    let mut options = Options::new(Architecture::X86_64, &pipelines);
    change(&mut options);
    evaluate(&definition, &options).map_err(|error| error.to_string())
}

fn plan(text: &str) -> BuildPlan {
    plan_with(text, |_| {}).unwrap()
}

fn error(text: &str) -> String {
    plan_with(text, |_| {}).unwrap_err()
}

const HEAD: &str = "package:\n  name: hello\n  version: 1.10\n  epoch: 2\n";

#[test]
fn a_version_keeps_its_text_and_variables_resolve() {
    let plan = plan(&format!(
        "{HEAD}  description: says ${{{{vars.word}}}}
  dependencies:
    runtime: [\"lib~${{{{vars.short}}}}\"]
    provider-priority: ${{{{vars.short}}}}
vars:
  word: hello ${{{{package.full-version}}}}
var-transforms:
  - from: ${{{{package.version}}}}
    match: ^(\\d+)\\.(\\d+)$
    replace: $1${{2}}
    to: joined
  - from: ${{{{vars.joined}}}}
    match: ^1
    replace: ''
    to: short
pipeline:
  - runs: echo ${{{{vars.joined}}}} ${{{{build.arch}}}} ${{{{host.triplet.rust}}}} ${{{{cross.triplet.gnu.glibc}}}}
"
    ));
    assert_eq!((plan.version.as_str(), plan.full_version.as_str()), ("1.10", "1.10-r2"));
    let output = &plan.outputs[0];
    assert_eq!(output.description, "says hello 1.10-r2");
    assert_eq!(output.dependencies.runtime, ["lib~10"]);
    assert_eq!(output.dependencies.provider_priority, 10);
    assert!(plan.script.contains("echo 110 x86_64 x86_64-unknown-linux-musl x86_64-pc-linux-gnu\n"), "{}", plan.script);
}

#[test]
fn a_transform_may_take_over_the_variable_it_reads() {
    let plan = plan(&format!(
        "{HEAD}vars: {{v: a-b}}\nvar-transforms: [{{from: '${{{{vars.v}}}}', match: '-', replace: _, to: v}}]\npipeline: [{{runs: 'echo ${{{{vars.v}}}}'}}]\n"
    ));
    assert!(plan.script.contains("echo a_b\n"));
}

#[test]
fn conditions_drop_steps_subpackages_and_their_needs() {
    let text = format!(
        "{HEAD}environment: {{contents: {{packages: [make, '${{{{build.arch}}}}-headers', make]}}}}
pipeline:
  - if: ${{{{build.arch}}}} == 'aarch64'
    runs: echo arm
    needs: {{packages: [qemu]}}
  - if: ${{{{build.arch}}}} != 'aarch64' && ('a' == 'b' || 'c' == 'c')
    runs: echo other
    needs: {{packages: [gdb]}}
subpackages:
  - name: hello-arm
    if: ${{{{build.arch}}}} == 'aarch64'
"
    );
    let x86 = plan(&text);
    assert_eq!(x86.environment.packages, ["make", "x86_64-headers", "gdb"]);
    assert_eq!(
        (x86.outputs.len(), x86.script.contains("echo other"), x86.script.contains("echo arm")),
        (1, true, false)
    );
    let arm = plan_with(&text, |options| options.architecture = Architecture::Aarch64).unwrap();
    assert_eq!(arm.environment.packages, ["make", "aarch64-headers", "qemu"]);
    assert_eq!(arm.outputs[1].name, "hello-arm");
    assert_eq!(arm.outputs[1].directory, "/home/build/melange-out/hello-arm");
}

#[test]
fn a_range_makes_one_subpackage_per_item_in_order_of_keys() {
    let plan = plan(&format!(
        "{HEAD}data:
  - name: langs
    items: {{fr: French, de: German}}
subpackages:
  - range: langs
    name: ${{{{package.name}}}}-${{{{range.key}}}}
    description: in ${{{{range.value}}}}
    dependencies: {{provides: ['${{{{subpkg.name}}}}-x=${{{{package.full-version}}}}']}}
    pipeline:
      - runs: touch ${{{{targets.subpkgdir}}}}/${{{{range.key}}}} ${{{{targets.contextdir}}}} ${{{{context.name}}}}
"
    ));
    let outputs: Vec<_> =
        plan.outputs.iter().map(|output| (output.name.as_str(), output.description.as_str())).collect();
    assert_eq!(outputs, [("hello", ""), ("hello-de", "in German"), ("hello-fr", "in French")]);
    assert_eq!(plan.outputs[2].dependencies.provides, ["hello-fr-x=1.10-r2"]);
    assert!(
        plan.script.contains("touch /home/build/melange-out/hello-de/de /home/build/melange-out/hello-de hello-de\n")
    );
    assert!(plan.script.contains("mkdir -p '/home/build/melange-out/hello-fr'\n"));
}

#[test]
fn directories_and_environment_pass_inwards() {
    let plan = plan(&format!(
        "{HEAD}pipeline:
  - working-directory: sub
    environment: {{A: outer, B: \"it's\"}}
    pipeline:
      - runs: one
      - working-directory: /abs
        environment: {{A: inner}}
        runs: two
"
    ));
    let one = plan.script.find("one\n").unwrap();
    let (before, after) = plan.script.split_at(one);
    assert!(
        before.contains("export A='outer'\nexport B='it'\\''s'\nmkdir -p '/home/build/sub'\ncd '/home/build/sub'\n")
    );
    assert!(after.contains("export B='it'\\''s'\nexport A='inner'\nmkdir -p '/abs'\ncd '/abs'\ntwo\n"), "{after}");
}

#[test]
fn build_options_change_variables_and_packages() {
    let text = format!(
        "{HEAD}environment: {{contents: {{packages: [a, b]}}}}
vars: {{mode: slow}}
options:
  fast:
    vars: {{mode: quick}}
    environment: {{contents: {{packages: {{add: [c], remove: [a]}}}}}}
pipeline:
  - runs: build ${{{{vars.mode}}}} ${{{{options.fast.enabled}}}}
"
    );
    let plain = plan(&text);
    assert!(plain.script.contains("build slow false\n"));
    let fast = plan_with(&text, |options| options.enabled_options.push("fast".to_owned())).unwrap();
    assert!(fast.script.contains("build quick true\n"));
    assert_eq!(
        (plain.environment.packages, fast.environment.packages),
        (vec!["a".into(), "b".into()], vec!["b".into(), "c".into()])
    );
}

#[test]
fn sources_are_lifted_out_of_the_pipeline() {
    let sha256 = "a".repeat(64);
    let commit = "b".repeat(40);
    let plan = plan(&format!(
        "{HEAD}pipeline:
  - uses: fetch
    with: {{uri: 'pkg:deb/debian/hello@${{{{package.version}}}}?arch=source', expected-sha256: {sha256}}}
  - uses: fetch
    with: {{uri: https://example.org/x.zip, expected-none: 'no checksum is published', extract: false}}
  - uses: git-checkout
    with: {{repository: https://example.org/r, tag: 'v${{{{package.version}}}}', expected-commit: {commit}, destination: r}}
"
    ));
    let [archive, unchecked, git] = plan.sources.as_slice() else { panic!("{:?}", plan.sources) };
    assert_eq!(archive.uri, "pkg:deb/debian/hello@1.10?arch=source");
    assert_eq!((&archive.expected, &archive.file), (&Expected::Sha256(sha256.clone()), &format!("sha256:{sha256}")));
    assert_eq!((archive.purl_name.as_deref(), archive.purl_version.as_deref()), (Some("hello"), Some("1.10")));
    assert_eq!((archive.location.line, archive.location.column), (6, 5));
    assert!(unchecked.file.starts_with("uri:") && unchecked.expected == Expected::None);
    assert_eq!((&git.expected, &git.file), (&Expected::Commit(commit.clone()), &format!("git:{commit}")));
    assert_eq!(git.git.as_ref().unwrap().tag.as_deref(), Some("v1.10"));
    assert!(plan.script.contains(&format!("archive='/var/cache/melange/sha256:{sha256}'")));
    assert!(plan.script.contains("cp \"$archive\" 'hello-1.10'"));
}

#[test]
fn tests_are_planned_apart() {
    let text = format!(
        "{HEAD}test:
  environment:
    contents: {{packages: [curl]}}
    environment: {{HOME: /tmp}}
    accounts: {{run-as: nobody, users: [{{username: nobody, uid: 7}}], groups: [{{groupname: g, gid: 8, members: [nobody]}}]}}
  pipeline:
    - runs: hello --version | grep ${{{{package.version}}}}
    - uses: python/import
      with: {{import: hello}}
"
    );
    let test = plan(&text).outputs[0].test.clone().unwrap();
    assert_eq!(test.environment.packages, ["hello=1.10-r2", "curl"]);
    assert_eq!(test.environment.variables, [("HOME".to_owned(), "/tmp".to_owned())]);
    assert_eq!(test.run_as.as_deref(), Some("nobody"));
    assert_eq!((test.users[0].uid, test.users[0].gid), (7, 7));
    assert_eq!((test.groups[0].gid, test.groups[0].members.as_slice()), (8, ["nobody".to_owned()].as_slice()));
    assert!(test.script.contains("grep 1.10\n"));
    assert_eq!(plan_with(&text, |options| options.tests = false).unwrap().outputs[0].test, None);
}

#[test]
fn licences_are_joined_to_one_expression() {
    let plan =
        plan(&format!("{HEAD}  copyright: [{{license: MIT OR Apache-2.0}}, {{license: Zlib}}, {{license: Zlib}}]\n"));
    assert_eq!(plan.outputs[0].licence_expression(), "(MIT OR Apache-2.0) AND Zlib");
}

#[test]
fn groups_of_licences_keep_their_operators() {
    let grouped = |groups: &str| {
        let plan = plan(&format!("{HEAD}  copyright: {groups}\n"));
        (plan.outputs[0].licence_expression(), plan.outputs[0].licences.len())
    };
    let or = "{operator: OR, licenses: [{license: MIT, attestation: by me}, {license: Zlib, license-path: COPYING}]}";
    assert_eq!(grouped(&format!("[{or}]")), ("MIT OR Zlib".to_owned(), 2));
    assert_eq!(grouped(&format!("[{or}, {{license: ISC}}]")), ("(MIT OR Zlib) AND ISC".to_owned(), 3));
    assert_eq!(
        grouped(&format!("[{or}, {{operator: OR, licenses: [{{license: ISC}}]}}]")),
        ("MIT OR Zlib OR ISC".to_owned(), 3)
    );
    assert_eq!(grouped(&format!("[{{licenses: [{or}, {{license: ISC}}]}}]")), ("(MIT OR Zlib) AND ISC".to_owned(), 3));
}

#[test]
fn folders_of_other_packages_have_names() {
    let plan = plan(&format!(
        "{HEAD}data: [{{name: d, items: {{b: two, a: one}}}}]
pipeline: [{{runs: 'ls ${{{{targets.package.hello-a}}}} ${{{{targets.package.hello}}}}'}}]
subpackages:
  - {{name: 'hello-${{{{range.key}}}}', range: d, if: \"${{{{range.key}}}} == 'b'\", pipeline: [{{runs: 'mv ${{{{targets.package.hello-a}}}}'}}]}}
"
    ));
    assert_eq!(plan.outputs.len(), 2);
    assert!(
        plan.script.contains("ls /home/build/melange-out/hello-a /home/build/melange-out/hello\n"),
        "{}",
        plan.script
    );
    assert!(plan.script.contains("mv /home/build/melange-out/hello-a\n"));
}

#[test]
fn required_steps_are_counted_by_their_conditions() {
    let steps = |required: u8| {
        format!(
            "{HEAD}pipeline:\n  - assertions: {{required-steps: {required}}}\n    label: choice\n    pipeline:\n      - if: ${{{{build.arch}}}} == 'x86_64'\n        runs: one\n      - if: ${{{{build.arch}}}} == 'aarch64'\n        runs: two\n"
        )
    };
    assert!(plan(&steps(1)).script.contains("one\n"));
    assert!(error(&steps(2)).starts_with("p.yaml:6:5: `assertions.required-steps` is 2, but 1 of the steps run"));
}

#[test]
fn unknown_inputs_can_be_reported_in_place_of_refused() {
    let text = format!("{HEAD}pipeline: [{{uses: strip, with: {{opt: -s}}}}]\n");
    let plan = plan_with(&text, |options| options.missing_pipelines = MissingPipelines::Report).unwrap();
    let unknown = &plan.unknown_inputs[0];
    assert_eq!((unknown.pipeline.as_str(), unknown.input.as_str(), unknown.location.line), ("strip", "opt", 5));
    assert_eq!(unknown.to_string(), "pipeline `strip` has no input `opt`; did you mean `opts`?");
    assert!(!plan.script.contains("-s"));
}

#[test]
fn a_plan_is_a_message_and_its_digest_follows_the_recipe() {
    let text = format!("{HEAD}pipeline: [{{uses: strip}}]\n");
    let first = plan(&text);
    let again: BuildPlan = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
    assert_eq!(again, first);
    assert_ne!(plan(&format!("{text}# changed\n")).recipe_digest, first.recipe_digest);
    let mut pipelines = Pipelines::built_in().unwrap();
    pipelines.add("strip", "pipeline: [{runs: 'true'}]", "own/strip.yaml").unwrap();
    let definition = PackageDefinition::parse(&text, "p.yaml").unwrap();
    let own = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap();
    assert_ne!(own.recipe_digest, first.recipe_digest);
    pipelines.add("unused", "pipeline: [{runs: 'true'}]", "own/unused.yaml").unwrap();
    let unchanged = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap();
    assert_eq!(unchanged.recipe_digest, own.recipe_digest);
}

#[test]
fn triplets_follow_the_c_library() {
    let text = format!("{HEAD}pipeline: [{{runs: 'echo ${{{{host.triplet.gnu}}}}'}}]\n");
    assert!(plan(&text).script.contains("echo x86_64-pc-linux-musl\n"));
    let glibc = plan_with(&text, |options| {
        options.libc = LibraryC::Glibc;
        options.architecture = Architecture::Aarch64;
    });
    assert!(glibc.unwrap().script.contains("echo aarch64-unknown-linux-gnu\n"));
}

#[test]
fn an_unknown_variable_is_named_where_it_stands() {
    let text = format!(
        "{HEAD}vars: {{colour: red}}\npipeline:\n  - runs: |\n      # é ${{{{vars.colour}}}}\n      echo ${{{{vars.colour}}}} x ${{{{vars.color}}}}\n"
    );
    assert_eq!(error(&text), "p.yaml:9:31: `${{vars.color}}` is not defined; did you mean `vars.colour`?");
    let text = format!("{HEAD}  dependencies: {{provides: ['${{{{package.nam}}}}']}}\n");
    assert!(
        error(&text).starts_with("p.yaml:5:30: `${{package.nam}}` is not defined; did you mean `package.name`"),
        "{}",
        error(&text)
    );
    let text = format!("{HEAD}subpackages:\n  - name: x-${{{{range.key}}}}\n");
    assert_eq!(error(&text), "p.yaml:6:13: `${{range.key}}` is not defined");
}

#[test]
fn a_variable_that_leads_to_itself_is_shown() {
    let text = format!("{HEAD}vars:\n  a: ${{{{vars.b}}}}\n  b: ${{{{vars.a}}}}\n");
    assert_eq!(error(&text), "p.yaml:6:6: `${{vars.a}}` is defined by itself: a -> b -> a");
}

#[test]
fn wrong_pipelines_and_inputs_are_named() {
    for (steps, message) in [
        (
            "  - runs: 'true'\n  - pipeline:\n      - uses: autoconf/mak",
            "p.yaml:8:15: step 2.1 uses `autoconf/mak`, which is not a known pipeline; did you mean `autoconf/make`",
        ),
        (
            "  - uses: autoconf/make\n    with:\n      option: x",
            "p.yaml:8:7: pipeline `autoconf/make` has no input `option`",
        ),
        (
            "  - uses: autoconf/make\n    with: {opt: x}",
            "p.yaml:7:12: pipeline `autoconf/make` has no input `opt`; did you mean `opts`?",
        ),
        ("  - uses: fetch", "p.yaml:6:5: pipeline `fetch` needs the input `uri`"),
        (
            "  - uses: fetch\n    with: {uri: x}",
            "p.yaml:6:5: pipeline `fetch` needs `expected-sha256` or `expected-sha512`, or `expected-none`",
        ),
        (
            "  - uses: fetch\n    with: {uri: x, expected-sha256: ABC}",
            "p.yaml:7:37: `with.expected-sha256` is `ABC`: 64 hexadecimal digits are expected, this has 3",
        ),
        ("  - uses: strip\n    runs: x", "p.yaml:7:11: `runs` is `x`: a step has `uses` or `runs`, not both"),
        ("  - if: build.arch\n    runs: x", "p.yaml:6:9: condition `build.arch`: a value must be compared"),
        ("  - runs: x\n    environment: {A-B: c}", "p.yaml:7:19: `environment` is `A-B`"),
    ] {
        let error = error(&format!("{HEAD}pipeline:\n{steps}\n"));
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn unknown_pipelines_can_be_reported_in_place_of_refused() {
    let text = format!("{HEAD}pipeline: [{{uses: own/build}}]\ntest: {{pipeline: [{{uses: own/test}}]}}\n");
    let plan = plan_with(&text, |options| options.missing_pipelines = MissingPipelines::Report).unwrap();
    let missing: Vec<_> =
        plan.missing_pipelines.iter().map(|missing| (missing.name.as_str(), missing.test_only)).collect();
    assert_eq!(missing, [("own/build", false), ("own/test", true)]);
    assert_eq!(plan.missing_pipelines[0].location.to_string(), "p.yaml:5:19");
}

#[test]
fn pipelines_that_use_each_other_end() {
    let mut pipelines = Pipelines::built_in().unwrap();
    pipelines.add("a", "pipeline: [{uses: b}]", "a.yaml").unwrap();
    pipelines.add("b", "pipeline: [{uses: a}]", "b.yaml").unwrap();
    let definition = PackageDefinition::parse(&format!("{HEAD}pipeline: [{{uses: a}}]\n"), "p.yaml").unwrap();
    let error = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap_err().to_string();
    assert!(error.contains("pipelines use each other more than 16 deep: a -> b -> a"), "{error}");
}

#[test]
fn inputs_have_defaults_and_pass_inwards() {
    let mut pipelines = Pipelines::built_in().unwrap();
    let outer = "inputs: {name: {required: true}, shown: {default: '<${{inputs.name}}>'}}\npipeline:\n  - uses: inner\n    with: {text: '${{inputs.shown}}'}\n";
    pipelines.add("outer", outer, "outer.yaml").unwrap();
    let inner = "inputs: {text: {required: true}, name: {default: nobody}}\nneeds: {packages: ['${{inputs.name}}-tools']}\npipeline: [{runs: 'echo ${{inputs.text}} ${{inputs.name}} ${{package.version}}'}]\n";
    pipelines.add("inner", inner, "inner.yaml").unwrap();
    let text = format!("{HEAD}pipeline: [{{uses: outer, with: {{name: you}}}}]\n");
    let definition = PackageDefinition::parse(&text, "p.yaml").unwrap();
    let plan = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap();
    assert!(plan.script.contains("echo <you> you 1.10\n"), "{}", plan.script);
    assert_eq!(plan.environment.packages, ["you-tools"]);
    let broken = "pipeline:\n  - runs: |\n      true\n      echo ${{inputs.nothing}}\n";
    pipelines.add("outer", broken, "broken.yaml").unwrap();
    let text = format!("{HEAD}pipeline: [{{uses: outer}}]\n");
    let definition = PackageDefinition::parse(&text, "p.yaml").unwrap();
    let error = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap_err().to_string();
    assert!(error.starts_with("broken.yaml:4:12: `${{inputs.nothing}}` is not defined"), "{error}");
}

#[test]
fn ranges_names_and_priorities_are_checked() {
    for (rest, message) in [
        (
            "data: [{name: langs, items: {}}]\nsubpackages: [{range: lang, name: x}]",
            "p.yaml:6:23: `subpackages.range` is `lang`: no `data` block has this name; did you mean `langs`?",
        ),
        ("subpackages: [{name: a/b}]", "p.yaml:5:22: `subpackages.name` is `a/b`"),
        (
            "subpackages: [{name: hello}]",
            "p.yaml:5:22: `subpackages.name` is `hello`: another package of this definition has this name",
        ),
        (
            "subpackages: [{name: x, dependencies: {provider-priority: high}}]",
            "p.yaml:5:59: `dependencies.provider-priority` is `high`",
        ),
        (
            "var-transforms: [{from: a, match: '(', replace: b, to: c}]",
            "p.yaml:5:35: `var-transforms.match` is `(`: unclosed group",
        ),
    ] {
        let error = error(&format!("{HEAD}{rest}\n"));
        assert!(error.starts_with(message), "{error}");
    }
}

/// What melange leaves as it is written is left so here too, and told.
#[test]
fn an_unknown_variable_about_a_package_stays_and_is_told() {
    let text = format!(
        "{HEAD}  description: >-\n    one ${{{{package.nam}}}},\n    two ${{{{package.nam}}}} of ${{{{package.name}}}}\n  copyright: [{{license: MIT, attestation: '${{{{x}}}}'}}]\nsubpackages:\n  - name: y\n    scriptlets: {{post-install: 'echo ${{{{range.key}}}}'}}\n"
    );
    let plan = plan(&text);
    assert_eq!(plan.outputs[0].description, "one ${{package.nam}}, two ${{package.nam}} of hello");
    assert_eq!(plan.outputs[1].scriptlets.post_install.as_deref(), Some("echo ${{range.key}}"));
    let told: Vec<String> =
        plan.unknown_variables.iter().map(|unknown| format!("{} {unknown}", unknown.location)).collect();
    assert_eq!(
        told,
        [
            "p.yaml:6:9 `${{package.nam}}` is not defined and stays as it is written; did you mean `package.name`?",
            "p.yaml:7:9 `${{package.nam}}` is not defined and stays as it is written; did you mean `package.name`?",
            "p.yaml:8:44 `${{x}}` is not defined and stays as it is written",
            "p.yaml:11:38 `${{range.key}}` is not defined and stays as it is written",
        ]
    );
}

#[test]
fn name_and_version_may_come_from_variables() {
    let text = "package:\n  name: hello-${{vars.major}}\n  version: ${{vars.release}}\n  epoch: 1\nvars: {release: 1.10}\nvar-transforms: [{from: '${{package.version}}', match: '^(\\d+).*', replace: $1, to: major}]\nsubpackages: [{name: '${{package.name}}-doc'}]\n";
    let plan = plan(text);
    assert_eq!((plan.name.as_str(), plan.full_version.as_str()), ("hello-1", "1.10-r1"));
    assert_eq!(plan.outputs[1].name, "hello-1-doc");
    assert_eq!(
        error(&text.replace("release: 1.10", "release: 1/10")),
        "p.yaml:3:12: `package.version` is `1/10`: a version has digits, letters, `.` and `_` only"
    );
    assert_eq!(
        error(&text.replace("release: 1.10", "release: '${{package.version}}'")),
        "p.yaml:5:18: `${{package.version}}` is defined by itself: package.version -> package.version"
    );
    assert!(error(&text.replace("hello-${{vars.major}}", "${{vars.majr}}")).contains("did you mean `vars.major`"));
}

#[test]
fn a_priority_may_have_a_sign() {
    let priority = |text: &str| {
        plan_with(&format!("{HEAD}  dependencies: {{provider-priority: {text}}}\n"), |_| {})
            .map(|plan| plan.outputs[0].dependencies.provider_priority)
    };
    assert_eq!((priority("'+7'"), priority("-3"), priority("'-0'"), priority("''")), (Ok(7), Ok(0), Ok(0), Ok(0)));
    assert!(priority("1.5").unwrap_err().contains("`dependencies.provider-priority` is `1.5`"));
}

#[test]
fn steps_that_are_spelled_out_are_run_in_place_of_the_named_pipeline() {
    let plan = plan(&format!(
        "{HEAD}pipeline:\n  - uses: split/dev\n    with: {{word: spelled}}\n    pipeline: [{{runs: 'echo ${{{{inputs.word}}}} out'}}]\n"
    ));
    assert!(plan.script.contains("echo spelled out\n"), "{}", plan.script);
    assert_eq!(plan.steps.len(), 1);
    assert!(plan.environment.packages.is_empty());
}

#[test]
fn a_step_that_may_fail_by_chance_is_retried() {
    let wrong = |retry: &str| error(&format!("{HEAD}pipeline: [{{runs: x, retry: {retry}}}]\n"));
    assert!(wrong("{attempts: 0}").ends_with("`pipeline[0].retry.attempts` is `0`: 1 to 100 are possible"));
    assert!(wrong("{backoff: random}").contains("must be `exponential`, `linear` or `constant`"));
    assert!(wrong("{initial-delay: soon}").contains("a duration such as `500ms`"));
    let loops = |retry: &str| {
        let script = plan(&format!("{HEAD}pipeline: [{{runs: x, retry: {retry}}}]\n")).script;
        script.lines().find(|line| line.starts_with("for ")).map(str::to_owned)
    };
    assert_eq!(loops("{attempts: 1}"), None);
    let expect = |retry: &str, pauses: &str| {
        assert_eq!(loops(retry).as_deref(), Some(format!("for retry_pause in {pauses} end; do").as_str()), "{retry}");
    };
    expect("{attempts: 5}", "1 2 4 8");
    expect("{attempts: 4, backoff: linear, initial-delay: 500ms}", "0.500 1 1.500");
    expect("{attempts: 3, backoff: constant, initial-delay: 90s, max-delay: 1s}", "90 90");
    expect("{attempts: 4, initial-delay: 10s, max-delay: 15s}", "10 15 15");
}

#[test]
fn packages_that_install_themselves_are_named_beside_the_definition() {
    let text =
        format!("{HEAD}subpackages:\n  - name: ${{{{package.name}}}}-doc\n  - {{name: gone, if: \"'a' == 'b'\"}}\n");
    let with = |beside: &str| {
        let file = InstallIf::parse(beside, "install-if/hello.yaml").map_err(|error| error.to_string())?;
        let pipelines = Pipelines::built_in().unwrap();
        let definition = PackageDefinition::parse(&text, "p.yaml").unwrap();
        let options = Options { install_if: Some(&file), ..Options::new(Architecture::X86_64, &pipelines) };
        evaluate(&definition, &options).map_err(|error| error.to_string())
    };
    let beside = "hello-doc: ['hello=${{package.full-version}}', docs]\ngone: [x]\n";
    let named = with(beside).unwrap();
    let wants = |index: usize| named.outputs[index].dependencies.install_if.clone();
    assert_eq!((wants(0), wants(1)), (vec![], vec!["hello=1.10-r2".to_owned(), "docs".to_owned()]));
    assert_ne!(named.recipe_digest, plan(&text).recipe_digest);
    assert_ne!(named.recipe_digest, with(&format!("{beside}# more\n")).unwrap().recipe_digest);
    let unknown = with("hello-docs: [x]\n").unwrap_err();
    assert!(unknown.starts_with("install-if/hello.yaml:1:1") && unknown.contains("`hello-docs`"), "{unknown}");
    assert!(with("hello-doc: []\n").unwrap_err().contains("hello-doc"));
    assert!(with("hello-doc: ['${{package.nam}}']\n").unwrap_err().contains("did you mean `package.name`"));
}

#[test]
fn a_folder_of_the_definitions_own_repository_is_a_source() {
    let step = |with: &str| format!("{HEAD}pipeline: [{{uses: git-archive, with: {{{with}}}}}]\n");
    let commit = "a".repeat(40);
    let stated = plan(&step(&format!("path: tools/greet, expected-commit: {commit}")));
    let source = &stated.sources[0];
    assert_eq!((source.uri.as_str(), &source.expected), ("own:tools/greet", &Expected::Commit(commit)));
    let newest = plan(&step("path: tools/greet"));
    assert_eq!(newest.sources[0].expected, Expected::None);
    assert_ne!(newest.sources[0].file, source.file);
    assert!(error(&step("path: x, expected-commit: abc")).contains("40 hexadecimal digits"));
    assert!(error(&step("ref: main")).contains("path"));
}

#[test]
fn a_package_is_named_as_vulnerability_databases_name_it() {
    let named = |cpe: &str| plan_with(&format!("{HEAD}  cpe: {{{cpe}}}\nsubpackages: [{{name: hello-doc}}]\n"), |_| {});
    let plan = named("vendor: GNU, product: hello, target_sw: linux").unwrap();
    assert_eq!(plan.outputs[0].cpe.as_deref(), Some("cpe:2.3:a:gnu:hello:1.10:*:*:*:*:linux:*:*"));
    assert_eq!(plan.outputs[1].cpe, None);
    assert!(named("product: hello").unwrap_err().contains("`vendor`"), "{}", named("product: hello").unwrap_err());
}
