//! Sources with and without the proof that their package's policy asks for: in builds, and before
//! the watch takes a new version.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed step ends a test, and a test that can't run says so"
)]

mod builds;
mod git_tags;
mod kinds;
mod plain;
mod watch;

const MILL: &str = env!("CARGO_BIN_EXE_mill");
