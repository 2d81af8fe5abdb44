//! A whole factory in a temporary folder: the real `mill` command over a copy of the fixture's
//! catalog and a signed archive on the loopback interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test helper: what can't be set up ends the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use ports::local::Database;
use ports::{Condition, Key, State, SystemClock, Transaction};
use serde_json::Value;

use crate::archive::{Archive, ArchiveKey, Server, sha256_hex, tarball};
use crate::layout;

/// The clock of a factory that says nothing else.
pub const MORNING: &str = "2026-03-04T06:00:00Z";
/// Time of the files in source archives.
const SOURCE_TIME: u64 = 1_700_000_000;
const CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A factory: home, catalog and upstream.
pub struct Factory {
    /// Upstream, to publish and break things in.
    pub archive: Archive,
    server: Option<Server>,
    base: String,
    folder: tempfile::TempDir,
    mill: PathBuf,
    now: String,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its stdout, parsed; null when it is no JSON document.
    pub json: Value,
    /// Its stderr.
    pub stderr: String,
}

/// What a home has come to, whatever way it took and whatever its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Packages of the index with their checksums: `NAME VERSION` to `Q1...`.
    pub packages: BTreeMap<String, String>,
    /// Images by `NAME@DIGEST`: digests of the platforms.
    pub images: BTreeMap<String, Vec<String>>,
    /// What each `NAME:TAG` of the registry names.
    pub tags: BTreeMap<String, String>,
}

impl Factory {
    /// A factory that has not worked yet; upstream offers `hello-mill` 1.0.0 and `greeting-data`
    /// 2025a. `mill` is the command. Its keys are shared with the factories made before.
    pub fn new(mill: &str) -> Self {
        let factory = Self::without_keys(mill);
        static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
        let keys = KEYS.get_or_init(|| {
            let other = Self::without_keys(mill);
            other.run(&["image", "list"]).expect_code(0);
            pack(&other.home().join("keys"))
        });
        unpack(keys, &factory.home().join("keys"));
        factory
    }

    /// The same with no keys, so that it makes its own.
    pub fn without_keys(mill: &str) -> Self {
        let archive = Archive::new(ArchiveKey::generate());
        let (server, folder) = (archive.serve(), tempfile::tempdir().unwrap());
        archive.write_keyring(&folder.path().join("archive.gpg"));
        let factory = Self {
            archive,
            base: server.base(),
            server: Some(server),
            folder,
            mill: mill.into(),
            now: MORNING.to_owned(),
        };
        copy(&fixtures().join("catalog"), &factory.catalog());
        for (definition, source, version) in
            [("hello", "hello-mill", "1.0.0"), ("greeting-data", "greeting-data", "2025a")]
        {
            factory.release(source, version);
            let checksum = sha256_hex(&source_archive(source, version));
            factory.edit(&format!("packages/{definition}.yaml"), CHECKSUM, &checksum);
        }
        factory
    }

    /// A factory after an undisturbed first cycle, as [`Factory::new`] makes it.
    pub fn after_first_cycle(mill: &str) -> Self {
        static FIRST: OnceLock<Vec<u8>> = OnceLock::new();
        let first = FIRST.get_or_init(|| {
            let first = Self::new(mill);
            first.cycle().expect_code(0);
            pack(&first.home())
        });
        let factory = Self::without_keys(mill);
        unpack(first, &factory.home());
        factory
    }

    /// Sets the clock, as RFC 3339 text.
    pub fn at(&mut self, now: &str) {
        now.clone_into(&mut self.now);
    }

    /// Upstream releases another version of a source package of the fixture.
    pub fn release(&self, source: &str, version: &str) {
        self.release_bytes(source, version, source_archive(source, version));
    }

    /// Upstream releases a version with other bytes.
    pub fn release_bytes(&self, source: &str, version: &str, bytes: Vec<u8>) {
        let (debian, file) = (format!("{version}-1"), format!("{source}_{version}.orig.tar.gz"));
        self.archive.add_source(source, &debian, &file, bytes);
        self.archive.publish();
    }

    /// Upstream can no longer be reached.
    pub fn disconnect(&mut self) {
        drop(self.server.take());
    }

    /// Address under which upstream serves what is put into the archive.
    pub fn upstream(&self) -> &str {
        &self.base
    }

    /// `HOME`, which the first command makes.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The catalog's folder.
    pub fn catalog(&self) -> PathBuf {
        self.folder.path().join("catalog")
    }

    /// A folder of the factory's own, beside home and catalog.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The OCI layout of an image in the home's registry.
    pub fn layout(&self, image: &str) -> PathBuf {
        self.home().join("registry").join(image)
    }

