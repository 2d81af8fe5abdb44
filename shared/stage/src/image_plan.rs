use std::collections::BTreeMap;

use apk::Architecture;
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ports::{Condition, Digest, Key, Transaction};
use recipe::{Edition, ImageConfiguration, ImageDefinition, Text};
use serde::{Deserialize, Serialize};

use crate::catalog::ImageSource;
use crate::record::{self, Event, Published};
use crate::releases::decoded;
use crate::repository::{self, Resolved};
use crate::universes::resolve_for_all;
use crate::{Context, ImageBuild, Outcome, Stage, StageError, chain};

/// Decides whether a stream of an image awaits a build: solves what it wants today, and compares
/// the answer with the lock of its last published build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// Image name.
    pub image: String,
    /// Name of the stream, or of its edition in a variant, such as `8.0-dev`.
    pub stream: String,
}

/// The last decision on a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImagePlanRecord {
    /// When it was made.
    pub time: Timestamp,
    /// Whether a build was asked for.
    pub due: bool,
    /// Whether the wants can't be met, so that the last good version stays.
    #[serde(default)]
    pub held: bool,
    /// Why, or why not.
    pub reason: String,
}

/// What is to be built, with every package pinned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Image name.
    pub image: String,
    /// Name of the stream, or of its edition in a variant.
    pub stream: String,
    /// The variant, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<PlannedVariant>,
    /// Further tags that follow the stream.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Digest of the image's definition and tests.
    pub definition: Digest,
    /// `apko.yaml` with the stream's constraint in place.
    pub configuration: String,
    /// Upstream version of the primary package.
    pub version: String,
    /// Packages per architecture, in install order.
    pub packages: BTreeMap<Architecture, Vec<Resolved>>,
    /// Why it is built.
    pub reason: String,
}

/// The variant that a plan builds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedVariant {
    /// The suffix of its tags, without the hyphen.
    pub name: String,
    /// The packages that it adds to the configuration's.
    pub packages: Vec<String>,
}

impl Plan {
    /// The configuration, with the variant's packages.
    ///
    /// # Errors
    /// [`StageError::Rejected`] when it can't be read.
    pub fn parsed(&self) -> Result<ImageConfiguration, StageError> {
        let file = format!("images/{}/apko.yaml", self.image);
        let mut parsed = ImageConfiguration::parse(&self.configuration, &file)
            .map_err(|error| StageError::Rejected(chain(&error)))?;
        parsed.check_for_catalog(&file).map_err(|error| StageError::Rejected(chain(&error)))?;
        if let Some(variant) = &self.variant {
            let added = variant.packages.iter().map(|want| Text { value: want.clone(), ..Text::default() });
            parsed.contents.packages.extend(added);
        }
        Ok(parsed)
    }

    /// The packages as a lock: name to version and checksum, which name content, not signatures.
    pub fn lock(&self) -> Lock {
        self.packages
            .iter()
            .map(|(architecture, packages)| {
                let packages = packages.iter().map(|package| {
                    let information = &package.entry.information;
                    (information.name.clone(), format!("{} {}", information.version, package.entry.checksum))
                });
                (*architecture, packages.collect())
            })
            .collect()
    }
}

/// Packages per architecture: name to `VERSION CHECKSUM`.
pub type Lock = BTreeMap<Architecture, BTreeMap<String, String>>;

/// What is decided on a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A build is asked for.
    Due(Box<Plan>),
    /// There is nothing to build, and why.
    NotDue(String),
    /// The wants can't be met; the last good version stays.
    Held(String),
}

#[async_trait]
impl Stage for ImagePlan {
    const NAME: &'static str = "image-plan";

    fn subject(&self) -> String {
        format!("{}:{}", self.image, self.stream)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let time = context.clock.now();
        let key = Key::new(record::image(&self.image), format!("plan#{}", self.stream));
        let (last, _) = decoded::<ImagePlanRecord>(context, &key).await?;
        let mut transaction = Transaction::default();
        let mut decided = ImagePlanRecord { time, due: false, held: false, reason: String::new() };
        let outcome = match self.decide(context).await? {
            Decision::Due(plan) => {
                decided.due = true;
                let reason = plan.reason.clone();
                let plan = context.store(plan.as_ref()).await?;
                transaction
                    .send(ImageBuild { image: self.image.clone(), stream: self.stream.clone(), plan }.envelope()?);
                Outcome::Done(format!("due: {reason}"))
            }
            Decision::NotDue(reason) => Outcome::Skipped(reason),
            Decision::Held(reason) => {
                decided.held = true;
                Outcome::Failed(reason)
            }
        };
        decided.reason = match &outcome {
            Outcome::Done(text) | Outcome::Skipped(text) | Outcome::Failed(text) => text.clone(),
        };
        if let Some(event) = self.event(last.as_ref(), &decided) {
            transaction.put(event.key(), Condition::Any, &event)?;
        }
        transaction.put(key, Condition::Any, &decided)?;
        context.state.commit(transaction).await?;
        Ok(outcome)
    }
}

