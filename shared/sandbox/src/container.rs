//! A container that runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::exchange::{self, Exchange, Request};
use crate::{Ending, Error, Limits, Process, Runc, processes, spawn};

const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How long runc may take to make a container, and a killed one to be gone.
const RUNC_WITHIN: Duration = Duration::from_secs(30);

/// What a process in a container left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended. A process that a signal ended has exit code 128 + signal.
    pub ending: Ending,
    /// Wall time it took.
    pub duration: Duration,
    /// All it wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// All it wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
}

/// A running container; dropping it ends and removes it.
#[derive(Debug)]
pub struct Container {
    pub(crate) runc: Runc,
    id: String,
    pub(crate) pid: u32,
    runc_pid: Option<u32>,
    bundle: TempDir,
    started: Instant,
    output: Output,
    ending: watch::Receiver<Option<Result<Ending, Arc<Error>>>>,
    supervisor: JoinHandle<()>,
}

impl Container {
    pub(crate) async fn start(runc: Runc, id: String, bundle: TempDir, limits: Limits) -> Result<Self, Error> {
        let pid_file = bundle.path().join("pid");
        let mut command = runc.command();
        command.arg("--log").arg(bundle.path().join("log")).args(["--log-format", "json", "run", "--bundle"]);
        command.arg(bundle.path()).arg("--pid-file").arg(&pid_file).arg(&id);
        let started = Instant::now();
        let (child, output) = spawn_captured(command, &runc.program, limits.output).await?;
        let runc_pid = child.id();
        let (sender, ending) = watch::channel(None);
        let supervisor = tokio::spawn(supervise(runc.clone(), id.clone(), child, limits, output.clone(), sender));
        let mut container = Container { runc, id, pid: 0, runc_pid, bundle, started, output, ending, supervisor };
        container.pid = container.wait_for_pid(&pid_file).await?;
        Ok(container)
    }

    async fn wait_for_pid(&mut self, pid_file: &Path) -> Result<u32, Error> {
        let until = Instant::now() + RUNC_WITHIN;
        loop {
            if let Some(pid) = read_pid(pid_file) {
                return Ok(pid);
            }
            if self.ending.borrow().is_some() || Instant::now() > until {
                return Err(self.not_started().await);
            }
            // Woken early when runc ends; closed only with the supervisor, which publishes before.
            drop(tokio::time::timeout(POLL_EVERY, self.ending.changed()).await);
        }
    }

    /// The id that runc knows it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether its main process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Whether its main process has ended or does so within a second. What is done to a process
    /// that is just ending fails before its end is known here.
    pub async fn ends_soon(&self) -> bool {
        let mut ending = self.ending.clone();
        let ended = ending.wait_for(Option::is_some);
        matches!(tokio::time::timeout(Duration::from_secs(1), ended).await, Ok(Ok(_)))
    }

    /// What it has written so far to standard output and standard error.
    #[must_use]
    pub fn output(&self) -> (Vec<u8>, Vec<u8>) {
        (self.output.stdout.bytes(), self.output.stderr.bytes())
    }

