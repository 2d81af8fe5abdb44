//! Reading a published package.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// A package's files and what it says of itself.
pub struct Package {
    /// Content by path; of links what they point to.
    pub files: BTreeMap<String, Vec<u8>>,
    information: String,
}

impl Package {
    /// `NAME-VERSION-rN` of a home's repository.
    pub fn read(home: &Path, name: &str) -> Self {
        let path = home.join("apk/x86_64").join(format!("{name}.apk"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut archive = tar::Archive::new(MultiGzDecoder::new(bytes.as_slice()));
        archive.set_ignore_zeros(true);
        let mut package = Self { files: BTreeMap::new(), information: String::new() };
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            if let Some(target) = entry.link_name().unwrap() {
                content = target.as_os_str().as_encoded_bytes().to_vec();
            }
            entry.read_to_end(&mut content).unwrap();
            if path == ".PKGINFO" {
                package.information = String::from_utf8(content).unwrap();
            } else if !entry.header().entry_type().is_dir() && !path.starts_with('.') {
                package.files.insert(path, content);
            }
        }
        package
    }

    /// A file as text.
    pub fn text(&self, path: &str) -> String {
        let found = self.files.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", self.files.keys()));
        String::from_utf8(found.clone()).unwrap()
    }

    /// Values of a field of `.PKGINFO`.
    pub fn values(&self, field: &str) -> Vec<&str> {
        let lines = self.information.lines().filter_map(|line| line.split_once(" = "));
        lines.filter(|(name, _)| *name == field).map(|(_, value)| value).collect()
    }

    /// Asserts that these files are there, and that no file names the build's folder.
    pub fn expect_files(&self, paths: &[&str]) {
        for path in paths {
            assert!(self.files.contains_key(*path), "no {path} in {:?}", self.files.keys());
        }
        let folder = b"/home/build";
        for (path, content) in self.files.iter().filter(|(path, _)| !path.contains("/sbom/")) {
            assert!(!content.windows(folder.len()).any(|window| window == folder), "{path} names the build's folder");
        }
        assert!(!self.files.keys().any(|path| path.starts_with("usr/local")), "{:?}", self.files.keys());
    }

    /// Asserts that it is linked against musl and provides a shared library.
    pub fn expect_library(&self, library: &str) {
        let provided = format!("so:{library}=");
        assert!(self.values("provides").iter().any(|value| value.starts_with(&provided)), "{}", self.information);
        self.expect_musl();
    }

    /// Asserts that it is linked against musl and no other C library.
    pub fn expect_musl(&self) {
        let libraries: Vec<&str> = self.values("depend").into_iter().filter(|value| value.starts_with("so:")).collect();
        assert!(libraries.contains(&"so:libc.musl-x86_64.so.1"), "{}", self.information);
        assert!(!libraries.iter().any(|value| value.starts_with("so:libc.so")), "{}", self.information);
    }
}
