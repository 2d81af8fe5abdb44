//! What is asked of a registry's provider instead of the registry.

use std::fmt;

use async_trait::async_trait;

use super::Credentials;
use crate::{Reference, Repository, Result};

/// A provider of registries, such as ECR, that has an interface of its own for what it does not do by
/// the distribution spec. Repositories are named as the registry names them.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// Credentials that are good now. Asked for with each request that needs them, so that
    /// providers keep them until they run out.
    async fn credentials(&self) -> Result<Credentials>;

    /// Makes the repository where it is not there. Asked for before each write to it, so that
    /// providers remember which are there.
    async fn make_repository(&self, repository: &Repository) -> Result<()>;

    /// All repositories of the registry.
    async fn repositories(&self) -> Result<Vec<Repository>>;

    /// Removes a manifest with its tags, or a tag alone; tells whether it was there. What no
    /// manifest names any longer the provider removes by itself.
    async fn delete_manifest(&self, repository: &Repository, reference: &Reference) -> Result<bool>;
}
