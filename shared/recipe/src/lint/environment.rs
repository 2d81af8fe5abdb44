//! Rules about the repositories and keys of a build's environment.

use super::{Check, Findings, Rule, Severity};
use crate::image::{Contents, KeyEntry};
use crate::package::PackageDefinition;
use crate::text::Text;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "tagged-repository-in-environment-repos",
        severity: Severity::Error,
        what: "no repository of an environment has a tag, as in `@local ./packages`",
        why: "a tag is for packages asked for by it; it comes from somebody's own machine and builds nowhere else",
        check: Check::One(tagged_repository),
    },
    Rule {
        id: "forbidden-repository-used",
        severity: Severity::Error,
        what: "no environment names the distribution's own repository",
        why: "the build is given its repositories; a second one mixes packages of two origins",
        check: Check::One(forbidden_repository),
    },
    Rule {
        id: "forbidden-keyring-used",
        severity: Severity::Error,
        what: "no environment names the distribution's own key",
        why: "the build is given the keys that it trusts; one from an address is trusted without a check",
        check: Check::One(forbidden_keyring),
    },
];

const REPOSITORY: &str = "https://packages.wolfi.dev/os";
const KEY: &str = "https://packages.wolfi.dev/os/wolfi-signing.rsa.pub";

/// The contents of the build's environment and of those of its tests.
fn all_contents(definition: &PackageDefinition) -> Vec<&Contents> {
    let tests = definition.subpackages.iter().map(|subpackage| &subpackage.test);
    let tests = std::iter::once(&definition.test).chain(tests).flatten().map(|test| &test.environment.contents);
    std::iter::once(&definition.environment.contents).chain(tests).collect()
}

fn repositories(contents: &Contents) -> impl Iterator<Item = &Text> {
    contents.repositories.iter().chain(&contents.build_repositories).chain(&contents.runtime_repositories)
}

fn tagged_repository(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for repository in all_contents(definition).into_iter().flat_map(repositories) {
        if repository.starts_with('@') {
            findings.add(repository.position, format!("repository `{repository}` has a tag; take it out"));
        }
    }
}

fn forbidden_repository(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for repository in all_contents(definition).into_iter().flat_map(repositories) {
        if repository.trim_end_matches('/') == REPOSITORY {
            findings.add(repository.position, format!("repository `{repository}` is given by the build; take it out"));
        }
    }
}

fn forbidden_keyring(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for key in all_contents(definition).into_iter().flat_map(|contents| &contents.keyring) {
        if let KeyEntry::Location(key) = key
            && *key == KEY
        {
            findings.add(key.position, format!("key `{key}` is given by the build; take it out"));
        }
    }
}
