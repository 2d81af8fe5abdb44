use std::collections::BTreeMap;

use apk::Architecture;
use async_trait::async_trait;
use ports::{Condition, Digest, Key, Transaction, Write};
use registry::{Attachment, Reference, Repository, Tag, TagRule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sign::{Statement, predicate, simple_signing};

use crate::image_build::BuildRecord;
use crate::image_plan::Plan;
use crate::image_test::Reports;
use crate::record::{self, Event, Published, Release, TagMove};
use crate::releases::{Ownership, decoded};
use crate::rules::tags;
use crate::{Context, Outcome, Stage, StageError, VulnerabilityScan, image_push, image_vex, provenance};

const MAXIMUM_RECORD_BYTES: u64 = 64 << 20;
/// What is being done when it fails.
pub(crate) const ATTACHING: &str = "attach the attestation";

/// Signs, attests and publishes a tested image, and moves the tags that its version owns.
///
/// The order makes every crash harmless: what is to happen is recorded first, then content,
/// signatures and attestations are pushed, then tags move, then the stream is at the new digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePublish {
    /// Image name.
    pub image: String,
    /// Stream name.
    pub stream: String,
    /// The [`BuildRecord`].
    pub build: Digest,
    /// The test report.
    pub report: Digest,
}

#[async_trait]
impl Stage for ImagePublish {
    const NAME: &'static str = "image-publish";

    fn subject(&self) -> String {
        format!("{}:{}", self.image, self.stream)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let build: BuildRecord = read(context, self.build).await?;
        let plan: Plan = read(context, build.plan).await?;
        let repository: Repository =
            self.image.parse().map_err(|error: registry::Error| StageError::Rejected(crate::chain(&error)))?;
        let release = self.intend(context, &build, &plan).await?;
        if !release.complete {
            image_push::push(context, &repository, &build).await?;
            self.attest(context, &repository, &build, &plan).await?;
            image_vex::publish(context, &plan, &release, release.time).await?;
        }
        move_tags(context, &repository, &release).await?;
        self.complete(context, &build, &plan, &release).await?;
        Ok(Outcome::Done(format!("{} is {} ({})", release.digest, release.tags.join(", "), release.timestamp_tag)))
    }
}

async fn read<T: serde::de::DeserializeOwned>(context: &Context, digest: Digest) -> Result<T, StageError> {
    context.load("record", digest, MAXIMUM_RECORD_BYTES).await
}

pub(crate) fn registry_failed(action: &str) -> impl FnOnce(registry::Error) -> StageError {
    let action = action.to_owned();
    move |error| StageError::environment(action)(&error)
}

impl ImagePublish {
    /// Records what is to happen, once: a run after a crash takes up the same time and tags.
    async fn intend(&self, context: &Context, build: &BuildRecord, plan: &Plan) -> Result<Release, StageError> {
        let partition = record::image(&self.image);
        let key = Key::new(partition.clone(), format!("release#{}", build.index));
        let (known, condition) = decoded::<Release>(context, &key).await?;
        let removed = known.as_ref().is_some_and(|known| known.removed.is_some());
        let (ownership, ownership_condition) =
            decoded::<Ownership>(context, &Key::new(partition.clone(), "tags")).await?;
        let mut ownership = ownership.unwrap_or_default();
        if let Some(known) = &known
            && !removed
            && (!known.complete || ownership.owns(known))
        {
            return Ok(known.clone());
        }
        let now = context.clock.now();
        let known = known.filter(|_| !removed);
        let moved_at = known.as_ref().filter(|known| !known.complete).map_or(now, |known| known.time);
        let time = known.as_ref().map_or(now, |known| known.time);
        let variant = plan.variant.as_ref().map(|variant| variant.name.as_str());
        let moving = tags::moving(
            tags::Tagged {
                stream: stream_name(&self.stream, variant),
                further: &plan.tags,
                variant,
                version: &plan.version,
            },
            &ownership.others(&self.stream, variant),
        );
        let timestamp_tag = match &known {
            Some(known) => known.timestamp_tag.clone(),
            None => free_timestamp(&ownership, &plan.version, variant, time),
        };
        let mut transaction = Transaction::default();
        for tag in moving.iter().chain([&timestamp_tag]) {
            let from = ownership.tags.insert(tag.clone(), build.index);
            if from != Some(build.index) {
                let moved = TagMove {
                    tag: tag.clone(),
                    from,
                    to: Some(build.index),
                    time: moved_at,
                    reason: plan.reason.clone(),
                };
                transaction.put(ownership.next_move(&self.image, tag), Condition::Absent, &moved)?;
            }
        }
        ownership.streams.insert(self.stream.clone(), plan.version.clone());
        if let Some(variant) = variant {
            ownership.variants.insert(self.stream.clone(), variant.to_owned());
        }
        let reports: Reports = read(context, self.report).await?;
        let release = Release {
            stream: self.stream.clone(),
            version: plan.version.clone(),
            digest: build.index,
            platforms: build
                .platforms
                .iter()
                .map(|(architecture, platform)| (*architecture, platform.manifest))
                .collect(),
            timestamp_tag,
            tags: moving,
            time,
            size: build.platforms.values().flat_map(|platform| &platform.content).map(|(_, size)| size).sum(),
            reason: plan.reason.clone(),
            plan: build.plan,
            sboms: sboms(build),
            build: Some(self.build),
            report: self.report,
            tests: reports.summary(),
            complete: known.is_some_and(|known| known.complete),
            removed: None,
            purged: false,
        };
        transaction.put(key, condition, &release)?;
        transaction.put(Key::new(partition, "tags"), ownership_condition, &ownership)?;
        context.state.commit(transaction).await?;
        Ok(release)
    }

