//! Looking up the programs that the host must have.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::Error;

/// The path of an executable file named `program` in the folders of `search_path`, a list in the
/// form of the `PATH` variable, then in the folders for system programs.
pub(crate) fn find(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
}

pub(crate) fn require(program: &str, package: &str, search_path: &OsStr) -> Result<PathBuf, Error> {
    find(program, search_path)
        .ok_or_else(|| Error::MissingProgram { program: program.to_owned(), package: package.to_owned() })
}
