//! What stands in the catalog today, and which packages are due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use apk::Architecture;
use ports::{Condition, Envelope, Key, Transaction};

use crate::evaluation::{self, Documents, Order, Package};
use crate::record;
use crate::rules::version::Claim;
use crate::standing::{Settled, Standing};
use crate::worker::{Summary, drain};
use crate::{Context, PackageBuild, PackagePublish, Stage, StageError, package_index, package_retest, repository};

/// Writes of one transaction, below what every adapter keeps.
const WRITES: usize = 40;

/// What has happened, and so which builds are looked at and which that failed before are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry<'a> {
    /// A new day, or somebody asks: all definitions, and all that failed.
    All,
    /// A definition has just been published.
    Published {
        /// Its name. What builds or is tested with it is asked for, failed before or not.
        name: &'a str,
        /// Definitions that must be built again because of it.
        rebuilt: &'a BTreeSet<String>,
    },
    /// The build of this definition has just failed: what can do without it, and nothing that failed today.
    Failed(&'a str),
}

/// Packages of the catalog for one architecture: all, or those around one.
#[derive(Debug)]
pub struct Packages {
    /// The version that each definition builds; those that can't be resolved say why.
    pub by_name: BTreeMap<String, Result<Claim, String>>,
    /// How each usable definition stands.
    pub standing: BTreeMap<String, Standing>,
    order: Arc<Order>,
    /// Those that may be asked for; all when there is none. The others are there because these need them.
    scope: Option<BTreeSet<String>>,
}

/// The package called `name` as it is to be built today.
///
/// # Errors
/// [`StageError::Rejected`] when the catalog has no such definition or it can't be resolved.
pub async fn load_package(context: &Context, name: &str, architecture: Architecture) -> Result<Package, StageError> {
    let unknown = || StageError::Rejected(format!("the catalog has no package `{name}`"));
    let source = context.catalog.packages.get(name).ok_or_else(unknown)?;
    let documents = documents(context, architecture, [name.to_owned()].into()).await?;
    let claim = context.caches.evaluations.refresh(&context.catalog, architecture, &documents)?.remove(name);
    let claim = claim.ok_or_else(unknown)?.map_err(StageError::Rejected)?;
    let documents = documents.get(name).map(Vec::as_slice).unwrap_or_default();
    evaluation::package(&context.catalog, source, documents, claim, architecture)
}

/// What the state says of definitions and of the shared ones, which show in those that build with them.
async fn documents(
    context: &Context,
    architecture: Architecture,
    mut names: BTreeSet<String>,
) -> Result<Documents, StageError> {
    names.extend(context.catalog.shared_outputs(architecture).values().cloned());
    let partitions: Vec<String> = names.iter().map(|name| record::package(name)).collect();
    let lists = context.state.list_partitions(&partitions, &["releases"]).await?;
    Ok(names.into_iter().zip(lists).collect())
}

impl Packages {
    /// Finds how every definition stands.
    ///
    /// # Errors
    /// When the state can't be read. A definition that is wrong is listed with its reason.
    pub async fn load(context: &Context, architecture: Architecture) -> Result<Self, StageError> {
        let documents = documents(context, architecture, built_for(context, architecture).cloned().collect()).await?;
        let mut by_name = context.caches.evaluations.refresh(&context.catalog, architecture, &documents)?;
        by_name.retain(|name, _| is_built_for(context, name, architecture));
        let order = context.caches.evaluations.order(&context.catalog, architecture);
        order.refuse_duplicates(&mut by_name);
        let mut packages = Self { by_name, standing: BTreeMap::new(), order, scope: None };
        let settled = packages.settled(context, architecture, &documents).await?;
        packages.find_standings(&settled);
        Ok(packages)
    }

