//! minisign signatures: Ed25519 over a file or its BLAKE2b digest, with a signed comment.

use minisign_verify::{PublicKey, Signature};

use crate::content::{Content, for_each_part, whole};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::sha256_hex;

const FORMAT: &str = "minisign signature";
const LONGEST_SIGNATURE: usize = 64 * 1024;
/// Of files that are signed themselves, as old versions of minisign did.
const LONGEST_WHOLE: u64 = 256 * 1024 * 1024;

/// A pinned minisign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinisignKey {
    key: PublicKey,
    text: String,
}

impl MinisignKey {
    /// Reads the base64 that `minisign -G` prints, which begins with `RW`.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let key = PublicKey::from_base64(text).map_err(|error| Error::key(text, error))?;
        Ok(Self { key, text: text.to_owned() })
    }

    /// Verifies a signature file over `content`, its signed comment included.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Signature`], [`Error::Read`].
    pub fn verify(&self, signature: &[u8], content: &(impl Content + ?Sized)) -> Result<Evidence> {
        if signature.len() > LONGEST_SIGNATURE {
            return Err(Error::TooLarge { what: FORMAT, limit: LONGEST_SIGNATURE as u64 });
        }
        let text = std::str::from_utf8(signature).map_err(|_| Error::malformed(FORMAT, "it is not text"))?;
        let parsed = Signature::decode(text).map_err(|error| Error::malformed(FORMAT, error))?;
        let bad = |error: minisign_verify::Error| Error::signature(FORMAT, error);
        let prehashed = match self.key.verify_stream(&parsed) {
            Ok(mut stream) => {
                for_each_part(content, |part| stream.update(part))?;
                stream.finalize().map_err(bad)?;
                true
            }
            Err(minisign_verify::Error::UnsupportedLegacyMode) => {
                self.key.verify(&whole(content, LONGEST_WHOLE)?, &parsed, true).map_err(bad)?;
                false
            }
            Err(error) => return Err(bad(error)),
        };
        Ok(Evidence::Minisign {
            signature_sha256: sha256_hex(signature),
            key: self.text.clone(),
            trusted_comment: parsed.trusted_comment().to_owned(),
            prehashed,
        })
    }
}
