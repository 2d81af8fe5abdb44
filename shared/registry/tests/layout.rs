//! Layouts on disk: many writers, deaths, changed bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    sync::{Arc, Barrier},
    time::{Duration, SystemTime},
};

use registry::{Digest, Error, Layout, Layouts, Registry, TagRule};
use serde_json::json;
use support::{push_image, repository, tag};

fn manifest(layout: &Layout, text: &str, subject: Option<Digest>) -> Vec<u8> {
    let blob = layout.put_blob(text.as_bytes()).unwrap();
    let descriptor = json!({"mediaType": "text/plain", "digest": blob, "size": text.len()});
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": format!("application/x-{}", text.len() % 2),
        "config": descriptor,
        "layers": [],
        "annotations": {"text": text},
    });
    if let Some(subject) = subject {
        manifest["subject"] =
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 1});
    }
    serde_json::to_vec(&manifest).unwrap()
}

#[test]
fn many_threads_tag_at_once_and_nothing_is_lost() {
    const THREADS: usize = 8;
    const EACH: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let subject = Digest::of(b"subject");
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (path, barrier) = (path.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                let layout = Layout::create(&path).unwrap();
                for number in 0..EACH {
                    let bytes = manifest(&layout, &format!("{thread}-{number}"), Some(subject));
                    let own = tag(&format!("t{thread}-{number}"));
                    layout.put_manifest(&bytes, Some(&own), TagRule::Immutable).unwrap();
                    layout.put_manifest(&bytes, Some(&tag("latest")), TagRule::Move).unwrap();
                    assert!(!layout.referrers(subject, None).unwrap().is_empty());
                    assert!(layout.manifest(&tag("latest").into()).unwrap().is_some());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let layout = Layout::open(&path).unwrap().unwrap();
    assert_eq!(layout.tags().unwrap().len(), THREADS * EACH + 2, "each, latest, the referrers");
    assert_eq!(layout.referrers(subject, None).unwrap().len(), THREADS * EACH);
    for (tag, digest) in layout.tags().unwrap() {
        assert_eq!(layout.manifest(&tag.into()).unwrap().unwrap().digest, digest);
    }
    // Lists of referrers that were replaced are gone: one blob each, one manifest each, one list.
    let blobs = fs::read_dir(path.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 2 * THREADS * EACH + 1);
    assert_eq!(fs::read_dir(path.join(".partial")).unwrap().count(), 0);
}

#[test]
fn an_immutable_tag_stays() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let (one, other) = (manifest(&layout, "one", None), manifest(&layout, "other", None));
    let name = tag("1.0");
    let first = layout.put_manifest(&one, Some(&name), TagRule::Immutable).unwrap();
    assert_eq!(layout.put_manifest(&one, Some(&name), TagRule::Immutable).unwrap(), first);
    let error = layout.put_manifest(&other, Some(&name), TagRule::Immutable).unwrap_err();
    assert!(
        matches!(&error, Error::TagConflict { tag, found, wanted }
            if tag == "1.0" && *found == first.digest && *wanted == Digest::of(&other)),
        "{error}"
    );
    assert_eq!(layout.manifest(&Digest::of(&other).into()).unwrap(), None, "nothing was put");
    layout.put_manifest(&other, Some(&name), TagRule::Move).unwrap();
    let untagged = layout.manifest(&first.digest.into()).unwrap().unwrap();
    assert_eq!(untagged.bytes, one, "still reachable by digest");
}

#[test]
fn racing_immutable_pushes_have_one_winner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let (path, barrier) = (path.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let layout = Layout::create(&path).unwrap();
                let bytes = manifest(&layout, &format!("{thread}"), None);
                barrier.wait();
                layout.put_manifest(&bytes, Some(&tag("x")), TagRule::Immutable).is_ok()
            })
        })
        .collect();
    let won = threads.into_iter().filter(|_| true).map(|thread| thread.join().unwrap());
    assert_eq!(won.filter(|won| *won).count(), 1);
}

