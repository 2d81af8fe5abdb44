//! How two packages differ, for people.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use apk::{FileEntry, Package};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::{StageError, chain};

/// Differences that a summary lists.
const LISTED: usize = 50;
/// Bytes of diffoscope's report that are kept.
const MAXIMUM_REPORT: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(300);

/// How two packages of one name differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Members that differ, and in what; at most 50.
    pub members: Vec<String>,
    /// What diffoscope says, up to 64 KiB, or why it says nothing.
    pub diffoscope: String,
}

/// Explains a difference: by the members, and by diffoscope where it is installed.
pub(crate) async fn explain(work: &Path, first: &Path, second: &Path) -> Result<Explanation, StageError> {
    let (one, other) = (first.to_owned(), second.to_owned());
    let members = tokio::task::spawn_blocking(move || members(&one, &other)).await.map_err(ports::PortError::from)?;
    let members = members.map_err(|error| StageError::Rejected(chain(&error)))?;
    Ok(Explanation { members, diffoscope: diffoscope(work, first, second).await? })
}

/// The members that differ, bounded.
fn members(first: &Path, second: &Path) -> apk::Result<Vec<String>> {
    let (mut first, mut second) = (Package::open(first)?, Package::open(second)?);
    let mut found = Vec::new();
    if first.information() != second.information() {
        found.push("`.PKGINFO` differs".to_owned());
    }
    if first.control_file(".melange.yaml") != second.control_file(".melange.yaml") {
        found.push("`.melange.yaml` differs".to_owned());
    }
    if !first.scripts().eq(second.scripts()) {
        found.push("scripts differ".to_owned());
    }
    let (before, now) = (first.files()?, second.files()?);
    let by_path = |files: &[FileEntry]| -> BTreeMap<String, FileEntry> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (old, new) = (by_path(&before), by_path(&now));
    for (path, old) in &old {
        match new.get(path) {
            None => found.push(format!("`{path}` is in the first only")),
            Some(new) if new == old => {}
            Some(new) => found.push(format!("`{path}`: {}", changes(old, new))),
        }
    }
    found.extend(
        new.keys().filter(|path| !old.contains_key(*path)).map(|path| format!("`{path}` is in the second only")),
    );
    if found.is_empty() {
        found.push("the members are the same; their order or compression differs".to_owned());
    }
    let more = found.len().saturating_sub(LISTED);
    found.truncate(LISTED);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    Ok(found)
}

fn changes(old: &FileEntry, new: &FileEntry) -> String {
    let mut changes = Vec::new();
    if old.kind != new.kind {
        changes.push(format!("{:?} became {:?}", old.kind, new.kind));
    }
    if old.mode != new.mode {
        changes.push(format!("mode {:o} became {:o}", old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        changes.push(format!("owner {}:{} became {}:{}", old.uid, old.gid, new.uid, new.gid));
    }
    if old.mtime != new.mtime {
        changes.push(format!("time {} became {}", old.mtime, new.mtime));
    }
    if old.size != new.size {
        changes.push(format!("{} bytes became {}", old.size, new.size));
    } else if old.checksum != new.checksum {
        changes.push("content differs".to_owned());
    }
    if old.xattrs != new.xattrs {
        changes.push("extended attributes differ".to_owned());
    }
    changes.join(", ")
}

/// What diffoscope says. A package is a tar archive in several gzip members, and is given as that.
async fn diffoscope(work: &Path, first: &Path, second: &Path) -> Result<String, StageError> {
    let failed = |error: std::io::Error| StageError::environment("compare the packages")(&error);
    let folder = tempfile::Builder::new().prefix("difference-").tempdir_in(work).map_err(failed)?;
    let names = ["published.tar.gz", "repeated.tar.gz"].map(|name| folder.path().join(name));
    for (from, to) in [first, second].into_iter().zip(&names) {
        std::fs::copy(from, to).map_err(failed)?;
    }
    let report = folder.path().join("report");
    let mut command = tokio::process::Command::new("diffoscope");
    command
        .args(["--text", "-", "--no-progress", "--text-color", "never", "--max-text-report-size", "262144"])
        .args(&names)
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(File::create(&report).map_err(failed)?)
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok("diffoscope not installed (`apt-get install diffoscope-minimal`)".to_owned());
        }
        Err(error) => return Err(failed(error)),
    };
    let status = match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(status) => status.map_err(failed)?,
        Err(_) => return Ok(format!("diffoscope did not end within {} seconds", PATIENCE.as_secs())),
    };
    // 0: the same, 1: different.
    if !matches!(status.code(), Some(0 | 1)) {
        return Ok(format!("diffoscope failed: {status}"));
    }
    let mut text = Vec::new();
    let opened = tokio::fs::File::open(&report).await.map_err(failed)?;
    opened.take(MAXIMUM_REPORT).read_to_end(&mut text).await.map_err(failed)?;
    let folder = format!("{}/", folder.path().display());
    Ok(String::from_utf8_lossy(&text).replace(&folder, ""))
}
