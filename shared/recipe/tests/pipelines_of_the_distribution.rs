//! The pipelines that the distribution keeps beside melange's own, run on small inputs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::fs;

use support::{Build, have, installed, plan, set};

#[test]
fn files_are_copied_and_moved_into_the_package() {
    let build = Build::new();
    build.write("melange-out/hello/usr/share/a/x", "x");
    build.write("tree/b", "b");
    build.succeed(&plan(
        "subpackages:
  - name: sub
    pipeline:
      - uses: move
        with: {src: '${{targets.destdir}}/usr/share/a'}
      - uses: copy
        with: {src: tree, dest: '${{targets.contextdir}}/opt/tree'}
      - uses: copy
        with: {src: b, modroot: tree}
",
    ));
    assert_eq!(build.files("melange-out/sub"), set(&["b", "opt/tree/b", "usr/share/a/x"]));
    assert_eq!(build.files("melange-out/hello"), set(&[]));
}

#[test]
fn a_daemon_is_started_watched_and_ended() {
    let build = Build::new();
    build.write("daemon", "#!/bin/sh\necho starting\necho ready on $1\nexec sleep 300\n");
    let daemon = build.workspace().join("daemon");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&daemon, mode).unwrap();
    let start = |expected: &str, timeout: u8, more: &str| {
        plan(&format!(
            "pipeline:\n  - uses: test/daemon-check-output\n    with:\n      start: {} 80\n      timeout: {timeout}\n      expected_output: |\n        starting\n        {expected}\n      setup: echo set > setup-ran\n      post: |\n        test -f setup-ran\n        echo 'it''s up' > post-ran\n{more}",
            daemon.display()
        ))
    };
    let answer = build.succeed(&start("ready on [0-9]*", 20, ""));
    assert!(answer.contains("ready on 80"), "{answer}");
    assert_eq!(fs::read_to_string(build.workspace().join("post-ran")).unwrap(), "its up\n");
    assert!(build.fail(&start("never", 1, "")).contains("not in the output after 1 seconds:\nnever"));
    let errors = build.fail(&start("ready", 20, "      error_strings: starting\n"));
    assert!(errors.contains("in the output, and must not be:\nstarting"), "{errors}");
}

#[test]
fn a_script_runs_with_the_only_python() {
    if !have(&["python3"]) {
        return;
    }
    let build = Build::new();
    build.succeed(&plan(
        "pipeline:\n  - uses: py/one-python\n    with:\n      content: |\n        python -c 'print(7)' > seven\n        python3 -c 'import sys; sys.exit(0)'\n",
    ));
    assert_eq!(fs::read_to_string(build.workspace().join("seven")).unwrap(), "7\n");
    build.succeed(&plan(
        "pipeline:\n  - uses: py/one-python\n    with:\n      content: |\n        #!/usr/bin/env python\n        open('eight', 'w').write('8')\n",
    ));
    assert_eq!(fs::read_to_string(build.workspace().join("eight")).unwrap(), "8");
    assert!(
        !build.run(&plan("pipeline: [{uses: py/one-python, with: {content: \"false\\ntrue\"}}]\n")).status.success()
    );
}

#[test]
fn gems_are_unlocked_and_libraries_are_listed() {
    let build = Build::new();
    build.write("x.gemspec", "s.add_dependency 'y', '~> 1.0'\n");
    build.write("deep/Gemfile.lock", "y (~> 1.0)\n");
    build.write("other.rb", "'~> 1.0'\n");
    build.succeed(&plan(
        "pipeline:\n  - uses: ruby/unlock-spec\n  - uses: glibc/ld-so-conf\n    with:\n      libdirs: |\n        /opt/a/lib\n        /opt/b/lib\n",
    ));
    let read = |path: &str| fs::read_to_string(build.workspace().join(path)).unwrap();
    assert_eq!(
        (read("x.gemspec").as_str(), read("deep/Gemfile.lock").as_str()),
        ("s.add_dependency 'y', '>= 1.0'\n", "y (>= 1.0)\n")
    );
    assert_eq!(read("other.rb"), "'~> 1.0'\n");
    assert_eq!(read("melange-out/hello/etc/ld.so.conf.d/hello.conf"), "/opt/a/lib\n/opt/b/lib\n");
    let relative = plan("pipeline: [{uses: glibc/ld-so-conf, with: {libdirs: lib}}]\n");
    assert!(build.fail(&relative).contains("lib is not an absolute path"));
}

