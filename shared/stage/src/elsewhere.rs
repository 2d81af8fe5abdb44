//! Jobs on other machines, as the stages see them.
//!
//! A stage that needs a job writes down what it goes on with, hands the job in and starts it, and is done
//! with its message for now: the message lies in the job's document. It is sent again when the job has
//! ended ([`job_ended`]), or when nothing was heard of it in time ([`wake_overdue`]); the stage then finds
//! the document, looks, and goes on from the answer. So it waits for nothing, and may die anywhere.
//!
//! A run without an answer is told (`job.failed`) and repeated; after the third the stage gives up.

use std::io::BufWriter;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ports::{Condition, Digest, Document, Envelope, JobRun, Jobs, Key, Transaction, Write};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

use crate::job_archive::{ANSWER_BYTES, Job};
use crate::record::{self, Event};
use crate::{Context, StageError, chain};

/// Runs of a job before the stage gives up.
const ATTEMPTS: u32 = 3;

/// How long a run may wait for a machine, beside the time that its work takes.
const WAITING: Duration = Duration::from_secs(8 * 60 * 60 + 15 * 60);

/// How long the document of a job that has ended is kept for its stage, which by then has not come.
const UNCLAIMED: SignedDuration = SignedDuration::from_hours(24);

/// When a message is sent once more that did not lead its stage to the job that has ended.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// The largest document that a stage goes on with, in bytes.
const WORK_BYTES: u64 = 64 << 20;

/// A job on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// What is sent when it has ended.
    pub message: Envelope,
    /// What the message is about.
    pub subject: String,
    /// The name of its files.
    pub name: String,
    /// Digest of its archive.
    pub archive: Digest,
    /// What the stage goes on with beside the answer.
    pub work: Digest,
    /// How long a run of it may work, in seconds.
    pub seconds: u64,
    /// Which run this is, from 1.
    pub attempt: u32,
    /// The run's name; none before it is known to have started.
    pub run: Option<String>,
    /// When a run that has not ended by then is ended.
    pub deadline: Timestamp,
    /// When the message was sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woken: Option<Timestamp>,
}

/// The key of a message's job, whose name is `MESSAGE-STEP-TIME`.
fn key(job: &str) -> Key {
    Key::new(record::JOBS, job)
}

/// One step of a stage that is a job elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Step<'s> {
    context: &'s Context,
    jobs: &'s dyn Jobs,
    message: &'s Envelope,
    subject: &'s str,
    name: &'static str,
}

/// What came of looking at a job.
pub(crate) enum Found {
    /// None is on its way.
    None,
    /// It has not ended; a sentence for a person.
    Waiting(String),
    /// It has ended, and here is its answer.
    Answered(Box<Answered>),
    /// It has ended without an answer too often, and why.
    GivenUp(String),
}

/// The answer of a job that nobody has looked into.
pub(crate) struct Answered {
    /// The answer's archive.
    pub file: TempPath,
    /// Digest of the job's archive.
    pub archive: Digest,
    work: Digest,
    record: JobRecord,
    revision: u64,
}

impl Answered {
    /// What the stage wrote down when the job began.
    pub async fn work<T: DeserializeOwned>(&self, context: &Context) -> Result<T, StageError> {
        context.load("the work of a job", self.work, WORK_BYTES).await
    }
}

impl<'s> Step<'s> {
    /// The step `name` (of `a-z`) of the stage that handles `message`; none where jobs run here.
    pub fn of(context: &'s Context, message: &'s Envelope, subject: &'s str, name: &'static str) -> Option<Self> {
        let jobs = context.jobs.as_deref()?;
        Some(Self { context, jobs, message, subject, name })
    }

    fn key(&self) -> Key {
        key(&format!("{}-{}", self.message.id.hex(), self.name))
    }

    /// Adds to the transaction that the job is forgotten.
    pub fn forget(&self, transaction: &mut Transaction) {
        transaction.writes.push(Write { key: self.key(), condition: Condition::Any, value: None });
    }

