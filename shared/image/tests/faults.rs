//! A damaged package or a sink that fails leaves no blob behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use apk::Architecture;
use image::{BlobSink, BlobWriter, Composition, Error, PackageFile, Settings, compose};
use support::{EPOCH, Workshop};

/// Takes `room` bytes in all, like a disk that fills up, and notes what was committed.
struct SmallSink {
    room: Rc<RefCell<usize>>,
    committed: Rc<RefCell<Vec<String>>>,
}

struct SmallBlob {
    room: Rc<RefCell<usize>>,
    committed: Rc<RefCell<Vec<String>>>,
}

impl SmallSink {
    fn new(room: usize) -> Self {
        Self { room: Rc::new(RefCell::new(room)), committed: Rc::default() }
    }
}

impl BlobSink for SmallSink {
    fn begin(&mut self) -> io::Result<Box<dyn BlobWriter + '_>> {
        Ok(Box::new(SmallBlob { room: self.room.clone(), committed: self.committed.clone() }))
    }
}

impl Write for SmallBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.borrow_mut();
        let taken = bytes.len().min(*room);
        *room -= taken;
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for SmallBlob {
    fn commit(self: Box<Self>, digest: &str, _size: u64) -> io::Result<()> {
        self.committed.borrow_mut().push(digest.to_owned());
        Ok(())
    }
}

fn package(workshop: &Workshop) -> PackageFile {
    let noise: String = (0..20_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    workshop.build(workshop.package("p").file("usr/share/noise", &noise, 0o644))
}

fn into(sink: &mut SmallSink, packages: &[PackageFile]) -> Result<String, Error> {
    let settings = Settings::default();
    let composition = Composition { packages, settings: &settings, architecture: Architecture::X86_64, created: EPOCH };
    compose(&composition, sink).map(|composed| composed.manifest.digest().to_string())
}

#[test]
fn a_full_disk_is_an_error_and_commits_only_whole_blobs() {
    let workshop = Workshop::new();
    let packages = [package(&workshop)];
    let mut ample = SmallSink::new(usize::MAX);
    into(&mut ample, &packages).unwrap();
    let all = ample.committed.borrow().clone();
    let used = usize::MAX - *ample.room.borrow();
    assert_eq!(all.len(), 3, "layer, configuration and manifest");
    for room in [0, 1, 1000, used / 2, used - 1500, used - 500, used - 1] {
        let mut sink = SmallSink::new(room);
        let error = into(&mut sink, &packages).unwrap_err();
        assert!(matches!(&error, Error::Write { .. }), "{room}: {error}");
        let committed = sink.committed.borrow();
        assert!(committed.len() < 3, "{room}");
        assert_eq!(committed.as_slice(), &all[..committed.len()], "{room}");
    }
    let mut sink = SmallSink::new(used);
    into(&mut sink, &packages).unwrap();
}

#[test]
fn a_flipped_or_missing_byte_of_a_package_is_found() {
    let workshop = Workshop::new();
    let whole = package(&workshop);
    let bytes = std::fs::read(&whole.path).unwrap();
    let damaged = |bytes: &[u8]| {
        std::fs::write(&whole.path, bytes).unwrap();
        let mut sink = SmallSink::new(usize::MAX);
        let error = into(&mut sink, std::slice::from_ref(&whole)).unwrap_err();
        assert!(sink.committed.borrow().is_empty(), "{error}");
        assert!(error.to_string().contains("p-1.0-r0.apk"), "{error}");
    };
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        damaged(&changed);
    }
    for length in [0, 1, 100, bytes.len() / 2, bytes.len() - 1] {
        damaged(&bytes[..length]);
    }
}
