//! What an update does to those that link with its libraries: symbols and sonames that go.
//!
//! The build reads the symbols and stores them with its result; here sets are compared, and nothing
//! that upstream wrote is opened.

use std::collections::{BTreeMap, BTreeSet};

use ports::{Condition, Digest, Key, Transaction};

use crate::package_build::BuildResult;
use crate::package_publish::MAXIMUM_RESULT_BYTES;
use crate::record::{self, Event, PublishedPackage, Rebuild, RepositoryEntry};
use crate::standing::published_key;
use crate::{Context, StageError, repository};

const MAXIMUM_INTERFACES_BYTES: u64 = 256 << 20;
/// Symbols that one message lists.
const LISTED: usize = 12;
/// Writes of one transaction, below what every adapter keeps.
const WRITES: usize = 40;

/// Why definitions are built again, by name.
type Reasons<'a> = BTreeMap<&'a str, Vec<String>>;
type Interfaces = BTreeMap<String, lint::Interface>;

/// What an update does to its dependents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Why it must not be published.
    pub broken: Vec<String>,
    /// What is worth telling, and breaks nobody.
    pub warnings: Vec<String>,
    /// Libraries that are no longer provided, with the definitions that need them.
    pub gone: Vec<Gone>,
}

/// A library that an update no longer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Its soname.
    pub soname: String,
    /// The last published version, which keeps it.
    pub before: String,
    /// The definitions whose newest packages need it.
    pub dependents: BTreeSet<String>,
}

/// The repository's view of one architecture.
struct Published<'a> {
    context: &'a Context,
    /// The newest version of each package.
    newest: BTreeMap<&'a str, &'a RepositoryEntry>,
    interfaces: BTreeMap<(String, String), Option<Interfaces>>,
}

/// Compares a build with the newest version of its definition that is published. One that has none
/// breaks nobody, and neither does one that is not newer.
pub(crate) async fn compare(context: &Context, result: &BuildResult) -> Result<Comparison, StageError> {
    let mut comparison = Comparison::default();
    let versions = published_versions(context, result).await?;
    if versions.iter().any(|other| less(&result.version, &other.version)) {
        return Ok(comparison);
    }
    let lower = versions.iter().filter(|other| less(&other.version, &result.version));
    let Some(before) = lower.max_by(|a, b| order(&a.version, &b.version)) else { return Ok(comparison) };
    let (build, before) = (before.build, before.version.as_str());
    let Some(old) = load(context, &build_result(context, build).await?).await? else {
        let warning =
            format!("symbols not compared: {} {before} was published without a record of them", result.package);
        comparison.warnings.push(warning);
        return Ok(comparison);
    };
    let new = load(context, result).await?.unwrap_or_default();
    let unchecked = |package: &str| result.unchecked_interfaces.iter().any(|name| name == package);
    let now = |soname: &str| new.values().find_map(|interface| interface.exports.get(soname));
    let checked = || old.iter().filter(|(package, _)| !unchecked(package));
    let kept = |(soname, exports): (&String, &BTreeSet<String>)| {
        now(soname).is_some_and(|now| lint::removed(exports, now).is_empty())
    };
    if checked().flat_map(|(_, interface)| &interface.exports).all(kept) {
        return Ok(comparison);
    }
    let entries = repository::entries(context, result.architecture).await?;
    let mut published = Published::new(context, &entries);
    let empty = BTreeSet::new();
    for (package, interface) in checked() {
        for (soname, exports) in &interface.exports {
            let now = now(soname);
            if now.is_none() && provided_elsewhere(&entries, &result.package, soname) {
                continue;
            }
            let dependents = published.dependents(&result.package, soname);
            match now {
                None if dependents.is_empty() => {
                    comparison.warnings.push(format!("{package} no longer has {soname}, which nothing needs"))
                }
                None => comparison.gone.push(Gone {
                    soname: soname.clone(),
                    before: before.to_owned(),
                    dependents: dependents.iter().map(|entry| entry.definition.clone()).collect(),
                }),
                Some(now) => {
                    let removed = lint::removed(exports, now);
                    if removed.is_empty() {
                        continue;
                    }
                    let mut used = false;
                    for dependent in dependents {
                        let information = &dependent.entry.information;
                        let own = published.interfaces(result, &dependent.definition, &information.version).await?;
                        let imports =
                            own.and_then(|own| own.get(&information.name)).and_then(|own| own.imports.get(soname));
                        let imports = imports.unwrap_or(&empty);
                        let missed: Vec<&str> =
                            removed.iter().copied().filter(|symbol| takes(imports, symbol)).collect();
                        if !missed.is_empty() {
                            used = true;
                            comparison.broken.push(format!(
                                "{} {} takes {} from {soname}, which {package} {} no longer has",
                                information.name,
                                information.version,
                                listed(&missed),
                                result.version
                            ));
                        }
                    }
                    if !used {
                        comparison.warnings.push(format!(
                            "{soname} of {package} no longer has {}, which nothing takes",
                            listed(&removed)
                        ));
                    }
                }
            }
        }
    }
    Ok(comparison)
}

