//! The contract that every adapter of state, queue and blobs keeps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use ports::{Blobs, Clock, Condition, Delivery, Digest, Envelope, Key, PortError, Queue, Release, State, Transaction};
use serde_json::json;

/// A clock that the cases move.
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new("2026-01-02T03:04:05Z".parse().unwrap())))
    }

    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// An adapter with nothing in it.
pub struct World {
    pub clock: Arc<ManualClock>,
    pub state: Arc<dyn State>,
    pub queue: Arc<dyn Queue>,
    pub blobs: Arc<dyn Blobs>,
    /// Replaces a stored blob's bytes behind the adapter's back.
    pub damage: Box<dyn Fn(Digest, Vec<u8>) -> BoxFuture<'static, ()> + Send + Sync>,
    /// How long what is due may take to be handed out.
    pub patience: Duration,
    /// What goes with the world when it ends.
    pub _kept: Box<dyn std::any::Any + Send>,
}

impl World {
    async fn received(&self) -> Delivery {
        let started = std::time::Instant::now();
        loop {
            if let Some(delivery) = self.queue.receive(Duration::from_secs(60)).await.unwrap() {
                return delivery;
            }
            assert!(started.elapsed() <= self.patience, "a message that is due is not handed out");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn receives_nothing(&self) {
        assert!(self.queue.receive(Duration::from_secs(60)).await.unwrap().is_none());
    }
}

/// Calls a macro with the name of every case.
macro_rules! every_case {
    ($call:ident) => {
        $call!(
            conditional_writes_let_exactly_one_writer_win,
            a_failed_condition_undoes_the_whole_transaction,
            listing_pages_by_prefix_in_byte_order,
            partitions_are_listed_together_without_the_documents_that_are_not_wanted,
            sending_twice_is_sending_once_and_done_is_done,
            an_expired_lease_hands_the_message_to_another_and_voids_the_old_receipt,
            released_messages_come_back_after_the_delay_or_are_put_aside,
            blobs_are_addressed_by_content_and_damage_is_named,
            documents_and_messages_may_be_large,
            writers_at_once_lose_nothing,
            a_transaction_holds_90_writes_and_its_messages,
            large_files_are_blobs,
        );
    };
}
pub(crate) use every_case;

fn write(key: &Key, condition: Condition, value: serde_json::Value) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key.clone(), condition, &value).unwrap();
    transaction
}

pub async fn conditional_writes_let_exactly_one_writer_win(world: World) {
    let key = Key::new("package#zlib", "version#1");
    world.state.commit(write(&key, Condition::Absent, json!({"a": 1}))).await.unwrap();
    let error = world.state.commit(write(&key, Condition::Absent, json!({"a": 2}))).await.unwrap_err();
    assert!(matches!(error, PortError::Conflict { .. }), "{error}");
    world.state.commit(write(&key, Condition::Revision(1), json!({"a": 3}))).await.unwrap();
    let error = world.state.commit(write(&key, Condition::Revision(1), json!({"a": 4}))).await.unwrap_err();
    // An adapter need not know what it found.
    assert!(
        matches!(&error, PortError::Conflict { key: found, expected, .. } if *found == key && expected == "revision 1"),
        "{error}"
    );
    let document = world.state.get(&key).await.unwrap().unwrap();
    assert_eq!((document.revision, document.value), (2, json!({"a": 3})));
}

pub async fn a_failed_condition_undoes_the_whole_transaction(world: World) {
    let (first, second) = (Key::new("p", "1"), Key::new("p", "2"));
    world.state.commit(write(&second, Condition::Absent, json!(0))).await.unwrap();
    let mut transaction = write(&first, Condition::Absent, json!(1));
    transaction.put(second.clone(), Condition::Absent, &1).unwrap();
    transaction.send(Envelope::new("stage", 1, json!({})));
    world.state.commit(transaction).await.unwrap_err();
    assert_eq!(world.state.get(&first).await.unwrap(), None);
    assert_eq!(world.queue.pending().await.unwrap(), 0);
}

