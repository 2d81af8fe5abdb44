//! From a definition to a build plan.

mod about;
mod cpe;
mod install_if;
mod licences;
mod steps;

use std::collections::BTreeMap;

use apk::Architecture;
use sha2::{Digest, Sha256};

use crate::condition;
use crate::error::{Error, nearest};
use crate::image::{Group, User};
use crate::install_if::InstallIf;
use crate::package::{Dependencies, INVALID_NAME, PackageDefinition, Subpackage, Test, valid_name};
use crate::pipelines::{Pipeline, Pipelines};
use crate::plan::{
    BuildPlan, Environment, MissingPipeline, OUTPUT_ROOT, Output, OutputDependencies, Source, TestGroup, TestPlan,
    TestUser, UnknownInput, UnknownVariable,
};
use crate::script::{labels, render};
use crate::substitute::{Origin, Scope, substitute};
use crate::text::Text;
use crate::variables::definition_scope;
use steps::{At, Flat, Inherited};

/// Which C library a build links with; it decides the machine triplets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LibraryC {
    /// musl: `x86_64-pc-linux-musl`.
    #[default]
    Musl,
    /// The GNU C library: `x86_64-pc-linux-gnu`.
    Glibc,
}

/// What to do about `uses:` of a pipeline that is not known, and about inputs that a pipeline does not declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingPipelines {
    /// An error.
    #[default]
    Refuse,
    /// Leave the step or input out and list it in [`BuildPlan::missing_pipelines`] or
    /// [`BuildPlan::unknown_inputs`]. The script of such a plan must not be run.
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
    /// Which of the definition's packages install themselves.
    pub install_if: Option<&'a InstallIf>,
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
            install_if: None,
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
        unknown_inputs: Vec::new(),
        unknown_variables: Vec::new(),
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
    unknown_inputs: Vec<UnknownInput>,
    unknown_variables: Vec<UnknownVariable>,
}

