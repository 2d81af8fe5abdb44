//! `APKINDEX` and `APKINDEX.tar.gz`.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use crate::archive::member::{Measured, Meter, check_magic};
use crate::archive::package::Package;
use crate::archive::reader::{FileKind, TarReader};
use crate::archive::signature::{self, Signature};
use crate::archive::writer::{TarWriter, gzip};
use crate::error::Member;
use crate::information::check_name;
use crate::key::Keyring;
use crate::limits;
use crate::record::{self, Letters, Lines};
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
        let mut entry = IndexEntry::default();
        let mut letters = Letters::default();
        let mut last = 0;
        for (number, line) in (1..).zip(text.lines()) {
            last = number;
            if line.len() > limits::LINE_BYTES {
                return Err(Error::limit(file, format_args!("line {number} in bytes"), limits::LINE_BYTES as u64));
            }
            if line.is_empty() {
                if !letters.is_empty() {
                    entries.push(finished(file, number, std::mem::take(&mut entry))?);
                    letters = Letters::default();
                    if entries.len() > limits::RECORDS {
                        return Err(Error::limit(file, "the index in records", limits::RECORDS as u64));
                    }
                }
                continue;
            }
            let (letter, value) = record::split(line).map_err(|problem| Error::line(file, number, problem))?;
            if !letters.first(letter) {
                let problem =
                    format_args!("`{}:` comes twice in one record; a blank line ends a record", char::from(letter));
                return Err(Error::line(file, number, problem));
            }
            record::set(&mut entry, letter, value).map_err(|problem| Error::line(file, number, problem))?;
        }
        if !letters.is_empty() {
            entries.push(finished(file, last, entry)?);
        }
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
        let file = File::open(path).map_err(Error::at(path))?;
        Self::read(&path.display().to_string(), file, trust)
    }

    /// Reads an `APKINDEX.tar.gz`: signature members, and one member that holds `APKINDEX` and may
    /// hold `DESCRIPTION`. `file` names it in errors.
    ///
    /// A signature is checked before anything of the index is looked at.
    pub fn read(file: &str, source: impl Read, trust: Trust<'_>) -> Result<ReadIndex> {
        let mut bytes = Vec::new();
        let limit = limits::INDEX_COMPRESSED_BYTES;
        source.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::io(file, error))?;
        if bytes.len() as u64 > limit {
            return Err(Error::limit(file, "the index in bytes", limit));
        }
        check_magic(file, &bytes)?;
        let mut rest = bytes.as_slice();
        let mut signatures: Vec<Signature> = Vec::new();
        let mut members = 0;
        while let Some((found, after)) = signature_member(file, rest)? {
            members += 1;
            if members > limits::SIGNATURE_MEMBERS {
                return Err(Error::limit(file, "signature members", limits::SIGNATURE_MEMBERS as u64));
            }
            signatures.extend(found);
            rest = after;
        }
        let signed_by = match trust {
            Trust::Unverified => None,
            Trust::Keyring(keyring) => {
                let signed = Measured::of(rest);
                Some(signature::verify(file, Member::Index, &signatures, &signed, keyring)?.to_owned())
            }
        };
        let mut meter = Meter::new(rest);
        let (content, _) = meter.inflate(file, Member::Index)?;
        if !meter.at_end().map_err(|error| Error::io(file, error))? {
            return Err(Error::damaged(file, Member::Index, "something follows it"));
        }
        Ok(ReadIndex { index: Self::from_tar(file, &content)?, signed_by })
    }

    fn from_tar(file: &str, content: &[u8]) -> Result<Self> {
        let mut reader = TarReader::new(content, file, Member::Index, limits::INDEX_BYTES);
        let mut entries = None;
        let mut description = None;
        while let Some(entry) = reader.next_entry()? {
            if entry.kind != FileKind::Regular {
                return Err(reader.refused(&entry.path, "an index holds only regular files"));
            }
            let bytes = reader.content()?;
            let text = String::from_utf8(bytes).map_err(|_| reader.refused(&entry.path, "it is not UTF-8"))?;
            let again = match entry.path.as_str() {
                "APKINDEX" => entries.replace(Self::parse_text(&format!("{file}: APKINDEX"), &text)?).is_some(),
                "DESCRIPTION" => description.replace(text).is_some(),
                _ => {
                    return Err(reader.refused(&entry.path, "an index holds only `APKINDEX` and `DESCRIPTION`"));
                }
            };
            if again {
                return Err(reader.refused(&entry.path, "it comes twice"));
            }
        }
        let entries = entries.ok_or_else(|| Error::missing(file, "`APKINDEX`"))?;
        Ok(Self { description: description.unwrap_or_default(), entries })
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

fn finished(file: &str, line: usize, entry: IndexEntry) -> Result<IndexEntry> {
    for (letter, value) in [("P", &entry.information.name), ("V", &entry.information.version)] {
        check_name(letter, value)
            .map_err(|error| Error::line(file, line, format_args!("the record that ends here: {error}")))?;
    }
    Ok(entry)
}

/// The signatures of the member at the start of `bytes` and what follows it, or `None` where that
/// member is the index.
fn signature_member<'b>(file: &str, bytes: &'b [u8]) -> Result<Option<(Vec<Signature>, &'b [u8])>> {
    if !signature::begins(bytes) {
        return Ok(None);
    }
    let mut meter = Meter::new(bytes);
    let (content, measured) = meter.inflate(file, Member::Signature)?;
    let end = usize::try_from(measured.end).unwrap_or(usize::MAX);
    Ok(Some((signature::parse(file, &content, &measured)?, bytes.get(end..).unwrap_or_default())))
}
