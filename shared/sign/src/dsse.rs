//! DSSE: the envelope round a signed payload (protocol 1.0.0).

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, Error, PublicKey, Result, Signer};

/// The payload type of in-toto statements.
pub const IN_TOTO_PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A payload with its signatures, as JSON: `payload` and `sig` are base64, written in the
/// standard alphabet, read in that or the URL-safe one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The signed bytes.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub payload: Vec<u8>,
    /// How to interpret the payload; signed with it.
    pub payload_type: String,
    /// The signatures.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of an [`Envelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// The signature over [`pae`].
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub sig: Vec<u8>,
    /// An unsigned hint at the key; empty, as `cosign` leaves it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyid: String,
}

impl Envelope {
    /// Signs `payload`.
    ///
    /// # Errors
    /// The signer's.
    pub async fn sign(signer: &dyn Signer, payload_type: &str, payload: Vec<u8>) -> Result<Self> {
        let digest = Digest::of(&pae(payload_type, &payload));
        let sig = signer.sign_digest(*digest.as_bytes()).await?;
        Ok(Self {
            payload,
            payload_type: payload_type.to_owned(),
            signatures: vec![EnvelopeSignature { sig, keyid: String::new() }],
        })
    }

    /// The payload, if it is of this type and one of at most 16 signatures is by `key`; the key
    /// ids in the envelope play no part in that.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another payload type, no or too many signatures;
    /// [`Error::BadSignature`] where none matches.
    pub fn verify(&self, key: &PublicKey, payload_type: &str) -> Result<&[u8]> {
        const MAX_SIGNATURES: usize = 16;
        if self.payload_type != payload_type {
            return Err(Error::malformed(
                "envelope",
                format!("`payloadType` is `{}`, expected `{payload_type}`", self.payload_type),
            ));
        }
        if self.signatures.is_empty() || self.signatures.len() > MAX_SIGNATURES {
            return Err(Error::malformed(
                "envelope",
                format!("{} `signatures`, expected 1 to {MAX_SIGNATURES}", self.signatures.len()),
            ));
        }
        let digest = Digest::of(&pae(&self.payload_type, &self.payload));
        if self.signatures.iter().any(|found| key.verifies(digest.as_bytes(), &found.sig)) {
            Ok(&self.payload)
        } else {
            Err(Error::BadSignature { key: key.id().to_owned() })
        }
    }
}

/// The bytes that are signed (protocol, "PAE"): type and payload, each with its length.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Decodes base64 of either alphabet, padded or not, as the protocol asks of verifiers.
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text)
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    decode_base64(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pae_is_as_the_protocol_shows() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    }

    #[test]
    fn either_base64_alphabet_is_read() {
        assert_eq!(decode_base64("-_8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode_base64("+/8").unwrap(), [0xfb, 0xff]);
        assert!(decode_base64("+_8=").is_err());
        assert!(decode_base64("a b=").is_err());
    }
}
