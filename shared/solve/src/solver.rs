//! The decision procedure, which is apk-tools' own: discover every name in reach, apply the wants,
//! then repeat: spread what is already certain, and decide one name. Nothing is taken back.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::Task;
use crate::arena::{NameId, PackageId, Sparse};
use crate::explain::link_text;
use crate::links::Link;
use crate::state::{Flags, NameState, PackageState, Queue};
use crate::universe::{Provider, Universe};

/// The bit of the untagged repositories.
pub(crate) const DEFAULT_PIN: u64 = 1;

/// A want, resolved against the universe.
#[derive(Clone, Debug)]
pub(crate) struct Want<'s> {
    pub(crate) link: Link<'s>,
    pub(crate) name: &'s str,
    pub(crate) tag_text: Option<&'s str>,
    /// Index of its tag; 0 for the untagged.
    pub(crate) tag: usize,
    pub(crate) named: bool,
    pub(crate) broken: bool,
}

impl Want<'_> {
    /// The want as apk prints it.
    pub(crate) fn text(&self) -> String {
        let mut text = link_text(&self.link, self.name);
        if let Some(tag) = self.tag_text {
            text.push('@');
            text.push_str(tag);
        }
        text
    }
}

pub(crate) struct Solver<'s, 'a> {
    pub(crate) universe: &'s Universe<'a>,
    pub(crate) names: Sparse<NameId, NameState>,
    pub(crate) packages: Sparse<PackageId, PackageState>,
    pub(crate) errors: u32,
    dirty: VecDeque<NameId>,
    resolve_now: VecDeque<NameId>,
    /// By order, highest next.
    selectable: BTreeMap<u32, NameId>,
    unresolved: BTreeMap<u32, NameId>,
    pub(crate) default_repositories: u64,
    lone_virtuals: bool,
    /// The origins of what is chosen, in their versions, where the task asks for them.
    pub(crate) origins: Option<HashSet<(&'a str, &'a str)>>,
    pub(crate) world_flags: Flags,
    pub(crate) latest_order: u32,
}

impl<'s, 'a> Solver<'s, 'a> {
    /// `names` counts the universe's names and those that only the wants have.
    pub(crate) fn new(universe: &'s Universe<'a>, names: usize, task: &Task<'_>) -> Self {
        Self {
            universe,
            names: Sparse::new(names),
            packages: Sparse::new(universe.packages.len()),
            errors: 0,
            dirty: VecDeque::new(),
            resolve_now: VecDeque::new(),
            selectable: BTreeMap::new(),
            unresolved: BTreeMap::new(),
            default_repositories: universe.opened_by(DEFAULT_PIN),
            lone_virtuals: task.lone_virtuals,
            origins: task.same_origin.then(HashSet::new),
            world_flags: Flags::default(),
            latest_order: 0,
        }
    }

    /// Marks what the task says of the packages behind a name.
    pub(crate) fn flag_name(&mut self, name: NameId, flags: Flags) {
        for provider in self.universe.providers(name) {
            let state = &mut self.packages[provider.package];
            state.flags = state.flags.with(flags);
            state.inheritable_flags = state.inheritable_flags.with(flags);
        }
    }

