//! What is known of vulnerabilities in an image: people's statements (`vex/` of the catalog), and fixes that the
//! factory has proof of: patches of the definition that was built, and records of its own ecosystem.

use std::collections::BTreeMap;

use apk::{Architecture, PackageInformation};
use jiff::Timestamp;
use ports::{Digest, Key};
use recipe::{PackageDefinition, StatedFix, Text, VexFile, VexProduct, VexStatement, VexStatus, stated_fixes};
use vulnerability::vex::{StatedPackage, Statement, Status};
use vulnerability::{Ecosystem, Installed};

use crate::image_plan::Plan;
use crate::package_build::BuildResult;
use crate::record::PublishedPackage;
use crate::standing::published_key;
use crate::{Context, StageError, feed};

const MAXIMUM_RESULT_BYTES: u64 = 64 << 20;
const MAXIMUM_DEFINITION_BYTES: u64 = 1 << 20;

/// The fixes that builds state, by build, kept while several images are looked at.
#[derive(Default)]
pub(crate) struct Proofs {
    builds: BTreeMap<Key, Option<BuiltFixes>>,
}

/// What the definition of one published build fixes.
#[derive(Clone)]
struct BuiltFixes {
    time: Timestamp,
    fixes: Vec<StatedFix>,
}

/// A statement on its way into a document, and what decides which of several counts.
struct Candidate {
    /// A person's; else a proof of the factory's.
    stated: bool,
    /// About the image itself.
    of_image: bool,
    statement: Statement,
}

/// Every statement that holds for an image as planned, by vulnerability. Of several about one vulnerability of
/// one package one is left: a person's before a proof, the newest, the image's own before the package's.
///
/// # Errors
/// When a record, build or definition can't be read.
pub(crate) async fn statements(
    context: &Context,
    plan: &Plan,
    proofs: &mut Proofs,
) -> Result<Vec<Statement>, StageError> {
    let packages = packages(plan);
    let mut candidates = Vec::new();
    for file in &context.catalog.vex {
        candidates.extend(file.statements.iter().filter_map(|stated| applied(file, stated, &plan.image, &packages)));
    }
    for (architecture, information, package) in &packages {
        for (fix, time) in proofs.of(context, information, *architecture).await? {
            let notes = format!("{} of {} {}", fix.by, origin(information), information.version);
            candidates.push(proof(fix.vulnerability, Vec::new(), notes, time, package.clone()));
        }
    }
    if let Some(matcher) = feed::matcher(context).await? {
        for (_, information, package) in &packages {
            for fix in matcher.fixed_in(&Installed::from_apk(Ecosystem::minimill(), information)) {
                let notes = format!("record {}: fixed in {} {}", fix.record, origin(information), fix.version);
                candidates.push(proof(fix.id, fix.aliases, notes, whole_seconds(fix.modified), package.clone()));
            }
        }
    }
    Ok(settle(candidates))
}

/// The packages of an image with what statements name them by.
fn packages(plan: &Plan) -> Vec<(Architecture, &PackageInformation, StatedPackage)> {
    let distribution = image::Distribution::default().id;
    let mut packages = Vec::new();
    for (architecture, resolved) in &plan.packages {
        for package in resolved {
            let information = &package.entry.information;
            let (id, purl) = sbom::package_purls(information, &distribution);
            let (name, version) = (information.name.clone(), information.version.clone());
            let platform = architecture.oci().to_owned();
            packages.push((*architecture, information, StatedPackage { name, version, platform, id, purl }));
        }
    }
    packages
}

/// The definition that a package was built from.
fn origin(information: &PackageInformation) -> &str {
    if information.origin.is_empty() { &information.name } else { &information.origin }
}

fn proof(
    vulnerability: String,
    aliases: Vec<String>,
    notes: String,
    timestamp: Timestamp,
    package: StatedPackage,
) -> Candidate {
    let statement = Statement {
        vulnerability,
        aliases,
        status: Status::Fixed,
        justification: None,
        impact: None,
        action: None,
        notes: Some(notes),
        timestamp,
        packages: vec![package],
    };
    Candidate { stated: false, of_image: false, statement }
}

