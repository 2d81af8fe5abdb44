use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use oci_spec::image::MediaType;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType, Header, PaxExtensions};

use super::layout::LayoutReader;
use super::root::{Member, MemberKind, Root};
use crate::Error;
use crate::compose::ComposedLayer;
use crate::digest::sha256_text;
use crate::sink::BlobSink;

/// Entries of all layers of an image.
const ENTRIES: u64 = 1_000_000;
/// Bytes of all layers of an image once decompressed.
const BYTES: u64 = 16 << 30;
/// Bytes of one extended header.
const EXTENSION_BYTES: u64 = 1 << 20;
/// Bytes of a path or link target.
const PATH_BYTES: usize = 4096;

/// What was read of an image's layers so far.
#[derive(Default)]
pub(super) struct Counted {
    entries: u64,
    bytes: u64,
}

/// Copies a layer to the sink as it is and adds its files to `root`. Digest, size and the digest of the
/// uncompressed layer are checked before the copy counts.
pub(super) fn copy(
    layout: &LayoutReader,
    layer: &ComposedLayer,
    root: &mut Root,
    sink: &mut dyn BlobSink,
) -> Result<(), Error> {
    let expected = layer.descriptor.digest().to_string();
    let size = layer.descriptor.size();
    let source = layout.blob(&layer.descriptor)?;
    let blob = sink.begin().map_err(Error::write("layer"))?;
    // One byte more than it should have tells that there is more.
    let mut raw = Passing { source: source.take(size.saturating_add(1)), sha256: Sha256::new(), size: 0, copy: blob };
    let reading = Reading { layout, layer: &expected };
    let diff_id = match layer.descriptor.media_type() {
        MediaType::ImageLayerGzip => reading.list(MultiGzDecoder::new(&mut raw), root)?,
        MediaType::ImageLayerZstd => {
            // It refuses frames that want more memory than 128 MiB for their window.
            let decoder = zstd::Decoder::new(&mut raw).map_err(|error| reading.wrong("", error))?;
            reading.list(decoder, root)?
        }
        _ => reading.list(&mut raw, root)?,
    };
    io::copy(&mut raw, &mut io::sink()).map_err(|error| reading.wrong("", error))?;
    let found = sha256_text(raw.sha256);
    if found != expected || raw.size != size {
        return Err(layout.mismatch("layer", &expected, format!("{found} in {} bytes of {size}", raw.size)));
    }
    if diff_id != layer.diff_id {
        return Err(layout.mismatch("uncompressed layer", &layer.diff_id, diff_id));
    }
    raw.copy.commit(&expected, size).map_err(Error::write("layer"))
}

struct Reading<'r> {
    layout: &'r LayoutReader,
    layer: &'r str,
}

