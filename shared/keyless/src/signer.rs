//! Signing as an identity.

use std::{fmt, fs, io::Read, net::IpAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use reqwest::Url;
use sign::{Attestor, Signer, Statement, chain};
use sigstore_sign::{SigningContext, SigningServices, oidc::IdentityToken};

use crate::{Error, Result, crypto};

/// The longest token accepted, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// How long a service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where certificates and log entries come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// The certificate authority, Fulcio: `https://HOST`.
    pub fulcio: String,
    /// The transparency log, Rekor (API version 1): `https://HOST`.
    pub rekor: String,
    /// Whether plain http is accepted beyond loopback.
    pub allow_http: bool,
    /// Certificates (PEM, any number) of authorities trusted for TLS beside the system's.
    pub certificates: Vec<u8>,
}

/// Where the OIDC token comes from that proves the identity. It is read anew for each signature,
/// since tokens live for minutes.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// A file that something else keeps fresh.
    File(PathBuf),
    /// The token itself.
    Text(String),
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => formatter.debug_tuple("File").field(path).finish(),
            Self::Text(_) => formatter.write_str("Text"),
        }
    }
}

impl Token {
    fn read(&self) -> Result<IdentityToken> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => {
                let wrong = |reason: String| Error::Token { reason: format!("`{}`: {reason}", path.display()) };
                let mut text = String::new();
                let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
                file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
                text
            }
        };
        let token = IdentityToken::from_jwt(text.trim()).map_err(|error| Error::Token { reason: error.to_string() })?;
        if token.is_expired() {
            return Err(Error::Token { reason: format!("it expired at {}", token.expiration()) });
        }
        Ok(token)
    }
}

/// Signs with a new key for each statement, certified for the identity in a token and written into
/// a transparency log.
#[derive(Debug)]
pub struct Keyless {
    context: SigningContext,
    token: Token,
}

impl Keyless {
    /// A signer at these services.
    ///
    /// # Errors
    /// [`Error::Endpoint`] or [`Error::Client`].
    pub fn new(services: &Services, token: Token) -> Result<Self> {
        crypto::install();
        for (service, url) in [("Fulcio", &services.fulcio), ("Rekor", &services.rekor)] {
            check(service, url, services.allow_http)?;
        }
        // Another part of the program may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("minimill/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            // A token must not follow a redirect to another place.
            .redirect(reqwest::redirect::Policy::none());
        for certificate in reqwest::Certificate::from_pem_bundle(&services.certificates).map_err(Error::Client)? {
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder.build().map_err(Error::Client)?;
        let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
        let services = SigningServices::new(trimmed(&services.fulcio), trimmed(&services.rekor));
        Ok(Self { context: SigningContext::new(services).with_http_client(client), token })
    }
}

fn check(service: &'static str, url: &str, allow_http: bool) -> Result<()> {
    let wrong = |reason: String| Error::Endpoint { service, url: url.to_owned(), reason };
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    let host = parsed.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if allow_http || loopback => Ok(()),
        other => Err(wrong(format!("scheme `{other}`, expected `https`"))),
    }
}

#[async_trait]
impl Attestor for Keyless {
    async fn attest(&self, statement: &Statement) -> sign::Result<Vec<u8>> {
        let failed = |reason: String| sign::Error::Sign { key: "keyless".into(), reason };
        let token = self.token.read().map_err(|error| failed(error.to_string()))?;
        let signer = self.context.signer(token);
        let bundle = signer.sign_raw_statement(&statement.to_bytes()?).await.map_err(|error| failed(chain(&error)))?;
        let text = bundle.to_json().map_err(|error| failed(error.to_string()))?;
        let bytes = text.into_bytes();
        // What no verifier of ours would read is not to be published.
        sign::Bundle::parse(&bytes)?;
        Ok(bytes)
    }

    fn signer(&self) -> Option<&dyn Signer> {
        None
    }
}
