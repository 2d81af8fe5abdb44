//! SLSA provenance v1 of packages and images: what went in, and what ran. Nothing in it depends on
//! when or where the build ran, so that a repeated build by the same program states the same.

use serde_json::{Map, Value, json};
use sign::ResourceDescriptor;
use sign::predicate::{BuildDefinition, BuildMetadata, Builder, Provenance, RunDetails};

use crate::image_plan::PlannedVariant;
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

/// The builder with its version, and the program that ran as what the builder itself depends on.
fn run_details(program: Option<sign::Digest>) -> RunDetails {
    let version = [("minimill".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into();
    let program = program.map(|digest| ResourceDescriptor::of(digest).named("mill"));
    let builder = Builder { id: BUILDER.to_owned(), version, builder_dependencies: program.into_iter().collect() };
    RunDetails { builder, ..RunDetails::default() }
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
            ResourceDescriptor::of(dependency.blob)
                .named(format!("{}-{}.apk", dependency.name, dependency.version))
                .with_uri(format!(
                    "pkg:apk/minimill/{}@{}?arch={}",
                    dependency.name,
                    dependency.version,
                    result.architecture.apk()
                )),
        );
    }
    for (name, version) in &result.bootstrap {
        materials.push(ResourceDescriptor::default().with_uri(format!("pkg:deb/debian/{name}@{version}")));
    }
    for (path, digest) in &result.bootstrap_files {
        materials.push(ResourceDescriptor::of(*digest).named(format!("bootstrap/{path}")));
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
        run_details: run_details(result.program),
    }
}

/// What an image, or the index over its platforms, was made from.
pub struct ImageInputs<'a> {
    /// Image name.
    pub image: &'a str,
    /// Stream name.
    pub stream: &'a str,
    /// The variant, when it is one.
    pub variant: Option<&'a PlannedVariant>,
    /// The platform's architecture; none for the index.
    pub architecture: Option<&'a str>,
    /// Digest of the image's definition and tests.
    pub definition: sign::Digest,
    /// Digest of `apko.yaml` with the stream's constraint in place.
    pub configuration: sign::Digest,
    /// Digest of the plan, which names one build.
    pub plan: sign::Digest,
    /// Every package that went in.
    pub packages: &'a [Material<'a>],
    /// The program that composed it.
    pub program: Option<sign::Digest>,
}

/// A package that went into an image.
pub struct Material<'a> {
    /// Package name.
    pub name: &'a str,
    /// Full version.
    pub version: &'a str,
    /// Architecture.
    pub architecture: apk::Architecture,
    /// The signed file.
    pub file: sign::Digest,
    /// The checksum of its content, as indexes and the image's own database give it.
    pub checksum: &'a str,
}

/// Provenance of one platform's image, or of the index over all.
pub fn of_image(inputs: &ImageInputs<'_>) -> Provenance {
    let mut materials = vec![
        ResourceDescriptor::of(inputs.definition).named(format!("images/{}", inputs.image)),
        ResourceDescriptor::of(inputs.configuration).named("apko.yaml"),
    ];
    for package in inputs.packages {
        let Material { name, version, architecture, file, checksum } = package;
        let mut material = ResourceDescriptor::of(*file)
            .named(format!("{name}-{version}.apk"))
            .with_uri(format!("pkg:apk/minimill/{name}@{version}?arch={}", architecture.apk()));
        material.annotations = object(json!({ "apkChecksum": checksum }));
        materials.push(material);
    }
    let variant = inputs.variant.map(|variant| json!({ "name": variant.name, "packages": variant.packages }));
    let mut details = run_details(inputs.program);
    details.metadata = Some(BuildMetadata { invocation_id: Some(inputs.plan.to_string()), ..BuildMetadata::default() });
    Provenance {
        build_definition: BuildDefinition {
            build_type: IMAGE_BUILD_TYPE.to_owned(),
            external_parameters: object(json!({
                "image": inputs.image,
                "stream": inputs.stream,
                "variant": variant,
                "architecture": inputs.architecture,
            })),
            internal_parameters: object(json!({ "definition": inputs.definition, "network": false })),
            resolved_dependencies: materials,
        },
        run_details: details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_every_input_by_digest() {
        let (definition, plan) = (sign::Digest::of(b"definition"), sign::Digest::of(b"plan"));
        let package = Material {
            name: "zlib",
            version: "1.3-r0",
            architecture: apk::Architecture::X86_64,
            file: sign::Digest::of(b"file"),
            checksum: "Q1x=",
        };
        let provenance = of_image(&ImageInputs {
            image: "redis",
            stream: "8.2",
            variant: None,
            architecture: Some("amd64"),
            definition,
            configuration: sign::Digest::of(b"configuration"),
            plan,
            packages: &[package],
            program: Some(sign::Digest::of(b"program")),
        });
        let materials = &provenance.build_definition.resolved_dependencies;
        assert_eq!(materials.len(), 3);
        assert!(materials.iter().all(|material| material.digest.contains_key("sha256")), "{materials:?}");
        assert_eq!(materials[2].uri, "pkg:apk/minimill/zlib@1.3-r0?arch=x86_64");
        assert_eq!(materials[2].annotations["apkChecksum"], "Q1x=");
        let [program] = provenance.run_details.builder.builder_dependencies.as_slice() else { panic!("no program") };
        assert_eq!((program.name.as_str(), &program.digest["sha256"]), ("mill", &sign::Digest::of(b"program").hex()));
        let metadata = provenance.run_details.metadata.unwrap();
        assert_eq!(metadata.invocation_id, Some(plan.to_string()));
    }
}
