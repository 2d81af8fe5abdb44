//! Signature members: what they say, whether it holds, and how one is put in front.

use std::io::{self, Read, Write};

use super::member::Measured;
use super::reader::{FileKind, TarReader};
use super::writer::{self, TarWriter};
use crate::error::Member;
use crate::key::{Keyring, check_key_name};
use crate::limits;
use crate::{Error, Result};

/// What a `.SIGN.KIND.` entry's signature is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureKind {
    /// `RSA256`: RSASSA-PKCS1-v1_5 over SHA-256, the one that is written.
    Rsa256,
    /// `RSA`: the same over SHA-1, still read.
    Rsa,
    /// `RSA512`: not verified.
    Rsa512,
    /// `DSA`: not verified.
    Dsa,
}

/// One signature of a package's control member or of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it is made with.
    pub kind: SignatureKind,
    /// The name of the public key, ending in `.rsa.pub` for RSA.
    pub key: String,
    /// The signature.
    pub bytes: Vec<u8>,
}

impl Signature {
    /// The name of the entry that holds it.
    pub fn entry_name(&self) -> String {
        let kind = match self.kind {
            SignatureKind::Rsa256 => "RSA256",
            SignatureKind::Rsa => "RSA",
            SignatureKind::Rsa512 => "RSA512",
            SignatureKind::Dsa => "DSA",
        };
        format!(".SIGN.{kind}.{}", self.key)
    }
}

/// Whether a decompressed member is a signature member: its first entry begins `.SIGN.`.
pub(crate) fn is_signature(content: &[u8]) -> bool {
    content.starts_with(b".SIGN.")
}

/// Whether stored bytes begin a signature member.
pub(crate) fn begins(stored: &[u8]) -> bool {
    let mut start = [0; 6];
    flate2::bufread::GzDecoder::new(stored).read_exact(&mut start).is_ok() && is_signature(&start)
}

/// The owner's name by which a signature member says that Minimill wrote it.
const OWNER: &str = "minimill";

/// The signatures of a decompressed signature member, and where it was stored.
///
/// Nothing signs a signature member, and gzip leaves bits in it that decide nothing. A member that
/// names Minimill as its owner is therefore held against the one form in which Minimill writes it,
/// so that no byte of it can change unnoticed.
pub(crate) fn parse(file: &str, content: &[u8], stored: &Measured) -> Result<Vec<Signature>> {
    let (signatures, mtime) = entries(file, content)?;
    let owner = content.get(265..297).unwrap_or_default();
    if let ([signature], true) = (signatures.as_slice(), owner.starts_with(OWNER.as_bytes())) {
        let expected = signature_member(&signature.key, &signature.bytes, mtime)?;
        if Measured::of(&expected).sha256 != stored.sha256 {
            return Err(Error::damaged(
                file,
                Member::Signature,
                "it differs from the form in which Minimill writes this signature",
            ));
        }
    }
    Ok(signatures)
}

fn entries(file: &str, content: &[u8]) -> Result<(Vec<Signature>, u64)> {
    let mut reader = TarReader::new(content, file, Member::Signature, limits::CONTROL_BYTES);
    let mut signatures = Vec::new();
    let mut mtime = 0;
    while let Some(entry) = reader.next_entry()? {
        let refuse = |problem: &str| reader.refused(&entry.path, problem);
        if entry.kind != FileKind::Regular {
            return Err(refuse("a signature must be a regular file"));
        }
        let name = entry.path.strip_prefix(".SIGN.").ok_or_else(|| refuse("expected a `.SIGN.` entry"))?;
        let (kind, key) = name.split_once('.').ok_or_else(|| refuse("expected `.SIGN.KIND.KEY`"))?;
        let kind = match kind {
            "RSA256" => SignatureKind::Rsa256,
            "RSA" => SignatureKind::Rsa,
            "RSA512" => SignatureKind::Rsa512,
            "DSA" => SignatureKind::Dsa,
            _ => {
                return Err(refuse("unknown kind of signature: expected RSA256, RSA, RSA512 or DSA"));
            }
        };
        if entry.size > limits::SIGNATURE_BYTES {
            return Err(Error::limit(file, "a signature in bytes", limits::SIGNATURE_BYTES));
        }
        let key = key.to_owned();
        mtime = entry.mtime;
        signatures.push(Signature { kind, key, bytes: reader.content()? });
    }
    Ok((signatures, mtime))
}

