//! What an OCI layout says, read from its files alone, and whether everything it names is there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test helper: what can't be read ends the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::archive::sha256_hex;

/// The annotation of an index entry that holds its tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The file of a blob.
pub fn blob(layout: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("a SHA-256 digest");
    layout.join("blobs/sha256").join(hex)
}

/// A manifest or other JSON blob.
pub fn document(layout: &Path, digest: &str) -> Value {
    serde_json::from_slice(&fs::read(blob(layout, digest)).unwrap()).unwrap()
}

/// The content of the regular file whose path ends in `path`, in the image with this manifest.
///
/// # Panics
/// When no layer has it.
pub fn file(layout: &Path, manifest: &str, path: &str) -> Vec<u8> {
    for layer in document(layout, manifest)["layers"].as_array().unwrap() {
        let bytes = fs::read(blob(layout, layer["digest"].as_str().unwrap())).unwrap();
        let mut archive = tar::Archive::new(flate2::bufread::MultiGzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() && entry.path().unwrap().ends_with(path) {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                return content;
            }
        }
    }
    panic!("no layer of {manifest} has `{path}`");
}

/// What each tag names; lists of referrers (`sha256-HEX`) are left out.
pub fn tags(layout: &Path) -> BTreeMap<String, String> {
    let mut tags = all_tags(layout);
    tags.retain(|tag, _| !tag.starts_with("sha256-"));
    tags
}

fn all_tags(layout: &Path) -> BTreeMap<String, String> {
    let Ok(bytes) = fs::read(layout.join("index.json")) else { return BTreeMap::new() };
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    let entries = index["manifests"].as_array().expect("an index lists manifests").iter();
    let tagged = entries.filter_map(|entry| Some((entry["annotations"][TAG].as_str()?, entry["digest"].as_str()?)));
    tagged.map(|(tag, digest)| (tag.to_owned(), digest.to_owned())).collect()
}

/// What is wrong below the tags of a layout: content that is missing, or is not what its digest
/// says, each with the tag that leads to it. Empty for a sound layout, and where there is none.
pub fn problems(layout: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (tag, digest) in all_tags(layout) {
        let mut waiting = vec![digest];
        let mut seen = BTreeSet::new();
        while let Some(digest) = waiting.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let Ok(bytes) = fs::read(blob(layout, &digest)) else {
                problems.push(format!("`{tag}` leads to {digest}, which is missing"));
                continue;
            };
            if format!("sha256:{}", sha256_hex(&bytes)) != digest {
                problems.push(format!("`{tag}` leads to {digest}, which has other content"));
                continue;
            }
            let Ok(manifest) = serde_json::from_slice::<Value>(&bytes) else { continue };
            let lists = ["manifests", "layers"].iter().filter_map(|name| manifest[*name].as_array()).flatten();
            let named = lists.chain([&manifest["config"]]).filter_map(|descriptor| descriptor["digest"].as_str());
            waiting.extend(named.map(str::to_owned));
        }
    }
    problems
}
