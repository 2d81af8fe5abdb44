use std::io::{self, Write};

use sha2::Digest;

/// Counts and hashes what passes through to another writer.
pub struct HashingWriter<W, D> {
    into: W,
    digest: D,
    size: u64,
}

impl<W: Write, D: Digest> HashingWriter<W, D> {
    /// Writes on to `into`.
    pub fn new(into: W) -> Self {
        Self { into, digest: D::new(), size: 0 }
    }

    /// The writer below, the digest of what passed, and how many bytes that was.
    pub fn finish(self) -> (W, D, u64) {
        (self.into, self.digest, self.size)
    }
}

impl<W: Write, D: Digest> Write for HashingWriter<W, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.into.write(bytes)?;
        if let Some(written) = bytes.get(..count) {
            self.digest.update(written);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
