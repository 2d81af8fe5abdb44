//! Talking to a port of a container.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::Error;

const RETRY_AFTER: Duration = Duration::from_millis(20);
const MAXIMUM_ANSWER: usize = 1 << 20;

/// What came of one exchange with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Nobody accepted a connection in time; the last answer of the system.
    NoConnection(String),
    /// A connection was made. `complete` says whether the answer was the one waited for; if not,
    /// the other side closed, or the time or 1 MiB was over.
    Answered {
        /// All bytes received.
        bytes: Vec<u8>,
        /// Whether the condition held.
        complete: bool,
    },
}

/// What to send to which port, and how long to wait.
#[derive(Debug, Clone)]
pub struct Request {
    /// The TCP port on the loopback interface.
    pub port: u16,
    /// The bytes to send when connected.
    pub send: Vec<u8>,
    /// How long to try to connect and wait for the answer, together.
    pub within: Duration,
}

/// Connects inside the network namespace of the process `pid`.
pub(crate) async fn exchange(
    pid: u32,
    request: Request,
    complete: impl Fn(&[u8]) -> bool + Send + 'static,
) -> Result<Exchange, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let (answer, answered) = oneshot::channel();
    // A thread of its own: it changes its namespace, and so can't be given back to a pool.
    std::thread::spawn({
        let path = path.clone();
        move || {
            let result = File::open(&path)
                .and_then(|namespace| {
                    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
                })
                .and_then(|()| talk(&request, &complete));
            // Nobody waits any more when this fails.
            drop(answer.send(result));
        }
    });
    answered
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("the thread that connects has ended")))
        .map_err(|source| Error::io("talk in the network of", &path, source))
}

fn talk(request: &Request, complete: &dyn Fn(&[u8]) -> bool) -> std::io::Result<Exchange> {
    let deadline = Instant::now() + request.within;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, request.port));
    let mut stream = loop {
        match TcpStream::connect_timeout(&address, left()) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() >= deadline => return Ok(Exchange::NoConnection(error.to_string())),
            Err(_) => std::thread::sleep(RETRY_AFTER.min(left())),
        }
    };
    let mut bytes = Vec::new();
    let ended = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )
    };
    stream.set_write_timeout(Some(left()))?;
    match stream.write_all(&request.send) {
        Err(error) if ended(&error) => return Ok(Exchange::Answered { bytes, complete: false }),
        sent => sent?,
    }
    let mut buffer = [0; 4096];
    while !complete(&bytes) {
        if Instant::now() >= deadline || bytes.len() >= MAXIMUM_ANSWER {
            return Ok(Exchange::Answered { bytes, complete: false });
        }
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Exchange::Answered { bytes, complete: false }),
            Ok(read) => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if ended(&error) => return Ok(Exchange::Answered { bytes, complete: false }),
            Err(error) => return Err(error),
        }
    }
    Ok(Exchange::Answered { bytes, complete: true })
}
