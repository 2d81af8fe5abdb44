//! OpenPGP keyrings, and clear-signed documents judged by them as gpgv judges.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pgp::armor::DearmorOptions;
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails, Tag};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::read_bounded;

const LONGEST_KEYRING: u64 = 16 * 1024 * 1024;
// The parser of clear-signed messages takes time with the product of these two.
const LONGEST_DOCUMENT: usize = 1024 * 1024;
const MOST_LINES: usize = 5_000;
const MOST_SIGNATURES: usize = 32;
/// How far a signer's clock may run ahead of ours, in seconds.
const CLOCK_SKEW: i64 = 3600;

/// Who made a valid signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// Fingerprint of the key or subkey that signed, lower-case hexadecimal.
    pub fingerprint: String,
    /// Fingerprint of the primary key it belongs to.
    pub primary_fingerprint: String,
    /// First user id of that key.
    pub user: String,
}

/// A document whose signature holds.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The signed text, and nothing that stood around it.
    pub text: String,
    /// Every valid signature's maker.
    pub signers: Vec<Signer>,
}

/// Keys that may sign.
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keyring({} keys)", self.keys.len())
    }
}

impl Keyring {
    /// Reads every key of the files, binary or armored. At least one key must be found in each.
    pub fn load(paths: &[PathBuf]) -> Result<Self> {
        let mut keys = Vec::new();
        for path in paths {
            let bytes = read_bounded(path, LONGEST_KEYRING)?.ok_or_else(|| Error::Keyring {
                path: path.clone(),
                reason: "no such file; name another under `[endpoints] debian-keyrings`, or \
                         install the archive's keyring package"
                    .to_owned(),
            })?;
            keys.extend(parse(path, &bytes)?);
        }
        Ok(Self { keys })
    }

    /// Verifies a clear-signed document (RFC 9580, section 7). At least one signature must be
    /// made by a key of this ring that could sign at the time of signing and is neither revoked
    /// nor expired `now`.
    pub fn verify(&self, url: &str, document: &[u8], now: Timestamp) -> Result<Verified> {
        let unsigned = |reason: &str| Error::Unsigned { url: url.to_owned(), reason: reason.to_owned() };
        let text = std::str::from_utf8(document).map_err(|_| unsigned("it is not text"))?;
        if text.len() > LONGEST_DOCUMENT || text.lines().count() > MOST_LINES {
            return Err(unsigned("it is longer than a release file may be"));
        }
        if !text.starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
            return Err(unsigned("it does not begin with an OpenPGP clear-signed message"));
        }
        let (message, _) = CleartextSignedMessage::from_armor_buf(text.as_bytes(), DearmorOptions::default())
            .map_err(|error| unsigned(&error.to_string()))?;
        if message.signatures().len() > MOST_SIGNATURES {
            return Err(unsigned("it carries too many signatures"));
        }
        let signed = message.signed_text();
        let (mut signers, mut reasons) = (Vec::new(), Vec::new());
        for signature in message.signatures() {
            match self.judge(signature, signed.as_bytes(), now) {
                Ok(signer) => signers.push(signer),
                Err(reason) => reasons.push(reason),
            }
        }
        if signers.is_empty() {
            if reasons.is_empty() {
                reasons.push("it carries no signature".to_owned());
            }
            return Err(Error::Signature { url: url.to_owned(), reasons });
        }
        Ok(Verified { text: signed, signers })
    }

    fn judge(&self, signature: &Signature, text: &[u8], now: Timestamp) -> Result<Signer, String> {
        let made = check_signature(signature, now)?;
        let issuer = issuer(signature);
        let mut candidates = Vec::new();
        for key in &self.keys {
            if is_issuer(signature, &key.primary_key) {
                candidates.push((key, primary_state(key, now, true)));
            }
            for subkey in &key.public_subkeys {
                if is_issuer(signature, &subkey.key) {
                    candidates.push((key, subkey_state(key, subkey, now)));
                }
            }
        }
        let mut reason = format!("{issuer}: not a key of the keyring");
        for (key, state) in candidates {
            let valid = state.and_then(|state| {
                if made < state.created {
                    return Err("the signature is older than the key".to_owned());
                }
                let result = match state.subkey {
                    Some(subkey) => signature.verify(subkey, text),
                    None => signature.verify(&key.primary_key, text),
                };
                result.map_err(|error| format!("bad signature: {error}"))?;
                Ok(state.fingerprint)
            });
            match valid {
                Ok(fingerprint) => {
                    return Ok(Signer {
                        fingerprint,
                        primary_fingerprint: key.primary_key.fingerprint().to_string(),
                        user: key
                            .details
                            .users
                            .first()
                            .map(|user| String::from_utf8_lossy(user.id.id()).into_owned())
                            .unwrap_or_default(),
                    });
                }
                Err(why) => reason = format!("{issuer}: {why}"),
            }
        }
        Err(reason)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<SignedPublicKey>> {
    let refuse = |reason: String| Error::Keyring { path: path.to_owned(), reason };
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let armored = bytes.get(start..).is_some_and(|rest| rest.starts_with(b"-----BEGIN PGP"));
    let mut keys = Vec::new();
    if armored {
        let (parsed, _) = SignedPublicKey::from_armor_many_buf(bytes).map_err(|error| refuse(error.to_string()))?;
        for key in parsed {
            keys.push(key.map_err(|error| refuse(error.to_string()))?);
        }
    } else {
        let parsed = SignedPublicKey::from_bytes_many(bytes).map_err(|error| refuse(error.to_string()))?;
        for key in parsed {
            keys.push(key.map_err(|error| refuse(error.to_string()))?);
        }
    }
    if keys.is_empty() {
        return Err(refuse("it holds no OpenPGP public key".to_owned()));
    }
    Ok(keys)
}

/// A key that may sign.
struct Usable<'a> {
    fingerprint: String,
    created: i64,
    subkey: Option<&'a pgp::packet::PublicSubkey>,
}

