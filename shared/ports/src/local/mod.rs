//! The embedded adapters: one SQLite file for state and queue, plain files for blobs.

mod database;
mod files;
mod home;

pub use database::Database;
pub use files::{FileBlobs, digest_of, digest_of_file};
pub use home::{Home, HomeLock, write_atomically};
