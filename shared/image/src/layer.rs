use std::collections::BTreeSet;
use std::io::{self, Write};

use tar::EntryType;
use tempfile::NamedTempFile;

use crate::Error;
use crate::base::BaseFiles;
use crate::cache::LayerCache;
use crate::compress::{Compressed, Compression, compress};
use crate::database;
use crate::digest::{Hashing, sha256_text};
use crate::facts::Opened;
use crate::install::Installation;
use crate::layering::Layers;
use crate::sink::{BlobSink, BlobWriter};
use crate::tar_stream::TarStream;
use crate::tree::{Content, Kind, Node, Owner, Tree};

/// Raised when the same tree and packages would give other bytes than before.
const IDENTITY_VERSION: &str = "minimill layer 2";

/// Streams the tree into layers, lowest first.
///
/// The order in a layer is fixed: directories by path, the packages' files in the order of packages
/// and of their archives, composed files by path, devices, symbolic links and hard links by path. So
/// whoever extracts it finds parents before children and files before links to them, and no file is
/// written through a link.
///
/// A layer of a group of packages depends on those packages alone: it holds their files, the
/// directories above them with the newest build date of the group, and the group's part of the apk
/// database, which scanners of single layers read. All directories, with their own times, and what
/// no package brings are in the top layer.
pub(crate) fn write_layers(
    installation: &mut Installation,
    layers: &Layers,
    compression: Compression,
    cache: Option<&LayerCache>,
    sink: &mut dyn BlobSink,
) -> Result<Vec<Compressed>, Error> {
    let Installation { tree, packages, base, .. } = installation;
    if let Some(base) = base {
        let part = Part::over(tree, packages, base);
        return Ok(vec![write_part(tree, packages, &part, compression, cache, sink)?]);
    }
    let mut written = Vec::with_capacity(layers.groups.len() + 1);
    for group in &layers.groups {
        let part = Part::of_group(tree, packages, group)?;
        written.push(write_part(tree, packages, &part, compression, cache, sink)?);
    }
    let top = if layers.groups.is_empty() {
        Part { packages: (0..packages.len()).collect(), ..Part::everything(tree) }
    } else {
        Part::top(tree, packages, layers)
    };
    written.push(write_part(tree, packages, &top, compression, cache, sink)?);
    Ok(written)
}

/// What one layer holds.
struct Part<'t> {
    /// The numbers of the packages whose files it holds, in order.
    packages: Vec<usize>,
    directories: Vec<(&'t str, Node)>,
    /// Everything else but the packages' regular files.
    others: Vec<(&'t str, Node)>,
}

impl<'t> Part<'t> {
    fn everything(tree: &'t Tree) -> Self {
        let (directories, others) = tree
            .iter()
            .filter(|(_, node)| !matches!(node.kind, Kind::File(Content::Package { .. } | Content::Base { .. })))
            .map(|(path, node)| (path, node.clone()))
            .partition(|(_, node)| node.kind == Kind::Directory);
        Self { packages: Vec::new(), directories, others }
    }

    /// What is not in the base as it is, and the directories above, which some runtimes would make anew with
    /// other modes.
    fn over(tree: &'t Tree, packages: &[Opened], base: &BaseFiles) -> Self {
        let mut part = Self::everything(tree);
        let is_new = |path: &str, node: &Node| !base.has(path, node);
        part.packages = (0..packages.len()).collect();
        part.others.retain(|(path, node)| is_new(path, node));
        let mut kept: BTreeSet<&str> = BTreeSet::new();
        for (path, node) in tree.iter() {
            if is_new(path, node) {
                kept.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at)));
                kept.insert(path);
            }
        }
        part.directories.retain(|(path, _)| kept.contains(path));
        part
    }

    fn top(tree: &'t Tree, packages: &[Opened], layers: &Layers) -> Self {
        let grouped: BTreeSet<usize> = layers.groups.iter().flatten().copied().collect();
        let mut part = Self::everything(tree);
        part.packages = (0..packages.len()).filter(|number| !grouped.contains(number)).collect();
        part.others.retain(|(_, node)| holder(tree, node).is_none_or(|number| !grouped.contains(&number)));
        part
    }

    fn of_group(tree: &'t Tree, packages: &[Opened], group: &[usize]) -> Result<Self, Error> {
        let members: Vec<&Opened> = group.iter().filter_map(|number| packages.get(*number)).collect();
        let newest = members.iter().map(|package| package.information.build_date).max();
        let mtime = newest.and_then(|time| u64::try_from(time).ok()).unwrap_or(0);
        let mut part = Self { packages: group.to_vec(), directories: Vec::new(), others: Vec::new() };
        let mut above = BTreeSet::new();
        for (path, node) in tree.iter() {
            if node.kind == Kind::Directory || holder(tree, node).is_none_or(|number| !group.contains(&number)) {
                continue;
            }
            above.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at)));
            if !matches!(node.kind, Kind::File(Content::Package { .. })) {
                part.others.push((path, node.clone()));
            }
        }
        if let Some((path, node)) = database::of_group(tree, &members)? {
            above.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at)));
            part.others.push((path, node));
        }
        for path in above {
            if let Some(node) = tree.get(path) {
                part.directories.push((path, Node { mtime, ..node.clone() }));
            }
        }
        Ok(part)
    }
}

