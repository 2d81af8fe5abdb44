use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_codebuild::types::{
    ArtifactNamespace, ArtifactPackaging, ArtifactsType, Build, ProjectArtifacts, SourceType, StatusType,
};
use ports::local::digest_of_file;
use ports::{JobRun, Jobs, PortError};
use tokio::io::AsyncWriteExt;

use crate::bucket::{Bucket, SERVICE as S3};
use crate::error::{failed, malformed};

const CODEBUILD: &str = "CodeBuild";

/// Where jobs' inputs lie, as `NAME/input.tar`: all that a build's role reads.
const INPUT: &str = "jobs/input/";
/// Where their outputs lie, as `NAME/ATTEMPT/output.tar`: all that it writes.
const OUTPUT: &str = "jobs/output/";

/// The shortest and the longest time that CodeBuild takes for a build, in minutes.
const MINUTES: std::ops::RangeInclusive<u64> = 5..=2_160;

/// Jobs as builds of a CodeBuild project: the input is the source that the service fetches before it runs
/// the project's buildspec (`infra/buildspec.yml`), the output the artifact that it stores after.
///
/// ```no_run
/// # async fn run(config: aws_config::SdkConfig) -> Result<(), ports::PortError> {
/// use ports::Jobs;
/// let jobs = aws::CodeBuildJobs::new(&aws::Clients::new(&config), "bucket", "minimill-job");
/// jobs.hand_in("j-1", "input.tar".as_ref()).await?;
/// let run = jobs.start("j-1", 1, std::time::Duration::from_secs(3_600)).await?;
/// let found = jobs.look("j-1", 1, &run, "output.tar".as_ref(), 1 << 30).await?;
/// # drop(found); Ok(())
/// # }
/// ```
///
/// Where there is no CodeBuild, `tests/aws/codebuild.py` stands in for it; the client's endpoint says where.
#[derive(Clone, Debug)]
pub struct CodeBuildJobs {
    client: aws_sdk_codebuild::Client,
    bucket: Bucket,
    project: String,
}

impl CodeBuildJobs {
    /// Jobs of a project, whose inputs and outputs lie in a bucket.
    pub fn new(clients: &crate::Clients, bucket: impl Into<String>, project: impl Into<String>) -> Self {
        let (client, bucket) = (clients.codebuild.clone(), Bucket::new(clients.s3.clone(), bucket));
        Self { client, bucket, project: project.into() }
    }

    async fn fetch(&self, key: &str, output: &Path, limit: u64) -> Result<JobRun, PortError> {
        let Some((size, mut body)) = self.bucket.get(key).await? else {
            return Ok(JobRun::Ended(format!("it ended well and left no `{key}`")));
        };
        if size > limit {
            return Ok(JobRun::Ended(format!("it left {size} bytes, more than {limit}")));
        }
        let write = |source| PortError::File { action: "write", path: output.to_owned(), source };
        let mut file = tokio::fs::File::create(output).await.map_err(write)?;
        let mut left = size;
        while let Some(chunk) = body.try_next().await.map_err(failed(S3, "GetObject"))? {
            // A server that sends more than it says must not fill the disk.
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| malformed(S3, "GetObject", format!("`{key}` is longer than {size} bytes")))?;
            file.write_all(&chunk).await.map_err(write)?;
        }
        file.flush().await.map_err(write)?;
        Ok(JobRun::Answered)
    }
}

/// The name of the job that a build has as its source, as an event of CodeBuild's says it:
/// `BUCKET/jobs/input/NAME/`. None for builds that are no jobs.
pub fn job_of_source(location: &str) -> Option<&str> {
    let (_, key) = location.split_once('/')?;
    let name = key.strip_prefix(INPUT)?.strip_suffix('/')?;
    is_name(name).then_some(name)
}

fn is_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Why a build ended, in CodeBuild's words.
fn reason(build: &Build, status: &StatusType) -> String {
    let contexts = build.phases().iter().flat_map(|phase| phase.contexts());
    let told: Vec<&str> = contexts.filter_map(|context| context.message()).filter(|text| !text.is_empty()).collect();
    let log = build.logs().and_then(|logs| logs.deep_link()).map(|link| format!("; its log: {link}"));
    format!("it ended as {status}: {}{}", told.join("; "), log.unwrap_or_default())
}

#[async_trait]
impl Jobs for CodeBuildJobs {
    async fn hand_in(&self, name: &str, input: &Path) -> Result<(), PortError> {
        if !is_name(name) {
            return Err(malformed(S3, "PutObject", format!("`{}` is no name of a job", name.escape_debug())));
        }
        let digest = digest_of_file(input).await?;
        self.bucket.put_file(&format!("{INPUT}{name}/input.tar"), digest, input).await
    }

    async fn start(&self, name: &str, attempt: u32, time: Duration) -> Result<String, PortError> {
        let minutes = time.as_secs().div_ceil(60).clamp(*MINUTES.start(), *MINUTES.end());
        let artifacts = ProjectArtifacts::builder()
            .r#type(ArtifactsType::S3)
            .location(&self.bucket.name)
            .path(format!("{OUTPUT}{name}/{attempt}"))
            .namespace_type(ArtifactNamespace::None)
            // The path is all: its files have no folder of their own.
            .name("/")
            .packaging(ArtifactPackaging::None)
            .build()
            .map_err(failed(CODEBUILD, "StartBuild"))?;
        let started = self
            .client
            .start_build()
            .project_name(&self.project)
            .source_type_override(SourceType::S3)
            .source_location_override(format!("{}/{INPUT}{name}/", self.bucket.name))
            .artifacts_override(artifacts)
            .timeout_in_minutes_override(i32::try_from(minutes).unwrap_or(i32::MAX))
            .idempotency_token(format!("{name}-{attempt}"))
            .send()
            .await
            .map_err(failed(CODEBUILD, "StartBuild"))?;
        let run = started.build_value.and_then(|build| build.id);
        run.ok_or_else(|| malformed(CODEBUILD, "StartBuild", "the answer has no build"))
    }

    async fn look(&self, name: &str, attempt: u32, run: &str, output: &Path, limit: u64) -> Result<JobRun, PortError> {
        let asked = self.client.batch_get_builds().ids(run).send().await;
        let builds = asked.map_err(failed(CODEBUILD, "BatchGetBuilds"))?.builds.unwrap_or_default();
        let Some(build) = builds.iter().find(|build| build.id() == Some(run)) else {
            return Ok(JobRun::Ended(format!("CodeBuild does not know its build {run}")));
        };
        match build.build_status() {
            Some(StatusType::InProgress) => Ok(JobRun::Running),
            Some(StatusType::Succeeded) => {
                self.fetch(&format!("{OUTPUT}{name}/{attempt}/output.tar"), output, limit).await
            }
            Some(status) => Ok(JobRun::Ended(reason(build, status))),
            None => Err(malformed(CODEBUILD, "BatchGetBuilds", format!("build {run} has no status"))),
        }
    }

    async fn stop(&self, run: &str) -> Result<(), PortError> {
        let stopped = self.client.stop_build().id(run).send().await;
        match stopped {
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(())
            }
            other => other.map(drop).map_err(failed(CODEBUILD, "StopBuild")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_source_of_a_job_names_one() {
        assert_eq!(job_of_source("bucket/jobs/input/0a1b-build-17/"), Some("0a1b-build-17"));
        for other in
            ["", "bucket", "bucket/blobs/x/", "bucket/jobs/input//", "bucket/jobs/input/a/b/", "bucket/jobs/input/A/"]
        {
            assert_eq!(job_of_source(other), None, "{other}");
        }
    }
}
