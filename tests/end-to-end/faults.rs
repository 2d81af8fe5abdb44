//! Bad input, damage and kills: nothing half-published, and the end is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
