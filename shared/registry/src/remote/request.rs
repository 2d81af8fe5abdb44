//! Requests: authorised, repeated when that may help, answers bounded.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::Deserialize;

use super::Remote;
use crate::{ByteStream, Error, Result};

/// How much of an error's text is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How much of an error's text is shown, in characters.
const MAX_MESSAGE: usize = 500;

/// When failed requests are repeated: on connection failures, 429, and 5xx.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How many times at most a request is sent.
    pub tries: u32,
    /// How long to wait before the second try; doubles each time. A `Retry-After` in seconds is
    /// heeded instead where it is longer.
    pub wait: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 5, wait: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}

impl Retry {
    pub(super) fn pause(&self, attempt: u32, after: Option<Duration>) -> Duration {
        let doubled = self.wait.saturating_mul(1 << attempt.min(16));
        doubled.max(after.unwrap_or_default()).min(self.longest)
    }
}

/// # Errors
/// [`Error::Insecure`] for plain http beyond loopback, [`Error::Endpoint`] for other schemes.
pub(super) fn check_scheme(url: &Url, allow_http: bool) -> Result<()> {
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_http || loopback => Ok(()),
        "http" => Err(Error::Insecure { url: url.to_string() }),
        other => Err(Error::Endpoint { url: url.to_string(), reason: format!("scheme `{other}`, expected `https`") }),
    }
}

/// An answer with what to call its request in errors.
pub(super) struct Answer {
    method: Method,
    url: String,
    response: Response,
}

impl Remote {
    /// Sends a request, repeating it where that may help. `build` adds headers and body, and is
    /// called once per try.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        scope: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer> {
        let mut attempt = 0;
        loop {
            let answer = self.send_once(&method, &url, scope, &build).await;
            attempt += 1;
            let after = match &answer {
                Ok(answer) if !is_passing(answer.status()) => None,
                Ok(answer) => Some(answer.retry_after()),
                Err(Error::Http { source, .. })
                    if source.is_connect() || source.is_timeout() || source.is_request() =>
                {
                    Some(None)
                }
                Err(_) => None,
            };
            match after {
                Some(after) if attempt < self.options.retry.tries => {
                    let pause = self.options.retry.pause(attempt - 1, after);
                    tracing::debug!(%method, url = %shown(&url), attempt, ?pause, "request failed, trying again");
                    tokio::time::sleep(pause).await;
                }
                _ => return answer,
            }
        }
    }

    /// Sends a request once; a second time where the registry asks for a token first.
    pub(super) async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        scope: &str,
        build: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer> {
        let send = |authorization: Option<String>| {
            let mut request = self.client.request(method.clone(), url.clone());
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            self.sent(build(request), method, url)
        };
        // Uploads may be sent elsewhere, and that place gets no credentials.
        if url.origin() != self.base.origin() {
            return send(None).await;
        }
        let answer = send(self.tokens.get(scope)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.authorize(&answer, scope).await? {
            Some(authorization) => send(Some(authorization)).await,
            None => Ok(answer),
        }
    }

    pub(super) async fn sent(&self, request: RequestBuilder, method: &Method, url: &Url) -> Result<Answer> {
        let (method, url) = (method.clone(), shown(url));
        match request.send().await {
            Ok(response) => Ok(Answer { method, url, response }),
            Err(source) => Err(Error::Http { method: method.to_string(), url, source: source.without_url() }),
        }
    }
}

/// Whether a later try may go better.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// An address without its query, which may hold secrets.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.parse().ok().map(Duration::from_secs)
    }

    /// The `Content-Length`, which a registry must give for blobs.
    pub(super) fn length(&self) -> Result<u64> {
        self.header("content-length")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| Error::Answer { url: self.url.clone(), reason: "no `Content-Length` header".into() })
    }

    /// The answer if its status is one of these.
    pub(super) async fn expect(self, statuses: &[u16]) -> Result<Self> {
        if statuses.contains(&self.status().as_u16()) {
            return Ok(self);
        }
        let (method, url) = (self.method.to_string(), self.url.clone());
        let status = self.status().as_u16();
        let mut bytes = Vec::new();
        let mut stream = self.response.bytes_stream();
        while bytes.len() < MAX_ERROR_BYTES {
            match stream.try_next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                // The status is the news; its text may be cut off.
                Ok(None) | Err(_) => break,
            }
        }
        Err(Error::Status { method, url, status, message: message(&bytes) })
    }

    /// The body, of at most `limit` bytes.
    pub(super) async fn bytes(self, limit: u64) -> Result<Bytes> {
        let what = self.url.clone();
        if self.response.content_length().is_some_and(|length| length > limit) {
            return Err(Error::TooLarge { what, limit });
        }
        let mut bytes = Vec::new();
        let mut stream = self.stream();
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                return Err(Error::TooLarge { what, limit });
            }
        }
        Ok(bytes.into())
    }

    pub(super) fn stream(self) -> ByteStream {
        let (method, url) = (self.method.to_string(), self.url);
        self.response
            .bytes_stream()
            .map_err(move |source| Error::Http {
                method: method.clone(),
                url: url.clone(),
                source: source.without_url(),
            })
            .boxed()
    }
}

/// The codes and messages of an error body (distribution spec, "Error Codes").
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: String,
        message: Option<String>,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => body
            .errors
            .into_iter()
            .map(|error| match error.message {
                Some(message) => format!("{}: {message}", error.code),
                None => error.code,
            })
            .collect::<Vec<_>>()
            .join("; "),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    if text.is_empty() {
        return "no message".to_owned();
    }
    text.chars().filter(|letter| !letter.is_control()).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_heed_the_registry() {
        let retry = Retry { tries: 5, wait: Duration::from_millis(100), longest: Duration::from_secs(1) };
        assert_eq!(retry.pause(0, None), Duration::from_millis(100));
        assert_eq!(retry.pause(2, None), Duration::from_millis(400));
        assert_eq!(retry.pause(40, None), Duration::from_secs(1));
        assert_eq!(retry.pause(0, Some(Duration::from_millis(700))), Duration::from_millis(700));
        assert_eq!(retry.pause(0, Some(Duration::from_secs(9999))), Duration::from_secs(1));
    }

    #[test]
    fn error_bodies_become_messages() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(message(body), "DENIED: no; UNKNOWN");
        assert_eq!(message(b""), "no message");
        assert_eq!(message(b"<html>\n\x1b[31m"), "<html>[31m");
    }
}
