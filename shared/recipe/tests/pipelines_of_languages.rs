//! The pipelines of tool chains that are here, and the test pipelines, run for real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use support::{Build, have, installed, plan, set};

#[test]
fn git_checkout_unpacks_the_tree() {
    let build = Build::new();
    let commit = "b".repeat(40);
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("README"), "x").unwrap();
    let archive = build.root.path().join(format!("sources/git:{commit}"));
    // `--force-local`: the name has a colon.
    let status = Command::new("tar")
        .args(["-c", "--force-local", "-f"])
        .arg(&archive)
        .arg("-C")
        .arg(tree.path())
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    let text = format!(
        "pipeline: [{{uses: git-checkout, with: {{repository: https://example.org/r, destination: src, expected-commit: {commit}}}}}]\n"
    );
    build.succeed(&plan(&text));
    assert_eq!(build.files("src"), set(&["README"]));
}

#[test]
fn git_archive_unpacks_its_folder_alone() {
    let build = Build::new();
    let plan = plan("pipeline: [{uses: git-archive, with: {path: /tools/greet/, ref: v1}}]\n");
    let source = &plan.sources[0];
    assert_eq!(
        (source.uri.as_str(), source.own.as_ref().unwrap().reference.as_deref()),
        ("own:tools/greet", Some("v1"))
    );
    let tree = tempfile::tempdir().unwrap();
    for file in ["README", "tools/greet/main.c", "tools/other/main.c"] {
        fs::create_dir_all(tree.path().join(file).parent().unwrap()).unwrap();
        fs::write(tree.path().join(file), "x").unwrap();
    }
    let archive = build.root.path().join("sources").join(&source.file);
    let mut pack = Command::new("tar");
    pack.args(["-c", "--force-local", "-f"]).arg(&archive).arg("-C").arg(tree.path()).args(["README", "tools"]);
    assert!(pack.status().unwrap().success());
    build.succeed(&plan);
    assert_eq!(build.files("tools"), set(&["greet/main.c"]));
    assert!(!build.workspace().join("README").exists());
}

