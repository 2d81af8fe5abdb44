//! Starting containers with runc.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::process::Command;

use crate::container::{Container, Finished};
use crate::{ContainerJob, Error, find};

const PREFIX: &str = "minimill-";

/// Runs containers with runc. Their ids are `minimill-PID-N`: what an earlier process of this
/// machine left, because it was killed, is removed by the next [`Runc::find`] on the same folder.
#[derive(Debug, Clone)]
pub struct Runc {
    pub(crate) program: PathBuf,
    pub(crate) state: PathBuf,
    /// Starts a process in the namespaces of another; of some looks into containers.
    pub(crate) nsenter: Option<PathBuf>,
    scratch: PathBuf,
}

impl Runc {
    /// Finds runc on this machine. `search_path` has the form of `PATH`; runc's state and
    /// short-lived files are kept under `scratch`.
    ///
    /// # Errors
    /// [`Error::MissingProgram`] says which Debian package to install, [`Error::NotRoot`] that
    /// this user can't run containers; both mean that image tests can't be run here.
    pub async fn find(search_path: &OsStr, scratch: &Path) -> Result<Self, Error> {
        let program = find::require("runc", "runc", search_path)?;
        let user = rustix::process::geteuid();
        if !user.is_root() {
            return Err(Error::NotRoot { uid: user.as_raw() });
        }
        let state = scratch.join("runc");
        std::fs::create_dir_all(&state).map_err(|source| Error::io("create the folder", &state, source))?;
        let scratch = scratch.canonicalize().map_err(|source| Error::io("use the folder", scratch, source))?;
        let nsenter = find::find("nsenter", search_path);
        let runc = Runc { program, state: scratch.join("runc"), nsenter, scratch };
        runc.sweep().await?;
        Ok(runc)
    }

    /// Removes containers whose process is gone.
    async fn sweep(&self) -> Result<(), Error> {
        let failed = |source| Error::io("list the folder", &self.state, source);
        for entry in std::fs::read_dir(&self.state).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(id) = name.to_str() else { continue };
            let owner = id.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                self.control("delete", &["delete", "--force", id], id).await?;
            }
        }
        Ok(())
    }

    /// Starts a container and waits until its process runs.
    ///
    /// The container is removed when it has ended and when the returned value is dropped.
    ///
    /// # Errors
    /// [`Error::Runc`] with runc's own words, for example that the program is not in the image.
    pub async fn start(&self, job: &ContainerJob) -> Result<Container, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let bundle = tempfile::Builder::new()
            .prefix("container-")
            .tempdir_in(&self.scratch)
            .map_err(|source| Error::io("create a folder in", &self.scratch, source))?;
        let mut job = job.clone();
        job.root = job.root.canonicalize().map_err(|source| Error::io("use the folder", &job.root, source))?;
        let configuration = bundle.path().join("config.json");
        job.runtime(&id)
            .save(&configuration)
            .map_err(|error| Error::io("write", &configuration, std::io::Error::other(error)))?;
        Container::start(self.clone(), id, bundle, job.limits).await
    }

    /// Runs a container to its end, also by a limit.
    ///
    /// # Errors
    /// As [`Runc::start`].
    pub async fn run(&self, job: &ContainerJob) -> Result<Finished, Error> {
        self.start(job).await?.finish().await
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).env_clear().stdin(Stdio::null());
        command
    }

    /// Runs one of runc's short commands.
    pub(crate) async fn control(&self, action: &'static str, arguments: &[&str], id: &str) -> Result<Vec<u8>, Error> {
        let output = self
            .command()
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| Error::io("start", &self.program, source))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Runc { action, id: id.to_owned(), message })
    }
}
