//! What a build does and makes: a definition with everything resolved.

use std::fmt;

use apk::Architecture;
use serde::{Deserialize, Serialize};

use crate::package::PackageOptions;
use crate::text::Location;

/// The folder that outputs are made in, one folder each.
pub const OUTPUT_ROOT: &str = "/home/build/melange-out";
/// The build's workspace.
pub const WORKSPACE: &str = "/home/build";
/// Where fetched sources are found during a build, read-only.
pub const SOURCE_ROOT: &str = "/var/cache/melange";

/// Everything that one build needs and makes, with no substitution left to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// The main package's name.
    pub name: String,
    /// Upstream version.
    pub version: String,
    /// Revision of this version.
    pub epoch: u64,
    /// `VERSION-rEPOCH`.
    pub full_version: String,
    /// What is built for.
    pub architecture: Architecture,
    /// Hex SHA-256 of the definition's text, of every pipeline it uses and of its `install-if`: a
    /// changed recipe has another one.
    pub recipe_digest: String,
    /// What must be fetched before the build, in the order of use, without repeats.
    pub sources: Vec<Source>,
    /// What the build runs in.
    pub environment: Environment,
    /// One POSIX shell script that makes all outputs.
    ///
    /// Steps run in order, each in a subshell with its own directory and variables, under `set -e`;
    /// before each it prints a line `::step N LABEL` to standard output, and a failed build prints
    /// `::failed N LABEL` to standard error.
    pub script: String,
    /// What each step is called, in the order of their numbers (from 1).
    pub steps: Vec<String>,
    /// The main package, then the subpackages.
    pub outputs: Vec<Output>,
    /// Longest time for the build, in seconds, where the definition sets one.
    pub timeout_seconds: Option<u64>,
    /// Resources asked for.
    pub resources: PlannedResources,
    /// Pipelines that were not found; empty unless
    /// [`Options::missing_pipelines`](crate::Options::missing_pipelines) asks to go on without.
    pub missing_pipelines: Vec<MissingPipeline>,
    /// Inputs that were given to pipelines without being declared by them; empty unless
    /// [`Options::missing_pipelines`](crate::Options::missing_pipelines) asks to go on without.
    #[serde(default)]
    pub unknown_inputs: Vec<UnknownInput>,
    /// Substitutions in texts about the packages, such as a description, that name nothing; they stay there as
    /// they are written.
    #[serde(default)]
    pub unknown_variables: Vec<UnknownVariable>,
}

/// A substitution that names nothing, in a text where that does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownVariable {
    /// Where it stands.
    pub location: Location,
    /// The name between its braces.
    pub name: String,
    /// Similar names that exist.
    pub nearest: Vec<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`${{{{{}}}}}` is not defined and stays as it is written", self.name)?;
        match self.nearest.first() {
            Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// An input that a pipeline does not declare, so that it has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownInput {
    /// Where `with:` gives it.
    pub location: Location,
    /// The pipeline.
    pub pipeline: String,
    /// The input.
    pub input: String,
    /// Similar inputs that the pipeline has.
    pub nearest: Vec<String>,
}

/// A pipeline that no folder has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPipeline {
    /// Where `uses:` names it.
    pub location: Location,
    /// Its name.
    pub name: String,
    /// Whether it is used by tests only, so that the build does not need it.
    pub test_only: bool,
}

impl fmt::Display for UnknownInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pipeline `{}` has no input `{}`", self.pipeline, self.input)?;
        match self.nearest.first() {
            Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
            None => formatter.write_str("; it has no effect, take it out"),
        }
    }
}

/// What a build or test runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Wanted packages: the definition's own, then what its pipelines need, without repeats.
    pub packages: Vec<String>,
    /// Variables, in order.
    pub variables: Vec<(String, String)>,
}

/// Resources as Kubernetes quantities, where the definition asks for any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedResources {
    /// Processors, such as `2`.
    pub cpu: Option<String>,
    /// Processor model.
    pub cpu_model: Option<String>,
    /// Memory, such as `4Gi`.
    pub memory: Option<String>,
    /// Disk, such as `10Gi`.
    pub disk: Option<String>,
}

/// Something that is fetched and checked outside of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where it comes from: `https://...`, or a package URL such as `pkg:cargo/ripgrep@14.1.1`. For git,
    /// the repository; for a folder of the definition's own one, `own:PATH`.
    pub uri: String,
    /// What it must be.
    pub expected: Expected,
    /// The name that the script reads it by, in [`SOURCE_ROOT`]: `sha256:HEX`, `sha512:HEX`,
    /// `git:COMMIT`, or `uri:HEX` with the SHA-256 of what identifies the source when nothing is expected of it.
    pub file: String,
    /// More about a git source. Its file is an uncompressed tar of the tree, without a leading folder.
    pub git: Option<GitSource>,
    /// Which folder of the definition's own repository, where that is the source. Its file is an
    /// uncompressed tar, the folder below its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnFolder>,
    /// Name for the source's package URL in SBOMs.
    pub purl_name: Option<String>,
    /// Version for the source's package URL in SBOMs.
    pub purl_version: Option<String>,
    /// Where the step stands.
    pub location: Location,
}

