//! Messages on their way: SQS wakes a handler, and the message's item in the table decides who
//! handles it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_sdk_sqs::operation::delete_message::DeleteMessageError;
use aws_sdk_sqs::types::MessageAttributeValue;
use ports::{Delivery, Digest, Envelope, Key, PortError, Queue, Release};
use serde::{Deserialize, Serialize};

use crate::error::{failed, malformed};
use crate::items::{self, Item, get_number, get_text, number, text};
use crate::table::Table;

const DYNAMODB: &str = "DynamoDB";
const SQS: &str = "SQS";

/// SQS takes 256 KB in a message, attributes included.
const BODY_BYTES: usize = 240_000;

/// The longest time for which SQS hides a message.
const VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);

/// How long a message that was put aside stays in the table, in seconds.
const DEAD_SECONDS: i64 = 90 * 24 * 60 * 60;

/// Partitions of messages.
const SHARDS: &str = "0123456789abcdef";

/// The queues of the stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// The URL of each stage's queue. One whose name ends in `.fifo` keeps order by subject.
    pub stages: BTreeMap<String, String>,
    /// Where messages go that can't be handled, by stage.
    pub dead: BTreeMap<String, String>,
    /// Stages whose messages are handled one at a time, whatever they are about. Their queues must be FIFO.
    pub one_at_a_time: BTreeSet<String>,
}

/// The SQS half: sends, hides and removes.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    queues: Arc<Queues>,
    /// The longest time for which a message that is handled is hidden.
    hidden: Duration,
}

/// What SQS carries: the message itself, or where it lies.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Body {
    Envelope(Envelope),
    Blob { id: Digest, blob: Digest },
}

/// Names a lease, and the SQS delivery that led to it.
#[derive(Serialize, Deserialize)]
struct Receipt {
    lease: String,
    queue: String,
    handle: String,
}

/// What became of a delivery by SQS.
#[derive(Debug)]
pub enum Begun {
    /// It is to be handled.
    Handle(Delivery),
    /// It is done already, or was put aside.
    Done(Digest),
    /// Another handles it for that long.
    Busy(Duration),
}

impl SqsQueue {
    /// Queues at these URLs. A message that is being handled is hidden for at most `hidden`; SQS
    /// delivers it again then, and the lease decides.
    pub fn new(client: aws_sdk_sqs::Client, queues: Queues, hidden: Duration) -> Self {
        Self { client, queues: Arc::new(queues), hidden: hidden.min(VISIBILITY) }
    }

