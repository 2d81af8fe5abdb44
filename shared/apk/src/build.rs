//! Building one package from a tree. The same tree and specification give the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::archive::package::Script;
use crate::archive::reader::{FileEntry, FileKind};
use crate::archive::writer::{TarWriter, gzip};
use crate::hashing::HashingWriter;
use crate::tree;
use crate::{Checksum, Error, PackageInformation, Result};

/// What a directory counts for in `size`. File systems differ in what they report, so it is fixed.
pub const DIRECTORY_SIZE: u64 = 4096;

/// What a package is to say, besides its files.
#[derive(Clone, Debug, Default)]
pub struct PackageSpec {
    /// `.PKGINFO`. `installed_size` and `data_hash` are computed; what they hold is ignored.
    pub information: PackageInformation,
    /// Provides that are bundled privately: comments in `.PKGINFO`.
    pub vendored: Vec<String>,
    /// The content of `.melange.yaml`, if it is to be there.
    pub definition: Option<String>,
    /// Scripts by kind.
    pub scripts: BTreeMap<Script, String>,
    /// The time of every entry, in seconds since 1970-01-01 UTC.
    pub source_date_epoch: u64,
    /// Owner and group of paths that root doesn't own.
    pub owners: BTreeMap<String, (u32, u32)>,
    /// Extended attributes by path: name and value, for example `security.capability`.
    pub xattrs: BTreeMap<String, Vec<(String, Vec<u8>)>>,
}

/// What was built. The bytes are unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPackage {
    /// The specification's, with `installed_size` and `data_hash` filled in.
    pub information: PackageInformation,
    /// SHA-256 of the compressed control member: what is to be signed.
    pub control_sha256: [u8; 32],
    /// SHA-1 of the compressed control member: `C:` in an index.
    pub checksum: Checksum,
    /// Bytes of the unsigned package.
    pub size: u64,
}

/// Builds the package of the tree below `root` and writes it, unsigned, to `writer`.
///
/// The data member goes through `spool`, which is overwritten from its start, because the control
/// member before it states its hash. Modes are taken from the tree; owners are root but for
/// `spec.owners`; times are `spec.source_date_epoch`; entries are sorted by name in each
/// directory. Devices, named pipes and sockets are refused.
pub fn build_package(
    spec: &PackageSpec,
    root: &Path,
    spool: &mut (impl Read + Write + Seek),
    writer: &mut impl Write,
) -> Result<BuiltPackage> {
    let spool_error = |error| Error::io("spool file", error);
    spool.seek(SeekFrom::Start(0)).map_err(spool_error)?;
    let mut hashing = HashingWriter::<_, Sha256>::new(io::BufWriter::new(&mut *spool));
    let installed_size = write_data(spec, root, &mut hashing)?;
    hashing.flush().map_err(spool_error)?;
    let (_, data_hash, data_size) = hashing.finish();
    let data_hash = hex::encode(data_hash.finalize());
    let information = PackageInformation { installed_size, data_hash, ..spec.information.clone() };
    let control = control_member(spec, &information)?;
    let output_error = |error| Error::io(information.file_name(), error);
    writer.write_all(&control).map_err(output_error)?;
    spool.seek(SeekFrom::Start(0)).map_err(spool_error)?;
    let copied = io::copy(&mut spool.take(data_size), writer).map_err(output_error)?;
    if copied != data_size {
        return Err(Error::Io { what: "spool file".to_owned(), source: io::ErrorKind::UnexpectedEof.into() });
    }
    Ok(BuiltPackage {
        control_sha256: Sha256::digest(&control).into(),
        checksum: Checksum::of(&control),
        size: control.len() as u64 + data_size,
        information,
    })
}

/// Builds the package as the file `path`, which appears only when it is complete and on disk.
///
/// Its temporary files lie in the same folder and have names that begin with a dot.
pub fn build_package_file(spec: &PackageSpec, root: &Path, path: &Path) -> Result<BuiltPackage> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut spool = tempfile::tempfile_in(folder).map_err(Error::at(folder))?;
    let mut output = tempfile::Builder::new().prefix(".apk-").tempfile_in(folder).map_err(Error::at(folder))?;
    let built = build_package(spec, root, &mut spool, &mut output)?;
    let file = output.as_file();
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(Error::at(path))?;
    file.sync_all().map_err(Error::at(path))?;
    output.persist(path).map_err(|error| Error::io(path.display(), error.error))?;
    Ok(built)
}

