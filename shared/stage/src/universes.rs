//! The factory's packages, prepared for solving once for any number of images.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use apk::{Architecture, Dependency, IndexRecord};
use ports::State;
use self_cell::self_cell;
use solve::{Task, Universe};
use tokio::sync::Mutex;

use crate::package_index::changed_key;
use crate::record::RepositoryEntry;
use crate::repository::{self, Resolved};
use crate::{Context, StageError, chain};

self_cell!(
    /// A repository's packages and the universe that borrows from them.
    struct Prepared {
        owner: Vec<RepositoryEntry>,
        #[covariant]
        dependent: Universe,
    }
);

/// What is prepared, by the architectures that must get the same versions. It is kept until a
/// package is published or withdrawn.
#[derive(Default)]
pub struct Universes(Mutex<BTreeMap<Vec<Architecture>, Kept>>);

#[derive(Clone)]
struct Kept {
    /// How often the repository had changed when it was read.
    revisions: Vec<u64>,
    platforms: Arc<Platforms>,
}

/// The packages for some architectures, of versions that each of them has.
struct Platforms(BTreeMap<Architecture, Prepared>);

/// What an image gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolution {
    /// The packages of each architecture, in install order.
    pub packages: BTreeMap<Architecture, Vec<Resolved>>,
    /// Newer versions that were not taken because another architecture lacks them, each as a sentence.
    pub passed_over: Vec<String>,
}

impl fmt::Debug for Universes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Universes").finish_non_exhaustive()
    }
}

impl Universes {
    /// The packages for `architectures` as they are published now.
    async fn of(&self, state: &dyn State, architectures: &[Architecture]) -> Result<Arc<Platforms>, StageError> {
        let mut known = self.0.lock().await;
        // Read before the packages: what is published meanwhile has them read once more.
        let mut revisions = Vec::with_capacity(architectures.len());
        for architecture in architectures {
            let document = state.get(&changed_key(*architecture)).await?;
            revisions.push(document.map_or(0, |document| document.revision));
        }
        if let Some(kept) = known.get(architectures).filter(|kept| kept.revisions == revisions) {
            return Ok(Arc::clone(&kept.platforms));
        }
        let mut platforms = BTreeMap::new();
        for architecture in architectures {
            let entries = repository::listed(state, *architecture).await?;
            platforms.insert(*architecture, prepare(entries, *architecture)?);
        }
        let platforms = Arc::new(Platforms(same_versions(platforms)));
        known.insert(architectures.to_vec(), Kept { revisions, platforms: Arc::clone(&platforms) });
        Ok(platforms)
    }
}

fn prepare(entries: Vec<RepositoryEntry>, architecture: Architecture) -> Result<Prepared, StageError> {
    Prepared::try_new(entries, |entries| universe(entries, architecture))
}

fn universe(entries: &[RepositoryEntry], architecture: Architecture) -> Result<Universe<'_>, StageError> {
    let records: Vec<IndexRecord<'_>> = entries.iter().map(|entry| IndexRecord::from(&entry.entry)).collect();
    let repository = solve::Repository { name: "minimill".to_owned(), tag: None, records: &records };
    Universe::new(architecture, &[repository]).map_err(|error| StageError::Rejected(chain(&error)))
}

/// Chooses among what was read for `universe`.
fn choose_in(
    universe: &Universe<'_>,
    entries: &[RepositoryEntry],
    subject: &str,
    wants: &[Dependency],
) -> Result<Vec<Resolved>, StageError> {
    let solution =
        solve::solve(universe, &Task::new(subject, wants)).map_err(|failure| StageError::Rejected(chain(&failure)))?;
    let resolved = solution.packages().map(|chosen| {
        let entry = chosen.place.and_then(|place| entries.get(place.position)).ok_or_else(|| {
            StageError::Rejected(format!("the solver chose `{}`, which is in no repository", chosen.entry.name()))
        })?;
        Ok(Resolved { entry: entry.entry.clone(), blob: entry.blob })
    });
    resolved.collect()
}

