use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use apk::{FileKind, Package};
use sha2::{Digest as _, Sha256};

use crate::elf;
use crate::{Error, Result};

const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
/// Files below this size are not compared with each other.
pub(crate) const DUPLICATE_BYTES: u64 = 1024;

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A further name of a regular file that came before.
    Hardlink,
}

/// What a linter asks of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elf {
    /// `e_machine`, such as 62 for x86-64.
    pub machine: u16,
    /// It has debug sections with content.
    pub debug: bool,
}

/// One file or folder of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/` between components.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes of a regular file.
    pub size: u64,
    /// Facts of an executable or library in ELF form.
    pub elf: Option<Elf>,
    /// SHA-256 of the content, where another file of the package may be the same.
    pub sha256: Option<String>,
}

impl Entry {
    /// The last component of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&*self.path, |(_, name)| name)
    }

    /// All but the last component, empty at the top.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// What follows the last dot of its name.
    pub fn extension(&self) -> Option<&str> {
        self.name().rsplit_once('.').map(|(_, extension)| extension)
    }

    fn may_be_elf(&self) -> bool {
        let library = [".so", ".dylib"].iter().any(|part| self.name().contains(part));
        self.kind == Kind::Regular && self.size >= ELF_MAGIC.len() as u64 && (self.mode & 0o111 != 0 || library)
    }
}

/// The files of one package, without the SBOM that the factory puts there itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Every file and folder.
    pub entries: Vec<Entry>,
}

impl Contents {
    /// Reads the tree below `root`. Nothing runs in it any more; links in it are not followed.
    ///
    /// # Errors
    /// When the tree passes the bounds of [`apk::limits`] or can't be read.
    pub fn of_tree(root: &Path) -> Result<Self> {
        let mut entries = Vec::new();
        let mut places = Vec::new();
        let mut inodes = BTreeSet::new();
        for found in apk::walk_tree(root)? {
            let metadata = &found.metadata;
            let again = metadata.is_file() && metadata.nlink() > 1 && !inodes.insert((metadata.dev(), metadata.ino()));
            let kind = match (metadata.is_dir(), metadata.is_symlink()) {
                (true, _) => Kind::Directory,
                (_, true) => Kind::Symlink,
                _ if again => Kind::Hardlink,
                _ => Kind::Regular,
            };
            entries.push(Entry {
                path: found.path,
                kind,
                mode: metadata.permissions().mode() & 0o7777,
                size: if kind == Kind::Regular { metadata.len() } else { 0 },
                elf: None,
                sha256: None,
            });
            places.push(found.absolute);
        }
        let compared = comparable(&entries);
        for (position, (entry, place)) in entries.iter_mut().zip(&places).enumerate() {
            // A device or pipe is refused when the package is made; it is not to be opened before.
            if entry.kind != Kind::Regular || !std::fs::symlink_metadata(place).is_ok_and(|found| found.is_file()) {
                continue;
            }
            if entry.may_be_elf() {
                entry.elf = elf_of(File::open(place).map_err(Error::at(place))?).map_err(Error::at(place))?;
            }
            if compared.contains(&position) {
                let mut file = File::open(place).map_err(Error::at(place))?;
                entry.sha256 = Some(digest(&mut file).map_err(Error::at(place))?);
            }
        }
        Ok(Self { entries })
    }

    /// Reads the files of a finished package.
    ///
    /// # Errors
    /// When the archive is damaged or passes a bound.
    pub fn of_package<R: Read + Seek>(package: &mut Package<R>) -> Result<Self> {
        let mut entries = Vec::new();
        package.visit::<Error>(|file, content| {
            let kind = match &file.kind {
                FileKind::Directory => Kind::Directory,
                FileKind::Regular => Kind::Regular,
                FileKind::Symlink(_) => Kind::Symlink,
                FileKind::Hardlink(_) => Kind::Hardlink,
            };
            let mut entry =
                Entry { path: file.path.clone(), kind, mode: file.mode, size: file.size, elf: None, sha256: None };
            let failed = |error| Error::Io { path: file.path.clone().into(), source: error };
            if kind == Kind::Regular && (entry.may_be_elf() || entry.size >= DUPLICATE_BYTES) {
                let mut spool = tempfile::spooled_tempfile(1 << 20);
                io::copy(content, &mut spool).map_err(failed)?;
                spool.seek(SeekFrom::Start(0)).map_err(failed)?;
                entry.sha256 = Some(digest(&mut spool).map_err(failed)?);
                spool.seek(SeekFrom::Start(0)).map_err(failed)?;
                if entry.may_be_elf() {
                    entry.elf = elf_of(spool).map_err(failed)?;
                }
            }
            entries.push(entry);
            Ok(())
        })?;
        Ok(Self { entries })
    }
}

/// Positions of files that have the name and size of another.
fn comparable(entries: &[Entry]) -> BTreeSet<usize> {
    let mut groups: BTreeMap<(&str, u64), Vec<usize>> = BTreeMap::new();
    for (position, entry) in entries.iter().enumerate() {
        if entry.kind == Kind::Regular && entry.size >= DUPLICATE_BYTES {
            groups.entry((entry.name(), entry.size)).or_default().push(position);
        }
    }
    groups.into_values().filter(|group| group.len() > 1).flatten().collect()
}

fn elf_of(mut file: impl Read + Seek) -> io::Result<Option<Elf>> {
    let mut magic = [0_u8; ELF_MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *ELF_MAGIC => {}
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(elf::read(file))
}

fn digest(file: &mut impl Read) -> io::Result<String> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else {
            return Ok(hex::encode(sha256.finalize()));
        };
        sha256.update(chunk);
    }
}
