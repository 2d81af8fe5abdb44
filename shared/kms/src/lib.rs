//! Keys that AWS KMS holds: P-256 for images, RSA for apk packages.
//!
//! A [`KmsKey`] is a [`sign::Signer`] whose private half never leaves KMS: only digests go there,
//! and signatures come back. The public half is fetched once. The two calls this takes are made
//! without AWS's SDK, whose compilation costs more than all of this workspace's own code.

mod access;
mod client;

pub use access::Access;
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
pub use client::Client;
use serde::Deserialize;
use serde_json::json;
use sign::{PublicKey, Signer};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a key of KMS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is missing from the environment.
    #[error("no `{variable}` in the environment; KMS needs credentials and a region")]
    Environment {
        /// The variable.
        variable: &'static str,
    },
    /// An address that would carry requests in the clear, or is none.
    #[error("`{url}` is not the address of KMS: {reason}")]
    Endpoint {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// KMS can't be reached, or broke off.
    #[error("KMS `{action}`: {source}")]
    Http {
        /// The call.
        action: &'static str,
        /// The reason.
        source: reqwest::Error,
    },
    /// KMS refused.
    #[error("KMS `{action}` answered {status}: {message}")]
    Refused {
        /// The call.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// The error's type and message, or the start of the answer.
        message: String,
    },
    /// An answer of KMS that is not as documented.
    #[error("KMS `{action}`: the answer is wrong: {reason}")]
    Answer {
        /// The call.
        action: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that is not for signing.
    #[error("KMS key `{key}` is for `{usage}`, not for `SIGN_VERIFY`")]
    Usage {
        /// The key's id, ARN or alias.
        key: String,
        /// What it is for.
        usage: String,
    },
    /// The key is of a kind that nothing here signs with.
    #[error(transparent)]
    PublicKey(#[from] sign::Error),
}

/// A key that KMS holds.
#[derive(Debug)]
pub struct KmsKey {
    client: Client,
    id: String,
    name: String,
    public_key: PublicKey,
}

impl KmsKey {
    /// The key `id` (id, ARN or `alias/NAME`), known to people and to apk as `name`; its public
    /// half is fetched.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such key; [`Error::Usage`]; [`Error::PublicKey`] if it is
    /// neither P-256 nor RSA.
    pub async fn open(client: Client, id: &str, name: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            public_key: String,
            key_usage: String,
        }
        const ACTION: &str = "GetPublicKey";
        let answer: Answer = client.call(ACTION, &json!({ "KeyId": id })).await?;
        if answer.key_usage != "SIGN_VERIFY" {
            return Err(Error::Usage { key: id.to_owned(), usage: answer.key_usage });
        }
        let der = decode(ACTION, &answer.public_key)?;
        Ok(Self { client, id: id.to_owned(), name: name.to_owned(), public_key: PublicKey::from_der(&der)? })
    }

    async fn sign(&self, sha256: [u8; 32]) -> Result<Vec<u8>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            signature: String,
        }
        const ACTION: &str = "Sign";
        let algorithm = if self.public_key.is_rsa() { "RSASSA_PKCS1_V1_5_SHA_256" } else { "ECDSA_SHA_256" };
        let request = json!({
            "KeyId": self.id,
            "Message": STANDARD.encode(sha256),
            "MessageType": "DIGEST",
            "SigningAlgorithm": algorithm,
        });
        let answer: Answer = self.client.call(ACTION, &request).await?;
        let signature = decode(ACTION, &answer.signature)?;
        // A service that answers with anything else must not get it published.
        if !self.public_key.verifies(&sha256, &signature) {
            let reason = "the signature does not match the public key".to_owned();
            return Err(Error::Answer { action: ACTION, reason });
        }
        Ok(signature)
    }
}

fn decode(action: &'static str, text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| Error::Answer { action, reason: error.to_string() })
}

#[async_trait]
impl Signer for KmsKey {
    fn key_id(&self) -> &str {
        self.public_key.id()
    }

    fn key_name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign_digest(&self, sha256: [u8; 32]) -> sign::Result<Vec<u8>> {
        let signed = self.sign(sha256).await;
        signed.map_err(|error| sign::Error::Sign { key: self.id.clone(), reason: error.to_string() })
    }
}
