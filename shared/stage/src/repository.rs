//! The factory's own apk repository: what is in it, and how it is published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apk::{Architecture, Dependency, Index, IndexEntry, IndexRecord};
use async_trait::async_trait;
use image::PackageFile;
use ports::local::write_atomically;
use ports::{Digest, PortError, State};
use serde::{Deserialize, Serialize};
use sign::Signer;

use crate::record::{self, RepositoryEntry, Withdrawal};
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

async fn listed(state: &dyn State, architecture: Architecture) -> Result<Vec<RepositoryEntry>, StageError> {
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
    let records: Vec<IndexRecord<'_>> = entries.iter().map(|entry| IndexRecord::from(&entry.entry)).collect();
    let repository = solve::Repository { name: "minimill".to_owned(), tag: None, records: &records };
    let universe = solve::Universe::new(architecture, &[repository]).map_err(|error| rejected(&error))?;
    let solution = solve::solve(&universe, &solve::Task::new(subject, &wants)).map_err(|failure| rejected(&failure))?;
    solution
        .packages()
        .map(|chosen| {
            let entry = chosen.place.and_then(|place| entries.get(place.position)).ok_or_else(|| {
                StageError::Rejected(format!("the solver chose `{}`, which is in no repository", chosen.entry.name))
            })?;
            Ok(Resolved { entry: entry.entry.clone(), blob: entry.blob })
        })
        .collect()
}

/// Signs and publishes the index of what the state lists. When other packages are published
/// meanwhile, the index is written again: whoever writes last has seen them all.
///
/// # Errors
/// When the state can't be read, or signing or writing fails.
pub async fn publish_index(context: &Context, architecture: Architecture) -> Result<(), StageError> {
    let (state, key) = (context.state.as_ref(), context.package_key.as_ref());
    publish_listed(state, key, context.repository.as_ref(), architecture).await
}

async fn publish_listed(
    state: &dyn State,
    key: &dyn Signer,
    repository: &dyn PackageRepository,
    architecture: Architecture,
) -> Result<(), StageError> {
    let mut entries = listed(state, architecture).await?;
    loop {
        repository.publish_index(architecture, &signed_index(key, &entries).await?).await?;
        let now = listed(state, architecture).await?;
        if now == entries {
            return Ok(());
        }
        entries = now;
    }
}

async fn signed_index(key: &dyn Signer, entries: &[RepositoryEntry]) -> Result<Vec<u8>, StageError> {
    let newest = entries.iter().map(|entry| entry.entry.information.build_date).max().unwrap_or(0);
    let mtime = u64::try_from(newest).unwrap_or(0);
    let index = Index {
        description: "minimill".to_owned(),
        entries: entries.iter().map(|entry| entry.entry.clone()).collect(),
    };
    let unsigned = index.write(mtime).map_err(|error| StageError::environment("write the index")(&error))?;
    let signature = key
        .sign_digest(*Digest::of(&unsigned).as_bytes())
        .await
        .map_err(|error| StageError::environment("sign the index")(&error))?;
    let mut archive = apk::signature_member(key.key_name(), &signature, mtime)
        .map_err(|error| StageError::environment("sign the index")(&error))?;
    archive.extend_from_slice(&unsigned);
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use apk::PackageInformation;
    use ports::local::Database;
    use ports::{Condition, Key, SystemClock, Transaction};

    use super::*;

    async fn add(state: &dyn State, name: &str) {
        let information = PackageInformation {
            name: name.to_owned(),
            version: "1-r0".to_owned(),
            architecture: "x86_64".to_owned(),
            ..PackageInformation::default()
        };
        let entry = RepositoryEntry {
            entry: IndexEntry { checksum: format!("Q1{}=", "A".repeat(27)), size: 1, information },
            blob: Digest::of(b""),
            definition: name.to_owned(),
            provenance: Digest::of(b""),
        };
        let key = Key::new(record::repository(Architecture::X86_64), format!("{name}=1-r0"));
        let mut transaction = Transaction::default();
        transaction.put(key, Condition::Absent, &entry).unwrap();
        state.commit(transaction).await.unwrap();
    }

    /// While the first index is on its way, another worker publishes `late`.
    struct Busy {
        state: Arc<dyn State>,
        written: Mutex<Vec<Vec<u8>>>,
    }

    #[async_trait]
    impl PackageRepository for Busy {
        async fn publish_package(&self, _: Architecture, _: &str, _: &Path) -> Result<(), PortError> {
            Ok(())
        }

        async fn publish_index(&self, _: Architecture, archive: &[u8]) -> Result<(), PortError> {
            if self.written.lock().unwrap().is_empty() {
                add(self.state.as_ref(), "late").await;
            }
            self.written.lock().unwrap().push(archive.to_vec());
            Ok(())
        }
    }

    /// `cargo test -p stage --release -- --ignored --nocapture the_index_of` prints the times.
    #[tokio::test]
    #[ignore = "a measurement: it makes 5,000 documents"]
    async fn the_index_of_a_whole_distribution_is_written_in_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let state: Arc<dyn State> =
            Arc::new(Database::open(&folder.path().join("state"), Arc::new(SystemClock)).unwrap());
        let key = sign::LocalRsaKey::load_or_create(&folder.path().join("test.rsa"), 2048).unwrap();
        let target = FolderRepository::new(folder.path().to_owned());
        let mut times = Vec::new();
        for thousand in 0..5 {
            for number in 0..1000 {
                add(state.as_ref(), &format!("package-{thousand}-{number:03}")).await;
            }
            let start = std::time::Instant::now();
            let entries = listed(state.as_ref(), Architecture::X86_64).await.unwrap();
            let read = start.elapsed();
            publish_listed(state.as_ref(), &key, &target, Architecture::X86_64).await.unwrap();
            times.push((entries.len(), read, start.elapsed() - read));
            println!("{} entries: read in {read:?}, index written in {:?}", entries.len(), start.elapsed() - read);
        }
        let (first, last) = (times[0].2, times[4].2);
        assert!(last < first * 12, "five times the packages take {:?} instead of {first:?}", last);
    }

    #[tokio::test]
    async fn an_index_that_is_outdated_when_written_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let state: Arc<dyn State> =
            Arc::new(Database::open(&folder.path().join("state"), Arc::new(SystemClock)).unwrap());
        let key = sign::LocalRsaKey::load_or_create(&folder.path().join("test.rsa"), 2048).unwrap();
        add(state.as_ref(), "early").await;
        let busy = Busy { state: state.clone(), written: Mutex::default() };
        publish_listed(state.as_ref(), &key, &busy, Architecture::X86_64).await.unwrap();
        let names: Vec<Vec<String>> = busy
            .written
            .lock()
            .unwrap()
            .iter()
            .map(|archive| {
                let read = Index::read("index", archive.as_slice(), apk::Trust::Unverified).unwrap();
                read.index.entries.into_iter().map(|entry| entry.information.name).collect()
            })
            .collect();
        assert_eq!(names, [vec!["early"], vec!["early", "late"]]);
    }
}
