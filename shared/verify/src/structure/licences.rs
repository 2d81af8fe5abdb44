//! `licenseTests`: copyright files must not name licences that the original refuses.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::document::{Text, or_default};
use crate::files::Kind;
use crate::report::Finding;
use crate::{Error, Image};

const DEBIAN: &str = "usr/share/doc";
/// What the original refuses, in capitals.
const REFUSED: [&str; 2] = ["AGPL", "WTFPL"];
/// Packages that the original does not look at.
const PASSED_OVER: [&str; 1] = ["libgnutls30"];
const MAXIMUM_CONTENT: u64 = 16 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LicenceTest {
    #[serde(default, deserialize_with = "or_default")]
    debian: bool,
    #[serde(default, deserialize_with = "or_default")]
    files: Vec<Text>,
}

pub(super) fn licences(image: &Image, test: &LicenceTest) -> Result<Finding, Error> {
    let mut complaints = Vec::new();
    let mut files: Vec<String> = test.files.iter().map(ToString::to_string).collect();
    if test.debian {
        match packages(image) {
            Some(packages) => {
                files.extend(packages.into_iter().map(|package| format!("/{DEBIAN}/{package}/copyright")));
            }
            None => complaints.push(format!(
                "the image has no folder `/{DEBIAN}`; set `debian: false` where the image is not Debian's"
            )),
        }
    }
    for file in &files {
        match image.read(file, MAXIMUM_CONTENT)? {
            None => complaints.push(format!("the licence file `{file}` is no file of the image")),
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes).to_uppercase();
                let named = REFUSED.iter().filter(|name| text.contains(**name));
                complaints.extend(named.map(|name| format!("`{file}` names the licence {name}, which is not allowed")));
            }
        }
    }
    Ok(Finding::listing(complaints, format!("{} licence files name no refused licence", files.len())))
}

/// The folders in which Debian's packages keep their copyright.
fn packages(image: &Image) -> Option<BTreeSet<&str>> {
    let root = image.files().follow(DEBIAN)?;
    let prefix = format!("{root}/");
    let folders = image.files().iter().filter(|(_, entry)| entry.kind == Kind::Directory);
    let names = folders.filter_map(|(path, _)| path.strip_prefix(&prefix)).filter(|name| !name.contains('/'));
    Some(names.filter(|name| !PASSED_OVER.contains(name)).collect())
}
