use std::cmp::Ordering;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use ports::{Condition, Document, Key, Transaction};
use recipe::PackageDefinition;
use serde::{Deserialize, Serialize};
use upstream::{Considered, Decision, Verdict};

use crate::record::{self, Asked, Event, Upstream};
use crate::rules::releases::Releases;
use crate::rules::schedule;
use crate::update::{Basis, Proposal, proposed_update};
use crate::watch::{self, Watched, watched};
use crate::{Context, Outcome, Stage, StageError};

/// Looks for a newer release of a package's upstream, and verifies its source.
///
/// The newer version takes effect through the state: the next build plan uses the catalog's
/// definition with the new version and checksum in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCheck {
    /// Name of the package definition.
    pub package: String,
}

#[async_trait]
impl Stage for UpstreamCheck {
    const NAME: &'static str = "upstream-check";

    fn subject(&self) -> String {
        self.package.clone()
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let answer = match check(context, &self.package, Checks::Scheduled).await {
            Ok(Checked::Not(reason)) => return Ok(Outcome::Skipped(reason)),
            Ok(Checked::Later(reason)) => return Ok(Outcome::Skipped(reason)),
            Ok(Checked::Asked(answer)) => answer,
            // Upstream has been asked several times by now; the next check asks again.
            Err(error @ StageError::Environment { .. }) => return Ok(Outcome::Failed(error.to_string())),
            Err(error) => return Err(error),
        };
        let Some(chosen) = &answer.decision.chosen else {
            return Ok(match answer.republished().next() {
                Some(alarm) => Outcome::Failed(alarmed(&self.package, alarm)),
                None => Outcome::Skipped(format!("{} is the newest release", answer.current)),
            });
        };
        let (version, current) = (&chosen.version, &answer.current);
        let follows = format!("{version} follows {current}");
        let definition = definition(context, &self.package)?;
        if definition.update.manual {
            return Ok(Outcome::Skipped(format!("{follows}, but its updates are made by hand (`update.manual`)")));
        }
        let proposal = match proposed_update(context, definition, &answer.watched, chosen).await {
            Ok(proposal) => proposal,
            Err(StageError::Rejected(reason)) => {
                return Ok(Outcome::Failed(format!("{version} is not authentic: {reason}")));
            }
            Err(StageError::Environment { reason, .. }) => {
                return Ok(Outcome::Skipped(format!("{follows}, but its source can't be fetched now: {reason}")));
            }
            Err(error) => return Err(error),
        };
        match proposal {
            Proposal::Unproved(reason) => {
                Ok(Outcome::Skipped(format!("{follows}, but {reason}; see `mill upstream update {}`", self.package)))
            }
            Proposal::Ready { checksum, basis, evidence, authenticity, further, .. } => {
                let (version, found) = (version.clone(), context.clock.now());
                let checksum = (&checksum).into();
                let basis = Some(basis);
                let upstream = Upstream { version, checksum, found, basis, evidence, authenticity, further };
                record_release(context, &self.package, &answer, &upstream).await?;
                Ok(Outcome::Done(follows))
            }
        }
    }
}

/// Which packages are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Those whose schedule has come.
    Scheduled,
    /// All that are watched.
    All,
}

/// What came of a check.
#[derive(Debug)]
pub enum Checked {
    /// The package is not watched, and why.
    Not(String),
    /// Its schedule has not come, and when it was asked last.
    Later(String),
    /// Upstream was asked.
    Asked(Box<Answer>),
}

/// What upstream answered.
#[derive(Debug)]
pub struct Answer {
    /// How the definition is watched.
    pub watched: Watched,
    /// The version that the factory has: the definition's, or a newer one found before.
    pub current: String,
    /// What was chosen, and what came of each candidate.
    pub decision: Decision,
    known: Option<Document>,
}

impl Answer {
    /// Releases that are not older than the current version and have become another than they were.
    pub fn republished(&self) -> impl Iterator<Item = &Considered> {
        self.decision.considered.iter().filter(|one| {
            one.verdict == Verdict::Republished
                && apk::compare_versions(&one.version, &self.current) != Some(Ordering::Less)
        })
    }
}

/// What an alarm says.
fn alarmed(package: &str, one: &Considered) -> String {
    format!(
        "{package} {} ({}) is {}; it is not built until its definition states the new commit, or `mill upstream accept \
         {package} {}` takes it",
        one.version,
        one.upstream(),
        one.reason,
        one.version
    )
}

fn definition<'a>(context: &'a Context, name: &str) -> Result<&'a PackageDefinition, StageError> {
    let source = context.catalog.packages.get(name);
    source
        .map(|source| &source.definition)
        .ok_or_else(|| StageError::Rejected(format!("the catalog has no package `{name}`")))
}

/// Key of what is remembered of a package's releases.
pub(crate) fn releases_key(name: &str) -> Key {
    Key::new(record::package(name), "releases")
}

/// Key of the newer version of a package.
pub(crate) fn upstream_key(name: &str) -> Key {
    Key::new(record::package(name), "upstream")
}

