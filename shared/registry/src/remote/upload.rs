//! Uploading blobs: in one request where they fit, or else in pieces.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::{Method, Url, header};
use sign::Digest;

use super::{Remote, push_scope, request::Answer};
use crate::{ByteStream, Error, Repository, Result};

impl Remote {
    /// Puts a blob that is not there.
    pub(super) async fn upload(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        stream: ByteStream,
    ) -> Result<()> {
        let mut stream = stream.fuse().boxed();
        let mut waiting = BytesMut::new();
        let first = self.piece(&mut stream, &mut waiting).await?;
        if first.len() as u64 > size {
            let (what, found) = (format!("blob {digest}"), first.len() as u64);
            return Err(Error::Size { what, expected: size, found });
        }
        if first.len() as u64 == size {
            return self.upload_at_once(repository, digest, first).await;
        }
        let scope = push_scope(repository);
        let mut location = self.begin(repository).await?;
        let mut sent = 0;
        let mut piece = first;
        while !piece.is_empty() {
            let end = sent + piece.len() as u64;
            if end > size {
                return Err(Error::Size { what: format!("blob {digest}"), expected: size, found: end });
            }
            location = self.send_piece(location, &scope, sent, piece).await?;
            sent = end;
            piece = self.piece(&mut stream, &mut waiting).await?;
        }
        if sent != size {
            return Err(Error::Size { what: format!("blob {digest}"), expected: size, found: sent });
        }
        self.complete(location, &scope, digest, Bytes::new()).await
    }

    /// The next full piece of the stream, or what is left of it.
    async fn piece(&self, stream: &mut ByteStream, waiting: &mut BytesMut) -> Result<Bytes> {
        let limit = self.options.piece.max(1);
        while waiting.len() < limit {
            match stream.try_next().await? {
                Some(bytes) => waiting.extend_from_slice(&bytes),
                None => break,
            }
        }
        let length = waiting.len().min(limit);
        Ok(waiting.split_to(length).freeze())
    }

    async fn begin(&self, repository: &Repository) -> Result<Url> {
        let url = self.url(repository, "blobs/uploads/")?;
        let answer = self
            .send(Method::POST, url, &push_scope(repository), |request| request.header(header::CONTENT_LENGTH, 0))
            .await?
            .expect(&[202])
            .await?;
        self.location(&answer)
    }

    /// An upload that failed half-way is begun anew.
    async fn upload_at_once(&self, repository: &Repository, digest: Digest, bytes: Bytes) -> Result<()> {
        let scope = push_scope(repository);
        let mut attempt = 0;
        loop {
            let location = self.begin(repository).await?;
            let done = self.complete(location, &scope, digest, bytes.clone()).await;
            attempt += 1;
            match done {
                Err(Error::Http { .. } | Error::Status { status: 404 | 429 | 500.., .. })
                    if attempt < self.options.retry.tries =>
                {
                    tokio::time::sleep(self.options.retry.pause(attempt - 1, None)).await;
                }
                other => return other,
            }
        }
    }

    async fn complete(&self, mut location: Url, scope: &str, digest: Digest, bytes: Bytes) -> Result<()> {
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let build = |request: reqwest::RequestBuilder| {
            request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, bytes.len())
                .body(bytes.clone())
        };
        self.send_once(&Method::PUT, &location, scope, &build).await?.expect(&[201]).await?;
        Ok(())
    }

    /// Sends a piece; where that fails, asks how much has arrived before sending it again.
    async fn send_piece(&self, mut location: Url, scope: &str, start: u64, bytes: Bytes) -> Result<Url> {
        let end = start + bytes.len() as u64;
        let mut attempt = 0;
        loop {
            let build = |request: reqwest::RequestBuilder| {
                request
                    .header(header::CONTENT_TYPE, "application/octet-stream")
                    .header(header::CONTENT_LENGTH, bytes.len())
                    .header(header::CONTENT_RANGE, format!("{start}-{}", end - 1))
                    .body(bytes.clone())
            };
            let answer = match self.send_once(&Method::PATCH, &location, scope, &build).await {
                Ok(answer) => answer.expect(&[202]).await,
                Err(error) => Err(error),
            };
            attempt += 1;
            match answer {
                Ok(answer) => return self.location(&answer),
                Err(Error::Http { .. } | Error::Status { status: 416 | 429 | 500.., .. })
                    if attempt < self.options.retry.tries =>
                {
                    tokio::time::sleep(self.options.retry.pause(attempt - 1, None)).await;
                    let status = self
                        .send(Method::GET, location.clone(), scope, |request| request)
                        .await?
                        .expect(&[204])
                        .await?;
                    location = self.location(&status)?;
                    match received(&status)? {
                        found if found == end => return Ok(location),
                        found if found == start => {}
                        // `0-0` is said both of an empty upload and of one with a single byte.
                        1 if start == 0 => {}
                        found => {
                            return Err(Error::Answer {
                                url: status.url().to_owned(),
                                reason: format!("{found} bytes arrived of an upload that stood at {start} or {end}"),
                            });
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where an upload goes on; relative to where it was.
    pub(super) fn location(&self, answer: &Answer) -> Result<Url> {
        let wrong = |reason: String| Error::Answer { url: answer.url().to_owned(), reason };
        let location =
            answer.header("location").ok_or_else(|| wrong(format!("status {} without `Location`", answer.status())))?;
        let url = Url::parse(answer.url())
            .and_then(|base| base.join(location))
            .map_err(|error| wrong(format!("`Location` header: {error}")))?;
        super::request::check_scheme(&url, self.options.allow_http)?;
        Ok(url)
    }
}

/// How many bytes of an upload have arrived: one more than the end of the `Range` header.
fn received(answer: &Answer) -> Result<u64> {
    answer
        .header("range")
        .and_then(|range| range.trim_start_matches("bytes=").strip_prefix("0-")?.parse::<u64>().ok())
        .and_then(|last| last.checked_add(1))
        .ok_or_else(|| Error::Answer {
            url: answer.url().to_owned(),
            reason: "no `Range` header of the form `0-LAST`".into(),
        })
}
