//! What is to be proved, read as often as it takes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Bytes that are to be proved. They are opened anew for every signature that is tried, so that a
/// large file need not stand in memory.
pub trait Content: Sync {
    /// Opens the bytes at their beginning.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

impl Content for [u8] {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self))
    }
}

impl Content for Path {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self)?))
    }
}

/// Hands every part of the content to `take`.
pub(crate) fn for_each_part(content: &(impl Content + ?Sized), mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut reader = content.open()?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The whole content, of at most `limit` bytes.
pub(crate) fn whole(content: &(impl Content + ?Sized), limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = content.open()?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(Error::TooLarge { what: "file to be proved whole", limit });
    }
    Ok(bytes)
}

/// A reader that remembers the failure to read, which a verifier would report as a bad signature.
pub(crate) struct Watched<'a> {
    inner: Box<dyn Read + 'a>,
    failure: &'a mut Option<io::Error>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(inner: Box<dyn Read + 'a>, failure: &'a mut Option<io::Error>) -> Self {
        Self { inner, failure }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            *self.failure = Some(error);
            kind.into()
        })
    }
}
