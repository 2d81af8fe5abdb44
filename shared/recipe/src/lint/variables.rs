//! Rules about variables.

use super::{Check, Findings, Rule, Severity};
use crate::package::PackageDefinition;
use crate::substitute::{Part, parts};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "unused-var-transform",
    severity: Severity::Warning,
    what: "the variable that each `var-transforms` entry makes is used",
    why: "an unused one is a leftover, or the place that needs it writes `{{vars.NAME}}` without its `$`",
    check: Check::One(unused_transform),
}];

fn unused_transform(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if definition.variable_transforms.is_empty() {
        return;
    }
    let used: Vec<&str> = definition
        .source
        .lines()
        .filter(|line| line.contains("${{") && !line.trim_start().starts_with('#'))
        .flat_map(parts)
        .filter_map(|part| match part {
            Part::Variable(name, _) => name.strip_prefix("vars."),
            Part::Literal(_) => None,
        })
        .collect();
    for transform in &definition.variable_transforms {
        if !used.contains(&transform.to.as_str()) {
            findings.add(
                transform.to.position,
                format!(
                    "variable `{}` is made and never used; take the entry out or write `${{{{vars.{}}}}}`",
                    transform.to, transform.to
                ),
            );
        }
    }
}
