use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Seek, SeekFrom};

use apk::{Dynamic, read_dynamic};
use recipe::rules;

use crate::Error;
use crate::base::BaseFiles;
use crate::facts::Opened;
use crate::system::write;
use crate::tree::{Content, Kind, Tree};

pub(crate) const CONFIGURATION: &str = "etc/ld.so.conf";
pub(crate) const CONFIGURATIONS: &str = "etc/ld.so.conf.d/";
pub(crate) const CACHE: &str = "etc/ld.so.cache";
/// The largest library that is looked into, in bytes.
const LIBRARY_BYTES: u64 = 1 << 30;
/// How deep configurations may include each other.
const DEPTH: usize = 8;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
const LITTLE_ENDIAN: u8 = 2;
/// `FLAG_ELF_LIBC6`, and the architectures' own flags.
const LIBC6: u32 = 0x0003;
const MACHINES: [(u16, u32); 2] = [(62, 0x0300), (183, 0x0a00)];

/// Writes `/etc/ld.so.cache` where a package brings `/etc/ld.so.conf`, as glibc's `ldconfig` would:
/// the libraries of `/lib` and of the folders that it names. The entries of a base's cache stay, but for those
/// whose file is another now.
pub(crate) fn add(
    tree: &mut Tree,
    base: Option<&BaseFiles>,
    packages: &mut [Opened],
    captured: &BTreeMap<String, Vec<u8>>,
    mtime: u64,
) -> Result<(), Error> {
    let configurations = configurations(tree, base, captured);
    let captured = &configurations;
    if !captured.contains_key(CONFIGURATION) {
        return Ok(());
    }
    let mut folders = vec!["/lib".to_owned()];
    parse(captured, CONFIGURATION, DEPTH, &mut folders);
    let mut candidates = Vec::new();
    for folder in folders {
        let place = rules::absolute_path(&folder).ok().and_then(|inside| tree.follow(inside).ok());
        let Some(place) = place.filter(|place| tree.is_directory(place)) else { continue };
        for path in tree.below(&place) {
            let Some(name) = path.strip_prefix(&place).map(|name| name.trim_start_matches('/')) else { continue };
            if name.contains('/') || stem(name).is_none() {
                continue;
            }
            if let Some(content) = content(tree, path) {
                candidates.push((format!("{}/{name}", folder.trim_end_matches('/')), name.to_owned(), content));
            }
        }
    }
    let wanted: BTreeSet<(usize, usize)> = candidates.iter().map(|(.., content)| *content).collect();
    let libraries = look_into(packages, &wanted)?;
    // No library is new, so a base's cache still holds.
    if candidates.is_empty() && base.is_some_and(|base| base.content(CACHE).is_some()) {
        return Ok(());
    }
    let mut entries = below(tree, base)?;
    for (path, name, content) in candidates {
        if let Some(library) = libraries.get(&content)
            && let Some(flags) = flags(library, &name)
        {
            entries.push((name, path, flags));
        }
    }
    entries.sort_by(|(first, ..), (second, ..)| compare(second, first));
    write(tree, CACHE, encode(&entries), mtime)
}

/// The configurations of the packages, over those of a base.
fn configurations(
    tree: &Tree,
    base: Option<&BaseFiles>,
    captured: &BTreeMap<String, Vec<u8>>,
) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let is_one = |path: &str| path == CONFIGURATION || path.starts_with(CONFIGURATIONS);
    if let Some(base) = base {
        let places = tree.below("etc").filter(|path| is_one(path));
        found.extend(places.filter_map(|path| {
            let place = tree.file(path).ok()?;
            Some((path.to_owned(), base.content(&place)?.to_vec()))
        }));
    }
    found.extend(captured.iter().filter(|(path, _)| is_one(path)).map(|(path, bytes)| (path.clone(), bytes.clone())));
    found
}

