//! Taking a bad version out of the repository, and what stands in it.

use std::collections::{BTreeMap, BTreeSet};

use apk::Architecture;
use jiff::Timestamp;
use ports::{Condition, PortError, Transaction};
use serde::Serialize;

use crate::abi::{self, build_result};
use crate::image_plan::Plan;
use crate::package_retest::{later_key, with_later};
use crate::record::{self, Event, Failure, LaterTests, PublishedPackage, Withdrawal};
use crate::reproducible::reproducible_key;
use crate::{
    Context, ImagePlan, PackageTestReport, Refused, ReleaseStatus, Reproducibility, SourceEvidence, Stage, StageError,
    package_index, releases, repository,
};

const MAXIMUM_PLAN_BYTES: u64 = 16 << 20;
/// Messages of one transaction.
const MESSAGES: usize = 50;

/// What a withdrawal did.
#[derive(Clone, Debug, Serialize)]
pub struct Withdrawn {
    /// The decision, as it was first made.
    #[serde(flatten)]
    pub withdrawal: Withdrawal,
    /// It had been withdrawn before, for the same reason.
    pub already: bool,
    /// The architectures whose index no longer lists it.
    pub architectures: Vec<Architecture>,
    /// Published images that hold it. They stay as they are; their streams are planned again.
    pub images: Vec<Holding>,
    /// Packages that now need a library which nothing provides.
    pub unprovided: Vec<String>,
}

/// A published image that holds a withdrawn package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// Image name.
    pub image: String,
    /// Stream.
    pub stream: String,
    /// Upstream version of its primary package.
    pub version: String,
    /// Digest of its index.
    pub digest: ports::Digest,
    /// What becomes of it.
    pub status: ReleaseStatus,
}

/// Withdraws a version of a definition: all its packages, on every architecture.
///
/// The index is written anew without it and the streams whose images hold it are planned. Files,
/// documents and the version's claim stay, so that the number is never given again.
///
/// # Errors
/// [`StageError::Rejected`] when there is no such version, or it was withdrawn for another reason.
pub async fn withdraw(context: &Context, package: &str, version: &str, reason: &str) -> Result<Withdrawn, StageError> {
    let published = published(context, package).await?;
    let of_version: Vec<&PublishedPackage> = published.iter().filter(|one| one.version == version).collect();
    if of_version.is_empty() {
        let versions: BTreeSet<&str> = published.iter().map(|one| one.version.as_str()).collect();
        let versions: Vec<&str> = versions.into_iter().collect();
        return Err(StageError::Rejected(match versions.as_slice() {
            [] => format!("`{package}` has no published version; a definition is named, not one of its subpackages"),
            versions => format!("`{package}` has no published version `{version}`; it has {}", versions.join(", ")),
        }));
    }
    let names: BTreeSet<String> = of_version.iter().flat_map(|one| one.packages.keys().cloned()).collect();
    let withdrawal = Withdrawal {
        package: package.to_owned(),
        version: version.to_owned(),
        reason: reason.to_owned(),
        time: context.clock.now(),
        packages: names.into_iter().collect(),
    };
    let architectures: Vec<Architecture> = of_version.iter().map(|one| one.architecture).collect();
    let (withdrawal, already) = decide(context, withdrawal, &architectures).await?;
    let images = holding(context, &withdrawal).await?;
    plan(context, &images).await?;
    let mut unprovided = BTreeSet::new();
    for architecture in &architectures {
        package_index::publish_index(context, *architecture).await?;
        unprovided.extend(abi::unprovided(&repository::entries(context, *architecture).await?));
    }
    Ok(Withdrawn { withdrawal, already, architectures, images, unprovided: unprovided.into_iter().collect() })
}

