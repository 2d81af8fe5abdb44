//! The tar of a job or an answer.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{JobArchiveError, Result};

/// The largest document, in bytes.
const DOCUMENT_BYTES: u64 = 64 << 20;

/// What an archive may hold.
pub(super) struct Limits {
    /// What the archive is called in errors.
    pub archive: &'static str,
    /// Members.
    pub entries: usize,
    /// Bytes of the whole.
    pub bytes: u64,
    /// It holds folders, long names, and links among a definition's own files; else plain files only.
    pub trees: bool,
}

pub(super) fn at<'p>(
    action: &'static str,
    path: impl std::fmt::Display + 'p,
) -> impl FnOnce(std::io::Error) -> JobArchiveError + 'p {
    move |source| JobArchiveError::File { action, path: path.to_string(), source }
}

pub(super) struct Writer<W: Write>(tar::Builder<W>);

impl<W: Write> Writer<W> {
    pub fn new(sink: W) -> Self {
        let mut tar = tar::Builder::new(sink);
        tar.mode(tar::HeaderMode::Deterministic);
        tar.follow_symlinks(false);
        tar.sparse(false);
        Self(tar)
    }

    pub fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, bytes).map_err(at("write", name))
    }

    pub fn document(&mut self, name: &str, document: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec(document).map_err(|error| at("write", name)(error.into()))?;
        self.bytes(name, &json)
    }

    pub fn file(&mut self, name: &Path, path: &Path) -> Result<()> {
        self.0.append_path_with_name(path, name).map_err(at("read", path.display()))
    }

    /// A folder with all that is in it, in the order of names.
    pub fn tree(&mut self, name: &Path, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder).map_err(at("read", folder.display()))?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<PathBuf>>>()
            .map_err(at("read", folder.display()))?;
        paths.sort();
        self.file(name, folder)?;
        for path in paths {
            let name = name.join(path.file_name().unwrap_or_default());
            if path.is_dir() && !path.is_symlink() {
                self.tree(&name, &path)?;
            } else {
                self.file(&name, &path)?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<()> {
        let mut sink = self.0.into_inner().map_err(at("write", "the archive"))?;
        sink.flush().map_err(at("write", "the archive"))
    }
}

/// A document that was unpacked.
pub(super) fn document<T: for<'d> Deserialize<'d>>(archive: &'static str, folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    let malformed = |problem: String| JobArchiveError::Malformed { archive, problem };
    if !path.is_file() {
        return Err(malformed(format!("it has no `{name}`")));
    }
    let size = path.metadata().map_err(at("read", name))?.len();
    if size > DOCUMENT_BYTES {
        return Err(malformed(format!("`{name}` has {size} bytes, more than {DOCUMENT_BYTES}")));
    }
    let bytes = std::fs::read(&path).map_err(at("read", name))?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(format!("`{name}`: {error}")))
}

/// Unpacks below `folder`, each member under a name of its own; the answer is the names of all files.
/// No member lies beyond a link, so that none leads out.
pub(super) fn unpack(limits: &Limits, source: impl Read, folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let malformed = |problem: String| JobArchiveError::Malformed { archive: limits.archive, problem };
    let broken = |error: std::io::Error| malformed(error.to_string());
    let mut tar = tar::Archive::new(source.take(limits.bytes));
    let (mut seen, mut files, mut links) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::<PathBuf>::new());
    // Members that say more of the next one are of any size and are read into memory: the raw reading
    // hands them out instead, and they are refused below.
    for entry in tar.entries().map_err(broken)?.raw(!limits.trees) {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let shown = name.display().to_string().escape_debug().to_string();
        let is_proper = name.components().all(|component| matches!(component, Component::Normal(_)));
        if !is_proper || name.as_os_str().is_empty() || name.ancestors().skip(1).any(|above| links.contains(above)) {
            return Err(malformed(format!("entry `{shown}` leads out of it")));
        }
        if !seen.insert(name.clone()) {
            return Err(malformed(format!("entry `{shown}` comes twice")));
        }
        if seen.len() > limits.entries {
            return Err(malformed(format!("it has more than {} entries", limits.entries)));
        }
        let target = folder.join(&name);
        if let Some(above) = target.parent() {
            std::fs::create_dir_all(above).map_err(at("make", above.display()))?;
        }
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let mut file = File::create_new(&target).map_err(at("write", target.display()))?;
                let (size, copied) = (entry.size(), std::io::copy(&mut entry, &mut file).map_err(broken)?);
                if copied != size {
                    return Err(malformed(format!("it ends in `{shown}`, after {copied} of {size} bytes")));
                }
                let is_executable = entry.header().mode().map_err(broken)? & 0o111 != 0;
                let mode = if is_executable { 0o755 } else { 0o644 };
                file.set_permissions(Permissions::from_mode(mode)).map_err(at("write", target.display()))?;
                files.insert(name);
            }
            tar::EntryType::Directory if limits.trees => {
                std::fs::create_dir_all(&target).map_err(at("make", target.display()))?;
            }
            // What is opened by name here is never a link.
            tar::EntryType::Symlink if limits.trees && (name.starts_with("files") || name.starts_with("bootstrap")) => {
                let link = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                std::os::unix::fs::symlink(link, &target).map_err(at("write", target.display()))?;
                links.insert(name);
            }
            other => return Err(malformed(format!("entry `{shown}` is of kind {other:?}"))),
        }
    }
    Ok(files)
}
