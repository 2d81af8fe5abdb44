//! Indexes: text, archive, signature.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use apk::{Error, Index, IndexEntry, Keyring, Package, PackageInformation, Trust};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use support::{KEY_NAME, corpus, key, keyring};

fn index() -> Index {
    Index {
        description: "test".into(),
        entries: vec![
            IndexEntry {
                checksum: "Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=".into(),
                size: 10,
                information: PackageInformation {
                    name: "hello".into(),
                    version: "1.0-r0".into(),
                    architecture: "x86_64".into(),
                    installed_size: 20,
                    description: "greets".into(),
                    url: "https://example.org".into(),
                    licenses: vec!["MIT".into()],
                    origin: "hello".into(),
                    maintainer: "who".into(),
                    build_date: 5,
                    commit: "abc".into(),
                    depends: vec!["so:libc.musl-x86_64.so.1".into(), "!bad".into()],
                    install_if: vec!["a".into(), "b".into()],
                    provides: vec!["cmd:hello=1.0-r0".into()],
                    provider_priority: 3,
                    ..PackageInformation::default()
                },
            },
            IndexEntry {
                checksum: "Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=".into(),
                information: PackageInformation {
                    name: "empty".into(),
                    version: "2".into(),
                    ..PackageInformation::default()
                },
                ..IndexEntry::default()
            },
        ],
    }
}

fn signed(index: &Index) -> Vec<u8> {
    let unsigned = index.write(0).unwrap();
    let signature = key().sign_sha256_digest(&Sha256::digest(&unsigned).into()).unwrap();
    let mut bytes = Vec::new();
    apk::attach_signature(&mut unsigned.as_slice(), KEY_NAME, &signature, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn letters_are_in_apko_order() {
    insta::assert_snapshot!(Index::write_text(&index().entries).unwrap(), @r"
    C:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=
    P:hello
    V:1.0-r0
    A:x86_64
    S:10
    I:20
    T:greets
    U:https://example.org
    L:MIT
    o:hello
    m:who
    t:5
    c:abc
    D:so:libc.musl-x86_64.so.1 !bad
    i:a b
    p:cmd:hello=1.0-r0
    k:3

    C:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=
    P:empty
    V:2
    T:
    ");
}

#[test]
fn a_signed_index_reads_back() {
    let bytes = signed(&index());
    assert_eq!(bytes, signed(&index()));
    let read = Index::read("i", bytes.as_slice(), Trust::Keyring(&keyring())).unwrap();
    assert_eq!((read.index, read.signed_by.as_deref()), (index(), Some(KEY_NAME)));
    let read = Index::read("i", bytes.as_slice(), Trust::Unverified).unwrap();
    assert_eq!((read.index, read.signed_by), (index(), None));
}

#[test]
fn an_unsigned_index_is_refused_unless_asked_for() {
    let bytes = index().write(0).unwrap();
    let keyring = keyring();
    assert!(matches!(Index::read("i", bytes.as_slice(), Trust::Keyring(&keyring)), Err(Error::Unsigned { .. })));
    assert!(matches!(
        Index::read("i", signed(&index()).as_slice(), Trust::Keyring(&Keyring::default())),
        Err(Error::UnknownKey { .. })
    ));
    assert_eq!(Index::read("i", bytes.as_slice(), Trust::Unverified).unwrap().index, index());
}

#[test]
fn every_flipped_or_missing_byte_is_detected() {
    let bytes = signed(&index());
    let keyring = keyring();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Index::read("i", damaged.as_slice(), Trust::Keyring(&keyring)).is_err(), "byte {at}");
        assert!(Index::read("i", &bytes[..at], Trust::Keyring(&keyring)).is_err(), "{at} bytes");
    }
}

#[test]
fn bad_lines_are_named() {
    let problem = |text: &str| Index::parse_text("i", text).unwrap_err().to_string();
    assert_eq!(problem("P:a\nV:1\nS:x\n\n"), "i:3: `S:` expected a whole number, found `x`");
    assert_eq!(problem("P:a\nV:1\nP:b\n\n"), "i:3: `P:` comes twice in one record; a blank line ends a record");
    assert_eq!(problem("hello\n"), "i:1: expected a letter, `:` and a value, found `hello`");
    assert!(problem("C:Q1xx\n").starts_with("i:1: `Q1xx` is not a checksum"));
    assert!(problem("P:a\n\n").starts_with("i:2: the record that ends here: `V`"));
    assert!(problem("P:../a\nV:1\n").contains("`P` can't be `../a`"));
    assert_eq!(Index::parse_text("i", "P:a\nV:1\n").unwrap().len(), 1);
    assert_eq!(Index::parse_text("i", "\n\nP:a\nV:1\nz:?\n\n\n").unwrap().len(), 1);
}

#[test]
fn corpus_indexes_parse_and_write_back_the_same_records() {
    let Some(corpus) = corpus() else { return };
    let path = corpus.join("alpine-316/APKINDEX.tar.gz");
    let read = Index::open(&path, Trust::Unverified).unwrap();
    assert_eq!(read.index.entries.len(), 4929);
    let original = {
        let bytes = std::fs::read(&path).unwrap();
        let mut text = String::new();
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().to_str() == Some("APKINDEX") {
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            }
        }
        text
    };
    let records = |text: &str| -> Vec<Vec<String>> {
        text.trim_end()
            .split("\n\n")
            .map(|record| {
                let mut lines: Vec<_> = record.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            })
            .collect()
    };
    // abuild orders the lines of a record in its own way; the lines themselves are equal.
    assert_eq!(records(&Index::write_text(&read.index.entries).unwrap()), records(&original));

    let beside = Keyring::from_folder(&corpus.join("packages")).unwrap();
    let folder = corpus.join("packages/x86_64");
    let read = Index::open(&folder.join("APKINDEX.tar.gz"), Trust::Keyring(&beside)).unwrap();
    assert_eq!(read.signed_by.as_deref(), Some("melange.rsa.pub"));
    let present = |entry: &&IndexEntry| folder.join(entry.file_name()).exists();
    assert!(read.index.entries.iter().filter(present).count() >= 2);
    for entry in read.index.entries.iter().filter(present) {
        let package = Package::open(&folder.join(entry.file_name())).unwrap();
        assert_eq!(package.checksum().to_string(), entry.checksum);
        assert_eq!(package.size(), entry.size);
    }
}

proptest! {
    #[test]
    fn any_record_round_trips(
        names in proptest::collection::vec(("[a-z0-9+_][a-z0-9.+_-]{0,20}", "[0-9][0-9.a-z_-]{0,10}", "\\PC{0,40}", proptest::collection::vec("[!-~]{1,20}", 0..5), any::<u64>(), any::<i64>()), 0..20)
    ) {
        let entries: Vec<IndexEntry> = names.into_iter().map(|(name, version, description, words, size, date)| IndexEntry {
            checksum: apk::Checksum::of(name.as_bytes()).to_string(),
            size,
            information: PackageInformation { name, version, description, depends: words.clone(), provides: words, installed_size: size / 2, build_date: date, ..PackageInformation::default() },
        }).collect();
        let text = Index::write_text(&entries).unwrap();
        prop_assert_eq!(Index::parse_text("i", &text).unwrap(), entries);
    }

    #[test]
    fn hostile_text_never_panics(text in "([A-Za-z]:[ -~]{0,10}\n|\n|\\PC{0,5}\n){0,20}") {
        let _ = Index::parse_text("i", &text);
        let _ = PackageInformation::parse("p", &text);
    }
}
