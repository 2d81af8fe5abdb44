//! What a job gives back: written where it ran, and judged where it is read.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use apk::{BuiltPackage, Package, PackageInformation};
use lint::{Finding, Interface};
use ports::Digest;
use recipe::{BuildPlan, Output};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use verify::{Containers, Suite};

use super::archive::{Limits, Writer, at, document, unpack};
use super::{Job, JobArchiveError, Result, VERSION, package_name};
use crate::chain;
use crate::image_suites::{ImageTestJob, ImageTestRun};
use crate::image_test;
use crate::job::{self, BuildError, BuildJob, BuildProduct, Builder, Unsigned};
use crate::package_test::{TestJob, TestRun};

const ANSWER: &str = "answer.json";
const LOG: &str = "log";

/// What the archive is called in errors.
const RETURNED: &str = "the answer";

/// The longest answer, in bytes.
pub(crate) const ANSWER_BYTES: u64 = 4 << 30;

/// A build makes at most a few hundred packages, and a test a log.
const LIMITS: Limits = Limits { archive: RETURNED, entries: 2_000, bytes: ANSWER_BYTES, trees: false };

/// The longest reason that an answer gives, in characters.
const REASON: usize = 100_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    version: u32,
    /// Digest of the job's archive.
    job: Digest,
    outcome: Outcome,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Outcome {
    Built { packages: Vec<BuiltFile>, findings: Vec<Finding>, host_packages: Vec<(String, String)>, log: Member },
    Tested(Vec<TestAnswer>),
    Suites(Vec<ImageTestRun>),
    Failed { reason: String, log: Option<Member> },
    Environment(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltFile {
    file: Member,
    interface: Interface,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum TestAnswer {
    Passed,
    NotRun(String),
    Failed { reason: String, log: Option<Member> },
}

/// A file of the archive.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    name: String,
    sha256: Digest,
}

impl<W: Write> Writer<W> {
    fn member(&mut self, name: String, path: &Path) -> Result<Member> {
        let sha256 = digest(path)?;
        self.file(name.as_ref(), path)?;
        Ok(Member { name, sha256 })
    }

    fn log(&mut self, name: String, log: Option<Vec<u8>>) -> Result<Option<Member>> {
        let Some(bytes) = log else { return Ok(None) };
        self.bytes(&name, &bytes)?;
        Ok(Some(Member { sha256: Digest::of(&bytes), name }))
    }
}

fn digest(path: &Path) -> Result<Digest> {
    std::fs::File::open(path)
        .and_then(|mut file| ports::local::digest_of(&mut file))
        .map_err(at("read", path.display()))
}

/// Runs jobs on this machine.
#[derive(Clone, Copy)]
pub struct JobRunner<'m> {
    /// Builds packages and tests them.
    pub builder: &'m dyn Builder,
    /// Runs images.
    pub containers: &'m Containers,
    /// Scratch space.
    pub work: &'m Path,
}

impl JobRunner<'_> {
    /// Runs a job, and writes the archive of its answer. `job_digest` is that of the job's own archive.
    /// Returned is what the answer comes to, in a sentence.
    ///
    /// # Errors
    /// [`JobArchiveError`] when the answer can't be written. That the job failed is an answer.
    pub async fn run(&self, job: &Job, job_digest: Digest, sink: impl Write) -> Result<String> {
        let mut writer = Writer::new(sink);
        let outcome = match job {
            Job::Build(job) => self.build(job, &mut writer).await?,
            Job::Tests(tests) => self.tests(tests, &mut writer).await?,
            Job::Images(images) => self.images(images).await,
        };
        let told = outcome.to_string();
        writer.document(ANSWER, &Answer { version: VERSION, job: job_digest, outcome })?;
        writer.finish()?;
        Ok(told)
    }

    async fn build(&self, job: &BuildJob, writer: &mut Writer<impl Write>) -> Result<Outcome> {
        let product = match self.builder.build(job).await {
            Ok(product) => product,
            Err(BuildError::Failed { reason, log }) => {
                return Ok(Outcome::Failed { reason, log: writer.log(LOG.to_owned(), log)? });
            }
            Err(BuildError::Environment(reason)) => return Ok(Outcome::Environment(reason)),
        };
        let mut packages = Vec::new();
        for (number, unsigned) in product.packages.into_iter().enumerate() {
            let file = writer.member(package_name(number), &unsigned.path)?;
            packages.push(BuiltFile { file, interface: unsigned.interface });
        }
        let log = writer.member(LOG.to_owned(), &product.log)?;
        let (findings, host_packages) = (product.findings, product.host_packages);
        Ok(Outcome::Built { packages, findings, host_packages, log })
    }

    async fn tests(&self, tests: &[TestJob], writer: &mut Writer<impl Write>) -> Result<Outcome> {
        let mut answers = Vec::new();
        for (number, test) in tests.iter().enumerate() {
            answers.push(match self.builder.test(test).await {
                Ok(TestRun::Passed) => TestAnswer::Passed,
                Ok(TestRun::NotRun(reason)) => TestAnswer::NotRun(reason),
                Err(BuildError::Failed { reason, log }) => {
                    TestAnswer::Failed { reason, log: writer.log(format!("logs/{number}"), log)? }
                }
                Err(BuildError::Environment(reason)) => return Ok(Outcome::Environment(reason)),
            });
        }
        Ok(Outcome::Tested(answers))
    }

    async fn images(&self, images: &[ImageTestJob]) -> Outcome {
        let mut runs = Vec::new();
        for image in images {
            let run = match tempfile::Builder::new().prefix("suites-").tempdir_in(self.work) {
                Ok(scratch) => match image.open(scratch.path()).await {
                    Ok(opened) => image.run(&opened, self.containers, scratch.path()).await,
                    Err(error) => Err(error),
                },
                Err(error) => return Outcome::Environment(chain(&error)),
            };
            match run {
                Ok(run) => runs.push(run),
                Err(error) if image_test::is_environment(&error) => return Outcome::Environment(chain(&error)),
                Err(error) => return Outcome::Failed { reason: chain(&error), log: None },
            }
        }
        Outcome::Suites(runs)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Built { packages, .. } => write!(formatter, "built, packages: {}", packages.len()),
            Self::Tested(tests) => {
                let of = |is: fn(&TestAnswer) -> bool| tests.iter().filter(|test| is(test)).count();
                let passed = of(|test| matches!(test, TestAnswer::Passed));
                let failed = of(|test| matches!(test, TestAnswer::Failed { .. }));
                let not_run = of(|test| matches!(test, TestAnswer::NotRun(_)));
                write!(formatter, "tested, passed: {passed}, failed: {failed}, not run: {not_run}")
            }
            Self::Suites(runs) => write!(formatter, "suites run on platforms: {}", runs.len()),
            Self::Failed { reason, .. } => write!(formatter, "failed: {reason}"),
            Self::Environment(reason) => write!(formatter, "this machine can't run it: {reason}"),
        }
    }
}

