//! Package definitions: the melange format.

mod decode;
mod duration;
mod identity;
mod pipeline;
mod update;

use apk::Architecture;
pub use pipeline::{Backoff, Input, Retry, Step};
pub use update::{
    GitHubMonitor, GitMonitor, OciMonitor, ReleaseMonitor, Replacement, Schedule, SchedulePeriod, Update, VersionData,
    VersionDataSource,
};

pub(crate) use identity::{INVALID_NAME, valid_name};
pub(crate) use pipeline::{STEP, StepKeys, decode_step};

use crate::error::Error;
use crate::image::ImageConfiguration;
use crate::text::{Location, Position, Text};
use crate::yaml;

/// One package definition: how a package and its subpackages are built, tested and kept up to date.
///
/// Texts are as written, `${{...}}` included; [`evaluate`](crate::evaluate) resolves them.
#[derive(Debug, Clone)]
pub struct PackageDefinition {
    /// The name that errors give the file.
    pub file: String,
    /// The whole text.
    pub source: String,
    /// `package`.
    pub package: Package,
    /// `environment`: what the build runs in.
    pub environment: ImageConfiguration,
    /// `pipeline`: the steps that build the main package.
    pub pipeline: Vec<Step>,
    /// `subpackages`.
    pub subpackages: Vec<Subpackage>,
    /// `data`: the blocks that `range:` names.
    pub data: Vec<RangeData>,
    /// `update`: how new upstream versions are found.
    pub update: Update,
    /// `vars`.
    pub variables: Vec<(Text, Text)>,
    /// `var-transforms`.
    pub variable_transforms: Vec<VariableTransform>,
    /// `options`: named deviations that a build may enable.
    pub options: Vec<(Text, BuildOption)>,
    /// `test` of the main package.
    pub test: Option<Test>,
    /// `capabilities` of the build.
    pub capabilities: Capabilities,
    /// Where a second YAML document starts, which is not read.
    pub other_document: Option<Position>,
}

/// `package`.
#[derive(Debug, Clone)]
pub struct Package {
    /// `name`, its substitutions made.
    pub name: Text,
    /// `version`, the text as written (`1.10` is not `1.1`), its substitutions made.
    pub version: Text,
    /// `epoch`: the revision of this version, `-rEPOCH`; 0 when not said.
    pub epoch: u64,
    /// Where `epoch` is said.
    pub epoch_position: Option<Position>,
    /// `description`.
    pub description: Text,
    /// `url`.
    pub url: Text,
    /// `commit` of the definition.
    pub commit: Text,
    /// `annotations`.
    pub annotations: Vec<(Text, Text)>,
    /// `target-architecture`; empty or `all` means every one.
    pub target_architectures: Vec<Text>,
    /// `copyright`.
    pub copyright: Vec<Copyright>,
    /// `dependencies`.
    pub dependencies: Dependencies,
    /// `options`.
    pub options: PackageOptions,
    /// `scriptlets`.
    pub scriptlets: Scriptlets,
    /// `checks.disabled`: linters not to run.
    pub disabled_checks: Vec<Text>,
    /// `cpe`.
    pub cpe: Option<Cpe>,
    /// `setcap`.
    pub setcap: Vec<Capability>,
    /// `timeout` of the build in seconds.
    pub timeout_seconds: Option<u64>,
    /// `resources` of the build.
    pub resources: Resources,
    /// `test-resources`.
    pub test_resources: Resources,
}

/// One entry of `copyright`: a licence, or a group of entries under one operator.
#[derive(Debug, Clone)]
pub struct Copyright {
    /// Where it starts.
    pub position: Position,
    /// `paths` that it covers.
    pub paths: Vec<Text>,
    /// `attestation`: the copyright statement.
    pub attestation: Option<Text>,
    /// `license`: SPDX expression; `None` for a group.
    pub license: Option<Text>,
    /// `license-path`: the licence's text in the source.
    pub license_path: Option<Text>,
    /// `detection-override`: what melange's own detection would call the licence, so that it does not tell
    /// of the difference. Minimill detects no licences, so nothing is to be overridden.
    pub detection_override: Option<Text>,
    /// `operator` of a group: `AND` or `OR`.
    pub operator: LicenceOperator,
    /// `licenses` of a group; empty for a single licence.
    pub licenses: Vec<Copyright>,
}

/// What joins the licences of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LicenceOperator {
    /// `AND`: all of them hold.
    #[default]
    And,
    /// `OR`: any of them may be chosen.
    Or,
}

/// `dependencies` of a package. The format has no key for apk's `install_if`, and melange writes none; see
/// [`InstallIf`](crate::InstallIf).
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    /// `runtime`.
    pub runtime: Vec<Text>,
    /// `provides`.
    pub provides: Vec<Text>,
    /// `replaces`.
    pub replaces: Vec<Text>,
    /// `provider-priority`: a number, possibly templated.
    pub provider_priority: Option<Text>,
    /// `replaces-priority`: a number, possibly templated.
    pub replaces_priority: Option<Text>,
}

/// `options` of a package: which automatic dependencies not to find.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PackageOptions {
    /// `no-provides`.
    pub no_provides: bool,
    /// `no-depends`.
    pub no_depends: bool,
    /// `no-commands`.
    pub no_commands: bool,
    /// `no-versioned-shlib-deps`.
    pub no_versioned_shared_library_dependencies: bool,
}

