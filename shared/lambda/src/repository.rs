use std::path::Path;

use apk::Architecture;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use ports::PortError;
use stage::PackageRepository;

/// `Cache-Control` of what is written again.
const CHANGES: &str = "public, max-age=60, must-revalidate";

/// The apk repository as objects `PREFIXARCH/NAME-VERSION.apk` and `PREFIXARCH/APKINDEX.tar.gz`.
#[derive(Clone, Debug)]
pub struct BucketRepository {
    client: Client,
    bucket: String,
    prefix: String,
}

impl BucketRepository {
    /// A repository in a bucket, under `prefix`.
    pub fn new(client: Client, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into(), prefix: prefix.into() }
    }

    async fn put_file(
        &self,
        architecture: Architecture,
        name: &str,
        path: &Path,
        cache: &str,
    ) -> Result<(), PortError> {
        let body = ByteStream::from_path(path).await.map_err(|error| PortError::Service {
            service: "S3",
            action: "PutObject",
            reason: format!("read `{}`: {}", path.display(), sign::chain(&error)),
        })?;
        self.put(architecture, name, body, cache).await
    }

    async fn put(
        &self,
        architecture: Architecture,
        name: &str,
        body: ByteStream,
        cache: &str,
    ) -> Result<(), PortError> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(format!("{}{}/{name}", self.prefix, architecture.apk()))
            .cache_control(cache)
            .body(body)
            .send()
            .await
            .map_err(|error| PortError::Service { service: "S3", action: "PutObject", reason: sign::chain(&error) })?;
        Ok(())
    }
}

#[async_trait]
impl PackageRepository for BucketRepository {
    async fn publish_package(&self, architecture: Architecture, file_name: &str, path: &Path) -> Result<(), PortError> {
        // A package's bytes never change, so writing them again is free of harm; what is said of it may.
        let cache = if file_name.ends_with(".apk") { "public, max-age=31536000, immutable" } else { CHANGES };
        self.put_file(architecture, file_name, path, cache).await
    }

    async fn replace_attestation(
        &self,
        architecture: Architecture,
        file_name: &str,
        path: &Path,
    ) -> Result<(), PortError> {
        self.put_file(architecture, file_name, path, CHANGES).await
    }

    async fn publish_index(&self, architecture: Architecture, archive: &[u8]) -> Result<(), PortError> {
        self.put(architecture, "APKINDEX.tar.gz", archive.to_vec().into(), CHANGES).await
    }
}
