//! Signatures of the npm registry: ECDSA over P-256 of `NAME@VERSION:INTEGRITY` with SHA-256.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use serde::{Deserialize, Serialize};

const KEY_TYPE: &str = "ecdsa-sha2-nistp256";

/// `GET /-/npm/v1/keys`.
#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
}

/// A key that the registry signs with, or did.
#[derive(Deserialize)]
pub(super) struct Key {
    keyid: String,
    keytype: String,
    key: String,
    expires: Option<Timestamp>,
}

/// A signature that the npm registry states of a version: an element of `dist.signatures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NpmSignature {
    /// Id of the key, such as `SHA256:...`.
    keyid: String,
    /// The signature: ASN.1 DER in base64.
    sig: String,
}

/// Why signatures don't prove a version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A key has expired since; the time of publication would tell whether it had then.
    Undated,
    /// They don't.
    Bad(String),
}

/// The id of the key that signed `message`. `published` is when the version was, `now` the time:
/// an expired key counts for what was published before its end.
pub(super) fn verify(
    keys: &[Key],
    signatures: &[NpmSignature],
    message: &str,
    published: Option<Timestamp>,
    now: Timestamp,
) -> Result<String, Refusal> {
    let bad = |reason: String| Err(Refusal::Bad(reason));
    if signatures.is_empty() {
        return bad("the registry signs what it holds, but this version is not signed".to_owned());
    }
    let mut signed_by = None;
    for stated in signatures {
        let Some(key) = keys.iter().find(|key| key.keyid == stated.keyid && key.keytype == KEY_TYPE) else {
            continue;
        };
        if let Some(expires) = key.expires.filter(|expires| *expires <= now) {
            match published {
                None => return Err(Refusal::Undated),
                Some(time) if time >= expires => {
                    return bad(format!("the key `{}` expired {expires}, before it was published", key.keyid));
                }
                Some(_) => {}
            }
        }
        if !is_signed(key, &stated.sig, message) {
            return bad(format!("the signature of the key `{}` is not valid", key.keyid));
        }
        signed_by.get_or_insert_with(|| key.keyid.clone());
    }
    signed_by.map_or_else(|| bad("no key of the registry is among those that signed it".to_owned()), Ok)
}

fn is_signed(key: &Key, signature: &str, message: &str) -> bool {
    let key = STANDARD.decode(&key.key).ok().and_then(|der| VerifyingKey::from_public_key_der(&der).ok());
    let signature = STANDARD.decode(signature).ok().and_then(|der| Signature::from_der(&der).ok());
    key.zip(signature).is_some_and(|(key, signature)| key.verify(message.as_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer;
    use p256::pkcs8::EncodePublicKey;

    use super::*;

    const MESSAGE: &str = "hello@1.0.0:sha512-AA==";

    fn key(secret: &SigningKey, id: &str, expires: Option<&str>) -> Key {
        Key {
            keyid: id.to_owned(),
            keytype: KEY_TYPE.to_owned(),
            key: STANDARD.encode(secret.verifying_key().to_public_key_der().unwrap()),
            expires: expires.map(|time| time.parse().unwrap()),
        }
    }

    fn signed(secret: &SigningKey, id: &str, message: &str) -> NpmSignature {
        let signature: Signature = secret.sign(message.as_bytes());
        NpmSignature { keyid: id.to_owned(), sig: STANDARD.encode(signature.to_der()) }
    }

    #[test]
    fn a_signature_is_good_by_a_key_of_its_time_only() {
        let (one, two) = (SigningKey::from_slice(&[1; 32]).unwrap(), SigningKey::from_slice(&[2; 32]).unwrap());
        let keys = [key(&one, "one", None), key(&two, "two", Some("2025-01-29T00:00:00.000Z"))];
        let now: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
        let at = |time: &str| Some(time.parse().unwrap());
        let check = |signatures: &[NpmSignature], published| verify(&keys, signatures, MESSAGE, published, now);
        assert_eq!(check(&[signed(&one, "one", MESSAGE)], None), Ok("one".to_owned()));
        let old = [signed(&two, "two", MESSAGE)];
        assert_eq!(check(&old, None), Err(Refusal::Undated));
        assert_eq!(check(&old, at("2024-05-01T00:00:00Z")), Ok("two".to_owned()));
        for (signatures, published, reason) in [
            (&old[..], at("2025-02-01T00:00:00Z"), "expired"),
            (&[signed(&two, "one", MESSAGE)], None, "not valid"),
            (&[signed(&one, "one", "hello@1.0.1:sha512-AA==")], None, "not valid"),
            (&[signed(&one, "three", MESSAGE)], None, "no key"),
            (&[], None, "not signed"),
        ] {
            let refusal = check(signatures, published).unwrap_err();
            assert!(matches!(&refusal, Refusal::Bad(text) if text.contains(reason)), "{reason}: {refusal:?}");
        }
    }
}
