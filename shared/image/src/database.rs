use apk::{IndexEntry, InstalledFile, InstalledPackage, write_installed};

use crate::Error;
use crate::facts::Opened;
use crate::system::{write, write_mode};
use crate::tar_stream::TarStream;
use crate::tree::{Node, Tree};

const INSTALLED: &str = "usr/lib/apk/db/installed";

/// Writes the apk database of the packages to `/usr/lib/apk/db`.
pub(crate) fn add(tree: &mut Tree, packages: &[Opened], mtime: u64) -> Result<(), Error> {
    let installed: Vec<InstalledPackage> = packages.iter().map(record).collect();
    let mut triggers = String::new();
    for package in packages {
        if !package.information.triggers.is_empty() {
            triggers.push_str(&format!("{} {}\n", package.checksum, package.information.triggers.join(" ")));
        }
    }
    write(tree, INSTALLED, write_installed(&installed)?.into_bytes(), mtime)?;
    write(tree, "usr/lib/apk/db/scripts.tar", scripts(packages, mtime)?, mtime)?;
    write(tree, "usr/lib/apk/db/triggers", triggers.into_bytes(), mtime)?;
    write_mode(tree, "usr/lib/apk/db/lock", Vec::new(), 0o600, mtime)
}

/// The part of the database that a layer of these packages holds, where the whole one is.
pub(crate) fn of_group<'t>(tree: &'t Tree, packages: &[&Opened]) -> Result<Option<(&'t str, Node)>, Error> {
    let place = tree.follow(INSTALLED).unwrap_or_else(|_| INSTALLED.to_owned());
    let Some((path, node)) = tree.entry(&place) else { return Ok(None) };
    let installed: Vec<InstalledPackage> = packages.iter().map(|package| record(package)).collect();
    let mut part = Node::file(write_installed(&installed)?.into_bytes(), node.mode, node.mtime);
    (part.uid, part.gid) = (node.uid, node.gid);
    Ok(Some((path, part)))
}

/// The package's own paths, as its archive writes them; those that another package holds now are
/// left out.
fn record(package: &Opened) -> InstalledPackage {
    let files = package.entries.iter().zip(&package.placed);
    InstalledPackage {
        entry: IndexEntry {
            checksum: package.checksum.clone(),
            size: package.size,
            information: package.information.clone(),
        },
        files: files.filter(|(_, place)| place.is_some()).map(|(entry, _)| InstalledFile::from(entry)).collect(),
    }
}

/// `scripts.tar`: the packages' scripts, named `NAME-VERSION.CHECKSUM.SCRIPT`.
fn scripts(packages: &[Opened], mtime: u64) -> Result<Vec<u8>, Error> {
    let mut stream = TarStream::new(Vec::new());
    for package in packages {
        for (script, content) in package.package.scripts() {
            let name = format!("{}.{}{}", package.label(), package.checksum, script.entry_name());
            let node = Node::file(Vec::new(), 0o755, mtime);
            stream.file(&name, &node, content.len() as u64, &mut &*content).map_err(Error::write("scripts.tar"))?;
        }
    }
    stream.finish().map_err(Error::write("scripts.tar"))
}