/// The name of the first key of the keyring whose signature matches the measured bytes.
///
/// Of several signatures one is enough, as in apk. Where none holds, a wrong signature by a known
/// key is told before an unknown key.
pub(crate) fn verify<'s>(
    file: &str,
    member: Member,
    signatures: &'s [Signature],
    measured: &Measured,
    keyring: &Keyring,
) -> Result<&'s str> {
    let mut bad = None;
    let mut unknown = None;
    for signature in signatures {
        let matches = |key: &crate::PublicKey| match signature.kind {
            SignatureKind::Rsa256 => Some(key.verifies_sha256(&measured.sha256, &signature.bytes)),
            SignatureKind::Rsa => Some(key.verifies_sha1(&measured.sha1, &signature.bytes)),
            SignatureKind::Rsa512 | SignatureKind::Dsa => None,
        };
        match (signature.kind, keyring.get(&signature.key)) {
            (SignatureKind::Rsa512 | SignatureKind::Dsa, _) => {}
            (_, None) => unknown = unknown.or(Some(&signature.key)),
            (_, Some(key)) => match matches(key) {
                Some(true) => return Ok(&signature.key),
                _ => bad = bad.or(Some(&signature.key)),
            },
        }
    }
    if let Some(key) = bad {
        return Err(Error::BadSignature { file: file.to_owned(), member, key: key.clone() });
    }
    if let Some(key) = unknown {
        return Err(Error::UnknownKey { file: file.to_owned(), key: key.clone(), known: keyring.names() });
    }
    if signatures.is_empty() {
        return Err(Error::Unsigned { file: file.to_owned() });
    }
    let found = signatures.iter().map(Signature::entry_name).collect::<Vec<_>>().join("`, `");
    Err(Error::UnusableSignature { file: file.to_owned(), found })
}

/// The signature member that holds one RSA-SHA256 signature. Its gzip stream is one stored block.
///
/// `mtime` is the entry's time, in seconds since 1970-01-01 UTC.
pub fn signature_member(key_name: &str, signature: &[u8], mtime: u64) -> Result<Vec<u8>> {
    check_key_name(key_name)?;
    if signature.is_empty() || signature.len() as u64 > limits::SIGNATURE_BYTES {
        return Err(Error::Key {
            key: key_name.to_owned(),
            problem: format!("its signature has {} bytes, expected 1 to {}", signature.len(), limits::SIGNATURE_BYTES),
        });
    }
    let mut tar = TarWriter::new(Vec::new(), mtime).owned_by(OWNER);
    tar.control_file(&format!(".SIGN.RSA256.{key_name}"), 0o644, signature)?;
    writer::stored_gzip(&tar.into_inner())
}

/// Writes the signature member and then the unsigned package or index. Returns the bytes written.
///
/// The signature is over the SHA-256 of a package's compressed control member
/// ([`crate::BuiltPackage::control_sha256`]) or of a whole unsigned index. It isn't checked here,
/// since only its public key could.
pub fn attach_signature(
    unsigned: &mut impl Read,
    key_name: &str,
    signature: &[u8],
    mtime: u64,
    signed: &mut impl Write,
) -> Result<u64> {
    let member = signature_member(key_name, signature, mtime)?;
    signed.write_all(&member).map_err(|error| Error::io("signed archive", error))?;
    let rest = io::copy(unsigned, signed).map_err(|error| Error::io("signed archive", error))?;
    Ok(member.len() as u64 + rest)
}
