//! The stages in AWS Lambda.
//!
//! A function's `main` calls [`run`] with its [`stages!`]. SQS delivers messages in batches: each is
//! leased, handled and answered by itself, so that one that fails does not bring the others back
//! ([partial batch responses](https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html)).
//! A schedule's event becomes a [`stage::Schedule`] message; that of a build of CodeBuild sends the message of
//! the stage that its job is for.

mod batch;
mod context;
mod error;
mod event;
mod repository;
mod run;
mod settings;

pub use batch::{BatchItemFailure, BatchResponse, Stages, handle};
pub use context::{Factory, NoBuilder, Parts};
pub use error::Error;
pub use event::{BuildDetail, BuildEvent, BuildInformation, BuildSource, Event, ScheduleEvent, SqsRecord};
pub use repository::BucketRepository;
pub use run::{answer, run};
pub use settings::Settings;

/// The stages of a function: a message of another one is put aside.
#[macro_export]
macro_rules! stages {
    ($($stage:ty),+ $(,)?) => {
        |envelope, context| {
            Box::pin(async move {
                match envelope.stage.as_str() {
                    $(<$stage as ::stage::Stage>::NAME => ::stage::handle::<$stage>(envelope, context).await,)+
                    other => {
                        let reason = format!("this function has no stage `{other}`");
                        (String::new(), Err(::stage::StageError::Rejected(reason)))
                    }
                }
            })
        }
    };
}
