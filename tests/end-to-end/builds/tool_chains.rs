//! Real releases, each by its own tool chain, built once into a home in the target folder that
//! later runs bring up to date. Where a release can't be fetched, or the host lacks a tool, a test
//! prints `not run:` and why.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tests::git::GitServer;

use crate::MILL;
use crate::package::Package;

const LIBYAML: &str = "fa240dbf262be053f3898006d502d514936c818e422afdcf33921c63bed9bf2e";

struct Built {
    home: PathBuf,
    report: Value,
}

impl Built {
    /// The home with everything built, or why not.
    fn get() -> &'static Result<Self, String> {
        static BUILT: OnceLock<Result<Built, String>> = OnceLock::new();
        BUILT.get_or_init(Self::prepare)
    }

    fn prepare() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (home, catalog) = (folder.join("builds-home"), folder.join("builds-catalog"));
        if catalog.exists() {
            std::fs::remove_dir_all(&catalog).unwrap();
        }
        std::fs::create_dir_all(catalog.join("images")).unwrap();
        tests::factory::copy(&root.join("catalog/bootstrap"), &catalog);
        tests::factory::copy(&root.join("tests/fixtures/builds/packages"), &catalog);
        for name in ["musl.yaml", "musl"] {
            tests::factory::copy(&root.join("catalog/packages").join(name), &catalog.join("packages"));
        }
        let definition = catalog.join("packages/libyaml.yaml");
        let text = std::fs::read_to_string(&definition).unwrap();
        std::fs::remove_file(&definition).unwrap();
        run(&home, &catalog, &["package", "build", "libyaml-archive"]);
        let archive = home.join("cache/sources").join(LIBYAML);
        if !archive.exists() {
            return Err("the archive of libyaml can't be fetched".to_owned());
        }
        let server = GitServer::start();
        let commit = repository(&server, &archive);
        std::fs::write(&definition, text.replace("REPOSITORY", &server.url("libyaml")).replace("COMMIT", &commit))
            .unwrap();
        let report = run(&home, &catalog, &["cycle"]);
        Ok(Self { home, report })
    }

    /// Why a definition's build failed; none where it is built.
    fn failure(&self, definition: &str) -> Option<&str> {
        let failed = self.report["failed"].as_array().unwrap().iter();
        let mut texts =
            failed.filter(|entry| entry["subject"].as_str().unwrap().starts_with(&format!("{definition} ")));
        texts.next().map(|entry| entry["text"].as_str().unwrap())
    }
}

/// A git repository of the real archive, with its version as tag.
fn repository(server: &GitServer, archive: &Path) -> String {
    let repository = server.repository("libyaml");
    let mut command = Command::new("tar");
    command.args(["-x", "--strip-components=1", "-C"]).arg(repository.folder()).arg("-f").arg(archive);
    assert!(command.status().unwrap().success());
    let commit = repository.commit("release", &[]);
    repository.git(&["tag", "0.2.5"]);
    commit
}

