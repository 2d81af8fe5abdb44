//! apk v2: versions, dependencies, packages, indexes, signatures and automatic dependencies.
//!
//! The crate is synchronous and does no network I/O. A package or an index is bytes behind `Read`;
//! every length, path and member count that comes out of one is bounded before it is used.

mod architecture;
mod archive;
mod build;
mod capability;
mod checksum;
mod compact_index;
mod dependency;
mod error;
mod hashing;
mod index;
mod index_archive;
mod index_record;
mod information;
mod installed;
mod key;
pub mod limits;
mod record;
mod report;
mod scan;
mod tree;
mod version;

pub use architecture::{Architecture, UnknownArchitecture};
pub use archive::package::{Members, Package, Script};
pub use archive::reader::{FileEntry, FileKind};
pub use archive::signature::{Signature, SignatureKind, attach_signature, signature_member};
pub use build::{BuiltPackage, DIRECTORY_SIZE, PackageSpec, build_package, build_package_file};
pub use capability::{CAPABILITY_ATTRIBUTE, file_capabilities};
pub use checksum::{Checksum, InvalidChecksum};
pub use compact_index::CompactIndex;
pub use dependency::{Dependency, DependencyParts, InvalidDependency, Operator, Requirement};
pub use error::{Error, Member, Result};
pub use hashing::HashingWriter;
pub use index::{Index, ReadIndex, Trust};
pub use index_record::IndexRecord;
pub use information::{IndexEntry, PackageInformation};
pub use installed::{InstalledFile, InstalledPackage, parse_installed, write_installed};
pub use key::{Keyring, MINIMUM_KEY_BITS, PrivateKey, PublicKey};
pub use report::{Report, index_directory, verify_file};
pub use scan::{Dynamic, Found, Scan, ScanOptions, read_dynamic};
pub use tree::{TreeEntry, resolve as resolve_in_tree, walk as walk_tree};
pub use version::{InvalidVersion, Version, compare_versions, is_version, order_versions};
