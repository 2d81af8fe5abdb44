//! SLSA provenance v1 of packages and images: what went in, and what ran. Nothing in it depends on
//! when or where the build ran, so that a repeated build states the same.

use serde_json::{Map, Value, json};
use sign::ResourceDescriptor;
use sign::predicate::{BuildDefinition, Builder, Provenance, RunDetails};

use crate::package_build::BuildResult;

const PACKAGE_BUILD_TYPE: &str = "https://minimill.dev/buildtypes/package/v1";
const IMAGE_BUILD_TYPE: &str = "https://minimill.dev/buildtypes/image/v1";
const BUILDER: &str = "https://minimill.dev/builder/v1";

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn run_details() -> RunDetails {
    let version = [("minimill".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into();
    RunDetails { builder: Builder { id: BUILDER.to_owned(), version, ..Builder::default() }, ..RunDetails::default() }
}

/// Provenance of the packages of one build.
pub fn of_package(result: &BuildResult) -> Provenance {
    let mut materials = vec![ResourceDescriptor::of(result.text).named(format!("{}.yaml", result.package))];
    for source in &result.sources {
        let digest = format!("sha256:{}", source.sha256).parse();
        let mut material = digest.map(ResourceDescriptor::of).unwrap_or_default().with_uri(source.uri.clone());
        material.annotations = object(match &source.expected {
            Some(expected) => json!({ "evidence": source.evidence, "expected": expected }),
            None => json!({ "evidence": source.evidence }),
        });
        if let Some(verdict) = &source.authenticity {
            material.annotations.insert("authenticity".to_owned(), json!(verdict));
        }
        materials.push(material);
    }
    for dependency in &result.dependencies {
        materials.push(
            ResourceDescriptor::of(dependency.blob).named(format!("{}-{}.apk", dependency.name, dependency.version)),
        );
    }
    for (name, version) in &result.bootstrap {
        materials.push(ResourceDescriptor::default().with_uri(format!("pkg:deb/debian/{name}@{version}")));
    }
    Provenance {
        build_definition: BuildDefinition {
            build_type: PACKAGE_BUILD_TYPE.to_owned(),
            external_parameters: object(json!({
                "package": result.package,
                "version": result.version,
                "architecture": result.architecture,
            })),
            internal_parameters: object(json!({
                "definition": result.definition,
                "sourceDateEpoch": result.source_date_epoch,
                "network": false,
                "builderRoot": "host tool chain, read-only",
            })),
            resolved_dependencies: materials,
        },
        run_details: run_details(),
    }
}

/// Provenance of one platform's image, or of the index over all.
///
/// `packages` are name, version and digest of every package file that went in.
pub fn of_image(
    image: &str,
    stream: &str,
    architecture: Option<&str>,
    configuration: sign::Digest,
    packages: &[(String, String, sign::Digest)],
) -> Provenance {
    let mut materials = vec![ResourceDescriptor::of(configuration).named("apko.yaml")];
    for (name, version, digest) in packages {
        materials.push(ResourceDescriptor::of(*digest).named(format!("{name}-{version}.apk")));
    }
    Provenance {
        build_definition: BuildDefinition {
            build_type: IMAGE_BUILD_TYPE.to_owned(),
            external_parameters: object(json!({ "image": image, "stream": stream, "architecture": architecture })),
            internal_parameters: Map::new(),
            resolved_dependencies: materials,
        },
        run_details: run_details(),
    }
}