/// The entries of a base's cache whose files are still the base's.
fn below(tree: &Tree, base: Option<&BaseFiles>) -> Result<Vec<(String, String, u32)>, Error> {
    let Some(bytes) = base.and_then(|base| base.content(CACHE)) else { return Ok(Vec::new()) };
    let entries = decode(bytes).ok_or_else(|| Error::Path {
        setting: "base image".to_owned(),
        path: format!("/{CACHE}"),
        problem: "it is no cache of glibc's loader in its newer form".to_owned(),
    })?;
    let stays = |path: &str| {
        let place = rules::absolute_path(path).ok().and_then(|inside| tree.follow(inside).ok());
        let node = place.and_then(|place| tree.get(&place));
        matches!(node.map(|node| &node.kind), Some(Kind::File(Content::Base { .. })))
    };
    Ok(entries.into_iter().filter(|(_, path, _)| stays(path)).collect())
}

/// Reads what [`encode`] writes.
fn decode(file: &[u8]) -> Option<Vec<(String, String, u32)>> {
    let number = |at: usize| Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let text = |at: u32| {
        let rest = file.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok().map(str::to_owned)
    };
    file.strip_prefix(MAGIC)?;
    let count = usize::try_from(number(MAGIC.len())?).ok()?;
    if count > file.len() / ENTRY_BYTES {
        return None;
    }
    let entry = |position: usize| {
        let at = HEADER_BYTES + position * ENTRY_BYTES;
        Some((text(number(at + 4)?)?, text(number(at + 8)?)?, number(at)?))
    };
    (0..count).map(entry).collect()
}

/// Adds the folders that a configuration names; later mentions of one add nothing.
fn parse(captured: &BTreeMap<String, Vec<u8>>, path: &str, depth: usize, folders: &mut Vec<String>) {
    let text = captured.get(path).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            let pattern = pattern.trim().trim_start_matches('/');
            let found = captured.keys().filter(|path| matches(pattern, path));
            for path in found.cloned().collect::<Vec<_>>() {
                if depth > 0 {
                    parse(captured, &path, depth - 1, folders);
                }
            }
        } else if !line.is_empty() && !folders.iter().any(|known| known == line) {
            folders.push(line.to_owned());
        }
    }
}

/// Whether a path is what a pattern with at most one `*`, which stands for no `/`, means.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|middle| !middle.contains('/')),
    }
}

/// `libx` of `libx.so` and `libx.so.1`; only such names, and the loader's own, are in the cache.
fn stem(name: &str) -> Option<&str> {
    if !name.starts_with("lib") && !name.starts_with("ld-") {
        return None;
    }
    name.strip_suffix(".so").or_else(|| name.rfind(".so.").and_then(|at| name.get(..at)))
}

/// The package and its entry whose content is at a path, or where a link at it leads.
fn content(tree: &Tree, path: &str) -> Option<(usize, usize)> {
    let place = tree.follow(path).ok()?;
    let mut node = tree.get(&place)?;
    if let Kind::Hardlink(file) = &node.kind {
        node = tree.get(file)?;
    }
    match node.kind {
        Kind::File(Content::Package { package, entry, .. }) => Some((package, entry)),
        _ => None,
    }
}

fn look_into(
    packages: &mut [Opened],
    wanted: &BTreeSet<(usize, usize)>,
) -> Result<BTreeMap<(usize, usize), Dynamic>, Error> {
    let mut libraries = BTreeMap::new();
    for (number, opened) in packages.iter_mut().enumerate() {
        if wanted.range((number, 0)..(number + 1, 0)).next().is_none() {
            continue;
        }
        let mut count = 0;
        opened.package.visit::<Error>(|entry, content| {
            let key = (number, count);
            count += 1;
            if !wanted.contains(&key) || entry.size > LIBRARY_BYTES {
                return Ok(());
            }
            // On disk, since the tables are anywhere in it and it may be large.
            let mut spool = || -> io::Result<std::fs::File> {
                let mut file = tempfile::tempfile()?;
                io::copy(content, &mut file)?;
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            };
            let file = spool().map_err(Error::write(format!("`/{}` to a temporary file", entry.path)))?;
            libraries.extend(read_dynamic(file).map(|library| (key, library)));
            Ok(())
        })?;
    }
    Ok(libraries)
}

