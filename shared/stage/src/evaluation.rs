//! What planning knows of the definitions: worked out once per process, and again only for those
//! whose upstream has released since.
//!
//! The catalog of a process does not change. So what a definition comes to depends on one thing
//! that does: the upstream version that the state offers for it. Which revision it claims is found
//! each time, from a few documents and without evaluating anything.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use apk::Architecture;
use ports::{Digest, Document};
use recipe::{BuildPlan, Graph, Node, Options, PackageDefinition, evaluate};

use crate::catalog::{Catalog, PackageSource};
use crate::record::{Rebuild, Upstream};
use crate::rules::version::{self, Claim};
use crate::{StageError, build_sources, chain, shared};

/// The documents of definitions, by name.
pub(crate) type Documents = BTreeMap<String, Vec<Document>>;

/// A definition as it is to be built today: the catalog's, moved on to the newest upstream version.
#[derive(Clone, Debug)]
pub struct Package {
    /// The resolved definition, at its claimed revision.
    pub plan: BuildPlan,
    /// Its text.
    pub text: String,
    /// The version that it builds.
    pub claim: Claim,
    /// Wanted packages of its environment that come from the factory's repository.
    pub wants: Vec<String>,
    /// Wanted packages of its environment that the host's tool chain stands in for.
    pub bootstrap: Vec<String>,
}

/// What planning needs of a definition, which is a small part of what building it needs.
#[derive(Debug)]
pub(crate) struct Outline {
    version: String,
    epoch: u32,
    /// What a revision is claimed for, but for what the state adds.
    identity: String,
    /// What it makes and needs. What the host's tool chain stands in for is nobody's build dependency.
    pub(crate) node: Node,
    /// The names that its tests want.
    test_wants: BTreeSet<String>,
    /// The definitions with `update.shared` that it builds with or depends on.
    shared: BTreeSet<String>,
}

/// The outlines of a process, by architecture.
#[derive(Debug, Default)]
pub struct Evaluations(Mutex<BTreeMap<Architecture, Known>>);

#[derive(Debug, Default)]
struct Known {
    outlines: BTreeMap<String, Evaluated>,
    order: Option<Arc<Order>>,
}

#[derive(Clone, Debug)]
struct Evaluated {
    /// The upstream version that it was evaluated with, by [`Said::upstream_key`].
    upstream: Option<String>,
    outline: Result<Arc<Outline>, String>,
}

/// In which order definitions are built and tested.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) graph: Graph,
    /// The definitions whose packages each definition's tests want.
    tested_with: BTreeMap<String, BTreeSet<String>>,
    /// The same the other way round.
    tests_with: BTreeMap<String, BTreeSet<String>>,
    cycles: OnceLock<Vec<String>>,
}

