//! Jobs on CodeBuild, which `tests/aws/codebuild.py` stands in for, with S3 by ministack. The stand-in
//! runs the project's own buildspec; here another program stands where `mill` is called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout)]

#[allow(unused)]
#[path = "../../../tests/contract/cases.rs"]
mod cases;
#[allow(unused)]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use aws::CodeBuildJobs;
use ports::{JobRun, Jobs};
use support::{Aws, CodeBuild};

const HOUR: Duration = Duration::from_secs(3_600);

/// Does with a job what its text says, in the place of `mill job run INPUT OUTPUT`.
const PROGRAM: &str = r#"#!/bin/sh
test "$1 $2" = "job run" && test -z "$AWS_ACCESS_KEY_ID$AWS_SECRET_ACCESS_KEY$HOME" || exit 9
case "$(head -c 4 "$3")" in
  good) printf 'answer to ' > "$4"; cat "$3" >> "$4" ;;
  bad_) echo why it is bad; exit 3 ;;
  none) ;;
  slow) sleep 600 ;;
esac
"#;

struct World {
    jobs: CodeBuildJobs,
    codebuild: CodeBuild,
    aws: Aws,
    bucket: String,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let mut aws = Aws::ministack().await?;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mill"), PROGRAM).unwrap();
        fs::set_permissions(folder.path().join("mill"), fs::Permissions::from_mode(0o755)).unwrap();
        let codebuild = aws.codebuild(folder.path()).await?;
        let (.., bucket, _cache) = aws.table(cases::ManualClock::new()).await;
        let jobs = CodeBuildJobs::new(&aws.clients, &bucket, "minimill-job");
        Some(Self { jobs, codebuild, aws, bucket, folder })
    }

    fn input(&self, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join("input");
        fs::write(&path, text).unwrap();
        path
    }

    async fn run(&self, name: &str, text: &str) -> (String, JobRun) {
        self.jobs.hand_in(name, &self.input(text)).await.unwrap();
        let run = self.jobs.start(name, 1, HOUR).await.unwrap();
        let found = self.end(name, &run).await;
        (run, found)
    }

    async fn end(&self, name: &str, run: &str) -> JobRun {
        for _ in 0..600 {
            let found = self.jobs.look(name, 1, run, &self.output(), 1 << 20).await.unwrap();
            if found != JobRun::Running {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} does not end");
    }

    fn output(&self) -> std::path::PathBuf {
        self.folder.path().join("output")
    }
}

#[tokio::test]
async fn a_job_is_a_build_whose_source_and_artifact_are_files_of_the_bucket() {
    let Some(world) = World::new().await else { return };
    let (run, found) = world.run("good-1", "good work").await;
    assert_eq!(found, JobRun::Answered);
    assert_eq!(fs::read_to_string(world.output()).unwrap(), "answer to good work");
    let output = "jobs/output/good-1/1/output.tar";
    world.aws.clients.s3.head_object().bucket(&world.bucket).key(output).send().await.unwrap();

    // Asked again for the same attempt, it is the same run; what was handed in first stays.
    assert_eq!(world.jobs.start("good-1", 1, HOUR).await.unwrap(), run);
    world.jobs.hand_in("good-1", &world.input("good other work")).await.unwrap();
    let second = world.jobs.start("good-1", 2, HOUR).await.unwrap();
    assert_ne!(second, run);

    let small = world.jobs.look("good-1", 1, &run, &world.output(), 5).await.unwrap();
    assert_eq!(small, JobRun::Ended("it left 19 bytes, more than 5".to_owned()));
    let error = world.jobs.hand_in("../x", &world.input("x")).await.unwrap_err();
    assert!(error.to_string().contains("`../x` is no name of a job"), "{error}");

    let events = world.codebuild.events();
    let event = events.iter().find(|event| event["detail"]["build-id"].as_str().unwrap().ends_with(&run)).unwrap();
    let source = event["detail"]["additional-information"]["source"]["location"].as_str().unwrap();
    assert_eq!(aws::job_of_source(source), Some("good-1"));
}

#[tokio::test]
async fn a_build_that_gives_no_answer_says_why() {
    let Some(world) = World::new().await else { return };
    let ended = |(_, found): (String, JobRun)| match found {
        JobRun::Ended(reason) => reason,
        other => panic!("{other:?}"),
    };
    let reason = ended(world.run("bad-1", "bad_").await);
    assert!(reason.starts_with("it ended as FAILED: ") && reason.contains("why it is bad"), "{reason}");
    let reason = ended(world.run("none-1", "none").await);
    assert!(reason.contains("output.tar"), "{reason}");

    world.jobs.hand_in("slow-1", &world.input("slow")).await.unwrap();
    let run = world.jobs.start("slow-1", 1, HOUR).await.unwrap();
    assert_eq!(world.jobs.look("slow-1", 1, &run, &world.output(), 1).await.unwrap(), JobRun::Running);
    world.jobs.stop(&run).await.unwrap();
    let JobRun::Ended(reason) = world.end("slow-1", &run).await else { panic!("it was stopped") };
    assert!(reason.starts_with("it ended as STOPPED"), "{reason}");

    world.jobs.stop("minimill-job:none").await.unwrap();
    let unknown = world.jobs.look("slow-1", 1, "minimill-job:none", &world.output(), 1).await.unwrap();
    assert_eq!(unknown, JobRun::Ended("CodeBuild does not know its build minimill-job:none".to_owned()));
    assert!(!Path::new(&world.output()).exists(), "no answer, no file");
}
