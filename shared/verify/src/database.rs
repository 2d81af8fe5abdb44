//! The packages of an image, as its apk database lists them.

use std::collections::BTreeMap;

use apk::InstalledPackage;

use crate::files::Files;
use crate::{Error, Image};

const PLACES: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];
const MAXIMUM_BYTES: u64 = 256 << 20;

/// The packages of an image, and whose each path is.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) packages: Vec<InstalledPackage>,
    /// The package's place in the list, by path.
    owners: BTreeMap<String, usize>,
}

impl Database {
    /// Reads the database; answers why there is none that can be read.
    pub(crate) fn of(image: &Image) -> Result<Result<Self, String>, Error> {
        for path in PLACES {
            if let Some(bytes) = image.read(path, MAXIMUM_BYTES)? {
                let packages = apk::parse_installed(path, &String::from_utf8_lossy(&bytes));
                return Ok(packages
                    .map(|packages| Self::new(packages, image.files()))
                    .map_err(|error| error.to_string()));
            }
        }
        Ok(Err(format!("the image has no apk database at `/{}`", PLACES.join("` or `/"))))
    }

    fn new(packages: Vec<InstalledPackage>, files: &Files) -> Self {
        let mut owners = BTreeMap::new();
        for (number, package) in packages.iter().enumerate() {
            for file in package.files.iter().filter(|file| !file.directory) {
                if let Some(place) = files.place(&file.path) {
                    owners.insert(place, number);
                }
            }
        }
        Database { packages, owners }
    }

    /// The package that has the file or link at `path`.
    pub(crate) fn owner(&self, path: &str) -> Option<&InstalledPackage> {
        self.packages.get(*self.owners.get(path)?)
    }

    /// The package with this name.
    pub(crate) fn package(&self, name: &str) -> Option<&InstalledPackage> {
        self.packages.iter().find(|package| package.entry.information.name == name)
    }
}