/// An answer that was unpacked, with the files that it has not named yet.
struct Unpacked {
    folder: TempDir,
    unnamed: BTreeSet<PathBuf>,
}

fn malformed(problem: String) -> BuildError {
    BuildError::Environment(JobArchiveError::Malformed { archive: RETURNED, problem }.to_string())
}

fn environment(error: impl std::error::Error) -> BuildError {
    BuildError::Environment(chain(&error))
}

impl Unpacked {
    fn read(source: impl Read, work: &Path, job: Digest) -> Result<(Self, Outcome), BuildError> {
        let folder = tempfile::Builder::new()
            .prefix("answer-")
            .tempdir_in(work)
            .map_err(|error| environment(at("make a folder in", work.display())(error)))?;
        let mut unnamed = unpack(&LIMITS, source, folder.path()).map_err(environment)?;
        let answer: Answer = document(RETURNED, folder.path(), ANSWER).map_err(environment)?;
        unnamed.remove(Path::new(ANSWER));
        if answer.version != VERSION {
            return Err(malformed(format!("version {}, and this program knows {VERSION}", answer.version)));
        }
        if answer.job != job {
            return Err(malformed(format!("it answers the job {}, and not {job}", answer.job)));
        }
        Ok((Self { folder, unnamed }, answer.outcome))
    }

    /// Where a member lies, whose name must be this one.
    fn take(&mut self, member: &Member, expected: &str) -> Result<PathBuf, BuildError> {
        if member.name != expected || !self.unnamed.remove(Path::new(expected)) {
            return Err(malformed(format!(
                "it names `{}` where its `{expected}` belongs, which it must have",
                member.name.escape_debug()
            )));
        }
        let path = self.folder.path().join(expected);
        let found = digest(&path).map_err(environment)?;
        if found != member.sha256 {
            return Err(malformed(format!("its `{expected}` is {found}, and not {}", member.sha256)));
        }
        Ok(path)
    }

    fn log(&mut self, member: Option<Member>, expected: &str) -> Result<Option<Vec<u8>>, BuildError> {
        let Some(member) = member else { return Ok(None) };
        let path = self.take(&member, expected)?;
        std::fs::read(&path).map(Some).map_err(|error| environment(at("read", path.display())(error)))
    }

    /// Refuses what is left.
    fn finish(self) -> Result<TempDir, BuildError> {
        match self.unnamed.first() {
            None => Ok(self.folder),
            Some(name) => Err(malformed(format!("it does not name its `{}`", name.display()))),
        }
    }

