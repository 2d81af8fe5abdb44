use std::path::{Path, PathBuf};

use apk::{IndexEntry, Package};
use upstream::Fetcher;

use crate::open::Folder;
use crate::{Error, Repositories, Result};

impl Repositories {
    /// Where a chosen package's file is in its repository: an absolute path or a URL.
    ///
    /// # Errors
    /// [`Error::Homeless`], or where there is no working folder.
    pub fn location(&self, chosen: &solve::Selected<'_>) -> Result<String> {
        let file_name = chosen.entry.file_name();
        let repository = chosen.repository.and_then(|number| self.repositories.get(number));
        match repository.map(|repository| &repository.folder) {
            None => Err(Error::Homeless { package: format!("{}-{}", chosen.entry.name(), chosen.entry.version()) }),
            Some(Folder::Url(folder)) => Ok(format!("{folder}/{file_name}")),
            Some(Folder::Path(folder)) => {
                let path = folder.join(file_name);
                let absolute = std::path::absolute(&path);
                let absolute = absolute.map_err(|source| Error::Io { action: "find", path, source })?;
                Ok(absolute.display().to_string())
            }
        }
    }

    /// The file of a chosen package, which is the one that the index lists: name, version, size and
    /// checksum agree. What is fetched stays in the folder `cache` under its checksum.
    ///
    /// # Errors
    /// When the file can't be had, is no package, or is another.
    pub async fn package(
        &self,
        chosen: &solve::Selected<'_>,
        fetcher: &Fetcher,
        cache: &Path,
    ) -> Result<(IndexEntry, PathBuf)> {
        let listed = Listed {
            name: chosen.entry.name().to_owned(),
            version: chosen.entry.version().to_owned(),
            checksum: chosen.entry.checksum().to_owned(),
            size: chosen.entry.size(),
        };
        let repository = chosen
            .repository
            .and_then(|number| self.repositories.get(number))
            .ok_or_else(|| Error::Homeless { package: format!("{}-{}", listed.name, listed.version) })?;
        let file_name = chosen.entry.file_name();
        match &repository.folder {
            Folder::Path(folder) => {
                let path = folder.join(file_name);
                let entry = check(&path, listed).await?;
                Ok((entry, path))
            }
            Folder::Url(folder) => {
                let checksum: apk::Checksum = listed.checksum.parse().map_err(|_| Error::Homeless {
                    package: format!("{}-{}, whose index states no checksum,", listed.name, listed.version),
                })?;
                let path = cache.join(format!("{}.apk", checksum.to_hex()));
                if !path.is_file() {
                    let limit = if listed.size > 0 { listed.size } else { apk::limits::PACKAGE_BYTES };
                    fetcher.file(&format!("{folder}/{file_name}"), limit, &path).await?;
                }
                match check(&path, listed).await {
                    Ok(entry) => Ok((entry, path)),
                    Err(error) => {
                        std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
                        Err(error)
                    }
                }
            }
        }
    }
}

struct Listed {
    name: String,
    version: String,
    checksum: String,
    size: u64,
}

async fn check(path: &Path, listed: Listed) -> Result<IndexEntry> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || compare(&path, &listed)).await?
}

fn compare(path: &Path, listed: &Listed) -> Result<IndexEntry> {
    let mut package = Package::open(path)?;
    let entry = package.index_entry();
    let differs = |what, expected: &str, found: &str| {
        let (expected, found) = (expected.to_owned(), found.to_owned());
        Err(Error::Mismatch { path: path.to_owned(), what, expected, found })
    };
    let information = &entry.information;
    if information.name != listed.name {
        return differs("the name", &listed.name, &information.name);
    }
    if information.version != listed.version {
        return differs("the version", &listed.version, &information.version);
    }
    if !listed.checksum.is_empty() && entry.checksum != listed.checksum {
        return differs("the checksum", &listed.checksum, &entry.checksum);
    }
    if listed.size > 0 && entry.size != listed.size {
        return differs("the size in bytes", &listed.size.to_string(), &entry.size.to_string());
    }
    // The control member states the digest of the data member, which is read through here.
    package.files()?;
    Ok(entry)
}
