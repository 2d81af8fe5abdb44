//! The older form of image signatures, "simple signing", kept by `cosign` v2 under the tag
//! `sha256-HEX.sig`. That tag is rewritten with each signature, so bundles are preferred.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Error, PublicKey, Result, Signer, dsse::decode_base64};

/// The media type of the layer that holds the payload.
pub const LAYER_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of that layer that holds the signature, in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// The `critical.type` of payloads.
const SIGNATURE_TYPE: &str = "cosign container image signature";
/// The longest payload accepted, in bytes.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// A payload and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimpleSignature {
    /// The layer's bytes.
    pub payload: Vec<u8>,
    /// The value of [`SIGNATURE_ANNOTATION`].
    pub signature: String,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    optional: Value,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

/// The tag under which the signatures of `image` are kept.
pub fn tag(image: Digest) -> String {
    format!("sha256-{}.sig", image.hex())
}

/// Signs the image `digest`, known as `repository` (`host/name`, no tag).
///
/// # Errors
/// The signer's.
pub async fn sign(signer: &dyn Signer, repository: &str, image: Digest) -> Result<SimpleSignature> {
    let payload = Payload {
        critical: Critical {
            identity: Identity { docker_reference: repository.to_owned() },
            image: Image { docker_manifest_digest: image },
            kind: SIGNATURE_TYPE.to_owned(),
        },
        optional: Value::Null,
    };
    let payload = serde_json::to_vec(&payload).map_err(|error| Error::malformed("payload", error))?;
    let signature = signer.sign_digest(*Digest::of(&payload).as_bytes()).await?;
    Ok(SimpleSignature { payload, signature: STANDARD.encode(signature) })
}

/// Checks that `key` signed the image `image`; gives the repository that the signature names.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::BadSignature`], [`Error::Malformed`] or [`Error::WrongSubject`].
pub fn verify(signature: &SimpleSignature, key: &PublicKey, image: Digest) -> Result<String> {
    let payload = &signature.payload;
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::TooLarge { what: "the payload", limit: MAX_PAYLOAD_BYTES, found: payload.len() });
    }
    let bytes = decode_base64(&signature.signature).map_err(|error| Error::malformed("signature annotation", error))?;
    if !key.verifies(Digest::of(payload).as_bytes(), &bytes) {
        return Err(Error::BadSignature { key: key.id().to_owned() });
    }
    let payload: Payload = serde_json::from_slice(payload).map_err(|error| Error::malformed("payload", error))?;
    let Critical { identity, image: signed, kind } = payload.critical;
    if kind != SIGNATURE_TYPE {
        return Err(Error::malformed("payload", format!("`critical.type` is `{kind}`, expected `{SIGNATURE_TYPE}`")));
    }
    if signed.docker_manifest_digest != image {
        return Err(Error::WrongSubject { expected: image, found: signed.docker_manifest_digest.to_string() });
    }
    Ok(identity.docker_reference)
}
