//! Batches of messages as SQS hands them to Lambda, over ministack on loopback. `not run` where it
//! is not installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout)]

#[allow(unused)]
#[path = "../../../tests/contract/cases.rs"]
mod cases;
mod settings;
#[allow(unused)]
#[path = "../../aws/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws::Queues;
use aws_sdk_sqs::types::QueueAttributeName;
use lambda::{Factory, NoBuilder, Parts, Stages};
use ports::{Envelope, Queue, State, Transaction};
use serde_json::{Value, json};
use stage::{Outcome, Schedule, Stage, StageError, Work};
use support::Aws;
use tokio::time::Instant;

static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Stands for a function's stages: `body` says what comes of a message.
fn stages() -> Stages {
    |envelope, _| {
        Box::pin(async move {
            HANDLED.fetch_add(1, Ordering::Relaxed);
            let subject = envelope.body["package"].as_str().unwrap_or_default().to_owned();
            let result = match envelope.body["then"].as_str() {
                Some("breaks") => {
                    let (action, reason) = ("reach it".to_owned(), "it is away".to_owned());
                    Err(StageError::Environment { action, reason })
                }
                Some("hangs") => std::future::pending().await,
                _ => Ok(Outcome::Done(String::new())),
            };
            (subject, result)
        })
    }
}

fn message(package: &str, then: &str) -> Envelope {
    Envelope::new("package-build", 1, json!({"package": package, "then": then}))
}

struct World {
    aws: Aws,
    factory: Factory,
    queues: BTreeMap<&'static str, String>,
    /// The table's and the bucket's.
    name: String,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let aws = Aws::ministack().await?;
        let folder = tempfile::tempdir().unwrap();
        let (.., name, _cache) = aws.table(cases::ManualClock::new()).await;
        let catalog = folder.path().join("catalog");
        for part in ["packages", "images"] {
            std::fs::create_dir_all(catalog.join(part)).unwrap();
        }
        let mut queues = Queues::default();
        let mut urls = BTreeMap::new();
        for (queue, fifo) in [("build", false), ("dead", false), ("ordered.fifo", true)] {
            let mut call = aws.clients.sqs.create_queue().queue_name(queue);
            if fifo {
                call = call.attributes(QueueAttributeName::FifoQueue, "true");
            }
            urls.insert(queue, call.send().await.unwrap().queue_url.unwrap());
        }
        for stage in [stage::PackageBuild::NAME, Schedule::NAME, stage::UpstreamCheck::NAME] {
            queues.stages.insert(stage.to_owned(), urls["build"].clone());
            queues.dead.insert(stage.to_owned(), urls["dead"].clone());
        }
        queues.stages.insert("ordered".to_owned(), urls["ordered.fifo"].clone());
        let settings = settings::settings(&name, folder.path(), queues);
        let parts = Parts {
            registry: Arc::new(registry::Layouts::new(folder.path().join("registry"))),
            jobs: None,
            builder: Arc::new(NoBuilder),
            containers: verify::Containers::Unavailable("a test".to_owned()),
        };
        let factory = Factory::open(settings, &aws.clients, parts, |_| None).await.unwrap();
        Some(Self { aws, factory, queues: urls, name, _folder: folder })
    }

    async fn send(&self, messages: &[&Envelope]) {
        let messages = messages.iter().map(|message| (*message).clone()).collect();
        self.factory.table.commit(Transaction { messages, ..Transaction::default() }).await.unwrap();
    }

    /// Sends what is not on its way by the table.
    async fn send_body(&self, body: &str) {
        self.aws.clients.sqs.send_message().queue_url(&self.queues["build"]).message_body(body).send().await.unwrap();
    }

    /// What SQS hands to Lambda: everything that waits in a queue.
    async fn event(&self, queue: &str) -> (Value, Vec<String>) {
        self.aws.deliveries(&self.queues[queue]).await
    }

    /// How many messages the functions' queue and the table hold.
    async fn waiting(&self) -> (i64, u64) {
        (self.left("build").await, self.factory.table.pending().await.unwrap())
    }

    /// How many messages a queue holds, handed out or not.
    async fn left(&self, queue: &str) -> i64 {
        let call = self.aws.clients.sqs.get_queue_attributes().queue_url(&self.queues[queue]);
        let answer = call.attribute_names(QueueAttributeName::All).send().await.unwrap().attributes.unwrap();
        let number = |name: QueueAttributeName| answer[&name].parse::<i64>().unwrap();
        number(QueueAttributeName::ApproximateNumberOfMessages)
            + number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }

    /// The function's answer: the numbers of the records that SQS is to deliver again.
    async fn answer(&self, event: &Value, time: Duration) -> Vec<usize> {
        let answer = lambda::answer(&self.factory, stages(), event.clone(), Instant::now() + time).await.unwrap();
        let records = event["Records"].as_array().unwrap();
        let number = |failure: &Value| {
            records.iter().position(|record| record["messageId"] == failure["itemIdentifier"]).unwrap()
        };
        answer["batchItemFailures"].as_array().unwrap().iter().map(number).collect()
    }

    /// The reasons with which messages were put aside.
    async fn put_aside(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        loop {
            let call = self.aws.clients.sqs.receive_message().queue_url(&self.queues["dead"]);
            let answer = call.message_attribute_names("All").max_number_of_messages(10).send().await.unwrap();
            let messages = answer.messages.unwrap_or_default();
            if messages.is_empty() {
                found.sort();
                return found;
            }
            for message in messages {
                let reason = message.message_attributes.unwrap()["reason"].string_value.clone().unwrap();
                found.push((message.body.unwrap(), reason));
            }
        }
    }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_answered_message_by_message() {
    let Some(world) = World::new().await else { return };
    tracing_subscriber::fmt().with_test_writer().init();
    what_is_no_message_is_put_aside_with_the_reason(&world).await;
    what_fails_comes_again_and_what_is_done_does_not(&world).await;
    order_is_kept_after_a_failure(&world).await;
    what_there_is_no_time_for_comes_again(&world).await;
    schedules_start_once(&world).await;
    what_this_version_does_not_understand_is_put_aside(&world).await;
    what_ends_the_function_each_time_is_put_aside(&world).await;
    a_function_that_can_do_nothing_leaves_its_messages_to_the_redrive(&world).await;
}

