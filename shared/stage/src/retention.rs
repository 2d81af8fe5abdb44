//! Takes digests that nobody needs any longer out of the registry. What is known of them stays.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ports::{Condition, Digest, Key, Transaction, Write};
use registry::{Reference, Registry, Repository};
use serde::Serialize;

use crate::record::{self, Need, Release, TagMove};
use crate::releases::{Ownership, ReleaseStatus, Statuses, decoded, statuses};
use crate::rules::retention::{Published, Retention, removable};
use crate::{Context, StageError, chain, image_push, image_vex};

/// A digest that retention takes out of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Image name.
    pub image: String,
    /// The image index.
    pub digest: Digest,
    /// The timestamp tag, which goes with it.
    pub timestamp_tag: String,
    /// When it was published.
    pub published: Timestamp,
}

/// Removes what `retention` lets go from the registry and its content from the blobs; with
/// `dry_run` only tells it. A removal that was interrupted is ended by the next run.
///
/// Content that images in the making share with what goes would be lost to them, so nothing is
/// removed while messages wait.
///
/// # Errors
/// [`StageError::Environment`] while messages wait, and when state, registry or blobs fail.
pub async fn prune(context: &Context, retention: Retention, dry_run: bool) -> Result<Vec<Removal>, StageError> {
    let pending = context.queue.pending().await?;
    if pending > 0 && !dry_run {
        return Err(StageError::Environment {
            action: "remove old digests".to_owned(),
            reason: format!("{pending} messages wait; run `mill cycle` first"),
        });
    }
    let mut removals = Vec::new();
    let mut images = Vec::new();
    for image in context.catalog.images.keys() {
        let mut releases = releases_of(context, image).await?;
        let statuses = statuses(context, image).await?;
        let needed = needed(context, image).await?;
        for position in going(retention, &releases, &statuses, &needed, context.clock.now()) {
            let Some(release) = releases.get_mut(position) else { continue };
            removals.push(Removal {
                image: image.clone(),
                digest: release.digest,
                timestamp_tag: release.timestamp_tag.clone(),
                published: release.time,
            });
            if !dry_run {
                retire(context, image, release).await?;
            }
        }
        images.push((image, releases));
    }
    if !dry_run {
        purge(context, &images).await?;
    }
    Ok(removals)
}

async fn releases_of(context: &Context, image: &str) -> Result<Vec<Release>, StageError> {
    let documents = context.state.list_all(&record::image(image), "release#").await?;
    let mut releases = documents.iter().map(ports::Document::decode).collect::<Result<Vec<Release>, _>>()?;
    releases.sort_by_key(|release| release.time);
    Ok(releases)
}

/// The digests that others than tags need.
async fn needed(context: &Context, image: &str) -> Result<BTreeSet<Digest>, StageError> {
    let documents = context.state.list_all(&record::image(image), record::NEEDED).await?;
    Ok(documents
        .iter()
        .map(|document| Ok(document.decode::<Need>()?.digest))
        .collect::<Result<_, ports::PortError>>()?)
}

