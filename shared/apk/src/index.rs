//! `APKINDEX` and `APKINDEX.tar.gz`.

use std::io::{self, Read, Seek};
use std::path::Path;

use crate::archive::package::Package;
use crate::archive::writer::{TarWriter, gzip};
use crate::index_archive::IndexArchive;
use crate::information::check_name;
use crate::key::Keyring;
use crate::record::{Lines, Pieces};
use crate::{Error, IndexEntry, Result};

/// Whom an index must be signed by.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'k> {
    /// By a key of this keyring.
    Keyring(&'k Keyring),
    /// By anybody or nobody. For showing an index, never for installing from it.
    Unverified,
}

/// A repository's packages for one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The content of `DESCRIPTION`.
    pub description: String,
    /// The packages, in file order.
    pub entries: Vec<IndexEntry>,
}

/// An index as read from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// The index.
    pub index: Index,
    /// The key that signs it; `None` when read as [`Trust::Unverified`].
    pub signed_by: Option<String>,
}

impl IndexEntry {
    /// The package's record: its information, checksum and size.
    pub fn from_package<R: Read + Seek>(package: &Package<R>) -> Self {
        Self {
            checksum: package.checksum().to_string(),
            size: package.size(),
            information: package.information().clone(),
        }
    }

    /// The name of the package's file in its repository folder.
    pub fn file_name(&self) -> String {
        self.information.file_name()
    }
}

impl Index {
    /// Reads the text of an `APKINDEX`: lines `X:value`, a blank line after each record.
    ///
    /// The last record's blank line may be missing. `file` names the text in errors.
    pub fn parse_text(file: &str, text: &str) -> Result<Vec<IndexEntry>> {
        let mut entries = Vec::new();
        Pieces::new(file.to_owned(), "the index").parse(text, |entry| entries.push(entry))?;
        Ok(entries)
    }

    /// Writes the text of an `APKINDEX`, letters in the order in which apko writes them.
    ///
    /// Several licenses become one expression that joins them by `AND`.
    pub fn write_text(entries: &[IndexEntry]) -> Result<String> {
        let mut text = String::with_capacity(entries.len() * 512);
        for entry in entries {
            let information = &entry.information;
            check_name("P", &information.name)?;
            check_name("V", &information.version)?;
            let mut lines = Lines(&mut text);
            lines.text("C", &entry.checksum)?;
            lines.always("P", &information.name)?;
            lines.always("V", &information.version)?;
            lines.text("A", &information.architecture)?;
            lines.number("S", entry.size);
            lines.number("I", information.installed_size);
            lines.always("T", &information.description)?;
            lines.text("U", &information.url)?;
            lines.text("L", &information.licenses.join(" AND "))?;
            lines.text("o", &information.origin)?;
            lines.text("m", &information.maintainer)?;
            lines.number("t", information.build_date);
            lines.text("c", &information.commit)?;
            lines.words("D", &information.depends)?;
            lines.words("i", &information.install_if)?;
            lines.words("p", &information.provides)?;
            lines.number("k", information.provider_priority);
            text.push('\n');
        }
        Ok(text)
    }

    /// Opens an `APKINDEX.tar.gz`.
    pub fn open(path: &Path, trust: Trust<'_>) -> Result<ReadIndex> {
        let mut entries = Vec::new();
        let archive = IndexArchive::open(path, trust, |pieces, text| pieces.parse(text, |entry| entries.push(entry)))?;
        Ok(Self::of(archive, entries))
    }

    /// Reads an `APKINDEX.tar.gz`: signature members, and one member that holds `APKINDEX` and may
    /// hold `DESCRIPTION`. `file` names it in errors.
    ///
    /// A signature is checked before anything of the index is looked at.
    pub fn read(file: &str, source: impl Read, trust: Trust<'_>) -> Result<ReadIndex> {
        let mut entries = Vec::new();
        let parse = |pieces: &mut Pieces, text: &str| pieces.parse(text, |entry| entries.push(entry));
        let archive = IndexArchive::read(file, source, trust, parse)?;
        Ok(Self::of(archive, entries))
    }

    fn of(archive: IndexArchive, entries: Vec<IndexEntry>) -> ReadIndex {
        ReadIndex { index: Self { description: archive.description, entries }, signed_by: archive.signed_by }
    }

    /// The unsigned `APKINDEX.tar.gz`. The same index gives the same bytes; its SHA-256 is what a
    /// signature signs, and [`crate::attach_signature`] puts that in front.
    ///
    /// `mtime` is the time of its entries, in seconds since 1970-01-01 UTC.
    pub fn write(&self, mtime: u64) -> Result<Vec<u8>> {
        let mut tar = TarWriter::new(gzip(Vec::new()), mtime);
        tar.control_file("APKINDEX", 0o644, Self::write_text(&self.entries)?.as_bytes())?;
        tar.control_file("DESCRIPTION", 0o644, self.description.as_bytes())?;
        tar.end()?;
        tar.into_inner().finish().map_err(|error: io::Error| Error::io("APKINDEX.tar.gz", error))
    }
}