impl ImagePlan {
    /// What a decision opens or closes: a stream that is held is told once for each reason, and once
    /// more when it is held no longer.
    fn event(&self, last: Option<&ImagePlanRecord>, decided: &ImagePlanRecord) -> Option<Event> {
        let was_held = last.is_some_and(|last| last.held);
        let same = last.is_some_and(|last| last.reason == decided.reason);
        let kind = match (was_held, decided.held) {
            (true, true) if same => return None,
            (_, true) => "image.held",
            (true, false) => "image.held-no-longer",
            (false, false) => return None,
        };
        let text = decided.reason.clone();
        Some(Event { time: decided.time, kind: kind.to_owned(), subject: self.subject(), text })
    }

    /// Decides without changing anything.
    ///
    /// # Errors
    /// [`StageError::Rejected`] when the catalog has no such image or stream.
    pub async fn decide(&self, context: &Context) -> Result<Decision, StageError> {
        let source = context
            .catalog
            .images
            .get(&self.image)
            .ok_or_else(|| StageError::Rejected(format!("the catalog has no image `{}`", self.image)))?;
        let edition = source
            .definition
            .edition(&self.stream)
            .ok_or_else(|| StageError::Rejected(format!("image `{}` has no stream `{}`", self.image, self.stream)))?;
        let today = context.clock.now().to_zoned_datetime(TimeZone::UTC).date();
        if let Some(end) = edition.stream.end_of_life.filter(|end| *end < today) {
            return Ok(Decision::NotDue(format!("the stream reached its end of life on {end}")));
        }
        let key = Key::new(record::image(&self.image), format!("stream#{}", self.stream));
        let published = match context.state.get(&key).await? {
            Some(document) => Some(document.decode::<Published>()?),
            None => None,
        };
        let withdrawn = withdrawn(context, published.as_ref()).await?;
        let (mut plan, passed_over) = match self.solve(context, source, edition).await {
            Ok(Some(solved)) => solved,
            Ok(None) => return Ok(Decision::NotDue(left_out(context, &source.definition.architectures))),
            Err(StageError::Rejected(reason)) => return Ok(Decision::Held(format!("{reason}{withdrawn}"))),
            Err(error) => return Err(error),
        };
        let lost: Vec<Architecture> = source
            .definition
            .architectures
            .iter()
            .copied()
            .filter(|one| published.as_ref().is_some_and(|published| published.lock.contains_key(one)))
            .filter(|one| !plan.packages.contains_key(one))
            .collect();
        if !lost.is_empty() {
            return Ok(Decision::Held(format!(
                "it is published for an architecture that can't be built here; {}",
                left_out(context, &lost)
            )));
        }
        Ok(match due(published.as_ref(), &plan) {
            Some(reason) => {
                plan.reason = format!("{reason}{withdrawn}{passed_over}");
                Decision::Due(Box::new(plan))
            }
            None => Decision::NotDue(format!(
                "no package changed since {}{passed_over}",
                published.map(|published| published.digest.to_string()).unwrap_or_default()
            )),
        })
    }

    /// The plan, and what is to be said of versions that were passed over, as an addition to a reason.
    async fn solve(
        &self,
        context: &Context,
        source: &ImageSource,
        edition: Edition<'_>,
    ) -> Result<Option<(Plan, String)>, StageError> {
        let mut plan = Plan {
            image: self.image.clone(),
            stream: self.stream.clone(),
            variant: edition.variant.map(|variant| PlannedVariant {
                name: variant.name.value.clone(),
                packages: variant.packages.iter().map(|want| want.value.clone()).collect(),
            }),
            tags: edition.stream.tags.iter().map(|tag| tag.value.clone()).collect(),
            definition: source.digest,
            configuration: ImageDefinition::expand(&source.configuration, edition.stream),
            version: String::new(),
            packages: BTreeMap::new(),
            reason: String::new(),
        };
        let wants: Vec<String> = plan.parsed()?.contents.packages.iter().map(|want| want.value.clone()).collect();
        let named = source.definition.architectures.iter().copied();
        let built: Vec<Architecture> = named.filter(|one| context.settings.architectures.contains(one)).collect();
        if built.is_empty() {
            return Ok(None);
        }
        let resolution = resolve_for_all(context, &built, &self.subject(), &wants).await?;
        plan.packages = resolution.packages;
        plan.version = primary_version(&plan.packages, &source.definition.primary.value)?;
        let passed_over = resolution.passed_over.iter().map(|text| format!(" ({text})")).collect();
        Ok(Some((plan, passed_over)))
    }
}

/// Why architectures are not built here.
fn left_out(context: &Context, architectures: &[Architecture]) -> String {
    let reasons = architectures.iter().map(|architecture| {
        let reason = context.settings.left_out.get(architecture).map_or("it is not asked for", String::as_str);
        format!("{architecture} is not built: {reason}")
    });
    reasons.collect::<Vec<_>>().join("; ")
}

