use std::collections::BTreeMap;

use apk::{Architecture, Dependency, FileEntry, FileKind, PackageInformation, Requirement, Version};

use crate::Error;
use crate::base::BaseFiles;
use crate::facts::{Opened, PackageFile, is_followed, label, read_all};
use crate::tree::{Content, Kind, Node, Owner, Tree};

/// Packages laid over each other.
pub(crate) struct Installation {
    pub tree: Tree,
    pub packages: Vec<Opened>,
    /// Content of the files that composing changes or follows, by path in the tree.
    pub captured: BTreeMap<String, Vec<u8>>,
    /// The image below, if there is one.
    pub base: Option<BaseFiles>,
}

/// What a base has, unowned, because its composition found that no package brings it.
const COMPOSED: [&str; 7] = [
    "etc/apk/arch",
    "etc/apk/repositories",
    "etc/apk/world",
    "etc/apko.json",
    "etc/ld.so.cache",
    "etc/os-release",
    "usr/lib/apk/db/",
];
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// Lays the packages over each other and over `tree`, in their order. `architecture` is checked when
/// given; `implied_mtime` is the time of directories that no package states.
pub(crate) fn install(
    packages: &[PackageFile],
    architecture: Option<Architecture>,
    tree: Tree,
    implied_mtime: u64,
) -> Result<Installation, Error> {
    install_over(None, packages, architecture, tree, implied_mtime)
}

/// As [`install`], over a base whose files are in `tree`.
pub(crate) fn install_over(
    base: Option<BaseFiles>,
    packages: &[PackageFile],
    architecture: Option<Architecture>,
    tree: Tree,
    implied_mtime: u64,
) -> Result<Installation, Error> {
    let mut installation =
        Installation { tree, packages: Vec::with_capacity(packages.len()), captured: BTreeMap::new(), base };
    for opened in read_all(packages, architecture)? {
        let name = &opened.information.name;
        if let Some(first) = installation.packages.iter().find(|known| known.information.name == *name) {
            return Err(Error::Twice { first: first.label(), second: opened.label() });
        }
        if let Some(first) = installation.in_base(name) {
            return Err(Error::Twice {
                first: format!("{} (in the base image)", label(first)),
                second: opened.label(),
            });
        }
        installation.lay(opened, implied_mtime)?;
    }
    installation.check_hardlinks()?;
    Ok(installation)
}

impl Installation {
    /// The base's package of this name.
    fn in_base(&self, name: &str) -> Option<&PackageInformation> {
        let packages = self.base.as_ref().map_or(&[][..], BaseFiles::packages);
        packages.iter().map(|package| &package.entry.information).find(|information| information.name == name)
    }

    fn lay(&mut self, mut opened: Opened, implied_mtime: u64) -> Result<(), Error> {
        let entries = std::mem::take(&mut opened.entries);
        for (number, entry) in entries.iter().enumerate() {
            let placing = Placing { entry, number, information: &opened.information, implied_mtime };
            let place = self.place(&placing)?;
            if entry.kind == FileKind::Regular
                && let Some(path) = place.as_ref().filter(|path| is_followed(path))
            {
                let bytes = match opened.captured.remove(&number) {
                    Some(bytes) => bytes,
                    // It got there through a link, so that its name did not tell before.
                    None => opened.capture_again(number)?,
                };
                self.captured.insert(path.clone(), bytes);
            }
            opened.placed.push(place);
        }
        opened.entries = entries;
        opened.captured.clear();
        self.packages.push(opened);
        Ok(())
    }