pub async fn listing_pages_by_prefix_in_byte_order(world: World) {
    for sort in ["version#10", "version#9", "event#1", "version#", "versioo", "version#é"] {
        world.state.commit(write(&Key::new("p", sort), Condition::Absent, json!(sort))).await.unwrap();
    }
    world.state.commit(write(&Key::new("q", "version#1"), Condition::Absent, json!(0))).await.unwrap();
    let page = world.state.list("p", "version#", None, 2).await.unwrap();
    let sorts = |page: &ports::Page| page.documents.iter().map(|d| d.key.sort.clone()).collect::<Vec<_>>();
    assert_eq!(sorts(&page), ["version#", "version#10"]);
    let page = world.state.list("p", "version#", page.next.as_deref(), 2).await.unwrap();
    assert_eq!((sorts(&page), page.next), (vec!["version#9".to_owned(), "version#é".to_owned()], None));
    assert_eq!(world.state.list_all("p", "").await.unwrap().len(), 6);
}

pub async fn partitions_are_listed_together_without_the_documents_that_are_not_wanted(world: World) {
    for (partition, sort) in [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")] {
        world.state.commit(write(&Key::new(partition, sort), Condition::Absent, json!(sort))).await.unwrap();
    }
    let wanted = ["c", "nothing", "a", "b"].map(str::to_owned);
    let lists = world.state.list_partitions(&wanted, &["x", "w"]).await.unwrap();
    let keys: Vec<Vec<String>> =
        lists.iter().map(|list| list.iter().map(|document| document.key.to_string()).collect()).collect();
    assert_eq!(keys, [vec!["c/z"], vec![], vec!["a/y"], vec![]]);
}

pub async fn sending_twice_is_sending_once_and_done_is_done(world: World) {
    let message = Envelope::new("package-build", 1, json!({"package": "zlib"}));
    for _ in 0..2 {
        world.state.commit(Transaction { messages: vec![message.clone()], ..Transaction::default() }).await.unwrap();
    }
    let delivery = world.received().await;
    assert_eq!((&delivery.envelope, delivery.attempt), (&message, 1));
    world.receives_nothing().await;
    assert_eq!(world.queue.pending().await.unwrap(), 1);
    world.queue.acknowledge(&delivery).await.unwrap();
    assert_eq!(world.queue.pending().await.unwrap(), 0);
}

pub async fn an_expired_lease_hands_the_message_to_another_and_voids_the_old_receipt(world: World) {
    world
        .state
        .commit(Transaction { messages: vec![Envelope::new("s", 1, json!(1))], ..Transaction::default() })
        .await
        .unwrap();
    let old = world.received().await;
    world.clock.advance(Duration::from_secs(61));
    let new = world.received().await;
    assert_eq!(new.attempt, 2);
    world.queue.acknowledge(&old).await.unwrap();
    assert_eq!(world.queue.pending().await.unwrap(), 1, "the old holder can't end the new holder's lease");
    world.queue.acknowledge(&new).await.unwrap();
    assert_eq!(world.queue.pending().await.unwrap(), 0);
}

pub async fn released_messages_come_back_after_the_delay_or_are_put_aside(world: World) {
    let message = Envelope::new("s", 1, json!(1));
    world.state.commit(Transaction { messages: vec![message.clone()], ..Transaction::default() }).await.unwrap();
    let delivery = world.received().await;
    world
        .queue
        .release(&delivery, Release::Retry { after: Duration::from_secs(5), reason: "busy".into() })
        .await
        .unwrap();
    world.receives_nothing().await;
    world.clock.advance(Duration::from_secs(5));
    let delivery = world.received().await;
    world.queue.release(&delivery, Release::Dead { reason: "bad field `x`".into() }).await.unwrap();
    world.receives_nothing().await;
    assert_eq!(world.queue.dead().await.unwrap(), [(message.clone(), "bad field `x`".to_owned())]);
    world.state.commit(Transaction { messages: vec![message], ..Transaction::default() }).await.unwrap();
    assert_eq!(world.received().await.attempt, 1, "sending again revives it");
}

