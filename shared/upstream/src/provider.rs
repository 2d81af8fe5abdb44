//! The interface behind which every ecosystem stands.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use authenticity::Signer;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::endpoints::Endpoints;
use crate::error::Result;
use crate::fetcher::Fetcher;
use crate::filter::Candidate;
use crate::npm::NpmSignature;
use crate::source::SourceUri;
use crate::store::BlobStore;

/// What every provider works with; made once and lent.
#[derive(Clone)]
pub struct Context {
    /// Registry addresses.
    pub endpoints: Arc<Endpoints>,
    /// The HTTP client.
    pub fetcher: Arc<Fetcher>,
    /// Fetched files.
    pub blobs: BlobStore,
    /// Folder for what providers keep between runs.
    pub cache: PathBuf,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// One ecosystem: its releases, and its proof that bytes are what was released.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The ecosystem's name.
    fn name(&self) -> &'static str;

    /// Whether this provider answers for `source`.
    fn handles(&self, source: &SourceUri) -> bool;

    /// Every release that the ecosystem knows of, in any order.
    async fn candidates(&self, source: &SourceUri) -> Result<Vec<Candidate>>;

    /// Fetches the version that `source` names and proves it. `expected` is the SHA-256 that the
    /// bytes must have, in lower-case hexadecimal (of a plain address it may be the SHA-512); bytes
    /// that don't are kept apart, as evidence that the error leads to.
    async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Obtained>;

    /// The signature that upstream made of the version's source with this SHA-256, where the
    /// ecosystem keeps it; `None` where it has none. It is not verified.
    async fn upstream_signature(&self, _source: &SourceUri, _sha256: &str) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// The attestations that the ecosystem publishes of the version's source, as one document;
    /// `None` where there are none. They are not verified.
    async fn attestations(&self, _source: &SourceUri) -> Result<Option<Bytes>> {
        Ok(None)
    }
}

/// A fetched and proved file in the store.
#[derive(Debug, Clone)]
pub struct Obtained {
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
    /// The name that the ecosystem gives the file.
    pub file_name: String,
    /// The proof.
    pub evidence: Evidence,
}

/// How the bytes of a source were proved, for provenance. Addresses are left out, so that two
/// mirrors give the same evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "chain", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Evidence {
    /// Debian: signed release file, source index, file.
    #[serde(rename_all = "camelCase")]
    Debian {
        /// Suite.
        suite: String,
        /// SHA-256 of the suite's `InRelease`.
        in_release_sha256: String,
        /// The release file's own date.
        release_date: Timestamp,
        /// Whose signatures on it are valid.
        signers: Vec<Signer>,
        /// Path of the source index below the suite's folder.
        sources: String,
        /// SHA-256 of the source index, as the release file states it.
        sources_sha256: String,
        /// Source package.
        package: String,
        /// Debian version.
        version: String,
        /// Path of the file below the archive's base.
        file: String,
        /// SHA-256 of the file, as the source index states it.
        sha256: String,
    },
    /// cargo: checksum in the registry's index.
    #[serde(rename_all = "camelCase")]
    Cargo {
        /// Crate.
        package: String,
        /// Version.
        version: String,
        /// SHA-256 of the crate's index file as it was read.
        index_sha256: String,
        /// SHA-256 of the file, as the index states it.
        sha256: String,
    },
    /// Python: digest in the package index.
    #[serde(rename_all = "camelCase")]
    Pypi {
        /// Project.
        package: String,
        /// Version.
        version: String,
        /// Source archive.
        file: String,
        /// SHA-256 of the project's index page as it was read.
        index_sha256: String,
        /// SHA-256 of the file, as the index states it.
        sha256: String,
    },
    /// npm: integrity in the package's document, and the registry's signature over it.
    #[serde(rename_all = "camelCase")]
    Npm {
        /// Package, with its scope.
        package: String,
        /// Version.
        version: String,
        /// SHA-256 of the package's document as it was read.
        document_sha256: String,
        /// What the document states of the file, its SHA-512 within.
        integrity: String,
        /// Id of the registry's key whose signature on it is valid; none when the registry
        /// publishes no keys.
        signed_by: Option<String>,
        /// The signatures that the document states, of `PACKAGE@VERSION:INTEGRITY`.
        signatures: Vec<NpmSignature>,
        /// When it was published, which is asked only where a key has expired since.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        published: Option<Timestamp>,
        /// SHA-256 of the file.
        sha256: String,
    },
    /// git: the commit that the definition expects, which tag or branch lead to.
    #[serde(rename_all = "camelCase")]
    Git {
        /// Address of the repository.
        repository: String,
        /// Tag or branch.
        reference: String,
        /// Name of the tag, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        /// Id of the tag object, where the tag is an annotated one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag_object: Option<String>,
        /// SHA-256 of the object that a signature stands in, which the store keeps: the annotated
        /// tag, or the commit where no tag is asked for. None for a tag that has no object, and for
        /// objects longer than 1 MiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        object_sha256: Option<String>,
        /// The commit.
        commit: String,
        /// Commits that were applied on top.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cherry_picks: Vec<String>,
        /// Id of the tree that the source is.
        tree: String,
        /// Path, address and commit of each submodule that is part of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        submodules: Vec<String>,
        /// SHA-256 of the archive that was made of it.
        sha256: String,
    },
    /// A plain address, proved only by the digest that the definition states.
    #[serde(rename_all = "camelCase")]
    Declared {
        /// Address.
        url: String,
        /// SHA-256 of the file, as the definition states it unless it states the SHA-512.
        sha256: String,
        /// SHA-512 of the file, where it is what the definition states.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha512: Option<String>,
    },
}
