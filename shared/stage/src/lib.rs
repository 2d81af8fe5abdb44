//! The stages of the factory, one file each, and the rules of versions, tags and days.
//!
//! A stage is its message and its `run`. Stages talk only by messages: [`UpstreamCheck`] ->
//! [`PackageBuild`] -> [`PackagePublish`] -> [`PackageIndex`], and [`ImagePlan`] -> [`ImageBuild`] -> [`ImageTest`] ->
//! [`ImagePublish`] -> [`VulnerabilityScan`]; [`ImageVex`] follows what is known of vulnerabilities. [`drain`] handles messages until none waits;
//! [`cycle`] runs a whole day.

mod abi;
mod authenticity;
mod build_sources;
mod catalog;
mod catalog_files;
mod context;
mod cycle;
mod elsewhere;
mod error;
mod evaluation;
mod feed;
mod image_build;
mod image_plan;
mod image_publish;
mod image_push;
mod image_retest;
mod image_suites;
mod image_test;
mod image_vex;
mod job;
mod job_archive;
mod licences;
mod message;
mod package_build;
mod package_difference;
mod package_index;
mod package_publish;
mod package_retest;
mod package_test;
mod packages;
mod progress;
mod provenance;
pub mod record;
mod releases;
mod repository;
mod reproducible;
mod retention;
pub mod rules;
mod schedule;
mod shared;
mod standing;
mod streams;
mod universes;
mod update;
mod upstream_check;
mod vex;
mod vulnerability_scan;
mod watch;
mod watch_file;
mod withdraw;
mod worker;

pub use crate::authenticity::{
    DefaultPolicy, Origin, Refused, Subject, Tried, TriedResult, Verdict, prove, refused_key,
};
pub use catalog::{Catalog, CatalogError, ImageSource, PackageSource, Problem};
pub use context::{Caches, Context, Settings};
pub use cycle::{
    CycleReport, ImageRow, PackageRow, cycle, image_plans, releases, scan, update_images, update_packages, update_vex,
};
pub use elsewhere::{JobRecord, job_ended, wake_overdue};
pub use error::{StageError, chain};
pub use evaluation::{Evaluations, Package, in_parallel};
pub use feed::{MatcherCache, import};
pub use image_build::{BuildRecord, ImageBuild, Platform, SpdxDocuments, spdx_documents};
pub use image_plan::{Decision, ImagePlan, ImagePlanRecord, Lock, Plan, PlannedVariant, differences};
pub use image_publish::{ImagePublish, attach as attach_statement};
pub use image_push::LayerPlace;
pub use image_retest::{ImageSubject, ImageTests, TestedBuild, test_image};
pub use image_suites::{ImageTestJob, ImageTestRun, SuiteFile};
pub use image_test::{ImageTest, Reports};
pub use image_vex::{ImageVex, VexRecord};
pub use job::{BuildError, BuildJob, BuildProduct, Builder, LocalBuilder, Unsigned};
pub use job_archive::{ExpectedBuild, Job, JobArchiveError, JobRunner, build_answer, image_answers, test_answers};
pub use message::{Outcome, Stage, dispatch, handle};
pub use package_build::{BuildDependency, BuildResult, PackageBuild, SourceEvidence, UnsignedPackage};
pub use package_difference::Explanation;
pub use package_index::PackageIndex;
pub use package_publish::PackagePublish;
pub use package_retest::PackageTest;
pub use package_test::{PackageTestReport, PackageTestStatus, TestJob, TestRun, test_package};
pub use packages::{Packages, Retry, build_due, load_package, send_due};
pub use progress::{Progress, Running, Silent};
pub use releases::{ReleaseStatus, tag_history};
pub use repository::{FolderRepository, PackageRepository, Resolved, files};
pub use reproducible::{Repeated, Reproducibility, check_reproducible};
pub use retention::{Removal, prune};
pub use schedule::{Schedule, Work};
pub use standing::Standing;
pub use streams::{ProposedStream, propose, proposed};
pub use universes::{Resolution, Universes, resolve, resolve_for_all};
pub use update::{Basis, Proposal, accept, proposed_update};
pub use upstream_check::{Answer, Checked, Checks, UpstreamCheck, check, check_all};
pub use vulnerability_scan::{Scan, VulnerabilityScan, last_report};
pub use watch::{Watched, watched};
pub use watch_file::WatchFile;
pub use withdraw::{
    Holding, PackageVersion, Withdrawn, package_failures, package_refusals, package_versions, withdraw,
};
pub use worker::{Count, Entry, Summary, drain, settle};
