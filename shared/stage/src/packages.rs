//! What stands in the catalog today, and which packages are due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use apk::Architecture;
use ports::{Condition, Digest, Envelope, Key, Transaction};
use recipe::{BuildPlan, Graph, Node, Options, PackageDefinition, evaluate};

use crate::record::{self, Built, Failure, PublishedPackage, Rebuild, Upstream, Withdrawal};
use crate::rules::version::{self, Claim};
use crate::worker::{Summary, drain};
use crate::{Context, PackageBuild, PackagePublish, Stage, StageError, chain, repository, shared};

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

/// How a package stands for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The current definition is published.
    Published,
    /// The current definition was published and withdrawn, for this reason: it is not built again
    /// before it changes.
    Withdrawn(String),
    /// The current definition is built, with this result, and not published yet.
    Built(Digest),
    /// It must be built, and everything it builds with is there.
    Due(String),
    /// As due, but its last build failed.
    Failed,
    /// It must be built, after these.
    Waiting(BTreeSet<String>),
}

/// Which builds that failed before are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry<'a> {
    /// All: a new day, or somebody who asks.
    All,
    /// Those that build with this definition, which has just been published.
    Dependents(&'a str),
    /// None: those that failed have failed today.
    None,
}

/// All packages of the catalog for one architecture.
#[derive(Debug)]
pub struct Packages {
    /// Definitions by name; those that can't be resolved say why.
    pub by_name: BTreeMap<String, Result<Package, String>>,
    /// How each usable definition stands.
    pub standing: BTreeMap<String, Standing>,
    /// Definitions that can't be built because they need each other.
    pub cycles: Vec<String>,
    graph: Graph,
    /// The definitions whose packages each definition's tests want.
    tested_with: BTreeMap<String, BTreeSet<String>>,
}

/// The package called `name` as it is to be built today.
///
/// # Errors
/// [`StageError::Rejected`] when the catalog has no such definition or it can't be resolved.
pub async fn load_package(context: &Context, name: &str, architecture: Architecture) -> Result<Package, StageError> {
    let source = context
        .catalog
        .packages
        .get(name)
        .ok_or_else(|| StageError::Rejected(format!("the catalog has no package `{name}`")))?;
    let mut definition = source.definition.clone();
    if let Some(upstream) = newer_upstream(context, &definition).await? {
        let checksums = upstream.checksums();
        let text = recipe::update_definition_text(&definition.source, &definition.file, &upstream.version, &checksums)
            .map_err(|error| StageError::Rejected(chain(&error)))?;
        definition =
            PackageDefinition::parse(&text, &definition.file).map_err(|error| StageError::Rejected(chain(&error)))?;
    }
    let options = Options::new(architecture, &context.catalog.pipelines);
    let mut plan = evaluate(&definition, &options).map_err(|error| StageError::Rejected(chain(&error)))?;
    let shared = shared::versions(context, name, &plan).await?;
    let mut identity = format!("{}\n{:?}{shared}", plan.recipe_digest, source.folder_digest);
    if let Some(document) = context.state.get(&Key::new(record::package(name), "rebuild")).await? {
        let rebuild: Rebuild = document.decode()?;
        identity.push_str(&format!("\n{}", rebuild.reason));
    }
    let digest = Digest::of(identity.as_bytes());
    let epoch = u32::try_from(definition.package.epoch).map_err(|_| {
        StageError::Rejected(format!("{}: epoch {} is out of range", definition.file, definition.package.epoch))
    })?;
    let claims = context.state.list_all(&record::package(name), "claim#").await?;
    let claims = claims.iter().map(ports::Document::decode).collect::<Result<Vec<Claim>, _>>()?;
    let claim = version::claim(&plan.version, epoch, digest, &claims);
    if claim.revision != epoch {
        definition.package.epoch = u64::from(claim.revision);
        plan = evaluate(&definition, &options).map_err(|error| StageError::Rejected(chain(&error)))?;
    }
    let (bootstrap, wants) =
        plan.environment.packages.iter().cloned().partition(|want| context.catalog.bootstrap.provides(want));
    Ok(Package { plan, text: definition.source, claim, wants, bootstrap })
}

