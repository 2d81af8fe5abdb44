//! Signing and verifying against stand-ins of Fulcio and Rekor that check the protocol.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod stand_ins;

use base64::{Engine, engine::general_purpose::STANDARD};
use keyless::{Error, Identity, Keyless, Services, Token};
use serde_json::{Value, json};
use sign::{Attestor, Digest, LocalEcdsaKey, Statement, Trust, predicate};
use stand_ins::{Fulcio, Issuer, Rekor, trusted_root};
use tempfile::TempDir;

const EMAIL: &str = "mill@example.org";

struct Fixture {
    folder: TempDir,
    issuer: Issuer,
    fulcio: Fulcio,
    rekor: Rekor,
}

impl Fixture {
    async fn new() -> Self {
        // Installs the provider of cryptography of the HTTP client.
        let services = Services {
            fulcio: "http://localhost".into(),
            rekor: "http://localhost".into(),
            allow_http: false,
            certificates: vec![],
        };
        Keyless::new(&services, Token::Text(String::new())).unwrap();
        let issuer = Issuer::new();
        let fulcio = Fulcio::start(&issuer).await;
        let rekor = Rekor::start(0).await;
        Self { folder: tempfile::tempdir().unwrap(), issuer, fulcio, rekor }
    }

    fn signer(&self, token: Token) -> Keyless {
        let services = Services {
            fulcio: self.fulcio.url.clone(),
            rekor: format!("{}/", self.rekor.url),
            allow_http: false,
            certificates: vec![],
        };
        Keyless::new(&services, token).unwrap()
    }

    async fn attest(&self, subject: Digest) -> Vec<u8> {
        let signer = self.signer(Token::Text(self.issuer.token(EMAIL, 600)));
        signer.attest(&statement(subject)).await.unwrap()
    }

    fn identity(&self, identity: &str, issuer: &str) -> Identity {
        self.trusting(&trusted_root(&self.fulcio, &self.rekor), identity, issuer)
    }

    fn trusting(&self, root: &Value, identity: &str, issuer: &str) -> Identity {
        let path = self.folder.path().join("trusted_root.json");
        std::fs::write(&path, root.to_string()).unwrap();
        Identity::read(&path, identity, issuer).unwrap()
    }
}

fn statement(subject: Digest) -> Statement {
    Statement::new(subject, predicate::SIGNATURE, &json!({})).unwrap()
}

fn refusal(trust: &Identity, bundle: &[u8], subject: Digest) -> String {
    match trust.statement(bundle, subject, predicate::SIGNATURE) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    }
}

#[tokio::test]
async fn an_identity_signs_and_is_trusted() {
    let fixture = Fixture::new().await;
    let subject = Digest::of(b"manifest");
    let bundle = fixture.attest(subject).await;
    let value: Value = serde_json::from_slice(&bundle).unwrap();
    assert_eq!(value["mediaType"], sign::BUNDLE_MEDIA_TYPE);
    assert!(value["verificationMaterial"]["certificate"]["rawBytes"].is_string(), "{value}");
    let entry = &value["verificationMaterial"]["tlogEntries"][0];
    assert_eq!(entry["kindVersion"], json!({"kind": "dsse", "version": "0.0.1"}));
    assert!(entry["inclusionProof"]["checkpoint"]["envelope"].is_string(), "{entry}");
    assert!(entry["inclusionPromise"]["signedEntryTimestamp"].is_string(), "{entry}");

    let trust = fixture.identity(EMAIL, &fixture.issuer.url);
    let found = trust.statement(&bundle, subject, predicate::SIGNATURE).unwrap();
    assert_eq!(found, statement(subject));
    // Each signature has a key and a certificate of its own.
    let again: Value = serde_json::from_slice(&fixture.attest(subject).await).unwrap();
    assert_ne!(again["verificationMaterial"]["certificate"], value["verificationMaterial"]["certificate"]);
}

#[tokio::test]
async fn other_identities_issuers_subjects_and_authorities_are_refused() {
    let fixture = Fixture::new().await;
    let subject = Digest::of(b"manifest");
    let bundle = fixture.attest(subject).await;
    let url = fixture.issuer.url.clone();
    for (identity, issuer) in [("eve@example.org", url.as_str()), (EMAIL, "https://other.example")] {
        let error = refusal(&fixture.identity(identity, issuer), &bundle, subject);
        assert!(error.starts_with("the signer is not trusted: "), "{error}");
    }
    let good = fixture.identity(EMAIL, &url);
    let error = good.statement(&bundle, Digest::of(b"other"), predicate::SIGNATURE).unwrap_err();
    assert!(matches!(error, sign::Error::WrongSubject { .. }), "{error}");
    let error = good.statement(&bundle, subject, predicate::SPDX).unwrap_err();
    assert!(matches!(error, sign::Error::WrongPredicateType { .. }), "{error}");

    let (other_fulcio, other_rekor) = (Fulcio::start(&fixture.issuer).await, Rekor::start(0).await);
    for root in [trusted_root(&other_fulcio, &fixture.rekor), trusted_root(&fixture.fulcio, &other_rekor)] {
        let error = refusal(&fixture.trusting(&root, EMAIL, &url), &bundle, subject);
        assert!(error.starts_with("the signer is not trusted: "), "{error}");
    }
    // A bundle with a plain key proves no identity, and the other way round.
    let key = LocalEcdsaKey::load_or_create(&fixture.folder.path().join("key")).unwrap();
    let plain = key.attest(&statement(subject)).await.unwrap();
    refusal(&good, &plain, subject);
    let error = sign::Signer::public_key(&key).statement(&bundle, subject, predicate::SIGNATURE).unwrap_err();
    assert!(error.to_string().contains("a certificate instead of a key"), "{error}");
}

