//! Finds out why a task has no solution: which constraints of which packages fail.

use crate::arena::{Arena, NameId, PackageId};
use crate::failure::{Fact, Problem, Subject};
use crate::links::Link;
use crate::order::Change;
use crate::presence::{BY_INSTALL_IF, MISSING, PRESENT};
use crate::solver::{DEFAULT_PIN, Solver, Want};
use crate::universe::{Provider, Universe};

/// How many versions a message lists at most.
const LISTED_VERSIONS: usize = 8;

/// Whether `package` satisfies `link` of `asker`; `None` where it has nothing to do with the name.
pub(crate) fn relation(
    universe: &Universe<'_>,
    asker: Option<PackageId>,
    link: &Link<'_>,
    package: PackageId,
) -> Option<bool> {
    let (_, provider) = universe.provisions(package).find(|(name, _)| *name == link.name)?;
    // apk asks for a package's own name as if nobody did.
    let asker = asker.filter(|_| universe.packages[package].name != link.name);
    Some(universe.satisfies(asker, link, Some(provider)))
}

/// What does not hold of the changes that the solver came to, and the packages without which it
/// might: those that fail a constraint, and those that state one that fails.
pub(crate) fn problems<'s, 'a: 's>(
    solver: &Solver<'s, 'a>,
    subject: &'s str,
    wants: &'s [Want<'s>],
    changes: &[Change],
) -> (Vec<Problem>, Vec<PackageId>) {
    let universe = solver.universe;
    let mut analysis = Analysis {
        universe,
        solver,
        subject,
        wants,
        marked: Arena::with_rows(vec![false; universe.packages.len()]),
        parents: Arena::with_rows(vec![None; universe.packages.len()]),
        names: Arena::with_rows(vec![0; solver.names.len()]),
        packages: Arena::with_rows(vec![0; universe.packages.len()]),
        problems: Vec::new(),
        blamed: Vec::new(),
    };
    for change in changes {
        if let Some(package) = change.new {
            analysis.marked[package] = true;
        }
    }
    analysis.find_parents();
    analysis.discover();
    for want in wants {
        analysis.missing(&want.link, want.name);
    }
    for change in changes {
        if let Some(package) = change.new {
            analysis.package(package, change.tag);
            for link in universe.depends(package) {
                analysis.missing(&link, universe.name(link.name).unwrap_or_default());
            }
        }
    }
    if analysis.problems.is_empty() {
        analysis.displaced(changes);
    }
    (analysis.problems, analysis.blamed)
}

pub(crate) struct Analysis<'p, 's, 'a> {
    pub(crate) universe: &'s Universe<'a>,
    pub(crate) solver: &'p Solver<'s, 'a>,
    pub(crate) subject: &'s str,
    pub(crate) wants: &'s [Want<'s>],
    pub(crate) marked: Arena<PackageId, bool>,
    /// The shortest way from the wants to each package.
    pub(crate) parents: Arena<PackageId, Option<Option<PackageId>>>,
    pub(crate) names: Arena<NameId, u8>,
    pub(crate) packages: Arena<PackageId, u8>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) blamed: Vec<PackageId>,
}

impl<'s, 'a: 's> Analysis<'_, 's, 'a> {
    fn label(&self, package: PackageId) -> String {
        let row = &self.universe.packages[package];
        format!("{}-{}", row.record.name(), row.version)
    }

    fn link(&self, link: &Link<'_>) -> String {
        let name = self.universe.name(link.name).unwrap_or_default();
        link_text(link, name)
    }

    /// Who asks, with how it came to be asked: `world -> app-1 -> lib-2`.
    fn chain(&self, asker: Option<PackageId>) -> String {
        let mut path = Vec::new();
        let mut at = asker;
        while let Some(package) = at {
            path.push(self.label(package));
            at = self.parents[package].flatten();
        }
        path.push(self.subject.to_owned());
        path.reverse();
        path.join(" -> ")
    }

