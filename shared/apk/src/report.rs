//! Whole files checked, and folders indexed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::archive::member::{Meter, check_magic};
use crate::archive::signature;
use crate::error::Member;
use crate::{Error, Index, IndexEntry, Keyring, Package, Result, Trust};

/// What a verified file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Report {
    /// A package.
    Package {
        /// `pkgname`.
        name: String,
        /// `pkgver`.
        version: String,
        /// `arch`.
        architecture: String,
        /// The key that signs it.
        signed_by: String,
        /// `Q1...` of the control member.
        checksum: String,
        /// SHA-256 of the data member.
        data_hash: String,
        /// Bytes of the file.
        size: u64,
        /// Files, links and directories whose content was checked.
        files: usize,
    },
    /// An `APKINDEX.tar.gz`.
    Index {
        /// The key that signs it.
        signed_by: String,
        /// The content of `DESCRIPTION`.
        description: String,
        /// Records in it.
        packages: usize,
    },
}

/// Checks a package or an index from its signature down to the last file's checksum.
///
/// Which of the two it is follows from its content, not from its name.
pub fn verify_file(path: &Path, keyring: &Keyring) -> Result<Report> {
    if is_index(path)? {
        let read = Index::open(path, Trust::Keyring(keyring))?;
        return Ok(Report::Index {
            signed_by: read.signed_by.unwrap_or_default(),
            description: read.index.description,
            packages: read.index.entries.len(),
        });
    }
    let mut package = Package::open(path)?;
    let signed_by = package.verify(keyring)?.to_owned();
    let files = package.files()?.len();
    let information = package.information();
    Ok(Report::Package {
        name: information.name.clone(),
        version: information.version.clone(),
        architecture: information.architecture.clone(),
        signed_by,
        checksum: package.checksum().to_string(),
        data_hash: information.data_hash.clone(),
        size: package.size(),
        files,
    })
}

/// Whether the first member that isn't a signature holds an index rather than `.PKGINFO`.
fn is_index(path: &Path) -> Result<bool> {
    let file = path.display().to_string();
    let mut meter = Meter::new(BufReader::new(File::open(path).map_err(Error::at(path))?));
    check_magic(&file, meter.peek().map_err(Error::at(path))?)?;
    loop {
        let mut start = [0; 6];
        let mut probe = flate2::bufread::GzDecoder::new(&mut meter);
        if probe.read_exact(&mut start).is_err() {
            return Ok(false);
        }
        if !signature::is_signature(&start) {
            return Ok(!start.starts_with(b"."));
        }
        std::io::copy(&mut probe, &mut std::io::sink())
            .map_err(|error| crate::archive::member::gzip_error(&file, Member::Signature, &error))?;
    }
}

/// The records of every `.apk` file in the folder, by file name.
///
/// Other files are passed over. A file that can't be read, or that isn't named
/// `NAME-VERSION.apk` as repositories are read by, fails the whole.
pub fn index_directory(folder: &Path) -> Result<Vec<IndexEntry>> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
        let entry = entry.map_err(Error::at(folder))?;
        if entry.path().extension().is_some_and(|extension| extension == "apk") {
            files.insert(entry.file_name(), entry.path());
        }
    }
    let mut entries = Vec::with_capacity(files.len());
    for (name, path) in files {
        let entry = Package::open(&path)?.index_entry();
        if name.to_str() != Some(&entry.file_name()) {
            return Err(Error::tree(
                &path,
                format_args!("it must be named `{}`, as it would be looked for", entry.file_name()),
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}