    /// The content of the regular file that a path leads to, if there is one.
    pub fn content(&mut self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let place = self.tree.file(path).map_err(|problem| Error::Path {
            setting: "composed file".to_owned(),
            path: format!("/{path}"),
            problem,
        })?;
        match self.tree.get(&place).map(|node| &node.kind) {
            Some(Kind::File(Content::Bytes(bytes))) => Ok(Some(bytes.clone())),
            Some(Kind::File(Content::Package { package, entry, .. })) => match self.captured.get(&place) {
                Some(bytes) => Ok(Some(bytes.clone())),
                None => self.packages.get_mut(*package).map(|opened| opened.capture_again(*entry)).transpose(),
            },
            Some(Kind::File(Content::Base { .. })) => {
                Ok(self.base.as_ref().and_then(|base| base.content(&place)).map(<[u8]>::to_vec))
            }
            _ => Ok(None),
        }
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
                match self.tree.get_mut(&path) {
                    None => {}
                    Some(Node { kind: Kind::Directory, owner: Owner::Implied, .. }) => {}
                    Some(known @ Node { kind: Kind::Directory, .. }) => {
                        // As in apko, the mode is the first one's and the time the last one's. What every
                        // image has keeps its mode, whoever else names it.
                        known.mtime = node.mtime;
                        if known.owner == Owner::Composition {
                            known.owner = node.owner;
                        }
                        return Ok(Some(path));
                    }
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
                if self.is_same(&path, earlier, &node, entry) || !self.later_wins(&path, earlier, placing)? {
                    return Ok(None);
                }
                self.give_up(earlier, &path);
            }
            Some((false, Owner::Base(holder))) => {
                let takes = self.over_base(&path, holder, &node, placing)?;
                if !takes {
                    return Ok(None);
                }
            }
            Some(_) => return Err(self.conflict(&path, placing)),
        }
        self.captured.remove(&path);
        self.tree.insert(path.clone(), node, placing.implied_mtime);
        Ok(Some(path))
    }

    /// Whether what the package being laid has for a path is what is there: then the first keeps it, with
    /// its mode and owner, as in apko.
    fn is_same(&self, path: &str, earlier: usize, node: &Node, entry: &FileEntry) -> bool {
        let Some(known) = self.tree.get(path) else { return false };
        match (&known.kind, &node.kind) {
            (Kind::Symlink(first), Kind::Symlink(second)) => first == second,
            (Kind::File(Content::Package { entry: number, .. }), Kind::File(_)) => {
                let first = self.packages.get(earlier).and_then(|package| package.entries.get(*number));
                first.is_some_and(|first| {
                    first.checksum.is_some() && (first.checksum, first.size) == (entry.checksum, entry.size)
                })
            }
            _ => false,
        }
    }

    /// Whether the package being laid takes a file from the one that holds it.
    fn later_wins(&self, path: &str, earlier: usize, placing: &Placing<'_>) -> Result<bool, Error> {
        let Some(holder) = self.packages.get(earlier) else {
            return Err(self.conflict(path, placing));
        };
        wins(placing.information, &holder.information)?.ok_or_else(|| self.conflict(path, placing))
    }

    /// Whether the package being laid takes a file from the base. Between packages the rules are those of
    /// [`Installation::later_wins`]; what the base's composition made because no package brought it gives way.
    fn over_base(
        &mut self,
        path: &str,
        holder: Option<usize>,
        node: &Node,
        placing: &Placing<'_>,
    ) -> Result<bool, Error> {
        let second = label(placing.information);
        let known = self.tree.get(path).map(|known| &known.kind);
        if let (Some(Kind::Symlink(first)), Kind::Symlink(target)) = (known, &node.kind)
            && first == target
        {
            return Ok(false);
        }
        let owner = self.base.as_ref().and_then(|base| base.packages().get(holder?));
        let Some(owner) = owner else {
            let content = self.base.as_ref().and_then(|base| base.content(path));
            if placing.entry.checksum.is_some_and(|checksum| content.map(apk::Checksum::of) == Some(checksum)) {
                return Ok(false);
            }
            let gives_way = match known {
                Some(Kind::Symlink(target)) => BUSYBOX.contains(&target.as_str()),
                Some(Kind::File(_)) => COMPOSED.iter().any(|composed| path.starts_with(composed)),
                _ => false,
            };
            return if gives_way {
                Ok(true)
            } else {
                Err(Error::BaseConflict { path: path.to_owned(), package: second })
            };
        };
        if let Some(Kind::File(Content::Base { size })) = known
            && matches!(node.kind, Kind::File(_))
        {
            let tree = &self.tree;
            let own = owner.files.iter().find(|file| tree.place(&file.path).as_deref() == Ok(path));
            let checksum = own.and_then(|file| file.checksum);
            if checksum.is_some() && (checksum, *size) == (placing.entry.checksum, placing.entry.size) {
                return Ok(false);
            }
        }
        let first = &owner.entry.information;
        let wins = wins(placing.information, first)?.ok_or_else(|| Error::Conflict {
            path: path.to_owned(),
            first: label(first),
            second,
        })?;
        if let (true, Some(base), Some(holder)) = (wins, &mut self.base, holder) {
            base.give_up(holder, path);
        }
        Ok(wins)
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
            Some(Owner::Base(number)) => {
                let owner = self.base.as_ref().and_then(|base| base.packages().get(number?));
                Some(owner.map_or("the base image".to_owned(), |package| label(&package.entry.information)))
            }
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

/// Whether of two packages with a file in common the later one gets it; `None` when neither may.
fn wins(later: &PackageInformation, earlier: &PackageInformation) -> Result<Option<bool>, Error> {
    Ok(match (replaces(later, earlier)?, replaces(earlier, later)?) {
        (true, true) => Some(later.replaces_priority >= earlier.replaces_priority),
        (true, false) => Some(true),
        (false, true) => Some(false),
        (false, false) if !earlier.origin.is_empty() && earlier.origin == later.origin => Some(true),
        (false, false) => None,
    })
}

/// Whether `package` says that it replaces files of `other`, in the version that `other` has.
pub(crate) fn replaces(package: &PackageInformation, other: &PackageInformation) -> Result<bool, Error> {
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
