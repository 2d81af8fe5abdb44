//! Servers of others on loopback: Debian's docker-registry, and AWS as ministack plays it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test helper: what can't be set up ends the test, and what isn't installed is said aloud"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::factory::{Answer, Factory, answer};

/// A process that ends when it is dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of loopback that nothing listens on, `127.0.0.1:PORT`.
///
/// # Panics
/// When there is none.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Starts a server and waits until it listens; none, said aloud, where it isn't installed.
///
/// # Panics
/// When it does not listen within a minute.
pub fn start(command: Command, address: &str) -> Option<Running> {
    start_logging(command, address, None)
}

/// The same, with what it says written to a file.
fn start_logging(mut command: Command, address: &str, log: Option<&Path>) -> Option<Running> {
    let program = command.get_program().to_string_lossy().into_owned();
    match log.map(|log| fs::File::create(log).unwrap()) {
        Some(file) => command.stdout(file.try_clone().unwrap()).stderr(file),
        None => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    let running = match command.spawn() {
        Ok(child) => Running(child),
        Err(error) => {
            println!("not run: {program}: {error}");
            return None;
        }
    };
    for _ in 0..600 {
        if TcpStream::connect(address).is_ok() {
            return Some(running);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{program} does not listen on {address}");
}

/// Debian's docker-registry, which keeps all in a folder.
pub struct DockerRegistry {
    /// `HOST:PORT`.
    pub address: String,
    config: std::path::PathBuf,
    running: Option<Running>,
}

impl DockerRegistry {
    /// Starts one over a folder; none, said aloud, where it isn't installed.
    ///
    /// # Panics
    /// When it can't be set up.
    pub fn start(folder: &Path) -> Option<Self> {
        let address = free_address();
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: \
             true}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.join("registry-storage").display()
        );
        fs::write(&config, text).unwrap();
        let mut registry = Self { address, config, running: None };
        registry.resume().then_some(registry)
    }

    /// Ends the process; what it keeps stays.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Starts the process again; tells whether it is installed.
    pub fn resume(&mut self) -> bool {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&self.config);
        self.running = start(command, &self.address);
        self.running.is_some()
    }
}

/// Who asks, and which service; ministack does not look at the signature.
fn scope(service: &str) -> String {
    let scope = format!("Credential=test/20260101/{REGION}/{service}/aws4_request");
    format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0")
}

/// The region of all that is in ministack.
pub const REGION: &str = "us-east-1";

/// AWS as ministack plays it.
pub struct Ministack {
    /// `HOST:PORT`.
    pub address: String,
    _running: Running,
}

impl Ministack {
    /// Starts one; none, said aloud, where it isn't installed.
    pub fn start() -> Option<Self> {
        let address = free_address();
        let mut command = Command::new("ministack");
        command.env("GATEWAY_PORT", address.rsplit(':').next()?);
        start(command, &address).map(|running| Self { address, _running: running })
    }

    /// Starts one that runs functions, in processes that see `layer` as `/opt`, as Lambda's do, may what their
    /// roles allow, and end with it. What it says goes to `log`.
    /// Its functions call AWS at `endpoint`, given its own address; their code lies in `scratch`.
    pub fn with_functions(
        layer: &Path,
        scratch: &Path,
        log: &Path,
        endpoint: impl FnOnce(&str) -> String,
    ) -> Option<Self> {
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&search_path).any(|folder| folder.join("ministack").is_file()) {
            println!("not run: ministack: it is not installed");
            return None;
        }
        let address = free_address();
        let mut command = Command::new("bwrap");
        // Builds and containers make namespaces of their own in it, so it keeps `/proc` and its rights.
        command.args(["--dev-bind", "/", "/", "--die-with-parent", "--cap-add", "ALL"]);
        command.arg("--bind").arg(layer).args(["/opt", "ministack"]);
        command.env("GATEWAY_PORT", address.rsplit(':').next()?).env("BIND_HOST", "127.0.0.1");
        command.env("AWS_ENDPOINT_URL", endpoint(&address)).env("AUTH", "true");
        command.env("TMPDIR", scratch);
        start_logging(command, &address, Some(log)).map(|running| Self { address, _running: running })
    }

    /// Invokes a function with an event, and waits for its answer.
    ///
    /// # Errors
    /// What the function failed with.
    ///
    /// # Panics
    /// When Lambda does not take the call.
    pub fn invoke(&self, function: &str, event: &Path) -> Result<Value, Value> {
        let url = format!("http://{}/2015-03-31/functions/{function}/invocations", self.address);
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", "-D", "/dev/stderr", &url])
            .arg("--data-binary")
            .arg(format!("@{}", event.display()))
            .args(["-H", "content-type: application/json", "-H", &format!("authorization: {}", scope("lambda"))])
            .output()
            .unwrap();
        let head = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(output.status.success(), "{function}: {head}");
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if head.contains("x-amz-function-error") { Err(answer) } else { Ok(answer) }
    }

    /// Calls a service by AWS's JSON protocol.
    ///
    /// # Panics
    /// When it refuses.
    pub fn call(&self, service: &str, target: &str, body: &Value) -> Value {
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", &format!("http://{}/", self.address), "-d", &body.to_string()])
            .args(["-H", "content-type: application/x-amz-json-1.1", "-H", &format!("x-amz-target: {target}")])
            .args(["-H", &format!("authorization: {}", scope(service))])
            .output()
            .unwrap();
        assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs the command with AWS's own settings for this server.
    pub fn run(&self, factory: &Factory, arguments: &[&str]) -> Answer {
        let mut command = factory.command();
        command.args(["--format", "json"]).args(arguments);
        command.env("AWS_ENDPOINT_URL", format!("http://{}", self.address)).env("AWS_REGION", REGION);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        answer(command)
    }
}
