//! A transparency log with a Merkle tree (RFC 6962) and signed checkpoints.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    elliptic_curve::Generate,
    pkcs8::EncodePublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{now, serve};

/// The log, and one of its trees.
const NAME: &str = "stand-in";
const ORIGIN: &str = "stand-in - 1";

#[derive(Clone)]
pub struct Rekor {
    pub url: String,
    log: Arc<Log>,
}

struct Log {
    key: SigningKey,
    /// How far its clock is off, in seconds.
    offset: i64,
    leaves: Mutex<Vec<[u8; 32]>>,
}

impl Rekor {
    pub async fn start(offset: i64) -> Self {
        // Entries of others, so that proofs have paths.
        let leaves = (0..5_u8).map(|number| leaf(&[number])).collect();
        let log = Arc::new(Log { key: SigningKey::try_generate().unwrap(), offset, leaves: Mutex::new(leaves) });
        let app = Router::new().route("/api/v1/log/entries", post(add)).with_state(Arc::clone(&log));
        Self { url: serve(app).await, log }
    }

    pub fn key(&self) -> &VerifyingKey {
        self.log.key.verifying_key()
    }
}

fn leaf(body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(body).finalize().into()
}

fn node(left: &[u8], right: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The largest power of two below a number of leaves.
fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// RFC 6962, 2.1.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// RFC 6962, 2.1.1.
fn path(leaves: &[[u8; 32]], index: usize) -> Vec<[u8; 32]> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, other) =
        if index < middle { (path(left, index), root(right)) } else { (path(right, index - middle), root(left)) };
    path.push(other);
    path
}

async fn add(State(log): State<Arc<Log>>, Json(request): Json<Value>) -> (StatusCode, Json<Value>) {
    match body(&request) {
        Ok(body) => (StatusCode::CREATED, Json(log.entry(&body))),
        Err(reason) => (StatusCode::BAD_REQUEST, Json(json!({"code": 400, "message": reason}))),
    }
}

/// The canonical body of a proposed `dsse` entry, if its signature is by its verifier.
fn body(request: &Value) -> Result<String, String> {
    if request["kind"] != "dsse" || request["apiVersion"] != "0.0.1" {
        return Err("expected an entry `dsse` 0.0.1".into());
    }
    let proposed = &request["spec"]["proposedContent"];
    let text = proposed["envelope"].as_str().ok_or("no envelope")?;
    let verifier = proposed["verifiers"][0].as_str().ok_or("no verifier")?;
    let envelope: sign::dsse::Envelope = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let pem = String::from_utf8(STANDARD.decode(verifier).map_err(|error| error.to_string())?).unwrap();
    let certificate = sigstore_verify::types::DerCertificate::from_pem(&pem).map_err(|error| error.to_string())?;
    let found = sigstore_verify::crypto::parse_certificate_info(&certificate).map_err(|error| error.to_string())?;
    let key = sign::PublicKey::from_der(found.public_key.as_bytes()).map_err(|error| error.to_string())?;
    envelope.verify(&key, sign::dsse::IN_TOTO_PAYLOAD_TYPE).map_err(|error| error.to_string())?;
    let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes))});
    let signature = STANDARD.encode(&envelope.signatures[0].sig);
    Ok(json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": hash(text.as_bytes()),
            "payloadHash": hash(&envelope.payload),
            "signatures": [{"signature": signature, "verifier": verifier}],
        },
    })
    .to_string())
}

impl Log {
    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(text);
        self.key.verifying_key().verify(text, &signature).unwrap();
        signature.to_der().as_bytes().to_vec()
    }

    fn entry(&self, body: &str) -> Value {
        let mut leaves = self.leaves.lock().unwrap();
        leaves.push(leaf(body.as_bytes()));
        // Others write after it, so that the proof is not that of the last leaf.
        leaves.push(leaf(b"another"));
        let (index, size) = (leaves.len() - 2, leaves.len());
        let id = Sha256::digest(self.key.verifying_key().to_public_key_der().unwrap().as_bytes());
        let root = root(&leaves);
        let note = format!("{ORIGIN}\n{size}\n{}\n", STANDARD.encode(root));
        let signed = [&id[..4], &self.sign(note.as_bytes())].concat();
        let checkpoint = format!("{note}\n\u{2014} {NAME} {}\n", STANDARD.encode(signed));
        let time = now().checked_add_signed(self.offset).unwrap();
        let body = STANDARD.encode(body);
        let promise =
            format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{}","logIndex":{index}}}"#, hex::encode(id));
        let hashes: Vec<_> = path(&leaves, index).iter().map(hex::encode).collect();
        let entry = json!({
            "body": body,
            "integratedTime": time,
            "logID": hex::encode(id),
            "logIndex": index,
            "verification": {
                "inclusionProof": {
                    "checkpoint": checkpoint,
                    "hashes": hashes,
                    "logIndex": index,
                    "rootHash": hex::encode(root),
                    "treeSize": size,
                },
                "signedEntryTimestamp": STANDARD.encode(self.sign(promise.as_bytes())),
            },
        });
        json!({ hex::encode(leaves[index]): entry })
    }
}
