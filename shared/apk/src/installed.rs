//! `lib/apk/db/installed`: the packages of a root file system, as apk and scanners read them.

use std::collections::BTreeMap;

use crate::archive::reader::{FileEntry, FileKind, checked_path};
use crate::limits;
use crate::record::{self, Letters, Lines, Record};
use crate::{Checksum, Error, IndexEntry, Result};

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// An installed package and what it put where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstalledPackage {
    /// The package's record, with its `replaces`.
    pub entry: IndexEntry,
    /// Its files and directories.
    pub files: Vec<InstalledFile>,
}

/// A file, link or directory of an installed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledFile {
    /// Relative to the root, without a slash at either end.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a file's content or a symbolic link's target.
    pub checksum: Option<Checksum>,
}

impl From<&FileEntry> for InstalledFile {
    fn from(entry: &FileEntry) -> Self {
        Self {
            path: entry.path.clone(),
            directory: entry.kind == FileKind::Directory,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            checksum: entry.checksum,
        }
    }
}

/// Writes the database: each package's index letters in apk-tools' order (`C P V A S I T U L o m t
/// c k D p i r q`), then `F:` for each directory with `M:` where it isn't `0:0:755`, below it `R:`
/// for each file with `a:` where it isn't `0:0:644` and `Z:` its checksum, then a blank line.
///
/// Directories are sorted by path and files by name. A directory that holds something and isn't
/// listed gets its `F:` line all the same, since a file's line has only its name.
pub fn write_installed(packages: &[InstalledPackage]) -> Result<String> {
    let mut text = String::new();
    for package in packages {
        write_package(&mut text, package)?;
        text.push('\n');
    }
    Ok(text)
}

