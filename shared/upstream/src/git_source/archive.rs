//! The tar of a checkout: its files, those of its submodules, and the `.git` folder.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use apk::HashingWriter;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::git_source::listing::{Entry, Listing, Mode};
use crate::git_source::objects::Objects;
use crate::git_source::submodules::Module;
use crate::git_source::{GitCheckout, GitReference, pack};
use crate::store::{self, BlobStore};

const LONGEST_LINK: u64 = 4096;

/// An archive in the store.
pub(super) struct Archive {
    pub(super) sha256: String,
    pub(super) size: u64,
}

/// Writes the archive of a tree with its submodules into `blobs`.
pub(super) fn write(
    checkout: &GitCheckout,
    top: &Listing,
    modules: &[Module],
    scratch: &Path,
    blobs: &BlobStore,
) -> Result<Archive> {
    let file = store::temporary_in(blobs.folder())?;
    let out = HashingWriter::<_, Sha256>::new(BufWriter::with_capacity(256 * 1024, file));
    let newest = modules.iter().map(|module| module.listing.time).chain([top.time]).max().unwrap_or(0);
    let mut writer = Writer { tar: tar::Builder::new(out), time: newest, left: top.repository.bounds.largest_tree };
    writer.files(top, "")?;
    for module in modules {
        writer.files(&module.listing, &format!("{}/", module.path))?;
        let up = "../".repeat(module.path.split('/').count());
        writer
            .bytes(&format!("{}/.git", module.path), format!("gitdir: {up}.git/{}\n", module.git_folder).as_bytes())?;
    }
    let branch = match &checkout.reference {
        GitReference::Branch(branch) | GitReference::BranchTip(branch) => Some(branch.as_str()),
        GitReference::Tag(_) | GitReference::Any => None,
    };
    let of = |parent| modules.iter().filter(move |module| module.parent == parent);
    writer.git_folder(top, branch, None, of(None), ".git", &scratch.join("pack"))?;
    for (index, module) in modules.iter().enumerate() {
        let folder = format!(".git/{}", module.git_folder);
        let work_tree = format!("{}{}", "../".repeat(folder.split('/').count()), module.path);
        let scratch = scratch.join(format!("pack-{index}"));
        writer.git_folder(&module.listing, None, Some(&work_tree), of(Some(index)), &folder, &scratch)?;
    }
    let out = writer.tar.into_inner().map_err(Error::io("write", "an archive of the source"))?;
    let (out, hash, size) = out.finish();
    let file = out.into_inner().map_err(|error| Error::io("write", blobs.folder())(error.into_error()))?;
    let sha256 = hex::encode(hash.finalize());
    store::keep(file, &blobs.path(&sha256))?;
    Ok(Archive { sha256, size })
}

struct Writer<W: Write> {
    tar: tar::Builder<W>,
    /// Time of every entry, in seconds since 1970.
    time: u64,
    /// Bytes that may still follow.
    left: u64,
}

