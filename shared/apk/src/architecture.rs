use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A machine architecture, written the apk way (`x86_64`) and known by its OCI name (`amd64`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86: apk `x86_64`, OCI `amd64`.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm: apk `aarch64`, OCI `arm64`.
    #[serde(rename = "aarch64")]
    Aarch64,
}

/// The text names no architecture that Minimill builds for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture `{0}`: expected x86_64 (amd64) or aarch64 (arm64)")]
pub struct UnknownArchitecture(pub String);

impl Architecture {
    /// Every architecture, in the order in which builds and indexes list them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The name in apk file names, `.PKGINFO` and repository folders.
    pub fn apk(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name in OCI platforms, which is also Go's `GOARCH`.
    pub fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The architecture of the machine this program was built for, if Minimill builds for it.
    pub fn host() -> Option<Self> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.apk())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x86_64" | "amd64" => Ok(Self::X86_64),
            "aarch64" | "arm64" => Ok(Self::Aarch64),
            other => Err(UnknownArchitecture(other.to_owned())),
        }
    }
}
