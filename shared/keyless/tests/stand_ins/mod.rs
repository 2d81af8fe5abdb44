//! An OIDC issuer, a certificate authority and a transparency log on loopback. They check what
//! they are sent as the real ones do.
#![allow(dead_code)]

mod rekor;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    elliptic_curve::Generate,
    pkcs8::{DecodePublicKey, EncodePublicKey},
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
pub use rekor::Rekor;
use serde_json::{Value, json};

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

/// Who vouches for identities.
#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    key: SigningKey,
}

impl Issuer {
    pub fn new() -> Self {
        Self { url: "https://issuer.example".into(), key: SigningKey::try_generate().unwrap() }
    }

    /// A token for an e-mail address that ends in so many seconds.
    pub fn token(&self, email: &str, seconds: i64) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let expires = now().checked_add_signed(seconds).unwrap();
        let claims = json!({"iss": self.url, "sub": "mill", "aud": "sigstore", "email": email,
            "email_verified": true, "exp": expires, "iat": now()});
        let text = format!("{}.{}", encode(json!({"alg": "ES256", "typ": "JWT"})), encode(claims));
        let signature: Signature = self.key.sign(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// The claims of a token, if this issuer made it and it has not ended.
    fn claims(&self, token: &str) -> Result<Value, &'static str> {
        let (text, signature) = token.rsplit_once('.').ok_or("the token has no signature")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the signature is not base64")?;
        let signature = Signature::from_slice(&signature).map_err(|_| "the signature is none")?;
        let known = self.key.verifying_key().verify(text.as_bytes(), &signature);
        known.map_err(|_| "the token is not by the issuer")?;
        let claims = URL_SAFE_NO_PAD.decode(text.split_once('.').unwrap().1).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        if claims["exp"].as_u64().unwrap() < now() || claims["aud"] != "sigstore" {
            return Err("the token has ended or is for others");
        }
        Ok(claims)
    }
}

/// A certificate authority: a root and an intermediate that issues.
#[derive(Clone)]
pub struct Fulcio {
    pub url: String,
    state: Arc<Authority>,
}

struct Authority {
    issuer: Issuer,
    root: Vec<u8>,
    intermediate: Vec<u8>,
    intermediate_pem: String,
    signer: rcgen::Issuer<'static, KeyPair>,
}

/// A public key that somebody else holds the private half of.
struct Given(Vec<u8>);

impl PublicKeyData for Given {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Fulcio {
    pub async fn start(issuer: &Issuer) -> Self {
        let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let root_params = authority("stand-in root");
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = rcgen::Issuer::new(root_params, root_key);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = authority("stand-in intermediate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let intermediate = params.signed_by(&key, &root_issuer).unwrap();
        let state = Arc::new(Authority {
            issuer: issuer.clone(),
            root: root.der().to_vec(),
            intermediate: intermediate.der().to_vec(),
            intermediate_pem: intermediate.pem(),
            signer: rcgen::Issuer::new(params, key),
        });
        let app = Router::new().route("/api/v2/signingCert", post(certify)).with_state(Arc::clone(&state));
        Self { url: serve(app).await, state }
    }
}

async fn certify(State(authority): State<Arc<Authority>>, Json(request): Json<Value>) -> impl IntoResponse {
    match certificate(&authority, &request) {
        Ok(pem) => {
            let chain = json!([pem, authority.intermediate_pem]);
            (StatusCode::CREATED, Json(json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})))
        }
        Err(reason) => (StatusCode::BAD_REQUEST, Json(json!({"code": 3, "message": reason}))),
    }
}

fn certificate(authority: &Authority, request: &Value) -> Result<String, String> {
    let text = |path: &str| request.pointer(path).and_then(Value::as_str).ok_or_else(|| format!("no `{path}`"));
    let claims = authority.issuer.claims(text("/credentials/oidcIdentityToken")?)?;
    let email = claims["email"].as_str().unwrap();
    let key = VerifyingKey::from_public_key_pem(text("/publicKeyRequest/publicKey/content")?)
        .map_err(|error| error.to_string())?;
    let proof = STANDARD.decode(text("/publicKeyRequest/proofOfPossession")?).map_err(|error| error.to_string())?;
    let proof = Signature::from_der(&proof).map_err(|error| error.to_string())?;
    key.verify(email.as_bytes(), &proof).map_err(|_| "the proof of possession is not by the key".to_owned())?;

    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let start = SystemTime::now() - Duration::from_secs(5);
    params.not_before = start.into();
    params.not_after = (start + Duration::from_secs(600)).into();
    params.subject_alt_names = vec![SanType::Rfc822Name(email.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.use_authority_key_identifier_extension = true;
    // The issuer, as a plain string and, in the later form, as a DER string.
    let url = authority.issuer.url.as_bytes();
    let der = [&[0x0c, u8::try_from(url.len()).unwrap()], url].concat();
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 1], url.to_vec()),
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], der),
    ];
    let point = key.to_sec1_point(false).as_bytes().to_vec();
    Ok(params.signed_by(&Given(point), &authority.signer).map_err(|error| error.to_string())?.pem())
}

/// The sigstore trusted root of these two.
pub fn trusted_root(fulcio: &Fulcio, rekor: &Rekor) -> Value {
    let der = rekor.key().to_public_key_der().unwrap();
    let start = json!({"start": "2020-01-01T00:00:00Z"});
    let certificate = |der: &[u8]| json!({"rawBytes": STANDARD.encode(der)});
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [{
            "baseUrl": rekor.url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(der.as_bytes()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": start,
            },
            "logId": {"keyId": STANDARD.encode(sign::Digest::of(der.as_bytes()).as_bytes())},
        }],
        "certificateAuthorities": [{
            "subject": {"organization": "stand-in", "commonName": "stand-in"},
            "uri": fulcio.url,
            "certChain": {"certificates": [certificate(&fulcio.state.intermediate), certificate(&fulcio.state.root)]},
            "validFor": start,
        }],
        "ctlogs": [],
        "timestampAuthorities": [],
    })
}
