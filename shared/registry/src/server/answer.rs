//! Answers, good and bad (distribution spec, "Error Codes").

use std::{fmt, io};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    TagInvalid,
    Unsupported,
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    Unknown,
}

/// A request that is not granted.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: Code,
    message: String,
    detail: Option<Box<Value>>,
    headers: Vec<(HeaderName, String)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: Code, message: impl ToString) -> Self {
        let message = message.to_string();
        Self { status, code, message, detail: None, headers: Vec::new() }
    }

    pub(super) fn not_found(code: Code, message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer; HEAD has no body.
    pub(super) fn into_response(self, head: bool) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(detail), Some(error)) = (self.detail, error.as_object_mut()) {
            error.insert("detail".into(), *detail);
        }
        let body = if head { String::new() } else { json!({"errors": [error]}).to_string() };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let bad = StatusCode::BAD_REQUEST;
        let (status, code) = match &error {
            Error::Name { .. } => (bad, Code::NameInvalid),
            Error::ManifestInvalid { .. } => (bad, Code::ManifestInvalid),
            Error::ContentMissing { .. } => (bad, Code::ManifestBlobUnknown),
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            Error::TagConflict { .. } => (StatusCode::CONFLICT, Code::TagInvalid),
            Error::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, Code::ManifestUnknown),
            Error::BlobUnknown { .. } => (StatusCode::NOT_FOUND, Code::BlobUnknown),
            Error::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                (StatusCode::INSUFFICIENT_STORAGE, Code::Unknown)
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown),
        };
        let detail = match &error {
            Error::ContentMissing { missing, .. } => Some(Box::new(json!({ "digests": missing }))),
            _ => None,
        };
        Self { detail, ..Self::new(status, code, error) }
    }
}

/// An answer with these headers.
pub(super) fn plain<const N: usize>(
    status: StatusCode,
    headers: [(HeaderName, String); N],
    body: Body,
) -> Result<Response, Failure> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        let value = HeaderValue::try_from(value)
            .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, format!("{name}: {error}")))?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

pub(super) fn json(status: StatusCode, media_type: &str, value: &impl Serialize) -> Result<Response, Failure> {
    let bytes = serde_json::to_vec(value).map_err(Error::manifest)?;
    let headers = [(header::CONTENT_TYPE, media_type.to_owned()), (header::CONTENT_LENGTH, bytes.len().to_string())];
    plain(status, headers, Body::from(bytes))
}

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
