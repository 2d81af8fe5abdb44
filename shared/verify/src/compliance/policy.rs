//! What a catalog asks of its images: `compliance.yaml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use spdx::{LicenseReq, Licensee, ParseMode};

use super::RULES;
use crate::{Error, document};

/// Licences under which not everybody may offer, use or change a program.
const DENIED: [&str; 8] = [
    "SSPL-1.0",
    "BUSL-1.1",
    "Elastic-2.0",
    "PolyForm-Noncommercial-1.0.0",
    "PolyForm-Small-Business-1.0.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-NC-ND-4.0",
];

pub(super) const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: false,
    allow_imprecise_license_names: false,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: false,
};

/// What a rule's finding does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It keeps the image from being published.
    Block,
    /// It is told.
    Warn,
    /// The rule is not looked at.
    Off,
}

/// What a catalog asks of its images, as `compliance.yaml` in its folder says it:
///
/// ```yaml
/// licenses:
///   allow: [MIT, Apache-2.0, GPL-2.0-only]   # nothing else; when absent, all but `deny`
///   deny: [AGPL-3.0-only]                    # instead of the built-in list
/// rules:
///   shell: warn                              # block, warn or off, by the rule's id
/// maximum-age-days: 90                       # of an image and its packages; any when absent
/// malware:
///   database: /var/lib/clamav                # ClamAV's signatures: a file or a folder
///   images: [valkey]                         # only these; all when absent
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) allowed: Vec<Licensee>,
    pub(super) denied: Vec<LicenseReq>,
    pub(super) levels: BTreeMap<String, Level>,
    pub(super) maximum_age_days: Option<u32>,
    pub(super) malware: Option<Malware>,
}

/// Looking for malware by signatures.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Malware {
    pub(super) database: PathBuf,
    pub(super) images: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    licenses: Licenses,
    #[serde(default)]
    rules: BTreeMap<String, Level>,
    maximum_age_days: Option<u32>,
    malware: Option<Malware>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Licenses {
    #[serde(default)]
    allow: Vec<String>,
    deny: Option<Vec<String>>,
}

impl Policy {
    /// The policy of a catalog that states none.
    ///
    /// # Errors
    /// As [`Policy::parse`]; none is known.
    pub fn standard() -> Result<Self, Error> {
        Self::new(Document::default(), "compliance.yaml")
    }

    /// Reads the file; `file` is what messages call it.
    ///
    /// # Errors
    /// [`Error::Document`] for unknown keys and rules, licences that SPDX does not know, and a relative path.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        Self::new(document::parse(text, file)?, file)
    }

    fn new(document: Document, file: &str) -> Result<Self, Error> {
        let refused = |message| Error::Document { file: file.to_owned(), line: 0, column: 0, message };
        for rule in document.rules.keys() {
            if !RULES.iter().any(|known| known.name == rule) {
                let known: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
                return Err(refused(format!("there is no rule `{rule}`; the rules are {}", known.join(", "))));
            }
        }
        let read = |text: &String| {
            Licensee::parse_mode(text, MODE)
                .map_err(|error| refused(format!("`{text}` is no SPDX licence: {}", error.reason)))
        };
        if let Some(malware) = document.malware.as_ref().filter(|malware| !malware.database.is_absolute()) {
            let database = malware.database.display();
            return Err(refused(format!("`malware.database` is `{database}`; write its whole path, from `/` on")));
        }
        let denied = document.licenses.deny.unwrap_or_else(|| DENIED.map(str::to_owned).to_vec());
        Ok(Policy {
            allowed: document.licenses.allow.iter().map(read).collect::<Result<_, _>>()?,
            denied: denied.iter().map(|text| read(text).map(Licensee::into_req)).collect::<Result<_, _>>()?,
            levels: document.rules,
            maximum_age_days: document.maximum_age_days,
            malware: document.malware,
        })
    }
}
