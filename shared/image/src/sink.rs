use std::io::{self, Write};

/// Where an image's blobs go: an OCI layout, a registry, an object store.
pub trait BlobSink {
    /// Begins a blob whose digest is not known yet.
    ///
    /// # Errors
    /// Whatever keeps the sink from taking a blob.
    fn begin(&mut self) -> io::Result<Box<dyn BlobWriter + '_>>;
}

/// A blob being written. One that is dropped without [`BlobWriter::commit`] leaves nothing behind.
pub trait BlobWriter: Write {
    /// Makes the blob available under its digest. `digest` is `sha256:HEX` of all that was written
    /// and `size` its bytes; both were computed while writing.
    ///
    /// # Errors
    /// Whatever keeps the blob from being durable.
    fn commit(self: Box<Self>, digest: &str, size: u64) -> io::Result<()>;
}