/// `scriptlets`: programs that run when a package is installed, changed or removed.
#[derive(Debug, Clone, Default)]
pub struct Scriptlets {
    /// `trigger`: paths watched and the script to run.
    pub trigger: Option<(Vec<Text>, Text)>,
    /// `pre-install`.
    pub pre_install: Option<Text>,
    /// `post-install`.
    pub post_install: Option<Text>,
    /// `pre-deinstall`.
    pub pre_deinstall: Option<Text>,
    /// `post-deinstall`.
    pub post_deinstall: Option<Text>,
    /// `pre-upgrade`.
    pub pre_upgrade: Option<Text>,
    /// `post-upgrade`.
    pub post_upgrade: Option<Text>,
}

/// `cpe`: the product's name in vulnerability databases.
#[derive(Debug, Clone)]
pub struct Cpe {
    /// `part`.
    pub part: Option<Text>,
    /// `vendor`.
    pub vendor: Option<Text>,
    /// `product`.
    pub product: Option<Text>,
    /// `edition`.
    pub edition: Option<Text>,
    /// `language`.
    pub language: Option<Text>,
    /// `sw_edition`.
    pub software_edition: Option<Text>,
    /// `target_sw`.
    pub target_software: Option<Text>,
    /// `target_hw`.
    pub target_hardware: Option<Text>,
    /// `other`.
    pub other: Option<Text>,
}

/// One entry of `setcap`: file capabilities.
#[derive(Debug, Clone)]
pub struct Capability {
    /// `path` of the program.
    pub path: Text,
    /// `add`: capability names and their sets, such as `cap_net_bind_service` and `+eip`.
    pub add: Vec<(Text, Text)>,
    /// `reason`.
    pub reason: Option<Text>,
}

/// `resources`: what a build or test machine must have, in Kubernetes quantities.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// `cpu`.
    pub cpu: Option<Text>,
    /// `cpumodel`.
    pub cpu_model: Option<Text>,
    /// `memory`.
    pub memory: Option<Text>,
    /// `disk`.
    pub disk: Option<Text>,
}

/// A further package made by the same build.
#[derive(Debug, Clone)]
pub struct Subpackage {
    /// Where it starts.
    pub position: Position,
    /// `if`.
    pub condition: Option<Text>,
    /// `range`: the name of a `data` block; one subpackage per item.
    pub range: Option<Text>,
    /// `name`.
    pub name: Text,
    /// `pipeline`.
    pub pipeline: Vec<Step>,
    /// `dependencies`.
    pub dependencies: Dependencies,
    /// `options`.
    pub options: PackageOptions,
    /// `scriptlets`.
    pub scriptlets: Scriptlets,
    /// `description`.
    pub description: Option<Text>,
    /// `url`.
    pub url: Option<Text>,
    /// `commit`.
    pub commit: Option<Text>,
    /// `annotations`.
    pub annotations: Vec<(Text, Text)>,
    /// `checks.disabled`.
    pub disabled_checks: Vec<Text>,
    /// `setcap`.
    pub setcap: Vec<Capability>,
    /// `test`.
    pub test: Option<Test>,
}

/// One `data` block: the items of a `range`.
#[derive(Debug, Clone)]
pub struct RangeData {
    /// `name`.
    pub name: Text,
    /// `items`: key and value of each.
    pub items: Vec<(Text, Text)>,
}

/// One `var-transforms` entry: a variable made from another by a regular expression.
#[derive(Debug, Clone)]
pub struct VariableTransform {
    /// `from`: a template, usually `${{package.version}}`.
    pub from: Text,
    /// `match`: a regular expression (RE2 syntax).
    pub pattern: Text,
    /// `replace`: with `$1` or `${1}` for groups.
    pub replace: Text,
    /// `to`: the name; `${{vars.NAME}}` gives the result.
    pub to: Text,
}

/// One named build option.
#[derive(Debug, Clone, Default)]
pub struct BuildOption {
    /// `vars` that it sets.
    pub variables: Vec<(Text, Text)>,
    /// `environment.contents.packages.add`.
    pub add_packages: Vec<Text>,
    /// `environment.contents.packages.remove`.
    pub remove_packages: Vec<Text>,
}

/// `test`: a pipeline that runs with the package installed.
#[derive(Debug, Clone)]
pub struct Test {
    /// `environment` beside the package itself.
    pub environment: ImageConfiguration,
    /// `pipeline`.
    pub pipeline: Vec<Step>,
}

/// `capabilities` of the build.
#[derive(Debug, Clone, Default)]
pub struct Capabilities {
    /// `add`.
    pub add: Vec<Text>,
    /// `drop`.
    pub drop: Vec<Text>,
}

impl PackageDefinition {
    /// Whether the packages are made for an architecture: `target-architecture` names it, `all` or `noarch`,
    /// or nothing.
    #[must_use]
    pub fn builds_for(&self, architecture: Architecture) -> bool {
        let targets = &self.package.target_architectures;
        let is_any = |target: &Text| matches!(target.as_str(), "all" | "noarch");
        targets.is_empty() || targets.iter().any(|target| is_any(target) || target.value.parse() == Ok(architecture))
    }

    /// Reads a package definition. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// Not YAML, past a bound, an unknown key (with the nearest known one), a missing key or a value
    /// of the wrong type, each with its line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let (node, more) = yaml::parse_first(text, file)?;
        let mut definition = decode::definition(&node, text, file)?;
        definition.other_document = more;
        identity::resolve(&mut definition)?;
        Ok(definition)
    }

    /// `VERSION-rEPOCH`.
    #[must_use]
    pub fn full_version(&self) -> String {
        format!("{}-r{}", self.package.version, self.package.epoch)
    }

    /// A place in this definition.
    #[must_use]
    pub fn location(&self, position: Position) -> Location {
        Location::new(&self.file, position)
    }
}
