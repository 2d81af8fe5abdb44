//! Minimill's own `image.yaml`, which stands beside a catalog image's `apko.yaml`.

use std::collections::BTreeSet;
use std::str::FromStr;

use apk::Architecture;
use jiff::civil::Date;

use crate::decode::Fields;
use crate::error::Error;
use crate::package::valid_name;
use crate::text::Text;
use crate::yaml::{self, Node, Value};

/// What an image is, which versions of it are kept, and what must be checked before it is published: the
/// `image.yaml` beside a catalog image's `apko.yaml`.
///
/// ```yaml
/// title: Redis
/// description: In-memory key-value store
/// category: databases
/// url: https://redis.io                 # optional
/// primary: redis                        # the package whose version names the image
/// streams:
///   - name: "8.0"                       # also a tag
///     version: "~8.0"                   # constraint on the primary; absent: any version
///     end-of-life: 2027-06-30           # optional; not built after that day
///     tags: [lts]                       # optional, further tags
/// architectures: [x86_64]
/// compression: zstd                     # optional, of layers: gzip (the default) or zstd
/// variants:                             # optional
///   - name: dev                         # tags get `-dev`
///     packages: [busybox]               # added to the image
///     tests:                            # optional, in place of the image's
///       structure: tests/structure-dev.yaml
/// suites:
///   integrity: required
///   structure: required
///   runtime:
///     not-applicable: a base image; nothing to start
/// tests:                                # optional; these are the defaults
///   structure: tests/structure.yaml
///   unit: tests/unit.yaml               # required, unless `suites` say otherwise, where there is one
///   runtime: tests/runtime.yaml
/// ```
///
/// In the `apko.yaml` beside it `${version}` stands for the stream's constraint, so that
/// `redis${version}` wants `redis~8.0`.
#[derive(Debug, Clone)]
pub struct ImageDefinition {
    /// Name for people.
    pub title: Text,
    /// One sentence.
    pub description: Text,
    /// Where a gallery lists it.
    pub category: Text,
    /// Home page of what it holds.
    pub url: Option<Text>,
    /// The package whose version is the image's.
    pub primary: Text,
    /// Version streams, in the order written; at least one.
    pub streams: Vec<Stream>,
    /// Architectures; at least one.
    pub architectures: Vec<Architecture>,
    /// How its layers are compressed.
    pub compression: LayerCompression,
    /// Variants beside the plain image.
    pub variants: Vec<Variant>,
    /// Which test suites must pass.
    pub suites: Suites,
    /// Path of the structure test's definition, from the image's folder.
    pub structure_test: String,
    /// Path of the unit test's definition, from the image's folder.
    pub unit_test: String,
    /// Path of the runtime test's definition, from the image's folder.
    pub runtime_test: String,
}

/// How an image's layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LayerCompression {
    /// `gzip`, which every client reads.
    #[default]
    Gzip,
    /// `zstd`, for clients that read OCI 1.1: smaller, and faster to unpack.
    Zstd,
}

impl FromStr for LayerCompression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err("layers are compressed by `gzip` or `zstd`"),
        }
    }
}

/// A line of versions that one set of moving tags follows.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Name, which is also a tag, such as `8.0`.
    pub name: Text,
    /// Constraint on the primary package, such as `~8.0`; empty for any version.
    pub version: Text,
    /// The last day on which it is built.
    pub end_of_life: Option<Date>,
    /// Further tags that follow the stream.
    pub tags: Vec<Text>,
}

/// The image with more packages, under tags with a suffix.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Suffix, without its hyphen.
    pub name: Text,
    /// Packages to add.
    pub packages: Vec<Text>,
    /// Path of its own structure test, from the image's folder.
    pub structure_test: Option<String>,
    /// Path of its own unit test, from the image's folder.
    pub unit_test: Option<String>,
    /// Path of its own runtime test, from the image's folder.
    pub runtime_test: Option<String>,
}

/// A stream, plain or as one of the image's variants: what is planned, built and tagged as one.
#[derive(Debug, Clone, Copy)]
pub struct Edition<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// The variant; none for the plain image.
    pub variant: Option<&'a Variant>,
}

