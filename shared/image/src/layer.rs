use std::io::{self, Read, Write};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::Error;
use crate::install::Installation;
use crate::sink::BlobSink;
use crate::tree::{Content, Kind, Node};

const BLOCK: u64 = 512;
/// The largest number in an octal header field of 7 digits (uid, gid).
const OCTAL_7: u64 = 0o7_777_777;
/// The largest number in an octal header field of 11 digits (size).
const OCTAL_11: u64 = 0o77_777_777_777;

/// A layer that was written.
pub(crate) struct WrittenLayer {
    /// `sha256:HEX` of the compressed layer.
    pub digest: String,
    /// Bytes of the compressed layer.
    pub size: u64,
    /// `sha256:HEX` of the tar stream.
    pub diff_id: String,
}

/// Streams the tree into one gzip-compressed layer.
///
/// The order is fixed: all directories by path, the packages' files in the order of packages and of
/// their archives, composed files by path, symbolic links by path, hard links by path. So whoever
/// extracts it finds parents before children and files before links to them, and no file is
/// written through a link.
pub(crate) fn write_layer(installation: &mut Installation, sink: &mut dyn BlobSink) -> Result<WrittenLayer, Error> {
    let layer = || Error::write("layer");
    let blob = sink.begin().map_err(layer())?;
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Hashing::new(blob), Compression::new(6));
    let mut stream = TarStream::new(Hashing::new(gzip));
    write_tree(installation, &mut stream)?;
    let (gzip, diff_id, _) = stream.finish().map_err(layer())?.finish();
    let compressed: Hashing<_> = GzEncoder::finish(gzip).map_err(layer())?;
    let (blob, digest, size) = compressed.finish();
    blob.commit(&digest, size).map_err(layer())?;
    Ok(WrittenLayer { digest, size, diff_id })
}

fn write_tree(installation: &mut Installation, stream: &mut TarStream<impl Write>) -> Result<(), Error> {
    let Installation { tree, packages, .. } = installation;
    let at = |path: &str| Error::write(format!("`/{path}` to the layer"));
    for (path, node) in tree.iter() {
        if node.kind == Kind::Directory {
            stream.entry(path, node, EntryType::Directory, None).map_err(at(path))?;
        }
    }
    for (number, opened) in packages.iter_mut().enumerate() {
        let mut count = 0;
        let placed = &opened.placed;
        opened.package.visit::<Error>(|_, content| {
            let entry = count;
            count += 1;
            let Some(path) = placed.get(entry).and_then(Option::as_deref) else {
                return Ok(());
            };
            let Some(node) = tree.get(path) else {
                return Ok(());
            };
            match node.kind {
                Kind::File(Content::Package { package, entry: own, size }) if package == number && own == entry => {
                    stream.file(path, node, size, content).map_err(at(path))
                }
                _ => Ok(()),
            }
        })?;
    }
    for (path, node) in tree.iter() {
        if let Kind::File(Content::Bytes(bytes)) = &node.kind {
            let size = bytes.len() as u64;
            stream.file(path, node, size, &mut bytes.as_slice()).map_err(at(path))?;
        }
    }
    for (path, node) in tree.iter() {
        if let Kind::Symlink(target) = &node.kind {
            stream.entry(path, node, EntryType::Symlink, Some(target)).map_err(at(path))?;
        }
    }
    for (path, node) in tree.iter() {
        if let Kind::Hardlink(target) = &node.kind {
            stream.entry(path, node, EntryType::Link, Some(target)).map_err(at(path))?;
        }
    }
    Ok(())
}

/// A tar stream: ustar headers, preceded by pax headers where those can't say it. Nothing but what
/// is given gets into its bytes.
pub(crate) struct TarStream<W> {
    into: W,
}

impl<W: Write> TarStream<W> {
    pub fn new(into: W) -> Self {
        Self { into }
    }

    /// A regular file of exactly `size` bytes.
    pub fn file(&mut self, path: &str, node: &Node, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.header(path, node, EntryType::Regular, None, size)?;
        let copied = io::copy(&mut content.take(size), &mut self.into)?;
        if copied != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("expected {size} bytes, found {copied}")));
        }
        self.pad(size)
    }

    /// Anything without content.
    pub fn entry(&mut self, path: &str, node: &Node, kind: EntryType, target: Option<&str>) -> io::Result<()> {
        self.header(path, node, kind, target, 0)
    }

    /// Writes the end of the archive and returns the stream below.
    pub fn finish(mut self) -> io::Result<W> {
        self.into.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.into)
    }

    fn header(&mut self, path: &str, node: &Node, kind: EntryType, target: Option<&str>, size: u64) -> io::Result<()> {
        let path = if kind == EntryType::Directory { format!("{path}/") } else { path.to_owned() };
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        if !path.is_ascii() || header.set_path(&path).is_err() {
            record(&mut records, "path", path.as_bytes());
            let short: String = path.chars().filter(char::is_ascii).take(90).collect();
            header.set_path(short.trim_matches('/')).or_else(|_| header.set_path("long"))?;
        }
        if let Some(target) = target {
            if target.is_ascii() && target.len() < 100 {
                header.set_link_name_literal(target)?;
            } else {
                record(&mut records, "linkpath", target.as_bytes());
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
        io::copy(&mut io::repeat(0).take(padding), &mut self.into)?;
        Ok(())
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

/// Counts and hashes what passes through.
pub(crate) struct Hashing<W> {
    into: W,
    sha256: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    pub fn new(into: W) -> Self {
        Self { into, sha256: Sha256::new(), size: 0 }
    }

    /// The writer below, `sha256:HEX` and the bytes that passed.
    pub fn finish(self) -> (W, String, u64) {
        let digest = format!("sha256:{}", hex::encode(self.sha256.finalize()));
        (self.into, digest, self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.into.write(bytes)?;
        if let Some(written) = bytes.get(..count) {
            self.sha256.update(written);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
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
