//! Writing tar and gzip streams whose bytes depend on nothing but their input.

use std::io::{self, Read, Write};

use flate2::write::GzEncoder;
use flate2::{Compression, Crc, GzBuilder};
use tar::{EntryType, Header};

use super::reader::{FileEntry, FileKind};
use crate::{Error, Result};

const BLOCK: usize = 512;

/// A gzip encoder with no name, no time, and the operating system given as unknown.
pub(crate) fn gzip<W: Write>(into: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).operating_system(255).write(into, Compression::new(6))
}

/// A gzip member of at most 65,535 bytes as one stored block, whose form leaves no choice.
pub(crate) fn stored_gzip(content: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(content.len())
        .map_err(|_| Error::limit("gzip member", "a stored block in bytes", u16::MAX.into()))?;
    let mut crc = Crc::new();
    crc.update(content);
    let mut member = Vec::with_capacity(content.len() + 23);
    member.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1]);
    member.extend_from_slice(&length.to_le_bytes());
    member.extend_from_slice(&(!length).to_le_bytes());
    member.extend_from_slice(content);
    member.extend_from_slice(&crc.sum().to_le_bytes());
    member.extend_from_slice(&u32::from(length).to_le_bytes());
    Ok(member)
}

/// A tar stream: ustar headers, preceded by pax headers where those can't say it.
pub(crate) struct TarWriter<W> {
    into: W,
    mtime: u64,
    root: &'static str,
}

impl<W: Write> TarWriter<W> {
    /// Every entry gets the time `mtime`.
    pub(crate) fn new(into: W, mtime: u64) -> Self {
        Self { into, mtime, root: "root" }
    }

    /// Calls user 0 by another name than `root`.
    pub(crate) fn owned_by(mut self, root: &'static str) -> Self {
        self.root = root;
        self
    }

    /// A small root-owned file.
    pub(crate) fn control_file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let entry = FileEntry {
            path: name.to_owned(),
            kind: FileKind::Regular,
            mode,
            uid: 0,
            gid: 0,
            mtime: self.mtime,
            size: content.len() as u64,
            checksum: None,
            xattrs: Vec::new(),
        };
        self.entry(&entry, &mut &*content)
    }

    /// One entry; `content` must yield exactly `entry.size` bytes.
    pub(crate) fn entry(&mut self, entry: &FileEntry, content: &mut dyn Read) -> Result<()> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        let kind = match &entry.kind {
            FileKind::Directory => EntryType::Directory,
            FileKind::Regular => EntryType::Regular,
            FileKind::Symlink(_) => EntryType::Symlink,
            FileKind::Hardlink(_) => EntryType::Link,
        };
        if !entry.path.is_ascii() || header.set_path(&entry.path).is_err() {
            record(&mut records, "path", entry.path.as_bytes());
            let short: String = entry.path.chars().filter(char::is_ascii).take(99).collect();
            name_field(&mut header, short.trim_end_matches('/'));
        }
        if let FileKind::Symlink(target) | FileKind::Hardlink(target) = &entry.kind {
            if !target.is_ascii() || target.len() > 99 {
                record(&mut records, "linkpath", target.as_bytes());
            } else {
                header.set_link_name_literal(target).map_err(|error| Error::io(&entry.path, error))?;
            }
        }
        for (name, value) in &entry.xattrs {
            record(&mut records, &format!("SCHILY.xattr.{name}"), value);
        }
        if let Some(checksum) = entry.checksum {
            record(&mut records, "APK-TOOLS.checksum.SHA1", checksum.to_hex().as_bytes());
        }
        if !records.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            name_field(&mut extended, "PaxHeaders.0");
            self.header(&mut extended, records.len() as u64)?;
            self.content(&entry.path, &mut records.as_slice(), records.len() as u64)?;
        }
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        if entry.uid == 0 {
            header.set_username(self.root).map_err(|error| Error::io(&entry.path, error))?;
        }
        if entry.gid == 0 {
            header.set_groupname("root").map_err(|error| Error::io(&entry.path, error))?;
        }
        header.set_mtime(self.mtime);
        let size = if entry.kind == FileKind::Regular { entry.size } else { 0 };
        self.header(&mut header, size)?;
        self.content(&entry.path, content, size)
    }

    fn header(&mut self, header: &mut Header, size: u64) -> Result<()> {
        header.set_size(size);
        header.set_cksum();
        self.into.write_all(header.as_bytes()).map_err(|error| Error::io("archive", error))
    }

    fn content(&mut self, path: &str, content: &mut dyn Read, size: u64) -> Result<()> {
        let copied = io::copy(&mut content.take(size), &mut self.into).map_err(|error| Error::io(path, error))?;
        if copied != size {
            return Err(Error::Tree {
                path: path.to_owned(),
                problem: format!("it shrank from {size} to {copied} bytes while it was read"),
            });
        }
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        io::copy(&mut io::repeat(0).take(padding), &mut self.into).map_err(|error| Error::io("archive", error))?;
        Ok(())
    }

    /// Writes the two zero blocks that end an archive.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.into.write_all(&[0; 2 * BLOCK]).map_err(|error| Error::io("archive", error))
    }

    /// The stream below. A stream that isn't the last of its file ends without zero blocks.
    pub(crate) fn into_inner(self) -> W {
        self.into
    }
}

/// Appends the pax record `LENGTH KEY=VALUE\n`, whose length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn name_field(header: &mut Header, name: &str) {
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name = [0; 100];
        ustar.prefix = [0; 155];
        for (slot, byte) in ustar.name.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_their_own_digits() {
        for (value, prefix) in [
            (1, "9 a="),
            (89, "97 a="),
            (90, "98 a="),
            (91, "99 a="),
            (92, "101 a="),
            (980, "989 a="),
            (991, "1000 a="),
        ] {
            let mut records = Vec::new();
            record(&mut records, "a=", &vec![b'x'; value]);
            let text = String::from_utf8(records.clone()).unwrap();
            let length: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, records.len(), "value of {value} bytes, near {prefix}");
        }
    }
}