impl Evaluations {
    /// The versions that these definitions build as their documents say, which are those of
    /// [`crate::record::package`]; also those of every shared definition must be among them.
    pub(crate) fn refresh(
        &self,
        catalog: &Catalog,
        architecture: Architecture,
        documents: &Documents,
    ) -> Result<BTreeMap<String, Result<Claim, String>>, StageError> {
        let mut said = BTreeMap::new();
        for (name, documents) in documents {
            if let Some(source) = catalog.packages.get(name) {
                said.insert(name.as_str(), (source, Said::read(&source.definition, documents)?));
            }
        }
        let mut outlines: BTreeMap<&str, Result<Arc<Outline>, String>> = BTreeMap::new();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get(&architecture);
            for (name, (_, said)) in &said {
                let before = known.and_then(|known| known.outlines.get(*name));
                if let Some(before) = before.filter(|before| before.upstream == said.upstream_key()) {
                    outlines.insert(name, before.outline.clone());
                }
            }
        }
        let stale: Vec<_> = said.iter().filter(|(name, _)| !outlines.contains_key(*name)).collect();
        let evaluated = in_parallel(&stale, |(name, (source, said))| {
            let outline = Outline::new(catalog, name, source, said.upstream.as_ref(), architecture).map(Arc::new);
            (*name, Evaluated { upstream: said.upstream_key(), outline })
        });
        if !evaluated.is_empty() {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.entry(architecture).or_default();
            known.order = None;
            for (name, evaluated) in evaluated {
                outlines.insert(name, evaluated.outline.clone());
                known.outlines.insert((*name).to_owned(), evaluated);
            }
        }
        let mut claims = BTreeMap::new();
        for (name, outline) in outlines {
            let Some((_, own)) = said.get(name) else { continue };
            let claim = outline.map(|outline| {
                let version = |shared: &str| {
                    let (source, said) = said.get(shared)?;
                    Some(said.upstream.as_ref().map_or(&source.definition.package.version.value, |new| &new.version))
                };
                own.claim(&outline, &shared::text(&outline.shared, version))
            });
            claims.insert(name.to_owned(), claim);
        }
        Ok(claims)
    }

    /// Whether each of these definitions has been evaluated.
    pub(crate) fn know_all<'a>(&self, architecture: Architecture, mut names: impl Iterator<Item = &'a String>) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&architecture).is_some_and(|known| names.all(|name| known.outlines.contains_key(name)))
    }

    /// The order of those that have been evaluated and are built for the architecture.
    pub(crate) fn order(&self, catalog: &Catalog, architecture: Architecture) -> Arc<Order> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(architecture).or_default();
        if let Some(order) = &known.order {
            return order.clone();
        }
        let outlines = known.outlines.iter().filter(|(name, _)| {
            catalog.packages.get(*name).is_some_and(|source| source.definition.builds_for(architecture))
        });
        let order = Arc::new(Order::new(outlines.filter_map(|(_, evaluated)| evaluated.outline.as_deref().ok())));
        known.order = Some(order.clone());
        order
    }
}

impl Order {
    fn new<'a>(outlines: impl Iterator<Item = &'a Outline> + Clone) -> Self {
        let nodes: Vec<Node> = outlines.clone().map(|outline| outline.node.clone()).collect();
        let graph = Graph::tolerant(&nodes);
        let mut makers: BTreeMap<&str, &str> = BTreeMap::new();
        for node in &nodes {
            for package in &node.packages {
                makers.extend(package.provides.iter().map(|name| (plain(name), node.name.as_str())));
                makers.insert(&package.name, &node.name);
            }
        }
        let mut order =
            Self { graph, tested_with: BTreeMap::new(), tests_with: BTreeMap::new(), cycles: OnceLock::new() };
        for outline in outlines {
            let name = &outline.node.name;
            let others = outline.test_wants.iter().filter_map(|want| makers.get(want.as_str()));
            for other in others.filter(|other| *other != name) {
                order.tested_with.entry(name.clone()).or_default().insert((*other).to_owned());
                order.tests_with.entry((*other).to_owned()).or_default().insert(name.clone());
            }
        }
        order
    }

    /// Refuses the definitions that make a package of one name: none of them is built before one is renamed.
    pub(crate) fn refuse_duplicates<T>(&self, by_name: &mut BTreeMap<String, Result<T, String>>) {
        for duplicate in self.graph.duplicates() {
            for name in [&duplicate.first, &duplicate.second] {
                if let Some(package) = by_name.get_mut(name) {
                    *package = Err(duplicate.to_string());
                }
            }
        }
    }

    /// The definitions whose packages a definition's tests want.
    pub(crate) fn tested_with(&self, name: &str) -> impl Iterator<Item = &String> {
        self.tested_with.get(name).into_iter().flatten()
    }

    /// The definitions that build with one, and those whose tests want its packages.
    pub(crate) fn served_by(&self, name: &str) -> BTreeSet<String> {
        let mut served = self.graph.dependents(name);
        served.extend(self.tests_with.get(name).into_iter().flatten().cloned());
        served
    }

    /// The definitions that may become due, or be free to be built, when one is published or fails.
    pub(crate) fn affected(&self, changed: &str) -> BTreeSet<String> {
        let mut affected = self.graph.dependents(changed);
        affected.insert(changed.to_owned());
        let tested = affected.iter().filter_map(|name| self.tests_with.get(name));
        let tested: BTreeSet<String> = tested.flatten().cloned().collect();
        affected.extend(tested);
        affected
    }

    /// Definitions that can't be built because they need each other.
    pub(crate) fn cycles(&self) -> &[String] {
        self.cycles.get_or_init(|| self.graph.cycles().iter().map(ToString::to_string).collect())
    }
}

