//! The archive format: concatenated gzip members, each a tar stream.

pub(crate) mod member;
pub(crate) mod reader;
pub(crate) mod writer;

pub mod package;
pub mod signature;
