//! OpenPGP keys of both versions, with and without subkeys, and what they may not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use authenticity::{Error, Evidence, Judged, Keyring, verify_detached};
use jiff::Timestamp;
use pgp::composed::{
    DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyVersion, Password};

const DATA: &[u8] = b"what upstream released\n";

fn generate(version: KeyVersion, subkey: bool, subkey_signs: bool) -> SignedSecretKey {
    let kind = || if version == KeyVersion::V6 { KeyType::Ed25519 } else { KeyType::Ed25519Legacy };
    let mut parameters = SecretKeyParamsBuilder::default();
    parameters.version(version).key_type(kind()).can_certify(true).can_sign(!subkey);
    parameters.primary_user_id("Up <up@example.org>".to_owned());
    if subkey {
        let mut sub = SubkeyParamsBuilder::default();
        sub.version(version).key_type(kind()).can_sign(subkey_signs);
        parameters.subkey(sub.build().unwrap());
    }
    parameters.build().unwrap().generate(rand::thread_rng()).unwrap()
}

fn sign(key: &SignedSecretKey) -> Vec<u8> {
    let (random, password, hash) = (rand::thread_rng(), Password::empty(), HashAlgorithm::Sha512);
    let signature = match key.secret_subkeys.first() {
        Some(subkey) => DetachedSignature::sign_binary_data(random, &subkey.key, &password, hash, DATA),
        None => DetachedSignature::sign_binary_data(random, &key.primary_key, &password, hash, DATA),
    };
    signature.unwrap().to_bytes().unwrap()
}

fn ring(key: &SignedSecretKey) -> Keyring {
    let public = SignedPublicKey::from(key.clone()).to_bytes().unwrap();
    Keyring::parse([("key", public.as_slice())]).unwrap()
}

fn check(keyring: &Keyring, signature: &[u8]) -> authenticity::Result<Evidence> {
    verify_detached(keyring, signature, DATA, Judged::AtSigning, Timestamp::now())
}

#[test]
fn keys_of_both_versions_sign_themselves_or_through_a_subkey() {
    for version in [KeyVersion::V4, KeyVersion::V6] {
        for subkey in [false, true] {
            let key = generate(version, subkey, true);
            let signature = sign(&key);
            let Evidence::Openpgp { signers, .. } = check(&ring(&key), &signature).unwrap() else { panic!() };
            let digits = if version == KeyVersion::V6 { 64 } else { 40 };
            assert_eq!(signers[0].fingerprint.len(), digits);
            assert_eq!(signers[0].fingerprint != signers[0].primary_fingerprint, subkey);
            // Pinned by the primary key's fingerprint or the subkey's, not by another's.
            for pin in [&signers[0].fingerprint, &signers[0].primary_fingerprint] {
                check(&ring(&key).pinned(std::slice::from_ref(pin)).unwrap(), &signature).unwrap();
            }
            let other = generate(version, subkey, true);
            let both = [ring_bytes(&key), ring_bytes(&other)];
            let both = Keyring::parse(both.iter().map(|bytes| ("keys", bytes.as_slice()))).unwrap();
            let pinned = both.pinned(&[other.primary_key.fingerprint().to_string()]).unwrap();
            let error = check(&pinned, &signature).unwrap_err().to_string();
            assert!(error.contains("not among the pinned ones"), "{error}");
            let error = check(&ring(&other), &signature).unwrap_err().to_string();
            assert!(error.contains("not a key of the keyring"), "{error}");
        }
    }
}

fn ring_bytes(key: &SignedSecretKey) -> Vec<u8> {
    SignedPublicKey::from(key.clone()).to_bytes().unwrap()
}

#[test]
fn a_subkey_that_may_not_sign_proves_nothing() {
    let key = generate(KeyVersion::V4, true, false);
    let error = check(&ring(&key), &sign(&key)).unwrap_err().to_string();
    assert!(error.contains("may not sign"), "{error}");
}

#[test]
fn what_is_no_key_says_so() {
    for bytes in [
        &b""[..],
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n",
        b"<html>",
        &sign(&generate(KeyVersion::V4, false, false)),
    ] {
        assert!(matches!(Keyring::parse([("key.asc", bytes)]), Err(Error::Key { .. })), "{bytes:?}");
    }
    let huge = vec![0; 17 << 20];
    assert!(matches!(Keyring::parse([("key.asc", huge.as_slice())]), Err(Error::TooLarge { .. })));
}
