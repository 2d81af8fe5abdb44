//! The signed index of the factory's own repository, and the files that it names.
//!
//! Publishing a package records that the index lacks it, in the transaction that publishes it. An
//! index that is written lists whatever is published by then, so that one is enough for all that
//! were published together, and its files are in place before it names them.

use std::path::Path;

use apk::{Architecture, Index};
use async_trait::async_trait;
use jiff::Timestamp;
use ports::{Blobs, Condition, Digest, Document, Key, State, Transaction, Write};
use serde::{Deserialize, Serialize};
use sign::Signer;

use crate::record::{self, RepositoryEntry, Unlisted};
use crate::repository::{PackageRepository, listed};
use crate::{Context, Outcome, Stage, StageError};

/// Writes of one transaction, below what every adapter keeps.
const WRITES: usize = 80;

/// Makes a published version available to clients: its files, then the index that names them.
///
/// Versions that were published together are listed together, by the first of their messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageIndex {
    /// Name of the package definition.
    pub package: String,
    /// Full version.
    pub version: String,
    /// Architecture.
    pub architecture: Architecture,
}

#[async_trait]
impl Stage for PackageIndex {
    const NAME: &'static str = "package-index";

    fn subject(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let _turn = context.caches.index_turn.lock().await;
        let key = record::unlisted(self.architecture, &self.package, &self.version);
        if context.state.get(&key).await?.is_none() {
            return Ok(Outcome::Skipped("the index lists it".to_owned()));
        }
        let (all, new) = writer(context)?.write(self.architecture).await?;
        Ok(Outcome::Done(format!("index of {all} packages, {new} versions of them new")))
    }
}

/// Adds to the transaction that publishes a version what gets it into the index.
pub(crate) fn announce(
    transaction: &mut Transaction,
    architecture: Architecture,
    unlisted: &Unlisted,
    time: Timestamp,
) -> Result<(), StageError> {
    let (package, version) = (unlisted.package.clone(), unlisted.version.clone());
    transaction.put(record::unlisted(architecture, &package, &version), Condition::Any, unlisted)?;
    note_change(transaction, architecture, time)?;
    transaction.send(PackageIndex { package, version, architecture }.envelope()?);
    Ok(())
}

/// Adds to a transaction that what the index must list has changed.
pub(crate) fn note_change(
    transaction: &mut Transaction,
    architecture: Architecture,
    time: Timestamp,
) -> Result<(), StageError> {
    Ok(transaction.put(changed_key(architecture), Condition::Any, &record::IndexChange { time })?)
}

/// Asks again for what an index lacks whose message was given up.
pub(crate) async fn resume(context: &Context, architecture: Architecture) -> Result<(), StageError> {
    let documents = context.state.list_all(&record::index(architecture), record::UNLISTED).await?;
    for chunk in documents.chunks(WRITES) {
        let mut transaction = Transaction::default();
        for document in chunk {
            let Unlisted { package, version, .. } = document.decode()?;
            transaction.send(PackageIndex { package, version, architecture }.envelope()?);
        }
        context.state.commit(transaction).await?;
    }
    Ok(())
}

/// Signs and publishes the index of what the state lists.
///
/// # Errors
/// When the state can't be read, or signing or writing fails.
pub async fn publish_index(context: &Context, architecture: Architecture) -> Result<(), StageError> {
    let _turn = context.caches.index_turn.lock().await;
    writer(context)?.write(architecture).await.map(drop)
}

fn writer(context: &Context) -> Result<IndexWriter<'_>, StageError> {
    Ok(IndexWriter {
        state: context.state.as_ref(),
        blobs: context.blobs.as_ref(),
        key: context.package_key()?,
        repository: context.repository.as_ref(),
    })
}

/// The key of [`record::IndexChange`].
pub(crate) fn changed_key(architecture: Architecture) -> Key {
    Key::new(record::index(architecture), "changed")
}