/// The positions of the releases that may go now.
fn going(
    retention: Retention,
    releases: &[Release],
    statuses: &Statuses,
    needed: &BTreeSet<Digest>,
    now: Timestamp,
) -> Vec<usize> {
    let kept: Vec<(usize, Published<'_>)> = releases
        .iter()
        .enumerate()
        .filter(|(_, release)| release.complete && release.removed.is_none())
        .map(|(position, release)| {
            // What is not superseded has a report that people read.
            let needed = statuses.of(release) != ReleaseStatus::Superseded
                || statuses.named_by_tag(release)
                || needed.contains(&release.digest);
            (position, Published { stream: &release.stream, time: release.time, needed })
        })
        .collect();
    let published: Vec<Published<'_>> = kept.iter().map(|(_, published)| *published).collect();
    removable(retention, &published, now)
        .into_iter()
        .filter_map(|position| kept.get(position).map(|(position, _)| *position))
        .collect()
}

/// Records that a release goes, and that its timestamp tag names nothing any longer.
async fn retire(context: &Context, image: &str, release: &mut Release) -> Result<(), StageError> {
    let partition = record::image(image);
    let now = context.clock.now();
    let tags = Key::new(partition.clone(), "tags");
    let (ownership, condition) = decoded::<Ownership>(context, &tags).await?;
    let mut ownership = ownership.unwrap_or_default();
    let mut transaction = Transaction::default();
    if ownership.tags.get(&release.timestamp_tag) == Some(&release.digest) {
        let from = ownership.tags.remove(&release.timestamp_tag);
        let reason = "retention: nobody needs it any longer".to_owned();
        let moved = TagMove { tag: release.timestamp_tag.clone(), from, to: None, time: now, reason };
        transaction.put(ownership.next_move(image, &release.timestamp_tag), Condition::Absent, &moved)?;
        transaction.put(tags, condition, &ownership)?;
    }
    release.removed = Some(now);
    transaction.put(Key::new(partition, format!("release#{}", release.digest)), Condition::Any, release)?;
    Ok(context.state.commit(transaction).await?)
}

/// What a set of releases needs.
#[derive(Default)]
struct Content {
    /// Manifests of images, and of what refers to them.
    manifests: BTreeSet<Digest>,
    /// What they name.
    blobs: BTreeSet<Digest>,
}

/// Removes the content of removed releases that no kept one needs, once.
async fn purge(context: &Context, images: &[(&String, Vec<Release>)]) -> Result<(), StageError> {
    let remains = |release: &Release| release.removed.is_some() && !release.purged;
    if !images.iter().any(|(_, releases)| releases.iter().any(remains)) {
        return Ok(());
    }
    let mut kept_by_images = BTreeSet::new();
    let mut gone_of_images = BTreeSet::new();
    for (image, releases) in images {
        let repository: Repository =
            image.parse().map_err(|error: registry::Error| StageError::Rejected(chain(&error)))?;
        let registry = context.registry.as_ref();
        let (mut kept, mut gone) = (Content::default(), Content::default());
        for release in releases.iter().filter(|release| !release.purged) {
            let content = if release.removed.is_some() { &mut gone } else { &mut kept };
            collect(registry, &repository, release, content).await?;
        }
        // Indexes first: registries keep a manifest that another names.
        let indexes: BTreeSet<Digest> = releases.iter().map(|release| release.digest).collect();
        let (first, then): (Vec<Digest>, Vec<Digest>) =
            gone.manifests.difference(&kept.manifests).copied().partition(|digest| indexes.contains(digest));
        for digest in first.into_iter().chain(then) {
            registry.delete_manifest(&repository, &Reference::Digest(digest)).await.map_err(failed)?;
        }
        let gone_blobs: BTreeSet<Digest> = gone.blobs.difference(&kept.blobs).copied().collect();
        image_push::forget(context, image, &gone_blobs).await?;
        for digest in gone_blobs {
            registry.delete_blob(&repository, digest).await.map_err(failed)?;
        }
        kept_by_images.extend(kept.manifests.into_iter().chain(kept.blobs));
        gone_of_images.extend(gone.manifests.into_iter().chain(gone.blobs));
    }
    for digest in gone_of_images.difference(&kept_by_images) {
        context.blobs.remove(*digest).await?;
    }
    for (image, releases) in images {
        for release in releases.iter().filter(|release| remains(release)) {
            let key = Key::new(record::image(image), format!("release#{}", release.digest));
            let mut transaction = Transaction::default();
            transaction.put(key, Condition::Any, &Release { purged: true, ..release.clone() })?;
            // Its documents have gone with it; should the digest come back, they are attached anew.
            let vex = image_vex::record_key(image, release.digest);
            transaction.writes.push(Write { key: vex, condition: Condition::Any, value: None });
            context.state.commit(transaction).await?;
        }
    }
    Ok(())
}

fn failed(error: registry::Error) -> StageError {
    StageError::environment("remove an old digest")(&error)
}

/// The content of one release that the registry has: its manifests, what refers to them, and what
/// all these name.
async fn collect(
    from: &dyn Registry,
    repository: &Repository,
    release: &Release,
    content: &mut Content,
) -> Result<(), StageError> {
    for subject in release.platforms.values().chain([&release.digest]) {
        let mut manifests = vec![*subject];
        for referrer in from.referrers(repository, *subject, None).await.map_err(failed)? {
            manifests.push(registry::digest_of(&referrer).map_err(failed)?);
        }
        for reference in manifests {
            let manifest = from.manifest(repository, &Reference::Digest(reference)).await.map_err(failed)?;
            let Some(manifest) = manifest else { continue };
            content.manifests.insert(reference);
            for blob in manifest.facts().map_err(failed)?.blobs() {
                content.blobs.insert(registry::digest_of(blob).map_err(failed)?);
            }
        }
    }
    Ok(())
}