#[test]
fn a_compiler_is_tried() {
    if !have(&["cc", "c++"]) {
        return;
    }
    let build = Build::new();
    build.succeed(&plan("pipeline: [{uses: test/compiler/smoke, with: {cc: cc, cxx: c++, copts: -O1}}]\n"));
    assert!(build.fail(&plan("pipeline: [{uses: test/compiler/smoke}]\n")).contains("name a compiler"));
    assert!(!build.run(&plan("pipeline: [{uses: test/compiler/smoke, with: {cc: 'false'}}]\n")).status.success());
}

#[test]
fn headers_of_a_package_are_compiled() {
    if !have(&["cc"]) {
        return;
    }
    let build = installed("", &["good.h", "cxx.hpp", "notes"]);
    build.write("good.h", "int answer(void);\n");
    build.write("cxx.hpp", "namespace a { class b {}; }\n");
    let folder = build.workspace();
    let check = |file: &str| {
        plan(&format!(
            "pipeline: [{{uses: test/tw/header-check, with: {{files: '{}/{file} {}/good.h'}}}}]\n",
            folder.display(),
            folder.display()
        ))
    };
    build.succeed(&check("cxx.hpp"));
    build.write("bad.h", "int answer(\n");
    let errors = build.fail(&check("bad.h"));
    assert!(errors.contains("bad.h: does not compile") && !errors.contains("good.h: "), "{errors}");
}

#[test]
fn scripts_are_asked_for_their_commands() {
    let build = installed("", &["script"]);
    let folder = build.workspace();
    let check = |strict: bool| {
        plan(&format!(
            "pipeline: [{{uses: test/tw/shell-deps-check, with: {{files: '{}/script', path: '/usr/bin:/bin', strict: {strict}}}}}]\n",
            folder.display()
        ))
    };
    build.write(
        "script",
        "#!/bin/sh\nhelper() { :; }\nif true; then\n  sed -n 1p x\n  helper\nfi\ncase $1 in\n  a) ls ;;\nesac\n",
    );
    build.succeed(&check(true));
    build.write("script", "#!/bin/sh\nno-such-command --x\n");
    assert!(build.fail(&check(true)).contains("command no-such-command is not in /usr/bin:/bin"));
    build.succeed(&check(false));
    build.succeed(&plan("pipeline: [{uses: test/tw/shell-deps-check-packages, with: {package: other}}]\n"));
}

#[test]
fn sources_archives_and_coverage_are_checked() {
    if !have(&["file", "unzip", "python3", "jq"]) {
        return;
    }
    let build = Build::new();
    let folder = build.workspace();
    build.write("src/main.c", "int main(void) { return 0; }\n");
    let source = |name: &str| {
        plan(&format!(
            "pipeline: [{{uses: test/tw/srcpackage, with: {{dir: '{}/src', name: '{name}'}}}}]\n",
            folder.display()
        ))
    };
    build.succeed(&source("*.c"));
    assert!(build.fail(&source("*.rs")).contains("no file with content"));
    let make = "import zipfile; zipfile.ZipFile('good.jar', 'w').writestr('a', 'b')";
    assert!(std::process::Command::new("python3").args(["-c", make]).current_dir(&folder).status().unwrap().success());
    let below = folder.strip_prefix("/").unwrap().display().to_string();
    let archives = plan(&format!("pipeline: [{{uses: test/jar-check, with: {{path: '{below}'}}}}]\n"));
    build.succeed(&archives);
    build.write("bad.jar", "not a zip");
    build.fail(&archives);
    build.write("xcover-report.json", "{\"cov_by_func\": 41.5}");
    build.succeed(&plan("pipeline: [{uses: xcover/ensure}, {uses: xcover/ensure, with: {min-coverage: 40}}]\n"));
    let gate = plan("pipeline: [{uses: xcover/ensure, with: {min-coverage: 50}}]\n");
    assert!(build.fail(&gate).contains("41.5 % is not more than 50 %"));
}

