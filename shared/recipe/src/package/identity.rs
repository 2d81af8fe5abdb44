//! The name and version of a package, which may be written with substitutions.

use super::PackageDefinition;
use crate::error::Error;
use crate::substitute::{Scope, substitute_with};
use crate::text::Text;
use crate::variables::Variables;

/// What is said of a name that is none.
pub(crate) const INVALID_NAME: &str = "a name has letters, digits and `._+-`, and starts with a letter or digit";

/// Names become file names and shell words, so nothing that either would read otherwise.
pub(crate) fn valid_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "._+-".contains(character))
}

/// Makes the substitutions of `package.version` and `package.name`, which may come from `vars`,
/// `var-transforms` and each other, and refuses what is no name or version then.
pub(super) fn resolve(definition: &mut PackageDefinition) -> Result<(), Error> {
    let package = &definition.package;
    let templated = |text: &Text| text.contains("${{");
    let mut scope = Scope::default();
    scope.set("package.epoch", package.epoch.to_string());
    let name = if templated(&package.name) { None } else { Some(package.name.value.clone()) };
    if let Some(name) = &name {
        scope.set("package.name", name.as_str());
    }
    let version = resolved(definition, "package.version", &package.version, &scope)?;
    scope.set("package.version", version.as_str());
    scope.set("package.full-version", format!("{version}-r{}", package.epoch));
    let name = match name {
        Some(name) => name,
        None => resolved(definition, "package.name", &package.name, &scope)?,
    };
    let invalid = |field: &str, written: &Text, value: &str, reason: &str| Error::Invalid {
        location: definition.location(written.position),
        field: format!("package.{field}"),
        value: value.to_owned(),
        reason: reason.to_owned(),
    };
    if !valid_name(&name) {
        return Err(invalid("name", &package.name, &name, INVALID_NAME));
    }
    let in_version = |character: char| character.is_ascii_alphanumeric() || "._-+~".contains(character);
    if version.is_empty() || !version.chars().all(in_version) {
        let reason = "a version has digits, letters, `.` and `_` only";
        return Err(invalid("version", &package.version, &version, reason));
    }
    definition.package.name.value = name;
    definition.package.version.value = version;
    Ok(())
}

fn resolved(definition: &PackageDefinition, field: &str, text: &Text, scope: &Scope<'_>) -> Result<String, Error> {
    if !text.contains("${{") {
        return Ok(text.value.clone());
    }
    let variables = Variables::new(definition, &[])?;
    let mut memory = Default::default();
    let value = substitute_with(text, variables.origin, |name| variables.lookup(name, scope, &mut memory));
    value.map_err(|error| match error {
        Error::UnknownVariable { location, name, .. }
            if matches!(name.as_str(), "package.name" | "package.version" | "package.full-version") =>
        {
            Error::VariableCycle { location, chain: format!("{field} -> {name}"), name: field.to_owned() }
        }
        error => variables.with_hint(error),
    })
}
