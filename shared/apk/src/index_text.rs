//! `APKINDEX.tar.gz` as one text whose records are read where they stand.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::archive::member::{Measured, Meter, check_magic, gzip_error};
use crate::archive::reader::{FileKind, TarReader};
use crate::archive::signature::{self, Signature};
use crate::error::Member;
use crate::index::Trust;
use crate::index_record::IndexRecord;
use crate::{Error, Result, limits, record};

/// How much larger than the archive the first guess of the text is at most: indexes shrink to a third.
const GUESS_FACTOR: usize = 16;

/// An index, checked and decompressed. Its [`IndexText::records`] borrow from it, so that an index
/// of thousands of packages is read without copying any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexText {
    file: String,
    description: String,
    text: String,
    signed_by: Option<String>,
}

impl IndexText {
    /// Opens an `APKINDEX.tar.gz`.
    pub fn open(path: &Path, trust: Trust<'_>) -> Result<Self> {
        let file = File::open(path).map_err(Error::at(path))?;
        Self::read(&path.display().to_string(), file, trust)
    }

    /// Reads an `APKINDEX.tar.gz`: signature members, and one member that holds `APKINDEX` and may
    /// hold `DESCRIPTION`. `file` names it in errors.
    ///
    /// A signature is checked before anything of the index is looked at.
    pub fn read(file: &str, source: impl Read, trust: Trust<'_>) -> Result<Self> {
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
        let content = inflate(file, rest)?;
        drop(bytes);
        let (text, description) = from_tar(file, content)?;
        Ok(Self { file: file.to_owned(), description, text, signed_by })
    }

    /// The content of `APKINDEX`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key that signs it; `None` when read as [`Trust::Unverified`].
    pub fn signed_by(&self) -> Option<&str> {
        self.signed_by.as_deref()
    }

    /// The packages, in file order.
    pub fn records(&self) -> Result<Vec<IndexRecord<'_>>> {
        record::parse(&self.label(), &self.text)
    }

    /// What errors call the text.
    pub(crate) fn label(&self) -> String {
        format!("{}: APKINDEX", self.file)
    }

    pub(crate) fn into_description(self) -> (String, Option<String>) {
        (self.description, self.signed_by)
    }
}

/// Decompresses the member that is all of `bytes`.
fn inflate(file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    // The last four bytes state the size, modulo 2^32 and unproved: a guess, bounded.
    let stated = bytes.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size));
    let guess = usize::try_from(stated).unwrap_or(0).min(bytes.len().saturating_mul(GUESS_FACTOR));
    let mut content = Vec::with_capacity(guess + 1);
    let mut decoder = GzDecoder::new(bytes);
    let limit = limits::INDEX_BYTES;
    (&mut decoder)
        .take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|error| gzip_error(file, Member::Index, &error))?;
    if content.len() as u64 > limit {
        return Err(Error::limit(file, format_args!("the decompressed {} member in bytes", Member::Index), limit));
    }
    if !decoder.into_inner().is_empty() {
        return Err(Error::damaged(file, Member::Index, "something follows it"));
    }
    Ok(content)
}

/// `APKINDEX`, in the allocation of the tar stream, and `DESCRIPTION`.
fn from_tar(file: &str, mut content: Vec<u8>) -> Result<(String, String)> {
    let mut reader = TarReader::new(content.as_slice(), file, Member::Index, limits::INDEX_BYTES);
    let mut index = None;
    let mut description = None;
    while let Some(entry) = reader.next_entry()? {
        if entry.kind != FileKind::Regular {
            return Err(reader.refused(&entry.path, "an index holds only regular files"));
        }
        let again = match entry.path.as_str() {
            "APKINDEX" => index.replace(reader.content_range()).is_some(),
            "DESCRIPTION" => {
                let bytes = reader.content()?;
                let text = String::from_utf8(bytes).map_err(|_| reader.refused(&entry.path, "it is not UTF-8"))?;
                description.replace(text).is_some()
            }
            _ => {
                return Err(reader.refused(&entry.path, "an index holds only `APKINDEX` and `DESCRIPTION`"));
            }
        };
        if again {
            return Err(reader.refused(&entry.path, "it comes twice"));
        }
    }
    let range = index.ok_or_else(|| Error::missing(file, "`APKINDEX`"))?;
    content.truncate(range.end);
    content.drain(..range.start.min(content.len()));
    let text = String::from_utf8(content).map_err(|_| Error::Entry {
        file: file.to_owned(),
        member: Member::Index,
        entry: "APKINDEX".to_owned(),
        problem: "it is not UTF-8".to_owned(),
    })?;
    Ok((text, description.unwrap_or_default()))
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
