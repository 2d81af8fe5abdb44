//! Rules about shell text.

use std::sync::LazyLock;

use regex::Regex;

use super::{Check, Findings, Rule, Severity, build_steps, place, test_steps};
use crate::package::PackageDefinition;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "bad-template-var",
        severity: Severity::Error,
        what: "build steps do not use `$pkgdir`, `$pkgver`, `$pkgname` and `$srcdir` without setting them",
        why: "these are another build tool's variables; here they are empty, and `$pkgdir/usr` becomes `/usr`",
        check: Check::One(bad_template_variable),
    },
    Rule {
        id: "check-when-version-changes",
        severity: Severity::Error,
        what: "a comment `# CHECK-WHEN-VERSION-CHANGES: VERSION` in a build step names the package's version",
        why: "its author asked that the lines under it are looked at again with each new version",
        check: Check::One(check_when_version_changes),
    },
    Rule {
        id: "background-process-without-redirect",
        severity: Severity::Warning,
        what: "test steps that start a process in the background redirect its output",
        why: "the process holds the test's output open, and the test hangs until its time is over",
        check: Check::One(background_process),
    },
];

/// A fixed pattern; one that does not compile finds nothing, which the tests of its rule would show.
type Pattern = LazyLock<Option<Regex>>;

static FOREIGN: Pattern = LazyLock::new(|| Regex::new(r"\$\{?(pkgdir|pkgver|pkgname|srcdir)\b").ok());
static CHECK: Pattern = LazyLock::new(|| Regex::new(r"# CHECK-WHEN-VERSION-CHANGES:\s*(\S+)").ok());
static BACKGROUND: Pattern = LazyLock::new(|| {
    Regex::new(r"(?:^|[^&>|\\])&(?:\s*$|\s+sleep\b)|(?:^|\s)--?daemon\b|(?:^|\s)--(?:daemonize|detach)\b").ok()
});
static REDIRECT: Pattern = LazyLock::new(|| Regex::new(r">\s*\S|\|\s*tee\b").ok());

fn bad_template_variable(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let Some(foreign) = FOREIGN.as_ref() else { return };
    for runs in build_steps(definition).into_iter().filter_map(|step| step.runs.as_ref()) {
        let mut seen = Vec::new();
        for found in foreign.captures_iter(runs) {
            let (Some(whole), Some(name)) = (found.get(0), found.get(1)) else { continue };
            let (whole, name) = (whole.as_str(), name.as_str());
            if seen.contains(&name) || sets(runs, name) {
                continue;
            }
            seen.push(name);
            let instead = match name {
                "pkgdir" => "${{targets.contextdir}}",
                "pkgver" => "${{package.version}}",
                "pkgname" => "${{package.name}}",
                _ => "${{package.srcdir}}",
            };
            findings.add(
                place(definition, runs.position, whole),
                format!("`${name}` is not set in a build; write `{instead}`"),
            );
        }
    }
}

/// Whether the script gives the variable a value of its own.
fn sets(script: &str, name: &str) -> bool {
    script.match_indices(name).any(|(start, _)| {
        let before = script.get(..start).unwrap_or_default();
        let after = script.get(start + name.len()..).unwrap_or_default();
        let starts = before.is_empty() || before.ends_with(|last: char| last.is_whitespace() || last == ';');
        let bound = before.ends_with("for ") || before.ends_with("read ") || before.ends_with("read -r ");
        starts && (after.starts_with('=') || bound)
    })
}

fn check_when_version_changes(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let Some(check) = CHECK.as_ref() else { return };
    let version = definition.package.version.as_str();
    for runs in build_steps(definition).into_iter().filter_map(|step| step.runs.as_ref()) {
        for found in check.captures_iter(runs) {
            let (Some(whole), Some(checked)) = (found.get(0), found.get(1)) else { continue };
            if checked.as_str() != version {
                findings.add(
                    place(definition, runs.position, whole.as_str()),
                    format!(
                        "this was last checked for version {}; check it for {version} and change the comment",
                        checked.as_str()
                    ),
                );
            }
        }
    }
}

fn background_process(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let (Some(background), Some(redirect)) = (BACKGROUND.as_ref(), REDIRECT.as_ref()) else { return };
    for runs in test_steps(definition).into_iter().filter_map(|step| step.runs.as_ref()) {
        if !runs.contains('&') && !runs.contains("-da") && !runs.contains("--de") {
            continue;
        }
        for command in logical_lines(runs) {
            let shown = command.split_once(" #").map_or(command.as_str(), |(command, _)| command);
            if shown.trim_start().starts_with('#') {
                continue;
            }
            if background.is_match(shown) && !redirect.is_match(shown) {
                let first = command.lines().next().unwrap_or_default().trim();
                findings.add(
                    place(definition, runs.position, first),
                    format!(
                        "`{}` runs in the background with the test's output; add `> FILE 2>&1`",
                        first.trim_end_matches('\\').trim_end()
                    ),
                );
            }
        }
    }
}

/// Lines of a script, those that a backslash continues as one.
fn logical_lines(script: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in script.lines() {
        match lines.last_mut().filter(|_| open) {
            Some(last) => {
                last.push('\n');
                last.push_str(line);
            }
            None => lines.push(line.to_owned()),
        }
        open = line.ends_with('\\');
    }
    lines
}
