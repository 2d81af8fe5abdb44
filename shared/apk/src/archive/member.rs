//! Splitting a file into gzip members, exactly.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::error::Member;
use crate::limits;
use crate::{Error, Result};

/// Counts and hashes what is consumed of a buffered reader, so that a decoder that stops at the
/// end of its member leaves the member's exact length and digests behind.
pub(crate) struct Meter<R> {
    source: R,
    position: u64,
    sha1: Sha1,
    sha256: Sha256,
}

/// The stored bytes of one member, measured.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) sha1: [u8; 20],
    pub(crate) sha256: [u8; 32],
}

impl Measured {
    /// Bytes that are in memory.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            start: 0,
            end: bytes.len() as u64,
            sha1: Sha1::digest(bytes).into(),
            sha256: Sha256::digest(bytes).into(),
        }
    }
}

impl<R: BufRead> Meter<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, position: 0, sha1: Sha1::new(), sha256: Sha256::new() }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn at_end(&mut self) -> io::Result<bool> {
        Ok(self.source.fill_buf()?.is_empty())
    }

    /// Bytes that come next, as many as are buffered.
    pub(crate) fn peek(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    /// What follows, no longer measured.
    pub(crate) fn rest(&mut self) -> &mut R {
        &mut self.source
    }

    /// Decompresses the member that begins here. `member` is only a name for errors.
    pub(crate) fn inflate(&mut self, file: &str, member: Member) -> Result<(Vec<u8>, Measured)> {
        self.sha1 = Sha1::new();
        self.sha256 = Sha256::new();
        let start = self.position;
        let mut content = Vec::new();
        let limit = if member == Member::Index { limits::INDEX_BYTES } else { limits::CONTROL_BYTES };
        let mut decoder = GzDecoder::new(&mut *self).take(limit + 1);
        decoder.read_to_end(&mut content).map_err(|error| gzip_error(file, member, &error))?;
        if content.len() as u64 > limit {
            return Err(Error::limit(file, format_args!("the decompressed {member} member in bytes"), limit));
        }
        let measured = Measured {
            start,
            end: self.position,
            sha1: std::mem::take(&mut self.sha1).finalize().into(),
            sha256: std::mem::take(&mut self.sha256).finalize().into(),
        };
        if measured.end - start > limits::CONTROL_COMPRESSED_BYTES && member != Member::Index {
            return Err(Error::limit(
                file,
                format_args!("the {member} member in bytes"),
                limits::CONTROL_COMPRESSED_BYTES,
            ));
        }
        Ok((content, measured))
    }
}

impl<R: BufRead> Read for Meter<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Meter<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What is consumed was handed out by `fill_buf` before, so it is still buffered and this
        // neither reads nor fails.
        if let Some(bytes) = self.source.fill_buf().ok().and_then(|buffer| buffer.get(..count)) {
            self.sha1.update(bytes);
            self.sha256.update(bytes);
        }
        self.source.consume(count);
        self.position += count as u64;
    }
}

/// Tells damage from trouble with the disk.
pub(crate) fn gzip_error(file: &str, member: Member, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::damaged(file, member, "truncated gzip stream"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            Error::damaged(file, member, format_args!("damaged gzip stream: {error}"))
        }
        kind => Error::io(file, io::Error::new(kind, error.to_string())),
    }
}

/// Refuses what doesn't begin with a gzip header, saying what it looks like.
pub(crate) fn check_magic(file: &str, start: &[u8]) -> Result<()> {
    let found = match start {
        [0x1f, 0x8b, ..] => return Ok(()),
        [] => "it is empty".to_owned(),
        [b'A', b'D', b'B', ..] => "it is an apk v3 (ADB) file".to_owned(),
        other => format!("it begins with bytes {}", hex::encode(other.get(..4).unwrap_or(other))),
    };
    Err(Error::NotApk { file: file.to_owned(), found })
}
