//! apk v2: versions, dependencies, packages, indexes, signatures and automatic dependencies.
//!
//! The crate is synchronous and does no network I/O. A package or an index is bytes behind `Read`;
//! every length, path and member count that comes out of one is bounded before it is used.

mod architecture;
mod information;

pub use architecture::{Architecture, UnknownArchitecture};
pub use information::{IndexEntry, PackageInformation};
