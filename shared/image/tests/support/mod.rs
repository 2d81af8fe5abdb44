//! Packages made for a test, and what reads images back.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use apk::{Architecture, Package, PackageInformation, PackageSpec, build_package_file};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use image::{Composed, Composition, Error, Layout, PackageFile, Settings, compose};

pub const EPOCH: i64 = 1_750_000_000;

/// Where packages are made.
pub struct Workshop {
    pub directory: tempfile::TempDir,
}

/// A package to make: its information and its files.
pub struct Recipe {
    pub spec: PackageSpec,
    root: tempfile::TempDir,
}

impl Workshop {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn package(&self, name: &str) -> Recipe {
        Recipe {
            spec: PackageSpec {
                information: PackageInformation {
                    name: name.to_owned(),
                    version: "1.0-r0".to_owned(),
                    architecture: "x86_64".to_owned(),
                    licenses: vec!["MIT".to_owned()],
                    description: format!("the {name} package"),
                    build_date: EPOCH,
                    ..PackageInformation::default()
                },
                source_date_epoch: 1_700_000_000,
                ..PackageSpec::default()
            },
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub fn build(&self, recipe: Recipe) -> PackageFile {
        let information = &recipe.spec.information;
        let path = self.directory.path().join(format!("{}-{}.apk", information.name, information.version));
        build_package_file(&recipe.spec, recipe.root.path(), &path).unwrap();
        chosen(&path)
    }

    /// A package whose data member holds exactly these tar headers and contents.
    pub fn forged(&self, name: &str, entries: &[(tar::Header, &[u8])]) -> PackageFile {
        let mut data = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (header, content) in entries {
            data.append(header, *content).unwrap();
        }
        let data = data.into_inner().unwrap().finish().unwrap();
        let information = format!("pkgname = {name}\npkgver = 1.0-r0\narch = x86_64\nsize = 1\nbuilddate = {EPOCH}\n");
        let mut control = GzEncoder::new(Vec::new(), Compression::fast());
        let mut header = tar::Header::new_ustar();
        header.set_path(".PKGINFO").unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(information.len() as u64);
        header.set_cksum();
        control.write_all(header.as_bytes()).unwrap();
        control.write_all(information.as_bytes()).unwrap();
        control.write_all(&vec![0; (512 - information.len() % 512) % 512]).unwrap();
        let path = self.directory.path().join(format!("{name}-1.0-r0.apk"));
        fs::write(&path, [control.finish().unwrap(), data].concat()).unwrap();
        chosen(&path)
    }
}

impl Recipe {
    pub fn file(self, path: &str, content: &str, mode: u32) -> Self {
        let path = self.at(path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn bytes(self, path: &str, content: &[u8], mode: u32) -> Self {
        let path = self.at(path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn directory(self, path: &str, mode: u32) -> Self {
        let path = self.at(path);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        symlink(target, self.at(path)).unwrap();
        self
    }

    pub fn hardlink(self, path: &str, source: &str) -> Self {
        fs::hard_link(self.root.path().join(source), self.at(path)).unwrap();
        self
    }

    pub fn owned(mut self, path: &str, uid: u32, gid: u32) -> Self {
        self.spec.owners.insert(path.to_owned(), (uid, gid));
        self
    }

    pub fn say(mut self, change: impl FnOnce(&mut PackageInformation)) -> Self {
        change(&mut self.spec.information);
        self
    }

    fn at(&self, path: &str) -> PathBuf {
        let path = self.root.path().join(path);
        let mut made = PathBuf::new();
        for part in path.parent().unwrap().components() {
            made.push(part);
            if !made.exists() {
                fs::create_dir(&made).unwrap();
                fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        path
    }
}

/// The package file as a solver would choose it.
pub fn chosen(path: &Path) -> PackageFile {
    PackageFile { entry: Package::open(path).unwrap().index_entry(), path: path.to_owned() }
}

pub fn composed(packages: &[PackageFile], settings: &Settings, layout: &Path) -> Result<Composed, Error> {
    let mut sink = Layout::create(layout)?;
    let composition = Composition { packages, settings, architecture: Architecture::X86_64, created: EPOCH };
    let composed = compose(&composition, &mut sink)?;
    let mut named = composed.manifest.clone();
    named.set_annotations(Some([("org.opencontainers.image.ref.name".to_owned(), "test".to_owned())].into()));
    sink.write_index(vec![named])?;
    Ok(composed)
}

/// One entry of a layer, as a line: type, mode, owner, time, path, target or content.
pub fn listing(layout: &Path, composed: &Composed) -> BTreeMap<String, String> {
    layer_listing(layout, composed.layers[0].descriptor.digest().as_ref())
}

/// The entries of the layer with this digest.
pub fn layer_listing(layout: &Path, digest: &str) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(blob(layout, digest)));
    let mut lines = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let path = path.trim_end_matches('/').to_owned();
        let what = match header.entry_type() {
            tar::EntryType::Directory => "directory".to_owned(),
            tar::EntryType::Symlink => format!("-> {}", text(entry.link_name_bytes())),
            tar::EntryType::Char => {
                let numbers = (header.device_major().unwrap(), header.device_minor().unwrap());
                format!("device {}:{}", numbers.0.unwrap(), numbers.1.unwrap())
            }
            tar::EntryType::Link => format!("= {}", text(entry.link_name_bytes())),
            tar::EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                String::from_utf8_lossy(&content).into_owned()
            }
            other => panic!("unexpected {other:?} at {path}"),
        };
        let attributes: String = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|extension| extension.unwrap())
            .filter(|extension| extension.key().unwrap().starts_with("SCHILY.xattr."))
            .map(|extension| format!("[{}={:?}] ", extension.key().unwrap(), extension.value_bytes()))
            .collect();
        let line = format!(
            "{attributes}{:o} {}:{} {} {what}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap()
        );
        assert!(lines.insert(path.clone(), line).is_none(), "{path} comes twice");
    }
    lines
}

fn text(bytes: Option<std::borrow::Cow<'_, [u8]>>) -> String {
    String::from_utf8(bytes.unwrap().into_owned()).unwrap()
}

/// The content of a regular file of the lowest layer.
pub fn content(layout: &Path, composed: &Composed, wanted: &str) -> Option<Vec<u8>> {
    let digest = composed.layers[0].descriptor.digest().to_string();
    let mut archive = tar::Archive::new(MultiGzDecoder::new(blob(layout, &digest)));
    let mut entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let mut entry = entries.find(|entry| *entry.path_bytes() == *wanted.as_bytes())?;
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    Some(content)
}

pub fn blob(layout: &Path, digest: &str) -> fs::File {
    fs::File::open(layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())).unwrap()
}

pub fn json(layout: &Path, digest: &str) -> serde_json::Value {
    serde_json::from_reader(blob(layout, digest)).unwrap()
}

/// Runs a tool, or says `not run` when it isn't installed.
pub fn tool(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("not run: `{program}` is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// The folder of real packages, or `None` (said) when it isn't there.
pub fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("MINIMILL_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus")), PathBuf::from);
    if path.is_dir() {
        Some(path)
    } else {
        println!("not run: no corpus at {}", path.display());
        None
    }
}