    /// Decides every name in reach of `wants`. `self.errors` says whether it went well.
    pub(crate) fn run(&mut self, wants: &[Want<'_>], world_flags: Flags) {
        self.world_flags = world_flags;
        for want in wants {
            self.names[want.link.name].named |= want.named;
        }
        for want in wants.iter().filter(|want| !want.broken) {
            self.discover(want.link.name);
        }
        for want in wants.iter().filter(|want| !want.broken) {
            self.apply(None, &want.link, 1 << want.tag);
        }
        self.world_flags = Flags::default();
        loop {
            while let Some(name) = self.dirty.pop_front() {
                if self.names[name].dirty {
                    self.names[name].dirty = false;
                    self.reconsider(name);
                }
            }
            match self.next_name() {
                Some(name) => self.select(name),
                None => break,
            }
        }
    }

    fn next_name(&mut self) -> Option<NameId> {
        while let Some(name) = self.resolve_now.pop_front() {
            if self.names[name].queue == Queue::ResolveNow {
                self.names[name].queue = Queue::None;
                return Some(name);
            }
        }
        let (_, name) = self.selectable.pop_last().or_else(|| self.unresolved.pop_last())?;
        self.names[name].queue = Queue::None;
        Some(name)
    }

    pub(crate) fn mark_error(&mut self, package: PackageId) {
        let state = &mut self.packages[package];
        if !state.error {
            state.error = true;
            self.errors += 1;
        }
    }

    fn queue_dirty(&mut self, name: NameId) {
        let state = &mut self.names[name];
        if state.dirty || state.locked || (state.requirers == 0 && !state.reevaluate_install_if) {
            return;
        }
        state.dirty = true;
        self.dirty.push_back(name);
    }

    pub(crate) fn unqueue(&mut self, name: NameId) {
        let state = &mut self.names[name];
        state.dirty = false;
        match state.queue {
            Queue::Selectable => self.selectable.remove(&state.order),
            Queue::Unresolved => self.unresolved.remove(&state.order),
            Queue::ResolveNow | Queue::None => None,
        };
        state.queue = Queue::None;
    }

    fn queue_unresolved(&mut self, name: NameId, reevaluate: bool) {
        let state = &self.names[name];
        let resolve_now =
            state.reverse_depends_done && state.requirers > 0 && state.has_selectable && !state.has_options;
        if state.locked || state.queue == Queue::ResolveNow {
            return;
        }
        if state.queue == Queue::None {
            if state.requirers == 0 && !state.has_install_if && !state.install_if_needed {
                return;
            }
        } else if !resolve_now && !reevaluate {
            return;
        }
        let dirty = state.dirty;
        self.unqueue(name);
        let state = &mut self.names[name];
        state.dirty = dirty;
        if resolve_now {
            state.queue = Queue::ResolveNow;
            self.resolve_now.push_back(name);
        } else if state.has_selectable {
            state.queue = Queue::Selectable;
            self.selectable.insert(state.order, name);
        } else {
            state.queue = Queue::Unresolved;
            self.unresolved.insert(state.order, name);
        }
    }

    pub(crate) fn reevaluate_dependents(&mut self, name: NameId) {
        for &dependent in self.universe.dependents(name) {
            if self.names[dependent].seen {
                self.names[dependent].reevaluate_depends = true;
                self.queue_dirty(dependent);
            }
        }
    }

    pub(crate) fn reevaluate_install_if(&mut self, name: NameId) {
        for &dependent in self.universe.reverse_install_if(name) {
            let state = &mut self.names[dependent];
            if state.seen && !state.no_install_if {
                state.reevaluate_install_if = true;
                self.queue_dirty(dependent);
            }
        }
    }

    pub(crate) fn reevaluate_install_if_of(&mut self, package: PackageId) {
        self.reevaluate_install_if(self.universe.packages[package].name);
        for link in self.universe.provides(package) {
            self.reevaluate_install_if(link.name);
        }
    }

    pub(crate) fn disqualify(&mut self, package: PackageId) {
        self.packages[package].selectable = false;
        self.reevaluate_dependents(self.universe.packages[package].name);
        for link in self.universe.provides(package) {
            self.reevaluate_dependents(link.name);
        }
        self.reevaluate_install_if_of(package);
    }

    fn satisfiable(&self, asker: PackageId, link: &Link<'_>) -> bool {
        let state = &self.names[link.name];
        let universe = self.universe;
        if state.locked {
            return universe.satisfies(Some(asker), link, state.chosen);
        }
        if state.requirers == 0 && universe.satisfies(Some(asker), link, None) {
            return true;
        }
        universe.providers(link.name).iter().any(|provider| {
            self.packages[provider.package].selectable && universe.satisfies(Some(asker), link, Some(*provider))
        })
    }

    fn requirers_changed(&mut self, name: NameId) {
        self.queue_unresolved(name, false);
        self.reevaluate_install_if(name);
        self.queue_dirty(name);
    }

    /// `parent`: who wants the package; `None` for the task, with the want's pin in `pins`.
    fn inherit(&mut self, package: PackageId, parent: Option<PackageId>, pins: u64) {
        let repositories = self.universe.repositories_of(package);
        let (flags, pins, preferred) = match parent {
            Some(parent) => {
                let parent = &self.packages[parent];
                (parent.inheritable_flags, parent.pins, None)
            }
            None => (self.world_flags, pins, Some(repositories & self.universe.opened_by(pins) != 0)),
        };
        let state = &mut self.packages[package];
        state.flags = state.flags.with(flags);
        state.inheritable_flags = state.inheritable_flags.with(flags);
        state.pins |= pins;
        if let Some(preferred) = preferred {
            state.tag_preferred = preferred;
        }
        state.tag_allowed |= repositories & self.universe.opened_by(state.pins) != 0;
    }

    /// Holds every provider of a name to `link` of the package `asker`, or of the task.
    pub(crate) fn apply(&mut self, asker: Option<PackageId>, link: &Link<'_>, pins: u64) {
        let universe = self.universe;
        if !link.conflict {
            self.names[link.name].requirers += 1;
            if self.names[link.name].requirers == 1 {
                self.requirers_changed(link.name);
            }
        }
        for provider in universe.providers(link.name) {
            let package = provider.package;
            if universe.satisfies(asker, link, Some(*provider)) {
                if self.packages[package].selectable && self.packages[package].conflicts > 0 {
                    self.disqualify(package);
                }
                self.inherit(package, asker, pins);
            } else {
                self.packages[package].conflicts += 1;
                if self.packages[package].selectable {
                    self.disqualify(package);
                }
            }
        }
    }

    /// All options of `name` provide `provided` too: other providers of that are out.
    fn exclude_non_providers(&mut self, provided: NameId, name: NameId, skip_virtuals: bool) {
        if provided == name {
            return;
        }
        let universe = self.universe;
        for provider in universe.providers(provided) {
            let package = provider.package;
            let stays = universe.packages[package].name == name
                || !self.packages[package].selectable
                || (skip_virtuals && universe.provided_version(*provider).is_none())
                || universe
                    .provides(package)
                    .any(|link| link.name == name || (skip_virtuals && link.version().is_none()));
            if !stays {
                self.disqualify(package);
            }
        }
    }

    /// Whether `provider` may be taken for `name` without being named itself.
    pub(crate) fn is_auto_selectable(&self, name: NameId, provider: &Provider) -> bool {
        let package = &self.universe.packages[provider.package];
        self.universe.provided_version(*provider).is_some()
            || package.record.provider_priority() != 0
            || self.names[package.name].requirers > 0
            || self.is_lone(name)
    }

    /// Whether the task takes the only package that provides `name`, as there is no choice.
    pub(crate) fn is_lone(&self, name: NameId) -> bool {
        let owner = |provider: &Provider| self.universe.packages[provider.package].name;
        let providers = self.universe.providers(name);
        self.lone_virtuals && providers.iter().all(|provider| providers.first().map(owner) == Some(owner(provider)))
    }

    /// Looks at the options left for a name and spreads what they have in common.
    fn reconsider(&mut self, name: NameId) {
        let universe = self.universe;
        let reevaluate_depends = std::mem::take(&mut self.names[name].reevaluate_depends);
        let reevaluate_install_if = std::mem::take(&mut self.names[name].reevaluate_install_if);
        let mut options = 0;
        let mut not_allowed = 0;
        let mut has_install_if = false;
        let mut no_install_if = true;
        let mut has_selectable = false;
        let mut first = None;
        for provider in universe.providers(name) {
            let package = provider.package;
            self.packages[package].depends_merged = false;
            if !self.packages[package].selectable {
                continue;
            }
            if reevaluate_depends
                && let Some(_unsatisfiable) = universe.depends(package).find(|link| !self.satisfiable(package, link))
            {
                self.disqualify(package);
                continue;
            }
            if reevaluate_install_if {
                self.check_install_if(package);
            }
            let state = &self.packages[package];
            has_install_if |= state.install_if_triggered;
            no_install_if &= state.install_if_failed;
            has_selectable |= state.install_if_triggered;
            if self.names[name].requirers == 0 {
                continue;
            }
            self.packages[package].depends_merged = true;
            first.get_or_insert(package);
            self.merge(package, universe.provided_version(*provider).is_none(), options);
            not_allowed += usize::from(!self.packages[package].tag_allowed);
            options += 1;
            has_selectable = has_selectable || self.is_auto_selectable(name, provider);
        }
        let state = &mut self.names[name];
        state.has_options = options > 1 || not_allowed > 0;
        state.has_install_if = has_install_if;
        state.no_install_if = no_install_if;
        let reevaluate = state.has_selectable != has_selectable;
        state.has_selectable = has_selectable;
        if let Some(first) = first {
            self.spread(name, first, options);
        }
        let done = universe
            .dependents(name)
            .iter()
            .all(|&dependent| !self.names[dependent].seen || self.names[dependent].locked);
        self.names[name].reverse_depends_done = done;
        self.queue_unresolved(name, reevaluate);
    }

    fn check_install_if(&mut self, package: PackageId) {
        let universe = self.universe;
        let rules = universe.install_if(package);
        if !self.packages[package].install_if_triggered && !self.packages[package].install_if_failed {
            let mut triggered = true;
            for link in rules.clone() {
                if !self.names[link.name].locked {
                    if link.conflict {
                        self.names[link.name].install_if_needed = true;
                        self.queue_unresolved(link.name, false);
                    }
                    triggered = false;
                    break;
                }
                if !universe.satisfies(Some(package), &link, self.names[link.name].chosen) {
                    triggered = false;
                    self.packages[package].install_if_failed = true;
                    break;
                }
            }
            self.packages[package].install_if_triggered = triggered;
        }
        if self.packages[package].install_if_triggered {
            for link in rules {
                // Without a package, apk takes over what the wants gave, which is nothing now.
                let parent = self.names[link.name].chosen.map(|chosen| chosen.package);
                self.inherit(package, parent, 0);
            }
        }
    }

    /// Counts the names that `package`, option number `option`, shares with all options before it.
    fn merge(&mut self, package: PackageId, as_virtual: bool, option: u32) {
        let universe = self.universe;
        for link in universe.depends(package) {
            let count = &mut self.names[link.name].merge_depends;
            if !link.conflict && *count == option {
                *count = option + 1;
            }
        }
        let own = &mut self.names[universe.packages[package].name];
        if own.merge_provides == option {
            own.merge_provides = option + 1;
            own.has_virtual_provides |= as_virtual;
        }
        for link in universe.provides(package) {
            let state = &mut self.names[link.name];
            if state.merge_provides == option {
                state.merge_provides = option + 1;
                state.has_virtual_provides |= link.version().is_none();
            }
        }
    }

    fn spread(&mut self, name: NameId, first: PackageId, options: u32) {
        let universe = self.universe;
        for provider in universe.providers(name) {
            let state = &mut self.packages[provider.package];
            state.depends_used = state.depends_merged;
        }
        for link in universe.depends(first) {
            let common = std::mem::take(&mut self.names[link.name].merge_depends) == options;
            if !common {
                continue;
            }
            if options == 1 {
                self.apply(Some(first), &link, 0);
            } else if self.names[link.name].requirers == 0 {
                self.names[link.name].requirers += 1;
                self.requirers_changed(link.name);
                for provider in universe.providers(link.name) {
                    self.inherit(provider.package, Some(first), 0);
                }
            }
        }
        let own = universe.packages[first].name;
        let provided = || std::iter::once(own).chain(universe.provides(first).map(|link| link.name));
        for other in provided() {
            if std::mem::take(&mut self.names[other].merge_provides) == options {
                let skip_virtuals = self.names[other].has_virtual_provides;
                self.exclude_non_providers(other, name, skip_virtuals);
            }
        }
        for other in provided() {
            self.names[other].has_virtual_provides = false;
        }
    }
}
