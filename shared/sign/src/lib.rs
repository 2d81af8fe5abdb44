//! Signatures, attestations and their verification: DSSE, in-toto, sigstore bundles.
//!
//! A [`Signer`] signs the SHA-256 of some bytes; [`Bundle::sign`] wraps an in-toto
//! [`Statement`] about a digest in a DSSE envelope and a sigstore bundle, as `cosign` v3 does
//! with a key; [`verify_bundle`] undoes that and says what is wrong when something is. Whatever
//! makes such bundles, with a key or without, is an [`Attestor`]; whatever accepts them is a
//! [`Trust`].

mod attestor;
mod bundle;
mod digest;
pub mod dsse;
mod error;
mod key;
mod local;
pub mod predicate;
pub mod simple_signing;
mod statement;
mod trust;

pub use attestor::Attestor;
pub use bundle::{BUNDLE_MEDIA_TYPE, Bundle, MAX_BUNDLE_BYTES, verify_bundle};
pub use digest::{Digest, InvalidDigest};
pub use error::{Error, Result, chain};
pub use key::{PublicKey, Signer};
pub use local::{LocalEcdsaKey, LocalRsaKey};
pub use statement::{ResourceDescriptor, STATEMENT_TYPE, Statement};
pub use trust::{Trust, TrustedKeys};
