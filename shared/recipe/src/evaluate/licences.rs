//! The licences of a definition, one by one and as one expression.

use super::Evaluator;
use crate::package::{Copyright, LicenceOperator};
use crate::plan::Licence;
use crate::substitute::Scope;

impl Evaluator<'_> {
    pub(super) fn licences(&mut self, scope: &Scope<'_>) -> Vec<Licence> {
        let mut licences = Vec::new();
        self.add_licences(&self.definition.package.copyright, scope, &mut licences);
        licences
    }

    fn add_licences(&mut self, entries: &[Copyright], scope: &Scope<'_>, out: &mut Vec<Licence>) {
        for entry in entries {
            if let Some(license) = &entry.license {
                out.push(Licence {
                    expression: self.about(license, scope),
                    path: self.optional(&entry.license_path, scope),
                    attestation: self.optional(&entry.attestation, scope),
                });
            }
            self.add_licences(&entry.licenses, scope, out);
        }
    }

    /// One SPDX expression for all the licences: joined by `AND`, or by the operator that all groups share
    /// where there is nothing but groups.
    pub(super) fn licence_expression(&mut self, scope: &Scope<'_>) -> String {
        let entries = &self.definition.package.copyright;
        let only_or = !entries.is_empty()
            && entries.iter().all(|entry| !entry.licenses.is_empty() && entry.operator == LicenceOperator::Or);
        let operator = if only_or { LicenceOperator::Or } else { LicenceOperator::And };
        self.joined(entries, operator, scope)
    }

    fn joined(&mut self, entries: &[Copyright], operator: LicenceOperator, scope: &Scope<'_>) -> String {
        let mut expressions: Vec<String> = Vec::new();
        for entry in entries {
            let expression = match &entry.license {
                Some(license) => self.about(license, scope),
                None => self.joined(&entry.licenses, entry.operator, scope),
            };
            // `AND` binds tighter than `OR`, so only the latter needs parentheses inside the former.
            let loose = operator == LicenceOperator::And && expression.contains(" OR ") && entries.len() > 1;
            let expression = if loose { format!("({expression})") } else { expression };
            if !expressions.contains(&expression) {
                expressions.push(expression);
            }
        }
        expressions.join(if operator == LicenceOperator::Or { " OR " } else { " AND " })
    }
}
