//! Everything that can be wrong with a definition.

use std::fmt;
use std::path::PathBuf;

use crate::graph::{Cycle, Duplicate};
use crate::text::Location;

/// What is wrong with a definition, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not YAML.
    #[error("{location}: not valid YAML: {message}")]
    Yaml {
        /// Where the parser stopped.
        location: Location,
        /// What it met.
        message: String,
    },
    /// The text passes one of the bounds set for untrusted definitions.
    #[error("{location}: the definition has more than {limit} {what}; split it")]
    Limit {
        /// Where the bound was passed.
        location: Location,
        /// The bound.
        limit: usize,
        /// What was counted.
        what: &'static str,
    },
    /// A mapping names one key twice.
    #[error("{location}: key `{key}` is given twice (first on line {first}); keep one")]
    DuplicateKey {
        /// The second one.
        location: Location,
        /// The key.
        key: String,
        /// Line of the first one.
        first: usize,
    },
    /// A key that the format does not have.
    #[error("{location}: unknown key `{key}` in {section}{}", hint(.nearest))]
    UnknownKey {
        /// Where the key stands.
        location: Location,
        /// The key.
        key: String,
        /// The mapping that holds it, such as `package.dependencies`.
        section: String,
        /// The most similar key of that mapping.
        nearest: Vec<String>,
    },
    /// A key that must be there is absent.
    #[error("{location}: {section} needs `{field}`")]
    Missing {
        /// Where the mapping starts.
        location: Location,
        /// The mapping.
        section: String,
        /// The absent key.
        field: String,
    },
    /// A value of another type.
    #[error("{location}: `{field}` must be {expected}, found {found}")]
    WrongType {
        /// Where the value stands.
        location: Location,
        /// The field.
        field: String,
        /// What the format wants.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },
    /// A value of the right type that can't be used.
    #[error("{location}: `{field}` is `{value}`: {reason}")]
    Invalid {
        /// Where the value stands.
        location: Location,
        /// The field.
        field: String,
        /// The value.
        value: String,
        /// Why it can't be used and what would do.
        reason: String,
    },
    /// `${{name}}` names nothing.
    #[error("{location}: `${{{{{name}}}}}` is not defined{}", hint(.nearest))]
    UnknownVariable {
        /// Where the substitution stands.
        location: Location,
        /// The name between the braces.
        name: String,
        /// Similar names that exist.
        nearest: Vec<String>,
    },
    /// A variable whose value leads back to itself.
    #[error("{location}: `${{{{{name}}}}}` is defined by itself: {chain}")]
    VariableCycle {
        /// Where the substitution stands.
        location: Location,
        /// The variable.
        name: String,
        /// `a -> b -> a`.
        chain: String,
    },
    /// An `if:` that can't be read.
    #[error("{location}: condition `{condition}`: {reason}")]
    Condition {
        /// Where the condition stands.
        location: Location,
        /// Its text.
        condition: String,
        /// What is wrong.
        reason: String,
    },
    /// `uses:` names no pipeline.
    #[error("{location}: step {step} uses `{name}`, which is not a known pipeline{}; own pipelines are found through the pipeline folders", hint(.nearest))]
    UnknownPipeline {
        /// Where `uses` stands.
        location: Location,
        /// The step, as `3` or `2.1` for nested ones.
        step: String,
        /// The name.
        name: String,
        /// Similar names that exist.
        nearest: Vec<String>,
    },
    /// `with:` names an input that the pipeline does not declare.
    #[error("{location}: pipeline `{pipeline}` has no input `{input}`{}", hint(.nearest))]
    UnknownInput {
        /// Where the input stands.
        location: Location,
        /// The pipeline.
        pipeline: String,
        /// The input.
        input: String,
        /// Similar inputs that exist.
        nearest: Vec<String>,
    },
    /// A required input is not given.
    #[error("{location}: pipeline `{pipeline}` needs the input `{input}`")]
    MissingInput {
        /// Where the step stands.
        location: Location,
        /// The pipeline.
        pipeline: String,
        /// The input.
        input: String,
    },
    /// A source that nothing is expected of, without a word why.
    #[error(
        "{location}: pipeline `{pipeline}` needs `expected-sha256` or `expected-sha512`, or `expected-none` with the reason why there is none"
    )]
    MissingChecksum {
        /// Where the step stands.
        location: Location,
        /// The pipeline.
        pipeline: String,
    },
    /// `assertions.required-steps` does not hold.
    #[error(
        "{location}: `assertions.required-steps` is {required}, but {held} of the steps run by their conditions; let one condition hold or change the number"
    )]
    RequiredSteps {
        /// Where the step starts.
        location: Location,
        /// Steps that must run.
        required: u64,
        /// Steps whose conditions hold.
        held: u64,
    },
    /// Pipelines that use each other without end.
    #[error("{location}: pipelines use each other more than {limit} deep: {chain}")]
    PipelineDepth {
        /// Where the last `uses` stands.
        location: Location,
        /// The bound.
        limit: usize,
        /// `a -> b -> a`.
        chain: String,
    },
    /// Two definitions make a package of one name.
    #[error("{0}")]
    DuplicatePackage(Duplicate),
    /// The packages need each other.
    #[error("{0}")]
    Cycle(#[from] Cycle),
    /// An update has nothing to change.
    #[error("{file}: nothing to update: no `{field}` {reason}")]
    NothingToUpdate {
        /// The definition.
        file: String,
        /// The field that was looked for.
        field: String,
        /// Where it was looked for.
        reason: String,
    },
    /// A pipeline folder can't be read.
    #[error("can't read {path}: {source}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// Where in which file, for the errors that stand at one place.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Yaml { location, .. }
            | Self::Limit { location, .. }
            | Self::DuplicateKey { location, .. }
            | Self::UnknownKey { location, .. }
            | Self::Missing { location, .. }
            | Self::WrongType { location, .. }
            | Self::Invalid { location, .. }
            | Self::UnknownVariable { location, .. }
            | Self::VariableCycle { location, .. }
            | Self::Condition { location, .. }
            | Self::UnknownPipeline { location, .. }
            | Self::UnknownInput { location, .. }
            | Self::MissingInput { location, .. }
            | Self::MissingChecksum { location, .. }
            | Self::RequiredSteps { location, .. }
            | Self::PipelineDepth { location, .. } => Some(location),
            Self::DuplicatePackage(_) | Self::Cycle(_) | Self::NothingToUpdate { .. } | Self::Read { .. } => None,
        }
    }
}

struct Hint<'a>(&'a [String]);

fn hint(nearest: &[String]) -> Hint<'_> {
    Hint(nearest)
}

impl fmt::Display for Hint<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            formatter.write_str(if index == 0 { "; did you mean " } else { " or " })?;
            write!(formatter, "`{name}`")?;
        }
        if !self.0.is_empty() {
            formatter.write_str("?")?;
        }
        Ok(())
    }
}

/// The names most like `wanted`, best first, at most three; none when nothing is near.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(score, _)| *score >= 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
