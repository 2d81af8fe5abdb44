//! Steps of a pipeline.

use std::time::Duration;

use super::Capabilities;
use super::duration::duration;
use crate::decode::Fields;
use crate::error::Error;
use crate::text::{Position, Text};
use crate::yaml::Node;

/// One step: a script, a named pipeline, or a group of steps.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it starts.
    pub position: Position,
    /// `if`: the step is left out when this is false.
    pub condition: Option<Text>,
    /// `name`.
    pub name: Option<Text>,
    /// `uses`: a named pipeline.
    pub uses: Option<Text>,
    /// `with`: inputs of that pipeline.
    pub with: Vec<(Text, Text)>,
    /// `runs`: shell text.
    pub runs: Option<Text>,
    /// `pipeline`: steps run after `runs`, in this step's directory and environment.
    pub pipeline: Vec<Step>,
    /// `inputs` that this step declares.
    pub inputs: Vec<Input>,
    /// `needs.packages`: packages that the environment must have.
    pub needs: Vec<Text>,
    /// `needs.capabilities`: what the step's process must be allowed.
    pub capabilities: Capabilities,
    /// `label`.
    pub label: Option<Text>,
    /// `assertions.required-steps`.
    pub required_steps: Option<u64>,
    /// `working-directory`, relative to the build's workspace.
    pub working_directory: Option<Text>,
    /// `environment`: variables for this step and the steps in it.
    pub environment: Vec<(Text, Text)>,
    /// `retry`: how often the step, with the steps in it, is tried.
    pub retry: Option<Retry>,
}

/// `retry` of a step that may fail by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// `attempts`, the first one counted; at least 1.
    pub attempts: u32,
    /// `backoff`: how the pauses grow.
    pub backoff: Backoff,
    /// `initial-delay`: the first pause; 1 second where it is not said.
    pub initial_delay: Duration,
    /// `max-delay`: the longest pause, of those that grow; 60 seconds where it is not said.
    pub longest_delay: Duration,
}

/// How the pauses between attempts grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backoff {
    /// `exponential`: each is twice the one before.
    #[default]
    Exponential,
    /// `linear`: each is longer by the first.
    Linear,
    /// `constant`: all are alike.
    Constant,
}

impl Retry {
    /// The pauses between the attempts, one fewer than these.
    pub fn pauses(&self) -> impl Iterator<Item = Duration> {
        let retry = *self;
        (1..retry.attempts).map(move |number| {
            let times = match retry.backoff {
                Backoff::Exponential => 2u32.saturating_pow(number - 1),
                Backoff::Linear => number,
                Backoff::Constant => return retry.initial_delay,
            };
            retry.initial_delay.saturating_mul(times).min(retry.longest_delay)
        })
    }
}

/// An input that a pipeline declares.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name.
    pub name: Text,
    /// What it is for.
    pub description: String,
    /// The value when none is given; may be templated.
    pub default: Option<Text>,
    /// Whether one must be given.
    pub required: bool,
}

/// The keys of a step.
pub(crate) const STEP: &[&str] = &[
    "if",
    "name",
    "uses",
    "with",
    "runs",
    "pipeline",
    "inputs",
    "needs",
    "label",
    "assertions",
    "working-directory",
    "environment",
    "retry",
];

/// More would keep a build busy with nothing for hours.
const MOST_ATTEMPTS: u64 = 100;

/// Which keys a step may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKeys {
    /// Those of a definition.
    Definition,
    /// `description` too, as the field's own pipeline files have.
    Pipeline,
    /// `source` too.
    BuiltIn,
}

pub(super) fn decode_steps(fields: &Fields<'_>, key: &str, file: &str, keys: StepKeys) -> Result<Vec<Step>, Error> {
    fields.list(key, |node, path| decode_step(node, file, path, keys))
}