/// What writing an index takes. One writes at a time: [`Context::index_turn`].
struct IndexWriter<'a> {
    state: &'a dyn State,
    blobs: &'a dyn Blobs,
    key: &'a dyn Signer,
    repository: &'a dyn PackageRepository,
}

impl IndexWriter<'_> {
    /// Writes the index, again as long as what it must list changes meanwhile: whoever writes last
    /// has seen it all. The answer is how many packages it has, and how many versions of
    /// definitions are new in it.
    async fn write(&self, architecture: Architecture) -> Result<(usize, usize), StageError> {
        loop {
            let before = self.changed(architecture).await?;
            let entries = listed(self.state, architecture).await?;
            let unlisted = self.state.list_all(&record::index(architecture), record::UNLISTED).await?;
            for document in &unlisted {
                self.expose(architecture, &document.decode()?).await?;
            }
            let archive = signed_index(self.key, &entries).await?;
            self.repository.publish_index(architecture, &archive).await?;
            if self.changed(architecture).await? == before {
                self.remove(&unlisted).await?;
                return Ok((entries.len(), unlisted.len()));
            }
        }
    }

    /// How often what the index must list has changed.
    async fn changed(&self, architecture: Architecture) -> Result<u64, StageError> {
        Ok(self.state.get(&changed_key(architecture)).await?.map_or(0, |document| document.revision))
    }

    /// Makes the files of a version available.
    async fn expose(&self, architecture: Architecture, unlisted: &Unlisted) -> Result<(), StageError> {
        for package in &unlisted.packages {
            let key = Key::new(record::repository(architecture), format!("{package}={}", unlisted.version));
            let Some(document) = self.state.get(&key).await? else { continue };
            let entry: RepositoryEntry = document.decode()?;
            let name = entry.entry.file_name();
            self.publish(architecture, &name, entry.blob).await?;
            self.publish(architecture, &format!("{name}.sigstore.json"), entry.provenance).await?;
            if let Some(tests) = entry.tests {
                // Tests that run later replace it.
                let path = self.blobs.file(tests).await?;
                let attestation = format!("{name}.tests.sigstore.json");
                self.repository.replace_attestation(architecture, &attestation, &path).await?;
            }
        }
        Ok(())
    }

    async fn publish(&self, architecture: Architecture, name: &str, blob: Digest) -> Result<(), StageError> {
        let path = self.blobs.file(blob).await?;
        let path: &Path = &path;
        Ok(self.repository.publish_package(architecture, name, path).await?)
    }

    async fn remove(&self, unlisted: &[Document]) -> Result<(), StageError> {
        for chunk in unlisted.chunks(WRITES) {
            let write =
                |document: &Document| Write { key: document.key.clone(), condition: Condition::Any, value: None };
            let writes = chunk.iter().map(write).collect();
            self.state.commit(Transaction { writes, ..Transaction::default() }).await?;
        }
        Ok(())
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
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use apk::{IndexEntry, PackageInformation};
    use ports::local::{Database, FileBlobs};
    use ports::{PortError, SystemClock};

    use super::*;

    struct World {
        _folder: tempfile::TempDir,
        state: Arc<dyn State>,
        blobs: FileBlobs,
        key: sign::LocalRsaKey,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            Self {
                state: Arc::new(Database::open(&path.join("state"), Arc::new(SystemClock)).unwrap()),
                blobs: FileBlobs::new(path.to_owned()),
                key: sign::LocalRsaKey::load_or_create(&path.join("test.rsa"), 2048).unwrap(),
                _folder: folder,
            }
        }

        /// Publishes `NAME 1-r0` as the stage does.
        async fn publish(&self, name: &str) {
            let information = PackageInformation {
                name: name.to_owned(),
                version: "1-r0".to_owned(),
                architecture: "x86_64".to_owned(),
                ..PackageInformation::default()
            };
            let blob = self.blobs.put(name.as_bytes().to_vec()).await.unwrap();
            let entry = RepositoryEntry {
                entry: IndexEntry { checksum: format!("Q1{}=", "A".repeat(27)), size: 1, information },
                blob,
                definition: name.to_owned(),
                provenance: blob,
                tests: None,
            };
            let key = Key::new(record::repository(Architecture::X86_64), format!("{name}=1-r0"));
            let mut transaction = Transaction::default();
            transaction.put(key, Condition::Absent, &entry).unwrap();
            let unlisted =
                Unlisted { package: name.to_owned(), version: "1-r0".to_owned(), packages: vec![name.to_owned()] };
            announce(&mut transaction, Architecture::X86_64, &unlisted, Timestamp::UNIX_EPOCH).unwrap();
            self.state.commit(transaction).await.unwrap();
        }

        fn writer<'a>(&'a self, repository: &'a dyn PackageRepository) -> IndexWriter<'a> {
            IndexWriter { state: self.state.as_ref(), blobs: &self.blobs, key: &self.key, repository }
        }
    }

    /// While the first index is on its way, another worker publishes `late`.
    struct Busy<'a> {
        world: &'a World,
        files: Mutex<BTreeSet<String>>,
        written: Mutex<Vec<Vec<String>>>,
        breaks: bool,
    }

    impl<'a> Busy<'a> {
        fn new(world: &'a World, breaks: bool) -> Self {
            Self { world, files: Mutex::default(), written: Mutex::default(), breaks }
        }
    }

    #[async_trait]
    impl PackageRepository for Busy<'_> {
        async fn publish_package(&self, _: Architecture, name: &str, _: &Path) -> Result<(), PortError> {
            self.files.lock().unwrap().insert(name.to_owned());
            Ok(())
        }

        async fn replace_attestation(&self, _: Architecture, _: &str, _: &Path) -> Result<(), PortError> {
            Ok(())
        }

        async fn publish_index(&self, _: Architecture, archive: &[u8]) -> Result<(), PortError> {
            if self.breaks {
                return Err(PortError::Conflict {
                    key: Key::new("", ""),
                    expected: String::new(),
                    found: String::new(),
                });
            }
            let index = Index::read("index", archive, apk::Trust::Unverified).unwrap().index;
            for entry in &index.entries {
                let files = self.files.lock().unwrap();
                assert!(
                    files.contains(&entry.file_name()),
                    "the index names {}, which is not there",
                    entry.file_name()
                );
            }
            let names = index.entries.into_iter().map(|entry| entry.information.name).collect();
            self.written.lock().unwrap().push(names);
            if self.written.lock().unwrap().len() == 1 {
                self.world.publish("late").await;
            }
            Ok(())
        }
    }

    async fn unlisted(world: &World) -> usize {
        world.state.list_all(&record::index(Architecture::X86_64), record::UNLISTED).await.unwrap().len()
    }

    #[tokio::test]
    async fn an_index_that_is_outdated_when_written_is_written_again_and_names_only_what_is_there() {
        let world = World::new();
        world.publish("early").await;
        let busy = Busy::new(&world, false);
        world.writer(&busy).write(Architecture::X86_64).await.unwrap();
        let written = busy.written.lock().unwrap().clone();
        assert_eq!(written, [vec!["early"], vec!["early", "late"]]);
        assert_eq!(unlisted(&world).await, 0);
    }

    #[tokio::test]
    async fn versions_that_are_published_together_are_listed_by_one_writing() {
        let world = World::new();
        for number in 0..100 {
            world.publish(&format!("package-{number}")).await;
        }
        let broken = Busy::new(&world, true);
        assert!(world.writer(&broken).write(Architecture::X86_64).await.is_err());
        assert_eq!(unlisted(&world).await, 100, "an index that was not written lists nothing");
        let busy = Busy::new(&world, false);
        let (all, new) = world.writer(&busy).write(Architecture::X86_64).await.unwrap();
        assert_eq!((all, new), (101, 101));
        assert_eq!(busy.written.lock().unwrap().len(), 2, "once for the hundred, once for `late`");
        assert_eq!(unlisted(&world).await, 0);
    }
}
