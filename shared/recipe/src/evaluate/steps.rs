//! From the steps of a pipeline, and the pipelines that they use, to a flat list of actions.

use std::collections::BTreeMap;

use super::{Evaluator, MissingPipelines, add_all, resolve_pairs};
use crate::condition;
use crate::error::{Error, nearest};
use crate::package::{Retry, Step};
use crate::pipelines::Pipeline;
use crate::plan::{MissingPipeline, SOURCE_ROOT, UnknownInput, WORKSPACE};
use crate::script::{Action, Run};
use crate::source;
use crate::substitute::{Origin, Scope, substitute};
use crate::text::{Location, Text};

const MAXIMUM_DEPTH: usize = 16;

/// The steps of one pipeline as they are flattened.
#[derive(Default)]
pub(super) struct Flat {
    pub(super) actions: Vec<Action>,
    pub(super) packages: Vec<String>,
    /// Names of the pipelines that are used, without repeats.
    pub(super) pipelines: Vec<String>,
    pub(super) test: bool,
}

impl Flat {
    /// Makes one action, which is tried again, of those from `before` on.
    fn retry(&mut self, before: usize, retry: Option<Retry>) {
        let Some(retry) = retry.filter(|retry| retry.attempts > 1) else { return };
        let actions = self.actions.split_off(before);
        if !actions.is_empty() {
            self.actions.push(Action::Try(retry, actions));
        }
    }
}

/// Where a step is written, and the variables in force there.
#[derive(Clone, Copy)]
pub(super) struct At<'a, 's> {
    pub(super) origin: Origin<'a>,
    pub(super) scope: &'s Scope<'s>,
}

impl At<'_, '_> {
    fn text(&self, text: &Text) -> Result<String, Error> {
        substitute(text, self.origin, self.scope)
    }
}

/// What a step takes over from the steps around it.
#[derive(Clone)]
pub(super) struct Inherited<'e> {
    directory: String,
    environment: Vec<(String, String)>,
    inputs: BTreeMap<String, String>,
    /// The pipelines being expanded, outermost first.
    chain: Vec<&'e str>,
    /// Numbers of the steps around, as `2.1`.
    number: String,
    /// What the outermost used pipeline's step is called.
    name: Option<String>,
}

impl Inherited<'_> {
    pub(super) fn outermost() -> Self {
        Self {
            directory: WORKSPACE.to_owned(),
            environment: Vec::new(),
            inputs: BTreeMap::new(),
            chain: Vec::new(),
            number: String::new(),
            name: None,
        }
    }

    fn scope<'s>(&self, parent: &'s Scope<'s>) -> Scope<'s> {
        let mut scope = Scope::within(parent);
        for (name, value) in &self.inputs {
            scope.set(format!("inputs.{name}"), value.as_str());
        }
        scope
    }

    /// Takes over a step's own directory and variables.
    fn enter(&mut self, step: &Step, at: At<'_, '_>) -> Result<(), Error> {
        for (name, value) in resolve_pairs(&step.environment, at.origin, at.scope)? {
            self.environment.retain(|(present, _)| *present != name);
            self.environment.push((name, value));
        }
        if let Some((name, _)) = step.environment.iter().find(|(name, _)| !valid_variable(name)) {
            return Err(Error::Invalid {
                location: Location::new(at.origin.file, name.position),
                field: "environment".to_owned(),
                value: name.value.clone(),
                reason: "a variable's name has letters, digits and `_` only".to_owned(),
            });
        }
        if let Some(directory) = &step.working_directory {
            let directory = at.text(directory)?;
            self.directory = if directory.starts_with('/') { directory } else { format!("{WORKSPACE}/{directory}") };
        }
        Ok(())
    }

    /// Gives every declared input that is absent or empty its default.
    fn defaults(&mut self, step: &Step, pipeline: &str, at: At<'_, '_>) -> Result<(), Error> {
        for input in &step.inputs {
            if self.has(&input.name) {
                continue;
            }
            // A default may name another input.
            let value = match &input.default {
                Some(default) => substitute(default, at.origin, &self.scope(at.scope))?,
                None => String::new(),
            };
            if input.required && value.is_empty() {
                return Err(Error::MissingInput {
                    location: Location::new(at.origin.file, input.name.position),
                    pipeline: pipeline.to_owned(),
                    input: input.name.value.clone(),
                });
            }
            self.inputs.insert(input.name.value.clone(), value);
        }
        Ok(())
    }

    fn has(&self, input: &str) -> bool {
        self.inputs.get(input).is_some_and(|value| !value.is_empty())
    }
}

