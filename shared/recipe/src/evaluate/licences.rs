//! The licences of a definition, one by one and as one expression.

use super::Evaluator;
use crate::error::Error;
use crate::package::{Copyright, LicenceOperator};
use crate::plan::Licence;
use crate::substitute::Scope;
use crate::text::Text;

impl Evaluator<'_> {
    pub(super) fn licences(&self, scope: &Scope<'_>) -> Result<Vec<Licence>, Error> {
        let mut licences = Vec::new();
        self.add_licences(&self.definition.package.copyright, scope, &mut licences)?;
        Ok(licences)
    }

    fn add_licences(&self, entries: &[Copyright], scope: &Scope<'_>, out: &mut Vec<Licence>) -> Result<(), Error> {
        let optional = |text: &Option<Text>| text.as_ref().map(|text| self.text(text, scope)).transpose();
        for entry in entries {
            if let Some(license) = &entry.license {
                out.push(Licence {
                    expression: self.text(license, scope)?,
                    path: optional(&entry.license_path)?,
                    attestation: optional(&entry.attestation)?,
                });
            }
            self.add_licences(&entry.licenses, scope, out)?;
        }
        Ok(())
    }

    /// One SPDX expression for all the licences: joined by `AND`, or by the operator that all groups share
    /// where there is nothing but groups.
    pub(super) fn licence_expression(&self, scope: &Scope<'_>) -> Result<String, Error> {
        let entries = &self.definition.package.copyright;
        let only_or = !entries.is_empty()
            && entries.iter().all(|entry| !entry.licenses.is_empty() && entry.operator == LicenceOperator::Or);
        let operator = if only_or { LicenceOperator::Or } else { LicenceOperator::And };
        self.joined(entries, operator, scope)
    }

    fn joined(&self, entries: &[Copyright], operator: LicenceOperator, scope: &Scope<'_>) -> Result<String, Error> {
        let mut expressions: Vec<String> = Vec::new();
        for entry in entries {
            let expression = match &entry.license {
                Some(license) => self.text(license, scope)?,
                None => self.joined(&entry.licenses, entry.operator, scope)?,
            };
            // `AND` binds tighter than `OR`, so only the latter needs parentheses inside the former.
            let loose = operator == LicenceOperator::And && expression.contains(" OR ") && entries.len() > 1;
            let expression = if loose { format!("({expression})") } else { expression };
            if !expressions.contains(&expression) {
                expressions.push(expression);
            }
        }
        Ok(expressions.join(if operator == LicenceOperator::Or { " OR " } else { " AND " }))
    }
}
