//! Each linter over a tree that it passes and one that it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use lint::{Contents, Finding, LINTERS, Level, Subject, lint};

/// A file of a tree: path, mode, bytes. A mode of 0 makes a symbolic link to the text.
type File<'a> = (&'a str, u32, &'a [u8]);

fn tree(files: &[File<'_>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, mode, bytes) in files {
        let place = folder.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        if *mode == 0 {
            symlink(std::str::from_utf8(bytes).unwrap(), &place).unwrap();
        } else {
            fs::write(&place, bytes).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
    folder
}

fn findings(package: &str, files: &[File<'_>], enabled: &[&str], tested_with: &[&str]) -> Vec<Finding> {
    let owned = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let (enabled, tested_with) = (owned(enabled), owned(tested_with));
    let folder = tree(files);
    let subject = Subject { name: package, enabled: &enabled, tested_with: &tested_with, ..Subject::default() };
    lint(&Contents::of_tree(folder.path()).unwrap(), &subject)
}

const TEXT: &[u8] = b"text";

/// A shared library with and without debug sections, as the machine's compiler makes it; `None`
/// where there is no compiler.
fn library(debug: bool) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = (folder.path().join("a.c"), folder.path().join("a.so"));
    fs::write(&source, "int answer(void) { return 42; }\n").unwrap();
    let debug = if debug { "-g" } else { "-g0" };
    let status = Command::new("gcc").args(["-shared", "-fPIC", debug, "-o"]).arg(&object).arg(&source).status().ok()?;
    assert!(status.success());
    Some(fs::read(object).unwrap())
}

#[test]
fn every_linter_finds_what_it_is_for_and_nothing_else() {
    let big = vec![b'x'; 2000];
    let other = vec![b'y'; 2000];
    let Some((debug, plain)) = library(true).zip(library(false)) else {
        println!("not run: no gcc to make libraries with");
        return;
    };
    let mut i386 = plain.clone();
    i386[18..20].copy_from_slice(&3_u16.to_le_bytes());
    // Linter, package, a tree that it passes, one that it does not, and the paths it names.
    type Case<'a> = (&'a str, &'a str, &'a [File<'a>], &'a [File<'a>], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("dev", "p", &[("usr/dev/a", 0o644, TEXT)], &[("dev/null", 0o644, TEXT)], &["dev/null"]),
        (
            "setuidgid",
            "p",
            &[("usr/bin/a", 0o755, TEXT)],
            &[("usr/bin/a", 0o4755, TEXT), ("usr/bin/b", 0o2755, TEXT)],
            &["usr/bin/a", "usr/bin/b"],
        ),
        (
            "tempdir",
            "p",
            &[("var/lib/run/a", 0o644, TEXT)],
            &[("run/a", 0o644, TEXT), ("tmp/b", 0o644, TEXT), ("var/tmp/c", 0o644, TEXT)],
            &["run/a", "tmp/b", "var/tmp/c"],
        ),
        ("varempty", "p", &[("var/lib/a", 0o644, TEXT)], &[("var/empty/a", 0o644, TEXT)], &["var/empty/a"]),
        ("worldwrite", "p", &[("etc/a", 0o664, TEXT)], &[("etc/a", 0o666, TEXT)], &["etc/a"]),
        (
            "infodir",
            "p-doc",
            &[("usr/share/info/p.info", 0o644, TEXT)],
            &[("usr/share/info/dir", 0o644, TEXT)],
            &["usr/share/info/dir"],
        ),
        (
            "usrmerge",
            "p",
            &[("usr/bin/a", 0o755, TEXT), ("bin", 0, b"usr/bin"), ("usr/sbin", 0, b"bin")],
            &[("bin/a", 0o755, TEXT), ("usr/sbin/b", 0o755, TEXT), ("lib64/c", 0o644, TEXT)],
            &["bin/a", "lib64/c", "usr/sbin/b"],
        ),
        ("opt", "p", &[("usr/opt/a", 0o644, TEXT)], &[("opt/p/a", 0o644, TEXT)], &["opt/p/a"]),
        ("srv", "p", &[("usr/srv/a", 0o644, TEXT)], &[("srv/a", 0o644, TEXT)], &["srv/a"]),
        (
            "usrlocal",
            "p",
            &[("usr/lib/local/a", 0o644, TEXT)],
            &[("usr/local/bin/a", 0o755, TEXT)],
            &["usr/local/bin/a"],
        ),
        ("object", "p", &[("usr/lib/Scrt1.o", 0o644, TEXT)], &[("usr/lib/p/a.o", 0o644, TEXT)], &["usr/lib/p/a.o"]),
        (
            "maninfo",
            "p",
            &[("usr/share/manual/p.1", 0o644, TEXT), ("usr/share/info/p.txt", 0o644, TEXT)],
            &[("usr/share/man/de/man1/p.1", 0o644, TEXT), ("usr/share/info/p.info-1.gz", 0o644, TEXT)],
            &["usr/share/info/p.info-1.gz", "usr/share/man/de/man1/p.1"],
        ),
        (
            "sbom",
            "p",
            &[("var/lib/db/sbom/p-1.spdx.json", 0o644, TEXT)],
            &[("var/lib/db/sbom/p.json", 0o644, TEXT)],
            &["var/lib/db/sbom/p.json"],
        ),
        (
            "strip",
            "p",
            &[("usr/lib/a.so.1", 0o644, &plain), ("usr/lib/debug/a.so.1", 0o755, &debug)],
            &[("usr/lib/a.so.1", 0o644, &debug)],
            &["usr/lib/a.so.1"],
        ),
        (
            "pkgconf",
            "p",
            &[("usr/lib/pkgconfig.txt", 0o644, TEXT)],
            &[("usr/lib/pkgconfig/p.pc", 0o644, TEXT)],
            &["usr/lib/pkgconfig/p.pc"],
        ),
        (
            "lddcheck",
            "p",
            &[("usr/lib/libp.so", 0, b"libp.so.1"), ("etc/p.so.conf", 0o644, TEXT)],
            &[("usr/lib/libp.so.1.2", 0o755, TEXT)],
            &["usr/lib/libp.so.1.2"],
        ),
        (
            "cudaruntimelib",
            "p",
            &[("usr/lib/libcudart.so.12", 0o755, TEXT)],
            &[("usr/lib/libcuda.so.1", 0o755, TEXT)],
            &["usr/lib/libcuda.so.1"],
        ),
        ("dll", "p", &[("usr/lib/a.dl", 0o644, TEXT)], &[("usr/lib/a.DLL", 0o644, TEXT)], &["usr/lib/a.DLL"]),
        ("dylib", "p", &[("usr/lib/a.so", 0, b"b")], &[("usr/lib/a.dylib", 0o644, TEXT)], &["usr/lib/a.dylib"]),
        (
            "nonlinux",
            "p",
            &[("usr/share/winds/a", 0o644, TEXT)],
            &[("usr/share/Windows/a", 0o644, TEXT), ("usr/lib/x-darwin", 0o644, TEXT)],
            &["usr/lib/x-darwin", "usr/share/Windows/a"],
        ),
        (
            "unsupportedarch",
            "p",
            &[("usr/lib/x86_64/a", 0o644, TEXT), ("usr/share/mipsy/a", 0o644, TEXT)],
            &[("usr/lib/i386/a", 0o644, TEXT), ("usr/share/p-riscv64.bin", 0o644, TEXT)],
            &["usr/lib/i386/a", "usr/share/p-riscv64.bin"],
        ),
        ("binaryarch", "p", &[("usr/lib/a.so", 0o755, &plain)], &[("usr/lib/a.so", 0o755, &i386)], &["usr/lib/a.so"]),
        (
            "staticarchive",
            "p",
            &[("usr/lib/libp.ar", 0o644, TEXT)],
            &[("usr/lib/libp.a", 0o644, TEXT)],
            &["usr/lib/libp.a"],
        ),
        (
            "duplicate",
            "p",
            &[
                ("a/same", 0o644, &big),
                ("b/same", 0o644, &other),
                ("a/LICENSE", 0o644, &big),
                ("b/LICENSE", 0o644, &big),
            ],
            &[("a/same", 0o644, &big), ("b/same", 0o644, &big), ("c/else", 0o644, &big)],
            &["a/same", "b/same"],
        ),
        (
            "python/docs",
            "p",
            &[("usr/lib/python3.13/site-packages/p/docs/a.py", 0o644, TEXT)],
            &[("usr/lib/python3.13/site-packages/docs/a.py", 0o644, TEXT)],
            &["usr/lib/python3.13/site-packages/docs"],
        ),
        (
            "python/test",
            "p",
            &[("usr/lib/python3.13/site-packages/p/tests/a.py", 0o644, TEXT)],
            &[("usr/lib/python3.13/site-packages/tests/a.py", 0o644, TEXT)],
            &["usr/lib/python3.13/site-packages/tests"],
        ),
        (
            "python/multiple",
            "p",
            &[
                ("usr/lib/python3.13/site-packages/p/a.py", 0o644, TEXT),
                ("usr/lib/python3.13/site-packages/p.cpython-313.so", 0, b"x"),
                ("usr/lib/python3.13/site-packages/p-1.dist-info/METADATA", 0o644, TEXT),
                ("usr/lib/python3.13/site-packages/_p.py", 0o644, TEXT),
            ],
            &[
                ("usr/lib/python3.13/site-packages/p/a.py", 0o644, TEXT),
                ("usr/lib/python3.13/site-packages/q.py", 0o644, TEXT),
            ],
            &["usr/lib/python3.13/site-packages/p", "usr/lib/python3.13/site-packages/q"],
        ),
        (
            "documentation",
            "p",
            &[("usr/share/p/readme.bin", 0o644, TEXT)],
            &[("usr/share/p/README", 0o644, TEXT), ("usr/share/p/a.md", 0o644, TEXT)],
            &["usr/share/p/README", "usr/share/p/a.md"],
        ),
        ("empty", "p", &[("usr/bin/a", 0o755, TEXT)], &[("var/lib/db/sbom/p-1.spdx.json", 0o644, TEXT)], &[]),
    ];
    for (linter, package, passes, fails, paths) in cases {
        let own = |files| {
            let findings = findings(package, files, &["documentation", "empty"], &[]);
            findings.into_iter().find(|finding| finding.linter == *linter)
        };
        assert_eq!(own(passes), None, "{linter}");
        let found = own(fails).unwrap_or_else(|| panic!("{linter} finds nothing in {:?}", fails[0].0));
        assert_eq!(found.paths.iter().map(String::as_str).collect::<BTreeSet<_>>(), paths.iter().copied().collect());
        let known = LINTERS.iter().find(|known| known.name == *linter).unwrap();
        let message = found.to_string();
        for part in [package, &known.problem, &known.remedy, linter] {
            assert!(message.contains(part), "{message}");
        }
        assert!(paths.iter().all(|path| message.contains(path)), "{message}");
        assert_eq!(found.level, known.level.max(Level::Warn));
    }
    let tested: BTreeSet<&str> = cases.iter().map(|case| case.0).collect();
    assert_eq!(tested, LINTERS.iter().map(|linter| linter.name).collect());
}

#[test]
fn required_linters_are_melanges() {
    let required: Vec<&str> =
        LINTERS.iter().filter(|linter| linter.level == Level::Require).map(|linter| linter.name).collect();
    assert_eq!(required, ["dev", "setuidgid", "tempdir", "varempty", "worldwrite", "infodir", "usrmerge"]);
    let ignored: Vec<&str> =
        LINTERS.iter().filter(|linter| linter.level == Level::Ignore).map(|linter| linter.name).collect();
    assert_eq!(ignored, ["documentation", "empty"]);
}

#[test]
fn what_the_definition_says_turns_linters_off() {
    let folder = tree(&[("dev/null", 0o644, TEXT), ("usr/lib/libp.so.1", 0o755, TEXT), ("opt/a", 0o644, TEXT)]);
    let contents = Contents::of_tree(folder.path()).unwrap();
    let names = |subject: &Subject<'_>| -> Vec<String> {
        lint(&contents, subject).into_iter().map(|finding| finding.linter).collect()
    };
    let subject = Subject { name: "p", ..Subject::default() };
    assert_eq!(names(&subject), ["dev", "opt", "lddcheck"]);
    let disabled = ["dev".to_owned()];
    let tested = ["test/tw/ldd-check".to_owned()];
    assert_eq!(names(&Subject { disabled: &disabled, tested_with: &tested, ..subject }), ["opt"]);
    assert_eq!(names(&Subject { name: "p-compat", ..subject }), [""; 0]);
    let empty = ["empty".to_owned()];
    let nothing = Contents::default();
    assert_eq!(lint(&nothing, &Subject { enabled: &empty, ..subject }).len(), 1);
    assert_eq!(lint(&nothing, &Subject { enabled: &empty, no_provides: true, ..subject }), []);

    let disabled = ["setuidgit", "abi", "strip", "nonsense"].map(str::to_owned);
    let told = lint(&nothing, &Subject { disabled: &disabled, ..subject });
    assert!(told.iter().all(|finding| finding.level == Level::Warn));
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "p turns off the linter `setuidgit`, which there is not; did you mean `setuidgid`? (linter `checks`)",
            "p turns off the linter `nonsense`, which there is not; remove the name from `checks.disabled` (linter `checks`)"
        ]
    );
}

