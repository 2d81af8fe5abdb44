//! The archive's keyring files, and release files judged by them as gpgv judges.

use std::path::PathBuf;

use authenticity::{ClearSigned, Judged, Keyring, verify_clear_signed};
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::store::read_bounded;

const LONGEST_KEYRING: u64 = 16 * 1024 * 1024;

/// Reads every key of the files, binary or armored. At least one key must be found in each.
pub(super) fn load(paths: &[PathBuf]) -> Result<Keyring> {
    let mut files = Vec::new();
    for path in paths {
        let bytes = read_bounded(path, LONGEST_KEYRING)?.ok_or_else(|| Error::Keyring {
            path: path.clone(),
            reason: "no such file; name another under `[endpoints] debian-keyrings`, or install the archive's keyring \
                     package"
                .to_owned(),
        })?;
        files.push((path, path.display().to_string(), bytes));
    }
    Keyring::parse(files.iter().map(|(_, name, bytes)| (name.as_str(), bytes.as_slice()))).map_err(|error| {
        let origin = match &error {
            authenticity::Error::Key { origin, .. } => files.iter().find(|(_, name, _)| name == origin),
            _ => None,
        };
        Error::Keyring {
            path: origin.map(|(path, ..)| (*path).clone()).unwrap_or_default(),
            reason: match error {
                authenticity::Error::Key { reason, .. } => reason,
                other => other.to_string(),
            },
        }
    })
}

/// Verifies a clear-signed document. At least one signature must be made by a key of this ring that
/// could sign at the time of signing and is neither revoked nor expired `now`.
pub(super) fn verify(keyring: &Keyring, url: &str, document: &[u8], now: Timestamp) -> Result<ClearSigned> {
    verify_clear_signed(keyring, document, Judged::Now, now).map_err(|error| match error {
        authenticity::Error::Signature { reasons, .. } => Error::Signature { url: url.to_owned(), reasons, kept: None },
        authenticity::Error::Malformed { reason, .. } => Error::Unsigned { url: url.to_owned(), reason, kept: None },
        other => Error::Unsigned { url: url.to_owned(), reason: other.to_string(), kept: None },
    })
}