    /// Connects to a TCP port on the container's loopback interface, trying until somebody
    /// listens, sends, and reads until `complete` holds for all bytes received so far.
    ///
    /// # Errors
    /// [`Error::Io`] when the container's network is gone because it has ended.
    pub async fn exchange(
        &self,
        request: Request,
        complete: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Result<Exchange, Error> {
        exchange::exchange(self.pid, request, complete).await
    }

    /// Runs another process in the container.
    ///
    /// # Errors
    /// [`Error::Runc`] when it could not be started.
    pub async fn exec(&self, process: &Process, limits: &Limits) -> Result<Finished, Error> {
        let folder = tempfile::tempdir_in(self.bundle.path())
            .map_err(|source| Error::io("create a folder in", self.bundle.path(), source))?;
        let description = folder.path().join("process.json");
        let json = serde_json::to_vec(&process.runtime(&[]))
            .map_err(|error| Error::io("write", &description, error.into()))?;
        std::fs::write(&description, json).map_err(|source| Error::io("write", &description, source))?;
        let (log, pid_file) = (folder.path().join("log"), folder.path().join("pid"));
        let mut command = self.runc.command();
        command.arg("--log").arg(&log).args(["--log-format", "json", "exec", "--process"]);
        command.arg(&description).arg("--pid-file").arg(&pid_file).arg(&self.id);
        let started = Instant::now();
        let (mut child, output) = spawn_captured(command, &self.runc.program, limits.output).await?;
        let ending = tokio::select! {
            ended = child.wait() => exited(ended, &self.runc.program)?,
            () = tokio::time::sleep(limits.wall_time) => Ending::TimedOut(limits.wall_time),
            () = output.full.notified() => Ending::OutputLimit(limits.output),
        };
        if let Some(message) = fatal(&log) {
            return Err(Error::Runc { action: "run a process in", id: self.id.clone(), message });
        }
        if !matches!(ending, Ending::Exited(_))
            && let Some(pid) = read_pid(&pid_file)
        {
            kill(pid).map_err(|source| Error::io("end a process of", &self.runc.program, source))?;
        }
        output.drained().await;
        Ok(self.finished(ending, started, &output))
    }

    /// Waits for the end of the main process, by itself or by a limit.
    ///
    /// # Errors
    /// [`Error::Runc`] when the container was never started or could not be ended.
    pub async fn finish(mut self) -> Result<Finished, Error> {
        let ending = self.ended().await?;
        self.output.drained().await;
        if let Some(message) = fatal(&self.bundle.path().join("log")) {
            return Err(Error::Runc { action: "start", id: self.id.clone(), message });
        }
        Ok(self.finished(ending, self.started, &self.output))
    }

    /// Sends `signal`, for example `TERM`, to the main process and waits for its end. When it is
    /// alive after `within`, it is killed and the ending is [`Ending::TimedOut`].
    ///
    /// # Errors
    /// As [`Container::finish`].
    pub async fn stop(mut self, signal: &str, within: Duration) -> Result<Finished, Error> {
        let sent = Instant::now();
        if !self.has_ended() {
            let sending = self.runc.control("signal", &["kill", &self.id, signal], &self.id).await;
            if sending.is_err() && !self.ends_soon().await {
                sending?;
            }
        }
        match tokio::time::timeout(within, self.ended()).await {
            Ok(ending) => {
                let ending = ending?;
                self.output.drained().await;
                Ok(self.finished(ending, sent, &self.output))
            }
            Err(_) => Ok(self.finished(Ending::TimedOut(within), sent, &self.output)),
        }
    }

    async fn ended(&mut self) -> Result<Ending, Error> {
        let gone =
            || Error::Runc { action: "watch", id: self.id.clone(), message: "its supervisor has ended".to_owned() };
        let ending = self.ending.wait_for(Option::is_some).await.map(|ending| ending.clone());
        match ending {
            Ok(Some(Ok(ending))) => Ok(ending),
            Ok(Some(Err(error))) => {
                Err(Error::Runc { action: "watch", id: self.id.clone(), message: error.to_string() })
            }
            Ok(None) | Err(_) => Err(gone()),
        }
    }

    async fn not_started(&self) -> Error {
        self.output.drained().await;
        let message = fatal(&self.bundle.path().join("log"))
            .unwrap_or_else(|| String::from_utf8_lossy(&self.output.stderr.bytes()).trim().to_owned());
        Error::Runc { action: "start", id: self.id.clone(), message }
    }

    fn finished(&self, ending: Ending, started: Instant, output: &Output) -> Finished {
        Finished { ending, duration: started.elapsed(), stdout: output.stdout.bytes(), stderr: output.stderr.bytes() }
    }
}

impl Drop for Container {
    /// Ends all processes and removes runc's record; waits for it (about 50 ms), so that nothing
    /// of the container is left afterwards.
    fn drop(&mut self) {
        self.supervisor.abort();
        // First runc itself, which else could still be making what is deleted next.
        if let Some(pid) = self.runc_pid.filter(|_| !self.has_ended())
            && let Err(error) = kill(pid)
        {
            tracing::warn!(id = self.id, %error, "runc not ended");
        }
        let deleted = std::process::Command::new(&self.runc.program)
            .arg("--root")
            .arg(&self.runc.state)
            .args(["delete", "--force", &self.id])
            .env_clear()
            .output();
        match deleted {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                tracing::warn!(id = self.id, message = %String::from_utf8_lossy(&output.stderr).trim(), "container not removed");
            }
            Err(error) => tracing::warn!(id = self.id, %error, "container not removed"),
        }
    }
}

/// Waits for the end of the container's main process and ends it at a limit.
async fn supervise(
    runc: Runc,
    id: String,
    mut child: Child,
    limits: Limits,
    output: Output,
    ending: watch::Sender<Option<Result<Ending, Arc<Error>>>>,
) {
    let ended = watch_child(&runc, &id, &mut child, &limits, &output).await;
    ending.send_replace(Some(ended.map_err(Arc::new)));
}