    /// Hands a job in and starts it. `work` is what the stage goes on with, and `time` how long it may
    /// work.
    pub async fn begin(&self, job: Job, work: &impl Serialize, time: Duration) -> Result<String, StageError> {
        let context = self.context;
        let failed = StageError::environment("write the job's archive");
        let folder = context.settings.work.clone();
        let written = tokio::task::spawn_blocking(move || {
            let file = NamedTempFile::new_in(&folder).map_err(|error| chain(&error))?;
            job.write(BufWriter::new(file.as_file())).map_err(|error| chain(&error))?;
            Ok::<_, String>(file.into_temp_path())
        });
        let input = written
            .await
            .map_err(|error| failed(&error))?
            .map_err(|reason| StageError::Environment { action: "write the job's archive".to_owned(), reason })?;
        let archive = ports::local::digest_of_file(&input).await?;
        let now = context.clock.now();
        let record = JobRecord {
            message: self.message.clone(),
            subject: self.subject.to_owned(),
            name: format!("{}-{}-{}", self.message.id.hex(), self.name, now.as_millisecond()),
            archive,
            work: context.store(work).await?,
            seconds: time.as_secs(),
            attempt: 1,
            run: None,
            deadline: deadline(now, time.as_secs()),
            woken: None,
        };
        self.jobs.hand_in(&record.name, &input).await?;
        let revision = self.put(&record, Condition::Absent).await?;
        self.start(record, revision).await
    }

    /// Looks at the job, and starts it again where its run has ended without an answer.
    pub async fn look(&self) -> Result<Found, StageError> {
        let Some(document) = self.context.state.get(&self.key()).await? else { return Ok(Found::None) };
        let (record, revision): (JobRecord, u64) = (document.decode()?, document.revision);
        let Some(run) = &record.run else { return Ok(Found::Waiting(self.start(record, revision).await?)) };
        let output = NamedTempFile::new_in(&self.context.settings.work)
            .map_err(|error| StageError::environment("make a scratch file")(&error))?
            .into_temp_path();
        match self.jobs.look(&record.name, record.attempt, run, &output, ANSWER_BYTES).await? {
            JobRun::Answered => {
                let (archive, work) = (record.archive, record.work);
                Ok(Found::Answered(Box::new(Answered { file: output, archive, work, record, revision })))
            }
            JobRun::Running if self.context.clock.now() < record.deadline => {
                let waiting = format!("its job is on its way as {run}");
                if record.woken.is_some() {
                    self.put(&JobRecord { woken: None, ..record }, Condition::Revision(revision)).await?;
                }
                Ok(Found::Waiting(waiting))
            }
            JobRun::Running => {
                self.jobs.stop(run).await?;
                let reason = format!("it had not ended by {}", record.deadline);
                self.again(record, revision, &reason).await
            }
            JobRun::Ended(reason) => self.again(record, revision, &reason).await,
        }
    }

    /// Starts a job again whose answer is none.
    pub async fn refuse(&self, answered: Answered, reason: &str) -> Result<Found, StageError> {
        self.again(answered.record, answered.revision, reason).await
    }

    async fn again(&self, record: JobRecord, revision: u64, reason: &str) -> Result<Found, StageError> {
        let (attempt, now) = (record.attempt, self.context.clock.now());
        let run = record.run.as_deref().unwrap_or("its run");
        let text = format!("the job `{}` of {} failed, attempt {attempt}, {run}: {reason}", self.name, self.subject);
        let event =
            Event { time: now, kind: "job.failed".to_owned(), subject: self.subject.to_owned(), text: text.clone() };
        let mut transaction = Transaction::default();
        transaction.put(event.key(), Condition::Any, &event)?;
        if attempt >= ATTEMPTS {
            transaction.writes.push(Write { key: self.key(), condition: Condition::Revision(revision), value: None });
            self.context.state.commit(transaction).await?;
            return Ok(Found::GivenUp(text));
        }
        let next = JobRecord {
            attempt: attempt + 1,
            run: None,
            deadline: deadline(now, record.seconds),
            woken: None,
            ..record
        };
        transaction.put(self.key(), Condition::Revision(revision), &next)?;
        self.context.state.commit(transaction).await?;
        let Some(document) = self.context.state.get(&self.key()).await? else {
            return Ok(Found::Waiting("another run took its job over".to_owned()));
        };
        Ok(Found::Waiting(self.start(next, document.revision).await?))
    }

