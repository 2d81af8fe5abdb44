use std::sync::Arc;
use std::time::Duration;

use aws::{Address, Clients, CodeBuildJobs, Ecr};
use futures_util::future::BoxFuture;
use lambda_runtime::{LambdaEvent, service_fn};
use ports::Jobs;
use registry::{Provider, Registry, Remote, RemoteOptions, Repository};
use serde_json::Value;
use stage::{Schedule, Stage};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use verify::Containers;

use crate::context::open;
use crate::{BuildEvent, Error, Event, Factory, NoBuilder, Parts, Settings, Stages, handle};

/// Serves a function's events until Lambda ends the process. What it works with is opened at the
/// first event, so that a start by itself costs little.
///
/// # Errors
/// When the runtime's interface fails.
pub async fn run(stages: Stages) -> Result<(), lambda_runtime::Error> {
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_current_span(false)
        .without_time()
        .init();
    let factory: OnceCell<Factory> = OnceCell::new();
    let factory = &factory;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| -> BoxFuture<'_, Result<Value, Error>> {
        Box::pin(async move {
            let deadline = Instant::now() + remaining(event.context.deadline);
            let factory = factory.get_or_try_init(from_environment).await?;
            answer(factory, stages, event.payload, deadline).await
        })
    }))
    .await
}

async fn from_environment() -> Result<Factory, Error> {
    let settings = Settings::read(std::env::vars())?;
    let config = aws::load().await;
    let clients = Clients::new(&config);
    // The account's own registry, also where it answers at another address than its own.
    let ecr = Arc::new(Ecr::new(&config, Address::of_host(&settings.registry)));
    let registry = published(&settings, ecr)?;
    let parts = if settings.local_jobs {
        Parts::local(registry, &settings.work).await?
    } else {
        let project = settings.build_project.as_ref();
        Parts {
            registry,
            jobs: project
                .map(|project| Arc::new(CodeBuildJobs::new(&clients, &settings.bucket, project)) as Arc<dyn Jobs>),
            builder: Arc::new(NoBuilder),
            containers: Containers::Unavailable("containers run in jobs, not in functions".to_owned()),
        }
    };
    Factory::open(settings, &clients, parts, |name| std::env::var(name).ok()).await
}

fn published(settings: &Settings, provider: Arc<dyn Provider>) -> Result<Arc<dyn Registry>, Error> {
    let failed = |error: registry::Error| open("the registry", &error);
    let prefix: Repository = settings.registry_prefix.parse().map_err(failed)?;
    let options = RemoteOptions { provider: Some(provider), ..RemoteOptions::default() };
    let remote = Remote::new(&settings.registry, options).map_err(failed)?;
    Ok(Arc::new(remote.below(prefix)))
}

/// Until when the function may run; Lambda says it in milliseconds since 1970.
fn remaining(deadline: u64) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(deadline).saturating_sub(now)
}

/// Handles one event.
///
/// # Errors
/// When the event is none that this function knows, or a schedule can't be started.
pub async fn answer(factory: &Factory, stages: Stages, payload: Value, deadline: Instant) -> Result<Value, Error> {
    let event = serde_json::from_value(payload).map_err(|error| Error::Event(error.to_string()))?;
    match event {
        Event::Sqs { records } => {
            let response = handle(factory, stages, records, deadline).await;
            serde_json::to_value(response).map_err(|error| Error::Event(error.to_string()))
        }
        Event::Schedule(due) => {
            let schedule = Schedule { work: due.schedule, time: due.time, after: None };
            let messages = vec![schedule.envelope()?];
            factory.context.state.commit(ports::Transaction { messages, ..ports::Transaction::default() }).await?;
            Ok(Value::Null)
        }
        Event::Build(BuildEvent { detail }) => {
            if detail.build_status == "IN_PROGRESS" {
                return Ok(Value::Null);
            }
            let location = &detail.additional_information.source.location;
            let woken = match aws::job_of_source(location) {
                Some(job) => stage::job_ended(&factory.context, job).await?,
                None => false,
            };
            tracing::info!(build = detail.build_id, status = detail.build_status, location, woken, "a build has ended");
            Ok(Value::Null)
        }
    }
}
