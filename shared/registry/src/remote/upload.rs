//! Uploading blobs: in one request where they fit, or else in pieces, each of which goes on where
//! the one before was broken off.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::{Method, StatusCode, Url, header};
use sign::Digest;

use super::{
    Remote,
    request::{Answer, passing},
};
use crate::{ByteStream, Error, Registry, Repository, Result};

/// The longest piece that a registry may ask for, in bytes.
const MAX_PIECE: usize = 128 << 20;

/// What is to be uploaded, in pieces.
struct Pieces {
    stream: ByteStream,
    waiting: BytesMut,
    digest: Digest,
    size: u64,
    given: u64,
}

impl Pieces {
    /// The next piece of `limit` bytes, or what is left; empty at the end.
    async fn next(&mut self, limit: usize) -> Result<Bytes> {
        while self.waiting.len() < limit {
            match self.stream.try_next().await? {
                Some(bytes) => self.waiting.extend_from_slice(&bytes),
                None => break,
            }
        }
        let piece = self.waiting.split_to(self.waiting.len().min(limit)).freeze();
        self.given += piece.len() as u64;
        if self.given > self.size || (piece.is_empty() && self.given < self.size) {
            let what = format!("blob {}", self.digest);
            return Err(Error::Size { what, expected: self.size, found: self.given });
        }
        Ok(piece)
    }
}

/// An upload at the registry.
struct Session {
    location: Url,
    scope: String,
    /// The shortest piece that the registry takes, other than the last; bytes.
    shortest: usize,
}

impl Remote {
    /// Puts a blob that is not there.
    pub(super) async fn upload(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        stream: ByteStream,
    ) -> Result<()> {
        let stream = stream.fuse().boxed();
        let mut pieces = Pieces { stream, waiting: BytesMut::new(), digest, size, given: 0 };
        let limit = self.options.piece.max(1);
        let first = pieces.next(limit).await?;
        if first.len() as u64 == size {
            // There must be no more than was said.
            pieces.next(1).await?;
            return self.upload_at_once(repository, digest, first).await;
        }
        let mut session = self.begin(repository).await?;
        let done = self.upload_in_pieces(repository, &mut session, first, &mut pieces).await;
        if done.is_err() {
            let cancelled =
                self.send_once(&Method::DELETE, &session.location, &session.scope, &|request| request).await;
            if let Err(error) = cancelled {
                tracing::debug!(%error, "an upload that failed could not be cancelled; the registry will expire it");
            }
        }
        done
    }

    async fn upload_in_pieces(
        &self,
        repository: &Repository,
        session: &mut Session,
        first: Bytes,
        pieces: &mut Pieces,
    ) -> Result<()> {
        let limit = self.options.piece.max(session.shortest).max(1);
        let (digest, mut sent, mut piece) = (pieces.digest, 0, first);
        if piece.len() < limit {
            let mut longer = BytesMut::from(piece);
            longer.extend_from_slice(&pieces.next(limit - longer.len()).await?);
            piece = longer.freeze();
        }
        while !piece.is_empty() {
            let length = piece.len() as u64;
            // The next piece is read while this one is under way.
            let sending = self.send_piece(session, sent, piece);
            ((), piece) = futures_util::future::try_join(sending, pieces.next(limit)).await?;
            sent += length;
        }
        self.complete(repository, session, digest).await
    }

