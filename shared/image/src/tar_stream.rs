use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::tree::Node;

const BLOCK: u64 = 512;
const COPY_BYTES: usize = 128 << 10;
/// The largest number in an octal header field of 7 digits (uid, gid).
const OCTAL_7: u64 = 0o7_777_777;
/// The largest number in an octal header field of 11 digits (size).
const OCTAL_11: u64 = 0o77_777_777_777;

/// What an entry has instead of content.
enum Target<'a> {
    None,
    Link(&'a str),
    Device(u32, u32),
}

/// A tar stream: ustar headers, preceded by pax headers where those can't say it. Nothing but what
/// is given gets into its bytes.
pub(crate) struct TarStream<W> {
    into: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarStream<W> {
    pub fn new(into: W) -> Self {
        Self { into, buffer: vec![0; COPY_BYTES] }
    }

    /// A regular file of exactly `size` bytes.
    pub fn file(&mut self, path: &str, node: &Node, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.header(path, node, EntryType::Regular, Target::None, size)?;
        let copied = copy(&mut content.take(size), &mut self.into, &mut self.buffer)?;
        if copied != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("expected {size} bytes, found {copied}")));
        }
        self.pad(size)
    }

    /// Anything without content.
    pub fn entry(&mut self, path: &str, node: &Node, kind: EntryType, target: Option<&str>) -> io::Result<()> {
        self.header(path, node, kind, target.map_or(Target::None, Target::Link), 0)
    }

    /// A character device.
    pub fn device(&mut self, path: &str, node: &Node, major: u32, minor: u32) -> io::Result<()> {
        self.header(path, node, EntryType::Char, Target::Device(major, minor), 0)
    }

    /// A regular file whose content is only named, for a digest of what a stream would hold.
    pub fn reference(&mut self, path: &str, node: &Node, size: u64, name: &str) -> io::Result<()> {
        self.header(path, node, EntryType::Regular, Target::None, size)?;
        self.into.write_all(name.as_bytes())
    }

    /// Writes the end of the archive and returns the stream below.
    pub fn finish(mut self) -> io::Result<W> {
        self.into.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.into)
    }

    fn header(&mut self, path: &str, node: &Node, kind: EntryType, target: Target<'_>, size: u64) -> io::Result<()> {
        let path = if kind == EntryType::Directory { format!("{path}/") } else { path.to_owned() };
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        if !path.is_ascii() || header.set_path(&path).is_err() {
            record(&mut records, "path", path.as_bytes());
            let short: String = path.chars().filter(char::is_ascii).take(90).collect();
            header.set_path(short.trim_matches('/')).or_else(|_| header.set_path("long"))?;
        }
        match target {
            Target::None => {}
            Target::Link(target) if target.is_ascii() && target.len() < 100 => header.set_link_name_literal(target)?,
            Target::Link(target) => record(&mut records, "linkpath", target.as_bytes()),
            Target::Device(major, minor) => {
                header.set_device_major(major)?;
                header.set_device_minor(minor)?;
            }
        }
        for (key, value, largest) in [
            ("uid", u64::from(node.uid), OCTAL_7),
            ("gid", u64::from(node.gid), OCTAL_7),
            ("size", size, OCTAL_11),
            ("mtime", node.mtime, OCTAL_11),
        ] {
            if value > largest {
                record(&mut records, key, value.to_string().as_bytes());
            }
        }
        for (name, value) in &node.xattrs {
            record(&mut records, &format!("SCHILY.xattr.{name}"), value);
        }
        if !records.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_path("PaxHeaders.0")?;
            extended.set_mode(0o644);
            let length = records.len() as u64;
            self.raw(&mut extended, length)?;
            self.into.write_all(&records)?;
            self.pad(length)?;
        }
        header.set_entry_type(kind);
        header.set_mode(node.mode & 0o7777);
        header.set_uid(bounded(node.uid.into(), OCTAL_7));
        header.set_gid(bounded(node.gid.into(), OCTAL_7));
        header.set_mtime(bounded(node.mtime, OCTAL_11));
        self.raw(&mut header, bounded(size, OCTAL_11))
    }

    fn raw(&mut self, header: &mut Header, size: u64) -> io::Result<()> {
        header.set_size(size);
        header.set_cksum();
        self.into.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        self.into.write_all([0; BLOCK as usize].get(..padding as usize).unwrap_or_default())
    }
}

fn copy(from: &mut impl Read, into: &mut impl Write, buffer: &mut [u8]) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let count = match from.read(buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        into.write_all(buffer.get(..count).unwrap_or_default())?;
        copied += count as u64;
    }
}

/// What the octal field says when a pax record says the rest.
fn bounded(value: u64, largest: u64) -> u64 {
    if value > largest { 0 } else { value }
}

/// Appends `LENGTH KEY=VALUE\n`, whose length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() != rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for length in [0, 1, 80, 90, 91, 92, 93, 985, 990, 991, 992, 993] {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'x'; length]);
            let text = String::from_utf8(records.clone()).unwrap();
            let stated: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, records.len(), "value of {length} bytes");
        }
    }
}
