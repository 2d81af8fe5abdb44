//! Unpacking layers, with everything kept inside the folder that they are unpacked to.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions};
use rustix::fs::{AtFlags, Gid, Mode, Uid};
use tar::EntryType;

use crate::Error;
use crate::files::{Entry, Files, Kind};

const MAXIMUM_ENTRIES: usize = 1_000_000;
const MAXIMUM_BYTES: u64 = 16 << 30;
const MAXIMUM_PATH: usize = 4096;
/// The pax record of file capabilities, which are not set on this machine.
const CAPABILITIES: &[u8] = b"SCHILY.xattr.security.capability";

/// A folder that layers are unpacked to, one over the other.
pub(crate) struct Unpacking {
    root: Dir,
    files: Files,
    owners: bool,
    entries: usize,
    bytes: u64,
}

impl Unpacking {
    /// `folder` is empty. Owners are set when this process is root; else only listed.
    pub(crate) fn new(folder: &Path) -> Result<Self, Error> {
        let root = Dir::open_ambient_dir(folder, ambient_authority())
            .map_err(|source| Error::io("open the folder", folder, source))?;
        let owners = rustix::process::geteuid().is_root();
        Ok(Unpacking { root, files: Files::default(), owners, entries: 0, bytes: 0 })
    }

    /// Unpacks one layer, an uncompressed archive.
    pub(crate) fn layer(&mut self, name: &str, archive: &mut dyn Read) -> Result<(), Error> {
        let fail =
            |path: &str, message: String| Error::Layer { layer: name.to_owned(), path: path.to_owned(), message };
        let mut archive = tar::Archive::new(archive);
        let mut folders = BTreeMap::new();
        for entry in archive.entries().map_err(|error| fail("", error.to_string()))? {
            let mut entry = entry.map_err(|error| fail("", error.to_string()))?;
            let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            self.entry(&mut entry, &mut folders).map_err(|error| fail(&shown, error.to_string()))?;
        }
        // Last, since a folder may be closed to writing; deepest first.
        for (path, mode) in folders.iter().rev() {
            let is_folder = self.files.0.get(path).is_some_and(|entry| entry.kind == Kind::Directory);
            if is_folder || path.is_empty() {
                let place = if path.is_empty() { "." } else { path };
                let mode = Permissions::from_std(std::os::unix::fs::PermissionsExt::from_mode(*mode));
                self.root.set_permissions(place, mode).map_err(|error| fail(path, error.to_string()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Files {
        self.files
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, folders: &mut BTreeMap<String, u32>) -> io::Result<()> {
        self.entries += 1;
        if self.entries > MAXIMUM_ENTRIES {
            return Err(io::Error::other(format!("more than {MAXIMUM_ENTRIES} entries")));
        }
        let path = clean(&entry.path_bytes())?;
        let path = self.files.place(&path).ok_or_else(|| io::Error::other("its folders are links in a circle"))?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(hidden) = name.strip_prefix(".wh.") {
            return if hidden == ".wh..opq" { self.clear(parent) } else { self.remove(&join(parent, hidden)) };
        }
        let mut capabilities = false;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            capabilities |= extension?.key_bytes() == CAPABILITIES;
        }
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner past 32 bits"));
        let mut new = Entry {
            kind: Kind::Other,
            mode: header.mode()? & 0o7777,
            uid: id(header.uid()?)?,
            gid: id(header.gid()?)?,
            capabilities,
        };
        self.make_parents(parent)?;
        match header.entry_type() {
            EntryType::Directory => {
                new.kind = Kind::Directory;
                if !path.is_empty() {
                    if self.files.0.get(&path).is_none_or(|old| old.kind != Kind::Directory) {
                        self.remove(&path)?;
                        self.root.create_dir(&path)?;
                    }
                    self.own(&path, &new)?;
                }
                folders.insert(path.clone(), new.mode);
            }
            EntryType::Regular | EntryType::Continuous => {
                self.remove(&path)?;
                self.bytes = self.bytes.saturating_add(entry.size());
                if self.bytes > MAXIMUM_BYTES {
                    return Err(io::Error::other(format!("more than {MAXIMUM_BYTES} bytes in all layers")));
                }
                let size = entry.size();
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                let mut file = self.root.open_with(&path, &options)?;
                io::copy(entry, &mut file)?;
                new.kind = Kind::Regular(size);
                self.own(&path, &new)?;
                rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(new.mode))?;
            }
            EntryType::Symlink => {
                let target = link_target(entry)?;
                self.remove(&path)?;
                self.root.symlink_contents(&target, &path)?;
                new.kind = Kind::Symlink(target);
                self.own(&path, &new)?;
            }
            EntryType::Link => {
                let target = clean(link_target(entry)?.as_bytes())?;
                let target = self.files.place(&target).unwrap_or_default();
                new = match self.files.0.get(&target) {
                    Some(old) if old.kind != Kind::Directory => old.clone(),
                    _ => {
                        return Err(io::Error::other(format!("a hard link to `{target}`, which is no file before it")));
                    }
                };
                self.remove(&path)?;
                self.root.hard_link(&target, &self.root, &path)?;
            }
            // Listed, so that checks can refuse it; not made on this machine.
            EntryType::Char | EntryType::Block | EntryType::Fifo => self.remove(&path)?,
            other => return Err(io::Error::other(format!("an entry of the unknown type {other:?}"))),
        }
        if !path.is_empty() {
            self.files.0.insert(path, new);
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        match self.files.0.get(path) {
            Some(Entry { kind: Kind::Directory, .. }) => Ok(()),
            Some(_) => Err(io::Error::other(format!("`{path}` is no folder"))),
            None => {
                self.make_parents(path.rsplit_once('/').map_or("", |(parent, _)| parent))?;
                self.root.create_dir(path)?;
                self.files.0.insert(
                    path.to_owned(),
                    Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, capabilities: false },
                );
                Ok(())
            }
        }
    }

    /// Sets the owner of what is at `path`, whose folders are no links.
    fn own(&self, path: &str, entry: &Entry) -> io::Result<()> {
        if self.owners {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(self.root.as_fd(), path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let Some(old) = self.files.0.get(path) else { return Ok(()) };
        match old.kind {
            Kind::Directory => self.root.remove_dir_all(path)?,
            Kind::Other => {}
            Kind::Regular(_) | Kind::Symlink(_) => self.root.remove_file(path)?,
        }
        self.files.remove(path);
        Ok(())
    }

    /// Removes what lower layers have in a folder.
    fn clear(&mut self, path: &str) -> io::Result<()> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = |other: &&String| other.strip_prefix(&prefix).is_some_and(|name| !name.contains('/'));
        let names: Vec<_> = self.files.0.keys().filter(below).cloned().collect();
        names.iter().try_for_each(|name| self.remove(name))
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<String> {
    let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link without target"))?;
    text(&target)
}

fn text(bytes: &[u8]) -> io::Result<String> {
    if bytes.len() > MAXIMUM_PATH {
        return Err(io::Error::other(format!("a path of more than {MAXIMUM_PATH} bytes")));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| io::Error::other("a path that is not UTF-8"))
}

/// The path of an entry without `.` and slashes at its ends; `..` is refused.
fn clean(path: &[u8]) -> io::Result<String> {
    let path = text(path)?;
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(io::Error::other("the path leads out of the image"));
    }
    Ok(parts.join("/"))
}
