//! RSA keys: those that verify, kept in a keyring by name, and one that signs locally.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use getrandom::SysRng;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use sha1::Sha1;
use sha2::Sha256;

use crate::limits;
use crate::{Error, Result};

/// The smallest RSA modulus that is accepted, in bits.
pub const MINIMUM_KEY_BITS: u32 = 2048;

/// An RSA key that verifies packages and indexes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: rsa::PublicKey,
}

impl PublicKey {
    /// Reads a PEM `PUBLIC KEY` (SubjectPublicKeyInfo).
    ///
    /// `name` is the file name under which `/etc/apk/keys` holds it; signature entries name it so,
    /// and it must end in `.rsa.pub`.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self> {
        check_key_name(name)?;
        let key = rsa::PublicKey::from_public_key_pem(pem.trim())
            .map_err(|error| key_error(name, format_args!("not a PEM RSA public key: {error}")))?;
        check_bits(name, &key)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// Reads a key file; its file name is the key's name.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Self::from_pem(name, &read_key_file(path)?)
    }

    /// The name, which ends in `.rsa.pub`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The PEM `PUBLIC KEY` text.
    pub fn to_pem(&self) -> Result<String> {
        self.key.to_public_key_pem(LineEnding::LF).map_err(|error| key_error(&self.name, error))
    }

    /// Whether `signature` is this key's RSASSA-PKCS1-v1_5 signature of the SHA-256 digest.
    pub fn verifies_sha256(&self, digest: &[u8; 32], signature: &[u8]) -> bool {
        self.key.pkcs1v15_verify_prehash::<Sha256>(digest, signature).is_ok()
    }

    /// Whether `signature` is this key's RSASSA-PKCS1-v1_5 signature of the SHA-1 digest, the
    /// older kind that is still read and never written.
    pub fn verifies_sha1(&self, digest: &[u8; 20], signature: &[u8]) -> bool {
        self.key.pkcs1v15_verify_prehash::<Sha1>(digest, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.name).finish()
    }
}

/// The keys that are trusted, by name.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: BTreeMap<String, PublicKey>,
}

impl Keyring {
    /// A keyring of these keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.name.clone(), key)).collect() }
    }

    /// Every file of the folder whose name ends in `.rsa.pub`, as in `/etc/apk/keys`; other files
    /// are no keys and are passed over.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let mut keyring = Self::default();
        for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
            let path = entry.map_err(Error::at(folder))?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b".rsa.pub")) {
                keyring.add(PublicKey::open(&path)?);
            }
        }
        Ok(keyring)
    }

    /// Adds a key; one of the same name is replaced.
    pub fn add(&mut self, key: PublicKey) {
        self.keys.insert(key.name.clone(), key);
    }

    /// The key of this name.
    pub fn get(&self, name: &str) -> Option<&PublicKey> {
        self.keys.get(name)
    }

    /// The keys by name.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }

    pub(crate) fn names(&self) -> String {
        if self.keys.is_empty() {
            return "which is empty".to_owned();
        }
        self.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// An RSA key that signs digests on this machine. Deployments sign in a key service instead.
#[derive(Clone)]
pub struct PrivateKey {
    key: rsa::PrivateKey,
}

impl PrivateKey {
    /// A new key of `bits` bits, at least 2048, from the operating system's randomness.
    pub fn generate(bits: u32) -> Result<Self> {
        if bits < MINIMUM_KEY_BITS {
            return Err(key_error(
                "new",
                format_args!("{bits} bits are too few, at least {MINIMUM_KEY_BITS} are needed"),
            ));
        }
        let key = rsa::PrivateKey::new(&mut SysRng, bits as usize).map_err(|error| key_error("new", error))?;
        Ok(Self { key })
    }

    /// Reads a PEM `RSA PRIVATE KEY` (PKCS#1) or `PRIVATE KEY` (PKCS#8). `name` is for errors.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self> {
        let pem = pem.trim();
        let key = if pem.starts_with("-----BEGIN RSA PRIVATE KEY-----") {
            rsa::PrivateKey::from_pkcs1_pem(pem)
                .map_err(|error| key_error(name, format_args!("not a PEM PKCS#1 key: {error}")))
        } else {
            rsa::PrivateKey::from_pkcs8_pem(pem)
                .map_err(|error| key_error(name, format_args!("not a PEM PKCS#1 or PKCS#8 RSA key: {error}")))
        }?;
        Self::checked(name, key)
    }

    /// Reads a key file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_pem(&path.display().to_string(), &read_key_file(path)?)
    }

    fn checked(name: &str, key: rsa::PrivateKey) -> Result<Self> {
        check_bits(name, &key)?;
        Ok(Self { key })
    }

    /// The PEM `RSA PRIVATE KEY` text (PKCS#1), which apk's own tools read as well.
    pub fn to_pem(&self) -> Result<String> {
        let pem = self.key.to_pkcs1_pem(LineEnding::LF).map_err(|error| key_error("private", error))?;
        Ok(pem.as_str().to_owned())
    }

    /// The public half, under a name that ends in `.rsa.pub`.
    pub fn public(&self, name: &str) -> Result<PublicKey> {
        check_key_name(name)?;
        Ok(PublicKey { name: name.to_owned(), key: self.key.to_public_key() })
    }

    /// The RSASSA-PKCS1-v1_5 signature of a SHA-256 digest. The same digest gives the same bytes.
    pub fn sign_sha256_digest(&self, digest: &[u8; 32]) -> Result<Vec<u8>> {
        self.key.pkcs1v15_sign_prehash::<Sha256>(digest).map_err(|error| key_error("private", error))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

fn check_bits(name: &str, key: &impl rsa::traits::PublicKeyParts) -> Result<()> {
    let bits = key.n().bit_width();
    if bits < MINIMUM_KEY_BITS {
        return Err(key_error(name, format_args!("it has {bits} bits, at least {MINIMUM_KEY_BITS} are needed")));
    }
    Ok(())
}

pub(crate) fn check_key_name(name: &str) -> Result<()> {
    let stem = name.strip_suffix(".rsa.pub").unwrap_or_default();
    if stem.is_empty() || name.len() > 80 || name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(key_error(
            &name.escape_debug().to_string(),
            "its name must be a file name of at most 80 bytes that ends in `.rsa.pub`, as apk looks keys up by it",
        ));
    }
    Ok(())
}

fn key_error(key: &str, problem: impl fmt::Display) -> Error {
    Error::Key { key: key.to_owned(), problem: problem.to_string() }
}

fn read_key_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(Error::at(path))?;
    file.take(limits::KEY_BYTES + 1).read_to_string(&mut text).map_err(Error::at(path))?;
    if text.len() as u64 > limits::KEY_BYTES {
        return Err(Error::limit(&path.display().to_string(), "the key file in bytes", limits::KEY_BYTES));
    }
    Ok(text)
}
