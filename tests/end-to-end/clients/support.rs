//! The home that all tests read, the server over it, and running other programs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// The images that the catalog is asked to hold.
pub const IMAGES: [&str; 5] = ["busybox", "memcached", "nginx", "static", "valkey"];

/// A home in which the catalog is built.
pub struct Factory {
    pub home: PathBuf,
    pub catalog: PathBuf,
    /// What `mill cycle` said.
    pub report: Value,
}

/// A published image.
pub struct Image {
    pub name: String,
    /// The stream, which is a tag too.
    pub tag: String,
    /// Digest of the index.
    pub digest: String,
    /// Digest of the manifest for this machine.
    pub platform: String,
}

pub fn mill() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mill"))
}

/// The home, up to date, or none where upstream is out of reach.
pub fn factory() -> Option<&'static Factory> {
    static FACTORY: OnceLock<Result<Factory, String>> = OnceLock::new();
    match FACTORY.get_or_init(Factory::prepare) {
        Ok(factory) => Some(factory),
        Err(reason) => {
            println!("not run: {reason}");
            None
        }
    }
}

impl Factory {
    fn prepare() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let catalog = folder.join("real-catalog");
        // A copy, so that an edit during a long build changes nothing half way.
        if catalog.exists() {
            std::fs::remove_dir_all(&catalog).unwrap();
        }
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../catalog");
        run(Command::new("cp").arg("-a").arg(source).arg(&catalog));
        let home = folder.join("real-home");
        let (report, output) = Self::cycle_of(&home, &catalog);
        let unreachable: Vec<&str> = entries(&report, "failed", "upstream-check")
            .map(|entry| entry["text"].as_str().unwrap())
            .filter(|text| text.contains("error sending request"))
            .collect();
        let nothing = report["images"].as_array().unwrap().is_empty();
        if let Some(reason) = unreachable.first() {
            if nothing {
                // It remembers builds that failed for want of sources, and would not try them again today.
                std::fs::remove_dir_all(&home).unwrap();
            }
            return Err(reason.to_string());
        }
        if nothing {
            panic!("no image was built:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self { home, catalog, report })
    }

    /// Runs one more day.
    pub fn cycle(&self) -> Value {
        self.work(&["cycle"])
    }

    /// Runs a command that works in the home, which one may do at a time, and gives its JSON.
    pub fn work(&self, arguments: &[&str]) -> Value {
        static WORK: Mutex<()> = Mutex::new(());
        let _turn = WORK.lock().unwrap_or_else(PoisonError::into_inner);
        Self::run(&self.home, &self.catalog, arguments).0
    }

    fn cycle_of(home: &Path, catalog: &Path) -> (Value, Output) {
        Self::run(home, catalog, &["cycle"])
    }

    fn run(home: &Path, catalog: &Path, arguments: &[&str]) -> (Value, Output) {
        let output = mill()
            .args(["--format", "json", "--home"])
            .arg(home)
            .arg("--catalog")
            .arg(catalog)
            .args(arguments)
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("mill {arguments:?} printed no report ({error}):\n{}", String::from_utf8_lossy(&output.stderr))
        });
        (report, output)
    }

    pub fn images(&self) -> Vec<Image> {
        let rows = self.report["images"].as_array().unwrap();
        rows.iter()
            .map(|row| Image {
                name: row["name"].as_str().unwrap().to_owned(),
                tag: row["stream"].as_str().unwrap().to_owned(),
                digest: row["digest"].as_str().unwrap().to_owned(),
                platform: row["platforms"]["x86_64"].as_str().unwrap().to_owned(),
            })
            .collect()
    }
}

/// Entries of a cycle's report about one stage.
pub fn entries<'r>(report: &'r Value, list: &str, stage: &'static str) -> impl Iterator<Item = &'r Value> {
    report[list].as_array().unwrap().iter().filter(move |entry| entry["stage"] == stage)
}

/// `mill serve` on a free port, ended with the value.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Server {
    pub fn start(home: &Path) -> Self {
        let mut child = mill()
            .arg("--home")
            .arg(home)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
        Self { child, address }
    }

    /// Asks for a path just as it is written.
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // HTTP/1.0, so that the answer is neither chunked nor followed by another.
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes.split_off(end + 4) }
    }

    /// Gets what must be there.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let answer = self.ask("GET", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
        answer.body
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.get(path)).unwrap()
    }

    /// Ends the server as a supervisor does, and gives its exit code.
    pub fn end(mut self) -> Option<i32> {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        self.child.wait().unwrap().code()
    }

    /// The apk database of an image, from the layer as it is pulled: names and versions.
    pub fn installed(&self, image: &Image) -> BTreeSet<(String, String)> {
        let manifest = self.json(&format!("/v2/{}/manifests/{}", image.name, image.platform));
        let mut found = BTreeSet::new();
        for layer in manifest["layers"].as_array().unwrap() {
            let bytes = self.get(&format!("/v2/{}/blobs/{}", image.name, layer["digest"].as_str().unwrap()));
            let database = fed(Command::new("tar").args(["-xzOf", "-", "usr/lib/apk/db/installed"]), &bytes);
            found.extend(records(&database).into_iter().map(|record| (record.value('P'), record.value('V'))));
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended when a test ended it itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// A record of `X:value` lines, as in apk's database and index.
pub struct Record(String);

impl Record {
    pub fn value(&self, letter: char) -> String {
        let mut lines = self.0.lines().filter_map(|line| line.strip_prefix(letter)?.strip_prefix(':'));
        lines.next().unwrap_or_else(|| panic!("no `{letter}:` in\n{}", self.0)).to_owned()
    }
}

pub fn records(text: &str) -> Vec<Record> {
    text.split("\n\n").filter(|record| !record.trim().is_empty()).map(|record| Record(record.to_owned())).collect()
}

/// Whether a program is there to be asked; says so when not.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        println!("not run: `{program}` is not installed");
    }
    found
}

/// Runs a program that must succeed; its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The same with bytes on its standard input.
pub fn fed(command: &mut Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A program may well end before it has read all.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Both outputs of a program, for a failed assertion.
pub fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts that a public key's owner signed `bytes`, as OpenSSL sees it.
pub fn assert_signed(key: &Path, signature: &[u8], bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let (signature_file, file) = (folder.path().join("signature"), folder.path().join("bytes"));
    std::fs::write(&signature_file, signature).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-verify"]).arg(key).arg("-signature").arg(signature_file).arg(file);
    assert_eq!(run(&mut command).trim(), "Verified OK");
}

/// Asserts that a document is valid by the official schema of SPDX 2.3.
pub fn assert_spdx(document: &Value, subject: &str) {
    static VALIDATOR: OnceLock<jsonschema::Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/schemas/spdx-2.3.schema.json");
        let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    });
    let errors: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{subject}:\n{}", errors.join("\n"));
    assert_eq!(document["spdxVersion"], "SPDX-2.3", "{subject}");
}