async fn watch_child(
    runc: &Runc,
    id: &str,
    child: &mut Child,
    limits: &Limits,
    output: &Output,
) -> Result<Ending, Error> {
    let deadline = tokio::time::sleep(limits.wall_time);
    tokio::pin!(deadline);
    let mut sample = tokio::time::interval(SAMPLE_EVERY);
    sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let limit = loop {
        tokio::select! {
            ended = child.wait() => return exited(ended, &runc.program),
            () = &mut deadline => break Ending::TimedOut(limits.wall_time),
            () = output.full.notified() => break Ending::OutputLimit(limits.output),
            _ = sample.tick() => {
                let Some(pid) = child.id() else { continue };
                let usage = processes::usage(pid).map_err(|source| Error::io("read", Path::new("/proc"), source))?;
                if usage.processes > limits.processes {
                    break Ending::ProcessLimit(limits.processes);
                }
                if usage.memory > limits.memory {
                    break Ending::MemoryLimit(limits.memory);
                }
            }
        }
    };
    runc.control("end", &["delete", "--force", id], id).await?;
    match tokio::time::timeout(RUNC_WITHIN, child.wait()).await {
        Ok(ended) => exited(ended, &runc.program).map(|_| limit),
        Err(_) => {
            Err(Error::Runc { action: "end", id: id.to_owned(), message: "it is alive after being killed".to_owned() })
        }
    }
}

fn exited(ended: std::io::Result<std::process::ExitStatus>, program: &Path) -> Result<Ending, Error> {
    let status = ended.map_err(|source| Error::io("wait for", program, source))?;
    Ok(match status.code() {
        Some(code) => Ending::Exited(code),
        None => Ending::Signalled(std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()),
    })
}

/// Kills a process; that it has ended meanwhile is fine.
fn kill(pid: u32) -> std::io::Result<()> {
    let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) else { return Ok(()) };
    match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The reason in runc's own log why it gave up, if it did.
fn fatal(log: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Entry {
        level: String,
        msg: String,
    }
    let text = std::fs::read_to_string(log).ok()?;
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let fatal = |entry: &Entry| entry.level == "error" || entry.level == "fatal";
    entries.filter(fatal).map(|entry| entry.msg).reduce(|_, last| last)
}

/// The two outputs of a process, kept in memory up to a limit for both together.
#[derive(Debug, Clone)]
struct Output {
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    full: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Stream {
    bytes: Mutex<Vec<u8>>,
    reader: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Stream {
    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Output {
    /// Waits until both are closed, at most as long as a killed container may take.
    async fn drained(&self) {
        for stream in [&self.stdout, &self.stderr] {
            if let Some(reader) = stream.reader.lock().await.as_mut()
                && tokio::time::timeout(RUNC_WITHIN, reader).await.is_err()
            {
                tracing::warn!("the output of a container's process stayed open");
            }
            *stream.reader.lock().await = None;
        }
    }
}

async fn spawn_captured(mut command: Command, program: &Path, limit: u64) -> Result<(Child, Output), Error> {
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).process_group(0);
    let mut child = spawn::spawn(command).await.map_err(|source| Error::io("start", program, source))?;
    let output = Output { stdout: Arc::default(), stderr: Arc::default(), full: Arc::default() };
    let left = Arc::new(Mutex::new(usize::try_from(limit).unwrap_or(usize::MAX)));
    if let Some(pipe) = child.stdout.take() {
        let reader = capture(pipe, output.stdout.clone(), left.clone(), output.full.clone());
        *output.stdout.reader.lock().await = Some(tokio::spawn(reader));
    }
    if let Some(pipe) = child.stderr.take() {
        let reader = capture(pipe, output.stderr.clone(), left, output.full.clone());
        *output.stderr.reader.lock().await = Some(tokio::spawn(reader));
    }
    Ok((child, output))
}

/// Reads to the end; what passes the limit is not kept, and tells so.
async fn capture(mut pipe: impl AsyncRead + Unpin, stream: Arc<Stream>, left: Arc<Mutex<usize>>, full: Arc<Notify>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = buffer.get(..read.min(*left)).unwrap_or_default();
        *left -= kept.len();
        stream.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(kept);
        if kept.len() < read {
            full.notify_one();
        }
    }
}
