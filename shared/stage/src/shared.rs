//! Packages whose updates their dependents must be rebuilt for: `update.shared`.

use std::collections::{BTreeMap, BTreeSet};

use recipe::{MissingPipelines, Options, evaluate};

use crate::Catalog;

/// The names of packages that definitions with `update.shared` make, with those definitions.
pub(crate) fn outputs(catalog: &Catalog, architecture: apk::Architecture) -> BTreeMap<String, String> {
    let shared = catalog.packages.iter().filter(|(_, source)| source.definition.update.shared);
    let mut outputs = BTreeMap::new();
    for (name, source) in shared {
        let options = Options {
            missing_pipelines: MissingPipelines::Report,
            tests: false,
            ..Options::new(architecture, &catalog.pipelines)
        };
        // One that can't be evaluated is told when it is built; nothing can depend on it before.
        if let Ok(plan) = evaluate(&source.definition, &options) {
            outputs.extend(plan.outputs.into_iter().map(|output| (output.name, name.clone())));
        }
    }
    outputs
}

/// The upstream versions of the shared packages that a definition builds with or depends on, as a
/// text that is part of what its revision is claimed for; empty when there are none. So a new
/// version of a shared package gives its dependents the next revision, and they are built.
pub(crate) fn text<'a>(shared: &BTreeSet<String>, version: impl Fn(&str) -> Option<&'a String>) -> String {
    let versions = shared.iter().filter_map(|name| Some((name, version(name)?)));
    versions.map(|(name, version)| format!("\nshared {name} {version}")).collect()
}
