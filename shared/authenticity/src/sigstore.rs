//! sigstore bundles and PEP 740 attestations: a short-lived certificate for whoever published, and
//! a transparency log that took the signature while the certificate was valid.

mod publisher;

use jiff::Timestamp;
use keyless::crypto;
use serde::Deserialize;
use serde_json::{Value, json};
use sign::chain;
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::{Bundle, Sha256Hash, SignatureContent};
use sigstore_verify::{VerificationPolicy, Verifier};

pub use publisher::Publisher;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::sha256_hex;

const LONGEST_BUNDLE: usize = 16 * 1024 * 1024;
const LONGEST_ROOTS: usize = 4 * 1024 * 1024;
const MOST_ATTESTATIONS: usize = 64;
const BUNDLE: &str = "sigstore bundle";
const ATTESTATION: &str = "PEP 740 attestation";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

/// The authorities that are trusted: who may certify identities, and which logs count.
pub struct Roots {
    verifier: Verifier,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Roots")
    }
}

impl Roots {
    /// Reads a `trusted_root.json` (sigstore's protobuf specification, "TrustedRoot").
    ///
    /// # Errors
    /// [`Error::Key`] names the file.
    pub fn parse(origin: &str, text: &str) -> Result<Self> {
        crypto::install();
        if text.len() > LONGEST_ROOTS {
            return Err(Error::TooLarge { what: "trusted root", limit: LONGEST_ROOTS as u64 });
        }
        let root = TrustedRoot::from_json(text).map_err(|error| Error::key(origin, error))?;
        let verifier = Verifier::new(&root).map_err(|error| Error::key(origin, error))?;
        Ok(Self { verifier })
    }

    /// sigstore's public instance, as it stood when the verifier's library was released. Authorities
    /// that joined later are unknown to it; pin a newer file then.
    ///
    /// # Errors
    /// None known: the file is part of the library.
    pub fn public() -> Result<Self> {
        Self::parse("sigstore's public trusted root", SIGSTORE_PRODUCTION_TRUSTED_ROOT)
    }
}

/// Verifies a sigstore bundle about the file whose SHA-256 is `sha256`: certificate chain and its
/// transparency, identity against `publisher`, signature, log inclusion, and that the log took it
/// within the certificate's life. A signed statement must name `file` among its subjects, when
/// given.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Publisher`], [`Error::Sigstore`].
pub fn verify_bundle(
    bundle: &[u8],
    sha256: &str,
    file: Option<&str>,
    publisher: &Publisher,
    roots: &Roots,
) -> Result<Evidence> {
    if bundle.len() > LONGEST_BUNDLE {
        return Err(Error::TooLarge { what: BUNDLE, limit: LONGEST_BUNDLE as u64 });
    }
    let text = std::str::from_utf8(bundle).map_err(|_| Error::malformed(BUNDLE, "it is not text"))?;
    let parsed = Bundle::from_json(text).map_err(|error| Error::malformed(BUNDLE, error))?;
    let digest = Sha256Hash::from_hex(sha256).map_err(|error| Error::Sigstore(error.to_string()))?;
    let result = roots.verifier.verify(digest, &parsed, &VerificationPolicy::any_identity());
    let result = result.map_err(|error| Error::Sigstore(chain(&error)))?;
    let certificate = result.certificate().ok_or_else(|| Error::Sigstore("it names no certificate".to_owned()))?;
    if !(result.certificate_verified() && result.tlog_verified() && result.sct_verified()) {
        return Err(Error::Sigstore("certificate, log and the certificate's own log must all be checked".to_owned()));
    }
    publisher.check(certificate)?;
    let predicate_type = match &parsed.content {
        SignatureContent::DsseEnvelope(envelope) => statement(envelope.payload.as_bytes(), sha256, file)?,
        _ => String::new(),
    };
    let claims = &certificate.ci_claims;
    let logged = result.integrated_time().or_else(|| result.verified_timestamps().iter().min().copied());
    Ok(Evidence::Sigstore {
        bundle_sha256: sha256_hex(bundle),
        identity: certificate.identity.as_ref().map(|identity| identity.as_str().to_owned()).unwrap_or_default(),
        issuer: certificate.issuer.clone().unwrap_or_default(),
        repository: claims.source_repository_uri.clone().unwrap_or_default(),
        commit: claims.source_repository_digest.clone().unwrap_or_default(),
        predicate_type,
        logged: logged.and_then(|time| Timestamp::from_second(time.as_second()).ok()),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: std::collections::BTreeMap<String, String>,
}

/// Checks that a signed statement is about this file, and answers its type.
fn statement(payload: &[u8], sha256: &str, file: Option<&str>) -> Result<String> {
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|error| Error::malformed("in-toto statement", error))?;
    let mut about = statement
        .subject
        .iter()
        .filter(|subject| subject.digest.get("sha256").is_some_and(|found| found.eq_ignore_ascii_case(sha256)));
    let named = match file {
        None => about.next().is_some(),
        Some(file) => about.any(|subject| normalized(&subject.name) == normalized(file)),
    };
    if named {
        return Ok(statement.predicate_type);
    }
    let subjects: Vec<_> = statement.subject.iter().take(5).map(|subject| subject.name.as_str()).collect();
    Err(Error::Sigstore(format!(
        "the statement is about `{}`, not about `{}`",
        subjects.join("`, `"),
        file.unwrap_or(sha256)
    )))
}

/// A file name with what Python's indexes take for the same made the same.
fn normalized(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// The attestations of a provenance document of a Python index (PEP 740, "Provenance objects"), or
/// of one attestation file, each as a sigstore bundle. What the document says of the publisher is
/// signed by nobody and is passed over.
///
/// # Errors
/// [`Error::TooLarge`] and [`Error::Malformed`].
pub fn attestations(document: &[u8]) -> Result<Vec<Vec<u8>>> {
    if document.len() > LONGEST_BUNDLE {
        return Err(Error::TooLarge { what: ATTESTATION, limit: LONGEST_BUNDLE as u64 });
    }
    let value: Value = serde_json::from_slice(document).map_err(|error| Error::malformed(ATTESTATION, error))?;
    let mut found = Vec::new();
    match value.get("attestation_bundles").and_then(Value::as_array) {
        Some(bundles) => {
            for bundle in bundles {
                found.extend(bundle.get("attestations").and_then(Value::as_array).into_iter().flatten());
            }
        }
        None => found.push(&value),
    }
    if found.is_empty() || found.len() > MOST_ATTESTATIONS {
        let reason = format!("{} attestations, expected 1 to {MOST_ATTESTATIONS}", found.len());
        return Err(Error::malformed(ATTESTATION, reason));
    }
    found.into_iter().map(bundle_of).collect()
}

fn bundle_of(attestation: &Value) -> Result<Vec<u8>> {
    let field = |path: &str| {
        let value = attestation.pointer(path).filter(|value| !value.is_null());
        value.ok_or_else(|| Error::malformed(ATTESTATION, format!("no `{}`", path.trim_start_matches('/'))))
    };
    if field("/version")? != 1 {
        return Err(Error::malformed(ATTESTATION, format!("version {}, version 1 is known", field("/version")?)));
    }
    let bundle = json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {
            "certificate": { "rawBytes": field("/verification_material/certificate")? },
            "tlogEntries": field("/verification_material/transparency_entries")?,
        },
        "dsseEnvelope": {
            "payload": field("/envelope/statement")?,
            "payloadType": STATEMENT_TYPE,
            "signatures": [{ "sig": field("/envelope/signature")? }],
        },
    });
    serde_json::to_vec(&bundle).map_err(|error| Error::malformed(ATTESTATION, error))
}
