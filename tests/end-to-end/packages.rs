//! What stands between a built package and the repository: linters, its own tests, the symbols that
//! others take from it; and how a bad version leaves again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::factory::{Factory, rows, text, texts};
use tests::layout;

const MILL: &str = env!("CARGO_BIN_EXE_mill");

fn versions(factory: &Factory, name: &str) -> Vec<Value> {
    let shown = factory.run(&["package", "show", name]);
    shown.expect_code(0);
    rows(&shown.json["versions"]).to_vec()
}

fn events(factory: &Factory, kind: &str) -> Vec<String> {
    let events = factory.documents("event", "");
    events
        .into_iter()
        .filter(|(_, event)| event["kind"] == kind)
        .map(|(_, event)| text(&event["text"]).to_owned())
        .collect()
}

/// What `.PKGINFO` and the index say of a package.
fn index_record(factory: &Factory, name: &str) -> String {
    let archive = fs::read(factory.home().join("apk/x86_64/APKINDEX.tar.gz")).unwrap();
    let index = apk::Index::read("index", archive.as_slice(), apk::Trust::Unverified).unwrap().index;
    let entry = index.entries.into_iter().find(|entry| entry.information.name == name).unwrap();
    apk::Index::write_text(&[entry]).unwrap()
}

#[test]
fn a_linter_that_refuses_names_every_file_and_nothing_is_published() {
    let factory = Factory::new(MILL);
    let script = "mkdir -p ${{targets.destdir}}/usr/bin ${{targets.destdir}}/run ${{targets.destdir}}/opt\n\
                  echo x > ${{targets.destdir}}/usr/bin/tool\nchmod 4755 ${{targets.destdir}}/usr/bin/tool\n\
                  touch ${{targets.destdir}}/run/pid ${{targets.destdir}}/opt/data";
    factory.add_package("tool", "1.0", &[], script);
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "tool 1.0-r0");
    for part in ["usr/bin/tool", "linter `setuidgid`", "run/pid", "linter `tempdir`"] {
        assert!(failure.contains(part), "no `{part}` in `{failure}`");
    }
    assert!(!failure.contains("opt/data"), "a warning refuses nothing: {failure}");
    assert!(!factory.package_index().keys().any(|name| name.starts_with("tool ")));

    let definition = fs::read_to_string(factory.catalog().join("packages/tool.yaml")).unwrap();
    let disabled = "  checks:\n    disabled: [setuidgid, tempdir, tempdri]\n";
    factory.write("packages/tool.yaml", &definition.replace("pipeline:", &format!("{disabled}pipeline:")));
    factory.cycle().expect_code(0);
    let version = &versions(&factory, "tool")[0];
    let linters: Vec<&str> = rows(&version["findings"]).iter().map(|finding| text(&finding["linter"])).collect();
    assert_eq!(linters, ["checks", "opt"], "{version:#}");
    assert!(text(&version["findings"][0]["problem"]).contains("tempdri"), "{version:#}");
    let built = factory.run(&["package", "build", "tool"]);
    built.expect_code(0);
    assert_eq!(built.json["published"][0]["findings"], version["findings"]);

    let file = factory.home().join("apk/x86_64/tool-1.0-r1.apk");
    let linted = factory.run(&["apk", "lint", file.to_str().unwrap()]);
    linted.expect_code(1);
    let found: Vec<&str> = rows(&linted.json[0]["findings"]).iter().map(|finding| text(&finding["linter"])).collect();
    assert_eq!(found, ["setuidgid", "tempdir", "opt"]);
    factory
        .run(&["apk", "lint", file.to_str().unwrap(), "--without", "setuidgid", "--without", "tempdir"])
        .expect_code(0);
}

/// A shell of the host's own with its libraries, and what a step's script calls, for tests to run in.
fn add_shell(factory: &Factory) {
    let script = "install -D -m 0755 /bin/dash ${{targets.destdir}}/bin/sh\n\
                  install -D -m 0755 /bin/mkdir ${{targets.destdir}}/bin/mkdir\n\
                  for program in /bin/dash /bin/mkdir; do\n  \
                  /lib64/ld-linux-x86-64.so.2 --list $program | grep -o '/[^ ]*'\ndone | sort -u | while read file; do\n  \
                  install -D -m 0755 $file ${{targets.destdir}}$file\ndone";
    factory.add_package("shell", "1.0", &["build-base"], script);
    let definition = fs::read_to_string(factory.catalog().join("packages/shell.yaml")).unwrap();
    let options = "  options:\n    no-depends: true\n  checks:\n    disabled: [usrmerge]\n";
    factory.write("packages/shell.yaml", &definition.replace("environment:", &format!("{options}environment:")));
}

