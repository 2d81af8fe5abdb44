//! The factory's own apk repository: what is in it, and how it is published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apk::{Architecture, IndexEntry};
use async_trait::async_trait;
use image::PackageFile;
use ports::local::write_atomically;
use ports::{Digest, PortError, State};
use serde::{Deserialize, Serialize};

use crate::record::{self, RepositoryEntry, Withdrawal};
use crate::{Context, StageError};

/// Where packages are published for clients.
#[async_trait]
pub trait PackageRepository: Send + Sync {
    /// Makes a signed package available under its file name. Repeating it is free.
    async fn publish_package(&self, architecture: Architecture, file_name: &str, path: &Path) -> Result<(), PortError>;

    /// Puts a file that is about a package in the place of an older one. Clients see the old or the
    /// new one.
    async fn replace_attestation(
        &self,
        architecture: Architecture,
        file_name: &str,
        path: &Path,
    ) -> Result<(), PortError>;

    /// Replaces the signed index. Clients see the old or the new one.
    async fn publish_index(&self, architecture: Architecture, archive: &[u8]) -> Result<(), PortError>;
}

/// A repository as folders `ARCH/` of files, as apk clients expect them.
#[derive(Clone, Debug)]
pub struct FolderRepository {
    root: PathBuf,
}

impl FolderRepository {
    /// A repository below `root`, which exists.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn folder(&self, architecture: Architecture) -> Result<PathBuf, PortError> {
        let folder = self.root.join(architecture.apk());
        std::fs::create_dir_all(&folder).map_err(|source| PortError::File {
            action: "create folder",
            path: folder.clone(),
            source,
        })?;
        Ok(folder)
    }
}

#[async_trait]
impl PackageRepository for FolderRepository {
    async fn publish_package(&self, architecture: Architecture, file_name: &str, path: &Path) -> Result<(), PortError> {
        let target = self.folder(architecture)?.join(file_name);
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            if target.exists() {
                return Ok(());
            }
            let failed = |source| PortError::File { action: "publish", path: target.clone(), source };
            match std::fs::hard_link(&path, &target) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                    let bytes = std::fs::read(&path).map_err(failed)?;
                    write_atomically(&target, &bytes)
                }
                other => other.map_err(failed),
            }
        })
        .await?
    }

    async fn replace_attestation(
        &self,
        architecture: Architecture,
        file_name: &str,
        path: &Path,
    ) -> Result<(), PortError> {
        let target = self.folder(architecture)?.join(file_name);
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let bytes = std::fs::read(&path).map_err(|source| PortError::File { action: "read", path, source })?;
            write_atomically(&target, &bytes)
        })
        .await?
    }

    async fn publish_index(&self, architecture: Architecture, archive: &[u8]) -> Result<(), PortError> {
        let target = self.folder(architecture)?.join("APKINDEX.tar.gz");
        let archive = archive.to_vec();
        tokio::task::spawn_blocking(move || write_atomically(&target, &archive)).await?
    }
}

/// A package chosen from the repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// Its index record.
    pub entry: IndexEntry,
    /// The signed file.
    pub blob: Digest,
}

/// Every package of the repository for one architecture, by name and version, without those that
/// were withdrawn.
///
/// # Errors
/// When the state can't be read.
pub async fn entries(context: &Context, architecture: Architecture) -> Result<Vec<RepositoryEntry>, StageError> {
    listed(context.state.as_ref(), architecture).await
}

pub(crate) async fn listed(state: &dyn State, architecture: Architecture) -> Result<Vec<RepositoryEntry>, StageError> {
    let withdrawn = withdrawals(state).await?;
    let documents = state.list_all(&record::repository(architecture), "").await?;
    let mut entries: Vec<RepositoryEntry> = documents.iter().map(ports::Document::decode).collect::<Result<_, _>>()?;
    if !withdrawn.is_empty() {
        entries.retain(|entry| {
            let version = (entry.definition.clone(), entry.entry.information.version.clone());
            !withdrawn.contains_key(&version)
        });
    }
    Ok(entries)
}

/// Every withdrawn version, by definition and version.
///
/// # Errors
/// When the state can't be read.
pub async fn withdrawals(state: &dyn State) -> Result<BTreeMap<(String, String), Withdrawal>, StageError> {
    let documents = state.list_all(record::WITHDRAWN, "").await?;
    let withdrawals = documents.iter().map(ports::Document::decode::<Withdrawal>);
    let keyed = withdrawals.map(|found| found.map(|found| ((found.package.clone(), found.version.clone()), found)));
    Ok(keyed.collect::<Result<_, _>>()?)
}

/// The chosen packages with their files at hand.
///
/// # Errors
/// When a file can't be had.
pub async fn files(context: &Context, chosen: &[Resolved]) -> Result<Vec<PackageFile>, StageError> {
    let mut files = Vec::with_capacity(chosen.len());
    for package in chosen {
        files.push(PackageFile { entry: package.entry.clone(), path: context.blobs.file(package.blob).await? });
    }
    Ok(files)
}