impl Edition<'_> {
    /// `8.0`, or `8.0-dev` of the variant `dev`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.variant {
            None => self.stream.name.value.clone(),
            Some(variant) => format!("{}-{}", self.stream.name, variant.name),
        }
    }
}

/// Whether a test suite must pass before an image is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// It must.
    Required,
    /// There is nothing to test.
    NotApplicable {
        /// Why.
        reason: String,
    },
}

/// The test suites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suites {
    /// The image's own consistency: layers, digests, package database.
    pub integrity: Requirement,
    /// container-structure-test.
    pub structure: Requirement,
    /// What the image has, and how it behaves alone; where nothing is said, required when it has a file.
    pub unit: Option<Requirement>,
    /// The started container.
    pub runtime: Requirement,
    /// Rules that are not the image's own: licences, privileges, secrets; required where nothing is said.
    pub compliance: Requirement,
}

const KEYS: &[&str] = &[
    "title",
    "description",
    "category",
    "url",
    "primary",
    "streams",
    "architectures",
    "compression",
    "variants",
    "suites",
    "tests",
];

impl ImageDefinition {
    /// Reads an `image.yaml`. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// Not YAML, past a bound, an unknown key, a missing key or a value that can't be, each with its line
    /// and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let node = yaml::parse(text, file)?;
        let fields = Fields::open(&node, file, "", KEYS)?;
        let primary = fields.required_text("primary")?;
        if !valid_name(&primary) {
            return Err(fields.invalid("primary", &primary, "the name of a package is expected"));
        }
        let streams = fields.list("streams", |node, path| stream(node, file, path))?;
        for (index, stream) in streams.iter().enumerate() {
            if streams.iter().take(index).any(|other| other.name == stream.name) {
                return Err(fields.invalid("streams", &stream.name, "two streams have this name"));
            }
        }
        let architectures = fields
            .texts("architectures")?
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|error: apk::UnknownArchitecture| fields.invalid("architectures", text, error.to_string()))
            })
            .collect::<Result<Vec<Architecture>, Error>>()?;
        if streams.is_empty() {
            return Err(fields.missing("streams"));
        }
        if architectures.is_empty() {
            return Err(fields.missing("architectures"));
        }
        let compression = match fields.text("compression")? {
            None => LayerCompression::default(),
            Some(text) => text.parse().map_err(|reason| fields.invalid("compression", &text, reason))?,
        };
        let own = tests(&fields, file, "tests")?;
        let variants = fields.list("variants", |node, path| variant(node, file, path))?;
        let image = Self {
            title: fields.required_text("title")?,
            description: fields.required_text("description")?,
            category: fields.required_text("category")?,
            url: fields.text("url")?,
            primary,
            streams,
            architectures,
            compression,
            variants,
            suites: suites(&fields, file)?,
            structure_test: own.structure.unwrap_or_else(|| "tests/structure.yaml".to_owned()),
            unit_test: own.unit.unwrap_or_else(|| "tests/unit.yaml".to_owned()),
            runtime_test: own.runtime.unwrap_or_else(|| "tests/runtime.yaml".to_owned()),
        };
        let mut names = BTreeSet::new();
        if let Some(twice) = image.editions().find(|edition| !names.insert(edition.name())) {
            let name = twice.variant.map_or(&twice.stream.name, |variant| &variant.name);
            return Err(fields.invalid("variants", name, format!("two editions are called `{}`", twice.name())));
        }
        Ok(image)
    }

    /// Every stream, plain and in each variant.
    pub fn editions(&self) -> impl Iterator<Item = Edition<'_>> {
        self.streams.iter().flat_map(|stream| {
            let variants = self.variants.iter().map(Some);
            std::iter::once(None).chain(variants).map(move |variant| Edition { stream, variant })
        })
    }

    /// The edition called `name`, such as `8.0` or `8.0-dev`.
    #[must_use]
    pub fn edition(&self, name: &str) -> Option<Edition<'_>> {
        self.editions().find(|edition| edition.name() == name)
    }

    /// The text of the image's `apko.yaml` for one stream: `${version}` replaced by the stream's
    /// constraint.
    #[must_use]
    pub fn expand(apko: &str, stream: &Stream) -> String {
        apko.replace("${version}", &stream.version)
    }
}

