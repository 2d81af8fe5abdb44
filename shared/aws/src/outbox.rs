//! Messages between the transaction that sends them and their queue.

use jiff::{SignedDuration, Timestamp};
use ports::{Digest, Envelope, Key, PortError};

use crate::error::{failed, malformed};
use crate::items::{self, Item, SORT, get_number, get_text, number};
use crate::table::Table;

const SERVICE: &str = "DynamoDB";

/// A transaction's messages, as an item of the outbox.
pub(crate) struct Batch {
    pub(crate) key: Key,
    pub(crate) item: Item,
}

impl Table {
    fn outbox(&self) -> String {
        format!("outbox#{}", self.sender)
    }

    /// The item that holds `messages` until they are sent, or `None` where there are none.
    pub(crate) async fn outbox_batch(&self, messages: &[Envelope]) -> Result<Option<Batch>, PortError> {
        if messages.is_empty() {
            return Ok(None);
        }
        let json = serde_json::to_string(messages)
            .map_err(|source| PortError::Document { key: Key::new("outbox", ""), source })?;
        let now = self.clock.now();
        let digest = Digest::of(format!("{now} {json}").as_bytes()).hex();
        let key = Key::new(self.outbox(), digest);
        let mut item = items::key(&key.partition, &key.sort);
        let ((name, body), _) = items::body(json, self.blobs.as_ref()).await?;
        item.insert(name.to_owned(), body);
        item.insert("created".to_owned(), number(now.as_millisecond()));
        Ok(Some(Batch { item, key }))
    }

    /// Writes the item by itself.
    pub(crate) async fn keep(&self, batch: &Batch) -> Result<(), PortError> {
        let put = self.client.put_item().table_name(&self.name).set_item(Some(batch.item.clone()));
        put.send().await.map_err(failed(SERVICE, "PutItem"))?;
        Ok(())
    }

    /// Sends the messages of an item of the outbox, then removes the item. Sending again what was
    /// sent already does no harm.
    pub(crate) async fn dispatch(&self, key: &Key, messages: &[Envelope]) -> Result<(), PortError> {
        self.queue.send(self, messages).await?;
        self.client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(items::key(&key.partition, &key.sort)))
            .send()
            .await
            .map_err(failed(SERVICE, "DeleteItem"))?;
        Ok(())
    }

    /// Sends what this sender's transactions older than `age` have left in the outbox because they
    /// were interrupted; returns how many messages that was. A sender that is handed the message
    /// again at whose handling it was interrupted calls this first.
    ///
    /// # Errors
    /// The first failure of the table or a queue; what was not reached waits for the next sweep.
    pub async fn sweep(&self, age: SignedDuration) -> Result<usize, PortError> {
        let before: Timestamp = self.clock.now().saturating_sub(age).unwrap_or(Timestamp::MIN);
        let mut sent = 0;
        let partition = self.outbox();
        let mut pages = self
            .query(&partition)
            .filter_expression("created <= :before")
            .expression_attribute_values(":before", number(before.as_millisecond()))
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.next().await {
            let item = item.map_err(failed(SERVICE, "Query"))?;
            let sort = get_text(&item, SORT).ok_or_else(|| malformed(SERVICE, "item", "no sort key"))?;
            let key = Key::new(partition.clone(), sort);
            let created: Option<i64> = get_number(&item, "created")?;
            let messages: Vec<Envelope> = items::get_body(&item, &key, self.blobs.as_ref()).await?;
            tracing::warn!(outbox = %key, ?created, messages = messages.len(), "messages of an interrupted transaction are sent");
            self.dispatch(&key, &messages).await?;
            sent += messages.len();
        }
        Ok(sent)
    }
}