fn add_tested(factory: &Factory, version: &str, wants: &str, test: &str) {
    factory.add_package(
        "tested",
        version,
        &[],
        "mkdir -p ${{targets.destdir}}/usr/share\necho right > ${{targets.destdir}}/usr/share/tested",
    );
    let path = factory.catalog().join("packages/tested.yaml");
    let definition = fs::read_to_string(&path).unwrap();
    let test = format!(
        "test:\n  environment:\n    contents:\n      packages: [{wants}]\n  pipeline:\n    - name: it holds\n      runs: |\n        {test}\n"
    );
    fs::write(path, format!("{definition}{test}")).unwrap();
}

/// The place of the attestation of a package's tests.
fn attestation(factory: &Factory, file: &str) -> std::path::PathBuf {
    factory.home().join(format!("apk/x86_64/{file}.tests.sigstore.json"))
}

/// What the tests of a published package are attested to have come to, signed by the factory.
fn attested(factory: &Factory, file: &str) -> Value {
    let package = fs::read(factory.home().join("apk/x86_64").join(file)).unwrap();
    let key = fs::read_to_string(factory.home().join("keys/minimill.pub")).unwrap();
    let key = sign::PublicKey::from_pem(&key).unwrap();
    let bundle = fs::read(attestation(factory, file)).unwrap();
    let subject = sign::Digest::of(&package);
    let statement = sign::verify_bundle(&bundle, &key, subject, sign::predicate::TEST_RESULT).unwrap();
    serde_json::to_value(&statement.predicate).unwrap()
}

#[test]
fn a_package_is_published_only_when_its_own_test_holds() {
    let factory = Factory::new(MILL);
    add_shell(&factory);
    factory.cycle().expect_code(0);
    let holds = "read found < /usr/share/tested\n        test \"$found\" = right";
    add_tested(&factory, "1.0", "shell", holds);
    factory.cycle().expect_code(0);
    let tests = versions(&factory, "tested")[0]["tests"].clone();
    assert_eq!(tests, serde_json::json!([{ "package": "tested", "status": "passed", "message": "it holds" }]));

    // What the test came to is attested beside the package; of what has none, nothing is.
    let result = attested(&factory, "tested-1.0-r0.apk");
    assert_eq!((text(&result["result"]), texts(&result["passedTests"])), ("PASSED", vec!["tested"]));
    assert_eq!(text(&result["configuration"][0]["name"]), "tested.yaml");
    assert!(!attestation(&factory, "greeting-data-2025a-r0.apk").exists());

    // The test runs on the new package, not on the one that is published.
    add_tested(&factory, "1.1", "shell", "echo the reason is here\n        exit 3");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "tested 1.1-r0");
    for part in ["not published", "the test of tested", "the reason is here"] {
        assert!(failure.contains(part), "no `{part}` in `{failure}`");
    }
    assert!(factory.package_index().contains_key("tested 1.0-r0"));
    assert!(!factory.package_index().contains_key("tested 1.1-r0"));
    assert_eq!(events(&factory, "package.test-failed").len(), 1);
    let failures = factory.documents("package#tested", "failure#");
    assert!(failures[0].1["log"].is_string(), "{failures:#?}");

    // A test that can't run says so, and blocks where the factory requires tests.
    add_tested(&factory, "1.2", "shell, nowhere", holds);
    factory.cycle().expect_code(0);
    let version = versions(&factory, "tested").pop().unwrap();
    assert_eq!((text(&version["version"]), text(&version["tests"][0]["status"])), ("1.2-r0", "not-run"));
    assert!(text(&version["tests"][0]["message"]).contains("nowhere"), "{version:#}");
    add_tested(&factory, "1.2.1", "", holds);
    factory.cycle().expect_code(0);
    let version = versions(&factory, "tested").pop().unwrap();
    assert!(text(&version["tests"][0]["message"]).contains("no `/bin/sh`"), "{version:#}");
    fs::write(factory.folder().join("mill.toml"), "[packages]\nrequire-tests = true\n").unwrap();
    add_tested(&factory, "1.3", "shell, nowhere", holds);
    factory.add_package("untested", "1.0", &[], "mkdir -p ${{targets.destdir}}/usr/share/untested");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "tested 1.3-r0");
    assert!(failure.contains("not run: the test of tested") && failure.contains("nowhere"), "{failure}");
    assert!(cycle.failure("package-build", "untested").contains("`require-tests` is set"));
    assert!(!factory.package_index().keys().any(|name| name.starts_with("untested") || name == "tested 1.3-r0"));
}

