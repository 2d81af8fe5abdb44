//! Packages that try to write outside of the root write nothing at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::path::Path;

use image::{Error, PackageFile, Settings, unpack_root};
use support::{Workshop, composed};
use tar::{EntryType, Header};

fn header(path: &str, kind: EntryType, target: Option<&str>, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let name = header.as_old_mut();
    name.name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    if let Some(target) = target {
        header.set_link_name_literal(target).unwrap();
    }
    header.set_cksum();
    header
}

fn regular(path: &str) -> (Header, &'static [u8]) {
    (header(path, EntryType::Regular, None, 4), b"evil")
}

fn link(path: &str, target: &str) -> (Header, &'static [u8]) {
    (header(path, EntryType::Symlink, Some(target), 0), b"")
}

/// Tries both ways of laying the packages out, and checks that neither left anything.
fn refused(packages: &[PackageFile], outside: &Path) -> String {
    let root = outside.join("root");
    std::fs::create_dir(&root).unwrap();
    let unpacking = unpack_root(packages, &root).unwrap_err();
    let out = tempfile::tempdir().unwrap();
    let composing: Error = composed(packages, &Settings::default(), out.path()).unwrap_err();
    assert_eq!(composing.to_string(), unpacking.to_string());
    let left: Vec<_> = std::fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["root"], "{unpacking}");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "{unpacking}");
    assert_eq!(std::fs::read_dir(out.path().join("blobs/sha256")).unwrap().count(), 0, "{unpacking}");
    unpacking.to_string()
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    let workshop = Workshop::new();
    for path in ["../evil", "/evil", "a/../../evil", "./../evil"] {
        let outside = tempfile::tempdir().unwrap();
        let package = workshop.forged("evil", &[regular(path)]);
        let message = refused(&[package], outside.path());
        assert!(message.contains("evil"), "{message}");
    }
}

#[test]
fn writing_through_a_link_of_the_same_package_is_refused() {
    let workshop = Workshop::new();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().display().to_string();
    let package = workshop.forged("evil", &[link("x", &target), regular("x/evil")]);
    let message = refused(&[package], outside.path());
    assert!(message.contains("x/evil"), "{message}");
}

#[test]
fn writing_through_a_climbing_link_of_another_package_is_refused() {
    let workshop = Workshop::new();
    let outside = tempfile::tempdir().unwrap();
    let door = workshop.forged("door", &[link("x", "../../../..")]);
    let guest = workshop.forged("guest", &[regular("x/evil")]);
    let message = refused(&[door, guest], outside.path());
    assert!(message.contains("`/x/evil` of package `guest-1.0-r0`"), "{message}");
    assert!(message.contains("climbs out of the root"), "{message}");
}

#[test]
fn an_absolute_link_of_another_package_leads_inside_the_root() {
    let workshop = Workshop::new();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target").display().to_string();
    let door = workshop.forged("door", &[link("x", &target)]);
    let guest = workshop.forged("guest", &[regular("x/evil")]);
    let root = outside.path().join("root");
    std::fs::create_dir(&root).unwrap();
    unpack_root(&[door, guest], &root).unwrap();
    assert!(!outside.path().join("target").exists());
    assert_eq!(std::fs::read(root.join(target.trim_start_matches('/')).join("evil")).unwrap(), b"evil");
}

#[test]
fn hard_links_lead_only_to_files_of_their_own_package() {
    let workshop = Workshop::new();
    let outside = tempfile::tempdir().unwrap();
    let victim = workshop.forged("victim", &[regular("secret")]);
    let hard = (header("copy", EntryType::Link, Some("secret"), 0), b"".as_slice());
    let thief = workshop.forged("thief", &[hard]);
    let message = refused(&[victim, thief], outside.path());
    assert!(message.contains("copy"), "{message}");
}

#[test]
fn devices_and_directories_that_are_links_are_refused() {
    let workshop = Workshop::new();
    let outside = tempfile::tempdir().unwrap();
    let device = (header("dev/sda", EntryType::Block, None, 0), b"".as_slice());
    refused(&[workshop.forged("device", &[device])], outside.path());
}

#[test]
fn a_root_is_unpacked_only_into_an_empty_directory() {
    let workshop = Workshop::new();
    let root = tempfile::tempdir().unwrap();
    let package = workshop.build(
        workshop
            .package("p")
            .file("usr/lib/libz.a", "z", 0o640)
            .symlink("usr/lib/libz.so", "libz.a")
            .hardlink("usr/lib/l", "usr/lib/libz.a"),
    );
    unpack_root(std::slice::from_ref(&package), root.path()).unwrap();
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(root.path().join("usr/lib/libz.a")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o640, 1_700_000_000, 2));
    assert_eq!(std::fs::metadata(root.path().join("usr/lib")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(std::fs::read(root.path().join("usr/lib/libz.so")).unwrap(), b"z");
    assert!(matches!(unpack_root(&[package], root.path()), Err(Error::NotEmpty(_))));
}
