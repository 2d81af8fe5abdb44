//! Public keys, and the trait of everything that can sign.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding},
};
use rsa::{Pkcs1v15Sign, sha2::Sha256, traits::PublicKeyParts};
use sha2::Digest as _;

use crate::{Error, Result};

/// The longest PEM text accepted as a public key, in bytes.
const MAX_PUBLIC_KEY_BYTES: usize = 16 << 10;
/// The shortest RSA modulus accepted, in bits.
const MIN_RSA_BITS: u32 = 2048;

/// Something that holds a private key: a file, a key management service.
#[async_trait]
pub trait Signer: Send + Sync {
    /// The key's id as `cosign` hints at keys in bundles: standard base64 of the SHA-256 of the
    /// DER `SubjectPublicKeyInfo`.
    fn key_id(&self) -> &str;

    /// The key's name for people and, for apk keys, the name that clients look up in
    /// `/etc/apk/keys` (`NAME.rsa.pub`).
    fn key_name(&self) -> &str;

    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// The public half as a PEM `PUBLIC KEY` (PKIX).
    fn public_key_pem(&self) -> String {
        self.public_key().to_pem().to_owned()
    }

    /// Signs bytes given by their SHA-256: an ASN.1 DER ECDSA signature for P-256 keys, a
    /// PKCS#1 v1.5 signature for RSA keys.
    async fn sign_digest(&self, sha256: [u8; 32]) -> Result<Vec<u8>>;
}

/// A public key that signatures are checked with: ECDSA P-256, or RSA of at least 2048 bits.
#[derive(Clone)]
pub struct PublicKey {
    kind: Kind,
    pem: String,
    id: String,
}

#[derive(Clone)]
enum Kind {
    P256(VerifyingKey),
    Rsa(rsa::PublicKey),
}

impl PublicKey {
    /// Reads a PEM `PUBLIC KEY` (PKIX).
    ///
    /// # Errors
    /// [`Error::PublicKey`] says what is wrong with the text.
    pub fn from_pem(pem: &str) -> Result<Self> {
        if pem.len() > MAX_PUBLIC_KEY_BYTES {
            return Err(Error::PublicKey {
                reason: format!("{} bytes are more than {MAX_PUBLIC_KEY_BYTES}", pem.len()),
            });
        }
        match VerifyingKey::from_public_key_pem(pem) {
            Ok(key) => Self::p256(key),
            Err(not_p256) => match rsa::PublicKey::from_public_key_pem(pem) {
                Ok(key) => Self::rsa(key),
                Err(not_rsa) => Err(Error::PublicKey { reason: format!("as P-256: {not_p256}; as RSA: {not_rsa}") }),
            },
        }
    }

    /// Reads a DER `SubjectPublicKeyInfo` (PKIX), as key management services give it.
    ///
    /// # Errors
    /// [`Error::PublicKey`] says what is wrong with the bytes.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        match VerifyingKey::from_public_key_der(der) {
            Ok(key) => Self::p256(key),
            Err(not_p256) => match rsa::PublicKey::from_public_key_der(der) {
                Ok(key) => Self::rsa(key),
                Err(not_rsa) => Err(Error::PublicKey { reason: format!("as P-256: {not_p256}; as RSA: {not_rsa}") }),
            },
        }
    }

    /// Whether this is an RSA key, not one of P-256.
    pub fn is_rsa(&self) -> bool {
        matches!(self.kind, Kind::Rsa(_))
    }

    pub(crate) fn p256(key: VerifyingKey) -> Result<Self> {
        Self::new(&key, Kind::P256(key))
    }

    pub(crate) fn rsa(key: rsa::PublicKey) -> Result<Self> {
        let bits = key.n().bit_width();
        if bits < MIN_RSA_BITS {
            return Err(Error::PublicKey {
                reason: format!("the RSA key has {bits} bits, at least {MIN_RSA_BITS} are needed"),
            });
        }
        Self::new(&key.clone(), Kind::Rsa(key))
    }

    fn new(key: &impl EncodePublicKey, kind: Kind) -> Result<Self> {
        let failed = |error: p256::pkcs8::spki::Error| Error::PublicKey { reason: error.to_string() };
        let der = key.to_public_key_der().map_err(failed)?;
        let pem = key.to_public_key_pem(LineEnding::LF).map_err(failed)?;
        let id = STANDARD.encode(sha2::Sha256::digest(der.as_bytes()));
        Ok(Self { kind, pem, id })
    }

    /// The key as a PEM `PUBLIC KEY` (PKIX).
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// The key's id; see [`Signer::key_id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` is this key's signature of the bytes whose SHA-256 is `sha256`.
    pub fn verifies(&self, sha256: &[u8; 32], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::P256(key) => {
                Signature::from_der(signature).and_then(|signature| key.verify_prehash(sha256, &signature)).is_ok()
            }
            Kind::Rsa(key) => key.verify(Pkcs1v15Sign::new::<Sha256>(), sha256, signature).is_ok(),
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::P256(_) => "P-256",
            Kind::Rsa(_) => "RSA",
        };
        write!(formatter, "PublicKey({kind}, {})", self.id)
    }
}
