use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    self, AttributeValue, Delete, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use ports::{Blobs, Clock, Condition, Document, Key, Page, PortError, State, Transaction, Write};

use crate::error::{failed, malformed};
use crate::items::{self, Item, PARTITION, SORT, get_number, get_text, number, text};
use crate::queue::SqsQueue;

const SERVICE: &str = "DynamoDB";
const TRANSACTION: &str = "TransactWriteItems";

/// Items in one DynamoDB transaction: its limit is 100.
const WRITES: usize = 99;

/// How often a transaction is tried that met another one at work on the same item.
const CONFLICTS: u32 = 5;

/// The state: one table, see [the crate](crate).
#[derive(Clone)]
pub struct Table {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) sender: String,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: SqsQueue,
}

impl Table {
    /// The table of this name, whose messages go to `queue` and whose large documents are blobs.
    /// `sender` names the outbox: what may send to the same queues shares one.
    pub fn new(
        client: Client,
        name: impl Into<String>,
        sender: impl Into<String>,
        blobs: Arc<dyn Blobs>,
        queue: SqsQueue,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { client, name: name.into(), sender: sender.into(), blobs, clock, queue }
    }

    /// A query of one partition as it is now.
    pub(crate) fn query(&self, partition: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(partition))
    }

    async fn document(&self, partition: &str, item: &Item) -> Result<Document, PortError> {
        let sort = get_text(item, SORT).ok_or_else(|| malformed(SERVICE, "item", "no sort key"))?;
        let key = Key::new(partition, sort);
        let revision = get_number(item, "revision")?
            .ok_or_else(|| malformed(SERVICE, "item", format!("`{key}` has no revision")))?;
        let value = items::get_body(item, &key, self.blobs.as_ref()).await?;
        Ok(Document { key, revision, value })
    }

    async fn put(&self, write: &Write) -> Result<Put, PortError> {
        let value = write.value.as_ref().map(ToString::to_string);
        let content = match value {
            Some(json) => Some(items::body(json, self.blobs.as_ref()).await?),
            None => None,
        };
        let condition = match write.condition {
            Condition::Any => None,
            Condition::Absent => Some(("attribute_not_exists(pk)", None)),
            Condition::Revision(revision) => Some(("revision = :revision", Some(number(revision)))),
        };
        Ok(Put { key: items::key(&document_partition(&write.key.partition), &write.key.sort), content, condition })
    }

    /// One write by itself: half the price of a transaction of one.
    async fn write_one(&self, write: &Write) -> Result<(), PortError> {
        let put = self.put(write).await?;
        let old = ReturnValuesOnConditionCheckFailure::AllOld;
        let refused = |item: Option<&Item>| match item.map(|item| get_number(item, "revision")).transpose() {
            Ok(found) => conflict(write, found.flatten()),
            Err(error) => error,
        };
        match put.update() {
            Some((expression, values)) => self
                .client
                .update_item()
                .table_name(&self.name)
                .set_key(Some(put.key.clone()))
                .update_expression(expression)
                .set_expression_attribute_values(Some(values))
                .set_condition_expression(put.condition_expression())
                .return_values_on_condition_check_failure(old)
                .send()
                .await
                .map(|_| ())
                .map_err(|error| match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => refused(refusal.item.as_ref()),
                    _ => failed(SERVICE, "UpdateItem")(error),
                }),
            None => self
                .client
                .delete_item()
                .table_name(&self.name)
                .set_key(Some(put.key.clone()))
                .set_expression_attribute_values(put.revision())
                .set_condition_expression(put.condition_expression())
                .return_values_on_condition_check_failure(old)
                .send()
                .await
                .map(|_| ())
                .map_err(|error| match error.as_service_error() {
                    Some(DeleteItemError::ConditionalCheckFailedException(refusal)) => refused(refusal.item.as_ref()),
                    _ => failed(SERVICE, "DeleteItem")(error),
                }),
        }
    }

    /// One write of several.
    async fn write(&self, write: &Write) -> Result<TransactWriteItem, PortError> {
        let put = self.put(write).await?;
        let old = ReturnValuesOnConditionCheckFailure::AllOld;
        let item = TransactWriteItem::builder();
        Ok(match put.update() {
            Some((expression, values)) => {
                let update = Update::builder()
                    .table_name(&self.name)
                    .set_key(Some(put.key.clone()))
                    .update_expression(expression)
                    .set_expression_attribute_values(Some(values))
                    .set_condition_expression(put.condition_expression())
                    .return_values_on_condition_check_failure(old);
                item.update(update.build().map_err(failed(SERVICE, TRANSACTION))?).build()
            }
            None => {
                let delete = Delete::builder()
                    .table_name(&self.name)
                    .set_key(Some(put.key.clone()))
                    .set_expression_attribute_values(put.revision())
                    .set_condition_expression(put.condition_expression())
                    .return_values_on_condition_check_failure(old);
                item.delete(delete.build().map_err(failed(SERVICE, TRANSACTION))?).build()
            }
        })
    }

    async fn transact(&self, writes: &[Write], items: Vec<TransactWriteItem>) -> Result<(), PortError> {
        for attempt in 1.. {
            let sent = self.client.transact_write_items().set_transact_items(Some(items.clone())).send().await;
            let Err(error) = sent else { return Ok(()) };
            let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error()
            else {
                return Err(failed(SERVICE, TRANSACTION)(error));
            };
            for (write, reason) in writes.iter().zip(cancelled.cancellation_reasons()) {
                if reason.code() == Some("ConditionalCheckFailed") {
                    let found = reason.item().map(|item| get_number(item, "revision")).transpose()?.flatten();
                    return Err(conflict(write, found));
                }
            }
            let met = |code: &str| cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some(code));
            if attempt >= CONFLICTS || !(met("TransactionConflict") || met("ThrottlingError")) {
                return Err(failed(SERVICE, TRANSACTION)(error));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20) * 2_u32.pow(attempt)).await;
        }
        Ok(())
    }
}