async fn what_is_no_message_is_put_aside_with_the_reason(world: &World) {
    let good = message("zlib", "works");
    let mut forged = message("curl", "works");
    forged.id = good.id;
    let missing = json!({"id": message("xz", "works").id, "blob": ports::Digest::of(b"nowhere")}).to_string();
    world.send(&[&good]).await;
    for body in ["not json", "{}", &serde_json::to_string(&forged).unwrap(), &missing] {
        world.send_body(body).await;
    }
    // A message that was done long ago is none: the table does not know it any more.
    let stale = message("old", "works");
    world.send_body(&serde_json::to_string(&stale).unwrap()).await;
    let before = HANDLED.load(Ordering::Relaxed);
    let (event, bodies) = world.event("build").await;
    assert_eq!(bodies.len(), 6);
    assert_eq!(world.answer(&event, LONG).await, [0_usize; 0]);
    assert_eq!(HANDLED.load(Ordering::Relaxed) - before, 1, "only the good one is handled");
    assert_eq!(world.left("build").await, 0, "none comes again");
    let aside = world.put_aside().await;
    let reasons = |body: &str| aside.iter().find(|(found, _)| found == body).map(|(_, reason)| reason.as_str());
    assert!(reasons("not json").unwrap().contains("does not decode"), "{aside:?}");
    assert!(reasons("{}").unwrap().contains("does not decode"), "{aside:?}");
    assert!(reasons(&missing).unwrap().ends_with("is not stored"), "{aside:?}");
    let forged = reasons(&serde_json::to_string(&forged).unwrap()).unwrap();
    assert!(forged.contains("is not named by its content"), "{aside:?}");
    assert_eq!(aside.len(), 4);
    assert_eq!(world.factory.table.pending().await.unwrap(), 0);
}