/// The package in whose layer a path is, if it is one of a package: that of its content, or for
/// a hard link that of the file it names.
fn holder(tree: &Tree, node: &Node) -> Option<usize> {
    match (&node.kind, node.owner) {
        (Kind::File(Content::Package { package, .. }), _) => Some(*package),
        (Kind::Hardlink(target), _) => tree.get(target).and_then(|file| match file.kind {
            Kind::File(Content::Package { package, .. }) => Some(package),
            _ => None,
        }),
        (Kind::Symlink(_), Owner::Package(number)) => Some(number),
        _ => None,
    }
}

fn write_part(
    tree: &Tree,
    packages: &mut [Opened],
    part: &Part<'_>,
    compression: Compression,
    cache: Option<&LayerCache>,
    sink: &mut dyn BlobSink,
) -> Result<Compressed, Error> {
    let failed = || Error::write("layer");
    let cached = match cache {
        None => None,
        Some(cache) => match identity(tree, packages, part, compression)? {
            None => None,
            Some(key) => {
                if let Some(layer) = cache.copy(&key, sink)? {
                    return Ok(layer);
                }
                Some((cache, key))
            }
        },
    };
    let blob = sink.begin().map_err(failed())?;
    let copy = match &cached {
        Some((cache, _)) => Some(cache.begin()?),
        None => None,
    };
    let (Tee(blob, copy), made) = compress(Tee(blob, copy), compression, |into| {
        let mut stream = TarStream::new(into);
        write_tree(tree, packages, part, &mut stream)?;
        stream.finish().map(drop).map_err(failed())
    })?;
    blob.commit(&made.digest, made.size).map_err(failed())?;
    if let (Some((cache, key)), Some(copy)) = (cached, copy) {
        cache.keep(&key, copy, &made)?;
    }
    Ok(made)
}

/// Writes to the sink and, where there is one, to the cache.
struct Tee<'s>(Box<dyn BlobWriter + 's>, Option<NamedTempFile>);

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        if let (Some(copy), Some(written)) = (&mut self.1, bytes.get(..count)) {
            copy.write_all(written)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn at(path: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    Error::write(format!("`/{path}` to the layer"))
}

fn write_tree(
    tree: &Tree,
    packages: &mut [Opened],
    part: &Part<'_>,
    stream: &mut TarStream<impl Write>,
) -> Result<(), Error> {
    for (path, node) in &part.directories {
        stream.entry(path, node, EntryType::Directory, None).map_err(at(path))?;
    }
    for number in &part.packages {
        let Some(opened) = packages.get_mut(*number).filter(|opened| opened.holds_files(tree, *number)) else {
            continue;
        };
        opened.visit_placed(|entry, place, content| {
            match place.and_then(|place| own_file(tree, place, *number, entry)) {
                Some((path, node, size)) => stream.file(path, node, size, content).map_err(at(path)),
                None => Ok(()),
            }
        })?;
    }
    write_others(part, stream)
}

/// The node of a package's entry, if that package's content is what is at the path.
pub(crate) fn own_file<'t>(
    tree: &'t Tree,
    path: &'t str,
    package: usize,
    entry: usize,
) -> Option<(&'t str, &'t Node, u64)> {
    let (path, node) = tree.entry(path)?;
    match node.kind {
        Kind::File(Content::Package { package: of, entry: own, size }) if (of, own) == (package, entry) => {
            Some((path, node, size))
        }
        _ => None,
    }
}

fn write_others(part: &Part<'_>, stream: &mut TarStream<impl Write>) -> Result<(), Error> {
    for (path, node) in &part.others {
        if let Kind::File(Content::Bytes(bytes)) = &node.kind {
            let size = bytes.len() as u64;
            stream.file(path, node, size, &mut bytes.as_slice()).map_err(at(path))?;
        }
    }
    for (path, node) in &part.others {
        if let Kind::Device { major, minor } = node.kind {
            stream.device(path, node, major, minor).map_err(at(path))?;
        }
    }
    for (path, node) in &part.others {
        if let Kind::Symlink(target) = &node.kind {
            stream.entry(path, node, EntryType::Symlink, Some(target)).map_err(at(path))?;
        }
    }
    for (path, node) in &part.others {
        if let Kind::Hardlink(target) = &node.kind {
            stream.entry(path, node, EntryType::Link, Some(target)).map_err(at(path))?;
        }
    }
    Ok(())
}

/// A digest of everything that a layer's bytes depend on, found without reading its packages'
/// files: the tar stream with a file's place in its package's data, which the data's SHA-256
/// names, instead of its content. `None` when a package does not state that digest.
fn identity(
    tree: &Tree,
    packages: &[Opened],
    part: &Part<'_>,
    compression: Compression,
) -> Result<Option<String>, Error> {
    let mut hashing = Hashing::new(io::sink());
    hashing.write_all(format!("{IDENTITY_VERSION} {}\n", compression.identity()).as_bytes()).map_err(at(""))?;
    let mut stream = TarStream::new(&mut hashing);
    for (path, node) in &part.directories {
        stream.entry(path, node, EntryType::Directory, None).map_err(at(path))?;
    }
    for number in &part.packages {
        let Some(opened) = packages.get(*number) else { continue };
        for (entry, place) in opened.placed.iter().enumerate() {
            let Some((path, node, size)) = place.as_deref().and_then(|place| own_file(tree, place, *number, entry))
            else {
                continue;
            };
            let data = &opened.information.data_hash;
            if data.is_empty() {
                return Ok(None);
            }
            stream.reference(path, node, size, &format!("{data} {entry}\n")).map_err(at(path))?;
        }
    }
    write_others(part, &mut stream)?;
    let (_, sha256, _) = hashing.finish();
    Ok(Some(sha256_text(sha256)))
}
