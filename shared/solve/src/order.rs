//! From decided names to changes, in the order in which apk-tools commits them: dependencies before
//! dependents, what install_if brings in right after the last package it waited for.

use crate::arena::{Arena, NameId, PackageId, Sparse};
use crate::links::Link;
use crate::solver::{Solver, Want};

/// One package that comes, stays, is exchanged or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) old: Option<PackageId>,
    pub(crate) new: Option<PackageId>,
    /// Index of the tag that the new package is installed by.
    pub(crate) tag: usize,
}

#[derive(Clone, Debug, Default)]
struct NameState {
    processed: bool,
    removed: bool,
    installed_package: Option<PackageId>,
    /// The installed name that provides this one.
    installed_name: Option<NameId>,
    requirers: i32,
}

/// What is left to do; the latest is next, so no chain of dependencies is too long for the stack.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Change(NameId),
    Preprocess(NameId),
    ChangeChosen(NameId),
    ChangePackage(PackageId),
    Dependency(Option<PackageId>, Link<'a>),
    DependencyDone(Option<PackageId>, NameId),
    Record(Option<PackageId>, Option<PackageId>),
    InstallByInstallIf(NameId),
    RemoveByInstallIf(NameId),
    RemoveIfDue(PackageId),
    RemoveIfOrphan(PackageId),
    Remove(PackageId),
    TrackAdded(PackageId),
    TrackRemoved(PackageId),
}

/// The changes that the solver's decisions mean. Marks further errors on the solver.
pub(crate) fn order<'s, 'a: 's>(solver: &mut Solver<'s, 'a>, wants: &[Want<'s>]) -> Vec<Change> {
    let universe = solver.universe;
    let mut ordering = Ordering {
        names: Sparse::new(solver.names.len()),
        in_changes: Arena::with_rows(vec![false; universe.packages.len()]),
        steps: Vec::new(),
        changes: Vec::new(),
        solver,
    };
    for &package in universe.installed() {
        let name = universe.packages[package].name;
        ordering.names[name].installed_package = Some(package);
        ordering.names[name].installed_name = Some(name);
        for link in universe.provides(package) {
            if link.version().is_some() {
                ordering.names[link.name].installed_name = Some(name);
            }
        }
    }
    for &package in universe.installed() {
        ordering.run(Step::TrackAdded(package));
    }
    for &package in universe.installed() {
        ordering.run(Step::RemoveIfOrphan(package));
    }
    for want in wants {
        ordering.run(Step::Dependency(None, want.link));
    }
    for &package in universe.installed() {
        ordering.run(Step::Change(universe.packages[package].name));
    }
    ordering.changes
}

struct Ordering<'o, 's, 'a> {
    solver: &'o mut Solver<'s, 'a>,
    names: Sparse<NameId, NameState>,
    in_changes: Arena<PackageId, bool>,
    steps: Vec<Step<'s>>,
    changes: Vec<Change>,
}

impl<'s, 'a: 's> Ordering<'_, 's, 'a> {
    fn run(&mut self, first: Step<'s>) {
        self.steps.push(first);
        while let Some(step) = self.steps.pop() {
            let before = self.steps.len();
            self.take(step);
            // Steps are pushed in the order in which they are to happen.
            if let Some(pushed) = self.steps.get_mut(before..) {
                pushed.reverse();
            }
        }
    }

    fn chosen(&self, name: NameId) -> Option<PackageId> {
        self.solver.names[name].chosen.map(|chosen| chosen.package)
    }

