//! The contract every adapter keeps. Each case takes the ports as trait objects, so that the same
//! cases run against every adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use ports::local::{Database, FileBlobs};
use ports::{Blobs, Clock, Condition, Digest, Envelope, Key, PortError, Queue, Release, State, Transaction};
use serde_json::json;

struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct World {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    state: Arc<dyn State>,
    queue: Arc<dyn Queue>,
    blobs: Arc<dyn Blobs>,
    root: std::path::PathBuf,
}

fn local() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock(Mutex::new("2026-01-02T03:04:05Z".parse().unwrap())));
    let database = Database::open(&folder.path().join("state.sqlite"), clock.clone()).unwrap();
    let root = folder.path().join("blobs");
    std::fs::create_dir(&root).unwrap();
    World {
        clock,
        state: Arc::new(database.clone()),
        queue: Arc::new(database),
        blobs: Arc::new(FileBlobs::new(root.clone())),
        root,
        _folder: folder,
    }
}

fn write(key: &Key, condition: Condition, value: serde_json::Value) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key.clone(), condition, &value).unwrap();
    transaction
}

#[tokio::test]
async fn conditional_writes_let_exactly_one_writer_win() {
    let world = local();
    let key = Key::new("package#zlib", "version#1");
    world.state.commit(write(&key, Condition::Absent, json!({"a": 1}))).await.unwrap();
    let error = world.state.commit(write(&key, Condition::Absent, json!({"a": 2}))).await.unwrap_err();
    assert!(matches!(error, PortError::Conflict { .. }), "{error}");
    world.state.commit(write(&key, Condition::Revision(1), json!({"a": 3}))).await.unwrap();
    let error = world.state.commit(write(&key, Condition::Revision(1), json!({"a": 4}))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`package#zlib/version#1` was changed by another writer: expected revision 1, found revision 2"
    );
    let document = world.state.get(&key).await.unwrap().unwrap();
    assert_eq!((document.revision, document.value), (2, json!({"a": 3})));
}

#[tokio::test]
async fn a_failed_condition_undoes_the_whole_transaction() {
    let world = local();
    let (first, second) = (Key::new("p", "1"), Key::new("p", "2"));
    world.state.commit(write(&second, Condition::Absent, json!(0))).await.unwrap();
    let mut transaction = write(&first, Condition::Absent, json!(1));
    transaction.put(second.clone(), Condition::Absent, &1).unwrap();
    transaction.send(Envelope::new("stage", 1, json!({})));
    world.state.commit(transaction).await.unwrap_err();
    assert_eq!(world.state.get(&first).await.unwrap(), None);
    assert_eq!(world.queue.pending().await.unwrap(), 0);
}

#[tokio::test]
async fn listing_pages_by_prefix_in_byte_order() {
    let world = local();
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

#[tokio::test]
async fn sending_twice_is_sending_once_and_done_is_done() {
    let world = local();
    let message = Envelope::new("package-build", 1, json!({"package": "zlib"}));
    for _ in 0..2 {
        world.state.commit(Transaction { messages: vec![message.clone()], ..Transaction::default() }).await.unwrap();
    }
    let delivery = world.queue.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((&delivery.envelope, delivery.attempt), (&message, 1));
    assert!(world.queue.receive(Duration::from_secs(60)).await.unwrap().is_none());
    assert_eq!(world.queue.pending().await.unwrap(), 1);
    world.queue.acknowledge(&delivery).await.unwrap();
    assert_eq!(world.queue.pending().await.unwrap(), 0);
}

#[tokio::test]
async fn an_expired_lease_hands_the_message_to_another_and_voids_the_old_receipt() {
    let world = local();
    world
        .state
        .commit(Transaction { messages: vec![Envelope::new("s", 1, json!(1))], ..Transaction::default() })
        .await
        .unwrap();
    let old = world.queue.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(61));
    let new = world.queue.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(new.attempt, 2);
    world.queue.acknowledge(&old).await.unwrap();
    assert_eq!(world.queue.pending().await.unwrap(), 1, "the old holder can't end the new holder's lease");
    world.queue.acknowledge(&new).await.unwrap();
    assert_eq!(world.queue.pending().await.unwrap(), 0);
}

#[tokio::test]
async fn released_messages_come_back_after_the_delay_or_are_put_aside() {
    let world = local();
    let message = Envelope::new("s", 1, json!(1));
    world.state.commit(Transaction { messages: vec![message.clone()], ..Transaction::default() }).await.unwrap();
    let delivery = world.queue.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    world
        .queue
        .release(&delivery, Release::Retry { after: Duration::from_secs(5), reason: "busy".into() })
        .await
        .unwrap();
    assert!(world.queue.receive(Duration::from_secs(60)).await.unwrap().is_none());
    world.clock.advance(Duration::from_secs(5));
    let delivery = world.queue.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    world.queue.release(&delivery, Release::Dead { reason: "bad field `x`".into() }).await.unwrap();
    assert!(world.queue.receive(Duration::from_secs(60)).await.unwrap().is_none());
    assert_eq!(world.queue.dead().await.unwrap(), [(message.clone(), "bad field `x`".to_owned())]);
    world.state.commit(Transaction { messages: vec![message], ..Transaction::default() }).await.unwrap();
    assert!(world.queue.receive(Duration::from_secs(60)).await.unwrap().is_some(), "sending again revives it");
}

#[tokio::test]
async fn blobs_are_addressed_by_content_and_damage_is_named() {
    let world = local();
    let digest = world.blobs.put(b"hello".to_vec()).await.unwrap();
    assert_eq!(digest, Digest::of(b"hello"));
    assert_eq!(world.blobs.get(digest, 5).await.unwrap(), b"hello");
    assert!(matches!(world.blobs.get(digest, 4).await.unwrap_err(), PortError::TooLarge { size: 5, limit: 4, .. }));
    let path = world.blobs.file(digest).await.unwrap();
    assert_eq!(world.blobs.put_file(&path).await.unwrap(), digest);
    let missing = Digest::of(b"other");
    assert!(!world.blobs.contains(missing).await.unwrap());
    assert!(matches!(world.blobs.file(missing).await.unwrap_err(), PortError::NoBlob(found) if found == missing));
    std::fs::write(world.root.join(&digest.hex()[..2]).join(&digest.hex()[2..]), b"hellp").unwrap();
    let other = world.blobs.put(b"other".to_vec()).await.unwrap();
    for _ in 0..2 {
        world.blobs.remove(other).await.unwrap();
        assert!(!world.blobs.contains(other).await.unwrap());
    }
    let error = world.blobs.get(digest, 5).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("blob {digest} is damaged: its bytes hash to sha256:")), "{error}");
    assert!(matches!(world.blobs.file(digest).await.unwrap_err(), PortError::Damaged { .. }));
}

#[test]
fn one_process_works_in_a_home_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let home = ports::local::Home::open(folder.path()).unwrap();
    let lock = home.lock().unwrap();
    let error = home.lock().unwrap_err();
    assert!(matches!(error, PortError::HomeBusy { .. }), "{error}");
    drop(lock);
    home.lock().unwrap();
}