/// Checks what a signature says of itself, and gives the second at which it was made.
fn check_signature(signature: &Signature, now: Timestamp) -> Result<i64, String> {
    let issuer = issuer(signature);
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(format!("{issuer}: not a signature over a document"));
    }
    let weak = match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha224
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => None,
        Some(other) => Some(other.to_string()),
        None => Some("unknown".to_owned()),
    };
    if let Some(name) = weak {
        return Err(format!("{issuer}: the hash algorithm {name} is too weak"));
    }
    let made = signature
        .created()
        .map(|created| i64::from(created.as_secs()))
        .ok_or_else(|| format!("{issuer}: it does not say when it was made"))?;
    if made > now.as_second() + CLOCK_SKEW {
        return Err(format!("{issuer}: it was made in the future; is this machine's clock right?"));
    }
    if let Some(life) = signature.signature_expiration_time().filter(|life| life.as_secs() > 0)
        && made + i64::from(life.as_secs()) <= now.as_second()
    {
        return Err(format!("{issuer}: the signature has expired"));
    }
    Ok(made)
}

fn issuer(signature: &Signature) -> String {
    signature
        .issuer_fingerprint()
        .first()
        .map(ToString::to_string)
        .or_else(|| signature.issuer_key_id().first().map(ToString::to_string))
        .unwrap_or_else(|| "unknown issuer".to_owned())
}

fn is_issuer(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        let id = key.legacy_key_id();
        return signature.issuer_key_id().into_iter().any(|issuer| *issuer == id);
    }
    let fingerprint = key.fingerprint();
    fingerprints.into_iter().any(|issuer| *issuer == fingerprint)
}

/// Whether a primary key stands `now`, and, if `signs`, whether it may sign documents.
fn primary_state(key: &SignedPublicKey, now: Timestamp, signs: bool) -> Result<Usable<'_>, String> {
    let primary = &key.primary_key;
    let details = &key.details;
    if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err("the key is revoked".to_owned());
    }
    let users = details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    let direct = details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    let binding = users
        .chain(direct)
        .max_by_key(|signature| signature.created().map(|created| created.as_secs()))
        .ok_or_else(|| "the key certifies no user id of its own".to_owned())?;
    let created = i64::from(primary.created_at().as_secs());
    check_life(binding, created, now)?;
    let flags = binding.key_flags();
    if signs && has_flags(&flags) && !flags.sign() {
        return Err("the key may not sign documents".to_owned());
    }
    Ok(Usable { fingerprint: primary.fingerprint().to_string(), created, subkey: None })
}

fn subkey_state<'a>(
    key: &'a SignedPublicKey,
    subkey: &'a pgp::composed::SignedPublicSubKey,
    now: Timestamp,
) -> Result<Usable<'a>, String> {
    let primary = &key.primary_key;
    primary_state(key, now, false)?;
    let valid = |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let revoked = subkey
        .signatures
        .iter()
        .any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation) && valid(&signature));
    if revoked {
        return Err("the subkey is revoked".to_owned());
    }
    let binding = subkey
        .signatures
        .iter()
        .filter(|signature| signature.typ() == Some(SignatureType::SubkeyBinding))
        .filter(valid)
        .max_by_key(|signature| signature.created().map(|created| created.as_secs()))
        .ok_or_else(|| "the subkey is not bound to its primary key".to_owned())?;
    let created = i64::from(subkey.key.created_at().as_secs());
    check_life(binding, created, now)?;
    if !binding.key_flags().sign() {
        return Err("the subkey may not sign documents".to_owned());
    }
    let bound_back =
        binding.embedded_signature().is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !bound_back {
        return Err("the subkey does not sign for its primary key".to_owned());
    }
    let fingerprint = subkey.key.fingerprint().to_string();
    Ok(Usable { fingerprint, created, subkey: Some(&subkey.key) })
}

fn has_flags(flags: &pgp::packet::KeyFlags) -> bool {
    flags.to_bytes().is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
}

fn check_life(binding: &Signature, created: i64, now: Timestamp) -> Result<(), String> {
    match binding.key_expiration_time().map(|life| i64::from(life.as_secs())) {
        Some(life) if life > 0 && created + life <= now.as_second() => Err("the key has expired".to_owned()),
        _ => Ok(()),
    }
}
