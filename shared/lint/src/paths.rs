//! Linters over paths, modes and the facts of single files. Each answers with the paths that it
//! finds wrong; `None` when there is none.

use std::collections::BTreeMap;

use object::elf::{EM_AARCH64, EM_X86_64};

use crate::contents::DUPLICATE_BYTES;
use crate::{Contents, Entry, Kind, Subject};

type Paths = Option<Vec<String>>;

const SBOM_FOLDER: &str = "var/lib/db/sbom/";
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib64", "usr/sbin"];
const SUPPORTED: [&str; 5] = ["aarch64", "arm64", "amd64", "x86_64", "x86-64"];
const UNSUPPORTED: [&str; 18] = [
    "i386", "i686", "x86_32", "x86-32", "ppc64", "ppc64le", "powerpc", "s390x", "s390", "mips", "mipsel", "mips64",
    "riscv", "riscv64", "sparc", "sparc64", "ia64", "m68k",
];
const NOT_LINUX: [&str; 10] =
    ["darwin", "macos", "mac_os", "mac-os", "osx", "os_x", "os-x", "windows", "win32", "win64"];
/// Beginnings of the names of licence files, in lower case: they belong beside what they license.
const LICENCE_FILES: [&str; 5] = ["licen", "copying", "copyright", "notice", "unlicense"];

/// Everything but folders that a test holds for.
fn files(contents: &Contents, wrong: impl Fn(&Entry) -> bool) -> Paths {
    let own = |entry: &&Entry| entry.kind != Kind::Directory && wrong(entry);
    some(contents.entries.iter().filter(own).map(|entry| entry.path.clone()).collect())
}

fn some(paths: Vec<String>) -> Paths {
    (!paths.is_empty()).then_some(paths)
}

fn below(contents: &Contents, folders: &[&str]) -> Paths {
    files(contents, |entry| folders.iter().any(|folder| entry.path.starts_with(folder)))
}

pub(crate) fn dev(contents: &Contents, _: &Subject<'_>) -> Paths {
    below(contents, &["dev/"])
}

pub(crate) fn opt(contents: &Contents, _: &Subject<'_>) -> Paths {
    below(contents, &["opt/"])
}

pub(crate) fn srv(contents: &Contents, _: &Subject<'_>) -> Paths {
    below(contents, &["srv/"])
}

pub(crate) fn tempdir(contents: &Contents, _: &Subject<'_>) -> Paths {
    below(contents, &["tmp/", "run/", "var/tmp/", "var/run/"])
}

pub(crate) fn usrlocal(contents: &Contents, _: &Subject<'_>) -> Paths {
    below(contents, &["usr/local/"])
}

pub(crate) fn varempty(contents: &Contents, _: &Subject<'_>) -> Paths {
    below(contents, &["var/empty/"])
}

pub(crate) fn setuidgid(contents: &Contents, _: &Subject<'_>) -> Paths {
    let set = |entry: &&Entry| entry.kind != Kind::Symlink && entry.mode & 0o6000 != 0;
    some(contents.entries.iter().filter(set).map(|entry| entry.path.clone()).collect())
}

pub(crate) fn worldwrite(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| entry.kind == Kind::Regular && entry.mode & 0o002 != 0)
}

pub(crate) fn infodir(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| {
        let name = entry.path.strip_prefix("usr/share/info/");
        name.is_some_and(|name| name == "dir" || name.starts_with("dir.") && !name.contains('/'))
    })
}

pub(crate) fn maninfo(contents: &Contents, subject: &Subject<'_>) -> Paths {
    if subject.name.ends_with("-doc") {
        return None;
    }
    let folders = ["usr/share/man/", "usr/local/share/man/", "usr/man/"];
    files(contents, |entry| {
        let info = ["usr/share/info", "usr/local/share/info"].contains(&entry.folder());
        let manual = folders.iter().any(|folder| entry.path.starts_with(folder));
        manual || info && (entry.name() == "dir" || entry.name().contains(".info"))
    })
}

pub(crate) fn sbom(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| entry.path.starts_with(SBOM_FOLDER) && !entry.path.ends_with(".spdx.json"))
}

/// `bin -> usr/bin` and its like are what merges the folders.
pub(crate) fn usrmerge(contents: &Contents, _: &Subject<'_>) -> Paths {
    let wrong = |entry: &&Entry| {
        let inside = |folder: &str| entry.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let merged = MERGED.contains(&entry.path.as_str());
        merged && entry.kind == Kind::Regular || MERGED.iter().any(|folder| inside(folder))
    };
    some(contents.entries.iter().filter(wrong).map(|entry| entry.path.clone()).collect())
}

pub(crate) fn object(contents: &Contents, _: &Subject<'_>) -> Paths {
    // The start files of a C library are object files that compilers ask for by name.
    let start = |entry: &Entry| entry.folder() == "usr/lib" && entry.name().contains("crt");
    files(contents, |entry| entry.extension() == Some("o") && !start(entry))
}

