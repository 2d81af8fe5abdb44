use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use apk::{Architecture, InstalledPackage, parse_installed};
use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::root::BaseFiles;
use crate::Error;

const NAME: &str = "APKINDEX";
/// The most bytes of a list.
const LIST_BYTES: u64 = 256 << 20;
/// The most packages that an error names.
const NAMED: usize = 5;

/// Reads `FOLDER/ARCH/APKINDEX`; a link that leads out of the folder is not followed.
pub(super) fn read(folder: &Path, architecture: Architecture) -> Result<(PathBuf, Vec<InstalledPackage>), Error> {
    let inside = Path::new(architecture.apk()).join(NAME);
    let file = folder.join(&inside);
    let wrong = |problem: String| Error::BaseIndex { file: file.clone(), problem };
    let open = || Dir::open_ambient_dir(folder, ambient_authority())?.open(&inside);
    let source = open().map_err(|error| wrong(error.to_string()))?;
    let mut text = String::new();
    source.take(LIST_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > LIST_BYTES {
        return Err(wrong(format!("it has more than {LIST_BYTES} bytes")));
    }
    let packages = parse_installed(&file.display().to_string(), &text)?;
    let mut names = BTreeMap::new();
    for package in &packages {
        let information = &package.entry.information;
        if names.insert(information.name.as_str(), &information.version).is_some() {
            return Err(wrong(format!("it lists `{}` twice", information.name)));
        }
        let own = &information.architecture;
        if !matches!(own.as_str(), "" | "noarch") && own != architecture.apk() {
            return Err(wrong(format!("`{}` in it is for `{own}`, not for {architecture}", information.name)));
        }
    }
    Ok((file, packages))
}

/// Holds the list against the database in the image, where there is one: nothing signs the list, and a
/// package that it invents or leaves out would be missing or installed twice.
pub(super) fn check(file: &Path, files: &BaseFiles) -> Result<(), Error> {
    let Some((place, text)) = files.database() else { return Ok(()) };
    let own = parse_installed(&format!("/{place} of the base image"), text)?;
    let facts = |packages: &[InstalledPackage]| -> BTreeMap<String, (String, String)> {
        let facts = packages.iter().map(|package| {
            let information = &package.entry.information;
            (information.name.clone(), (information.version.clone(), package.entry.checksum.clone()))
        });
        facts.collect()
    };
    let (listed, own) = (facts(files.packages()), facts(&own));
    let names: std::collections::BTreeSet<&String> = listed.keys().chain(own.keys()).collect();
    let other: Vec<&str> =
        names.into_iter().filter(|name| listed.get(*name) != own.get(*name)).map(String::as_str).collect();
    if other.is_empty() {
        return Ok(());
    }
    let shown = other.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let more = other.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let problem = format!("it differs from the image's own /{place} in {shown}{more}: copy that file here");
    Err(Error::BaseIndex { file: file.to_owned(), problem })
}
