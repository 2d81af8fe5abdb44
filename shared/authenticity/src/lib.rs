//! Signatures that upstreams make over what they release, and what they prove.
//!
//! Everything here takes bytes, pinned keys and the time, and answers with [`Evidence`] or with an
//! [`Error`] that says why there is none. Nothing is fetched: where signatures come from is the
//! caller's matter, and keys never come with them.
//!
//! A digest that a hosting site shows beside a file (a release asset's digest) is no proof: who
//! can change the file there can change the digest too.

mod checksums;
mod content;
mod error;
mod evidence;
mod git;
mod keyring;
mod minisign;
mod openpgp;
mod signify;
mod sigstore;

pub use checksums::{Algorithm, Checksums};
pub use content::Content;
pub use error::{Error, Result};
pub use evidence::{ChecksumAlgorithm, Evidence, Signer};
pub use git::{GitKeys, ObjectKind, SshSigners, object_id, verify_git};
pub use keyring::{Judged, Keyring};
pub use minisign::MinisignKey;
pub use openpgp::{ClearSigned, verify_clear_signed, verify_detached};
pub use signify::SignifyKey;
pub use sigstore::{Publisher, Roots, attestations, verify_bundle};

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes`, lower-case hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The last part of a path or an address.
fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