#[test]
fn a_hostile_tree_is_not_followed_out_of() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), vec![b's'; 4096]).unwrap();
    let folder = tree(&[("usr/lib/big", 0o755, b"\x7fELF"), ("usr/lib/cut.so", 0o755, b"\x7fELF\x02\x01\x01")]);
    symlink(outside.path(), folder.path().join("opt")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("usr/lib/secret")).unwrap();
    let fifo = folder.path().join("usr/lib/pipe.so");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::set_permissions(&fifo, fs::Permissions::from_mode(0o755)).unwrap();
    let contents = Contents::of_tree(folder.path()).unwrap();
    assert!(contents.entries.iter().all(|entry| entry.sha256.is_none() && entry.elf.is_none()), "{contents:#?}");
    assert!(!contents.entries.iter().any(|entry| entry.path.starts_with("opt/")));
    assert!(contents.entries.iter().any(|entry| entry.path == "opt"));
}

#[test]
fn a_list_of_paths_is_cut_and_counted() {
    let files: Vec<String> = (0..25).map(|number| format!("opt/{number:02}")).collect();
    let files: Vec<File<'_>> = files.iter().map(|path| (path.as_str(), 0o644, TEXT)).collect();
    let found = findings("p", &files, &[], &[]);
    assert_eq!((found[0].paths.len(), found[0].more), (20, 5));
    assert!(found[0].to_string().contains("opt/19 and 5 more; "), "{}", found[0]);
}

