use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use ports::{Condition, Digest, Key, PortError, Transaction};
use registry::{Attachment, Reference, Repository};
use serde::{Deserialize, Serialize};
use sign::{Statement, predicate};
use vulnerability::vex::{self, Document, Facts};

use crate::image_plan::Plan;
use crate::image_publish::{ATTACHING, registry_failed, signed};
use crate::record::{self, Release};
use crate::releases::{self, ReleaseStatus, decoded};
use crate::vex::{Proofs, statements, whole_seconds};
use crate::{Context, Outcome, Stage, StageError};

const MAXIMUM_PLAN_BYTES: u64 = 64 << 20;
const AUTHOR: &str = "Minimill";

/// Brings the VEX documents of a published image to what is known now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageVex {
    /// Image name.
    pub image: String,
    /// Digest of the image index.
    pub digest: Digest,
}

/// The VEX documents of an image digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VexRecord {
    /// Counts the documents' changes, from 1.
    pub version: u64,
    /// When the first was issued.
    pub issued: Timestamp,
    /// When they last changed.
    pub updated: Timestamp,
    /// The statements: a list of [`vulnerability::vex::Statement`].
    pub statements: Digest,
    /// How many there are.
    pub count: u64,
    /// The attestations that hold the documents: what they are about, and their manifest. Those of a record
    /// that is not complete may not be in the registry yet.
    pub attached: BTreeSet<(Digest, Digest)>,
    /// Attestations of earlier documents that may still be in the registry.
    pub superseded: BTreeSet<(Digest, Digest)>,
    /// All this is in the registry.
    pub complete: bool,
}

#[async_trait]
impl Stage for ImageVex {
    const NAME: &'static str = "image-vex";

    fn subject(&self) -> String {
        self.image.clone()
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let key = Key::new(record::image(&self.image), format!("release#{}", self.digest));
        let release = decoded::<Release>(context, &key).await?.0;
        let Some(release) = release.filter(|release| release.complete && release.removed.is_none()) else {
            return Ok(Outcome::Skipped(format!("{} is not published", self.digest)));
        };
        let plan: Plan = context.load("plan", release.plan, MAXIMUM_PLAN_BYTES).await?;
        match publish(context, &plan, &release, context.clock.now()).await? {
            Some(record) => Ok(Outcome::Done(format!("{}: {}", self.digest, told(&record)))),
            None => Ok(Outcome::Skipped(format!("{}: nothing new is known", self.digest))),
        }
    }
}

fn told(record: &VexRecord) -> String {
    match record.count {
        1 => format!("1 statement, version {}", record.version),
        count => format!("{count} statements, version {}", record.version),
    }
}

pub(crate) fn record_key(image: &str, digest: Digest) -> Key {
    Key::new(record::image(image), format!("vex#{digest}"))
}

/// What is to stand in the registry, if it does not already; `now` is the time of a change.
async fn intended(
    context: &Context,
    plan: &Plan,
    digest: Digest,
    now: Timestamp,
    proofs: &mut Proofs,
) -> Result<Option<(VexRecord, Condition)>, StageError> {
    let (known, condition) = decoded::<VexRecord>(context, &record_key(&plan.image, digest)).await?;
    let found = statements(context, plan, proofs).await?;
    if known.is_none() && found.is_empty() {
        return Ok(None);
    }
    let blob = context.store(&found).await?;
    let now = whole_seconds(now);
    let (version, issued, updated) = match &known {
        Some(known) if known.statements == blob && known.complete => return Ok(None),
        Some(known) if known.statements == blob => (known.version, known.issued, known.updated),
        Some(known) => (known.version + 1, known.issued, now),
        None => (1, now, now),
    };
    // What an interrupted run attached is as old as what it followed: it may differ in its signature alone.
    let superseded = known.into_iter().flat_map(|known| known.attached.into_iter().chain(known.superseded));
    let record = VexRecord {
        version,
        issued,
        updated,
        statements: blob,
        count: found.len() as u64,
        attached: BTreeSet::new(),
        superseded: superseded.collect(),
        complete: false,
    };
    Ok(Some((record, condition)))
}

