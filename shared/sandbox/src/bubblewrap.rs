//! Running a job with bubblewrap.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::log::{Log, Room};
use crate::{Ending, Error, Job, Mount, Outcome, Program, find, processes, spawn};

/// Where a job's script is in its sandbox.
const SCRIPT: &str = "/run/minimill/script";
/// Sets the mask for new files, opens the status file (first argument) as descriptor 3, and
/// becomes the rest.
const LAUNCH: &str = r#"umask 022; exec 3>"$1"; shift; exec "$@""#;
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// How long the output of a killed sandbox may stay open.
const END_WITHIN: Duration = Duration::from_secs(10);
const SHARED_MEMORY: u64 = 256 << 20;
const DEFAULT_TMP: u64 = 1 << 30;
/// What a shell reports when `SIGXFSZ` ended the program.
const EXIT_FILE_SIZE: i32 = 128 + 25;

/// Runs jobs with bubblewrap (`bwrap`), in new user, mount, process, network, host name, IPC and
/// control group namespaces, without capabilities.
#[derive(Debug, Clone)]
pub struct Bubblewrap {
    bwrap: PathBuf,
    prlimit: PathBuf,
    scratch: PathBuf,
}

impl Bubblewrap {
    /// Finds bubblewrap on this machine. `search_path` has the form of `PATH`; short-lived files
    /// that jobs read are kept under `scratch`.
    ///
    /// # Errors
    /// [`Error::MissingProgram`] says which Debian package to install.
    pub fn find(search_path: &OsStr, scratch: &Path) -> Result<Self, Error> {
        Ok(Bubblewrap {
            bwrap: find::require("bwrap", "bubblewrap", search_path)?,
            prlimit: find::require("prlimit", "util-linux", search_path)?,
            scratch: scratch.to_path_buf(),
        })
    }

    /// Runs `job` to its end. When the returned future is dropped before, the sandbox and all
    /// processes in it end.
    ///
    /// # Errors
    /// Only where the sandbox could not be made or watched. How the program ended, also by a
    /// limit, is in the [`Outcome`].
    pub async fn run(&self, job: &Job) -> Result<Outcome, Error> {
        std::fs::create_dir_all(&self.scratch)
            .map_err(|source| Error::io("create the folder", &self.scratch, source))?;
        let files = tempfile::Builder::new()
            .prefix("job-")
            .tempdir_in(&self.scratch)
            .map_err(|source| Error::io("create a folder in", &self.scratch, source))?;
        let status = files.path().join("status");
        let arguments = self.arguments(job, files.path())?;
        let log = Log::create(&job.log, job.limits.output).await?;

        let pipe_error = |source| Error::io("open a pipe for", &job.log, source);
        let (output, input) = std::io::pipe().map_err(pipe_error)?;
        let output = pipe::Receiver::from_owned_fd(output.into()).map_err(pipe_error)?;
        let mut command = Command::new(&self.prlimit);
        command
            .arg(format!("--fsize={}", job.limits.file_size))
            .arg(format!("--nofile={}", job.limits.open_files))
            .args(["--core=0", "--", "/bin/sh", "-c", LAUNCH, "sandbox"])
            .arg(&status)
            .arg(&self.bwrap)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(input.try_clone().map_err(pipe_error)?)
            .stderr(input)
            .process_group(0);
        let started = Instant::now();
        let mut child = spawn::spawn(command).await.map_err(|source| Error::io("start", &self.prlimit, source))?;

        let (limit, log) = watch(job, &mut child, output, log).await?;
        let exit = child.wait().await.map_err(|source| Error::io("wait for", &self.bwrap, source))?;
        let duration = started.elapsed();
        let (tail, step) = log.finish().await?;
        let ending = match (limit, exit_code(&status)?) {
            (Some(limit), _) => limit,
            (None, Some(EXIT_FILE_SIZE)) => Ending::FileSizeLimit(job.limits.file_size),
            (None, Some(code)) => Ending::Exited(code),
            (None, None) => match std::os::unix::process::ExitStatusExt::signal(&exit) {
                Some(signal) => Ending::Signalled(signal),
                None => {
                    return Err(Error::NotStarted {
                        program: program_name(&job.program),
                        message: tail.join("; "),
                        log: job.log.clone(),
                    });
                }
            },
        };
        tracing::debug!(%ending, ?duration, log = %job.log.display(), "job ended");
        Ok(Outcome { ending, duration, log: job.log.clone(), tail, step })
    }

