//! Bundles: made as cosign makes them, checked by openssl, refused when anything is changed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::{collections::BTreeMap, fs, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use serde_json::{Map, Value, json};
use sign::{
    BUNDLE_MEDIA_TYPE, Bundle, Digest, Error, LocalEcdsaKey, MAX_BUNDLE_BYTES, ResourceDescriptor, Signer, Statement,
    Trust, TrustedKeys, dsse, predicate, simple_signing, verify_bundle,
};
use tempfile::TempDir;

fn key(folder: &TempDir, name: &str) -> LocalEcdsaKey {
    LocalEcdsaKey::load_or_create(&folder.path().join(name)).unwrap()
}

async fn signature_bundle(key: &LocalEcdsaKey, image: Digest) -> Bundle {
    let statement = Statement::new(image, predicate::SIGNATURE, &json!({})).unwrap();
    Bundle::sign(key, &statement).await.unwrap()
}

#[tokio::test]
async fn dsse_vector_of_the_protocol() {
    // protocol.md, "Test Vectors": the private scalar, and the signature as r and s.
    let secret = decimal_to_bytes("97358161215184420915383655311931858321456579547487070936769975997791359926199");
    let secret = p256::SecretKey::from_slice(&secret).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.key");
    fs::write(&path, secret.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let key = LocalEcdsaKey::load(&path).unwrap();
    let envelope = dsse::Envelope::sign(&key, "http://example.com/HelloWorld", b"hello world".to_vec()).await.unwrap();
    let signature = p256::ecdsa::Signature::from_der(&envelope.signatures[0].sig).unwrap();
    assert_eq!(
        STANDARD.encode(signature.to_bytes()),
        "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    );
    let json = serde_json::to_value(&envelope).unwrap();
    assert_eq!(json["payload"], "aGVsbG8gd29ybGQ=");
    assert_eq!(json["payloadType"], "http://example.com/HelloWorld");
    assert!(json["signatures"][0].get("keyid").is_none());
}

/// Big-endian bytes of a decimal number below 2^256.
fn decimal_to_bytes(decimal: &str) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    for digit in decimal.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
    }
    bytes
}

#[tokio::test]
async fn bundle_has_the_form_of_cosign() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder, "a.key");
    let image = Digest::of(b"manifest");
    let bytes = signature_bundle(&key, image).await.to_bytes().unwrap();
    let bundle: Value = serde_json::from_slice(&bytes).unwrap();
    let keys: Vec<_> = bundle.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["mediaType", "verificationMaterial", "dsseEnvelope"]);
    assert_eq!(bundle["mediaType"], BUNDLE_MEDIA_TYPE);
    assert_eq!(bundle["verificationMaterial"], json!({"publicKey": {"hint": key.key_id()}}));
    assert_eq!(bundle["dsseEnvelope"]["payloadType"], "application/vnd.in-toto+json");
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(payload).unwrap(),
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
            image.hex()
        )
    );
    let again = signature_bundle(&key, image).await.to_bytes().unwrap();
    assert_eq!(bytes, again, "same statement, same bytes");
    assert!(verify_bundle(&bytes, key.public_key(), image, predicate::SIGNATURE).is_ok());
}

