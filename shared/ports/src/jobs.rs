use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use crate::PortError;

/// What has become of a run of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRun {
    /// It waits or works.
    Running,
    /// It ended well, and what it wrote has been fetched.
    Answered,
    /// It ended without an answer, or nothing is known of it, and why.
    Ended(String),
}

/// Runs jobs on other machines: a file in, a file out. What is in them is the caller's affair.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Hands in the file that a job reads. `name` is the job's own, of `a-z`, `0-9` and `-`.
    ///
    /// # Errors
    /// [`PortError`] when it is not stored as a whole.
    async fn hand_in(&self, name: &str, input: &Path) -> Result<(), PortError>;

    /// Starts a run of a job that was handed in, to be ended after `time`. Asked twice for the same
    /// attempt in a short time it starts one. The answer names the run.
    ///
    /// # Errors
    /// [`PortError`] when it is not known to have started.
    async fn start(&self, name: &str, attempt: u32, time: Duration) -> Result<String, PortError>;

    /// What has become of a run. What it wrote goes to the file `output`, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`PortError`] when that can't be known now.
    async fn look(&self, name: &str, attempt: u32, run: &str, output: &Path, limit: u64) -> Result<JobRun, PortError>;

    /// Ends a run that takes too long. One that has ended is left.
    ///
    /// # Errors
    /// [`PortError`] when it may go on.
    async fn stop(&self, run: &str) -> Result<(), PortError>;
}
