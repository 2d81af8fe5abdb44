use serde::{Deserialize, Serialize};

/// What a package says of itself: the content of `.PKGINFO`.
///
/// Foreign packages are of any architecture, so `architecture` is text here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageInformation {
    /// `pkgname`.
    pub name: String,
    /// `pkgver`, with its `-rN`.
    pub version: String,
    /// `arch`: `x86_64`, `aarch64`, `noarch`, ...
    pub architecture: String,
    /// `size`: bytes once installed.
    pub installed_size: u64,
    /// `origin`: the definition that this package was built from; empty when not stated.
    pub origin: String,
    /// `pkgdesc`.
    pub description: String,
    /// `url` of the upstream project.
    pub url: String,
    /// `commit` of the definition.
    pub commit: String,
    /// `maintainer`.
    pub maintainer: String,
    /// `builddate`: seconds since 1970-01-01 UTC; 0 when not stated.
    pub build_date: i64,
    /// `license`, one SPDX expression per line of `.PKGINFO`.
    pub licenses: Vec<String>,
    /// `depend`.
    pub depends: Vec<String>,
    /// `provides`.
    pub provides: Vec<String>,
    /// `replaces`.
    pub replaces: Vec<String>,
    /// `install_if`.
    pub install_if: Vec<String>,
    /// `provider_priority`; 0 when not stated.
    pub provider_priority: u64,
    /// `replaces_priority`; 0 when not stated.
    pub replaces_priority: u64,
    /// `triggers`: the watched paths.
    pub triggers: Vec<String>,
    /// `datahash`: lowercase hexadecimal SHA-256 of the compressed data member.
    pub data_hash: String,
}

/// One record of an `APKINDEX`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// `C:` the `Q1...` checksum: base64 of the SHA-1 of the compressed control member.
    pub checksum: String,
    /// `S:` size of the `.apk` file in bytes.
    pub size: u64,
    /// The other fields, which repeat the package's own. `replaces`, `triggers` and `data_hash`
    /// have no letter in an index and stay empty.
    pub information: PackageInformation,
}
