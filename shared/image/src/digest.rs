use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// `sha256:HEX`.
pub(crate) fn sha256_text(sha256: Sha256) -> String {
    format!("sha256:{}", hex::encode(sha256.finalize()))
}

/// Counts and hashes what passes through.
pub(crate) struct Hashing<W> {
    into: W,
    sha256: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    pub fn new(into: W) -> Self {
        Self { into, sha256: Sha256::new(), size: 0 }
    }

    /// The writer below, `sha256:HEX` and the bytes that passed.
    pub fn finish(self) -> (W, String, u64) {
        (self.into, sha256_text(self.sha256), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.into.write(bytes)?;
        if let Some(written) = bytes.get(..count) {
            self.sha256.update(written);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
