use std::fmt::{self, Write as _};

/// apk wraps its messages at this column where it writes to no terminal.
const WIDTH: usize = 50;

/// Why a task has no solution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Wants name a tag that no repository has.
    #[error("no repository has the tag of {}: add one with that tag or drop it from the want", quoted(wants))]
    UnknownTags {
        /// The wants, as `name@tag`.
        wants: Vec<String>,
    },
    /// Constraints that do not hold together.
    #[error("{}", reasons(problems))]
    Unsolvable {
        /// What is wrong, package by package, in the order in which they would be installed.
        problems: Vec<Problem>,
    },
}

/// What is wrong with one package or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The package or name.
    pub subject: Subject,
    /// The constraints involved, as apk reports them; empty where apk finds nothing to report.
    pub facts: Vec<Fact>,
    /// The same for a reader: each says who wants what, by which chain, and why it fails.
    pub reasons: Vec<String>,
}

/// What a [`Problem`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A package, as `name-version`.
    Package(String),
    /// A name that packages provide without a version, none of which was named.
    Virtual(String),
    /// A name that no package has or provides.
    Missing(String),
}

/// One labelled line of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// `breaks`, `satisfies`, `conflicts`, `required by`, `provided by`, `masked in`, `note`, ...
    pub label: &'static str,
    /// For constraints `asker-version[dependency]` or `world[dependency]`.
    pub items: Vec<String>,
}

impl Fact {
    pub(crate) fn new(label: &'static str, items: impl IntoIterator<Item = String>) -> Self {
        Self { label, items: items.into_iter().collect() }
    }
}

impl Failure {
    /// The message that apk-tools prints, without the `ERROR: ` and `WARNING: ` before its lines.
    pub fn apk_message(&self) -> String {
        match self {
            Self::UnknownTags { wants } => {
                let mut text = String::new();
                for want in wants {
                    let _ = writeln!(text, "The repository tag for world dependency '{want}' does not exist");
                }
                text + "Not committing changes due to missing repository tags."
            }
            Self::Unsolvable { problems } => {
                let mut text = "unable to select packages:".to_owned();
                let reported = |problem: &&Problem| !problem.facts.is_empty();
                for problem in problems.iter().filter(reported) {
                    let _ = write!(text, "\n  {}:", problem.subject);
                    for fact in &problem.facts {
                        text.push('\n');
                        wrap(&mut text, fact);
                    }
                }
                if !problems.iter().any(|problem| reported(&problem)) {
                    text.push_str("\nHuh? Error reporter did not find the broken constraints.");
                }
                text
            }
        }
    }
}

fn wrap(text: &mut String, fact: &Fact) {
    let head = format!("    {}:", fact.label);
    let indent = head.len() + 1;
    text.push_str(&head);
    let mut column = head.len();
    for item in &fact.items {
        if column <= indent {
            text.push(' ');
            column = indent + item.len();
        } else if column + item.len() + 1 >= WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent + item.len();
        } else {
            text.push(' ');
            column += 1 + item.len();
        }
        text.push_str(item);
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => f.write_str(name),
            Self::Virtual(name) => write!(f, "{name} (virtual)"),
            Self::Missing(name) => write!(f, "{name} (no such package)"),
        }
    }
}

fn quoted(wants: &[String]) -> String {
    let quoted: Vec<String> = wants.iter().map(|want| format!("`{want}`")).collect();
    quoted.join(", ")
}

fn reasons(problems: &[Problem]) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for reason in problems.iter().flat_map(|problem| &problem.reasons) {
        if !lines.contains(&reason.as_str()) {
            lines.push(reason);
        }
    }
    let mut text = "the wants have no solution".to_owned();
    for (number, line) in lines.iter().enumerate() {
        text.push_str(if number == 0 { ":\n  " } else { "\n  " });
        text.push_str(line);
    }
    text
}