/// Chooses among given packages, which are published or not; see [`resolve`].
pub(crate) fn choose(
    entries: &[RepositoryEntry],
    architecture: Architecture,
    subject: &str,
    wants: &[String],
) -> Result<Vec<Resolved>, StageError> {
    choose_in(&universe(entries, architecture)?, entries, subject, &parse_wants(wants)?)
}

/// Disqualifies what one of the architectures lacks for all of them, as apko does.
fn same_versions(mut all: BTreeMap<Architecture, Prepared>) -> BTreeMap<Architecture, Prepared> {
    for architecture in Architecture::ALL {
        let Some(mut own) = all.remove(&architecture) else { continue };
        for other in all.values() {
            own.with_dependent_mut(|_, universe| universe.require_same_versions_in(other.borrow_dependent()));
        }
        all.insert(architecture, own);
    }
    all
}

impl Platforms {
    fn resolve(&self, subject: &str, wants: &[Dependency]) -> Result<Resolution, StageError> {
        let mut resolution = Resolution::default();
        for (architecture, prepared) in &self.0 {
            let chosen = prepared.choose(subject, wants)?;
            for (name, version, other) in prepared.passed_over(&chosen, wants) {
                resolution.passed_over.push(format!("{name} {version} is passed over, because {other} lacks it"));
            }
            resolution.packages.insert(*architecture, chosen);
        }
        Ok(resolution)
    }
}

impl Prepared {
    fn choose(&self, subject: &str, wants: &[Dependency]) -> Result<Vec<Resolved>, StageError> {
        choose_in(self.borrow_dependent(), self.borrow_owner(), subject, wants)
    }

    /// Which newer versions of the chosen packages would do for `wants` if other architectures had them.
    fn passed_over<'p>(&self, chosen: &'p [Resolved], wants: &[Dependency]) -> Vec<(&'p str, String, Architecture)> {
        let mut passed_over = Vec::new();
        for package in chosen {
            let information = &package.entry.information;
            let absent = self.borrow_dependent().absent_elsewhere(&information.name);
            for (version, other) in absent {
                let newer = apk::compare_versions(version, &information.version) == Some(std::cmp::Ordering::Greater);
                let parsed = version.parse().ok();
                let mut own = wants.iter().filter(|want| want.name == information.name);
                if newer && own.all(|want| want.satisfied_by(parsed.as_ref())) {
                    passed_over.push((information.name.as_str(), version.to_owned(), other));
                }
            }
        }
        passed_over
    }
}

fn parse_wants(wants: &[String]) -> Result<Vec<Dependency>, StageError> {
    let parsed = wants.iter().map(|want| want.parse());
    parsed.collect::<Result<_, _>>().map_err(|error: apk::InvalidDependency| StageError::Rejected(chain(&error)))
}

/// Chooses the packages that satisfy `wants`, in install order, on one architecture whatever others
/// have. `subject` is who wants, for messages.
///
/// # Errors
/// [`StageError::Rejected`] with the chain of reasons when nothing satisfies them.
pub async fn resolve(
    context: &Context,
    architecture: Architecture,
    subject: &str,
    wants: &[String],
) -> Result<Vec<Resolved>, StageError> {
    let resolution = resolve_for_all(context, &[architecture], subject, wants).await?;
    Ok(resolution.packages.into_values().flatten().collect())
}

/// Chooses the packages that satisfy `wants` for each architecture, of versions that all of them
/// have. `subject` is who wants, for messages.
///
/// # Errors
/// [`StageError::Rejected`] with the chain of reasons when nothing satisfies them.
pub async fn resolve_for_all(
    context: &Context,
    architectures: &[Architecture],
    subject: &str,
    wants: &[String],
) -> Result<Resolution, StageError> {
    let wants = parse_wants(wants)?;
    let mut architectures = architectures.to_vec();
    architectures.sort();
    architectures.dedup();
    context.caches.universes.of(context.state.as_ref(), &architectures).await?.resolve(subject, &wants)
}