    /// The arguments of bwrap for `job`; bytes that it mounts are written to `files`.
    fn arguments(&self, job: &Job, files: &Path) -> Result<Vec<OsString>, Error> {
        let mut arguments = Arguments::default();
        arguments.add(["--unshare-all", "--die-with-parent", "--new-session"]);
        let (user, group) = (job.user.0.to_string(), job.user.1.to_string());
        arguments.add(["--clearenv", "--cap-drop", "ALL", "--uid", &user, "--gid", &group]);
        arguments.add(["--hostname", &job.hostname, "--proc", "/proc", "--dev", "/dev"]);
        arguments.temporary(Path::new("/dev/shm"), SHARED_MEMORY);
        arguments.temporary(Path::new("/tmp"), DEFAULT_TMP);
        for (number, mount) in job.mounts.iter().enumerate() {
            arguments.mount(mount, &files.join(number.to_string()))?;
        }
        let program = match &job.program {
            Program::Script(script) => {
                let host = files.join("script");
                write(&host, script)?;
                arguments.bind("--ro-bind", &host, Path::new(SCRIPT));
                ["/bin/sh", SCRIPT].map(OsString::from).to_vec()
            }
            Program::Arguments(program) => program.clone(),
        };
        arguments.add(["--remount-ro", "/dev", "--remount-ro", "/"]);
        for (name, value) in &job.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::InvalidJob { reason: format!("`{name}` cannot be an environment variable") });
            }
            arguments.add(["--setenv", name, value]);
        }
        arguments.add(["--chdir".as_ref(), job.working_directory.as_os_str()]);
        arguments.add(["--json-status-fd", "3", "--"]);
        if program.is_empty() {
            return Err(Error::InvalidJob { reason: "it names no program".to_owned() });
        }
        arguments.0.extend(program);
        Ok(arguments.0)
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<const N: usize, S: AsRef<OsStr>>(&mut self, arguments: [S; N]) {
        self.0.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
    }

    fn bind(&mut self, option: &str, host: &Path, inside: &Path) {
        self.add([option.as_ref(), host.as_os_str(), inside.as_os_str()]);
    }

    fn temporary(&mut self, inside: &Path, size: u64) {
        self.add(["--perms", "1777", "--size", &size.to_string()]);
        self.add(["--tmpfs".as_ref(), inside.as_os_str()]);
    }

    fn mount(&mut self, mount: &Mount, file: &Path) -> Result<(), Error> {
        let (Mount::ReadOnly { inside, .. }
        | Mount::ReadWrite { inside, .. }
        | Mount::Temporary { inside, .. }
        | Mount::Empty { inside }
        | Mount::Symlink { inside, .. }
        | Mount::File { inside, .. }) = mount;
        if !inside.is_absolute() {
            return Err(Error::InvalidJob {
                reason: format!("the mount point `{}` is not absolute", inside.display()),
            });
        }
        match mount {
            Mount::ReadOnly { host, inside } => self.bind("--ro-bind", host, inside),
            Mount::ReadWrite { host, inside } => self.bind("--bind", host, inside),
            Mount::Temporary { inside, size } => self.temporary(inside, *size),
            Mount::Empty { inside } => self.add(["--dir".as_ref(), inside.as_os_str()]),
            Mount::Symlink { target, inside } => self.bind("--symlink", target, inside),
            Mount::File { inside, content } => {
                write(file, content)?;
                self.bind("--ro-bind", file, inside);
            }
        }
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    std::fs::write(path, content).map_err(|source| Error::io("write", path, source))
}

/// Copies the output to the log until all processes have ended, and ends them at a limit.
async fn watch(
    job: &Job,
    child: &mut Child,
    mut output: pipe::Receiver,
    mut log: Log,
) -> Result<(Option<Ending>, Log), Error> {
    let limits = &job.limits;
    let deadline = tokio::time::sleep(limits.wall_time);
    tokio::pin!(deadline);
    let mut sample = tokio::time::interval(SAMPLE_EVERY);
    sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = vec![0; 64 << 10];
    let limit = loop {
        tokio::select! {
            read = output.read(&mut buffer) => {
                let read = read.map_err(|source| Error::io("read the output of", &job.log, source))?;
                if read == 0 {
                    return Ok((None, log));
                }
                if log.write(buffer.get(..read).unwrap_or_default()).await? == Room::Full {
                    break Ending::OutputLimit(limits.output);
                }
            }
            () = &mut deadline => break Ending::TimedOut(limits.wall_time),
            _ = sample.tick() => {
                let Some(id) = child.id() else { continue };
                let usage = processes::usage(id)
                    .map_err(|source| Error::io("read", Path::new("/proc"), source))?;
                if usage.processes > limits.processes {
                    break Ending::ProcessLimit(limits.processes);
                }
                if usage.memory > limits.memory {
                    break Ending::MemoryLimit(limits.memory);
                }
            }
        }
    };
    end(child, &mut output, &mut log, &mut buffer)
        .await
        .map_err(|source| Error::io("end the job with the log", &job.log, source))?;
    Ok((Some(limit), log))
}

/// Kills the sandbox and waits until the last of its processes has closed the output. What was
/// already written goes to the log while there is room.
async fn end(child: &mut Child, output: &mut pipe::Receiver, log: &mut Log, buffer: &mut [u8]) -> std::io::Result<()> {
    child.start_kill()?;
    let drain = async {
        loop {
            let read = output.read(buffer).await?;
            if read == 0 {
                return Ok(());
            }
            log.write(buffer.get(..read).unwrap_or_default()).await.map_err(std::io::Error::other)?;
        }
    };
    match tokio::time::timeout(END_WITHIN, drain).await {
        Ok(drained) => drained,
        Err(_) => Err(std::io::Error::other(format!(
            "processes of the job were alive {} s after it was killed",
            END_WITHIN.as_secs()
        ))),
    }
}

/// The exit code in bwrap's status documents; none when the program was not started or did not
/// end by itself.
fn exit_code(status: &Path) -> Result<Option<i32>, Error> {
    #[derive(serde::Deserialize)]
    struct Status {
        #[serde(rename = "exit-code")]
        exit_code: Option<i32>,
    }
    let text = match std::fs::read_to_string(status) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", status, source)),
    };
    for document in serde_json::Deserializer::from_str(&text).into_iter::<Status>() {
        match document {
            Ok(Status { exit_code: Some(code) }) => return Ok(Some(code)),
            Ok(_) => {}
            Err(error) if error.is_eof() => return Ok(None),
            Err(error) => return Err(Error::io("read", status, error.into())),
        }
    }
    Ok(None)
}

fn program_name(program: &Program) -> String {
    match program {
        Program::Script(_) => "/bin/sh".to_owned(),
        Program::Arguments(arguments) => {
            arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
    }
}
