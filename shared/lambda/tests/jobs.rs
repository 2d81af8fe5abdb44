//! A package is built and tested by jobs elsewhere: the function of the stage, ministack, and the stand-in of
//! CodeBuild, which runs the project's buildspec with the real `mill`. `not run` where one is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout)]

#[allow(unused)]
#[path = "../../../tests/contract/cases.rs"]
mod cases;
mod settings;
#[allow(unused)]
#[path = "../../aws/tests/support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws::{CodeBuildJobs, Queues};
use lambda::{Factory, NoBuilder, Parts, Settings, Stages};
use ports::{Key, State};
use serde_json::{Value, json};
use stage::{BuildResult, PackageTestStatus, Stage};
use support::{Aws, CodeBuild};
use tokio::time::Instant;

/// A shell of the host's own, which its test runs in.
const DEFINITION: &str = r#"package:
  name: shell
  version: 1.0
  epoch: 0
  description: shell of a test
  options:
    no-depends: true
  checks:
    disabled: [usrmerge]
  copyright:
    - license: Apache-2.0
pipeline:
  - runs: |
      install -D -m 0755 /bin/dash ${{targets.destdir}}/bin/sh
      install -D -m 0755 /bin/mkdir ${{targets.destdir}}/bin/mkdir
      for program in /bin/dash /bin/mkdir; do
        /lib64/ld-linux-x86-64.so.2 --list $program | grep -o '/[^ ]*'
      done | sort -u | while read file; do install -D -m 0755 $file ${{targets.destdir}}$file; done
      test -z "$AWS_ACCESS_KEY_ID$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
      if [ -e /sys/class/net/eth0 ]; then exit 1; fi
test:
  pipeline:
    - name: it holds
      runs: |
        test "$(echo right)" = right
"#;

fn stages() -> Stages {
    lambda::stages!(stage::PackageBuild, stage::Schedule)
}

struct World {
    aws: Aws,
    codebuild: CodeBuild,
    factory: Factory,
    url: String,
    told: usize,
    _folder: tempfile::TempDir,
}

/// `mill`, as this build has made it.
fn mill() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let found = folder.join("mill").is_file();
    if !found {
        println!("not run: no `mill` in `{}`: cargo build -p mill", folder.display());
    }
    found.then(|| folder.to_owned())
}

impl World {
    /// A factory whose builds look for `mill` in a folder.
    async fn new(mill: &Path) -> Option<Self> {
        let mut aws = Aws::ministack().await?;
        let codebuild = aws.codebuild(mill).await?;
        let folder = tempfile::tempdir().unwrap();
        let (.., name, _cache) = aws.table(cases::ManualClock::new()).await;
        let catalog = folder.path().join("catalog");
        for part in ["packages", "images", "bootstrap"] {
            fs::create_dir_all(catalog.join(part)).unwrap();
        }
        fs::write(catalog.join("packages/shell.yaml"), DEFINITION).unwrap();
        let mut queues = Queues::default();
        let mut urls = Vec::new();
        for queue in ["build", "dead", "publish"] {
            urls.push(aws.clients.sqs.create_queue().queue_name(queue).send().await.unwrap().queue_url.unwrap());
        }
        for (stage, url) in [
            (stage::PackageBuild::NAME, &urls[0]),
            (stage::Schedule::NAME, &urls[0]),
            (stage::PackagePublish::NAME, &urls[2]),
            (stage::PackageIndex::NAME, &urls[2]),
            (stage::PackageTest::NAME, &urls[2]),
        ] {
            queues.stages.insert(stage.to_owned(), url.clone());
            queues.dead.insert(stage.to_owned(), urls[1].clone());
        }
        let settings = Settings {
            build_project: Some("minimill-job".to_owned()),
            ..settings::settings(&name, folder.path(), queues)
        };
        let parts = Parts {
            registry: Arc::new(registry::Layouts::new(folder.path().join("registry"))),
            jobs: Some(Arc::new(CodeBuildJobs::new(&aws.clients, &name, "minimill-job"))),
            builder: Arc::new(NoBuilder),
            containers: verify::Containers::Unavailable("a test".to_owned()),
        };
        let factory = Factory::open(settings, &aws.clients, parts, |_| None).await.unwrap();
        Some(Self { aws, codebuild, factory, url: urls[0].clone(), told: 0, _folder: folder })
    }

    /// Hands an event to the function.
    async fn invoke(&self, event: Value) -> Value {
        let deadline = Instant::now() + Duration::from_secs(300);
        lambda::answer(&self.factory, stages(), event, deadline).await.unwrap()
    }

    /// Hands all messages that wait to the function; the answer is their number.
    async fn work(&self) -> usize {
        let (event, bodies) = self.aws.deliveries(&self.url).await;
        if !bodies.is_empty() {
            let answer = self.invoke(event).await;
            assert_eq!(answer["batchItemFailures"], json!([]));
        }
        bodies.len()
    }

