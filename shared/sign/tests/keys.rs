//! Keys in files: made once whoever races, refused when open to others, usable by openssl.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Arc, Barrier},
};

use sign::{Digest, Error, LocalEcdsaKey, LocalRsaKey, PublicKey, Signer};

fn openssl(arguments: &[&str], folder: &Path) -> Option<(bool, String)> {
    let output = match Command::new("openssl").args(arguments).current_dir(folder).output() {
        Ok(output) => output,
        Err(error) => {
            println!("not run: openssl: {error}");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn ecdsa_key_is_made_once_and_openssl_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys/image.key");
    let first = LocalEcdsaKey::load_or_create(&path).unwrap();
    let second = LocalEcdsaKey::load_or_create(&path).unwrap();
    assert_eq!(first.key_id(), second.key_id());
    assert_eq!(first.key_name(), "image.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let public = fs::read_to_string(folder.path().join("keys/image.key.pub")).unwrap();
    assert_eq!(public, first.public_key_pem());
    assert_eq!(PublicKey::from_pem(&public).unwrap(), *first.public_key());

    let digest = Digest::of(b"payload");
    let signature = first.sign_sha256(digest.as_bytes()).unwrap();
    assert_eq!(signature, second.sign_sha256(digest.as_bytes()).unwrap(), "RFC 6979");
    fs::write(folder.path().join("payload"), b"payload").unwrap();
    fs::write(folder.path().join("signature"), &signature).unwrap();
    let verify = ["dgst", "-sha256", "-verify", "keys/image.key.pub", "-signature", "signature"];
    let Some((good, text)) = openssl(&[&verify[..], &["payload"]].concat(), folder.path()) else {
        return;
    };
    assert!(good, "{text}");
    let (good, text) = openssl(&["pkey", "-in", "keys/image.key", "-pubout"], folder.path()).unwrap();
    assert!(good, "{text}");
    assert_eq!(text, public);
}

#[test]
fn rsa_key_is_named_as_apk_looks_it_up_and_openssl_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("minimill.rsa");
    let key = LocalRsaKey::load_or_create(&path, 2048).unwrap();
    assert_eq!(key.key_name(), "minimill.rsa.pub");
    assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let public = fs::read_to_string(folder.path().join("minimill.rsa.pub")).unwrap();
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"));
    let digest = Digest::of(b"payload");
    let signature = key.sign_sha256(digest.as_bytes()).unwrap();
    assert_eq!(signature.len(), 256);
    assert!(key.public_key().verifies(digest.as_bytes(), &signature));
    assert!(!key.public_key().verifies(Digest::of(b"other").as_bytes(), &signature));
    fs::write(folder.path().join("payload"), b"payload").unwrap();
    fs::write(folder.path().join("signature"), &signature).unwrap();
    let verify = ["dgst", "-sha256", "-verify", "minimill.rsa.pub", "-signature", "signature"];
    if let Some((good, text)) = openssl(&[&verify[..], &["payload"]].concat(), folder.path()) {
        assert!(good, "{text}");
        let (good, text) = openssl(&["rsa", "-in", "minimill.rsa", "-check"], folder.path()).unwrap();
        assert!(good, "{text}");
    }
    assert!(matches!(LocalRsaKey::load_or_create(&folder.path().join("small.rsa"), 1024), Err(Error::Generate { .. })));
}

#[test]
fn racing_creators_end_with_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = Arc::new(folder.path().join("image.key"));
    let barrier = Arc::new(Barrier::new(16));
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let (path, barrier) = (Arc::clone(&path), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                LocalEcdsaKey::load_or_create(&path).unwrap().key_id().to_owned()
            })
        })
        .collect();
    let ids: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn bad_key_files_are_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.key");
    let missing = LocalEcdsaKey::load(&path).err().unwrap();
    assert!(missing.to_string().contains("image.key`: cannot open: "), "{missing}");

    LocalEcdsaKey::load_or_create(&path).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = LocalEcdsaKey::load_or_create(&path).err().unwrap();
        assert!(matches!(error, Error::KeyFileMode { mode: found, .. } if found == mode), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    let error = LocalEcdsaKey::load_or_create(&path).err().unwrap();
    assert!(matches!(error, Error::KeyFileContent { .. }), "{error}");
    fs::write(&path, vec![b'a'; 70_000]).unwrap();
    let error = LocalEcdsaKey::load(&path).err().unwrap();
    assert!(error.to_string().contains("70000 bytes"), "{error}");
    assert!(LocalEcdsaKey::load(folder.path()).err().unwrap().to_string().contains("regular"));
}

#[test]
fn a_public_key_of_another_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.key");
    LocalEcdsaKey::load_or_create(&path).unwrap();
    let other = LocalEcdsaKey::load_or_create(&folder.path().join("other.key")).unwrap();
    fs::write(folder.path().join("image.key.pub"), other.public_key_pem()).unwrap();
    let error = LocalEcdsaKey::load_or_create(&path).err().unwrap();
    assert!(matches!(error, Error::PublicKeyMismatch { .. }), "{error}");
}

#[test]
fn weak_or_broken_public_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(PublicKey::from_pem("nonsense"), Err(Error::PublicKey { .. })));
    assert!(matches!(PublicKey::from_pem(&"x".repeat(20_000)), Err(Error::PublicKey { .. })));
    let generate = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    let Some(_) = openssl(&[&generate[..], &["-out", "weak.pem"]].concat(), folder.path()) else {
        return;
    };
    openssl(&["pkey", "-in", "weak.pem", "-pubout", "-out", "weak.pub"], folder.path()).unwrap();
    let weak = fs::read_to_string(folder.path().join("weak.pub")).unwrap();
    let error = PublicKey::from_pem(&weak).unwrap_err();
    assert!(error.to_string().contains("1024 bits"), "{error}");
}
