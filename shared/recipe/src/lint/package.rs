//! Rules about the package itself: its version, licences, tests and what it is built with.

use std::collections::BTreeSet;

use spdx::{Expression, ParseMode};

use super::{Check, Findings, Rule, Severity};
use crate::package::{Copyright, PackageDefinition};
use crate::text::Text;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "contains-epoch",
        severity: Severity::Error,
        what: "`package.epoch` is said",
        why: "a rebuild of a version raises it; where it is absent the next person cannot tell a first build from a forgotten line",
        check: Check::One(contains_epoch),
    },
    Rule {
        id: "bad-version",
        severity: Severity::Error,
        what: "`package.version` is a version that apk orders, without a revision",
        why: "apk gives an invalid version no order, so that upgrades to or from it fail",
        check: Check::One(bad_version),
    },
    Rule {
        id: "valid-copyright-header",
        severity: Severity::Info,
        what: "the package says its licence",
        why: "packages and images list licences in their SBOM; one that says none shows up as unknown",
        check: Check::One(valid_copyright_header),
    },
    Rule {
        id: "valid-spdx-license",
        severity: Severity::Error,
        what: "every licence is an SPDX expression, or `custom` or `PROPRIETARY`",
        why: "SBOM readers and licence policies match identifiers, not prose",
        check: Check::One(valid_spdx_license),
    },
    Rule {
        id: "valid-package-or-subpackage-test",
        severity: Severity::Info,
        what: "the package or one of its subpackages has a test",
        why: "only a test shows that what was built also runs once it is installed",
        check: Check::One(valid_package_or_subpackage_test),
    },
    Rule {
        id: "no-repeated-deps",
        severity: Severity::Error,
        what: "no package is listed twice in `environment.contents.packages`",
        why: "the second one is a leftover or hides that another was meant",
        check: Check::One(no_repeated_deps),
    },
];

fn contains_epoch(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if definition.package.epoch_position.is_none() {
        findings.add(definition.package.version.position, "`package` says no `epoch`; add `epoch: 0`");
    }
}

fn bad_version(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let version = &definition.package.version;
    match version.parse::<apk::Version>() {
        Err(error) => {
            findings.add(version.position, format!("{error}; rewrite upstream's version, as `1.0.0rc1` to `1.0.0_rc1`"))
        }
        Ok(parsed) if parsed.upstream() != version.as_str() => {
            findings.add(version.position, format!("version `{version}` has a revision; give it as `epoch`"));
        }
        Ok(_) => {}
    }
}

fn valid_copyright_header(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if definition.package.copyright.is_empty() {
        findings.add(definition.package.name.position, "the package says no licence; add `copyright` with a `license`");
    }
}

/// What the field's own validator takes: deprecated identifiers and a `+` behind any of them too.
const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: false,
    allow_imprecise_license_names: false,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: false,
};

fn valid_spdx_license(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for license in licences(&definition.package.copyright) {
        if matches!(license.as_str(), "custom" | "PROPRIETARY") || license.contains("${{") {
            continue;
        }
        if let Err(error) = Expression::parse_mode(license, MODE) {
            let hint = match spdx::imprecise_license_id(license) {
                Some((id, _)) => format!("write `{}`", id.name),
                None => "write an SPDX identifier, or `LicenseRef-NAME` with `license-path`".to_owned(),
            };
            findings
                .add(license.position, format!("licence `{license}` is no SPDX expression ({}); {hint}", error.reason));
        }
    }
}

fn licences(entries: &[Copyright]) -> Vec<&Text> {
    entries.iter().flat_map(|entry| entry.license.iter().chain(licences(&entry.licenses))).collect()
}

fn valid_package_or_subpackage_test(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let subpackages = definition.subpackages.iter().map(|subpackage| &subpackage.test);
    let mut tests = std::iter::once(&definition.test).chain(subpackages).flatten();
    if !tests.any(|test| !test.pipeline.is_empty()) {
        findings.add(
            definition.package.name.position,
            "neither the package nor a subpackage has a test; add `test` with a `pipeline`",
        );
    }
}

fn no_repeated_deps(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    let mut seen = BTreeSet::new();
    for package in &definition.environment.contents.packages {
        if !package.is_empty() && !seen.insert(package.as_str()) {
            findings.add(package.position, format!("package `{package}` is listed twice in the environment; drop one"));
        }
    }
}