impl<'a> Evaluator<'a> {
    /// Adds what the steps do, and returns how many of them hold by their conditions.
    pub(super) fn steps(
        &mut self,
        steps: &'a [Step],
        at: At<'a, '_>,
        inherited: &Inherited<'a>,
        out: &mut Flat,
    ) -> Result<u64, Error> {
        let mut held = 0;
        for (index, step) in steps.iter().enumerate() {
            let number = match inherited.number.as_str() {
                "" => (index + 1).to_string(),
                outer => format!("{outer}.{}", index + 1),
            };
            held += u64::from(self.step(step, at, Inherited { number, ..inherited.clone() }, out)?);
        }
        Ok(held)
    }

    fn step(
        &mut self,
        step: &'a Step,
        at: At<'a, '_>,
        mut inherited: Inherited<'a>,
        out: &mut Flat,
    ) -> Result<bool, Error> {
        let own = inherited.scope(at.scope);
        if let Some(condition) = &step.condition
            && !condition::holds(condition, at.origin, &own)?
        {
            return Ok(false);
        }
        let here = At { scope: &own, ..at };
        let given = resolve_pairs(&step.with, at.origin, &own)?;
        // What the step gives wins over what the steps around it were given.
        inherited.inputs.extend(given);
        match &step.uses {
            // Where the steps are spelled out too, melange takes them and the name says only what they are.
            Some(uses) if step.pipeline.is_empty() => {
                let before = out.actions.len();
                self.uses(step, uses, here, inherited, out)?;
                out.retry(before, step.retry);
            }
            _ => {
                inherited.defaults(step, "this step", here)?;
                self.body(step, at, inherited, out)?;
            }
        }
        Ok(true)
    }

    fn uses(
        &mut self,
        step: &'a Step,
        uses: &'a Text,
        at: At<'a, '_>,
        mut inherited: Inherited<'a>,
        out: &mut Flat,
    ) -> Result<(), Error> {
        let location = Location::new(at.origin.file, uses.position);
        if let Some(runs) = &step.runs {
            return Err(Error::Invalid {
                location: Location::new(at.origin.file, runs.position),
                field: "runs".to_owned(),
                value: runs.lines().next().unwrap_or_default().to_owned(),
                reason: "a step has `uses` or `runs`, not both; make it two steps".to_owned(),
            });
        }
        let name = at.text(uses)?;
        add_all(&mut out.pipelines, [name.clone()]);
        let Some(pipeline) = self.options.pipelines.get(&name) else {
            return self.unknown_pipeline(location, name, &inherited, out.test);
        };
        inherited.chain.push(uses);
        if inherited.chain.len() > MAXIMUM_DEPTH {
            return Err(Error::PipelineDepth { location, limit: MAXIMUM_DEPTH, chain: inherited.chain.join(" -> ") });
        }
        self.check_inputs(step, &name, pipeline, at.origin, &inherited)?;
        let inside = Origin { file: &pipeline.file, source: &pipeline.text };
        inherited.defaults(&pipeline.step, &name, At { origin: inside, ..at })?;
        inherited.enter(step, at)?;
        if inherited.name.is_none() {
            inherited.name = Some(match &step.name {
                Some(own) if !own.is_empty() => at.text(own)?,
                _ => name.clone(),
            });
        }
        self.used.insert(name.clone(), pipeline);
        for package in &step.needs {
            add_all(&mut out.packages, [at.text(package)?]);
        }
        let mut scope = Scope::within(at.scope);
        if let Some(kind) = pipeline.source {
            let source = source::read(kind, step, &name, &inherited.inputs, at.origin)?;
            scope.set("source.path", format!("{SOURCE_ROOT}/{}", source.file));
            scope.set("source.name", source::file_name(&source.uri));
            if !self.sources.iter().any(|present| present.file == source.file && present.uri == source.uri) {
                self.sources.push(source);
            }
        }
        self.body(&pipeline.step, At { origin: inside, scope: &scope }, inherited, out)
    }

