use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::{Engine, engine::general_purpose::STANDARD};
use ports::local::{FileBlobs, digest_of_file};
use ports::{Blobs, Digest, PortError};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::error::{failed, malformed};

const SERVICE: &str = "S3";

/// What is sent in one request; larger files go in parts of this size, in bytes. S3 takes 10,000
/// parts.
const PART_BYTES: u64 = 32 << 20;

/// Blobs as objects `PREFIX/sha256/XX/REST` of a bucket, written once, under the checksum that
/// names them.
#[derive(Clone, Debug)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
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
        Self { client, bucket: bucket.into(), prefix: prefix.into(), cache: cache_blobs, folder: cache }
    }

    fn key(&self, digest: Digest) -> String {
        let name = digest.hex();
        let (shard, rest) = name.split_at(2);
        format!("{}sha256/{shard}/{rest}", self.prefix)
    }

    async fn upload(&self, digest: Digest, body: ByteStream) -> Result<(), PortError> {
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(digest))
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(digest.as_bytes()))
            .body(body)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if is_there(&error) => Ok(()),
            Err(error) => Err(failed(SERVICE, "PutObject")(error)),
        }
    }

    async fn upload_parts(&self, digest: Digest, path: &Path, size: u64) -> Result<(), PortError> {
        let key = self.key(digest);
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .map_err(failed(SERVICE, "CreateMultipartUpload"))?;
        let upload = created
            .upload_id()
            .ok_or_else(|| malformed(SERVICE, "CreateMultipartUpload", "the answer has no upload id"))?;
        let result = self.send_parts(&key, upload, path, size).await;
        if result.is_err() {
            let aborted =
                self.client.abort_multipart_upload().bucket(&self.bucket).key(&key).upload_id(upload).send().await;
            if let Err(error) = aborted {
                tracing::warn!(key, upload, "parts of an upload stay in the bucket: {}", sign::chain(&error));
            }
        }
        result
    }

    async fn send_parts(&self, key: &str, upload: &str, path: &Path, size: u64) -> Result<(), PortError> {
        let read = |action| {
            let path = path.to_owned();
            move |source| PortError::File { action, path, source }
        };
        let mut file = tokio::fs::File::open(path).await.map_err(read("open"))?;
        let mut parts = CompletedMultipartUpload::builder();
        let mut start = 0;
        for number in 1.. {
            let length = PART_BYTES.min(size.saturating_sub(start));
            if length == 0 {
                break;
            }
            file.seek(SeekFrom::Start(start)).await.map_err(read("read"))?;
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            (&mut file).take(length).read_to_end(&mut bytes).await.map_err(read("read"))?;
            if bytes.len() as u64 != length {
                return Err(malformed(SERVICE, "UploadPart", format!("`{}` became shorter meanwhile", path.display())));
            }
            let checksum = STANDARD.encode(Digest::of(&bytes).as_bytes());
            let part = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .part_number(number)
                .checksum_sha256(&checksum)
                .body(ByteStream::from(bytes))
                .send()
                .await
                .map_err(failed(SERVICE, "UploadPart"))?;
            let done = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).checksum_sha256(checksum);
            parts = parts.parts(done.build());
            start += length;
        }
        let completed = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .if_none_match("*")
            .multipart_upload(parts.build())
            .send()
            .await;
        match completed {
            Ok(_) => Ok(()),
            Err(error) if is_there(&error) => Ok(()),
            Err(error) => Err(failed(SERVICE, "CompleteMultipartUpload")(error)),
        }
    }

    async fn object(&self, digest: Digest) -> Result<(u64, ByteStream), PortError> {
        let answer = self.client.get_object().bucket(&self.bucket).key(self.key(digest)).send().await;
        match answer {
            Ok(object) => {
                let size = object.content_length.and_then(|length| u64::try_from(length).ok());
                let size = size.ok_or_else(|| malformed(SERVICE, "GetObject", "the answer states no length"))?;
                Ok((size, object.body))
            }
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => {
                Err(PortError::NoBlob(digest))
            }
            Err(error) => Err(failed(SERVICE, "GetObject")(error)),
        }
    }
}

/// Whether a write was refused because the object exists, or is being written by another with the
/// same content.
fn is_there<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("PreconditionFailed")
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PortError> {
        let digest = Digest::of(&bytes);
        if !self.contains(digest).await? {
            self.upload(digest, ByteStream::from(bytes)).await?;
        }
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, PortError> {
        let digest = digest_of_file(path).await?;
        if self.contains(digest).await? {
            return Ok(digest);
        }
        let read = |source| PortError::File { action: "read", path: path.to_owned(), source };
        let size = tokio::fs::metadata(path).await.map_err(read)?.len();
        if size > PART_BYTES {
            self.upload_parts(digest, path, size).await?;
        } else {
            // S3 checks the checksum, so that a file changed meanwhile is refused.
            self.upload(digest, ByteStream::from(tokio::fs::read(path).await.map_err(read)?)).await?;
        }
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
        let answer = self.client.head_object().bucket(&self.bucket).key(self.key(digest)).send().await;
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
        self.client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.key(digest))
            .send()
            .await
            .map_err(failed(SERVICE, "DeleteObject"))?;
        self.cache.remove(digest).await
    }
}
