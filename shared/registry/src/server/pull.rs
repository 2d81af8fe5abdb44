//! Pulling, and finding what there is to pull.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::json;
use sign::Digest;

use super::{
    Asked, Server,
    answer::{self, CONTENT_DIGEST, Code, Failure},
};
use crate::{Reference, Registry, Repository, layout::new_index, media_type};

/// How many names a page has unless asked otherwise, and at most.
const PAGE: usize = 10_000;

impl Server {
    pub(super) async fn get_manifest(
        &self,
        name: &Repository,
        reference: &Reference,
        asked: &Asked,
    ) -> Result<Response, Failure> {
        let Some(manifest) = self.layouts.manifest(name, reference).await? else {
            return Err(self.missing(name, Code::ManifestUnknown, "manifest", reference).await?);
        };
        let headers = [
            (header::CONTENT_TYPE, manifest.media_type),
            (header::CONTENT_LENGTH, manifest.bytes.len().to_string()),
            (header::ETAG, format!("\"{}\"", manifest.digest)),
            (CONTENT_DIGEST, manifest.digest.to_string()),
        ];
        let body = if asked.is_head() { Body::empty() } else { manifest.bytes.into() };
        answer::plain(StatusCode::OK, headers, body)
    }

    pub(super) async fn get_blob(&self, name: &Repository, digest: Digest, asked: &Asked) -> Result<Response, Failure> {
        let Some(size) = self.layouts.blob_size(name, digest).await? else {
            return Err(self.missing(name, Code::BlobUnknown, "blob", digest).await?);
        };
        let whole = (StatusCode::OK, 0..size);
        let (status, range) = match asked.header(header::RANGE).map(|text| range(text, size)) {
            Some(Ok(Some(range))) => (StatusCode::PARTIAL_CONTENT, range),
            Some(Err(())) => {
                return Err(Failure::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    Code::SizeInvalid,
                    format!("the blob has {size} bytes"),
                )
                .with_header(header::CONTENT_RANGE, format!("bytes */{size}")));
            }
            Some(Ok(None)) | None => whole,
        };
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, format!("\"{digest}\"")),
            (CONTENT_DIGEST, digest.to_string()),
        ];
        let content_range = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
        let stream = if asked.is_head() {
            None
        } else if status == StatusCode::PARTIAL_CONTENT {
            self.layouts.blob_part(name, digest, range.start, range.end).await?
        } else {
            self.layouts.blob(name, digest).await?.map(|blob| blob.stream)
        };
        let body = stream.map_or_else(Body::empty, Body::from_stream);
        let mut response = answer::plain(status, headers, body)?;
        if status == StatusCode::PARTIAL_CONTENT
            && let Ok(value) = HeaderValue::try_from(content_range)
        {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        Ok(response)
    }

    pub(super) async fn tags(&self, name: &Repository, asked: &Asked) -> Result<Response, Failure> {
        if !self.layouts.exists(name).await? {
            return Err(unknown_name(name));
        }
        let tags = self.layouts.tags(name).await?.into_iter().map(String::from).collect();
        let (tags, link) = page(tags, asked, &format!("/v2/{name}/tags/list"))?;
        linked(json!({"name": name.as_str(), "tags": tags}), link)
    }

    pub(super) async fn catalog(&self, asked: &Asked) -> Result<Response, Failure> {
        let names = self.layouts.repositories().await?.into_iter().map(String::from).collect();
        let (repositories, link) = page(names, asked, "/v2/_catalog")?;
        linked(json!({ "repositories": repositories }), link)
    }

    pub(super) async fn referrers(
        &self,
        name: &Repository,
        subject: Digest,
        asked: &Asked,
    ) -> Result<Response, Failure> {
        let wanted = asked.parameter("artifactType").filter(|wanted| !wanted.is_empty());
        let referrers = self.layouts.referrers(name, subject, wanted).await?;
        let index = new_index(referrers)?;
        let mut response = answer::json(StatusCode::OK, media_type::IMAGE_INDEX, &index)?;
        if wanted.is_some() {
            response.headers_mut().insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }

    /// The failure where content is not there: perhaps the whole repository is not.
    async fn missing(
        &self,
        name: &Repository,
        code: Code,
        what: &str,
        wanted: impl std::fmt::Display,
    ) -> Result<Failure, Failure> {
        Ok(if self.layouts.exists(name).await? {
            Failure::not_found(code, format!("`{name}` has no {what} `{wanted}`"))
        } else {
            unknown_name(name)
        })
    }
}

fn unknown_name(name: &Repository) -> Failure {
    Failure::not_found(Code::NameUnknown, format!("there is no repository `{name}`"))
}

/// One page of sorted names, as `n` and `last` ask for it, and the address of the next one.
fn page(names: Vec<String>, asked: &Asked, path: &str) -> Result<(Vec<String>, Option<String>), Failure> {
    let count = match asked.parameter("n") {
        Some(text) => text.parse::<usize>().map_err(|_| {
            Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, format!("`n` is `{text}`, expected a number"))
        })?,
        None => PAGE,
    }
    .min(PAGE);
    let last = asked.parameter("last").unwrap_or_default();
    let mut left = names.into_iter().filter(|name| last.is_empty() || name.as_str() > last);
    let names: Vec<_> = left.by_ref().take(count).collect();
    let link = match (names.last(), left.next()) {
        (Some(last), Some(_)) => Some(format!("<{path}?n={count}&last={last}>; rel=\"next\"")),
        _ => None,
    };
    Ok((names, link))
}

fn linked(value: serde_json::Value, link: Option<String>) -> Result<Response, Failure> {
    let mut response = answer::json(StatusCode::OK, "application/json", &value)?;
    if let Some(value) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, value);
    }
    Ok(response)
}

/// The bytes that a `Range` header asks for; none if the header is to be ignored, an error if the
/// blob has no such bytes (RFC 9110, 14.2).
fn range(text: &str, size: u64) -> Result<Option<std::ops::Range<u64>>, ()> {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.is_empty() { Err(()) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("bytes=0-0", 10), Ok(Some(0..1)));
        assert_eq!(range("bytes=2-", 10), Ok(Some(2..10)));
        assert_eq!(range("bytes=-3", 10), Ok(Some(7..10)));
        assert_eq!(range("bytes=-30", 10), Ok(Some(0..10)));
        assert_eq!(range("bytes=5-99", 10), Ok(Some(5..10)));
        assert_eq!(range("bytes=10-", 10), Err(()));
        assert_eq!(range("bytes=-0", 10), Err(()));
        assert_eq!(range("bytes=0-0", 0), Err(()));
        for ignored in ["bytes=3-2", "bytes=1-2,4-5", "lines=1-2", "bytes=x-y", "bytes=-", ""] {
            assert_eq!(range(ignored, 10), Ok(None), "{ignored}");
        }
    }
}