impl<'a> Evaluator<'a> {
    fn plan(&mut self, scope: &Scope<'_>) -> Result<BuildPlan, Error> {
        let definition = self.definition;
        let package = &definition.package;
        let mut build = Flat::default();
        let scope = &self.with_package_folders(scope)?;
        self.refuse_unknown_install_if(scope)?;
        let directory = format!("{OUTPUT_ROOT}/{}", package.name);
        let mut main = Scope::within(scope);
        main.set("context.name", package.name.as_str());
        main.set("targets.contextdir", directory.as_str());
        self.steps(
            &definition.pipeline,
            At { origin: self.origin, scope: &main },
            &Inherited::outermost(),
            &mut build,
        )?;

        let mut outputs = vec![self.main_output(&main, directory)?];
        for subpackage in &definition.subpackages {
            self.subpackage(subpackage, scope, &mut build, &mut outputs)?;
        }

        let mut packages = self.environment_packages(scope)?;
        add_all(&mut packages, build.packages);
        let variables = self.pairs_about(&definition.environment.environment, scope);
        let environment = Environment { packages, variables };
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
            steps: labels(&build.actions),
            outputs,
            timeout_seconds: package.timeout_seconds,
            resources: self.resources(&package.resources, scope),
            missing_pipelines: std::mem::take(&mut self.missing),
            unknown_inputs: std::mem::take(&mut self.unknown_inputs),
            unknown_variables: std::mem::take(&mut self.unknown_variables),
        })
    }

    fn main_output(&mut self, scope: &Scope<'_>, directory: String) -> Result<Output, Error> {
        let package = &self.definition.package;
        Ok(Output {
            name: package.name.value.clone(),
            description: self.about(&package.description, scope),
            url: self.about(&package.url, scope),
            commit: self.about(&package.commit, scope),
            licence: self.licence_expression(scope),
            licences: self.licences(scope),
            cpe: self.cpe(scope)?,
            dependencies: self.dependencies(&package.name, &package.dependencies, scope)?,
            options: package.options,
            scriptlets: self.scriptlets(&package.scriptlets, scope),
            capabilities: self.capabilities(&package.setcap, scope),
            annotations: self.pairs_about(&package.annotations, scope),
            disabled_checks: self.all_about(&package.disabled_checks, scope),
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
        let items = self.items(subpackage)?;
        items.into_iter().try_for_each(|item| self.one_subpackage(subpackage, scope, item, build, outputs))
    }

    /// What a subpackage is made once for: the items of its range by key, or nothing.
    fn items(&self, subpackage: &'a Subpackage) -> Result<Vec<Option<&'a (Text, Text)>>, Error> {
        let Some(range) = subpackage.range.as_ref().filter(|range| !range.is_empty()) else {
            return Ok(vec![None]);
        };
        // The last block of a name wins, as it does for melange.
        let Some(data) = self.definition.data.iter().rev().find(|data| data.name == *range) else {
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
        Ok(items.into_iter().map(Some).collect())
    }

    fn within_range<'s>(&self, scope: &'s Scope<'s>, item: Option<&(Text, Text)>) -> Result<Scope<'s>, Error> {
        let mut ranged = Scope::within(scope);
        if let Some((key, value)) = item {
            ranged.set("range.key", self.text(key, scope)?);
            ranged.set("range.value", self.text(value, scope)?);
        }
        Ok(ranged)
    }

    /// The scope with `targets.package.NAME` for the main package and every subpackage, those that a
    /// condition leaves out included.
    fn with_package_folders<'s>(&self, scope: &'s Scope<'s>) -> Result<Scope<'s>, Error> {
        let main = self.definition.package.name.as_str();
        let mut folders = Scope::within(scope);
        folders.set(format!("targets.package.{main}"), format!("{OUTPUT_ROOT}/{main}"));
        for subpackage in &self.definition.subpackages {
            for item in self.items(subpackage)? {
                let name = self.text(&subpackage.name, &self.within_range(scope, item)?)?;
                folders.set(format!("targets.package.{name}"), format!("{OUTPUT_ROOT}/{name}"));
            }
        }
        Ok(folders)
    }

    fn one_subpackage(
        &mut self,
        subpackage: &'a Subpackage,
        scope: &Scope<'_>,
        item: Option<&(Text, Text)>,
        build: &mut Flat,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Error> {
        let ranged = self.within_range(scope, item)?;
        let name = self.text(&subpackage.name, &ranged)?;
        let problem = if !valid_name(&name) {
            Some(INVALID_NAME)
        } else if outputs.iter().any(|output| output.name == name) {
            Some("another package of this definition has this name")
        } else {
            None
        };
        if let Some(reason) = problem {
            return Err(Error::Invalid {
                location: self.definition.location(subpackage.name.position),
                field: "subpackages.name".to_owned(),
                value: name,
                reason: reason.to_owned(),
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
        self.steps(&subpackage.pipeline, At { origin: self.origin, scope: &inner }, &Inherited::outermost(), build)?;
        let package = &self.definition.package;
        let or_main =
            |own: &'a Option<Text>, main: &'a Text| own.as_ref().filter(|text| !text.is_empty()).unwrap_or(main);
        outputs.push(Output {
            description: self.about(or_main(&subpackage.description, &package.description), &inner),
            url: self.about(or_main(&subpackage.url, &package.url), &inner),
            commit: self.about(or_main(&subpackage.commit, &package.commit), &inner),
            licence: self.licence_expression(&inner),
            licences: self.licences(&inner),
            cpe: None,
            dependencies: self.dependencies(&name, &subpackage.dependencies, &inner)?,
            options: subpackage.options,
            scriptlets: self.scriptlets(&subpackage.scriptlets, &inner),
            capabilities: self.capabilities(&subpackage.setcap, &inner),
            annotations: self.pairs_about(&subpackage.annotations, &inner),
            disabled_checks: self.all_about(&subpackage.disabled_checks, &inner),
            test: self.test(subpackage.test.as_ref(), &name, &inner)?,
            directory,
            name,
        });
        Ok(())
    }

    fn test(&mut self, test: Option<&'a Test>, package: &str, scope: &Scope<'_>) -> Result<Option<TestPlan>, Error> {
        let (Some(test), true) = (test, self.options.tests) else {
            return Ok(None);
        };
        let mut flat = Flat { test: true, ..Flat::default() };
        self.steps(&test.pipeline, At { origin: self.origin, scope }, &Inherited::outermost(), &mut flat)?;
        let mut packages = vec![format!("{package}={}", self.definition.full_version())];
        add_all(&mut packages, self.texts(&test.environment.contents.packages, scope)?);
        add_all(&mut packages, flat.packages);
        Ok(Some(TestPlan {
            environment: Environment { packages, variables: self.pairs_about(&test.environment.environment, scope) },
            run_as: test.environment.accounts.run_as.as_ref().map(|user| self.about(user, scope)),
            users: test.environment.accounts.users.iter().map(test_user).collect(),
            groups: test.environment.accounts.groups.iter().map(test_group).collect(),
            script: render(&[], &flat.actions),
            steps: labels(&flat.actions),
            pipelines: flat.pipelines,
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

    fn dependencies(
        &self,
        package: &str,
        dependencies: &Dependencies,
        scope: &Scope<'_>,
    ) -> Result<OutputDependencies, Error> {
        Ok(OutputDependencies {
            install_if: self.install_if(package, scope)?,
            runtime: self.texts(&dependencies.runtime, scope)?,
            provides: self.texts(&dependencies.provides, scope)?,
            replaces: self.texts(&dependencies.replaces, scope)?,
            provider_priority: self.priority("provider-priority", &dependencies.provider_priority, scope)?,
            replaces_priority: self.priority("replaces-priority", &dependencies.replaces_priority, scope)?,
        })
    }

    /// A whole number as Go reads it; less than 0 is 0, since an index has no room for a sign and apk
    /// reads what is none as 0.
    fn priority(&self, field: &str, text: &Option<Text>, scope: &Scope<'_>) -> Result<u64, Error> {
        let Some(text) = text else { return Ok(0) };
        let value = self.text(text, scope)?;
        if value.is_empty() {
            return Ok(0);
        }
        let number: Result<i64, _> = value.parse();
        number.map(|number| u64::try_from(number).unwrap_or(0)).map_err(|_| Error::Invalid {
            location: self.definition.location(text.position),
            field: format!("dependencies.{field}"),
            value,
            reason: "a whole number is expected".to_owned(),
        })
    }

    fn text(&self, text: &Text, scope: &Scope<'_>) -> Result<String, Error> {
        substitute(text, self.origin, scope)
    }

    fn texts(&self, texts: &[Text], scope: &Scope<'_>) -> Result<Vec<String>, Error> {
        texts.iter().map(|text| self.text(text, scope)).collect()
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
        if let Some(file) = self.options.install_if {
            part(&file.source);
        }
        hex::encode(hash.finalize())
    }
}

fn test_user(user: &User) -> TestUser {
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    TestUser {
        name: user.name.value.clone(),
        uid: user.uid,
        gid: user.gid.unwrap_or(user.uid),
        shell: text(&user.shell),
        home: text(&user.home),
    }
}

fn test_group(group: &Group) -> TestGroup {
    let members = group.members.iter().map(|member| member.value.clone()).collect();
    TestGroup { name: group.name.value.clone(), gid: group.gid, members }
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
