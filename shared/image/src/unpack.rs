use std::fs::{File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

use crate::Error;
use crate::facts::PackageFile;
use crate::install::{Installation, install};
use crate::layer::own_file;
use crate::system;
use crate::tree::{Content, Kind, Node, Tree};

/// Lays the packages' files into an empty directory, for a build to read.
///
/// Conflicts, links and paths are treated as in [`crate::compose`]; nothing beside the packages'
/// files and busybox's applet links is added. No file is written through a symbolic link and
/// nothing outside `directory` is touched, whatever a package says. Owners are set when running as
/// root; extended attributes and the owners of symbolic links are not.
///
/// # Errors
/// As [`crate::compose`], when the directory is not empty, or when writing fails; then the
/// directory is incomplete and is the caller's to remove.
pub fn unpack_root(packages: &[PackageFile], directory: &Path) -> Result<(), Error> {
    let newest = packages.iter().map(|package| package.entry.information.build_date).max();
    let mtime = newest.and_then(|time| u64::try_from(time).ok()).unwrap_or(0);
    let mut installation = install(packages, None, Tree::default(), mtime)?;
    system::busybox_links(&mut installation.tree, &installation.captured, mtime)?;

    let at_root = || Error::write(directory.display().to_string());
    let root = Dir::open_ambient_dir(directory, ambient_authority()).map_err(at_root())?;
    if root.entries().map_err(at_root())?.next().is_some() {
        return Err(Error::NotEmpty(directory.to_owned()));
    }
    Unpack { root, directory, as_root: is_root(directory)? }.run(&mut installation)
}

/// Whether files made here belong to root.
fn is_root(directory: &Path) -> Result<bool, Error> {
    use std::os::unix::fs::MetadataExt;
    let at = || Error::write(directory.display().to_string());
    let probe = tempfile::tempfile_in(directory).map_err(at())?;
    Ok(probe.metadata().map_err(at())?.uid() == 0)
}

struct Unpack<'a> {
    root: Dir,
    directory: &'a Path,
    as_root: bool,
}

impl Unpack<'_> {
    fn run(&self, installation: &mut Installation) -> Result<(), Error> {
        let Installation { tree, packages, .. } = installation;
        for (path, node) in tree.iter() {
            if node.kind == Kind::Directory {
                self.root.create_dir(path).map_err(self.at(path))?;
            }
        }
        for (number, opened) in packages.iter_mut().enumerate() {
            opened.visit_placed(|entry, place, content| {
                match place.and_then(|place| own_file(tree, place, number, entry)) {
                    Some((path, node, _)) => self.file(path, node, content).map_err(self.at(path)),
                    None => Ok(()),
                }
            })?;
        }
        for (path, node) in tree.iter() {
            match &node.kind {
                Kind::File(Content::Bytes(bytes)) => {
                    self.file(path, node, &mut bytes.as_slice()).map_err(self.at(path))?;
                }
                Kind::Symlink(target) => {
                    self.root.symlink_contents(target, path).map_err(self.at(path))?;
                }
                Kind::Hardlink(target) => {
                    self.root.hard_link(target, &self.root, path).map_err(self.at(path))?;
                }
                Kind::Directory | Kind::Device { .. } | Kind::File(Content::Package { .. } | Content::Base { .. }) => {}
            }
        }
        // Last, since modes may deny writing and writing changes times.
        let mut directories: Vec<_> = tree.iter().filter(|(_, node)| node.kind == Kind::Directory).collect();
        directories.reverse();
        for (path, node) in directories {
            let mut options = OpenOptions::new();
            options.read(true);
            let open = || self.root.open_with(path, &options).map(cap_std::fs::File::into_std);
            open().and_then(|dir| self.facts(&dir, node)).map_err(self.at(path))?;
        }
        Ok(())
    }

    fn file(&self, path: &str, node: &Node, content: &mut dyn io::Read) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let mut file = self.root.open_with(path, &options)?.into_std();
        io::copy(content, &mut file)?;
        self.facts(&file, node)
    }

    /// Owner before mode, since changing the owner clears the set-id bits.
    fn facts(&self, file: &File, node: &Node) -> io::Result<()> {
        if self.as_root {
            fchown(file, Some(node.uid), Some(node.gid))?;
        }
        file.set_permissions(Permissions::from_mode(node.mode & 0o7777))?;
        let time =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(node.mtime)).ok_or(io::ErrorKind::InvalidData)?;
        file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
    }

    fn at(&self, path: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::write(self.directory.join(path).display().to_string())
    }
}
