#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use apk::{BuiltPackage, Keyring, PackageInformation, PackageSpec, PrivateKey, Script};

pub const KEY_NAME: &str = "test.rsa.pub";
pub const EPOCH: u64 = 1_700_000_000;

/// The corpus folder `apk/`, or `None` where it is absent.
pub fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("MINIMILL_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus")), PathBuf::from);
    if root.join("apk").is_dir() {
        return Some(root.join("apk"));
    }
    println!("not run: no corpus at {}", root.display());
    None
}

pub fn key() -> &'static PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| PrivateKey::generate(2048).unwrap())
}

pub fn keyring() -> Keyring {
    Keyring::new([key().public(KEY_NAME).unwrap()])
}

pub fn write(root: &Path, path: &str, content: &[u8], mode: u32) {
    let path = root.join(path);
    for folder in path.parent().unwrap().ancestors().collect::<Vec<_>>().into_iter().rev() {
        if folder.starts_with(root) && !folder.exists() {
            std::fs::create_dir(folder).unwrap();
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A tree with every kind of file that a package may hold, made in an order of its own.
pub fn tree(root: &Path, reversed: bool) {
    let long = format!("usr/share/{}/{}", "d".repeat(120), "f".repeat(130));
    let mut files: Vec<(&str, &[u8], u32)> = vec![
        ("usr/bin/hello", b"#!/bin/sh\necho hello\n", 0o755),
        ("usr/bin/su", b"not really", 0o4755),
        ("etc/hello.conf", b"", 0o600),
        ("usr/share/h\u{e9}llo.txt", b"unicode", 0o644),
        (&long, b"long path", 0o644),
        ("var/lib/db/sbom/hello-1.0-r0.spdx.json", b"{}", 0o644),
        ("usr-x", b"sorts between usr and its content by bytes", 0o644),
    ];
    if reversed {
        files.reverse();
    }
    for (path, content, mode) in files {
        write(root, path, content, mode);
    }
    std::fs::hard_link(root.join("usr/bin/hello"), root.join("usr/bin/hello2")).unwrap();
    std::os::unix::fs::symlink("hello", root.join("usr/bin/hi")).unwrap();
    std::os::unix::fs::symlink(format!("/{}", "t".repeat(200)), root.join("usr/bin/long-link")).unwrap();
    std::fs::create_dir(root.join("var/empty")).unwrap();
    std::fs::set_permissions(root.join("var/empty"), PermissionsExt::from_mode(0o1777)).unwrap();
}

pub fn spec() -> PackageSpec {
    PackageSpec {
        information: PackageInformation {
            name: "hello".into(),
            version: "1.0-r0".into(),
            architecture: "x86_64".into(),
            origin: "hello".into(),
            description: "greets".into(),
            build_date: i64::try_from(EPOCH).unwrap(),
            licenses: vec!["MIT".into()],
            provides: vec!["cmd:hello=1.0-r0".into()],
            triggers: vec!["/usr/share/*".into()],
            ..PackageInformation::default()
        },
        definition: Some("package:\n  name: hello\n".into()),
        scripts: [(Script::PostInstall, "#!/bin/sh\nexit 0\n".to_owned()), (Script::Trigger, "#!/bin/sh\n".to_owned())]
            .into(),
        source_date_epoch: EPOCH,
        owners: [("etc/hello.conf".to_owned(), (0, 65532))].into(),
        xattrs: [("usr/bin/hello".to_owned(), vec![("security.capability".to_owned(), b"\x01\0\0\n=\xff".to_vec())])]
            .into(),
        ..PackageSpec::default()
    }
}

pub fn build(root: &Path) -> (BuiltPackage, Vec<u8>) {
    let mut bytes = Vec::new();
    let built = apk::build_package(&spec(), root, &mut Cursor::new(Vec::new()), &mut bytes).unwrap();
    (built, bytes)
}

pub fn signed(root: &Path) -> (BuiltPackage, Vec<u8>) {
    let (built, unsigned) = build(root);
    let signature = key().sign_sha256_digest(&built.control_sha256).unwrap();
    let mut bytes = Vec::new();
    apk::attach_signature(&mut unsigned.as_slice(), KEY_NAME, &signature, EPOCH, &mut bytes).unwrap();
    (built, bytes)
}