fn write_package(text: &mut String, package: &InstalledPackage) -> Result<()> {
    let information = &package.entry.information;
    let mut lines = Lines(text);
    lines.text("C", &package.entry.checksum)?;
    lines.always("P", &information.name)?;
    lines.always("V", &information.version)?;
    lines.text("A", &information.architecture)?;
    lines.number("S", package.entry.size);
    lines.number("I", information.installed_size);
    lines.always("T", &information.description)?;
    lines.text("U", &information.url)?;
    lines.text("L", &information.licenses.join(" AND "))?;
    lines.text("o", &information.origin)?;
    lines.text("m", &information.maintainer)?;
    lines.number("t", information.build_date);
    lines.text("c", &information.commit)?;
    lines.number("k", information.provider_priority);
    lines.words("D", &information.depends)?;
    lines.words("p", &information.provides)?;
    lines.words("i", &information.install_if)?;
    lines.words("r", &information.replaces)?;
    lines.number("q", information.replaces_priority);

    let mut directories: BTreeMap<&str, Directory<'_>> = BTreeMap::new();
    for file in &package.files {
        for (at, _) in file.path.match_indices('/') {
            directories.entry(file.path.get(..at).unwrap_or_default()).or_default();
        }
        if file.directory {
            directories.entry(&file.path).or_default().own = Some(file);
        } else {
            let (parent, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
            directories.entry(parent).or_default().files.insert(name, file);
        }
    }
    for (path, directory) in directories {
        lines.always("F", path)?;
        if let Some(own) = directory.own {
            permissions(&mut lines, "M", own, DIRECTORY_MODE)?;
        }
        for (name, file) in directory.files {
            lines.always("R", name)?;
            permissions(&mut lines, "a", file, FILE_MODE)?;
            if let Some(checksum) = file.checksum {
                lines.always("Z", &checksum.to_string())?;
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Directory<'p> {
    own: Option<&'p InstalledFile>,
    files: BTreeMap<&'p str, &'p InstalledFile>,
}

fn permissions(lines: &mut Lines<'_>, letter: &'static str, file: &InstalledFile, usual: u32) -> Result<()> {
    if (file.uid, file.gid, file.mode) == (0, 0, usual) {
        return Ok(());
    }
    lines.always(letter, &format!("{}:{}:{:o}", file.uid, file.gid, file.mode))
}

/// Reads a database. `file` names it in errors.
pub fn parse_installed(file: &str, text: &str) -> Result<Vec<InstalledPackage>> {
    if text.len() as u64 > limits::INDEX_BYTES {
        return Err(Error::limit(file, "the installed database in bytes", limits::INDEX_BYTES));
    }
    let mut packages = Vec::new();
    record::read::<Reading>(file, "the installed database", text, |package| packages.push(package))?;
    Ok(packages)
}

/// What a line of permissions or a checksum applies to.
#[derive(Default)]
enum Last {
    #[default]
    Nothing,
    Root,
    Directory,
    File,
}

#[derive(Default)]
struct Reading {
    package: InstalledPackage,
    letters: Letters,
    folder: String,
    last: Last,
}

impl Record<'_> for Reading {
    type Finished = InstalledPackage;

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (letter, value) = record::split(line)?;
        match letter {
            b'F' => {
                self.letters.first(letter);
                self.last = Last::Root;
                self.folder.clear();
                if !value.is_empty() {
                    self.folder = path(value)?;
                    self.push(self.folder.clone(), true);
                    self.last = Last::Directory;
                }
            }
            b'R' => {
                if matches!(self.last, Last::Nothing) {
                    return Err("`R:` needs an `F:` before it".to_owned());
                }
                if value.contains('/') {
                    return Err(format!("`R:` expected a name without `/`, found `{}`", value.escape_debug()));
                }
                let name = path(value)?;
                self.push(if self.folder.is_empty() { name } else { format!("{}/{name}", self.folder) }, false);
                self.last = Last::File;
            }
            b'M' => match self.last {
                Last::Directory => self.permissions(value)?,
                Last::Root => {}
                _ => return Err("`M:` needs an `F:` before it".to_owned()),
            },
            b'a' => match self.last {
                Last::File => self.permissions(value)?,
                _ => return Err("`a:` needs an `R:` before it".to_owned()),
            },
            b'Z' => match (&self.last, self.package.files.last_mut()) {
                (Last::File, Some(file)) => file.checksum = Some(value.parse().map_err(|error| format!("{error}"))?),
                _ => return Err("`Z:` needs an `R:` before it".to_owned()),
            },
            _ => {
                self.letters.once(letter)?;
                record::set(&mut self.package.entry, letter, value)?;
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    fn finish(self) -> Result<InstalledPackage, String> {
        record::named(&self.package.entry)?;
        Ok(self.package)
    }
}

impl Reading {
    fn push(&mut self, path: String, directory: bool) {
        let mode = if directory { DIRECTORY_MODE } else { FILE_MODE };
        self.package.files.push(InstalledFile { path, directory, mode, uid: 0, gid: 0, checksum: None });
    }

    fn permissions(&mut self, value: &str) -> Result<(), String> {
        let parsed = || {
            let mut parts = value.split(':');
            let uid = parts.next()?.parse().ok()?;
            let gid = parts.next()?.parse().ok()?;
            let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
            (parts.next().is_none() && mode <= 0o7777).then_some((uid, gid, mode))
        };
        let (uid, gid, mode) = parsed()
            .ok_or_else(|| format!("expected UID:GID:MODE with an octal mode, found `{}`", value.escape_debug()))?;
        if let Some(file) = self.package.files.last_mut() {
            (file.uid, file.gid, file.mode) = (uid, gid, mode);
        }
        Ok(())
    }
}

fn path(value: &str) -> Result<String, String> {
    match checked_path(value.as_bytes(), false) {
        Ok(Some(path)) => Ok(path),
        Ok(None) => Err("its path is empty".to_owned()),
        Err(problem) => Err(format!("{problem}: `{}`", value.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PackageInformation;

    fn file(path: &str, directory: bool, mode: u32, gid: u32) -> InstalledFile {
        let checksum = (!directory).then(|| Checksum::of(path.as_bytes()));
        InstalledFile { path: path.into(), directory, mode, uid: 0, gid, checksum }
    }

    fn package() -> InstalledPackage {
        InstalledPackage {
            entry: IndexEntry {
                checksum: Checksum::of(b"").to_string(),
                size: 9,
                information: PackageInformation {
                    name: "hello".into(),
                    version: "1-r0".into(),
                    architecture: "x86_64".into(),
                    licenses: vec!["MIT".into()],
                    depends: vec!["a".into(), "b>1".into()],
                    provides: vec!["cmd:hello=1-r0".into()],
                    replaces: vec!["old".into()],
                    ..PackageInformation::default()
                },
            },
            files: vec![
                file("init", false, 0o755, 0),
                file("tmp", true, 0o1777, 0),
                file("usr", true, 0o755, 0),
                file("usr/bin", true, 0o755, 0),
                file("usr/bin/hello", false, 0o644, 0),
                file("usr/bin/ping", false, 0o4755, 7),
            ],
        }
    }

    #[test]
    fn letters_are_in_apk_order() {
        insta::assert_snapshot!(write_installed(&[package()]).unwrap(), @r"
        C:Q12jmj7l5rSw0yVb/vlWAYkK/YBwk=
        P:hello
        V:1-r0
        A:x86_64
        S:9
        T:
        L:MIT
        D:a b>1
        p:cmd:hello=1-r0
        r:old
        F:
        R:init
        a:0:0:755
        Z:Q1/WKBL72exMf5mqT2JT/q0jiOsjg=
        F:tmp
        M:0:0:1777
        F:usr
        F:usr/bin
        R:hello
        Z:Q1ij+9WcHK83jW3k1lOCKs7madsr4=
        R:ping
        a:0:7:4755
        Z:Q1DDKeQbULjGUw9ngmDlKN1SDVMuo=
        ");
    }

    #[test]
    fn a_database_reads_back() {
        let mut second = package();
        second.entry.information.name = "other".into();
        let packages = [package(), second];
        let text = write_installed(&packages).unwrap();
        assert_eq!(parse_installed("installed", &text).unwrap(), packages);
        assert_eq!(write_installed(&parse_installed("installed", &text).unwrap()).unwrap(), text);
    }

    #[test]
    fn directories_that_are_not_listed_get_their_line() {
        let mut package = package();
        package.files = vec![file("a/b/c", false, 0o644, 0)];
        let text = write_installed(&[package]).unwrap();
        assert!(text.contains("F:a\nF:a/b\nR:c\n"), "{text}");
    }

    #[test]
    fn bad_lines_are_named() {
        let problem = |text: &str| parse_installed("i", text).unwrap_err().to_string();
        assert_eq!(problem("P:a\nR:x\n"), "i:2: `R:` needs an `F:` before it");
        assert_eq!(problem("F:a\na:0:0:755\n"), "i:2: `a:` needs an `R:` before it");
        assert_eq!(problem("F:a\nM:0:0:9\n"), "i:2: expected UID:GID:MODE with an octal mode, found `0:0:9`");
        assert_eq!(problem("F:../etc\n"), "i:1: its path has a `..` component, which would escape the root: `../etc`");
        assert_eq!(problem("F:etc\nR:a/b\n"), "i:2: `R:` expected a name without `/`, found `a/b`");
        assert_eq!(problem("P:a\n\n"), "i:2: the record that ends here: `V` can't be ``: it must not be empty");
    }
}