/// A person's statement for an image that it is about.
fn applied(
    file: &VexFile,
    stated: &VexStatement,
    image: &str,
    packages: &[(Architecture, &PackageInformation, StatedPackage)],
) -> Option<Candidate> {
    let named = |names: &[Text], name: &str| names.is_empty() || names.iter().any(|one| one.value == name);
    let (of_image, about): (bool, Vec<StatedPackage>) = match &file.product {
        VexProduct::Image(name) if name.value != image => return None,
        VexProduct::Image(_) if stated.packages.is_empty() => (true, Vec::new()),
        VexProduct::Image(_) => {
            let about = packages.iter().filter(|(_, information, _)| named(&stated.packages, &information.name));
            (true, about.map(|(_, _, package)| package.clone()).collect())
        }
        VexProduct::Package(name) => {
            let about = packages.iter().filter(|(_, information, _)| {
                origin(information) == name.value
                    && named(&stated.packages, &information.name)
                    && stated.covers(&information.version)
            });
            (false, about.map(|(_, _, package)| package.clone()).collect())
        }
    };
    let whole = of_image && stated.packages.is_empty();
    if !named(&stated.images, image) || (about.is_empty() && !whole) {
        return None;
    }
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    let author = format!("stated by {}", file.author);
    let mut statement = Statement {
        vulnerability: stated.vulnerability.value.clone(),
        aliases: stated.aliases.iter().map(|alias| alias.value.clone()).collect(),
        status: Status::Fixed,
        justification: None,
        impact: None,
        action: None,
        notes: Some(text(&stated.notes).map_or_else(|| author.clone(), |notes| format!("{notes}; {author}"))),
        timestamp: stated.timestamp,
        packages: about,
    };
    match &stated.status {
        VexStatus::NotAffected(why) => {
            statement.status = Status::NotAffected;
            statement.justification = why.justification.map(|justification| justification.label().to_owned());
            statement.impact = text(&why.impact);
        }
        VexStatus::Affected { action } => {
            statement.status = Status::Affected;
            statement.action = Some(action.value.clone());
        }
        VexStatus::Fixed => {}
        VexStatus::UnderInvestigation => statement.status = Status::UnderInvestigation,
    }
    Some(Candidate { stated: true, of_image, statement })
}

/// Leaves one statement for each vulnerability of each package, and joins those that differ in the package only.
fn settle(mut candidates: Vec<Candidate>) -> Vec<Statement> {
    candidates.sort_by(|left, right| {
        let rank = |candidate: &Candidate| (candidate.stated, candidate.statement.timestamp, candidate.of_image);
        rank(right).cmp(&rank(left))
    });
    let mut settled: Vec<Statement> = Vec::new();
    for Candidate { mut statement, .. } in candidates {
        let earlier = settled.iter().filter(|held| held.is_about(statement.ids()));
        let taken: Vec<&[StatedPackage]> = earlier.map(|held| held.packages.as_slice()).collect();
        let of_image = statement.packages.is_empty();
        if taken.iter().any(|packages| packages.is_empty()) {
            continue;
        }
        statement.packages.retain(|package| !taken.iter().any(|packages| packages.contains(package)));
        if statement.packages.is_empty() && !of_image {
            continue;
        }
        let alike = settled.iter_mut().find(|held| {
            let packages = held.packages.clone();
            !of_image && !packages.is_empty() && **held == Statement { packages, ..statement.clone() }
        });
        match alike {
            Some(held) => held.packages.append(&mut statement.packages),
            None => settled.push(statement),
        }
    }
    for statement in &mut settled {
        statement.packages.sort();
        statement.packages.dedup();
    }
    // The sort is stable, so the order in which statements count stays within each vulnerability.
    settled.sort_by(|left, right| left.vulnerability.cmp(&right.vulnerability));
    settled
}

