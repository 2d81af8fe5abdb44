//! Real releases, each by its own tool chain, built once into a home in the target folder that
//! later runs bring up to date. Where a release can't be fetched, or the host lacks a tool, a test
//! prints `not run:` and why.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use sha2::{Digest, Sha256};
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
        // Definitions don't know what the tools are, so with other tools all is built anew.
        let tools = digest(&catalog.join("bootstrap"));
        let mark = home.join("tools");
        if home.exists() && std::fs::read_to_string(&mark).ok().as_ref() != Some(&tools) {
            std::fs::remove_dir_all(&home).unwrap();
        }
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(&mark, tools).unwrap();
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

/// SHA-256 of a folder's files and names.
fn digest(folder: &Path) -> String {
    let mut command = Command::new("tar");
    command.args(["-c", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C"]).arg(folder).arg(".");
    hex::encode(Sha256::digest(command.output().unwrap().stdout))
}

fn run(home: &Path, catalog: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(MILL);
    command.args(["--format", "json", "--home"]).arg(home).arg("--catalog").arg(catalog).args(arguments);
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("mill {arguments:?}: {error}:\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// The newest revision of `NAME-VERSION`: a changed definition gets the next one.
fn newest(home: &Path, version: &str) -> Package {
    let names = std::fs::read_dir(home.join("apk/x86_64")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let revision = |file: String| file.strip_prefix(version)?.strip_prefix("-r")?.strip_suffix(".apk")?.parse().ok();
    let newest: Option<u32> = names.filter_map(revision).max();
    Package::read(home, &format!("{version}-r{}", newest.unwrap_or_else(|| panic!("no {version}"))))
}

/// `NAME-VERSION` of a definition, or none when it could not be built for want of its source or a tool.
fn package(definition: &str, version: &str) -> Option<Package> {
    let built = match Built::get() {
        Ok(built) => built,
        Err(reason) => {
            println!("not run: {reason}");
            return None;
        }
    };
    match built.failure(definition) {
        None => Some(newest(&built.home, version)),
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
    let Some(package) = package("jansson", "jansson-2.14") else { return };
    package.expect_files(&["usr/lib/libjansson.so.4"]);
    package.expect_library("libjansson.so.4");
}

#[test]
fn autoconf_from_a_patched_git_tree() {
    let Some(main) = package("libyaml", "libyaml-0.2.5") else { return };
    main.expect_library("libyaml-0.so.2");
    let Some(development) = package("libyaml", "libyaml-dev-0.2.5") else { return };
    development.expect_files(&["usr/include/yaml.h", "usr/lib/libyaml.so", "usr/lib/pkgconfig/yaml-0.1.pc"]);
    assert!(development.values("provides").iter().any(|value| value.starts_with("pc:yaml-0.1=0.2.5-r")));
    let Some(archive) = package("libyaml", "libyaml-static-0.2.5") else { return };
    archive.expect_files(&["usr/lib/libyaml.a"]);
}

#[test]
fn cmake() {
    let Some(main) = package("cjson", "cjson-1.7.18") else { return };
    main.expect_files(&["usr/lib/libcjson.so.1", "usr/lib/libcjson_utils.so.1"]);
    main.expect_library("libcjson.so.1");
    let Some(development) = package("cjson", "cjson-dev-1.7.18") else { return };
    development.expect_files(&["usr/include/cjson/cJSON.h", "usr/lib/cmake/cJSON/cJSONConfig.cmake"]);
    assert!(development.values("provides").iter().any(|value| value.starts_with("pc:libcjson=1.7.18-r")));
}

#[test]
fn meson() {
    let Some(main) = package("libinih", "libinih-59") else { return };
    main.expect_files(&["usr/lib/libinih.so.0"]);
    main.expect_library("libinih.so.0");
    let Some(development) = package("libinih", "libinih-dev-59") else { return };
    development.expect_files(&["usr/include/ini.h", "usr/lib/libinih.so", "usr/lib/pkgconfig/inih.pc"]);
}

#[test]
fn plain_make() {
    let Some(package) = package("kilo", "kilo-0.0.1") else { return };
    package.expect_files(&["usr/bin/kilo"]);
    package.expect_musl();
    assert!(package.values("provides").iter().any(|value| value.starts_with("cmd:kilo=0.0.1-r")));
}

#[test]
fn perl() {
    let Some(main) = package("perl-try-tiny", "perl-try-tiny-0.32") else { return };
    main.expect_files(&["usr/share/perl5/Try/Tiny.pm"]);
    assert!(!main.files.keys().any(|path| path.ends_with(".packlist") || path.contains("/man/")));
    let Some(manual) = package("perl-try-tiny", "perl-try-tiny-doc-0.32") else { return };
    assert!(manual.files.keys().any(|path| path.starts_with("usr/share/man/man3/Try::Tiny.3")));
}

#[test]
fn python_by_pip() {
    let Some(package) = package("py3-six", "py3-six-1.17.0") else { return };
    let site = site_packages(&package, "six.py");
    package.expect_files(&[&format!("{site}/six-1.17.0.dist-info/METADATA")]);
    // pip's record of where a package came from, which names a folder of the build.
    assert!(!package.files.keys().any(|path| path.ends_with("/direct_url.json")));
    assert!(package.files.keys().any(|path| path.starts_with(&format!("{site}/__pycache__/six."))));
}

#[test]
fn python_by_build_and_installer() {
    let Some(package) = package("py3-toml", "py3-toml-0.10.2") else { return };
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
    let Some(package) = package("rtss", "rtss-0.6.2") else { return };
    package.expect_files(&["usr/bin/rtss"]);
    // Linked statically: it needs no package, and runs where there is no C library at all.
    assert_eq!(package.values("depend"), Vec::<&str>::new());
    let told = run_program(&package, "usr/bin/rtss", &["--help"]);
    assert!(told.contains("Annotate stdin"), "{told}");
}

#[test]
fn go_without_modules() {
    let Some(package) = package("goawk", "goawk-1.29.0") else { return };
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
