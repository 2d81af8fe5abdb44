//! OpenPGP signatures over files, detached or in the clear (RFC 9580, sections 7 and 10.4).

use std::io::BufReader;

use jiff::Timestamp;
use pgp::armor::DearmorOptions;
use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature};
use pgp::packet::Signature;

use crate::content::{Content, Watched};
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Signer};
use crate::keyring::{Check, Judged, Keyring, Verify};
use crate::sha256_hex;

const LONGEST_SIGNATURE: usize = 512 * 1024;
// The parser of clear-signed messages takes time with the product of these two.
const LONGEST_DOCUMENT: usize = 1024 * 1024;
const MOST_LINES: usize = 5_000;
const MOST_SIGNATURES: usize = 32;
const DETACHED: &str = "OpenPGP signature";
const CLEAR: &str = "OpenPGP clear-signed message";

/// A clear-signed document whose signature holds.
#[derive(Debug, Clone)]
pub struct ClearSigned {
    /// The signed text, and nothing that stood around it.
    pub text: String,
    /// Every valid signature's maker.
    pub signers: Vec<Signer>,
    /// When the newest of them was made.
    pub made: Timestamp,
}

impl ClearSigned {
    /// The signature of `document` as evidence.
    pub fn evidence(&self, document: &[u8]) -> Evidence {
        Evidence::Openpgp { signature_sha256: sha256_hex(document), signers: self.signers.clone(), made: self.made }
    }
}

/// Verifies a detached signature file, armored or binary, over `content`. One of its signatures, of
/// at most 32, must be valid by a pinned key of `keyring`.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Signature`] with the reason for each
/// signature, [`Error::Read`].
pub fn verify_detached(
    keyring: &Keyring,
    signature: &[u8],
    content: &(impl Content + ?Sized),
    judged: Judged,
    now: Timestamp,
) -> Result<Evidence> {
    let signatures = parse(signature)?;
    let check = |verify: &mut Verify<'_>| {
        let mut failure = None;
        let verdict = verify(&mut Watched::new(content.open()?, &mut failure));
        match failure {
            Some(error) => Err(Error::Read(error)),
            None => Ok(verdict),
        }
    };
    let (signers, made) = judge_all(keyring, &signatures, judged, now, DETACHED, &check)?;
    Ok(Evidence::Openpgp { signature_sha256: sha256_hex(signature), signers, made })
}

/// Verifies a clear-signed document, such as a signed checksum file or Debian's `InRelease`.
///
/// # Errors
/// [`Error::Malformed`] when it is none or too long for one, [`Error::Signature`] with the reason
/// for each signature.
pub fn verify_clear_signed(keyring: &Keyring, document: &[u8], judged: Judged, now: Timestamp) -> Result<ClearSigned> {
    let text = std::str::from_utf8(document).map_err(|_| Error::malformed(CLEAR, "it is not text"))?;
    if text.len() > LONGEST_DOCUMENT || text.lines().count() > MOST_LINES {
        return Err(Error::malformed(CLEAR, "it is longer than such a file may be"));
    }
    if !text.starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
        return Err(Error::malformed(CLEAR, "it does not begin with one"));
    }
    let (message, _) = CleartextSignedMessage::from_armor_buf(text.as_bytes(), DearmorOptions::default())
        .map_err(|error| Error::malformed(CLEAR, error))?;
    let signatures: Vec<Signature> = message.signatures().iter().take(MOST_SIGNATURES + 1).cloned().collect();
    let signed = message.signed_text();
    let check = |verify: &mut Verify<'_>| Ok(verify(&mut signed.as_bytes()));
    let (signers, made) = judge_all(keyring, &signatures, judged, now, CLEAR, &check)?;
    Ok(ClearSigned { text: signed, signers, made })
}

fn judge_all(
    keyring: &Keyring,
    signatures: &[Signature],
    judged: Judged,
    now: Timestamp,
    format: &'static str,
    check: &Check<'_>,
) -> Result<(Vec<Signer>, Timestamp)> {
    if signatures.len() > MOST_SIGNATURES {
        return Err(Error::malformed(format, format!("it carries more than {MOST_SIGNATURES} signatures")));
    }
    let (mut signers, mut reasons, mut newest) = (Vec::new(), Vec::new(), Timestamp::MIN);
    for signature in signatures {
        match keyring.judge(signature, check, judged, now)? {
            Ok((signer, made)) => {
                newest = newest.max(made);
                signers.push(signer);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    if signers.is_empty() {
        if reasons.is_empty() {
            reasons.push("it carries no signature".to_owned());
        }
        return Err(Error::Signature { format, reasons });
    }
    signers.sort();
    signers.dedup();
    Ok((signers, newest))
}

/// The signatures of a file: one binary sequence of packets, or armored blocks one after another.
fn parse(bytes: &[u8]) -> Result<Vec<Signature>> {
    if bytes.len() > LONGEST_SIGNATURE {
        return Err(Error::TooLarge { what: DETACHED, limit: LONGEST_SIGNATURE as u64 });
    }
    let malformed = |error: pgp::errors::Error| Error::malformed(DETACHED, error);
    let mut signatures = Vec::new();
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
    let rest = bytes.get(start..).unwrap_or_default();
    if rest.starts_with(b"-----BEGIN PGP SIGNED MESSAGE") {
        return Err(Error::malformed(DETACHED, "it is a clear-signed message, which signs its own text"));
    }
    if rest.starts_with(b"-----BEGIN PGP") {
        for block in blocks(rest) {
            let (parsed, _) = DetachedSignature::from_armor_many_buf(block).map_err(malformed)?;
            for signature in parsed.take(MOST_SIGNATURES + 1) {
                signatures.push(signature.map_err(malformed)?.signature);
            }
        }
    } else {
        let parsed = DetachedSignature::from_bytes_many(BufReader::new(rest)).map_err(malformed)?;
        for signature in parsed.take(MOST_SIGNATURES + 1) {
            signatures.push(signature.map_err(malformed)?.signature);
        }
    }
    if signatures.is_empty() {
        return Err(Error::malformed(DETACHED, "it holds no signature"));
    }
    Ok(signatures)
}

/// The armored blocks of a text, each from its first line to before the next one's.
fn blocks(text: &[u8]) -> Vec<&[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN PGP";
    let mut starts: Vec<usize> =
        text.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN).map(|(at, _)| at).collect();
    starts.truncate(MOST_SIGNATURES + 1);
    let ends = starts.iter().skip(1).copied().chain(std::iter::once(text.len()));
    starts.iter().zip(ends).filter_map(|(start, end)| text.get(*start..end)).collect()
}