/// The primary package's upstream version, which must be one on all architectures.
fn primary_version(packages: &BTreeMap<Architecture, Vec<Resolved>>, primary: &str) -> Result<String, StageError> {
    let mut versions = packages.iter().map(|(architecture, packages)| {
        let package = packages.iter().find(|package| package.entry.information.name == primary).ok_or_else(|| {
            StageError::Rejected(format!(
                "the primary package `{primary}` is not among the packages for {architecture}"
            ))
        })?;
        let version = package.entry.information.version.parse::<apk::Version>();
        version
            .map(|version| version.upstream().to_owned())
            .map_err(|error| StageError::Rejected(format!("the primary package `{primary}`: {}", chain(&error))))
    });
    let first = versions.next().unwrap_or_else(|| Err(StageError::Rejected("no architecture is built".to_owned())))?;
    for version in versions {
        let version = version?;
        if version != first {
            return Err(StageError::Rejected(format!(
                "the primary package `{primary}` is at {first} and {version} on different architectures"
            )));
        }
    }
    Ok(first)
}

/// What of a published lock was withdrawn since, as an addition to a reason; empty when nothing was.
async fn withdrawn(context: &Context, published: Option<&Published>) -> Result<String, StageError> {
    let Some(published) = published else { return Ok(String::new()) };
    let mut texts = std::collections::BTreeSet::new();
    for withdrawal in repository::withdrawals(context.state.as_ref()).await?.values() {
        let locked = |name: &String| {
            let mut pinned = published.lock.values().filter_map(|lock| lock.get(name));
            pinned.any(|pinned| version(pinned) == withdrawal.version)
        };
        if withdrawal.packages.iter().any(locked) {
            texts.insert(format!("{} {} was withdrawn: {}", withdrawal.package, withdrawal.version, withdrawal.reason));
        }
    }
    let texts: Vec<String> = texts.into_iter().collect();
    Ok(if texts.is_empty() { String::new() } else { format!(" ({})", texts.join("; ")) })
}

/// Why a stream awaits a build; `None` when it does not.
fn due(published: Option<&Published>, plan: &Plan) -> Option<String> {
    let Some(published) = published else { return Some("first build of the stream".to_owned()) };
    let differences = differences(&published.lock, &plan.lock());
    if !differences.is_empty() {
        return Some(differences.join(", "));
    }
    (published.definition != plan.definition).then(|| "its definition or tests changed".to_owned())
}

/// The packages that differ between two locks, each named once.
pub fn differences(old: &Lock, new: &Lock) -> Vec<String> {
    let empty = BTreeMap::new();
    let mut texts = Vec::new();
    for architecture in Architecture::ALL {
        let (old, new) = (old.get(&architecture).unwrap_or(&empty), new.get(&architecture).unwrap_or(&empty));
        for (name, pinned) in new {
            match old.get(name) {
                None => texts.push(format!("{name} {} added", version(pinned))),
                Some(before) if before == pinned => {}
                Some(before) if version(before) == version(pinned) => {
                    texts.push(format!("{name} {} has other content", version(pinned)))
                }
                Some(before) => texts.push(format!("{name} {} -> {}", version(before), version(pinned))),
            }
        }
        texts.extend(
            old.iter()
                .filter(|(name, _)| !new.contains_key(*name))
                .map(|(name, before)| format!("{name} {} removed", version(before))),
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

fn version(pinned: &str) -> &str {
    pinned.split(' ').next().unwrap_or(pinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let packages = packages
            .iter()
            .map(|(name, pinned)| ((*name).to_owned(), (*pinned).to_owned()))
            .collect::<BTreeMap<_, _>>();
        Architecture::ALL.into_iter().map(|architecture| (architecture, packages.clone())).collect()
    }

    #[test]
    fn differences_are_named_once_for_all_architectures() {
        let old = lock(&[("a", "1-r0 Q1x"), ("b", "1-r0 Q1x"), ("c", "1-r0 Q1x"), ("d", "1-r0 Q1x")]);
        let new = lock(&[("a", "1-r0 Q1x"), ("b", "2-r0 Q1y"), ("c", "1-r0 Q1y"), ("e", "3-r0 Q1z")]);
        assert_eq!(
            differences(&old, &new),
            ["b 1-r0 -> 2-r0", "c 1-r0 has other content", "e 3-r0 added", "d 1-r0 removed"]
        );
        assert!(differences(&new, &new).is_empty());
    }

    #[test]
    fn a_primary_package_that_is_missing_or_has_no_proper_version_is_told() {
        let packages = |name: &str, version: &str| {
            let information = apk::PackageInformation {
                name: name.to_owned(),
                version: version.to_owned(),
                ..apk::PackageInformation::default()
            };
            let entry = apk::IndexEntry { information, ..apk::IndexEntry::default() };
            BTreeMap::from([(Architecture::X86_64, vec![Resolved { entry, blob: Digest::of(b"") }])])
        };
        assert_eq!(primary_version(&packages("server", "1.2-r3"), "server").unwrap(), "1.2");
        let problem =
            |name: &str, version: &str| primary_version(&packages(name, version), "server").unwrap_err().to_string();
        assert_eq!(problem("client", "1"), "the primary package `server` is not among the packages for x86_64");
        let wrong = problem("server", "6.8.0p2-r4");
        assert!(wrong.starts_with("the primary package `server`: ") && wrong.contains("6.8.0p2-r4"), "{wrong}");
    }
}