#[cfg(test)]
mod tests {
    use apk::{IndexEntry, PackageInformation};
    use ports::local::Database;
    use ports::{Condition, Digest, Key, SystemClock, Transaction};

    use super::*;
    use crate::package_index::note_change;
    use crate::record;

    const BOTH: [Architecture; 2] = Architecture::ALL;

    async fn publish(state: &dyn State, architecture: Architecture, name: &str, version: &str) {
        let information = PackageInformation {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_string(),
            ..PackageInformation::default()
        };
        let entry = RepositoryEntry {
            entry: IndexEntry { information, ..IndexEntry::default() },
            blob: Digest::of(b""),
            definition: name.to_owned(),
            provenance: Digest::of(b""),
            tests: None,
        };
        let mut transaction = Transaction::default();
        let key = Key::new(record::repository(architecture), format!("{name}={version}"));
        transaction.put(key, Condition::Absent, &entry).unwrap();
        note_change(&mut transaction, architecture, jiff::Timestamp::UNIX_EPOCH).unwrap();
        state.commit(transaction).await.unwrap();
    }

    fn versions(resolution: &Resolution, architecture: Architecture) -> Vec<&str> {
        resolution.packages[&architecture].iter().map(|one| one.entry.information.version.as_str()).collect()
    }

    fn state(folder: &tempfile::TempDir) -> Database {
        Database::open(&folder.path().join("state"), Arc::new(SystemClock)).unwrap()
    }

    #[tokio::test]
    async fn what_one_architecture_lacks_is_passed_over_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&folder);
        for architecture in BOTH {
            publish(&state, architecture, "server", "1.0-r0").await;
        }
        publish(&state, Architecture::X86_64, "server", "1.1-r0").await;
        let universes = Universes::default();
        let resolve = async |architectures: &[Architecture], want: &str| {
            universes.of(&state, architectures).await.unwrap().resolve("image", &[want.parse().unwrap()])
        };
        let alone = resolve(&[Architecture::X86_64], "server").await.unwrap();
        assert_eq!(versions(&alone, Architecture::X86_64), ["1.1-r0"]);
        assert!(alone.passed_over.is_empty());
        let together = resolve(&BOTH, "server").await.unwrap();
        assert_eq!(versions(&together, Architecture::X86_64), ["1.0-r0"]);
        assert_eq!(versions(&together, Architecture::Aarch64), ["1.0-r0"]);
        assert_eq!(together.passed_over, ["server 1.1-r0 is passed over, because aarch64 lacks it"]);
        // Not what the wants rule out anyway.
        assert!(resolve(&BOTH, "server<1.1").await.unwrap().passed_over.is_empty());
        let reason = resolve(&BOTH, "server>1.0-r0").await.unwrap_err().to_string();
        assert!(reason.contains("`server-1.1-r0` is not there for aarch64"), "{reason}");
        publish(&state, Architecture::Aarch64, "server", "1.1-r0").await;
        let newer = resolve(&BOTH, "server").await.unwrap();
        assert_eq!(versions(&newer, Architecture::X86_64), ["1.1-r0"]);
        assert!(newer.passed_over.is_empty());
    }

    #[tokio::test]
    async fn packages_are_prepared_again_only_when_the_repository_changes() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&folder);
        publish(&state, Architecture::X86_64, "a", "1-r0").await;
        let universes = Universes::default();
        let first = universes.of(&state, &[Architecture::X86_64]).await.unwrap();
        let second = universes.of(&state, &[Architecture::X86_64]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        publish(&state, Architecture::Aarch64, "a", "1-r0").await;
        assert!(Arc::ptr_eq(&first, &universes.of(&state, &[Architecture::X86_64]).await.unwrap()));
        publish(&state, Architecture::X86_64, "b", "1-r0").await;
        let third = universes.of(&state, &[Architecture::X86_64]).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &third));
        assert!(third.resolve("image", &["b".parse().unwrap()]).is_ok());
    }
}
