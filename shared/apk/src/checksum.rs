use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// A SHA-1 as apk writes it: `Q1` and padded standard base64, 30 characters in all.
///
/// `C:` in an index is the checksum of a package's compressed control member; `Z:` in an installed
/// database is that of a file's content or of a symbolic link's target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub [u8; 20]);

/// The text is not `Q1` followed by the base64 of 20 bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a checksum: expected `Q1` and the base64 of a SHA-1 (28 characters)")]
pub struct InvalidChecksum(pub String);

impl Checksum {
    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha1::digest(bytes).into())
    }

    /// Reads the 40 hexadecimal digits of an `APK-TOOLS.checksum.SHA1` record.
    pub fn from_hex(text: &str) -> Result<Self, InvalidChecksum> {
        let mut bytes = [0; 20];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidChecksum(text.to_owned()))?;
        Ok(Self(bytes))
    }

    /// The 40 lowercase hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q1{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Checksum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidChecksum(text.to_owned());
        let encoded = text.strip_prefix("Q1").ok_or_else(invalid)?;
        if encoded.len() != 28 {
            return Err(invalid());
        }
        let mut bytes = [0; 20];
        match STANDARD.decode_slice(encoded, &mut bytes) {
            Ok(20) => Ok(Self(bytes)),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_hex_round_trip() {
        let checksum = Checksum::of(b"abc");
        assert_eq!(checksum.to_hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(checksum.to_string(), "Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
        assert_eq!(checksum.to_string().parse(), Ok(checksum));
        assert_eq!(Checksum::from_hex(&checksum.to_hex()), Ok(checksum));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "Q1",
            "Q2qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
            "Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0",
            "Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0==",
        ] {
            assert_eq!(text.parse::<Checksum>(), Err(InvalidChecksum(text.to_owned())));
        }
    }
}
