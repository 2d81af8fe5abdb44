//! Automatic dependencies, held against what melange found in a real package and against libraries
//! that the host's compiler makes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use apk::{Error, FileKind, Found, Package, Scan, ScanOptions};
use support::{corpus, write};

fn scan(name: &str, root: &Path, siblings: &[&Path], options: ScanOptions) -> Found {
    let library_versions = BTreeMap::from([("libc.so.6".to_owned(), "2.36-r0".to_owned())]);
    Scan {
        name,
        version: "1.2-r3",
        root,
        siblings,
        declared_depends: &[],
        library_versions: &library_versions,
        options,
    }
    .run()
    .unwrap()
}

#[test]
fn a_real_package_gets_the_dependencies_that_melange_gave_it() {
    let Some(corpus) = corpus() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut package = Package::open(&corpus.join("hello-wolfi-2.12.1-r0.apk")).unwrap();
    package
        .visit::<Error>(|entry, content| {
            let path = root.path().join(&entry.path);
            match &entry.kind {
                FileKind::Directory => std::fs::create_dir(&path).unwrap(),
                FileKind::Regular => {
                    std::io::copy(content, &mut std::fs::File::create(&path).unwrap()).unwrap();
                    std::fs::set_permissions(&path, PermissionsExt::from_mode(entry.mode)).unwrap();
                }
                other => panic!("{other:?}"),
            }
            Ok(())
        })
        .unwrap();
    let stated = package.information();
    let versions = BTreeMap::new();
    let found = Scan {
        name: &stated.name,
        version: &stated.version,
        root: root.path(),
        siblings: &[],
        declared_depends: &[],
        library_versions: &versions,
        options: ScanOptions::default(),
    }
    .run()
    .unwrap();
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    assert_eq!((found.depends, found.provides), (sorted(&stated.depends), sorted(&stated.provides)));
}