    /// The event of the next build that ends, handed to the function as EventBridge does.
    async fn build_ends(&mut self) {
        for _ in 0..1_200 {
            if let Some(event) = self.codebuild.events().get(self.told) {
                self.told += 1;
                self.invoke(event.clone()).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no build ends");
    }

    async fn documents(&self, partition: &str) -> Vec<(Key, Value)> {
        let found = self.factory.table.list_all(partition, "").await.unwrap();
        found.into_iter().map(|document| (document.key.clone(), document.decode().unwrap())).collect()
    }

    async fn events(&self, kind: &str) -> Vec<String> {
        let events = self.documents("event").await.into_iter().map(|(_, event)| event);
        let of_kind = events.filter(|event| event["kind"] == kind);
        of_kind.map(|event| event["text"].as_str().unwrap().to_owned()).collect()
    }

    async fn set_deadline(&self, deadline: &str) {
        let (key, mut job) = self.documents("job").await.remove(0);
        job["deadline"] = json!(deadline);
        let mut transaction = ports::Transaction::default();
        transaction.put(key, ports::Condition::Any, &job).unwrap();
        self.factory.table.commit(transaction).await.unwrap();
    }

    /// The schedule that asks for what is due.
    async fn ask(&self, time: &str) {
        assert_eq!(self.invoke(json!({"schedule": "package-build", "time": time})).await, Value::Null);
        assert_eq!(self.work().await, 1, "the schedule");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_and_its_tests_are_jobs_and_their_answers_become_a_result() {
    let Some(mill) = mill() else { return };
    let Some(mut world) = World::new(&mill).await else { return };
    world.ask("2026-03-04T06:00:00Z").await;
    assert_eq!(world.work().await, 1, "the build's message");
    assert_eq!(world.work().await, 0, "it lies in the job's document");
    let jobs = world.documents("job").await;
    assert_eq!((jobs.len(), &jobs[0].1["attempt"]), (1, &json!(1)));
    assert!(jobs[0].1["run"].as_str().unwrap().starts_with("minimill-job:"), "{jobs:?}");

    // A build of another's, and one of a job that nobody knows: neither is anybody's here.
    let event = |location: &str| {
        json!({"source": "aws.codebuild", "detail": {"build-status": "SUCCEEDED", "build-id": "b",
            "additional-information": {"source": {"location": location}}}})
    };
    for location in ["bucket/else/", "bucket/jobs/input/none-build-1/"] {
        world.invoke(event(location)).await;
    }
    assert_eq!(world.work().await, 0);

    world.build_ends().await;
    assert_eq!(world.work().await, 1, "the message again");
    let (jobs, told) = (world.documents("job").await, world.documents("event").await);
    assert_eq!(jobs.len(), 2, "the tests are a job of their own: {jobs:?} {told:?}");
    world.build_ends().await;
    assert_eq!(world.work().await, 1, "the message again");

    let built = world.documents("package#shell").await;
    let built = built.iter().find(|(key, _)| key.sort.starts_with("built#")).expect("a build");
    let result: BuildResult = world
        .factory
        .context
        .load("result", built.1["result"].as_str().unwrap().parse().unwrap(), 1 << 20)
        .await
        .unwrap();
    assert_eq!(result.packages.len(), 1);
    assert_eq!(result.tests[0].status, PackageTestStatus::Passed, "{:?}", result.tests);
    assert_eq!(result.tests[0].message, "it holds");
    let bytes = world.factory.context.blobs.file(result.packages[0].blob).await.unwrap();
    assert_eq!(apk::Package::open(&bytes).unwrap().information().name, "shell");
    assert_eq!(world.documents("job").await, [], "no job is left");
    assert_eq!(world.events("job.failed").await, [] as [&str; 0]);
    // The event comes twice: nothing happens.
    world.told = 0;
    world.build_ends().await;
    assert_eq!(world.work().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_an_answer_is_told_and_repeated_and_given_up_after_the_third_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mill"), "#!/bin/sh\necho no disk >&2\nexit 3\n").unwrap();
    fs::set_permissions(folder.path().join("mill"), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(mut world) = World::new(folder.path()).await else { return };
    world.ask("2026-03-04T06:00:00Z").await;
    assert_eq!(world.work().await, 1);
    for attempt in 2..=4 {
        world.build_ends().await;
        assert_eq!(world.work().await, 1, "attempt {attempt}");
        let jobs = world.documents("job").await;
        let expected: &[Value] = if attempt <= 3 { &[json!(attempt)] } else { &[] };
        assert_eq!(jobs.iter().map(|(_, job)| job["attempt"].clone()).collect::<Vec<_>>(), expected);
    }
    let told = world.events("job.failed").await;
    assert_eq!(told.len(), 3);
    assert!(told[0].starts_with("the job `build` of shell 1.0-r0 failed, attempt 1, minimill-job:"), "{told:?}");
    assert!(told[0].contains("it ended as FAILED") && told[0].contains("no disk"), "{told:?}");
    assert_eq!(world.events("package.failed").await.len(), 1);

    // The next schedule asks for it again, with three runs of its own; this one is never heard of.
    world.ask("2026-03-04T07:00:00Z").await;
    assert_eq!(world.work().await, 1);
    assert_eq!(world.documents("job").await[0].1["attempt"], 1);
    assert_eq!(world.invoke(json!({"schedule": "jobs", "time": "2026-03-04T07:05:00Z"})).await, Value::Null);
    assert_eq!(world.work().await, 1, "the schedule finds no job that is late");
    assert_eq!(world.work().await, 0);
    let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    world.set_deadline(&hour_ago.to_string()).await;
    assert_eq!(world.invoke(json!({"schedule": "jobs", "time": "2026-03-04T07:10:00Z"})).await, Value::Null);
    assert_eq!(world.work().await, 1, "the schedule");
    assert_eq!(world.work().await, 1, "the message again, of which no event told");
    assert_eq!(world.documents("job").await[0].1["attempt"], 2);
    world.set_deadline("2026-03-04T07:00:00Z").await;
    assert_eq!(world.invoke(json!({"schedule": "jobs", "time": "2026-03-04T07:15:00Z"})).await, Value::Null);
    assert_eq!(world.work().await, 1, "the schedule");
    // Long past its deadline, nobody claims it: it is forgotten, and said so.
    assert_eq!(world.documents("job").await, []);
    assert_eq!(world.events("job.unclaimed").await.len(), 1);
}
