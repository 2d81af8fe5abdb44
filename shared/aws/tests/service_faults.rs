//! What the adapters do when AWS is busy, breaks off, or refuses: over ministack behind a proxy that
//! spoils calls, on loopback. `not run` where ministack is not installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout)]

#[allow(unused)]
#[path = "../../../tests/contract/cases.rs"]
mod cases;
#[path = "../../../tests/contract/faults.rs"]
mod faults;
#[allow(unused)]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws::{Begun, Table};
use cases::ManualClock;
use faults::{FaultProxy, How};
use jiff::SignedDuration;
use ports::{Blobs, Condition, Digest, Envelope, Key, PortError, Queue, State, Transaction};
use serde_json::json;
use support::Aws;

/// Calls that the SDK makes of one that keeps failing.
const TRIES: usize = 3;

/// The longest that they may take.
const BOUND: Duration = Duration::from_secs(15);

struct Spoilt {
    aws: Aws,
    proxy: FaultProxy,
    clock: Arc<ManualClock>,
    table: Table,
    blobs: Arc<dyn Blobs>,
    _cache: tempfile::TempDir,
}

impl Spoilt {
    async fn new() -> Option<Self> {
        let mut aws = Aws::ministack().await?;
        let proxy = FaultProxy::before(aws.endpoint.trim_start_matches("http://")).await;
        aws.through(&proxy.url);
        let clock = ManualClock::new();
        let (table, blobs, _, cache) = aws.table(clock.clone()).await;
        proxy.came("");
        Some(Self { aws, proxy, clock, table, blobs, _cache: cache })
    }

    async fn revision(&self, key: &Key) -> Option<u64> {
        self.table.get(key).await.unwrap().map(|document| document.revision)
    }
}

fn put(key: &Key, condition: Condition) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key.clone(), condition, &"value").unwrap();
    transaction
}

