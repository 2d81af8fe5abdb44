//! Pushing and deleting.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::BytesMut;
use futures_util::TryStreamExt;
use sign::Digest;
use tokio::sync::Mutex;

use super::{
    Asked, Server,
    answer::{self, CONTENT_DIGEST, Code, Failure},
    route,
};
use crate::{Error, ManifestFacts, Reference, Registry, Repository, layouts::Upload, manifest::MAX_MANIFEST_BYTES};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Server {
    pub(super) async fn begin_upload(&self, name: &Repository, asked: &Asked, body: Body) -> Result<Response, Failure> {
        if let (Some(mount), Some(from)) = (asked.parameter("mount"), asked.parameter("from"))
            && let (Ok(digest), Ok(from)) = (mount.parse(), from.parse())
            && self.layouts.mount_blob(name, digest, &from).await?
        {
            return created_blob(name, digest);
        }
        let expected = asked.parameter("digest").map(route::digest).transpose()?;
        if let Some(digest) = expected {
            let upload = Upload::new(self.layouts.with_new(name, |layout| layout.begin_blob()).await?);
            self.receive(&upload, body, length(asked)).await?;
            return finish(name, &upload, digest).await;
        }
        let id = uuid::Uuid::new_v4().to_string();
        self.sessions.room()?;
        let writer = self.layouts.with_new(name, {
            let id = id.clone();
            move |layout| layout.begin_upload(&id)
        });
        self.sessions.begin(name, &id, writer.await?);
        upload_answer(StatusCode::ACCEPTED, name, &id, 0)
    }

    pub(super) async fn upload_status(&self, name: &Repository, id: &str) -> Result<Response, Failure> {
        let upload = self.upload(name, id).await?;
        let size = upload.lock().await.size().await?;
        upload_answer(StatusCode::NO_CONTENT, name, id, size)
    }

    pub(super) async fn continue_upload(
        &self,
        name: &Repository,
        id: &str,
        asked: &Asked,
        body: Body,
    ) -> Result<Response, Failure> {
        let upload = self.upload(name, id).await?;
        let upload = upload.lock().await;
        let announced = self.piece(name, id, &upload, asked).await?;
        let size = self.receive_in_session(id, &upload, body, announced).await?;
        upload_answer(StatusCode::ACCEPTED, name, id, size)
    }

    pub(super) async fn end_upload(
        &self,
        name: &Repository,
        id: &str,
        asked: &Asked,
        body: Body,
    ) -> Result<Response, Failure> {
        let digest = asked.parameter("digest").ok_or_else(|| {
            let bad = StatusCode::BAD_REQUEST;
            Failure::new(bad, Code::DigestInvalid, "the parameter `digest` is needed")
        })?;
        let digest = route::digest(digest)?;
        let upload = self.upload(name, id).await?;
        let upload = upload.lock().await;
        let announced = self.piece(name, id, &upload, asked).await?;
        self.receive_in_session(id, &upload, body, announced).await?;
        let response = finish(name, &upload, digest).await;
        self.sessions.end(id);
        response
    }

    pub(super) async fn cancel_upload(&self, name: &Repository, id: &str) -> Result<Response, Failure> {
        self.upload(name, id).await?.lock().await.discard().await?;
        self.sessions.end(id);
        answer::plain(StatusCode::NO_CONTENT, [], Body::empty())
    }

    /// An upload under way; one that a server before this one began is taken up again.
    async fn upload(&self, name: &Repository, id: &str) -> Result<Arc<Mutex<Upload>>, Failure> {
        let unknown =
            || Failure::not_found(Code::BlobUploadUnknown, format!("`{name}` has no upload `{id}`; begin anew"));
        if let Some(upload) = self.sessions.get(name, id) {
            return Ok(upload);
        }
        let id: uuid::Uuid = id.parse().map_err(|_| unknown())?;
        let id = id.to_string();
        let _one_at_a_time = self.sessions.resuming.lock().await;
        if let Some(upload) = self.sessions.get(name, &id) {
            return Ok(upload);
        }
        self.sessions.room()?;
        let writer = self.layouts.with(name, {
            let id = id.clone();
            move |layout| layout.resume_upload(&id)
        });
        match writer.await?.flatten() {
            Some(writer) => Ok(self.sessions.begin(name, &id, writer)),
            None => Err(unknown()),
        }
    }

    /// Writes a body to an upload; where the disk is full, ends it, so that it takes no room.
    async fn receive_in_session(
        &self,
        id: &str,
        upload: &Upload,
        body: Body,
        announced: Option<u64>,
    ) -> Result<u64, Failure> {
        let received = self.receive(upload, body, announced).await;
        if received.as_ref().is_err_and(|failure| failure.status() == StatusCode::INSUFFICIENT_STORAGE) {
            upload.discard().await?;
            self.sessions.end(id);
        }
        received
    }

    /// The length of a piece that may come next, where it says so.
    async fn piece(&self, name: &Repository, id: &str, upload: &Upload, asked: &Asked) -> Result<Option<u64>, Failure> {
        let Some(text) = asked.header(header::CONTENT_RANGE) else { return Ok(length(asked)) };
        let size = upload.size().await?;
        let range = text.strip_prefix("bytes ").unwrap_or(text);
        let range = range.split('/').next().unwrap_or(range).split_once('-');
        let range = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let wrong = |reason: String| {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            Failure::new(status, Code::BlobUploadInvalid, reason)
                .with_header(header::LOCATION, location(name, id))
                .with_header(header::RANGE, received(size))
        };
        let (first, last): (u64, u64) = range
            .filter(|(first, last)| first <= last)
            .ok_or_else(|| wrong(format!("`Content-Range` is `{text}`, expected `FIRST-LAST`")))?;
        if first != size {
            return Err(wrong(format!("the piece starts at {first}, the upload stands at {size}")));
        }
        let announced = (last - first).saturating_add(1);
        match length(asked) {
            Some(length) if length != announced => Err(Failure::new(
                StatusCode::BAD_REQUEST,
                Code::SizeInvalid,
                format!("`Content-Length` is {length}, `Content-Range` says {announced}"),
            )),
            _ => Ok(Some(announced)),
        }
    }

    /// Writes a body to an upload; its size then.
    async fn receive(&self, upload: &Upload, body: Body, announced: Option<u64>) -> Result<u64, Failure> {
        let limit = self.options.max_blob;
        let start = upload.size().await?;
        let mut size = start;
        if announced.is_some_and(|announced| start.saturating_add(announced) > limit) {
            return Err(Error::TooLarge { what: "the blob".into(), limit }.into());
        }
        let mut stream = body.into_data_stream();
        while let Some(bytes) = stream.try_next().await.map_err(broken_off)? {
            let received = size - start + bytes.len() as u64;
            if announced.is_some_and(|announced| received > announced) {
                return Err(wrong_length(announced, received));
            }
            if size + bytes.len() as u64 > limit {
                return Err(Error::TooLarge { what: "the blob".into(), limit }.into());
            }
            size = upload.write(bytes).await?;
        }
        if announced.is_some_and(|announced| size - start != announced) {
            return Err(wrong_length(announced, size - start));
        }
        Ok(size)
    }

    pub(super) async fn put_manifest(
        &self,
        name: &Repository,
        reference: Reference,
        asked: &Asked,
        body: Body,
    ) -> Result<Response, Failure> {
        let mut bytes = BytesMut::new();
        let mut stream = body.into_data_stream();
        while let Some(piece) = stream.try_next().await.map_err(broken_off)? {
            if bytes.len() as u64 + piece.len() as u64 > MAX_MANIFEST_BYTES {
                let what = "the manifest".into();
                return Err(Error::TooLarge { what, limit: MAX_MANIFEST_BYTES }.into());
            }
            bytes.extend_from_slice(&piece);
        }
        let bytes = bytes.freeze();
        let facts = ManifestFacts::parse(&bytes)?;
        let content_type = asked.header(header::CONTENT_TYPE).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        if !content_type.is_empty() && content_type != facts.media_type {
            return Err(Error::manifest(format!(
                "`Content-Type` is `{content_type}`, the manifest is `{}`",
                facts.media_type
            ))
            .into());
        }
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(digest) => {
                let found = Digest::of(&bytes);
                if found != digest {
                    return Err(Failure::new(
                        StatusCode::BAD_REQUEST,
                        Code::DigestInvalid,
                        format!("the manifest has digest {found}, not {digest}"),
                    ));
                }
                None
            }
        };
        let place = tag.as_ref().map(ToString::to_string);
        let rule = tag.as_ref().map(|tag| self.options.immutable_tags.rule(tag)).unwrap_or_default();
        let put = self.layouts.put(name, bytes, tag, rule).await?;
        let place = place.unwrap_or_else(|| put.digest.to_string());
        let headers =
            [(header::LOCATION, format!("/v2/{name}/manifests/{place}")), (CONTENT_DIGEST, put.digest.to_string())];
        let mut response = answer::plain(StatusCode::CREATED, headers, Body::empty())?;
        if let Some(subject) = put.subject
            && let Ok(value) = HeaderValue::try_from(subject.to_string())
        {
            response.headers_mut().insert("oci-subject", value);
        }
        Ok(response)
    }

    pub(super) async fn delete_manifest(&self, name: &Repository, reference: &Reference) -> Result<Response, Failure> {
        if self.layouts.delete_manifest(name, reference).await? {
            return answer::plain(StatusCode::ACCEPTED, [], Body::empty());
        }
        let message = format!("`{name}` has no manifest `{reference}`");
        Err(Failure::not_found(Code::ManifestUnknown, message))
    }

    pub(super) async fn delete_blob(&self, name: &Repository, digest: Digest) -> Result<Response, Failure> {
        if self.layouts.delete_blob(name, digest).await? {
            return answer::plain(StatusCode::ACCEPTED, [], Body::empty());
        }
        Err(Failure::not_found(Code::BlobUnknown, format!("`{name}` has no blob {digest}")))
    }
}

