//! What `mill cycle` says it did.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::support::{IMAGES, entries, factory};

#[test]
fn the_catalog_becomes_five_tested_images_and_nothing_fails() {
    let Some(factory) = factory() else { return };
    let report = &factory.report;
    assert_eq!(report["failed"].as_array().unwrap().len(), 0, "{:#}", report["failed"]);
    let images = report["images"].as_array().unwrap();
    let names: Vec<&str> = images.iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(names, IMAGES);
    for image in images {
        let version = image["version"].as_str().unwrap();
        let mut tags = vec![version.to_owned()];
        while let Some((shorter, _)) = tags[tags.len() - 1].rsplit_once('.') {
            tags.push(shorter.to_owned());
        }
        tags.push("latest".to_owned());
        assert_eq!(image["tags"], serde_json::json!(tags), "{image:#}");
        let time = image["timestamp_tag"].as_str().unwrap().strip_prefix(&format!("{version}-")).unwrap();
        assert!(time.len() == 12 && time.bytes().all(|byte| byte.is_ascii_digit()), "{image:#}");
        let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{image:#}");
        let size = image["size"].as_u64().unwrap();
        assert!((100_000..10_000_000).contains(&size), "{image:#}");
        let (passed, all) = image["tests"].as_str().unwrap().split_once('/').unwrap();
        assert_eq!(passed, all, "{image:#}");
        assert!(passed.parse::<u32>().unwrap() > 10, "{image:#}");
        assert_eq!(image["complete"], true, "{image:#}");
    }
}

#[test]
fn a_second_cycle_builds_nothing_and_says_why_for_each_image() {
    let Some(factory) = factory() else { return };
    let start = Instant::now();
    let report = factory.cycle();
    println!("a cycle with nothing new took {:.1} s", start.elapsed().as_secs_f64());
    for stage in ["package-build", "package-publish", "image-build", "image-test", "image-publish"] {
        let count = &report["stages"][stage];
        assert!(count.is_null() || count["done"] == 0, "{stage}: {:#}", report["stages"]);
    }
    let reasons: BTreeSet<&str> = entries(&report, "skipped", "image-plan")
        .map(|entry| {
            assert!(entry["text"].as_str().unwrap().len() > 10, "{entry:#}");
            entry["subject"].as_str().unwrap().split(':').next().unwrap()
        })
        .collect();
    assert_eq!(reasons, BTreeSet::from(IMAGES));
    let digests = |report: &serde_json::Value| -> Vec<serde_json::Value> {
        report["images"].as_array().unwrap().iter().map(|image| image["digest"].clone()).collect()
    };
    assert_eq!(digests(&report), digests(&factory.report));
}

#[test]
fn published_packages_pass_their_own_tests() {
    let Some(factory) = factory() else { return };
    let mut passed = BTreeSet::new();
    for definition in std::fs::read_dir(factory.catalog.join("packages")).unwrap() {
        let path = definition.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        for report in factory.work(&["package", "test", name]).as_array().unwrap() {
            match report["status"].as_str().unwrap() {
                "passed" => drop(passed.insert(report["package"].as_str().unwrap().to_owned())),
                status => assert_eq!(status, "no-test", "{report:#}"),
            }
        }
    }
    let expected =
        ["busybox", "ca-certificates", "memcached", "musl", "nginx", "pcre2", "valkey", "valkey-cli", "zlib"];
    let missing: Vec<&str> = expected.into_iter().filter(|name| !passed.contains(*name)).collect();
    assert!(missing.is_empty(), "without a passed test: {missing:?}");
}