    fn unknown_pipeline(
        &mut self,
        location: Location,
        name: String,
        inherited: &Inherited<'_>,
        test_only: bool,
    ) -> Result<(), Error> {
        match self.options.missing_pipelines {
            MissingPipelines::Refuse => {
                let nearest = self.options.pipelines.nearest(&name);
                Err(Error::UnknownPipeline { location, step: inherited.number.clone(), name, nearest })
            }
            MissingPipelines::Report => {
                self.missing.push(MissingPipeline { location, name, test_only });
                Ok(())
            }
        }
    }

    /// The script and inner steps of a step whose inputs are known.
    fn body(
        &mut self,
        step: &'a Step,
        at: At<'a, '_>,
        mut inherited: Inherited<'a>,
        out: &mut Flat,
    ) -> Result<(), Error> {
        let before = out.actions.len();
        let own = inherited.scope(at.scope);
        let here = At { scope: &own, ..at };
        inherited.enter(step, here)?;
        for package in &step.needs {
            add_all(&mut out.packages, [here.text(package)?]);
        }
        if let Some(runs) = &step.runs {
            let label = match (&inherited.name, &step.name) {
                (Some(name), _) => name.clone(),
                (None, Some(name)) if !name.is_empty() => here.text(name)?,
                _ => format!("line {}", step.position.line),
            };
            out.actions.push(Action::Run(Run {
                label,
                directory: inherited.directory.clone(),
                environment: inherited.environment.clone(),
                runs: here.text(runs)?,
            }));
        }
        let held = self.steps(&step.pipeline, at, &inherited, out)?;
        out.retry(before, step.retry);
        match step.required_steps {
            Some(required) if required != held => {
                Err(Error::RequiredSteps { location: Location::new(at.origin.file, step.position), required, held })
            }
            _ => Ok(()),
        }
    }

    /// Refuses or reports inputs that the pipeline does not declare, and refuses the lack of those that it
    /// requires.
    fn check_inputs(
        &mut self,
        step: &Step,
        name: &str,
        pipeline: &Pipeline,
        origin: Origin<'_>,
        inherited: &Inherited<'_>,
    ) -> Result<(), Error> {
        let declared = &pipeline.step.inputs;
        for (key, _) in step.with.iter().filter(|(key, _)| !declared.iter().any(|input| input.name == *key)) {
            let unknown = UnknownInput {
                location: Location::new(origin.file, key.position),
                pipeline: name.to_owned(),
                input: key.value.clone(),
                nearest: nearest(key, declared.iter().map(|input| input.name.as_str())),
            };
            match self.options.missing_pipelines {
                MissingPipelines::Report => self.unknown_inputs.push(unknown),
                MissingPipelines::Refuse => {
                    let UnknownInput { location, pipeline, input, nearest } = unknown;
                    return Err(Error::UnknownInput { location, pipeline, input, nearest });
                }
            }
        }
        match declared.iter().find(|input| input.required && input.default.is_none() && !inherited.has(&input.name)) {
            None => Ok(()),
            Some(input) => Err(Error::MissingInput {
                location: Location::new(origin.file, step.position),
                pipeline: name.to_owned(),
                input: input.name.value.clone(),
            }),
        }
    }
}

fn valid_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}