/// What is written in documents: the same file gives the same bytes everywhere.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl Proofs {
    /// The fixes that the definition of a package of the factory's own states, with the time of the build.
    async fn of(
        &mut self,
        context: &Context,
        information: &PackageInformation,
        architecture: Architecture,
    ) -> Result<Vec<(StatedFix, Timestamp)>, StageError> {
        let key = published_key(origin(information), &information.version, architecture);
        if !self.builds.contains_key(&key) {
            let fixes = read(context, &key).await?;
            self.builds.insert(key.clone(), fixes);
        }
        let known = self.builds.get(&key).and_then(Option::as_ref);
        Ok(known.map_or_else(Vec::new, |built| built.fixes.iter().map(|fix| (fix.clone(), built.time)).collect()))
    }
}

/// Reads the definition that was built, not the catalog's, which may have moved on.
async fn read(context: &Context, key: &Key) -> Result<Option<BuiltFixes>, StageError> {
    let Some(document) = context.state.get(key).await? else { return Ok(None) };
    let published: PublishedPackage = document.decode()?;
    let result: BuildResult = context.load("build result", published.build, MAXIMUM_RESULT_BYTES).await?;
    let text = definition_text(context, result.text).await?;
    let definition = PackageDefinition::parse(&text, &format!("packages/{}.yaml", result.package))
        .map_err(|error| StageError::Rejected(crate::chain(&error)))?;
    Ok(Some(BuiltFixes { time: whole_seconds(published.time), fixes: stated_fixes(&definition) }))
}

async fn definition_text(context: &Context, digest: Digest) -> Result<String, StageError> {
    let bytes = context.blobs.get(digest, MAXIMUM_DEFINITION_BYTES).await?;
    String::from_utf8(bytes.to_vec()).map_err(|error| StageError::Rejected(format!("definition {digest}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, platform: &str) -> StatedPackage {
        StatedPackage {
            name: name.to_owned(),
            version: "1-r0".to_owned(),
            platform: platform.to_owned(),
            id: format!("pkg:apk/minimill/{name}@1-r0?arch={platform}&distro=minimill"),
            purl: format!("pkg:apk/minimill/{name}@1-r0?arch={platform}"),
        }
    }

    fn candidate(stated: bool, id: &str, status: Status, day: i64, packages: &[StatedPackage]) -> Candidate {
        let mut candidate =
            proof(id.to_owned(), Vec::new(), "why".to_owned(), Timestamp::UNIX_EPOCH, package("a", "x"));
        candidate.stated = stated;
        candidate.statement.status = status;
        candidate.statement.timestamp = Timestamp::from_second(day * 86_400).unwrap();
        candidate.statement.packages = packages.to_vec();
        candidate
    }

    #[test]
    fn one_statement_is_left_for_each_vulnerability_of_each_package() {
        let (a, b) = (package("a", "amd64"), package("b", "amd64"));
        let mut by_alias = candidate(true, "GHSA-1", Status::NotAffected, 3, std::slice::from_ref(&a));
        by_alias.statement.aliases = vec!["CVE-1".to_owned()];
        let settled = settle(vec![
            candidate(false, "CVE-1", Status::Fixed, 9, std::slice::from_ref(&a)),
            candidate(false, "CVE-1", Status::Fixed, 9, std::slice::from_ref(&b)),
            candidate(true, "CVE-1", Status::UnderInvestigation, 2, std::slice::from_ref(&a)),
            by_alias,
            candidate(true, "CVE-2", Status::Affected, 1, &[]),
            candidate(false, "CVE-2", Status::Fixed, 9, std::slice::from_ref(&a)),
            candidate(false, "CVE-3", Status::Fixed, 1, std::slice::from_ref(&a)),
            candidate(false, "CVE-3", Status::Fixed, 1, std::slice::from_ref(&b)),
        ]);
        let told: Vec<(&str, Status, Vec<&str>)> = settled
            .iter()
            .map(|statement| {
                let names = statement.packages.iter().map(|package| package.name.as_str());
                (statement.vulnerability.as_str(), statement.status, names.collect())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("CVE-1", Status::Fixed, vec!["b"]),
                ("CVE-2", Status::Affected, vec![]),
                ("CVE-3", Status::Fixed, vec!["a", "b"]),
                ("GHSA-1", Status::NotAffected, vec!["a"]),
            ]
        );
    }
}