#[test]
fn an_archive_is_linted_as_its_tree() {
    let Some(debug) = library(true) else {
        println!("not run: no gcc to make a library with");
        return;
    };
    let big = vec![b'x'; 2000];
    let folder = tree(&[
        ("bin/a", 0o4755, TEXT),
        ("usr/lib/libp.so.1", 0o755, &debug),
        ("usr/lib/libp.so", 0, b"libp.so.1"),
        ("a/same", 0o644, &big),
        ("b/same", 0o644, &big),
        ("usr/share/man/man1/a.1", 0o644, TEXT),
    ]);
    fs::hard_link(folder.path().join("a/same"), folder.path().join("a/zagain")).unwrap();
    let spec = apk::PackageSpec {
        information: apk::PackageInformation {
            name: "p".to_owned(),
            version: "1-r0".to_owned(),
            architecture: "x86_64".to_owned(),
            ..apk::PackageInformation::default()
        },
        ..apk::PackageSpec::default()
    };
    let target = folder.path().parent().unwrap().join(format!("lint-{}.apk", std::process::id()));
    apk::build_package_file(&spec, folder.path(), &target).unwrap();
    let archived = Contents::of_package(&mut apk::Package::open(&target).unwrap());
    fs::remove_file(&target).unwrap();
    let subject = Subject { name: "p", ..Subject::default() };
    let (archived, tree) = (archived.unwrap(), Contents::of_tree(folder.path()).unwrap());
    assert_eq!(lint(&archived, &subject), lint(&tree, &subject));
    let names: Vec<String> = lint(&tree, &subject).into_iter().map(|finding| finding.linter).collect();
    assert_eq!(names, ["setuidgid", "usrmerge", "maninfo", "strip", "lddcheck", "duplicate"]);
}

#[test]
fn a_published_package_is_linted() {
    let corpus = std::env::var_os("MINIMILL_CORPUS").map(std::path::PathBuf::from);
    let corpus = corpus.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"));
    let file = corpus.join("apk/hello-wolfi-2.12.1-r0.apk");
    if !file.is_file() {
        println!("not run: no corpus at {}", corpus.display());
        return;
    }
    let mut package = apk::Package::open(&file).unwrap();
    let contents = Contents::of_package(&mut package).unwrap();
    assert!(contents.entries.iter().any(|entry| entry.elf.is_some()), "{contents:#?}");
    let found = lint(&contents, &Subject { name: "hello-wolfi", ..Subject::default() });
    assert!(found.iter().all(|finding| finding.level == Level::Warn), "{found:#?}");
}
