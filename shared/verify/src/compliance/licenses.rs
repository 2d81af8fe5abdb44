//! Whether the packages' licences are those that the policy lets in.

use apk::InstalledPackage;
use spdx::{Expression, LicenseReq};

use super::policy::{MODE, Policy};
use crate::report::{Complaint, Finding};

/// Whether each licence is an SPDX expression.
pub(super) fn names(packages: &[InstalledPackage]) -> Finding {
    let mut complaints = Vec::new();
    for package in packages {
        let name = &package.entry.information.name;
        if package.entry.information.licenses.is_empty() {
            let message =
                format!("the package `{name}` states no licence; state it under `copyright` in its definition");
            complaints.push(Complaint::of_package(name, message));
        }
        for license in &package.entry.information.licenses {
            if let Err(error) = Expression::parse_mode(license, MODE) {
                let message = format!(
                    "the licence `{license}` of `{name}` is no SPDX expression ({}); \
                     state an SPDX identifier, or `LicenseRef-NAME`, in its definition",
                    error.reason
                );
                complaints.push(Complaint::of_package(name, message));
            }
        }
    }
    Finding::listing(complaints, format!("the licences of {} packages are SPDX expressions", packages.len()))
}

/// Whether the policy lets each licence in; of alternatives (`OR`) one suffices. What is no
/// expression is for [`names`] to tell, but where only some licences are let in it is none of them.
pub(super) fn policy(packages: &[InstalledPackage], policy: &Policy) -> Finding {
    let mut complaints = Vec::new();
    for package in packages {
        let name = &package.entry.information.name;
        for license in &package.entry.information.licenses {
            let passes = match Expression::parse_mode(license, MODE) {
                Ok(expression) => expression.evaluate(|asked| is_let_in(policy, asked)),
                Err(_) => policy.allowed.is_empty(),
            };
            if !passes {
                let message = format!(
                    "the policy does not let the licence `{license}` of `{name}` in; \
                     leave the package out, or allow the licence in `compliance.yaml`"
                );
                complaints.push(Complaint::of_package(name, message));
            }
        }
    }
    Finding::listing(complaints, format!("the policy lets the licences of {} packages in", packages.len()))
}

fn is_let_in(policy: &Policy, asked: &LicenseReq) -> bool {
    if policy.allowed.iter().any(|allowed| allowed.satisfies(asked)) {
        return true;
    }
    policy.allowed.is_empty() && !policy.denied.iter().any(|denied| denied.license == asked.license)
}
