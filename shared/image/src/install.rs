use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use apk::{
    Architecture, Dependency, FileEntry, FileKind, IndexEntry, Package, PackageInformation, Requirement, Version,
};

use crate::Error;
use crate::tree::{Content, Kind, Node, Owner, Tree};

/// The largest file that composing reads into memory, in bytes.
const CAPTURE_LIMIT: u64 = 1 << 20;
/// The largest SBOM of a package that composing reads into memory, in bytes.
const SBOM_LIMIT: u64 = 64 << 20;

/// A package to install, in the order in which packages are given.
#[derive(Clone, Debug)]
pub struct PackageFile {
    /// The record that was chosen; its checksum must be the file's.
    pub entry: IndexEntry,
    /// The `.apk` file.
    pub path: PathBuf,
}

/// A package that was laid into a tree and can be read again.
pub(crate) struct Opened {
    pub package: Package<File>,
    pub information: PackageInformation,
    pub checksum: String,
    pub size: u64,
    /// Every entry, in archive order.
    pub entries: Vec<FileEntry>,
    /// For every entry the path in the tree, or `None` when another package's file is there.
    pub placed: Vec<Option<String>>,
    /// The document at `/var/lib/db/sbom`.
    pub sbom: Option<Vec<u8>>,
}

impl Opened {
    /// `NAME-VERSION`.
    pub fn label(&self) -> String {
        label(&self.information)
    }
}

/// Packages laid over each other.
pub(crate) struct Installation {
    pub tree: Tree,
    pub packages: Vec<Opened>,
    /// Content of the files that composing changes or follows, by path in the tree.
    pub captured: BTreeMap<String, Vec<u8>>,
}

/// Lays the packages over each other in their order. `architecture` is checked when given;
/// `implied_mtime` is the time of directories that no package states.
pub(crate) fn install(
    packages: &[PackageFile],
    architecture: Option<Architecture>,
    implied_mtime: u64,
) -> Result<Installation, Error> {
    let mut installation =
        Installation { tree: Tree::default(), packages: Vec::with_capacity(packages.len()), captured: BTreeMap::new() };
    for package in packages {
        let mut opened = open(package, architecture)?;
        let name = &opened.information.name;
        if let Some(first) = installation.packages.iter().find(|known| known.information.name == *name) {
            return Err(Error::Twice { first: first.label(), second: opened.label() });
        }
        installation.read(&mut opened, implied_mtime)?;
        installation.packages.push(opened);
    }
    installation.check_hardlinks()?;
    Ok(installation)
}

fn open(file: &PackageFile, architecture: Option<Architecture>) -> Result<Opened, Error> {
    // The path alone says nothing to a reader where packages lie under their digests.
    let name = format!("{}.apk ({})", label(&file.entry.information), file.path.display());
    let source = File::open(&file.path).map_err(|source| apk::Error::Io { what: name.clone(), source })?;
    let package = Package::read(&name, source)?;
    let checksum = package.checksum().to_string();
    if checksum != file.entry.checksum {
        return Err(Error::OtherPackage { file: name, expected: file.entry.checksum.clone(), found: checksum });
    }
    let information = package.information().clone();
    if let Some(wanted) = architecture
        && information.architecture != wanted.apk()
        && information.architecture != "noarch"
    {
        return Err(Error::Architecture {
            package: label(&information),
            found: information.architecture,
            expected: wanted.apk().to_owned(),
        });
    }
    Ok(Opened {
        size: package.size(),
        package,
        information,
        checksum,
        entries: Vec::new(),
        placed: Vec::new(),
        sbom: None,
    })
}

fn label(information: &PackageInformation) -> String {
    format!("{}-{}", information.name, information.version)
}

impl Installation {
    fn read(&mut self, opened: &mut Opened, implied_mtime: u64) -> Result<(), Error> {
        let Opened { package, information, entries, placed, sbom, .. } = opened;
        let own_sbom = format!("var/lib/db/sbom/{}.spdx.json", label(information));
        package.visit::<Error>(|entry, content| {
            let placing = Placing { entry, number: entries.len(), information, implied_mtime };
            let place = self.place(&placing)?;
            entries.push(entry.clone());
            if entry.kind == FileKind::Regular
                && let Some(path) = &place
            {
                if entry.path == own_sbom {
                    *sbom = Some(capture(&placing, content, SBOM_LIMIT)?);
                } else if is_followed(path) {
                    let bytes = capture(&placing, content, CAPTURE_LIMIT)?;
                    self.captured.insert(path.clone(), bytes);
                }
            }
            placed.push(place);
            Ok(())
        })
    }

