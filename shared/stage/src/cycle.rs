//! One whole day: what the schedules do, one after the other, until nothing is left to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use apk::Architecture;
use ports::Transaction;
use serde::Serialize;

use crate::packages::{Packages, build_due};
use crate::record::{self, Release, RepositoryEntry};
use crate::releases::{self, ReleaseStatus};
use crate::standing::Standing;
use crate::worker::{Count, Entry, Summary, drain_with};
use crate::{
    Context, ImagePlan, Stage, StageError, UpstreamCheck, VulnerabilityScan, feed, image_vex, repository, retention,
    streams,
};

/// Upstreams asked at once; hosts have a limit of their own.
const CHECKS_AT_ONCE: usize = 32;

/// What a cycle did.
#[derive(Clone, Debug, Serialize)]
pub struct CycleReport {
    /// Runs per stage.
    pub stages: BTreeMap<String, Count>,
    /// Packages that were published in this cycle, and images that were built.
    pub done: Vec<Entry>,
    /// What had nothing to do, and why.
    pub skipped: Vec<Entry>,
    /// What failed or is blocked, and why.
    pub failed: Vec<Entry>,
    /// Every package of the repository.
    pub packages: Vec<PackageRow>,
    /// Every stream at its newest published build.
    pub images: Vec<ImageRow>,
}

/// A package of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageRow {
    /// Package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// Architecture.
    pub architecture: Architecture,
    /// `Q1` checksum, which names the content whatever key signed it.
    pub checksum: String,
    /// Bytes of the file.
    pub size: u64,
}

/// A published build of an image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageRow {
    /// Image name.
    pub name: String,
    /// What is known of the build.
    #[serde(flatten)]
    pub release: Release,
    /// What becomes of it.
    pub status: ReleaseStatus,
    /// Findings of the last scan, or why there are none.
    pub vulnerabilities: String,
}

/// Runs one day to its end. A cycle that was interrupted is taken up by the next.
///
/// # Errors
/// When the state or the queue does not work. What fails beyond that is in the report.
pub async fn cycle(context: &Arc<Context>, workers: usize) -> Result<CycleReport, StageError> {
    let mut total = Summary::default();
    import_catalog_feed(context, &mut total).await?;
    total.merge(update_packages(context, workers).await?);
    total.merge(update_images(context, workers).await?);
    total.merge(update_vex(context, workers).await?);
    total.merge(scan(context, None, workers).await?.0);
    remove_old(context, &mut total).await?;
    total.skipped.extend(context.settings.left_out.iter().map(|(architecture, reason)| Entry {
        stage: "architecture".to_owned(),
        subject: architecture.to_string(),
        text: format!("not built here: {reason}"),
    }));
    for problem in &context.catalog.problems {
        total.failed.push(Entry {
            stage: "catalog".to_owned(),
            subject: problem.name.clone(),
            text: problem.error.clone(),
        });
    }
    Ok(CycleReport {
        packages: packages(context).await?,
        images: newest(context).await?,
        stages: total.stages,
        done: total.done,
        skipped: total.skipped,
        failed: total.failed,
    })
}

/// Checks every upstream, and builds and publishes the packages that are due.
///
/// # Errors
/// As [`cycle`].
pub async fn update_packages(context: &Arc<Context>, workers: usize) -> Result<Summary, StageError> {
    let mut total = Summary::default();
    let checks: Vec<UpstreamCheck> =
        context.catalog.packages.keys().map(|name| UpstreamCheck { package: name.clone() }).collect();
    phase(context, workers, CHECKS_AT_ONCE, checks, &mut total).await?;
    total.merge(build_due(context, workers).await?);
    for architecture in &context.settings.architectures {
        blocked(&Packages::load(context, *architecture).await?, &mut total);
    }
    Ok(total)
}

/// Plans every stream of every image, and builds, tests and publishes those that are due.
///
/// # Errors
/// As [`cycle`].
pub async fn update_images(context: &Arc<Context>, workers: usize) -> Result<Summary, StageError> {
    let mut total = Summary::default();
    streams::propose(context).await?;
    phase(context, workers, 0, image_plans(context), &mut total).await?;
    Ok(total)
}

/// Brings the VEX documents of published images to what is known now: the catalog's statements, builds and records.
///
/// # Errors
/// As [`cycle`].
pub async fn update_vex(context: &Arc<Context>, workers: usize) -> Result<Summary, StageError> {
    let mut total = Summary::default();
    phase(context, workers, 0, image_vex::due(context).await?, &mut total).await?;
    Ok(total)
}

/// Sends messages and handles all that follows from them.
///
/// # Errors
/// As [`drain`].
async fn phase<S: Stage>(
    context: &Arc<Context>,
    workers: usize,
    checks: usize,
    messages: Vec<S>,
    total: &mut Summary,
) -> Result<(), StageError> {
    for chunk in messages.chunks(50) {
        let messages = chunk.iter().map(Stage::envelope).collect::<Result<Vec<_>, _>>()?;
        context.state.commit(Transaction { messages, ..Transaction::default() }).await?;
    }
    total.merge(drain_with(context, workers, checks).await?);
    Ok(())
}

