//! How a job ended.

use std::path::PathBuf;
use std::time::Duration;

use crate::Error;

/// The way a job came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The program ended with this exit code.
    Exited(i32),
    /// A signal of this number ended the program.
    Signalled(i32),
    /// The wall time passed its limit.
    TimedOut(Duration),
    /// The output passed this many bytes.
    OutputLimit(u64),
    /// The processes held more than this many bytes of memory.
    MemoryLimit(u64),
    /// More than this many processes were alive.
    ProcessLimit(usize),
    /// A file passed this many bytes.
    FileSizeLimit(u64),
}

/// What a job left.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Wall time it took.
    pub duration: Duration,
    /// The file with all output.
    pub log: PathBuf,
    /// The last lines of output, at most 40.
    pub tail: Vec<String>,
    /// The last line of the form `::step N label` without its colons: the step that ran last.
    pub step: Option<String>,
}

impl Outcome {
    /// The outcome of a job that ended with exit code 0.
    ///
    /// # Errors
    /// [`Error::LimitPassed`] when a limit ended the job, [`Error::Failed`] with any other exit.
    pub fn success(self) -> Result<Outcome, Error> {
        let status = match &self.ending {
            Ending::Exited(0) => return Ok(self),
            Ending::Exited(code) => format!("exit code {code}"),
            Ending::Signalled(signal) => format!("signal {signal}"),
            limit => {
                return Err(Error::LimitPassed {
                    limit: limit.to_string(),
                    step: self.step,
                    tail: self.tail,
                    log: self.log,
                });
            }
        };
        Err(Error::Failed { status, step: self.step, tail: self.tail, log: self.log })
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exit code {code}"),
            Ending::Signalled(signal) => write!(f, "signal {signal}"),
            Ending::TimedOut(limit) => write!(f, "timed out after {} s", limit.as_secs_f64()),
            Ending::OutputLimit(limit) => write!(f, "more than {limit} bytes of output"),
            Ending::MemoryLimit(limit) => write!(f, "more than {limit} bytes of memory"),
            Ending::ProcessLimit(limit) => write!(f, "more than {limit} processes"),
            Ending::FileSizeLimit(limit) => {
                write!(f, "a file grew past the limit of {limit} bytes")
            }
        }
    }
}
