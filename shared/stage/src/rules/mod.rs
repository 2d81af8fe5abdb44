//! The rules of versions, tags and days: pure functions that every stage and command shares.

pub mod releases;
pub mod retention;
pub mod schedule;
pub mod streams;
pub mod tags;
pub mod version;
