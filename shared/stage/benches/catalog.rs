//! What a catalog of 3,400 definitions costs beside the builds themselves: planning all of it, and
//! publishing one changed package, each beside the same with every definition evaluated anew and an
//! index written per publication.
//!
//! Nothing is built: the packages that are published are one small file. `MINIMILL_BENCH_DEFINITIONS`
//! and `MINIMILL_BENCH_ROUNDS` change how many definitions there are and how often each is measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use apk::{Architecture, IndexEntry, PackageInformation, PackageSpec, build_package_file};
use jiff::Timestamp;
use ports::{Condition, Digest, Key, Transaction};
use stage::record::{self, PublishedPackage, RepositoryEntry};
use stage::rules::releases::Releases;
use stage::{BuildResult, Context, Evaluations, PackageIndex, PackagePublish, Packages, Stage, UnsignedPackage};
use support::{context, memory, number};

const ARCHITECTURE: Architecture = Architecture::X86_64;
/// Versions that are published together, of which one index tells.
const TOGETHER: usize = 10;
/// Releases that are remembered of each definition.
const RELEASES: usize = 50;

fn name(index: usize) -> String {
    format!("package-{index:04}")
}

/// A definition of the usual shape, which builds with a few earlier ones.
fn definition(index: usize) -> String {
    let mut wants = String::from("build-base");
    for step in [1, 7, 41, 199] {
        if index > step * 3 && index.is_multiple_of(step + 1) {
            write!(wants, ", {}-dev", name(index - step)).unwrap();
        }
    }
    format!(
        "package:\n  name: {name}\n  version: 1.{index}.0\n  epoch: 0\n  description: number {index}\n  copyright:\n    - license: MIT\n\
         environment:\n  contents:\n    packages: [{wants}]\n\
         var-transforms:\n  - from: ${{{{package.version}}}}\n    match: '\\.'\n    replace: _\n    to: mangled\n\
         pipeline:\n  - uses: git-checkout\n    with:\n      repository: https://localhost/{name}.git\n      tag: v${{{{vars.mangled}}}}\n      expected-commit: {commit}\n\
         \x20 - uses: autoconf/configure\n    with:\n      opts: --disable-static --with-number={index}\n  - uses: autoconf/make\n  - uses: autoconf/make-install\n  - uses: strip\n\
         subpackages:\n  - name: ${{{{package.name}}}}-dev\n    pipeline:\n      - uses: split/dev\n    dependencies:\n      runtime: [{name}]\n\
         \x20 - name: ${{{{package.name}}}}-doc\n    pipeline:\n      - uses: split/manpages\n\
         test:\n  pipeline:\n    - runs: test -e /usr/bin/{name}\n\
         update:\n  enabled: true\n  git: {{}}\n",
        name = name(index),
        commit = "1".repeat(40),
    )
}

fn write_catalog(folder: &Path, definitions: usize) {
    std::fs::create_dir_all(folder.join("packages")).unwrap();
    std::fs::create_dir_all(folder.join("bootstrap")).unwrap();
    std::fs::write(
        folder.join("bootstrap/bootstrap.yaml"),
        "provides:\n  build-base: {debian: [gcc]}\n  builder-tools: {debian: [dash]}\n  git: {debian: [git]}\n  \
         autoconf: {debian: [autoconf]}\n  automake: {debian: [automake]}\n  make: {debian: [make]}\n",
    )
    .unwrap();
    for index in 0..definitions {
        std::fs::write(folder.join(format!("packages/{}.yaml", name(index))), definition(index)).unwrap();
    }
}

/// A package file as a build leaves it.
async fn unsigned(context: &Context, folder: &Path, name: &str, version: &str) -> (UnsignedPackage, IndexEntry) {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("usr/share")).unwrap();
    std::fs::write(root.join("usr/share").join("file"), name).unwrap();
    let information = PackageInformation {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: ARCHITECTURE.to_string(),
        description: format!("what {name} is"),
        licenses: vec!["MIT".to_owned()],
        depends: vec!["so:libc.musl-x86_64.so.1".to_owned()],
        provides: vec![format!("cmd:{name}={version}"), format!("so:lib{name}.so.1=1")],
        ..PackageInformation::default()
    };
    let spec = PackageSpec { information, ..PackageSpec::default() };
    let path = folder.join("unsigned.apk");
    let built = build_package_file(&spec, &root, &path).unwrap();
    let blob = context.blobs.put_file(&path).await.unwrap();
    let entry =
        IndexEntry { checksum: built.checksum.to_string(), size: built.size, information: built.information.clone() };
    let control = Digest::from_bytes(built.control_sha256);
    (UnsignedPackage { name: name.to_owned(), blob, control }, entry)
}

