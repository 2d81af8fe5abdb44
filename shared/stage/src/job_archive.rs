//! Jobs as files: what a build or test job on another machine is given, and what it gives back.
//!
//! A job is one tar: under `sources/`, `packages/`, `files/` and `bootstrap/` lies what its last member,
//! `job.json`, names. Its answer is another: packages under `packages/`, logs, and `answer.json` last, so
//! that an archive that was cut off has none. `mill job run JOB.tar ANSWER.tar` makes one of the other.
//!
//! The machine that runs the job gets no key and reaches nothing else. Its answer is what upstream's
//! code had in its hands: [`build_answer`], [`test_answers`] and [`image_answers`] bound names, counts and sizes, hold every
//! digest, refuse what is left over and what answers another job, and read each package again.

mod answer;
mod archive;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use apk::{Architecture, IndexEntry};
use image::PackageFile;
use ports::Digest;
use recipe::{BuildPlan, TestPlan};
use serde::{Deserialize, Serialize};

pub(crate) use answer::ANSWER_BYTES;
pub use answer::{ExpectedBuild, JobRunner, build_answer, image_answers, test_answers};
use archive::{Limits, Writer, document, unpack};

use crate::image_suites::{ImageTestJob, SuiteFile};
use crate::job::BuildJob;
use crate::package_test::TestJob;

/// Version of both archives' shape.
const VERSION: u32 = 1;

const JOB: &str = "job.json";

/// What the archive is called in errors.
const GIVEN: &str = "the job";

const LIMITS: Limits = Limits { archive: GIVEN, entries: 200_000, bytes: 16 << 30, trees: true };

/// A job for another machine.
#[derive(Clone, Debug)]
pub enum Job {
    /// A build.
    Build(Box<BuildJob>),
    /// Tests of packages, each in a root of its own.
    Tests(Vec<TestJob>),
    /// Suites of an image's platforms.
    Images(Vec<ImageTestJob>),
}

