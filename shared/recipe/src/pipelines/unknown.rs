//! Keys of pipeline files that mean nothing: melange reads past them, so they are taken out and told.

use std::fmt;

use crate::error::nearest;
use crate::package::STEP;
use crate::text::{Location, Text};
use crate::yaml::{Node, Value};

/// A key of a pipeline file that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// Where it stands.
    pub location: Location,
    /// The key.
    pub key: String,
    /// Similar keys that have an effect there.
    pub nearest: Vec<String>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "key `{}` has no effect in a pipeline", self.key)?;
        match self.nearest.first() {
            Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
            None => formatter.write_str("; take it out"),
        }
    }
}

/// Takes the unknown keys out of a pipeline, or a step of one, and of what is in it.
pub(super) fn take(node: &mut Node, file: &str, out: &mut Vec<UnknownKey>) {
    keep(node, &[STEP, &["description"]].concat(), file, out);
    for (key, inner) in entries(node) {
        match key.as_str() {
            "pipeline" => {
                if let Value::Sequence(steps) = &mut inner.value {
                    steps.iter_mut().for_each(|step| take(step, file, out));
                }
            }
            "inputs" => {
                entries(inner).for_each(|(_, input)| keep(input, &["description", "default", "required"], file, out))
            }
            "needs" => keep(inner, &["packages", "capabilities"], file, out),
            "assertions" => keep(inner, &["required-steps"], file, out),
            _ => {}
        }
    }
}

fn entries(node: &mut Node) -> impl Iterator<Item = (&Text, &mut Node)> {
    let entries = match &mut node.value {
        Value::Mapping(entries) => entries.as_mut_slice(),
        _ => &mut [],
    };
    entries.iter_mut().map(|(key, node)| (&*key, node))
}

fn keep(node: &mut Node, known: &[&str], file: &str, out: &mut Vec<UnknownKey>) {
    let Value::Mapping(entries) = &mut node.value else { return };
    entries.retain(|(key, _)| {
        let is_known = known.contains(&key.as_str());
        if !is_known {
            out.push(UnknownKey {
                location: Location::new(file, key.position),
                key: key.value.clone(),
                nearest: nearest(key, known.iter().copied()),
            });
        }
        is_known
    });
}