/// Records the withdrawal; one that stands for the same reason is found again.
async fn decide(
    context: &Context,
    withdrawal: Withdrawal,
    architectures: &[Architecture],
) -> Result<(Withdrawal, bool), StageError> {
    let key = record::withdrawal(&withdrawal.package, &withdrawal.version);
    let event = Event {
        time: withdrawal.time,
        kind: "package.withdrawn".to_owned(),
        subject: withdrawal.package.clone(),
        text: format!("{} {}: {}", withdrawal.package, withdrawal.version, withdrawal.reason),
    };
    let mut transaction = Transaction::default();
    transaction.put(key.clone(), Condition::Absent, &withdrawal)?;
    transaction.put(event.key(), Condition::Any, &event)?;
    for architecture in architectures {
        package_index::note_change(&mut transaction, *architecture, withdrawal.time)?;
    }
    match context.state.commit(transaction).await {
        Ok(()) => return Ok((withdrawal, false)),
        Err(PortError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(document) = context.state.get(&key).await? else {
        return Err(StageError::Rejected(format!("`{key}` was removed meanwhile; try again")));
    };
    let earlier: Withdrawal = document.decode()?;
    if earlier.reason == withdrawal.reason {
        return Ok((earlier, true));
    }
    Err(StageError::Rejected(format!(
        "{} {} was withdrawn on {} for another reason: {}",
        earlier.package, earlier.version, earlier.time, earlier.reason
    )))
}

/// The published images that hold a package of the withdrawn version.
async fn holding(context: &Context, withdrawal: &Withdrawal) -> Result<Vec<Holding>, StageError> {
    let mut images = Vec::new();
    for row in releases(context).await? {
        let plan: Plan = context.load("plan", row.release.plan, MAXIMUM_PLAN_BYTES).await?;
        let holds = plan.packages.values().flatten().any(|resolved| {
            let information = &resolved.entry.information;
            information.version == withdrawal.version && withdrawal.packages.contains(&information.name)
        });
        if holds {
            images.push(Holding {
                image: row.name,
                stream: row.release.stream,
                version: row.release.version,
                digest: row.release.digest,
                status: row.status,
            });
        }
    }
    Ok(images)
}

/// Has the streams planned that the catalog still has.
async fn plan(context: &Context, images: &[Holding]) -> Result<(), StageError> {
    let streams: BTreeSet<(&str, &str)> =
        images.iter().map(|held| (held.image.as_str(), held.stream.as_str())).collect();
    let known = streams.into_iter().filter(|(image, stream)| {
        context.catalog.images.get(*image).is_some_and(|source| source.definition.edition(stream).is_some())
    });
    let plans: Vec<ImagePlan> =
        known.map(|(image, stream)| ImagePlan { image: image.to_owned(), stream: stream.to_owned() }).collect();
    for chunk in plans.chunks(MESSAGES) {
        let messages = chunk.iter().map(Stage::envelope).collect::<Result<Vec<_>, _>>()?;
        context.state.commit(Transaction { messages, ..Transaction::default() }).await?;
    }
    Ok(())
}

/// A published version of a definition, and what is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct PackageVersion {
    /// The package definition.
    pub package: String,
    /// Full version.
    pub version: String,
    /// Its architecture.
    pub architecture: Architecture,
    /// When it was published.
    pub time: Timestamp,
    /// Its packages with their `Q1` checksums.
    pub packages: BTreeMap<String, String>,
    /// Why and when it was withdrawn, if it was.
    pub withdrawn: Option<Withdrawal>,
    /// What it was built from, and how each source stands by the package's policy.
    pub sources: Vec<SourceEvidence>,
    /// What the linters warn of.
    pub findings: Vec<lint::Finding>,
    /// What came of its tests: before it was published, or when they could run.
    pub tests: Vec<PackageTestReport>,
    /// Symbols and libraries that it no longer has and nobody misses.
    pub warnings: Vec<String>,
    /// What came of building it again, if anybody has.
    pub reproducibility: Option<Reproducibility>,
}

/// Every published version of a definition, lowest first.
///
/// # Errors
/// When the state or a build's result can't be read.
pub async fn package_versions(context: &Context, package: &str) -> Result<Vec<PackageVersion>, StageError> {
    let withdrawals = repository::withdrawals(context.state.as_ref()).await?;
    let mut versions = Vec::new();
    for one in published(context, package).await? {
        let mut build = build_result(context, one.build).await?;
        let later = later_key(package, &one.version, one.architecture);
        if let Some(document) = context.state.get(&later).await? {
            build.tests = with_later(build.tests, &document.decode::<LaterTests>()?.tests);
        }
        let again = context.state.get(&reproducible_key(package, &one.version, one.architecture)).await?;
        versions.push(PackageVersion {
            reproducibility: again.map(|document| document.decode()).transpose()?,
            withdrawn: withdrawals.get(&(package.to_owned(), one.version.clone())).cloned(),
            package: package.to_owned(),
            version: one.version,
            architecture: one.architecture,
            time: one.time,
            packages: one.packages,
            sources: build.sources,
            findings: build.findings,
            tests: build.tests,
            warnings: one.warnings,
        });
    }
    Ok(versions)
}

/// Builds of a definition that failed and have not been mended, with their version and architecture.
///
/// # Errors
/// When the state can't be read.
pub async fn package_failures(context: &Context, package: &str) -> Result<Vec<(String, Failure)>, StageError> {
    let documents = context.state.list_all(&record::package(package), "failure#").await?;
    let failures = documents.iter().map(|document| {
        let subject = document.key.sort.trim_start_matches("failure#").replace('#', " ");
        Ok((subject, document.decode()?))
    });
    failures.collect()
}

/// What is known of a definition's sources that were refused, the last of each version, oldest first.
///
/// # Errors
/// When the state can't be read.
pub async fn package_refusals(context: &Context, package: &str) -> Result<Vec<Refused>, StageError> {
    let documents = context.state.list_all(&record::package(package), "refused#").await?;
    let mut refused = documents.iter().map(ports::Document::decode).collect::<Result<Vec<Refused>, _>>()?;
    refused.sort_by_key(|one| one.time);
    Ok(refused)
}

async fn published(context: &Context, package: &str) -> Result<Vec<PublishedPackage>, StageError> {
    let documents = context.state.list_all(&record::package(package), "version#").await?;
    let mut published = documents.iter().map(ports::Document::decode).collect::<Result<Vec<PublishedPackage>, _>>()?;
    published
        .sort_by(|a, b| apk::compare_versions(&a.version, &b.version).unwrap_or_else(|| a.version.cmp(&b.version)));
    Ok(published)
}
