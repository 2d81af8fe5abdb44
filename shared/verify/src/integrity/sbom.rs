//! Whether the SBOMs are of their formats, and tell of all packages of the image and of no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jsonschema::{Resource, Validator};
use serde_json::Value;

use crate::Image;
use crate::report::Finding;

/// A schema that can't be read is a mistake in this program; it is told as a check that has not run.
type Schema = LazyLock<Result<Validator, String>>;

static SPDX: Schema = LazyLock::new(|| {
    let schema = parse(include_str!("../../../../tests/schemas/spdx-2.3.schema.json"))?;
    jsonschema::validator_for(&schema).map_err(|error| error.to_string())
});

static CYCLONEDX: Schema = LazyLock::new(|| {
    let part = |text| Resource::from_contents(parse(text)?).map_err(|error| error.to_string());
    let schema = parse(include_str!("../../../../tests/schemas/cyclonedx-1.6.schema.json"))?;
    jsonschema::options()
        .with_resource(
            "http://cyclonedx.org/schema/spdx.SNAPSHOT.schema.json",
            part(include_str!("../../../../tests/schemas/cyclonedx-spdx.schema.json"))?,
        )
        .with_resource(
            "http://cyclonedx.org/schema/jsf-0.82.SNAPSHOT.schema.json",
            part(include_str!("../../../../tests/schemas/cyclonedx-jsf-0.82.schema.json"))?,
        )
        .build(&schema)
        .map_err(|error| error.to_string())
});

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A format of SBOMs.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Spdx,
    CycloneDx,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Spdx => "SPDX 2.3",
            Format::CycloneDx => "CycloneDX 1.6",
        }
    }
}

/// A package as an SBOM names it.
#[derive(Default)]
struct Named<'a> {
    version: &'a str,
    licensed: bool,
    purl: Option<&'a str>,
    sha1: Option<&'a str>,
}

/// What an SBOM says, whichever its format.
#[derive(Default)]
struct Content<'a> {
    /// By name; a name may be there more than once.
    packages: BTreeMap<&'a str, Vec<Named<'a>>>,
    sha256: BTreeSet<&'a str>,
}

/// Whether the document is of its format.
pub(super) fn schema(format: Format, bytes: &[u8]) -> Finding {
    let document = match document(format, bytes) {
        Ok(document) => document,
        Err(reason) => return Finding::failed(reason, Vec::new()),
    };
    let validator = match format {
        Format::Spdx => &*SPDX,
        Format::CycloneDx => &*CYCLONEDX,
    };
    let validator = match validator {
        Ok(validator) => validator,
        Err(reason) => {
            return Finding::not_run(format!("the schema of {} can't be read: {reason}", format.name()));
        }
    };
    let wrong = validator.iter_errors(&document).map(|error| {
        let (place, error) = (error.instance_path.to_string(), error.to_string());
        let error: String = error.chars().take(200).collect();
        format!("`{}`: {error}", if place.is_empty() { "/" } else { &place })
    });
    let mut complaints: Vec<String> = wrong.collect();
    if matches!(format, Format::Spdx) {
        complaints.extend(joined(&document));
    }
    Finding::listing(complaints, format!("it is a {} document", format.name()))
}

fn document(format: Format, bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("the SBOM is no {} document: {error}", format.name()))
}

/// What the schema can't say: identifiers are unique, and relationships are between them.
fn joined(document: &Value) -> Vec<String> {
    let elements = ["packages", "files", "snippets"].iter().flat_map(|key| list(document, key));
    let mut known = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    let mut complaints = Vec::new();
    for id in elements.filter_map(|element| text(element, "SPDXID")) {
        if !known.insert(id) {
            complaints.push(format!("the identifier `{id}` is there twice"));
        }
    }
    for relationship in list(document, "relationships") {
        for end in ["spdxElementId", "relatedSpdxElement"].iter().filter_map(|end| text(relationship, end)) {
            let elsewhere = end.starts_with("DocumentRef-") || end == "NONE" || end == "NOASSERTION";
            if !elsewhere && !known.contains(end) {
                complaints.push(format!("a relationship is with `{end}`, which is not there"));
            }
        }
    }
    complaints
}

