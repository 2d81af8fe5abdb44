//! Checksum files: `HEX  NAME` as the `sha256sum` family writes, `SHA256 (NAME) = HEX` as BSDs do.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::base_name;
use crate::content::{Content, for_each_part};
use crate::error::{Error, Result};
use crate::evidence::ChecksumAlgorithm;

const FORMAT: &str = "checksum file";
const LONGEST: usize = 4 * 1024 * 1024;
const MOST_LINES: usize = 50_000;

/// A digest's algorithm, weak ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5; proves nothing.
    Md5,
    /// SHA-1; proves nothing.
    Sha1,
    /// SHA-224; not used for files.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    fn of_digits(count: usize) -> Option<Self> {
        Some(match count {
            32 => Self::Md5,
            40 => Self::Sha1,
            56 => Self::Sha224,
            64 => Self::Sha256,
            96 => Self::Sha384,
            128 => Self::Sha512,
            _ => return None,
        })
    }

    /// The algorithm's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        Some(match tag.to_ascii_uppercase().replace('-', "").as_str() {
            "MD5" => Self::Md5,
            "SHA1" => Self::Sha1,
            "SHA224" => Self::Sha224,
            "SHA256" => Self::Sha256,
            "SHA384" => Self::Sha384,
            "SHA512" => Self::Sha512,
            _ => return None,
        })
    }
}

/// The digests that a checksum file lists, by file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksums {
    files: BTreeMap<String, BTreeMap<Algorithm, String>>,
}

impl Checksums {
    /// Reads a checksum file. Lines of neither form are passed over, as they are by `sha256sum`;
    /// a file that is listed twice with different digests is an error.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > LONGEST {
            return Err(Error::TooLarge { what: FORMAT, limit: LONGEST as u64 });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::malformed(FORMAT, "it is not text"))?;
        let mut files: BTreeMap<String, BTreeMap<Algorithm, String>> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            if number >= MOST_LINES {
                return Err(Error::malformed(FORMAT, format!("it has more than {MOST_LINES} lines")));
            }
            let Some((algorithm, digest, name)) = bsd_line(line).or_else(|| plain_line(line)) else { continue };
            let digest = digest.to_ascii_lowercase();
            let name = name.strip_prefix("./").unwrap_or(name);
            let known = files.entry(name.to_owned()).or_default().insert(algorithm, digest.clone());
            if known.is_some_and(|known| known != digest) {
                let reason = format!("line {}: `{name}` is listed again with another digest", number + 1);
                return Err(Error::malformed(FORMAT, reason));
            }
        }
        if files.is_empty() {
            return Err(Error::malformed(FORMAT, "no line of it names a file and its digest"));
        }
        Ok(Self { files })
    }

    /// Proves that `content` is the file that is listed as `file`: by its path in the checksum
    /// file, or by its last part where that names one file only. Answers the algorithm and the
    /// digest.
    ///
    /// # Errors
    /// [`Error::NotListed`], [`Error::WeakDigest`], [`Error::Digest`], [`Error::Read`], and
    /// [`Error::Malformed`] where several files are called that.
    pub fn check(&self, file: &str, content: &(impl Content + ?Sized)) -> Result<(ChecksumAlgorithm, String)> {
        let digests = self.find(file)?;
        let weak = Error::WeakDigest {
            file: file.to_owned(),
            algorithm: digests.keys().next_back().map_or("nothing", |algorithm| algorithm.name()),
        };
        let strongest = digests.iter().rev().find_map(|(algorithm, digest)| {
            let algorithm = match algorithm {
                Algorithm::Sha256 => ChecksumAlgorithm::Sha256,
                Algorithm::Sha384 => ChecksumAlgorithm::Sha384,
                Algorithm::Sha512 => ChecksumAlgorithm::Sha512,
                Algorithm::Md5 | Algorithm::Sha1 | Algorithm::Sha224 => return None,
            };
            Some((algorithm, digest))
        });
        let (algorithm, expected) = strongest.ok_or(weak)?;
        let found = match algorithm {
            ChecksumAlgorithm::Sha256 => digest::<Sha256>(content)?,
            ChecksumAlgorithm::Sha384 => digest::<Sha384>(content)?,
            ChecksumAlgorithm::Sha512 => digest::<Sha512>(content)?,
        };
        if found != *expected {
            return Err(Error::Digest {
                what: file.to_owned(),
                algorithm: algorithm.name(),
                expected: expected.clone(),
                found,
            });
        }
        Ok((algorithm, found))
    }

    fn find(&self, file: &str) -> Result<&BTreeMap<Algorithm, String>> {
        if let Some(digests) = self.files.get(file) {
            return Ok(digests);
        }
        let mut found = self.files.iter().filter(|(name, _)| base_name(name) == base_name(file));
        let not_listed = || Error::NotListed { file: file.to_owned(), listed: self.files.len() };
        let (_, digests) = found.next().ok_or_else(not_listed)?;
        if found.next().is_some() {
            return Err(Error::malformed(FORMAT, format!("several of its files are called `{}`", base_name(file))));
        }
        Ok(digests)
    }
}

