//! The variables of a definition: `package.*`, `vars.*` with their transforms, machine and options.

use std::collections::BTreeMap;

use apk::Architecture;
use regex::Regex;

use crate::error::{Error, nearest};
use crate::evaluate::{LibraryC, Options};
use crate::package::PackageDefinition;
use crate::plan::{OUTPUT_ROOT, WORKSPACE};
use crate::substitute::{Origin, Scope, substitute_known, substitute_with};
use crate::text::{Location, Text};

/// Everything that holds for the whole definition.
pub(crate) fn definition_scope(definition: &PackageDefinition, options: &Options<'_>) -> Result<Scope<'static>, Error> {
    let mut scope = Scope::default();
    let package = &definition.package;
    let full_version = definition.full_version();
    for (name, value) in [
        ("package.name", package.name.as_str()),
        ("package.version", package.version.as_str()),
        ("package.full-version", full_version.as_str()),
        ("package.epoch", package.epoch.to_string().as_str()),
        ("package.srcdir", WORKSPACE),
        ("targets.outdir", OUTPUT_ROOT),
        ("targets.destdir", format!("{OUTPUT_ROOT}/{}", package.name).as_str()),
        ("build.arch", options.architecture.apk()),
        ("build.goarch", options.architecture.oci()),
    ] {
        scope.set(name, value);
    }
    let libc = match options.libc {
        LibraryC::Glibc => "gnu",
        LibraryC::Musl => "musl",
    };
    scope.set("host.triplet.gnu", gnu_triplet(options.architecture, libc));
    scope.set("host.triplet.rust", rust_triplet(options.architecture, libc));
    for (flavour, suffix) in [("glibc", "gnu"), ("musl", "musl")] {
        scope.set(format!("cross.triplet.gnu.{flavour}"), gnu_triplet(options.architecture, suffix));
        scope.set(format!("cross.triplet.rust.{flavour}"), rust_triplet(options.architecture, suffix));
    }
    for (name, _) in &definition.options {
        let enabled = options.enabled_options.iter().any(|enabled| *name == enabled.as_str());
        scope.set(format!("options.{name}.enabled"), if enabled { "true" } else { "false" });
    }
    let variables = Variables::new(definition, &options.enabled_options)?;
    let mut memory = BTreeMap::new();
    for index in 0..variables.entries.len() {
        variables.resolve(index, &scope, &mut memory, &mut Vec::new())?;
    }
    // Later entries of one name win: options over `vars`, transforms over both.
    for (index, entry) in variables.entries.iter().enumerate() {
        if let Some(value) = memory.get(&index) {
            scope.set(format!("vars.{}", entry.name), value.clone());
        }
    }
    let (description, _) = substitute_known(&package.description, variables.origin, &scope);
    scope.set("package.description", description);
    Ok(scope)
}

fn gnu_triplet(architecture: Architecture, libc: &str) -> String {
    match architecture {
        Architecture::X86_64 => format!("x86_64-pc-linux-{libc}"),
        Architecture::Aarch64 => format!("aarch64-unknown-linux-{libc}"),
    }
}

fn rust_triplet(architecture: Architecture, libc: &str) -> String {
    format!("{}-unknown-linux-{libc}", architecture.apk())
}

struct Entry<'a> {
    name: &'a str,
    template: &'a Text,
    transform: Option<(Regex, &'a str)>,
}

/// `vars`, those of enabled options, and `var-transforms`.
pub(crate) struct Variables<'a> {
    pub(crate) origin: Origin<'a>,
    entries: Vec<Entry<'a>>,
    /// Where the transforms start in `entries`.
    transforms: usize,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(definition: &'a PackageDefinition, enabled_options: &[String]) -> Result<Self, Error> {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        let enabled = definition
            .options
            .iter()
            .filter(|(name, _)| enabled_options.iter().any(|enabled| *name == enabled.as_str()));
        let of_options = enabled.flat_map(|(_, option)| option.variables.iter());
        for (name, template) in definition.variables.iter().chain(of_options) {
            entries.push(Entry { name, template, transform: None });
        }
        let transforms = entries.len();
        for transform in &definition.variable_transforms {
            let pattern = pattern::compile(&transform.pattern).map_err(|error| Error::Invalid {
                location: definition.location(transform.pattern.position),
                field: "var-transforms.match".to_owned(),
                value: transform.pattern.value.clone(),
                reason: error.to_string(),
            })?;
            entries.push(Entry {
                name: &transform.to,
                template: &transform.from,
                transform: Some((pattern, &transform.replace)),
            });
        }
        Ok(Self { origin: Origin { file: &definition.file, source: &definition.source }, entries, transforms })
    }

    /// The entry that `vars.NAME` means inside entry `user`: a transform sees what was defined before it,
    /// everything else sees the last definition.
    fn find(&self, name: &str, user: usize) -> Option<usize> {
        let before = if user >= self.transforms { user } else { self.entries.len() };
        let position = |range: std::ops::Range<usize>| {
            range.rev().find(|index| self.entries.get(*index).is_some_and(|entry| entry.name == name))
        };
        position(0..before)
            .filter(|index| *index != user)
            .or_else(|| position(before..self.entries.len()).filter(|index| *index != user))
    }

    /// The value of a name that is used outside of the variables themselves.
    pub(crate) fn lookup(
        &self,
        name: &str,
        scope: &Scope<'_>,
        memory: &mut BTreeMap<usize, String>,
    ) -> Result<Option<String>, Error> {
        let outside = self.entries.len();
        match name.strip_prefix("vars.").and_then(|name| self.find(name, outside)) {
            Some(index) => self.resolve(index, scope, memory, &mut Vec::new()).map(Some),
            None => Ok(scope.get(name).map(str::to_owned)),
        }
    }

    fn resolve(
        &self,
        index: usize,
        scope: &Scope<'_>,
        memory: &mut BTreeMap<usize, String>,
        open: &mut Vec<usize>,
    ) -> Result<String, Error> {
        if let Some(value) = memory.get(&index) {
            return Ok(value.clone());
        }
        let Some(entry) = self.entries.get(index) else {
            return Ok(String::new());
        };
        let location = || Location::new(self.origin.file, entry.template.position);
        if open.contains(&index) || open.len() > 64 {
            let chain =
                open.iter().chain([&index]).filter_map(|index| self.entries.get(*index)).map(|entry| entry.name);
            return Err(Error::VariableCycle {
                location: location(),
                name: format!("vars.{}", entry.name),
                chain: chain.collect::<Vec<_>>().join(" -> "),
            });
        }
        open.push(index);
        let resolved = substitute_with(entry.template, self.origin, |name| {
            match name.strip_prefix("vars.").and_then(|name| self.find(name, index)) {
                Some(other) => self.resolve(other, scope, memory, open).map(Some),
                None => Ok(scope.get(name).map(str::to_owned)),
            }
        })
        .map_err(|error| self.with_hint(error))?;
        open.pop();
        let value = match &entry.transform {
            Some((pattern, replacement)) => pattern.replace_all(&resolved, *replacement).into_owned(),
            None => resolved,
        };
        memory.insert(index, value.clone());
        Ok(value)
    }

    pub(crate) fn with_hint(&self, error: Error) -> Error {
        match error {
            Error::UnknownVariable { location, name, nearest: known } if known.is_empty() => {
                let names: Vec<String> = self.entries.iter().map(|entry| format!("vars.{}", entry.name)).collect();
                let known = nearest(
                    &name,
                    names.iter().map(String::as_str).chain([
                        "package.version",
                        "package.name",
                        "package.full-version",
                        "package.epoch",
                        "build.arch",
                    ]),
                );
                Error::UnknownVariable { location, name, nearest: known }
            }
            other => other,
        }
    }
}
