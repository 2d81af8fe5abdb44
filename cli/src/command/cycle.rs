use stage::{CycleReport, cycle};

use crate::arguments::Global;
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail, table};

/// Package builds use all cores themselves; a second worker fills the gaps of configure scripts.
pub const WORKERS: usize = 2;

pub async fn run(global: &Global) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    let _lock = factory.lock().await?;
    let report = cycle(&factory.context, WORKERS).await.or_bad()?;
    match global.format {
        Format::Json => output::json(&report)?,
        Format::Text => output::text(summary(&report, global))?,
    }
    Ok(u8::from(!report.failed.is_empty()))
}

fn summary(report: &CycleReport, global: &Global) -> String {
    let rows: Vec<Vec<String>> = report
        .images
        .iter()
        .map(|row| {
            let release = &row.release;
            vec![
                row.name.clone(),
                release.tags.join(" "),
                release.timestamp_tag.clone(),
                release.digest.to_string(),
                size(release.size),
                release.tests.clone(),
                row.vulnerabilities.clone(),
            ]
        })
        .collect();
    let mut text = String::new();
    let built = report.stages.get("package-publish").map_or(0, |count| count.done);
    let published = report.stages.get("image-publish").map_or(0, |count| count.done);
    text.push_str(&format!(
        "\n{built} package definitions built, {published} images published, {} packages in the repository\n\n",
        report.packages.len()
    ));
    text.push_str(&table(&["IMAGE", "TAGS", "TIMESTAMP TAG", "DIGEST", "SIZE", "TESTS", "VULNERABILITIES"], &rows));
    let skipped: Vec<Vec<String>> = report
        .skipped
        .iter()
        .filter(|entry| entry.stage == "image-plan")
        .map(|entry| vec![entry.subject.clone(), entry.text.clone()])
        .collect();
    if !skipped.is_empty() {
        text.push_str(&format!("\n\nnot built:\n{}", table(&["IMAGE", "WHY"], &skipped)));
    }
    if !report.failed.is_empty() {
        let failed: Vec<String> =
            report.failed.iter().map(|entry| format!("{} {}: {}", entry.stage, entry.subject, entry.text)).collect();
        text.push_str(&format!("\n\nfailed:\n{}", failed.join("\n")));
    }
    if let Some(row) = report.images.first() {
        let tag = row.release.tags.first().map_or("latest", String::as_str);
        let home = global.home.display();
        let program = std::env::args().next().unwrap_or_else(|| "mill".to_owned());
        let name = &row.name;
        text.push_str(&format!(
            "\n\nlook at it:\n  {program} --home {home} serve --listen 127.0.0.1:5000\n  docker pull localhost:5000/{name}:{tag}\n  {program} --home {home} verify {name}:{tag}"
        ));
    }
    text
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1 << 20);
    if tenths == 0 { format!("{} KiB", bytes / 1024) } else { format!("{}.{} MiB", tenths / 10, tenths % 10) }
}
