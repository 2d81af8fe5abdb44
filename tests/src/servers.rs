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
pub fn start(mut command: Command, address: &str) -> Option<Running> {
    let program = command.get_program().to_string_lossy().into_owned();
    let running = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
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

    /// Calls a service by AWS's JSON protocol.
    ///
    /// # Panics
    /// When it refuses.
    pub fn call(&self, service: &str, target: &str, body: &Value) -> Value {
        let scope = format!("Credential=test/20260101/eu-central-1/{service}/aws4_request");
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", &format!("http://{}/", self.address), "-d", &body.to_string()])
            .args(["-H", "content-type: application/x-amz-json-1.1", "-H", &format!("x-amz-target: {target}")])
            .args(["-H", &format!("authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs the command with AWS's own settings for this server.
    pub fn run(&self, factory: &Factory, arguments: &[&str]) -> Answer {
        let mut command = factory.command();
        command.args(["--format", "json"]).args(arguments);
        command.env("AWS_ENDPOINT_URL", format!("http://{}", self.address)).env("AWS_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        answer(command)
    }
}
