//! `APKINDEX.tar.gz`: signature members, and the member that holds the index.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::archive::member::{Measured, Meter, check_magic, gzip_error};
use crate::archive::reader::{FileKind, TarReader};
use crate::archive::signature::{self, Signature};
use crate::error::Member;
use crate::index::Trust;
use crate::record::Pieces;
use crate::{Error, Result, limits};

/// How much of the text is held at once, unless a record is longer.
const PIECE_BYTES: usize = 64 << 10;

/// What an archive holds besides the records.
#[derive(Debug, Default)]
pub(crate) struct IndexArchive {
    pub(crate) description: String,
    /// The key that signs it; `None` when read as [`Trust::Unverified`].
    pub(crate) signed_by: Option<String>,
}

impl IndexArchive {
    /// As [`IndexArchive::read`].
    pub(crate) fn open(
        path: &Path,
        trust: Trust<'_>,
        records: impl FnMut(&mut Pieces, &str) -> Result<()>,
    ) -> Result<Self> {
        let file = File::open(path).map_err(Error::at(path))?;
        Self::read(&path.display().to_string(), file, trust, records)
    }

    /// Reads signature members, and one member that holds `APKINDEX` and may hold `DESCRIPTION`.
    /// `file` names it in errors. The text of `APKINDEX` goes to `records` in pieces of whole records.
    ///
    /// A signature is checked before anything of the index is looked at.
    pub(crate) fn read(
        file: &str,
        source: impl Read,
        trust: Trust<'_>,
        records: impl FnMut(&mut Pieces, &str) -> Result<()>,
    ) -> Result<Self> {
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
        let mut decoder = GzDecoder::new(rest);
        let outcome = read_tar(file, &mut decoder, records);
        if outcome.is_err() {
            // What looks like a malformed record may be a damaged archive, which says more.
            drain(file, &mut decoder)?;
        }
        let description = outcome?;
        if !decoder.into_inner().is_empty() {
            return Err(Error::damaged(file, Member::Index, "something follows it"));
        }
        Ok(Self { description, signed_by })
    }
}

/// Reads what is left of a member, within its bounds.
fn drain(file: &str, decoder: &mut impl Read) -> Result<()> {
    let rest = std::io::copy(&mut decoder.take(limits::INDEX_BYTES), &mut std::io::sink());
    rest.map(drop).map_err(|error| gzip_error(file, Member::Index, &error))
}

/// Hands `APKINDEX` to `records`, and gives `DESCRIPTION`.
fn read_tar(
    file: &str,
    decoder: &mut impl Read,
    mut records: impl FnMut(&mut Pieces, &str) -> Result<()>,
) -> Result<String> {
    let mut reader = TarReader::new(decoder, file, Member::Index, limits::INDEX_BYTES);
    let mut index = false;
    let mut description = None;
    while let Some(entry) = reader.next_entry()? {
        if entry.kind != FileKind::Regular {
            return Err(reader.refused(&entry.path, "an index holds only regular files"));
        }
        let again = match entry.path.as_str() {
            "APKINDEX" => {
                let again = std::mem::replace(&mut index, true);
                if !again {
                    read_text(file, &mut reader, &mut records)?;
                }
                again
            }
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
    if !index {
        return Err(Error::missing(file, "`APKINDEX`"));
    }
    Ok(description.unwrap_or_default())
}

/// Hands the content of the current entry to `records`, in pieces that end where a record does.
fn read_text<R: Read>(
    file: &str,
    reader: &mut TarReader<'_, R>,
    records: &mut impl FnMut(&mut Pieces, &str) -> Result<()>,
) -> Result<()> {
    let mut pieces = Pieces::new(format!("{file}: APKINDEX"), "the index");
    let mut buffer = vec![0; PIECE_BYTES];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        let got = reader.read_content(buffer.get_mut(filled..).unwrap_or_default())?;
        filled += got;
        let held = buffer.get(..filled).unwrap_or_default();
        let end = match memchr::memmem::rfind(held, b"\n\n") {
            _ if got == 0 => filled,
            Some(blank) if filled == buffer.len() => blank + 2,
            _ => continue,
        };
        let text = std::str::from_utf8(held.get(..end).unwrap_or_default());
        records(&mut pieces, text.map_err(|_| reader.refused("APKINDEX", "it is not UTF-8"))?)?;
        buffer.copy_within(end..filled, 0);
        filled -= end;
        if got == 0 {
            return Ok(());
        }
    }
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
