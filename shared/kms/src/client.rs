//! Calls to KMS: JSON over HTTPS, signed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Access, Error, Result};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is made at most: KMS limits requests per second.
const TRIES: u32 = 5;
/// The largest answer accepted, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Calls KMS.
#[derive(Debug, Clone)]
pub struct Client {
    access: Arc<Access>,
    http: reqwest::Client,
    url: Url,
    host: String,
}

impl Client {
    /// Calls KMS with this access.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub fn new(access: Access) -> Result<Self> {
        let text = match &access.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://kms.{}.amazonaws.com", access.region),
        };
        let wrong = |reason: String| Error::Endpoint { url: text.clone(), reason };
        let mut url = Url::parse(&text).map_err(|error| wrong(error.to_string()))?;
        url.set_path("/");
        let name = url.host_str().ok_or_else(|| wrong("it has no host".into()))?.to_owned();
        let loopback = name == "localhost"
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(wrong(format!("scheme `{}`, expected `https`", url.scheme())));
        }
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name,
        };
        // Another part of the program may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("minimill/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { access: Arc::new(access), http, url, host })
    }

    /// Makes a call; repeats it where KMS is busy or can't be reached.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Refused`] or [`Error::Answer`].
    pub async fn call<T: DeserializeOwned>(&self, action: &'static str, request: &Value) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.call_once(action, request).await {
                Err(error) if tries < TRIES && is_passing(&error) => {
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                }
                other => return other,
            }
        }
    }

    async fn call_once<T: DeserializeOwned>(&self, action: &'static str, request: &Value) -> Result<T> {
        let http = |source: reqwest::Error| Error::Http { action, source: source.without_url() };
        let body = request.to_string().into_bytes();
        let headers = self.access.headers(&self.host, &format!("TrentService.{action}"), &body, Timestamp::now());
        let mut call = self.http.post(self.url.clone());
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let mut answer = call.body(body).send().await.map_err(http)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(http)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(Error::Answer { action, reason: format!("longer than {MAX_ANSWER_BYTES} bytes") });
            }
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| Error::Answer { action, reason: error.to_string() });
        }
        Err(Error::Refused { action, status: status.as_u16(), message: message(&bytes) })
    }
}

fn is_passing(error: &Error) -> bool {
    match error {
        Error::Http { source, .. } => !source.is_builder(),
        Error::Refused { status, message, .. } => *status >= 500 || message.starts_with("ThrottlingException"),
        _ => false,
    }
}

/// An error's type, without its name space, and its message.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "__type")]
        kind: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(Body { kind, message }) => format!("{}: {message}", kind.rsplit('#').next().unwrap_or(&kind)),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().filter(|letter| !letter.is_control()).take(500).collect()
}
