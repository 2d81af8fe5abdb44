//! OpenPGP keys that are trusted, and what a signature by them is worth.

use std::fmt;
use std::io::Read;

use jiff::Timestamp;
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{RevocationCode, Signature, SignatureType, SignatureVersion};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails, PublicParams, Tag};

use crate::error::{Error, Result};
use crate::evidence::Signer;

const LONGEST_KEYRING: usize = 16 * 1024 * 1024;
const SHORTEST_RSA: u16 = 2048;
/// Keys that a message names.
const MOST_NAMED: usize = 4;
/// How far a signer's clock may run ahead of ours, in seconds.
const CLOCK_SKEW: i64 = 3600;

/// Whether a signature fits, or why not.
pub(crate) type Verdict = Result<(), String>;
/// One signature's verification over a reader.
pub(crate) type Verify<'a> = dyn FnMut(&mut dyn Read) -> Verdict + 'a;
/// Runs a verification over the signed bytes, opened anew.
pub(crate) type Check<'a> = dyn Fn(&mut Verify<'_>) -> Result<Verdict> + 'a;

/// The moment at which a key must have been good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Now, as for an archive that is signed anew every day.
    Now,
    /// When the signature was made, as for a release that stays as it is: its key may expire, or
    /// be replaced by another, later. A key revoked because others have it is never good.
    AtSigning,
}

/// Keys that may sign.
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
    /// When not empty, only keys of these fingerprints count.
    pins: Vec<String>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keyring({} keys, {} pinned)", self.keys.len(), self.pins.len())
    }
}

impl Keyring {
    /// Reads every key of keyring files, given as name and bytes, binary or armored. At least one
    /// key must be found in each.
    ///
    /// # Errors
    /// [`Error::Key`] names the file.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self> {
        let mut keys = Vec::new();
        for (origin, bytes) in files {
            keys.extend(parse(origin, bytes)?);
        }
        Ok(Self { keys, pins: Vec::new() })
    }

    /// Only the keys of these fingerprints, of primary keys or subkeys, in hexadecimal; spaces in
    /// them don't count. A primary key's stands for its subkeys too. With none, all keys count.
    ///
    /// # Errors
    /// [`Error::Key`] for one that is no fingerprint, or of no key of this ring.
    pub fn pinned(mut self, fingerprints: &[String]) -> Result<Self> {
        for text in fingerprints {
            let pin: String = text.chars().filter(|character| !character.is_whitespace()).collect();
            let pin = pin.to_ascii_lowercase();
            if !matches!(pin.len(), 40 | 64) || !pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::key(text, "a fingerprint has 40 or 64 hexadecimal digits; a key id names no key"));
            }
            let known = self.keys.iter().any(|key| {
                key.primary_key.fingerprint().to_string() == pin
                    || key.public_subkeys.iter().any(|subkey| subkey.key.fingerprint().to_string() == pin)
            });
            if !known {
                return Err(Error::key(text, "no key of the keyring has this fingerprint"));
            }
            self.pins.push(pin);
        }
        Ok(self)
    }

    /// Fingerprints of the primary keys, lower-case hexadecimal.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.primary_key.fingerprint().to_string()).collect()
    }

    /// The first keys, for messages.
    fn names(&self) -> String {
        let mut names: Vec<String> = self.keys.iter().take(MOST_NAMED).map(name_of).collect();
        if self.keys.len() > MOST_NAMED {
            names.push(format!("{} more", self.keys.len() - MOST_NAMED));
        }
        names.join(", ")
    }

    /// Judges one signature. `check` runs its verification over the signed bytes. Answers who made
    /// it and when, or why it doesn't count.
    pub(crate) fn judge(
        &self,
        signature: &Signature,
        check: &Check<'_>,
        judged: Judged,
        now: Timestamp,
    ) -> Result<Result<(Signer, Timestamp), String>> {
        let made = match check_signature(signature, now) {
            Ok(made) => made,
            Err(reason) => return Ok(Err(reason)),
        };
        let at = match judged {
            Judged::Now => now.as_second(),
            Judged::AtSigning => made,
        };
        let issuer = issuer(signature);
        let mut candidates = Vec::new();
        for key in &self.keys {
            if is_issuer(signature, &key.primary_key) {
                candidates.push((key, primary_state(key, at, true)));
            }
            for subkey in &key.public_subkeys {
                if is_issuer(signature, &subkey.key) {
                    candidates.push((key, subkey_state(key, subkey, at)));
                }
            }
        }
        let mut reason = format!("{issuer}: not a key of the keyring, which holds {}", self.names());
        for (key, state) in candidates {
            let primary_fingerprint = key.primary_key.fingerprint().to_string();
            let usable = state.and_then(|state| {
                if made < state.created {
                    return Err("the signature is older than the key".to_owned());
                }
                if !self.pins.is_empty()
                    && !self.pins.iter().any(|pin| [&state.fingerprint, &primary_fingerprint].contains(&pin))
                {
                    return Err("its fingerprint is not among the pinned ones".to_owned());
                }
                Ok(state)
            });
            let valid = match usable {
                Err(why) => Err(why),
                Ok(state) => {
                    let verdict = check(&mut |content| {
                        let result = match state.subkey {
                            Some(subkey) => signature.verify(subkey, content),
                            None => signature.verify(&key.primary_key, content),
                        };
                        result.map_err(|error| format!("bad signature: {error}"))
                    })?;
                    verdict.map(|()| state.fingerprint)
                }
            };
            match valid {
                Ok(fingerprint) => {
                    let made = Timestamp::from_second(made).unwrap_or(Timestamp::MIN);
                    return Ok(Ok((Signer { fingerprint, primary_fingerprint, user: user_of(key) }, made)));
                }
                Err(why) => reason = format!("{issuer} ({}): {why}", user_of(key)),
            }
        }
        Ok(Err(reason))
    }
}