#[tokio::test]
async fn whatever_is_changed_is_noticed() {
    let fixture = Fixture::new().await;
    let subject = Digest::of(b"manifest");
    let bundle: Value = serde_json::from_slice(&fixture.attest(subject).await).unwrap();
    let other: Value = serde_json::from_slice(&fixture.attest(subject).await).unwrap();
    let trust = fixture.identity(EMAIL, &fixture.issuer.url);
    let entry = "/verificationMaterial/tlogEntries/0";
    let mut cases: Vec<(String, Value)> = Vec::new();
    // What belongs to another signature by the same identity.
    for path in [
        "/verificationMaterial/certificate/rawBytes".to_owned(),
        "/dsseEnvelope/signatures/0/sig".to_owned(),
        entry.to_owned(),
        format!("{entry}/canonicalizedBody"),
        format!("{entry}/inclusionProof"),
        format!("{entry}/inclusionPromise/signedEntryTimestamp"),
        format!("{entry}/logIndex"),
    ] {
        cases.push((path.clone(), other.pointer(&path).unwrap().clone()));
    }
    // A time at which the certificate was not valid, which the log did not sign.
    cases.push((format!("{entry}/integratedTime"), json!("1700000000")));
    let root = STANDARD.encode(Digest::of(b"root").as_bytes());
    cases.push((format!("{entry}/inclusionProof/rootHash"), json!(root)));
    cases.push((format!("{entry}/inclusionProof/hashes/0"), json!(root)));
    cases.push((format!("{entry}/inclusionProof/treeSize"), json!("1000")));
    cases.push(("/verificationMaterial/tlogEntries".into(), json!([])));
    let payload = json!({"_type": sign::STATEMENT_TYPE, "subject": [{"digest": {"sha256": subject.hex()}}],
        "predicateType": predicate::SIGNATURE, "predicate": {"added": true}});
    cases.push(("/dsseEnvelope/payload".into(), json!(STANDARD.encode(payload.to_string()))));
    for (path, value) in cases {
        let mut changed = bundle.clone();
        *changed.pointer_mut(&path).unwrap() = value;
        assert_ne!(changed, bundle, "{path}");
        let result = trust.statement(changed.to_string().as_bytes(), subject, predicate::SIGNATURE);
        assert!(result.is_err(), "{path} was changed and the bundle accepted");
    }
    assert!(trust.statement(bundle.to_string().as_bytes(), subject, predicate::SIGNATURE).is_ok());
}

#[tokio::test]
async fn an_entry_made_after_the_certificate_had_ended_is_refused() {
    let mut fixture = Fixture::new().await;
    // The log's clock is behind: by its time the certificate is not valid yet.
    fixture.rekor = Rekor::start(-3600).await;
    let subject = Digest::of(b"manifest");
    let bundle = fixture.attest(subject).await;
    let error = refusal(&fixture.identity(EMAIL, &fixture.issuer.url), &bundle, subject);
    assert!(error.starts_with("the signer is not trusted: "), "{error}");
}

#[tokio::test]
async fn tokens_come_from_a_file_and_bad_ones_are_named() {
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("token");
    let subject = Digest::of(b"manifest");
    let attest = |token: Token| {
        let signer = fixture.signer(token);
        async move { signer.attest(&statement(subject)).await }
    };
    let error = attest(Token::File(path.clone())).await.unwrap_err().to_string();
    assert!(error.contains("/token`: "), "{error}");
    std::fs::write(&path, format!("{}\n", fixture.issuer.token(EMAIL, 600))).unwrap();
    let bundle = attest(Token::File(path.clone())).await.unwrap();
    assert!(fixture.identity(EMAIL, &fixture.issuer.url).statement(&bundle, subject, predicate::SIGNATURE).is_ok());
    for (token, expected) in [
        (String::new(), "no identity token"),
        (fixture.issuer.token(EMAIL, -600), "it expired at"),
        (Issuer::new().token(EMAIL, 600), "the token is not by the issuer"),
    ] {
        let error = attest(Token::Text(token)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert_eq!(format!("{:?}", Token::Text("secret".into())), "Text");
}

#[test]
fn endpoints_in_the_clear_are_refused_beyond_loopback() {
    let new = |fulcio: &str, rekor: &str, allow_http| {
        let services = Services { fulcio: fulcio.into(), rekor: rekor.into(), allow_http, certificates: vec![] };
        Keyless::new(&services, Token::Text(String::new()))
    };
    let (secure, clear) = ("https://fulcio.example", "http://rekor.example");
    assert!(matches!(new(secure, clear, false), Err(Error::Endpoint { service: "Rekor", .. })));
    assert!(matches!(new(clear, secure, false), Err(Error::Endpoint { service: "Fulcio", .. })));
    assert!(matches!(new("fulcio", secure, false), Err(Error::Endpoint { .. })));
    assert!(new(secure, clear, true).is_ok());
}

#[test]
fn broken_trusted_roots_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.json");
    for text in [None, Some(""), Some("{}"), Some(r#"{"mediaType":"x"}"#)] {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = Identity::read(&path, "a", "b").unwrap_err().to_string();
        assert!(error.contains("root.json"), "{text:?}: {error}");
    }
}
