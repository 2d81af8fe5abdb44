use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spdx::lexer::{Lexer, Token};
use spdx::{Expression, ParseMode};

use crate::document::NO_ASSERTION;
use crate::identifier::sanitised;

/// What a licence expression may hold: SPDX 2.3 keeps deprecated identifiers, and `GPL-2.0+`.
const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: false,
    allow_imprecise_license_names: false,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: true,
};

/// A licence that is not on the SPDX list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Extracted {
    #[serde(rename = "licenseId")]
    pub id: String,
    pub extracted_text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The licences of one document that are not on the SPDX list, by identifier.
#[derive(Default)]
pub(crate) struct Extractions {
    by_id: BTreeMap<String, Extracted>,
    texts: BTreeMap<String, String>,
}

impl Extractions {
    /// Makes a licence's text known before [`Extractions::declared`] names it. What the SPDX list
    /// has needs none: a document may only extract `LicenseRef-...`. In an expression the text is
    /// that of the one licence which the list lacks.
    pub fn know(&mut self, license: &str, text: &str) {
        let mut own = Vec::new();
        for item in Lexer::new_mode(license, MODE).flatten() {
            if let Token::Unknown(_) | Token::LicenseRef { doc_ref: None, .. } = item.token {
                own.extend(license.get(item.span));
            }
        }
        let name = match own.as_slice() {
            [only] => only,
            _ => license,
        };
        self.texts.insert(reference_id(name), text.to_owned());
    }

    /// The declared licence of a package: its `license` values as one SPDX expression.
    ///
    /// Values that are expressions are joined with `AND`; names that the SPDX list lacks become
    /// `LicenseRef-...`, and so does a whole value that is no expression.
    pub fn declared(&mut self, licenses: &[String]) -> String {
        let expressions: Vec<String> = licenses
            .iter()
            .map(|license| license.trim())
            .filter(|license| !license.is_empty())
            .map(|license| self.expression(license))
            .filter(|license| license != NO_ASSERTION)
            .collect();
        match expressions.as_slice() {
            [] => NO_ASSERTION.to_owned(),
            [only] => only.clone(),
            several => several
                .iter()
                .map(|part| if part.contains(" OR ") { format!("({part})") } else { part.clone() })
                .collect::<Vec<_>>()
                .join(" AND "),
        }
    }

    /// Adds a licence from another document under an identifier that no other text has, and
    /// returns that identifier.
    pub fn adopt(&mut self, extracted: Extracted) -> String {
        let mut id = extracted.id.clone();
        let mut number = 1_usize;
        while self.by_id.get(&id).is_some_and(|known| known.extracted_text != extracted.extracted_text) {
            number += 1;
            id = format!("{}-{number}", extracted.id);
        }
        self.by_id.entry(id.clone()).or_insert(Extracted { id: id.clone(), ..extracted });
        id
    }

    /// Whether the text is an SPDX expression whose every `LicenseRef-...` is known here.
    pub fn defines(&self, expression: &str) -> bool {
        let strict = ParseMode { allow_unknown: false, ..MODE };
        let known = |token: Result<_, _>| match token {
            Ok(spdx::lexer::LexerToken { token, span }) => match token {
                Token::LicenseRef { .. } | Token::AdditionRef { .. } => {
                    expression.get(span).is_some_and(|name| self.by_id.contains_key(name))
                }
                _ => true,
            },
            Err(spdx::ParseError { .. }) => false,
        };
        Expression::parse_mode(expression, strict).is_ok() && Lexer::new_mode(expression, strict).all(known)
    }

    /// All of them, ordered by identifier.
    pub fn into_list(self) -> Vec<Extracted> {
        self.by_id.into_values().collect()
    }

    fn expression(&mut self, license: &str) -> String {
        if license == NO_ASSERTION || license == "NONE" {
            return NO_ASSERTION.to_owned();
        }
        match self.rewritten(license) {
            Some(expression) => expression,
            None => self.reference(license),
        }
    }

    fn rewritten(&mut self, license: &str) -> Option<String> {
        let mut out = String::with_capacity(license.len());
        let mut references = Vec::new();
        for item in Lexer::new_mode(license, MODE) {
            let item = item.ok()?;
            let text = license.get(item.span.clone())?;
            let spaced = match item.token {
                Token::And => " AND ".to_owned(),
                Token::Or => " OR ".to_owned(),
                Token::With => " WITH ".to_owned(),
                Token::Unknown(name) => {
                    references.push(name.to_owned());
                    reference_id(name)
                }
                Token::LicenseRef { doc_ref: None, .. } => {
                    references.push(text.to_owned());
                    text.to_owned()
                }
                Token::LicenseRef { .. } | Token::AdditionRef { .. } => return None,
                _ => text.to_owned(),
            };
            out.push_str(&spaced);
        }
        let strict = ParseMode { allow_unknown: false, ..MODE };
        Expression::parse_mode(&out, strict).ok()?;
        for name in references {
            self.reference(&name);
        }
        Some(out)
    }

