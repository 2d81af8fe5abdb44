use ports::PortError;
pub use sign::chain;

/// Why a stage could not do its work. What it found bad in its subject is an
/// [`Outcome::Failed`](crate::Outcome::Failed) instead.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The message can't be handled, now or later.
    #[error("{0}")]
    Rejected(String),
    /// Another run of the same stage came first; running again finds its result.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Something the stage needs did not work: network, disk, a tool.
    #[error("{action}: {reason}")]
    Environment {
        /// What was being done.
        action: String,
        /// What went wrong.
        reason: String,
    },
}

impl StageError {
    /// An environment failure from any error, with what was being done.
    pub fn environment(action: impl Into<String>) -> impl FnOnce(&dyn std::error::Error) -> Self {
        let action = action.into();
        move |error| Self::Environment { action, reason: chain(error) }
    }

    /// Whether running again can help.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Rejected(_))
    }
}
