//! Jobs as files: `mill job run` makes what a build in the factory makes, and its answers are judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use apk::Architecture;
use image::PackageFile;
use ports::Digest;
use recipe::{BuildPlan, Options, PackageDefinition, Pipelines};
use sandbox::Bubblewrap;
use serde_json::Value;
use stage::{
    BuildError, BuildJob, BuildProduct, Builder, ExpectedBuild, ImageTestJob, Job, LocalBuilder, SuiteFile, TestJob,
    TestRun, build_answer, image_answers, test_answers,
};
use tests::archive::sha256_hex;
use tests::factory::Factory;
use tests::layout;
use verify::Suite;

const MILL: &str = env!("CARGO_BIN_EXE_mill");
const EPOCH: i64 = 1_700_000_000;

/// A shell for the tests to run in, and what came of a source and of the definition's own files.
const DEFINITION: &str = r#"
package:
  name: tool
  version: 1.0
  epoch: 0
  description: tool of a test
  copyright:
    - license: Apache-2.0
pipeline:
  - runs: |
      mkdir -p ${{targets.destdir}}/usr/share/tool
      cp /var/cache/melange/source.txt ${{targets.destdir}}/usr/share/tool/
      ./own.sh > ${{targets.destdir}}/usr/share/tool/own
      cat link >> ${{targets.destdir}}/usr/share/tool/own
      echo "$SOURCE_DATE_EPOCH" > ${{targets.destdir}}/usr/share/tool/epoch
      echo building
subpackages:
  - name: tool-shell
    options:
      no-depends: true
    checks:
      disabled: [usrmerge]
    scriptlets:
      post-install: |
        #!/bin/sh
        true
    pipeline:
      - runs: |
          install -D -m 0755 /bin/dash ${{targets.subpkgdir}}/bin/sh
          install -D -m 0755 /bin/mkdir ${{targets.subpkgdir}}/bin/mkdir
          for program in /bin/dash /bin/mkdir; do
            /lib64/ld-linux-x86-64.so.2 --list $program | grep -o '/[^ ]*'
          done | sort -u | while read file; do install -D -m 0755 $file ${{targets.subpkgdir}}$file; done
"#;

fn plan(text: &str) -> BuildPlan {
    let definition = PackageDefinition::parse(text, "tool.yaml").unwrap();
    recipe::evaluate(&definition, &Options::new(Architecture::X86_64, &Pipelines::built_in().unwrap())).unwrap()
}

struct Surroundings {
    folder: tempfile::TempDir,
}

