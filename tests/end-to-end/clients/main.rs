//! What strangers' programs make of the images and packages of the real catalog.
//!
//! Everything is built once from upstream's source by `mill cycle` into a home in the target
//! folder, which later runs bring up to date. Where upstream can't be reached, or a tool is not
//! installed, a test prints `not run:` and why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed step ends a test, and a test that can't run says so"
)]

mod cycle;
mod docker;
mod http;
mod oci;
mod packages;
mod scanner;
mod signatures;
mod support;
