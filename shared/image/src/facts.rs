use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use apk::{Architecture, FileEntry, FileKind, IndexEntry, Package, PackageInformation};

use crate::tree::{Content, Kind, Tree};
use crate::{Error, certificates, loader_cache};

/// The largest file that composing reads into memory, in bytes.
pub(crate) const CAPTURE_LIMIT: u64 = 4 << 20;
/// The largest SBOM of a package that composing reads into memory, in bytes.
pub(crate) const SBOM_LIMIT: u64 = 64 << 20;
/// More threads than this only wait for the disk.
const MOST_READERS: usize = 16;
/// How many bytes of files stay in memory between reading the facts and writing the layers. What is
/// beyond is read and inflated again.
const KEPT_BYTES: u64 = 96 << 20;

/// A package to install, in the order in which packages are given.
#[derive(Clone, Debug)]
pub struct PackageFile {
    /// The record that was chosen; its checksum must be the file's.
    pub entry: IndexEntry,
    /// The `.apk` file.
    pub path: PathBuf,
}

/// A package whose facts were read and whose files can be read again.
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
    /// Content of entries that composing changes or follows, by entry.
    pub captured: BTreeMap<usize, Vec<u8>>,
    /// Content of every entry, if there was room for it.
    kept: Option<Vec<Vec<u8>>>,
}

impl Opened {
    /// `NAME-VERSION`.
    pub fn label(&self) -> String {
        label(&self.information)
    }

    /// Whether some regular file of the tree has its content from this package.
    pub fn holds_files(&self, tree: &Tree, number: usize) -> bool {
        self.placed.iter().flatten().any(|path| {
            tree.get(path).is_some_and(
                |node| matches!(node.kind, Kind::File(Content::Package { package, .. }) if package == number),
            )
        })
    }

    /// Calls `visit` for every entry in order, with its number, its path in the tree and its content.
    /// Content that was kept in memory is given up by it.
    pub fn visit_placed(
        &mut self,
        mut visit: impl FnMut(usize, Option<&str>, &mut dyn Read) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let placed = &self.placed;
        let path = |number: usize| placed.get(number).and_then(Option::as_deref);
        if let Some(kept) = self.kept.take() {
            let mut entries = kept.into_iter().enumerate();
            return entries.try_for_each(|(number, content)| visit(number, path(number), &mut content.as_slice()));
        }
        let mut number = 0;
        self.package.visit(|_, content| {
            number += 1;
            visit(number - 1, path(number - 1), content)
        })
    }

    /// The content of an entry that was not captured when the package was read.
    pub fn capture_again(&mut self, wanted: usize) -> Result<Vec<u8>, Error> {
        let Self { package, information, .. } = self;
        let (mut number, mut found) = (0, Vec::new());
        package.visit::<Error>(|entry, content| {
            if number == wanted {
                found = capture(entry, information, content, CAPTURE_LIMIT)?;
            }
            number += 1;
            Ok(())
        })?;
        Ok(found)
    }
}

pub(crate) fn label(information: &PackageInformation) -> String {
    format!("{}-{}", information.name, information.version)
}

/// Reads every package's facts, several at once. The order is kept, and of several failures the
/// first package's is returned. `architecture` is checked when given.
pub(crate) fn read_all(packages: &[PackageFile], architecture: Option<Architecture>) -> Result<Vec<Opened>, Error> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_READERS);
    let next = AtomicUsize::new(0);
    let room = AtomicU64::new(KEPT_BYTES);
    let read: Mutex<BTreeMap<usize, Result<Opened, Error>>> = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..threads.min(packages.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(package) = packages.get(number) else { return };
                    let opened = read_one(package, architecture, &room);
                    if opened.is_err() {
                        // The ones before this one are under way: the first failure is among them.
                        next.fetch_max(packages.len(), Ordering::Relaxed);
                    }
                    read.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(number, opened);
                }
            });
        }
    });
    read.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

fn read_one(file: &PackageFile, architecture: Option<Architecture>, room: &AtomicU64) -> Result<Opened, Error> {
    let mut opened = open(file, architecture)?;
    let Opened { package, information, entries, sbom, captured, kept, .. } = &mut opened;
    let own_sbom = format!("var/lib/db/sbom/{}.spdx.json", label(information));
    // What the package says of its size is held against what it has, file by file.
    let mut left = information.installed_size;
    let reserved = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(left));
    *kept = reserved.is_ok().then(Vec::new);
    package.visit::<Error>(|entry, content| {
        let mut follow = |content: &mut dyn Read| {
            if entry.kind == FileKind::Regular {
                if entry.path == own_sbom {
                    *sbom = Some(capture(entry, information, content, SBOM_LIMIT)?);
                } else if is_followed(&entry.path) {
                    captured.insert(entries.len(), capture(entry, information, content, CAPTURE_LIMIT)?);
                }
            }
            entries.push(entry.clone());
            Ok(())
        };
        match (kept.as_mut(), left.checked_sub(entry.size)) {
            (Some(kept), Some(rest)) => {
                left = rest;
                let bytes = read(entry, information, content, entry.size)?;
                follow(&mut bytes.as_slice())?;
                kept.push(bytes);
                Ok(())
            }
            _ => {
                *kept = None;
                follow(content)
            }
        }
    })?;
    Ok(opened)
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
        captured: BTreeMap::new(),
        kept: None,
    })
}

/// The files whose content composing reads.
pub(crate) fn is_followed(path: &str) -> bool {
    matches!(path, "etc/passwd" | "etc/group")
        || path.starts_with("etc/busybox-paths.d/")
        || path == loader_cache::CONFIGURATION
        || path.starts_with(loader_cache::CONFIGURATIONS)
        || certificates::BUNDLES.contains(&path)
}

fn capture(
    entry: &FileEntry,
    information: &PackageInformation,
    content: &mut dyn Read,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    if entry.size > limit {
        return Err(Error::Content {
            path: entry.path.clone(),
            package: label(information),
            problem: format!("it has {} bytes, the limit is {limit}", entry.size),
        });
    }
    read(entry, information, content, limit)
}

fn read(
    entry: &FileEntry,
    information: &PackageInformation,
    content: &mut dyn Read,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(usize::try_from(entry.size.min(limit)).unwrap_or(0));
    content.read_to_end(&mut bytes).map_err(|source| apk::Error::Io {
        what: format!("`/{}` of package `{}`", entry.path, label(information)),
        source,
    })?;
    Ok(bytes)
}
