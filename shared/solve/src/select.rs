use std::cmp::Ordering;

use apk::order_versions;

use crate::arena::NameId;
use crate::solver::{DEFAULT_PIN, Solver};
use crate::state::Flags;
use crate::universe::Provider;

impl Solver<'_, '_> {
    /// Decides `name`: takes its best provider, or nothing.
    pub(crate) fn select(&mut self, name: NameId) {
        let universe = self.universe;
        let requirers = self.names[name].requirers;
        let mut best: Option<&Provider> = None;
        if requirers > 0 || self.names[name].has_install_if {
            for provider in universe.providers(name) {
                let state = &self.packages[provider.package];
                let pulled_in = state.install_if_triggered && state.tag_allowed && state.selectable;
                if (requirers == 0 && !pulled_in) || !self.is_auto_selectable(name, provider) {
                    continue;
                }
                if best.is_none_or(|best| self.compare(provider, best) == Ordering::Greater) {
                    best = Some(provider);
                }
            }
        }
        let Some(best) = best else {
            self.assign(name, None);
            if self.names[name].requirers > 0 {
                self.errors += 1;
            }
            return;
        };
        let package = best.package;
        let state = &self.packages[package];
        if !state.selectable || !state.tag_allowed {
            self.mark_error(package);
        }
        if let Some(origins) = &mut self.origins {
            origins.insert(universe.packages[package].origin());
        }
        for (name, provider) in universe.provisions(package) {
            self.assign(name, Some(provider));
        }
        for link in universe.depends(package) {
            self.apply(Some(package), &link, 0);
        }
    }

    fn assign(&mut self, name: NameId, provider: Option<Provider>) {
        let universe = self.universe;
        let version = provider.and_then(|provider| universe.provided_version(provider));
        if self.names[name].locked {
            let chosen = self.names[name].chosen;
            let both_virtual =
                version.is_none() && chosen.is_none_or(|chosen| universe.provided_version(chosen).is_none());
            if !both_virtual {
                for conflicting in [provider, chosen].into_iter().flatten() {
                    self.mark_error(conflicting.package);
                }
            }
            return;
        }
        self.unqueue(name);
        self.names[name].locked = true;
        self.names[name].chosen = provider;
        if let Some(provider) = provider
            && self.names[name].requirers == 0
            && self.packages[provider.package].install_if_triggered
        {
            for link in universe.install_if(provider.package) {
                if !self.names[link.name].locked {
                    self.apply(Some(provider.package), &link, 0);
                }
            }
        }
        for other in universe.providers(name) {
            let chosen = provider.is_some_and(|provider| provider.package == other.package);
            let both_virtual = version.is_none() && universe.provided_version(*other).is_none();
            if !chosen && !both_virtual {
                self.disqualify(other.package);
            }
        }
        self.reevaluate_dependents(name);
        match provider {
            Some(provider) => self.reevaluate_install_if_of(provider.package),
            None => self.reevaluate_install_if(name),
        }
    }

    /// `Greater` when `a` is the better choice.
    fn compare(&self, a: &Provider, b: &Provider) -> Ordering {
        let (state_a, state_b) = (&self.packages[a.package], &self.packages[b.package]);
        let (package_a, package_b) = (&self.universe.packages[a.package], &self.universe.packages[b.package]);
        let (version_a, version_b) = (self.universe.provided_version(*a), self.universe.provided_version(*b));
        let flags = state_a.flags.with(state_b.flags);
        let selectable = state_a.selectable.cmp(&state_b.selectable);
        let tag_allowed = state_a.tag_allowed.cmp(&state_b.tag_allowed);
        let available = state_a.available.cmp(&state_b.available);
        let installed = package_a.installed.is_some().cmp(&package_b.installed.is_some());
        let when = |condition: bool, order: Ordering| {
            if condition { order } else { Ordering::Equal }
        };

        let unpinned = state_a.pins == DEFAULT_PIN && state_b.pins == DEFAULT_PIN;
        let by_state = if flags.has(Flags::LATEST) && unpinned {
            tag_allowed.then(if flags.has(Flags::AVAILABLE) {
                available
            } else {
                when(flags.has(Flags::REINSTALL), selectable)
            })
        } else {
            let keep_installed = !flags.has(Flags::REMOVE.with(Flags::UPGRADE))
                && (package_a.name == package_b.name || version_a.is_some() || version_b.is_some());
            selectable
                .then(state_a.depends_used.cmp(&state_b.depends_used))
                .then(state_b.conflicts.cmp(&state_a.conflicts))
                .then(when(flags.has(Flags::INSTALLED), installed))
                .then(tag_allowed)
                .then(when(flags.has(Flags::AVAILABLE), available))
                .then(state_a.tag_preferred.cmp(&state_b.tag_preferred))
                .then(when(keep_installed, installed))
        };
        by_state
            .then_with(|| match (version_a, version_b) {
                (Some(a), Some(b)) => order_versions(a, b),
                _ => Ordering::Equal,
            })
            .then_with(|| {
                if package_a.name == package_b.name {
                    order_versions(package_a.version, package_b.version)
                } else {
                    Ordering::Equal
                }
            })
            .then_with(|| {
                let priority_a = package_a.record.provider_priority();
                priority_a.cmp(&package_b.record.provider_priority())
            })
            .then(when(!flags.has(Flags::REMOVE), installed))
            .then(selectable)
            // The first repository is the best; in none counts as before the first.
            .then_with(|| {
                let first = |repositories: u64| match repositories {
                    0 => 0,
                    some => some.trailing_zeros() + 1,
                };
                first(package_b.repositories).cmp(&first(package_a.repositories))
            })
            .then_with(|| {
                let there = |origin: (&str, &str)| {
                    !origin.0.is_empty() && self.origins.as_ref().is_some_and(|origins| origins.contains(&origin))
                };
                there(package_a.origin()).cmp(&there(package_b.origin()))
            })
    }
}