/// What upstream offers beyond the catalog's version.
pub(crate) async fn newer_upstream(
    context: &Context,
    definition: &PackageDefinition,
) -> Result<Option<Upstream>, StageError> {
    let name = &definition.package.name.value;
    let Some(document) = context.state.get(&Key::new(record::package(name), "upstream")).await? else {
        return Ok(None);
    };
    let upstream: Upstream = document.decode()?;
    let newer = apk::compare_versions(&upstream.version, &definition.package.version.value)
        == Some(std::cmp::Ordering::Greater);
    Ok(newer.then_some(upstream))
}

impl Packages {
    /// Resolves every definition and finds how each stands.
    ///
    /// # Errors
    /// When the state can't be read. A definition that is wrong is listed with its reason.
    pub async fn load(context: &Context, architecture: Architecture) -> Result<Self, StageError> {
        let mut by_name = BTreeMap::new();
        for (name, source) in &context.catalog.packages {
            if !source.definition.builds_for(architecture) {
                continue;
            }
            let package = match load_package(context, name, architecture).await {
                Ok(package) => Ok(package),
                Err(StageError::Rejected(reason)) => Err(reason),
                Err(error) => return Err(error),
            };
            by_name.insert(name.clone(), package);
        }
        let nodes: Vec<Node> = by_name.values().flatten().map(node).collect();
        let graph = Graph::new(&nodes).map_err(|error| StageError::Rejected(chain(&error)))?;
        let cycles = graph.cycles();
        let tested_with = tested_with(&by_name);
        let mut packages = Self {
            by_name,
            tested_with,
            standing: BTreeMap::new(),
            cycles: cycles.iter().map(ToString::to_string).collect(),
            graph,
        };
        packages.find_standings(context, architecture).await?;
        Ok(packages)
    }

    async fn find_standings(&mut self, context: &Context, architecture: Architecture) -> Result<(), StageError> {
        let mut settled = BTreeMap::new();
        let withdrawals = repository::withdrawals(context.state.as_ref()).await?;
        for (name, package) in &self.by_name {
            let Ok(package) = package else { continue };
            settled.insert(name.clone(), Settled::find(context, name, package, architecture, &withdrawals).await?);
        }
        for (name, own) in &settled {
            let standing = if let Some(reason) = &own.withdrawn {
                Standing::Withdrawn(reason.clone())
            } else if own.published {
                Standing::Published
            } else if let Some(result) = own.built {
                Standing::Built(result)
            } else {
                let needs = self.graph.build_dependencies(name);
                let missing: BTreeSet<String> = needs
                    .into_iter()
                    .filter(|need| need != name && !settled.get(need).is_some_and(Settled::usable))
                    .collect();
                match (missing.is_empty(), &own.failure) {
                    (false, _) => Standing::Waiting(missing),
                    (true, Some(_)) => Standing::Failed,
                    (true, None) => Standing::Due(own.reason()),
                }
            };
            self.standing.insert(name.clone(), standing);
        }
        Ok(())
    }

