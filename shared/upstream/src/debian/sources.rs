//! Source indexes (`Sources`): the stream of stanzas, and the compact form kept of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use debian_version::DebianVersion;

use crate::error::{Error, Result};
use crate::store::{self, is_sha256_hex, sha256_hex};

const LONGEST_INDEX: u64 = 1024 * 1024 * 1024;
const LONGEST_LINE: u64 = 4 * 1024 * 1024;
const LONGEST_COMPACT: u64 = 256 * 1024 * 1024;
const MOST_FILES: usize = 10_000;
const FORMAT: &str = "minimill-sources 1";

/// The main source archive of one source package at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceArchive {
    pub(super) version: String,
    /// Path of the file below the archive's base, `pool/...`.
    pub(super) path: String,
    pub(super) sha256: String,
    pub(super) size: u64,
}

/// The source packages of one component of one suite, in the compact form: one line for each
/// version, `name TAB version TAB path TAB sha256 TAB size`, sorted, between a first line that
/// names format and origin and a last one that holds the digest of all before it.
#[derive(Debug)]
pub(super) struct SourceIndex {
    text: String,
    /// Where each line starts.
    lines: Vec<u32>,
}

impl SourceIndex {
    /// Reads the compact form of the index whose `Sources` file has the digest `origin`. One that
    /// is damaged counts as absent.
    pub(super) fn load(path: &Path, origin: &str) -> Result<Option<Self>> {
        let Some(bytes) = store::read_bounded(path, LONGEST_COMPACT)? else {
            return Ok(None);
        };
        let index = String::from_utf8(bytes).ok().and_then(|text| Self::parse(text, origin));
        if index.is_none() {
            tracing::warn!(path = %path.display(), "stored source index is damaged; making it again");
        }
        Ok(index)
    }

    fn parse(mut text: String, origin: &str) -> Option<Self> {
        let end = text.trim_end_matches('\n').rfind('\n')? + 1;
        let digest = text.get(end..)?.trim_end_matches('\n');
        let rest = text.get(..end)?.strip_prefix(FORMAT)?.strip_prefix(' ')?;
        if !rest.strip_prefix(origin)?.starts_with('\n') || sha256_hex(text.get(..end)?.as_bytes()) != digest {
            return None;
        }
        text.truncate(end);
        let mut lines = Vec::new();
        let mut at = text.find('\n')? + 1;
        while at < text.len() {
            lines.push(u32::try_from(at).ok()?);
            at += text.get(at..)?.find('\n')? + 1;
        }
        Some(Self { text, lines })
    }

    /// Decompresses and parses the verified file at `sources`, whose name ends in `.xz`, `.gz` or
    /// nothing as `name` does, and writes the compact form to `compact`.
    pub(super) fn extract(url: &str, sources: &Path, origin: &str, compact: &Path) -> Result<Self> {
        let file = BufReader::with_capacity(256 * 1024, File::open(sources).map_err(Error::io("open", sources))?);
        let reader: Box<dyn Read> = if url.ends_with(".xz") {
            Box::new(liblzma::read::XzDecoder::new(file))
        } else if url.ends_with(".gz") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let packages = parse_stanzas(url, BufReader::with_capacity(256 * 1024, reader))?;
        let mut text = format!("{FORMAT} {origin}\n");
        for (name, archives) in &packages {
            for archive in archives {
                let SourceArchive { version, path, sha256, size } = archive;
                text.push_str(&format!("{name}\t{version}\t{path}\t{sha256}\t{size}\n"));
            }
        }
        let digest = sha256_hex(text.as_bytes());
        let folder = compact.parent().unwrap_or_else(|| Path::new("."));
        let mut output = store::temporary_in(folder)?;
        writeln!(output, "{text}{digest}").map_err(Error::io("write", compact))?;
        store::keep(output, compact)?;
        Self::parse(format!("{text}{digest}\n"), origin).ok_or_else(|| Error::Index {
            url: url.to_owned(),
            line: 1,
            reason: "too large to keep".to_owned(),
        })
    }

    /// Every version of the source package `name`.
    pub(super) fn find(&self, name: &str) -> Vec<SourceArchive> {
        let start = self.lines.partition_point(|at| self.name_at(*at) < name);
        let lines = self.lines.get(start..).unwrap_or_default();
        lines
            .iter()
            .take_while(|at| self.name_at(**at) == name)
            .filter_map(|at| {
                let mut words = self.line_at(*at).split('\t').skip(1);
                Some(SourceArchive {
                    version: words.next()?.to_owned(),
                    path: words.next()?.to_owned(),
                    sha256: words.next()?.to_owned(),
                    size: words.next()?.parse().ok()?,
                })
            })
            .collect()
    }