pub async fn blobs_are_addressed_by_content_and_damage_is_named(world: World) {
    let digest = world.blobs.put(b"hello".to_vec()).await.unwrap();
    assert_eq!(digest, Digest::of(b"hello"));
    assert_eq!(world.blobs.get(digest, 5).await.unwrap(), b"hello");
    assert!(matches!(world.blobs.get(digest, 4).await.unwrap_err(), PortError::TooLarge { size: 5, limit: 4, .. }));
    let path = world.blobs.file(digest).await.unwrap();
    assert_eq!(world.blobs.put_file(&path).await.unwrap(), digest);
    let missing = Digest::of(b"other");
    assert!(!world.blobs.contains(missing).await.unwrap());
    assert!(matches!(world.blobs.file(missing).await.unwrap_err(), PortError::NoBlob(found) if found == missing));
    (world.damage)(digest, b"hellp".to_vec()).await;
    let other = world.blobs.put(b"other".to_vec()).await.unwrap();
    for _ in 0..2 {
        world.blobs.remove(other).await.unwrap();
        assert!(!world.blobs.contains(other).await.unwrap());
    }
    let error = world.blobs.get(digest, 5).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("blob {digest} is damaged: its bytes hash to sha256:")), "{error}");
    assert!(matches!(world.blobs.file(digest).await.unwrap_err(), PortError::Damaged { .. }));
}

pub async fn documents_and_messages_may_be_large(world: World) {
    let key = Key::new("image#nginx", "build#1");
    let large = json!({ "text": "x".repeat(1 << 20) });
    let message = Envelope::new("package-build", 1, json!({ "package": "nginx", "text": "y".repeat(700_000) }));
    let mut transaction = write(&key, Condition::Absent, large.clone());
    transaction.send(message.clone());
    world.state.commit(transaction).await.unwrap();
    assert_eq!(world.state.get(&key).await.unwrap().unwrap().value, large);
    let delivery = world.received().await;
    assert_eq!(delivery.envelope, message);
    world.queue.release(&delivery, Release::Dead { reason: "too much".into() }).await.unwrap();
    assert_eq!(world.queue.dead().await.unwrap(), [(message, "too much".to_owned())]);
    // A document that was large becomes small, and goes.
    world.state.commit(write(&key, Condition::Revision(1), json!(1))).await.unwrap();
    assert_eq!(world.state.get(&key).await.unwrap().unwrap().value, json!(1));
    let mut transaction = Transaction::default();
    transaction.writes.push(ports::Write { key: key.clone(), condition: Condition::Revision(2), value: None });
    world.state.commit(transaction).await.unwrap();
    assert_eq!(world.state.get(&key).await.unwrap(), None);
}

pub async fn writers_at_once_lose_nothing(world: World) {
    let key = Key::new("counter", "1");
    world.state.commit(write(&key, Condition::Absent, json!(0))).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let (state, key) = (world.state.clone(), key.clone());
        tasks.spawn(async move {
            for round in 0..4 {
                loop {
                    let document = state.get(&key).await.unwrap().unwrap();
                    let next = document.value.as_u64().unwrap() + 1;
                    let mut transaction = write(&key, Condition::Revision(document.revision), json!(next));
                    transaction
                        .put(Key::new("counted", next.to_string()), Condition::Absent, &(writer, round))
                        .unwrap();
                    match state.commit(transaction).await {
                        Ok(()) => break,
                        Err(PortError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let document = world.state.get(&key).await.unwrap().unwrap();
    assert_eq!((document.revision, document.value), (25, json!(24)));
    assert_eq!(world.state.list_all("counted", "").await.unwrap().len(), 24);
}

pub async fn a_transaction_holds_90_writes_and_its_messages(world: World) {
    let mut transaction = Transaction::default();
    for number in 0..90 {
        transaction.put(Key::new("many", format!("{number:02}")), Condition::Absent, &number).unwrap();
    }
    for number in 0..40 {
        transaction.send(Envelope::new("s", 1, json!(number)));
    }
    world.state.commit(transaction).await.unwrap();
    assert_eq!(world.state.list_all("many", "").await.unwrap().len(), 90);
    assert_eq!(world.queue.pending().await.unwrap(), 40);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let delivery = world.received().await;
        seen.insert(delivery.envelope.body.as_u64().unwrap());
        world.queue.acknowledge(&delivery).await.unwrap();
    }
    assert_eq!(seen.len(), 40);
    world.receives_nothing().await;
}

pub async fn large_files_are_blobs(world: World) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let bytes: Vec<u8> =
        (0..70_u32 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&path, &bytes).unwrap();
    let digest = world.blobs.put_file(&path).await.unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    assert_eq!(world.blobs.put_file(&path).await.unwrap(), digest);
    assert!(std::fs::read(world.blobs.file(digest).await.unwrap()).unwrap() == bytes);
}
