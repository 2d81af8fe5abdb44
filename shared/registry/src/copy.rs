//! Copying images between registries, with everything attached to them.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use sign::Digest;

use crate::{
    Error, Manifest, Reference, Registry, Repository, Result, Tag, TagRule,
    manifest::digest_of,
    registry::{expect_blob, expect_manifest},
};

/// The deepest nesting of indexes and referrers followed.
const MAX_DEPTH: usize = 8;

/// How often a blob's transfer is begun anew after its upload was lost.
const TRIES: usize = 3;

/// What a copy takes along and leaves behind.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Also the referrers of every manifest copied: signatures, SBOMs, provenance.
    pub referrers: bool,
    /// The tag in the destination; none leaves the copy untagged.
    pub tag: Option<Tag>,
    /// What to do where that tag stands for something else.
    pub rule: TagRule,
    /// A repository of the destination that may have blobs already; these are taken from there.
    pub mount_from: Option<Repository>,
    /// How many blobs are transferred at once; at least 1.
    pub parallel: usize,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { referrers: false, tag: None, rule: TagRule::Move, mount_from: None, parallel: 4 }
    }
}

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyReport {
    /// The digest of the image.
    pub digest: Digest,
    /// Blobs that were transferred; the others were there already.
    pub blobs: usize,
    /// The size of these blobs in bytes.
    pub bytes: u64,
    /// Blobs that were taken from another repository of the destination.
    pub mounted: usize,
    /// Manifests that were put, referrers among them.
    pub manifests: usize,
}

/// Copies an image: first what it names, then it, then its tag, so that no reader of the
/// destination sees a part of it. Every byte is checked against its digest on the way.
///
/// # Errors
/// [`Error::ManifestUnknown`] or [`Error::BlobUnknown`] where the source lacks something; the
/// registries'.
pub async fn copy(
    source: (&dyn Registry, &Repository),
    reference: &Reference,
    destination: (&dyn Registry, &Repository),
    options: &CopyOptions,
) -> Result<CopyReport> {
    let manifest = expect_manifest(source.0, source.1, reference).await?;
    let digest = manifest.digest;
    let mut copying = Copying {
        source,
        destination,
        options,
        seen: HashSet::new(),
        report: CopyReport { digest, blobs: 0, bytes: 0, mounted: 0, manifests: 0 },
    };
    copying.manifest(manifest.clone(), 0).await?;
    if let Some(tag) = &options.tag {
        destination.0.put_manifest(destination.1, &manifest, Some(tag), options.rule).await?;
    }
    Ok(copying.report)
}

struct Copying<'a> {
    source: (&'a dyn Registry, &'a Repository),
    destination: (&'a dyn Registry, &'a Repository),
    options: &'a CopyOptions,
    seen: HashSet<Digest>,
    report: CopyReport,
}

impl Copying<'_> {
    fn manifest(&mut self, manifest: Manifest, depth: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if depth > MAX_DEPTH {
                return Err(Error::manifest(format!("nested deeper than {MAX_DEPTH}")));
            }
            if !self.seen.insert(manifest.digest) {
                return Ok(());
            }
            let facts = manifest.facts()?;
            for child in &facts.manifests {
                let child = self.read(digest_of(child)?).await?;
                self.manifest(child, depth + 1).await?;
            }
            let mut blobs = Vec::new();
            for blob in facts.blobs() {
                let digest = digest_of(blob)?;
                if blob.urls().as_ref().is_none_or(Vec::is_empty) && self.seen.insert(digest) {
                    blobs.push(digest);
                }
            }
            self.blobs(blobs).await?;
            let (destination, repository) = self.destination;
            if destination.resolve(repository, &manifest.digest.into()).await?.is_none() {
                destination.put_manifest(repository, &manifest, None, TagRule::Move).await?;
                self.report.manifests += 1;
            }
            if self.options.referrers {
                let (source, repository) = self.source;
                for referrer in source.referrers(repository, manifest.digest, None).await? {
                    let referrer = self.read(digest_of(&referrer)?).await?;
                    self.manifest(referrer, depth + 1).await?;
                }
            }
            Ok(())
        })
    }

    async fn read(&self, digest: Digest) -> Result<Manifest> {
        expect_manifest(self.source.0, self.source.1, &digest.into()).await
    }

    async fn blobs(&mut self, digests: Vec<Digest>) -> Result<()> {
        let (source, destination, mount_from) = (self.source, self.destination, self.options.mount_from.as_ref());
        let mut transfers = stream::iter(digests)
            .map(|digest| blob(source, destination, mount_from, digest))
            .buffer_unordered(self.options.parallel.max(1));
        while let Some(transfer) = transfers.try_next().await? {
            match transfer {
                Transfer::Known => {}
                Transfer::Mounted => self.report.mounted += 1,
                Transfer::Sent(size) => {
                    self.report.blobs += 1;
                    self.report.bytes += size;
                }
            }
        }
        Ok(())
    }
}

enum Transfer {
    Known,
    Mounted,
    Sent(u64),
}

async fn blob(
    (source, source_repository): (&dyn Registry, &Repository),
    (destination, repository): (&dyn Registry, &Repository),
    mount_from: Option<&Repository>,
    digest: Digest,
) -> Result<Transfer> {
    if destination.blob_size(repository, digest).await?.is_some() {
        return Ok(Transfer::Known);
    }
    if let Some(from) = mount_from
        && destination.mount_blob(repository, digest, from).await?
    {
        return Ok(Transfer::Mounted);
    }
    let mut tries = 0;
    loop {
        let blob = expect_blob(source, source_repository, digest).await?;
        let size = blob.size;
        tries += 1;
        match destination.put_blob(repository, digest, size, blob.stream).await {
            Ok(()) => return Ok(Transfer::Sent(size)),
            // The destination has lost the upload, which only the source's first byte can cure.
            Err(error @ Error::Status { status: 404, .. }) if tries < TRIES => {
                tracing::debug!(%repository, %digest, %error, "an upload was lost, beginning anew");
            }
            Err(error) => return Err(error),
        }
    }
}