    /// Puts one entry into the tree; `None` when another package's file stays.
    fn place(&mut self, placing: &Placing<'_>) -> Result<Option<String>, Error> {
        let number = self.packages.len();
        let entry = placing.entry;
        let wrong = |problem: String| placing.wrong(problem);
        let mut node = Node {
            kind: Kind::Directory,
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
            owner: Owner::Package(number),
        };
        let path = match &entry.kind {
            FileKind::Directory => {
                let path = self.tree.follow(&entry.path).map_err(wrong)?;
                match self.tree.get(&path) {
                    None => {}
                    Some(Node { kind: Kind::Directory, owner: Owner::Implied, .. }) => {}
                    Some(Node { kind: Kind::Directory, .. }) => return Ok(Some(path)),
                    Some(_) => return Err(self.conflict(&path, placing)),
                }
                if !path.is_empty() {
                    self.tree.insert(path.clone(), node, placing.implied_mtime);
                }
                return Ok(Some(path));
            }
            FileKind::Regular => {
                node.kind = Kind::File(Content::Package { package: number, entry: placing.number, size: entry.size });
                self.tree.place(&entry.path).map_err(wrong)?
            }
            FileKind::Symlink(target) => {
                node.kind = Kind::Symlink(target.clone());
                self.tree.place(&entry.path).map_err(wrong)?
            }
            FileKind::Hardlink(target) => {
                let target = self.tree.place(target).map_err(wrong)?;
                node.kind = Kind::Hardlink(target);
                self.tree.place(&entry.path).map_err(wrong)?
            }
        };
        match self.tree.get(&path).map(|node| (node.kind == Kind::Directory, node.owner)) {
            None => {}
            Some((false, Owner::Package(earlier))) if earlier != number => {
                if !self.later_wins(&path, earlier, placing)? {
                    return Ok(None);
                }
                self.give_up(earlier, &path);
            }
            Some(_) => return Err(self.conflict(&path, placing)),
        }
        self.captured.remove(&path);
        self.tree.insert(path.clone(), node, placing.implied_mtime);
        Ok(Some(path))
    }

    /// Whether the package being laid takes a file from the one that holds it.
    fn later_wins(&self, path: &str, earlier: usize, placing: &Placing<'_>) -> Result<bool, Error> {
        let Some(holder) = self.packages.get(earlier) else {
            return Err(self.conflict(path, placing));
        };
        let (first, second) = (&holder.information, placing.information);
        if !first.origin.is_empty() && first.origin == second.origin {
            return Ok(true);
        }
        match (replaces(second, first)?, replaces(first, second)?) {
            (true, true) => Ok(second.replaces_priority >= first.replaces_priority),
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            (false, false) => Err(self.conflict(path, placing)),
        }
    }

    fn give_up(&mut self, package: usize, path: &str) {
        if let Some(opened) = self.packages.get_mut(package) {
            for place in &mut opened.placed {
                if place.as_deref() == Some(path) {
                    *place = None;
                }
            }
        }
    }

    fn conflict(&self, path: &str, placing: &Placing<'_>) -> Error {
        let owner = self.tree.get(path).map(|node| node.owner);
        // A directory that nobody states belongs to whoever has something in it.
        let owner = match owner {
            Some(Owner::Implied) => self
                .tree
                .below(path)
                .filter_map(|path| self.tree.get(path))
                .map(|node| node.owner)
                .find(|owner| matches!(owner, Owner::Package(_))),
            owner => owner,
        };
        let second = label(placing.information);
        let first = match owner {
            Some(Owner::Package(number)) => self.packages.get(number).map(Opened::label),
            _ => None,
        };
        match first {
            Some(first) => Error::Conflict { path: path.to_owned(), first, second },
            None => placing.wrong(format!("`/{path}` is already there from the same package")),
        }
    }

    /// A hard link must still lead to the content that its own package meant.
    fn check_hardlinks(&self) -> Result<(), Error> {
        for (path, node) in self.tree.iter() {
            let (Kind::Hardlink(target), Owner::Package(number)) = (&node.kind, node.owner) else {
                continue;
            };
            let meant = self
                .tree
                .get(target)
                .is_some_and(|found| found.owner == node.owner && matches!(found.kind, Kind::File(_)));
            if !meant {
                return Err(Error::Placement {
                    path: path.to_owned(),
                    package: self.packages.get(number).map(Opened::label).unwrap_or_default(),
                    problem: format!("it is a hard link to `/{target}`, which another package replaced"),
                });
            }
        }
        Ok(())
    }
}

struct Placing<'a> {
    entry: &'a FileEntry,
    number: usize,
    information: &'a PackageInformation,
    implied_mtime: u64,
}

impl Placing<'_> {
    fn wrong(&self, problem: String) -> Error {
        Error::Placement { path: self.entry.path.clone(), package: label(self.information), problem }
    }
}

/// The files whose content composing reads.
fn is_followed(path: &str) -> bool {
    matches!(path, "etc/passwd" | "etc/group") || path.starts_with("etc/busybox-paths.d/")
}

fn capture(placing: &Placing<'_>, content: &mut dyn Read, limit: u64) -> Result<Vec<u8>, Error> {
    if placing.entry.size > limit {
        return Err(Error::Content {
            path: placing.entry.path.clone(),
            package: label(placing.information),
            problem: format!("it has {} bytes, the limit is {limit}", placing.entry.size),
        });
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|source| apk::Error::Io {
        what: format!("`/{}` of package `{}`", placing.entry.path, label(placing.information)),
        source,
    })?;
    Ok(bytes)
}

/// Whether `package` says that it replaces files of `other`, in the version that `other` has.
fn replaces(package: &PackageInformation, other: &PackageInformation) -> Result<bool, Error> {
    let version = other.version.parse::<Version>().ok();
    for text in &package.replaces {
        let replaced = text.parse::<Dependency>().map_err(|error| Error::Replaces {
            package: label(package),
            value: text.clone(),
            reason: error.to_string(),
        })?;
        let named = !replaced.conflict && replaced.name == other.name;
        if named && (replaced.requirement == Requirement::Any || replaced.satisfied_by(version.as_ref())) {
            return Ok(true);
        }
    }
    Ok(false)
}