    fn missing(&mut self, link: &Link<'_>, text: &str) {
        let known = PRESENT | MISSING | BY_INSTALL_IF;
        if link.conflict || self.names[link.name] & known != 0 {
            return;
        }
        self.names[link.name] |= MISSING;
        let universe = self.universe;
        let name = link.name;
        let mut askers: Vec<(Option<PackageId>, String)> = self
            .wants
            .iter()
            .filter(|want| want.link.name == name && !want.link.conflict)
            .map(|want| (None, want.text()))
            .collect();
        let mut seen = Arena::<PackageId, bool>::with_rows(vec![false; universe.packages.len()]);
        for &dependent in universe.dependents(name) {
            let asking = universe.providers(dependent).iter().find_map(|provider| {
                let package = provider.package;
                if !self.marked[package] || std::mem::replace(&mut seen[package], true) {
                    return None;
                }
                let link = universe.depends(package).find(|link| link.name == name && !link.conflict)?;
                Some((Some(package), self.link(&link)))
            });
            askers.extend(asking);
        }
        let mut facts = Vec::new();
        let providers = self.provided_by(name);
        let subject = if providers.is_empty() {
            self.blamed.extend(askers.iter().filter_map(|(asker, _)| *asker));
            Subject::Missing(text.to_owned())
        } else {
            let note = "please select one of the 'provided by' packages explicitly";
            facts.push(Fact::new("note", note.split(' ').map(str::to_owned)));
            facts.push(Fact::new("provided by", providers.iter().cloned()));
            Subject::Virtual(text.to_owned())
        };
        let required = askers.iter().map(|(asker, dependency)| self.asker(*asker, dependency));
        facts.push(Fact::new("required by", required));
        let reasons = askers
            .iter()
            .map(|(asker, dependency)| {
                let chain = self.chain(*asker);
                if providers.is_empty() {
                    format!("{chain} wants `{dependency}`: no package has or provides that name")
                } else {
                    let providers = providers.join(", ");
                    format!(
                        "{chain} wants `{dependency}`: that is a virtual name, want one of its providers: {providers}"
                    )
                }
            })
            .collect();
        self.problems.push(Problem { subject, facts, reasons });
    }

    /// The providers of a name; of a package whose every version provides it, only the name.
    fn provided_by(&self, name: NameId) -> Vec<String> {
        let universe = self.universe;
        let providers = universe.providers(name);
        let owner = |provider: &Provider| universe.packages[provider.package].name;
        let mut counts = std::collections::HashMap::new();
        for provider in providers {
            *counts.entry(owner(provider)).or_insert(0_usize) += 1;
        }
        let mut texts = Vec::new();
        for provider in providers {
            let owner = owner(provider);
            let Some(count) = counts.get_mut(&owner) else {
                continue;
            };
            if *count == universe.providers(owner).len() {
                texts.push(universe.name(owner).unwrap_or_default().to_owned());
                *count = 0;
            } else if *count > 0 {
                texts.push(self.label(provider.package));
                *count -= 1;
            }
        }
        texts
    }

    fn asker(&self, asker: Option<PackageId>, dependency: &str) -> String {
        match asker {
            Some(package) => format!("{}[{dependency}]", self.label(package)),
            None => format!("world[{dependency}]"),
        }
    }

    fn package(&mut self, package: PackageId, tag: usize) {
        let mut problem =
            Problem { subject: Subject::Package(self.label(package)), facts: Vec::new(), reasons: Vec::new() };
        self.uninstallable(package, &mut problem);
        self.masked(package, tag, &mut problem);
        self.conflicts(package, &mut problem);
        let breaks = self.asking(package, false);
        let satisfies = self.asking(package, true);
        for (asker, link, text) in &breaks {
            let reason = self.broken(package, *asker, link, text, &satisfies);
            problem.reasons.push(reason);
        }
        problem.facts.push(Fact::new("breaks", self.askers(&breaks)));
        problem.facts.retain(|fact| !fact.items.is_empty());
        if self.solver.packages[package].excluded {
            self.blamed.extend(satisfies.iter().filter_map(|(asker, ..)| *asker));
        }
        if problem.facts.is_empty() {
            return;
        }
        problem.facts.push(Fact::new("satisfies", self.askers(&satisfies)));
        problem.facts.retain(|fact| !fact.items.is_empty());
        self.problems.push(problem);
        self.blamed.push(package);
        self.blamed.extend(breaks.iter().chain(&satisfies).filter_map(|(asker, ..)| *asker));
    }

