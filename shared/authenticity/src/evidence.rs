//! What was proved, for provenance. Addresses and the time of the check are left out, so that two
//! mirrors and two days give the same evidence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who made a valid OpenPGP signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// Fingerprint of the key or subkey that signed, lower-case hexadecimal.
    pub fingerprint: String,
    /// Fingerprint of the primary key it belongs to.
    pub primary_fingerprint: String,
    /// First user id of that key.
    pub user: String,
}

/// The digest by which a checksum file lists a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A proof that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Evidence {
    /// An OpenPGP signature (RFC 9580) by pinned keys.
    Openpgp {
        /// SHA-256 of the signature file, lower-case hexadecimal.
        signature_sha256: String,
        /// Makers of the valid signatures.
        signers: Vec<Signer>,
        /// When the newest of them was made, by its maker's clock.
        made: Timestamp,
    },
    /// A minisign signature by a pinned key.
    Minisign {
        /// SHA-256 of the signature file.
        signature_sha256: String,
        /// The pinned key, as its base64.
        key: String,
        /// The comment that is signed with the file.
        trusted_comment: String,
        /// Whether a digest of the file was signed (`ED`), and not the file itself.
        prehashed: bool,
    },
    /// A signify signature by a pinned key.
    Signify {
        /// SHA-256 of the signature file.
        signature_sha256: String,
        /// The pinned key, as its base64.
        key: String,
    },
    /// A git tag or commit signed by a pinned key.
    Git {
        /// `tag` or `commit`.
        object: String,
        /// The signed object's id.
        id: String,
        /// The commit that it proves.
        commit: String,
        /// Name of the tag; empty for a commit.
        tag: String,
        /// Who signed: OpenPGP fingerprints, or the SSH key's `SHA256:` fingerprint.
        signers: Vec<String>,
    },
    /// A checksum file that lists the file.
    ChecksumFile {
        /// SHA-256 of the checksum file.
        checksum_file_sha256: String,
        /// The name under which it lists the file.
        file: String,
        /// The digest's algorithm.
        algorithm: ChecksumAlgorithm,
        /// The digest, lower-case hexadecimal.
        digest: String,
        /// The proof of the checksum file.
        signed_by: Box<Evidence>,
    },
    /// A sigstore bundle or a PEP 740 attestation by a publisher's workflow or person.
    Sigstore {
        /// SHA-256 of the bundle or attestation as it was read.
        bundle_sha256: String,
        /// The certificate's subject: a workflow's address or an e-mail address.
        identity: String,
        /// Who vouched for the identity.
        issuer: String,
        /// The repository that was built; empty when the certificate names none.
        repository: String,
        /// The commit that was built; empty when the certificate names none.
        commit: String,
        /// Type of the signed statement; empty when the file itself is signed.
        predicate_type: String,
        /// When the transparency log took the signature, if it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        logged: Option<Timestamp>,
    },
    /// The digest or commit that the package's definition states, and nothing else.
    Stated {
        /// `sha256`, `sha512`, or `git` for a commit.
        algorithm: String,
        /// The digest or commit, lower-case hexadecimal.
        digest: String,
    },
    /// The npm registry's signature of the package's integrity.
    Npm {
        /// Id of the key that signed, such as `SHA256:...`.
        key: String,
    },
    /// The proof of the ecosystem that the source comes from, whose steps stand in the source's
    /// own evidence.
    Ecosystem {
        /// Its name as policies give it, such as `debian-archive`.
        name: String,
    },
}

impl Evidence {
    /// The kind of proof and who stands for it, in one line for people.
    pub fn summary(&self) -> String {
        match self {
            Self::Openpgp { signers, .. } => {
                let signers: Vec<_> =
                    signers.iter().map(|signer| format!("{} ({})", signer.fingerprint, signer.user)).collect();
                format!("OpenPGP signature by {}", signers.join(", "))
            }
            Self::Minisign { key, .. } => format!("minisign signature by {key}"),
            Self::Signify { key, .. } => format!("signify signature by {key}"),
            Self::Git { object, tag, commit, signers, .. } => {
                let name = if tag.is_empty() { commit } else { tag };
                format!("signed git {object} `{name}` by {}", signers.join(", "))
            }
            Self::ChecksumFile { algorithm, signed_by, .. } => {
                format!("{} in a checksum file, {}", algorithm.name(), signed_by.summary())
            }
            Self::Sigstore { identity, .. } => format!("sigstore signature by {identity}"),
            Self::Stated { algorithm, .. } if algorithm == "git" => "the commit that its definition states".to_owned(),
            Self::Stated { algorithm, .. } => format!("the {} that its definition states", named(algorithm)),
            Self::Npm { key } => format!("signature of the npm registry by {key}"),
            Self::Ecosystem { name } => format!("the proof of its ecosystem (`{name}`)"),
        }
    }
}

/// A digest's algorithm as people write it.
fn named(algorithm: &str) -> String {
    algorithm.replacen("sha", "SHA-", 1)
}

impl ChecksumAlgorithm {
    /// The algorithm's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }
}
