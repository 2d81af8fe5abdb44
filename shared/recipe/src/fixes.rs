//! Vulnerabilities that a definition says it fixes, by the names of its patches.

use std::sync::LazyLock;

use regex::Regex;

use crate::package::{PackageDefinition, Step};
use crate::text::Text;

/// A vulnerability's id as patches and commits carry it in their names.
static ID: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:^|[^a-z0-9])(CVE-\d{4}-\d{4,19}|GHSA(?:-[23456789cfghjmpqrvwx]{4}){3})(?:$|[^a-z0-9])").ok()
});

/// A vulnerability that a step fixes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatedFix {
    /// The vulnerability's id.
    pub vulnerability: String,
    /// What fixes it: `patch CVE-2025-26519-1.patch`, `commit 0a1b2c...`.
    pub by: String,
}

/// The vulnerabilities that a definition's main pipeline fixes for certain: those whose ids stand in the name of
/// a patch that a `patch` or `git-am` step applies, or in the reason of a commit that `git-checkout` picks
/// (`BRANCH/COMMIT: REASON`). A step under a condition counts for nothing, nor does a comment.
#[must_use]
pub fn stated_fixes(definition: &PackageDefinition) -> Vec<StatedFix> {
    let mut fixes = Vec::new();
    collect(&definition.pipeline, &mut fixes);
    fixes.sort();
    fixes.dedup();
    fixes
}

fn collect(steps: &[Step], fixes: &mut Vec<StatedFix>) {
    for step in steps {
        if step.condition.as_ref().is_some_and(|condition| !condition.trim().is_empty()) {
            continue;
        }
        let input = |name: &str| step.with.iter().find(|(key, _)| key.value == name).map(|(_, value)| value);
        match step.uses.as_ref().map(Text::as_str) {
            Some("patch" | "git-am") => {
                for patch in input("patches").into_iter().flat_map(|names| names.split_whitespace()) {
                    let name = patch.rsplit('/').next().unwrap_or(patch);
                    let by = format!("patch {name}");
                    fixes
                        .extend(ids(name).into_iter().map(|vulnerability| StatedFix { vulnerability, by: by.clone() }));
                }
            }
            Some("git-checkout") => {
                for line in input("cherry-picks").into_iter().flat_map(|picks| picks.lines()) {
                    let Some((commit, reason)) = line.split('#').next().and_then(|line| line.split_once(':')) else {
                        continue;
                    };
                    let by = format!("commit {}", commit.trim().rsplit('/').next().unwrap_or_default());
                    fixes.extend(
                        ids(reason).into_iter().map(|vulnerability| StatedFix { vulnerability, by: by.clone() }),
                    );
                }
            }
            _ => {}
        }
        collect(&step.pipeline, fixes);
    }
}

/// The ids in a text, as their databases write them.
fn ids(text: &str) -> Vec<String> {
    let Some(pattern) = ID.as_ref() else { return Vec::new() };
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(id) = pattern.captures_at(text, at).and_then(|captures| captures.get(1)) {
        let upper = id.as_str().to_ascii_uppercase();
        found.push(match upper.strip_prefix("GHSA") {
            Some(rest) => format!("GHSA{}", rest.to_ascii_lowercase()),
            None => upper,
        });
        // The character after an id may be the one before the next.
        at = id.end();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_patches_and_reasons_of_commits_state_what_they_fix() {
        let commit = "1".repeat(40);
        let text = format!(
            "package:\n  name: a\n  version: 1\n  epoch: 0\npipeline:\n  - uses: git-checkout\n    with:\n      \
             repository: https://localhost/a.git\n      tag: v1\n      expected-commit: {commit}\n      cherry-picks: \
             |\n        main/{commit}: GHSA-W73W-5m7g-f7qc and CVE-2024-0001,CVE-2024-0002\n        {commit}: no \
             vulnerability\n  - uses: patch\n    with:\n      patches: ../CVE-2025-26519-1.patch \
             CVE-2025-26519-2.patch cve-2020-1234.patch other.patch CVE-12-1.patch\n  - if: ${{{{build.arch}}}} == \
             'x86_64'\n    uses: patch\n    with:\n      patches: CVE-2025-0003.patch\n  - pipeline:\n      - uses: \
             git-am\n        with:\n          patches: fix-CVE-2025-0004_x.patch\n  # CVE-2025-0005\n  - runs: patch \
             -p1 < CVE-2025-0006.patch\n"
        );
        let definition = PackageDefinition::parse(&text, "a.yaml").unwrap();
        let fixes = stated_fixes(&definition);
        let found: Vec<(&str, &str)> = fixes.iter().map(|fix| (fix.vulnerability.as_str(), fix.by.as_str())).collect();
        let picked = format!("commit {commit}");
        assert_eq!(
            found,
            [
                ("CVE-2020-1234", "patch cve-2020-1234.patch"),
                ("CVE-2024-0001", picked.as_str()),
                ("CVE-2024-0002", picked.as_str()),
                ("CVE-2025-0004", "patch fix-CVE-2025-0004_x.patch"),
                ("CVE-2025-26519", "patch CVE-2025-26519-1.patch"),
                ("CVE-2025-26519", "patch CVE-2025-26519-2.patch"),
                ("GHSA-w73w-5m7g-f7qc", picked.as_str()),
            ]
        );
    }
}
