//! What vulnerability databases call the software: `package.cpe`.

use super::Evaluator;
use crate::error::Error;
use crate::substitute::Scope;
use crate::text::{Location, Text};

impl Evaluator<'_> {
    /// The formatted string of CPE 2.3 (NIST IR 7695, 6.2) with the package's version.
    pub(super) fn cpe(&self, scope: &Scope<'_>) -> Result<Option<String>, Error> {
        let package = &self.definition.package;
        let Some(cpe) = &package.cpe else { return Ok(None) };
        let value = |text: &Option<Text>, absent: &str| match text {
            Some(text) if !text.is_empty() => Ok(escaped(&self.text(text, scope)?)),
            _ => Ok::<_, Error>(absent.to_owned()),
        };
        for (field, text) in [("vendor", &cpe.vendor), ("product", &cpe.product)] {
            if text.as_ref().is_none_or(|text| text.is_empty()) {
                return Err(Error::Missing {
                    location: Location::new(self.origin.file, package.name.position),
                    section: "`package.cpe`".to_owned(),
                    field: field.to_owned(),
                });
            }
        }
        let parts = [
            value(&cpe.part, "a")?,
            value(&cpe.vendor, "*")?,
            value(&cpe.product, "*")?,
            escaped(&package.version),
            "*".to_owned(),
            value(&cpe.edition, "*")?,
            value(&cpe.language, "*")?,
            value(&cpe.software_edition, "*")?,
            value(&cpe.target_software, "*")?,
            value(&cpe.target_hardware, "*")?,
            value(&cpe.other, "*")?,
        ];
        Ok(Some(format!("cpe:2.3:{}", parts.join(":"))))
    }
}

/// A value in lower case, with `\` before what is special in a formatted string.
fn escaped(value: &str) -> String {
    if matches!(value, "*" | "-") {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len());
    for character in value.to_lowercase().chars() {
        if !(character.is_alphanumeric() || matches!(character, '_' | '-' | '.')) {
            text.push('\\');
        }
        text.push(character);
    }
    text
}