#[test]
fn libraries_are_needed_and_provided() {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("not run: no C compiler");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (library, development, program) =
        (folder.path().join("lib"), folder.path().join("dev"), folder.path().join("program"));
    write(folder.path(), "foo.c", b"int foo(void) { return 1; }\n", 0o644);
    write(folder.path(), "main.c", b"int foo(void);\nint main(void) { return foo(); }\n", 0o644);
    let cc = |arguments: &[&str]| {
        let output = Command::new("cc").current_dir(folder.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for path in ["lib/usr/lib", "lib/opt/private", "dev/usr/lib", "program/usr/bin"] {
        std::fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    cc(&["-shared", "-fPIC", "-Wl,-soname,libfoo.so.2.1", "-o", "lib/usr/lib/libfoo.so.2.1.7", "foo.c"]);
    cc(&["-shared", "-fPIC", "-Wl,-soname,libfoo-plugin.so", "-o", "lib/usr/lib/libfoo-plugin.so", "foo.c"]);
    cc(&["-shared", "-fPIC", "-Wl,-soname,libown.so.1", "-o", "lib/opt/private/libown.so.1", "foo.c"]);
    cc(&["-o", "program/usr/bin/foo", "main.c", "lib/usr/lib/libfoo.so.2.1.7"]);
    symlink("libfoo.so.2.1.7", library.join("usr/lib/libfoo.so.2.1")).unwrap();
    symlink("libfoo.so.2.1.7", development.join("usr/lib/libfoo.so")).unwrap();

    let found = scan("libfoo", &library, &[], ScanOptions::default());
    assert_eq!(
        found.provides,
        [
            "so-ver:libfoo-plugin.so=1.2-r3",
            "so-ver:libfoo.so.2.1=1.2-r3",
            "so:libfoo-plugin.so=0",
            "so:libfoo.so.2.1=2.1",
        ]
    );
    assert_eq!(found.vendored, ["so-ver:libown.so.1=1.2-r3", "so:libown.so.1=1"]);
    let (depends, provides) = found.complete(&["so:libown.so.1".to_owned()], &["libfoo-virtual".to_owned()]);
    // What the package provides itself is no need; a vendored library doesn't undo a declared one.
    assert!(!depends.iter().any(|need| need.contains("libfoo")), "{depends:?}");
    assert!(depends.contains(&"so:libown.so.1".to_owned()));
    assert!(provides.contains(&"libfoo-virtual".to_owned()));

    let found = scan("libfoo-dev", &development, &[&library], ScanOptions::default());
    assert_eq!(found.depends, ["so:libfoo.so.2.1"]);
    assert!(found.provides.is_empty(), "{found:?}");

    let found = scan("foo", &program, &[&library], ScanOptions::default());
    assert_eq!(
        found.depends,
        ["so-ver:libc.so.6>=2.36-r0", "so:ld-linux-x86-64.so.2", "so:libc.so.6", "so:libfoo.so.2.1"]
    );
    assert_eq!(found.provides, ["cmd:foo=1.2-r3"]);

    let options = ScanOptions { no_commands: true, no_versioned_shlib_deps: true, ..ScanOptions::default() };
    let found = scan("foo", &program, &[&library], options);
    assert_eq!(found.depends, ["so:ld-linux-x86-64.so.2", "so:libc.so.6", "so:libfoo.so.2.1"]);
    assert!(found.provides.is_empty());
    let options = ScanOptions { no_depends: true, no_provides: true, ..ScanOptions::default() };
    let found = scan("foo", &program, &[&library], options);
    assert!(found.depends.is_empty() && found.provides.is_empty());
}

#[test]
fn scripts_modules_and_pages_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "usr/bin/tool", b"#!/usr/bin/perl -w\n", 0o755);
    write(root, "usr/bin/plain", b"#!/bin/sh\n", 0o755);
    write(root, "usr/bin/data", b"no command", 0o644);
    write(root, "usr/bin/odd", b"#!/usr/bin/env -i perl\n", 0o755);
    write(root, "usr/libexec/helper", b"#!/usr/bin/ruby\n", 0o755);
    write(
        root,
        "usr/lib/pkgconfig/x.pc",
        b"Name: x\nDescription: caf\xe9\nRequires: zlib >= 1\nRequires.private: y\n",
        0o644,
    );
    write(root, "opt/lib/pkgconfig/z.pc", b"Name: z\nRequires: never\n", 0o644);
    write(root, "usr/lib/python3.13/site-packages/m/__init__.py", b"", 0o644);
    write(root, "usr/lib/ruby/gems/3.4.0/gems/g/g.rb", b"", 0o644);
    write(root, "usr/share/man/man1/tool.1", b"", 0o644);
    write(root, "usr/lib/broken.so.1", b"\x7fELF\x02\x01\x01garbage", 0o755);
    symlink("tool", root.join("usr/bin/alias")).unwrap();
    symlink("/etc/passwd", root.join("usr/lib/liblink.so")).unwrap();

    let found = scan("x-doc", root, &[], ScanOptions::default());
    assert_eq!(found.depends, ["cmd:perl", "man-db", "pc:y", "pc:zlib", "python-3.13-base", "ruby-3.4"]);
    assert_eq!(found.provides, ["cmd:odd=1.2-r3", "cmd:plain=1.2-r3", "cmd:tool=1.2-r3", "pc:x=1.2-r3"]);
    assert_eq!(found.vendored, ["pc:z=1.2-r3"]);
    assert_eq!(found.warnings, ["usr/bin/odd: can't tell what `#!/usr/bin/env -i perl` runs"]);

    let versions = BTreeMap::new();
    let declared = ["python-3.12".to_owned(), "ruby".to_owned()];
    let found = Scan {
        name: "x",
        version: "1",
        root,
        siblings: &[],
        declared_depends: &declared,
        library_versions: &versions,
        options: ScanOptions::default(),
    };
    let found = found.run().unwrap();
    assert!(
        !found.depends.iter().any(|need| need.starts_with("python") || need.starts_with("ruby") || need == "man-db")
    );
}
