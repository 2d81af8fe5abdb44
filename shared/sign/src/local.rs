//! Private keys in files, made at first use.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use p256::{
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
    elliptic_curve::{Generate, common::getrandom::SysRng},
    pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding},
};
use rsa::{
    Pkcs1v15Sign,
    pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey},
    sha2::Sha256,
};

use crate::{Error, PublicKey, Result, Signer};

/// The largest private key file accepted, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

/// An ECDSA P-256 key for images: a PKCS#8 PEM file of mode 0600, the public half beside it as
/// `FILE.pub`. Signatures are deterministic (RFC 6979).
pub struct LocalEcdsaKey {
    name: String,
    key: SigningKey,
    public_key: PublicKey,
}

impl LocalEcdsaKey {
    /// Reads the key in `path`.
    ///
    /// # Errors
    /// The file can't be read, is open to others than its owner, or holds no P-256 key.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_pem(path, &read_private(path)?)
    }

    /// Reads the key in `path`; where there is none, makes one first. Of several processes doing
    /// so at once, all end with the same key. Also sees that the public key stands in `PATH.pub`.
    ///
    /// # Errors
    /// As [`LocalEcdsaKey::load`]; also when the files can't be written or `PATH.pub` holds
    /// another key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        if !exists(path)? {
            let key = SigningKey::try_generate().map_err(|error| Error::Generate { reason: error.to_string() })?;
            let pem =
                key.to_pkcs8_pem(LineEnding::LF).map_err(|error| Error::Generate { reason: error.to_string() })?;
            create_private(path, &pem)?;
        }
        let key = Self::load(path)?;
        publish(path, &key.public_key)?;
        Ok(key)
    }

    fn from_pem(path: &Path, pem: &str) -> Result<Self> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|error| Error::KeyFileContent {
            path: path.into(),
            reason: format!("not a PKCS#8 PEM P-256 private key: {error}"),
        })?;
        let public_key = PublicKey::p256(*key.verifying_key())?;
        Ok(Self { name: file_name(path), key, public_key })
    }

    /// Signs bytes given by their SHA-256; the ASN.1 DER signature.
    ///
    /// # Errors
    /// The key can't sign (not known to happen).
    pub fn sign_sha256(&self, sha256: &[u8; 32]) -> Result<Vec<u8>> {
        let signature: Signature = self
            .key
            .sign_prehash(sha256)
            .map_err(|error| Error::Sign { key: self.name.clone(), reason: error.to_string() })?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

#[async_trait]
impl Signer for LocalEcdsaKey {
    fn key_id(&self) -> &str {
        self.public_key.id()
    }

    fn key_name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, sha256: [u8; 32]) -> Result<Vec<u8>> {
        self.sign_sha256(&sha256)
    }
}

/// An RSA key for apk packages and indexes: a PKCS#1 PEM file `NAME.rsa` of mode 0600, the public
/// half beside it as `NAME.rsa.pub`, which is also the key's name.
pub struct LocalRsaKey {
    name: String,
    key: rsa::PrivateKey,
    public_key: PublicKey,
}

impl LocalRsaKey {
    /// Reads the key in `path`.
    ///
    /// # Errors
    /// The file can't be read, is open to others than its owner, or holds no RSA key of at least
    /// 2048 bits.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_pem(path, &read_private(path)?)
    }

    /// Reads the key in `path` (`NAME.rsa`); where there is none, makes one of `bits` bits (2048
    /// or 4096) first. Of several processes doing so at once, all end with the same key. Also
    /// sees that the public key stands in `PATH.pub`.
    ///
    /// # Errors
    /// As [`LocalRsaKey::load`]; also when the files can't be written, `PATH.pub` holds another
    /// key, or the key size is another.
    pub fn load_or_create(path: &Path, bits: usize) -> Result<Self> {
        if !exists(path)? {
            if !matches!(bits, 2048 | 4096) {
                return Err(Error::Generate { reason: format!("an RSA key of {bits} bits; use 2048 or 4096") });
            }
            let key = rsa::PrivateKey::new(&mut SysRng, bits)
                .map_err(|error| Error::Generate { reason: error.to_string() })?;
            let pem =
                key.to_pkcs1_pem(LineEnding::LF).map_err(|error| Error::Generate { reason: error.to_string() })?;
            create_private(path, &pem)?;
        }
        let key = Self::load(path)?;
        publish(path, &key.public_key)?;
        Ok(key)
    }

    fn from_pem(path: &Path, pem: &str) -> Result<Self> {
        let content = |reason: String| Error::KeyFileContent { path: path.into(), reason };
        let key = rsa::PrivateKey::from_pkcs1_pem(pem)
            .map_err(|error| content(format!("not a PKCS#1 PEM RSA private key: {error}")))?;
        let public_key = PublicKey::rsa(key.to_public_key())?;
        Ok(Self { name: format!("{}.pub", file_name(path)), key, public_key })
    }

    /// Signs bytes given by their SHA-256; the PKCS#1 v1.5 signature.
    ///
    /// # Errors
    /// The key can't sign (not known to happen).
    pub fn sign_sha256(&self, sha256: &[u8; 32]) -> Result<Vec<u8>> {
        self.key
            .sign(Pkcs1v15Sign::new::<Sha256>(), sha256)
            .map_err(|error| Error::Sign { key: self.name.clone(), reason: error.to_string() })
    }
}

#[async_trait]
impl Signer for LocalRsaKey {
    fn key_id(&self) -> &str {
        self.public_key.id()
    }

    fn key_name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, sha256: [u8; 32]) -> Result<Vec<u8>> {
        self.sign_sha256(&sha256)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::KeyFile { path: path.into(), action, source }
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(failed(path, "look up"))
}

fn read_private(path: &Path) -> Result<String> {
    let file = fs::File::open(path).map_err(failed(path, "open"))?;
    let metadata = file.metadata().map_err(failed(path, "look up"))?;
    let content = |reason: String| Error::KeyFileContent { path: path.into(), reason };
    if !metadata.is_file() {
        return Err(content("not a regular file".into()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::KeyFileMode { path: path.into(), mode });
    }
    if metadata.len() > MAX_KEY_FILE_BYTES {
        return Err(content(format!("{} bytes are more than {MAX_KEY_FILE_BYTES}; not a key", metadata.len())));
    }
    let mut pem = String::new();
    file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut pem).map_err(failed(path, "read"))?;
    Ok(pem)
}

/// Puts the key in place unless another process was first, whose key then stands.
fn create_private(path: &Path, pem: &str) -> Result<()> {
    let folder = folder(path);
    fs::create_dir_all(folder).map_err(failed(folder, "create"))?;
    let file = written(folder, pem, 0o600)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(folder),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, "create")(error.error)),
    }
}

fn publish(private: &Path, key: &PublicKey) -> Result<()> {
    let mut path = OsString::from(private);
    path.push(".pub");
    let path = PathBuf::from(path);
    if exists(&path)? {
        let found = fs::read_to_string(&path).map_err(failed(&path, "read"))?;
        return match PublicKey::from_pem(&found) {
            Ok(found) if found == *key => Ok(()),
            _ => Err(Error::PublicKeyMismatch { path }),
        };
    }
    let folder = folder(private);
    let file = written(folder, key.to_pem(), 0o644)?;
    file.persist(&path).map_err(|error| failed(&path, "create")(error.error))?;
    sync_folder(folder)
}

fn written(folder: &Path, text: &str, mode: u32) -> Result<tempfile::NamedTempFile> {
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".key-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(failed(folder, "write in"))
}

fn sync_folder(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|file| file.sync_all()).map_err(failed(folder, "sync"))
}