    fn url<'q>(map: &'q BTreeMap<String, String>, stage: &str) -> Result<&'q str, PortError> {
        map.get(stage)
            .map(String::as_str)
            .ok_or_else(|| malformed(SQS, "SendMessage", format!("no queue is set for stage `{stage}`")))
    }

    /// Makes the messages' items, and sends them.
    pub(crate) async fn send(&self, table: &Table, messages: &[Envelope]) -> Result<(), PortError> {
        for message in messages {
            let url = Self::url(&self.queues.stages, &message.stage)?;
            if table.begin_message(message).await? {
                self.send_one(table, url, message, None).await?;
                table.mark_sent(&message.id).await?;
            }
        }
        Ok(())
    }

    async fn send_one(
        &self,
        table: &Table,
        url: &str,
        message: &Envelope,
        reason: Option<&str>,
    ) -> Result<(), PortError> {
        let json = |body: &Body| {
            serde_json::to_string(body).map_err(|source| PortError::Document { key: item_key(&message.id), source })
        };
        let mut body = json(&Body::Envelope(message.clone()))?;
        if body.len() > BODY_BYTES {
            let blob = table.blobs.put(body.into_bytes()).await?;
            body = json(&Body::Blob { id: message.id, blob })?;
        }
        // A message that is sent again after it was done must not be taken for its first sending.
        let once = Digest::of(format!("{} {}", message.id, table.clock.now()).as_bytes());
        self.send_body(url, &body, reason, once, self.group(message)).await
    }

    /// What order is kept within: the package or the image that a message is about, or the whole stage.
    fn group(&self, message: &Envelope) -> String {
        if self.queues.one_at_a_time.contains(&message.stage) {
            return Digest::of(message.stage.as_bytes()).hex();
        }
        let about = ["package", "image"].iter().find_map(|name| message.body.get(name)?.as_str());
        // A name may have characters that SQS does not take.
        about.map_or(message.id, |about| Digest::of(about.as_bytes())).hex()
    }

    async fn send_body(
        &self,
        url: &str,
        body: &str,
        reason: Option<&str>,
        once: Digest,
        group: String,
    ) -> Result<(), PortError> {
        let mut call = self.client.send_message().queue_url(url).message_body(body);
        if url.ends_with(".fifo") {
            call = call.message_group_id(group).message_deduplication_id(once.hex());
        }
        if let Some(reason) = reason {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(reason.chars().take(1_000).collect::<String>())
                .build()
                .map_err(failed(SQS, "SendMessage"))?;
            call = call.message_attributes("reason", value);
        }
        call.send().await.map_err(failed(SQS, "SendMessage"))?;
        Ok(())
    }

    /// Hides a message. Where SQS has handed it out again meanwhile, the lease decides.
    async fn hide(&self, receipt: &Receipt, time: Duration) -> Result<(), PortError> {
        let seconds = time.min(VISIBILITY).as_millis().div_ceil(1_000);
        let hidden = self
            .client
            .change_message_visibility()
            .queue_url(&receipt.queue)
            .receipt_handle(&receipt.handle)
            .visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX))
            .send()
            .await;
        match hidden {
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_receipt_handle_is_invalid() || error.is_message_not_inflight()) =>
            {
                Ok(())
            }
            other => other.map(drop).map_err(failed(SQS, "ChangeMessageVisibility")),
        }
    }

    /// Removes a message. Where SQS has handed it out again meanwhile, that delivery finds it done.
    async fn remove(&self, receipt: &Receipt) -> Result<(), PortError> {
        let call = self.client.delete_message().queue_url(&receipt.queue).receipt_handle(&receipt.handle);
        match call.send().await {
            Err(error) if error.as_service_error().is_some_and(DeleteMessageError::is_receipt_handle_is_invalid) => {
                Ok(())
            }
            other => other.map(drop).map_err(failed(SQS, "DeleteMessage")),
        }
    }
}

fn partition(id: &Digest) -> String {
    format!("message#{}", id.hex().get(..1).unwrap_or_default())
}

fn item_key(id: &Digest) -> Key {
    Key::new(partition(id), id.hex())
}

fn receipt(delivery: &Delivery) -> Result<Receipt, PortError> {
    serde_json::from_str(&delivery.receipt)
        .map_err(|source| PortError::Document { key: item_key(&delivery.envelope.id), source })
}

/// Whether a conditional write was refused; other errors are passed on. The item that was found
/// comes with the refusal.
fn refused(error: SdkError<UpdateItemError>) -> Result<Option<Item>, PortError> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => Ok(refusal.item.clone()),
        _ => Err(failed(DYNAMODB, "UpdateItem")(error)),
    }
}

fn met_condition(error: &SdkError<DeleteItemError>) -> bool {
    error.as_service_error().is_some_and(DeleteItemError::is_conditional_check_failed_exception)
}

/// Whether [`Table::begin`] failed because the body is no message, or refers to none.
pub fn is_unreadable(error: &PortError) -> bool {
    use PortError::{Damaged, Document, NoBlob, TooLarge};
    matches!(error, Document { .. } | NoBlob(_) | Damaged { .. } | TooLarge { .. })
}

