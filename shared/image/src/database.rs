use apk::{IndexEntry, InstalledFile, InstalledPackage, write_installed};

use crate::Error;
use crate::install::Opened;
use crate::layer::TarStream;
use crate::system::write;
use crate::tree::{Node, Tree};

/// Writes the apk database of the packages: `/lib/apk/db`, which is `/usr/lib/apk/db` where
/// packages make `/lib` a link to `/usr/lib`.
pub(crate) fn add(tree: &mut Tree, packages: &[Opened], mtime: u64) -> Result<(), Error> {
    let installed: Vec<InstalledPackage> = packages.iter().map(record).collect();
    let mut triggers = String::new();
    for package in packages {
        if !package.information.triggers.is_empty() {
            triggers.push_str(&format!("{} {}\n", package.checksum, package.information.triggers.join(" ")));
        }
    }
    write(tree, "lib/apk/db/installed", write_installed(&installed)?.into_bytes(), mtime)?;
    write(tree, "lib/apk/db/scripts.tar", scripts(packages, mtime)?, mtime)?;
    write(tree, "lib/apk/db/triggers", triggers.into_bytes(), mtime)
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
