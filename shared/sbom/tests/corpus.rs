//! The documents that real packages carry merge into valid image documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::{Path, PathBuf};

use apk::Package;
use sbom::{Distribution, ImageSbom, InstalledPackage, Layer, image_document};
use serde_json::Value;

fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("MINIMILL_CORPUS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus")), PathBuf::from);
    if path.is_dir() {
        Some(path)
    } else {
        println!("not run: no corpus at {}", path.display());
        None
    }
}

fn installed(path: &Path) -> InstalledPackage {
    let mut package = Package::open(path).unwrap();
    let information = package.information().clone();
    let own = format!("var/lib/db/sbom/{}-{}.spdx.json", information.name, information.version);
    let mut embedded = None;
    package
        .visit::<apk::Error>(|entry, content| {
            if entry.path == own {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).unwrap();
                embedded = Some(bytes);
            }
            Ok(())
        })
        .unwrap();
    InstalledPackage { information, checksum: package.checksum().to_string(), embedded }
}

#[test]
fn real_documents_merge() {
    let Some(corpus) = corpus() else { return };
    let packages: Vec<InstalledPackage> = [
        "apk/hello-wolfi-2.12.1-r0.apk",
        "apk/packages/x86_64/pretend-baselayout-1.0.0-r0.apk",
        "apk/packages/x86_64/replayout-1.0.0-r0.apk",
        "apk/replaces/replaces-0.0.1-r0.apk",
        "apk/alpine-316/alpine-baselayout-3.2.0-r23.apk",
    ]
    .iter()
    .map(|path| installed(&corpus.join(path)))
    .collect();
    assert_eq!(packages.iter().filter(|package| package.embedded.is_some()).count(), 4);
    let digest = format!("sha256:{}", "0".repeat(64));
    let bytes = image_document(&ImageSbom {
        repository: "test".to_owned(),
        digest: digest.clone(),
        architecture: "amd64".to_owned(),
        distribution: Distribution { id: "minimill".to_owned(), name: "Minimill".to_owned(), version: String::new() },
        layers: vec![Layer { digest: digest.clone(), diff_id: digest, media_type: "x".to_owned() }],
        packages: packages.clone(),
        created: 0,
    })
    .unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/schemas/spdx-2.3.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&document)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    for package in packages {
        let elements = document["packages"].as_array().unwrap();
        let found = elements
            .iter()
            .filter(|element| {
                element["name"] == package.information.name && element["versionInfo"] == package.information.version
            })
            .count();
        assert_eq!(found, 1, "{}", package.information.name);
    }
    let hello =
        document["packages"].as_array().unwrap().iter().find(|element| element["name"] == "hello-wolfi").unwrap();
    let purl = hello["externalRefs"][0]["referenceLocator"].as_str().unwrap();
    assert!(purl.starts_with("pkg:apk/minimill/hello-wolfi@2.12.1-r0"), "{purl}");
}
