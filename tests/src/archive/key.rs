//! The key that signs an archive.
#![allow(clippy::unwrap_used, reason = "a test helper: what can't be set up ends the test")]

use std::fmt;
use std::sync::Arc;

use pgp::composed::{
    CleartextSignedMessage, DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, PacketTrait, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, Password, Timestamp};

/// An OpenPGP secret key, made in the test.
#[derive(Clone)]
pub struct ArchiveKey {
    secret: Arc<SignedSecretKey>,
    with_subkey: bool,
    life: Option<u32>,
}

impl fmt::Debug for ArchiveKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ArchiveKey({})", self.fingerprint())
    }
}

impl ArchiveKey {
    /// A new Ed25519 key that signs by its primary key.
    pub fn generate() -> Self {
        Self::make(false, Timestamp::now(), None)
    }

    /// A new key that signs by a subkey, as Debian's automatic keys do.
    pub fn generate_with_subkey() -> Self {
        Self::make(true, Timestamp::now(), None)
    }

    /// A key made `age` seconds ago that expires `life` seconds after it was made.
    pub fn generate_expiring(age: u32, life: u32) -> Self {
        let created = Timestamp::from_secs(Timestamp::now().as_secs() - age);
        Self::make(false, created, Some(life))
    }

    fn make(with_subkey: bool, created: Timestamp, life: Option<u32>) -> Self {
        let mut parameters = SecretKeyParamsBuilder::default();
        parameters
            .key_type(KeyType::Ed25519Legacy)
            .created_at(created)
            .can_certify(true)
            .can_sign(!with_subkey)
            .primary_user_id("Test archive <archive@localhost>".to_owned());
        if with_subkey {
            let subkey = SubkeyParamsBuilder::default()
                .key_type(KeyType::Ed25519Legacy)
                .created_at(created)
                .can_sign(true)
                .build()
                .unwrap();
            parameters.subkey(subkey);
        }
        let mut secret = parameters.build().unwrap().generate(rand::thread_rng()).unwrap();
        if let Some(life) = life {
            limit_life(&mut secret, life);
        }
        Self { secret: Arc::new(secret), with_subkey, life }
    }

    /// Fingerprint of the key or subkey that signs, lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        match self.secret.secret_subkeys.first().filter(|_| self.with_subkey) {
            Some(subkey) => subkey.key.fingerprint().to_string(),
            None => self.secret.primary_key.fingerprint().to_string(),
        }
    }

    /// The public key, binary.
    pub fn public_key(&self) -> Vec<u8> {
        SignedPublicKey::from((*self.secret).clone()).to_bytes().unwrap()
    }

    /// The public key, armored.
    pub fn armored_public_key(&self) -> String {
        let public = SignedPublicKey::from((*self.secret).clone());
        public.to_armored_string(Default::default()).unwrap()
    }

    /// A detached signature, armored.
    pub fn detach_sign(&self, bytes: &[u8]) -> String {
        let (random, password, hash) = (rand::thread_rng(), Password::empty(), HashAlgorithm::Sha512);
        let signature = match self.secret.secret_subkeys.first().filter(|_| self.with_subkey) {
            Some(subkey) => DetachedSignature::sign_binary_data(random, &subkey.key, &password, hash, bytes),
            None => DetachedSignature::sign_binary_data(random, &self.secret.primary_key, &password, hash, bytes),
        };
        signature.unwrap().to_armored_string(Default::default()).unwrap()
    }

    /// A clear-signed message.
    pub fn clear_sign(&self, text: &str) -> String {
        let (random, password) = (rand::thread_rng(), Password::empty());
        let message = match self.secret.secret_subkeys.first().filter(|_| self.with_subkey) {
            Some(subkey) => CleartextSignedMessage::sign(random, text, &subkey.key, &password),
            None => CleartextSignedMessage::sign(random, text, &self.secret.primary_key, &password),
        };
        message.unwrap().to_armored_string(Default::default()).unwrap()
    }

    /// Seconds from its making after which the key expires, if it does.
    pub fn life(&self) -> Option<u32> {
        self.life
    }
}

/// Certifies the user id anew, with an end to the key's life.
fn limit_life(secret: &mut SignedSecretKey, life: u32) {
    let key = &secret.primary_key;
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(true);
    let mut config = SignatureConfig::from_key(rand::thread_rng(), key, SignatureType::CertPositive).unwrap();
    config.hashed_subpackets = [
        SubpacketData::SignatureCreationTime(key.created_at()),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
        SubpacketData::KeyFlags(flags),
        SubpacketData::KeyExpirationTime(Duration::from_secs(life)),
    ]
    .into_iter()
    .map(|data| Subpacket::regular(data).unwrap())
    .collect();
    let user = secret.details.users.first_mut().unwrap();
    let signature =
        config.sign_certification(key, key.public_key(), &Password::empty(), user.id.tag(), &user.id).unwrap();
    user.signatures = vec![signature];
}