#[tokio::test]
async fn openssl_verifies_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder, "a.key");
    let bundle = signature_bundle(&key, Digest::of(b"manifest")).await;
    let envelope = &bundle.dsse_envelope;
    fs::write(folder.path().join("pae"), dsse::pae(&envelope.payload_type, &envelope.payload)).unwrap();
    fs::write(folder.path().join("sig"), &envelope.signatures[0].sig).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-verify", "a.key.pub", "-signature", "sig", "pae"])
        .current_dir(folder.path())
        .output();
    match output {
        Ok(output) => {
            assert!(output.status.success());
            assert_eq!(String::from_utf8_lossy(&output.stdout), "Verified OK\n");
        }
        Err(error) => println!("not run: openssl: {error}"),
    }
    // The hint, computed by openssl alone.
    let hint = Command::new("sh")
        .args(["-c", "openssl pkey -pubin -in a.key.pub -outform DER | openssl dgst -sha256 -binary | openssl base64"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    if hint.status.success() && !hint.stdout.is_empty() {
        assert_eq!(String::from_utf8_lossy(&hint.stdout).trim(), key.key_id());
    }
}

#[tokio::test]
async fn each_wrong_thing_has_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (key(&folder, "a.key"), key(&folder, "b.key"));
    let (image, other) = (Digest::of(b"manifest"), Digest::of(b"other"));
    let bytes = signature_bundle(&right, image).await.to_bytes().unwrap();

    let error = verify_bundle(&bytes, wrong.public_key(), image, predicate::SIGNATURE).unwrap_err();
    assert!(
        matches!(&error, Error::WrongKey { expected, found }
            if expected == wrong.key_id() && found == right.key_id()),
        "{error}"
    );
    let error = verify_bundle(&bytes, right.public_key(), other, predicate::SIGNATURE).unwrap_err();
    assert!(
        matches!(&error, Error::WrongSubject { expected, found }
            if *expected == other && *found == image.to_string()),
        "{error}"
    );
    let error = verify_bundle(&bytes, right.public_key(), image, predicate::SPDX).unwrap_err();
    assert!(matches!(&error, Error::WrongPredicateType { found, .. } if found == predicate::SIGNATURE), "{error}");
    let large = vec![b' '; MAX_BUNDLE_BYTES + 1];
    let error = verify_bundle(&large, right.public_key(), image, predicate::SPDX).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    for malformed in [
        "",
        "{}",
        "[]",
        r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#,
        r#"{"mediaType":"x","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{"payload":"","payloadType":"","signatures":[]}}"#,
        r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}}"#,
        r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{"payload":"%%","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":""}]}}"#,
    ] {
        let error = verify_bundle(malformed.as_bytes(), right.public_key(), image, predicate::SPDX).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{malformed}: {error}");
    }
}

#[tokio::test]
async fn every_changed_byte_of_what_is_signed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder, "a.key");
    let image = Digest::of(b"manifest");
    let bundle = signature_bundle(&key, image).await;
    let check = |bundle: &Bundle| {
        let bytes = bundle.to_bytes().unwrap();
        verify_bundle(&bytes, key.public_key(), image, predicate::SIGNATURE)
    };
    for position in 0..bundle.dsse_envelope.payload.len() {
        let mut changed = bundle.clone();
        changed.dsse_envelope.payload[position] ^= 1;
        assert!(matches!(check(&changed), Err(Error::BadSignature { .. })), "payload {position}");
    }
    for position in 0..bundle.dsse_envelope.signatures[0].sig.len() {
        let mut changed = bundle.clone();
        changed.dsse_envelope.signatures[0].sig[position] ^= 1;
        assert!(matches!(check(&changed), Err(Error::BadSignature { .. })), "sig {position}");
    }
    let mut changed = bundle.clone();
    changed.dsse_envelope.payload_type = "application/json".into();
    assert!(matches!(check(&changed), Err(Error::Malformed { .. })));
    let mut changed = bundle.clone();
    changed.media_type.push('x');
    assert!(matches!(check(&changed), Err(Error::Malformed { .. })));
    // Not signed, so no matter for the verdict.
    let mut changed = bundle.clone();
    changed.verification_material.public_key.as_mut().unwrap().hint = "another".into();
    assert!(check(&changed).is_ok());
    // As JSON text: no flipped bit of the file may give another statement.
    let bytes = bundle.to_bytes().unwrap();
    let good = verify_bundle(&bytes, key.public_key(), image, predicate::SIGNATURE).unwrap();
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 4;
        if let Ok(found) = verify_bundle(&changed, key.public_key(), image, predicate::SIGNATURE) {
            assert_eq!(found, good, "byte {position}");
        }
    }
}