    /// Messages for the packages that are due, with their claims on a version. With a `focus`
    /// only for that definition and what it builds with.
    ///
    /// # Errors
    /// When a message has no JSON form.
    pub fn due(
        &self,
        architecture: Architecture,
        focus: Option<&str>,
        retry: Retry<'_>,
    ) -> Result<Transaction, StageError> {
        let wanted = self.wanted(focus);
        let held_back = self.held_back(wanted.as_ref());
        let mut transaction = Transaction::default();
        for (name, standing) in &self.standing {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(name)) || held_back.contains(name) {
                continue;
            }
            let Some(Ok(package)) = self.by_name.get(name) else { continue };
            match standing {
                Standing::Published | Standing::Withdrawn(_) | Standing::Waiting(_) => {}
                Standing::Failed if !self.retried(name, retry) => {}
                Standing::Built(result) => {
                    let version = package.claim.version();
                    transaction.send(PackagePublish { package: name.clone(), version, build: *result }.envelope()?);
                }
                Standing::Due(_) | Standing::Failed => {
                    transaction.put(claim_key(name, &package.claim), Condition::Any, &package.claim)?;
                    transaction.send(build_message(name, package, architecture)?);
                }
            }
        }
        Ok(transaction)
    }

    fn wanted(&self, focus: Option<&str>) -> Option<BTreeSet<String>> {
        focus.map(|focus| {
            let mut wanted = self.graph.build_dependencies(focus);
            wanted.insert(focus.to_owned());
            wanted
        })
    }

    /// Due definitions that are better built later: their tests want packages that are on their way
    /// and don't build with them. Each is asked for again when one of those is published or fails.
    fn held_back(&self, wanted: Option<&BTreeSet<String>>) -> BTreeSet<String> {
        let inside = |name: &str| wanted.is_none_or(|wanted| wanted.contains(name));
        let due = self.standing.iter().filter(|(_, standing)| matches!(standing, Standing::Due(_)));
        due.filter(|(name, _)| {
            let needs = self.tested_with.get(*name).into_iter().flatten();
            let mut coming = needs.filter(|need| inside(need) && self.is_coming(need));
            coming.any(|need| !self.graph.build_dependencies(need).contains(*name))
        })
        .map(|(name, _)| name.clone())
        .collect()
    }

    fn is_coming(&self, name: &str) -> bool {
        let moving = |name: &str| matches!(self.standing.get(name), Some(Standing::Due(_) | Standing::Built(_)));
        match self.standing.get(name) {
            Some(Standing::Waiting(missing)) => {
                let waits = |need: &String| matches!(self.standing.get(need), Some(Standing::Waiting(_)));
                missing.iter().all(|need| moving(need) || waits(need)) && missing.iter().any(|need| moving(need))
            }
            _ => moving(name),
        }
    }

    /// Messages for the definitions that are held back for their tests, but for those in `sent`,
    /// which gains them: nothing that they wait for is on its way any more.
    ///
    /// # Errors
    /// When a message has no JSON form.
    pub(crate) fn due_without_tests(
        &self,
        architecture: Architecture,
        focus: Option<&str>,
        sent: &mut BTreeSet<(String, Architecture)>,
    ) -> Result<Transaction, StageError> {
        let mut transaction = Transaction::default();
        for name in self.held_back(self.wanted(focus).as_ref()) {
            let Some(Ok(package)) = self.by_name.get(&name) else { continue };
            if sent.insert((name.clone(), architecture)) {
                transaction.put(claim_key(&name, &package.claim), Condition::Any, &package.claim)?;
                transaction.send(build_message(&name, package, architecture)?);
            }
        }
        Ok(transaction)
    }

    fn retried(&self, name: &str, retry: Retry<'_>) -> bool {
        match retry {
            Retry::All => true,
            Retry::None => false,
            Retry::Dependents(published) => self.graph.build_dependencies(name).contains(published),
        }
    }
}

