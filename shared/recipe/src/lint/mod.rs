//! Rules that a good package definition keeps beyond being one that can be built.
//!
//! The rules and their names are those of the field's own tool, so that its comments work here (what it has no
//! rule for, in `form.rs` and one in `update.rs`, has a name of ours):
//! a line that starts with `#nolint:RULE,RULE` turns rules off for the whole file, the same comment at
//! the end of a line turns them off for that line.

mod environment;
mod form;
mod package;
mod script;
mod source;
mod update;
mod variables;

use std::fmt;

use serde::Serialize;

use crate::package::{PackageDefinition, Step};
use crate::text::{Location, Position};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// To be mended when the definition is next touched.
    Warning,
    /// The definition should not be taken in like this.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One place where a definition breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, as in [`rules`].
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} [{}]", self.location, self.message, self.rule)
    }
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name in reports and `#nolint:` comments.
    pub id: &'static str,
    /// How bad breaking it is.
    pub severity: Severity,
    /// What it asks for.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    check: Check,
}

#[derive(Debug, Clone, Copy)]
enum Check {
    /// Looks at one definition.
    One(fn(&PackageDefinition, &mut Findings<'_>)),
    /// Looks at all definitions of a folder side by side.
    All(fn(&[&PackageDefinition], &mut Vec<Placed>)),
}

/// What a rule that compares definitions finds in one of them.
struct Placed {
    /// Which of the compared ones.
    definition: usize,
    position: Position,
    message: String,
}

/// Where a rule puts what it finds.
struct Findings<'a> {
    rule: &'a Rule,
    definition: &'a PackageDefinition,
    found: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, position: Position, message: impl Into<String>) {
        self.found.push(Finding {
            rule: self.rule.id,
            severity: self.rule.severity,
            location: self.definition.location(position),
            message: message.into(),
        });
    }
}

/// Every rule, by family.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [form::RULES, package::RULES, source::RULES, update::RULES, script::RULES, environment::RULES, variables::RULES]
        .into_iter()
        .flatten()
}

/// What the rules find in one definition, in the order of its lines.
///
/// Rules that compare definitions run in [`lint_together`].
#[must_use]
pub fn lint(definition: &PackageDefinition) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in rules() {
        if let Check::One(check) = rule.check {
            check(definition, &mut Findings { rule, definition, found: &mut found });
        }
    }
    let silenced = Silenced::read(&definition.source);
    found.retain(|finding| !silenced.covers(finding.rule, finding.location.line));
    found.sort_by_key(|finding| finding.location.line);
    found
}

/// What the rules find by comparing the definitions of one folder with each other.
#[must_use]
pub fn lint_together(definitions: &[&PackageDefinition]) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in rules() {
        let Check::All(check) = rule.check else { continue };
        let mut places = Vec::new();
        check(definitions, &mut places);
        for Placed { definition, position, message } in places {
            let Some(definition) = definitions.get(definition) else { continue };
            if !Silenced::read(&definition.source).covers(rule.id, position.line) {
                Findings { rule, definition, found: &mut found }.add(position, message);
            }
        }
    }
    found
}

/// The `nolint` comments of a text.
struct Silenced<'t> {
    file: Vec<&'t str>,
    lines: Vec<(usize, &'t str)>,
}

impl<'t> Silenced<'t> {
    fn read(text: &'t str) -> Self {
        let mut silenced = Self { file: Vec::new(), lines: Vec::new() };
        if !text.contains("nolint:") {
            return silenced;
        }
        for (index, line) in text.lines().enumerate() {
            let Some((before, rules)) = line.split_once("nolint:") else { continue };
            let Some(before) = before.trim_end().strip_suffix('#') else { continue };
            // Rules end at the first word that is none, so that a reason may follow.
            let rules = rules.split(',').map(|rule| rule.split_whitespace().next().unwrap_or_default());
            if before.is_empty() {
                silenced.file.extend(rules);
            } else if before.ends_with(char::is_whitespace) {
                silenced.lines.extend(rules.map(|rule| (index + 1, rule)));
            }
        }
        silenced
    }

    fn covers(&self, rule: &str, line: usize) -> bool {
        self.file.contains(&rule) || self.lines.contains(&(line, rule))
    }
}

/// Every step below `steps`, outer ones first.
fn flat(steps: &[Step]) -> Vec<&Step> {
    let mut all = Vec::new();
    for step in steps {
        all.push(step);
        all.extend(flat(&step.pipeline));
    }
    all
}

/// Steps that build: of the main package and of every subpackage.
fn build_steps(definition: &PackageDefinition) -> Vec<&Step> {
    let subpackages = definition.subpackages.iter().flat_map(|subpackage| flat(&subpackage.pipeline));
    flat(&definition.pipeline).into_iter().chain(subpackages).collect()
}

/// Steps that test.
fn test_steps(definition: &PackageDefinition) -> Vec<&Step> {
    let tests = definition.subpackages.iter().map(|subpackage| &subpackage.test);
    std::iter::once(&definition.test).chain(tests).flatten().flat_map(|test| flat(&test.pipeline)).collect()
}

/// An input that a step gives.
fn input<'s>(step: &'s Step, name: &str) -> Option<&'s crate::text::Text> {
    step.with.iter().find(|(key, _)| *key == name).map(|(_, value)| value).filter(|value| !value.trim().is_empty())
}

fn uses(step: &Step, pipeline: &str) -> bool {
    step.uses.as_ref().is_some_and(|uses| *uses == pipeline)
}

/// The place of `needle` at or after `from`; `from` where YAML folding or escapes hide it.
fn place(definition: &PackageDefinition, from: Position, needle: &str) -> Position {
    let Some((before, _)) = definition.source.get(from.offset..).and_then(|rest| rest.split_once(needle)) else {
        return from;
    };
    let column = match before.rsplit_once('\n') {
        Some((_, tail)) => tail.chars().count() + 1,
        None => from.column + before.chars().count(),
    };
    Position { line: from.line + before.matches('\n').count(), column, offset: from.offset + before.len() }
}

#[cfg(test)]
mod tests;
