//! KMS as ministack plays it, on loopback. `not run` where it is not installed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../../../tests/contract/faults.rs"]
mod faults;

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use faults::{FaultProxy, How};
use kms::{Access, Client, Error, KmsKey};
use serde_json::{Value, json};
use sign::{Attestor, Digest, Signer, Statement, Trust, predicate};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(address: &str) -> Client {
    let access = Access {
        region: "eu-central-1".into(),
        access_key_id: "test".into(),
        secret_access_key: "test".into(),
        session_token: None,
        endpoint: Some(address.to_owned()),
    };
    Client::new(access).unwrap()
}

/// The server and its `HOST:PORT`.
async fn ministack() -> Option<(Running, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Command::new("ministack")
        .env("GATEWAY_PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let running = match started {
        Ok(child) => Running(child),
        Err(error) => {
            println!("not run: ministack: {error}");
            return None;
        }
    };
    for _ in 0..600 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Some((running, format!("127.0.0.1:{port}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("ministack does not listen on port {port}");
}

async fn create(client: &Client, spec: &str, usage: &str) -> String {
    let created: Value = client.call("CreateKey", &json!({"KeySpec": spec, "KeyUsage": usage})).await.unwrap();
    created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_kms_holds_sign_images_and_packages() {
    let Some((_running, address)) = ministack().await else { return };
    let client = client(&format!("http://{address}"));
    let id = create(&client, "ECC_NIST_P256", "SIGN_VERIFY").await;
    let image = KmsKey::open(client.clone(), &id, "minimill").await.unwrap();
    assert!(!image.public_key().is_rsa());
    let subject = Digest::of(b"manifest");
    let statement = Statement::new(subject, predicate::SIGNATURE, &json!({})).unwrap();
    let bundle = image.attest(&statement).await.unwrap();
    assert_eq!(image.public_key().statement(&bundle, subject, predicate::SIGNATURE).unwrap(), statement);

    let id = create(&client, "RSA_4096", "SIGN_VERIFY").await;
    let package = KmsKey::open(client.clone(), &id, "minimill.rsa.pub").await.unwrap();
    assert!(package.public_key().is_rsa());
    assert_eq!(package.key_name(), "minimill.rsa.pub");
    let digest = Digest::of(b"control member");
    let signature = package.sign_digest(*digest.as_bytes()).await.unwrap();
    assert_eq!(signature.len(), 512);
    assert!(package.public_key().verifies(digest.as_bytes(), &signature));
    assert!(!image.public_key().verifies(digest.as_bytes(), &signature));

    let id = create(&client, "RSA_4096", "ENCRYPT_DECRYPT").await;
    let error = KmsKey::open(client.clone(), &id, "x").await.unwrap_err();
    assert!(matches!(&error, Error::Usage { .. } | Error::Refused { .. }), "{error}");
    let error = KmsKey::open(client, "alias/absent", "x").await.unwrap_err();
    assert!(matches!(&error, Error::Refused { message, .. } if message.starts_with("NotFoundException")), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_there_or_in_the_clear_is_named() {
    let access = |endpoint: &str| Access {
        region: "eu-central-1".into(),
        access_key_id: "test".into(),
        secret_access_key: "test".into(),
        session_token: None,
        endpoint: Some(endpoint.into()),
    };
    let error = KmsKey::open(Client::new(access("http://127.0.0.1:1")).unwrap(), "k", "x").await.unwrap_err();
    assert!(matches!(error, Error::Http { action: "GetPublicKey", .. }), "{error}");
    for bad in ["http://kms.example", "kms.example", "file:///x"] {
        assert!(matches!(Client::new(access(bad)), Err(Error::Endpoint { .. })), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_kms_is_asked_again_within_bounds_and_a_refusal_is_final() {
    let Some((_running, address)) = ministack().await else { return };
    let proxy = FaultProxy::before(&address).await;
    let client = client(&proxy.url);
    let id = create(&client, "ECC_NIST_P256", "SIGN_VERIFY").await;
    let key = KmsKey::open(client, &id, "minimill").await.unwrap();
    let digest = [7; 32];
    proxy.came("");
    for how in [
        How::json(400, "ThrottlingException"),
        How::json(500, "KMSInternalException"),
        How::Answer(503, String::new()),
        How::Lost,
        How::Done,
        How::Cut,
    ] {
        proxy.spoil(".Sign", 2, how.clone());
        let signature = key.sign_digest(digest).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
        assert!(key.public_key().verifies(&digest, &signature), "{how:?}");
        assert_eq!(proxy.came(".Sign"), 3, "{how:?}");
    }
    let started = Instant::now();
    proxy.spoil(".Sign", u32::MAX, How::json(400, "ThrottlingException"));
    let error = key.sign_digest(digest).await.unwrap_err().to_string();
    assert_eq!(proxy.came(".Sign"), 5);
    assert!(error.contains("`Sign` answered 400: ThrottlingException: injected"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    for kind in ["ExpiredTokenException", "AccessDeniedException", "DisabledException"] {
        proxy.spoil(".Sign", u32::MAX, How::json(400, kind));
        let error = key.sign_digest(digest).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`Sign` answered 400: {kind}")), "{error}");
        assert_eq!(proxy.came(".Sign"), 1, "{kind}: asking again would not help");
    }
    // What is no signature of the key is not passed on.
    let forged = json!({"KeyId": id, "Signature": "AAAA", "SigningAlgorithm": "ECDSA_SHA_256"}).to_string();
    proxy.spoil(".Sign", 1, How::Answer(200, forged));
    let error = key.sign_digest(digest).await.unwrap_err().to_string();
    assert!(error.contains("the signature does not match the public key"), "{error}");
}
