use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use apk::InstalledPackage;

use super::layer::Counted;
use crate::facts::{CAPTURE_LIMIT, SBOM_LIMIT, is_followed};
use crate::tree::{Content, Kind, Node, Owner, Tree};
use crate::{Error, loader_cache};

/// Where a base may have the apk database, the first that is there counts.
const INSTALLED_PLACES: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];
const SBOMS: &str = "var/lib/db/sbom/";
const KEYS: &str = "etc/apk/keys/";
/// Bytes of all files that are kept in memory.
const CAPTURED_BYTES: u64 = 256 << 20;
/// Bytes of paths, link targets and attributes of all layers.
const FACTS_BYTES: u64 = 256 << 20;
/// Paths that opaque whiteouts may go over.
const HIDDEN_PATHS: usize = 10_000_000;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// An entry of a layer, its paths inside the root.
pub(super) struct Member {
    pub path: String,
    pub kind: MemberKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

pub(super) enum MemberKind {
    Directory,
    /// With its size in bytes.
    Regular(u64),
    Symlink(String),
    Hardlink(String),
    /// A device or pipe.
    Device(u32, u32),
}

/// The files of layers laid over each other.
#[derive(Default)]
pub(super) struct Root {
    pub read: Counted,
    tree: Tree,
    captured: BTreeMap<String, Vec<u8>>,
    captured_bytes: u64,
    /// Bytes of paths, link targets and attributes.
    facts: u64,
    /// Paths that opaque whiteouts went over.
    looked_at: usize,
    /// What the layer that is being read has brought, which its own whiteouts leave alone.
    brought: BTreeSet<String>,
}

impl Root {
    pub(super) fn begin_layer(&mut self) {
        self.brought.clear();
    }

    /// Lays an entry over what is there, as runtimes do.
    pub(super) fn add(&mut self, member: Member, content: &mut dyn Read) -> Result<(), String> {
        if member.path.is_empty() {
            return match member.kind {
                MemberKind::Directory => Ok(()),
                _ => Err("the root is not a directory".to_owned()),
            };
        }
        let path = self.tree.place(&member.path)?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            let parent = parent.to_owned();
            return self.hide_below(&parent);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // Names such as `.wh..wh.plnk` are a file system's own, and hide nothing.
            if !hidden.starts_with(WHITEOUT) && !hidden.is_empty() {
                let hidden = if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") };
                self.remove(&hidden);
            }
            return Ok(());
        }
        let mut linked = None;
        let kind = match member.kind {
            MemberKind::Directory => Kind::Directory,
            MemberKind::Regular(size) => Kind::File(Content::Base { size }),
            MemberKind::Symlink(target) => Kind::Symlink(target),
            MemberKind::Device(major, minor) => Kind::Device { major, minor },
            MemberKind::Hardlink(target) => {
                let (kind, content) = self.linked(&target, capture_limit(&path).is_some())?;
                linked = content;
                kind
            }
        };
        if !(kind == Kind::Directory && self.tree.is_directory(&path)) {
            self.remove(&path);
        }
        if let Some(limit) = capture_limit(&path)
            && let Kind::File(Content::Base { size }) = kind
        {
            match linked {
                None => self.capture(&path, size, limit, content)?,
                Some(bytes) => self.capture(&path, size, limit, &mut bytes.as_slice())?,
            }
        }
        let xattrs = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let target = if let Kind::Symlink(target) = &kind { target.len() } else { 0 };
        self.count(&path, xattrs + target)?;
        let node = Node {
            kind,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: member.xattrs,
            owner: Owner::Base(None),
        };
        self.tree.insert(path.clone(), node, 0);
        self.brought.insert(path);
        Ok(())
    }

    /// What another name of the file at `target` is, and its content if that is wanted. It is a file of its
    /// own here, since a layer on top that changes one name leaves the other.
    fn linked(&self, target: &str, wanted: bool) -> Result<(Kind, Option<Vec<u8>>), String> {
        let shown = target.escape_debug();
        let place = self.tree.place(target)?;
        let kind = match self.tree.get(&place).map(|node| &node.kind) {
            Some(Kind::Directory) | None => {
                return Err(format!("it is a hard link to `/{shown}`, which is no file before it"));
            }
            Some(kind) => kind.clone(),
        };
        let content = self.captured.get(&place).cloned();
        if wanted && content.is_none() && matches!(kind, Kind::File(_)) {
            return Err(format!("it is a hard link to `/{shown}`, whose content was not kept; make it a file"));
        }
        Ok((kind, content))
    }

    /// Counts what keeping an entry takes, with the directories above it that nothing states.
    fn count(&mut self, path: &str, more: usize) -> Result<(), String> {
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        let implied: usize = above.filter(|above| self.tree.get(above).is_none()).map(str::len).sum();
        self.facts += (path.len() + implied + more) as u64;
        if self.facts > FACTS_BYTES {
            return Err(format!("paths, links and attributes have more than {FACTS_BYTES} bytes together"));
        }
        Ok(())
    }

