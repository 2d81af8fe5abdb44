//! `${{...}}` substitution.

use std::collections::BTreeMap;

use crate::error::{Error, nearest};
use crate::plan::UnknownVariable;
use crate::text::{Location, Position, Text};

/// The text that a [`Text`] was read from, so that an error inside a long script can name its own line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) file: &'a str,
    pub(crate) source: &'a str,
}

impl Origin<'_> {
    /// The place of the `occurrence`th (from 0) `token` at or after `from`; `from` itself where YAML
    /// folding or escapes keep the token from being found.
    fn find(&self, token: &str, occurrence: usize, from: Position) -> Location {
        let Some(rest) = self.source.get(from.offset..) else {
            return Location::new(self.file, from);
        };
        let Some((offset, _)) = rest.match_indices(token).nth(occurrence) else {
            return Location::new(self.file, from);
        };
        let before = rest.get(..offset).unwrap_or_default();
        let line = from.line + before.matches('\n').count();
        let column = match before.rsplit_once('\n') {
            Some((_, tail)) => tail.chars().count() + 1,
            None => from.column + before.chars().count(),
        };
        Location { file: self.file.to_owned(), line, column }
    }
}

/// Variables in force, each scope falling back to the one around it. Values are already resolved and
/// are never read for substitutions again.
#[derive(Debug, Default)]
pub(crate) struct Scope<'a> {
    values: BTreeMap<String, String>,
    parent: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn within(parent: &'a Scope<'a>) -> Self {
        Self { values: BTreeMap::new(), parent: Some(parent) }
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(value) => Some(value),
            None => self.parent.and_then(|parent| parent.get(name)),
        }
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.values.keys().map(String::as_str).collect();
        if let Some(parent) = self.parent {
            names.extend(parent.names());
        }
        names
    }
}

/// A template cut into its literal and variable parts.
pub(crate) enum Part<'t> {
    Literal(&'t str),
    /// The name between the braces, and the whole `${{...}}`.
    Variable(&'t str, &'t str),
}

/// Cuts a template. An opening without its closing is literal text, as a shell may hold one.
pub(crate) fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("${{") {
        let (literal, tail) = rest.split_at(start);
        let Some(length) = tail.find("}}") else { break };
        let (token, after) = tail.split_at(length + 2);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let name = token.trim_start_matches("${{").trim_end_matches("}}").trim();
        parts.push(Part::Variable(name, token));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// Resolves every `${{...}}` of `text`.
pub(crate) fn substitute(text: &Text, origin: Origin<'_>, scope: &Scope<'_>) -> Result<String, Error> {
    substitute_with(text, origin, |name| match scope.get(name) {
        Some(value) => Ok(Some(value.to_owned())),
        None => Ok(None),
    })
    .map_err(|error| with_hint(error, scope))
}

fn with_hint(error: Error, scope: &Scope<'_>) -> Error {
    match error {
        Error::UnknownVariable { location, name, .. } => {
            let nearest = nearest(&name, scope.names());
            Error::UnknownVariable { location, name, nearest }
        }
        other => other,
    }
}

/// Resolves what has a value; the rest stays as it is written, and is returned by name with its place.
pub(crate) fn substitute_known(text: &Text, origin: Origin<'_>, scope: &Scope<'_>) -> (String, Vec<UnknownVariable>) {
    let mut out = String::with_capacity(text.value.len());
    let mut unknown: Vec<UnknownVariable> = Vec::new();
    for part in parts(&text.value) {
        match part {
            Part::Literal(literal) => out.push_str(literal),
            Part::Variable(name, token) => match scope.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str(token);
                    let before = unknown.iter().filter(|known| known.name == name).count();
                    unknown.push(UnknownVariable {
                        location: origin.find(token, before, text.position),
                        name: name.to_owned(),
                        nearest: nearest(name, scope.names()),
                    });
                }
            },
        }
    }
    (out, unknown)
}

pub(crate) fn substitute_with(
    text: &Text,
    origin: Origin<'_>,
    mut lookup: impl FnMut(&str) -> Result<Option<String>, Error>,
) -> Result<String, Error> {
    if !text.value.contains("${{") {
        return Ok(text.value.clone());
    }
    let mut out = String::with_capacity(text.value.len());
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for part in parts(&text.value) {
        match part {
            Part::Literal(literal) => out.push_str(literal),
            Part::Variable(name, token) => {
                let occurrence = seen.entry(token).or_insert(0);
                match lookup(name)? {
                    Some(value) => out.push_str(&value),
                    None => {
                        let location = origin.find(token, *occurrence, text.position);
                        return Err(Error::UnknownVariable { location, name: name.to_owned(), nearest: Vec::new() });
                    }
                }
                *occurrence += 1;
            }
        }
    }
    Ok(out)
}

/// A shell word that means exactly `value`.
pub(crate) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}
