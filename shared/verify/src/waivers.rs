//! Findings that a person lets pass for a time, with the reason.

use jiff::civil::Date;
use serde::{Deserialize, Deserializer};

use crate::report::{Check, Complaint, Finding, Status, Suite, SuiteReport, Waived};
use crate::{Error, document};

const MAXIMUM_WAIVERS: usize = 1000;

/// The file `waivers.yaml` of an image:
///
/// ```yaml
/// waivers:
///   - check: integrity/pie                # the id of a check
///     path: /usr/bin/tool                 # of this file only, or of all below a folder (`/opt/tool/`)
///     package: tool                       # of this package, and the files that it has
///     reason: Go programs of this version are linked at one address
///     expires: 2027-06-30                 # the last day on which it holds
/// ```
///
/// A waiver without `path` and `package` is for all that its check complains of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waivers {
    file: String,
    waivers: Vec<Waiver>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    waivers: Vec<Waiver>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiver {
    check: String,
    path: Option<String>,
    package: Option<String>,
    reason: String,
    #[serde(deserialize_with = "day")]
    expires: Date,
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is no day; write it as YYYY-MM-DD")))
}

impl Waiver {
    fn is_for(&self, check: &str, complaint: &Complaint) -> bool {
        self.check == check
            && self.path.as_deref().is_none_or(|path| complaint.path.as_deref().is_some_and(|at| covers(path, at)))
            && self.package.as_ref().is_none_or(|package| complaint.package.as_ref() == Some(package))
    }

    /// The waiver as messages name it.
    fn named(&self) -> String {
        let path = self.path.iter().map(|path| format!(" at `{path}`"));
        let package = self.package.iter().map(|package| format!(" of the package `{package}`"));
        format!("`{}`{}", self.check, path.chain(package).collect::<String>())
    }
}

/// Whether a waiver's path is for the one of a complaint, which has no slash at its beginning.
fn covers(waived: &str, path: &str) -> bool {
    let waived = waived.trim_start_matches('/');
    waived == path || waived.ends_with('/') && path.starts_with(waived)
}

impl Waivers {
    /// Reads the file; `file` is what messages call it.
    ///
    /// # Errors
    /// [`Error::Document`] for what is not of the format: unknown keys, a missing reason or day.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let Document { waivers } = document::parse(text, file)?;
        let refused = |message| Err(Error::Document { file: file.to_owned(), line: 0, column: 0, message });
        if waivers.len() > MAXIMUM_WAIVERS {
            return refused(format!("it has {} waivers; at most {MAXIMUM_WAIVERS} are read", waivers.len()));
        }
        for waiver in &waivers {
            if waiver.reason.trim().is_empty() {
                return refused(format!("the waiver for {} has no reason; state why it is let pass", waiver.named()));
            }
            if !waiver.check.contains('/') {
                return refused(format!(
                    "`check: {}` is no id of a check; reports give them, such as `integrity/pie`",
                    waiver.check
                ));
            }
        }
        Ok(Waivers { file: file.to_owned(), waivers })
    }

    /// Lets pass what is waived on `today`. What only an expired waiver is for goes on to fail, and
    /// says so. Where there are waivers, one more suite entry says whether each was needed.
    pub fn apply(&self, suites: &mut [SuiteReport], today: Date) {
        let mut used = vec![false; self.waivers.len()];
        for check in suites.iter_mut().flat_map(|suite| &mut suite.checks) {
            if matches!(check.status, Status::Failed | Status::Warned) {
                self.judge(check, today, &mut used);
            }
        }
        if self.waivers.is_empty() {
            return;
        }
        let unused = self.waivers.iter().zip(used).filter(|(_, used)| !used).map(|(waiver, _)| {
            Complaint::from(format!(
                "the waiver for {} in `{}` lets nothing pass; remove it",
                waiver.named(),
                self.file
            ))
        });
        let finding =
            Finding::listing(unused.collect::<Vec<_>>(), format!("each of {} waivers is needed", self.waivers.len()));
        let at = suites.iter().position(|suite| suite.suite == Suite::Compliance).unwrap_or(0);
        if let Some(suite) = suites.get_mut(at) {
            suite.checks.push(finding.warning().named("compliance/waivers"));
        }
    }

    fn judge(&self, check: &mut Check, today: Date, used: &mut [bool]) {
        let whole = check.complaints.is_empty();
        if whole {
            check.complaints.push(Complaint::from(check.message.clone()));
        }
        let mut changed = false;
        for complaint in &mut check.complaints {
            let mut expired = None;
            for (waiver, used) in self.waivers.iter().zip(used.iter_mut()) {
                if !waiver.is_for(&check.id, complaint) {
                    continue;
                }
                *used = true;
                if waiver.expires >= today {
                    complaint.waived =
                        Some(Waived { reason: waiver.reason.clone(), expires: waiver.expires.to_string() });
                } else {
                    expired = Some(waiver);
                }
            }
            if let (Some(waiver), None) = (expired, &complaint.waived) {
                complaint.message.push_str(&format!(
                    "; the waiver for it in `{}` has expired on {} ({}): mend it, or state a later day",
                    self.file, waiver.expires, waiver.reason
                ));
                changed = true;
            }
            changed |= complaint.waived.is_some();
        }
        if changed {
            check.weigh();
        } else if whole {
            check.complaints.clear();
        }
    }
}
