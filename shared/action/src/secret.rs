use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Error;

const PREFIX: &str = "whsec_";

/// The secret that an action and its receiver share (Standard Webhooks, "Signature scheme").
#[derive(Clone)]
pub struct Secret {
    bytes: Vec<u8>,
    key: Hmac<Sha256>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// A secret of 24 to 64 random bytes.
    ///
    /// # Errors
    /// [`Error::SecretLength`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::SecretLength { found: bytes.len() };
        if !(24..=64).contains(&bytes.len()) {
            return Err(wrong());
        }
        let key = Hmac::new_from_slice(bytes).map_err(|_| wrong())?;
        Ok(Self { bytes: bytes.to_vec(), key })
    }

    /// The secret as receivers take it: `whsec_` and Base64.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `v1,BASE64` over `ID.TIMESTAMP.BODY`, the time in seconds since 1970.
    pub fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut signing = self.key.clone();
        signing.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(signing.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification_s_own_libraries() {
        let text = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secret = Secret::from_bytes(&STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(secret.reveal(), format!("whsec_{text}"));
        assert_eq!(
            secret.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn short_and_long_secrets_are_refused_and_none_is_shown() {
        for length in [0, 23, 65] {
            assert!(matches!(Secret::from_bytes(&vec![0; length]), Err(Error::SecretLength { .. })));
        }
        assert_eq!(format!("{:?}", Secret::from_bytes(&[7; 24]).unwrap()), "Secret");
    }
}
