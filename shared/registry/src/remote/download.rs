//! Reading a blob to its end over connections that may break.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, StatusCode, Url, header};
use sha2::{Digest as _, Sha256};
use sign::Digest;

use super::{
    Remote,
    request::{Answer, passing, shown},
};
use crate::{ByteStream, Error, Result};

/// A blob on its way: continued where a connection broke, and checked when complete.
struct Download {
    remote: Remote,
    url: Url,
    scope: String,
    digest: Digest,
    size: u64,
    stream: ByteStream,
    hasher: Sha256,
    /// The newest piece, given out only once a later one has come or all is well.
    held: Option<Bytes>,
    found: u64,
    /// How much of the present answer was had before.
    skip: u64,
    tries: u32,
    ended: bool,
}

impl Remote {
    /// The blob that an answer begins to give.
    pub(super) fn download(&self, answer: Answer, url: Url, scope: &str, digest: Digest, size: u64) -> ByteStream {
        let download = Download {
            remote: self.clone(),
            url,
            scope: scope.to_owned(),
            digest,
            size,
            stream: answer.stream(),
            hasher: Sha256::new(),
            held: None,
            found: 0,
            skip: 0,
            tries: 0,
            ended: false,
        };
        stream::try_unfold(
            download,
            |mut download| async move { Ok(download.next().await?.map(|piece| (piece, download))) },
        )
        .fuse()
        .boxed()
    }
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.ended {
            match self.stream.try_next().await {
                Ok(Some(piece)) => {
                    if let Some(before) = self.take(piece)? {
                        return Ok(Some(before));
                    }
                }
                Ok(None) if self.found < self.size => self.reopen(self.wrong_size(), None).await?,
                Err(error) if self.found < self.size => match passing(&error) {
                    Some(after) => self.reopen(error, after).await?,
                    None => return Err(error),
                },
                Ok(None) | Err(_) => return self.finish(),
            }
        }
        Ok(None)
    }

    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>> {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
        self.skip -= known as u64;
        let piece = piece.split_off(known);
        if piece.is_empty() {
            return Ok(None);
        }
        self.hasher.update(&piece);
        self.found += piece.len() as u64;
        if self.found > self.size {
            return Err(self.wrong_size());
        }
        // What has come so far counts as a success.
        self.tries = 0;
        Ok(self.held.replace(piece))
    }

    /// Asks for what is still lacking.
    async fn reopen(&mut self, error: Error, after: Option<std::time::Duration>) -> Result<()> {
        if !self.remote.again(&mut self.tries, after).await {
            return Err(error);
        }
        let range = format!("bytes={}-", self.found);
        let answer = self
            .remote
            .send(Method::GET, self.url.clone(), &self.scope, |request| request.header(header::RANGE, &range))
            .await?
            .expect(&[200, 206])
            .await?;
        self.skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let expected = format!("bytes {}-", self.found);
                match answer.header("content-range") {
                    Some(range) if range.starts_with(&expected) => 0,
                    other => {
                        let reason = format!("`Content-Range` is `{}`, asked was `{range}`", other.unwrap_or_default());
                        return Err(Error::Answer { url: shown(&self.url), reason });
                    }
                }
            }
            _ => self.found,
        };
        self.stream = answer.stream();
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        self.ended = true;
        let found = Digest::from_bytes(self.hasher.finalize_reset().into());
        if found != self.digest {
            return Err(Error::Corrupt { what: shown(&self.url), expected: self.digest, found });
        }
        Ok(self.held.take())
    }

    fn wrong_size(&self) -> Error {
        Error::Size { what: shown(&self.url), expected: self.size, found: self.found }
    }
}