/// Many servers refuse to be started by root.
#[test]
fn a_test_runs_as_the_user_that_it_names() {
    let factory = Factory::new(MILL);
    add_shell(&factory);
    factory.cycle().expect_code(0);
    let test = "read line < /etc/passwd\n        test \"$line\" = 'app:x:1234:1235:Account created by apko:/home/app:/bin/sh'\n        \
                while read -r name numbers; do\n          case $name in Uid:) uid=$numbers ;; Gid:) gid=$numbers ;; esac\n        done < /proc/self/status\n        \
                echo \"$uid $gid\"\n        case \"$uid $gid\" in 1234*1234*1235*1235*) ;; *) exit 4 ;; esac\n        \
                echo x > /home/app/file\n        mkdir build\n        if mkdir /usr/share/more; then exit 5; fi";
    add_tested(&factory, "1.0", "shell", test);
    let accounts = "    accounts:\n      users: [{username: app, uid: 1234, gid: 1235}]\n      groups: [{groupname: app, gid: 1235}]\n      run-as: app\n";
    factory.edit("packages/tested.yaml", "      packages: [shell]\n", &format!("      packages: [shell]\n{accounts}"));
    factory.cycle().expect_code(0);
    assert_eq!(text(&versions(&factory, "tested")[0]["tests"][0]["status"]), "passed");
    let tested = factory.run(&["package", "test", "tested"]);
    tested.expect_code(0);
    assert_eq!(tested.json, serde_json::json!([{ "package": "tested", "status": "passed", "message": "it holds" }]));
    factory.run(&["package", "test", "nothing"]).expect_code(2);
    factory.edit("packages/tested.yaml", "run-as: app", "run-as: ghost");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "tested 1.0-r1");
    assert!(failure.contains("the test's accounts") && failure.contains("ghost"), "{failure}");
}

#[test]
fn what_a_test_wants_is_built_before_the_package_that_it_tests() {
    let factory = Factory::new(MILL);
    add_shell(&factory);
    add_tested(&factory, "1.0", "shell", "read found < /usr/share/tested");
    // Two whose tests want each other: both are published all the same.
    for (name, other) in [("one", "two"), ("two", "one")] {
        factory.add_package(name, "1.0", &[], &format!("mkdir -p ${{{{targets.destdir}}}}/usr/share/{name}"));
        let path = factory.catalog().join(format!("packages/{name}.yaml"));
        let definition = fs::read_to_string(&path).unwrap();
        let test = format!(
            "test:\n  environment:\n    contents:\n      packages: [shell, {other}]\n  pipeline:\n    - runs: test -d /usr/share/{other}\n"
        );
        fs::write(path, format!("{definition}{test}")).unwrap();
    }
    factory.cycle().expect_code(0);
    let status = |name: &str| text(&versions(&factory, name)[0]["tests"][0]["status"]).to_owned();
    assert_eq!(status("tested"), "passed");
    let mutual = [status("one"), status("two")];
    // The first of the two was published untested; its test has run since.
    assert_eq!(mutual, ["passed", "passed"]);
}

fn add_library(factory: &Factory, version: &str, soname: &str, functions: &[&str]) {
    let source: String = functions.iter().map(|name| format!("int {name}(void) {{ return 1; }} ")).collect();
    let script = format!(
        "mkdir -p ${{{{targets.destdir}}}}/usr/lib\necho '{source}' > library.c\n\
         gcc -shared -nostdlib -fPIC -Wl,-soname,{soname} -o ${{{{targets.destdir}}}}/usr/lib/{soname} library.c"
    );
    factory.add_package("library", version, &["build-base"], &script);
}

#[test]
fn an_update_that_takes_symbols_from_others_is_not_published() {
    let factory = Factory::new(MILL);
    add_library(&factory, "1.0", "libmill.so.1", &["mill_a", "mill_b"]);
    let user = "mkdir -p ${{targets.destdir}}/usr/lib\necho 'int mill_a(void); int use(void) { return mill_a(); }' > use.c\n\
                gcc -shared -nostdlib -fPIC -Wl,-soname,libuse.so.1 -o ${{targets.destdir}}/usr/lib/libuse.so.1 use.c \
                /sysroot/usr/lib/libmill.so.*";
    factory.add_package("user", "1.0", &["build-base", "library"], user);
    factory.cycle().expect_code(0);
    assert!(index_record(&factory, "user").contains("so:libmill.so.1"), "{}", index_record(&factory, "user"));

    // What nobody takes may go, and what is added breaks nobody.
    add_library(&factory, "1.1", "libmill.so.1", &["mill_a", "mill_c"]);
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let shown = versions(&factory, "library").pop().unwrap();
    assert_eq!(text(&shown["version"]), "1.1-r0");
    let warning = text(&shown["warnings"][0]);
    assert!(warning.contains("libmill.so.1") && warning.contains("`mill_b`"), "{warning}");

    add_library(&factory, "1.2", "libmill.so.1", &["mill_c"]);
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-publish", "library 1.2-r0");
    for part in ["not published", "user 1.0-r0 takes `mill_a` from libmill.so.1"] {
        assert!(failure.contains(part), "no `{part}` in `{failure}`");
    }
    let held = events(&factory, "package.abi-broken");
    assert!(held.len() == 1 && held[0].contains("library 1.2-r0"), "{held:?}");
    let packages = factory.package_index();
    assert!(packages.contains_key("library 1.1-r0") && !packages.contains_key("library 1.2-r0"), "{packages:#?}");

    // Another soname leaves the old library to those that need it until they are built again, which
    // happens in the same cycle.
    add_library(&factory, "2.0", "libmill.so.2", &["mill_a"]);
    factory.cycle().expect_code(0);
    let packages = factory.package_index();
    for name in ["library 2.0-r0", "user 1.0-r1", "library 1.1-r0"] {
        assert!(packages.contains_key(name), "no {name}: {packages:#?}");
    }
    let shown = factory.run(&["apk", "show", factory.home().join("apk/x86_64/user-1.0-r1.apk").to_str().unwrap()]);
    assert!(texts(&shown.json["information"]["depends"]).contains(&"so:libmill.so.2"), "{:#}", shown.json);
    let changed = events(&factory, "package.soname-changed");
    assert_eq!(changed, ["library 2.0-r0 no longer has libmill.so.1; built again: user"]);
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.count("package-build", "done"), 0, "{:#}", cycle.json["stages"]);
}

