//! Bounds on what foreign archives and texts may ask for, far above what packages need. Passing one
//! is an error of its own, [`crate::Error::Limit`], that states the bound.

/// Bytes of one signature or control member once decompressed.
pub const CONTROL_BYTES: u64 = 16 << 20;
/// Bytes of one signature or control member as stored.
pub const CONTROL_COMPRESSED_BYTES: u64 = 16 << 20;
/// Signature members that may precede the control member.
pub const SIGNATURE_MEMBERS: usize = 8;
/// Bytes of one signature: RSA keys of up to 8,192 bits.
pub const SIGNATURE_BYTES: u64 = 1024;
/// Bytes of a whole package file.
pub const PACKAGE_BYTES: u64 = 16 << 30;
/// Bytes of the data member once decompressed.
pub const DATA_BYTES: u64 = 64 << 30;
/// Entries in one archive.
pub const ENTRIES: u64 = 1_000_000;
/// Bytes of a path or link target.
pub const PATH_BYTES: usize = 4096;
/// Bytes of one component of a path.
pub const COMPONENT_BYTES: usize = 255;
/// Bytes of one extended (pax) header.
pub const PAX_BYTES: u64 = 1 << 20;
/// Bytes of an `APKINDEX.tar.gz` as stored.
pub const INDEX_COMPRESSED_BYTES: u64 = 128 << 20;
/// Bytes of an index once decompressed, and of an installed database.
pub const INDEX_BYTES: u64 = 512 << 20;
/// Bytes of one line of an index, of `.PKGINFO` or of an installed database.
pub const LINE_BYTES: usize = 1 << 20;
/// Records in one index or installed database.
pub const RECORDS: usize = 1_000_000;
/// Bytes of a key file.
pub const KEY_BYTES: u64 = 64 << 10;
