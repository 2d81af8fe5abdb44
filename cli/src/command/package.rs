use std::collections::BTreeSet;

use lint::Level;
use stage::{
    PackageTestReport, PackageTestStatus, PackageVersion, Packages, Reproducibility, Standing, build_due,
    check_reproducible, package_failures, package_refusals, package_versions, test_package, withdraw,
};

use crate::arguments::{Global, Package};
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail};

pub async fn run(global: &Global, command: Package) -> Result<u8, Failure> {
    match command {
        Package::Build { name, check_reproducible } => build(global, &name, check_reproducible).await,
        Package::Test { name } => test(global, &name).await,
        Package::List => list(global).await,
        Package::Show { name } => show(global, &name).await,
        Package::Withdraw { version, reason } => take_out(global, &version, &reason).await,
    }
}

/// Builds one definition and what it waits for, and publishes them.
async fn build(global: &Global, name: &str, repeat: bool) -> Result<u8, Failure> {
    let factory = Factory::open_for(global, Some(name)).await?;
    let _lock = factory.lock().await?;
    let context = &factory.context;
    if !context.catalog.packages.contains_key(name) {
        return Err(Failure::usage(format!("the catalog has no package `{name}`")));
    }
    let mut current = BTreeSet::new();
    for architecture in context.settings.architectures.clone() {
        let packages = Packages::load(context, architecture).await.or_environment()?;
        match packages.by_name.get(name) {
            Some(Err(reason)) => return Err(Failure::bad(reason)),
            Some(Ok(claim)) => current.insert(claim.version()),
            None => false,
        };
        if let Some(Standing::Withdrawn(reason)) = packages.standing.get(name) {
            return Err(Failure::bad(format!(
                "this version was withdrawn: {reason}; change the definition of `{name}`"
            )));
        }
    }
    let failed = build_due(context, 1).await.or_environment()?.failed;
    let published = || async {
        let mut versions = package_versions(context, name).await.map_err(Failure::of_stage)?;
        versions.retain(|version| current.contains(&version.version));
        Ok::<_, Failure>(versions)
    };
    let mut versions = published().await?;
    if repeat && !versions.is_empty() {
        for version in &versions {
            check_reproducible(context, name, version.architecture).await.map_err(Failure::of_stage)?;
        }
        versions = published().await?;
    }
    let differs = |version: &PackageVersion| version.reproducibility.as_ref().is_some_and(|found| !found.reproducible);
    let differs = repeat && versions.iter().any(differs);
    match global.format {
        Format::Json => output::json(&serde_json::json!({ "package": name, "failed": failed, "published": versions }))?,
        Format::Text => {
            for entry in &failed {
                output::text(format!("{}: {}", entry.subject, entry.text))?;
            }
            for version in &versions {
                output::text(format!("{} {} is published for {}", name, version.version, version.architecture))?;
                details(version)?;
            }
        }
    }
    Ok(u8::from(!failed.is_empty() || differs))
}

async fn test(global: &Global, name: &str) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    let _lock = factory.lock().await?;
    let context = &factory.context;
    if !context.catalog.packages.contains_key(name) {
        return Err(Failure::usage(format!("the catalog has no package `{name}`")));
    }
    let mut reports = Vec::new();
    for architecture in &context.settings.architectures {
        reports.extend(test_package(context, name, *architecture).await.map_err(Failure::of_stage)?);
    }
    match global.format {
        Format::Json => output::json(&reports)?,
        Format::Text => {
            for report in &reports {
                output::text(sentence(report))?;
            }
        }
    }
    Ok(u8::from(reports.iter().any(|report| report.status == PackageTestStatus::Failed)))
}

fn sentence(report: &PackageTestReport) -> String {
    let status = match report.status {
        PackageTestStatus::Passed => "passed",
        PackageTestStatus::Failed => "FAILED",
        PackageTestStatus::NotRun => "not run",
        PackageTestStatus::NoTest => "no test",
    };
    format!("{} {status}: {}", report.package, report.message)
}

/// What came of building a version again.
fn repeated(found: &Reproducibility) -> Result<(), Failure> {
    let verdict = if found.reproducible { "the same bytes" } else { "NOT THE SAME" };
    output::text(format!("  built again {}: {verdict}; with another {}", found.time, found.varied.join(", ")))?;
    for what in &found.not_varied {
        output::text(format!("    not varied: {what}"))?;
    }
    for tool in &found.changed_tools {
        output::text(format!("    the host's tools have changed: {tool}"))?;
    }
    for package in found.packages.iter().filter(|package| package.repeated != Some(package.published)) {
        let Some(difference) = &package.difference else {
            output::text(format!("    {} was not built", package.package))?;
            continue;
        };
        output::text(format!("    {} differs:", package.package))?;
        for line in difference.members.iter().map(String::as_str).chain(difference.diffoscope.lines()) {
            output::text(format!("      {line}"))?;
        }
    }
    Ok(())
}

/// What a person wants to know of a version beside its number.
fn details(version: &PackageVersion) -> Result<(), Failure> {
    for source in &version.sources {
        let verdict = source.authenticity.as_ref().map(stage::Verdict::sentence);
        output::text(format!("  source {}: {}", source.uri, verdict.unwrap_or_else(|| "not judged".to_owned())))?;
    }
    for finding in &version.findings {
        let level = if finding.level == Level::Require { "refused" } else { "warning" };
        output::text(format!("  {level}: {finding}"))?;
    }
    for warning in &version.warnings {
        output::text(format!("  warning: {warning}"))?;
    }
    for report in version.tests.iter().filter(|report| report.status != PackageTestStatus::NoTest) {
        output::text(format!("  test of {}", sentence(report)))?;
    }
    if !version.tests.iter().any(|report| report.status != PackageTestStatus::NoTest) {
        output::text("  no test")?;
    }
    if let Some(found) = &version.reproducibility {
        repeated(found)?;
    }
    Ok(())
}

