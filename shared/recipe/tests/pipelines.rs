//! The built-in pipelines as shell: every one can be read, and those whose tools are here run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use recipe::Pipelines;
use support::{Build, have, plan, set};

#[test]
fn every_built_in_pipeline_becomes_a_script_that_a_shell_can_read() {
    let pipelines = Pipelines::built_in().unwrap();
    let mut count = 0;
    for name in pipelines.names() {
        let mut with = String::new();
        for input in &pipelines.get(name).unwrap().step().inputs {
            let value = match input.name.as_str() {
                "expected-sha256" => "a".repeat(64),
                "expected-sha512" | "expected-none" => continue,
                "expected-commit" => "b".repeat(40),
                // As a block text gives it, with the line end that trips a careless script.
                "opts" | "bins" | "packages" | "patches" | "modules" | "deps" if input.default.is_none() => {
                    "x\\ny\\n".to_owned()
                }
                _ if input.required => "value".to_owned(),
                _ => continue,
            };
            with.push_str(&format!(", {}: \"{value}\"", input.name));
        }
        let with = with.trim_start_matches(", ");
        let text = format!("subpackages: [{{name: hello-sub, pipeline: [{{uses: {name}, with: {{{with}}}}}]}}]\n");
        let plan = plan(&text);
        assert!(!plan.script.contains("${{"), "{name}");
        assert!(!plan.steps.is_empty(), "{name} has no step");
        for shell in ["sh", "bash"] {
            let mut child = Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(plan.script.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {shell}: {errors}\n{}", plan.script);
        }
        count += 1;
    }
    println!("{count} pipelines read");
    assert!(count > 180);
}

#[test]
fn a_script_looks_like_this() {
    let sha256 = "a".repeat(64);
    let plan = plan(&format!(
        "environment: {{contents: {{packages: [zlib-dev]}}}}
pipeline:
  - uses: fetch
    with: {{uri: 'https://example.org/hello-${{{{package.version}}}}.tar.gz', expected-sha256: {sha256}}}
  - uses: autoconf/configure
    with: {{opts: --enable-it}}
  - uses: autoconf/make
  - uses: autoconf/make-install
  - uses: strip
subpackages:
  - name: hello-dev
    pipeline: [{{uses: split/dev}}]
"
    ));
    insta::assert_snapshot!("script", plan.script);
    assert_eq!(plan.environment.packages, ["zlib-dev", "build-base"]);
    assert_eq!(
        plan.steps,
        ["fetch", "autoconf/configure", "autoconf/make", "autoconf/make-install", "strip", "split/dev"]
    );
}

#[test]
fn fetch_unpacks_by_content() {
    let sha256 = "a".repeat(64);
    let packers: [(&str, &[&str]); 5] = [
        ("tar -cz -f out hello-1.0", &["gzip"]),
        ("tar -cJ -f out hello-1.0", &["xz"]),
        ("tar -cj -f out hello-1.0", &["bzip2"]),
        ("tar -c --zstd -f out hello-1.0", &["zstd"]),
        ("python3 -m zipfile -c out hello-1.0", &["python3", "unzip"]),
    ];
    for (packer, tools) in packers {
        if !have(tools) {
            continue;
        }
        let build = Build::new();
        let origin = tempfile::tempdir().unwrap();
        fs::create_dir_all(origin.path().join("hello-1.0/src/deep")).unwrap();
        fs::write(origin.path().join("hello-1.0/src/deep/main.c"), "main").unwrap();
        fs::write(origin.path().join("hello-1.0/.hidden"), "x").unwrap();
        assert!(Command::new("sh").args(["-c", packer]).current_dir(origin.path()).status().unwrap().success());
        fs::copy(origin.path().join("out"), build.root.path().join(format!("sources/sha256:{sha256}"))).unwrap();
        let step = |more: &str| {
            plan(&format!(
                "pipeline: [{{uses: fetch, with: {{uri: 'https://example.org/hello-1.0.tgz', expected-sha256: {sha256}{more}}}}}]\n"
            ))
        };
        build.succeed(&step(", directory: one, delete: true"));
        assert_eq!(build.files("one"), set(&["src/deep/main.c", ".hidden"]), "{packer}");
        build.succeed(&step(", directory: two, strip-components: 2, delete: true"));
        assert_eq!(build.files("two"), set(&["deep/main.c"]), "{packer}");
        build.succeed(&step(", directory: three, strip-components: 0"));
        assert_eq!(build.files("three"), set(&["hello-1.0/src/deep/main.c", "hello-1.0/.hidden"]), "{packer}");
        assert!(build.workspace().join("hello-1.0.tgz").is_file());
        let other = Build::new();
        fs::copy(origin.path().join("out"), other.root.path().join(format!("sources/sha256:{sha256}"))).unwrap();
        other.succeed(&step(", extract: false"));
        assert_eq!(other.files("."), set(&["hello-1.0.tgz"]));
    }
}

#[test]
fn a_failed_step_is_named_and_stops_the_build() {
    let sha256 = "a".repeat(64);
    let build = Build::new();
    let errors = build.fail(&plan(&format!(
        "pipeline:\n  - runs: exit 0\n  - uses: fetch\n    with: {{uri: https://example.org/x.tgz, expected-sha256: {sha256}}}\n  - runs: touch reached\n"
    )));
    assert!(errors.contains("https://example.org/x.tgz was not fetched before the build"), "{errors}");
    assert!(errors.ends_with("::failed 2 fetch\n"), "{errors}");
    assert!(!build.workspace().join("reached").exists());
    let errors = build.fail(&plan("pipeline:\n  - name: count\n    runs: |\n      false\n      touch reached\n"));
    assert_eq!(errors, "::failed 1 count\n");
    let answer =
        build.succeed(&plan("pipeline:\n  - name: say\n    runs: |\n      cat <<EOF\n      it's\n      EOF\n"));
    assert_eq!(answer, "::step 1 say\nit's\n");
}

#[test]
fn patches_are_applied_in_order() {
    if !have(&["patch"]) {
        return;
    }
    let build = Build::new();
    build.write("file", "one\n");
    build.write("1.patch", "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-one\n+two\n");
    build.write("2.patch", "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-two\n+three\n");
    build.succeed(&plan("pipeline: [{uses: patch, with: {patches: \"1.patch\\n2.patch\\n\"}}]\n"));
    assert_eq!(fs::read_to_string(build.workspace().join("file")).unwrap(), "three\n");
    build.write("file", "one\n");
    build.write("series", "# comment\n1.patch\n\n2.patch -p1\n");
    build.succeed(&plan("pipeline: [{uses: patch, with: {series: series}}]\n"));
    assert_eq!(fs::read_to_string(build.workspace().join("file")).unwrap(), "three\n");
    assert!(build.fail(&plan("pipeline: [{uses: patch, with: {patches: 1.patch}}]\n")).contains("::failed 1 patch"));
    assert!(build.fail(&plan("pipeline: [{uses: patch}]\n")).contains("neither `patches` nor `series`"));
}

#[test]
fn split_pipelines_move_their_files_and_no_others() {
    let all = [
        "usr/bin/hello",
        "usr/bin/hello-config",
        "usr/include/hello/hello.h",
        "usr/lib/hello/include/inner.h",
        "usr/lib/libhello.a",
        "usr/lib/libhello.so.1",
        "usr/lib/pkgconfig/hello.pc",
        "usr/share/aclocal/hello.m4",
        "usr/share/doc/hello/README",
        "usr/share/info/dir",
        "usr/share/info/hello.info",
        "usr/share/locale/de/hello.mo",
        "usr/share/man/man1/hello.1",
    ];
    for (name, moved) in [
        (
            "dev",
            vec![
                "usr/bin/hello-config",
                "usr/include/hello/hello.h",
                "usr/lib/hello/include/inner.h",
                "usr/lib/libhello.a",
                "usr/lib/libhello.so",
                "usr/lib/pkgconfig/hello.pc",
                "usr/share/aclocal/hello.m4",
            ],
        ),
        ("manpages", vec!["usr/share/man/man1/hello.1"]),
        ("docs", vec!["usr/share/doc/hello/README"]),
        (
            "alldocs",
            vec![
                "usr/share/doc/hello/README",
                "usr/share/info/dir",
                "usr/share/info/hello.info",
                "usr/share/man/man1/hello.1",
            ],
        ),
        ("infodir", vec!["usr/share/info/hello.info"]),
        ("locales", vec!["usr/share/locale/de/hello.mo"]),
        ("static", vec!["usr/lib/libhello.a"]),
        ("lib", vec!["usr/lib/libhello.so.1"]),
        ("bin", vec!["usr/bin/hello", "usr/bin/hello-config"]),
    ] {
        let build = Build::new();
        for path in all {
            build.write(&format!("melange-out/hello/{path}"), "");
        }
        std::os::unix::fs::symlink("libhello.so.1", build.workspace().join("melange-out/hello/usr/lib/libhello.so"))
            .unwrap();
        let before = build.files("melange-out/hello");
        build.succeed(&plan(&format!("subpackages: [{{name: hello-sub, pipeline: [{{uses: split/{name}}}]}}]\n")));
        let moved = set(&moved);
        assert_eq!(build.files("melange-out/hello-sub"), moved, "split/{name}");
        let mut left: BTreeSet<String> = before.difference(&moved).cloned().collect();
        if name == "infodir" {
            left.remove("usr/share/info/dir");
        }
        assert_eq!(build.files("melange-out/hello"), left, "split/{name}");
        assert!(
            !build.workspace().join("melange-out/hello/usr/include").exists() || name != "dev",
            "an empty folder is left"
        );
        if name != "bin" {
            let itself = plan(&format!("pipeline: [{{uses: split/{name}}}]\n"));
            assert!(build.fail(&itself).contains("can not be split off from itself"));
        }
    }
}

#[test]
fn a_program_is_made_installed_stripped_and_its_symbols_kept() {
    if !have(&["cc", "make", "strip", "objcopy", "readelf"]) {
        return;
    }
    let text = "pipeline:
  - uses: autoconf/make
    with: {opts: 'NAME=hello all'}
  - uses: autoconf/make-install
    with: {opts: NAME=hello}
";
    let build = Build::new();
    build.write("hello.c", "int main(void) { return 0; }\n");
    build.write(
        "Makefile",
        "all: $(NAME)\n$(NAME): hello.c\n\tcc -g -o $@ $<\ninstall:\n\tinstall -D $(NAME) $(DESTDIR)/usr/bin/$(NAME)\n\tinstall -D hello.c $(DESTDIR)/usr/lib/libhello.la\n",
    );
    build.succeed(&plan(text));
    let program = build.workspace().join("melange-out/hello/usr/bin/hello");
    assert_eq!(build.files("melange-out/hello"), set(&["usr/bin/hello"]));
    let sections = |path: &Path| {
        let output = Command::new("readelf").args(["-SW"]).arg(path).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(sections(&program).contains(".debug_info"));
    let mode = fs::metadata(&program).unwrap().permissions();
    build.succeed(&plan("subpackages: [{name: hello-dbg, pipeline: [{uses: split/debug}]}]\n"));
    assert_eq!(build.files("melange-out/hello-dbg"), set(&["usr/lib/debug/usr/bin/hello.debug"]));
    assert!(
        sections(&build.workspace().join("melange-out/hello-dbg/usr/lib/debug/usr/bin/hello.debug"))
            .contains(".debug_info")
    );
    assert!(sections(&program).contains(".gnu_debuglink") && !sections(&program).contains(".debug_info"));
    build.succeed(&plan("pipeline: [{uses: strip, with: {opts: --strip-all}}]\n"));
    assert!(!sections(&program).contains(".symtab"));
    assert_eq!(fs::metadata(&program).unwrap().permissions(), mode);
    assert!(Command::new(&program).status().unwrap().success());
}

#[test]
fn steps_are_tried_again_until_they_succeed() {
    let build = Build::new();
    // The second step of the group fails twice; the first is done again each time.
    let group = |needed: u8| {
        plan(&format!(
            "pipeline:\n  - name: group\n    retry: {{attempts: 3, initial-delay: 10ms}}\n    pipeline:\n      - runs: echo first >> first\n      - name: second\n        runs: |\n          echo second >> second\n          test $(wc -l < second) -ge {needed}\n          false || true\n          cat <<end > said\n          it's done\n          end\n  - runs: echo after >> after\n"
        ))
    };
    let answer = build.succeed(&group(3));
    assert_eq!(answer.matches("::retry in 0.0").count(), 2, "{answer}");
    assert_eq!(group(3).steps, ["line 6", "second", "line 15"]);
    let lines = |name: &str| std::fs::read_to_string(build.workspace().join(name)).unwrap().lines().count();
    assert_eq!((lines("first"), lines("second"), lines("after"), lines("said")), (3, 3, 1, 1));
    let errors = build.fail(&group(9));
    assert!(errors.ends_with("::failed 1 to 2, the last attempt\n"), "{errors}");
    assert_eq!((lines("first"), lines("after")), (6, 1));
}
