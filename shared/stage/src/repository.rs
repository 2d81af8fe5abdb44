//! The factory's own apk repository: what is in it, and how it is published.

use std::path::{Path, PathBuf};

use apk::{Architecture, Dependency, Index, IndexEntry};
use async_trait::async_trait;
use ports::local::write_atomically;
use ports::{Digest, PortError};

use crate::record::{self, RepositoryEntry};
use crate::{Context, StageError, chain};

/// Where packages are published for clients.
#[async_trait]
pub trait PackageRepository: Send + Sync {
    /// Makes a signed package available under its file name. Repeating it is free.
    async fn publish_package(&self, architecture: Architecture, file_name: &str, path: &Path) -> Result<(), PortError>;

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

    async fn publish_index(&self, architecture: Architecture, archive: &[u8]) -> Result<(), PortError> {
        let target = self.folder(architecture)?.join("APKINDEX.tar.gz");
        let archive = archive.to_vec();
        tokio::task::spawn_blocking(move || write_atomically(&target, &archive)).await?
    }
}

/// A package chosen from the repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Its index record.
    pub entry: IndexEntry,
    /// The signed file.
    pub blob: Digest,
}

/// Every package of the repository for one architecture, by name and version.
///
/// # Errors
/// When the state can't be read.
pub async fn entries(context: &Context, architecture: Architecture) -> Result<Vec<RepositoryEntry>, StageError> {
    let documents = context.state.list_all(&record::repository(architecture), "").await?;
    Ok(documents.iter().map(ports::Document::decode).collect::<Result<_, _>>()?)
}

/// Chooses the packages that satisfy `wants`, in install order. `subject` is who wants, for messages.
///
/// # Errors
/// [`StageError::Rejected`] with the chain of reasons when nothing satisfies them.
pub async fn resolve(
    context: &Context,
    architecture: Architecture,
    subject: &str,
    wants: &[String],
) -> Result<Vec<Resolved>, StageError> {
    let entries = entries(context, architecture).await?;
    choose(&entries, architecture, subject, wants)
}

/// Chooses among given packages; see [`resolve`].
///
/// # Errors
/// As [`resolve`].
pub fn choose(
    entries: &[RepositoryEntry],
    architecture: Architecture,
    subject: &str,
    wants: &[String],
) -> Result<Vec<Resolved>, StageError> {
    let rejected = |error: &dyn std::error::Error| StageError::Rejected(chain(error));
    let wants = wants
        .iter()
        .map(|want| want.parse())
        .collect::<Result<Vec<Dependency>, _>>()
        .map_err(|error| rejected(&error))?;
    let index: Vec<IndexEntry> = entries.iter().map(|entry| entry.entry.clone()).collect();
    let repository = solve::Repository { name: "minimill".to_owned(), tag: None, entries: &index };
    let universe = solve::Universe::new(architecture, &[repository]).map_err(|error| rejected(&error))?;
    let solution = solve::solve(&universe, &solve::Task::new(subject, &wants)).map_err(|failure| rejected(&failure))?;
    solution
        .packages()
        .map(|chosen| {
            let position = index.iter().position(|entry| std::ptr::eq(entry, chosen.entry));
            let blob = position.and_then(|position| entries.get(position)).map(|entry| entry.blob);
            let blob = blob.ok_or_else(|| {
                StageError::Rejected(format!(
                    "the solver chose `{}`, which is in no repository",
                    chosen.entry.information.name
                ))
            })?;
            Ok(Resolved { entry: chosen.entry.clone(), blob })
        })
        .collect()
}

/// Signs and publishes the index of what the state lists. When other packages are published
/// meanwhile, the index is written again: whoever writes last has seen them all.
///
/// # Errors
/// When the state can't be read, or signing or writing fails.
pub async fn publish_index(context: &Context, architecture: Architecture) -> Result<(), StageError> {
    let mut listed = entries(context, architecture).await?;
    loop {
        let archive = signed_index(context, &listed).await?;
        context.repository.publish_index(architecture, &archive).await?;
        let now = entries(context, architecture).await?;
        if now == listed {
            return Ok(());
        }
        listed = now;
    }
}

async fn signed_index(context: &Context, entries: &[RepositoryEntry]) -> Result<Vec<u8>, StageError> {
    let newest = entries.iter().map(|entry| entry.entry.information.build_date).max().unwrap_or(0);
    let mtime = u64::try_from(newest).unwrap_or(0);
    let index = Index {
        description: "minimill".to_owned(),
        entries: entries.iter().map(|entry| entry.entry.clone()).collect(),
    };
    let unsigned = index.write(mtime).map_err(|error| StageError::environment("write the index")(&error))?;
    let signature = context
        .package_key
        .sign_digest(*Digest::of(&unsigned).as_bytes())
        .await
        .map_err(|error| StageError::environment("sign the index")(&error))?;
    let mut archive = apk::signature_member(context.package_key.key_name(), &signature, mtime)
        .map_err(|error| StageError::environment("sign the index")(&error))?;
    archive.extend_from_slice(&unsigned);
    Ok(archive)
}