    /// Signs and attests the index and each platform's manifest.
    async fn attest(
        &self,
        context: &Context,
        repository: &Repository,
        build: &BuildRecord,
        plan: &Plan,
    ) -> Result<(), StageError> {
        let reports: Reports = read(context, self.report).await?;
        let configuration = Digest::of(plan.configuration.as_bytes());
        let mut subjects = vec![(build.index, build.sbom, build.bom, None)];
        subjects.extend(
            build
                .platforms
                .iter()
                .map(|(architecture, platform)| (platform.manifest, platform.sbom, platform.bom, Some(*architecture))),
        );
        for (subject, sbom, bom, architecture) in subjects {
            let document: Value = read(context, sbom).await?;
            let provenance = provenance::of_image(&provenance::ImageInputs {
                image: &self.image,
                stream: &self.stream,
                variant: plan.variant.as_ref(),
                architecture: architecture.map(Architecture::oci),
                definition: plan.definition,
                configuration,
                plan: build.plan,
                packages: &materials(plan, architecture),
                program: build.program,
            });
            let test = reports.attestation(architecture);
            let mut statements = vec![
                Statement::new(subject, predicate::SIGNATURE, &json!({})),
                Statement::new(subject, predicate::SPDX, &document),
                Statement::new(subject, predicate::PROVENANCE, &provenance),
                Statement::new(subject, predicate::TEST_RESULT, &test),
            ];
            if let Some(bom) = bom {
                let document: Value = read(context, bom).await?;
                statements.push(Statement::new(subject, predicate::CYCLONEDX, &document));
            }
            for statement in statements {
                let statement = statement.map_err(|error| StageError::environment("sign the image")(&error))?;
                attach(context, repository, subject, &statement).await?;
            }
            if context.settings.legacy_signatures {
                let signer = context.attestor()?.signer().ok_or_else(|| {
                    StageError::Rejected("signatures under the older tag need a key; unset `legacy-tags`".to_owned())
                })?;
                let signature = simple_signing::sign(signer, repository.as_str(), subject)
                    .await
                    .map_err(|error| StageError::environment("sign the image")(&error))?;
                registry::attach_simple_signature(context.registry.as_ref(), repository, subject, &signature)
                    .await
                    .map_err(registry_failed("attach the signature"))?;
            }
        }
        Ok(())
    }

    async fn complete(
        &self,
        context: &Context,
        build: &BuildRecord,
        plan: &Plan,
        release: &Release,
    ) -> Result<(), StageError> {
        let partition = record::image(&self.image);
        let key = Key::new(partition.clone(), format!("release#{}", release.digest));
        let done = Release { complete: true, ..release.clone() };
        let published = Published {
            version: plan.version.clone(),
            digest: build.index,
            definition: plan.definition,
            lock: plan.lock(),
        };
        let text = format!("{} {} is {}", self.image, plan.version, release.digest);
        let event = Event { time: release.time, kind: "image.published".to_owned(), subject: self.subject(), text };
        let (ownership, _) = decoded::<Ownership>(context, &Key::new(partition.clone(), "tags")).await?;
        let mut transaction = Transaction::default();
        transaction.put(key, Condition::Any, &done)?;
        // A run that comes late must not put its stream back to what a newer build has followed.
        if ownership.is_some_and(|ownership| ownership.owns(release)) {
            let stream = Key::new(partition.clone(), format!("stream#{}", self.stream));
            transaction.put(stream, Condition::Any, &published)?;
            let failure = Key::new(partition, format!("failure#{}", self.stream));
            transaction.writes.push(Write { key: failure, condition: Condition::Any, value: None });
        }
        transaction.put(event.key(), Condition::Any, &event)?;
        transaction.send(VulnerabilityScan { image: self.image.clone(), digest: release.digest }.envelope()?);
        Ok(context.state.commit(transaction).await?)
    }
}

