//! The primitives that the sigstore libraries compute with: ring's, which the HTTP client uses too,
//! and the SHA-2 and P-256 crates.

use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::hazmat::{PrehashSigner, PrehashVerifier},
    },
    elliptic_curve::Generate,
};
use ring::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};
use sha2::{Digest, Sha256, Sha384, Sha512};
use sigstore_verify::{
    crypto::{
        CryptoProvider, Error, HashContext, KeyAlgorithm, Result, SigningKeyPair, SigningScheme,
        install_default_provider,
    },
    types::HashAlgorithm,
};

/// Makes the process's sigstore libraries compute with these. Must come before their first use.
pub fn install() {
    // Another caller may have been first; it installed the same.
    let _ = install_default_provider(&Primitives);
}

#[derive(Debug)]
struct Primitives;

struct Context<D>(D);

impl<D: Digest + Send> HashContext for Context<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

/// A P-256 key that is never written anywhere.
struct Ephemeral {
    key: SigningKey,
    point: Vec<u8>,
}

impl SigningKeyPair for Ephemeral {
    fn algorithm(&self) -> KeyAlgorithm {
        KeyAlgorithm::EcdsaP256
    }

    fn public_key_bytes(&self) -> &[u8] {
        &self.point
    }

    fn sign_raw(&self, data: &[u8]) -> Result<Vec<u8>> {
        self.sign_prehashed(&Sha256::digest(data))
    }

    fn sign_prehashed(&self, digest: &[u8]) -> Result<Vec<u8>> {
        let signature: Signature = self.key.sign_prehash(digest).map_err(|error| Error::Signing(error.to_string()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

fn unsupported(what: impl std::fmt::Debug) -> Error {
    Error::UnsupportedAlgorithm(format!("{what:?} is not known here"))
}

fn algorithm(scheme: SigningScheme) -> Result<&'static dyn VerificationAlgorithm> {
    Ok(match scheme {
        SigningScheme::EcdsaP256Sha256 => &algorithms::ECDSA_P256_SHA256_ASN1,
        SigningScheme::EcdsaP256Sha384 => &algorithms::ECDSA_P256_SHA384_ASN1,
        SigningScheme::EcdsaP384Sha256 => &algorithms::ECDSA_P384_SHA256_ASN1,
        SigningScheme::EcdsaP384Sha384 => &algorithms::ECDSA_P384_SHA384_ASN1,
        SigningScheme::Ed25519 => &algorithms::ED25519,
        SigningScheme::RsaPssSha256 => &algorithms::RSA_PSS_2048_8192_SHA256,
        SigningScheme::RsaPssSha384 => &algorithms::RSA_PSS_2048_8192_SHA384,
        SigningScheme::RsaPssSha512 => &algorithms::RSA_PSS_2048_8192_SHA512,
        SigningScheme::RsaPkcs1Sha256 => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        SigningScheme::RsaPkcs1Sha384 => &algorithms::RSA_PKCS1_2048_8192_SHA384,
        SigningScheme::RsaPkcs1Sha512 => &algorithms::RSA_PKCS1_2048_8192_SHA512,
        other => return Err(unsupported(other)),
    })
}

impl CryptoProvider for Primitives {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        Ok(match algorithm {
            HashAlgorithm::Sha2256 => Box::new(Context(Sha256::new())),
            HashAlgorithm::Sha2384 => Box::new(Context(Sha384::new())),
            HashAlgorithm::Sha2512 => Box::new(Context(Sha512::new())),
            other => return Err(unsupported(other)),
        })
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        UnparsedPublicKey::new(algorithm(scheme)?, key)
            .verify(data, signature)
            .map_err(|_| Error::Verification(format!("{} signature invalid", scheme.name())))
    }

    fn verify_prehashed(&self, scheme: SigningScheme, key: &[u8], digest: &[u8], signature: &[u8]) -> Result<()> {
        if scheme != SigningScheme::EcdsaP256Sha256 {
            return Err(unsupported(scheme));
        }
        let invalid = |_| Error::Verification(format!("{} signature invalid", scheme.name()));
        let key = VerifyingKey::from_sec1_bytes(key).map_err(invalid)?;
        let signature = Signature::from_der(signature).map_err(invalid)?;
        key.verify_prehash(digest, &signature).map_err(invalid)
    }

    fn generate_key_pair(&self, algorithm: KeyAlgorithm) -> Result<Box<dyn SigningKeyPair>> {
        if algorithm != KeyAlgorithm::EcdsaP256 {
            return Err(unsupported(algorithm));
        }
        let key = SigningKey::try_generate().map_err(|error| Error::Signing(error.to_string()))?;
        let point = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        Ok(Box::new(Ephemeral { key, point }))
    }
}
