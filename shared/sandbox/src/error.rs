//! What can go wrong around a job, with the facts of it.

use std::path::{Path, PathBuf};

/// Why a job could not be run, or how it failed.
///
/// A job that ran to an unwelcome end is an [`crate::Outcome`]; it becomes an error by
/// [`crate::Outcome::success`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that runs jobs is not installed on this machine.
    #[error("`{program}` is not installed; install the Debian package `{package}`")]
    MissingProgram {
        /// The command that was looked for.
        program: String,
        /// The Debian package that ships it.
        package: String,
    },
    /// Commands that the bootstrap takes from the host are not installed.
    #[error("the builder root lacks {}; install {}", quoted(commands), install(packages))]
    MissingCommands {
        /// The commands that were looked for.
        commands: Vec<String>,
        /// The Debian packages that ship them.
        packages: Vec<String>,
    },
    /// Debian packages that the bootstrap names are not installed.
    #[error("not installed: {}", install(packages))]
    NotInstalled {
        /// The Debian packages.
        packages: Vec<String>,
    },
    /// A definition wants a name that the bootstrap does not provide.
    #[error("`{name}` is not provided by the bootstrap `{}`", path.display())]
    NotProvided {
        /// The name that was wanted.
        name: String,
        /// The bootstrap file.
        path: PathBuf,
    },
    /// The bootstrap file is not of its format.
    #[error("{}: {message}", path.display())]
    BootstrapFormat {
        /// The bootstrap file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        message: String,
    },
    /// A file, folder or process of the host could not be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The job names something that cannot be given to the sandbox.
    #[error("the job cannot be run: {reason}")]
    InvalidJob {
        /// What is wrong with the job.
        reason: String,
    },
    /// The sandbox was not made: its program never started.
    #[error("the sandbox did not start `{program}`: {message} (log: `{}`)", log.display())]
    NotStarted {
        /// The program that the job names.
        program: String,
        /// The last lines of the log.
        message: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The job ended by itself, unsuccessfully.
    #[error("the job failed with {status}{}{}", at(step.as_deref(), log), lines(tail))]
    Failed {
        /// `exit code N` or `signal N`.
        status: String,
        /// The last `::step N label` line of the log, without the leading colons.
        step: Option<String>,
        /// The last lines of the log.
        tail: Vec<String>,
        /// The whole log.
        log: PathBuf,
    },
    /// The job was ended because it passed a limit.
    #[error("the job was ended: {limit}{}{}", at(step.as_deref(), log), lines(tail))]
    LimitPassed {
        /// The limit, with its value and unit.
        limit: String,
        /// The last `::step N label` line of the log, without the leading colons.
        step: Option<String>,
        /// The last lines of the log.
        tail: Vec<String>,
        /// The whole log.
        log: PathBuf,
    },
    /// runc refused an operation on a container.
    #[error("runc cannot {action} the container `{id}`: {message}")]
    Runc {
        /// What was tried, as a verb.
        action: &'static str,
        /// The container's id.
        id: String,
        /// runc's answer.
        message: String,
    },
    /// Image tests need privileges that this process lacks.
    #[error("running containers needs root: this process runs as user {uid}")]
    NotRoot {
        /// The effective user id of this process.
        uid: u32,
    },
    /// A user or group name of an image is not in the image's own account files.
    #[error("the image has no {kind} `{name}` in `{file}`")]
    UnknownAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The file inside the image that was searched.
        file: &'static str,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::Io { action, path: path.to_path_buf(), source }
    }

    /// Whether the cause lies in this machine and not in what was run: something isn't
    /// installed, a privilege is missing, or the kernel refuses the sandbox (exit code 3 of
    /// `mill`).
    #[must_use]
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            Error::MissingProgram { .. }
                | Error::MissingCommands { .. }
                | Error::NotInstalled { .. }
                | Error::NotStarted { .. }
                | Error::NotRoot { .. }
        )
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn install(packages: &[String]) -> String {
    format!("the Debian packages {} (`apt-get install {}`)", quoted(packages), packages.join(" "))
}

fn at(step: Option<&str>, log: &Path) -> String {
    match step {
        Some(step) => format!(" in `{step}` (log: `{}`)", log.display()),
        None => format!(" (log: `{}`)", log.display()),
    }
}

fn lines(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n  {line}")).collect()
}