impl<W: Write> Writer<W> {
    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    /// The files and links of a tree, in its order.
    fn files(&mut self, listing: &Listing, prefix: &str) -> Result<()> {
        let mut reader = Objects::open(&listing.repository)?;
        for entry in listing.entries.iter().filter(|entry| entry.taken) {
            let mut path = prefix.as_bytes().to_vec();
            path.extend_from_slice(&entry.path);
            let path = Path::new(std::ffi::OsStr::from_bytes(&path));
            match entry.mode {
                Mode::Folder => {}
                // Empty unless its own files follow.
                Mode::Module => self.folder(path)?,
                Mode::File | Mode::Program | Mode::Link => self.file(&mut reader, listing, entry, path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, reader: &mut Objects, listing: &Listing, entry: &Entry, path: &Path) -> Result<()> {
        let mut fits = true;
        reader.read(&entry.id, |_, size, content| {
            fits = size <= self.left;
            if !fits {
                return Ok(());
            }
            self.left -= size;
            if entry.mode == Mode::Link {
                let mut target = Vec::new();
                content.take(LONGEST_LINK).read_to_end(&mut target)?;
                let mut header = self.header(tar::EntryType::Symlink, 0o777, 0);
                return self.tar.append_link(&mut header, path, Path::new(std::ffi::OsStr::from_bytes(&target)));
            }
            let mode = if entry.mode == Mode::Program { 0o755 } else { 0o644 };
            let mut header = self.header(tar::EntryType::Regular, mode, size);
            self.tar.append_data(&mut header, path, content)
        })?;
        if fits {
            return Ok(());
        }
        Err(Error::TooLarge {
            url: listing.repository.address.to_string(),
            limit: listing.repository.bounds.largest_tree,
        })
    }

    fn folder(&mut self, path: &Path) -> Result<()> {
        let mut header = self.header(tar::EntryType::Directory, 0o755, 0);
        self.tar.append_data(&mut header, path, std::io::empty()).map_err(Error::io("write", path))
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut header = self.header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes).map_err(Error::io("write", path))
    }

    fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let file = File::open(from).map_err(Error::io("open", from))?;
        let size = file.metadata().map_err(Error::io("read", from))?.len();
        let mut header = self.header(tar::EntryType::Regular, 0o444, size);
        self.tar.append_data(&mut header, path, file.take(size)).map_err(Error::io("write", path))
    }

    /// A repository's own folder, all but the index, which builds make from the files.
    fn git_folder<'m>(
        &mut self,
        listing: &Listing,
        branch: Option<&str>,
        work_tree: Option<&str>,
        modules: impl Iterator<Item = &'m Module>,
        folder: &str,
        scratch: &Path,
    ) -> Result<()> {
        std::fs::create_dir(scratch).map_err(Error::io("create", scratch))?;
        let pack = pack::write(listing, scratch)?;
        for name in ["", "/objects", "/objects/info", "/objects/pack", "/refs", "/refs/heads", "/refs/tags"] {
            self.folder(Path::new(&format!("{folder}{name}")))?;
        }
        let head = branch.map_or(listing.head.clone(), |branch| format!("ref: refs/heads/{branch}"));
        self.bytes(&format!("{folder}/HEAD"), format!("{head}\n").as_bytes())?;
        self.bytes(&format!("{folder}/config"), config(listing, work_tree, modules).as_bytes())?;
        self.bytes(&format!("{folder}/packed-refs"), references(listing, branch).as_bytes())?;
        if !pack.shallow.is_empty() {
            let lines: String = pack.shallow.iter().map(|id| format!("{id}\n")).collect();
            self.bytes(&format!("{folder}/shallow"), lines.as_bytes())?;
        }
        if !listing.sparse_paths.is_empty() {
            self.bytes(&format!("{folder}/info/sparse-checkout"), cone(&listing.sparse_paths).as_bytes())?;
        }
        let packed = format!("{folder}/objects/pack/{}", pack.name);
        self.copy(&format!("{packed}.idx"), &pack.index)?;
        self.copy(&format!("{packed}.pack"), &pack.pack)?;
        if listing.is_partial() {
            self.bytes(&format!("{packed}.promisor"), b"")?;
        }
        Ok(())
    }
}

fn config<'m>(listing: &Listing, work_tree: Option<&str>, modules: impl Iterator<Item = &'m Module>) -> String {
    let partial = listing.is_partial();
    let mut text = format!(
        "[core]\n\trepositoryformatversion = {}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n",
        u8::from(partial)
    );
    if let Some(path) = work_tree {
        text.push_str(&format!("\tworktree = \"{path}\"\n"));
    }
    if !listing.sparse_paths.is_empty() {
        text.push_str("\tsparseCheckout = true\n\tsparseCheckoutCone = true\n");
    }
    let url = listing.repository.address.as_str();
    text.push_str(&format!("[remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"));
    if partial {
        text.push_str("\tpromisor = true\n\tpartialclonefilter = tree:0\n[extensions]\n\tpartialClone = origin\n");
    }
    text.push_str(
        "[user]\n\tname = Minimill\n\temail = build@minimill.invalid\n[advice]\n\tdetachedHead = false\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n",
    );
    for module in modules {
        let url = module.listing.repository.address.as_str();
        text.push_str(&format!("[submodule \"{}\"]\n\tactive = true\n\turl = \"{url}\"\n", module.name));
    }
    text
}

/// `packed-refs`, sorted by name: branch, the server's branch, tags.
fn references(listing: &Listing, branch: Option<&str>) -> String {
    let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    if let Some(branch) = branch {
        let head = &listing.head;
        text.push_str(&format!("{head} refs/heads/{branch}\n{head} refs/remotes/origin/{branch}\n"));
    }
    for tag in &listing.tags {
        text.push_str(&format!("{} {}\n", tag.object, tag.name));
        if tag.object != tag.commit {
            text.push_str(&format!("^{}\n", tag.commit));
        }
    }
    text
}

/// The patterns that `git sparse-checkout set --cone` writes.
fn cone(paths: &[String]) -> String {
    let mut folders = std::collections::BTreeMap::new();
    for path in paths {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            folders.entry(path.get(..end).unwrap_or_default()).or_insert(false);
        }
        folders.insert(path, true);
    }
    let mut text = "/*\n!/*/\n".to_owned();
    for (folder, whole) in folders {
        text.push_str(&format!("/{folder}/\n"));
        if !whole {
            text.push_str(&format!("!/{folder}/*/\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cone_is_written_as_git_writes_it() {
        let text = cone(&["shared/lib/a".to_owned(), "/tool/".to_owned()]);
        assert_eq!(text, "/*\n!/*/\n/shared/\n!/shared/*/\n/shared/lib/\n!/shared/lib/*/\n/shared/lib/a/\n/tool/\n");
    }
}
