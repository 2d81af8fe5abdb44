//! The predicate types that images carry, and the typed ones of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ResourceDescriptor;

/// An image signature as `cosign` v3 makes it; the predicate is an empty object.
pub const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
/// An SPDX document; the predicate is the document.
pub const SPDX: &str = "https://spdx.dev/Document";
/// A CycloneDX document; the predicate is the document.
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";
/// SLSA provenance v1; the predicate is a [`Provenance`].
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// The result of a test suite; the predicate is a [`TestResult`].
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// An OpenVEX document of version 0.2.0; the predicate is the document.
pub const OPENVEX: &str = "https://openvex.dev/ns/v0.2.0";
/// An OpenVEX document under the type without a version, which is the one that `cosign` looks for.
pub const OPENVEX_UNVERSIONED: &str = "https://openvex.dev/ns";

/// How something was built (SLSA provenance v1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What went in.
    pub build_definition: BuildDefinition,
    /// What ran.
    pub run_details: RunDetails,
}

/// The inputs of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// A URI that says how to read the parameters.
    pub build_type: String,
    /// What whoever asked for the build could choose.
    pub external_parameters: Map<String, Value>,
    /// What the builder chose.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub internal_parameters: Map<String, Value>,
    /// Sources, packages and tools, by digest where they have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved_dependencies: Vec<ResourceDescriptor>,
}

/// One run of a builder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDetails {
    /// Who built.
    pub builder: Builder,
    /// When, and as which run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BuildMetadata>,
    /// What came out beside the subject: logs, reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<ResourceDescriptor>,
}

/// The builder that a verifier decides whether to trust.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// A URI.
    pub id: String,
    /// Versions of the builder's parts, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
    /// The builder's own dependencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub builder_dependencies: Vec<ResourceDescriptor>,
}

/// When a build ran, and as which run. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildMetadata {
    /// Names the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_on: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<String>,
}

/// The result of one run of a test suite (in-toto test result v0.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// The result as a whole.
    pub result: TestOutcome,
    /// The definitions of the tests, by digest.
    pub configuration: Vec<ResourceDescriptor>,
    /// Where to read about the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The names of the tests that passed.
    #[serde(default)]
    pub passed_tests: Vec<String>,
    /// The names of the tests that passed with warnings.
    #[serde(default)]
    pub warned_tests: Vec<String>,
    /// The names of the tests that failed.
    #[serde(default)]
    pub failed_tests: Vec<String>,
}

/// The result of a test suite as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TestOutcome {
    /// Every test passed.
    Passed,
    /// Every test passed, some with warnings.
    Warned,
    /// A test failed.
    Failed,
}