impl Table {
    /// Makes a message's item; false when it is on its way already.
    async fn begin_message(&self, message: &Envelope) -> Result<bool, PortError> {
        let made = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(self.message_key(&message.id)))
            .update_expression(
                "SET attempt = :zero, due = :now REMOVE dead, body, body_digest, expires, failure, receipt, sent",
            )
            .condition_expression("attribute_not_exists(pk) OR attribute_exists(dead) OR attribute_not_exists(sent)")
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":now", number(self.clock.now().as_millisecond()))
            .send()
            .await;
        match made {
            Ok(_) => Ok(true),
            Err(error) => refused(error).map(|_| false),
        }
    }

    /// Notes that SQS has a message. It may be done by now.
    async fn mark_sent(&self, id: &Digest) -> Result<(), PortError> {
        let marked = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(self.message_key(id)))
            .update_expression("SET sent = :now")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":now", number(self.clock.now().as_millisecond()))
            .send()
            .await;
        match marked {
            Ok(_) => Ok(()),
            Err(error) => refused(error).map(|_| ()),
        }
    }

    fn message_key(&self, id: &Digest) -> Item {
        let key = item_key(id);
        items::key(&key.partition, &key.sort)
    }

    /// Takes a message that SQS has delivered, unless it is done or another handles it. `handle` is
    /// SQS's receipt handle.
    ///
    /// # Errors
    /// [`is_unreadable`] ones when the body is no message: nothing here can make it one.
    pub async fn begin(&self, queue: &str, handle: &str, body: &str, lease: Duration) -> Result<Begun, PortError> {
        let undecodable = |source| PortError::Document { key: Key::new("message", ""), source };
        let envelope = match serde_json::from_str(body).map_err(undecodable)? {
            Body::Envelope(envelope) => envelope,
            Body::Blob { id, blob } => {
                let bytes = self.blobs.get(blob, items::CONTENT_BYTES).await?;
                let envelope: Envelope = serde_json::from_slice(&bytes).map_err(undecodable)?;
                if envelope.id != id {
                    let problem = format!("message {id} refers to message {}", envelope.id);
                    return Err(undecodable(serde::de::Error::custom(problem)));
                }
                envelope
            }
        };
        let proper = Envelope::new(&envelope.stage, envelope.version, envelope.body.clone());
        if proper.id != envelope.id {
            return Err(undecodable(serde::de::Error::custom(format!(
                "message {} is not named by its content, which gives {}",
                envelope.id, proper.id
            ))));
        }
        let now = self.clock.now().as_millisecond();
        let until = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let mut receipt = Receipt { lease: String::new(), queue: queue.to_owned(), handle: handle.to_owned() };
        receipt.lease = Digest::of(format!("{until} {handle}").as_bytes()).hex();
        let taken = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(self.message_key(&envelope.id)))
            .update_expression("SET due = :until, receipt = :receipt ADD attempt :one")
            .condition_expression("attribute_exists(pk) AND attribute_not_exists(dead) AND due <= :now")
            .expression_attribute_values(":until", number(until))
            .expression_attribute_values(":receipt", text(&receipt.lease))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":now", number(now))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let item = match taken {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(error) => {
                let found = refused(error)?.filter(|item| !item.contains_key("dead"));
                let Some(due) = found.map(|item| get_number::<i64>(&item, "due")).transpose()?.flatten() else {
                    self.queue.remove(&receipt).await?;
                    return Ok(Begun::Done(envelope.id));
                };
                let wait = Duration::from_millis(u64::try_from(due.saturating_sub(now)).unwrap_or(0));
                self.queue.hide(&receipt, wait.min(self.queue.hidden)).await?;
                return Ok(Begun::Busy(wait));
            }
        };
        let attempt = get_number(&item, "attempt")?.unwrap_or(1);
        self.queue.hide(&receipt, lease.min(self.queue.hidden)).await?;
        let receipt = serde_json::to_string(&receipt)
            .map_err(|source| PortError::Document { key: item_key(&envelope.id), source })?;
        Ok(Begun::Handle(Delivery { envelope, attempt, receipt }))
    }

    /// Puts a body aside that [`Table::begin`] can't read, with the reason, so that SQS does not
    /// deliver it again. What was lost with it can be asked for again.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn reject(&self, queue: &str, handle: &str, body: &str, reason: &str) -> Result<(), PortError> {
        let stage = self.queue.queues.stages.iter().find(|(_, url)| *url == queue).map(|(stage, _)| stage.as_str());
        let url = SqsQueue::url(&self.queue.queues.dead, stage.unwrap_or(queue))?;
        let once = Digest::of(body.as_bytes());
        self.queue.send_body(url, body, Some(reason), once, once.hex()).await?;
        if let Ok(Body::Blob { id, .. }) = serde_json::from_str(body) {
            self.forget(&id).await?;
        }
        self.queue.remove(&Receipt { lease: String::new(), queue: queue.to_owned(), handle: handle.to_owned() }).await
    }

    /// Removes the item of a message that nobody handles.
    async fn forget(&self, id: &Digest) -> Result<(), PortError> {
        let removed = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(self.message_key(id)))
            .condition_expression("attribute_not_exists(receipt) AND attribute_not_exists(dead)")
            .send()
            .await;
        match removed {
            Err(error) if !met_condition(&error) => Err(failed(DYNAMODB, "DeleteItem")(error)),
            _ => Ok(()),
        }
    }

    /// The URL of the queue of this name, as events name it.
    pub fn queue_named(&self, name: &str) -> Option<&str> {
        let urls = self.queue.queues.stages.values();
        urls.map(String::as_str).find(|url| url.rsplit('/').next() == Some(name))
    }

    /// Counts or reads the items of messages.
    async fn messages(&self, dead: bool) -> Result<Vec<(String, Item)>, PortError> {
        let mut found = Vec::new();
        for shard in SHARDS.chars() {
            let partition = format!("message#{shard}");
            let mut pages = self
                .query(&partition)
                .filter_expression(if dead { "attribute_exists(dead)" } else { "attribute_not_exists(dead)" })
                .into_paginator()
                .items()
                .send();
            while let Some(item) = pages.next().await {
                found.push((partition.clone(), item.map_err(failed(DYNAMODB, "Query"))?));
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Queue for Table {
    async fn receive(&self, lease: Duration) -> Result<Option<Delivery>, PortError> {
        for queue in self.queue.queues.stages.values() {
            loop {
                let answer = self
                    .queue
                    .client
                    .receive_message()
                    .queue_url(queue)
                    .max_number_of_messages(1)
                    .wait_time_seconds(0)
                    .send()
                    .await
                    .map_err(failed(SQS, "ReceiveMessage"))?;
                let Some(message) = answer.messages.unwrap_or_default().into_iter().next() else { break };
                let handle = message.receipt_handle.as_deref().unwrap_or_default();
                let body = message.body.as_deref().unwrap_or_default();
                if let Begun::Handle(delivery) = self.begin(queue, handle, body, lease).await? {
                    return Ok(Some(delivery));
                }
            }
        }
        Ok(None)
    }

    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), PortError> {
        let receipt = receipt(delivery)?;
        let removed = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(self.message_key(&delivery.envelope.id)))
            .condition_expression("receipt = :receipt")
            .expression_attribute_values(":receipt", text(&receipt.lease))
            .send()
            .await;
        match removed {
            Ok(_) => self.queue.remove(&receipt).await,
            // Another holds the lease by now: the message is theirs.
            Err(error) if met_condition(&error) => Ok(()),
            Err(error) => Err(failed(DYNAMODB, "DeleteItem")(error)),
        }
    }

    async fn release(&self, delivery: &Delivery, release: Release) -> Result<(), PortError> {
        let receipt = receipt(delivery)?;
        let message = &delivery.envelope;
        let now = self.clock.now().as_millisecond();
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(self.message_key(&message.id)))
            .condition_expression("receipt = :receipt")
            .expression_attribute_values(":receipt", text(&receipt.lease));
        let ended = match &release {
            Release::Retry { after, reason } => {
                let due = now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
                call.update_expression("SET due = :due, failure = :reason REMOVE receipt")
                    .expression_attribute_values(":due", number(due))
                    .expression_attribute_values(":reason", text(reason))
            }
            Release::Dead { reason } => {
                let json = serde_json::to_string(message)
                    .map_err(|source| PortError::Document { key: item_key(&message.id), source })?;
                let ((name, body), _) = items::body(json, self.blobs.as_ref()).await?;
                call.update_expression(format!("SET dead = :reason, {name} = :body, expires = :expires REMOVE receipt"))
                    .expression_attribute_values(":body", body)
                    .expression_attribute_values(":reason", text(reason))
                    .expression_attribute_values(":expires", number(now / 1_000 + DEAD_SECONDS))
            }
        };
        if let Err(error) = ended.send().await {
            refused(error)?;
            return Ok(());
        }
        match release {
            Release::Retry { after, .. } => self.queue.hide(&receipt, after).await,
            Release::Dead { reason } => {
                if let Some(url) = self.queue.queues.dead.get(&message.stage) {
                    self.queue.send_one(self, url, message, Some(&reason)).await?;
                }
                self.queue.remove(&receipt).await
            }
        }
    }

    async fn pending(&self) -> Result<u64, PortError> {
        Ok(self.messages(false).await?.len() as u64)
    }

    async fn dead(&self) -> Result<Vec<(Envelope, String)>, PortError> {
        let mut dead = Vec::new();
        for (partition, item) in self.messages(true).await? {
            let reason = get_text(&item, "dead").unwrap_or_default().to_owned();
            let key = Key::new(partition, get_text(&item, items::SORT).unwrap_or_default());
            dead.push((items::get_body(&item, &key, self.blobs.as_ref()).await?, reason));
        }
        Ok(dead)
    }
}
