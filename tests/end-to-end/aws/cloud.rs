//! The deployed factory, and what a person would do with AWS's own tools to look at it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::factory::{Factory, text};
use tests::servers::{Ministack, REGION};

use crate::faults::FaultProxy;

const BY_TLS: &str = "x-forwarded-proto: https\r\n";

/// How long a schedule's work may take, sandboxed builds among it.
const PATIENCE: Duration = Duration::from_secs(900);

/// The factory in ministack.
pub struct Cloud {
    /// What became of each resource, as `infra/emulation/deploy.py` says.
    pub report: Value,
    pub folder: tempfile::TempDir,
    ministack: Ministack,
    /// Keeps the stand-in for TLS.
    _runtime: tokio::runtime::Runtime,
    /// Days since the first: each run of a schedule is due at another time.
    day: Cell<u32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Cloud {
    /// Deploys a factory's catalog; none, said aloud, where something is missing.
    pub fn deploy(factory: &Factory) -> Option<Self> {
        let Ok(binaries) = std::env::var("MINIMILL_FUNCTIONS") else {
            println!("not run: MINIMILL_FUNCTIONS names no folder of functions; `make test-aws` builds them");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (layer, report) = (folder.path().join("layer"), folder.path().join("report.json"));
        let (scratch, log) = (folder.path().join("scratch"), folder.path().join("ministack.log"));
        for folder in [&layer, &scratch] {
            fs::create_dir(folder).unwrap();
        }
        // The buckets refuse what does not come by TLS; a proxy says that it did.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let by_tls = |address: &str| runtime.block_on(FaultProxy::adding(address, BY_TLS)).url;
        let ministack = Ministack::with_functions(&layer, &scratch, &log, by_tls)?;
        // The key that the stand-in for Debian's archive signs with goes with the catalog.
        fs::copy(factory.folder().join("archive.gpg"), factory.catalog().join("archive.gpg")).unwrap();
        let mut deploy = Command::new("python3");
        deploy.arg(root().join("infra/emulation/deploy.py"));
        deploy.args(["--region", REGION, "--endpoint", &format!("http://{}", ministack.address)]);
        deploy.arg("--binaries").arg(binaries).arg("--catalog").arg(factory.catalog());
        deploy.arg("--layer").arg(&layer).arg("--output").arg(&report);
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        for parameter in [
            format!("FunctionArchitecture={architecture}"),
            "BuiltArchitectures=x86_64".to_owned(),
            format!("RegistryAddress={}", ministack.address),
            format!("DebianArchive={}", factory.upstream()),
            "DebianSuites=trixie".to_owned(),
            "DebianKeyrings=/opt/archive.gpg".to_owned(),
        ] {
            deploy.args(["--parameter", &parameter]);
        }
        for entry in fs::read_dir(root().join("functions")).unwrap() {
            let function = entry.unwrap().file_name().into_string().unwrap();
            // Lambda gives each function a `/tmp` of its own.
            let work = folder.path().join("tmp").join(&function);
            fs::create_dir_all(&work).unwrap();
            deploy.args(["--environment", &format!("{function}:MINIMILL_WORK={}", work.display())]);
            deploy.args(["--environment", &format!("{function}:MINIMILL_JOBS=local")]);
        }
        // ministack looks for a `repositoryName`, and this call has a list of names.
        deploy.args(["--allow", "ImagePublishRole:ecr:DescribeRepositories"]);
        let output = deploy.output().unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        println!("stands in: ministack for AWS, the functions' own process for CodeBuild, a header for TLS");
        Some(Self { report, folder, ministack, _runtime: runtime, day: Cell::new(0) })
    }

    /// `HOST:PORT` of ministack.
    pub fn address(&self) -> &str {
        &self.ministack.address
    }

    /// The functions, by the names of their crates.
    pub fn functions(&self) -> Vec<String> {
        self.report["functions"].as_object().unwrap().keys().cloned().collect()
    }

    /// An event of `events/`, as for the queues that are deployed.
    pub fn example(&self, file: &str) -> Value {
        let text = fs::read_to_string(root().join("events").join(file)).unwrap();
        serde_json::from_str(&text.replace("us-east-1:123456789012", &format!("{REGION}:000000000000"))).unwrap()
    }

    /// Invokes a function.
    pub fn invoke(&self, function: &str, event: &Value) -> Result<Value, Value> {
        let file = self.folder.path().join("event.json");
        fs::write(&file, event.to_string()).unwrap();
        self.ministack.invoke(text(&self.report["functions"][function]["name"]), &file)
    }

    /// Starts a schedule as the scheduler does, and waits until nothing is on its way.
    ///
    /// # Panics
    /// When a message is put aside, or the work does not end.
    pub fn run(&self, schedule: &str) {
        self.day.set(self.day.get() + 1);
        let time = format!("2026-07-{:02}T04:00:00Z", self.day.get());
        let answer = self.invoke(schedule, &json!({"schedule": schedule, "time": time}));
        assert_eq!(answer, Ok(Value::Null), "{schedule}\n{}", self.log());
        let started = Instant::now();
        loop {
            let items = self.items();
            let is_message = |item: &&Value| text(&item["pk"]["S"]).starts_with("message#");
            let dead: Vec<_> = items.iter().filter(is_message).filter(|item| item.get("dead").is_some()).collect();
            assert!(dead.is_empty(), "{schedule}: {dead:#?}\n{}", self.log());
            let waits = items.iter().any(|item| {
                let partition = text(&item["pk"]["S"]);
                partition.starts_with("message#") || partition.starts_with("outbox#")
            });
            if !waits {
                println!("{schedule}: {:.1} s", started.elapsed().as_secs_f32());
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{schedule}: {items:#?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Whether a function said this.
    pub fn said(&self, words: &str) -> bool {
        fs::read_to_string(self.folder.path().join("ministack.log")).unwrap().contains(words)
    }

    /// What ministack and the functions said last.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("ministack.log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(150)..].join("\n")
    }

    fn items(&self) -> Vec<Value> {
        let request = json!({"TableName": self.report["outputs"]["Table"], "ConsistentRead": true});
        let answer = self.ministack.call("dynamodb", "DynamoDB_20120810.Scan", &request);
        assert!(answer.get("LastEvaluatedKey").is_none(), "more than a page");
        answer["Items"].as_array().unwrap().clone()
    }

    /// Every key of the table.
    pub fn keys(&self) -> Vec<String> {
        self.items().iter().map(|item| format!("{} {}", text(&item["pk"]["S"]), text(&item["sk"]["S"]))).collect()
    }

    /// Documents of a partition of the table, with their keys.
    pub fn documents(&self, partition: &str, prefix: &str) -> Vec<(String, Value)> {
        let items = self.items();
        let wanted = items.iter().filter(|item| item["pk"]["S"] == partition);
        let wanted = wanted.filter(|item| text(&item["sk"]["S"]).starts_with(prefix));
        let document = |item: &Value| item["body"]["S"].as_str().map_or(Value::Null, |body| body.parse().unwrap());
        let mut found: Vec<_> = wanted.map(|item| (text(&item["sk"]["S"]).to_owned(), document(item))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// The only document of a key.
    pub fn document(&self, partition: &str, sort: &str) -> Value {
        let mut found = self.documents(partition, sort);
        found.retain(|(found, _)| found == sort);
        assert_eq!(found.len(), 1, "{partition} {sort}: {:#?}\n{}", self.keys(), self.log());
        found.remove(0).1
    }

    /// The URL of a function's queue.
    fn queue(&self, function: &str, variable: &str) -> String {
        let name = format!("MINIMILL_{variable}_{}", function.to_uppercase().replace('-', "_"));
        text(&self.report["functions"][function]["environment"][&name]).to_owned()
    }

    /// Sends a body to a function's queue.
    pub fn send(&self, function: &str, body: &str) {
        let request = json!({"QueueUrl": self.queue(function, "QUEUE"), "MessageBody": body});
        self.ministack.call("sqs", "AmazonSQS.SendMessage", &request);
    }

    /// How many messages a function's queue holds, handed out or not.
    pub fn waiting(&self, function: &str) -> u64 {
        let request = json!({"QueueUrl": self.queue(function, "QUEUE"), "AttributeNames": ["All"]});
        let found = self.ministack.call("sqs", "AmazonSQS.GetQueueAttributes", &request);
        ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            .iter()
            .map(|name| text(&found["Attributes"][name]).parse::<u64>().unwrap())
            .sum()
    }

    /// The next message that was put aside, and the reason.
    pub fn put_aside(&self, function: &str) -> (String, String) {
        let request = json!({
            "QueueUrl": self.queue(function, "DEAD"), "MessageAttributeNames": ["All"], "WaitTimeSeconds": 20,
        });
        for _ in 0..3 {
            let found = self.ministack.call("sqs", "AmazonSQS.ReceiveMessage", &request);
            if let Some(message) = found["Messages"].as_array().and_then(|messages| messages.first()) {
                let reason = text(&message["MessageAttributes"]["reason"]["StringValue"]).to_owned();
                return (text(&message["Body"]).to_owned(), reason);
            }
        }
        panic!("nothing was put aside\n{}", self.log());
    }

    /// An object of a bucket of the stack's outputs, as a file.
    pub fn object(&self, output: &str, key: &str) -> PathBuf {
        let url = format!("http://{}/{}/{key}", self.address(), text(&self.report["outputs"][output]));
        let file = self.folder.path().join(key.rsplit('/').next().unwrap());
        let status = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", "--aws-sigv4", &format!("aws:amz:{REGION}:s3")])
            .args(["--user", "test:test", "-H", BY_TLS.trim(), &url, "-o"])
            .arg(&file)
            .status();
        assert!(status.unwrap().success(), "{url}\n{}", self.log());
        file
    }

    /// A key of the stack's outputs, its public half as a file of this name.
    pub fn public_key(&self, output: &str, name: &str) -> PathBuf {
        let request = json!({"KeyId": self.report["outputs"][output]});
        let answer = self.ministack.call("kms", "TrentService.GetPublicKey", &request);
        let file = self.folder.path().join(name);
        let key = text(&answer["PublicKey"]);
        let lines: Vec<&str> = key.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        fs::write(&file, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
            .unwrap();
        file
    }

    /// The tags of an image in the registry.
    pub fn tags(&self, image: &str) -> Vec<(String, String)> {
        let request = json!({"repositoryName": format!("minimill/{image}")});
        let target = "AmazonEC2ContainerRegistry_V20150921.ListImages";
        let answer = self.ministack.call("ecr", target, &request);
        let ids = answer["imageIds"].as_array().unwrap().iter().filter(|id| id["imageTag"].is_string());
        let mut tags: Vec<_> =
            ids.map(|id| (text(&id["imageTag"]).to_owned(), text(&id["imageDigest"]).to_owned())).collect();
        tags.sort();
        tags
    }
}