    fn line_at(&self, at: u32) -> &str {
        let rest = self.text.get(at as usize..).unwrap_or_default();
        rest.split('\n').next().unwrap_or_default()
    }

    fn name_at(&self, at: u32) -> &str {
        self.line_at(at).split('\t').next().unwrap_or_default()
    }
}

/// What is kept of the stanza being read.
#[derive(Default)]
struct Stanza {
    line: u64,
    package: Option<String>,
    version: Option<String>,
    directory: Option<String>,
    files: Vec<(String, u64, String)>,
}

fn parse_stanzas(url: &str, reader: impl BufRead) -> Result<BTreeMap<String, Vec<SourceArchive>>> {
    let fail = |line: u64, reason: String| Error::Index { url: url.to_owned(), line, reason };
    let mut reader = reader.take(LONGEST_INDEX);
    let mut packages: BTreeMap<String, Vec<SourceArchive>> = BTreeMap::new();
    let mut stanza = Stanza::default();
    let (mut line, mut number, mut in_digests) = (Vec::new(), 0_u64, false);
    loop {
        line.clear();
        number += 1;
        let read = (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| fail(number, error.to_string()))?;
        if read as u64 == LONGEST_LINE {
            return Err(fail(number, format!("line is longer than {LONGEST_LINE} bytes")));
        }
        let end = read == 0;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if text.is_empty() {
            if stanza.package.is_some() {
                let (at, done) = (stanza.line, std::mem::take(&mut stanza));
                if let Some((name, archive)) = done.archive().map_err(|why| fail(at, why))? {
                    packages.entry(name).or_default().push(archive);
                }
            }
            stanza = Stanza::default();
            in_digests = false;
            if end {
                break;
            }
            continue;
        }
        if text.starts_with(b" ") || text.starts_with(b"\t") {
            if in_digests {
                let file =
                    digest_line(text).ok_or_else(|| fail(number, "bad line in `Checksums-Sha256`".to_owned()))?;
                if stanza.files.len() >= MOST_FILES {
                    return Err(fail(number, format!("more than {MOST_FILES} files")));
                }
                stanza.files.push(file);
            }
            continue;
        }
        in_digests = false;
        let Some(colon) = text.iter().position(|byte| *byte == b':') else {
            return Err(fail(number, "line without a field".to_owned()));
        };
        let (name, value) = text.split_at(colon);
        let slot = match name {
            b"Package" => &mut stanza.package,
            b"Version" => &mut stanza.version,
            b"Directory" => &mut stanza.directory,
            b"Checksums-Sha256" => {
                in_digests = true;
                continue;
            }
            _ => continue,
        };
        if name == b"Package" {
            stanza.line = number;
        }
        let value = value.get(1..).map(std::str::from_utf8);
        match value {
            Some(Ok(value)) if slot.is_none() => *slot = Some(value.trim().to_owned()),
            _ => {
                let name = String::from_utf8_lossy(name);
                return Err(fail(number, format!("field `{name}` stands twice or is no text")));
            }
        }
    }
    if reader.limit() == 0 {
        return Err(Error::TooLarge { url: url.to_owned(), limit: LONGEST_INDEX });
    }
    for archives in packages.values_mut() {
        archives.sort_by(|left, right| left.version.cmp(&right.version));
        archives.dedup();
    }
    Ok(packages)
}

fn digest_line(line: &[u8]) -> Option<(String, u64, String)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (sha256, size, name) = (words.next()?, words.next()?, words.next()?);
    (words.next().is_none() && is_sha256_hex(sha256)).then_some((
        sha256.to_owned(),
        size.parse().ok()?,
        name.to_owned(),
    ))
}

impl Stanza {
    /// The package's main source archive, or `None` when it has none.
    fn archive(self) -> Result<Option<(String, SourceArchive)>, String> {
        let package = self.package.unwrap_or_default();
        let of = |what: &str| format!("package `{package}`: {what}");
        if !is_plain_name(&package) {
            return Err(of("the name is not one of a Debian package"));
        }
        let version = self.version.ok_or_else(|| of("no `Version`"))?;
        let parsed: DebianVersion = version.parse().map_err(|error| of(&format!("{error}")))?;
        let directory = self.directory.ok_or_else(|| of("no `Directory`"))?;
        if !directory.split('/').all(is_path_component) {
            return Err(of(&format!("the folder `{directory}` is not a path inside the archive")));
        }
        for (_, _, name) in &self.files {
            if !is_path_component(name) {
                return Err(of(&format!("the file name `{name}` is not a plain name")));
            }
        }
        let stem = format!("{package}_{}", parsed.upstream_part());
        let is_main = |name: &str| {
            let rest = name.strip_prefix(&stem)?;
            let rest = rest.strip_prefix(".orig").or_else(|| parsed.is_native().then_some(rest))?;
            matches!(rest, ".tar.gz" | ".tar.xz" | ".tar.bz2" | ".tar.lzma").then_some(())
        };
        let main = self.files.into_iter().find(|(_, _, name)| is_main(name).is_some());
        Ok(main.map(|(sha256, size, name)| {
            let path = format!("{directory}/{name}");
            (package, SourceArchive { version, path, sha256, size })
        }))
    }
}

