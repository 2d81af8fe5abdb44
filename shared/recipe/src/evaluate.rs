//! From a definition to a build plan.

use std::collections::{BTreeMap, BTreeSet};

use apk::Architecture;
use sha2::{Digest, Sha256};

use crate::condition;
use crate::error::{Error, nearest};
use crate::package::{
    Capability, Dependencies, PackageDefinition, Resources, Scriptlets, Step, Subpackage, Test, valid_name,
};
use crate::pipelines::{Pipeline, Pipelines};
use crate::plan::{
    BuildPlan, Environment, FileCapability, Licence, MissingPipeline, OUTPUT_ROOT, Output, OutputDependencies,
    OutputScriptlets, PlannedResources, SOURCE_ROOT, Source, TestPlan, WORKSPACE,
};
use crate::script::{Action, render};
use crate::source;
use crate::substitute::{Origin, Scope, substitute};
use crate::text::{Location, Text};
use crate::variables::definition_scope;

const MAXIMUM_PIPELINE_DEPTH: usize = 16;

/// Which C library a build links with; it decides the machine triplets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LibraryC {
    /// musl: `x86_64-pc-linux-musl`.
    #[default]
    Musl,
    /// The GNU C library: `x86_64-pc-linux-gnu`.
    Glibc,
}

/// What to do about `uses:` of a pipeline that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingPipelines {
    /// An error.
    #[default]
    Refuse,
    /// Leave the step out and list it in [`BuildPlan::missing_pipelines`]. The script of such a plan must
    /// not be run.
    Report,
}

/// How to evaluate a definition.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// What to build for.
    pub architecture: Architecture,
    /// The pipelines that `uses:` may name.
    pub pipelines: &'a Pipelines,
    /// The C library.
    pub libc: LibraryC,
    /// The definition's `options` to enable.
    pub enabled_options: Vec<String>,
    /// What to do about unknown pipelines.
    pub missing_pipelines: MissingPipelines,
    /// Whether to plan the tests too.
    pub tests: bool,
}

impl<'a> Options<'a> {
    /// A musl build without options; unknown pipelines are errors, tests are planned.
    #[must_use]
    pub fn new(architecture: Architecture, pipelines: &'a Pipelines) -> Self {
        Self {
            architecture,
            pipelines,
            libc: LibraryC::default(),
            enabled_options: Vec::new(),
            missing_pipelines: MissingPipelines::default(),
            tests: true,
        }
    }
}

/// Resolves a definition into what a build fetches, runs and makes.
///
/// # Errors
///
/// A substitution that names nothing, an `if:` that can't be read, an unknown pipeline or input, a
/// missing input, a checksum that is none, a `range:` without its `data:`, two outputs of one name: each with
/// file, line and column.
pub fn evaluate(definition: &PackageDefinition, options: &Options<'_>) -> Result<BuildPlan, Error> {
    let scope = definition_scope(definition, options)?;
    let mut evaluator = Evaluator {
        definition,
        options,
        origin: Origin { file: &definition.file, source: &definition.source },
        used: BTreeMap::new(),
        sources: Vec::new(),
        missing: Vec::new(),
    };
    evaluator.plan(&scope)
}

struct Evaluator<'a> {
    definition: &'a PackageDefinition,
    options: &'a Options<'a>,
    origin: Origin<'a>,
    /// Pipelines used, by name, for the digest.
    used: BTreeMap<String, &'a Pipeline>,
    sources: Vec<Source>,
    missing: Vec<MissingPipeline>,
}

/// The steps of one pipeline as they are flattened.
#[derive(Default)]
struct Flat {
    actions: Vec<Action>,
    packages: Vec<String>,
    test: bool,
}

/// What a step takes over from the steps around it.
#[derive(Clone)]
struct Inherited<'e> {
    directory: String,
    environment: Vec<(String, String)>,
    inputs: BTreeMap<String, String>,
    /// The pipelines being expanded, outermost first.
    chain: Vec<&'e str>,
    /// Numbers of the steps around, as `2.1`.
    number: String,
    name: Option<String>,
}