const TAG: &str = "a tag has letters, digits, `.`, `_` and `-`, starts with a letter or digit, and is at most 100 long";

fn is_tag(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "._-".contains(character))
}

fn stream(node: &Node, file: &str, section: &str) -> Result<Stream, Error> {
    let fields = Fields::open(node, file, section, &["name", "version", "end-of-life", "tags"])?;
    let name = fields.required_text("name")?;
    let tags = fields.texts("tags")?;
    if let Some(bad) = [&name].into_iter().chain(&tags).find(|tag| !is_tag(tag)) {
        return Err(fields.invalid("name", bad, TAG));
    }
    let version = fields.text("version")?.unwrap_or_default();
    if !version.is_empty() && !version.starts_with(['~', '=', '<', '>']) {
        return Err(fields.invalid("version", &version, "a constraint is expected, such as `~8.0` or `=8.0.1-r0`"));
    }
    let end_of_life = match fields.text("end-of-life")? {
        None => None,
        Some(text) => {
            let date = text.parse::<Date>();
            Some(date.map_err(|_| fields.invalid("end-of-life", &text, "a day written YYYY-MM-DD is expected"))?)
        }
    };
    Ok(Stream { name, version, end_of_life, tags })
}

fn suites(fields: &Fields<'_>, file: &str) -> Result<Suites, Error> {
    let Some(node) = fields.node("suites") else {
        return Err(fields.missing("suites"));
    };
    let suites = Fields::open(node, file, "suites", &["integrity", "structure", "unit", "runtime", "compliance"])?;
    let read = |key: &str| match suites.node(key) {
        None => Err(suites.missing(key)),
        Some(Node { value: Value::Mapping(_), .. }) => {
            let node = suites.node(key).ok_or_else(|| suites.missing(key))?;
            let requirement = Fields::open(node, file, &suites.path(key), &["not-applicable"])?;
            Ok(Requirement::NotApplicable { reason: requirement.required_text("not-applicable")?.value })
        }
        Some(_) => match suites.required_text(key)? {
            text if text == "required" => Ok(Requirement::Required),
            text => Err(suites.invalid(key, &text, "`required` or `not-applicable: REASON` is expected")),
        },
    };
    let compliance = if suites.node("compliance").is_some() { read("compliance")? } else { Requirement::Required };
    Ok(Suites {
        integrity: read("integrity")?,
        structure: read("structure")?,
        unit: suites.node("unit").map(|_| read("unit")).transpose()?,
        runtime: read("runtime")?,
        compliance,
    })
}

fn variant(node: &Node, file: &str, section: &str) -> Result<Variant, Error> {
    let fields = Fields::open(node, file, section, &["name", "packages", "tests"])?;
    let name = fields.required_text("name")?;
    if !is_tag(&name) {
        return Err(fields.invalid("name", &name, TAG));
    }
    let own = tests(&fields, file, &fields.path("tests"))?;
    Ok(Variant {
        name,
        packages: fields.texts("packages")?,
        structure_test: own.structure,
        unit_test: own.unit,
        runtime_test: own.runtime,
    })
}

/// The paths of the tests that are stated.
#[derive(Default)]
struct Tests {
    structure: Option<String>,
    unit: Option<String>,
    runtime: Option<String>,
}

