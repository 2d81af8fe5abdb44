//! What the wants lead to by the packages that are really there, and how.

use std::collections::VecDeque;

use crate::arena::{NameId, PackageId};
use crate::explain::Analysis;

pub(crate) const PRESENT: u8 = 1;
pub(crate) const MISSING: u8 = 2;
const VIRTUAL_ONLY: u8 = 4;
pub(crate) const BY_INSTALL_IF: u8 = 8;

#[derive(Clone, Copy)]
enum Step {
    Name(NameId, u8),
    Provider(PackageId, NameId, u8),
    Depends(PackageId),
    ReverseInstallIf(NameId),
    InstallIf(PackageId),
}

impl<'s, 'a: 's> Analysis<'_, 's, 'a> {
    pub(crate) fn find_parents(&mut self) {
        let mut queue = VecDeque::new();
        for want in self.wants {
            queue.push_back((None, want.link.name));
        }
        while let Some((parent, name)) = queue.pop_front() {
            let Some(chosen) = self.solver.names[name].chosen else {
                continue;
            };
            if self.parents[chosen.package].is_none() {
                self.parents[chosen.package] = Some(parent);
                for link in self.universe.depends(chosen.package) {
                    if !link.conflict {
                        queue.push_back((Some(chosen.package), link.name));
                    }
                }
            }
        }
    }

    /// Marks the names that the wants lead to by what is really there.
    pub(crate) fn discover(&mut self) {
        let mut steps: Vec<Step> = self
            .wants
            .iter()
            .filter(|want| !want.link.conflict)
            .map(|want| Step::Name(want.link.name, PRESENT))
            .collect();
        steps.reverse();
        while let Some(step) = steps.pop() {
            let before = steps.len();
            self.take(step, &mut steps);
            if let Some(pushed) = steps.get_mut(before..) {
                pushed.reverse();
            }
        }
    }

    fn take(&mut self, step: Step, steps: &mut Vec<Step>) {
        let universe = self.universe;
        match step {
            Step::Name(name, state) => {
                for provider in universe.providers(name) {
                    steps.push(Step::Provider(provider.package, name, state));
                }
            }
            Step::Provider(package, name, mut state) => {
                if !self.marked[package] {
                    return;
                }
                let row = &universe.packages[package];
                let concrete = row.name == name
                    || universe.provides(package).any(|link| link.name == name && link.version().is_some());
                if row.record.provider_priority() == 0 && !concrete && !self.solver.is_lone(name) {
                    state = VIRTUAL_ONLY;
                }
                if self.packages[package] & state != 0 {
                    return;
                }
                self.packages[package] |= state;
                self.names[row.name] |= state;
                for link in universe.provides(package) {
                    let by_virtual = state == BY_INSTALL_IF && link.version().is_none();
                    self.names[link.name] |= if by_virtual { VIRTUAL_ONLY } else { state };
                }
                steps.push(Step::Depends(package));
                if state != VIRTUAL_ONLY {
                    steps.push(Step::ReverseInstallIf(row.name));
                    for link in universe.provides(package) {
                        steps.push(Step::ReverseInstallIf(link.name));
                    }
                }
            }
            Step::Depends(package) => {
                for link in universe.depends(package) {
                    if !link.conflict {
                        steps.push(Step::Name(link.name, PRESENT));
                    }
                }
            }
            Step::ReverseInstallIf(name) => {
                for &waiting in universe.reverse_install_if(name) {
                    for provider in universe.providers(waiting) {
                        steps.push(Step::InstallIf(provider.package));
                    }
                }
            }
            Step::InstallIf(package) => {
                let mut rules = universe.install_if(package);
                let has_rules = rules.len() > 0;
                let holds = rules.all(|link| {
                    let there = self.names[link.name] & (PRESENT | BY_INSTALL_IF) != 0;
                    there != link.conflict
                });
                if self.marked[package] && has_rules && holds {
                    let own = universe.packages[package].name;
                    steps.push(Step::Name(own, BY_INSTALL_IF));
                    for link in universe.provides(package) {
                        steps.push(Step::Name(link.name, BY_INSTALL_IF));
                    }
                }
            }
        }
    }
}
