//! Reading one package.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::member::{Measured, Meter, check_magic, gzip_error};
use super::reader::{FileEntry, FileKind, TarReader};
use super::signature::{self, Signature};
use crate::error::Member;
use crate::key::Keyring;
use crate::limits;
use crate::{Checksum, Error, IndexEntry, PackageInformation, Result};

const BUFFER: usize = 128 << 10;

/// Where the members of a package lie, in bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The signature members, empty when unsigned.
    pub signature: Range<u64>,
    /// The control member.
    pub control: Range<u64>,
    /// The data member.
    pub data: Range<u64>,
}

/// An apk v2 package whose control member was read and whose data hash was checked.
///
/// Only the control member is held in memory; files are read one by one by [`Package::visit`].
#[derive(Debug)]
pub struct Package<R> {
    source: R,
    file: String,
    signatures: Vec<Signature>,
    control: Measured,
    members: Members,
    information: PackageInformation,
    control_files: BTreeMap<String, Vec<u8>>,
}

impl Package<File> {
    /// Opens a package file.
    pub fn open(path: &Path) -> Result<Self> {
        let source = File::open(path).map_err(Error::at(path))?;
        Self::read(&path.display().to_string(), source)
    }
}

impl<'b> Package<Cursor<&'b [u8]>> {
    /// Reads a package that is in memory. `file` names it in errors.
    pub fn from_bytes(file: &str, bytes: &'b [u8]) -> Result<Self> {
        Self::read(file, Cursor::new(bytes))
    }
}

impl<R: Read + Seek> Package<R> {
    /// Splits the members, reads the control member and checks the data member's hash, in one pass
    /// over the bytes and without decompressing the data. `file` names the package in errors.
    pub fn read(file: &str, mut source: R) -> Result<Self> {
        source.seek(SeekFrom::Start(0)).map_err(|error| Error::io(file, error))?;
        let mut meter = Meter::new(BufReader::with_capacity(BUFFER, &mut source));
        check_magic(file, meter.peek().map_err(|error| Error::io(file, error))?)?;
        let mut signatures = Vec::new();
        let mut signature_members = 0;
        let (content, control) = loop {
            if meter.at_end().map_err(|error| Error::io(file, error))? {
                return Err(Error::missing(file, "control member"));
            }
            let start = meter.peek().map_err(|error| Error::io(file, error))?;
            let member = if signature::begins(start) { Member::Signature } else { Member::Control };
            let (content, measured) = meter.inflate(file, member)?;
            if !signature::is_signature(&content) {
                break (content, measured);
            }
            signature_members += 1;
            if signature_members > limits::SIGNATURE_MEMBERS {
                return Err(Error::limit(file, "signature members", limits::SIGNATURE_MEMBERS as u64));
            }
            signatures.extend(signature::parse(file, &content, &measured)?);
        };
        let control_files = control_files(file, &content)?;
        let information = information(file, &control_files)?;
        let (size, data_hash) = hash_rest(file, meter)?;
        if size == control.end {
            return Err(Error::missing(file, "data member"));
        }
        if !information.data_hash.is_empty() && information.data_hash != data_hash {
            return Err(Error::Digest {
                file: file.to_owned(),
                what: "SHA-256 of the data member differs from `datahash`".to_owned(),
                expected: information.data_hash,
                found: data_hash,
            });
        }
        let members =
            Members { signature: 0..control.start, control: control.start..control.end, data: control.end..size };
        Ok(Self { source, file: file.to_owned(), signatures, control, members, information, control_files })
    }

    /// What `.PKGINFO` says.
    pub fn information(&self) -> &PackageInformation {
        &self.information
    }

