//! Starting an image and asking it: Minimill's own `tests/runtime.yaml`.
//!
//! ```yaml
//! # How the image is started; all optional. Without these it is started as configured, with a
//! # root file system that it can change, in a network of its own, without capabilities.
//! arguments: ["--port", "6379"]     # in place of the image's command (not its entrypoint)
//! environment: {LOG: debug}         # besides the image's own
//! user: "12345"                     # in place of the image's user; `random`: one that it can't know
//! read-only: true                   # the root file system
//! temporary: [/tmp, /run]           # folders in memory, 64 MiB each, owned as in the image
//! capabilities: [NET_BIND_SERVICE]  # that processes of root have
//! limits: {time: 60s, memory: 256MiB, processes: 64} # of the container; never more than the factory's
//! retries: 1                        # how often a run that failed is tried again, at most 3; the report tells
//! ready:                            # the server is ready when this TCP port accepts
//!   port: 6379
//!   within: 10s
//! # What is looked at when it is ready:
//! pid-1: redis-server               # the program of process 1, by name or path
//! listening: [6379]                 # all TCP ports that something listens on, on any address
//! drops-capabilities: true          # no process holds a capability then; the default
//! reaps: true                       # process 1 waits for processes that have lost their parent
//! checks:                           # one connection each, in order
//!   - name: answers PING
//!     port: 6379
//!     send: "PING\r\n"              # sent as it is
//!     expect: '^\+PONG\r\n'         # regular expression over all bytes received so far
//!     within: 5s                    # default 5s
//! stop:
//!   signal: TERM                    # default TERM
//!   within: 10s                     # default 10s
//!   exit-code: 0                    # or a list; default 0
//! ```
//!
//! Durations are whole numbers with `ms`, `s` or `m`, sizes with `KiB`, `MiB` or `GiB`. An image whose program ends
//! by itself has no `ready` and nothing that needs it; then `stop` says how long it may take and its exit code.

use crate::document;
use crate::report::Checks;
use crate::run::Run;
use crate::{Error, Facilities, Image, Suite, SuiteReport};

/// Starts the image and evaluates a `runtime.yaml`. `text` is its content, `file` its name in
/// messages; the container lives within the limits of `facilities`.
///
/// # Errors
/// [`Error::Document`] with line and column when the file is not of its format; trouble with
/// this machine. What the image does wrong is in the report.
pub async fn runtime(image: &Image, text: &str, file: &str, facilities: &Facilities<'_>) -> Result<SuiteReport, Error> {
    let run: Run = document::parse(text, file)?;
    if let Some(message) = run.contradiction() {
        return Err(document::wrong(file, message));
    }
    let mut checks = Checks::new(Suite::Runtime);
    run.run(image, "runtime", facilities, &mut checks).await?;
    Ok(checks.finish())
}
