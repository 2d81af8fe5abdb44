//! What every registry can do, wherever it is.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use oci_spec::image::Descriptor;
use sign::Digest;

use crate::{Error, Manifest, Reference, Repository, Result, Tag, TagRule};

/// The bytes of a blob in pieces.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A blob being read.
pub struct Blob {
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes. The stream ends with an error, instead of just ending, if they do not have the
    /// blob's digest; the last piece is given out only once they are known to have it.
    pub stream: ByteStream,
}

impl Blob {
    /// The whole blob.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `limit` bytes; the stream's.
    pub async fn read(mut self, limit: u64) -> Result<Vec<u8>> {
        let too_large = || Error::TooLarge { what: "the blob".into(), limit };
        if self.size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(piece) = self.stream.try_next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(bytes)
    }
}

/// A stream of bytes that are in memory.
pub fn bytes_stream(bytes: impl Into<Bytes>) -> ByteStream {
    stream::iter([Ok(bytes.into())]).boxed()
}

/// A registry: [`crate::Layouts`] on disk, or [`crate::Remote`] over HTTP.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The size of a blob in bytes, if the repository has it.
    async fn blob_size(&self, repository: &Repository, digest: Digest) -> Result<Option<u64>>;

    /// A blob, if the repository has it.
    async fn blob(&self, repository: &Repository, digest: Digest) -> Result<Option<Blob>>;

    /// Puts a blob of `size` bytes; nothing happens if the repository has it.
    async fn put_blob(&self, repository: &Repository, digest: Digest, size: u64, stream: ByteStream) -> Result<()>;

    /// Takes a blob from another repository of the same registry; tells whether that worked, and
    /// where not, the blob has to be put.
    async fn mount_blob(&self, repository: &Repository, digest: Digest, from: &Repository) -> Result<bool>;

    /// The digest of a manifest, if the repository has it.
    async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Option<Digest>>;

    /// A manifest, if the repository has it.
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<Manifest>>;

    /// Puts a manifest and, if given, its tag. On a remote registry [`TagRule::Immutable`] is a
    /// look before the push, which another push may overtake, unless that registry enforces it.
    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tag: Option<&Tag>,
        rule: TagRule,
    ) -> Result<()>;

    /// The tags of a repository, sorted; none where there is no such repository.
    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>>;

    /// The registry's repositories, sorted.
    async fn repositories(&self) -> Result<Vec<Repository>>;

    /// The manifests whose subject is `subject`, of one artifact type if that is given.
    async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>>;

    /// Removes a manifest with its tags, or a tag alone; tells whether it was there.
    async fn delete_manifest(&self, repository: &Repository, reference: &Reference) -> Result<bool>;

    /// Removes a blob; tells whether it was there.
    async fn delete_blob(&self, repository: &Repository, digest: Digest) -> Result<bool>;
}

/// A manifest that must be there.
pub(crate) async fn expect_manifest(
    registry: &dyn Registry,
    repository: &Repository,
    reference: &Reference,
) -> Result<Manifest> {
    registry
        .manifest(repository, reference)
        .await?
        .ok_or_else(|| Error::ManifestUnknown { repository: repository.to_string(), reference: reference.to_string() })
}

/// A blob that must be there.
pub(crate) async fn expect_blob(registry: &dyn Registry, repository: &Repository, digest: Digest) -> Result<Blob> {
    registry
        .blob(repository, digest)
        .await?
        .ok_or_else(|| Error::BlobUnknown { repository: repository.to_string(), digest })
}