#[test]
fn a_withdrawn_version_leaves_the_index_and_the_images() {
    let mut factory = Factory::after_first_cycle(MILL);
    let first = factory.contents();
    factory.release("hello-mill", "1.1.0");
    factory.at("2026-03-05T06:00:00Z");
    factory.cycle().expect_code(0);
    let second = factory.contents();
    let bad = second.tags["hello:1"].clone();

    factory.run(&["package", "withdraw", "hello=9-r0", "--reason", "x"]).expect_code(1);
    factory.run(&["package", "withdraw", "hello", "--reason", "x"]).expect_code(2);
    let done = factory.run(&["package", "withdraw", "hello=1.1.0-r0", "--reason", "it prints secrets"]);
    done.expect_code(0);
    assert_eq!(done.json["already"], false);
    assert_eq!(texts(&done.json["packages"]), ["hello", "hello-doc"]);
    assert_eq!(rows(&done.json["images"]).len(), 1, "{:#}", done.json);
    assert_eq!(text(&done.json["images"][0]["digest"]), bad);
    let index = factory.package_index();
    assert!(!index.keys().any(|name| name.ends_with(" 1.1.0-r0")), "{index:#?}");
    assert!(index.contains_key("hello 1.0.0-r0"));
    assert!(factory.home().join("apk/x86_64/hello-1.1.0-r0.apk").is_file(), "the bytes stay");
    let again = factory.run(&["package", "withdraw", "hello=1.1.0-r0", "--reason", "it prints secrets"]);
    again.expect_code(0);
    assert_eq!(again.json["already"], true);
    factory.run(&["package", "withdraw", "hello=1.1.0-r0", "--reason", "another"]).expect_code(1);
    assert_eq!(events(&factory, "package.withdrawn"), ["hello 1.1.0-r0: it prints secrets"]);

    // The image goes back to what is left; the version is not built again.
    factory.at("2026-03-06T06:00:00Z");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.count("package-build", "done"), 0, "{:#}", cycle.json["stages"]);
    let skipped = cycle.texts("skipped", "package-build", "hello");
    assert!(skipped[0].contains("withdrawn: it prints secrets"), "{skipped:?}");
    let image = cycle.image("hello", "1");
    assert_eq!(image["version"], "1.0.0");
    assert_eq!(image["reason"], "hello 1.1.0-r0 -> 1.0.0-r0 (hello 1.1.0-r0 was withdrawn: it prints secrets)");
    let third = factory.contents();
    for tag in ["hello:1", "hello:latest", "hello:1.0.0", "hello:1.0"] {
        assert_eq!(third.tags[tag], text(&image["digest"]), "{tag}");
        assert_eq!(third.tags[tag], first.tags["hello:1"], "the same packages make the same image: {tag}");
    }
    assert_eq!(third.tags["hello:1.1.0"], bad, "the old digest stays, and its version's tag with it");
    factory.run(&["verify", &format!("hello@{bad}")]).expect_code(0);
    assert!(layout::document(&factory.layout("hello"), &bad).is_object());
    factory.cycle().expect_code(0);

    let shown = versions(&factory, "hello");
    let withdrawn: Vec<(&str, bool)> =
        shown.iter().map(|version| (text(&version["version"]), version["withdrawn"].is_object())).collect();
    assert_eq!(withdrawn, [("1.0.0-r0", false), ("1.1.0-r0", true)]);
    let listed = factory.run(&["package", "list"]);
    let listed: Vec<&str> = rows(&listed.json).iter().map(|row| text(&row["package"])).collect();
    assert_eq!(listed, ["greeting-data", "hello", "hello"]);

    // A changed definition gets the next revision, and the image with it.
    factory.edit("packages/hello.yaml", "prints its version and a greeting", "greets");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert!(factory.package_index().contains_key("hello 1.1.0-r1"));
    assert_eq!(cycle.image("hello", "1")["version"], "1.1.0");
}