/// Removes what retention lets go, unless work waits to be tried again.
async fn remove_old(context: &Context, total: &mut Summary) -> Result<(), StageError> {
    let Some(retention) = context.settings.retention.filter(|_| total.failed.is_empty()) else { return Ok(()) };
    if context.queue.pending().await? > 0 {
        return Ok(());
    }
    let removals = retention::prune(context, retention, false).await?;
    total.done.extend(removals.into_iter().map(|removal| Entry {
        stage: "retention".to_owned(),
        subject: removal.image,
        text: format!("{} ({}) removed", removal.digest, removal.timestamp_tag),
    }));
    Ok(())
}

/// A plan for every stream of every image of the catalog.
pub fn image_plans(context: &Context) -> Vec<ImagePlan> {
    let streams = context.catalog.images.iter().flat_map(|(image, source)| {
        source.definition.editions().map(|edition| ImagePlan { image: image.clone(), stream: edition.name() })
    });
    streams.collect()
}

/// The records that the catalog ships are imported with each cycle.
pub(crate) async fn import_catalog_feed(context: &Context, total: &mut Summary) -> Result<(), StageError> {
    let folder = context.catalog.feed_folder();
    if !folder.is_dir() {
        return Ok(());
    }
    let report = feed::import(context, &folder).await?;
    total.failed.extend(report.rejected.into_iter().map(|rejected| Entry {
        stage: "feed-import".to_owned(),
        subject: rejected.file,
        text: rejected.error,
    }));
    Ok(())
}

/// A scan of every published version, so that each has a current report.
pub(crate) async fn scans(context: &Context) -> Result<Vec<VulnerabilityScan>, StageError> {
    let rows = releases(context).await?;
    let kept = rows.into_iter().filter(|row| row.status != ReleaseStatus::Removed);
    Ok(kept.map(|row| VulnerabilityScan { image: row.name, digest: row.release.digest }).collect())
}

/// Names what could not be built because of something else.
fn blocked(packages: &Packages, total: &mut Summary) {
    let mut add = |subject: &str, text: String| {
        total.failed.push(Entry { stage: "package-build".to_owned(), subject: subject.to_owned(), text });
    };
    for (name, package) in &packages.by_name {
        if let Err(reason) = package {
            add(name, reason.clone());
        }
    }
    for cycle in packages.cycles() {
        add("catalog", cycle.clone());
    }
    for (name, standing) in &packages.standing {
        if let Standing::Waiting(needs) = standing {
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            add(name, format!("not built: it waits for {}", needs.join(", ")));
        }
    }
    for (name, standing) in &packages.standing {
        if let Standing::Withdrawn(reason) = standing {
            let text = format!("withdrawn: {reason}; it is built again when its definition changes");
            total.skipped.push(Entry { stage: "package-build".to_owned(), subject: name.clone(), text });
        }
    }
}

async fn packages(context: &Context) -> Result<Vec<PackageRow>, StageError> {
    let mut rows = Vec::new();
    for architecture in &context.settings.architectures {
        let entries: Vec<RepositoryEntry> = repository::entries(context, *architecture).await?;
        rows.extend(entries.into_iter().map(|entry| PackageRow {
            name: entry.entry.information.name,
            version: entry.entry.information.version,
            architecture: *architecture,
            checksum: entry.entry.checksum,
            size: entry.entry.size,
        }));
    }
    Ok(rows)
}

/// Scans every published version of one image, or of all.
///
/// # Errors
/// As [`cycle`].
pub async fn scan(
    context: &Arc<Context>,
    image: Option<&str>,
    workers: usize,
) -> Result<(Summary, Vec<ImageRow>), StageError> {
    let mut total = Summary::default();
    let wanted = |name: &str| image.is_none_or(|image| image == name);
    let messages = scans(context).await?.into_iter().filter(|scan| wanted(&scan.image)).collect();
    phase(context, workers, 0, messages, &mut total).await?;
    let rows = releases(context).await?.into_iter().filter(|row| wanted(&row.name)).collect();
    Ok((total, rows))
}

/// Every published build, oldest first.
///
/// # Errors
/// When the state can't be read.
pub async fn releases(context: &Context) -> Result<Vec<ImageRow>, StageError> {
    let mut rows = Vec::new();
    for name in context.catalog.images.keys() {
        let documents = context.state.list_all(&record::image(name), "release#").await?;
        let statuses = releases::statuses(context, name).await?;
        for document in documents {
            let release: Release = document.decode()?;
            if release.complete {
                let vulnerabilities = crate::vulnerability_scan::summary(context, name, release.digest).await?;
                let status = statuses.of(&release);
                rows.push(ImageRow { name: name.clone(), release, status, vulnerabilities });
            }
        }
    }
    rows.sort_by(|a, b| {
        (&a.name, a.release.time, &a.release.stream).cmp(&(&b.name, b.release.time, &b.release.stream))
    });
    Ok(rows)
}

/// Every stream at its newest published build.
async fn newest(context: &Context) -> Result<Vec<ImageRow>, StageError> {
    let mut rows = releases(context).await?;
    rows.retain(|row| matches!(row.status, ReleaseStatus::Current | ReleaseStatus::EndOfLife));
    Ok(rows)
}
