use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::{Delivery, Digest, Queue, Release};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::message::dispatch;
use crate::{Context, Outcome, Stage, StageError, UpstreamCheck};

/// How long a stage may hold a message. A package build is the longest.
const LEASE: Duration = Duration::from_secs(2 * 60 * 60);
const ATTEMPTS: u32 = 3;

/// How many runs of a stage ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Runs that made or changed something.
    pub done: u64,
    /// Runs with nothing to do.
    pub skipped: u64,
    /// Runs that found their subject bad, or gave up.
    pub failed: u64,
}

/// One run of a stage that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The stage.
    pub stage: String,
    /// What it was about.
    pub subject: String,
    /// What it came to, or why it failed.
    pub text: String,
}

/// What a worker has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Counts per stage.
    pub stages: BTreeMap<String, Count>,
    /// Runs that made or changed something.
    pub done: Vec<Entry>,
    /// Runs with nothing to do, with the reason.
    pub skipped: Vec<Entry>,
    /// Runs that found their subject bad, or gave up.
    pub failed: Vec<Entry>,
}

impl Summary {
    /// Adds what another worker has done.
    pub fn merge(&mut self, other: Self) {
        for (stage, count) in other.stages {
            let own = self.stages.entry(stage).or_default();
            own.done += count.done;
            own.skipped += count.skipped;
            own.failed += count.failed;
        }
        self.done.extend(other.done);
        self.skipped.extend(other.skipped);
        self.failed.extend(other.failed);
    }

    fn add(&mut self, stage: &str, subject: String, result: &Result<Outcome, StageError>) {
        let count = self.stages.entry(stage.to_owned()).or_default();
        let (list, number, text) = match result {
            Ok(Outcome::Done(text)) => (&mut self.done, &mut count.done, text.clone()),
            Ok(Outcome::Skipped(text)) => (&mut self.skipped, &mut count.skipped, text.clone()),
            Ok(Outcome::Failed(text)) => (&mut self.failed, &mut count.failed, text.clone()),
            Err(error) => (&mut self.failed, &mut count.failed, error.to_string()),
        };
        *number += 1;
        list.push(Entry { stage: stage.to_owned(), subject, text });
    }
}

/// Handles messages until none waits or [`Context::stopping`] is set: `workers` at once, each message retried after a failure of
/// the environment and put aside with its reason when that does not help.
///
/// # Errors
/// The first failure of the queue itself.
pub async fn drain(context: &Arc<Context>, workers: usize) -> Result<Summary, StageError> {
    drain_with(context, workers, 0).await
}

/// As [`drain`], with more workers for checks of upstreams, which only wait for others' answers:
/// what works itself is still done by `workers` at once. Those more end when no message is left to
/// take.
///
/// # Errors
/// As [`drain`].
pub async fn drain_with(context: &Arc<Context>, workers: usize, checks: usize) -> Result<Summary, StageError> {
    let workers = workers.max(1);
    let done = Arc::new(Mutex::new(Done::default()));
    let heavy = Arc::new(Semaphore::new(workers));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..workers.saturating_add(checks) {
        let (context, done, heavy) = (Arc::clone(context), Arc::clone(&done), Arc::clone(&heavy));
        tasks.spawn(async move { work(&context, &done, &heavy, number < workers).await });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(ports::PortError::Task)??;
    }
    let summary = done.lock().unwrap_or_else(PoisonError::into_inner).summary.clone();
    Ok(summary)
}

/// What the workers of one [`drain`] share.
#[derive(Default)]
struct Done {
    summary: Summary,
    /// Messages put aside, with the reason: sent again by another stage meanwhile, they would fail
    /// again the same way.
    given_up: BTreeMap<Digest, String>,
}

async fn work(context: &Context, done: &Mutex<Done>, heavy: &Semaphore, stays: bool) -> Result<(), StageError> {
    loop {
        if context.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(delivery) = context.queue.receive(LEASE).await? else {
            if !stays || context.queue.pending().await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let given_up = done.lock().unwrap_or_else(PoisonError::into_inner).given_up.get(&delivery.envelope.id).cloned();
        if let Some(reason) = given_up {
            context.queue.release(&delivery, Release::Dead { reason }).await?;
            continue;
        }
        let stage = delivery.envelope.stage.clone();
        // The semaphore is never closed.
        let _turn = if stage == UpstreamCheck::NAME { None } else { heavy.acquire().await.ok() };
        let (subject, result) = dispatch(&delivery.envelope, context).await;
        if settle(context.queue.as_ref(), &delivery, &result).await? {
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = &result {
                done.given_up.insert(delivery.envelope.id, error.to_string());
            }
            done.summary.add(&stage, subject, &result);
        }
    }
}

/// Answers the queue; true when the message will not be handed out again.
///
/// # Errors
/// The queue's own.
pub async fn settle(
    queue: &dyn Queue,
    delivery: &Delivery,
    result: &Result<Outcome, StageError>,
) -> Result<bool, StageError> {
    let Err(error) = result else {
        queue.acknowledge(delivery).await?;
        return Ok(true);
    };
    let reason = error.to_string();
    tracing::warn!(stage = delivery.envelope.stage, id = %delivery.envelope.id, attempt = delivery.attempt, "{reason}");
    let again = error.is_transient() && delivery.attempt < ATTEMPTS;
    let release = if again {
        Release::Retry { after: Duration::from_millis(250) * 4_u32.pow(delivery.attempt), reason }
    } else {
        Release::Dead { reason }
    };
    queue.release(delivery, release).await?;
    Ok(!again)
}
