//! Debian: from the signed release file through the source index to a source archive.

mod keyring;
mod provider;
mod release;
mod sources;
mod version;

pub use provider::{Debian, DebianOptions};
pub use version::DebianVersion;
