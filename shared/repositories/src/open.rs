use std::path::{Path, PathBuf};

use apk::{Architecture, CompactIndex, IndexEntry, IndexRecord};
use upstream::Fetcher;

use crate::line::{Location, RepositoryLine, index_file, index_url};
use crate::{Error, Result, Signatures};

/// A repository with its index for one architecture.
#[derive(Debug)]
pub struct Repository {
    name: String,
    tag: Option<String>,
    index: CompactIndex,
    pub(crate) folder: Folder,
}

/// What holds an index's packages.
#[derive(Debug)]
pub(crate) enum Folder {
    Path(PathBuf),
    Url(String),
}

/// The repositories of a definition, for one architecture.
#[derive(Debug)]
pub struct Repositories {
    architecture: Architecture,
    pub(crate) repositories: Vec<Repository>,
}

impl Repository {
    fn open(line: &RepositoryLine, architecture: Architecture, signatures: &Signatures) -> Result<Self> {
        match &line.location {
            Location::Url(url) => Err(Error::Remote { url: url.clone() }),
            Location::Path { path, bases } => {
                let file = index_file(path, bases, architecture)?;
                let index = CompactIndex::open(&file, signatures.trust())?;
                let folder = file.parent().unwrap_or(Path::new("")).to_owned();
                Ok(Self { name: line.location.name(), tag: line.tag.clone(), index, folder: Folder::Path(folder) })
            }
        }
    }

    async fn fetch(
        line: &RepositoryLine,
        architecture: Architecture,
        signatures: &Signatures,
        fetcher: &Fetcher,
    ) -> Result<Self> {
        let Location::Url(url) = &line.location else { return Self::open(line, architecture, signatures) };
        let (address, folder) = index_url(url, architecture);
        let document = fetcher.document(&address, apk::limits::INDEX_COMPRESSED_BYTES).await?;
        let index = CompactIndex::read(&address, &*document.bytes, signatures.trust())?;
        Ok(Self { name: line.location.name(), tag: line.tag.clone(), index, folder: Folder::Url(folder) })
    }
}

impl Repositories {
    /// Opens repositories on this machine.
    ///
    /// # Errors
    /// [`Error::Remote`] for a URL, [`Error::NoIndex`], or what is wrong with an index.
    pub fn open_local(lines: &[RepositoryLine], architecture: Architecture, signatures: &Signatures) -> Result<Self> {
        let open = |line| Repository::open(line, architecture, signatures);
        Ok(Self { architecture, repositories: lines.iter().map(open).collect::<Result<_>>()? })
    }

    /// Opens repositories wherever they are. Of an index in the fetcher's cache the server is only
    /// asked whether it changed, and offline not even that.
    ///
    /// # Errors
    /// As [`Repositories::open_local`], and [`Error::Fetch`].
    pub async fn open(
        lines: &[RepositoryLine],
        architecture: Architecture,
        signatures: &Signatures,
        fetcher: &Fetcher,
    ) -> Result<Self> {
        let mut repositories = Vec::with_capacity(lines.len());
        for line in lines {
            repositories.push(Repository::fetch(line, architecture, signatures, fetcher).await?);
        }
        Ok(Self { architecture, repositories })
    }

    /// Everything that could be installed.
    ///
    /// # Errors
    /// What is wrong with an index, or too many repositories.
    pub fn universe(&self) -> Result<solve::Universe<'_>> {
        self.universe_on(&[])
    }

    /// Everything that could be installed where these packages are already.
    ///
    /// # Errors
    /// As [`Repositories::universe`].
    pub fn universe_on<'a>(&'a self, installed: &'a [IndexEntry]) -> Result<solve::Universe<'a>> {
        let records = self.repositories.iter().map(|repository| repository.index.records().collect());
        let records: Vec<Vec<IndexRecord<'_>>> = records.collect();
        let sources: Vec<solve::Repository<'_, '_>> = self
            .repositories
            .iter()
            .zip(&records)
            .map(|(repository, records)| solve::Repository {
                name: repository.name.clone(),
                tag: repository.tag.clone(),
                records,
            })
            .collect();
        let installed: Vec<_> = installed.iter().map(|entry| (IndexRecord::from(entry), None)).collect();
        Ok(solve::Universe::with_installed(self.architecture, &installed, &sources)?)
    }
}
