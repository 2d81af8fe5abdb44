//! Rules about how a definition is written down: what is read one way and looks like another.

use super::{Check, Findings, Rule, Severity, build_steps, test_steps};
use crate::package::{Dependencies, PackageDefinition};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "one-document",
        severity: Severity::Warning,
        what: "the file is one YAML document",
        why: "a second one, behind `---`, is not read",
        check: Check::One(one_document),
    },
    Rule {
        id: "uses-or-pipeline",
        severity: Severity::Warning,
        what: "a step has `uses` or a `pipeline` of its own",
        why: "where both are there the named pipeline is not run",
        check: Check::One(uses_or_pipeline),
    },
    Rule {
        id: "negative-priority",
        severity: Severity::Warning,
        what: "priorities are 0 or more",
        why: "apk knows no negative priority and takes one for 0",
        check: Check::One(negative_priority),
    },
];

fn one_document(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if let Some(position) = definition.other_document {
        findings.add(position, "a second document starts here and is not read; take it out or make it a file");
    }
}

fn uses_or_pipeline(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for step in build_steps(definition).into_iter().chain(test_steps(definition)) {
        if let Some(uses) = step.uses.as_ref().filter(|_| !step.pipeline.is_empty()) {
            findings.add(
                uses.position,
                format!("`{uses}` is not run, the step's own `pipeline` is; keep one, or make it two steps"),
            );
        }
    }
}

fn negative_priority(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let subpackages = definition.subpackages.iter().map(|subpackage| &subpackage.dependencies);
    let all = std::iter::once(&definition.package.dependencies).chain(subpackages);
    let priorities = all
        .flat_map(|Dependencies { provider_priority, replaces_priority, .. }| [provider_priority, replaces_priority]);
    for priority in priorities.flatten().filter(|priority| priority.parse::<i64>().is_ok_and(|number| number < 0)) {
        findings.add(priority.position, format!("priority `{priority}` counts as 0; leave it out"));
    }
}