    /// How those stand that may have become due with what has just happened to one of them: what
    /// builds or is tested with it, and what these need. The others are as they were.
    ///
    /// # Errors
    /// As [`Packages::load`].
    async fn load_around(
        context: &Context,
        architecture: Architecture,
        changed: &str,
        further: &BTreeSet<String>,
    ) -> Result<Self, StageError> {
        let evaluations = &context.caches.evaluations;
        if !evaluations.know_all(architecture, built_for(context, architecture)) {
            return Self::load(context, architecture).await;
        }
        let order = evaluations.order(&context.catalog, architecture);
        let mut scope = order.affected(changed);
        scope.extend(further.iter().cloned());
        scope.retain(|name| is_built_for(context, name, architecture));
        let mut known = documents(context, architecture, scope.clone()).await?;
        let mut by_name = evaluations.refresh(&context.catalog, architecture, &known)?;
        order.refuse_duplicates(&mut by_name);
        let mut packages = Self { by_name, standing: BTreeMap::new(), order, scope: Some(scope) };
        let settled = packages.settled(context, architecture, &known).await?;
        let mut needs = BTreeSet::new();
        for name in settled.iter().filter(|(_, own)| own.awaits_build()).map(|(name, _)| name) {
            needs.extend(packages.order.graph.build_dependencies(name));
            for tested_with in packages.order.tested_with(name) {
                needs.extend(packages.order.graph.build_dependencies(tested_with));
                needs.insert(tested_with.clone());
            }
        }
        needs.retain(|need| !known.contains_key(need));
        known.extend(documents(context, architecture, needs).await?);
        packages.by_name = evaluations.refresh(&context.catalog, architecture, &known)?;
        packages.by_name.retain(|name, _| is_built_for(context, name, architecture));
        packages.order.refuse_duplicates(&mut packages.by_name);
        if !Arc::ptr_eq(&packages.order, &evaluations.order(&context.catalog, architecture)) {
            // Upstream has released meanwhile, and another order may affect others.
            return Self::load(context, architecture).await;
        }
        let settled = packages.settled(context, architecture, &known).await?;
        packages.find_standings(&settled);
        Ok(packages)
    }

    /// Definitions that can't be built because they need each other.
    pub fn cycles(&self) -> &[String] {
        self.order.cycles()
    }

    async fn settled(
        &self,
        context: &Context,
        architecture: Architecture,
        documents: &Documents,
    ) -> Result<BTreeMap<String, Settled>, StageError> {
        let withdrawals = repository::withdrawals(context.state.as_ref()).await?;
        let mut settled = BTreeMap::new();
        for (name, claim) in &self.by_name {
            let (Ok(claim), Some(documents)) = (claim, documents.get(name)) else { continue };
            settled.insert(name.clone(), Settled::find(name, claim, architecture, documents, &withdrawals)?);
        }
        Ok(settled)
    }