async fn what_fails_comes_again_and_what_is_done_does_not(world: &World) {
    let (works, breaks) = (message("a", "works"), message("b", "breaks"));
    world.send(&[&works, &breaks]).await;
    let (event, bodies) = world.event("build").await;
    let broken = bodies.iter().position(|body| body.contains("breaks")).unwrap();
    assert_eq!(world.answer(&event, LONG).await, [broken]);
    let before = HANDLED.load(Ordering::Relaxed);
    // SQS delivers at least once: the same batch again, at once.
    assert_eq!(world.answer(&event, LONG).await, [broken]);
    assert_eq!(HANDLED.load(Ordering::Relaxed), before, "one is done, the other waits a while");
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.answer(&event, LONG).await;
    }
    assert_eq!(HANDLED.load(Ordering::Relaxed), before + 2, "three tries in all");
    let dead = world.factory.table.dead().await.unwrap();
    assert_eq!(dead, [(breaks, "reach it: it is away".to_owned())]);
    assert_eq!(world.put_aside().await.len(), 1);
}

async fn order_is_kept_after_a_failure(world: &World) {
    let ordered = |package: &str, then: &str| Envelope::new("ordered", 1, json!({"package": package, "then": then}));
    let messages = [ordered("p", "works"), ordered("p", "breaks"), ordered("p", "works later")];
    world.send(&messages.iter().collect::<Vec<_>>()).await;
    let (event, bodies) = world.event("ordered.fifo").await;
    let before = HANDLED.load(Ordering::Relaxed);
    let again = world.answer(&event, LONG).await;
    assert_eq!(HANDLED.load(Ordering::Relaxed) - before, 2, "nothing overtakes what failed");
    let broken = bodies.iter().position(|body| body.contains("breaks")).unwrap();
    assert_eq!(again, (broken..bodies.len()).collect::<Vec<_>>());
}

async fn what_there_is_no_time_for_comes_again(world: &World) {
    world.send(&[&message("slow", "hangs"), &message("next", "works")]).await;
    let (event, bodies) = world.event("build").await;
    let before = HANDLED.load(Ordering::Relaxed);
    assert_eq!(world.answer(&event, Duration::from_secs(10)).await, (0..bodies.len()).collect::<Vec<_>>());
    assert_eq!(HANDLED.load(Ordering::Relaxed), before, "too little is left to begin any");
    let started = Instant::now();
    let again = world.answer(&event, Duration::from_secs(22)).await;
    assert!(started.elapsed() < Duration::from_secs(22), "it gives back before Lambda ends it");
    let hanging = bodies.iter().position(|body| body.contains("hangs")).unwrap();
    assert!(again.contains(&hanging), "{again:?}");
}

/// With the stages that a function really has.
async fn what_this_version_does_not_understand_is_put_aside(world: &World) {
    world.put_aside().await;
    let before = world.waiting().await;
    let real: Stages = lambda::stages!(stage::PackageBuild, stage::Schedule);
    let newer = Envelope::new("package-build", 99, json!({"package": "zlib"}));
    let misfit = Envelope::new("package-build", 1, json!({"package": "zlib", "colour": "blue"}));
    let foreign = Envelope::new("upstream-check", 1, json!({"package": "zlib"}));
    world.send(&[&newer, &misfit, &foreign]).await;
    let (event, bodies) = world.event("build").await;
    assert_eq!(bodies.len(), 3);
    // Another order than they were sent in, and each twice, as SQS may.
    let mut records = event["Records"].as_array().unwrap().clone();
    records.reverse();
    records.extend(records.clone());
    let answer = lambda::answer(&world.factory, real, json!({ "Records": records }), Instant::now() + LONG).await;
    assert_eq!(answer.unwrap(), json!({"batchItemFailures": []}));
    let aside = world.put_aside().await;
    assert_eq!(aside.len(), 3, "{aside:?}");
    for (message, reason) in [
        (&newer, "message version 99 of stage `package-build` is not the version 1 that is understood"),
        (&misfit, "unknown field `colour`"),
        (&foreign, "this function has no stage `upstream-check`"),
    ] {
        let body = serde_json::to_string(message).unwrap();
        let found = &aside.iter().find(|(found, _)| *found == body).unwrap().1;
        assert!(found.contains(reason), "{found}");
    }
    assert_eq!(world.waiting().await, before);
}