/// Whether the document has every package of the apk database with licence, purl and checksum, no
/// other apk package, and the image's own manifest and layers.
pub(super) fn complete(format: Format, image: &Image, packages: &[apk::InstalledPackage], bytes: &[u8]) -> Finding {
    let document = match document(format, bytes) {
        Ok(document) => document,
        Err(reason) => return Finding::failed(reason, Vec::new()),
    };
    let content = match format {
        Format::Spdx => of_spdx(&document),
        Format::CycloneDx => of_cyclonedx(&document),
    };
    let mut complaints = Vec::new();
    let mut installed = BTreeSet::new();
    for package in packages {
        let (name, version) = (&package.entry.information.name, &package.entry.information.version);
        installed.insert((name.as_str(), version.as_str()));
        let same = |named: &&Named<'_>| named.version == version.as_str();
        let named = content.packages.get(name.as_str()).and_then(|all| all.iter().find(same));
        let Some(named) = named else {
            complaints.push(format!("lacks {name}={version}"));
            continue;
        };
        if !named.licensed {
            complaints.push(format!(
                "has no licence of {name}={version}; state `license` under `copyright` in its definition"
            ));
        }
        if !named.purl.is_some_and(|purl| purl.starts_with("pkg:apk/")) {
            complaints.push(format!("has no `pkg:apk/` purl of {name}={version}"));
        }
        let checksum = package.entry.checksum.parse::<apk::Checksum>().map(apk::Checksum::to_hex);
        match (named.sha1, checksum) {
            (_, Err(error)) => complaints.push(format!("can't be held against {name}={version}: {error}")),
            (None, _) => complaints.push(format!("has no SHA-1 of {name}={version}")),
            (Some(sha1), Ok(checksum)) if sha1 != checksum => {
                complaints.push(format!("has the SHA-1 {sha1} of {name}={version}, the database has {checksum}"));
            }
            _ => {}
        }
    }
    for (name, versions) in &content.packages {
        for named in versions {
            let is_apk = named.purl.is_some_and(|purl| purl.starts_with("pkg:apk/"));
            if is_apk && !installed.contains(&(*name, named.version)) {
                complaints.push(format!("names {name}={}, which is not installed", named.version));
            }
        }
    }
    let manifest = ("the image's manifest", image.digest().to_owned());
    let layers = image.manifest().layers().iter().map(|layer| ("the layer", layer.digest().to_string()));
    for (what, digest) in std::iter::once(manifest).chain(layers) {
        if !content.sha256.contains(digest.trim_start_matches("sha256:")) {
            complaints.push(format!("does not name {what} `{digest}`"));
        }
    }
    let complaints: Vec<String> = complaints.into_iter().map(|complaint| format!("the SBOM {complaint}")).collect();
    Finding::listing(complaints, format!("the SBOM tells of all {} packages and of no others", packages.len()))
}

fn of_spdx(document: &Value) -> Content<'_> {
    let mut content = Content::default();
    for package in list(document, "packages") {
        let checksums = || list(package, "checksums");
        let of = |algorithm| {
            checksums()
                .filter(move |one| text(one, "algorithm") == Some(algorithm))
                .filter_map(|one| text(one, "checksumValue"))
        };
        content.sha256.extend(of("SHA256"));
        let stated = |licence: &str| !licence.is_empty() && licence != "NOASSERTION" && licence != "NONE";
        let purls = list(package, "externalRefs").filter(|one| text(one, "referenceType") == Some("purl"));
        let named = Named {
            version: text(package, "versionInfo").unwrap_or_default(),
            licensed: text(package, "licenseDeclared").is_some_and(stated),
            purl: purls.filter_map(|one| text(one, "referenceLocator")).next(),
            sha1: of("SHA1").next(),
        };
        content.packages.entry(text(package, "name").unwrap_or_default()).or_default().push(named);
    }
    content
}

fn of_cyclonedx(document: &Value) -> Content<'_> {
    let mut content = Content::default();
    let subject = document.get("metadata").and_then(|metadata| metadata.get("component"));
    for component in subject.into_iter().chain(list(document, "components")) {
        let hashes = || list(component, "hashes");
        let of = |algorithm| {
            hashes().filter(move |one| text(one, "alg") == Some(algorithm)).filter_map(|one| text(one, "content"))
        };
        content.sha256.extend(of("SHA-256"));
        let named = Named {
            version: text(component, "version").unwrap_or_default(),
            licensed: list(component, "licenses").next().is_some(),
            purl: text(component, "purl"),
            sha1: of("SHA-1").next(),
        };
        content.packages.entry(text(component, "name").unwrap_or_default()).or_default().push(named);
    }
    content
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