    fn take(&mut self, step: Step<'s>) {
        let universe = self.solver.universe;
        match step {
            Step::Change(name) => {
                if !self.names[name].processed {
                    self.steps.push(Step::Preprocess(name));
                    self.steps.push(Step::ChangeChosen(name));
                }
            }
            Step::Preprocess(name) => self.preprocess(name),
            Step::ChangeChosen(name) => {
                if let Some(package) = self.chosen(name)
                    && !self.in_changes[package]
                {
                    self.in_changes[package] = true;
                    let own = universe.packages[package].name;
                    self.steps.push(Step::Preprocess(own));
                    for link in universe.provides(package) {
                        self.steps.push(Step::Preprocess(link.name));
                    }
                    self.steps.push(Step::ChangePackage(package));
                }
            }
            Step::ChangePackage(package) => {
                let old = self.names[universe.packages[package].name].installed_package;
                if let Some(old) = old {
                    self.push_reverse_install_if(old, Step::RemoveByInstallIf);
                }
                for link in universe.depends(package) {
                    self.steps.push(Step::Dependency(Some(package), link));
                }
                self.steps.push(Step::Record(old, Some(package)));
                self.push_reverse_install_if(package, Step::InstallByInstallIf);
                self.steps.push(Step::TrackAdded(package));
                if let Some(old) = old {
                    self.steps.push(Step::TrackRemoved(old));
                }
            }
            Step::Dependency(asker, link) => {
                let chosen = self.solver.names[link.name].chosen;
                if let Some(asker) = asker
                    && !universe.satisfies(Some(asker), &link, chosen)
                {
                    self.solver.mark_error(asker);
                }
                self.steps.push(Step::Change(link.name));
                self.steps.push(Step::DependencyDone(asker, link.name));
            }
            Step::DependencyDone(asker, name) => {
                if let Some(asker) = asker
                    && let Some(package) = self.chosen(name)
                    && self.solver.packages[package].error
                {
                    self.solver.mark_error(asker);
                }
            }
            Step::Record(old, new) => self.record(old, new),
            Step::InstallByInstallIf(name) => {
                if let Some(package) = self.chosen(name)
                    && self.solver.names[name].seen
                    && !self.names[name].processed
                    && universe.install_if(package).all(|link| {
                        let chosen = self.solver.names[link.name].chosen;
                        (link.conflict || self.names[link.name].processed)
                            && universe.satisfies(Some(package), &link, chosen)
                    })
                {
                    self.steps.push(Step::Change(name));
                }
            }
            Step::RemoveByInstallIf(name) => {
                let state = &self.names[name];
                if let Some(package) = state.installed_package
                    && self.chosen(name).is_none()
                    && !state.processed
                    && !state.removed
                    && universe
                        .install_if(package)
                        .any(|link| self.names[link.name].removed && self.chosen(link.name).is_none())
                {
                    self.steps.push(Step::RemoveIfOrphan(package));
                }
            }
            Step::RemoveIfDue(package) => {
                let name = universe.packages[package].name;
                if self.names[name].installed_package == Some(package) && self.chosen(name).is_none() {
                    self.steps.push(Step::Remove(package));
                }
            }
            Step::RemoveIfOrphan(package) => {
                let name = universe.packages[package].name;
                if self.names[name].requirers == 0 && self.chosen(name).is_none() {
                    self.steps.push(Step::Remove(package));
                }
            }
            Step::Remove(package) => self.remove(package),
            Step::TrackAdded(package) => {
                for link in universe.depends(package) {
                    if !link.conflict
                        && let Some(installed) = self.names[link.name].installed_name
                    {
                        self.names[installed].requirers += 1;
                    }
                }
            }
            Step::TrackRemoved(package) => self.track_removed(package),
        }
    }

    fn push_reverse_install_if(&mut self, package: PackageId, step: fn(NameId) -> Step<'s>) {
        let universe = self.solver.universe;
        let own = universe.packages[package].name;
        let provided = universe.provides(package).map(|link| link.name);
        for name in std::iter::once(own).chain(provided) {
            for &waiting in universe.reverse_install_if(name) {
                self.steps.push(step(waiting));
            }
        }
    }

    fn preprocess(&mut self, name: NameId) {
        if std::mem::replace(&mut self.names[name].processed, true) {
            return;
        }
        let universe = self.solver.universe;
        if let Some(installed) = self.names[name].installed_package {
            let stays = self.chosen(name).is_some_and(|package| universe.packages[package].name == name);
            if !stays {
                self.steps.push(Step::Remove(installed));
            }
        }
        if !universe.installed().is_empty() {
            for provider in universe.providers(name) {
                self.steps.push(Step::RemoveIfDue(provider.package));
            }
        }
    }

    fn record(&mut self, old: Option<PackageId>, new: Option<PackageId>) {
        let universe = self.solver.universe;
        let tag = new.map_or(0, |package| {
            let pins = self.solver.packages[package].pins;
            let repositories = universe.repositories_of(package);
            universe
                .tags
                .iter()
                .enumerate()
                .position(|(number, tag)| pins & (1 << number) != 0 && tag.repositories & repositories != 0)
                .unwrap_or(0)
        });
        self.changes.push(Change { old, new, tag });
    }

    fn remove(&mut self, package: PackageId) {
        let universe = self.solver.universe;
        let name = universe.packages[package].name;
        let stays = self.chosen(name).is_some_and(|chosen| universe.packages[chosen].name == name);
        if self.in_changes[package] || stays {
            return;
        }
        self.names[name].removed = true;
        self.in_changes[package] = true;
        let provided = universe.provides(package).map(|link| link.name);
        for provided in std::iter::once(name).chain(provided) {
            for &dependent in universe.dependents(provided) {
                for provider in universe.providers(dependent) {
                    let dependent = provider.package;
                    let needs_it = universe.packages[dependent].installed.is_some()
                        && universe.depends(dependent).any(|link| {
                            crate::explain::relation(universe, Some(dependent), &link, package) == Some(true)
                        });
                    if needs_it {
                        self.steps.push(Step::Remove(dependent));
                    }
                }
            }
        }
        self.push_reverse_install_if(package, Step::RemoveByInstallIf);
        self.steps.push(Step::Record(Some(package), None));
        self.steps.push(Step::TrackRemoved(package));
    }

    fn track_removed(&mut self, package: PackageId) {
        let universe = self.solver.universe;
        for link in universe.depends(package) {
            if link.conflict {
                continue;
            }
            let Some(installed) = self.names[link.name].installed_name else {
                continue;
            };
            self.names[installed].requirers -= 1;
            if self.names[installed].requirers <= 0
                && let Some(orphan) = self.names[link.name].installed_package
            {
                self.steps.push(Step::Remove(orphan));
            }
        }
    }
}
