use async_trait::async_trait;
use ports::Envelope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, StageError};

/// What a run of a stage came to. Each text is a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something was made or changed.
    Done(String),
    /// There was nothing to do, and why.
    Skipped(String),
    /// The thing handled is bad: a build or a test failed. Recorded by the stage; not retried now.
    Failed(String),
}

/// One stage: the message is the struct, the work is `run`.
///
/// A stage may run twice, at once with itself, out of order, or die anywhere; the end is the same.
#[async_trait]
pub trait Stage: Serialize + DeserializeOwned + Send + Sized {
    /// Name of the stage and of its queue.
    const NAME: &'static str;
    /// Version of the message's shape.
    const VERSION: u32 = 1;

    /// What the message is about, such as a package's name.
    fn subject(&self) -> String;

    /// Does the work.
    async fn run(self, context: &Context) -> Result<Outcome, StageError>;

    /// The message in its envelope.
    ///
    /// # Errors
    /// [`StageError::Rejected`] when the message has no JSON form.
    fn envelope(&self) -> Result<Envelope, StageError> {
        let body = serde_json::to_value(self)
            .map_err(|error| StageError::Rejected(format!("message of stage `{}`: {error}", Self::NAME)))?;
        Ok(Envelope::new(Self::NAME, Self::VERSION, body))
    }
}

/// Decodes a message and runs its stage. The answer's first part is the subject.
pub async fn dispatch(envelope: &Envelope, context: &Context) -> (String, Result<Outcome, StageError>) {
    macro_rules! stages {
        ($($stage:ty),+ $(,)?) => {
            match envelope.stage.as_str() {
                $(<$stage>::NAME => handle::<$stage>(envelope, context).await,)+
                other => (String::new(), Err(StageError::Rejected(format!("no stage is named `{other}`")))),
            }
        };
    }
    stages!(
        crate::UpstreamCheck,
        crate::PackageBuild,
        crate::PackagePublish,
        crate::PackageIndex,
        crate::PackageTest,
        crate::ImagePlan,
        crate::ImageBuild,
        crate::ImageTest,
        crate::ImagePublish,
        crate::ImageVex,
        crate::VulnerabilityScan,
        crate::Schedule,
    )
}

/// Decodes a message of one stage and runs it. The answer's first part is the subject.
pub async fn handle<S: Stage>(envelope: &Envelope, context: &Context) -> (String, Result<Outcome, StageError>) {
    if envelope.version != S::VERSION {
        let reason = format!(
            "message version {} of stage `{}` is not the version {} that is understood",
            envelope.version,
            S::NAME,
            S::VERSION
        );
        return (String::new(), Err(StageError::Rejected(reason)));
    }
    match S::deserialize(&envelope.body) {
        Ok(message) => {
            let subject = message.subject();
            let running = context.progress.started(S::NAME, &subject);
            let result = message.run(context).await;
            running.finished(&result);
            (subject, result)
        }
        Err(error) => (String::new(), Err(StageError::Rejected(format!("message of stage `{}`: {error}", S::NAME)))),
    }
}
