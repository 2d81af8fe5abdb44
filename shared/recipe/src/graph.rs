//! In which order definitions must be built.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::iter::successors;

pub use cycle::{Cycle, Link, LinkKind};

use crate::error::Error;
use crate::plan::BuildPlan;

mod cycle;

/// A definition as the order sees it: what it makes and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The definition's name.
    pub name: String,
    /// Wanted packages of the build's environment, constraints and all.
    pub build: Vec<String>,
    /// Every package it makes: name, provided names, and runtime dependencies.
    pub packages: Vec<NodePackage>,
}

/// A package of a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePackage {
    /// Package name.
    pub name: String,
    /// Names that it provides.
    pub provides: Vec<String>,
    /// What it needs at run time.
    pub runtime: Vec<String>,
}

impl Node {
    /// The node of a build plan.
    #[must_use]
    pub fn from_plan(plan: &BuildPlan) -> Self {
        let packages = plan.outputs.iter().map(|output| NodePackage {
            name: output.name.clone(),
            provides: output.dependencies.provides.clone(),
            runtime: output.dependencies.runtime.clone(),
        });
        Self { name: plan.name.clone(), build: plan.environment.packages.clone(), packages: packages.collect() }
    }
}

/// The build order of a set of definitions.
#[derive(Debug, Clone)]
pub struct Graph {
    /// What must be built before each definition, with the reason.
    before: BTreeMap<String, BTreeMap<String, Link>>,
    /// The same links the other way round.
    after: BTreeMap<String, BTreeSet<String>>,
    external: BTreeMap<String, BTreeSet<String>>,
    duplicates: Vec<Duplicate>,
}

/// A package that two definitions make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The package.
    pub package: String,
    /// The definition that the graph takes it from.
    pub first: String,
    /// The other.
    pub second: String,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "package `{}` is made by both `{}` and `{}`; rename one",
            self.package, self.first, self.second
        )
    }
}

impl Graph {
    /// Links definitions by what they make and need.
    ///
    /// A build needs the packages of its environment and, because those are installed, what they need at run
    /// time, and so on. Names that no definition makes are [`external`](Self::external).
    ///
    /// # Errors
    ///
    /// [`Error::DuplicatePackage`] when two definitions make a package of one name.
    pub fn new(nodes: &[Node]) -> Result<Self, Error> {
        let mut graph = Self::tolerant(nodes);
        match graph.duplicates.pop() {
            None => Ok(graph),
            Some(duplicate) => Err(Error::DuplicatePackage(duplicate)),
        }
    }

    /// As [`new`](Self::new), but a package that two definitions make is taken from the first, and is one of
    /// [`duplicates`](Self::duplicates).
    #[must_use]
    pub fn tolerant(nodes: &[Node]) -> Self {
        let mut makers: BTreeMap<&str, (&Node, &NodePackage)> = BTreeMap::new();
        let mut duplicates = Vec::new();
        for node in nodes {
            for package in &node.packages {
                match makers.entry(&package.name) {
                    Entry::Vacant(entry) => {
                        entry.insert((node, package));
                    }
                    Entry::Occupied(entry) => duplicates.push(Duplicate {
                        package: package.name.clone(),
                        first: entry.get().0.name.clone(),
                        second: node.name.clone(),
                    }),
                }
            }
        }
        // A name may be provided many times over; any one of them will do, and a package of that name wins.
        let mut providers: BTreeMap<&str, (&Node, &NodePackage)> = BTreeMap::new();
        for node in nodes {
            for package in &node.packages {
                for provided in &package.provides {
                    providers.entry(bare_name(provided)).or_insert((node, package));
                }
            }
        }
        let mut graph = Self { before: BTreeMap::new(), after: BTreeMap::new(), external: BTreeMap::new(), duplicates };
        for node in nodes {
            let links = graph.links(node, &makers, &providers);
            for to in links.keys() {
                graph.after.entry(to.clone()).or_default().insert(node.name.clone());
            }
            graph.before.insert(node.name.clone(), links);
        }
        graph
    }

    /// Packages that two definitions make, in the order of the definitions; empty for a graph of
    /// [`new`](Self::new).
    #[must_use]
    pub fn duplicates(&self) -> &[Duplicate] {
        &self.duplicates
    }

