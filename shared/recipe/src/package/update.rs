//! `update`: how new upstream versions are found.

use crate::decode::Fields;
use crate::error::Error;
use crate::text::{Position, Text};
use crate::yaml::Node;

/// `update`.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// `enabled`: whether upstream is watched; `None` when not said.
    pub enabled: Option<bool>,
    /// `manual`: new versions are shown, never built by themselves.
    pub manual: bool,
    /// `shared`: dependents must be rebuilt too.
    pub shared: bool,
    /// `require-sequential`: no version is skipped.
    pub require_sequential: bool,
    /// `version-separator`: what upstream writes for `.`.
    pub version_separator: Option<Text>,
    /// `ignore-regex-patterns`: versions to pass over. A pattern may be invalid; that is an error of
    /// the package's check, not of its definition.
    pub ignore_patterns: Vec<Text>,
    /// `version-transform`, in order.
    pub version_transforms: Vec<Replacement>,
    /// `exclude-reason`: why it is not enabled.
    pub exclude_reason: Option<Text>,
    /// `schedule`.
    pub schedule: Option<Schedule>,
    /// `enable-prerelease-tags`.
    pub enable_prerelease_tags: bool,
    /// `github`.
    pub github: Option<GitHubMonitor>,
    /// `release-monitor`.
    pub release_monitor: Option<ReleaseMonitor>,
    /// `git`: the repository of the first `git-checkout`.
    pub git: Option<GitMonitor>,
    /// `oci`.
    pub oci: Option<OciMonitor>,
    /// `version_data`.
    pub version_data: Option<VersionData>,
}

/// A regular expression and what replaces its matches.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// `match`.
    pub pattern: Text,
    /// `replace`.
    pub replace: Text,
}

/// `schedule`.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Where it starts.
    pub position: Position,
    /// `period`; `None` where it is absent or none of the three, which is no error of the definition's form.
    pub period: Option<SchedulePeriod>,
    /// `period` as written.
    pub written_period: Text,
    /// `reason`.
    pub reason: Option<Text>,
}

/// How often to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulePeriod {
    /// `daily`.
    Daily,
    /// `weekly`.
    Weekly,
    /// `monthly`.
    Monthly,
}

/// `github`.
#[derive(Debug, Clone)]
pub struct GitHubMonitor {
    /// `identifier`: `organisation/repository`; where it is absent, that of the first `git-checkout` from
    /// GitHub is meant.
    pub identifier: Option<Text>,
    /// `strip-prefix` of tags.
    pub strip_prefix: Option<Text>,
    /// `strip-suffix` of tags.
    pub strip_suffix: Option<Text>,
    /// `use-tag`: tags in place of releases.
    pub use_tags: bool,
    /// `tag-filter`, or the newer `tag-filter-prefix`: tags must start so.
    pub tag_filter_prefix: Option<Text>,
    /// `tag-filter-contains`: tags must hold this.
    pub tag_filter_contains: Option<Text>,
}

/// `release-monitor`: a project number of the release-monitoring service.
#[derive(Debug, Clone)]
pub struct ReleaseMonitor {
    /// `identifier`.
    pub identifier: u64,
    /// `strip-prefix`.
    pub strip_prefix: Option<Text>,
    /// `strip-suffix`.
    pub strip_suffix: Option<Text>,
    /// `version-filter-prefix`.
    pub version_filter_prefix: Option<Text>,
    /// `version-filter-contains`.
    pub version_filter_contains: Option<Text>,
}

/// `git`.
#[derive(Debug, Clone, Default)]
pub struct GitMonitor {
    /// `strip-prefix`.
    pub strip_prefix: Option<Text>,
    /// `strip-suffix`.
    pub strip_suffix: Option<Text>,
    /// `tag-filter-prefix`.
    pub tag_filter_prefix: Option<Text>,
    /// `tag-filter-contains`.
    pub tag_filter_contains: Option<Text>,
}

/// `oci`: tags of an image repository.
#[derive(Debug, Clone)]
pub struct OciMonitor {
    /// `identifier`: the repository.
    pub identifier: Text,
    /// `strip-prefix`.
    pub strip_prefix: Option<Text>,
    /// `strip-suffix`.
    pub strip_suffix: Option<Text>,
    /// `tag-filter-prefix`.
    pub tag_filter_prefix: Option<Text>,
    /// `tag-filter-contains`.
    pub tag_filter_contains: Option<Text>,
}

/// `version_data`.
#[derive(Debug, Clone)]
pub struct VersionData {
    /// `version_format`.
    pub version_format: Option<Text>,
    /// `sources`.
    pub sources: Vec<VersionDataSource>,
}

/// One of `version_data.sources`.
#[derive(Debug, Clone)]
pub struct VersionDataSource {
    /// `name`.
    pub name: Option<Text>,
    /// `stream`.
    pub stream: Option<Text>,
    /// `ignore`.
    pub ignore: Vec<Text>,
    /// `commit_source`.
    pub commit_source: Option<Text>,
    /// `use_release`.
    pub use_release: bool,
}

const UPDATE: &[&str] = &[
    "enabled",
    "manual",
    "shared",
    "require-sequential",
    "version-separator",
    "ignore-regex-patterns",
    "version-transform",
    "exclude-reason",
    "schedule",
    "enable-prerelease-tags",
    "github",
    "release-monitor",
    "git",
    "oci",
    "version_data",
];

