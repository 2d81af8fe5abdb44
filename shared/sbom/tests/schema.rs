//! Every document is valid by the official SPDX 2.3 JSON schema, says the facts it was given, and
//! is the same bytes each time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use apk::PackageInformation;
use sbom::{
    Definition, Distribution, Error, FileDigests, ImageSbom, IndexSbom, InstalledPackage, Layer, PackageSbom,
    PlatformImage, Source, image_document, index_document, package_document,
};
use serde_json::Value;

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/schemas/spdx-2.3.schema.json");
    let schema = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

/// Checks the document against the schema, and that every identifier is written once and every
/// relationship joins two of them.
fn valid(bytes: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let errors: Vec<String> =
        SCHEMA.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));

    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    for key in ["packages", "files"] {
        for element in document[key].as_array().into_iter().flatten() {
            let id = element["SPDXID"].as_str().unwrap();
            assert!(ids.insert(id), "`{id}` is written twice");
        }
    }
    for relationship in document["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            let id = relationship[end].as_str().unwrap();
            assert!(ids.contains(id), "relationship with `{id}`, which is not there");
        }
    }
    document
}

fn element<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == name)
        .unwrap_or_else(|| panic!("no element `{name}`"))
}

fn related(document: &Value, from: &str, kind: &str, to: &str) -> bool {
    document["relationships"]
        .as_array()
        .unwrap()
        .iter()
        .any(|r| r["spdxElementId"] == from && r["relationshipType"] == kind && r["relatedSpdxElement"] == to)
}

fn information(name: &str, version: &str, licenses: &[&str]) -> PackageInformation {
    PackageInformation {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "x86_64".to_owned(),
        licenses: licenses.iter().map(|&text| text.to_owned()).collect(),
        description: format!("the {name} package"),
        ..PackageInformation::default()
    }
}

fn file(path: &str, digit: char) -> FileDigests {
    FileDigests { path: path.to_owned(), sha1: String::from(digit).repeat(40), sha256: String::from(digit).repeat(64) }
}

fn memcached() -> PackageSbom {
    PackageSbom {
        information: information("memcached", "1.6.38-r0", &["BSD-3-Clause", "Danga"]),
        distribution: "minimill".to_owned(),
        copyright: "2003 Danga Interactive".to_owned(),
        licence_texts: Vec::new(),
        cpe: Some("cpe:2.3:a:memcached:memcached:1.6.38:*:*:*:*:*:*:*".to_owned()),
        originator: "memcached".to_owned(),
        files: vec![file("usr/bin/mem_cached", 'b'), file("/usr/bin/mem+cached", 'a')],
        sources: vec![Source {
            purl: "pkg:deb/debian/memcached@1.6.38?arch=source".to_owned(),
            download_location: String::new(),
            sha256: "c".repeat(64),
        }],
        definition: Some(Definition { name: "memcached.yaml".to_owned(), sha256: "d".repeat(64) }),
        created: 1_750_000_000,
    }
}

