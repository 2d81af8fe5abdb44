//! The rules over definitions that their authors lint before taking them in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;

use recipe::PackageDefinition;
use recipe::lint::{Severity, lint, lint_together};
use support::corpus;

/// Every definition of the corpus passed the field's own linter, so that a finding of severity error is
/// most likely a mistake of the rule. Those that are right are listed.
#[test]
fn the_distributions_own_definitions_have_no_errors() {
    let Some(definitions) = corpus() else { return };
    let parsed: Vec<PackageDefinition> =
        definitions.iter().map(|(file, text)| PackageDefinition::parse(text, file).unwrap()).collect();
    let started = std::time::Instant::now();
    let mut findings: Vec<_> = parsed.iter().flat_map(lint).collect();
    findings.extend(lint_together(&parsed.iter().collect::<Vec<_>>()));
    let elapsed = started.elapsed();
    let mut counts: BTreeMap<(Severity, &str), usize> = BTreeMap::new();
    for finding in &findings {
        *counts.entry((finding.severity, finding.rule)).or_default() += 1;
        println!("{}: {finding}", finding.severity);
    }
    println!("{} definitions, {} findings in {elapsed:?}: {counts:?}", parsed.len(), findings.len());
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    assert!(errors * 100 <= parsed.len(), "{errors} findings of severity error in {} definitions", parsed.len());
}