/// The versions of the build's definition that are published for its architecture and not withdrawn.
async fn published_versions(context: &Context, result: &BuildResult) -> Result<Vec<PublishedPackage>, StageError> {
    let withdrawals = repository::withdrawals(context.state.as_ref()).await?;
    let documents = context.state.list_all(&record::package(&result.package), "version#").await?;
    let mut versions: Vec<PublishedPackage> =
        documents.iter().map(ports::Document::decode).collect::<Result<_, _>>()?;
    versions.retain(|one| {
        one.architecture == result.architecture
            && !withdrawals.contains_key(&(result.package.clone(), one.version.clone()))
    });
    Ok(versions)
}

/// Has the catalog's definitions that need a library which is gone built again. Until each is, its
/// last version goes on with the library's last version, which stays in the repository. The answer is
/// their names.
pub(crate) async fn rebuild_dependents(
    context: &Context,
    result: &BuildResult,
    gone: &[Gone],
) -> Result<BTreeSet<String>, StageError> {
    let mut reasons = Reasons::new();
    for library in gone {
        for dependent in &library.dependents {
            let reason = format!("{} {} no longer has {}", result.package, result.version, library.soname);
            reasons.entry(dependent).or_default().push(reason);
        }
    }
    if reasons.is_empty() {
        return Ok(BTreeSet::new());
    }
    let time = context.clock.now();
    let (own, foreign): (Reasons<'_>, Reasons<'_>) =
        reasons.into_iter().partition(|(name, _)| context.catalog.packages.contains_key(*name));
    let mut transactions = vec![Transaction::default()];
    for (name, reasons) in &own {
        if transactions.last().is_some_and(|last| last.writes.len() >= WRITES) {
            transactions.push(Transaction::default());
        }
        let rebuild = Rebuild { reason: reasons.join("; "), time };
        if let Some(last) = transactions.last_mut() {
            last.put(Key::new(record::package(name), "rebuild"), Condition::Any, &rebuild)?;
        }
    }
    let names = |map: &Reasons<'_>| map.keys().copied().collect::<Vec<_>>().join(", ");
    let sonames: Vec<&str> = gone.iter().map(|library| library.soname.as_str()).collect();
    let mut text = format!("{} {} no longer has {}", result.package, result.version, sonames.join(", "));
    if !own.is_empty() {
        text.push_str(&format!("; built again: {}", names(&own)));
    }
    if !foreign.is_empty() {
        text.push_str(&format!("; not in the catalog, so they stay with the old library: {}", names(&foreign)));
    }
    let event = Event { time, kind: "package.soname-changed".to_owned(), subject: result.package.clone(), text };
    if let Some(last) = transactions.last_mut() {
        last.put(event.key(), Condition::Any, &event)?;
    }
    for transaction in transactions {
        context.state.commit(transaction).await?;
    }
    Ok(own.into_keys().map(str::to_owned).collect())
}