impl Reading<'_> {
    fn wrong(&self, path: &str, problem: impl ToString) -> Error {
        Error::BaseLayer {
            layout: self.layout.shown().to_owned(),
            layer: self.layer.to_owned(),
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// Adds the files of an uncompressed layer, and gives its digest.
    fn list(&self, archive: impl Read, root: &mut Root) -> Result<String, Error> {
        let limit = BYTES.saturating_sub(root.read.bytes);
        let mut archive = Passing { source: archive.take(limit + 1), sha256: Sha256::new(), size: 0, copy: io::sink() };
        self.entries(&mut archive, root)?;
        io::copy(&mut archive, &mut io::sink()).map_err(|error| self.wrong("", error))?;
        if archive.size > limit {
            return Err(self.wrong("", format!("the layers have more than {BYTES} bytes")));
        }
        root.read.bytes += archive.size;
        Ok(sha256_text(archive.sha256))
    }

    fn entries(&self, archive: impl Read, root: &mut Root) -> Result<(), Error> {
        root.begin_layer();
        let mut archive = Archive::new(archive);
        let mut extension = Extension::default();
        for entry in archive.entries().map_err(|error| self.wrong("", error))?.raw(true) {
            let mut entry = entry.map_err(|error| self.wrong("", error))?;
            root.read.entries += 1;
            if root.read.entries > ENTRIES {
                return Err(self.wrong("", format!("the layers have more than {ENTRIES} entries")));
            }
            let header = entry.header().clone();
            match header.entry_type() {
                // Comments of the archive as a whole.
                EntryType::XGlobalHeader => {}
                EntryType::XHeader => {
                    let records = bounded(&mut entry).map_err(|error| self.wrong("", error))?;
                    extension.pax(&records).map_err(|problem| self.wrong("", problem))?;
                }
                EntryType::GNULongName => {
                    extension.path = Some(bounded(&mut entry).map_err(|error| self.wrong("", error))?);
                }
                EntryType::GNULongLink => {
                    extension.link = Some(bounded(&mut entry).map_err(|error| self.wrong("", error))?);
                }
                kind => {
                    let extension = std::mem::take(&mut extension);
                    let raw = extension.path.clone().unwrap_or_else(|| header.path_bytes().into_owned());
                    let shown = String::from_utf8_lossy(&raw).escape_debug().to_string();
                    let member =
                        member(&header, kind, &raw, extension).map_err(|problem| self.wrong(&shown, problem))?;
                    root.add(member, &mut entry).map_err(|problem| self.wrong(&shown, problem))?;
                }
            }
        }
        Ok(())
    }
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Extension {
    fn pax(&mut self, records: &[u8]) -> Result<(), String> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|error| error.to_string())?;
            let key = record.key().map_err(|_| "a pax record whose key is not UTF-8".to_owned())?;
            let number = || {
                let text = record.value().ok().and_then(|value| value.split('.').next());
                text.and_then(|text| text.parse::<u64>().ok())
                    .ok_or_else(|| format!("its pax record `{}` is no number of 0 or more", key.escape_debug()))
            };
            match key {
                "path" => self.path = Some(record.value_bytes().to_vec()),
                "linkpath" => self.link = Some(record.value_bytes().to_vec()),
                "size" => self.size = Some(number()?),
                "uid" => self.uid = Some(number()?),
                "gid" => self.gid = Some(number()?),
                "mtime" => self.mtime = Some(number()?),
                _ if key.starts_with("GNU.sparse.") => return Err("sparse files are not supported".to_owned()),
                _ => {
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        self.xattrs.push((name.to_owned(), record.value_bytes().to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn bounded(entry: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(EXTENSION_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > EXTENSION_BYTES {
        return Err(io::Error::other(format!("an extended header of more than {EXTENSION_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Checks what an entry says of itself. Where readers of tar understand one archive differently, it is
/// refused: what is listed here must be what a runtime unpacks.
fn member(header: &Header, kind: EntryType, raw: &[u8], extension: Extension) -> Result<Member, String> {
    let told = |error: io::Error| error.to_string();
    let size = header.entry_size().map_err(told)?;
    if extension.size.is_some_and(|stated| stated != size) {
        return Err("its pax record `size` differs from its header".to_owned());
    }
    let link = || -> Result<String, String> {
        let bytes = extension.link.clone().or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let target = text(&bytes.unwrap_or_default())?;
        if target.is_empty() { Err("its link target is empty".to_owned()) } else { Ok(target) }
    };
    let written = text(raw)?;
    let path = inside(&written)?;
    let kind = match kind {
        // Archives from before ustar mark directories by the slash alone.
        EntryType::Regular if written.ends_with('/') => MemberKind::Directory,
        EntryType::Regular | EntryType::Continuous => MemberKind::Regular(size),
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink => MemberKind::Symlink(link()?),
        EntryType::Link => MemberKind::Hardlink(inside(&link()?)?),
        EntryType::Char | EntryType::Block => {
            let number = |number: io::Result<Option<u32>>| number.map_err(told).map(Option::unwrap_or_default);
            MemberKind::Device(number(header.device_major())?, number(header.device_minor())?)
        }
        EntryType::Fifo => MemberKind::Device(0, 0),
        EntryType::GNUSparse => return Err("sparse files are not supported".to_owned()),
        other => {
            return Err(format!("entries of type `{}` are not known", char::from(other.as_byte()).escape_default()));
        }
    };
    if size != 0 && !matches!(kind, MemberKind::Regular(_)) {
        return Err("it is no file and has content".to_owned());
    }
    let id = |stated: Option<u64>, header: io::Result<u64>| -> Result<u32, String> {
        let id = stated.map_or_else(|| header.map_err(told), Ok)?;
        u32::try_from(id).map_err(|_| "its owner is not a 32-bit number".to_owned())
    };
    Ok(Member {
        path,
        kind,
        mode: header.mode().map_err(told)? & 0o7777,
        uid: id(extension.uid, header.uid())?,
        gid: id(extension.gid, header.gid())?,
        mtime: extension.mtime.map_or_else(|| header.mtime().map_err(told), Ok)?,
        xattrs: extension.xattrs,
    })
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.len() > PATH_BYTES {
        return Err(format!("a path of more than {PATH_BYTES} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "a path that is not UTF-8".to_owned())?;
    if text.contains('\0') { Err("a path with a zero byte".to_owned()) } else { Ok(text.to_owned()) }
}

/// The path without `.` and slashes at its ends; one that climbs is refused.
fn inside(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("its path has `..`, which would escape the root".to_owned());
    }
    Ok(parts.join("/"))
}

/// Counts, hashes and copies what is read through it.
struct Passing<R, W> {
    source: R,
    sha256: Sha256,
    size: u64,
    copy: W,
}

impl<R: Read, W: Write> Read for Passing<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        let bytes = into.get(..count).unwrap_or_default();
        self.copy.write_all(bytes)?;
        self.sha256.update(bytes);
        self.size += count as u64;
        Ok(count)
    }
}
