//! OpenBSD's signify: Ed25519 over the whole file, beside it or in front of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::content::{Content, whole};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::sha256_hex;

const FORMAT: &str = "signify signature";
const ALGORITHM: &[u8; 2] = b"Ed";
const COMMENT: &str = "untrusted comment: ";
const NUMBER: usize = 8;
const LONGEST_SIGNATURE: usize = 8 * 1024 * 1024;
/// The file is signed itself, so it stands in memory.
const LONGEST_FILE: u64 = 512 * 1024 * 1024;

/// A pinned signify key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignifyKey {
    number: [u8; NUMBER],
    key: VerifyingKey,
    text: String,
}

impl SignifyKey {
    /// Reads the base64 of a `.pub` file, alone or with the comment line before it.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let text = match text.strip_prefix(COMMENT) {
            Some(rest) => rest.split_once('\n').map(|(_, key)| key.trim()).unwrap_or_default(),
            None => text,
        };
        let refuse = |reason: &str| Error::key(text, format!("not a signify key: {reason}"));
        let bytes = STANDARD.decode(text).map_err(|error| refuse(&error.to_string()))?;
        let (number, key) = split::<32>(&bytes).ok_or_else(|| refuse("it is not 42 bytes that begin with `Ed`"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|error| refuse(&error.to_string()))?;
        if key.is_weak() {
            return Err(refuse("it is a weak point of the curve"));
        }
        Ok(Self { number, key, text: text.to_owned() })
    }

    /// Verifies a signature file over `content`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Signature`], [`Error::Read`].
    pub fn verify(&self, signature: &[u8], content: &(impl Content + ?Sized)) -> Result<Evidence> {
        let (parsed, rest) = header(signature)?;
        if !rest.is_empty() {
            return Err(Error::malformed(FORMAT, "a message follows it; it signs that message and no other file"));
        }
        self.check(&parsed, &whole(content, LONGEST_FILE)?)?;
        Ok(self.evidence(signature))
    }

    /// Verifies a signature file that carries its message (`signify -S -e`), such as a signed
    /// checksum file, and gives the message.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Signature`].
    pub fn verify_embedded<'a>(&self, signed: &'a [u8]) -> Result<(Evidence, &'a [u8])> {
        let (parsed, message) = header(signed)?;
        if message.is_empty() {
            return Err(Error::malformed(FORMAT, "it carries no message"));
        }
        self.check(&parsed, message)?;
        Ok((self.evidence(signed), message))
    }

    fn check(&self, (number, signature): &Numbered, message: &[u8]) -> Result<()> {
        if *number != self.number {
            let reason = format!("made by key {}, the pinned key is {}", hex::encode(number), hex::encode(self.number));
            return Err(Error::signature(FORMAT, reason));
        }
        self.key
            .verify_strict(message, &Signature::from_bytes(signature))
            .map_err(|error| Error::signature(FORMAT, error))
    }

    fn evidence(&self, signature: &[u8]) -> Evidence {
        Evidence::Signify { signature_sha256: sha256_hex(signature), key: self.text.clone() }
    }
}

/// Key number and the rest of `Ed` + number + rest.
fn split<const LENGTH: usize>(bytes: &[u8]) -> Option<([u8; NUMBER], [u8; LENGTH])> {
    let rest = bytes.strip_prefix(ALGORITHM)?;
    let (number, rest) = rest.split_first_chunk::<NUMBER>()?;
    Some((*number, rest.try_into().ok()?))
}

/// A key's number and the signature by it.
type Numbered = ([u8; NUMBER], [u8; 64]);

/// The signature in the first two lines, and what follows them.
fn header(file: &[u8]) -> Result<(Numbered, &[u8])> {
    let refuse = |reason: &str| Error::malformed(FORMAT, reason);
    if file.len() > LONGEST_SIGNATURE {
        return Err(Error::TooLarge { what: FORMAT, limit: LONGEST_SIGNATURE as u64 });
    }
    let line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n');
    let end = line(file).ok_or_else(|| refuse("it has no second line"))?;
    let (comment, rest) = file.split_at_checked(end + 1).ok_or_else(|| refuse("it has no second line"))?;
    if !comment.starts_with(COMMENT.as_bytes()) {
        return Err(refuse("it does not begin with `untrusted comment: `"));
    }
    let end = line(rest).map_or(rest.len(), |end| end + 1);
    let (encoded, message) = rest.split_at_checked(end).ok_or_else(|| refuse("it has no second line"))?;
    let bytes = STANDARD.decode(encoded.trim_ascii()).map_err(|error| refuse(&error.to_string()))?;
    let parsed = split::<64>(&bytes).ok_or_else(|| refuse("its second line is not 74 bytes that begin with `Ed`"))?;
    Ok((parsed, message))
}
