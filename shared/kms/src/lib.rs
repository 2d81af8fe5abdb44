//! Keys that AWS KMS holds: P-256 for images, RSA for apk packages.
//!
//! A [`KmsKey`] is a [`sign::Signer`] whose private half never leaves KMS: only digests go there,
//! and signatures come back. The public half is fetched once.

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_kms::{
    Client, Config,
    config::{Region, SharedCredentialsProvider},
    error::DisplayErrorContext,
    primitives::Blob,
    types::{KeyUsageType, MessageType, SigningAlgorithmSpec},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
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
    /// KMS did not give the public key.
    #[error("KMS key `{key}`: {reason}")]
    Key {
        /// The key's id, ARN or alias.
        key: String,
        /// The reason.
        reason: String,
    },
    /// The key is of a kind that nothing here signs with.
    #[error(transparent)]
    PublicKey(#[from] sign::Error),
}

/// Where KMS is and who asks.
#[derive(Clone)]
pub struct Access {
    /// The region, `eu-central-1`.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
    /// Another address than the region's own, for emulators.
    pub endpoint: Option<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Access").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Access {
    /// What the environment says, by the names that Lambda, CodeBuild and the AWS tools use.
    ///
    /// # Errors
    /// [`Error::Environment`] names the variable that is missing.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let named = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &'static str| named(name).ok_or(Error::Environment { variable: name });
        Ok(Self {
            region: match named("AWS_REGION") {
                Some(region) => region,
                None => needed("AWS_DEFAULT_REGION").map_err(|_| Error::Environment { variable: "AWS_REGION" })?,
            },
            access_key_id: needed("AWS_ACCESS_KEY_ID")?,
            secret_access_key: needed("AWS_SECRET_ACCESS_KEY")?,
            session_token: named("AWS_SESSION_TOKEN"),
            endpoint: named("AWS_ENDPOINT_URL_KMS").or_else(|| named("AWS_ENDPOINT_URL")),
        })
    }

    /// A client that asks with these credentials.
    pub fn client(&self) -> Client {
        let credentials = Credentials::new(
            &self.access_key_id,
            &self.secret_access_key,
            self.session_token.clone(),
            None,
            "minimill",
        );
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut config = Config::builder()
            .behavior_version_latest()
            .region(Region::new(self.region.clone()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http);
        config.set_endpoint_url(self.endpoint.clone());
        Client::from_conf(config.build())
    }
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
    /// [`Error::Key`] if there is no such key or it does not sign; [`Error::PublicKey`] if it is
    /// neither P-256 nor RSA.
    pub async fn open(client: Client, id: &str, name: &str) -> Result<Self> {
        let failed = |reason: String| Error::Key { key: id.to_owned(), reason };
        let found = client
            .get_public_key()
            .key_id(id)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
        if found.key_usage() != Some(&KeyUsageType::SignVerify) {
            return Err(failed("its usage is not `SIGN_VERIFY`".into()));
        }
        let der = found.public_key().ok_or_else(|| failed("KMS gave no public key".into()))?;
        let public_key = PublicKey::from_der(der.as_ref())?;
        Ok(Self { client, id: id.to_owned(), name: name.to_owned(), public_key })
    }
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
        let failed = |reason: String| sign::Error::Sign { key: self.id.clone(), reason };
        let algorithm = match self.public_key.is_rsa() {
            true => SigningAlgorithmSpec::RsassaPkcs1V15Sha256,
            false => SigningAlgorithmSpec::EcdsaSha256,
        };
        let signed = self
            .client
            .sign()
            .key_id(&self.id)
            .message_type(MessageType::Digest)
            .message(Blob::new(sha256))
            .signing_algorithm(algorithm)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error).to_string()))?;
        let signature = signed.signature().ok_or_else(|| failed("KMS gave no signature".into()))?.as_ref().to_vec();
        // A service that answers with anything else must not get it published.
        if !self.public_key.verifies(&sha256, &signature) {
            return Err(failed("its signature does not match its public key".into()));
        }
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_who_asks_and_where() {
        let access = |variables: &[(&str, &str)]| {
            Access::from_environment(|name| {
                variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let found = access(&[&keys[..], &[("AWS_DEFAULT_REGION", "r"), ("AWS_ENDPOINT_URL", "http://e")]].concat());
        let found = found.unwrap();
        assert_eq!((found.region.as_str(), found.endpoint.as_deref()), ("r", Some("http://e")));
        assert!(!format!("{found:?}").contains("secret"));
        let error = access(&keys).unwrap_err().to_string();
        assert!(error.contains("AWS_REGION"), "{error}");
        assert!(access(&[("AWS_REGION", "r")]).is_err());
    }
}