/// By definition, the other definitions whose packages its tests want.
fn tested_with(by_name: &BTreeMap<String, Result<Package, String>>) -> BTreeMap<String, BTreeSet<String>> {
    let plain = |want: &str| want.split(['=', '<', '>', '~', '@']).next().unwrap_or(want).to_owned();
    let mut makers: BTreeMap<String, &String> = BTreeMap::new();
    for (definition, package) in by_name {
        for output in package.iter().flat_map(|package| &package.plan.outputs) {
            makers.extend(output.dependencies.provides.iter().map(|name| (plain(name), definition)));
            makers.insert(output.name.clone(), definition);
        }
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (definition, package) in by_name {
        let tests = package.iter().flat_map(|package| &package.plan.outputs).filter_map(|output| output.test.as_ref());
        let wants = tests.flat_map(|test| &test.environment.packages);
        let others = wants.filter_map(|want| makers.get(&plain(want))).filter(|other| **other != definition);
        let others: BTreeSet<String> = others.map(|other| (*other).clone()).collect();
        if !others.is_empty() {
            found.insert(definition.clone(), others);
        }
    }
    found
}

/// What the host's tool chain stands in for is nobody's build dependency.
fn node(package: &Package) -> Node {
    Node { build: package.wants.clone(), ..Node::from_plan(&package.plan) }
}

fn build_message(name: &str, package: &Package, architecture: Architecture) -> Result<Envelope, StageError> {
    PackageBuild {
        package: name.to_owned(),
        version: package.claim.version(),
        architecture,
        definition: package.claim.definition,
    }
    .envelope()
}

fn claim_key(name: &str, claim: &Claim) -> Key {
    Key::new(record::package(name), format!("claim#{}", claim.version()))
}

/// What the state says of one package.
struct Settled {
    published: bool,
    /// Why the current version was withdrawn.
    withdrawn: Option<String>,
    built: Option<Digest>,
    earlier: Option<String>,
    failure: Option<Failure>,
}

impl Settled {
    async fn find(
        context: &Context,
        name: &str,
        package: &Package,
        architecture: Architecture,
        withdrawals: &BTreeMap<(String, String), Withdrawal>,
    ) -> Result<Self, StageError> {
        let withdrawn = |version: &String| withdrawals.get(&(name.to_owned(), version.clone()));
        let partition = record::package(name);
        let version = package.claim.version();
        let published = context.state.get(&published_key(name, &version, architecture)).await?;
        let published = published.map(|document| document.decode::<PublishedPackage>()).transpose()?;
        let all = context.state.list_all(&partition, "version#").await?;
        let earlier = all.iter().map(ports::Document::decode::<PublishedPackage>).collect::<Result<Vec<_>, _>>()?;
        let earlier = earlier.into_iter().filter(|other| other.architecture == architecture).map(|other| other.version);
        let earlier = earlier.filter(|version| withdrawn(version).is_none());
        let failure = context.state.get(&failure_key(name, &version, architecture)).await?;
        let built = context.state.get(&built_key(name, &version, architecture)).await?;
        let built = built.map(|document| document.decode::<Built>()).transpose()?;
        Ok(Self {
            built: built.filter(|built| built.definition == package.claim.definition).map(|built| built.result),
            published: published.is_some_and(|published| published.definition == package.claim.definition),
            withdrawn: withdrawn(&version).map(|withdrawal| withdrawal.reason.clone()),
            earlier: earlier.max_by(|a, b| apk::compare_versions(a, b).unwrap_or(std::cmp::Ordering::Equal)),
            failure: failure.map(|document| document.decode()).transpose()?,
        })
    }

    /// Whether others can build with it now: it is published, or its newest build failed or was
    /// withdrawn and an earlier version is there.
    fn usable(&self) -> bool {
        let stays_behind = self.failure.is_some() || self.withdrawn.is_some();
        self.published && self.withdrawn.is_none() || (stays_behind && self.earlier.is_some())
    }

    fn reason(&self) -> String {
        match &self.earlier {
            Some(earlier) => format!("its definition changed since {earlier}"),
            None => "it has not been built".to_owned(),
        }
    }
}

/// Key of a published version.
pub fn published_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("version#{version}#{architecture}"))
}

/// Key of a version's build that waits to be published.
pub fn built_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("built#{version}#{architecture}"))
}

/// Key of a version's failed build.
pub fn failure_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("failure#{version}#{architecture}"))
}

/// Builds and publishes what is due until nothing is left to do. What a test wants is built before
/// the package that it tests, as far as it can be; definitions that want each other's packages for
/// their tests are built when nothing else moves, and their tests say what did not run.
///
/// # Errors
/// When the state or the queue does not work.
pub async fn build_due(context: &Arc<Context>, workers: usize) -> Result<Summary, StageError> {
    let mut total = Summary::default();
    for architecture in &context.settings.architectures {
        send_due(context, *architecture, Retry::All).await?;
    }
    total.merge(drain(context, workers).await?);
    let mut sent = BTreeSet::new();
    loop {
        let before = sent.len();
        for architecture in &context.settings.architectures {
            let packages = Packages::load(context, *architecture).await?;
            let focus = context.settings.focus.as_deref();
            context.state.commit(packages.due_without_tests(*architecture, focus, &mut sent)?).await?;
        }
        if sent.len() == before || context.stopping.load(Ordering::Relaxed) {
            return Ok(total);
        }
        total.merge(drain(context, workers).await?);
    }
}

/// Sends the builds that have become possible.
///
/// # Errors
/// When the state can't be read or written.
pub async fn send_due(context: &Context, architecture: Architecture, retry: Retry<'_>) -> Result<Packages, StageError> {
    let packages = Packages::load(context, architecture).await?;
    context.state.commit(packages.due(architecture, context.settings.focus.as_deref(), retry)?).await?;
    Ok(packages)
}