impl Inherited<'_> {
    fn outermost() -> Self {
        Self {
            directory: WORKSPACE.to_owned(),
            environment: Vec::new(),
            inputs: BTreeMap::new(),
            chain: Vec::new(),
            number: String::new(),
            name: None,
        }
    }
}

impl<'a> Evaluator<'a> {
    fn plan(&mut self, scope: &Scope<'_>) -> Result<BuildPlan, Error> {
        let definition = self.definition;
        let package = &definition.package;
        let mut build = Flat::default();
        let directory = format!("{OUTPUT_ROOT}/{}", package.name);
        let mut main = Scope::within(scope);
        main.set("context.name", package.name.as_str());
        main.set("targets.contextdir", directory.as_str());
        self.steps(&definition.pipeline, self.origin, &main, &Inherited::outermost(), &mut build)?;

        let mut outputs = vec![self.main_output(&main, directory)?];
        for subpackage in &definition.subpackages {
            self.subpackage(subpackage, scope, &mut build, &mut outputs)?;
        }
        self.unique_names(&outputs)?;

        let mut packages = self.environment_packages(scope)?;
        add_all(&mut packages, build.packages);
        let environment = Environment { packages, variables: self.pairs(&definition.environment.environment, scope)? };
        let folders: Vec<String> = outputs.iter().map(|output| output.directory.clone()).collect();
        Ok(BuildPlan {
            name: package.name.value.clone(),
            version: package.version.value.clone(),
            epoch: package.epoch,
            full_version: definition.full_version(),
            architecture: self.options.architecture,
            recipe_digest: self.digest(),
            sources: std::mem::take(&mut self.sources),
            environment,
            script: render(&folders, &build.actions),
            steps: build.actions.iter().map(|action| action.label.clone()).collect(),
            outputs,
            timeout_seconds: package.timeout_seconds,
            resources: self.resources(&package.resources, scope)?,
            missing_pipelines: std::mem::take(&mut self.missing),
        })
    }

    fn main_output(&mut self, scope: &Scope<'_>, directory: String) -> Result<Output, Error> {
        let package = &self.definition.package;
        Ok(Output {
            name: package.name.value.clone(),
            description: self.text(&package.description, scope)?,
            url: self.text(&package.url, scope)?,
            commit: self.text(&package.commit, scope)?,
            licences: self.licences(scope)?,
            dependencies: self.dependencies(&package.dependencies, scope)?,
            options: package.options,
            scriptlets: self.scriptlets(&package.scriptlets, scope)?,
            capabilities: self.capabilities(&package.setcap, scope)?,
            annotations: self.pairs(&package.annotations, scope)?,
            disabled_checks: self.texts(&package.disabled_checks, scope)?,
            directory,
            test: self.test(self.definition.test.as_ref(), &package.name, scope)?,
        })
    }