    /// What is wrong with the work or the machine, or that the answer is to another kind of job.
    fn error(mut self, outcome: Outcome) -> BuildError {
        let failed = |reason: String, log| BuildError::Failed { reason: reason.chars().take(REASON).collect(), log };
        match outcome {
            Outcome::Failed { reason, log } => match self.log(log, LOG) {
                Ok(log) => self.finish().map_or_else(|error| error, |_| failed(reason, log)),
                Err(error) => error,
            },
            Outcome::Environment(reason) => BuildError::Environment(reason.chars().take(REASON).collect()),
            Outcome::Built { .. } | Outcome::Tested(_) | Outcome::Suites(_) => {
                malformed("it is to another kind of job".to_owned())
            }
        }
    }
}

/// What the answer of a build is held against.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedBuild<'e> {
    /// Digest of the job's archive.
    pub job: Digest,
    /// What was to be built.
    pub plan: &'e BuildPlan,
    /// The definition's text, which the packages carry.
    pub text: &'e str,
    /// Time of everything in the packages, in seconds since 1970.
    pub source_date_epoch: i64,
}

/// Reads the answer of a build job: the packages of the plan, all of them and no other, each read whole.
/// What the definition says of a package must stand in it as it is; its dependencies, what it provides
/// and its files are what was found in the job. `work` is where it is unpacked.
///
/// # Errors
/// The build's own failure; [`BuildError::Environment`] for an answer that is none.
pub fn build_answer(source: impl Read, work: &Path, expected: &ExpectedBuild<'_>) -> Result<BuildProduct, BuildError> {
    let (mut answer, outcome) = Unpacked::read(source, work, expected.job)?;
    let Outcome::Built { packages, findings, host_packages, log } = outcome else {
        return Err(answer.error(outcome));
    };
    let outputs = &expected.plan.outputs;
    if packages.len() != outputs.len() {
        return Err(malformed(format!("it has {} packages, and the plan {}", packages.len(), outputs.len())));
    }
    let mut made = Vec::new();
    for (number, (built, output)) in packages.into_iter().zip(outputs).enumerate() {
        let path = answer.take(&built.file, &package_name(number))?;
        made.push(Unsigned { built: read_package(&path, output, expected)?, path, interface: built.interface });
    }
    let log = answer.take(&log, LOG)?;
    Ok(BuildProduct { packages: made, findings, host_packages, log, folder: answer.finish()? })
}

fn read_package(path: &Path, output: &Output, expected: &ExpectedBuild<'_>) -> Result<BuiltPackage, BuildError> {
    let mut package = Package::open(path).map_err(environment)?;
    package.files().map_err(environment)?;
    let differs = |what: &str| malformed(format!("{what} of package `{}` is not what the plan says", output.name));
    let found = package.information();
    if found.data_hash.is_empty() || !package.signatures().is_empty() {
        return Err(differs("`datahash` or signature"));
    }
    let stated = PackageInformation {
        // What only the built files tell.
        depends: found.depends.clone(),
        provides: found.provides.clone(),
        installed_size: found.installed_size,
        data_hash: found.data_hash.clone(),
        ..job::information(expected.plan, expected.source_date_epoch, output)
    };
    // As it reads when it was written.
    let stated =
        stated.write(&[]).and_then(|text| PackageInformation::parse(&output.name, &text)).map_err(environment)?;
    if *found != stated {
        return Err(differs("`.PKGINFO`"));
    }
    if package.control_file(".melange.yaml") != Some(expected.text.as_bytes()) {
        return Err(differs("`.melange.yaml`"));
    }
    let scripts = job::scripts(&output.scriptlets);
    let found_scripts = package.scripts().map(|(script, text)| (script, text.to_vec()));
    if !found_scripts.eq(scripts.into_iter().map(|(script, text)| (script, text.into_bytes()))) {
        return Err(differs("a script"));
    }
    Ok(BuiltPackage {
        information: package.information().clone(),
        control_sha256: *package.control_sha256(),
        checksum: package.checksum(),
        size: package.size(),
    })
}

/// Reads the answer of a job of `count` tests, in their order. `work` is where it is unpacked.
///
/// # Errors
/// [`BuildError::Environment`] for an answer that is none. A test's own failure is in its place.
pub fn test_answers(
    source: impl Read,
    work: &Path,
    job: Digest,
    count: usize,
) -> Result<Vec<Result<TestRun, BuildError>>, BuildError> {
    let (mut answer, outcome) = Unpacked::read(source, work, job)?;
    let Outcome::Tested(tests) = outcome else { return Err(answer.error(outcome)) };
    if tests.len() != count {
        return Err(malformed(format!("it has {} tests, and the job {count}", tests.len())));
    }
    let mut runs = Vec::new();
    for (number, test) in tests.into_iter().enumerate() {
        runs.push(match test {
            TestAnswer::Passed => Ok(TestRun::Passed),
            TestAnswer::NotRun(reason) => Ok(TestRun::NotRun(reason.chars().take(REASON).collect())),
            TestAnswer::Failed { reason, log } => {
                let log = answer.log(log, &format!("logs/{number}"))?;
                Err(BuildError::Failed { reason: reason.chars().take(REASON).collect(), log })
            }
        });
    }
    answer.finish()?;
    Ok(runs)
}

