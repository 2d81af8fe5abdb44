//! What a process that died has left in a home.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that is being fetched is no older.
const FETCH_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// Ends builds that go on, and removes scratch space and parts of files from the home at `root`, whose lock the caller holds:
/// all that only the lock's owner writes, and old parts in the cache, which others fill as well.
/// The registry's layouts look after themselves.
pub fn remove(root: &Path) -> Result<(), String> {
    let work = root.join("work");
    sandbox::end_strays(&work).map_err(|error| stage::chain(&error))?;
    for path in entries(&work)? {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed("remove", &path))?;
    }
    remove_parts(&root.join("blobs"), ".blob-", Duration::ZERO)?;
    for folder in entries(&root.join("apk"))?.iter().filter(|path| path.is_dir()) {
        remove_parts(folder, ".tmp", Duration::ZERO)?;
    }
    for folder in entries(&root.join("cache"))?.iter().filter(|path| path.is_dir()) {
        remove_parts(folder, ".partial-", FETCH_TIME)?;
    }
    Ok(())
}

/// Removes what is in a folder, has a name that begins with `prefix`, and is at least this old.
fn remove_parts(folder: &Path, prefix: &str, age: Duration) -> Result<(), String> {
    for path in entries(folder)? {
        let is_part = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if !is_part {
            continue;
        }
        let modified = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
        // A time in the future counts as new.
        let found = modified.map_err(failed("look at", &path))?.elapsed().unwrap_or_default();
        if found >= age {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let listing = fs::read_dir(folder).map_err(failed("read", folder))?;
    listing.map(|entry| Ok(entry.map_err(failed("read", folder))?.path())).collect()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> String {
    let path = path.to_owned();
    move |error| format!("{action} `{}`: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_goes() {
        let home = tempfile::tempdir().unwrap();
        let files =
            ["work/build-x/a", "work/b", "blobs/.blob-x", "blobs/ab/cd", "apk/x86_64/.tmpx", "apk/x86_64/a.apk"];
        for file in files.into_iter().chain(["cache/sources/.partial-new", "cache/sources/.partial-old"]) {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let old = fs::File::options().write(true).open(home.path().join("cache/sources/.partial-old")).unwrap();
        old.set_modified(std::time::SystemTime::now() - FETCH_TIME).unwrap();
        let clone = home.path().join("cache/git/.partial-old");
        fs::create_dir_all(clone.join("top")).unwrap();
        fs::File::open(&clone).unwrap().set_modified(std::time::SystemTime::now() - FETCH_TIME).unwrap();
        remove(home.path()).unwrap();
        assert!(!clone.exists());
        let left = |file: &str| home.path().join(file).exists();
        for file in ["work/build-x", "work/b", "blobs/.blob-x", "apk/x86_64/.tmpx", "cache/sources/.partial-old"] {
            assert!(!left(file), "{file}");
        }
        for file in ["work", "blobs/ab/cd", "apk/x86_64/a.apk", "cache/sources/.partial-new"] {
            assert!(left(file), "{file}");
        }
    }
}