    fn capture(&mut self, path: &str, size: u64, limit: u64, content: &mut dyn Read) -> Result<(), String> {
        if size > limit {
            return Err(format!("it has {size} bytes, the limit is {limit}"));
        }
        self.captured_bytes += size;
        if self.captured_bytes > CAPTURED_BYTES {
            return Err(format!("the files that have to be read have more than {CAPTURED_BYTES} bytes together"));
        }
        let mut bytes = Vec::new();
        content.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        self.captured.insert(path.to_owned(), bytes);
        Ok(())
    }

    /// Removes what is at a path and below it.
    fn remove(&mut self, path: &str) {
        if self.tree.is_directory(path) {
            for below in self.tree.below(path).map(str::to_owned).collect::<Vec<_>>() {
                self.forget(&below);
            }
        }
        self.forget(path);
    }

    fn forget(&mut self, path: &str) {
        self.tree.remove(path);
        self.captured.remove(path);
        self.brought.remove(path);
    }

    /// Removes what lower layers have below a directory.
    fn hide_below(&mut self, directory: &str) -> Result<(), String> {
        let below: Vec<String> = self.tree.below(directory).map(str::to_owned).collect();
        self.looked_at += below.len();
        if self.looked_at > HIDDEN_PATHS {
            return Err(format!("opaque whiteouts are over more than {HIDDEN_PATHS} paths"));
        }
        // What is in a directory comes before it.
        for path in below.iter().rev() {
            if !self.brought.contains(path) && self.tree.below(path).next().is_none() {
                self.forget(path);
            }
        }
        Ok(())
    }

    /// The files, those of `packages` marked as theirs.
    pub(super) fn finish(self, packages: Vec<InstalledPackage>, layout: &Path) -> Result<BaseFiles, Error> {
        let Self { mut tree, captured, .. } = self;
        for (number, package) in packages.iter().enumerate() {
            for file in package.files.iter().filter(|file| !file.directory) {
                let place = tree.place(&file.path).map_err(|problem| Error::Base {
                    layout: layout.to_owned(),
                    problem: format!("`/{}` of its package `{}`: {problem}", file.path, package.entry.information.name),
                })?;
                if let Some(node) = tree.get_mut(&place)
                    && node.kind != Kind::Directory
                {
                    node.owner = Owner::Base(Some(number));
                }
            }
        }
        Ok(BaseFiles { below: tree.clone(), tree, captured, packages })
    }
}

/// How much of a file composing may read, of those that it reads.
fn capture_limit(path: &str) -> Option<u64> {
    if path.starts_with(SBOMS) || path.starts_with("usr/lib/apk/db/") || path.starts_with("lib/apk/db/") {
        return Some(SBOM_LIMIT);
    }
    let read = is_followed(path)
        || path.starts_with(KEYS)
        || matches!(path, loader_cache::CACHE | crate::certificates::JAVA_STORE | crate::certificates::LIST);
    read.then_some(CAPTURE_LIMIT)
}

/// What a base brings.
#[derive(Debug)]
pub(crate) struct BaseFiles {
    /// Its files, to lay packages over.
    pub tree: Tree,
    /// The same, as they stay.
    below: Tree,
    /// Content of the files that composing reads, by path in the tree.
    captured: BTreeMap<String, Vec<u8>>,
    packages: Vec<InstalledPackage>,
}

impl BaseFiles {
    /// What is installed, without the files that packages on top took over.
    pub fn packages(&self) -> &[InstalledPackage] {
        &self.packages
    }

    /// Whether what is at the path is what the base has there.
    pub fn has(&self, path: &str, node: &Node) -> bool {
        self.below.get(path).is_some_and(|known| known.is_like(node))
    }

    /// Content of a file of the base, of those that composing reads.
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        self.captured.get(path).map(Vec::as_slice)
    }

    /// The place and the text of the base's own apk database.
    pub fn database(&self) -> Option<(&'static str, &str)> {
        INSTALLED_PLACES.iter().find_map(|place| {
            let at = self.below.file(place).ok()?;
            Some((*place, std::str::from_utf8(self.content(&at)?).ok()?))
        })
    }

    /// A file beside the base's apk database.
    pub fn beside_database(&self, name: &str) -> Option<&[u8]> {
        let (place, _) = self.database()?;
        let folder = place.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.content(&self.below.file(&format!("{folder}/{name}")).ok()?)
    }

    /// The SPDX document that a package carries.
    pub fn sbom(&self, name: &str, version: &str) -> Option<&[u8]> {
        [format!("{name}-{version}"), name.to_owned()].iter().find_map(|name| {
            let path = format!("{SBOMS}{name}.spdx.json");
            self.content(&self.below.file(&path).ok()?)
        })
    }

    /// The package that holds a file gives it up.
    pub fn give_up(&mut self, package: usize, path: &str) {
        let below = &self.below;
        if let Some(package) = self.packages.get_mut(package) {
            package.files.retain(|file| file.directory || below.place(&file.path).as_deref() != Ok(path));
        }
    }
}