async fn finish(name: &Repository, upload: &Upload, digest: Digest) -> Result<Response, Failure> {
    match upload.finish(digest).await {
        Ok(_) => created_blob(name, digest),
        Err(error @ Error::Corrupt { .. }) => Err(Failure::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, error)),
        Err(error) => Err(error.into()),
    }
}

fn created_blob(name: &Repository, digest: Digest) -> Result<Response, Failure> {
    let headers = [(header::LOCATION, format!("/v2/{name}/blobs/{digest}")), (CONTENT_DIGEST, digest.to_string())];
    answer::plain(StatusCode::CREATED, headers, Body::empty())
}

fn upload_answer(status: StatusCode, name: &Repository, id: &str, size: u64) -> Result<Response, Failure> {
    let headers = [(header::LOCATION, location(name, id)), (header::RANGE, received(size)), (UPLOAD_ID, id.to_owned())];
    answer::plain(status, headers, Body::empty())
}

fn location(name: &Repository, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The bytes received, the last inclusive; `0-0` also where there are none.
fn received(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn length(asked: &Asked) -> Option<u64> {
    asked.header(header::CONTENT_LENGTH)?.parse().ok()
}

fn broken_off(error: axum::Error) -> Failure {
    let message = format!("the body broke off: {error}");
    Failure::new(StatusCode::BAD_REQUEST, Code::BlobUploadInvalid, message)
}

fn wrong_length(announced: Option<u64>, received: u64) -> Failure {
    let announced = announced.unwrap_or_default();
    let message = format!("{received} bytes came where {announced} were announced");
    Failure::new(StatusCode::BAD_REQUEST, Code::SizeInvalid, message)
}
