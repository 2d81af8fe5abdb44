//! Pipelines of languages that few definitions use, and names that older ones have. What asks a server,
//! or a tool chain that is not here, is played by a script that writes down how it was called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use recipe::Expected;
use support::{Build, have, installed, plan, set};

/// Puts a program before all others on the path of steps that take [`path`].
fn play(build: &Build, name: &str, script: &str) {
    build.write(&format!("played/{name}"), &format!("#!/bin/sh\n{script}\n"));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(build.workspace().join("played").join(name), mode).unwrap();
}

fn path(build: &Build) -> String {
    format!("{}/played:/usr/local/bin:/usr/bin:/bin", build.workspace().display())
}

fn read(build: &Build, file: &str) -> String {
    fs::read_to_string(build.workspace().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn an_r_package_is_fetched_and_installed() {
    let build = Build::new();
    let sha256 = "a".repeat(64);
    play(&build, "R", "echo \"$@\" > called; test -f \"$4\"");
    let step = format!(
        "pipeline: [{{uses: cran/install, environment: {{PATH: '{}'}}, with: {{package: jsonlite, version: 1.8.9, expected-sha256: {sha256}}}}}]\n",
        path(&build)
    );
    let plan_of_it = plan(&step);
    let source = &plan_of_it.sources[0];
    assert!(source.uri.ends_with("/src/contrib/jsonlite_1.8.9.tar.gz"), "{}", source.uri);
    assert_eq!(source.expected, Expected::Sha256(sha256.clone()));
    assert_eq!(source.purl_name.as_deref(), Some("jsonlite"));
    assert_eq!(plan_of_it.environment.packages, ["R", "R-dev"]);
    fs::write(build.root.path().join("sources").join(&source.file), "an archive").unwrap();
    build.succeed(&plan_of_it);
    let library = build.workspace().join("melange-out/hello/usr/lib/R/library");
    assert_eq!(
        read(&build, "called"),
        format!("CMD INSTALL --library={} ./jsonlite_1.8.9.tar.gz\n", library.display())
    );
    assert!(library.is_dir());
    let bare = plan("pipeline: [{uses: cran/fetch, with: {package: jsonlite, version: 1.8.9}}]\n");
    assert_eq!(bare.sources[0].expected, Expected::None);
}

#[test]
fn php_extensions_are_configured_for_a_version() {
    for version in ["8.1", "8.2"] {
        let build = Build::new();
        play(&build, "phpize", "printf '#!/bin/sh\\necho \"$@\" > called\\n' > configure; chmod 755 configure");
        let step = format!("pipeline: [{{uses: pecl/phpize-{version}, environment: {{PATH: '{}'}}}}]\n", path(&build));
        let plan = plan(&step);
        assert_eq!(plan.environment.packages, ["autoconf".to_owned(), format!("php-{version}-dev")]);
        build.succeed(&plan);
        assert_eq!(read(&build, "called"), "--prefix=/usr --with-php-config=php-config\n");
    }
}

#[test]
fn a_perl_module_is_made_by_its_older_name() {
    if !have(&["perl", "make"]) {
        return;
    }
    let build = Build::new();
    build.write("Makefile.PL", "use ExtUtils::MakeMaker;\nWriteMakefile(NAME => 'Hello', VERSION => '1.0');\n");
    build.write("lib/Hello.pm", "package Hello;\n1;\n");
    build.succeed(&plan("pipeline: [{uses: perl/cpan-install}]\n"));
    assert!(read(&build, "Makefile").contains("Hello"));
}

#[test]
fn gems_that_a_gem_needs_are_installed() {
    let build = Build::new();
    play(&build, "ruby", "case $1 in -e) echo /gems ;; *) echo 'rack >=2,<4'; echo 'base64 >=0' ;; esac");
    play(&build, "gem", "echo \"$@\" >> called");
    let step = |with: &str| {
        plan(&format!(
            "pipeline: [{{uses: ruby/install_runtime_deps, environment: {{PATH: '{}'}}, with: {{{with}}}}}]\n",
            path(&build)
        ))
    };
    build.succeed(&step("gem: hello, opts: --local"));
    let out = build.workspace().join("melange-out/hello");
    let line = |name: &str| {
        format!(
            "install {name} --install-dir {0}/gems --bindir {0}/usr/bin --no-document --verbose --local\n",
            out.display()
        )
    };
    assert_eq!(read(&build, "called"), line("rack --version >=2,<4") + &line("base64 --version >=0"));
    assert!(build.fail(&step("")).contains("give gem or gem-file"));
}

#[test]
fn wheels_are_collected_where_they_were_left() {
    let build = Build::new();
    let collect = plan("pipeline: [{uses: py/collect-wheels}]\n");
    assert!(build.fail(&collect).contains("no wheel in"));
    build.write(".wheels/3.12/hello-1.0-py3-none-any.whl", "x");
    build.write(".wheels/3.13/hello-1.0-cp313-none-any.whl", "y");
    build.succeed(&collect);
    assert_eq!(
        build.files("melange-out/hello/usr/share/wheels"),
        set(&["hello-1.0-py3-none-any.whl", "hello-1.0-cp313-none-any.whl"])
    );
}

#[test]
fn wheels_are_built_and_installed_by_other_tools() {
    let build = Build::new();
    play(
        &build,
        "python",
        "case $2 in\n  build) mkdir -p dist; touch dist/hello-1.0.whl ;;\n  installer) mkdir -p \"$4/lib\"; touch \"$4/lib/hello.py\" \"$4/lib/hello.pyc\"; echo \"$5\" > called ;;\nesac",
    );
    let python = build.workspace().join("played/python");
    build
        .succeed(&plan(&format!("pipeline: [{{uses: py/build-installer, with: {{python: {}}}}}]\n", python.display())));
    assert_eq!(build.files("melange-out/hello"), set(&["lib/hello.py"]));
    assert_eq!(read(&build, "called"), "dist/hello-1.0.whl\n");
    play(&build, "setup-python", "echo \"$@\" >> setup-called");
    let python = build.workspace().join("played/setup-python");
    build
        .succeed(&plan(&format!("pipeline: [{{uses: py/install-compile, with: {{python: {}}}}}]\n", python.display())));
    let called = read(&build, "setup-called");
    assert!(called.starts_with("setup.py install --no-compile --root="), "{called}");
    assert!(called.contains("\n-m compileall -q --invalidation-mode=unchecked-hash"), "{called}");
    let absent = build.fail(&plan("pipeline: [{uses: py/pip-check, with: {python: python3}}]\n"));
    assert!(absent.contains("pip-zipapp.pyz is not there"), "{absent}");
    play(&build, "ruff", "echo \"$@\" > ruff-called");
    build.succeed(&plan(&format!(
        "pipeline: [{{uses: py/numpy-migration-check, environment: {{PATH: '{}'}}}}]\n",
        path(&build)
    )));
    assert_eq!(read(&build, "ruff-called"), "check . --select NPY201\n");
}

#[test]
fn uv_is_asked_for_the_definitions_version() {
    let build = Build::new();
    play(
        &build,
        "uv",
        "echo \"$UV_PYTHON $VIRTUAL_ENV $@\" >> called\nif [ \"$1\" = venv ]; then\n  for last; do :; done\n  mkdir -p \"$last/bin\"; touch \"$last/bin/hello\" \"$last/bin/activate\" \"$last/bin/python\"\nfi",
    );
    let step = |uses: &str, with: &str| {
        plan(&format!(
            "pipeline: [{{uses: {uses}, environment: {{PATH: '{}', UV_PYTHON: ''}}, with: {{{with}}}}}]\n",
            path(&build)
        ))
    };
    build.succeed(&step("py/install", "package: httpie, py-version: '3.13'"));
    let out = build.workspace().join("melange-out/hello");
    assert_eq!(
        read(&build, "called"),
        format!("3.13  pip install --no-deps --prefix {}/usr httpie==1.0\n", out.display())
    );

    build.write("requirements.locked", "hello==1.0\nidna==3.10\n");
    fs::remove_file(build.workspace().join("called")).unwrap();
    let venv = build.workspace().join("opt/hello");
    build.succeed(&step("py/bundle", &format!("venv: {}", venv.display())));
    let called = read(&build, "called");
    assert!(
        called.contains(&format!("/usr/bin/python3  venv --system-site-packages {}\n", venv.display())),
        "{called}"
    );
    assert!(called.ends_with(&format!("{} pip install -r requirements.locked\n", venv.display())), "{called}");
    assert!(out.join(venv.strip_prefix("/").unwrap()).join("bin/hello").is_file() && !venv.exists());
    build.succeed(&step("py/bundle", ""));
    assert!(
        read(&build, "called")
            .ends_with(&format!("pip install --system --prefix {}/usr -r requirements.locked\n", out.display()))
    );
    let other = build.fail(&step("py/bundle", "package: other"));
    assert!(other.contains("requirements.locked has no `other==1.0`"), "{other}");

    // It lists, and is no build.
    let listed = build.fail(&step("py/compile-requirements", "package: httpie, extra-groups: 'a b'"));
    assert!(listed.contains("the list is above"), "{listed}");
    assert!(build.fail(&step("py/compile-requirements", "")).contains("so `package` must be given"));

    let venv = step("py/venv", "package: httpie, py-version: '3.13', dependencies: idna==3.10");
    assert_eq!(venv.environment.packages, ["python-3.13-base", "uv"]);
    // Its place is a fixed one, outside of the workspace.
    let script = venv.script.replace("/usr/share/chainguard", &format!("{}/venvs", build.root.path().display()));
    let output = build.run_script(&script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let link = fs::read_link(out.join("usr/bin/hello")).unwrap();
    assert!(link.ends_with("venvs/httpie/bin/hello"), "{}", link.display());
    assert!(!out.join("usr/bin/python").exists());
    assert!(
        read(&build, "melange-out/hello/usr/lib/python3.13/site-packages/httpie.pth")
            .ends_with("venvs/httpie/lib/python3.13/site-packages\n")
    );
}

const WHEEL: &str = "
import sys, zipfile
name, version = sys.argv[1:]
with zipfile.ZipFile(f'{name}-{version}-py3-none-any.whl', 'w') as wheel:
    about = f'{name}-{version}.dist-info/'
    wheel.writestr(f'{name}.py', f'version = {version!r}\\n')
    wheel.writestr(about + 'METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n')
    wheel.writestr(about + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(about + 'RECORD', '')
";

#[test]
fn vendored_python_packages_and_constraints_change_their_versions() {
    if !have(&["python3"]) {
        return;
    }
    let build = Build::new();
    build.write("constraints.txt", "Idna==3.7  # pinned\nruff ==0.1\nbroken");
    let bump = |packages: &str, more: &str| {
        plan(&format!(
            "pipeline:\n  - uses: py/tw/bump-constraints\n    with:\n      packages: |\n        {packages}\n{more}"
        ))
    };
    build.succeed(&bump("idna==3.10 # fixed", ""));
    assert_eq!(read(&build, "constraints.txt"), "Idna==3.10  # pinned\nruff ==0.1\nbroken");
    assert!(build.fail(&bump("idna==3.10", "")).contains("has these versions already"));
    assert!(build.fail(&bump("certifi==1", "")).contains("does not list certifi"));
    build.succeed(&bump("certifi==1", "      only-replace: false\n"));
    assert_eq!(read(&build, "constraints.txt"), "Idna==3.10  # pinned\nruff ==0.1\nbroken\ncertifi==1\n");

    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output().unwrap();
    if !pip.status.success() {
        println!("not run: python3 has no pip");
        return;
    }
    build.write("vendor/vendor.txt", "CacheControl==0.14\n  greet_er ==1.0  # ours\n");
    fs::create_dir(build.workspace().join("wheels")).unwrap();
    let wheels = build.workspace().join("wheels");
    let made = Command::new("python3").args(["-c", WHEEL, "greet_er", "2.0"]).current_dir(&wheels).status();
    assert!(made.unwrap().success());
    let environment = format!("{{PIP_NO_INDEX: '1', PIP_FIND_LINKS: '{}', PIP_NO_CACHE_DIR: '1'}}", wheels.display());
    let step = |uses: &str, package: &str| {
        plan(&format!(
            "pipeline: [{{uses: {uses}, environment: {environment}, with: {{vendor-path: {}/vendor, package: {package}, version: ==2.0}}}}]\n",
            build.workspace().display()
        ))
    };
    build.succeed(&step("py/pip-vendor-bump", "Greet-er"));
    assert_eq!(read(&build, "vendor/vendor.txt"), "CacheControl==0.14\n  greet_er ==2.0  # ours\n");
    assert_eq!(read(&build, "vendor/greet_er.py"), "version = '2.0'\n");
    build.write("vendor/vendor.txt", "CacheControl==0.14\n");
    let errors = build.fail(&step("py/bump-vendored", "greet_er"));
    assert!(errors.contains("does not list greet_er"), "{errors}");
}

#[test]
fn another_vendors_files_become_a_package() {
    let build = Build::new();
    let commit = "c".repeat(40);
    let plan_of_it = plan(&format!(
        "pipeline: [{{uses: bitnami/compat, with: {{image: etcd, version-path: 3.5/debian-12, commit: {commit}}}}}]\n"
    ));
    let tree = tempfile::tempdir().unwrap();
    for file in ["prebuildfs/usr/sbin/install_packages", "rootfs/opt/bitnami/scripts/etcd/entrypoint.sh"] {
        let path = tree.path().join("bitnami/etcd/3.5/debian-12").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let archive = build.root.path().join("sources").join(&plan_of_it.sources[0].file);
    let mut pack = Command::new("tar");
    pack.args(["-c", "--force-local", "-f"]).arg(&archive).arg("-C").arg(tree.path()).arg(".");
    assert!(pack.status().unwrap().success());
    build.succeed(&plan_of_it);
    assert_eq!(
        build.files("melange-out/hello"),
        set(&["opt/bitnami/scripts/etcd/entrypoint.sh", "usr/bin/install_packages"])
    );
    let greeting =
        plan("pipeline: [{uses: bitnami/validate-welcome-message, with: {app-name: etcd, startup-delay: 1}}]\n");
    let scripts = build.root.path().join("scripts");
    fs::create_dir_all(scripts.join("etcd")).unwrap();
    let script = greeting.script.replace("/opt/bitnami/scripts", &scripts.display().to_string());
    for (says, holds) in [
        ("Welcome to the Chainguard image for: etcd, providing compatibility with the Bitnami Helm Chart.", true),
        ("Welcome to the Bitnami etcd container", false),
    ] {
        let file = scripts.join("etcd/entrypoint.sh");
        fs::write(&file, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(build.run_script(&script).status.success(), holds, "{says}");
    }
}

#[test]
fn every_program_of_a_package_answers_one_of_its_calls() {
    let build = installed("", &["bin/good", "bin/mute", "share/data"]);
    play(&build, "hardening-check", "echo \"$@\" >> called; case $* in *plain) exit 1 ;; esac");
    build.write("bin/good", "#!/bin/sh\n[ \"$1\" = -V ]\n");
    build.write("bin/mute", "#!/bin/sh\nexit 0\n");
    for program in ["good", "mute"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(build.workspace().join("bin").join(program), mode).unwrap();
    }
    let bin = build.workspace().join("bin").display().to_string();
    let step = plan(&format!(
        "pipeline: [{{uses: test/execs, environment: {{PATH: '{bin}:/usr/bin:/bin'}}, with: {{package: hello}}}}]\n"
    ));
    build.succeed(&step);
    build.write("bin/mute", "#!/bin/sh\nexit 3\n");
    let errors = build.fail(&step);
    assert!(errors.contains(&format!("{bin}/mute answers none of")) && !errors.contains("good answers"), "{errors}");
    if have(&["cc"]) {
        let step = format!(
            "pipeline: [{{uses: test/compiler-hardening-check, environment: {{PATH: '{}'}}, with: {{cc: cc}}}}]\n",
            path(&build)
        );
        build.succeed(&plan(&step));
    }
    if have(&["python3"]) {
        build.succeed(&plan("pipeline: [{uses: test/python/import, with: {python: python3, import: json}}]\n"));
        build.fail(&plan("pipeline: [{uses: test/python/import, with: {python: python3, import: no_such}}]\n"));
    }
    if have(&["php"]) {
        build.succeed(&plan("pipeline: [{uses: test/php-tidy}]\n"));
    }
}

#[test]
fn cypress_suits_the_version_of_node() {
    let build = Build::new();
    play(&build, "yarn", "echo \"$CYPRESS_INSTALL_BINARY$@\" >> called");
    for (major, package) in [(22, "cypress"), (18, "cypress@14"), (16, "cypress@13")] {
        play(&build, "node", &format!("echo {major}"));
        let step = format!(
            "pipeline: [{{uses: test/install-cypress, environment: {{PATH: '{}', CYPRESS_INSTALL_BINARY: '0'}}}}]\n",
            path(&build)
        );
        build.succeed(&plan(&step));
        assert_eq!(read(&build, "called"), format!("add --dev {package}\ncypress install\ncypress verify\n"));
        fs::remove_file(build.workspace().join("called")).unwrap();
    }
}

#[test]
fn cryptography_that_came_along_is_found() {
    if !have(&["cc", "ldd", "nm", "readelf", "strings"]) {
        return;
    }
    let build = Build::new();
    let step = |with: &str| {
        plan(&format!(
            "pipeline: [{{uses: test/py-bundled-crypto-check, with: {{venv: {0}/venv, tally: {0}/tally{with}}}}}]\n",
            build.workspace().display()
        ))
    };
    assert!(build.fail(&step("")).contains("is no folder"));
    let compile = |source: &str, out: &str| {
        build.write("source.c", source);
        fs::create_dir_all(build.workspace().join("venv").join(out).parent().unwrap()).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(format!("venv/{out}")).arg("source.c");
        assert!(compiler.current_dir(build.workspace()).status().unwrap().success());
    };
    compile("int answer(void) { return 0; }", "plain.so");
    let answer = build.succeed(&step(""));
    assert!(answer.contains("PASS[py-bundled-crypto-check]: 1 libraries"), "{answer}");
    compile("int EVP_Digest(void) { return 0; }", "wheel/static.so");
    build.succeed(&step(""));
    let errors = build.fail(&step(", strict: true"));
    assert!(errors.contains("OpenSSL compiled in") && errors.contains("EVP_Digest"), "{errors}");
    build.succeed(&step(", strict: true, allow: wheel"));
    compile("int x(void) { return 0; }", "mysql/libcrypto.so.3");
    let errors = build.fail(&step(""));
    assert!(errors.contains("a copy of OpenSSL came along") && errors.contains("mysql/libcrypto.so.3"), "{errors}");
    let answer = build.succeed(&step(", allow: mysql"));
    assert!(answer.contains("let pass as mysql"), "{answer}");
    assert_eq!(fs::read_to_string(build.workspace().join("tally")).unwrap().replace('\n', ""), "fpwpfwpfwwwp");
}

const JAR: &str = "
import sys, zipfile
path, manifest, *holds = sys.argv[1:]
with zipfile.ZipFile(path, 'w') as jar:
    jar.writestr('META-INF/MANIFEST.MF', manifest)
    for one in holds:
        group, artifact, version = one.split(':')
        jar.writestr(f'META-INF/maven/{group}/{artifact}/pom.properties', f'version={version}\\n')
";

#[test]
fn archives_are_replaced_by_the_version_that_is_asked_for() {
    if !have(&["python3", "unzip"]) {
        return;
    }
    let build = Build::new();
    let jar = |path: &str, manifest: &str, holds: &[&str]| {
        let path = build.workspace().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(
            Command::new("python3").args(["-c", JAR]).arg(path).arg(manifest).args(holds).status().unwrap().success()
        );
    };
    // Maven's answer to which of two versions is newer, on its third line.
    play(
        &build,
        "java",
        "for last; do before=$now; now=$last; done\nif [ \"$before\" = \"$now\" ]; then sign===; elif [ \"$(printf '%s\\n' \"$before\" \"$now\" | sort -V | head -n 1)\" = \"$before\" ]; then sign='<'; else sign='>'; fi\nprintf 'a\\nb -> c\\n%s %s %s\\n' \"$before\" \"$sign\" \"$now\"",
    );
    let workspace = build.workspace().display().to_string();
    play(
        &build,
        "mvn",
        &format!(
            "for last; do case $last in -Dartifact=*) artifact=${{last#*=*:}} ;; -DoutputDirectory=*) out=${{last#*=}} ;; esac; done\ncp {workspace}/fetched.jar \"$out/${{artifact%%:*}}-${{artifact#*:}}.jar\""
        ),
    );
    build.write("maven/maven-artifact-3.jar", "");
    let run = |with: &str| {
        let plan = plan(&format!(
            "pipeline: [{{uses: java/replace-jar, environment: {{PATH: '{}'}}, with: {{group-id: org.a, artifact-id: core, search-dir: {workspace}/app, {with}}}}}]\n",
            path(&build)
        ));
        let script = plan.script.replace("/usr/share/java/maven/lib", &format!("{workspace}/maven"));
        let output = build.run_script(&script.replace("/tmp/java-replace-jar", &format!("{workspace}/tmp")));
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), told)
    };
    jar("fetched.jar", "", &["org.a:core:2.0"]);
    let fill = || {
        let _ = fs::remove_dir_all(build.workspace().join("app"));
        jar("app/lib/core-1.0.jar", "", &["org.a:core:1.0"]);
        jar("app/lib/core-1.0-sources.jar", "", &["org.a:core:1.0"]);
        jar("app/lib/core-nio-1.0.jar", "", &["org.b:core-nio:1.0"]);
    };
    fill();
    let (done, told) = run("match: 'core-*.jar', version: '2.0'");
    assert!(done, "{told}");
    assert_eq!(build.files("app"), set(&["lib/core-2.0.jar", "lib/core-1.0-sources.jar", "lib/core-nio-1.0.jar"]));
    assert_eq!(
        fs::read(build.workspace().join("app/lib/core-2.0.jar")).unwrap(),
        fs::read(build.workspace().join("fetched.jar")).unwrap()
    );

    // A name that something refers to stays.
    for refers in ["script", "archive"] {
        fill();
        match refers {
            "script" => build.write("app/bin/run", "java -cp lib/core-1.0.jar Main\n"),
            _ => jar("app/main.jar", "Manifest-Version: 1.0\nClass-Path: lib/other.jar lib/co\n re-1.0.jar\n", &[]),
        }
        let (done, told) = run("match: 'lib/core-*.jar', version: '2.0'");
        assert!(done && build.files("app").contains("lib/core-1.0.jar"), "{refers}: {told}");
        assert!(told.contains("is now core-1.0.jar (2.0)"), "{told}");
    }
    for (with, problem) in [
        ("match: 'core-*.jar', version: '0.9'", "1.0 is there, which is newer than 0.9"),
        ("match: 'none-*.jar', version: '2.0'", "is core"),
        ("match: 'c*.jar', destination: 'x', version: '2.0'", "not both"),
        ("destination: 'core-nio-1.0.jar', version: '2.0'", "is org.b core-nio"),
    ] {
        fill();
        let (done, told) = run(with);
        assert!(!done && told.contains(problem), "{with}: {told}");
        assert!(build.files("app").contains("lib/core-1.0.jar"));
    }
    fill();
    assert!(run("match: 'core-*.jar', version: '0.9', on-downgrade: skip").0);
    assert!(build.files("app").contains("lib/core-1.0.jar"));
    assert!(run("match: 'core-*.jar', version: '0.9', on-downgrade: force").0);
    assert!(build.files("app").contains("lib/core-0.9.jar"));
    fill();
    jar("app/lib/core-extra-1.0.jar", "", &["org.a:core-extra:1.0"]);
    let (done, told) = run("match: 'core-*.jar', version: '2.0'");
    assert!(!done && told.contains("core-extra-1.0.jar is core-extra"), "{told}");
}
