use std::time::Duration;

use aws::Begun;
use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use ports::{Delivery, Envelope, Queue, Release};
use serde::Serialize;
use stage::{Context, Outcome, StageError};
use tokio::time::Instant;

use crate::{Factory, SqsRecord};

/// What is left of a function's time when no further message is begun.
const RESERVE: Duration = Duration::from_secs(20);

/// How old a transaction is when its messages are not on their way any more.
const SWEEP_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// How often a message is begun at most. One that ends the process each time, so that nothing is left to put
/// it aside, would be begun for ever.
const BEGUN: u32 = 5;

/// Runs the stage that a message is for, of those that a function has; [`crate::stages`] makes one.
pub type Stages = for<'a> fn(&'a Envelope, &'a Context) -> BoxFuture<'a, (String, Result<Outcome, StageError>)>;

/// The messages of a batch that SQS delivers again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// One entry per message that was not handled to its end.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// A message that SQS delivers again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// SQS's id of the message.
    pub item_identifier: String,
}

impl From<SqsRecord> for BatchItemFailure {
    fn from(record: SqsRecord) -> Self {
        Self { item_identifier: record.message_id }
    }
}

/// Handles a batch, a message after the other, in order. `deadline` is when Lambda ends the
/// function; a message that is not done shortly before is given back.
pub async fn handle(factory: &Factory, stages: Stages, records: Vec<SqsRecord>, deadline: Instant) -> BatchResponse {
    let table = &factory.table;
    let mut response = BatchResponse::default();
    // What an interrupted run of this function did not send: that run's message is here again.
    if let Err(error) = table.sweep(SWEEP_AFTER).await {
        tracing::error!("messages of an interrupted run are not sent: {error}");
        response.batch_item_failures = records.into_iter().map(BatchItemFailure::from).collect();
        return response;
    }
    let mut stopped_queue = false;
    for record in records {
        let is_fifo = record.event_source_arn.ends_with(".fifo");
        // In a queue that keeps order, what follows a message that comes again must come after it.
        let held = is_fifo && stopped_queue;
        let late = deadline.saturating_duration_since(Instant::now()) < RESERVE;
        let done = if held || late {
            false
        } else {
            match one(factory, stages, &record, deadline).await {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(id = record.message_id, "{error}");
                    false
                }
            }
        };
        if !done {
            stopped_queue = true;
            response.batch_item_failures.push(record.into());
        }
    }
    response
}

/// Whether SQS is to forget the message.
async fn one(factory: &Factory, stages: Stages, record: &SqsRecord, deadline: Instant) -> Result<bool, StageError> {
    let Factory { context, table, .. } = factory;
    let name = record.event_source_arn.rsplit(':').next().unwrap_or_default();
    let queue = table
        .queue_named(name)
        .ok_or_else(|| StageError::Rejected(format!("queue `{name}` is none of this function's")))?;
    // Twice the longest run, so that nobody else begins a message whose handler is merely slow to die.
    let lease = deadline.saturating_duration_since(Instant::now()) * 2;
    let delivery = match table.begin(queue, &record.receipt_handle, &record.body, lease).await {
        Ok(Begun::Handle(delivery)) => delivery,
        Ok(Begun::Done(id)) => {
            tracing::info!(%id, "is done already");
            return Ok(true);
        }
        Ok(Begun::Busy(wait)) => {
            tracing::info!(id = record.message_id, ?wait, "another handles it");
            return Ok(false);
        }
        Err(error) if aws::is_unreadable(&error) => {
            tracing::error!(id = record.message_id, "put aside: {error}");
            table.reject(queue, &record.receipt_handle, &record.body, &error.to_string()).await?;
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    if delivery.attempt > BEGUN {
        let reason = format!("it was begun {BEGUN} times, and the function ended before it was handled");
        tracing::error!(id = %delivery.envelope.id, stage = delivery.envelope.stage, "put aside: {reason}");
        table.release(&delivery, Release::Dead { reason }).await?;
        return Ok(true);
    }
    let time = deadline.saturating_duration_since(Instant::now()).saturating_sub(RESERVE / 4);
    let ended = tokio::time::timeout(time, stages(&delivery.envelope, context)).await;
    let (subject, result) = ended.unwrap_or_else(|_| {
        let (action, reason) = ("handle the message".to_owned(), "the function's time was up".to_owned());
        (String::new(), Err(StageError::Environment { action, reason }))
    });
    tell(&delivery, &subject, &result);
    stage::settle(table, &delivery, &result).await
}

fn tell(delivery: &Delivery, subject: &str, result: &Result<Outcome, StageError>) {
    // `message` is the name of the text itself.
    let (stage, id, attempt) = (&delivery.envelope.stage, delivery.envelope.id, delivery.attempt);
    match result {
        Ok(outcome) => tracing::info!(stage, %id, attempt, subject, ?outcome),
        Err(error) => tracing::error!(stage, %id, attempt, subject, "{error}"),
    }
}
