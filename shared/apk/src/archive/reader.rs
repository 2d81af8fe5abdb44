//! Reading a tar stream that nobody vouches for: one pass, bounded, every field checked.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::member::gzip_error;
use crate::error::Member;
use crate::limits;
use crate::{Checksum, Error, Result};

const BLOCK: usize = 512;

/// What an entry of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file with its content.
    Regular,
    /// A symbolic link and its target, as written: it may be absolute or climb.
    Symlink(String),
    /// A second name for a regular file that came earlier in the same archive.
    Hardlink(String),
}

/// One entry of an archive, its path checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative, `/` between components, none of them empty, `.` or `..`; no slash at the end.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970-01-01 UTC.
    pub mtime: u64,
    /// Bytes of content; 0 for all but regular files.
    pub size: u64,
    /// The `APK-TOOLS.checksum.SHA1` record: of a regular file's content, or of a symbolic link's
    /// target.
    pub checksum: Option<Checksum>,
    /// `SCHILY.xattr.*` records: name and value.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    checksum: Option<Checksum>,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// A tar stream, entry by entry. After `next_entry` the reader yields that entry's content.
pub(crate) struct TarReader<'f, R> {
    source: R,
    file: &'f str,
    member: Member,
    limit: u64,
    read: u64,
    entries: u64,
    content_left: u64,
    padding: u64,
    ended: bool,
}

impl<'f, R: Read> TarReader<'f, R> {
    /// `limit` bounds the bytes of the whole stream.
    pub(crate) fn new(source: R, file: &'f str, member: Member, limit: u64) -> Self {
        Self { source, file, member, limit, read: 0, entries: 0, content_left: 0, padding: 0, ended: false }
    }