pub(crate) fn strip(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| {
        entry.elf.is_some_and(|elf| elf.debug)
            && !entry.path.starts_with("usr/lib/debug/")
            && entry.extension() != Some("o")
    })
}

pub(crate) fn pkgconf(contents: &Contents, subject: &Subject<'_>) -> Paths {
    if tested(subject, &["test/pkgconf"]) {
        return None;
    }
    below(contents, &["usr/lib/pkgconfig/", "usr/share/pkgconfig/"])
}

pub(crate) fn lddcheck(contents: &Contents, subject: &Subject<'_>) -> Paths {
    if tested(subject, &["test/ldd-check", "test/tw/ldd-check"]) {
        return None;
    }
    files(contents, |entry| entry.kind == Kind::Regular && is_shared_object(entry.name()))
}

fn tested(subject: &Subject<'_>, pipelines: &[&str]) -> bool {
    subject.tested_with.iter().any(|used| pipelines.contains(&used.as_str()))
}

/// `libz.so`, `libz.so.1.3`; not `libz.so.conf`.
fn is_shared_object(name: &str) -> bool {
    name.match_indices(".so").any(|(at, found)| {
        let version = name.get(at + found.len()..).unwrap_or_default();
        version.is_empty()
            || version
                .strip_prefix('.')
                .is_some_and(|version| version.split('.').all(|part| !part.is_empty() && is_digits(part)))
    })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(crate) fn cudaruntimelib(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| {
        entry.folder() == "usr/lib"
            && ["libcuda.so", "libnvidia-ml.so"].iter().any(|name| entry.name().starts_with(name))
            && is_shared_object(entry.name())
    })
}

pub(crate) fn dll(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| entry.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("dll")))
}

pub(crate) fn dylib(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| entry.extension() == Some("dylib"))
}

pub(crate) fn nonlinux(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| {
        let path = entry.path.to_lowercase();
        NOT_LINUX.iter().any(|platform| path.contains(platform))
    })
}

pub(crate) fn unsupportedarch(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| {
        let path = entry.path.to_lowercase();
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let in_name = |architecture: &str| {
            ["-", "_", "."].iter().any(|separator| {
                let part = format!("{separator}{architecture}");
                name.ends_with(&part)
                    || name.contains(&format!("{part}{separator}"))
                    || name.contains(&format!("{part}."))
            })
        };
        UNSUPPORTED.iter().any(|architecture| {
            folders.split('/').any(|folder| folder == *architecture)
                || in_name(architecture) && !SUPPORTED.iter().any(|supported| path.contains(supported))
        })
    })
}

pub(crate) fn binaryarch(contents: &Contents, _: &Subject<'_>) -> Paths {
    files(contents, |entry| entry.elf.is_some_and(|elf| ![EM_X86_64.0, EM_AARCH64.0].contains(&elf.machine)))
}

pub(crate) fn staticarchive(contents: &Contents, subject: &Subject<'_>) -> Paths {
    if subject.name.ends_with("-dev") || subject.name.ends_with("-static") {
        return None;
    }
    files(contents, |entry| entry.extension() == Some("a"))
}

pub(crate) fn duplicate(contents: &Contents, _: &Subject<'_>) -> Paths {
    let mut groups: BTreeMap<(&str, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in &contents.entries {
        let name = entry.name().to_lowercase();
        let licence = LICENCE_FILES.iter().any(|start| name.starts_with(start));
        if let Some(sha256) = entry.sha256.as_deref().filter(|_| !licence && entry.size >= DUPLICATE_BYTES) {
            groups.entry((entry.name(), sha256)).or_default().push(entry);
        }
    }
    let mut groups: Vec<Vec<&Entry>> = groups.into_values().filter(|group| group.len() > 1).collect();
    let wasted = |group: &[&Entry]| group.iter().skip(1).map(|entry| entry.size).sum::<u64>();
    groups.sort_by_key(|group| std::cmp::Reverse(wasted(group)));
    some(groups.into_iter().flatten().map(|entry| entry.path.clone()).collect())
}

pub(crate) fn documentation(contents: &Contents, subject: &Subject<'_>) -> Paths {
    if subject.name.ends_with("-doc") {
        return None;
    }
    files(contents, |entry| {
        let name = entry.name();
        let named = ["README", "READ.ME", "READ", "TODO", "CREDITS"].iter().any(|end| name.ends_with(end));
        named || ["md", "doc", "docx", "rst"].iter().any(|own| entry.extension() == Some(own))
    })
}

pub(crate) fn empty(contents: &Contents, subject: &Subject<'_>) -> Paths {
    let own = |entry: &Entry| entry.kind != Kind::Directory && !entry.path.starts_with(SBOM_FOLDER);
    (!subject.no_provides && !contents.entries.iter().any(own)).then(Vec::new)
}