#[test]
fn cargo_builds_and_installs_a_program() {
    if !have(&["cargo"]) {
        return;
    }
    let build = Build::new();
    build.write(
        "hello/Cargo.toml",
        "[package]\nname = \"hello\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    build.write("hello/src/main.rs", "fn main() { println!(\"hello\") }\n");
    build.succeed(&plan(
        "pipeline: [{uses: cargo/build, environment: {CARGO_TARGET_DIR: target}, with: {modroot: hello, output: hello, opts: --release --offline}}]\n",
    ));
    assert_eq!(build.files("melange-out/hello"), set(&["usr/bin/hello"]));
    build.succeed(&plan(
        "subpackages: [{name: every, pipeline: [{uses: cargo/build, environment: {CARGO_TARGET_DIR: target}, with: {modroot: hello, opts: --release --offline, prefix: opt}}]}]\n",
    ));
    assert_eq!(build.files("melange-out/every"), set(&["opt/bin/hello"]));
}

#[test]
fn a_perl_module_is_made_and_cleaned() {
    if !have(&["perl", "make"]) {
        return;
    }
    let build = Build::new();
    build.write("Makefile.PL", "use ExtUtils::MakeMaker;\nWriteMakefile(NAME => 'Hello', VERSION => '1.0');\n");
    build.write("lib/Hello.pm", "package Hello;\n1;\n");
    build.succeed(&plan(
        "pipeline: [{uses: perl/make}, {uses: autoconf/make}, {uses: autoconf/make-install}, {uses: perl/cleanup}]\n",
    ));
    let files = build.files("melange-out/hello");
    assert!(files.iter().any(|file| file.ends_with("/Hello.pm")), "{files:?}");
    assert!(!files.iter().any(|file| file.ends_with(".packlist") || file.ends_with("perllocal.pod")), "{files:?}");
}

#[test]
fn python_imports_are_run_one_by_one() {
    if !have(&["python3"]) {
        return;
    }
    let build = Build::new();
    let imports = plan(
        "pipeline: [{uses: python/import, with: {python: python3, imports: \"import os # the system\\n\\nfrom json import loads\\n\"}}]\n",
    );
    let answer = build.succeed(&imports);
    assert!(answer.contains("passed: import os\npassed: from json import loads\n"), "{answer}");
    build.succeed(&plan("pipeline: [{uses: python/import, with: {python: python3, import: loads, from: json}}]\n"));
    let errors = build.fail(&plan(
        "pipeline: [{uses: python/import, with: {python: python3, imports: \"import no_such\\nimport os\\n\"}}]\n",
    ));
    assert!(errors.contains("failed: import no_such"), "{errors}");
    assert!(
        build.fail(&plan("pipeline: [{uses: python/import, with: {python: python3}}]\n")).contains("nothing to import")
    );
}

#[test]
fn packages_without_files_are_told_from_others() {
    let empty = installed("D:other so:libc.so\np:virtual=1.0 cmd:x\n", &[]);
    empty.succeed(&plan("pipeline: [{uses: test/emptypackage}, {uses: test/tw/metapackage}]\n"));
    empty.succeed(&plan("pipeline: [{uses: test/virtualpackage, with: {virtual-pkg-name: \"virtual\\ncmd:x\\n\"}}]\n"));
    let errors = empty.fail(&plan("pipeline: [{uses: test/tw/virtualpackage, with: {virtual-pkg-name: virtua}}]\n"));
    assert!(errors.contains("does not provide virtua"), "{errors}");
    assert!(
        installed("", &[]).fail(&plan("pipeline: [{uses: test/metapackage}]\n")).contains("should depend on something")
    );
    let full = installed("", &["usr/bin/x"]);
    assert!(full.fail(&plan("pipeline: [{uses: test/tw/emptypackage}]\n")).contains("should have no files"));
    full.succeed(&plan("pipeline: [{uses: test/tw/byproductpackage}]\n"));
}

#[test]
fn files_of_a_package_are_checked_by_kind() {
    let static_library = installed("", &["usr/lib/libx.a"]);
    static_library.succeed(&plan(
        "pipeline: [{uses: test/tw/staticpackage}, {uses: test/tw/devpackage}, {uses: test/no-docs}]\n",
    ));
    let others = installed("", &["usr/lib/libx.a", "usr/bin/x"]);
    assert!(others.fail(&plan("pipeline: [{uses: test/staticpackage}]\n")).contains("usr/bin/x"));
    assert!(
        installed("", &["usr/bin/x"])
            .fail(&plan("pipeline: [{uses: test/tw/devpackage}]\n"))
            .contains("no development files")
    );
    assert!(installed("", &[]).fail(&plan("pipeline: [{uses: test/docs}]\n")).contains("no file below usr/share"));
}

#[test]
fn scripts_and_links_are_checked() {
    let build = installed("", &["good", "bad", "plain", "link"]);
    build.write("good", "#!/bin/sh\nif true; then :; fi\n");
    build.write("bad", "#!/bin/sh\nif true; then\n");
    build.write("plain", "if if if\n");
    symlink("good", build.workspace().join("link")).unwrap();
    let errors = build.fail(&plan("pipeline: [{uses: test/tw/shell-syntax-check}]\n"));
    assert!(errors.contains("bad") && !errors.contains("plain"), "{errors}");
    build.succeed(&plan("pipeline: [{uses: test/tw/symlink-check}]\n"));
    fs::remove_file(build.workspace().join("good")).unwrap();
    assert!(build.fail(&plan("pipeline: [{uses: test/tw/symlink-check}]\n")).contains("which is not there"));
}

#[test]
fn programs_answer_for_help_and_version() {
    let build = Build::new();
    build
        .write("hello", "#!/bin/sh\ncase $1 in --help) echo Usage: hello ;; -V) echo hello 1.0 ;; *) exit 1 ;; esac\n");
    let program = build.workspace().join("hello");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let bins = program.display();
    build.succeed(&plan(&format!(
        "pipeline: [{{uses: test/tw/help-check, with: {{bins: \"{bins}\\n\", expect-contains: usage}}}}]\n"
    )));
    build.succeed(&plan(&format!("pipeline: [{{uses: test/tw/ver-check, with: {{bins: {bins}}}}}]\n")));
    let errors =
        build.fail(&plan(&format!("pipeline: [{{uses: test/tw/ver-check, with: {{bins: {bins}, version: 2.0}}}}]\n")));
    assert!(errors.contains("does not name version 2.0"), "{errors}");
    assert!(
        build
            .fail(&plan(&format!("pipeline: [{{uses: test/tw/help-check, with: {{bins: {bins}, help-flag: -x}}}}]\n")))
            .contains("answers none of: -x")
    );
}

#[test]
fn shared_libraries_of_programs_are_found() {
    if !have(&["ldd", "cc"]) {
        return;
    }
    let build = installed("", &["program", "notes"]);
    build.write("program.c", "int answer(void);\nint main(void) { return answer(); }\n");
    build.write("answer.c", "int answer(void) { return 0; }\n");
    build.write("notes", "x");
    let compile = "cc -shared -fPIC -o libanswer.so answer.c && cc -o program program.c -L. -lanswer";
    assert!(Command::new("sh").args(["-c", compile]).current_dir(build.workspace()).status().unwrap().success());
    let errors = build.fail(&plan("pipeline: [{uses: test/tw/ldd-check}]\n"));
    assert!(errors.contains("libanswer.so") && errors.contains("a library is missing"), "{errors}");
    let path = build.workspace();
    build.succeed(&plan(&format!(
        "pipeline: [{{uses: test/ldd-check, with: {{extra-library-paths: {}}}}}]\n",
        path.display()
    )));
}