    fn reference(&mut self, name: &str) -> String {
        let id = reference_id(name);
        let extracted_text = self.texts.get(&id).cloned().unwrap_or_else(|| {
            format!("The package names its licence as: {name}. The text is in the upstream source.")
        });
        self.adopt(Extracted { id, extracted_text, name: Some(name.to_owned()) })
    }
}

fn reference_id(name: &str) -> String {
    let name = name.strip_prefix("LicenseRef-").unwrap_or(name);
    format!("LicenseRef-{}", sanitised(name))
}

/// The expression with every name replaced that `renamed` holds.
pub(crate) fn renamed(expression: &str, renamed: &BTreeMap<String, String>) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '+');
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_name(c) != is_name(first)).unwrap_or(rest.len());
        let (token, tail) = rest.split_at(end);
        out.push_str(renamed.get(token).map_or(token, String::as_str));
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(licenses: &[&str]) -> (String, Vec<String>) {
        let mut extractions = Extractions::default();
        let licenses: Vec<String> = licenses.iter().map(|&text| text.to_owned()).collect();
        let expression = extractions.declared(&licenses);
        let ids = extractions.into_list().into_iter().map(|e| e.id).collect();
        (expression, ids)
    }

    #[test]
    fn a_known_text_is_extracted_where_the_spdx_list_has_none() {
        let mut extractions = Extractions::default();
        extractions.know("LicenseRef-house AND MIT", "do as you like");
        extractions.know("MIT", "permission is granted");
        assert_eq!(extractions.declared(&["LicenseRef-house AND MIT".to_owned()]), "LicenseRef-house AND MIT");
        let list = extractions.into_list();
        assert_eq!(list.len(), 1, "{list:?}");
        assert_eq!((list[0].id.as_str(), list[0].extracted_text.as_str()), ("LicenseRef-house", "do as you like"));
    }

    #[test]
    fn licences_become_valid_expressions() {
        let cases: [(&[&str], &str, &[&str]); 10] = [
            (&[], "NOASSERTION", &[]),
            (&[" "], "NOASSERTION", &[]),
            (&["NOASSERTION", "MIT"], "MIT", &[]),
            (&["MIT and BSD-3-Clause"], "MIT AND BSD-3-Clause", &[]),
            (&["MIT OR Apache-2.0", "Zlib"], "(MIT OR Apache-2.0) AND Zlib", &[]),
            (&["GPL-2.0+"], "GPL-2.0+", &[]),
            (&["GPL-2.0-only WITH Linux-syscall-note"], "GPL-2.0-only WITH Linux-syscall-note", &[]),
            (&["MIT OR Homegrown"], "MIT OR LicenseRef-Homegrown", &["LicenseRef-Homegrown"]),
            (&["LicenseRef-valkey AND MIT"], "LicenseRef-valkey AND MIT", &["LicenseRef-valkey"]),
            (&["see COPYING (really)"], "LicenseRef-see-COPYING--really-", &["LicenseRef-see-COPYING--really-"]),
        ];
        for (given, expected, ids) in cases {
            let (expression, extracted) = declared(given);
            assert_eq!(expression, expected, "{given:?}");
            assert_eq!(extracted, ids, "{given:?}");
        }
    }

    #[test]
    fn an_unknown_exception_makes_the_whole_value_a_reference() {
        let (expression, _) = declared(&["MIT WITH my-exception"]);
        assert_eq!(expression, "LicenseRef-MIT-WITH-my-exception");
    }

    #[test]
    fn one_identifier_with_two_texts_is_numbered_and_renamed() {
        let mut extractions = Extractions::default();
        let license =
            |text: &str| Extracted { id: "LicenseRef-a".to_owned(), extracted_text: text.to_owned(), name: None };
        assert_eq!(extractions.adopt(license("one")), "LicenseRef-a");
        assert_eq!(extractions.adopt(license("two")), "LicenseRef-a-2");
        assert_eq!(extractions.adopt(license("two")), "LicenseRef-a-2");
        let map = BTreeMap::from([("LicenseRef-a".to_owned(), "LicenseRef-a-2".to_owned())]);
        assert_eq!(
            renamed("(MIT OR LicenseRef-a) AND LicenseRef-ab", &map),
            "(MIT OR LicenseRef-a-2) AND LicenseRef-ab"
        );
    }
}
