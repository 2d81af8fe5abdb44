//! Starting processes from one thread that lives as long as this process.
//!
//! The kernel ends a process that asked for it (`PR_SET_PDEATHSIG`, bubblewrap's
//! `--die-with-parent`) when the *thread* that started it ends. Threads of an async runtime come
//! and go, so jobs are started from a thread that stays.

use std::io;
use std::sync::{OnceLock, mpsc};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Request {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Starts `command`; the child belongs to the current runtime and is ended when dropped.
pub(crate) async fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for mut request in requests {
                let _runtime = request.runtime.enter();
                // A caller that is gone drops the child, which ends it.
                drop(request.answer.send(request.command.spawn()));
            }
        });
        sender
    });
    command.kill_on_drop(true);
    let (answer, child) = oneshot::channel();
    let request = Request { command, runtime: Handle::current(), answer };
    spawner.send(request).map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
    child.await.map_err(|_| io::Error::other("the thread that starts processes has ended"))?
}