    /// Replaces text of a catalog file, which must hold it.
    pub fn edit(&self, file: &str, old: &str, new: &str) {
        let path = self.catalog().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "`{file}` has no `{old}`:\n{text}");
        fs::write(path, text.replace(old, new)).unwrap();
    }

    /// Writes a catalog file.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.catalog().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds a package definition that needs no source and runs `script`.
    pub fn add_package(&self, name: &str, version: &str, builds_with: &[&str], script: &str) {
        let wants: String = builds_with.iter().map(|want| format!("      - {want}\n")).collect();
        let environment =
            if wants.is_empty() { String::new() } else { format!("environment:\n  contents:\n    packages:\n{wants}") };
        let text = format!(
            "package:\n  name: {name}\n  version: {version}\n  epoch: 0\n  description: {name} of a test\n  \
             copyright:\n    - license: Apache-2.0\n{environment}pipeline:\n  - runs: |\n      {}\n",
            script.replace('\n', "\n      ")
        );
        self.write(&format!("packages/{name}.yaml"), &text);
    }

    /// Adds an image of one package, which tests nothing but its integrity, with streams given as
    /// name and constraint.
    pub fn add_image(&self, name: &str, primary: &str, streams: &[(&str, &str)]) {
        let streams: String = streams
            .iter()
            .map(|(name, version)| format!("  - name: \"{name}\"\n    version: \"{version}\"\n"))
            .collect();
        self.write(
            &format!("images/{name}/image.yaml"),
            &format!(
                "title: {name}\ndescription: {name} of a test\ncategory: test\nprimary: {primary}\nstreams:\n{streams}\
                 architectures: [x86_64]\nsuites:\n  integrity: required\n  structure:\n    not-applicable: data\n  \
                 runtime:\n    not-applicable: data\n"
            ),
        );
        self.write(
            &format!("images/{name}/apko.yaml"),
            &format!(
                "contents:\n  packages:\n    - {primary}${{version}}\naccounts:\n  run-as: \"65532\"\n  users:\n    \
                 - username: nonroot\n      uid: 65532\n      gid: 65532\n  groups:\n    - groupname: nonroot\n      \
                 gid: 65532\n"
            ),
        );
    }

    /// The `mill` command with the factory's home, catalog, clock and upstream.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.mill);
        command.arg("--home").arg(self.home()).arg("--catalog").arg(self.catalog());
        command
            .env("MINIMILL_DEBIAN_ARCHIVE", &self.base)
            .env("MINIMILL_DEBIAN_KEYRINGS", self.folder.path().join("archive.gpg"))
            .env("MINIMILL_DEBIAN_SUITES", "trixie")
            .env("MINIMILL_NOW", &self.now)
            .env("MINIMILL_ARCHITECTURES", "x86_64")
            .env_remove("SOURCE_DATE_EPOCH")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs `mill` with arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = self.command();
        command.args(["--format", "json"]).args(arguments);
        answer(command)
    }

    /// Runs `mill cycle`.
    pub fn cycle(&self) -> Answer {
        self.run(&["cycle"])
    }

    /// What the home has come to.
    ///
    /// # Panics
    /// When the home can't be read by `mill`, or when a tag leads to content that is missing or
    /// damaged.
    pub fn contents(&self) -> Contents {
        let images = self.run(&["image", "list"]);
        images.expect_code(0);
        let mut contents = Contents::default();
        for row in rows(&images.json) {
            let platforms = row["platforms"].as_object().unwrap().values().map(|digest| text(digest).to_owned());
            let name = format!("{}@{}", text(&row["name"]), text(&row["digest"]));
            contents.images.insert(name, platforms.collect());
        }
        let registry = self.home().join("registry");
        for entry in fs::read_dir(&registry).unwrap() {
            let layout = entry.unwrap().path();
            let image = layout.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(layout::problems(&layout), Vec::<String>::new(), "the registry's `{image}`");
            contents
                .tags
                .extend(layout::tags(&layout).into_iter().map(|(tag, digest)| (format!("{image}:{tag}"), digest)));
        }
        contents.packages = self.package_index();
        contents
    }

    /// The test report of a release on one architecture: `digest` is that of all its reports.
    pub fn report(&self, digest: &str, architecture: &str) -> Value {
        let hex = digest.trim_start_matches("sha256:");
        let (shard, rest) = hex.split_at(2);
        let bytes = fs::read(self.home().join("blobs").join(shard).join(rest)).unwrap();
        let reports: Value = serde_json::from_slice(&bytes).unwrap();
        reports["platforms"][architecture].clone()
    }

    /// Documents of the home's state, by sort key.
    pub fn documents(&self, partition: &str, prefix: &str) -> Vec<(String, Value)> {
        let database = Database::open(&self.home().join("state.sqlite"), Arc::new(SystemClock)).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let documents = runtime.block_on(database.list_all(partition, prefix)).unwrap();
        documents.iter().map(|document| (document.key.sort.clone(), document.decode().unwrap())).collect()
    }

    /// Writes a document of the home's state, or removes it.
    ///
    /// # Panics
    /// When the state can't be changed.
    pub fn write_document(&self, partition: &str, sort: &str, value: Option<Value>) {
        let database = Database::open(&self.home().join("state.sqlite"), Arc::new(SystemClock)).unwrap();
        let write = ports::Write { key: Key::new(partition, sort), condition: Condition::Any, value };
        let transaction = Transaction { writes: vec![write], ..Transaction::default() };
        tokio::runtime::Runtime::new().unwrap().block_on(database.commit(transaction)).unwrap();
    }

    /// Puts others in the place of documents of the home's state: `change` gets each one's sort key and content.
    ///
    /// # Panics
    /// When the state can't be changed.
    pub fn change_documents(&self, partition: &str, prefix: &str, change: impl Fn(&str, Value) -> (String, Value)) {
        let database = Database::open(&self.home().join("state.sqlite"), Arc::new(SystemClock)).unwrap();
        let mut transaction = Transaction::default();
        for (sort, value) in self.documents(partition, prefix) {
            let (changed, value_changed) = change(&sort, value);
            let (old, new) = (Key::new(partition, sort), Key::new(partition, changed));
            transaction.writes.push(ports::Write { key: old, condition: Condition::Any, value: None });
            transaction.writes.push(ports::Write { key: new, condition: Condition::Any, value: Some(value_changed) });
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(database.commit(transaction)).unwrap();
    }

    /// Whether the home keeps a blob that holds this text.
    pub fn holds_blob(&self, text: &str) -> bool {
        let mut folders = vec![self.home().join("blobs")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()) {
                    return true;
                }
            }
        }
        false
    }

    /// The packages of the home's published index: `NAME VERSION` to checksum. Read from the
    /// index's lines, so that what strangers get is compared.
    pub fn package_index(&self) -> BTreeMap<String, String> {
        let path = self.home().join("apk/x86_64/APKINDEX.tar.gz");
        let Ok(bytes) = fs::read(path) else { return BTreeMap::new() };
        let mut archive = tar::Archive::new(flate2::bufread::MultiGzDecoder::new(bytes.as_slice()));
        archive.set_ignore_zeros(true);
        let mut lines = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().as_ref() == Path::new("APKINDEX") {
                std::io::Read::read_to_string(&mut entry, &mut lines).unwrap();
            }
        }
        let stanzas = lines.split("\n\n").filter(|stanza| !stanza.trim().is_empty());
        let field = |stanza: &str, letter: &str| -> String {
            let mut values = stanza.lines().filter_map(|line| line.strip_prefix(letter)?.strip_prefix(':'));
            values.next().unwrap_or_else(|| panic!("no {letter}: in\n{stanza}")).to_owned()
        };
        stanzas.map(|stanza| (format!("{} {}", field(stanza, "P"), field(stanza, "V")), field(stanza, "C"))).collect()
    }
}