/// The flags of a library under a name that programs ask for: its soname, or the name without a
/// version that linking takes.
fn flags(library: &Dynamic, name: &str) -> Option<u32> {
    if !library.shared {
        return None;
    }
    let (_, machine) = MACHINES.iter().find(|(machine, _)| *machine == library.machine)?;
    let asked = match library.sonames.first() {
        Some(soname) => name == soname || stem(soname).is_some_and(|stem| name == format!("{stem}.so")),
        None => name.ends_with(".so"),
    };
    asked.then_some(LIBC6 | machine)
}

/// The order in which the loader searches: runs of digits by their number.
fn compare(first: &str, second: &str) -> Ordering {
    let (mut first, mut second) = (first.as_bytes(), second.as_bytes());
    loop {
        match (first, second) {
            ([], []) => return Ordering::Equal,
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (one, rest_of_first) = digits(first);
                let (other, rest_of_second) = digits(second);
                // Without leading zeros, the longer number is the larger.
                match one.len().cmp(&other.len()).then_with(|| one.cmp(other)) {
                    Ordering::Equal => (first, second) = (rest_of_first, rest_of_second),
                    order => return order,
                }
            }
            ([a, ..], _) if a.is_ascii_digit() => return Ordering::Greater,
            (_, [b, ..]) if b.is_ascii_digit() => return Ordering::Less,
            ([a, rest_of_first @ ..], [b, rest_of_second @ ..]) if a == b => {
                (first, second) = (rest_of_first, rest_of_second);
            }
            _ => return first.cmp(second),
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    (number.get(zeros..).unwrap_or_default(), rest)
}

/// The file: a header, the entries, and the texts that they point at.
fn encode(entries: &[(String, String, u32)]) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut table = Vec::new();
    let mut texts = Vec::new();
    let start = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    for (name, path, flags) in entries {
        let value = start + texts.len();
        table.extend_from_slice(&flags.to_le_bytes());
        table.extend_from_slice(&number(value + path.len() - name.len()));
        table.extend_from_slice(&number(value));
        // No version of the kernel and no capability of the processor is asked for.
        table.extend_from_slice(&[0; 12]);
        texts.extend_from_slice(path.as_bytes());
        texts.push(0);
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&number(entries.len()));
    file.extend_from_slice(&number(texts.len()));
    file.push(LITTLE_ENDIAN);
    file.resize(HEADER_BYTES, 0);
    file.extend_from_slice(&table);
    file.extend_from_slice(&texts);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_the_loader_searches() {
        let mut names = ["libx.so.10", "libx.so.9", "libx.so", "libab.so.1", "liba.so.1", "libx.so.010"];
        names.sort_by(|first, second| compare(second, first));
        assert_eq!(names, ["libx.so.10", "libx.so.010", "libx.so.9", "libx.so", "libab.so.1", "liba.so.1"]);
    }

    #[test]
    fn a_cache_reads_back_and_damage_is_no_cache() {
        let entry = |name: &str, path: &str| (name.to_owned(), path.to_owned(), LIBC6 | 0x0300);
        let entries = vec![entry("libz.so.1", "/usr/lib/libz.so.1"), entry("liba.so", "/lib/liba.so")];
        let file = encode(&entries);
        assert_eq!(decode(&file), Some(entries));
        for end in 0..file.len() {
            assert!(file.get(..end).and_then(decode).is_none(), "{end}");
        }
    }

    #[test]
    fn folders_come_from_the_configuration_and_what_it_includes() {
        let file = |text: &str| text.as_bytes().to_vec();
        let captured = BTreeMap::from([
            (CONFIGURATION.to_owned(), file("/usr/lib # own\ninclude /etc/ld.so.conf.d/*.conf\n/opt/lib\n/usr/lib\n")),
            ("etc/ld.so.conf.d/a.conf".to_owned(), file("/a\ninclude /etc/ld.so.conf\n")),
            ("etc/ld.so.conf.d/b.txt".to_owned(), file("/b\n")),
        ]);
        let mut folders = Vec::new();
        parse(&captured, CONFIGURATION, DEPTH, &mut folders);
        assert_eq!(folders, ["/usr/lib", "/a", "/opt/lib"]);
    }
}