#[test]
fn a_flipped_bit_is_noticed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let digest = layout.put_blob(&vec![7; 700_000]).unwrap();
    let path = folder.path().join("blobs/sha256").join(digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[350_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = layout.read_blob(digest, 1 << 20).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { expected, .. } if *expected == digest), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    let mut reader = layout.open_blob(digest).unwrap().unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());

    // Putting it again mends it.
    layout.put_blob(&vec![7; 700_000]).unwrap();
    assert_eq!(layout.read_blob(digest, 1 << 20).unwrap().unwrap().len(), 700_000);
    assert!(matches!(layout.read_blob(digest, 10), Err(Error::TooLarge { .. })));

    let bytes = manifest(&layout, "x", None);
    let put = layout.put_manifest(&bytes, Some(&tag("x")), TagRule::Move).unwrap();
    let path = folder.path().join("blobs/sha256").join(put.digest.hex());
    fs::write(&path, String::from_utf8(bytes).unwrap().replace("\"x\"", "\"y\"")).unwrap();
    for reference in [tag("x").into(), put.digest.into()] {
        assert!(matches!(layout.manifest(&reference), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn what_the_dead_leave_is_ignored_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let bytes = manifest(&layout, "x", None);
    layout.put_manifest(&bytes, Some(&tag("x")), TagRule::Move).unwrap();
    let partial = folder.path().join(".partial");
    let old = SystemTime::now() - Duration::from_secs(3600);
    let make = |name: &str, time: SystemTime| {
        let mut file = File::create(partial.join(name)).unwrap();
        file.write_all(b"half of a blo").unwrap();
        file.set_modified(time).unwrap();
        file
    };
    drop(make("dead", old));
    let living = make("living", old);
    living.lock().unwrap();
    drop(make("young", SystemTime::now()));
    let mut writer = layout.begin_blob().unwrap();
    writer.write_all(b"abandoned").unwrap();
    drop(writer);

    let layout = Layout::create(folder.path()).unwrap();
    let left: BTreeSet<_> =
        fs::read_dir(&partial).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, BTreeSet::from(["living".to_owned(), "young".to_owned()]));
    assert_eq!(layout.tags().unwrap().len(), 1);
    assert_eq!(layout.read_blob(Digest::of(b"abandoned"), 100).unwrap(), None);
}

#[test]
fn referrers_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let subject = Digest::of(b"not there, which is allowed");
    let names = ["a", "bb", "ccc"];
    let digests: Vec<_> = names
        .iter()
        .map(|name| {
            let bytes = manifest(&layout, name, Some(subject));
            let put = layout.put_manifest(&bytes, None, TagRule::Move).unwrap();
            assert_eq!(put.subject, Some(subject));
            layout.put_manifest(&bytes, None, TagRule::Move).unwrap();
            put.digest
        })
        .collect();
    let all = layout.referrers(subject, None).unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|found| found.annotations().as_ref().unwrap().contains_key("text")));
    assert_eq!(layout.referrers(subject, Some("application/x-1")).unwrap().len(), 2);
    assert_eq!(layout.referrers(subject, Some("application/x-2")).unwrap().len(), 0);
    assert_eq!(layout.tags().unwrap().len(), 1);
    assert!(layout.tags().unwrap()[0].0.is_of_referrers());

    // Another order of pushes gives the same list.
    let other = tempfile::tempdir().unwrap();
    let other = Layout::create(other.path()).unwrap();
    for name in names.iter().rev() {
        let bytes = manifest(&other, name, Some(subject));
        other.put_manifest(&bytes, None, TagRule::Move).unwrap();
    }
    assert_eq!(layout.tags().unwrap(), other.tags().unwrap());

    for (number, digest) in digests.iter().enumerate() {
        assert!(layout.delete_manifest(&(*digest).into()).unwrap());
        assert!(!layout.delete_manifest(&(*digest).into()).unwrap());
        assert_eq!(layout.referrers(subject, None).unwrap().len(), 2 - number);
    }
    assert!(layout.tags().unwrap().is_empty());
}

#[test]
fn bad_manifests_and_layouts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path().join("a")).unwrap();
    let other = Layout::create(folder.path().join("b")).unwrap();
    let bytes = manifest(&other, "only there", None);
    let error = layout.put_manifest(&bytes, Some(&tag("x")), TagRule::Move).unwrap_err();
    assert!(
        matches!(&error, Error::ContentMissing { missing, .. } if missing == &[Digest::of(b"only there")]),
        "{error}"
    );
    assert!(layout.tags().unwrap().is_empty());
    assert!(matches!(layout.put_manifest(b"{}", None, TagRule::Move), Err(Error::ManifestInvalid { .. })));
    let blob = layout.put_blob(b"no manifest").unwrap();
    assert_eq!(layout.manifest(&blob.into()).unwrap(), None);

    assert!(Layout::open(folder.path()).unwrap().is_none());
    assert!(Layout::open(folder.path().join("absent")).unwrap().is_none());
    fs::write(folder.path().join("a/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(Layout::open(folder.path().join("a")), Err(Error::NotALayout { .. })));
    fs::write(folder.path().join("b/index.json"), "{").unwrap();
    let error = other.tags().unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
}

#[tokio::test]
async fn repositories_are_folders_that_may_nest() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = Layouts::new(folder.path().join("registry"));
    assert!(layouts.list().unwrap().is_empty());
    for name in ["redis", "redis/next", "a/b/c"] {
        push_image(&layouts, &repository(name), &tag("latest"), name).await;
    }
    let names: Vec<_> = layouts.list().unwrap().into_iter().map(String::from).collect();
    assert_eq!(names, ["a/b/c", "redis", "redis/next"]);
    assert_eq!(layouts.tags(&repository("redis")).await.unwrap(), [tag("latest")]);
    assert!(layouts.tags(&repository("a/b")).await.unwrap().is_empty());
    assert!(layouts.manifest(&repository("a"), &tag("latest").into()).await.unwrap().is_none());
}
