//! Copying images between registries, with everything attached to them.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use sign::Digest;

use crate::{
    Error, Manifest, Reference, Registry, Repository, Result, Tag, TagRule,
    manifest::digest_of,
    registry::{expect_blob, expect_manifest},
};

/// The deepest nesting of indexes and referrers followed.
const MAX_DEPTH: usize = 8;

/// What a copy takes along and leaves behind.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Also the referrers of every manifest copied: signatures, SBOMs, provenance.
    pub referrers: bool,
    /// The tag in the destination; none leaves the copy untagged.
    pub tag: Option<Tag>,
    /// What to do where that tag stands for something else.
    pub rule: TagRule,
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
        referrers: options.referrers,
        seen: HashSet::new(),
        report: CopyReport { digest, blobs: 0, bytes: 0, manifests: 0 },
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
    referrers: bool,
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
            for blob in facts.blobs() {
                if blob.urls().as_ref().is_none_or(Vec::is_empty) {
                    self.blob(digest_of(blob)?).await?;
                }
            }
            let (destination, repository) = self.destination;
            if destination.resolve(repository, &manifest.digest.into()).await?.is_none() {
                destination.put_manifest(repository, &manifest, None, TagRule::Move).await?;
                self.report.manifests += 1;
            }
            if self.referrers {
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

    async fn blob(&mut self, digest: Digest) -> Result<()> {
        let (destination, repository) = self.destination;
        if !self.seen.insert(digest) || destination.blob_size(repository, digest).await?.is_some() {
            return Ok(());
        }
        let blob = expect_blob(self.source.0, self.source.1, digest).await?;
        let size = blob.size;
        destination.put_blob(repository, digest, size, blob.stream).await?;
        self.report.blobs += 1;
        self.report.bytes += size;
        Ok(())
    }
}
