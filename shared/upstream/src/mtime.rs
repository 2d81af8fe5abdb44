//! The newest time inside a source archive, from which `SOURCE_DATE_EPOCH` is taken.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use crate::error::{Error, Result};

const LONGEST_CONTENT: u64 = 16 * 1024 * 1024 * 1024;
const MOST_ENTRIES: u64 = 2_000_000;
const MOST_MEMORY: u64 = 256 * 1024 * 1024;

/// Newest modification time among the entries of a tar archive, in seconds since 1970. The
/// compression (gzip, xz, bzip2, none) is told by the content.
///
/// # Errors
/// [`Error::Archive`] when the file isn't such an archive, is damaged, holds no entry, or passes
/// 16 GiB of content or 2,000,000 entries.
pub fn source_date_epoch(path: &Path) -> Result<i64> {
    let refuse = |reason: String| Error::Archive { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut magic = [0; 6];
    let mut known = 0;
    while known < magic.len() {
        let rest = magic.get_mut(known..).unwrap_or_default();
        match file.read(rest).map_err(Error::io("read", path))? {
            0 => break,
            count => known += count,
        }
    }
    file.rewind().map_err(Error::io("read", path))?;
    let file = BufReader::with_capacity(256 * 1024, file);
    let reader: Box<dyn Read> = if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else if magic == [0xfd, b'7', b'z', b'X', b'Z', 0] {
        let stream = liblzma::stream::Stream::new_stream_decoder(MOST_MEMORY, liblzma::stream::CONCATENATED)
            .map_err(|error| refuse(error.to_string()))?;
        Box::new(liblzma::read::XzDecoder::new_stream(file, stream))
    } else if magic.starts_with(b"BZh") {
        Box::new(bzip2::read::MultiBzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut archive = tar::Archive::new(reader.take(LONGEST_CONTENT));
    let mut newest = None;
    let mut count = 0;
    for entry in archive.entries().map_err(|error| refuse(error.to_string()))? {
        let entry = entry.map_err(|error| refuse(error.to_string()))?;
        count += 1;
        if count > MOST_ENTRIES {
            return Err(refuse(format!("more than {MOST_ENTRIES} entries")));
        }
        let time = entry.header().mtime().map_err(|error| refuse(error.to_string()))?;
        let time = i64::try_from(time).map_err(|_| refuse("an entry's time is too large".to_owned()))?;
        newest = newest.max(Some(time));
    }
    if archive.into_inner().limit() == 0 {
        return Err(refuse(format!("more than {LONGEST_CONTENT} bytes of content")));
    }
    newest.ok_or_else(|| refuse("it holds no entry".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tarball(times: &[u64]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (number, time) in times.iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            header.set_mtime(*time);
            builder.append_data(&mut header, format!("a/{number}"), &b"abc"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn epoch(bytes: &[u8]) -> Result<i64> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        source_date_epoch(file.path())
    }

    #[test]
    fn the_newest_entry_counts_under_every_compression() {
        let plain = tarball(&[5, 1_700_000_000, 12]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip.write_all(&plain).unwrap();
        for bytes in [plain, gzip.finish().unwrap(), xz.finish().unwrap(), bzip.finish().unwrap()] {
            assert_eq!(epoch(&bytes).unwrap(), 1_700_000_000);
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let whole = tarball(&[1]);
        for bytes in [&b""[..], b"plain text that is no archive", &whole[..700]] {
            assert!(epoch(bytes).is_err());
        }
    }
}
