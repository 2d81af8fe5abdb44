//! The AWS adapters keep the contract, over ministack and, for DynamoDB, dynalite, on loopback.
//! `not run` where these are not installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout)]

#[path = "../../../tests/contract/cases.rs"]
mod cases;
#[allow(dead_code)]
mod support;

use std::time::Duration;

use aws::Begun;
use cases::ManualClock;
use jiff::SignedDuration;
use ports::{Condition, Envelope, Key, PortError, Queue, State, Transaction};
use serde_json::json;
use support::Aws;

macro_rules! run_all {
    ($($case:ident),+ $(,)?) => {
        async fn run_all(aws: &Aws) {
            $(
                println!("case {}", stringify!($case));
                cases::$case(aws.world().await).await;
            )+
        }
    };
}

cases::every_case!(run_all);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapters_keep_the_contract_on_ministack() {
    let Some(aws) = Aws::ministack().await else { return };
    run_all(&aws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_interrupted_transaction_left_is_sent_by_the_next_sweep() {
    let Some(aws) = Aws::ministack().await else { return };
    let clock = ManualClock::new();
    let (table, blobs, name, _cache) = aws.table(clock.clone()).await;
    // The transaction is through, and the process dies before it reaches a queue.
    let broken = aws.table_without_queues(&name, blobs, clock.clone());
    let message = Envelope::new("package-build", 1, json!({"package": "zlib"}));
    let mut transaction = Transaction { messages: vec![message.clone()], ..Transaction::default() };
    transaction.put(Key::new("package#zlib", "upstream"), Condition::Absent, &1).unwrap();
    let error = broken.commit(transaction).await.unwrap_err();
    assert_eq!(error.to_string(), "SQS `SendMessage`: no queue is set for stage `package-build`");
    assert!(table.get(&Key::new("package#zlib", "upstream")).await.unwrap().is_some());
    assert!(table.receive(Duration::from_secs(60)).await.unwrap().is_none());
    assert_eq!(table.sweep(SignedDuration::from_secs(60)).await.unwrap(), 0, "it may be on its way still");
    clock.advance(Duration::from_secs(61));
    assert_eq!(table.sweep(SignedDuration::from_secs(60)).await.unwrap(), 1);
    let delivery = table.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(delivery.envelope, message);
    assert_eq!(table.sweep(SignedDuration::from_secs(60)).await.unwrap(), 0);
}

/// SQS delivers at least once: a second delivery of what is done, or is being handled, is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_delivery_by_sqs_is_not_handled() {
    let Some(aws) = Aws::ministack().await else { return };
    let clock = ManualClock::new();
    let (table, ..) = aws.table(clock.clone()).await;
    let message = Envelope::new("s", 1, json!(1));
    table.commit(Transaction { messages: vec![message.clone()], ..Transaction::default() }).await.unwrap();
    let body = serde_json::to_string(&message).unwrap();
    let queue = aws.queue_of("s").await;
    let delivery = table.receive(Duration::from_secs(60)).await.unwrap().unwrap();
    // The same message again, as SQS would hand it out.
    let second = aws.delivered_again(&queue, &body).await;
    let begun = table.begin(&queue, &second, &body, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(begun, Begun::Busy(wait) if wait == Duration::from_secs(60)), "{begun:?}");
    table.acknowledge(&delivery).await.unwrap();
    let third = aws.delivered_again(&queue, &body).await;
    let begun = table.begin(&queue, &third, &body, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(begun, Begun::Done(id) if id == message.id), "{begun:?}");
    let error = table.begin(&queue, &third, "{}", Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(error, PortError::Document { .. }), "{error}");
}

/// dynalite has no transactions: these two cases need none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_keeps_the_contract_on_dynalite() {
    let Some(aws) = Aws::with_dynalite().await else { return };
    cases::conditional_writes_let_exactly_one_writer_win(aws.world().await).await;
    cases::listing_pages_by_prefix_in_byte_order(aws.world().await).await;
}
