//! The files of a catalog's folders, by digest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ports::Digest;

use crate::catalog::{CatalogError, Result, entries};

const MAXIMUM_FOLDER_BYTES: u64 = 64 << 20;
pub(crate) const MAXIMUM_FOLDER_DEPTH: usize = 16;

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogFile {
    /// Its path within the folder.
    pub(crate) path: String,
    /// `file`, `program` when it has an executable bit, or `link`.
    pub(crate) kind: &'static str,
    /// Digest of its bytes, or of where the link points to.
    pub(crate) digest: Digest,
}

impl CatalogFile {
    /// Whether `place` is the file's path, or a folder that it is in.
    pub(crate) fn is_at(&self, place: &str) -> bool {
        let place = place.trim_end_matches('/');
        self.path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Every file below a folder, a to z within each folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<CatalogFile>> {
    let (mut found, mut budget) = (Vec::new(), MAXIMUM_FOLDER_BYTES);
    find(folder, folder, 0, &mut budget, &mut found)?;
    Ok(found)
}

/// A digest over the names, executable bits, link targets and bytes below a folder.
pub(crate) fn folder_digest(folder: &Path) -> Result<Digest> {
    let lines = files(folder)?.into_iter().map(|file| {
        let CatalogFile { path, kind, digest } = file;
        format!("{kind} {} {digest}\n{path}\n", path.len())
    });
    Ok(Digest::of(lines.collect::<String>().as_bytes()))
}

fn find(root: &Path, folder: &Path, depth: usize, budget: &mut u64, found: &mut Vec<CatalogFile>) -> Result<()> {
    let too_large = || CatalogError::TooLarge { path: root.to_owned(), limit: MAXIMUM_FOLDER_BYTES };
    if depth > MAXIMUM_FOLDER_DEPTH {
        return Err(too_large());
    }
    for path in entries(folder)? {
        let failed = |source| CatalogError::File { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        if metadata.is_dir() {
            find(root, &path, depth + 1, budget, found)?;
            continue;
        }
        let bytes = if metadata.is_symlink() {
            fs::read_link(&path).map_err(failed)?.into_os_string().into_encoded_bytes()
        } else {
            *budget = budget.checked_sub(metadata.len()).ok_or_else(too_large)?;
            fs::read(&path).map_err(failed)?
        };
        let kind = match (metadata.is_symlink(), metadata.permissions().mode() & 0o111) {
            (true, _) => "link",
            (false, 0) => "file",
            (false, _) => "program",
        };
        let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        found.push(CatalogFile { path, kind, digest: Digest::of(&bytes) });
    }
    Ok(())
}