/// The stream of an edition's name.
fn stream_name<'a>(edition: &'a str, variant: Option<&str>) -> &'a str {
    let stream = variant.and_then(|variant| edition.strip_suffix(variant)?.strip_suffix('-'));
    stream.unwrap_or(edition)
}

/// The timestamp tag, of the first minute from `time` on that no other digest of the version has.
fn free_timestamp(ownership: &Ownership, version: &str, variant: Option<&str>, time: jiff::Timestamp) -> String {
    let mut minutes = 0_i64;
    loop {
        let at = time.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap_or(time);
        let tag = tags::timestamp(version, variant, at);
        if !ownership.tags.contains_key(&tag) || minutes > 1_000_000 {
            return tag;
        }
        minutes += 1;
    }
}

fn sboms(build: &BuildRecord) -> BTreeMap<String, Digest> {
    let platforms =
        build.platforms.iter().map(|(architecture, platform)| (architecture.oci().to_owned(), platform.sbom));
    platforms.chain([("index".to_owned(), build.sbom)]).collect()
}

/// Signs a statement about a manifest and attaches it, so that whoever asks for the manifest's
/// referrers finds it. Doing so again with a deterministic key changes nothing; other signers leave
/// a second signature of the same statement.
///
/// # Errors
/// The signer's and the registry's.
pub async fn attach(
    context: &Context,
    repository: &Repository,
    subject: Digest,
    statement: &Statement,
) -> Result<Digest, StageError> {
    let attachment = signed(context, repository, subject, statement).await?;
    attachment.push(context.registry.as_ref(), repository).await.map_err(registry_failed(ATTACHING))?;
    Ok(attachment.digest())
}

/// Signs a statement about a manifest; nothing is pushed yet.
pub(crate) async fn signed(
    context: &Context,
    repository: &Repository,
    subject: Digest,
    statement: &Statement,
) -> Result<Attachment, StageError> {
    let bundle = context
        .attestor()?
        .attest(statement)
        .await
        .map_err(|error| StageError::environment("sign the image")(&error))?;
    let registry = context.registry.as_ref();
    Attachment::new(registry, repository, subject, bundle, &statement.predicate_type, None)
        .await
        .map_err(registry_failed(ATTACHING))
}

/// The packages of one architecture, or of all.
fn materials(plan: &Plan, architecture: Option<Architecture>) -> Vec<provenance::Material<'_>> {
    plan.packages
        .iter()
        .filter(|(other, _)| architecture.is_none_or(|architecture| **other == architecture))
        .flat_map(|(architecture, packages)| packages.iter().map(move |package| (*architecture, package)))
        .map(|(architecture, package)| provenance::Material {
            name: &package.entry.information.name,
            version: &package.entry.information.version,
            architecture,
            file: package.blob,
            checksum: &package.entry.checksum,
        })
        .collect()
}

/// Makes the registry's tags what the state says they are now, which may be a newer build than
/// this one's. When another build takes a tag meanwhile, it is moved again: whoever moves it last
/// has seen the newest owner.
async fn move_tags(context: &Context, repository: &Repository, release: &Release) -> Result<(), StageError> {
    let key = Key::new(record::image(repository.as_str()), "tags");
    let mut owned = decoded::<Ownership>(context, &key).await?.0.unwrap_or_default().tags;
    loop {
        for tag in release.tags.iter().chain([&release.timestamp_tag]) {
            if let Some(owner) = owned.get(tag) {
                let rule = if *tag == release.timestamp_tag { TagRule::Immutable } else { TagRule::Move };
                move_tag(context, repository, tag, *owner, rule).await?;
            }
        }
        let now = decoded::<Ownership>(context, &key).await?.0.unwrap_or_default().tags;
        if now == owned {
            return Ok(());
        }
        owned = now;
    }
}

async fn move_tag(
    context: &Context,
    repository: &Repository,
    tag: &str,
    owner: Digest,
    rule: TagRule,
) -> Result<(), StageError> {
    let name: Tag = tag.parse().map_err(|error: registry::Error| StageError::Rejected(crate::chain(&error)))?;
    let registry = context.registry.as_ref();
    let current =
        registry.resolve(repository, &Reference::Tag(name.clone())).await.map_err(registry_failed("read the tag"))?;
    if current == Some(owner) {
        return Ok(());
    }
    // Another build that owns the tag by now, but is not pushed yet, will move it itself.
    let manifest =
        registry.manifest(repository, &Reference::Digest(owner)).await.map_err(registry_failed("read the image"))?;
    if let Some(manifest) = manifest {
        registry
            .put_manifest(repository, &manifest, Some(&name), rule)
            .await
            .map_err(registry_failed("move the tag"))?;
    }
    Ok(())
}