/// A folder of the git repository that a definition is kept in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFolder {
    /// Its path in the repository.
    pub path: String,
    /// Branch, tag or commit; the commit that is checked out where none is given.
    pub reference: Option<String>,
}

/// Which tree of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSource {
    /// Branch to take.
    pub branch: Option<String>,
    /// Tag to take.
    pub tag: Option<String>,
    /// Whether the expected commit must be the branch's newest.
    pub commit_is_branch_tip: bool,
    /// Commits of history to keep, -1 for all, where the definition says it.
    pub depth: Option<i32>,
    /// Whether submodules are part of the tree.
    pub recurse_submodules: bool,
    /// Commits to pick on top, one a line: `BRANCH/COMMIT: REASON`.
    pub cherry_picks: Option<String>,
    /// Folders to take only.
    pub sparse_paths: Vec<String>,
}

/// What a source is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Hex SHA-256 of the file.
    Sha256(String),
    /// Hex SHA-512 of the file.
    Sha512(String),
    /// Hex commit.
    Commit(String),
    /// Nothing: the definition says why.
    None,
}

/// One package that the build makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Package name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Home page.
    pub url: String,
    /// Commit of the definition, where it says one.
    pub commit: String,
    /// One SPDX expression for all the licences.
    pub licence: String,
    /// Licences, as the definition lists them, those of groups one by one.
    pub licences: Vec<Licence>,
    /// What vulnerability databases call it (CPE 2.3), where the definition says so; of the main package
    /// only, since the others hold parts of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpe: Option<String>,
    /// Dependencies that the definition states; the automatic ones are found in the files.
    pub dependencies: OutputDependencies,
    /// Which automatic dependencies not to find.
    pub options: PackageOptions,
    /// Scripts of the package manager.
    pub scriptlets: OutputScriptlets,
    /// File capabilities to set.
    pub capabilities: Vec<FileCapability>,
    /// Annotations.
    pub annotations: Vec<(String, String)>,
    /// Linters not to run.
    pub disabled_checks: Vec<String>,
    /// Folder with the package's files, below [`OUTPUT_ROOT`].
    pub directory: String,
    /// How the package is tested, where [`Options::tests`](crate::Options::tests) asks for it and the
    /// definition has a test.
    pub test: Option<TestPlan>,
}

impl Output {
    /// One SPDX expression for all the licences; empty where the definition has none.
    #[must_use]
    pub fn licence_expression(&self) -> String {
        self.licence.clone()
    }
}

/// A licence of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    /// SPDX expression.
    pub expression: String,
    /// The licence's text in the workspace.
    pub path: Option<String>,
    /// The copyright statement.
    pub attestation: Option<String>,
}

/// Dependencies with substitutions done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDependencies {
    /// Needed at run time.
    pub runtime: Vec<String>,
    /// Names provided, with or without a version.
    pub provides: Vec<String>,
    /// Packages whose files this one may overwrite.
    pub replaces: Vec<String>,
    /// What it installs itself beside; from `install-if/NAME.yaml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub install_if: Vec<String>,
    /// Priority among providers of a name; 0 when not said.
    pub provider_priority: u64,
    /// Priority of `replaces`; 0 when not said.
    pub replaces_priority: u64,
}

/// Scripts of the package manager with substitutions done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputScriptlets {
    /// Paths watched, and the script to run on a change.
    pub trigger: Option<(Vec<String>, String)>,
    /// Before installing.
    pub pre_install: Option<String>,
    /// After installing.
    pub post_install: Option<String>,
    /// Before removing.
    pub pre_deinstall: Option<String>,
    /// After removing.
    pub post_deinstall: Option<String>,
    /// Before upgrading.
    pub pre_upgrade: Option<String>,
    /// After upgrading.
    pub post_upgrade: Option<String>,
}

/// File capabilities with substitutions done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCapability {
    /// Path of the program in the package.
    pub path: String,
    /// Capability and its sets, such as `cap_net_bind_service` and `+eip`.
    pub add: Vec<(String, String)>,
}

/// A user of a test's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestUser {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Shell, where the test says one.
    pub shell: Option<String>,
    /// Home directory, where the test says one.
    pub home: Option<String>,
}

/// A group of a test's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestGroup {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// Login names.
    pub members: Vec<String>,
}

/// How a package is tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPlan {
    /// The package under test, then what the test wants beside it.
    pub environment: Environment,
    /// User to run as, where the test says one.
    pub run_as: Option<String>,
    /// Users that the test's root gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<TestUser>,
    /// Groups that the test's root gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<TestGroup>,
    /// The script, as [`BuildPlan::script`].
    pub script: String,
    /// What each step is called.
    pub steps: Vec<String>,
    /// Names of the pipelines that the test uses, without repeats.
    pub pipelines: Vec<String>,
}
