//! A proxy on loopback that passes calls on to a service, but for those that it is told to spoil.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a call is spoilt.
#[derive(Clone, Debug)]
pub enum How {
    /// It is answered with this status and body, and the service never sees it.
    Answer(u16, String),
    /// The connection ends, and the service never sees it.
    Lost,
    /// The service does it, and the connection ends before the answer.
    Done,
    /// The service does it, and the connection ends in the middle of the answer.
    Cut,
    /// It is answered with the start of a body that says to be this long, in bytes.
    Claims(u64),
}

impl How {
    /// An error of a service that speaks JSON.
    pub fn json(status: u16, kind: &str) -> Self {
        Self::Answer(status, format!(r#"{{"__type":"com.example#{kind}","message":"injected"}}"#))
    }

    /// An error of S3.
    pub fn xml(status: u16, code: &str) -> Self {
        Self::Answer(status, format!("<Error><Code>{code}</Code><Message>injected</Message></Error>"))
    }
}

struct Fault {
    call: String,
    left: u32,
    how: How,
}

#[derive(Default)]
struct Plan {
    faults: Vec<Fault>,
    /// The first line and the target of each call that came.
    calls: Vec<String>,
}

/// The proxy. It ends with the runtime of the test.
pub struct FaultProxy {
    /// Its address, `http://127.0.0.1:PORT`.
    pub url: String,
    plan: Arc<Mutex<Plan>>,
}

impl FaultProxy {
    /// A proxy before the service at `HOST:PORT`.
    pub async fn before(service: &str) -> Self {
        Self::adding(service, "").await
    }

    /// The same, which adds header lines to what it passes on.
    pub async fn adding(service: &str, lines: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (plan, service) = (Arc::new(Mutex::new(Plan::default())), service.to_owned());
        let shared = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (plan, service) = (Arc::clone(&shared), service.clone());
                tokio::spawn(async move {
                    // A caller that goes away is its own affair.
                    let _ = pass(client, &service, lines, &plan).await;
                });
            }
        });
        Self { url, plan }
    }

    /// Spoils the next `times` calls whose first line or target contains `call`.
    pub fn spoil(&self, call: &str, times: u32, how: How) {
        self.plan.lock().unwrap().faults.push(Fault { call: call.to_owned(), left: times, how });
    }

    /// How many calls came since the last time that were so named, and forgets all.
    pub fn came(&self, call: &str) -> usize {
        let mut plan = self.plan.lock().unwrap();
        plan.faults.clear();
        std::mem::take(&mut plan.calls).iter().filter(|line| line.contains(call)).count()
    }
}

impl Plan {
    fn next(&mut self, line: String) -> Option<How> {
        let fault = self.faults.iter_mut().find(|fault| fault.left > 0 && line.contains(&fault.call));
        self.calls.push(line);
        let fault = fault?;
        fault.left -= 1;
        Some(fault.how.clone())
    }
}

/// Serves one call; every connection carries one.
async fn pass(mut client: TcpStream, service: &str, added: &str, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let value = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if value("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let length = value("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(());
        }
    }
    let line = format!("{} {}", head.lines().next().unwrap(), value("x-amz-target").unwrap_or_default());
    let how = plan.lock().unwrap().next(line);
    match how {
        Some(How::Answer(status, text)) => {
            let head =
                format!("HTTP/1.1 {status} Injected\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
            client.write_all(head.as_bytes()).await?;
            client.write_all(text.as_bytes()).await
        }
        Some(How::Claims(size)) => {
            client.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n{{").as_bytes()).await
        }
        Some(How::Lost) => Ok(()),
        Some(How::Done) => answer(&head, added, &body, service).await.map(drop),
        Some(How::Cut) => {
            let answer = answer(&head, added, &body, service).await?;
            client.write_all(answer.get(..answer.len() - 1).unwrap_or_default()).await
        }
        None => client.write_all(&answer(&head, added, &body, service).await?).await,
    }
}

/// The service's whole answer.
async fn answer(head: &str, added: &str, body: &[u8], service: &str) -> std::io::Result<Vec<u8>> {
    let mut service = TcpStream::connect(service).await?;
    let hop = ["connection:", "expect:"];
    let kept = head.lines().filter(|line| !hop.iter().any(|name| line.to_lowercase().starts_with(name)));
    let lines: String = kept.filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    service.write_all(format!("{lines}{added}connection: close\r\n\r\n").as_bytes()).await?;
    service.write_all(body).await?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).await?;
    Ok(answer)
}