/// Records every definition as published, with three packages each and the releases of its upstream.
async fn publish_all(context: &Context, folder: &Path) {
    let packages = Packages::load(context, ARCHITECTURE).await.unwrap();
    let (unsigned, sample) = unsigned(context, folder, "sample", "1-r0").await;
    let blob = unsigned.blob;
    let build = context.store(&result("sample", "1-r0", unsigned)).await.unwrap();
    for (name, claim) in &packages.by_name {
        let claim = claim.as_ref().unwrap();
        let version = claim.version();
        let mut transaction = Transaction::default();
        let partition = record::package(name);
        let claim_key = Key::new(&partition, format!("claim#{version}"));
        transaction.put(claim_key, Condition::Any, claim).unwrap();
        let published = PublishedPackage {
            version: version.clone(),
            architecture: ARCHITECTURE,
            definition: claim.definition,
            packages: BTreeMap::new(),
            build,
            time: Timestamp::UNIX_EPOCH,
            warnings: Vec::new(),
        };
        let key = Key::new(&partition, format!("version#{version}#{ARCHITECTURE}"));
        transaction.put(key, Condition::Any, &published).unwrap();
        let mut releases = Releases::default();
        releases.seen.extend((0..RELEASES).map(|number| (format!("v1_{number}"), "1".repeat(40))));
        transaction.put(Key::new(&partition, "releases"), Condition::Any, &releases).unwrap();
        for suffix in ["", "-dev", "-doc"] {
            let mut entry = sample.clone();
            entry.information.name = format!("{name}{suffix}");
            entry.information.version = version.clone();
            let key = Key::new(record::repository(ARCHITECTURE), format!("{name}{suffix}={version}"));
            let entry = RepositoryEntry { entry, blob, definition: name.clone(), provenance: blob, tests: None };
            transaction.put(key, Condition::Any, &entry).unwrap();
        }
        context.state.commit(transaction).await.unwrap();
    }
}

/// A build's result with one package.
fn result(package: &str, version: &str, unsigned: UnsignedPackage) -> BuildResult {
    BuildResult {
        package: package.to_owned(),
        version: version.to_owned(),
        architecture: ARCHITECTURE,
        definition: Digest::of(version.as_bytes()),
        text: unsigned.blob,
        source_date_epoch: 0,
        packages: vec![unsigned],
        sources: Vec::new(),
        dependencies: Vec::new(),
        bootstrap: Vec::new(),
        bootstrap_files: Vec::new(),
        log: Digest::of(b""),
        findings: Vec::new(),
        tests: Vec::new(),
        interfaces: None,
        unchecked_interfaces: Vec::new(),
        program: None,
    }
}

/// Publishes another version of a definition, as its build hands it on; the index is not written.
async fn publish(context: &Context, folder: &Path, package: &str, version: &str) -> Duration {
    let (unsigned, _) = unsigned(context, folder, package, version).await;
    let result = result(package, version, unsigned);
    let build = context.store(&result).await.unwrap();
    let message = PackagePublish { package: package.to_owned(), version: version.to_owned(), build };
    let start = Instant::now();
    message.run(context).await.unwrap();
    start.elapsed()
}

async fn index(context: &Context, package: &str, version: &str) -> Duration {
    let message = PackageIndex { package: package.to_owned(), version: version.to_owned(), architecture: ARCHITECTURE };
    let start = Instant::now();
    message.run(context).await.unwrap();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn tell(what: &str, now: &[Duration], anew: &[Duration]) {
    let (now, anew) = (median(now.to_vec()), median(anew.to_vec()));
    let ratio = now.as_secs_f64() / anew.as_secs_f64();
    println!("{what:<58} {now:>10.1?}   evaluating all anew {anew:>10.1?}   ratio {ratio:.3}");
    println!("ratio | {what} | {now:.1?} | evaluating all anew: {anew:.1?} | {ratio:.3}");
}

async fn run(folder: &Path, definitions: usize, rounds: usize) {
    write_catalog(&folder.join("catalog"), definitions);
    let start = Instant::now();
    let Some(mut context) = context(folder, vec![ARCHITECTURE]).await else { return };
    println!("{definitions} definitions, read in {:.1?}", start.elapsed());
    publish_all(&context, folder).await;

    let (mut kept, mut anew) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        context.caches.evaluations = Evaluations::default();
        let start = Instant::now();
        Packages::load(&context, ARCHITECTURE).await.unwrap();
        anew.push(start.elapsed());
        let start = Instant::now();
        let packages = Packages::load(&context, ARCHITECTURE).await.unwrap();
        kept.push(start.elapsed());
        assert_eq!(packages.standing.len(), definitions);
    }
    tell("planning the whole catalog", &kept, &anew);

    let (mut kept, mut anew) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (mut before, mut now) = (Duration::ZERO, Duration::ZERO);
        for number in 0..TOGETHER {
            let package = name((round * TOGETHER + number) * 7 % definitions);
            let version = format!("2.{round}.{number}-r0");
            context.caches.evaluations = Evaluations::default();
            before += publish(&context, folder, &package, &version).await;
            before += index(&context, &package, &version).await;
        }
        Packages::load(&context, ARCHITECTURE).await.unwrap();
        for number in 0..TOGETHER {
            let package = name((round * TOGETHER + number) * 11 % definitions);
            let version = format!("3.{round}.{number}-r0");
            now += publish(&context, folder, &package, &version).await;
        }
        now += index(&context, &name(round * TOGETHER * 11 % definitions), &format!("3.{round}.0-r0")).await;
        anew.push(before / TOGETHER as u32);
        kept.push(now / TOGETHER as u32);
    }
    tell(&format!("publishing one package, {TOGETHER} of them together"), &kept, &anew);
    println!("resident memory at the end: {}", memory());
}

fn main() {
    let definitions = number("MINIMILL_BENCH_DEFINITIONS", 3_400);
    let rounds = number("MINIMILL_BENCH_ROUNDS", 3);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(folder.path(), definitions, rounds));
}