/// Why an archive can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JobArchiveError {
    /// A file operation failed.
    #[error("{action} `{path}`: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// The file, or the name within the archive.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The archive is not one of a job or an answer.
    #[error("{archive}: {problem}")]
    Malformed {
        /// Which archive.
        archive: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

type Result<T, E = JobArchiveError> = std::result::Result<T, E>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    work: Work,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Work {
    Build(Box<BuildWork>),
    Tests {
        /// Each package once; tests name them by their numbers.
        packages: Vec<IndexEntry>,
        tests: Vec<TestWork>,
    },
    Images {
        /// Each blob once.
        blobs: Vec<Digest>,
        images: Vec<ImageWork>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildWork {
    plan: BuildPlan,
    text: String,
    source_date_epoch: i64,
    sources: Vec<String>,
    origins: Vec<sbom::Source>,
    sysroot: Vec<IndexEntry>,
    files: bool,
    host_tools: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestWork {
    package: String,
    plan: TestPlan,
    packages: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageWork {
    manifest: Digest,
    architecture: Architecture,
    blobs: Vec<Digest>,
    structure: Option<SuiteFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<SuiteFile>,
    runtime: Option<SuiteFile>,
}

fn blob_name(number: usize) -> String {
    format!("blobs/{number}")
}

fn package_name(number: usize) -> String {
    format!("packages/{number}.apk")
}

fn source_name(number: usize) -> String {
    format!("sources/{number}")
}

impl Job {
    /// Writes the job's archive. The same job gives the same bytes.
    ///
    /// # Errors
    /// [`JobArchiveError::File`].
    pub fn write(&self, sink: impl Write) -> Result<()> {
        let mut writer = Writer::new(sink);
        let work = match self {
            Self::Build(job) => write_build(job, &mut writer)?,
            Self::Tests(tests) => write_tests(tests, &mut writer)?,
            Self::Images(images) => write_images(images, &mut writer)?,
        };
        writer.document(JOB, &Header { version: VERSION, work })?;
        writer.finish()
    }

    /// Reads a job's archive; what it names is put below `folder`, which is empty and an absolute path.
    ///
    /// # Errors
    /// [`JobArchiveError`].
    pub fn read(source: impl Read, folder: &Path) -> Result<Self> {
        let malformed = |problem: String| JobArchiveError::Malformed { archive: GIVEN, problem };
        unpack(&LIMITS, source, folder)?;
        let header: Header = document(GIVEN, folder, JOB)?;
        if header.version != VERSION {
            return Err(malformed(format!("version {}, and this program knows {VERSION}", header.version)));
        }
        let placed = |entries: Vec<IndexEntry>| -> Vec<PackageFile> {
            let files = entries.into_iter().enumerate();
            files.map(|(number, entry)| PackageFile { entry, path: folder.join(package_name(number)) }).collect()
        };
        match header.work {
            Work::Build(work) => {
                if let Some(name) = work.sources.iter().find(|name| !is_plain(name)) {
                    return Err(malformed(format!("source `{}` is no file name", name.escape_debug())));
                }
                let sources = work.sources.into_iter().enumerate();
                Ok(Self::Build(Box::new(BuildJob {
                    plan: work.plan,
                    text: work.text,
                    source_date_epoch: work.source_date_epoch,
                    sources: sources.map(|(number, name)| (name, folder.join(source_name(number)))).collect(),
                    origins: work.origins,
                    sysroot: placed(work.sysroot),
                    files: work.files.then(|| folder.join("files")),
                    bootstrap: folder.join("bootstrap"),
                    host_tools: work.host_tools,
                    repeated_in: None,
                })))
            }
            Work::Tests { packages, tests } => {
                let packages = placed(packages);
                let test = |work: TestWork| {
                    let chosen = work.packages.iter().map(|number| packages.get(*number).cloned()).collect();
                    let chosen: Option<Vec<PackageFile>> = chosen;
                    let packages = chosen
                        .ok_or_else(|| malformed(format!("the test of {} wants a package too many", work.package)))?;
                    Ok(TestJob { package: work.package, plan: work.plan, packages })
                };
                Ok(Self::Tests(tests.into_iter().map(test).collect::<Result<_>>()?))
            }
            Work::Images { blobs, images } => {
                let placed = blobs.into_iter().enumerate();
                let placed: BTreeMap<Digest, PathBuf> =
                    placed.map(|(number, digest)| (digest, folder.join(blob_name(number)))).collect();
                let images = images.into_iter().map(|work| read_image(work, &placed));
                Ok(Self::Images(images.collect::<Result<_>>()?))
            }
        }
    }
}

fn write_build(job: &BuildJob, writer: &mut Writer<impl Write>) -> Result<Work> {
    for (number, (_, path)) in job.sources.iter().enumerate() {
        writer.file(source_name(number).as_ref(), path)?;
    }
    for (number, package) in job.sysroot.iter().enumerate() {
        writer.file(package_name(number).as_ref(), &package.path)?;
    }
    if let Some(files) = &job.files {
        writer.tree("files".as_ref(), files)?;
    }
    if job.bootstrap.is_dir() {
        writer.tree("bootstrap".as_ref(), &job.bootstrap)?;
    }
    Ok(Work::Build(Box::new(BuildWork {
        plan: job.plan.clone(),
        text: job.text.clone(),
        source_date_epoch: job.source_date_epoch,
        sources: job.sources.iter().map(|(name, _)| name.clone()).collect(),
        origins: job.origins.clone(),
        sysroot: job.sysroot.iter().map(|package| package.entry.clone()).collect(),
        files: job.files.is_some(),
        host_tools: job.host_tools.clone(),
    })))
}

fn write_tests(tests: &[TestJob], writer: &mut Writer<impl Write>) -> Result<Work> {
    let mut numbers: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let (mut packages, mut written) = (Vec::new(), Vec::new());
    for test in tests {
        let mut chosen = Vec::new();
        for package in &test.packages {
            let number = match numbers.get(&package.path) {
                Some(number) => *number,
                None => {
                    let number = packages.len();
                    writer.file(package_name(number).as_ref(), &package.path)?;
                    packages.push(package.entry.clone());
                    numbers.insert(package.path.clone(), number);
                    number
                }
            };
            chosen.push(number);
        }
        written.push(TestWork { package: test.package.clone(), plan: test.plan.clone(), packages: chosen });
    }
    Ok(Work::Tests { packages, tests: written })
}

fn write_images(images: &[ImageTestJob], writer: &mut Writer<impl Write>) -> Result<Work> {
    let mut blobs = Vec::new();
    for (digest, path) in images.iter().flat_map(|image| &image.blobs) {
        if !blobs.contains(digest) {
            writer.file(blob_name(blobs.len()).as_ref(), path)?;
            blobs.push(*digest);
        }
    }
    let images = images.iter().map(|image| ImageWork {
        manifest: image.manifest,
        architecture: image.architecture,
        blobs: image.blobs.keys().copied().collect(),
        structure: image.structure.clone(),
        unit: image.unit.clone(),
        runtime: image.runtime.clone(),
    });
    Ok(Work::Images { images: images.collect(), blobs })
}

fn read_image(work: ImageWork, placed: &BTreeMap<Digest, PathBuf>) -> Result<ImageTestJob> {
    let mut blobs = BTreeMap::new();
    for digest in work.blobs {
        let path = placed.get(&digest).ok_or_else(|| JobArchiveError::Malformed {
            archive: GIVEN,
            problem: format!("it has no blob {digest}"),
        })?;
        blobs.insert(digest, path.clone());
    }
    let ImageWork { manifest, architecture, structure, unit, runtime, .. } = work;
    Ok(ImageTestJob { manifest, architecture, blobs, folder: None, structure, unit, runtime })
}

fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
}