async fn what_ends_the_function_each_time_is_put_aside(world: &World) {
    let before = world.waiting().await;
    let deadly = message("deadly", "works");
    world.send(&[&deadly]).await;
    let (event, bodies) = world.event("build").await;
    let (queue, record) = (&world.queues["build"], &event["Records"][0]);
    for _ in 0..5 {
        // The process ends here: nobody says what became of it, and the lease runs out.
        let handle = record["receiptHandle"].as_str().unwrap();
        let begun = world.factory.table.begin(queue, handle, &bodies[0], Duration::from_millis(1)).await.unwrap();
        assert!(matches!(begun, aws::Begun::Handle(_)), "{begun:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let handled = HANDLED.load(Ordering::Relaxed);
    assert_eq!(world.answer(&event, LONG).await, [0_usize; 0]);
    assert_eq!(HANDLED.load(Ordering::Relaxed), handled);
    let reason = "it was begun 5 times, and the function ended before it was handled";
    let dead = world.factory.table.dead().await.unwrap();
    assert!(dead.contains(&(deadly, reason.to_owned())), "{dead:?}");
    assert_eq!(world.put_aside().await, [(bodies[0].clone(), reason.to_owned())]);
    assert_eq!(world.waiting().await, before);
}

/// Its table is away, so that it can't even say which message is bad: SQS counts, and puts aside.
async fn a_function_that_can_do_nothing_leaves_its_messages_to_the_redrive(world: &World) {
    let sqs = &world.aws.clients.sqs;
    let dead = sqs.create_queue().queue_name("redriven-dead").send().await.unwrap().queue_url.unwrap();
    let arn = "arn:aws:sqs:us-east-1:000000000000:redriven-dead";
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 2}).to_string();
    let call = sqs.create_queue().queue_name("redriven").attributes(QueueAttributeName::RedrivePolicy, policy);
    let queue = call.send().await.unwrap().queue_url.unwrap();
    sqs.send_message().queue_url(&queue).message_body("anything").send().await.unwrap();
    world.aws.clients.dynamodb.delete_table().table_name(&world.name).send().await.unwrap();
    let receive = |queue: &str| {
        let call = sqs.receive_message().queue_url(queue).visibility_timeout(0).send();
        async { call.await.unwrap().messages.unwrap_or_default() }
    };
    for _ in 0..2 {
        let received = receive(&queue).await;
        assert_eq!(received.len(), 1);
        let event = json!({"Records": [{
            "messageId": received[0].message_id, "receiptHandle": received[0].receipt_handle,
            "body": received[0].body, "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:redriven",
        }]});
        assert_eq!(world.answer(&event, LONG).await, [0]);
    }
    assert!(receive(&queue).await.is_empty());
    let dead = receive(&dead).await;
    assert_eq!(dead.iter().map(|message| message.body.as_deref().unwrap()).collect::<Vec<_>>(), ["anything"]);
}

async fn schedules_start_once(world: &World) {
    let event = json!({"schedule": "upstream-check", "time": "2026-11-25T10:00:00Z"});
    for _ in 0..2 {
        let answer = lambda::answer(&world.factory, stages(), event.clone(), Instant::now() + LONG).await.unwrap();
        assert_eq!(answer, Value::Null);
    }
    let time = "2026-11-25T10:00:00Z".parse().unwrap();
    let expected = Schedule { work: Work::UpstreamCheck, time, after: None }.envelope().unwrap();
    let (_, bodies) = world.event("build").await;
    let sent = bodies.iter().filter(|body| **body == serde_json::to_string(&expected).unwrap()).count();
    assert_eq!(sent, 1);
    for event in [json!({"schedule": "nonsense", "time": "2026-11-25T10:00:00Z"}), json!({"source": "aws.health"})] {
        let error = lambda::answer(&world.factory, stages(), event, Instant::now() + LONG).await.unwrap_err();
        assert!(error.to_string().starts_with("the event is neither a batch of messages nor a schedule"), "{error}");
    }
}
