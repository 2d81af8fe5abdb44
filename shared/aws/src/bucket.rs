//! Objects of a bucket, by key.

use std::io::SeekFrom;
use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::{Engine, engine::general_purpose::STANDARD};
use ports::{Digest, PortError};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::error::{failed, malformed};

pub(crate) const SERVICE: &str = "S3";

/// What is sent in one request; larger files go in parts of this size, in bytes. S3 takes 10,000
/// parts.
const PART_BYTES: u64 = 32 << 20;

/// A bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub client: Client,
    pub name: String,
}

impl Bucket {
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Writes a file as an object, once: one that is there stays. `sha256` is the file's.
    pub async fn put_file(&self, key: &str, sha256: Digest, path: &Path) -> Result<(), PortError> {
        let read = |source| PortError::File { action: "read", path: path.to_owned(), source };
        let size = tokio::fs::metadata(path).await.map_err(read)?.len();
        if size > PART_BYTES {
            return self.put_parts(key, path, size).await;
        }
        // S3 checks the checksum, so that a file changed meanwhile is refused.
        self.put(key, sha256, ByteStream::from(tokio::fs::read(path).await.map_err(read)?)).await
    }

    /// An object's size in bytes, and its content; none where there is none.
    pub async fn get(&self, key: &str) -> Result<Option<(u64, ByteStream)>, PortError> {
        let answer = self.client.get_object().bucket(&self.name).key(key).send().await;
        match answer {
            Ok(object) => {
                let size = object.content_length.and_then(|length| u64::try_from(length).ok());
                let size = size.ok_or_else(|| malformed(SERVICE, "GetObject", "the answer states no length"))?;
                Ok(Some((size, object.body)))
            }
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => Ok(None),
            Err(error) => Err(failed(SERVICE, "GetObject")(error)),
        }
    }

    /// Writes an object once: one that is there stays. S3 holds its bytes against the checksum.
    pub async fn put(&self, key: &str, sha256: Digest, body: ByteStream) -> Result<(), PortError> {
        let sent = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(sha256.as_bytes()))
            .body(body)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if is_there(&error) => Ok(()),
            Err(error) => Err(failed(SERVICE, "PutObject")(error)),
        }
    }

    async fn put_parts(&self, key: &str, path: &Path, size: u64) -> Result<(), PortError> {
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .map_err(failed(SERVICE, "CreateMultipartUpload"))?;
        let upload = created
            .upload_id()
            .ok_or_else(|| malformed(SERVICE, "CreateMultipartUpload", "the answer has no upload id"))?;
        let result = self.send_parts(key, upload, path, size).await;
        if result.is_err() {
            let aborted =
                self.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(upload).send().await;
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
                .bucket(&self.name)
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
            .bucket(&self.name)
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
}

/// Whether a write was refused because the object exists, or is being written by another with the
/// same content.
fn is_there<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("PreconditionFailed")
}