fn control_member(spec: &PackageSpec, information: &PackageInformation) -> Result<Vec<u8>> {
    let mut tar = TarWriter::new(gzip(Vec::new()), spec.source_date_epoch);
    tar.control_file(".PKGINFO", 0o644, information.write(&spec.vendored)?.as_bytes())?;
    if let Some(definition) = &spec.definition {
        tar.control_file(".melange.yaml", 0o644, definition.as_bytes())?;
    }
    for (script, content) in &spec.scripts {
        tar.control_file(script.entry_name(), 0o755, content.as_bytes())?;
    }
    tar.into_inner().finish().map_err(|error| Error::io("control member", error))
}

/// Writes the data member and returns the installed size.
fn write_data(spec: &PackageSpec, root: &Path, into: &mut impl Write) -> Result<u64> {
    let files = tree::walk(root)?;
    for found in &files {
        refuse_special(found)?;
    }
    for path in spec.owners.keys().chain(spec.xattrs.keys()) {
        if !files.iter().any(|file| file.path == *path) {
            return Err(Error::tree(&root.join(path), "an owner or attribute is stated for it, but it isn't there"));
        }
    }
    let mut tar = TarWriter::new(gzip(into), spec.source_date_epoch);
    let mut installed_size = DIRECTORY_SIZE;
    let mut first_names: HashMap<(u64, u64), String> = HashMap::new();
    for found in files {
        let tree::TreeEntry { path, absolute, metadata } = found;
        let (uid, gid) = spec.owners.get(&path).copied().unwrap_or_default();
        let mut entry = FileEntry {
            kind: FileKind::Directory,
            mode: metadata.mode() & 0o7777,
            uid,
            gid,
            mtime: spec.source_date_epoch,
            size: 0,
            checksum: None,
            xattrs: spec.xattrs.get(&path).cloned().unwrap_or_default(),
            path,
        };
        if metadata.is_dir() {
            installed_size += DIRECTORY_SIZE;
            tar.entry(&entry, &mut io::empty())?;
            continue;
        }
        installed_size += metadata.len();
        if metadata.is_symlink() {
            let target = fs::read_link(&absolute).map_err(Error::at(&absolute))?;
            let target = target.to_str().ok_or_else(|| Error::tree(&absolute, "its link target is not UTF-8"))?;
            entry.mode = 0o777;
            entry.checksum = Some(Checksum::of(target.as_bytes()));
            entry.kind = FileKind::Symlink(target.to_owned());
            tar.entry(&entry, &mut io::empty())?;
            continue;
        }
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = first_names.get(&identity) {
                entry.kind = FileKind::Hardlink(first.clone());
                tar.entry(&entry, &mut io::empty())?;
                continue;
            }
            first_names.insert(identity, entry.path.clone());
        }
        entry.kind = FileKind::Regular;
        entry.size = metadata.len();
        entry.checksum = Some(file_checksum(&absolute, entry.size)?);
        let mut content = File::open(&absolute).map_err(Error::at(&absolute))?;
        tar.entry(&entry, &mut content)?;
    }
    tar.end()?;
    tar.into_inner().finish().map_err(|error| Error::io("data member", error))?;
    Ok(installed_size)
}

fn refuse_special(found: &tree::TreeEntry) -> Result<()> {
    let kind = found.metadata.file_type();
    for (refused, what) in [
        (kind.is_block_device() || kind.is_char_device(), "device nodes"),
        (kind.is_fifo(), "named pipes"),
        (kind.is_socket(), "sockets"),
    ] {
        if refused {
            return Err(Error::tree(&found.absolute, format_args!("{what} can't be packaged")));
        }
    }
    Ok(())
}

fn file_checksum(path: &Path, size: u64) -> Result<Checksum> {
    let mut content = BufReader::with_capacity(128 << 10, File::open(path).map_err(Error::at(path))?);
    let mut sha1 = Sha1::new();
    let mut read = 0;
    loop {
        let buffer = content.fill_buf().map_err(Error::at(path))?;
        let count = buffer.len();
        if count == 0 {
            break;
        }
        sha1.update(buffer);
        content.consume(count);
        read += count as u64;
    }
    if read != size {
        return Err(Error::tree(path, format_args!("it changed from {size} to {read} bytes while it was read")));
    }
    Ok(Checksum(sha1.finalize().into()))
}
