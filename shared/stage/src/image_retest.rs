//! The suites of an image, run for a person on what was built before. Nothing is recorded or published.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use ports::{Digest, Document, Key};
use recipe::Edition;
use serde::Serialize;
use verify::{Report, Suite};

use crate::catalog::ImageSource;
use crate::image_build::BuildRecord;
use crate::image_test::{MAXIMUM_RECORD_BYTES, Reports, suite_files, test_build};
use crate::record::{self, BuiltImage, Release};
use crate::releases::{Ownership, decoded};
use crate::{Context, StageError};

/// Which builds of an image are tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSubject {
    /// The newest build of every stream that is still built, published or not.
    Newest,
    /// What a published tag names.
    Tag(String),
    /// A published digest, of the index or of one platform.
    Digest(Digest),
}

/// What the suites found in one build.
#[derive(Clone, Debug, Serialize)]
pub struct TestedBuild {
    /// Stream or edition.
    pub stream: String,
    /// Every check passed or is not applicable.
    pub passed: bool,
    /// The image index and one report per architecture.
    #[serde(flatten)]
    pub reports: Reports,
    /// The files that declare the suites, relative to the catalog.
    #[serde(skip)]
    pub sources: BTreeMap<Suite, String>,
}

/// What the suites found in an image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageTests {
    /// Every build that was tested.
    pub builds: Vec<TestedBuild>,
    /// Streams whose suites were not run, with the reason.
    pub not_run: BTreeMap<String, String>,
}

impl ImageTests {
    /// Whether everything was run and passed, or is not applicable.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.not_run.is_empty() && !self.builds.is_empty() && self.builds.iter().all(|build| build.passed)
    }
}

/// Runs today's suites of the catalog on what was built of an image.
///
/// # Errors
/// [`StageError::Rejected`] for an unknown image, tag or digest, and for a suite that can't be read, with its place.
pub async fn test_image(context: &Context, image: &str, subject: &ImageSubject) -> Result<ImageTests, StageError> {
    let source = context
        .catalog
        .images
        .get(image)
        .ok_or_else(|| StageError::Rejected(format!("the catalog has no image `{image}`")))?;
    let mut tests = ImageTests { builds: Vec::new(), not_run: BTreeMap::new() };
    match subject {
        ImageSubject::Newest => {
            let today = context.clock.now().to_zoned_datetime(TimeZone::UTC).date();
            let built =
                source.definition.editions().filter(|one| one.stream.end_of_life.is_none_or(|end| end >= today));
            for edition in built {
                let name = edition.name();
                let key = Key::new(record::image(image), format!("built#{name}"));
                match decoded::<BuiltImage>(context, &key).await?.0 {
                    Some(built) => tests.builds.push(tested(context, image, source, edition, built.build).await?),
                    None => {
                        tests.not_run.insert(name, "nothing has been built of it; run `mill cycle`".to_owned());
                    }
                }
            }
        }
        ImageSubject::Tag(_) | ImageSubject::Digest(_) => {
            let release = release(context, image, subject).await?;
            let stream = &release.stream;
            let edition = source.definition.edition(stream).ok_or_else(|| {
                StageError::Rejected(format!(
                    "image `{image}` has no stream `{stream}` any longer, so no suites for it"
                ))
            })?;
            match release.build {
                Some(build) => tests.builds.push(tested(context, image, source, edition, build).await?),
                None => {
                    let reason = "it was published by an older version, which did not keep how it was built";
                    tests.not_run.insert(stream.clone(), reason.to_owned());
                }
            }
        }
    }
    Ok(tests)
}

async fn release(context: &Context, image: &str, subject: &ImageSubject) -> Result<Release, StageError> {
    let partition = record::image(image);
    let (wanted, shown) = match subject {
        ImageSubject::Tag(tag) => {
            let (ownership, _) = decoded::<Ownership>(context, &Key::new(partition.clone(), "tags")).await?;
            (ownership.and_then(|ownership| ownership.tags.get(tag).copied()), format!("{image}:{tag}"))
        }
        ImageSubject::Digest(digest) => (Some(*digest), format!("{image}@{digest}")),
        ImageSubject::Newest => (None, image.to_owned()),
    };
    let unknown = || {
        StageError::Rejected(format!("`{shown}` was never published, or is removed; `mill image list` lists what is"))
    };
    let wanted = wanted.ok_or_else(unknown)?;
    let documents = context.state.list_all(&partition, "release#").await?;
    let releases = documents.iter().map(Document::decode).collect::<Result<Vec<Release>, _>>()?;
    let names = |release: &Release| {
        release.removed.is_none()
            && (release.digest == wanted || release.platforms.values().any(|digest| *digest == wanted))
    };
    releases.into_iter().find(names).ok_or_else(unknown)
}

async fn tested(
    context: &Context,
    image: &str,
    source: &ImageSource,
    edition: Edition<'_>,
    build: Digest,
) -> Result<TestedBuild, StageError> {
    let build: BuildRecord = context.load("build record", build, MAXIMUM_RECORD_BYTES).await?;
    let reports = test_build(context, source, edition, &build).await?;
    let folder = format!("images/{image}");
    let mut sources: BTreeMap<_, _> = suite_files(&source.definition, edition)
        .into_iter()
        .map(|(suite, file)| (suite, format!("{folder}/{file}")))
        .collect();
    sources.extend([Suite::Integrity, Suite::Compliance].map(|suite| (suite, format!("{folder}/image.yaml"))));
    let passed = !reports.platforms.is_empty() && reports.platforms.values().all(Report::passed);
    Ok(TestedBuild { stream: edition.name(), passed, reports, sources })
}