/// Definitions of the catalog and those that have only a withdrawn or published past.
async fn definitions(factory: &Factory) -> Result<BTreeSet<String>, Failure> {
    let context = &factory.context;
    let mut names: BTreeSet<String> = context.catalog.packages.keys().cloned().collect();
    for architecture in &context.settings.architectures {
        let partition = stage::record::repository(*architecture);
        for document in context.state.list_all(&partition, "").await.or_environment()? {
            let entry: stage::record::RepositoryEntry = document.decode().or_environment()?;
            names.insert(entry.definition);
        }
    }
    Ok(names)
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    let mut versions = Vec::new();
    for name in definitions(&factory).await? {
        versions.extend(package_versions(&factory.context, &name).await.map_err(Failure::of_stage)?);
    }
    match global.format {
        Format::Json => output::json(&versions)?,
        Format::Text => {
            let rows: Vec<Vec<String>> = versions
                .iter()
                .map(|version| {
                    let passed = |report: &&PackageTestReport| report.status == PackageTestStatus::Passed;
                    vec![
                        version.package.clone(),
                        version.version.clone(),
                        version.architecture.to_string(),
                        version.packages.len().to_string(),
                        version.findings.len().to_string(),
                        version.tests.iter().filter(passed).count().to_string(),
                        version
                            .withdrawn
                            .as_ref()
                            .map(|found| format!("withdrawn: {}", found.reason))
                            .unwrap_or_default(),
                    ]
                })
                .collect();
            let heading = ["package", "version", "architecture", "packages", "warnings", "tests passed", ""];
            output::text(output::table(&heading, &rows))?;
        }
    }
    Ok(0)
}

async fn show(global: &Global, name: &str) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    let context = &factory.context;
    let versions = package_versions(context, name).await.map_err(Failure::of_stage)?;
    let failures = package_failures(context, name).await.map_err(Failure::of_stage)?;
    let refused = package_refusals(context, name).await.map_err(Failure::of_stage)?;
    if versions.is_empty() && failures.is_empty() && !context.catalog.packages.contains_key(name) {
        return Err(Failure::usage(format!("neither the catalog nor the repository has a package `{name}`")));
    }
    match global.format {
        Format::Json => {
            let failures: Vec<_> = failures
                .iter()
                .map(|(version, failure)| serde_json::json!({ "version": version, "failure": failure }))
                .collect();
            output::json(&serde_json::json!({
                "package": name, "versions": versions, "failures": failures, "refused": refused,
            }))?;
        }
        Format::Text => {
            if versions.is_empty() {
                output::text(format!("{name} has no published version"))?;
            }
            for version in &versions {
                let packages: Vec<&str> = version.packages.keys().map(String::as_str).collect();
                output::text(format!(
                    "{name} {} for {}, published {}: {}",
                    version.version,
                    version.architecture,
                    version.time,
                    packages.join(", ")
                ))?;
                if let Some(withdrawal) = &version.withdrawn {
                    output::text(format!("  withdrawn {}: {}", withdrawal.time, withdrawal.reason))?;
                }
                details(version)?;
            }
            for (version, failure) in &failures {
                output::text(format!("{name} {version} failed {}: {}", failure.time, failure.reason))?;
            }
            for one in &refused {
                let (version, verdict) = (&one.version, one.verdict.sentence());
                output::text(format!("{name} {version}, its source {} {}: {verdict}", one.uri, one.time))?;
                for (what, digest) in one.verdict.proofs.iter().flat_map(|tried| &tried.files) {
                    output::text(format!("  kept: {what}, {digest}"))?;
                }
                if let Some(digest) = &one.source {
                    output::text(format!("  kept: the source, {digest}"))?;
                }
            }
        }
    }
    Ok(0)
}

async fn take_out(global: &Global, wanted: &str, reason: &str) -> Result<u8, Failure> {
    let Some((name, version)) =
        wanted.split_once('=').filter(|(name, version)| !name.is_empty() && !version.is_empty())
    else {
        return Err(Failure::usage(format!("`{wanted}` is no NAME=VERSION, such as `hello=1.1.0-r0`")));
    };
    if reason.trim().is_empty() {
        return Err(Failure::usage("state a reason: whoever meets the version later reads it"));
    }
    let factory = Factory::open(global).await?;
    let _lock = factory.lock().await?;
    let done = withdraw(&factory.context, name, version, reason.trim()).await.map_err(Failure::of_stage)?;
    match global.format {
        Format::Json => output::json(&done)?,
        Format::Text => {
            let withdrawal = &done.withdrawal;
            let packages = withdrawal.packages.join(", ");
            output::text(if done.already {
                format!("{name} {version} was withdrawn on {} for this reason already: {packages}", withdrawal.time)
            } else {
                format!("{name} {version} is withdrawn: {packages}")
            })?;
            for held in &done.images {
                output::text(format!("{}:{} {} holds it: {}", held.image, held.stream, held.version, held.digest))?;
            }
            if !done.images.is_empty() {
                output::text("the next cycle plans these streams again")?;
            }
            for need in &done.unprovided {
                output::text(format!("warning: {need}, which no package provides any more"))?;
            }
        }
    }
    Ok(0)
}