impl Surroundings {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["work", "logs", "files", "bootstrap"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let this = Self { folder };
        fs::write(this.path("source.txt"), "from upstream\n").unwrap();
        fs::write(this.path("files/own.sh"), "#!/bin/sh\necho own\n").unwrap();
        fs::set_permissions(this.path("files/own.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("own.sh", this.path("files/link")).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn build(&self, text: &str) -> BuildJob {
        BuildJob {
            plan: plan(text),
            text: text.to_owned(),
            source_date_epoch: EPOCH,
            sources: vec![("source.txt".to_owned(), self.path("source.txt"))],
            origins: vec![sbom_source(&self.path("source.txt"))],
            sysroot: Vec::new(),
            files: Some(self.path("files")),
            bootstrap: self.path("bootstrap"),
            host_tools: Vec::new(),
            repeated_in: None,
        }
    }

    fn local(&self) -> LocalBuilder {
        let bubblewrap = Bubblewrap::find(OsStr::new("/usr/bin:/bin"), &self.path("work")).unwrap();
        LocalBuilder::new(bubblewrap, self.path("work"), self.path("logs"))
    }

    /// The archive of a job, and that of its answer by the command.
    fn run(&self, job: &Job) -> (Digest, PathBuf, Value) {
        let (input, output) = (self.path("input.tar"), self.path("output.tar"));
        job.write(fs::File::create(&input).unwrap()).unwrap();
        let ran = Command::new(MILL)
            .args(["--format", "json", "job", "run"])
            .args([&input, &output])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert!(!self.path(".mill").exists(), "it needs no home");
        (Digest::of(&fs::read(&input).unwrap()), output, serde_json::from_slice(&ran.stdout).unwrap())
    }

    fn answer(&self, job: &BuildJob, digest: Digest, answer: impl Read) -> Result<BuildProduct, BuildError> {
        let expected =
            ExpectedBuild { job: digest, plan: &job.plan, text: &job.text, source_date_epoch: job.source_date_epoch };
        build_answer(answer, &self.path("work"), &expected)
    }
}

fn sbom_source(path: &Path) -> sbom::Source {
    sbom::Source {
        purl: String::new(),
        download_location: "https://upstream.test/source.txt".to_owned(),
        sha256: sha256_hex(&fs::read(path).unwrap()),
    }
}

fn digests(product: &BuildProduct) -> BTreeMap<String, Digest> {
    let package = |unsigned: &stage::Unsigned| Digest::of(&fs::read(&unsigned.path).unwrap());
    product.packages.iter().map(|one| (one.built.information.name.clone(), package(one))).collect()
}

fn files(product: &BuildProduct) -> Vec<PackageFile> {
    let file = |unsigned: &stage::Unsigned| PackageFile {
        entry: apk::Package::open(&unsigned.path).unwrap().index_entry(),
        path: unsigned.path.clone(),
    };
    product.packages.iter().map(file).collect()
}

#[tokio::test]
async fn a_job_in_a_file_makes_the_bytes_of_a_build_here_and_its_tests_run_likewise() {
    let here = Surroundings::new();
    let job = here.build(DEFINITION);
    let built = here.local().build(&job).await.unwrap();
    let (digest, output, told) = here.run(&Job::Build(Box::new(job.clone())));
    assert_eq!(told["outcome"], "built, packages: 2");
    let answered = here.answer(&job, digest, fs::File::open(output).unwrap()).unwrap();
    assert_eq!(digests(&answered).len(), 2);
    assert_eq!(digests(&answered), digests(&built));
    assert_eq!(answered.findings, built.findings);
    assert!(fs::read_to_string(&answered.log).unwrap().contains("building"));
    for (ours, theirs) in built.packages.iter().zip(&answered.packages) {
        assert_eq!((&ours.interface, &ours.built.information), (&theirs.interface, &theirs.built.information));
        assert_eq!(ours.built.control_sha256, theirs.built.control_sha256);
    }

    let test = plan(&format!(
        "{DEFINITION}test:\n  pipeline:\n    - runs: |\n        . /usr/share/tool/own\n        echo tested\n"
    ))
    .outputs[0]
        .test
        .clone()
        .unwrap();
    let packages = files(&answered);
    let of = |script: &str, packages: &[PackageFile]| TestJob {
        package: "tool".to_owned(),
        plan: recipe::TestPlan { script: script.to_owned(), ..test.clone() },
        packages: packages.to_vec(),
    };
    let tests = vec![
        of("read line < /usr/share/tool/own && test \"$line\" = own", &packages),
        of("echo why; exit 3", &packages),
        of("true", &packages[..1]),
    ];
    let local = here.local();
    let mut expected = Vec::new();
    for test in &tests {
        expected.push(format!("{:?}", local.test(test).await));
    }
    let (digest, output, told) = here.run(&Job::Tests(tests));
    assert_eq!(told["outcome"], "tested, passed: 1, failed: 1, not run: 1");
    let answers = test_answers(fs::File::open(&output).unwrap(), &here.path("work"), digest, 3).unwrap();
    // Where the log lay is told, and was another place.
    let plain =
        |text: &String| match text.split_once("(log: `").and_then(|(a, rest)| Some((a, rest.split_once('`')?.1))) {
            Some((before, after)) => format!("{before}{after}"),
            None => text.clone(),
        };
    let answered: Vec<String> = answers.iter().map(|run| format!("{run:?}")).collect();
    assert_eq!(answered.iter().map(plain).collect::<Vec<_>>(), expected.iter().map(plain).collect::<Vec<_>>());
    assert!(matches!(&answers[0], Ok(TestRun::Passed)));
    assert!(matches!(&answers[1], Err(BuildError::Failed { log: Some(log), .. }) if log.starts_with(b"why")));
    let error = test_answers(fs::File::open(output).unwrap(), &here.path("work"), digest, 2).unwrap_err();
    assert_eq!(error.to_string(), "the answer: it has 3 tests, and the job 2");
}

#[tokio::test]
async fn a_build_that_fails_is_an_answer_with_its_log_and_no_job_is_an_error() {
    let here = Surroundings::new();
    let job = here.build(&DEFINITION.replace("echo building", "echo broken; exit 7"));
    let (digest, output, told) = here.run(&Job::Build(Box::new(job.clone())));
    assert!(told["outcome"].as_str().unwrap().starts_with("failed: "), "{told}");
    let error = here.answer(&job, digest, fs::File::open(output).unwrap()).unwrap_err();
    let BuildError::Failed { reason, log: Some(log) } = error else { panic!("{error}") };
    assert!(reason.contains('7') && String::from_utf8(log).unwrap().contains("broken"), "{reason}");

    let mut wanting = here.build(DEFINITION);
    wanting.host_tools = vec!["magic".to_owned()];
    fs::write(
        here.path("bootstrap/bootstrap.yaml"),
        "provides:\n  magic: {debian: [magic], commands: [no-such-command]}\n",
    )
    .unwrap();
    let (digest, output, _) = here.run(&Job::Build(Box::new(wanting.clone())));
    let error = here.answer(&wanting, digest, fs::File::open(output).unwrap()).unwrap_err();
    assert!(matches!(&error, BuildError::Environment(reason) if reason.contains("no-such-command")), "{error}");

    fs::write(here.path("no-job.tar"), "no job").unwrap();
    let ran =
        Command::new(MILL).args(["job", "run", "no-job.tar", "none.tar"]).current_dir(here.folder.path()).output();
    let ran = ran.unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("mill: `no-job.tar`: the job: "), "{ran:?}");
    assert!(!here.path("none.tar").exists());
}

/// An archive with some of its members changed; a member with no new content goes.
fn changed(archive: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<(String, Vec<u8>)>) -> Vec<u8> {
    let mut tar = tar::Archive::new(fs::File::open(archive).unwrap());
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        for (name, bytes) in change(&name, bytes) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn an_answer_that_says_more_or_less_than_its_job_asked_for_is_refused() {
    let here = Surroundings::new();
    let job = here.build(DEFINITION);
    let (digest, output, _) = here.run(&Job::Build(Box::new(job.clone())));
    let refused = |job: &BuildJob, digest: Digest, archive: &[u8]| {
        let error = here.answer(job, digest, archive).map(|product| digests(&product)).unwrap_err();
        assert!(matches!(error, BuildError::Environment(_)), "{error}");
        error.to_string()
    };
    let whole = fs::read(&output).unwrap();
    here.answer(&job, digest, whole.as_slice()).unwrap();

    let problem = refused(&job, Digest::of(b"another"), &whole);
    assert!(problem.starts_with(&format!("the answer: it answers the job {digest}, and not ")), "{problem}");
    let problem = refused(&job, digest, &whole[..whole.len() / 2]);
    assert!(problem.starts_with("the answer: it "), "{problem}");
    let more = changed(&output, |name, bytes| match name {
        "log" => vec![("log".to_owned(), bytes), ("packages/7.apk".to_owned(), b"more".to_vec())],
        _ => vec![(name.to_owned(), bytes)],
    });
    assert_eq!(refused(&job, digest, &more), "the answer: it does not name its `packages/7.apk`");
    let other = changed(&output, |name, bytes| {
        let bytes = if name == "log" { b"another log".to_vec() } else { bytes };
        vec![(name.to_owned(), bytes)]
    });
    assert!(refused(&job, digest, &other).starts_with("the answer: its `log` is sha256:"));
    let less = changed(
        &output,
        |name, bytes| {
            if name == "packages/1.apk" { Vec::new() } else { vec![(name.to_owned(), bytes)] }
        },
    );
    assert!(refused(&job, digest, &less).contains("where its `packages/1.apk` belongs"));

    // A job that was told to build something else under another name, time, text or script.
    let differs = |change: &dyn Fn(&mut BuildJob), expected: &str| {
        let mut other = job.clone();
        change(&mut other);
        assert_eq!(refused(&other, digest, &whole), format!("the answer: {expected}"));
    };
    let pkginfo = "`.PKGINFO` of package `tool` is not what the plan says";
    differs(&|job| job.plan.full_version = "1.0-r9".to_owned(), pkginfo);
    differs(&|job| job.source_date_epoch += 1, pkginfo);
    differs(&|job| job.plan.outputs[0].dependencies.replaces.push("openssl".to_owned()), pkginfo);
    differs(&|job| job.text.push('\n'), "`.melange.yaml` of package `tool` is not what the plan says");
    differs(&|job| drop(job.plan.outputs.pop()), "it has 2 packages, and the plan 1");
    differs(
        &|job| job.plan.outputs[1].scriptlets.post_install = None,
        "a script of package `tool-shell` is not what the plan says",
    );
    differs(
        &|job| job.plan.outputs[1].name = "openssl".to_owned(),
        "`.PKGINFO` of package `openssl` is not what the plan says",
    );
    assert_eq!(fs::read_dir(here.path("work")).unwrap().count(), 0, "nothing is left");
}

/// An image of the factory as a job: its first platform, with its suites' files.
fn image_job(factory: &Factory, image: &str) -> ImageTestJob {
    let layout = factory.layout(image);
    let index = layout::document(&layout, &layout::tags(&layout)["latest"]);
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let document = layout::document(&layout, &manifest);
    let layers = document["layers"].as_array().unwrap().iter();
    let content = layers.chain([&document["config"]]).map(|one| one["digest"].as_str().unwrap().to_owned());
    let blobs =
        content.chain([manifest.clone()]).map(|digest| (digest.parse().unwrap(), layout::blob(&layout, &digest)));
    let file = |name: &str| {
        let text = fs::read_to_string(factory.catalog().join("images").join(image).join(name)).ok()?;
        Some(SuiteFile { name: name.to_owned(), text })
    };
    ImageTestJob {
        manifest: manifest.parse().unwrap(),
        architecture: Architecture::X86_64,
        blobs: blobs.collect(),
        folder: None,
        structure: file("tests/structure.yaml"),
        unit: file("tests/unit.yaml"),
        runtime: file("tests/runtime.yaml"),
    }
}

#[test]
fn the_suites_of_an_image_run_as_a_job_and_only_those_that_were_asked_for_are_an_answer() {
    let factory = Factory::after_first_cycle(MILL);
    let here = Surroundings::new();
    let job = image_job(&factory, "hello");
    let suites: Vec<Suite> =
        [job.structure.as_ref().map(|_| Suite::Structure), job.runtime.as_ref().map(|_| Suite::Runtime)]
            .into_iter()
            .flatten()
            .collect();
    assert!(!suites.is_empty());
    let (digest, output, told) = here.run(&Job::Images(vec![job.clone()]));
    assert_eq!(told["outcome"], "suites run on platforms: 1");
    let read =
        |expected: &[Vec<Suite>]| image_answers(fs::File::open(&output).unwrap(), &here.path("work"), digest, expected);
    let runs = read(std::slice::from_ref(&suites)).unwrap();
    for report in &runs[0].suites {
        let bad: Vec<_> = report.blocking().filter(|check| check.status == verify::Status::Failed).collect();
        assert_eq!(bad, [] as [&verify::Check; 0]);
        assert!(report.checks.iter().any(|check| check.status == verify::Status::Passed), "{report:?}");
    }
    for expected in [vec![], vec![vec![Suite::Integrity]], vec![suites.clone(), suites]] {
        let error = read(&expected).unwrap_err();
        assert_eq!(error.to_string(), "the answer: its reports are of other suites than those that were to be run");
    }

    // A suite's file that can't be read is the image's fault, and not the machine's.
    let broken = SuiteFile { name: "tests/structure.yaml".to_owned(), text: "schemaVersion: 9\n".to_owned() };
    let (digest, output, _) = here.run(&Job::Images(vec![ImageTestJob { structure: Some(broken), ..job }]));
    let error = image_answers(fs::File::open(output).unwrap(), &here.path("work"), digest, &[]).unwrap_err();
    assert!(matches!(&error, BuildError::Failed { reason, .. } if reason.contains("tests/structure.yaml")), "{error}");
}
