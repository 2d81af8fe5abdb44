//! Whose statements are believed.

use crate::{Digest, Error, PublicKey, Result, Statement, verify_bundle};

/// Decides whether a bundle is signed by somebody trusted.
pub trait Trust: Send + Sync {
    /// The statement in a bundle, if somebody trusted signed it, it is about `subject`, and it is of
    /// type `predicate_type`.
    ///
    /// # Errors
    /// What is wrong with it; see [`verify_bundle`].
    fn statement(&self, bundle: &[u8], subject: Digest, predicate_type: &str) -> Result<Statement>;
}

impl Trust for PublicKey {
    fn statement(&self, bundle: &[u8], subject: Digest, predicate_type: &str) -> Result<Statement> {
        verify_bundle(bundle, self, subject, predicate_type)
    }
}

/// Several keys, any of which may have signed: the present one, and those before it.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(pub Vec<PublicKey>);

impl Trust for TrustedKeys {
    /// # Errors
    /// The key's own where one key is trusted or one key made the signature;
    /// [`Error::NoTrustedKey`] otherwise.
    fn statement(&self, bundle: &[u8], subject: Digest, predicate_type: &str) -> Result<Statement> {
        let mut errors = Vec::new();
        for key in &self.0 {
            match verify_bundle(bundle, key, subject, predicate_type) {
                Err(error @ (Error::WrongKey { .. } | Error::BadSignature { .. })) => errors.push(error),
                decided => return decided,
            }
        }
        // A key that the bundle names and whose signature is wrong says more than all others.
        if let Some(named) = errors.iter().position(|error| matches!(error, Error::BadSignature { .. })) {
            return Err(errors.swap_remove(named));
        }
        match (errors.pop(), errors.is_empty()) {
            (Some(only), true) => Err(only),
            (last, _) => {
                Err(Error::NoTrustedKey { reasons: errors.iter().chain(&last).map(ToString::to_string).collect() })
            }
        }
    }
}
