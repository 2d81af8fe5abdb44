//! `mill image test`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;
use stage::{ImageSubject, ImageTests, TestedBuild, test_image};
use verify::{Check, Status, Suite, Tested};

use crate::arguments::{Global, TestImage};
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail};

/// Runs the suites; the answer is 1 when a check failed or was not run.
pub async fn run(global: &Global, arguments: &TestImage) -> Result<u8, Failure> {
    let (image, subject) = subject(&arguments.image)?;
    let factory = Factory::open(global).await?;
    let tests = test_image(&factory.context, image, &subject).await.map_err(Failure::of_stage)?;
    let named = tests.builds.iter().map(|build| (format!("{image}:{}", build.stream), in_catalog(global, build)));
    let named: Vec<(String, BTreeMap<Suite, String>)> = named.collect();
    let tested: Vec<Tested<'_>> = tests
        .builds
        .iter()
        .zip(&named)
        .flat_map(|(build, (name, sources))| {
            build.reports.platforms.values().map(move |report| Tested { name, report, sources })
        })
        .collect();
    if let Some(path) = &arguments.junit {
        write(path, &verify::junit(&tested).or_environment()?)?;
    }
    if let Some(path) = &arguments.sarif {
        write(path, &verify::sarif(&tested).or_environment()?)?;
    }
    match global.format {
        Format::Json => output::json(&json!({
            "image": image, "passed": tests.passed(), "builds": tests.builds, "not-run": tests.not_run,
        }))?,
        Format::Text => output::text(lines(&tests, &tested).join("\n"))?,
    }
    Ok(u8::from(!tests.passed()))
}

/// `NAME`, `NAME:TAG` or `NAME@DIGEST`.
fn subject(text: &str) -> Result<(&str, ImageSubject), Failure> {
    if let Some((name, digest)) = text.split_once('@') {
        let digest = digest.parse().map_err(|error: ports::InvalidDigest| Failure::usage(stage::chain(&error)))?;
        return Ok((name, ImageSubject::Digest(digest)));
    }
    Ok(match text.split_once(':') {
        Some((name, tag)) => (name, ImageSubject::Tag(tag.to_owned())),
        None => (text, ImageSubject::Newest),
    })
}

fn in_catalog(global: &Global, build: &TestedBuild) -> BTreeMap<Suite, String> {
    let files = build.sources.iter();
    files.map(|(suite, file)| (*suite, global.catalog.join(file).display().to_string())).collect()
}

fn lines(tests: &ImageTests, tested: &[Tested<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for Tested { name, report, .. } in tested {
        let emulated = if report.emulated { ", emulated" } else { "" };
        lines.push(format!("{name} {}{emulated} {}", report.platform, report.digest));
        lines.extend(report.suites.iter().flat_map(|suite| &suite.checks).map(line));
    }
    for (stream, reason) in &tests.not_run {
        lines.push(format!("  not run         {stream}: {reason}"));
    }
    let summaries = tests.builds.iter().map(|build| format!("{} {}", build.stream, build.reports.summary()));
    let verdict = if tests.passed() { "passed" } else { "not passed" };
    lines.push(format!("{verdict}: {} checks passed", summaries.collect::<Vec<_>>().join(", ")));
    lines
}

fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Passed => "passed",
        Status::Warned => "warned",
        Status::Waived => "waived",
        Status::Failed => "FAILED",
        Status::NotRun => "not run",
        Status::NotApplicable => "not applicable",
    };
    let mut line = format!("  {status:<14}  {}: {}", check.id, check.message);
    if !check.earlier.is_empty() {
        line.push_str(&format!(" (tried {} times; before: {})", check.earlier.len() + 1, check.earlier.join("; ")));
    }
    if check.status == Status::Failed {
        for evidence in &check.evidence {
            line.push_str(&format!("\n                    {}", evidence.replace('\n', "\n                    ")));
        }
    }
    line
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| Failure::environment(format!("write `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_name_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(subject("web").unwrap(), ("web", ImageSubject::Newest));
        assert_eq!(subject("web:1.2-dev").unwrap(), ("web", ImageSubject::Tag("1.2-dev".to_owned())));
        let named = format!("web@{digest}");
        assert_eq!(subject(&named).unwrap(), ("web", ImageSubject::Digest(digest.parse().unwrap())));
        assert!(subject("web@sha256:12").is_err());
    }
}