/// Asks upstream about one package, remembers the releases that it names, and raises the event
/// `upstream.republished` for each that has become another. Nothing is written when nothing is
/// new, but for the time of a check that has a schedule.
///
/// # Errors
/// [`StageError::Rejected`] when the definition can't be watched, [`StageError::Environment`] when
/// upstream can't be asked.
pub async fn check(context: &Context, name: &str, checks: Checks) -> Result<Checked, StageError> {
    let definition = definition(context, name)?;
    let update = &definition.update;
    if update.enabled != Some(true) {
        let reason = update.exclude_reason.as_ref().map(|reason| format!(": {}", reason.value));
        return Ok(Checked::Not(format!("its definition does not ask for updates{}", reason.unwrap_or_default())));
    }
    let now = context.clock.now();
    if let Some(reason) = too_early(context, definition, checks, now).await? {
        return Ok(Checked::Later(reason));
    }
    let file = context.catalog.packages.get(name).and_then(|source| source.watch.as_ref());
    let file = file.map(Result::as_ref).transpose().map_err(|reason| StageError::Rejected(reason.clone()))?;
    let architecture = watch::architecture(context);
    let mut watched = watched(definition, file, architecture, &context.catalog.pipelines)?;
    let known = context.state.get(&upstream_key(name)).await?;
    let current = current(definition, known.as_ref())?;
    let document = context.state.get(&releases_key(name)).await?;
    let mut releases: Releases = document.as_ref().map(Document::decode).transpose()?.unwrap_or_default();
    watched.watch.current = Some(current.clone());
    // What the definition states is what a person has looked at.
    for (release, identity) in &releases.seen {
        watched.watch.seen.entry(release.clone()).or_insert_with(|| identity.clone());
    }
    let decision = context.upstreams.check(&watched.watch).await;
    let decision =
        decision.map_err(|error| watch::classify(&format!("ask upstream, {}", watched.watch.monitored), &error))?;
    let before = releases.clone();
    for (release, identity) in &watched.watch.seen {
        releases.seen.insert(release.clone(), identity.clone());
    }
    let news = releases.note(&decision.considered, now);
    let mut transaction = Transaction::default();
    if releases != before {
        let condition = document.map_or(Condition::Absent, |document| Condition::Revision(document.revision));
        transaction.put(releases_key(name), condition, &releases)?;
    }
    for (release, one) in news {
        let text = format!("{name} {} ({release}) was `{}` and is `{}` now", one.version, one.was, one.now);
        let subject = format!("{name} {release}");
        let event = Event { time: now, kind: "upstream.republished".to_owned(), subject, text };
        transaction.put(event.key(), Condition::Any, &event)?;
    }
    if update.schedule.is_some() {
        transaction.put(Key::new(record::package(name), "asked"), Condition::Any, &Asked { time: now })?;
    }
    if !transaction.writes.is_empty() {
        context.state.commit(transaction).await?;
    }
    Ok(Checked::Asked(Box::new(Answer { watched, current, decision, known })))
}

/// Checks packages, `at_once` at a time; the answers come in the order of the names.
pub fn check_all<'a>(
    context: &'a Context,
    names: impl IntoIterator<Item = String> + 'a,
    checks: Checks,
    at_once: usize,
) -> impl Stream<Item = (String, Result<Checked, StageError>)> + 'a {
    futures_util::stream::iter(names)
        .map(move |name| async move {
            let result = check(context, &name, checks).await;
            (name, result)
        })
        .buffered(at_once.max(1))
}

async fn too_early(
    context: &Context,
    definition: &PackageDefinition,
    checks: Checks,
    now: Timestamp,
) -> Result<Option<String>, StageError> {
    let Some(schedule) = definition.update.schedule.as_ref().filter(|_| checks == Checks::Scheduled) else {
        return Ok(None);
    };
    let key = Key::new(record::package(&definition.package.name.value), "asked");
    let asked: Option<Asked> = context.state.get(&key).await?.as_ref().map(Document::decode).transpose()?;
    let last = asked.map(|asked| asked.time);
    let Some(period) = schedule.period else {
        return Err(StageError::Rejected(format!(
            "{}: `update.schedule.period` is `{}`; write `daily`, `weekly` or `monthly`",
            definition.file, schedule.written_period.value
        )));
    };
    if schedule::is_due(period, last, now) {
        return Ok(None);
    }
    let when = last.map(|last| last.to_string()).unwrap_or_default();
    Ok(Some(format!("asked {} (`update.schedule`), last at {when}", schedule::name(period))))
}

/// The newer of the definition's version and the one found before.
fn current(definition: &PackageDefinition, known: Option<&Document>) -> Result<String, StageError> {
    let own = &definition.package.version.value;
    let known = known.map(Document::decode::<Upstream>).transpose()?;
    let newer = known.filter(|known| apk::compare_versions(&known.version, own) == Some(Ordering::Greater));
    Ok(newer.map_or_else(|| own.clone(), |known| known.version))
}

/// How a newer version's source stands, for people.
fn standing(upstream: &Upstream) -> String {
    match (upstream.basis, &upstream.authenticity) {
        (Some(Basis::TagOnFirstUse), None) => "the tag's commit is trusted on first use".to_owned(),
        (Some(Basis::TagOnFirstUse | Basis::AddressOnFirstUse), Some(verdict)) => {
            format!("trusted on first use ({})", verdict.sentence())
        }
        (_, Some(verdict)) => verdict.sentence(),
        (_, None) => "its source is not proved".to_owned(),
    }
}

async fn record_release(
    context: &Context,
    package: &str,
    answer: &Answer,
    upstream: &Upstream,
) -> Result<(), StageError> {
    let event = Event {
        time: upstream.found,
        kind: "upstream.released".to_owned(),
        subject: package.to_owned(),
        text: format!("{package} {} follows {}, {}", upstream.version, answer.current, standing(upstream)),
    };
    let mut transaction = Transaction::default();
    let revision = answer.known.as_ref().map(|document| document.revision);
    transaction.put(upstream_key(package), revision.map_or(Condition::Absent, Condition::Revision), upstream)?;
    transaction.put(event.key(), Condition::Any, &event)?;
    Ok(context.state.commit(transaction).await?)
}
