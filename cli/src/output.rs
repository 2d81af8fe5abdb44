use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use stage::StageError;

/// Why a command ends without success, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The thing checked is bad: exit 1.
    pub fn bad(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The command was called wrongly: exit 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// Something the command needs does not work: exit 3.
    pub fn environment(message: impl fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// A stage's failure: what it rejects is bad, anything else is the environment.
    pub fn of_stage(error: StageError) -> Self {
        match error {
            StageError::Rejected(reason) => Self::bad(reason),
            error => Self::environment(stage::chain(&error)),
        }
    }

    /// Prints the message on stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        // stderr is the last resort: when it is gone, the exit code still tells.
        let _ = writeln!(io::stderr(), "mill: {}", self.message);
        ExitCode::from(self.code)
    }
}

/// Turns any error into a failure with an exit code, naming all its causes.
pub trait OrFail<T> {
    /// The thing checked is bad.
    fn or_bad(self) -> Result<T, Failure>;
    /// The environment does not work.
    fn or_environment(self) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    fn or_bad(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::bad(stage::chain(&error)))
    }

    fn or_environment(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::environment(stage::chain(&error)))
    }
}

/// How results are printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Prints one JSON document.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(stdout))
        .or_environment()
}

/// Prints text lines.
pub fn text(text: impl fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").or_environment()
}

/// Prints a warning on stderr.
pub fn warning(text: &str) -> Result<(), Failure> {
    writeln!(io::stderr(), "mill: warning: {text}").or_environment()
}

/// Lays rows out in columns under a heading.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut heading.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}