#[test]
fn what_a_definition_states_reaches_the_package_and_the_index() {
    let factory = Factory::new(MILL);
    factory.write(
        "packages/full.yaml",
        "package:
  name: full
  version: 1.0
  epoch: 0
  description: everything a package can say
  url: https://example.com/full
  cpe: {vendor: example, product: Full+}
  copyright:
    - license: MIT AND LicenseRef-house
      license-path: legal/HOUSE
      attestation: Copyright (c) the house
  dependencies:
    provider-priority: 7
    replaces-priority: 3
    provides: [virtual-full=2]
    replaces: [older-full<1]
  scriptlets:
    trigger:
      paths: [/usr/lib/full/*]
      script: |
        #!/bin/sh
        echo triggered
    pre-install: |
      #!/bin/sh
      echo before
    post-upgrade: |
      #!/bin/sh
      echo upgraded
pipeline:
  - runs: |
      mkdir -p legal ${{targets.destdir}}/usr/lib/full
      echo 'you may live here' > legal/HOUSE
      touch ${{targets.destdir}}/usr/lib/full/file
subpackages:
  - name: full-doc
    pipeline:
      - runs: mkdir -p ${{targets.contextdir}}/usr/share/doc/full
",
    );
    factory.write("install-if/full.yaml", "full-doc: ['full=${{package.full-version}}', docs]\n");
    factory.cycle().expect_code(0);
    let documentation = apk::Package::open(&factory.home().join("apk/x86_64/full-doc-1.0-r0.apk")).unwrap();
    assert_eq!(documentation.information().install_if, ["full=1.0-r0", "docs"]);
    let record = index_record(&factory, "full-doc");
    assert!(record.lines().any(|found| found == "i:full=1.0-r0 docs"), "{record}");
    let file = factory.home().join("apk/x86_64/full-1.0-r0.apk");
    let mut package = apk::Package::open(&file).unwrap();
    let information = package.information().clone();
    assert_eq!(information.triggers, ["/usr/lib/full/*"]);
    assert_eq!(information.replaces, ["older-full<1"]);
    assert_eq!((information.provider_priority, information.replaces_priority), (7, 3));
    let scripts: Vec<(&str, String)> = package
        .scripts()
        .map(|(script, bytes)| (script.entry_name(), String::from_utf8(bytes.to_vec()).unwrap()))
        .collect();
    let names: Vec<&str> = scripts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [".trigger", ".pre-install", ".post-upgrade"]);
    assert!(scripts[0].1.contains("echo triggered"), "{scripts:?}");
    let record = index_record(&factory, "full");
    for line in ["k:7", "p:virtual-full=2", "U:https://example.com/full", "o:full"] {
        assert!(record.lines().any(|found| found == line), "no `{line}` in\n{record}");
    }

    let mut document = Value::Null;
    package
        .visit::<apk::Error>(|entry, content| {
            if entry.path.ends_with(".spdx.json") {
                document = serde_json::from_reader(content).unwrap();
            }
            Ok(())
        })
        .unwrap();
    let extracted = rows(&document["hasExtractedLicensingInfos"]);
    let house = extracted.iter().find(|info| text(&info["licenseId"]) == "LicenseRef-house").unwrap();
    assert_eq!(text(&house["extractedText"]), "you may live here\n", "{document:#}");
    assert_eq!(text(&document["packages"][0]["licenseDeclared"]), "MIT AND LicenseRef-house");
    let references = rows(&document["packages"][0]["externalRefs"]);
    let cpe = references.iter().find(|reference| reference["referenceType"] == "cpe23Type").unwrap();
    assert_eq!(text(&cpe["referenceLocator"]), r"cpe:2.3:a:example:full\+:1.0:*:*:*:*:*:*:*");

    factory.write("install-if/full.yaml", "full-docs: [docs]\n");
    let cycle = factory.cycle();
    let held = cycle.json.to_string() + &cycle.stderr;
    assert!(held.contains("install-if/full.yaml:1:1") && held.contains("no package of this name"), "{held}");
    factory.write("install-if/full.yaml", "full-doc: ['full=${{package.full-version}}', docs]\n");
    factory.edit("packages/full.yaml", "license-path: legal/HOUSE", "license-path: legal/GONE");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "full");
    assert!(failure.contains("license-path: legal/GONE"), "{failure}");
}

#[test]
fn two_definitions_of_one_package_hold_each_other_and_nothing_else() {
    let factory = Factory::new(MILL);
    let script =
        "mkdir -p ${{targets.destdir}}/usr/share\necho made > ${{targets.destdir}}/usr/share/${{package.name}}";
    for name in ["shared-name", "other", "third"] {
        factory.add_package(name, "1.0", &[], script);
    }
    let path = factory.catalog().join("packages/other.yaml");
    let other = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{other}subpackages:\n  - name: shared-name\n    pipeline:\n      - runs: \"true\"\n"))
        .unwrap();
    let cycle = factory.cycle();
    cycle.expect_code(1);
    for name in ["other", "shared-name"] {
        let failure = cycle.failure("package-build", name);
        assert_eq!(failure, "package `shared-name` is made by both `other` and `shared-name`; rename one");
    }
    assert!(factory.package_index().contains_key("third 1.0-r0"));
    assert!(!factory.package_index().keys().any(|name| name.starts_with("shared-name") || name.starts_with("other")));

    fs::write(&path, other).unwrap();
    factory.cycle().expect_code(0);
    assert!(factory.package_index().contains_key("shared-name 1.0-r0"));
}

#[test]
fn a_changed_compiler_wrapper_builds_again_what_uses_it() {
    let factory = Factory::new(MILL);
    let provides = "provides:\n  build-base: {debian: [gcc], commands: [gcc]}\n  git: {debian: [git]}\n  \
                    shouter: {debian: [dash], commands: [sh], files: [bin/shout]}\n";
    factory.write("bootstrap/bootstrap.yaml", provides);
    let wrapper = |says: &str| {
        factory.write("bootstrap/bin/shout", &format!("#!/bin/sh\necho {says}\n"));
        let path = factory.catalog().join("bootstrap/bin/shout");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    wrapper("loud");
    let script = |command: &str, name: &str| {
        format!("mkdir -p ${{{{targets.destdir}}}}/usr/share\n{command} > ${{{{targets.destdir}}}}/usr/share/{name}")
    };
    factory.add_package("shouted", "1.0", &["shouter"], &script("shout", "shouted"));
    factory.add_package("silent", "1.0", &[], &script("echo", "silent"));
    factory.cycle().expect_code(0);
    let packages = |factory: &Factory| -> Vec<String> {
        let index = factory.package_index().into_keys();
        index.filter(|name| name.starts_with("shouted") || name.starts_with("silent")).collect()
    };
    assert_eq!(packages(&factory), ["shouted 1.0-r0", "silent 1.0-r0"]);

    wrapper("louder");
    factory.cycle().expect_code(0);
    assert_eq!(packages(&factory), ["shouted 1.0-r0", "shouted 1.0-r1", "silent 1.0-r0"]);
    let bundle = fs::read(factory.home().join("apk/x86_64/shouted-1.0-r1.apk.sigstore.json")).unwrap();
    let bundle: Value = serde_json::from_slice(&bundle).unwrap();
    let payload = text(&bundle["dsseEnvelope"]["payload"]);
    let statement: Value = serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap();
    let materials = rows(&statement["predicate"]["buildDefinition"]["resolvedDependencies"]);
    let wrapper_material = materials.iter().find(|material| material["name"] == "bootstrap/bin/shout").unwrap();
    let bytes = fs::read(factory.catalog().join("bootstrap/bin/shout")).unwrap();
    assert_eq!(text(&wrapper_material["digest"]["sha256"]), tests::archive::sha256_hex(&bytes));

    // What no name lists is used by all.
    factory.write("bootstrap/lib/everywhere", "x");
    factory.cycle().expect_code(0);
    assert!(packages(&factory).contains(&"silent 1.0-r1".to_owned()), "{:?}", packages(&factory));
    assert!(packages(&factory).contains(&"shouted 1.0-r2".to_owned()), "{:?}", packages(&factory));

    factory.write("bootstrap/bootstrap.yaml", &provides.replace("bin/shout", "bin/whisper"));
    let refused = factory.run(&["package", "list"]);
    refused.expect_code(1);
    assert!(refused.stderr.contains("`bin/whisper`"), "{}", refused.stderr);
}

#[test]
fn a_test_that_could_not_run_runs_when_what_it_lacked_is_published_and_not_again() {
    let factory = Factory::new(MILL);
    add_tested(&factory, "1.0", "shell, later", "read found < /usr/share/tested");
    factory.cycle().expect_code(0);
    let status = || text(&versions(&factory, "tested")[0]["tests"][0]["status"]).to_owned();
    assert_eq!(status(), "not-run");
    assert!(!attestation(&factory, "tested-1.0-r0.apk").exists(), "nothing has run yet");
    add_shell(&factory);
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!((status().as_str(), cycle.count("package-test", "done")), ("not-run", 0), "`later` is still missing");

    factory.add_package("later", "1.0", &[], "mkdir -p ${{targets.destdir}}/usr/share/later");
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!((status().as_str(), cycle.count("package-test", "done")), ("passed", 1));
    assert_eq!(versions(&factory, "tested").len(), 1, "nothing is built again for its test");
    let result = attested(&factory, "tested-1.0-r0.apk");
    assert_eq!((text(&result["result"]), texts(&result["passedTests"])), ("PASSED", vec!["tested"]));
    let cycle = factory.cycle();
    assert_eq!(cycle.count("package-test", "done") + cycle.count("package-test", "skipped"), 0);

    // One that fails when it can run is told, and stays until somebody takes it out.
    add_tested(&factory, "1.1", "shell, later, last", "exit 4");
    factory.cycle().expect_code(0);
    factory.add_package("last", "1.0", &[], "mkdir -p ${{targets.destdir}}/usr/share/last");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    assert!(cycle.failure("package-test", "tested 1.1-r0").contains("mill package withdraw"));
    assert_eq!(text(&versions(&factory, "tested")[1]["tests"][0]["status"]), "failed");
    let result = attested(&factory, "tested-1.1-r0.apk");
    assert_eq!((text(&result["result"]), texts(&result["failedTests"])), ("FAILED", vec!["tested"]));
    assert_eq!(events(&factory, "package.test-failed").len(), 1);
    factory.cycle().expect_code(0);

    // A root that can't run the test is not tried again with the same packages.
    add_tested(&factory, "1.2", "later", "true");
    for expected in [1, 0] {
        let cycle = factory.cycle();
        cycle.expect_code(0);
        assert_eq!(cycle.count("package-test", "skipped"), expected);
    }
    add_tested(&factory, "1.2", "later", "true # changed");
    factory.cycle().expect_code(0);
    factory.add_package("later", "1.1", &[], "mkdir -p ${{targets.destdir}}/usr/share/later1");
    assert_eq!(factory.cycle().count("package-test", "skipped"), 1, "with another package it is");
}

#[test]
fn later_tests_are_attested_with_the_earlier_ones_in_the_place_of_the_attestation_before() {
    let factory = Factory::new(MILL);
    add_shell(&factory);
    add_tested(&factory, "1.0", "shell", "read found < /usr/share/tested");
    let path = factory.catalog().join("packages/tested.yaml");
    let definition = fs::read_to_string(&path).unwrap();
    let subpackage = "subpackages:\n  - name: tested-more\n    pipeline:\n      - runs: mkdir -p \
                      ${{targets.subpkgdir}}/usr/share/more\n    test:\n      environment:\n        contents:\n          \
                      packages: [shell, later]\n      pipeline:\n        - runs: test -d /usr/share/more\n";
    fs::write(&path, definition.replace("test:\n  env", &format!("{subpackage}test:\n  env"))).unwrap();
    factory.cycle().expect_code(0);
    let files = ["tested-1.0-r0.apk", "tested-more-1.0-r0.apk"];
    for file in files {
        let result = attested(&factory, file);
        let found = (text(&result["result"]), texts(&result["passedTests"]), texts(&result["warnedTests"]));
        assert_eq!(found, ("WARNED", vec!["tested"], vec!["tested-more"]), "{file}");
    }
    let earlier = fs::read(attestation(&factory, files[0])).unwrap();

    factory.add_package("later", "1.0", &[], "mkdir -p ${{targets.destdir}}/usr/share/later");
    factory.cycle().expect_code(0);
    for file in files {
        let result = attested(&factory, file);
        let found = (text(&result["result"]), texts(&result["passedTests"]), texts(&result["warnedTests"]));
        assert_eq!(found, ("PASSED", vec!["tested", "tested-more"], Vec::new()), "{file}");
    }
    // The one before is kept, and named by what is known of the later tests.
    let later = &factory.documents("package#tested", "tests#1.0-r0")[0].1;
    let digest = format!("sha256:{}", tests::archive::sha256_hex(&earlier));
    assert_eq!(texts(&later["replaced"]), [digest.as_str()]);
    let (shard, rest) = digest.trim_start_matches("sha256:").split_at(2);
    assert_eq!(fs::read(factory.home().join("blobs").join(shard).join(rest)).unwrap(), earlier);
}

#[test]
fn a_package_is_built_again_in_other_surroundings_and_differences_are_explained() {
    let factory = Factory::new(MILL);
    let script = "mkdir -p ${{targets.destdir}}/usr/share\necho same > ${{targets.destdir}}/usr/share/steady\n\
                  touch b a c\nls > ${{targets.destdir}}/usr/share/sorted";
    factory.add_package("steady", "1.0", &[], script);
    let built = factory.run(&["package", "build", "steady", "--check-reproducible"]);
    built.expect_code(0);
    let found = &built.json["published"][0]["reproducibility"];
    assert_eq!(found["reproducible"], true, "{found:#}");
    assert_eq!(found["packages"][0]["published"], found["packages"][0]["repeated"]);
    let varied = texts(&found["varied"]).join("; ");
    for what in ["path", "host name", "locale", "time", "order of files"] {
        assert!(varied.contains(what), "no {what} in {varied}");
    }
    assert_eq!(&versions(&factory, "steady")[0]["reproducibility"], found);

    // Each file depends on one of the surroundings.
    let script = "share=${{targets.destdir}}/usr/share\nmkdir -p $share\npwd -P > $share/path\ndate +%s%N > $share/time\n\
                  hostname > $share/host\nnproc > $share/processors\necho $LC_ALL > $share/locale\n\
                  date +%z > $share/zone\nmkdir many\nfor number in $(seq 40); do touch many/$number; done\n\
                  find many > $share/order\necho same > $share/same";
    factory.add_package("shaky", "1.0", &[], script);
    let built = factory.run(&["package", "build", "shaky", "--check-reproducible"]);
    built.expect_code(1);
    let found = &built.json["published"][0]["reproducibility"];
    assert_eq!(found["reproducible"], false, "{found:#}");
    let difference = &found["packages"][0]["difference"];
    let members = texts(&difference["members"]).join("\n");
    let mut files = vec!["path", "time", "host", "locale", "zone"];
    if varied.contains("order of files (as") {
        files.push("order");
    }
    if varied.contains("processors") {
        files.push("processors");
    }
    for file in files {
        assert!(members.contains(&format!("`usr/share/{file}`")), "{file} is the same:\n{members}");
    }
    assert!(!members.contains("`usr/share/same`"), "{members}");
    let told = text(&difference["diffoscope"]);
    assert!(told.contains("/home/rebuild/elsewhere") || told.starts_with("diffoscope not installed"), "{told}");
    let mut shown = factory.command();
    let shown = shown.args(["package", "show", "shaky"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("NOT THE SAME") && shown.contains("usr/share/path"), "{shown}");

    let mut without = factory.command();
    let tools = factory.folder().join("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["bwrap", "prlimit", "runc", "sh", "dpkg-query", "nsenter"] {
        let path = ["/usr/bin", "/usr/sbin", "/sbin"].iter().map(|folder| std::path::Path::new(folder).join(tool));
        if let Some(path) = path.into_iter().find(|path| path.exists()) {
            std::os::unix::fs::symlink(path, tools.join(tool)).unwrap();
        }
    }
    let without = tests::factory::answer({
        without.args(["--format", "json", "package", "build", "shaky", "--check-reproducible"]).env("PATH", &tools);
        without
    });
    without.expect_code(1);
    let difference = &without.json["published"][0]["reproducibility"]["packages"][0]["difference"];
    assert!(text(&difference["diffoscope"]).starts_with("diffoscope not installed"), "{difference:#}");
    assert!(!texts(&difference["members"]).is_empty());

    let unknown = factory.run(&["package", "build", "nothing", "--check-reproducible"]);
    unknown.expect_code(2);
}

/// Commits all of a factory's catalog.
fn commit(factory: &Factory) -> String {
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(factory.folder()).args(["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "catalog", "greeter"]);
    git(&["commit", "--quiet", "--message", "more"]);
    git(&["rev-parse", "HEAD"])
}

#[test]
fn a_package_of_the_catalogs_own_repository_follows_what_is_committed() {
    let factory = Factory::new(MILL);
    fs::create_dir(factory.folder().join("greeter")).unwrap();
    let source = factory.folder().join("greeter/text");
    fs::write(&source, "good morning\n").unwrap();
    let definition = "package:\n  name: greeter\n  version: 1.0\n  epoch: 0\n  description: greets\n  copyright:\n    - license: Apache-2.0\nupdate:\n  enabled: false\npipeline:\n  - uses: git-archive\n    with:\n      path: greeter\n  - runs: install -D -m 0644 greeter/text ${{targets.destdir}}/usr/share/greeter/text\n";
    factory.write("packages/greeter.yaml", definition);
    let outside = factory.cycle();
    outside.expect_code(1);
    let told = outside.json.to_string() + &outside.stderr;
    assert!(told.contains("it lies in no git repository"), "{told}");

    let first = commit(&factory);
    factory.cycle().expect_code(0);
    let version = &versions(&factory, "greeter")[0];
    assert_eq!(text(&version["version"]), "1.0-r0");
    assert_eq!(text(&version["sources"][0]["evidence"]["commit"]), first, "{version:#}");
    assert_eq!(text(&version["sources"][0]["uri"]), "own:greeter");

    // A commit beside the folder changes nothing; one in it gives the next revision.
    factory.write("README", "a catalog");
    commit(&factory);
    fs::write(&source, "not committed\n").unwrap();
    let cycle = factory.cycle();
    cycle.expect_code(0);
    assert_eq!(cycle.count("package-build", "done"), 0, "{:#}", cycle.json);
    fs::write(&source, "good evening\n").unwrap();
    let second = commit(&factory);
    factory.cycle().expect_code(0);
    let mut package = apk::Package::open(&factory.home().join("apk/x86_64/greeter-1.0-r1.apk")).unwrap();
    let mut found = String::new();
    package
        .visit::<apk::Error>(|entry, content| {
            if entry.path == "usr/share/greeter/text" {
                std::io::Read::read_to_string(content, &mut found).unwrap();
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(found, "good evening\n");

    // A stated commit must be the one that is found.
    factory.edit("packages/greeter.yaml", "path: greeter", &format!("path: greeter\n      expected-commit: {first}"));
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let told = cycle.json.to_string() + &cycle.stderr;
    assert!(told.contains(&format!("`HEAD` is commit `{second}`")), "{told}");
    factory.edit("packages/greeter.yaml", "path: greeter", &format!("path: greeter\n      ref: {first}"));
    factory.cycle().expect_code(0);
    assert_eq!(text(&versions(&factory, "greeter").last().unwrap()["version"]), "1.0-r2");
}
