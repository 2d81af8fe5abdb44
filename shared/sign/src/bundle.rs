//! Sigstore bundles: an envelope with a hint at the key, or with a certificate and the entries of a
//! transparency log, in the JSON form that `cosign` attaches to images.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Digest, Error, PublicKey, Result, Signer, Statement,
    dsse::{Envelope, IN_TOTO_PAYLOAD_TYPE},
};

/// The media type of bundles, version 0.3.
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The largest bundle accepted, in bytes; an SBOM of 20 MB fits.
pub const MAX_BUNDLE_BYTES: usize = 32 << 20;

/// A sigstore bundle v0.3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// [`BUNDLE_MEDIA_TYPE`].
    pub media_type: String,
    /// Which key signed.
    pub verification_material: VerificationMaterial,
    /// The signed statement.
    pub dsse_envelope: Envelope,
}

/// What a verifier needs beside the signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationMaterial {
    /// The key; none where a certificate holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeyIdentifier>,
    /// Certificate, log entries and timestamps, as they were read.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Names a key without holding it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublicKeyIdentifier {
    /// The key's id; see [`Signer::key_id`].
    #[serde(default)]
    pub hint: String,
}

impl Bundle {
    /// Signs a statement. With a deterministic signer the same statement gives the same bundle.
    ///
    /// # Errors
    /// The signer's.
    pub async fn sign(signer: &dyn Signer, statement: &Statement) -> Result<Self> {
        let envelope = Envelope::sign(signer, IN_TOTO_PAYLOAD_TYPE, statement.to_bytes()?).await?;
        Ok(Self {
            media_type: BUNDLE_MEDIA_TYPE.to_owned(),
            verification_material: VerificationMaterial {
                public_key: Some(PublicKeyIdentifier { hint: signer.key_id().to_owned() }),
                rest: Map::new(),
            },
            dsse_envelope: envelope,
        })
    }

    /// The bundle as compact JSON.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_BUNDLE_BYTES`], which no verifier of ours would read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::malformed("bundle", error))?;
        within_limit(&bytes)?;
        Ok(bytes)
    }

    /// Reads a bundle and checks its form, not yet its signature.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        const PARAMETER_FORM: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
        within_limit(bytes)?;
        let bundle: Self = serde_json::from_slice(bytes).map_err(|error| Error::malformed("bundle", error))?;
        if bundle.media_type != BUNDLE_MEDIA_TYPE && bundle.media_type != PARAMETER_FORM {
            return Err(Error::malformed(
                "bundle",
                format!("`mediaType` is `{}`, expected `{BUNDLE_MEDIA_TYPE}`", bundle.media_type),
            ));
        }
        Ok(bundle)
    }
}

fn within_limit(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err(Error::TooLarge { what: "the bundle", limit: MAX_BUNDLE_BYTES, found: bytes.len() });
    }
    Ok(())
}

/// The statement in a bundle, if `key` signed it, it is about `subject`, and it is of type
/// `predicate_type`. The signature alone decides about the key: the hint is not signed and only
/// tells a wrong key from changed content.
///
/// # Errors
/// In this order: [`Error::TooLarge`], [`Error::Malformed`], [`Error::WrongKey`],
/// [`Error::BadSignature`], [`Error::WrongSubject`], [`Error::WrongPredicateType`].
pub fn verify_bundle(bytes: &[u8], key: &PublicKey, subject: Digest, predicate_type: &str) -> Result<Statement> {
    let bundle = Bundle::parse(bytes)?;
    let hint = bundle.verification_material.public_key.as_ref().map(|named| named.hint.as_str());
    let payload = match bundle.dsse_envelope.verify(key, IN_TOTO_PAYLOAD_TYPE) {
        Err(Error::BadSignature { .. }) if hint != Some(key.id()) => {
            let found = hint.unwrap_or("a certificate instead of a key").chars().take(200).collect();
            return Err(Error::WrongKey { expected: key.id().to_owned(), found });
        }
        other => other?,
    };
    let statement = Statement::parse(payload)?;
    statement.expect(subject, predicate_type)?;
    Ok(statement)
}