    /// The name it was opened under.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.members.data.end
    }

    /// Where the members lie.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The signatures, verified or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The checksum that indexes give in `C:`: SHA-1 of the compressed control member.
    pub fn checksum(&self) -> Checksum {
        Checksum(self.control.sha1)
    }

    /// SHA-256 of the compressed control member, which is what an RSA256 signature signs.
    pub fn control_sha256(&self) -> &[u8; 32] {
        &self.control.sha256
    }

    /// The content of an entry of the control member, such as `.melange.yaml`.
    pub fn control_file(&self, name: &str) -> Option<&[u8]> {
        self.control_files.get(name).map(Vec::as_slice)
    }

    /// The scripts of the control member, by name with the leading dot.
    pub fn scripts(&self) -> impl Iterator<Item = (Script, &[u8])> {
        Script::ALL.into_iter().filter_map(|script| Some((script, self.control_file(script.entry_name())?)))
    }

    /// Checks the signature against the keyring and returns the name of the key that signs.
    ///
    /// A package without a `datahash` is refused: its signature wouldn't cover its files.
    pub fn verify(&self, keyring: &Keyring) -> Result<&str> {
        let key = signature::verify(&self.file, Member::Control, &self.signatures, &self.control, keyring)?;
        if self.information.data_hash.is_empty() {
            return Err(Error::missing(
                &self.file,
                "`datahash` in `.PKGINFO`, so its signature doesn't cover its files",
            ));
        }
        Ok(key)
    }

    /// The package's record in an index.
    pub fn index_entry(&self) -> IndexEntry {
        IndexEntry::from_package(self)
    }

    /// Calls `visit` for every file in archive order with a reader of its content.
    ///
    /// Content that isn't read is passed over. After each file its content, or a link's target, is
    /// held against its `APK-TOOLS.checksum.SHA1` record. A path that comes twice, lies below
    /// something that isn't a directory, or hard-links to what didn't come before is an error.
    pub fn visit<E: From<Error>>(
        &mut self,
        mut visit: impl FnMut(&FileEntry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { source, file, members, .. } = self;
        source.seek(SeekFrom::Start(members.data.start)).map_err(|error| Error::io(&file, error))?;
        let data = BufReader::with_capacity(BUFFER, source).take(members.data.end - members.data.start);
        let mut reader = TarReader::new(MultiGzDecoder::new(data), file, Member::Data, limits::DATA_BYTES);
        let mut seen = Seen::default();
        while let Some(entry) = reader.next_entry()? {
            seen.check(&entry).map_err(|problem| reader.refused(&entry.path, &problem))?;
            let mut content = Hashing { reader: &mut reader, sha1: Sha1::new() };
            visit(&entry, &mut content)?;
            let found = match &entry.kind {
                FileKind::Regular => {
                    io::copy(&mut content, &mut io::sink()).map_err(|error| gzip_error(file, Member::Data, &error))?;
                    Some(Checksum(content.sha1.finalize().into()))
                }
                FileKind::Symlink(target) => Some(Checksum::of(target.as_bytes())),
                FileKind::Directory | FileKind::Hardlink(_) => None,
            };
            if let (Some(expected), Some(found)) = (entry.checksum, found)
                && expected != found
            {
                return Err(Error::Digest {
                    file: file.clone(),
                    what: format!(
                        "SHA-1 of `{}` differs from its `APK-TOOLS.checksum.SHA1`",
                        entry.path.escape_debug()
                    ),
                    expected: expected.to_hex(),
                    found: found.to_hex(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Every file's entry, its content checked and passed over.
    pub fn files(&mut self) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        self.visit::<Error>(|entry, _| {
            files.push(entry.clone());
            Ok(())
        })?;
        Ok(files)
    }
}

/// The scripts that a control member may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// Runs when a watched path changed.
    Trigger,
    /// Runs before installation.
    PreInstall,
    /// Runs after installation.
    PostInstall,
    /// Runs before removal.
    PreDeinstall,
    /// Runs after removal.
    PostDeinstall,
    /// Runs before an upgrade.
    PreUpgrade,
    /// Runs after an upgrade.
    PostUpgrade,
}

impl Script {
    /// Every script, in the order in which a control member holds them.
    pub const ALL: [Self; 7] = [
        Self::Trigger,
        Self::PreInstall,
        Self::PostInstall,
        Self::PreDeinstall,
        Self::PostDeinstall,
        Self::PreUpgrade,
        Self::PostUpgrade,
    ];

    /// The entry's name: `.post-install` and so on.
    pub fn entry_name(self) -> &'static str {
        match self {
            Self::Trigger => ".trigger",
            Self::PreInstall => ".pre-install",
            Self::PostInstall => ".post-install",
            Self::PreDeinstall => ".pre-deinstall",
            Self::PostDeinstall => ".post-deinstall",
            Self::PreUpgrade => ".pre-upgrade",
            Self::PostUpgrade => ".post-upgrade",
        }
    }
}

fn control_files(file: &str, content: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut reader = TarReader::new(content, file, Member::Control, limits::CONTROL_BYTES);
    let mut files = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        if entry.kind != FileKind::Regular || !entry.path.starts_with('.') || entry.path.contains('/') {
            return Err(
                reader.refused(&entry.path, "the control member holds only regular files whose names begin with `.`")
            );
        }
        if entry.path.starts_with(".SIGN.") {
            return Err(reader.refused(&entry.path, "a signature must be in a member of its own"));
        }
        if files.contains_key(&entry.path) {
            return Err(reader.refused(&entry.path, "it comes twice"));
        }
        files.insert(entry.path, reader.content()?);
    }
    Ok(files)
}

fn information(file: &str, control_files: &BTreeMap<String, Vec<u8>>) -> Result<PackageInformation> {
    let bytes =
        control_files.get(".PKGINFO").ok_or_else(|| Error::missing(file, "`.PKGINFO` in its control member"))?;
    let text =
        std::str::from_utf8(bytes).map_err(|_| Error::damaged(file, Member::Control, "`.PKGINFO` is not UTF-8"))?;
    PackageInformation::parse(&format!("{file}: .PKGINFO"), text)
}

/// Reads to the end. Returns the file's size, and the SHA-256 of what was read.
fn hash_rest(file: &str, mut meter: Meter<impl BufRead>) -> Result<(u64, String)> {
    let mut sha256 = Sha256::new();
    let mut position = meter.position();
    let source = meter.rest();
    loop {
        let buffer = source.fill_buf().map_err(|error| Error::io(file, error))?;
        let count = buffer.len();
        if count == 0 {
            return Ok((position, hex::encode(sha256.finalize())));
        }
        sha256.update(buffer);
        source.consume(count);
        position += count as u64;
        if position > limits::PACKAGE_BYTES {
            return Err(Error::limit(file, "the package in bytes", limits::PACKAGE_BYTES));
        }
    }
}

struct Hashing<'a, T> {
    reader: &'a mut T,
    sha1: Sha1,
}

impl<T: Read> Read for Hashing<'_, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        if let Some(bytes) = into.get(..count) {
            self.sha1.update(bytes);
        }
        Ok(count)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Laid {
    Directory,
    Regular,
    Link,
}

/// The paths that an archive laid out so far.
#[derive(Default)]
struct Seen(HashMap<String, Laid>);

impl Seen {
    fn check(&mut self, entry: &FileEntry) -> Result<(), String> {
        for (at, _) in entry.path.match_indices('/') {
            if let Some(parent) = entry.path.get(..at)
                && self.0.get(parent).is_some_and(|laid| *laid != Laid::Directory)
            {
                return Err(format!("`{}`, which it lies below, is not a directory", parent.escape_debug()));
            }
        }
        let laid = match &entry.kind {
            FileKind::Directory => Laid::Directory,
            FileKind::Regular => Laid::Regular,
            FileKind::Symlink(_) => Laid::Link,
            FileKind::Hardlink(target) => {
                if self.0.get(target) != Some(&Laid::Regular) {
                    return Err(format!("it links to `{}`, which is no regular file before it", target.escape_debug()));
                }
                Laid::Regular
            }
        };
        match self.0.insert(entry.path.clone(), laid) {
            Some(_) => Err("it comes twice".to_owned()),
            None => Ok(()),
        }
    }
}
