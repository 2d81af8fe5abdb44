//! What a job is: its program, and all that it may see.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::Limits;

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A script, run by the sandbox's own `/bin/sh`.
    Script(Vec<u8>),
    /// A program of the sandbox and its arguments; the first is looked up in the job's `PATH`.
    Arguments(Vec<OsString>),
}

/// One piece of a job's file system. `inside` is an absolute path in the sandbox; folders on the
/// way to it are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file or folder of the host, read-only.
    ReadOnly {
        /// The path on the host.
        host: PathBuf,
        /// The path in the sandbox.
        inside: PathBuf,
    },
    /// A file or folder of the host that the job may change.
    ReadWrite {
        /// The path on the host.
        host: PathBuf,
        /// The path in the sandbox.
        inside: PathBuf,
    },
    /// An empty folder in memory that the job may change.
    Temporary {
        /// The path in the sandbox.
        inside: PathBuf,
        /// The most it can hold, in bytes.
        size: u64,
    },
    /// An empty folder that the job can't change.
    Empty {
        /// The path in the sandbox.
        inside: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// What the link says.
        target: PathBuf,
        /// The link's own path in the sandbox.
        inside: PathBuf,
    },
    /// A read-only file with these bytes.
    File {
        /// The path in the sandbox.
        inside: PathBuf,
        /// The file's content.
        content: Vec<u8>,
    },
}

/// One program in one sandbox.
///
/// Besides `mounts`, made in their order, a job sees `/proc`, a minimal `/dev`, and where no
/// mount says otherwise an empty `/tmp`. The root folder itself is read-only.
#[derive(Debug, Clone)]
pub struct Job {
    /// What to run.
    pub program: Program,
    /// The file system.
    pub mounts: Vec<Mount>,
    /// The whole environment: nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// The folder in the sandbox where the program starts.
    pub working_directory: PathBuf,
    /// The machine's name as the job sees it.
    pub hostname: String,
    /// Numbers of the user and the group that it runs as, which own all that the caller's user owns.
    pub user: (u32, u32),
    /// What it may use.
    pub limits: Limits,
    /// The file on the host that gets all output; its folder is made, an older file replaced.
    pub log: PathBuf,
}