impl Outline {
    fn new(
        catalog: &Catalog,
        name: &str,
        source: &PackageSource,
        upstream: Option<&Upstream>,
        architecture: Architecture,
    ) -> Result<Self, String> {
        let definition = today(&source.definition, upstream)?;
        let plan = evaluate(&definition, &options(catalog, source, architecture));
        let plan = plan.map_err(|error| chain(&error))?;
        let epoch = u32::try_from(plan.epoch)
            .map_err(|_| format!("{}: epoch {} is out of range", definition.file, plan.epoch))?;
        let (_, wants) = environment(catalog, &plan);
        let tests = plan.outputs.iter().filter_map(|output| output.test.as_ref());
        let shared_outputs = catalog.shared_outputs(architecture);
        // One revision is claimed for all architectures, so what it is claimed for must not depend on one.
        let others = Architecture::ALL.into_iter().filter(|other| {
            *other != architecture && definition.builds_for(*other) && definition.builds_for(architecture)
        });
        let options = |other| Options { tests: false, ..options(catalog, source, other) };
        let others: Vec<BuildPlan> = others.filter_map(|other| evaluate(&definition, &options(other)).ok()).collect();
        let plans = || std::iter::once(&plan).chain(&others);
        let bootstrap: BTreeSet<String> = plans().flat_map(|plan| environment(catalog, plan).0).collect();
        let wanted = plans().flat_map(|plan| {
            let runtime = plan.outputs.iter().flat_map(|output| &output.dependencies.runtime);
            plan.environment.packages.iter().chain(runtime)
        });
        let shared: BTreeSet<&String> = wanted.filter_map(|want| shared_outputs.get(plain(want))).collect();
        Ok(Self {
            identity: format!(
                "{}\n{:?}{}{}",
                plan.recipe_digest,
                source.folder_digest,
                tool_chain(catalog, &bootstrap.into_iter().collect::<Vec<_>>()),
                build_sources::own_trees(catalog, &plan.sources)?
            ),
            test_wants: tests.flat_map(|test| &test.environment.packages).map(|want| plain(want).to_owned()).collect(),
            shared: shared.into_iter().filter(|other| *other != name).cloned().collect(),
            node: Node { build: wants, ..Node::from_plan(&plan) },
            version: plan.version,
            epoch,
        })
    }
}

/// How a definition of the catalog is evaluated.
fn options<'a>(catalog: &'a Catalog, source: &'a PackageSource, architecture: Architecture) -> Options<'a> {
    Options { install_if: source.install_if.as_ref(), ..Options::new(architecture, &catalog.pipelines) }
}

/// A name without its constraint.
pub(crate) fn plain(want: &str) -> &str {
    want.split(['=', '<', '>', '~', '@']).next().unwrap_or(want)
}

/// The definition moved on to what upstream offers.
fn today(definition: &PackageDefinition, upstream: Option<&Upstream>) -> Result<PackageDefinition, String> {
    let Some(upstream) = upstream else { return Ok(definition.clone()) };
    let (text, file, checksums) = (&definition.source, &definition.file, upstream.checksums());
    let text = recipe::update_definition_text(text, file, &upstream.version, &checksums);
    let text = text.map_err(|error| chain(&error))?;
    PackageDefinition::parse(&text, file).map_err(|error| chain(&error))
}

/// What a build's environment takes from the host's tool chain, and what from the repository.
fn environment(catalog: &Catalog, plan: &BuildPlan) -> (Vec<String>, Vec<String>) {
    plan.environment.packages.iter().cloned().partition(|want| catalog.bootstrap.provides(want))
}

/// What of the catalog's tool chain a build uses, so that another compiler wrapper builds again what
/// was built with it on any architecture.
fn tool_chain(catalog: &Catalog, wants: &[String]) -> String {
    let files = Architecture::ALL.into_iter().flat_map(|architecture| catalog.bootstrap_files(wants, architecture));
    let lines: BTreeSet<String> =
        files.map(|file| format!("\nbootstrap {} {} {}", file.kind, file.digest, file.path)).collect();
    lines.into_iter().collect()
}

