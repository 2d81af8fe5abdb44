//! Whether an image keeps to rules that are not its own.

mod configuration;
mod contents;
mod licenses;
mod malware;
mod policy;
mod secrets;

use std::ffi::OsStr;

use jiff::Timestamp;

pub use policy::{Level, Policy};

use crate::database::Database;
use crate::report::{Checks, Finding};
use crate::{Error, Image, Suite, SuiteReport};

/// A rule: the id of its check without `compliance/`, why it is one, and what a finding does where
/// the policy says nothing else.
struct Rule {
    kind: Kind,
    name: &'static str,
    level: Level,
    reason: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Licenses,
    LicenseNames,
    SetId,
    Capabilities,
    WorldWritable,
    RootUser,
    Shell,
    PackageManager,
    SshServer,
    Secrets,
    ConfiguredSecrets,
    History,
    PrivilegedPorts,
    Health,
    Age,
    Fips,
    Malware,
}

const fn rule(kind: Kind, name: &'static str, level: Level, reason: &'static str) -> Rule {
    Rule { kind, name, level, reason }
}

const RULES: [Rule; 17] = [
    rule(Kind::Licenses, "licenses", Level::Block, "the image is passed on, which every licence in it must allow"),
    rule(
        Kind::LicenseNames,
        "license-names",
        Level::Warn,
        "licences that no program can read are not looked at by anybody",
    ),
    rule(Kind::SetId, "set-id", Level::Block, "whoever runs such a file has its owner's rights (CIS Docker 4.8)"),
    rule(
        Kind::Capabilities,
        "capabilities",
        Level::Block,
        "whoever runs such a file has rights of root (CIS Docker 4.8)",
    ),
    rule(
        Kind::WorldWritable,
        "world-writable",
        Level::Block,
        "whoever is in the container could change what others run",
    ),
    rule(
        Kind::RootUser,
        "root-user",
        Level::Block,
        "root in the container is root outside where isolation fails (CIS Docker 4.1)",
    ),
    rule(Kind::Shell, "shell", Level::Warn, "who breaks in has tools to go on with (CIS Docker 4.3)"),
    rule(Kind::PackageManager, "package-manager", Level::Warn, "who breaks in can bring tools (CIS Docker 4.3)"),
    rule(Kind::SshServer, "ssh-server", Level::Warn, "it is a second way in, with keys of its own (CIS Docker 5.7)"),
    rule(Kind::Secrets, "secrets", Level::Block, "everybody who can pull the image has them (CIS Docker 4.10)"),
    rule(
        Kind::ConfiguredSecrets,
        "configured-secrets",
        Level::Block,
        "everybody who can pull the image has them (CIS Docker 4.10)",
    ),
    rule(Kind::History, "history", Level::Block, "what is fetched in a step is checked by nobody (CIS Docker 4.9)"),
    rule(
        Kind::PrivilegedPorts,
        "privileged-ports",
        Level::Warn,
        "they tempt to run the container as root (CIS Docker 5.8)",
    ),
    rule(Kind::Health, "health", Level::Warn, "a service that hangs should be started again (CIS Docker 4.6)"),
    rule(Kind::Age, "age", Level::Block, "what is old lacks fixes"),
    rule(Kind::Fips, "fips", Level::Block, "a name must not promise what the image lacks"),
    rule(Kind::Malware, "malware", Level::Block, "an upstream may have been broken into"),
];

/// What is known of an image besides its own bytes.
#[derive(Debug, Clone, Copy)]
pub struct Compliance<'a> {
    /// What is asked of it.
    pub policy: &'a Policy,
    /// The image's name in its catalog, such as `nginx`.
    pub image: &'a str,
    /// The name of its edition, such as `1.26-fips`.
    pub edition: &'a str,
    /// The package that the image is for.
    pub primary: Option<&'a str>,
    /// Whether it is for developing: shells and package managers belong in it.
    pub development: bool,
    /// The time by which its age is told.
    pub now: Timestamp,
    /// Where programs are found, in the form of `PATH`.
    pub search_path: &'a OsStr,
}

/// Looks at an image without running it. Checks, each `compliance/` and:
///
/// - `licenses`, `license-names`: the policy lets the packages' licences in, which are SPDX
///   expressions;
/// - `set-id`, `capabilities`, `world-writable`: no file gives rights to who runs it, and only root
///   can change programs and what everybody reads;
/// - `root-user`: the image's user is not root;
/// - `shell`, `package-manager`, `ssh-server`: there is none, unless the image is for it;
/// - `secrets`, `configured-secrets`: none in files, nor in environment, labels and history;
/// - `history`, `privileged-ports`, `health`: further rules of the CIS Docker benchmark;
/// - `age`: image and packages are not older than the policy lets them be;
/// - `fips`: an image that calls itself FIPS has a module for it;
/// - `malware`: ClamAV finds nothing, where the policy asks for it.
///
/// # Errors
/// When the unpacked image can't be read.
pub async fn compliance(image: &Image, known: &Compliance<'_>) -> Result<SuiteReport, Error> {
    let mut checks = Checks::new(Suite::Compliance);
    let database = Database::of(image)?;
    let packages = database.as_ref().ok();
    for rule in &RULES {
        let level = known.policy.levels.get(rule.name).copied().unwrap_or(rule.level);
        let finding = match level {
            Level::Off => Finding::not_applicable("the policy turns it off"),
            _ => judge(rule.kind, image, known, packages).await?,
        };
        let finding = if level == Level::Warn { finding.warning() } else { finding };
        checks.add(format!("compliance/{}", rule.name), finding.because(rule.reason));
    }
    Ok(checks.finish_with(packages))
}

async fn judge(
    rule: Kind,
    image: &Image,
    known: &Compliance<'_>,
    database: Option<&Database>,
) -> Result<Finding, Error> {
    let (files, policy) = (image.files(), known.policy);
    let of_packages = |judge: &dyn Fn(&Database) -> Finding| match database {
        Some(database) => judge(database),
        None => Finding::not_run("the image has no apk database that can be read; see `integrity/owners`"),
    };
    Ok(match rule {
        Kind::Licenses => of_packages(&|database| licenses::policy(&database.packages, policy)),
        Kind::LicenseNames => of_packages(&|database| licenses::names(&database.packages)),
        Kind::SetId => contents::set_id(files),
        Kind::Capabilities => contents::capabilities(files),
        Kind::WorldWritable => contents::world_writable(files),
        Kind::RootUser => configuration::root_user(image),
        Kind::Shell => contents::shell(files, database, known),
        Kind::PackageManager => contents::package_manager(files, database, known),
        Kind::SshServer => contents::ssh_server(files, database, known),
        Kind::Secrets => secrets::files(image)?,
        Kind::ConfiguredSecrets => secrets::configuration(image),
        Kind::History => configuration::history(image),
        Kind::PrivilegedPorts => configuration::ports(image),
        Kind::Health => configuration::health(),
        Kind::Age => configuration::age(image, database, policy.maximum_age_days, known.now),
        Kind::Fips => configuration::fips(image, &format!("{}-{}", known.image, known.edition)),
        Kind::Malware => malware::scan(image, known, policy.malware.as_ref()).await,
    })
}
