use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws::{Clients, S3Blobs, SqsQueue, Table};
use kms::{Access, Client, KmsKey};
use ports::{Blobs, Jobs, SystemClock};
use registry::Registry;
use sandbox::Bubblewrap;
use sign::{Attestor, Signer, chain};
use stage::{
    BuildError, BuildJob, BuildProduct, Builder, Catalog, Context, LocalBuilder, PackageIndex, Stage, TestJob, TestRun,
};
use upstream::{EndpointSettings, Endpoints, Surroundings, Upstreams};
use verify::Containers;

use crate::{BucketRepository, Error, Settings};

/// The longest time for which SQS hides a message that is being handled.
const HIDDEN: Duration = Duration::from_secs(12 * 60 * 60);

/// What a function works with: opened at its first event, kept for the others.
pub struct Factory {
    /// What the stages work with.
    pub context: Context,
    /// State and queue.
    pub table: Table,
}

/// The parts of a context that differ between functions.
pub struct Parts {
    /// Where images are published.
    pub registry: Arc<dyn Registry>,
    /// Runs builds and tests on other machines.
    pub jobs: Option<Arc<dyn Jobs>>,
    /// Runs builds and package tests where `jobs` is not set.
    pub builder: Arc<dyn Builder>,
    /// Runs images for their tests where `jobs` is not set.
    pub containers: Containers,
}

impl Parts {
    /// Parts whose builds and containers run on this machine, with scratch space below `work`.
    ///
    /// # Errors
    /// [`Error::Open`] where the machine lacks a program for them.
    pub async fn local(registry: Arc<dyn Registry>, work: &Path) -> Result<Self, Error> {
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let (work, logs) = (folder(work, "work")?, folder(work, "logs")?);
        let bubblewrap = Bubblewrap::find(&search_path, &work).map_err(|error| open("builds", &error))?;
        let containers = Containers::find(&search_path, &work).await.map_err(|error| open("containers", &error))?;
        Ok(Self { registry, jobs: None, builder: Arc::new(LocalBuilder::new(bubblewrap, work, logs)), containers })
    }
}

impl Factory {
    /// Opens what all functions have alike. `variable` gives the environment.
    ///
    /// # Errors
    /// [`Error::Open`] for the part that does not work.
    pub async fn open(
        settings: Settings,
        clients: &Clients,
        parts: Parts,
        variable: impl Fn(&str) -> Option<String> + Copy,
    ) -> Result<Self, Error> {
        let catalog = Catalog::load(&settings.catalog).map_err(|error| open("the catalog", &error))?;
        let (cache, work) = (folder(&settings.work, "blobs")?, folder(&settings.work, "work")?);
        let blobs: Arc<dyn Blobs> = Arc::new(S3Blobs::new(clients.s3.clone(), &settings.bucket, "blobs/", cache));
        let mut queues = settings.queues;
        // Two that write an index at once could leave the older one.
        queues.one_at_a_time.insert(PackageIndex::NAME.to_owned());
        let queue = SqsQueue::new(clients.sqs.clone(), queues, HIDDEN);
        let (dynamodb, clock) = (clients.dynamodb.clone(), Arc::new(SystemClock));
        let table = Table::new(dynamodb, settings.table, settings.function, Arc::clone(&blobs), queue, clock);
        let endpoints = Endpoints::new(
            EndpointSettings::default().overridden_by(variable),
            Surroundings { run_clients: false, ..Surroundings::of_machine(variable, &work) },
        );
        let upstreams = Upstreams::new(endpoints, &folder(&settings.work, "cache")?, upstream::Options::default())
            .map_err(|error| open("the upstreams", &error))?;
        let package_key = key(settings.package_key.as_deref(), "minimill-kms.rsa.pub", variable).await?;
        let image_key = key(settings.image_key.as_deref(), "minimill", variable).await?;
        let context = Context {
            state: Arc::new(table.clone()),
            queue: Arc::new(table.clone()),
            blobs,
            clock: Arc::new(SystemClock),
            catalog,
            upstreams,
            jobs: parts.jobs,
            builder: parts.builder,
            containers: parts.containers,
            repository: Arc::new(BucketRepository::new(clients.s3.clone(), settings.repository_bucket, "apk/")),
            registry: parts.registry,
            package_key: package_key.map(|key| Arc::new(key) as Arc<dyn Signer>),
            attestor: image_key.map(|key| Arc::new(key) as Arc<dyn Attestor>),
            caches: stage::Caches::default(),
            stopping: Arc::default(),
            progress: Arc::new(stage::Silent),
            settings: stage::Settings {
                program: Some("/proc/self/exe".into()),
                ..stage::Settings::new(settings.architectures, work)
            },
        };
        Ok(Self { context, table })
    }
}

pub(crate) fn open(what: &'static str, error: &dyn std::error::Error) -> Error {
    Error::Open { what, reason: chain(error) }
}

async fn key(id: Option<&str>, name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<KmsKey>, Error> {
    let Some(id) = id else { return Ok(None) };
    let failed = |error: kms::Error| open("the key", &error);
    let client = Client::new(Access::from_environment(variable).map_err(failed)?).map_err(failed)?;
    Ok(Some(KmsKey::open(client, id, name).await.map_err(failed)?))
}

fn folder(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = root.join(name);
    std::fs::create_dir_all(&path)
        .map_err(|error| Error::Open { what: "scratch space", reason: format!("`{}`: {error}", path.display()) })?;
    Ok(path)
}

/// Stands in functions that run no builds.
#[derive(Clone, Copy, Debug)]
pub struct NoBuilder;

#[async_trait]
impl Builder for NoBuilder {
    async fn build(&self, _: &BuildJob) -> Result<BuildProduct, BuildError> {
        Err(BuildError::Environment("this function runs no builds".to_owned()))
    }

    async fn test(&self, _: &TestJob) -> Result<TestRun, BuildError> {
        Err(BuildError::Environment("this function runs no package tests".to_owned()))
    }
}
