//! Rules about how new upstream versions are found.

use super::{Check, Findings, Rule, Severity, flat, input, uses};
use crate::package::PackageDefinition;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "git-checkout-must-use-github-updates",
        severity: Severity::Error,
        what: "a package checked out from GitHub and watched is watched by `update.github` or `update.git`",
        why: "only these give the commit that an update must put into `expected-commit`",
        check: Check::One(must_use_github_updates),
    },
    Rule {
        id: "update-identifier-must-match-git-repository",
        severity: Severity::Error,
        what: "`update.github.identifier` names a repository that the package is checked out from",
        why: "versions of another repository have no tag in the one that is built",
        check: Check::One(identifier_must_match),
    },
    Rule {
        id: "update-without-identifier",
        severity: Severity::Warning,
        what: "`update.github` says its `identifier`",
        why: "without it the repository of the first checkout from GitHub is watched, which may be another",
        check: Check::One(without_identifier),
    },
    Rule {
        id: "update-disabled-reason",
        severity: Severity::Warning,
        what: "a package that is not watched says why in `update.exclude-reason`",
        why: "a package that silently gets no updates gathers vulnerabilities",
        check: Check::One(disabled_reason),
    },
    Rule {
        id: "valid-update-schedule",
        severity: Severity::Error,
        what: "`update.schedule.period` is `daily`, `weekly` or `monthly`",
        why: "another period is never due",
        check: Check::One(valid_schedule),
    },
];

/// `organisation/repository` of a GitHub address, without `.git`.
fn repository(address: &str) -> Option<&str> {
    let path = address.strip_prefix("https://github.com/")?.trim_end_matches('/');
    Some(path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/'))
}

fn must_use_github_updates(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let update = &definition.update;
    if update.enabled != Some(true) || update.github.is_some() || update.git.is_some() {
        return;
    }
    for step in flat(&definition.pipeline).into_iter().filter(|step| uses(step, "git-checkout")) {
        if let Some(address) = input(step, "repository").filter(|address| repository(address).is_some()) {
            findings.add(
                address.position,
                "a checkout from GitHub is watched by neither `update.github` nor `update.git`; add one of them",
            );
        }
    }
}

fn identifier_must_match(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let Some(identifier) = definition.update.github.as_ref().and_then(|github| github.identifier.as_ref()) else {
        return;
    };
    let repositories: Vec<&str> = flat(&definition.pipeline)
        .into_iter()
        .filter(|step| uses(step, "git-checkout"))
        .filter_map(|step| input(step, "repository"))
        .filter_map(|address| repository(address))
        .collect();
    let matches = |repository: &&str| repository.contains("${{") || repository.eq_ignore_ascii_case(identifier);
    if !repositories.is_empty() && !repositories.iter().any(matches) {
        findings.add(
            identifier.position,
            format!(
                "`update.github.identifier` is `{}`, but the package is checked out from `{}`; name the same repository",
                identifier,
                repositories.join("`, `")
            ),
        );
    }
}

fn without_identifier(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if definition.update.github.as_ref().is_some_and(|github| github.identifier.is_none()) {
        findings.add(
            definition.package.name.position,
            "`update.github` says no `identifier`; add `identifier: ORGANISATION/REPOSITORY`",
        );
    }
}

fn disabled_reason(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let update = &definition.update;
    let explained = update.exclude_reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
    if update.enabled != Some(true) && !explained {
        findings.add(
            definition.package.name.position,
            "the package is not watched for updates; set `update.enabled` or say why not in `update.exclude-reason`",
        );
    }
}

fn valid_schedule(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if let Some(schedule) = definition.update.schedule.as_ref().filter(|schedule| schedule.period.is_none()) {
        findings.add(
            schedule.position,
            format!("`update.schedule.period` is `{}`; write `daily`, `weekly` or `monthly`", schedule.written_period),
        );
    }
}