/// Reads a step, which is also what a pipeline's file holds, with a few keys more.
pub(crate) fn decode_step(node: &Node, file: &str, section: &str, keys: StepKeys) -> Result<Step, Error> {
    let more: &[&str] = match keys {
        StepKeys::Definition => &[],
        StepKeys::Pipeline => &["description"],
        StepKeys::BuiltIn => &["description", "source"],
    };
    let fields = Fields::open(node, file, section, &[STEP, more].concat())?;
    let required_steps = match fields.node("assertions") {
        None => None,
        Some(node) => {
            Fields::open(node, file, &fields.path("assertions"), &["required-steps"])?.integer("required-steps")?
        }
    };
    let (needs, capabilities) = decode_needs(&fields, file)?;
    Ok(Step {
        position: fields.position(),
        condition: fields.text("if")?.filter(|text| !text.trim().is_empty()),
        name: fields.text("name")?,
        uses: fields.text("uses")?.filter(|text| !text.is_empty()),
        with: fields.texts_by_name("with")?,
        runs: fields.text("runs")?.filter(|text| !text.trim().is_empty()),
        pipeline: decode_steps(&fields, "pipeline", file, keys)?,
        inputs: decode_inputs(&fields, file)?,
        needs,
        capabilities,
        label: fields.text("label")?,
        required_steps,
        working_directory: fields.text("working-directory")?.filter(|text| !text.is_empty()),
        environment: fields.texts_by_name("environment")?,
        retry: fields.node("retry").map(|node| decode_retry(node, file, &fields.path("retry"))).transpose()?,
    })
}

fn decode_retry(node: &Node, file: &str, section: &str) -> Result<Retry, Error> {
    let fields = Fields::open(node, file, section, &["attempts", "backoff", "initial-delay", "max-delay"])?;
    let attempts = match fields.integer("attempts")?.unwrap_or(1) {
        attempts @ 1..=MOST_ATTEMPTS => attempts as u32,
        attempts => {
            let text = Text { value: attempts.to_string(), position: fields.position() };
            return Err(fields.invalid("attempts", &text, format!("1 to {MOST_ATTEMPTS} are possible")));
        }
    };
    let backoff = fields.text("backoff")?.unwrap_or_default();
    let delay = |key: &str, otherwise: u64| match fields.text(key)?.filter(|text| !text.is_empty()) {
        None => Ok(Duration::from_secs(otherwise)),
        Some(text) => duration(&text)
            .ok_or_else(|| fields.invalid(key, &text, "a duration such as `500ms` or `1m30s` is expected")),
    };
    Ok(Retry {
        attempts,
        backoff: match backoff.as_str() {
            "" | "exponential" => Backoff::Exponential,
            "linear" => Backoff::Linear,
            "constant" => Backoff::Constant,
            _ => return Err(fields.invalid("backoff", &backoff, "must be `exponential`, `linear` or `constant`")),
        },
        initial_delay: delay("initial-delay", 1)?,
        longest_delay: delay("max-delay", 60)?,
    })
}

fn decode_inputs(fields: &Fields<'_>, file: &str) -> Result<Vec<Input>, Error> {
    let Some(node) = fields.node("inputs") else {
        return Ok(Vec::new());
    };
    let outer = Fields::open_any(node, file, &fields.path("inputs"))?;
    let mut inputs = Vec::new();
    for (name, node) in outer.entries() {
        let input = Fields::open(node, file, &outer.path(name), &["description", "default", "required"])?;
        inputs.push(Input {
            name: name.clone(),
            description: input.text("description")?.unwrap_or_default().value,
            default: input.text("default")?,
            required: input.flag("required")?,
        });
    }
    Ok(inputs)
}

fn decode_needs(fields: &Fields<'_>, file: &str) -> Result<(Vec<Text>, Capabilities), Error> {
    let Some(node) = fields.node("needs") else { return Ok(Default::default()) };
    let needs = Fields::open(node, file, &fields.path("needs"), &["packages", "capabilities"])?;
    Ok((needs.texts("packages")?, decode_capabilities(&needs, file)?))
}

/// The `capabilities` of a definition or of a step's needs.
pub(super) fn decode_capabilities(fields: &Fields<'_>, file: &str) -> Result<Capabilities, Error> {
    let Some(node) = fields.node("capabilities") else { return Ok(Capabilities::default()) };
    let capabilities = Fields::open(node, file, &fields.path("capabilities"), &["add", "drop"])?;
    Ok(Capabilities { add: capabilities.texts("add")?, drop: capabilities.texts("drop")? })
}
