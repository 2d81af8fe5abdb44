//! A part of a registry: the repositories below a common name.

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::image::Descriptor;
use sign::Digest;

use crate::{Blob, ByteStream, Manifest, Reference, Registry, Repository, Result, Tag, TagRule};

/// The repositories of another registry whose names begin with a prefix and `/`, named without them.
pub struct Below {
    registry: Arc<dyn Registry>,
    prefix: Repository,
}

impl Below {
    /// The repositories of `registry` below `prefix`.
    pub fn new(registry: Arc<dyn Registry>, prefix: Repository) -> Self {
        Self { registry, prefix }
    }

    /// The other registry's name of a repository.
    fn name(&self, repository: &Repository) -> Result<Repository> {
        format!("{}/{repository}", self.prefix).parse()
    }
}

#[async_trait]
impl Registry for Below {
    async fn blob_size(&self, repository: &Repository, digest: Digest) -> Result<Option<u64>> {
        self.registry.blob_size(&self.name(repository)?, digest).await
    }

    async fn blob(&self, repository: &Repository, digest: Digest) -> Result<Option<Blob>> {
        self.registry.blob(&self.name(repository)?, digest).await
    }

    async fn put_blob(&self, repository: &Repository, digest: Digest, size: u64, stream: ByteStream) -> Result<()> {
        self.registry.put_blob(&self.name(repository)?, digest, size, stream).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: Digest, from: &Repository) -> Result<bool> {
        self.registry.mount_blob(&self.name(repository)?, digest, &self.name(from)?).await
    }

    async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Option<Digest>> {
        self.registry.resolve(&self.name(repository)?, reference).await
    }

    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<Manifest>> {
        self.registry.manifest(&self.name(repository)?, reference).await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tag: Option<&Tag>,
        rule: TagRule,
    ) -> Result<()> {
        self.registry.put_manifest(&self.name(repository)?, manifest, tag, rule).await
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        self.registry.tags(&self.name(repository)?).await
    }

    async fn repositories(&self) -> Result<Vec<Repository>> {
        let start = format!("{}/", self.prefix);
        let all = self.registry.repositories().await?;
        all.iter().filter_map(|name| name.as_str().strip_prefix(&start)).map(str::parse).collect()
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        self.registry.referrers(&self.name(repository)?, subject, artifact_type).await
    }

    async fn delete_manifest(&self, repository: &Repository, reference: &Reference) -> Result<bool> {
        self.registry.delete_manifest(&self.name(repository)?, reference).await
    }

    async fn delete_blob(&self, repository: &Repository, digest: Digest) -> Result<bool> {
        self.registry.delete_blob(&self.name(repository)?, digest).await
    }
}