    fn askers(&self, asking: &[(Option<PackageId>, Link<'s>, String)]) -> Vec<String> {
        asking.iter().map(|(asker, _, text)| self.asker(*asker, text)).collect()
    }

    fn uninstallable(&self, package: PackageId, problem: &mut Problem) {
        let row = &self.universe.packages[package];
        if !row.uninstallable() {
            return;
        }
        let label = self.label(package);
        let mut fact = |label, items: Vec<String>| problem.facts.push(Fact::new(label, items));
        fact("error", vec!["uninstallable".to_owned()]);
        if row.wrong_architecture {
            let found = row.record.architecture();
            fact("arch", vec![found.to_owned()]);
            problem.reasons.push(format!("`{label}` is for {found}, not for {}", self.universe.architecture()));
        }
        let mut fact = |label, items: Vec<String>| problem.facts.push(Fact::new(label, items));
        if let Some(architecture) = row.absent {
            fact("absent for", vec![architecture.to_string()]);
        }
        for (label, links) in [
            ("depends", self.universe.depends(package)),
            ("provides", self.universe.provides(package)),
            ("install_if", self.universe.install_if(package)),
        ] {
            let broken = links.filter(|link| link.broken);
            fact(label, broken.map(|link| self.link(&link)).collect());
        }
        if let Some(architecture) = row.absent {
            problem.reasons.push(format!(
                "`{label}` is not there for {architecture}, and all architectures must have the same versions"
            ));
        }
        if row.broken {
            let broken: Vec<String> = self
                .universe
                .depends(package)
                .filter(|link| link.broken)
                .map(|link| format!("`{}`", self.link(&link)))
                .collect();
            problem.reasons.push(format!("`{label}` has dependencies that can't be read: {}", broken.join(", ")));
        }
    }

    fn masked(&self, package: PackageId, tag: usize, problem: &mut Problem) {
        let universe = self.universe;
        let row = &universe.packages[package];
        let opened = universe.opened_by(DEFAULT_PIN | 1 << tag);
        if row.installed.is_some() || row.repositories & opened != 0 {
            return;
        }
        let masks: Vec<String> = universe
            .tags
            .iter()
            .filter(|tag| tag.repositories & row.repositories != 0)
            .map(|tag| format!("@{}", tag.text))
            .collect();
        if !masks.is_empty() {
            problem.reasons.push(format!(
                "`{}` is only in repositories tagged {}: want `{}{}`",
                self.label(package),
                masks.join(", "),
                row.record.name(),
                masks.first().map_or("", String::as_str)
            ));
        }
        problem.facts.push(Fact::new("masked in", masks));
    }

    fn conflicts(&self, package: PackageId, problem: &mut Problem) {
        let universe = self.universe;
        let row = &universe.packages[package];
        let mut items = Vec::new();
        for provider in universe.providers(row.name) {
            if provider.package != package && self.marked[provider.package] {
                items.push(self.label(provider.package));
                problem.reasons.push(self.clash(package, provider.package, row.name));
            }
        }
        for link in universe.provides(package) {
            let mut itself = true;
            for provider in universe.providers(link.name) {
                let version = universe.provided_version(*provider);
                if !self.marked[provider.package] || (link.version().is_none() && version.is_none()) {
                    continue;
                }
                if provider.package == package && version == link.version() && std::mem::take(&mut itself) {
                    continue;
                }
                items.push(format!("{}[{}]", self.label(provider.package), self.link(&link)));
                problem.reasons.push(self.clash(package, provider.package, link.name));
            }
        }
        problem.facts.push(Fact::new("conflicts", items));
    }

    /// Packages that can't have a name of theirs because another was chosen for it before, which
    /// apk's report passes over when that other package is not among the changes.
    fn displaced(&mut self, changes: &[Change]) {
        let universe = self.universe;
        for package in changes.iter().filter_map(|change| change.new) {
            if !self.solver.packages[package].error {
                continue;
            }
            let own = universe.packages[package].name;
            let provided = universe.provides(package).map(|link| link.name);
            let others: Vec<(PackageId, NameId)> = std::iter::once(own)
                .chain(provided)
                .filter_map(|name| Some((self.solver.names[name].chosen?.package, name)))
                .filter(|(other, _)| *other != package)
                .collect();
            let reasons = others.iter().map(|(other, name)| self.clash(package, *other, *name)).collect();
            let askers = self.asking(package, true);
            self.blamed.push(package);
            self.blamed.extend(others.iter().map(|(other, _)| *other));
            self.blamed.extend(askers.iter().filter_map(|(asker, ..)| *asker));
            self.problems.push(Problem { subject: Subject::Package(self.label(package)), facts: Vec::new(), reasons });
        }
    }

    fn clash(&self, package: PackageId, other: PackageId, shared: NameId) -> String {
        let name = self.universe.name(shared).unwrap_or_default();
        if package == other {
            return format!("`{}` provides `{name}` in two versions", self.label(package));
        }
        let (first, second) = (package.min(other), package.max(other));
        format!(
            "`{}` and `{}` both provide `{name}` and exclude each other, but {} and {}",
            self.label(first),
            self.label(second),
            self.wanted_by(first, shared),
            self.wanted_by(second, shared)
        )
    }

    /// Who wants the package, best for another name than the `shared` one.
    fn wanted_by(&self, package: PackageId, shared: NameId) -> String {
        let asking = self.asking(package, true);
        let telling = asking.iter().find(|(_, link, _)| link.name != shared).or(asking.first());
        match telling {
            Some((asker, _, text)) => format!("{} wants `{text}`", self.chain(*asker)),
            None => format!("`{}` comes in by its install_if", self.label(package)),
        }
    }

    /// Constraints that hold of `package`, or that it breaks: those of the wants, then those of the
    /// other packages by name.
    fn asking(&self, package: PackageId, holds: bool) -> Vec<(Option<PackageId>, Link<'s>, String)> {
        let universe = self.universe;
        let mut asking: Vec<(Option<PackageId>, Link<'s>, String)> = self
            .wants
            .iter()
            .filter(|want| relation(universe, None, &want.link, package) == Some(holds))
            .map(|want| (None, want.link, want.text()))
            .collect();
        asking.sort_by_key(|(_, link, _)| strength(link));
        let mut seen = std::collections::HashSet::new();
        let mut others = Vec::new();
        let provided = universe.provides(package).map(|link| link.name);
        for name in std::iter::once(universe.packages[package].name).chain(provided) {
            for &dependent in universe.dependents(name) {
                for provider in universe.providers(dependent) {
                    let asker = provider.package;
                    if !self.marked[asker] || !seen.insert(asker) {
                        continue;
                    }
                    for link in universe.depends(asker) {
                        if relation(universe, Some(asker), &link, package) == Some(holds) {
                            others.push((Some(asker), link, self.link(&link)));
                        }
                    }
                }
            }
        }
        others.sort_by(|(a, link_a, _), (b, link_b, _)| {
            let by_package = match (a, b) {
                (Some(a), Some(b)) => {
                    let (a, b) = (&universe.packages[*a], &universe.packages[*b]);
                    let (name_a, name_b) = (a.record.name(), b.record.name());
                    compare_names(name_a, name_b).then_with(|| apk::order_versions(a.version, b.version))
                }
                _ => std::cmp::Ordering::Equal,
            };
            by_package.then_with(|| strength(link_a).cmp(&strength(link_b)))
        });
        asking.extend(others);
        asking
    }

    fn broken(
        &self,
        package: PackageId,
        asker: Option<PackageId>,
        link: &Link<'_>,
        text: &str,
        satisfies: &[(Option<PackageId>, Link<'s>, String)],
    ) -> String {
        let universe = self.universe;
        let (chain, label) = (self.chain(asker), self.label(package));
        let others = || {
            let others: Vec<String> =
                satisfies.iter().map(|(asker, _, text)| format!("{} (`{text}`)", self.chain(*asker))).collect();
            if others.is_empty() { "other wants".to_owned() } else { others.join(", ") }
        };
        if link.conflict {
            return format!("{chain} excludes `{label}` by `{text}`, but it is wanted by {}", others());
        }
        let providers = universe.providers(link.name);
        let possible = providers.iter().any(|provider| {
            !universe.packages[provider.package].uninstallable() && universe.satisfies(asker, link, Some(*provider))
        });
        if possible {
            return format!("{chain} wants `{text}`, but `{label}` is what fits {}", others());
        }
        let mut versions: Vec<&str> =
            providers.iter().filter_map(|provider| universe.provided_version(*provider)).collect();
        versions.sort_by(|a, b| apk::order_versions(b, a));
        versions.dedup();
        let more = versions.len().saturating_sub(LISTED_VERSIONS);
        versions.truncate(LISTED_VERSIONS);
        let mut there = versions.join(", ");
        if more > 0 {
            there.push_str(&format!(" and {more} more"));
        }
        format!("{chain} wants `{text}`: no package provides it; versions there: {there}")
    }
}

/// A constraint as apk prints it.
pub(crate) fn link_text(link: &Link<'_>, name: &str) -> String {
    let not = if link.conflict { "!" } else { "" };
    match (link.operator, link.version()) {
        (Some(operator), Some(version)) => format!("{not}{name}{operator}{version}"),
        _ => format!("{not}{name}"),
    }
}

/// apk sorts the constraints of one package by the bits of their operator.
fn strength(link: &Link<'_>) -> u8 {
    use apk::Operator as O;
    let operator = match link.operator {
        Some(O::Equal) => 1,
        Some(O::Less) => 2,
        Some(O::LessOrEqual) => 3,
        Some(O::Greater) => 4,
        Some(O::GreaterOrEqual) => 5,
        Some(O::Checksum) => 6,
        None => 7,
        Some(O::Fuzzy) => 9,
        Some(O::LessOrFuzzy) => 11,
        Some(O::GreaterOrFuzzy) => 13,
    };
    operator + if link.conflict { 16 } else { 0 }
}

/// The order in which apk lists names: letters before their case.
pub(crate) fn compare_names(a: &str, b: &str) -> std::cmp::Ordering {
    let lower = |text: &str| text.bytes().map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>();
    lower(a).cmp(&lower(b)).then_with(|| a.cmp(b))
}
