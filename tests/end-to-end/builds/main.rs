//! Package builds from every kind of source and by every tool chain that can be had here, through
//! the whole factory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed step ends a test, and a test that can't run says so"
)]

mod package;
mod sources;
mod tool_chains;

const MILL: &str = env!("CARGO_BIN_EXE_mill");