fn run(home: &Path, catalog: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(MILL);
    command.args(["--format", "json", "--home"]).arg(home).arg("--catalog").arg(catalog).args(arguments);
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("mill {arguments:?}: {error}:\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// A package of a definition, or none when it could not be built for want of its source or a tool.
fn package(definition: &str, name: &str) -> Option<Package> {
    let built = match Built::get() {
        Ok(built) => built,
        Err(reason) => {
            println!("not run: {reason}");
            return None;
        }
    };
    match built.failure(definition) {
        None => Some(Package::read(&built.home, name)),
        Some(reason) if reason.contains("fetch the source") || reason.contains("the builder root lacks") => {
            println!("not run: {definition}: {reason}");
            None
        }
        Some(reason) => panic!("{definition}: {reason}"),
    }
}

/// Runs a program that a package has, which must need nothing but itself.
fn run_program(package: &Package, path: &str, arguments: &[&str]) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, &package.files[path]).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(&program).args(arguments).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn autoconf_from_a_release() {
    let Some(package) = package("jansson", "jansson-2.14-r0") else { return };
    package.expect_files(&["usr/lib/libjansson.so.4"]);
    package.expect_library("libjansson.so.4");
}

#[test]
fn autoconf_from_a_patched_git_tree() {
    let Some(main) = package("libyaml", &newest("libyaml")) else { return };
    main.expect_library("libyaml-0.so.2");
    let development = Package::read(&Built::get().as_ref().unwrap().home, &newest("libyaml-dev"));
    development.expect_files(&["usr/include/yaml.h", "usr/lib/libyaml.so", "usr/lib/pkgconfig/yaml-0.1.pc"]);
    assert!(development.values("provides").iter().any(|value| value.starts_with("pc:yaml-0.1=0.2.5-r")));
    let archive = Package::read(&Built::get().as_ref().unwrap().home, &newest("libyaml-static"));
    archive.expect_files(&["usr/lib/libyaml.a"]);
}

/// The newest revision of libyaml's packages, whose definition changes with the server's port.
fn newest(name: &str) -> String {
    let Ok(built) = Built::get() else { return name.to_owned() };
    let prefix = format!("{name}-0.2.5-r");
    let names = std::fs::read_dir(built.home.join("apk/x86_64")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let revisions = names.filter_map(|file| file.strip_prefix(&prefix)?.strip_suffix(".apk")?.parse::<u32>().ok());
    format!("{prefix}{}", revisions.max().unwrap_or(0))
}

#[test]
fn cmake() {
    let Some(main) = package("cjson", "cjson-1.7.18-r0") else { return };
    main.expect_files(&["usr/lib/libcjson.so.1", "usr/lib/libcjson_utils.so.1"]);
    main.expect_library("libcjson.so.1");
    let Some(development) = package("cjson", "cjson-dev-1.7.18-r0") else { return };
    development.expect_files(&["usr/include/cjson/cJSON.h", "usr/lib/cmake/cJSON/cJSONConfig.cmake"]);
    assert!(development.values("provides").contains(&"pc:libcjson=1.7.18-r0"));
}

#[test]
fn meson() {
    let Some(main) = package("libinih", "libinih-59-r0") else { return };
    main.expect_files(&["usr/lib/libinih.so.0"]);
    main.expect_library("libinih.so.0");
    let Some(development) = package("libinih", "libinih-dev-59-r0") else { return };
    development.expect_files(&["usr/include/ini.h", "usr/lib/libinih.so", "usr/lib/pkgconfig/inih.pc"]);
}

#[test]
fn plain_make() {
    let Some(package) = package("kilo", "kilo-0.0.1-r0") else { return };
    package.expect_files(&["usr/bin/kilo"]);
    package.expect_musl();
    assert!(package.values("provides").contains(&"cmd:kilo=0.0.1-r0"));
}

#[test]
fn perl() {
    let Some(main) = package("perl-try-tiny", "perl-try-tiny-0.32-r0") else { return };
    main.expect_files(&["usr/share/perl5/Try/Tiny.pm"]);
    assert!(!main.files.keys().any(|path| path.ends_with(".packlist") || path.contains("/man/")));
    let Some(manual) = package("perl-try-tiny", "perl-try-tiny-doc-0.32-r0") else { return };
    assert!(manual.files.keys().any(|path| path.starts_with("usr/share/man/man3/Try::Tiny.3")));
}

#[test]
fn python_by_pip() {
    let Some(package) = package("py3-six", "py3-six-1.17.0-r0") else { return };
    let site = site_packages(&package, "six.py");
    package.expect_files(&[&format!("{site}/six-1.17.0.dist-info/METADATA")]);
    assert!(package.files.keys().any(|path| path.starts_with(&format!("{site}/__pycache__/six."))));
}

#[test]
fn python_by_build_and_installer() {
    let Some(package) = package("py3-toml", "py3-toml-0.10.2-r0") else { return };
    let site = site_packages(&package, "toml/__init__.py");
    package.expect_files(&[&format!("{site}/toml-0.10.2.dist-info/METADATA")]);
}

/// The folder that holds a module: upstream's, not Debian's.
fn site_packages(package: &Package, module: &str) -> String {
    let mut folders = package.files.keys().filter_map(|path| path.strip_suffix(&format!("/{module}")));
    let folder = folders.next().unwrap_or_else(|| panic!("no {module} in {:?}", package.files.keys()));
    assert!(folder.starts_with("usr/lib/python3.") && folder.ends_with("/site-packages"), "{folder}");
    folder.to_owned()
}

#[test]
fn cargo_with_vendored_crates() {
    let Some(package) = package("rtss", "rtss-0.6.2-r0") else { return };
    package.expect_files(&["usr/bin/rtss"]);
    // Linked statically: it needs no package, and runs where there is no C library at all.
    assert_eq!(package.values("depend"), Vec::<&str>::new());
    let told = run_program(&package, "usr/bin/rtss", &["--help"]);
    assert!(told.contains("rtss"), "{told}");
}

#[test]
fn go_without_modules() {
    let Some(package) = package("goawk", "goawk-1.29.0-r0") else { return };
    package.expect_files(&["usr/bin/goawk"]);
    assert_eq!(package.values("depend"), Vec::<&str>::new());
    assert_eq!(run_program(&package, "usr/bin/goawk", &["BEGIN { print 6 * 7 }"]), "42\n");
}

#[test]
fn a_program_in_cplusplus_fails_with_the_reason() {
    let Ok(built) = Built::get() else { return };
    let failure = built.failure("needs-cxx").unwrap();
    assert!(failure.contains("the bootstrap has no C++ library for musl"), "{failure}");
}
