//! Preparing and solving over an index of 4,929 packages, without reading the file.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use apk::{Architecture, Dependency, IndexText, Trust};
use criterion::{Criterion, criterion_group, criterion_main};
use solve::{Repository, Task, Universe, solve};

const WANTS: [&str; 9] = ["nginx", "nodejs", "python3", "git", "curl", "gcc", "cmake", "haproxy", "perl"];

fn alpine(criterion: &mut Criterion) {
    let corpus = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let path = std::path::Path::new(&corpus).join("apk/alpine-316/APKINDEX.tar.gz");
    if !path.exists() {
        println!("not run: no corpus at {}", path.display());
        return;
    }
    criterion.bench_function("read the index", |bencher| {
        bencher.iter(|| IndexText::open(&path, Trust::Unverified).unwrap());
    });
    let text = IndexText::open(&path, Trust::Unverified).unwrap();
    criterion.bench_function("find the records", |bencher| bencher.iter(|| text.records().unwrap()));
    let records = text.records().unwrap();
    let prepare = || {
        let repository = Repository { name: "alpine".to_owned(), tag: None, records: &records };
        Universe::new(Architecture::X86_64, &[repository]).unwrap()
    };
    criterion.bench_function("prepare the universe", |bencher| bencher.iter(prepare));
    let universe = prepare();
    let wants: Vec<Dependency> = WANTS.iter().map(|want| want.parse().unwrap()).collect();
    criterion.bench_function("solve nine wants", |bencher| {
        bencher.iter(|| solve(&universe, &Task::new("tools", &wants)).unwrap());
    });
}

criterion_group!(benches, alpine);
criterion_main!(benches);