    fn links(
        &mut self,
        node: &Node,
        makers: &BTreeMap<&str, (&Node, &NodePackage)>,
        providers: &BTreeMap<&str, (&Node, &NodePackage)>,
    ) -> BTreeMap<String, Link> {
        let mut links: BTreeMap<String, Link> = BTreeMap::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        // The package through which each package came to be installed.
        let mut arrived: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        let mut queue: VecDeque<(&str, Option<&str>)> = node.build.iter().map(|want| (bare_name(want), None)).collect();
        while let Some((want, through)) = queue.pop_front() {
            if want.is_empty() || !seen.insert(want) {
                continue;
            }
            let Some((maker, package)) = makers.get(want).or_else(|| providers.get(want)) else {
                if through.is_none() {
                    self.external.entry(want.to_owned()).or_default().insert(node.name.clone());
                }
                continue;
            };
            arrived.entry(&package.name).or_insert(through);
            links.entry(maker.name.clone()).or_insert_with(|| {
                let mut chain: Vec<String> =
                    successors(through, |at| arrived.get(at).copied().flatten()).map(str::to_owned).collect();
                chain.reverse();
                Link {
                    from: node.name.clone(),
                    to: maker.name.clone(),
                    package: want.to_owned(),
                    kind: if chain.is_empty() { LinkKind::Build } else { LinkKind::Runtime },
                    through: chain,
                }
            });
            queue.extend(package.runtime.iter().map(|need| (bare_name(need), Some(package.name.as_str()))));
        }
        links
    }

    /// Definitions in groups: each group needs only earlier ones, so its members may be built at the same
    /// time. Names in a group are a to z.
    ///
    /// # Errors
    ///
    /// The shortest chain of the first definition, a to z, that is part of one.
    pub fn order(&self) -> Result<Vec<Vec<String>>, Cycle> {
        let (groups, left) = self.peel();
        match self.cycles_of(left).into_iter().next() {
            Some(cycle) => Err(cycle),
            None => Ok(groups),
        }
    }

    /// As [`order`](Self::order), but definitions that need each other stand in one group, since any of them
    /// must be there to build the others.
    #[must_use]
    pub fn order_around_cycles(&self) -> Vec<Vec<String>> {
        // Each definition of a cycle by the first of its members.
        let cycles = self.cycles();
        let mut unit: BTreeMap<&str, &str> = BTreeMap::new();
        for cycle in &cycles {
            let first = cycle.members.first().map_or("", String::as_str);
            unit.extend(cycle.members.iter().map(|member| (member.as_str(), first)));
        }
        let of = |name: &'_ str| unit.get(name).copied();
        let mut left: BTreeSet<&str> = self.before.keys().map(String::as_str).collect();
        let mut groups = Vec::new();
        while !left.is_empty() {
            let waits = |name: &str| {
                self.needed_by(name).any(|to| left.contains(to) && (of(name).is_none() || of(to) != of(name)))
            };
            let waiting: BTreeSet<&str> = left.iter().filter(|name| waits(name)).filter_map(|name| of(name)).collect();
            let free = |name: &&&str| !waits(name) && of(name).is_none_or(|unit| !waiting.contains(unit));
            let group: Vec<&str> = left.iter().filter(free).copied().collect();
            if group.is_empty() {
                break;
            }
            for name in &group {
                left.remove(name);
            }
            groups.push(group.into_iter().map(str::to_owned).collect());
        }
        groups
    }

    /// One chain for each set of definitions that need each other; empty when all can be ordered.
    #[must_use]
    pub fn cycles(&self) -> Vec<Cycle> {
        self.cycles_of(self.peel().1)
    }

    fn cycles_of(&self, left: BTreeSet<String>) -> Vec<Cycle> {
        let mut left = self.trim(left);
        let mut cycles = Vec::new();
        while let Some(name) = left.first().cloned() {
            if let Some(links) = self.shortest_cycle(&name, &left) {
                // The set is every definition that leads here and is led to from here.
                let forward = self.reachable(&name, |name| left.contains(name), |name| self.needed_by(name));
                let backward = self.reachable(&name, |name| left.contains(name), |name| self.needing(name));
                let members: Vec<String> = forward.intersection(&backward).map(|name| (*name).to_owned()).collect();
                for member in &members {
                    left.remove(member);
                }
                cycles.push(Cycle { links, members });
            }
            left.remove(&name);
        }
        cycles
    }

