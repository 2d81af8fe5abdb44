use crate::{Outcome, StageError};

/// Told what the stages are doing, for people who watch.
pub trait Progress: Send + Sync {
    /// A stage starts on a subject.
    fn started(&self, stage: &'static str, subject: &str) -> Box<dyn Running>;
}

/// One run of a stage, as seen by a watcher.
pub trait Running: Send + Sync {
    /// It ended.
    fn finished(&self, result: &Result<Outcome, StageError>);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &'static str, _: &str) -> Box<dyn Running> {
        Box::new(Self)
    }
}

impl Running for Silent {
    fn finished(&self, _: &Result<Outcome, StageError>) {}
}