#[tokio::test]
async fn typed_predicates_have_the_fields_of_their_specifications() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder, "a.key");
    let image = Digest::of(b"manifest");
    let source = Digest::of(b"source");
    let provenance = predicate::Provenance {
        build_definition: predicate::BuildDefinition {
            build_type: "https://minimill.dev/image/v1".into(),
            external_parameters: Map::from_iter([("image".into(), "redis".into())]),
            internal_parameters: Map::new(),
            resolved_dependencies: vec![ResourceDescriptor::of(source).with_uri("pkg:apk/minimill/musl@1.2.5-r0")],
        },
        run_details: predicate::RunDetails {
            builder: predicate::Builder {
                id: "https://minimill.dev/mill".into(),
                version: BTreeMap::from([("mill".into(), "0.1.0".into())]),
                ..predicate::Builder::default()
            },
            metadata: Some(predicate::BuildMetadata {
                invocation_id: Some("7".into()),
                ..predicate::BuildMetadata::default()
            }),
            byproducts: vec![],
        },
    };
    let expected = json!({
        "buildDefinition": {
            "buildType": "https://minimill.dev/image/v1",
            "externalParameters": {"image": "redis"},
            "resolvedDependencies": [
                {"uri": "pkg:apk/minimill/musl@1.2.5-r0", "digest": {"sha256": source.hex()}}
            ]
        },
        "runDetails": {
            "builder": {"id": "https://minimill.dev/mill", "version": {"mill": "0.1.0"}},
            "metadata": {"invocationId": "7"}
        }
    });
    let statement = Statement::new(image, predicate::PROVENANCE, &provenance).unwrap();
    let bytes = Bundle::sign(&key, &statement).await.unwrap().to_bytes().unwrap();
    let found = verify_bundle(&bytes, key.public_key(), image, predicate::PROVENANCE).unwrap();
    assert_eq!(found.predicate, expected);
    assert_eq!(serde_json::from_value::<predicate::Provenance>(found.predicate).unwrap(), provenance);

    let result = predicate::TestResult {
        result: predicate::TestOutcome::Passed,
        configuration: vec![ResourceDescriptor::of(source).named("structure.yaml")],
        url: None,
        passed_tests: vec!["starts".into()],
        warned_tests: vec![],
        failed_tests: vec![],
    };
    assert_eq!(
        serde_json::to_value(&result).unwrap(),
        json!({
            "result": "PASSED",
            "configuration": [{"name": "structure.yaml", "digest": {"sha256": source.hex()}}],
            "passedTests": ["starts"],
            "warnedTests": [],
            "failedTests": []
        })
    );
    assert!(Statement::new(image, predicate::SPDX, &"text").is_err());
}

#[tokio::test]
async fn simple_signing_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (key(&folder, "a.key"), key(&folder, "b.key"));
    let image = Digest::of(b"manifest");
    let good = simple_signing::sign(&right, "localhost:5000/redis", image).await.unwrap();
    assert_eq!(
        String::from_utf8(good.payload.clone()).unwrap(),
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"localhost:5000/redis"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"cosign container image signature"}},"optional":null}}"#
        )
    );
    let verify = simple_signing::verify;
    assert_eq!(verify(&good, right.public_key(), image).unwrap(), "localhost:5000/redis");
    assert!(matches!(verify(&good, wrong.public_key(), image), Err(Error::BadSignature { .. })));
    assert!(matches!(verify(&good, right.public_key(), Digest::of(b"other")), Err(Error::WrongSubject { .. })));
    let mut changed = good.clone();
    changed.payload[20] ^= 1;
    assert!(matches!(verify(&changed, right.public_key(), image), Err(Error::BadSignature { .. })));
    assert_eq!(simple_signing::tag(image), format!("sha256-{}.sig", image.hex()));
}

#[tokio::test]
async fn any_of_several_trusted_keys_may_have_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, other) = (key(&folder, "a.key"), key(&folder, "b.key"), key(&folder, "c.key"));
    let image = Digest::of(b"manifest");
    let trusted = TrustedKeys(vec![old.public_key().clone(), new.public_key().clone()]);
    let check = |bundle: &[u8]| trusted.statement(bundle, image, predicate::SIGNATURE);
    for signer in [&old, &new] {
        assert!(check(&signature_bundle(signer, image).await.to_bytes().unwrap()).is_ok());
    }
    let error = check(&signature_bundle(&other, image).await.to_bytes().unwrap()).unwrap_err();
    assert!(matches!(&error, Error::NoTrustedKey { reasons } if reasons.len() == 2), "{error}");
    // Where the bundle names one of them, its fault is what counts.
    let mut changed = signature_bundle(&new, image).await;
    changed.dsse_envelope.payload.push(b' ');
    let error = check(&changed.to_bytes().unwrap()).unwrap_err();
    assert!(matches!(&error, Error::BadSignature { key } if key == new.key_id()), "{error}");
    let error = trusted.statement(&signature_bundle(&new, image).await.to_bytes().unwrap(), image, predicate::SPDX);
    assert!(matches!(error, Err(Error::WrongPredicateType { .. })));
    let single = TrustedKeys(vec![old.public_key().clone()]);
    let bytes = signature_bundle(&new, image).await.to_bytes().unwrap();
    assert!(matches!(single.statement(&bytes, image, predicate::SIGNATURE), Err(Error::WrongKey { .. })));
}
