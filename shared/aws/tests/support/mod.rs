use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws::{Clients, Queues, S3Blobs, SqsQueue, Table};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use ports::{Blobs, Clock};

use crate::cases::{ManualClock, World};

/// A process that ends with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on a free port of loopback; `None`, with `not run`, where it is not installed.
async fn start(program: &str, port_variable: Option<&str>, arguments: &[&str]) -> Option<(Running, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new(program);
    match port_variable {
        Some(variable) => command.env(variable, &port),
        None => command.args(["--port", &port]),
    };
    let started = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = match started {
        Ok(child) => Running(child),
        Err(error) => {
            println!("not run: {program}: {error}");
            return None;
        }
    };
    for _ in 0..600 {
        if tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.is_ok() {
            return Some((running, format!("http://127.0.0.1:{port}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{program} does not listen on port {port}");
}

/// The stand-in of CodeBuild.
pub struct CodeBuild {
    events: PathBuf,
    _folder: tempfile::TempDir,
    _running: Running,
}

impl CodeBuild {
    /// The events of builds that have ended.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.events).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// AWS as emulators play it.
pub struct Aws {
    pub clients: Clients,
    /// Where ministack is.
    pub endpoint: String,
    count: AtomicU32,
    _running: Vec<Running>,
}

fn config(endpoint: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(Credentials::new(
            "test", "test", None, None, "test",
        )))
        .endpoint_url(endpoint)
        .http_client(aws::http_client())
        .build()
}

impl Aws {
    pub async fn ministack() -> Option<Self> {
        let (running, endpoint) = start("ministack", Some("GATEWAY_PORT"), &[]).await?;
        Some(Self {
            clients: Clients::new(&config(&endpoint)),
            endpoint,
            count: AtomicU32::new(0),
            _running: vec![running],
        })
    }

    /// Calls go to another address from now on.
    pub fn through(&mut self, endpoint: &str) {
        self.clients = Clients::new(&config(endpoint));
    }

    /// How many messages a queue holds, handed out or not.
    pub async fn waiting(&self, queue: &str) -> i64 {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let call = self.clients.sqs.get_queue_attributes().queue_url(queue).attribute_names(Name::All);
        let found = call.send().await.unwrap().attributes.unwrap();
        let number = |name: Name| found[&name].parse::<i64>().unwrap();
        number(Name::ApproximateNumberOfMessages) + number(Name::ApproximateNumberOfMessagesNotVisible)
    }

    /// DynamoDB by dynalite, the rest by ministack.
    pub async fn with_dynalite() -> Option<Self> {
        let (dynalite, endpoint) = start("dynalite", None, &["--createTableMs", "0"]).await?;
        let mut aws = Self::ministack().await?;
        aws.clients.dynamodb = Clients::new(&config(&endpoint)).dynamodb;
        aws._running.push(dynalite);
        Some(aws)
    }

    /// CodeBuild, for which the project's own server stands in; its builds look for `mill` in a folder.
    /// `None`, with `not run`, where Python lacks what it needs.
    pub async fn codebuild(&mut self, mill: &Path) -> Option<CodeBuild> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events");
        let started = Command::new("python3")
            .arg(root.join("tests/aws/codebuild.py"))
            .args([Path::new("--buildspec"), &root.join("infra/buildspec.yml"), Path::new("--path"), mill])
            .args(["--endpoint", &self.endpoint, "--event-file"])
            .arg(&events)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut running = Running(started.unwrap());
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(endpoint) = line.trim().strip_prefix("listening on ") else {
            let mut problem = String::new();
            running.0.stderr.take().unwrap().read_to_string(&mut problem).unwrap();
            assert!(problem.contains("ModuleNotFoundError"), "{problem}");
            println!("not run: tests/aws/codebuild.py: {}", problem.lines().last().unwrap_or_default());
            return None;
        };
        self.clients.codebuild = Clients::new(&config(endpoint)).codebuild;
        Some(CodeBuild { events, _folder: folder, _running: running })
    }

    /// What SQS hands to Lambda: everything that waits in a queue, with the bodies.
    pub async fn deliveries(&self, url: &str) -> (serde_json::Value, Vec<String>) {
        let queue = url.rsplit('/').next().unwrap();
        let (mut records, mut bodies) = (Vec::new(), Vec::new());
        loop {
            let call = self.clients.sqs.receive_message().queue_url(url);
            let call = call.max_number_of_messages(10).visibility_timeout(60);
            let answer = call.send().await.unwrap().messages.unwrap_or_default();
            let new: Vec<_> = answer.into_iter().filter(|one| !bodies.contains(one.body.as_ref().unwrap())).collect();
            if new.is_empty() {
                return (serde_json::json!({ "Records": records }), bodies);
            }
            for message in new {
                bodies.push(message.body.clone().unwrap());
                records.push(serde_json::json!({
                    "messageId": message.message_id, "receiptHandle": message.receipt_handle,
                    "body": message.body, "attributes": {"ApproximateReceiveCount": "1"},
                    "eventSource": "aws:sqs", "awsRegion": "us-east-1",
                    "eventSourceARN": format!("arn:aws:sqs:us-east-1:000000000000:{queue}"),
                }));
            }
        }
    }

    /// A table, a bucket and queues of their own.
    pub async fn table(&self, clock: Arc<dyn Clock>) -> (Table, Arc<dyn Blobs>, String, tempfile::TempDir) {
        let name = format!("minimill-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let attribute = |name: &str| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build().unwrap()
        };
        let element = |name: &str, kind: KeyType| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
        };
        self.clients
            .dynamodb
            .create_table()
            .table_name(&name)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk"))
            .attribute_definitions(attribute("sk"))
            .key_schema(element("pk", KeyType::Hash))
            .key_schema(element("sk", KeyType::Range))
            .send()
            .await
            .unwrap();
        self.clients.s3.create_bucket().bucket(&name).send().await.unwrap();
        let mut queues = Queues::default();
        for stage in ["s", "stage", "package-build"] {
            for (map, suffix) in [(&mut queues.stages, ""), (&mut queues.dead, "-dead")] {
                let queue = format!("{name}-{stage}{suffix}");
                let url = self.clients.sqs.create_queue().queue_name(queue).send().await.unwrap().queue_url.unwrap();
                map.insert(stage.to_owned(), url);
            }
        }
        let cache = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn Blobs> =
            Arc::new(S3Blobs::new(self.clients.s3.clone(), &name, "blobs/", cache.path().to_owned()));
        let queue = SqsQueue::new(self.clients.sqs.clone(), queues, Duration::from_secs(1));
        let table = Table::new(self.clients.dynamodb.clone(), &name, "tests", blobs.clone(), queue, clock);
        (table, blobs, name, cache)
    }

    /// A table that exists, for a process that reaches no queue.
    pub fn table_without_queues(&self, name: &str, blobs: Arc<dyn Blobs>, clock: Arc<dyn Clock>) -> Table {
        let queue = SqsQueue::new(self.clients.sqs.clone(), Queues::default(), Duration::from_secs(1));
        Table::new(self.clients.dynamodb.clone(), name, "tests", blobs, queue, clock)
    }

    /// The URL of a stage's queue of the table that was made first.
    pub async fn queue_of(&self, stage: &str) -> String {
        let queue = format!("minimill-0-{stage}");
        self.clients.sqs.get_queue_url().queue_name(queue).send().await.unwrap().queue_url.unwrap()
    }

    /// Sends a body once more behind the adapter's back, and returns the handle under which SQS
    /// delivers it.
    pub async fn delivered_again(&self, queue: &str, body: &str) -> String {
        self.clients.sqs.send_message().queue_url(queue).message_body(body).send().await.unwrap();
        let answer = self.clients.sqs.receive_message().queue_url(queue).send().await.unwrap();
        answer.messages.unwrap().remove(0).receipt_handle.unwrap()
    }

    pub async fn world(&self) -> World {
        let clock = ManualClock::new();
        let (table, blobs, bucket, cache) = self.table(clock.clone()).await;
        let s3 = self.clients.s3.clone();
        let folder = cache.path().to_owned();
        World {
            clock,
            state: Arc::new(table.clone()),
            queue: Arc::new(table),
            blobs,
            damage: Box::new(move |digest, bytes| {
                let (shard, rest) = (digest.hex()[..2].to_owned(), digest.hex()[2..].to_owned());
                let _ = std::fs::write(folder.join(&shard).join(&rest), &bytes);
                let put = s3.put_object().bucket(&bucket).key(format!("blobs/sha256/{shard}/{rest}"));
                Box::pin(async move {
                    put.body(bytes.into()).send().await.unwrap();
                })
            }),
            patience: Duration::from_secs(20),
            _kept: Box::new(cache),
        }
    }
}