/// Reads the answer of a job of images: for each, a report of each suite that was to be run.
///
/// # Errors
/// [`BuildError::Failed`] for an image or a suite's file that can't be worked with;
/// [`BuildError::Environment`] for an answer that is none.
pub fn image_answers(
    source: impl Read,
    work: &Path,
    job: Digest,
    expected: &[Vec<Suite>],
) -> Result<Vec<ImageTestRun>, BuildError> {
    let (answer, outcome) = Unpacked::read(source, work, job)?;
    let Outcome::Suites(runs) = outcome else { return Err(answer.error(outcome)) };
    let suites = |run: &ImageTestRun| run.suites.iter().map(|report| report.suite).collect::<Vec<_>>();
    if !runs.iter().map(suites).eq(expected.iter().cloned()) {
        return Err(malformed("its reports are of other suites than those that were to be run".to_owned()));
    }
    answer.finish()?;
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            // As an attacker would: the library itself refuses such names.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            let content = if *kind == tar::EntryType::Symlink {
                header.set_link_name_literal(content).unwrap();
                ""
            } else {
                content
            };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn answered(entries: &[(&str, tar::EntryType, &str)]) -> String {
        let work = tempfile::tempdir().unwrap();
        let error = test_answers(archive(entries).as_slice(), work.path(), Digest::of(b"job"), 1).unwrap_err();
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "nothing is left");
        error.to_string()
    }

    #[test]
    fn hostile_answers_are_refused() {
        use tar::EntryType::{Char, Directory, GNULongName, GNUSparse, Link, Regular, Symlink, XHeader};
        let answer = |job: &str, outcome: &str| {
            format!(r#"{{"version":1,"job":"{}","outcome":{outcome}}}"#, Digest::of(job.as_bytes()))
        };
        let (good, other) = (answer("job", r#"{"tested":["passed"]}"#), answer("other", r#"{"tested":["passed"]}"#));
        let built = answer("job", r#"{"environment":"no disk"}"#);
        let log = answer("job", r#"{"tested":[{"failed":{"reason":"r","log":{"name":"../x","sha256":"JOB"}}}]}"#);
        let log = log.replace("JOB", &Digest::of(b"x").to_string());
        type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a str)];
        let cases: &[(Entries<'_>, &str)] = &[
            (&[("../x", Regular, "1")], "the answer: entry `../x` leads out of it"),
            (&[("/x", Regular, "1")], "the answer: entry `/x` leads out of it"),
            (&[("log", Regular, "1"), ("log", Regular, "2")], "the answer: entry `log` comes twice"),
            (&[("log", Symlink, "/etc/shadow")], "the answer: entry `log` is of kind Symlink"),
            (&[("log", Link, "answer.json")], "the answer: entry `log` is of kind Link"),
            (&[("zero", Char, "")], "the answer: entry `zero` is of kind Char"),
            (&[("hole", GNUSparse, "")], "the answer: entry `hole` is of kind GNUSparse"),
            (&[("long", GNULongName, "x")], "the answer: entry `long` is of kind GNULongName"),
            (&[("more", XHeader, "x")], "the answer: entry `more` is of kind XHeader"),
            (&[("packages", Directory, "")], "the answer: entry `packages` is of kind Directory"),
            (&[("log", Regular, "1")], "the answer: it has no `answer.json`"),
            (&[("answer.json", Regular, "{}")], "the answer: `answer.json`: missing field `version`"),
            (&[("answer.json", Regular, &good.replace(":1", ":2"))], "the answer: version 2"),
            (&[("answer.json", Regular, &other)], "the answer: it answers the job "),
            (&[("answer.json", Regular, &good), ("x", Regular, "")], "the answer: it does not name its `x`"),
            (&[("answer.json", Regular, &log)], "the answer: it names `../x` where its `logs/0` belongs"),
            (&[("answer.json", Regular, &built)], "no disk"),
        ];
        for (entries, expected) in cases {
            let problem = answered(entries);
            assert!(problem.starts_with(expected), "{expected}: {problem}");
        }
        let work = tempfile::tempdir().unwrap();
        let whole = archive(&[("answer.json", Regular, &good)]);
        assert_eq!(test_answers(whole.as_slice(), work.path(), Digest::of(b"job"), 1).unwrap().len(), 1);
        for length in [0, 511, 512, 540] {
            let cut = whole.get(..length).unwrap();
            assert!(test_answers(cut, work.path(), Digest::of(b"job"), 1).is_err(), "{length} bytes");
        }
    }
}