/// The first user id of a key.
fn user_of(key: &SignedPublicKey) -> String {
    let user = key.details.users.first();
    user.map(|user| String::from_utf8_lossy(user.id.id()).into_owned()).unwrap_or_default()
}

fn name_of(key: &SignedPublicKey) -> String {
    format!("{} ({})", key.primary_key.fingerprint(), user_of(key))
}

fn parse(origin: &str, bytes: &[u8]) -> Result<Vec<SignedPublicKey>> {
    if bytes.len() > LONGEST_KEYRING {
        return Err(Error::TooLarge { what: "keyring", limit: LONGEST_KEYRING as u64 });
    }
    let refuse = |error: pgp::errors::Error| Error::key(origin, error);
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let armored = bytes.get(start..).is_some_and(|rest| rest.starts_with(b"-----BEGIN PGP"));
    let mut keys = Vec::new();
    if armored {
        let (parsed, _) = SignedPublicKey::from_armor_many_buf(bytes).map_err(refuse)?;
        for key in parsed {
            keys.push(key.map_err(refuse)?);
        }
    } else {
        for key in SignedPublicKey::from_bytes_many(bytes).map_err(refuse)? {
            keys.push(key.map_err(refuse)?);
        }
    }
    if keys.is_empty() {
        return Err(Error::key(origin, "it holds no OpenPGP public key"));
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
    if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(format!("{issuer}: a signature of version {:?}; 4 and 6 are known", signature.version()));
    }
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

/// Whether a primary key was good at a time, in seconds since 1970, and, if `signs`, whether it may
/// sign documents.
fn primary_state(key: &SignedPublicKey, at: i64, signs: bool) -> Result<Usable<'_>, String> {
    let primary = &key.primary_key;
    let details = &key.details;
    check_strength(primary.public_params())?;
    let revocations = details.revocation_signatures.iter().filter(|revocation| revocation.verify_key(primary).is_ok());
    if revoked(revocations, at) {
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
    check_life(binding, created, at)?;
    let flags = binding.key_flags();
    if signs && has_flags(&flags) && !flags.sign() {
        return Err("the key may not sign documents".to_owned());
    }
    Ok(Usable { fingerprint: primary.fingerprint().to_string(), created, subkey: None })
}

fn subkey_state<'a>(
    key: &'a SignedPublicKey,
    subkey: &'a pgp::composed::SignedPublicSubKey,
    at: i64,
) -> Result<Usable<'a>, String> {
    let primary = &key.primary_key;
    primary_state(key, at, false)?;
    check_strength(subkey.key.public_params())?;
    let valid = |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let revocations = subkey
        .signatures
        .iter()
        .filter(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation) && valid(signature));
    if revoked(revocations, at) {
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
    check_life(binding, created, at)?;
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

fn check_life(binding: &Signature, created: i64, at: i64) -> Result<(), String> {
    match binding.key_expiration_time().map(|life| i64::from(life.as_secs())) {
        Some(life) if life > 0 && created + life <= at => Err("the key has expired".to_owned()),
        _ => Ok(()),
    }
}

/// Whether one of these revocations speaks of a time. One that says that the key was only replaced
/// or put away (RFC 9580, section 5.2.3.31) leaves older signatures good; any other says that
/// somebody else may have the key, and may have dated signatures back.
fn revoked<'a>(mut revocations: impl Iterator<Item = &'a Signature>, at: i64) -> bool {
    revocations.any(|revocation| {
        let put_away = matches!(
            revocation.revocation_reason_code(),
            Some(RevocationCode::KeySuperseded | RevocationCode::KeyRetired)
        );
        let since = revocation.created().map(|created| i64::from(created.as_secs()));
        !put_away || since.is_none_or(|since| since <= at)
    })
}

/// Refuses keys that can be broken.
fn check_strength(parameters: &PublicParams) -> Result<(), String> {
    match parameters {
        PublicParams::RSA(key) => {
            // A number of many bytes begins with its length in bits (RFC 9580, section 3.2).
            let bytes = key.to_bytes().map_err(|error| error.to_string())?;
            let bits = bytes.first_chunk::<2>().map_or(0, |length| u16::from_be_bytes(*length));
            if bits < SHORTEST_RSA {
                return Err(format!("an RSA key of {bits} bits is too weak; {SHORTEST_RSA} are needed"));
            }
            Ok(())
        }
        PublicParams::DSA(_) => Err("DSA keys are not trusted any more".to_owned()),
        _ => Ok(()),
    }
}