fn sent(messages: &[&Envelope]) -> Transaction {
    let messages = messages.iter().map(|message| (*message).clone()).collect();
    Transaction { messages, ..Transaction::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_table_is_asked_again_and_a_write_is_made_once() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { proxy, table, .. } = &spoilt;
    for (number, how) in [
        How::json(400, "ProvisionedThroughputExceededException"),
        How::json(400, "ThrottlingException"),
        How::json(500, "InternalServerError"),
        How::Answer(503, String::new()),
        How::Lost,
    ]
    .into_iter()
    .enumerate()
    {
        let key = Key::new("busy", number.to_string());
        proxy.spoil(".UpdateItem", 2, how.clone());
        table.commit(put(&key, Condition::Absent)).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
        assert_eq!(proxy.came(".UpdateItem"), 3, "{how:?}");
        assert_eq!(spoilt.revision(&key).await, Some(1), "{how:?}");
    }
    // Without end: the error says who, what and why, and soon.
    let key = Key::new("busy", "for ever");
    proxy.spoil(".UpdateItem", u32::MAX, How::json(400, "ThrottlingException"));
    let started = Instant::now();
    let error = table.commit(put(&key, Condition::Absent)).await.unwrap_err();
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    assert_eq!(proxy.came(".UpdateItem"), TRIES);
    assert!(matches!(error, PortError::Service { service: "DynamoDB", action: "UpdateItem", .. }), "{error}");
    assert!(error.to_string().contains("ThrottlingException"), "{error}");
    assert_eq!(spoilt.revision(&key).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_never_taken_for_undone() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { proxy, table, .. } = &spoilt;
    // The second try meets what the first has written. The caller reads again, as after any conflict,
    // and finds its own decision.
    let key = Key::new("lost", "1");
    proxy.spoil(".UpdateItem", 1, How::Done);
    let error = table.commit(put(&key, Condition::Absent)).await.unwrap_err();
    assert!(matches!(&error, PortError::Conflict { key: found, .. } if *found == key), "{error}");
    assert_eq!(spoilt.revision(&key).await, Some(1));
    // A transaction has a token by which DynamoDB knows it again.
    let (first, second) = (Key::new("lost", "2"), Key::new("lost", "3"));
    let mut transaction = put(&first, Condition::Absent);
    transaction.put(second.clone(), Condition::Absent, &1).unwrap();
    proxy.spoil(".TransactWriteItems", 1, How::Done);
    table.commit(transaction).await.unwrap();
    assert_eq!((spoilt.revision(&first).await, spoilt.revision(&second).await), (Some(1), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_meet_others_are_tried_again_and_refused_conditions_are_not() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { proxy, table, .. } = &spoilt;
    let cancelled = |first: &str, second: &str| {
        How::Answer(
            400,
            json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "Transaction cancelled",
                "CancellationReasons": [{"Code": first}, {"Code": second}],
            })
            .to_string(),
        )
    };
    let transaction = |number: u32| {
        let mut transaction = put(&Key::new("met", format!("{number}a")), Condition::Absent);
        transaction.put(Key::new("met", format!("{number}b")), Condition::Revision(3), &1).unwrap();
        transaction
    };
    for (number, code) in ["TransactionConflict", "ThrottlingError"].into_iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        table.commit(put(&Key::new("met", format!("{number}b")), Condition::Any)).await.unwrap();
        for _ in 0..2 {
            table.commit(put(&Key::new("met", format!("{number}b")), Condition::Any)).await.unwrap();
        }
        proxy.came("");
        proxy.spoil(".TransactWriteItems", 2, cancelled(code, "None"));
        table.commit(transaction(number)).await.unwrap();
        assert_eq!(proxy.came(".TransactWriteItems"), 3, "{code}");
        assert_eq!(spoilt.revision(&Key::new("met", format!("{number}b"))).await, Some(4));
    }
    proxy.came("");
    proxy.spoil(".TransactWriteItems", u32::MAX, cancelled("TransactionConflict", "None"));
    let started = Instant::now();
    let error = table.commit(transaction(7)).await.unwrap_err();
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    assert_eq!(proxy.came(".TransactWriteItems"), 5);
    assert!(matches!(error, PortError::Service { action: "TransactWriteItems", .. }), "{error}");
    proxy.spoil(".TransactWriteItems", 1, cancelled("None", "ConditionalCheckFailed"));
    let error = table.commit(transaction(8)).await.unwrap_err();
    let refused = Key::new("met", "8b");
    assert!(matches!(&error, PortError::Conflict { key, .. } if *key == refused), "{error}");
    assert_eq!(proxy.came(".TransactWriteItems"), 1, "asking again would not help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_queue_does_not_take_is_kept_and_what_it_takes_twice_is_handled_once() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { aws, proxy, clock, table, .. } = &spoilt;
    // SQS is away for the whole transaction: it is through, and its message goes with a later sweep.
    let message = Envelope::new("s", 1, json!({"package": "kept"}));
    let key = Key::new("sent", "1");
    let mut transaction = put(&key, Condition::Absent);
    transaction.send(message.clone());
    proxy.spoil(".SendMessage", u32::MAX, How::Answer(503, String::new()));
    let error = table.commit(transaction).await.unwrap_err();
    assert!(matches!(error, PortError::Service { service: "SQS", action: "SendMessage", .. }), "{error}");
    assert_eq!(proxy.came(".SendMessage"), TRIES);
    assert_eq!(spoilt.revision(&key).await, Some(1));
    clock.advance(Duration::from_secs(61));
    assert_eq!(table.sweep(SignedDuration::from_secs(60)).await.unwrap(), 1);
    let delivery = table.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(delivery.envelope, message);
    table.acknowledge(&delivery).await.unwrap();
    assert!(table.receive(Duration::from_secs(60)).await.unwrap().is_none());

    // SQS takes it, and the answer is lost: it is there twice, and the second is nobody's.
    let twice = Envelope::new("s", 1, json!({"package": "twice"}));
    proxy.spoil(".SendMessage", 1, How::Done);
    table.commit(sent(&[&twice])).await.unwrap();
    let queue = aws.queue_of("s").await;
    assert_eq!(aws.waiting(&queue).await, 2);
    let delivery = table.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(delivery.envelope, twice);
    table.acknowledge(&delivery).await.unwrap();
    assert!(table.receive(Duration::from_secs(60)).await.unwrap().is_none());
    assert_eq!((table.pending().await.unwrap(), aws.waiting(&queue).await), (0, 0));

    // SQS does not forget it when it is done: it comes again, and is done.
    let stubborn = Envelope::new("s", 1, json!({"package": "stubborn"}));
    table.commit(sent(&[&stubborn])).await.unwrap();
    let delivery = table.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    proxy.came("");
    proxy.spoil(".DeleteMessage", u32::MAX, How::json(500, "InternalFailure"));
    let error = table.acknowledge(&delivery).await.unwrap_err();
    assert!(matches!(error, PortError::Service { action: "DeleteMessage", .. }), "{error}");
    assert_eq!(proxy.came(".DeleteMessage"), TRIES);
    let body = serde_json::to_string(&stubborn).unwrap();
    let again = aws.delivered_again(&queue, &body).await;
    let begun = table.begin(&queue, &again, &body, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(begun, Begun::Done(id) if id == stubborn.id), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_bucket_is_asked_again_and_half_an_answer_is_none() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { proxy, blobs, .. } = &spoilt;
    let content = |number: u8| vec![number; 1_000];
    for (number, how) in [How::xml(503, "SlowDown"), How::xml(500, "InternalError"), How::Lost].into_iter().enumerate()
    {
        let bytes = content(u8::try_from(number).unwrap());
        proxy.spoil("PUT /", 2, how.clone());
        let digest = blobs.put(bytes.clone()).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
        assert_eq!(proxy.came("PUT /"), 3, "{how:?}");
        proxy.spoil("GET /", 2, how);
        assert_eq!(blobs.get(digest, 1_000).await.unwrap(), bytes);
    }
    // It was stored, and the answer was lost: the second try finds it there.
    proxy.spoil("PUT /", 1, How::Done);
    let digest = blobs.put(content(7)).await.unwrap();
    assert_eq!(digest, Digest::of(&content(7)));
    proxy.came("");
    proxy.spoil("GET /", u32::MAX, How::Cut);
    let started = Instant::now();
    for error in [blobs.get(digest, 1_000).await.unwrap_err(), blobs.file(digest).await.unwrap_err()] {
        assert!(matches!(error, PortError::Service { service: "S3", action: "GetObject", .. }), "{error}");
    }
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    proxy.came("");
    assert_eq!(std::fs::read(blobs.file(digest).await.unwrap()).unwrap(), content(7), "half a file is not kept");
    proxy.spoil("PUT /", u32::MAX, How::xml(503, "SlowDown"));
    let error = blobs.put(content(8)).await.unwrap_err();
    assert!(error.to_string().contains("SlowDown"), "{error}");
    assert_eq!(proxy.came("PUT /"), TRIES);
    assert!(!blobs.contains(Digest::of(&content(8))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_refers_to_more_than_it_may_is_unreadable() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { aws, proxy, table, .. } = &spoilt;
    let queue = aws.queue_of("s").await;
    let id = Envelope::new("s", 1, json!(1)).id;
    let body = json!({"id": id, "blob": Digest::of(b"large")}).to_string();
    let handle = aws.delivered_again(&queue, &body).await;
    proxy.spoil("GET /", u32::MAX, How::Claims(300 << 20));
    let error = table.begin(&queue, &handle, &body, Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(error, PortError::TooLarge { size: 314_572_800, .. }), "{error}");
    assert!(aws::is_unreadable(&error));
    // A bucket that does not answer is no reason to put a message aside.
    proxy.came("");
    proxy.spoil("GET /", u32::MAX, How::xml(503, "SlowDown"));
    let error = table.begin(&queue, &handle, &body, Duration::from_secs(60)).await.unwrap_err();
    assert!(!aws::is_unreadable(&error), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_ran_out_are_named_and_nothing_is_done() {
    let Some(spoilt) = Spoilt::new().await else { return };
    let Spoilt { proxy, table, blobs, .. } = &spoilt;
    let key = Key::new("expired", "1");
    proxy.spoil(".UpdateItem", u32::MAX, How::json(400, "ExpiredTokenException"));
    let error = table.commit(put(&key, Condition::Absent)).await.unwrap_err();
    assert!(error.to_string().contains("ExpiredTokenException"), "{error}");
    assert!(proxy.came(".UpdateItem") <= TRIES);
    assert_eq!(spoilt.revision(&key).await, None);
    proxy.spoil("HEAD /", u32::MAX, How::Answer(400, String::new()));
    let error = blobs.put(b"x".to_vec()).await.unwrap_err();
    assert!(error.to_string().starts_with("S3 `HeadObject`: answered 400"), "{error}");
    proxy.came("");
    proxy.spoil("PUT /", u32::MAX, How::xml(400, "ExpiredToken"));
    let error = blobs.put(b"x".to_vec()).await.unwrap_err();
    assert!(error.to_string().contains("ExpiredToken"), "{error}");
    proxy.came("");
    proxy.spoil("GET /", u32::MAX, How::xml(403, "AccessDenied"));
    let error = blobs.get(Digest::of(b"x"), 10).await.unwrap_err();
    assert!(matches!(error, PortError::Service { .. }), "what is refused is not taken for missing: {error}");
}
