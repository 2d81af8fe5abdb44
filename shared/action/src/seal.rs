use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::{Error, Secret};

const NONCE: usize = 12;

/// A secret as it is stored: Base64 of nonce and AES-256-GCM ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(String);

/// Seals the secrets of actions, so that the state alone does not give them away.
#[derive(Clone)]
pub struct SealingKey(LessSafeKey);

impl fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SealingKey")
    }
}

impl SealingKey {
    /// A key of 32 random bytes.
    ///
    /// # Errors
    /// [`Error::SealingKey`] for any other number.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        UnboundKey::new(&AES_256_GCM, bytes).map(|key| Self(LessSafeKey::new(key))).map_err(|_| Error::SealingKey)
    }

    /// Seals a secret for one owner. `nonce` must be random.
    ///
    /// # Errors
    /// [`Error::Unsealed`] when the cipher refuses, which it does beyond 64 GiB only.
    pub fn seal(&self, name: &str, secret: &Secret, nonce: [u8; NONCE]) -> Result<Sealed, Error> {
        let mut bytes = secret.bytes().to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut bytes)
            .map_err(|_| Error::Unsealed { name: name.to_owned() })?;
        Ok(Sealed(STANDARD.encode([nonce.as_slice(), &bytes].concat())))
    }

    /// Opens what was sealed for this owner with this key.
    ///
    /// # Errors
    /// [`Error::Unsealed`].
    pub fn open(&self, name: &str, sealed: &Sealed) -> Result<Secret, Error> {
        let wrong = || Error::Unsealed { name: name.to_owned() };
        let bytes = STANDARD.decode(&sealed.0).map_err(|_| wrong())?;
        let (nonce, cipher) = bytes.split_first_chunk::<NONCE>().ok_or_else(wrong)?;
        let mut cipher = cipher.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.0.open_in_place(nonce, Aad::from(name), &mut cipher).map_err(|_| wrong())?;
        Secret::from_bytes(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_for_its_owner_with_its_key_only() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let secret = Secret::from_bytes(&[7; 32]).unwrap();
        let sealed = key.seal("act_1", &secret, [9; NONCE]).unwrap();
        assert!(!serde_json::to_string(&sealed).unwrap().contains(&secret.reveal()[6..]));
        assert_eq!(key.open("act_1", &sealed).unwrap().reveal(), secret.reveal());
        let other = SealingKey::new(&[2; 32]).unwrap();
        let damaged = Sealed(sealed.0.replacen(|letter| letter != 'A', "A", 20));
        for (key, name, sealed) in [
            (&key, "act_2", &sealed),
            (&other, "act_1", &sealed),
            (&key, "act_1", &damaged),
            (&key, "act_1", &Sealed("%".into())),
        ] {
            assert!(matches!(key.open(name, sealed), Err(Error::Unsealed { .. })));
        }
        assert!(matches!(SealingKey::new(&[1; 31]), Err(Error::SealingKey)));
    }
}
