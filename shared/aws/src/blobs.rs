use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use ports::local::{FileBlobs, digest_of_file};
use ports::{Blobs, Digest, PortError};
use tokio::io::AsyncWriteExt;

use crate::bucket::{Bucket, SERVICE};
use crate::error::{failed, malformed};

/// Blobs as objects `PREFIX/sha256/XX/REST` of a bucket, written once, under the checksum that
/// names them.
#[derive(Clone, Debug)]
pub struct S3Blobs {
    bucket: Bucket,
    prefix: String,
    /// Blobs that were read as files.
    cache: FileBlobs,
    folder: PathBuf,
}

impl S3Blobs {
    /// Blobs in a bucket under `prefix`. Those that are read as files are kept in the folder
    /// `cache`, which exists.
    pub fn new(client: Client, bucket: impl Into<String>, prefix: impl Into<String>, cache: PathBuf) -> Self {
        let cache_blobs = FileBlobs::new(cache.clone());
        Self { bucket: Bucket::new(client, bucket), prefix: prefix.into(), cache: cache_blobs, folder: cache }
    }

    fn key(&self, digest: Digest) -> String {
        let name = digest.hex();
        let (shard, rest) = name.split_at(2);
        format!("{}sha256/{shard}/{rest}", self.prefix)
    }

    async fn object(&self, digest: Digest) -> Result<(u64, ByteStream), PortError> {
        self.bucket.get(&self.key(digest)).await?.ok_or(PortError::NoBlob(digest))
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PortError> {
        let digest = Digest::of(&bytes);
        if !self.contains(digest).await? {
            self.bucket.put(&self.key(digest), digest, ByteStream::from(bytes)).await?;
        }
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, PortError> {
        let digest = digest_of_file(path).await?;
        if self.contains(digest).await? {
            return Ok(digest);
        }
        self.bucket.put_file(&self.key(digest), digest, path).await?;
        Ok(digest)
    }

    async fn get(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, PortError> {
        let (size, body) = self.object(digest).await?;
        if size > limit {
            return Err(PortError::TooLarge { digest, size, limit });
        }
        let bytes = body.collect().await.map_err(failed(SERVICE, "GetObject"))?.to_vec();
        let found = Digest::of(&bytes);
        if found == digest { Ok(bytes) } else { Err(PortError::Damaged { expected: digest, found }) }
    }

    async fn file(&self, digest: Digest) -> Result<PathBuf, PortError> {
        match self.cache.file(digest).await {
            Err(PortError::NoBlob(_)) => {}
            found => return found,
        }
        let (_, mut body) = self.object(digest).await?;
        let write = |source| PortError::File { action: "write", path: self.folder.clone(), source };
        let (file, path) =
            tempfile::Builder::new().prefix(".blob-").tempfile_in(&self.folder).map_err(write)?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        while let Some(chunk) = body.try_next().await.map_err(failed(SERVICE, "GetObject"))? {
            file.write_all(&chunk).await.map_err(write)?;
        }
        file.flush().await.map_err(write)?;
        let found = self.cache.put_file(&path).await?;
        if found != digest {
            self.cache.remove(found).await?;
            return Err(PortError::Damaged { expected: digest, found });
        }
        self.cache.file(digest).await
    }

    async fn contains(&self, digest: Digest) -> Result<bool, PortError> {
        let answer = self.bucket.client.head_object().bucket(&self.bucket.name).key(self.key(digest)).send().await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
            // An answer to HEAD has no body that could say what is wrong.
            Err(error) => match error.raw_response().map(|answer| answer.status().as_u16()) {
                Some(status) => {
                    Err(malformed(SERVICE, "HeadObject", format!("answered {status}: {}", sign::chain(&error))))
                }
                None => Err(failed(SERVICE, "HeadObject")(error)),
            },
        }
    }

    async fn remove(&self, digest: Digest) -> Result<(), PortError> {
        self.bucket
            .client
            .delete_object()
            .bucket(&self.bucket.name)
            .key(self.key(digest))
            .send()
            .await
            .map_err(failed(SERVICE, "DeleteObject"))?;
        self.cache.remove(digest).await
    }
}
