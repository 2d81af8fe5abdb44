use apk::HashingWriter;
use sha2::{Digest, Sha256};

/// Counts and hashes what passes through.
pub(crate) type Hashing<W> = HashingWriter<W, Sha256>;

/// `sha256:HEX`.
pub(crate) fn sha256_text(sha256: Sha256) -> String {
    format!("sha256:{}", hex::encode(sha256.finalize()))
}
