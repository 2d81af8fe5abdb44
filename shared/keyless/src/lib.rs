//! Signing without a key of one's own: Fulcio certificates and Rekor entries, and their
//! verification.
//!
//! A [`Keyless`] proves an identity to a certificate authority with an OIDC token, gets a
//! certificate of a few minutes for a key that lives as long, signs, and has the signature written
//! into a transparency log. An [`Identity`] checks all of that offline against a trusted root.

pub mod crypto;
mod error;
mod identity;
mod signer;

pub use error::{Error, Result};
pub use identity::Identity;
pub use signer::{Keyless, Services, Token};