    fn find_standings(&mut self, settled: &BTreeMap<String, Settled>) {
        for (name, own) in settled {
            let standing = own.standing(|| {
                let needs = self.order.graph.build_dependencies(name).into_iter();
                needs.filter(|need| need != name && !settled.get(need).is_some_and(Settled::usable)).collect()
            });
            self.standing.insert(name.clone(), standing);
        }
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
    ) -> Result<Vec<Transaction>, StageError> {
        let wanted = self.wanted(focus);
        let held_back = self.held_back(wanted.as_ref());
        let dependents = match retry {
            Retry::Published { name, .. } => self.order.served_by(name),
            Retry::All | Retry::Failed(_) => BTreeSet::new(),
        };
        let retried = |name: &str| retry == Retry::All || dependents.contains(name);
        let mut transactions = Transactions::default();
        for (name, standing) in &self.standing {
            if self.scope.as_ref().is_some_and(|scope| !scope.contains(name)) {
                continue;
            }
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(name)) || held_back.contains(name) {
                continue;
            }
            let Some(Ok(claim)) = self.by_name.get(name) else { continue };
            match standing {
                Standing::Published | Standing::Withdrawn(_) | Standing::Waiting(_) => {}
                Standing::Failed if !retried(name) => {}
                Standing::Built(result) => {
                    let version = claim.version();
                    let message = PackagePublish { package: name.clone(), version, build: *result };
                    transactions.add(Transaction { messages: vec![message.envelope()?], ..Transaction::default() });
                }
                Standing::Due(_) | Standing::Failed => {
                    transactions.ask(name, claim, architecture)?;
                }
            }
        }
        Ok(transactions.0)
    }

    fn wanted(&self, focus: Option<&str>) -> Option<BTreeSet<String>> {
        focus.map(|focus| {
            let mut wanted = self.order.graph.build_dependencies(focus);
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
            let mut coming = self.order.tested_with(name).filter(|need| inside(need) && self.is_coming(need));
            coming.any(|need| !self.order.graph.build_dependencies(need).contains(*name))
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
    ) -> Result<Vec<Transaction>, StageError> {
        let mut transactions = Transactions::default();
        for name in self.held_back(self.wanted(focus).as_ref()) {
            let Some(Ok(claim)) = self.by_name.get(&name) else { continue };
            if sent.insert((name.clone(), architecture)) {
                transactions.ask(&name, claim, architecture)?;
            }
        }
        Ok(transactions.0)
    }
}

/// Requests for builds, in transactions that every adapter can keep.
#[derive(Default)]
struct Transactions(Vec<Transaction>);

impl Transactions {
    fn add(&mut self, one: Transaction) {
        match self.0.last_mut().filter(|last| last.messages.len() < WRITES) {
            Some(last) => {
                last.writes.extend(one.writes);
                last.messages.extend(one.messages);
            }
            None => self.0.push(one),
        }
    }

    fn ask(&mut self, name: &str, claim: &Claim, architecture: Architecture) -> Result<(), StageError> {
        let mut transaction = Transaction::default();
        transaction.put(claim_key(name, claim), Condition::Any, claim)?;
        transaction.send(build_message(name, claim, architecture)?);
        self.add(transaction);
        Ok(())
    }
}

fn is_built_for(context: &Context, name: &str, architecture: Architecture) -> bool {
    context.catalog.packages.get(name).is_some_and(|source| source.definition.builds_for(architecture))
}

/// The definitions that are built for an architecture.
fn built_for(context: &Context, architecture: Architecture) -> impl Iterator<Item = &String> {
    context.catalog.packages.keys().filter(move |name| is_built_for(context, name, architecture))
}

fn build_message(name: &str, claim: &Claim, architecture: Architecture) -> Result<Envelope, StageError> {
    PackageBuild { package: name.to_owned(), version: claim.version(), architecture, definition: claim.definition }
        .envelope()
}

fn claim_key(name: &str, claim: &Claim) -> Key {
    Key::new(record::package(name), format!("claim#{}", claim.version()))
}

/// Builds and publishes what is due until nothing is left to do. What a test wants is built before
/// the package that it tests, as far as it can be; definitions that want each other's packages for
/// their tests are built when nothing else moves, and their tests say what did not run. Those run when
/// what they lacked has been published.
///
/// # Errors
/// When the state or the queue does not work.
pub async fn build_due(context: &Arc<Context>, workers: usize) -> Result<Summary, StageError> {
    let mut total = Summary::default();
    for architecture in &context.settings.architectures {
        package_index::resume(context, *architecture).await?;
        send_due(context, *architecture, Retry::All).await?;
    }
    total.merge(drain(context, workers).await?);
    let mut sent = BTreeSet::new();
    loop {
        let before = sent.len();
        let mut retests = 0;
        for architecture in &context.settings.architectures {
            let packages = Packages::load(context, *architecture).await?;
            let focus = context.settings.focus.as_deref();
            for transaction in packages.due_without_tests(*architecture, focus, &mut sent)? {
                context.state.commit(transaction).await?;
            }
            if focus.is_none() {
                retests += package_retest::send(context, *architecture).await?;
            }
        }
        if (sent.len() == before && retests == 0) || context.stopping.load(Ordering::Relaxed) {
            return Ok(total);
        }
        total.merge(drain(context, workers).await?);
    }
}

/// Asks once for all that is due, as [`build_due`] does until nothing is left. What is held back for its
/// tests, and tests that have not run, are asked for when no message but the caller's own waits.
///
/// # Errors
/// When the state or the queue does not work.
pub(crate) async fn ask_for_due(context: &Context) -> Result<(), StageError> {
    for architecture in &context.settings.architectures {
        package_index::resume(context, *architecture).await?;
        send_due(context, *architecture, Retry::All).await?;
    }
    if context.queue.pending().await? > 1 {
        return Ok(());
    }
    let mut sent = BTreeSet::new();
    for architecture in &context.settings.architectures {
        let packages = Packages::load(context, *architecture).await?;
        for transaction in packages.due_without_tests(*architecture, context.settings.focus.as_deref(), &mut sent)? {
            context.state.commit(transaction).await?;
        }
        package_retest::send(context, *architecture).await?;
    }
    Ok(())
}

/// Sends the builds that have become possible with what has happened.
///
/// # Errors
/// When the state can't be read or written.
pub async fn send_due(context: &Context, architecture: Architecture, retry: Retry<'_>) -> Result<(), StageError> {
    let packages = match retry {
        Retry::All => Packages::load(context, architecture).await?,
        Retry::Published { name, rebuilt } => Packages::load_around(context, architecture, name, rebuilt).await?,
        Retry::Failed(name) => Packages::load_around(context, architecture, name, &BTreeSet::new()).await?,
    };
    for transaction in packages.due(architecture, context.settings.focus.as_deref(), retry)? {
        context.state.commit(transaction).await?;
    }
    Ok(())
}