    /// Adds the outputs of one `subpackages` entry: none, one, or one per item of its range.
    fn subpackage(
        &mut self,
        subpackage: &'a Subpackage,
        scope: &Scope<'_>,
        build: &mut Flat,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Error> {
        let Some(range) = &subpackage.range else {
            return self.one_subpackage(subpackage, scope, None, build, outputs);
        };
        let Some(data) = self.definition.data.iter().find(|data| data.name == *range) else {
            let known = nearest(range, self.definition.data.iter().map(|data| data.name.as_str()));
            let known = known.first().map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
            return Err(Error::Invalid {
                location: self.definition.location(range.position),
                field: "subpackages.range".to_owned(),
                value: range.value.clone(),
                reason: format!("no `data` block has this name{known}"),
            });
        };
        let mut items: Vec<&(Text, Text)> = data.items.iter().collect();
        items.sort_by(|a, b| a.0.value.cmp(&b.0.value));
        items.into_iter().try_for_each(|item| self.one_subpackage(subpackage, scope, Some(item), build, outputs))
    }

    fn one_subpackage(
        &mut self,
        subpackage: &'a Subpackage,
        scope: &Scope<'_>,
        item: Option<&(Text, Text)>,
        build: &mut Flat,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Error> {
        let mut ranged = Scope::within(scope);
        if let Some((key, value)) = item {
            ranged.set("range.key", self.text(key, scope)?);
            ranged.set("range.value", self.text(value, scope)?);
        }
        let name = self.text(&subpackage.name, &ranged)?;
        if !valid_name(&name) {
            return Err(Error::Invalid {
                location: self.definition.location(subpackage.name.position),
                field: "subpackages.name".to_owned(),
                value: name,
                reason: "a name has letters, digits and `._+-`, and starts with a letter or digit".to_owned(),
            });
        }
        let directory = format!("{OUTPUT_ROOT}/{name}");
        let mut inner = Scope::within(&ranged);
        inner.set("subpkg.name", name.as_str());
        inner.set("context.name", name.as_str());
        inner.set("targets.subpkgdir", directory.as_str());
        inner.set("targets.contextdir", directory.as_str());
        if let Some(condition) = &subpackage.condition
            && !condition.trim().is_empty()
            && !condition::holds(condition, self.origin, &inner)?
        {
            return Ok(());
        }
        self.steps(&subpackage.pipeline, self.origin, &inner, &Inherited::outermost(), build)?;
        let package = &self.definition.package;
        let or_main =
            |own: &'a Option<Text>, main: &'a Text| own.as_ref().filter(|text| !text.is_empty()).unwrap_or(main);
        outputs.push(Output {
            description: self.text(or_main(&subpackage.description, &package.description), &inner)?,
            url: self.text(or_main(&subpackage.url, &package.url), &inner)?,
            commit: self.text(or_main(&subpackage.commit, &package.commit), &inner)?,
            licences: self.licences(&inner)?,
            dependencies: self.dependencies(&subpackage.dependencies, &inner)?,
            options: subpackage.options,
            scriptlets: self.scriptlets(&subpackage.scriptlets, &inner)?,
            capabilities: self.capabilities(&subpackage.setcap, &inner)?,
            annotations: self.pairs(&subpackage.annotations, &inner)?,
            disabled_checks: self.texts(&subpackage.disabled_checks, &inner)?,
            test: self.test(subpackage.test.as_ref(), &name, &inner)?,
            directory,
            name,
        });
        Ok(())
    }

    fn unique_names(&self, outputs: &[Output]) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        match outputs.iter().find(|output| !seen.insert(output.name.as_str())) {
            None => Ok(()),
            Some(output) => Err(Error::DuplicatePackage {
                package: output.name.clone(),
                first: self.definition.file.clone(),
                second: self.definition.file.clone(),
            }),
        }
    }

    fn steps(
        &mut self,
        steps: &'a [Step],
        origin: Origin<'a>,
        scope: &Scope<'_>,
        inherited: &Inherited<'a>,
        out: &mut Flat,
    ) -> Result<(), Error> {
        for (index, step) in steps.iter().enumerate() {
            let number = index + 1;
            let number =
                if inherited.number.is_empty() { number.to_string() } else { format!("{}.{number}", inherited.number) };
            self.step(step, origin, scope, inherited, number, out)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        step: &'a Step,
        origin: Origin<'a>,
        scope: &Scope<'_>,
        inherited: &Inherited<'a>,
        number: String,
        out: &mut Flat,
    ) -> Result<(), Error> {
        let mut own = Scope::within(scope);
        for (name, value) in &inherited.inputs {
            own.set(format!("inputs.{name}"), value.as_str());
        }
        if let Some(condition) = &step.condition
            && !condition::holds(condition, origin, &own)?
        {
            return Ok(());
        }
        let mut inherited = Inherited { number, ..inherited.clone() };
        let given = resolve_pairs(&step.with, origin, &own)?;
        if step.uses.is_none() {
            inherited.inputs.extend(given);
            self.defaults(step, "this step", origin, &own, &mut inherited.inputs)?;
            return self.body(step, origin, scope, inherited, out);
        }
        let Some(uses) = &step.uses else {
            return Ok(());
        };
        self.uses(step, uses, given, origin, &own, inherited, out)
    }

    #[allow(clippy::too_many_arguments)]
    fn uses(
        &mut self,
        step: &'a Step,
        uses: &'a Text,
        given: Vec<(String, String)>,
        origin: Origin<'a>,
        own: &Scope<'_>,
        mut inherited: Inherited<'a>,
        out: &mut Flat,
    ) -> Result<(), Error> {
        let location = Location::new(origin.file, uses.position);
        if let Some(runs) = &step.runs {
            return Err(Error::Invalid {
                location: Location::new(origin.file, runs.position),
                field: "runs".to_owned(),
                value: runs.lines().next().unwrap_or_default().to_owned(),
                reason: "a step has `uses` or `runs`, not both; make it two steps".to_owned(),
            });
        }
        let name = substitute(uses, origin, own)?;
        let Some(pipeline) = self.options.pipelines.get(&name) else {
            return self.unknown_pipeline(location, name, &inherited, out.test);
        };
        if inherited.chain.len() >= MAXIMUM_PIPELINE_DEPTH {
            let chain = inherited.chain.iter().copied().chain([uses.as_str()]).collect::<Vec<_>>().join(" -> ");
            return Err(Error::PipelineDepth { location, limit: MAXIMUM_PIPELINE_DEPTH, chain });
        }
        for (key, _) in &step.with {
            if !pipeline.step.inputs.iter().any(|input| input.name == *key) {
                return Err(Error::UnknownInput {
                    location: Location::new(origin.file, key.position),
                    pipeline: name,
                    input: key.value.clone(),
                    nearest: nearest(key, pipeline.step.inputs.iter().map(|input| input.name.as_str())),
                });
            }
        }
        // What the step gives wins over what the steps around it were given, empty counts as not given.
        inherited.inputs.extend(given);
        let place = Origin { file: &pipeline.file, source: &pipeline.text };
        for input in &pipeline.step.inputs {
            let present = inherited.inputs.get(input.name.as_str()).is_some_and(|value| !value.is_empty());
            if input.required && !present && input.default.is_none() {
                let input = input.name.value.clone();
                let location = Location::new(origin.file, step.position);
                return Err(Error::MissingInput { location, pipeline: name, input });
            }
        }
        self.defaults(&pipeline.step, &name, place, own, &mut inherited.inputs)?;
        inherited.environment.extend(resolve_pairs(&step.environment, origin, own)?);
        if let Some(directory) = &step.working_directory {
            inherited.directory = absolute(&substitute(directory, origin, own)?);
        }
        inherited.name = Some(match &step.name {
            Some(name) if !name.is_empty() => substitute(name, origin, own)?,
            _ => name.clone(),
        });
        inherited.chain.push(uses.as_str());
        self.used.insert(name.clone(), pipeline);

        let mut inner = Scope::within(own);
        if let Some(kind) = pipeline.source {
            let read =
                source::read(kind, step, &name, &inherited.inputs, Location::new(origin.file, step.position), origin)?;
            inner.set("source.path", format!("{SOURCE_ROOT}/{}", read.file));
            inner.set("source.name", source::file_name(&read.uri));
            if !self.sources.iter().any(|present| present.file == read.file && present.uri == read.uri) {
                self.sources.push(read);
            }
        }
        for package in &step.needs {
            add_all(&mut out.packages, [substitute(package, origin, own)?]);
        }
        self.body(&pipeline.step, place, &inner, inherited, out)
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

    /// Gives every declared input that is absent or empty its default.
    fn defaults(
        &self,
        step: &Step,
        pipeline: &str,
        origin: Origin<'_>,
        scope: &Scope<'_>,
        inputs: &mut BTreeMap<String, String>,
    ) -> Result<(), Error> {
        for input in &step.inputs {
            if inputs.get(input.name.as_str()).is_some_and(|value| !value.is_empty()) {
                continue;
            }
            let value = match &input.default {
                Some(default) => {
                    // A default may name another input.
                    let mut with_inputs = Scope::within(scope);
                    for (name, value) in inputs.iter() {
                        with_inputs.set(format!("inputs.{name}"), value.as_str());
                    }
                    substitute(default, origin, &with_inputs)?
                }
                None => String::new(),
            };
            if input.required && value.is_empty() {
                return Err(Error::MissingInput {
                    location: Location::new(origin.file, input.name.position),
                    pipeline: pipeline.to_owned(),
                    input: input.name.value.clone(),
                });
            }
            inputs.insert(input.name.value.clone(), value);
        }
        Ok(())
    }

    /// The script and inner steps of a step whose inputs are known.
    fn body(
        &mut self,
        step: &'a Step,
        origin: Origin<'a>,
        scope: &Scope<'_>,
        mut inherited: Inherited<'a>,
        out: &mut Flat,
    ) -> Result<(), Error> {
        let mut inner = Scope::within(scope);
        for (name, value) in &inherited.inputs {
            inner.set(format!("inputs.{name}"), value.as_str());
        }
        for (name, value) in resolve_pairs(&step.environment, origin, &inner)? {
            inherited.environment.retain(|(present, _)| *present != name);
            inherited.environment.push((name, value));
        }
        if let Some(directory) = &step.working_directory {
            inherited.directory = absolute(&substitute(directory, origin, &inner)?);
        }
        let mut needs = Vec::new();
        for package in &step.needs {
            needs.push(substitute(package, origin, &inner)?);
        }
        add_all(&mut out.packages, needs);
        if let Some(runs) = &step.runs {
            let label = match (&inherited.name, &step.name) {
                (Some(name), _) => name.clone(),
                (None, Some(name)) if !name.is_empty() => substitute(name, origin, &inner)?,
                _ => format!("line {}", step.position.line),
            };
            for (name, _) in &inherited.environment {
                if !valid_variable(name) {
                    return Err(Error::Invalid {
                        location: Location::new(origin.file, step.position),
                        field: "environment".to_owned(),
                        value: name.clone(),
                        reason: "a variable's name has letters, digits and `_` only".to_owned(),
                    });
                }
            }
            out.actions.push(Action {
                label,
                directory: inherited.directory.clone(),
                environment: inherited.environment.clone(),
                runs: substitute(runs, origin, &inner)?,
            });
        }
        self.steps(&step.pipeline, origin, scope, &inherited, out)
    }

    fn test(&mut self, test: Option<&'a Test>, package: &str, scope: &Scope<'_>) -> Result<Option<TestPlan>, Error> {
        let (Some(test), true) = (test, self.options.tests) else {
            return Ok(None);
        };
        let mut flat = Flat { test: true, ..Flat::default() };
        self.steps(&test.pipeline, self.origin, scope, &Inherited::outermost(), &mut flat)?;
        let mut packages = vec![format!("{package}={}", self.definition.full_version())];
        add_all(&mut packages, self.texts(&test.environment.contents.packages, scope)?);
        add_all(&mut packages, flat.packages);
        Ok(Some(TestPlan {
            environment: Environment { packages, variables: self.pairs(&test.environment.environment, scope)? },
            run_as: test.environment.accounts.run_as.as_ref().map(|user| self.text(user, scope)).transpose()?,
            script: render(&[], &flat.actions),
            steps: flat.actions.iter().map(|action| action.label.clone()).collect(),
        }))
    }

    fn environment_packages(&self, scope: &Scope<'_>) -> Result<Vec<String>, Error> {
        let mut packages = Vec::new();
        add_all(&mut packages, self.texts(&self.definition.environment.contents.packages, scope)?);
        for (name, option) in &self.definition.options {
            if self.options.enabled_options.iter().any(|enabled| *name == enabled.as_str()) {
                let removed = self.texts(&option.remove_packages, scope)?;
                packages.retain(|package| !removed.contains(package));
                add_all(&mut packages, self.texts(&option.add_packages, scope)?);
            }
        }
        Ok(packages)
    }

    fn licences(&self, scope: &Scope<'_>) -> Result<Vec<Licence>, Error> {
        let optional = |text: &Option<Text>| text.as_ref().map(|text| self.text(text, scope)).transpose();
        self.definition
            .package
            .copyright
            .iter()
            .map(|copyright| {
                Ok(Licence {
                    expression: self.text(&copyright.license, scope)?,
                    path: optional(&copyright.license_path)?,
                    attestation: optional(&copyright.attestation)?,
                })
            })
            .collect()
    }

    fn dependencies(&self, dependencies: &Dependencies, scope: &Scope<'_>) -> Result<OutputDependencies, Error> {
        Ok(OutputDependencies {
            runtime: self.texts(&dependencies.runtime, scope)?,
            provides: self.texts(&dependencies.provides, scope)?,
            replaces: self.texts(&dependencies.replaces, scope)?,
            provider_priority: self.priority("provider-priority", &dependencies.provider_priority, scope)?,
            replaces_priority: self.priority("replaces-priority", &dependencies.replaces_priority, scope)?,
        })
    }

    fn priority(&self, field: &str, text: &Option<Text>, scope: &Scope<'_>) -> Result<u64, Error> {
        let Some(text) = text else { return Ok(0) };
        let value = self.text(text, scope)?;
        if value.is_empty() {
            return Ok(0);
        }
        value.parse().map_err(|_| Error::Invalid {
            location: self.definition.location(text.position),
            field: format!("dependencies.{field}"),
            value,
            reason: "a whole number of 0 or more is expected".to_owned(),
        })
    }

    fn scriptlets(&self, scriptlets: &Scriptlets, scope: &Scope<'_>) -> Result<OutputScriptlets, Error> {
        let optional = |text: &Option<Text>| text.as_ref().map(|text| self.text(text, scope)).transpose();
        Ok(OutputScriptlets {
            trigger: match &scriptlets.trigger {
                Some((paths, script)) => Some((self.texts(paths, scope)?, self.text(script, scope)?)),
                None => None,
            },
            pre_install: optional(&scriptlets.pre_install)?,
            post_install: optional(&scriptlets.post_install)?,
            pre_deinstall: optional(&scriptlets.pre_deinstall)?,
            post_deinstall: optional(&scriptlets.post_deinstall)?,
            pre_upgrade: optional(&scriptlets.pre_upgrade)?,
            post_upgrade: optional(&scriptlets.post_upgrade)?,
        })
    }

    fn capabilities(&self, capabilities: &[Capability], scope: &Scope<'_>) -> Result<Vec<FileCapability>, Error> {
        capabilities
            .iter()
            .map(|capability| {
                Ok(FileCapability {
                    path: self.text(&capability.path, scope)?,
                    add: self.pairs(&capability.add, scope)?,
                })
            })
            .collect()
    }

    fn resources(&self, resources: &Resources, scope: &Scope<'_>) -> Result<PlannedResources, Error> {
        let optional = |text: &Option<Text>| text.as_ref().map(|text| self.text(text, scope)).transpose();
        Ok(PlannedResources {
            cpu: optional(&resources.cpu)?,
            cpu_model: optional(&resources.cpu_model)?,
            memory: optional(&resources.memory)?,
            disk: optional(&resources.disk)?,
        })
    }

    fn text(&self, text: &Text, scope: &Scope<'_>) -> Result<String, Error> {
        substitute(text, self.origin, scope)
    }

    fn texts(&self, texts: &[Text], scope: &Scope<'_>) -> Result<Vec<String>, Error> {
        texts.iter().map(|text| self.text(text, scope)).collect()
    }

    fn pairs(&self, pairs: &[(Text, Text)], scope: &Scope<'_>) -> Result<Vec<(String, String)>, Error> {
        resolve_pairs(pairs, self.origin, scope)
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        part(&self.definition.source);
        for (name, pipeline) in &self.used {
            part(name);
            part(&pipeline.text);
        }
        hex::encode(hash.finalize())
    }
}

fn resolve_pairs(
    pairs: &[(Text, Text)],
    origin: Origin<'_>,
    scope: &Scope<'_>,
) -> Result<Vec<(String, String)>, Error> {
    pairs.iter().map(|(name, value)| Ok((name.value.clone(), substitute(value, origin, scope)?))).collect()
}

fn add_all(to: &mut Vec<String>, from: impl IntoIterator<Item = String>) {
    for item in from {
        if !item.is_empty() && !to.contains(&item) {
            to.push(item);
        }
    }
}

fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("{WORKSPACE}/{directory}") }
}

fn valid_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}
