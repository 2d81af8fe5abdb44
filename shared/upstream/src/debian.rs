//! Debian: from the signed release file through the source index to a source archive.

mod keyring;
mod provider;
mod release;
mod sources;

pub use provider::{Debian, DebianOptions};