/// The whole of a definition at the revision that it has claimed.
pub(crate) fn package(
    catalog: &Catalog,
    source: &PackageSource,
    documents: &[Document],
    claim: Claim,
    architecture: Architecture,
) -> Result<Package, StageError> {
    let said = Said::read(&source.definition, documents)?;
    let mut definition = today(&source.definition, said.upstream.as_ref()).map_err(StageError::Rejected)?;
    definition.package.epoch = u64::from(claim.revision);
    let plan = evaluate(&definition, &options(catalog, source, architecture))
        .map_err(|error| StageError::Rejected(chain(&error)))?;
    let (bootstrap, wants) = environment(catalog, &plan);
    Ok(Package { plan, text: definition.source, claim, wants, bootstrap })
}

/// What the state says of a definition.
struct Said {
    /// What upstream offers beyond the catalog's version.
    upstream: Option<Upstream>,
    claims: Vec<Claim>,
    rebuild: Option<Rebuild>,
}

impl Said {
    fn read(definition: &PackageDefinition, documents: &[Document]) -> Result<Self, StageError> {
        let one = |sort: &str| documents.iter().find(|document| document.key.sort == sort);
        let upstream: Option<Upstream> = one("upstream").map(Document::decode).transpose()?;
        let own = &definition.package.version.value;
        let newer =
            |upstream: &Upstream| apk::compare_versions(&upstream.version, own) == Some(std::cmp::Ordering::Greater);
        let claims = documents.iter().filter(|document| document.key.sort.starts_with("claim#"));
        Ok(Self {
            upstream: upstream.filter(newer),
            claims: claims.map(Document::decode).collect::<Result<_, _>>()?,
            rebuild: one("rebuild").map(Document::decode).transpose()?,
        })
    }

    /// What of the upstream version shows in the definition.
    fn upstream_key(&self) -> Option<String> {
        self.upstream.as_ref().map(|upstream| format!("{} {:?}", upstream.version, upstream.checksums()))
    }

    fn claim(&self, outline: &Outline, shared: &str) -> Claim {
        let mut identity = format!("{}{shared}", outline.identity);
        if let Some(rebuild) = &self.rebuild {
            identity.push_str(&format!("\n{}", rebuild.reason));
        }
        version::claim(&outline.version, outline.epoch, Digest::of(identity.as_bytes()), &self.claims)
    }
}

/// Maps the items on every processor; the results keep their order.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = items.len().div_ceil(threads).max(1);
    if items.len() <= 1 {
        return items.iter().map(map).collect();
    }
    std::thread::scope(|scope| {
        let map = &map;
        let running: Vec<_> =
            items.chunks(share).map(|share| scope.spawn(move || share.iter().map(map).collect::<Vec<R>>())).collect();
        let results = running.into_iter().flat_map(|thread| match thread.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_revision_is_claimed_for_is_the_same_on_every_architecture() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "bootstrap/bootstrap.yaml",
            "provides:\n  cc:\n    debian: [gcc]\n    files: [bin/cc]\n    targets:\n      aarch64: {debian: [], files: \
             [aarch64]}\n  cross: {debian: [gcc], files: [bin/cross]}\n",
        );
        for file in ["bin/cc", "bin/cross", "aarch64/cc"] {
            write(&format!("bootstrap/{file}"), file);
        }
        write(
            "packages/a.yaml",
            "package: {name: a, version: '1', epoch: 0}\nenvironment: {contents: {packages: [cc]}}\npipeline:\n  - if: \
             ${{build.arch}} == 'aarch64'\n    needs: {packages: [cross]}\n    runs: 'true'\n  - runs: 'true'\n",
        );
        let identities = || {
            let catalog = Catalog::load(folder.path()).unwrap();
            let source = &catalog.packages["a"];
            Architecture::ALL
                .map(|architecture| Outline::new(&catalog, "a", source, None, architecture).unwrap().identity)
        };
        let [one, other] = identities();
        assert_eq!(one, other);
        write("bootstrap/aarch64/cc", "changed");
        let [changed, other] = identities();
        assert_eq!(changed, other);
        assert_ne!(changed, one);
    }
}