#[test]
fn tools_without_a_token_stay_as_they_are() {
    let build = Build::new();
    for name in ["auth/uv", "auth/uv/v2", "auth/pip", "auth/npm", "auth/maven", "auth/gradle", "auth/libraries"] {
        let answer = build.succeed(&plan(&format!("pipeline: [{{uses: {name}}}]\n")));
        assert!(answer.contains("no token file in the workspace"), "{name}: {answer}");
    }
    for name in ["auth/github", "auth/guarded-repo", "ecosystems/auth"] {
        let text = format!("pipeline: [{{uses: {name}, with: {{repo: org/x}}, environment: {{GITHUB_TOKEN: ''}}}}]\n");
        assert!(build.succeed(&plan(&text)).contains("no token for org/x"));
    }
}

#[test]
fn a_gnu_project_is_bootstrapped_with_the_gnulib_that_came_along() {
    let build = Build::new();
    build.write("gnulib/gnulib-tool", "");
    build.write("bootstrap", "#!/bin/sh\necho \"$GNULIB_SRCDIR $*\" > answer\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(build.workspace().join("bootstrap"), mode).unwrap();
    build.succeed(&plan("pipeline: [{uses: git/gnulib-bootstrap, with: {bootstrap-args: --skip-po --copy}}]\n"));
    let read = |path: &str| fs::read_to_string(build.workspace().join(path)).unwrap();
    assert_eq!(read(".tarball-version"), "1.0\n");
    assert_eq!(read("answer"), format!("{}/gnulib --skip-po --copy\n", build.workspace().display()));
}

#[test]
fn redis_or_valkey_is_built_and_tried() {
    let build = Build::new();
    build.write(
        "src/Makefile",
        "all:\n\tprintf '%s %s' \"$(BUILD_TLS)\" \"$$CFLAGS\" > flags\ninstall:\n\tmkdir -p $(INSTALL_BIN)\n\ttouch $(INSTALL_BIN)/valkey-server $(INSTALL_BIN)/valkey-cli $(INSTALL_BIN)/valkey-benchmark\n",
    );
    build.succeed(&plan(
        "pipeline: [{uses: redis-valkey/make, with: {dir: src, opts: -DOWN}}]\nsubpackages:\n  - {name: cli, pipeline: [{uses: redis-valkey/subpackage-cli, with: {project: valkey}}]}\n  - {name: bench, pipeline: [{uses: redis-valkey/subpackage-benchmark, with: {project: valkey}}]}\n",
    ));
    let flags = fs::read_to_string(build.workspace().join("src/flags")).unwrap();
    assert!(flags.starts_with("yes ") && flags.ends_with("-DUSE_MALLOC_USABLE_SIZE -DOWN"), "{flags}");
    assert_eq!(build.files("melange-out/hello"), set(&["usr/bin/valkey-server"]));
    assert_eq!(build.files("melange-out/cli"), set(&["usr/bin/valkey-cli"]));
    assert_eq!(build.files("melange-out/bench"), set(&["usr/bin/valkey-benchmark"]));
    let tried = plan("pipeline: [{uses: redis-valkey/tests, with: {project: no-such}}]\n");
    assert!(build.fail(&tried).contains("no-such-server does not answer"));
}

#[test]
fn compiler_options_are_left_out_by_name() {
    let build = Build::new();
    build.write("openssf.spec", "*cc1: -O2 -D_FORTIFY_SOURCE=3 -fstack.protector\n*link: -Wl,-z,relro,-z,now -pie\n");
    build.write("gcc-x", "#!/bin/sh\necho \"install: $(dirname \"$0\")\"\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(build.workspace().join("gcc-x"), mode).unwrap();
    let filter = |flags: &str| {
        plan(&format!(
            "pipeline: [{{uses: compiler/filter-openssf-flags, with: {{compiler: {}/gcc-x, spec-file-out: own.spec, remove-flags: '{flags}'}}}}]\n",
            build.workspace().display()
        ))
    };
    build.succeed(&filter("-fstack.protector -Wl,-z,now"));
    let own = fs::read_to_string(build.workspace().join("own.spec")).unwrap();
    assert_eq!(own, "*cc1: -O2 -D_FORTIFY_SOURCE=3 \n*link: -Wl,-z,relro -pie\n");
    assert!(build.fail(&filter("-O2")).contains("`own.spec` is no name of a new file"));
    fs::remove_file(build.workspace().join("own.spec")).unwrap();
    assert!(build.fail(&filter("-fstackXprotector")).contains("`-fstackXprotector` is not among the options"));
}