/// Runs a command to its end.
pub fn answer(mut command: Command) -> Answer {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    Answer {
        code: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Answer {
    /// Ends the test, showing all, unless the exit code is this one.
    ///
    /// # Panics
    /// When it is another one.
    pub fn expect_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{}\n{:#}", self.stderr, self.json);
    }

    /// How many runs of a stage were `done`, `skipped` or `failed`.
    pub fn count(&self, stage: &str, how: &str) -> u64 {
        self.json["stages"][stage][how].as_u64().unwrap_or(0)
    }

    /// The texts that a cycle gives of a stage and subject, in `done`, `skipped` or `failed`.
    pub fn texts(&self, how: &str, stage: &str, subject: &str) -> Vec<String> {
        rows(&self.json[how])
            .iter()
            .filter(|entry| entry["stage"] == stage && text(&entry["subject"]).starts_with(subject))
            .map(|entry| text(&entry["text"]).to_owned())
            .collect()
    }

    /// The only text of a failed stage and subject.
    ///
    /// # Panics
    /// When there is none, or more than one.
    pub fn failure(&self, stage: &str, subject: &str) -> String {
        let texts = self.texts("failed", stage, subject);
        assert_eq!(texts.len(), 1, "{}\n{:#}", self.stderr, self.json);
        texts.into_iter().next().unwrap()
    }

    /// An image's row at its newest build.
    ///
    /// # Panics
    /// When there is none.
    pub fn image(&self, name: &str, stream: &str) -> &Value {
        let mut found = rows(&self.json["images"]).iter().filter(|row| row["name"] == name && row["stream"] == stream);
        found.next().unwrap_or_else(|| panic!("no image {name}:{stream}: {}\n{:#}", self.stderr, self.json))
    }
}

/// A JSON array's elements; none for anything else.
pub fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A JSON string.
///
/// # Panics
/// When it is something else.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

/// A JSON array of strings.
pub fn texts(value: &Value) -> Vec<&str> {
    rows(value).iter().map(text).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The source archive of a version of a source package of the fixture.
pub fn source_archive(name: &str, version: &str) -> Vec<u8> {
    let root = format!("{name}-{version}");
    let folder = fixtures().join("sources").join(&root);
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    tarball(&root, SOURCE_TIME, &files)
}

/// Copies a folder with `cp -a`, which keeps links, modes and times.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "copy `{}` to `{}`", from.display(), to.display());
}

/// A folder's content as an archive: what tests share is kept in memory, because statics, and so
/// their temporary folders, are never dropped.
fn pack(folder: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(["-c", "."]).output().unwrap();
    assert!(output.status.success(), "pack `{}`", folder.display());
    output.stdout
}

fn unpack(archive: &[u8], folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut child = Command::new("tar").arg("-C").arg(folder).arg("-xp").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(child.wait().unwrap().success(), "unpack into `{}`", folder.display());
}
