//! Requests: authorised, repeated when that may help, answers bounded.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{self, HeaderMap},
};
use serde::Deserialize;

use super::Remote;
use crate::{ByteStream, Error, Result};

/// How much of an error's text is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How much of an error's text is shown, in characters.
const MAX_MESSAGE: usize = 500;

/// When failed requests are repeated: on connection failures, broken answers, 429, and 5xx.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How many times at most a request is sent.
    pub tries: u32,
    /// How long to wait before the second try; doubles each time. A `Retry-After` is heeded
    /// instead where it is longer.
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
        let mut tries = 0;
        loop {
            let answer = self.send_once(&method, &url, scope, &build).await;
            let after = match &answer {
                Ok(answer) if !is_passing(answer.status()) => None,
                Ok(answer) => Some(answer.retry_after()),
                Err(error) => passing(error),
            };
            match after {
                Some(after) if self.again(&mut tries, after).await => {}
                _ => return answer,
            }
        }
    }

    /// Sends a request and reads its answer whole, repeating both where that may help.
    ///
    /// # Errors
    /// [`Error::Status`] for any status but 200 and 404; none for the latter.
    pub(super) async fn read(
        &self,
        url: &Url,
        scope: &str,
        limit: u64,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Option<(Bytes, HeaderMap)>> {
        let mut tries = 0;
        loop {
            let answer = self.send(Method::GET, url.clone(), scope, &build).await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let answer = answer.expect(&[200]).await?;
            let headers = answer.response.headers().clone();
            match answer.bytes(limit).await {
                Ok(bytes) => return Ok(Some((bytes, headers))),
                Err(error) => match passing(&error) {
                    Some(after) if self.again(&mut tries, after).await => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Waits before another try; false, at once, if there have been enough.
    pub(super) async fn again(&self, tries: &mut u32, after: Option<Duration>) -> bool {
        *tries += 1;
        if *tries >= self.options.retry.tries {
            return false;
        }
        let pause = self.options.retry.pause(*tries - 1, after);
        tracing::debug!(registry = %self.base, tries, ?pause, "a request failed, trying again");
        tokio::time::sleep(pause).await;
        true
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
        let answer = send(self.authorization(scope).await?).await?;
        // A place that the registry redirects to may not ask for its credentials.
        let redirected = answer.response.url().origin() != self.base.origin();
        if answer.status() != StatusCode::UNAUTHORIZED || redirected {
            return Ok(answer);
        }
        if self.authorize(&answer, scope).await? {
            return send(self.authorization(scope).await?).await;
        }
        Ok(answer)
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

/// Whether a later try may go better than one that failed like this, and the wait that was asked for.
pub(super) fn passing(error: &Error) -> Option<Option<Duration>> {
    match error {
        Error::Http { source, .. } if !source.is_builder() && !source.is_redirect() => Some(None),
        Error::Status { status, retry_after, .. } => {
            StatusCode::from_u16(*status).is_ok_and(is_passing).then_some(*retry_after)
        }
        _ => None,
    }
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
        retry_after(self.header("retry-after")?, SystemTime::now())
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
        let (status, retry_after) = (self.status().as_u16(), self.retry_after());
        let mut bytes = Vec::new();
        let mut stream = self.response.bytes_stream();
        while bytes.len() < MAX_ERROR_BYTES {
            match stream.try_next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                // The status is the news; its text may be cut off.
                Ok(None) | Err(_) => break,
            }
        }
        Err(Error::Status { method, url, status, message: message(&bytes), retry_after })
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

/// A `Retry-After` header, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
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
    fn waits_are_given_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (text, expected) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn error_bodies_become_messages() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(message(body), "DENIED: no; UNKNOWN");
        assert_eq!(message(b""), "no message");
        assert_eq!(message(b"<html>\n\x1b[31m"), "<html>[31m");
    }
}