/// Newest packages that need a library which no package of `entries` provides: `NAME needs SONAME`.
pub(crate) fn unprovided(entries: &[RepositoryEntry]) -> Vec<String> {
    let name = |text: &str| text.split(['=', '<', '>', '~']).next().unwrap_or(text).to_owned();
    let provided: BTreeSet<String> = entries
        .iter()
        .flat_map(|entry| &entry.entry.information.provides)
        .filter(|provided| provided.starts_with("so:"))
        .map(|provided| name(provided))
        .collect();
    let mut found = Vec::new();
    for entry in newest(entries).values() {
        let information = &entry.entry.information;
        let needed = information.depends.iter().filter(|need| need.starts_with("so:")).map(|need| name(need));
        found.extend(
            needed
                .filter(|need| !provided.contains(need))
                .map(|need| format!("{} {} needs {need}", information.name, information.version)),
        );
    }
    found
}

fn provided_elsewhere(entries: &[RepositoryEntry], definition: &str, soname: &str) -> bool {
    let others = entries.iter().filter(|entry| entry.definition != definition);
    let mut provides = others.flat_map(|entry| &entry.entry.information.provides);
    provides.any(|provided| {
        provided
            .strip_prefix("so:")
            .and_then(|rest| rest.strip_prefix(soname))
            .is_some_and(|rest| rest.starts_with('='))
    })
}

fn newest(entries: &[RepositoryEntry]) -> BTreeMap<&str, &RepositoryEntry> {
    let mut newest: BTreeMap<&str, &RepositoryEntry> = BTreeMap::new();
    for entry in entries {
        let information = &entry.entry.information;
        let known = newest.entry(information.name.as_str()).or_insert(entry);
        if less(&known.entry.information.version, &information.version) {
            *known = entry;
        }
    }
    newest
}

impl<'a> Published<'a> {
    fn new(context: &'a Context, entries: &'a [RepositoryEntry]) -> Self {
        Self { context, newest: newest(entries), interfaces: BTreeMap::new() }
    }

    /// The newest packages of other definitions that need a library.
    fn dependents(&self, definition: &str, soname: &str) -> Vec<&'a RepositoryEntry> {
        let need = format!("so:{soname}");
        let needs = |entry: &&&'a RepositoryEntry| {
            entry.definition != definition && entry.entry.information.depends.contains(&need)
        };
        self.newest.values().filter(needs).copied().collect()
    }

    /// The symbols of a published version, `None` where its build recorded none.
    async fn interfaces(
        &mut self,
        result: &BuildResult,
        definition: &str,
        version: &str,
    ) -> Result<Option<&Interfaces>, StageError> {
        let key = (definition.to_owned(), version.to_owned());
        if !self.interfaces.contains_key(&key) {
            let document = self.context.state.get(&published_key(definition, version, result.architecture)).await?;
            let interfaces = match document {
                None => None,
                Some(document) => {
                    let published: PublishedPackage = document.decode()?;
                    let build = build_result(self.context, published.build).await?;
                    load(self.context, &build).await?
                }
            };
            self.interfaces.insert(key.clone(), interfaces);
        }
        Ok(self.interfaces.get(&key).and_then(Option::as_ref))
    }
}

/// A build's result document.
pub(crate) async fn build_result(context: &Context, build: Digest) -> Result<BuildResult, StageError> {
    context.load("build result", build, MAXIMUM_RESULT_BYTES).await
}

async fn load(context: &Context, result: &BuildResult) -> Result<Option<Interfaces>, StageError> {
    match result.interfaces {
        None => Ok(None),
        Some(digest) => context.load("symbols", digest, MAXIMUM_INTERFACES_BYTES).await.map(Some),
    }
}

/// Whether a removed symbol is among those that a program takes: with its version, or by name.
fn takes(imports: &BTreeSet<String>, symbol: &str) -> bool {
    let name = symbol.split_once('@').map_or(symbol, |(name, _)| name);
    imports.contains(symbol) || imports.contains(name)
}

fn listed(symbols: &[&str]) -> String {
    let shown: Vec<String> = symbols.iter().take(LISTED).map(|symbol| format!("`{symbol}`")).collect();
    match symbols.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn order(a: &str, b: &str) -> std::cmp::Ordering {
    apk::compare_versions(a, b).unwrap_or(std::cmp::Ordering::Equal)
}

fn less(a: &str, b: &str) -> bool {
    order(a, b).is_lt()
}