    async fn start(&self, record: JobRecord, revision: u64) -> Result<String, StageError> {
        let run = self.jobs.start(&record.name, record.attempt, Duration::from_secs(record.seconds)).await?;
        let text = format!("its job `{}` began elsewhere as {run}, attempt {}", self.name, record.attempt);
        self.put(&JobRecord { run: Some(run), woken: None, ..record }, Condition::Revision(revision)).await?;
        Ok(text)
    }

    /// Writes the record; the answer is its revision.
    async fn put(&self, record: &JobRecord, condition: Condition) -> Result<u64, StageError> {
        let mut transaction = Transaction::default();
        transaction.put(self.key(), condition, record)?;
        self.context.state.commit(transaction).await?;
        let written = self.context.state.get(&self.key()).await?;
        let lost = || StageError::Environment {
            action: "write the job's document".to_owned(),
            reason: "another run of the stage removed it".to_owned(),
        };
        Ok(written.ok_or_else(lost)?.revision)
    }
}

fn deadline(now: Timestamp, seconds: u64) -> Timestamp {
    let time = Duration::from_secs(seconds).saturating_add(WAITING);
    now.saturating_add(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// Sends the message of a job whose run has ended, whatever came of it. `name` is that of the job's files.
/// False when no such job is on its way: it was taken in already, or belongs to nobody here.
///
/// # Errors
/// The state's own; [`ports::PortError::Conflict`] when the stage is at it just now.
pub async fn job_ended(context: &Context, name: &str) -> Result<bool, StageError> {
    let Some((job, _)) = name.rsplit_once('-') else { return Ok(false) };
    let Some(document) = context.state.get(&key(job)).await? else { return Ok(false) };
    let record: JobRecord = document.decode()?;
    if record.name != name {
        return Ok(false);
    }
    wake(context, document, record).await?;
    Ok(true)
}

async fn wake(context: &Context, document: Document, record: JobRecord) -> Result<(), StageError> {
    let mut transaction = Transaction::default();
    transaction.send(record.message.clone());
    let woken = Some(context.clock.now());
    transaction.put(document.key, Condition::Revision(document.revision), &JobRecord { woken, ..record })?;
    Ok(context.state.commit(transaction).await?)
}

/// Whether the stage is to look at the job, and hasn't been told so shortly before.
fn is_due(record: &JobRecord, now: Timestamp) -> bool {
    match record.woken {
        Some(woken) => now > woken.saturating_add(AGAIN).unwrap_or(Timestamp::MAX),
        None => record.run.is_none() || now > record.deadline,
    }
}

/// Sends the messages of jobs of which nothing was heard by their deadline, or whose message, sent when they
/// ended, was lost on a run of the stage that was at its end; forgets jobs that nobody takes in. The answer
/// is how many messages were sent.
///
/// # Errors
/// The state's own.
pub async fn wake_overdue(context: &Context) -> Result<usize, StageError> {
    let now = context.clock.now();
    let mut sent = 0;
    for document in context.state.list_all(record::JOBS, "").await? {
        let record: JobRecord = document.decode()?;
        let unclaimed = now > record.deadline.saturating_add(UNCLAIMED).unwrap_or(Timestamp::MAX);
        if unclaimed {
            let text = format!("nobody takes in the job of {} that began as {}", record.subject, record.name);
            let event = Event { time: now, kind: "job.unclaimed".to_owned(), subject: record.subject, text };
            let mut transaction = Transaction::default();
            transaction.put(event.key(), Condition::Any, &event)?;
            let condition = Condition::Revision(document.revision);
            transaction.writes.push(Write { key: document.key, condition, value: None });
            context.state.commit(transaction).await?;
        } else if is_due(&record, now) {
            match wake(context, document, record).await {
                Ok(()) => sent += 1,
                // Its stage is at it.
                Err(StageError::Port(ports::PortError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(sent)
}
