use apk::{IndexEntry, InstalledFile, InstalledPackage, write_installed};
use tar::Archive;

use crate::Error;
use crate::base::BaseFiles;
use crate::facts::Opened;
use crate::system::{write, write_mode};
use crate::tar_stream::TarStream;
use crate::tree::{Node, Tree};

const INSTALLED: &str = "usr/lib/apk/db/installed";

/// Writes the apk database of the packages to `/usr/lib/apk/db`, those of the base first.
pub(crate) fn add(tree: &mut Tree, base: Option<&BaseFiles>, packages: &[Opened], mtime: u64) -> Result<(), Error> {
    let below = |name| base.and_then(|base| base.beside_database(name)).unwrap_or_default();
    let mut installed = base.map(|base| base.packages().to_vec()).unwrap_or_default();
    installed.extend(packages.iter().map(record));
    let mut triggers = String::from_utf8_lossy(below("triggers")).into_owned();
    if !triggers.is_empty() && !triggers.ends_with('\n') {
        triggers.push('\n');
    }
    for package in packages {
        if !package.information.triggers.is_empty() {
            triggers.push_str(&format!("{} {}\n", package.checksum, package.information.triggers.join(" ")));
        }
    }
    write(tree, INSTALLED, write_installed(&installed)?.into_bytes(), mtime)?;
    let mut archive = without_end(below("scripts.tar"));
    archive.extend(scripts(packages, mtime)?);
    write(tree, "usr/lib/apk/db/scripts.tar", archive, mtime)?;
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

/// The entries of a tar archive without what ends it, so that more can follow. Of an archive that is damaged
/// these are the entries before the damage.
fn without_end(archive: &[u8]) -> Vec<u8> {
    let mut end = 0;
    if let Ok(entries) = Archive::new(archive).entries() {
        for entry in entries.raw(true).map_while(Result::ok) {
            let Some(after) = entry.raw_file_position().checked_add(entry.size().next_multiple_of(512)) else { break };
            match usize::try_from(after) {
                Ok(after) if after <= archive.len() => end = after,
                _ => break,
            }
        }
    }
    archive.get(..end).unwrap_or_default().to_vec()
}
