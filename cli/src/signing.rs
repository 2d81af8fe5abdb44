//! What signs, and whose signatures are trusted: `[signing]` of `mill.toml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyless::{Identity, Keyless, Services, Token};
use kms::{Access, Client, KmsKey};
use serde::Deserialize;
use sign::{Attestor, Signer, Trust};

use crate::keys::{KMS_IMAGE_KEY, Keys};
use crate::output::{Failure, OrFail};

/// The variable that holds the identity's token unless a file does.
const TOKEN_VARIABLE: &str = "MINIMILL_IDENTITY_TOKEN";

/// How images are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// With a key in the home.
    #[default]
    Key,
    /// With a key that AWS KMS holds.
    Kms,
    /// As an identity, without a key.
    Keyless,
}

/// `[signing]` of `mill.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Signing {
    /// How images are signed.
    pub mode: Mode,
    /// Also sign under the older tag `sha256-HEX.sig`, for clients that do not look for bundles.
    pub legacy_tags: bool,
    /// The KMS key (id, ARN or `alias/NAME`; P-256) that signs images.
    pub image_key: Option<String>,
    /// The KMS key (RSA) that signs packages; a key in the home where it is not set.
    pub package_key: Option<String>,
    /// Address of the certificate authority, Fulcio.
    pub fulcio: Option<String>,
    /// Address of the transparency log, Rekor.
    pub rekor: Option<String>,
    /// File with the identity's OIDC token; `MINIMILL_IDENTITY_TOKEN` where it is not set.
    pub token_file: Option<PathBuf>,
    /// The identity that signs: an e-mail address or URI, as in its certificate.
    pub identity: Option<String>,
    /// Who vouches for the identity.
    pub issuer: Option<String>,
    /// sigstore `trusted_root.json`: which authorities and logs count.
    pub trusted_root: Option<PathBuf>,
}

/// What signs packages and images.
pub struct Signers {
    /// Signs packages and indexes.
    pub package: Arc<dyn Signer>,
    /// Signs images and attestations.
    pub attestor: Arc<dyn Attestor>,
}

fn needed<'a, T>(value: Option<&'a T>, name: &str, mode: &str) -> Result<&'a T, Failure> {
    value.ok_or_else(|| Failure::usage(format!("`[signing]` of mill.toml: `mode = \"{mode}\"` needs `{name}`")))
}

impl Signing {
    /// Opens what signs.
    pub async fn signers(&self, keys: &Keys, variable: impl Fn(&str) -> Option<String>) -> Result<Signers, Failure> {
        let package = || Ok::<Arc<dyn Signer>, Failure>(Arc::new(keys.package()?));
        Ok(match self.mode {
            Mode::Key => Signers { package: package()?, attestor: Arc::new(keys.image()?) },
            Mode::Kms => {
                let access = Access::from_environment(variable).or_environment()?;
                let client = Client::new(access).or_environment()?;
                let id = needed(self.image_key.as_ref(), "image-key", "kms")?;
                let image = KmsKey::open(client.clone(), id, "minimill").await.or_environment()?;
                if image.public_key().is_rsa() {
                    return Err(Failure::usage(format!("`image-key`: `{id}` is an RSA key, P-256 is needed")));
                }
                let package: Arc<dyn Signer> = match &self.package_key {
                    None => package()?,
                    Some(id) => {
                        let key = KmsKey::open(client, id, "minimill-kms.rsa.pub").await.or_environment()?;
                        if !key.public_key().is_rsa() {
                            return Err(Failure::usage(format!("`package-key`: `{id}` is no RSA key, as apk needs")));
                        }
                        keys.publish(key.key_name(), key.public_key())?;
                        Arc::new(key)
                    }
                };
                keys.publish(KMS_IMAGE_KEY, image.public_key())?;
                Signers { package, attestor: Arc::new(image) }
            }
            Mode::Keyless => {
                if self.legacy_tags {
                    return Err(Failure::usage("`[signing]` of mill.toml: `legacy-tags` needs a key"));
                }
                let services = Services {
                    fulcio: needed(self.fulcio.as_ref(), "fulcio", "keyless")?.clone(),
                    rekor: needed(self.rekor.as_ref(), "rekor", "keyless")?.clone(),
                    allow_http: false,
                    certificates: Vec::new(),
                };
                let token = match &self.token_file {
                    Some(path) => Token::File(path.clone()),
                    None => Token::Text(variable(TOKEN_VARIABLE).ok_or_else(|| {
                        Failure::usage(format!("`mode = \"keyless\"` needs `token-file`, or `{TOKEN_VARIABLE}`"))
                    })?),
                };
                let attestor = Keyless::new(&services, token).or_environment()?;
                Signers { package: package()?, attestor: Arc::new(attestor) }
            }
        })
    }

    /// Whose signatures of this home's images are trusted.
    pub fn trust(&self, keys: &Keys) -> Result<Box<dyn Trust>, Failure> {
        match self.mode {
            Mode::Key | Mode::Kms => Ok(Box::new(keys.trusted()?)),
            Mode::Keyless => {
                let root = needed(self.trusted_root.as_ref(), "trusted-root", "keyless")?;
                let identity = needed(self.identity.as_ref(), "identity", "keyless")?;
                identity_trust(root, identity, needed(self.issuer.as_ref(), "issuer", "keyless")?)
            }
        }
    }
}

/// Trust in an identity.
pub fn identity_trust(root: &Path, identity: &str, issuer: &str) -> Result<Box<dyn Trust>, Failure> {
    Ok(Box::new(Identity::read(root, identity, issuer).or_environment()?))
}
