//! A pack (gitformat-pack) of whole objects in a fixed order: the same objects give the same bytes,
//! which git's own writer does not promise.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use apk::HashingWriter;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::{Digest, Sha1};

use crate::error::{Error, Result};
use crate::git_source::listing::{Listing, Mode};
use crate::git_source::objects::{Kind, Objects};

/// A pack with its index.
pub(super) struct Pack {
    /// `pack-HEX`, without ending.
    pub(super) name: String,
    pub(super) pack: PathBuf,
    pub(super) index: PathBuf,
    /// Commits whose parents are left out, in the order of their ids.
    pub(super) shallow: Vec<String>,
}

/// Packs a listing's commits and tags, and the trees and files of the newest commit. `folder` must
/// be empty.
pub(super) fn write(listing: &Listing, folder: &Path) -> Result<Pack> {
    let ids = objects(listing);
    let pack = folder.join("all.pack");
    let file = File::create_new(&pack).map_err(Error::io("create", &pack))?;
    let mut out = HashingWriter::<_, Sha1>::new(BufWriter::new(file));
    let mut head = b"PACK\0\0\0\x02".to_vec();
    head.extend(u32::try_from(ids.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.write_all(&head).map_err(Error::io("write", &pack))?;
    let mut reader = Objects::open(&listing.repository)?;
    let kept: BTreeSet<&str> = listing.history.iter().map(String::as_str).collect();
    let mut shallow = BTreeSet::new();
    for id in &ids {
        let parents = reader.read(id, |kind, size, content| {
            out.write_all(&object_head(kind, size))?;
            let mut packed = ZlibEncoder::new(&mut out, Compression::fast());
            let mut parents = Vec::new();
            if kind == Kind::Commit {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                parents = parents_of(&bytes);
                packed.write_all(&bytes)?;
            } else {
                std::io::copy(content, &mut packed)?;
            }
            packed.finish()?;
            Ok(parents)
        })?;
        if parents.iter().any(|parent| !kept.contains(parent.as_str())) {
            shallow.insert((*id).to_owned());
        }
    }
    let (mut out, hash, _) = out.finish();
    let digest = hash.finalize();
    out.write_all(&digest).and_then(|()| out.flush()).map_err(Error::io("write", &pack))?;
    let index = folder.join("all.idx");
    index_pack(listing, &pack, &index)?;
    Ok(Pack { name: format!("pack-{}", hex::encode(digest)), pack, index, shallow: shallow.into_iter().collect() })
}

/// Ids without repeats: commits, tag objects, trees, files.
fn objects(listing: &Listing) -> Vec<&str> {
    let tags = listing.tags.iter().filter(|tag| tag.object != tag.commit).map(|tag| tag.object.as_str());
    let of = |wanted: fn(Mode) -> bool| {
        let entries = listing.entries.iter().filter(move |entry| wanted(entry.mode));
        entries.filter(|entry| entry.taken || entry.mode == Mode::Folder).map(|entry| entry.id.as_str())
    };
    let all = listing.history.iter().map(String::as_str).chain(tags).chain([listing.root.as_str()]);
    let all = all.chain(of(|mode| mode == Mode::Folder));
    let all = all.chain(of(|mode| matches!(mode, Mode::File | Mode::Program | Mode::Link)));
    let mut seen = BTreeSet::new();
    all.filter(|id| seen.insert(*id)).collect()
}

/// Type and size as a pack writes them: four bits of the size, then seven a byte.
fn object_head(kind: Kind, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut byte = ((kind as u8) << 4) | (size & 0xf) as u8;
    let mut rest = size >> 4;
    while rest > 0 {
        bytes.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    bytes.push(byte);
    bytes
}

/// The parents that a commit names, whatever the repository has of them.
fn parents_of(commit: &[u8]) -> Vec<String> {
    let lines = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let parents = lines.filter_map(|line| line.strip_prefix(b"parent "));
    parents.map(|id| String::from_utf8_lossy(id).into_owned()).collect()
}

/// git makes the index, and by that reads every object again.
fn index_pack(listing: &Listing, pack: &Path, index: &Path) -> Result<()> {
    let fail = |reason: String| Error::Git { url: listing.repository.address.to_string(), reason };
    let mut command = listing.repository.command(&["index-pack", "--threads=1", "--index-version=2", "-o"]);
    let output = command.arg(index).arg(pack).output().map_err(|error| fail(format!("`git` can't be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(fail(format!("`git index-pack` failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_objects_are_those_of_the_format() {
        assert_eq!(object_head(Kind::Blob, 5), [0x35]);
        assert_eq!(object_head(Kind::Commit, 0x123), [0x93, 0x12]);
        assert_eq!(object_head(Kind::Tree, 16 + (128 << 4)), [0xa0, 0x81, 0x01]);
    }

    #[test]
    fn parents_are_read_from_the_head_alone() {
        let commit = b"tree 1\nparent aa\nparent bb\nauthor x\n\nparent cc\n";
        assert_eq!(parents_of(commit), ["aa", "bb"]);
    }
}