    /// Every definition that must be built before `name`, directly or not.
    #[must_use]
    pub fn build_dependencies(&self, name: &str) -> BTreeSet<String> {
        self.closure(name, |name| self.needed_by(name))
    }

    /// Every definition that must be built again when `name` changes, directly or not.
    #[must_use]
    pub fn dependents(&self, name: &str) -> BTreeSet<String> {
        self.closure(name, |name| self.needing(name))
    }

    /// Wanted names that no definition makes, each with the definitions whose environment wants it.
    #[must_use]
    pub fn external(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.external
    }

    /// Takes away what needs nothing that is left, again and again.
    fn peel(&self) -> (Vec<Vec<String>>, BTreeSet<String>) {
        let mut left: BTreeSet<String> = self.before.keys().cloned().collect();
        let mut groups = Vec::new();
        loop {
            let free: Vec<String> = left
                .iter()
                .filter(|name| self.before.get(*name).is_none_or(|links| links.keys().all(|to| !left.contains(to))))
                .cloned()
                .collect();
            if free.is_empty() {
                return (groups, left);
            }
            for name in &free {
                left.remove(name);
            }
            groups.push(free);
        }
    }

    /// Takes away what nothing that is left needs, again and again: the members of cycles stay, and what lies
    /// between them.
    fn trim(&self, mut left: BTreeSet<String>) -> BTreeSet<String> {
        loop {
            let count = left.len();
            let kept: BTreeSet<String> =
                left.iter().filter(|name| self.needing(name).any(|other| left.contains(other))).cloned().collect();
            left = kept;
            if left.len() == count {
                return left;
            }
        }
    }

    fn needed_by(&self, name: &str) -> impl Iterator<Item = &str> {
        self.before.get(name).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    fn needing(&self, name: &str) -> impl Iterator<Item = &str> {
        self.after.get(name).into_iter().flatten().map(String::as_str)
    }

    fn closure<'g, I: Iterator<Item = &'g str>>(
        &'g self,
        from: &'g str,
        next: impl Fn(&'g str) -> I,
    ) -> BTreeSet<String> {
        self.reachable(from, |name| self.before.contains_key(name), next).into_iter().map(str::to_owned).collect()
    }

    fn reachable<'g, I: Iterator<Item = &'g str>>(
        &'g self,
        from: &'g str,
        within: impl Fn(&str) -> bool,
        next: impl Fn(&'g str) -> I,
    ) -> BTreeSet<&'g str> {
        let mut reached = BTreeSet::new();
        let mut queue = vec![self.before.get_key_value(from).map_or("", |(name, _)| name.as_str())];
        while let Some(name) = queue.pop() {
            for to in next(name) {
                if within(to) && reached.insert(to) {
                    queue.push(to);
                }
            }
        }
        reached
    }

    fn shortest_cycle(&self, start: &str, within: &BTreeSet<String>) -> Option<Vec<Link>> {
        let mut arrived: BTreeMap<&str, &Link> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(name) = queue.pop_front() {
            for (to, link) in self.before.get(name).into_iter().flatten() {
                if to == start {
                    let mut links = vec![link.clone()];
                    let mut at = name;
                    while let Some(link) = arrived.get(at).filter(|_| at != start) {
                        links.push((*link).clone());
                        at = &link.from;
                    }
                    links.reverse();
                    return Some(links);
                }
                if within.contains(to) && !arrived.contains_key(to.as_str()) {
                    arrived.insert(to, link);
                    queue.push_back(to);
                }
            }
        }
        None
    }
}

/// The name in a want such as `name=1.2-r0`, `name~1.2` or `name@edge`; empty for a conflict (`!name`), which
/// needs nothing.
fn bare_name(want: &str) -> &str {
    if want.starts_with('!') {
        return "";
    }
    want.split(['=', '<', '>', '~', '@']).next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests;