fn is_plain_name(name: &str) -> bool {
    name.starts_with(|character: char| character.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// One folder or file name that stays where it is put, both as a path and in an address.
fn is_path_component(name: &str) -> bool {
    name.starts_with(|character: char| character.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._~:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://localhost/Sources";

    fn stanza(name: &str, version: &str, folder: &str, files: &[&str]) -> String {
        let digest = "c".repeat(64);
        let files: String = files.iter().map(|file| format!(" {digest} 7 {file}\n")).collect();
        format!(
            "Package: {name}\nBinary: a,\n b\nVersion: {version}\nFiles:\n x 1 y\n\
             Checksums-Sha256:\n{files}Directory: {folder}\n\n"
        )
    }

    fn parse(text: &str) -> Result<BTreeMap<String, Vec<SourceArchive>>> {
        parse_stanzas(URL, text.as_bytes())
    }

    #[test]
    fn the_main_archive_is_taken() {
        let text = [
            stanza(
                "zlib",
                "1:1.3.dfsg+really1.3.1-1",
                "pool/main/z/zlib",
                &[
                    "zlib_1.3.dfsg+really1.3.1-1.dsc",
                    "zlib_1.3.dfsg+really1.3.1.orig-contrib.tar.gz",
                    "zlib_1.3.dfsg+really1.3.1.orig.tar.gz",
                    "zlib_1.3.dfsg+really1.3.1.orig.tar.gz.asc",
                    "zlib_1.3.dfsg+really1.3.1-1.debian.tar.xz",
                ],
            ),
            stanza("native", "2025", "pool/main/n/native", &["native_2025.tar.xz"]),
            stanza("none", "1-1", "pool/main/n/none", &["none_1-1.dsc"]),
        ]
        .concat();
        let packages = parse(&text).unwrap();
        assert_eq!(packages["zlib"][0].path, "pool/main/z/zlib/zlib_1.3.dfsg+really1.3.1.orig.tar.gz");
        assert_eq!(packages["zlib"][0].size, 7);
        assert_eq!(packages["native"][0].path, "pool/main/n/native/native_2025.tar.xz");
        assert!(!packages.contains_key("none"));
    }

    #[test]
    fn paths_that_leave_the_archive_are_refused() {
        for (folder, file) in [
            ("pool/../../etc", "a_1.orig.tar.gz"),
            ("/pool/a", "a_1.orig.tar.gz"),
            ("pool//a", "a_1.orig.tar.gz"),
            ("pool/a", "../a_1.orig.tar.gz"),
            ("pool/a", "a_1.orig.tar.gz?x"),
            ("pool/a", ".."),
        ] {
            let error = parse(&stanza("a", "1-1", folder, &[file])).unwrap_err().to_string();
            assert!(error.contains("line 1: package `a`"), "{error}");
        }
    }

    #[test]
    fn a_kept_index_finds_every_version_and_notices_damage() {
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("Sources");
        let text = [
            stanza("b", "2-1", "pool/b", &["b_2.orig.tar.gz"]),
            stanza("b", "1-1", "pool/b", &["b_1.orig.tar.gz"]),
            stanza("a", "1-1", "pool/a", &["a_1.orig.tar.xz"]),
            stanza("bb", "1-1", "pool/bb", &["bb_1.orig.tar.xz"]),
        ]
        .concat();
        std::fs::write(&sources, text).unwrap();
        let compact = folder.path().join("kept/index");
        let made = SourceIndex::extract(URL, &sources, "origin", &compact).unwrap();
        let read = SourceIndex::load(&compact, "origin").unwrap().unwrap();
        for index in [made, read] {
            let versions: Vec<_> = index.find("b").into_iter().map(|found| found.version).collect();
            assert_eq!(versions, ["1-1", "2-1"]);
            assert_eq!(index.find("bb").len(), 1);
            assert_eq!(index.find("c").len(), 0);
        }
        assert!(SourceIndex::load(&compact, "other").unwrap().is_none());
        let mut bytes = std::fs::read(&compact).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&compact, bytes).unwrap();
        assert!(SourceIndex::load(&compact, "origin").unwrap().is_none());
    }
}
