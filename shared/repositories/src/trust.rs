use std::path::{Path, PathBuf};

use apk::{Keyring, PublicKey, Trust};
use upstream::Fetcher;

use crate::{Error, Result};

/// Bytes of a fetched key.
const KEY_BYTES: u64 = apk::limits::KEY_BYTES;

/// Whose signatures an index needs.
#[derive(Clone, Debug)]
pub enum Signatures {
    /// One by a key of this keyring.
    By(Keyring),
    /// None.
    Ignored,
}

impl Signatures {
    pub(crate) fn trust(&self) -> Trust<'_> {
        match self {
            Self::By(keyring) => Trust::Keyring(keyring),
            Self::Ignored => Trust::Unverified,
        }
    }
}

/// Where a public key is: an entry of `contents.keyring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    Path(PathBuf),
    /// `http://` or `https://`.
    Url(String),
    /// The key itself.
    Inline {
        /// Its file name.
        name: String,
        /// PEM.
        pem: String,
    },
}

impl KeySource {
    /// Reads `PATH|URL`. A relative path is looked for below each of `bases`, in order; the last
    /// one is taken where the file is below none.
    pub fn parse(text: &str, bases: &[&Path]) -> Self {
        let text = text.trim();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Self::Url(text.to_owned());
        }
        let path = Path::new(text.strip_prefix("file://").unwrap_or(text));
        let mut candidates = bases.iter().map(|base| base.join(path));
        let found = candidates.find(|candidate| candidate.is_file());
        Self::Path(found.or_else(|| bases.last().map(|base| base.join(path))).unwrap_or_else(|| path.to_owned()))
    }

    /// Whether the key is on this machine.
    pub fn is_local(&self) -> bool {
        !matches!(self, Self::Url(_))
    }

    /// The key, from this machine.
    ///
    /// # Errors
    /// [`Error::Remote`] for one that is not; [`Error::Apk`] where it is no key.
    pub fn read_local(&self) -> Result<PublicKey> {
        match self {
            Self::Path(path) => Ok(PublicKey::open(path)?),
            Self::Url(url) => Err(Error::Remote { url: url.clone() }),
            Self::Inline { name, pem } => Ok(PublicKey::from_pem(name, pem)?),
        }
    }

    /// The key, from wherever it is.
    ///
    /// # Errors
    /// As [`KeySource::read_local`], and [`Error::Fetch`].
    pub async fn read(&self, fetcher: &Fetcher) -> Result<PublicKey> {
        let Self::Url(url) = self else { return self.read_local() };
        let document = fetcher.document(url, KEY_BYTES).await?;
        let pem = std::str::from_utf8(&document.bytes).map_err(|_| Error::Key { url: url.clone() })?;
        let name = url.rsplit('/').next().unwrap_or(url);
        Ok(PublicKey::from_pem(name, pem)?)
    }
}
