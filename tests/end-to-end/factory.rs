//! A whole factory over a small catalog and a local archive: what is built, when, and under which tags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
