//! What a definition says about its packages. A substitution that names nothing stays in such a text as it is
//! written, as melange leaves it, and is told in the plan: nothing that is built hangs on it.

use super::Evaluator;
use crate::package::{Capability, Resources, Scriptlets};
use crate::plan::{FileCapability, OutputScriptlets, PlannedResources};
use crate::substitute::{Scope, substitute_known};
use crate::text::Text;

impl Evaluator<'_> {
    pub(super) fn about(&mut self, text: &Text, scope: &Scope<'_>) -> String {
        let (known, unknown) = substitute_known(text, self.origin, scope);
        for variable in unknown {
            // A subpackage may take over what the main package says, and a range repeats it.
            if !self.unknown_variables.contains(&variable) {
                self.unknown_variables.push(variable);
            }
        }
        known
    }

    pub(super) fn all_about(&mut self, texts: &[Text], scope: &Scope<'_>) -> Vec<String> {
        texts.iter().map(|text| self.about(text, scope)).collect()
    }

    pub(super) fn pairs_about(&mut self, pairs: &[(Text, Text)], scope: &Scope<'_>) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.value.clone(), self.about(value, scope))).collect()
    }

    pub(super) fn optional(&mut self, text: &Option<Text>, scope: &Scope<'_>) -> Option<String> {
        text.as_ref().map(|text| self.about(text, scope))
    }

    pub(super) fn scriptlets(&mut self, scriptlets: &Scriptlets, scope: &Scope<'_>) -> OutputScriptlets {
        OutputScriptlets {
            trigger: scriptlets
                .trigger
                .as_ref()
                .map(|(paths, script)| (self.all_about(paths, scope), self.about(script, scope))),
            pre_install: self.optional(&scriptlets.pre_install, scope),
            post_install: self.optional(&scriptlets.post_install, scope),
            pre_deinstall: self.optional(&scriptlets.pre_deinstall, scope),
            post_deinstall: self.optional(&scriptlets.post_deinstall, scope),
            pre_upgrade: self.optional(&scriptlets.pre_upgrade, scope),
            post_upgrade: self.optional(&scriptlets.post_upgrade, scope),
        }
    }

    pub(super) fn capabilities(&mut self, capabilities: &[Capability], scope: &Scope<'_>) -> Vec<FileCapability> {
        let mut all = Vec::new();
        for capability in capabilities {
            let path = self.about(&capability.path, scope);
            all.push(FileCapability { path, add: self.pairs_about(&capability.add, scope) });
        }
        all
    }

    pub(super) fn resources(&mut self, resources: &Resources, scope: &Scope<'_>) -> PlannedResources {
        PlannedResources {
            cpu: self.optional(&resources.cpu, scope),
            cpu_model: self.optional(&resources.cpu_model, scope),
            memory: self.optional(&resources.memory, scope),
            disk: self.optional(&resources.disk, scope),
        }
    }
}