fn tests(fields: &Fields<'_>, file: &str, section: &str) -> Result<Tests, Error> {
    let Some(node) = fields.node("tests") else {
        return Ok(Tests::default());
    };
    let tests = Fields::open(node, file, section, &["structure", "unit", "runtime"])?;
    let read = |key: &str| match tests.text(key)? {
        None => Ok(None),
        Some(path) if path.starts_with('/') || path.split('/').any(|part| part == ".." || part.is_empty()) => {
            Err(tests.invalid(key, &path, "a path inside the image's folder is expected"))
        }
        Some(path) => Ok(Some(path.value)),
    };
    Ok(Tests { structure: read("structure")?, unit: read("unit")?, runtime: read("runtime")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: &str = "title: Redis\ndescription: A store\ncategory: databases\nprimary: redis\nstreams:\n  - name: 8.0\n    version: ~8.0\n    end-of-life: 2027-06-30\n    tags: [lts]\narchitectures: [x86_64, arm64]\nvariants: [{name: dev, packages: [busybox]}]\nsuites:\n  integrity: required\n  structure: required\n  runtime:\n    not-applicable: nothing to start\n";

    #[test]
    fn an_image_definition_is_read() {
        let image = ImageDefinition::parse(REDIS, "image.yaml").unwrap();
        assert_eq!(image.streams[0].name, "8.0");
        assert_eq!(image.streams[0].version, "~8.0");
        assert_eq!(image.streams[0].end_of_life.unwrap().to_string(), "2027-06-30");
        assert_eq!(image.architectures, [Architecture::X86_64, Architecture::Aarch64]);
        assert_eq!(image.suites.runtime, Requirement::NotApplicable { reason: "nothing to start".to_owned() });
        assert_eq!(image.structure_test, "tests/structure.yaml");
        assert_eq!(image.compression, LayerCompression::Gzip);
        let zstd = REDIS.replace("category:", "compression: zstd\ncategory:");
        assert_eq!(ImageDefinition::parse(&zstd, "image.yaml").unwrap().compression, LayerCompression::Zstd);
        assert_eq!((image.suites.unit, image.unit_test.as_str()), (None, "tests/unit.yaml"));
        let text =
            REDIS.replace("runtime:\n", "unit: required\n  runtime:\n").replace("suites", "tests: {unit: u}\nsuites");
        let stated = ImageDefinition::parse(&text, "image.yaml").unwrap();
        assert_eq!((stated.suites.unit, stated.unit_test.as_str()), (Some(Requirement::Required), "u"));
        assert_eq!(ImageDefinition::expand("- redis${version}", &image.streams[0]), "- redis~8.0");
    }

    #[test]
    fn each_stream_is_planned_plain_and_in_every_variant() {
        let text = REDIS.replace("streams:\n", "streams:\n  - name: 7.2\n");
        let image = ImageDefinition::parse(&text, "image.yaml").unwrap();
        let names: Vec<String> = image.editions().map(|edition| edition.name()).collect();
        assert_eq!(names, ["7.2", "7.2-dev", "8.0", "8.0-dev"]);
        assert_eq!(image.edition("8.0-dev").unwrap().variant.unwrap().packages[0], "busybox");
        assert!(image.edition("8.0-debug").is_none());
        let clash = REDIS.replace("streams:\n", "streams:\n  - name: 8.0-dev\n");
        let error = ImageDefinition::parse(&clash, "image.yaml").unwrap_err().to_string();
        assert!(error.contains("two editions are called `8.0-dev`"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (from, to, message) in [
            ("~8.0", "8.0", "image.yaml:7:14: `streams[0].version` is `8.0`: a constraint is expected"),
            ("2027-06-30", "2027-13-30", "image.yaml:8:18: `streams[0].end-of-life`"),
            (
                "runtime:\n    not-applicable: nothing to start",
                "runtime: maybe",
                "image.yaml:15:12: `suites.runtime` is `maybe`",
            ),
            (
                "category",
                "compression: xz\ncategory",
                "image.yaml:3:14: `compression` is `xz`: layers are compressed by `gzip` or `zstd`",
            ),
            ("arm64", "vax", "image.yaml:10:25: `architectures` is `vax`"),
            (
                "category",
                "categroy",
                "image.yaml:3:1: unknown key `categroy` in the definition; did you mean `category`?",
            ),
            ("variants", "tests: {runtime: ../x}\nvariants", "image.yaml:11:18: `tests.runtime` is `../x`"),
        ] {
            let text = REDIS.replacen(from, to, 1);
            let error = ImageDefinition::parse(&text, "image.yaml").unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
