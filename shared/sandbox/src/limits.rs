//! How much a job may use.

use std::time::Duration;

/// The limits of one job. All are always enforced; an unlimited job cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall time from the start of the sandbox to the end of its program.
    pub wall_time: Duration,
    /// Anonymous and shared memory of all processes together, in bytes. Sampled five times a
    /// second, so that a short peak can pass it.
    pub memory: u64,
    /// Number of processes alive at one time. Sampled as `memory` is, since the kernel's own
    /// limit (`RLIMIT_NPROC`) does not hold for root.
    pub processes: usize,
    /// Size of any one file that the job writes, in bytes (`RLIMIT_FSIZE`).
    pub file_size: u64,
    /// Open files per process (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Bytes of output; the job is ended when it writes more.
    pub output: u64,
}

impl Default for Limits {
    /// One hour, 4 GiB of memory, 4,096 processes, files of 4 GiB, 4,096 open files,
    /// 64 MiB of output.
    fn default() -> Self {
        Limits {
            wall_time: Duration::from_secs(3600),
            memory: 4 << 30,
            processes: 4096,
            file_size: 4 << 30,
            open_files: 4096,
            output: 64 << 20,
        }
    }
}
