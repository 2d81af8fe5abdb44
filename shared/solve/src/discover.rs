use crate::arena::{NameId, PackageId};
use crate::solver::{DEFAULT_PIN, Solver};
use crate::state::Flags;

/// Names that the task names are decided first, then those that are packages and not only provided.
const ORDER_NAMED: u32 = 1 << 31;
const ORDER_PACKAGE: u32 = 1 << 30;

/// A name on the way of discovery, with where its walk stands.
#[derive(Clone, Copy, Debug)]
struct Visit {
    name: NameId,
    step: VisitStep,
    outer: usize,
    inner: usize,
    virtual_providers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VisitStep {
    Provider,
    Depends,
    ReverseInstallIf,
    ProvidersReverseInstallIf,
    ProvidersProvides,
    InstallIf,
}

impl Solver<'_, '_> {
    /// Walks everything that could come in with `name`, depth first, and numbers the names.
    pub(crate) fn discover(&mut self, name: NameId) {
        let mut stack = Vec::new();
        self.enter(name, &mut stack);
        while let Some(mut visit) = stack.pop() {
            if let Some(child) = self.advance(&mut visit) {
                stack.push(visit);
                self.enter(child, &mut stack);
            }
        }
    }

    fn enter(&mut self, name: NameId, stack: &mut Vec<Visit>) {
        let state = &mut self.names[name];
        if state.seen {
            return;
        }
        state.seen = true;
        state.no_install_if = true;
        stack.push(Visit { name, step: VisitStep::Provider, outer: 0, inner: 0, virtual_providers: 0 });
    }

    /// The next name to discover on this visit, or `None` at its end.
    fn advance(&mut self, visit: &mut Visit) -> Option<NameId> {
        let universe = self.universe;
        let providers = universe.providers(visit.name);
        let next = |visit: &mut Visit, step: VisitStep| {
            visit.step = step;
            visit.outer = 0;
            visit.inner = 0;
        };
        loop {
            let provider = providers.get(visit.outer).copied();
            match visit.step {
                VisitStep::Provider => match provider {
                    None => next(visit, VisitStep::ReverseInstallIf),
                    Some(provider) => {
                        visit.inner = if self.packages[provider.package].seen {
                            usize::MAX
                        } else {
                            self.discover_package(provider.package);
                            0
                        };
                        visit.step = VisitStep::Depends;
                    }
                },
                VisitStep::Depends => {
                    let Some(provider) = provider else {
                        next(visit, VisitStep::ReverseInstallIf);
                        continue;
                    };
                    if let Some(link) = universe.depends(provider.package).nth(visit.inner) {
                        visit.inner += 1;
                        return Some(link.name);
                    }
                    let failed = self.packages[provider.package].install_if_failed;
                    self.names[visit.name].no_install_if &= failed;
                    if universe.packages[provider.package].name != visit.name {
                        visit.virtual_providers += 1;
                    }
                    visit.outer += 1;
                    visit.step = VisitStep::Provider;
                }
                VisitStep::ReverseInstallIf => {
                    let names = universe.reverse_install_if(visit.name);
                    if let Some(&name) = names.get(visit.inner) {
                        visit.inner += 1;
                        return Some(name);
                    }
                    next(visit, VisitStep::ProvidersReverseInstallIf);
                }
                VisitStep::ProvidersReverseInstallIf => {
                    let Some(provider) = provider else {
                        self.number(visit, providers.len());
                        next(visit, VisitStep::InstallIf);
                        continue;
                    };
                    let own = universe.packages[provider.package].name;
                    if let Some(&name) = universe.reverse_install_if(own).get(visit.inner) {
                        visit.inner += 1;
                        return Some(name);
                    }
                    visit.inner = 0;
                    visit.step = VisitStep::ProvidersProvides;
                }
                VisitStep::ProvidersProvides => {
                    if let Some(provider) = provider {
                        let discovered = &mut self.packages[provider.package].discovered_provides;
                        if let Some(link) = universe.provides(provider.package).nth(*discovered as usize) {
                            *discovered += 1;
                            return Some(link.name);
                        }
                    }
                    visit.outer += 1;
                    visit.inner = 0;
                    visit.step = VisitStep::ProvidersReverseInstallIf;
                }
                VisitStep::InstallIf => {
                    let provider = provider?;
                    if let Some(link) = universe.install_if(provider.package).nth(visit.inner) {
                        visit.inner += 1;
                        return Some(link.name);
                    }
                    visit.outer += 1;
                    visit.inner = 0;
                }
            }
        }
    }

    fn number(&mut self, visit: &Visit, providers: usize) {
        self.latest_order += 1;
        let mut order = self.latest_order;
        let state = &mut self.names[visit.name];
        if state.named {
            order |= ORDER_NAMED;
        }
        if providers != visit.virtual_providers {
            order |= ORDER_PACKAGE;
        }
        state.order = order;
    }

    fn discover_package(&mut self, id: PackageId) {
        let universe = self.universe;
        let package = &universe.packages[id];
        let repositories = universe.repositories_of(id);
        // apk takes a package of no size for one that it made up itself (`apk add --virtual`).
        let made_up = package.record.installed_size() == 0;
        let state = &mut self.packages[id];
        state.seen = true;
        state.pins = DEFAULT_PIN;
        state.available = package.repositories != 0;
        state.selectable =
            !state.excluded && !package.uninstallable() && (state.available || made_up || package.installed.is_some());
        state.install_if_failed =
            universe.install_if(id).len() == 0 || (self.world_flags.has(Flags::AVAILABLE) && !state.available);
        state.tag_preferred = made_up || repositories & self.default_repositories != 0;
        state.tag_allowed = state.tag_preferred || package.installed.is_some();
    }
}