    async fn begin(&self, repository: &Repository) -> Result<Session> {
        let url = self.url(repository, "blobs/uploads/")?;
        let scope = self.push_scope(repository)?;
        let answer = self
            .send(Method::POST, url, &scope, |request| request.header(header::CONTENT_LENGTH, 0))
            .await?
            .expect(&[202])
            .await?;
        let shortest = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok()).unwrap_or_default();
        if shortest > MAX_PIECE {
            let reason = format!("`OCI-Chunk-Min-Length` is {shortest}; at most {MAX_PIECE} bytes are sent at once");
            return Err(Error::Answer { url: answer.url().to_owned(), reason });
        }
        Ok(Session { location: self.location(&answer)?, scope, shortest })
    }

    /// An upload that failed half-way is begun anew.
    async fn upload_at_once(&self, repository: &Repository, digest: Digest, bytes: Bytes) -> Result<()> {
        let mut tries = 0;
        loop {
            let session = self.begin(repository).await?;
            match self.put(&session, digest, bytes.clone()).await {
                Err(error) => self.once_more(repository, digest, error, &mut tries).await?,
                done => return done,
            }
            if self.blob_size(repository, digest).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Ends an upload whose pieces have all arrived.
    async fn complete(&self, repository: &Repository, session: &Session, digest: Digest) -> Result<()> {
        let mut tries = 0;
        loop {
            match self.put(session, digest, Bytes::new()).await {
                Err(error @ Error::Status { status: 404, .. }) if tries == 0 => return Err(error),
                Err(error) => self.once_more(repository, digest, error, &mut tries).await?,
                done => return done,
            }
            // The blob may be in place although the answer that said so was lost.
            if self.blob_size(repository, digest).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn once_more(&self, repository: &Repository, digest: Digest, error: Error, tries: &mut u32) -> Result<()> {
        let after = match &error {
            Error::Status { status: 404, .. } => Some(None),
            other => passing(other),
        };
        match after {
            Some(after) if self.again(tries, after).await => {
                tracing::debug!(%repository, %digest, %error, "an upload failed, trying again");
                Ok(())
            }
            _ => Err(error),
        }
    }

    async fn put(&self, session: &Session, digest: Digest, bytes: Bytes) -> Result<()> {
        let mut location = session.location.clone();
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let build = |request: reqwest::RequestBuilder| {
            request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, bytes.len())
                .body(bytes.clone())
        };
        self.send_once(&Method::PUT, &location, &session.scope, &build).await?.expect(&[201]).await?;
        Ok(())
    }

    /// Sends a piece; where that is broken off, asks how much has arrived and sends the rest.
    async fn send_piece(&self, session: &mut Session, start: u64, piece: Bytes) -> Result<()> {
        let end = start + piece.len() as u64;
        let (mut at, mut tries) = (start, 0);
        loop {
            let rest = piece.slice(usize::try_from(at - start).unwrap_or(piece.len())..);
            let build = |request: reqwest::RequestBuilder| {
                request
                    .header(header::CONTENT_TYPE, "application/octet-stream")
                    .header(header::CONTENT_LENGTH, rest.len())
                    .header(header::CONTENT_RANGE, format!("{at}-{}", end - 1))
                    .body(rest.clone())
            };
            let answer = match self.send_once(&Method::PATCH, &session.location, &session.scope, &build).await {
                Ok(answer) => answer.expect(&[202]).await,
                Err(error) => Err(error),
            };
            let error = match answer {
                Ok(answer) => {
                    session.location = self.location(&answer)?;
                    return Ok(());
                }
                Err(error) => error,
            };
            let out_of_step = matches!(error, Error::Status { status: 416, .. });
            let after = if out_of_step { Some(None) } else { passing(&error) };
            match after {
                Some(after) if self.again(&mut tries, after).await => {}
                _ => return Err(error),
            }
            let arrived = self.arrived(session).await?;
            let before = at;
            at = match arrived {
                // `0-0` is said both of an empty upload and of one with a single byte; which it is
                // shows when the first byte is refused.
                1 if start == 0 => u64::from(out_of_step && at == 0),
                arrived if arrived == end => return Ok(()),
                arrived if (start..end).contains(&arrived) => arrived,
                arrived => {
                    let reason = format!("{arrived} bytes arrived of an upload that stood between {start} and {end}");
                    return Err(Error::Answer { url: session.location.to_string(), reason });
                }
            };
            if at > before {
                tries = 0;
            }
        }
    }

    /// How much of an upload has arrived: one more than the end of the `Range` header.
    async fn arrived(&self, session: &mut Session) -> Result<u64> {
        let answer = self
            .send(Method::GET, session.location.clone(), &session.scope, |request| request)
            .await?
            .expect(&[204])
            .await?;
        if answer.header("location").is_some() {
            session.location = self.location(&answer)?;
        }
        answer
            .header("range")
            .and_then(|range| range.trim_start_matches("bytes=").strip_prefix("0-")?.parse::<u64>().ok())
            .and_then(|last| last.checked_add(1))
            .ok_or_else(|| Error::Answer {
                url: answer.url().to_owned(),
                reason: "no `Range` header of the form `0-LAST`".into(),
            })
    }

    /// Cancels an upload that an answer began.
    pub(super) async fn cancel(&self, answer: &Answer, scope: &str) -> Result<()> {
        let location = self.location(answer)?;
        let answer = self.send(Method::DELETE, location, scope, |request| request).await?;
        // Registries need not cancel; what is left they expire.
        if !answer.status().is_success() && answer.status() != StatusCode::NOT_FOUND {
            tracing::debug!(status = %answer.status(), url = answer.url(), "the registry did not cancel an upload");
        }
        Ok(())
    }

    /// Where an upload goes on; relative to where it was.
    fn location(&self, answer: &Answer) -> Result<Url> {
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
