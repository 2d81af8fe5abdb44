//! Preparing and solving over an index of 4,929 packages, and solving once more where all of it is
//! installed already, so that nothing is to be done: the target for that is 2 ms.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::time::Instant;

use apk::{Architecture, CompactIndex, Dependency, IndexRecord, Trust};
use criterion::{Criterion, criterion_group, criterion_main};
use solve::{Change, Repository, Task, Universe, solve};

const WANTS: [&str; 9] = ["nginx", "nodejs", "python3", "git", "curl", "gcc", "cmake", "haproxy", "perl"];
const ROUNDS: usize = 301;
/// Milliseconds.
const TARGET: f64 = 2.0;

fn universe<'a>(records: &[IndexRecord<'a>], installed: &[(IndexRecord<'a>, Option<&str>)]) -> Universe<'a> {
    let repository = Repository { name: "alpine".to_owned(), tag: None, records };
    Universe::with_installed(Architecture::X86_64, installed, &[repository]).unwrap()
}

fn alpine(criterion: &mut Criterion) {
    let corpus = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let path = std::path::Path::new(&corpus).join("apk/alpine-316/APKINDEX.tar.gz");
    if !path.exists() {
        println!("not run: no corpus at {}", path.display());
        return;
    }
    criterion.bench_function("read the index", |bencher| {
        bencher.iter(|| CompactIndex::open(&path, Trust::Unverified).unwrap());
    });
    let index = CompactIndex::open(&path, Trust::Unverified).unwrap();
    let records: Vec<IndexRecord<'_>> = index.records().collect();
    criterion.bench_function("prepare the universe", |bencher| bencher.iter(|| universe(&records, &[])));
    let fresh = universe(&records, &[]);
    let wants: Vec<Dependency> = WANTS.iter().map(|want| want.parse().unwrap()).collect();
    let first = Task::new("tools", &wants);
    criterion.bench_function("solve nine wants", |bencher| bencher.iter(|| solve(&fresh, &first).unwrap()));

    let solution = solve(&fresh, &first).unwrap();
    let installed: Vec<_> = solution.packages().map(|selected| (selected.entry, None)).collect();
    let there = universe(&records, &installed);
    let again = Task { world: &wants, ..Task::new("tools", &[]) };
    assert!(solve(&there, &again).unwrap().changes.iter().all(Change::is_nothing));
    criterion.bench_function("solve again, nothing to do", |bencher| bencher.iter(|| solve(&there, &again).unwrap()));
    ratios([
        ("re-solve, nothing to do", &|| drop(solve(&there, &again).unwrap())),
        ("the same, universe and all", &|| drop(solve(&universe(&records, &installed), &again).unwrap())),
        ("solve from nothing", &|| drop(solve(&fresh, &first).unwrap())),
    ]);
}

/// Medians over rounds that take each in turn; the last one is the baseline of the others.
fn ratios(ways: [(&str, &dyn Fn()); 3]) {
    let mut times = ways.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((_, run), times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            run();
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let medians = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    let baseline = medians[2];
    for ((name, _), time) in ways.iter().zip(medians).take(2) {
        println!("ratio | {name} | {time:.2} ms | {}: {baseline:.2} ms | {:.3}", ways[2].0, time / baseline);
    }
    println!("ratio | {} | {:.2} ms | target: {TARGET:.2} ms | {:.3}", ways[0].0, medians[0], medians[0] / TARGET);
}

criterion_group!(benches, alpine);
criterion_main!(benches);