/// Attaches the documents about the index and each platform where they are not what is known now, and removes
/// those that they follow, since scanners take the first that they find.
///
/// The digests of what is attached are recorded before it is, so that a run after a crash knows all that may be
/// in the registry and leaves its own documents alone there.
///
/// # Errors
/// The state's, the signer's and the registry's.
pub(crate) async fn publish(
    context: &Context,
    plan: &Plan,
    release: &Release,
    now: Timestamp,
) -> Result<Option<VexRecord>, StageError> {
    let intended = intended(context, plan, release.digest, now, &mut Proofs::default()).await?;
    let Some((mut record, condition)) = intended else { return Ok(None) };
    let repository: Repository =
        plan.image.parse().map_err(|error: registry::Error| StageError::Rejected(crate::chain(&error)))?;
    let attachments = attachments(context, &repository, plan, release, &record).await?;
    record.attached = attachments.iter().map(|(subject, attachment)| (*subject, attachment.digest())).collect();
    record.superseded = record.superseded.difference(&record.attached).copied().collect();
    let key = record_key(&plan.image, release.digest);
    commit(context, &key, condition, &record).await?;
    let (recorded, condition) = decoded::<VexRecord>(context, &key).await?;
    if recorded.as_ref() != Some(&record) {
        let text = |record: &VexRecord| format!("version {} of the VEX documents", record.version);
        let (expected, found) = (text(&record), recorded.as_ref().map_or_else(|| "none".to_owned(), text));
        return Err(StageError::Port(PortError::Conflict { key, expected, found }));
    }
    let registry = context.registry.as_ref();
    for (_, attachment) in &attachments {
        attachment.push(registry, &repository).await.map_err(registry_failed(ATTACHING))?;
    }
    for (_, manifest) in &record.superseded {
        let reference = Reference::Digest(*manifest);
        registry
            .delete_manifest(&repository, &reference)
            .await
            .map_err(registry_failed("remove the VEX document that is superseded"))?;
    }
    record.superseded.clear();
    record.complete = true;
    commit(context, &key, condition, &record).await?;
    Ok(Some(record))
}

async fn commit(context: &Context, key: &Key, condition: Condition, record: &VexRecord) -> Result<(), StageError> {
    let mut transaction = Transaction::default();
    transaction.put(key.clone(), condition, record)?;
    Ok(context.state.commit(transaction).await?)
}

/// The signed documents about the index and each platform, with what they are about; none where nothing is known.
async fn attachments(
    context: &Context,
    repository: &Repository,
    plan: &Plan,
    release: &Release,
    record: &VexRecord,
) -> Result<Vec<(Digest, Attachment)>, StageError> {
    let statements: Vec<vex::Statement> = context.load("statements", record.statements, MAXIMUM_PLAN_BYTES).await?;
    let platforms = release.platforms.iter().map(|(architecture, manifest)| (*manifest, Some(architecture.oci())));
    let mut attachments = Vec::new();
    for (subject, platform) in std::iter::once((release.digest, None)).chain(platforms) {
        let Some(document) = document(&plan.image, subject, platform, record, &statements) else { continue };
        for kind in [predicate::OPENVEX, predicate::OPENVEX_UNVERSIONED] {
            let statement = Statement::new(subject, kind, &document)
                .map_err(|error| StageError::environment("sign the VEX document")(&error))?;
            attachments.push((subject, signed(context, repository, subject, &statement).await?));
        }
    }
    Ok(attachments)
}

fn document(
    image: &str,
    subject: Digest,
    platform: Option<&str>,
    record: &VexRecord,
    statements: &[vex::Statement],
) -> Option<Document> {
    let facts = Facts {
        id: &format!("https://minimill.dev/vex/{image}/sha256-{}", subject.hex()),
        author: AUTHOR,
        tooling: concat!("mill ", env!("CARGO_PKG_VERSION")),
        issued: record.issued,
        updated: (record.version > 1).then_some(record.updated),
        version: record.version,
        product: &sbom::image_purl(image, &subject.to_string()),
        sha256: &subject.hex(),
        platform,
    };
    Document::new(&facts, statements)
}

/// A message for each published digest that tags name and whose documents are not what is known now. None while a
/// file of `vex/` can't be read, since its statements would be taken back.
///
/// # Errors
/// When the state can't be read.
pub(crate) async fn due(context: &Context) -> Result<Vec<ImageVex>, StageError> {
    if context.catalog.problems.iter().any(|problem| problem.file.starts_with("vex/")) {
        return Ok(Vec::new());
    }
    let (mut messages, mut proofs) = (Vec::new(), Proofs::default());
    for image in context.catalog.images.keys() {
        let statuses = releases::statuses(context, image).await?;
        for document in context.state.list_all(&record::image(image), "release#").await? {
            let release: Release = document.decode()?;
            let named = statuses.of(&release) != ReleaseStatus::Superseded || statuses.named_by_tag(&release);
            if !release.complete || release.removed.is_some() || !named {
                continue;
            }
            let plan: Plan = context.load("plan", release.plan, MAXIMUM_PLAN_BYTES).await?;
            if intended(context, &plan, release.digest, context.clock.now(), &mut proofs).await?.is_some() {
                messages.push(ImageVex { image: image.clone(), digest: release.digest });
            }
        }
    }
    Ok(messages)
}
