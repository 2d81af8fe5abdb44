//! Packages whose updates their dependents must be rebuilt for: `update.shared`.

use std::collections::BTreeMap;

use recipe::{BuildPlan, MissingPipelines, Options, evaluate};

use crate::packages::newer_upstream;
use crate::{Catalog, Context, StageError};

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

/// The upstream versions of the shared packages that a plan builds with or depends on, as a text
/// that is part of what its revision is claimed for; empty when there are none. So a new version
/// of a shared package gives its dependents the next revision, and they are built.
pub(crate) async fn versions(context: &Context, name: &str, plan: &BuildPlan) -> Result<String, StageError> {
    let shared = context.catalog.shared_outputs(plan.architecture);
    if shared.is_empty() {
        return Ok(String::new());
    }
    let runtime = plan.outputs.iter().flat_map(|output| &output.dependencies.runtime);
    let wanted = plan.environment.packages.iter().chain(runtime);
    let mut found: Vec<&String> = wanted
        .filter_map(|want| shared.get(want.split(['=', '<', '>', '~', '@']).next().unwrap_or_default()))
        .filter(|definition| *definition != name)
        .collect();
    found.sort();
    found.dedup();
    let mut text = String::new();
    for definition in found {
        let Some(source) = context.catalog.packages.get(definition) else { continue };
        let newer = newer_upstream(context, &source.definition).await?;
        let version = newer.map_or_else(|| source.definition.package.version.value.clone(), |newer| newer.version);
        text.push_str(&format!("\nshared {definition} {version}"));
    }
    Ok(text)
}
