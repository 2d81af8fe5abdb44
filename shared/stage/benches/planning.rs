//! Planning 1,000 images of 3 streams for 2 architectures over the 4,929 packages of the corpus' index:
//! the first plan, when all is due, and the next, when nothing is. The baseline prepares the repository
//! for each image anew, as planning did before; it is measured on some of them in the same run.
//!
//! The state is the local database, its writes on disk. `MINIMILL_BENCH_IMAGES` changes how many images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apk::{Architecture, Dependency, Index, IndexEntry, IndexRecord, Trust};
use ports::{Condition, Digest, Key, Transaction};
use stage::record::{self, Published, RepositoryEntry};
use stage::{Context, Decision, ImagePlan, Outcome, Stage, Universes, image_plans};
use support::{context, memory, number};

const STREAMS: [&str; 3] = [">0", ">0.0", ">0.0.0"];
/// Plans whose repository is prepared anew.
const SAMPLE: usize = 20;
const WORKERS: usize = 2;

/// Names of packages that can be installed, from all over the index.
fn primaries(entries: &[IndexEntry], images: usize) -> Vec<String> {
    let records: Vec<IndexRecord<'_>> = entries.iter().map(IndexRecord::from).collect();
    let repository = solve::Repository { name: "index".to_owned(), tag: None, records: &records };
    let universe = solve::Universe::new(Architecture::X86_64, &[repository]).unwrap();
    let solvable = |name: &String| {
        let wants: Vec<Dependency> =
            STREAMS.iter().map(|version| format!("{name}{version}").parse().unwrap()).collect();
        solve::solve(&universe, &solve::Task::new("bench", &wants)).is_ok()
    };
    // Streams need versions in apk's order, which not every package of the index has.
    let proper = entries.iter().filter(|entry| entry.information.version.parse::<apk::Version>().is_ok());
    let names = proper.map(|entry| entry.information.name.clone());
    let some: Vec<String> = names.step_by(3).filter(solvable).collect();
    some.iter().cycle().take(images).cloned().collect()
}

fn write_catalog(folder: &Path, primaries: &[String]) {
    std::fs::create_dir_all(folder.join("packages")).unwrap();
    for (number, primary) in primaries.iter().enumerate() {
        let image = folder.join(format!("images/image-{number:04}"));
        std::fs::create_dir_all(&image).unwrap();
        let mut text = format!("title: Image {number}\ndescription: Bench\ncategory: bench\nprimary: \"{primary}\"\n");
        text.push_str("streams:\n");
        for (stream, version) in STREAMS.iter().enumerate() {
            text.push_str(&format!("  - name: \"{}\"\n    version: \"{version}\"\n", stream + 1));
        }
        text.push_str("architectures: [x86_64, aarch64]\nsuites:\n  integrity: required\n  structure: required\n  runtime: required\n");
        std::fs::write(image.join("image.yaml"), text).unwrap();
        let packages = format!("contents:\n  packages:\n    - \"{primary}${{version}}\"\n    - busybox\n");
        std::fs::write(image.join("apko.yaml"), packages).unwrap();
    }
}

async fn fill(context: &Context, entries: &[IndexEntry]) {
    for architecture in Architecture::ALL {
        for some in entries.chunks(80) {
            let mut transaction = Transaction::default();
            for entry in some {
                let mut entry = entry.clone();
                if entry.information.architecture != "noarch" {
                    entry.information.architecture = architecture.to_string();
                }
                let name = format!("{}={}", entry.information.name, entry.information.version);
                let definition = entry.information.origin.clone();
                let blob = Digest::of(name.as_bytes());
                let entry = RepositoryEntry { entry, blob, definition, provenance: blob, tests: None };
                transaction.put(Key::new(record::repository(architecture), name), Condition::Any, &entry).unwrap();
            }
            context.state.commit(transaction).await.unwrap();
        }
    }
}

/// Runs the stage for every plan, by two workers; the answer is how many are due.
async fn plan(context: &Arc<Context>, plans: &[ImagePlan]) -> (Duration, usize) {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let (context, own) = (Arc::clone(context), plans.iter().skip(worker).step_by(WORKERS).cloned());
        let own: Vec<ImagePlan> = own.collect();
        tasks.spawn(async move {
            let mut due = 0;
            for message in own {
                match message.run(&context).await.unwrap() {
                    Outcome::Done(_) => due += 1,
                    Outcome::Skipped(_) => {}
                    Outcome::Failed(reason) => panic!("{reason}"),
                }
            }
            due
        });
    }
    let due = tasks.join_all().await.into_iter().sum();
    (start.elapsed(), due)
}

/// Records each stream as published with what it gets today.
async fn publish(context: &Context, plans: &[ImagePlan]) {
    for message in plans {
        let Decision::Due(plan) = message.decide(context).await.unwrap() else { panic!("{message:?} is not due") };
        let published = Published {
            version: plan.version.clone(),
            digest: plan.definition,
            definition: plan.definition,
            lock: plan.lock(),
        };
        let mut transaction = Transaction::default();
        let key = Key::new(record::image(&message.image), format!("stream#{}", message.stream));
        transaction.put(key, Condition::Any, &published).unwrap();
        context.state.commit(transaction).await.unwrap();
    }
}

async fn run(folder: &Path, index: &Path, images: usize) {
    let entries = Index::open(index, Trust::Unverified).unwrap().index.entries;
    write_catalog(&folder.join("catalog"), &primaries(&entries, images));
    let Some(mut context) = context(folder, Architecture::ALL.to_vec()).await else { return };
    fill(&context, &entries).await;
    assert!(context.catalog.problems.is_empty(), "{:?}", context.catalog.problems.first());
    let plans = image_plans(&context);
    let mut anew = Duration::ZERO;
    for message in plans.iter().step_by((plans.len() / SAMPLE).max(1)).take(SAMPLE) {
        context.caches.universes = Universes::default();
        let start = Instant::now();
        assert!(matches!(message.decide(&context).await.unwrap(), Decision::Due(_)));
        anew += start.elapsed();
    }
    // Two workers would share that work.
    let anew = anew.mul_f64(plans.len() as f64 / SAMPLE as f64 / WORKERS as f64).as_secs_f64();
    let context = Arc::new(context);
    println!("{images} images, {} plans, {} packages, {WORKERS} workers", plans.len(), entries.len());
    let tell = |what: &str, time: Duration| {
        let time = time.as_secs_f64();
        println!("{what:<34} {time:>8.2} s   target 30 s   each image alone {anew:.1} s   ratio {:.4}", time / anew);
        println!(
            "ratio | {what} | {time:.2} s | one universe per image, {SAMPLE} measured: {anew:.1} s | {:.4}",
            time / anew
        );
    };
    let (first, due) = plan(&context, &plans).await;
    assert_eq!(due, plans.len());
    tell("first plan, all due", first);
    println!("resident memory: {}", memory());
    publish(&context, &plans).await;
    let (second, due) = plan(&context, &plans).await;
    assert_eq!(due, 0);
    tell("second plan, nothing due", second);
    println!("resident memory: {}", memory());
}

fn main() {
    let corpus = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let index = Path::new(&corpus).join("apk/alpine-316/APKINDEX.tar.gz");
    if !index.exists() {
        println!("not run: no corpus at {}", index.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    runtime.block_on(run(folder.path(), &index, number("MINIMILL_BENCH_IMAGES", 1_000)));
}