    /// The next entry, or `None` at the end. What is left of the previous content is passed over.
    pub(crate) fn next_entry(&mut self) -> Result<Option<FileEntry>> {
        let mut extended = Extended::default();
        let mut pending = false;
        loop {
            let Some(header) = self.next_header()? else {
                if pending {
                    return Err(self.damaged("an extended header is followed by no entry"));
                }
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > limits::ENTRIES {
                return Err(Error::limit(
                    self.file,
                    format_args!("the {} member in entries", self.member),
                    limits::ENTRIES,
                ));
            }
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension()?;
                    self.pax(&records, &mut extended)?;
                }
                EntryType::GNULongName => extended.path = Some(self.long_name()?),
                EntryType::GNULongLink => extended.link = Some(self.long_name()?),
                _ => match self.entry(&header, std::mem::take(&mut extended))? {
                    Some(entry) => return Ok(Some(entry)),
                    None => {
                        pending = false;
                        continue;
                    }
                },
            }
            pending = true;
        }
    }

    fn next_header(&mut self) -> Result<Option<Header>> {
        let skip = self.content_left + self.padding;
        self.content_left = 0;
        self.padding = 0;
        self.skip(skip)?;
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let count = self.fill(&mut block)?;
        if count == 0 {
            self.ended = true;
            return Ok(None);
        }
        if count < BLOCK {
            return Err(self.damaged("truncated tar stream: part of a header"));
        }
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            self.expect_zeros()?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(self.damaged("a tar header doesn't match its checksum"));
        }
        let size = match header.entry_type() {
            EntryType::Directory | EntryType::Symlink | EntryType::Link => 0,
            _ => header.entry_size().map_err(|error| self.damaged(error))?,
        };
        if size > self.limit {
            return Err(Error::limit(
                self.file,
                format_args!("an entry of the {} member in bytes", self.member),
                self.limit,
            ));
        }
        self.content_left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(Some(header))
    }

    fn entry(&self, header: &Header, extended: Extended) -> Result<Option<FileEntry>> {
        let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let directory = header.entry_type() == EntryType::Directory;
        let shown = String::from_utf8_lossy(&raw).escape_debug().to_string();
        let refuse = |problem: &str| self.refused(&shown, problem);
        let Some(path) = checked_path(&raw, directory).map_err(refuse)? else {
            return Ok(None);
        };
        let link = || -> Result<String> {
            let bytes = extended
                .link
                .clone()
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default();
            String::from_utf8(bytes).map_err(|_| refuse("its link target is not UTF-8"))
        };
        let kind = match header.entry_type() {
            EntryType::Directory => FileKind::Directory,
            EntryType::Regular | EntryType::Continuous => FileKind::Regular,
            EntryType::Symlink => {
                let target = link()?;
                if target.is_empty() || target.len() > limits::PATH_BYTES || target.contains('\0') {
                    return Err(refuse("its link target is empty, longer than 4096 bytes, or holds NUL"));
                }
                FileKind::Symlink(target)
            }
            EntryType::Link => match checked_path(link()?.as_bytes(), false).map_err(refuse)? {
                Some(target) => FileKind::Hardlink(target),
                None => return Err(refuse("its link target is empty")),
            },
            EntryType::Char | EntryType::Block => {
                return Err(refuse("device nodes are not allowed in a package"));
            }
            EntryType::Fifo => return Err(refuse("named pipes are not allowed in a package")),
            other => {
                let byte = char::from(other.as_byte()).escape_default().to_string();
                return Err(refuse(&format!("entries of type `{byte}` are not supported")));
            }
        };
        let number = |value: io::Result<u64>| value.map_err(|error| refuse(&error.to_string()));
        let id = |value: io::Result<u64>| -> Result<u32> {
            u32::try_from(number(value)?).map_err(|_| refuse("its owner is not a 32-bit number"))
        };
        Ok(Some(FileEntry {
            path,
            kind,
            mode: header.mode().map_err(|error| refuse(&error.to_string()))? & 0o7777,
            uid: id(header.uid())?,
            gid: id(header.gid())?,
            mtime: number(header.mtime())?,
            size: self.content_left,
            checksum: extended.checksum,
            xattrs: extended.xattrs,
        }))
    }

    /// Reads the content of an extended header.
    fn extension(&mut self) -> Result<Vec<u8>> {
        if self.content_left > limits::PAX_BYTES {
            return Err(Error::limit(
                self.file,
                format_args!("an extended header of the {} member in bytes", self.member),
                limits::PAX_BYTES,
            ));
        }
        self.content()
    }

    fn long_name(&mut self) -> Result<Vec<u8>> {
        let mut name = self.extension()?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// Reads the whole content of the current entry, which the caller has bounded.
    pub(crate) fn content(&mut self) -> Result<Vec<u8>> {
        let expected = self.content_left;
        let mut content = Vec::new();
        let (file, member) = (self.file, self.member);
        self.read_to_end(&mut content).map_err(|error| gzip_error(file, member, &error))?;
        if content.len() as u64 != expected {
            return Err(self.damaged("truncated tar stream: part of an entry"));
        }
        Ok(content)
    }

    /// Reads some of the content of the current entry; 0 bytes at its end.
    pub(crate) fn read_content(&mut self, into: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(into.len());
        let got = self.fill(into.get_mut(..want).unwrap_or_default())?;
        if got < want {
            return Err(self.damaged("truncated tar stream: part of an entry"));
        }
        self.content_left -= got as u64;
        Ok(got)
    }

    /// Applies the records `LENGTH KEY=VALUE\n` of a pax header. A value is binary.
    fn pax(&self, mut records: &[u8], extended: &mut Extended) -> Result<()> {
        let malformed = || self.damaged("malformed pax record");
        while !records.is_empty() {
            let space = records.iter().take(8).position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length: usize = records
                .get(..space)
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(malformed)?;
            let record =
                records.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(malformed)?;
            records = records.get(length..).ok_or_else(malformed)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let (key, value) = record.split_at(equals);
            let key = std::str::from_utf8(key).map_err(|_| malformed())?;
            let value = value.get(1..).ok_or_else(malformed)?;
            match key {
                "path" => extended.path = Some(value.to_vec()),
                "linkpath" => extended.link = Some(value.to_vec()),
                "APK-TOOLS.checksum.SHA1" => {
                    let text = std::str::from_utf8(value).map_err(|_| malformed())?;
                    extended.checksum = Some(Checksum::from_hex(text).map_err(|error| self.damaged(error))?);
                }
                "size" | "uid" | "gid" => {
                    return Err(self.damaged(format_args!(
                        "pax record `{key}`: numbers that don't fit a tar header are not supported"
                    )));
                }
                _ => {
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        extended.xattrs.push((name.to_owned(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing but zeros may follow the end of the archive.
    fn expect_zeros(&mut self) -> Result<()> {
        let mut block = [0; BLOCK];
        loop {
            let count = self.fill(&mut block)?;
            if count == 0 {
                return Ok(());
            }
            if block.iter().take(count).any(|byte| *byte != 0) {
                return Err(self.damaged("something follows the end of the tar stream"));
            }
        }
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        let mut buffer = [0; 8192];
        while count > 0 {
            let take = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
            let got = self.fill(buffer.get_mut(..take).unwrap_or_default())?;
            if got < take {
                return Err(self.damaged("truncated tar stream: part of an entry"));
            }
            count -= got as u64;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(gzip_error(self.file, self.member, &error)),
            }
        }
        self.count(filled)?;
        Ok(filled)
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.read += bytes as u64;
        if self.read > self.limit {
            return Err(Error::limit(
                self.file,
                format_args!("the decompressed {} member in bytes", self.member),
                self.limit,
            ));
        }
        Ok(())
    }

    fn damaged(&self, problem: impl std::fmt::Display) -> Error {
        Error::damaged(self.file, self.member, problem)
    }

    pub(crate) fn refused(&self, entry: &str, problem: &str) -> Error {
        Error::Entry {
            file: self.file.to_owned(),
            member: self.member,
            entry: entry.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

impl<R: Read> Read for TarReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(into.len());
        let Some(into) = into.get_mut(..want).filter(|into| !into.is_empty()) else {
            return Ok(0);
        };
        let count = self.source.read(into)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "truncated tar stream: part of an entry"));
        }
        self.count(count).map_err(io::Error::other)?;
        self.content_left -= count as u64;
        Ok(count)
    }
}

/// The path without a leading `./` or a directory's slash; `None` for the root directory itself.
pub(crate) fn checked_path(raw: &[u8], directory: bool) -> Result<Option<String>, &'static str> {
    let path = std::str::from_utf8(raw).map_err(|_| "its path is not UTF-8")?;
    if path.len() > limits::PATH_BYTES {
        return Err("its path is longer than 4096 bytes");
    }
    if path.contains('\0') {
        return Err("its path holds NUL");
    }
    if directory && matches!(path, "." | "./" | "/") {
        return Ok(None);
    }
    if path.starts_with('/') {
        return Err("its path is absolute");
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = if directory { path.strip_suffix('/').unwrap_or(path) } else { path };
    for component in path.split('/') {
        match component {
            "" => return Err("its path has an empty component"),
            "." => return Err("its path has a `.` component"),
            ".." => return Err("its path has a `..` component, which would escape the root"),
            _ if component.len() > limits::COMPONENT_BYTES => {
                return Err("its path has a component longer than 255 bytes");
            }
            _ => {}
        }
    }
    Ok(Some(path.to_owned()))
}
