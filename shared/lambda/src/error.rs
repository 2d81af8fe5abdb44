use ports::PortError;
use stage::StageError;

/// Why a function can't begin, or an invocation failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable of the function's environment is missing or wrong.
    #[error("`{variable}`: {reason}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of the context can't be opened.
    #[error("{what}: {reason}")]
    Open {
        /// The part.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// An event that this function does not know.
    #[error("the event is neither a batch of messages nor a schedule, nor of a build: {0}")]
    Event(String),
    /// A port does not work.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A stage could not do its work.
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Variable { .. } => "Variable",
            Error::Open { .. } => "Open",
            Error::Event(_) => "Event",
            Error::Port(_) => "Port",
            Error::Stage(_) => "Stage",
        };
        Self { error_type: kind.to_owned(), error_message: error.to_string() }
    }
}