fn digest(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

fn redis_image(packages: Vec<InstalledPackage>) -> ImageSbom {
    ImageSbom {
        repository: "localhost:8080/memcached".to_owned(),
        digest: digest('1'),
        architecture: "amd64".to_owned(),
        distribution: Distribution { id: "minimill".to_owned(), name: "Minimill".to_owned(), version: String::new() },
        layers: vec![Layer {
            digest: digest('2'),
            diff_id: digest('3'),
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        }],
        packages,
        created: 1_750_000_100,
    }
}

fn installed(information: PackageInformation, embedded: Option<Vec<u8>>) -> InstalledPackage {
    InstalledPackage { information, checksum: "Q1AAECAwQFBgcICQoLDA0ODxAREhM=".to_owned(), embedded }
}

#[test]
fn a_package_document_says_what_it_was_given() {
    let bytes = package_document(&memcached()).unwrap();
    let document = valid(&bytes);
    let package = element(&document, "memcached");
    assert_eq!(
        package["externalRefs"][0]["referenceLocator"],
        "pkg:apk/minimill/memcached@1.6.38-r0?arch=x86_64&distro=minimill"
    );
    assert_eq!(package["licenseDeclared"], "BSD-3-Clause AND LicenseRef-Danga");
    assert_eq!(document["hasExtractedLicensingInfos"][0]["licenseId"], "LicenseRef-Danga");
    assert_eq!(package["copyrightText"], "2003 Danga Interactive");
    assert_eq!(document["creationInfo"]["created"], "2025-06-15T15:06:40Z");
    // SHA-1 of forty `a` and forty `b`.
    assert_eq!(
        package["packageVerificationCode"]["packageVerificationCodeValue"],
        "c361e706434ebcd03e8857c6c8dd2786adaeb3ef"
    );
    let source = document["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["primaryPackagePurpose"] == "SOURCE" && p["versionInfo"] == "1.6.38")
        .unwrap();
    assert_eq!(source["checksums"][0]["checksumValue"], "c".repeat(64));
    let id = package["SPDXID"].as_str().unwrap();
    assert!(related(&document, "SPDXRef-DOCUMENT", "DESCRIBES", id));
    assert!(related(&document, id, "GENERATED_FROM", source["SPDXID"].as_str().unwrap()));
    assert_eq!(document["files"].as_array().unwrap().len(), 2);
}

#[test]
fn documents_are_the_same_bytes_and_their_namespace_follows_their_content() {
    let mut package = memcached();
    let first = package_document(&package).unwrap();
    package.files.reverse();
    assert_eq!(first, package_document(&package).unwrap(), "the order given must not show");
    package.copyright.push('!');
    let other = package_document(&package).unwrap();
    let namespace = |bytes: &[u8]| valid(bytes)["documentNamespace"].as_str().unwrap().to_owned();
    assert_ne!(namespace(&first), namespace(&other));
}

#[test]
fn an_image_document_merges_the_packages_documents() {
    let own = memcached();
    let mut zlib = information("zlib", "1.3.1-r0", &["Zlib"]);
    zlib.data_hash = "e".repeat(64);
    let embedded = package_document(&own).unwrap();
    let packages = vec![installed(zlib, None), installed(own.information.clone(), Some(embedded))];
    let bytes = image_document(&redis_image(packages.clone())).unwrap();
    let document = valid(&bytes);

    let image = element(&document, &format!("localhost:8080/memcached@{}", digest('1')));
    let image_id = image["SPDXID"].as_str().unwrap();
    assert_eq!(
        image["externalRefs"][0]["referenceLocator"],
        format!(
            "pkg:oci/memcached@{}?arch=amd64&mediaType=application%2Fvnd.oci.image.manifest.v1%2Bjson\
             &os=linux&repository_url=localhost:8080%2Fmemcached",
            digest('1')
        )
    );
    assert!(related(&document, "SPDXRef-DOCUMENT", "DESCRIBES", image_id));
    for name in ["memcached", "zlib", "minimill"] {
        let id = element(&document, name)["SPDXID"].as_str().unwrap();
        assert!(related(&document, image_id, "CONTAINS", id), "{name}");
    }
    let zlib = element(&document, "zlib");
    assert_eq!(zlib["checksums"][0]["checksumValue"], "000102030405060708090a0b0c0d0e0f10111213");
    assert_eq!(zlib["checksums"][1]["checksumValue"], "e".repeat(64));
    assert_eq!(zlib["licenseDeclared"], "Zlib");

    let memcached = element(&document, "memcached");
    assert_eq!(memcached["copyrightText"], "2003 Danga Interactive");
    assert_eq!(memcached["licenseDeclared"], "BSD-3-Clause AND LicenseRef-Danga");
    assert_eq!(memcached["filesAnalyzed"], false);
    let source = document["packages"].as_array().unwrap().iter().find(|p| p["versionInfo"] == "1.6.38").unwrap();
    assert!(related(
        &document,
        memcached["SPDXID"].as_str().unwrap(),
        "GENERATED_FROM",
        source["SPDXID"].as_str().unwrap()
    ));
    assert!(document.get("files").is_none());

    let reordered = packages.into_iter().rev().collect();
    assert_eq!(bytes, image_document(&redis_image(reordered)).unwrap());
}

#[test]
fn two_packages_of_one_source_share_its_element_and_license_texts_stay_apart() {
    let mut server = memcached();
    let mut client = memcached();
    client.distribution = "wolfi".to_owned();
    client.information.name = "memcached-tools".to_owned();
    server.information.licenses = vec!["LicenseRef-x".to_owned()];
    client.information.licenses = vec!["LicenseRef-x".to_owned()];
    let other_text = String::from_utf8(package_document(&client).unwrap())
        .unwrap()
        .replace("The package names its licence as", "Quite another text:");
    let packages = vec![
        installed(server.information.clone(), Some(package_document(&server).unwrap())),
        installed(client.information.clone(), Some(other_text.into_bytes())),
    ];
    let document = valid(&image_document(&redis_image(packages)).unwrap());
    let sources = document["packages"].as_array().unwrap().iter().filter(|p| p["versionInfo"] == "1.6.38").count();
    assert_eq!(sources, 1);
    let purl = |name| element(&document, name)["externalRefs"][0]["referenceLocator"].clone();
    assert_eq!(purl("memcached"), "pkg:apk/minimill/memcached@1.6.38-r0?arch=x86_64&distro=minimill");
    assert_eq!(purl("memcached-tools"), "pkg:apk/wolfi/memcached-tools@1.6.38-r0?arch=x86_64&distro=wolfi");
    let declared = |name| element(&document, name)["licenseDeclared"].clone();
    assert_eq!(declared("memcached"), "LicenseRef-x");
    assert_eq!(declared("memcached-tools"), "LicenseRef-x-2");
}

#[test]
fn an_index_document_names_its_images() {
    let document = valid(
        &index_document(&IndexSbom {
            repository: "memcached".to_owned(),
            digest: digest('9'),
            images: vec![
                PlatformImage { architecture: "amd64".to_owned(), digest: digest('1') },
                PlatformImage { architecture: "arm64".to_owned(), digest: digest('2') },
            ],
            created: 0,
        })
        .unwrap(),
    );
    assert_eq!(document["packages"].as_array().unwrap().len(), 3);
    assert_eq!(
        document["packages"][2]["externalRefs"][0]["referenceLocator"],
        format!(
            "pkg:oci/memcached@{}?arch=arm64&mediaType=application%2Fvnd.oci.image.manifest.v1%2Bjson\
             &os=linux",
            digest('2')
        )
    );
}

#[test]
fn wrong_input_is_refused_by_name() {
    let mut package = memcached();
    package.files[0].sha1 = "xyz".to_owned();
    let error = package_document(&package).unwrap_err();
    assert!(matches!(&error, Error::Digest { algorithm: "SHA1", .. }), "{error}");
    assert!(error.to_string().contains("usr/bin/mem_cached"), "{error}");

    let mut package = memcached();
    package.created = i64::MAX;
    assert!(matches!(package_document(&package), Err(Error::Created { .. })));

    for (embedded, expected) in [
        ("{", "line 1"),
        (r#"{"spdxVersion":"SPDX-3.0","SPDXID":"x"}"#, "SPDX-3.0"),
        (
            r#"{"spdxVersion":"SPDX-2.3","SPDXID":"x","documentDescribes":["SPDXRef-p"],
                "packages":[{"SPDXID":"SPDXRef-p","name":"p","primaryPackagePurpose":"TOY"}]}"#,
            "`TOY`",
        ),
        (r#"{"spdxVersion":"SPDX-2.3","SPDXID":"x"}"#, "describes no package"),
    ] {
        let package = installed(information("zlib", "1.3.1-r0", &[]), Some(embedded.as_bytes().to_vec()));
        let error = image_document(&redis_image(vec![package])).unwrap_err();
        assert!(matches!(&error, Error::Embedded { .. }), "{error}");
        assert!(error.to_string().contains("zlib-1.3.1-r0"), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }

    let mut package = installed(information("zlib", "1.3.1-r0", &[]), None);
    package.checksum = "Q1short".to_owned();
    assert!(matches!(image_document(&redis_image(vec![package])), Err(Error::Checksum { .. })));
}

static CYCLONEDX: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let read = |name: &str| -> Value {
        let path = format!("{}/../../tests/schemas/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let part = |name: &str| jsonschema::Resource::from_contents(read(name)).unwrap();
    jsonschema::options()
        .with_resource("http://cyclonedx.org/schema/spdx.SNAPSHOT.schema.json", part("cyclonedx-spdx.schema.json"))
        .with_resource(
            "http://cyclonedx.org/schema/jsf-0.82.SNAPSHOT.schema.json",
            part("cyclonedx-jsf-0.82.schema.json"),
        )
        .build(&read("cyclonedx-1.6.schema.json"))
        .unwrap()
});

fn valid_bom(bytes: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let errors: Vec<String> =
        CYCLONEDX.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    document
}

#[test]
fn a_bom_of_an_image_says_what_its_spdx_document_says() {
    let own = memcached();
    let mut zlib = information("zlib", "1.3.1-r0", &["Zlib"]);
    zlib.url = "https://zlib.example".to_owned();
    let odd = information("odd", "1-r0", &["see COPYING (really)"]);
    let packages = vec![
        installed(zlib, None),
        installed(own.information.clone(), Some(package_document(&own).unwrap())),
        installed(odd, None),
        installed(information("bare", "1-r0", &[]), None),
    ];
    let image = redis_image(packages);
    let bytes = sbom::image_bom(&image).unwrap();
    let bom = valid_bom(&bytes);
    assert_eq!(bom["metadata"]["component"]["type"], "container");
    assert_eq!(bom["metadata"]["timestamp"], "2025-06-15T15:08:20Z");
    let components = bom["components"].as_array().unwrap();
    let find = |name: &str| components.iter().find(|component| component["name"] == name).unwrap();
    assert_eq!(find("zlib")["purl"], "pkg:apk/minimill/zlib@1.3.1-r0?arch=x86_64&distro=minimill");
    assert_eq!(find("memcached")["cpe"], "cpe:2.3:a:memcached:memcached:1.6.38:*:*:*:*:*:*:*");
    assert_eq!(find("zlib")["licenses"][0]["expression"], "Zlib");
    assert_eq!(find("zlib")["externalReferences"][0]["url"], "https://zlib.example");
    assert_eq!(find("zlib")["hashes"][0]["alg"], "SHA-1");
    assert_eq!(find("odd")["licenses"][0]["expression"], "LicenseRef-see-COPYING--really-");
    assert!(find("bare").get("licenses").is_none());
    assert_eq!(find("minimill")["type"], "operating-system");
    let ancestor = &find("memcached")["pedigree"]["ancestors"][0];
    assert_eq!(ancestor["purl"], "pkg:deb/debian/memcached@1.6.38?arch=source");
    assert_eq!(ancestor["hashes"][0]["content"], "c".repeat(64));
    let names: BTreeSet<&str> = components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
    let listed = bom["dependencies"][0]["dependsOn"].as_array().unwrap();
    assert_eq!(names, listed.iter().map(|name| name.as_str().unwrap()).collect());

    assert_eq!(bytes, sbom::image_bom(&image).unwrap());
    let later = ImageSbom { created: image.created + 1, ..image };
    assert_ne!(bom["serialNumber"], valid_bom(&sbom::image_bom(&later).unwrap())["serialNumber"]);
}

#[test]
fn a_bom_of_an_index_names_its_images() {
    let index = IndexSbom {
        repository: "memcached".to_owned(),
        digest: digest('9'),
        images: vec![PlatformImage { architecture: "arm64".to_owned(), digest: digest('2') }],
        created: 0,
    };
    let bom = valid_bom(&sbom::index_bom(&index).unwrap());
    assert_eq!(bom["components"].as_array().unwrap().len(), 1);
    assert_eq!(bom["components"][0]["version"], digest('2'));
}
