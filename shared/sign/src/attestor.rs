//! What can make signed statements.

use async_trait::async_trait;

use crate::{Bundle, Result, Signer, Statement};

/// Signs statements: a key, or an identity that is given a certificate each time.
#[async_trait]
pub trait Attestor: Send + Sync {
    /// The statement in a sigstore bundle v0.3, as JSON.
    ///
    /// # Errors
    /// The key's or the services'.
    async fn attest(&self, statement: &Statement) -> Result<Vec<u8>>;

    /// The key that signs, where it is always the same one.
    fn signer(&self) -> Option<&dyn Signer>;
}

#[async_trait]
impl<S: Signer> Attestor for S {
    async fn attest(&self, statement: &Statement) -> Result<Vec<u8>> {
        Bundle::sign(self, statement).await?.to_bytes()
    }

    fn signer(&self) -> Option<&dyn Signer> {
        Some(self)
    }
}