pub(super) fn decode_update(node: &Node, file: &str) -> Result<Update, Error> {
    let fields = Fields::open(node, file, "update", UPDATE)?;
    Ok(Update {
        enabled: fields.boolean("enabled")?,
        manual: fields.flag("manual")?,
        shared: fields.flag("shared")?,
        require_sequential: fields.flag("require-sequential")?,
        version_separator: fields.text("version-separator")?,
        ignore_patterns: fields.texts("ignore-regex-patterns")?,
        version_transforms: fields.list("version-transform", |node, path| {
            let transform = Fields::open(node, file, path, &["match", "replace"])?;
            Ok(Replacement {
                pattern: transform.required_text("match")?,
                replace: transform.text("replace")?.unwrap_or_default(),
            })
        })?,
        exclude_reason: fields.text("exclude-reason")?,
        schedule: fields.node("schedule").map(|node| schedule(node, file)).transpose()?,
        enable_prerelease_tags: fields.flag("enable-prerelease-tags")?,
        github: fields.node("github").map(|node| github(node, file)).transpose()?,
        release_monitor: fields.node("release-monitor").map(|node| release_monitor(node, file)).transpose()?,
        // `git: {}` and a bare `git:` both mean it.
        git: fields.entries().iter().find(|(key, _)| *key == "git").map(|(_, node)| git(node, file)).transpose()?,
        oci: fields.node("oci").map(|node| oci(node, file)).transpose()?,
        version_data: fields.node("version_data").map(|node| version_data(node, file)).transpose()?,
    })
}

fn schedule(node: &Node, file: &str) -> Result<Schedule, Error> {
    let fields = Fields::open(node, file, "update.schedule", &["period", "reason"])?;
    let written_period = fields.text("period")?.unwrap_or_default();
    let period = match written_period.as_str() {
        "daily" => Some(SchedulePeriod::Daily),
        "weekly" => Some(SchedulePeriod::Weekly),
        "monthly" => Some(SchedulePeriod::Monthly),
        _ => None,
    };
    Ok(Schedule { position: fields.position(), period, written_period, reason: fields.text("reason")? })
}

fn github(node: &Node, file: &str) -> Result<GitHubMonitor, Error> {
    let known = &[
        "identifier",
        "strip-prefix",
        "strip-suffix",
        "use-tag",
        "tag-filter",
        "tag-filter-prefix",
        "tag-filter-contains",
    ];
    let fields = Fields::open(node, file, "update.github", known)?;
    Ok(GitHubMonitor {
        identifier: fields.text("identifier")?.filter(|text| !text.is_empty()),
        strip_prefix: fields.text("strip-prefix")?,
        strip_suffix: fields.text("strip-suffix")?,
        use_tags: fields.flag("use-tag")?,
        tag_filter_prefix: fields.text("tag-filter-prefix")?.or(fields.text("tag-filter")?),
        tag_filter_contains: fields.text("tag-filter-contains")?,
    })
}

fn release_monitor(node: &Node, file: &str) -> Result<ReleaseMonitor, Error> {
    let known = &["identifier", "strip-prefix", "strip-suffix", "version-filter-prefix", "version-filter-contains"];
    let fields = Fields::open(node, file, "update.release-monitor", known)?;
    let Some(identifier) = fields.integer("identifier")? else {
        return Err(fields.missing("identifier"));
    };
    Ok(ReleaseMonitor {
        identifier,
        strip_prefix: fields.text("strip-prefix")?,
        strip_suffix: fields.text("strip-suffix")?,
        version_filter_prefix: fields.text("version-filter-prefix")?,
        version_filter_contains: fields.text("version-filter-contains")?,
    })
}

fn git(node: &Node, file: &str) -> Result<GitMonitor, Error> {
    let known = &["strip-prefix", "strip-suffix", "tag-filter-prefix", "tag-filter-contains"];
    let fields = Fields::open(node, file, "update.git", known)?;
    Ok(GitMonitor {
        strip_prefix: fields.text("strip-prefix")?,
        strip_suffix: fields.text("strip-suffix")?,
        tag_filter_prefix: fields.text("tag-filter-prefix")?,
        tag_filter_contains: fields.text("tag-filter-contains")?,
    })
}

fn oci(node: &Node, file: &str) -> Result<OciMonitor, Error> {
    let known = &["identifier", "strip-prefix", "strip-suffix", "tag-filter-prefix", "tag-filter-contains"];
    let fields = Fields::open(node, file, "update.oci", known)?;
    Ok(OciMonitor {
        identifier: fields.required_text("identifier")?,
        strip_prefix: fields.text("strip-prefix")?,
        strip_suffix: fields.text("strip-suffix")?,
        tag_filter_prefix: fields.text("tag-filter-prefix")?,
        tag_filter_contains: fields.text("tag-filter-contains")?,
    })
}

fn version_data(node: &Node, file: &str) -> Result<VersionData, Error> {
    let fields = Fields::open(node, file, "update.version_data", &["version_format", "sources"])?;
    Ok(VersionData {
        version_format: fields.text("version_format")?,
        sources: fields.list("sources", |node, path| {
            let known = &["name", "stream", "ignore", "commit_source", "use_release"];
            let source = Fields::open(node, file, path, known)?;
            Ok(VersionDataSource {
                name: source.text("name")?,
                stream: source.text("stream")?,
                ignore: source.text_or_texts("ignore")?,
                commit_source: source.text("commit_source")?,
                use_release: source.flag("use_release")?,
            })
        })?,
    })
}