fn document_partition(partition: &str) -> String {
    format!("document#{partition}")
}

/// A write in DynamoDB's words.
struct Put {
    key: Item,
    /// The attribute that holds the content and the one to remove; `None` removes the item.
    content: Option<((&'static str, AttributeValue), &'static str)>,
    condition: Option<(&'static str, Option<AttributeValue>)>,
}

impl Put {
    fn condition_expression(&self) -> Option<String> {
        self.condition.as_ref().map(|(expression, _)| (*expression).to_owned())
    }

    /// The value that the condition compares with.
    fn revision(&self) -> Option<Item> {
        let revision = self.condition.as_ref()?.1.clone()?;
        Some(Item::from([(":revision".to_owned(), revision)]))
    }

    fn update(&self) -> Option<(String, Item)> {
        let ((name, body), other) = self.content.clone()?;
        let mut values = self.revision().unwrap_or_default();
        values.insert(":body".to_owned(), body);
        values.insert(":one".to_owned(), number(1));
        Some((format!("SET {name} = :body REMOVE {other} ADD revision :one"), values))
    }
}

fn conflict(write: &Write, found: Option<u64>) -> PortError {
    let describe = |revision: Option<u64>| {
        revision.map_or_else(|| "no document".to_owned(), |revision| format!("revision {revision}"))
    };
    let expected = match write.condition {
        Condition::Revision(revision) => Some(revision),
        Condition::Absent | Condition::Any => None,
    };
    PortError::Conflict { key: write.key.clone(), expected: describe(expected), found: describe(found) }
}

#[async_trait]
impl State for Table {
    async fn get(&self, key: &Key) -> Result<Option<Document>, PortError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(items::key(&document_partition(&key.partition), &key.sort)))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed(SERVICE, "GetItem"))?;
        match answer.item {
            Some(item) => Ok(Some(self.document(&key.partition, &item).await?)),
            None => Ok(None),
        }
    }

    async fn list(&self, partition: &str, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, PortError> {
        let pk = document_partition(partition);
        // DynamoDB refuses a start that lies outside of what the condition selects.
        let after = after.filter(|after| *after >= prefix);
        if after.is_some_and(|after| !after.starts_with(prefix)) {
            return Ok(Page::default());
        }
        let mut start = after.map(|after| items::key(&pk, after));
        let wanted = limit as usize;
        let mut documents = Vec::new();
        loop {
            let missing = (wanted + 1).saturating_sub(documents.len());
            let mut query =
                self.query(&pk).limit(i32::try_from(missing).unwrap_or(i32::MAX)).set_exclusive_start_key(start.take());
            if !prefix.is_empty() {
                query = query
                    .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                    .expression_attribute_values(":prefix", text(prefix));
            }
            let answer = query.send().await.map_err(failed(SERVICE, "Query"))?;
            for item in answer.items.unwrap_or_default() {
                documents.push(self.document(partition, &item).await?);
            }
            start = answer.last_evaluated_key.filter(|key| key.contains_key(PARTITION));
            if start.is_none() || documents.len() > wanted {
                break;
            }
        }
        let more = documents.len() > wanted;
        documents.truncate(wanted);
        let next = documents.last().filter(|_| more).map(|last| last.key.sort.clone());
        Ok(Page { documents, next })
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), PortError> {
        if transaction.writes.len() > WRITES {
            let reason = format!("{} writes in one transaction, at most {WRITES}", transaction.writes.len());
            return Err(malformed(SERVICE, TRANSACTION, reason));
        }
        let batch = self.outbox_batch(&transaction.messages).await?;
        match (transaction.writes.as_slice(), &batch) {
            ([], None) => {}
            ([write], None) => self.write_one(write).await?,
            ([], Some(batch)) => self.keep(batch).await?,
            (writes, batch) => {
                let mut items = Vec::new();
                for write in writes {
                    items.push(self.write(write).await?);
                }
                if let Some(batch) = batch {
                    let put = types::Put::builder().table_name(&self.name).set_item(Some(batch.item.clone()));
                    let put = put.build().map_err(failed(SERVICE, TRANSACTION))?;
                    items.push(TransactWriteItem::builder().put(put).build());
                }
                self.transact(writes, items).await?;
            }
        }
        match batch {
            Some(batch) => self.dispatch(&batch.key, &transaction.messages).await,
            None => Ok(()),
        }
    }
}
