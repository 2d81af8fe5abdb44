use stage::{PackageTestStatus, Packages, Retry, drain, send_due, test_package};

use crate::arguments::{Global, Package};
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail};

pub async fn run(global: &Global, command: Package) -> Result<u8, Failure> {
    match command {
        Package::Build { name } => build(global, &name).await,
        Package::Test { name } => test(global, &name).await,
    }
}

/// Builds one definition and what it waits for, and publishes them.
async fn build(global: &Global, name: &str) -> Result<u8, Failure> {
    let factory = Factory::open_for(global, Some(name)).await?;
    let _lock = factory.lock().await?;
    let context = &factory.context;
    if !context.catalog.packages.contains_key(name) {
        return Err(Failure::usage(format!("the catalog has no package `{name}`")));
    }
    let mut failed = Vec::new();
    for architecture in context.settings.architectures.clone() {
        let packages = Packages::load(context, architecture).await.or_environment()?;
        if let Some(Err(reason)) = packages.by_name.get(name) {
            return Err(Failure::bad(reason));
        }
        send_due(context, architecture, Retry::All).await.or_environment()?;
        failed.extend(drain(context, 1).await.or_environment()?.failed);
    }
    match global.format {
        Format::Json => output::json(&serde_json::json!({ "package": name, "failed": failed }))?,
        Format::Text => {
            for entry in &failed {
                output::text(format!("{}: {}", entry.subject, entry.text))?;
            }
        }
    }
    Ok(u8::from(!failed.is_empty()))
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
        let tests = test_package(context, &factory.sandbox, name, *architecture).await;
        reports.extend(tests.map_err(Failure::of_stage)?);
    }
    match global.format {
        Format::Json => output::json(&reports)?,
        Format::Text => {
            for report in &reports {
                let status = match report.status {
                    PackageTestStatus::Passed => "passed",
                    PackageTestStatus::Failed => "FAILED",
                    PackageTestStatus::NotRun => "not run",
                };
                output::text(format!("{} {status}: {}", report.package, report.message))?;
            }
        }
    }
    Ok(u8::from(reports.iter().any(|report| report.status == PackageTestStatus::Failed)))
}
