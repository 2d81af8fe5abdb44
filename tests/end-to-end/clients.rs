//! What strangers' programs make of the images and packages of the real catalog.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