fn digest<D: Digest>(content: &(impl Content + ?Sized)) -> Result<String> {
    let mut hash = D::new();
    for_each_part(content, |part| hash.update(part))?;
    Ok(hex::encode(hash.finalize()))
}

fn is_digest(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `SHA256 (NAME) = HEX`.
fn bsd_line(line: &str) -> Option<(Algorithm, &str, &str)> {
    let (tag, rest) = line.split_once(" (")?;
    let (name, digest) = rest.rsplit_once(") = ")?;
    let (algorithm, digest) = (Algorithm::of_tag(tag.trim())?, digest.trim());
    (is_digest(digest) && Algorithm::of_digits(digest.len()) == Some(algorithm) && !name.is_empty())
        .then_some((algorithm, digest, name))
}

/// `HEX  NAME`, or `HEX *NAME` for binary mode.
fn plain_line(line: &str) -> Option<(Algorithm, &str, &str)> {
    let line = line.trim_end();
    let (digest, name) = line.split_once(char::is_whitespace)?;
    let algorithm = Algorithm::of_digits(digest.len()).filter(|_| is_digest(digest))?;
    let name = name.trim_start();
    let name = name.strip_prefix('*').unwrap_or(name);
    (!name.is_empty()).then_some((algorithm, digest, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(text: &str, file: &str) -> Result<(ChecksumAlgorithm, String)> {
        Checksums::parse(text.as_bytes())?.check(file, b"".as_slice())
    }

    #[test]
    fn every_form_of_line_is_read() {
        for text in [
            format!("{EMPTY}  a.tar.gz\n"),
            format!("{EMPTY} *a.tar.gz\r\n"),
            format!("{}  ./dist/a.tar.gz\n", EMPTY.to_uppercase()),
            format!("# comment\n\nSHA256 (a.tar.gz) = {EMPTY}\n"),
            format!("MD5 (a.tar.gz) = d41d8cd98f00b204e9800998ecf8427e\nSHA256 (a.tar.gz) = {EMPTY}\n"),
        ] {
            let (algorithm, digest) = check(&text, "a.tar.gz").unwrap();
            assert_eq!((algorithm, digest.as_str()), (ChecksumAlgorithm::Sha256, EMPTY), "{text}");
        }
    }

    #[test]
    fn what_proves_nothing_is_refused() {
        let other = EMPTY.replace('e', "f");
        assert!(matches!(check(&format!("{EMPTY}  b\n"), "a"), Err(Error::NotListed { listed: 1, .. })));
        assert!(matches!(check(&format!("{other}  a\n"), "a"), Err(Error::Digest { .. })));
        assert!(matches!(check("d41d8cd98f00b204e9800998ecf8427e  a\n", "a"), Err(Error::WeakDigest { .. })));
        assert!(matches!(
            check("da39a3ee5e6b4b0d3255bfef95601890afd80709  a\n", "a"),
            Err(Error::WeakDigest { algorithm: "SHA-1", .. })
        ));
        assert!(matches!(check(&format!("{EMPTY}  a\n{other}  a\n"), "a"), Err(Error::Malformed { .. })));
        assert!(matches!(check(&format!("{EMPTY}  x/a\n{other}  y/a\n"), "a"), Err(Error::Malformed { .. })));
        assert!(check(&format!("{EMPTY}  x/a\n{other}  y/a\n"), "x/a").is_ok());
        for text in ["", "hello\n", "SHA256 (a) = 00\n", "\0\u{1}"] {
            assert!(matches!(Checksums::parse(text.as_bytes()), Err(Error::Malformed { .. })), "{text:?}");
        }
        let long = format!("{EMPTY}  a\n").repeat(MOST_LINES + 1);
        assert!(matches!(Checksums::parse(long.as_bytes()), Err(Error::Malformed { .. })));
        assert!(matches!(Checksums::parse(&vec![b'a'; LONGEST + 1]), Err(Error::TooLarge { .. })));
    }
}
