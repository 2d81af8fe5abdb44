//! `mill image solve` of nine wants against the corpus' index of 4,929 packages, as a whole process,
//! beside `gzip -dc` and `tar -xzO` of that index: medians of wall time and most memory over rounds
//! that take each in turn. The target is what apk-tools 3.0.6 took: 20 ms and 13 MB.
//!
//! `MINIMILL_BENCH_ROUNDS` changes how often each runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

const WANTS: &str = "nginx, nodejs, python3, git, curl, gcc, cmake, haproxy, perl";
const TARGET: (f64, f64) = (20.0, 13.0);

/// Milliseconds of wall time and MB of memory of one process.
fn run(command: &mut Command) -> (f64, f64) {
    let start = Instant::now();
    let used = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap().wait4().unwrap();
    let wall: Duration = start.elapsed();
    assert!(used.status.success(), "{command:?}");
    (wall.as_secs_f64() * 1e3, used.rusage.maxrss as f64 / 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let corpus = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus").to_owned());
    let index = Path::new(&corpus).join("apk/alpine-316/APKINDEX.tar.gz");
    if !index.exists() {
        println!("not run: no corpus at {}", index.display());
        return;
    }
    let rounds = std::env::var("MINIMILL_BENCH_ROUNDS").map_or(51, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.yaml");
    let text = format!(
        "contents:\n  repositories: [{}]\n  packages: [{WANTS}]\narchs: [x86_64]\n",
        index.canonicalize().unwrap().display()
    );
    std::fs::write(&file, text).unwrap();
    let programs = [("mill image solve", env!("CARGO_BIN_EXE_mill")), ("gzip -dc", "gzip"), ("tar -xzO", "tar")];
    let mut ways = programs.map(|(name, program)| (name, Command::new(program), Vec::new(), Vec::new()));
    ways[0].1.args(["image", "solve", "--ignore-signatures"]).arg(&file).current_dir(folder.path());
    ways[1].1.arg("-dc").arg(&index);
    ways[2].1.arg("-xzOf").arg(&index);
    for round in 0..=rounds {
        for (_, command, times, memories) in &mut ways {
            let (time, memory) = run(command);
            // The first round warms caches.
            if round > 0 {
                times.push(time);
                memories.push(memory);
            }
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("median of {rounds} rounds; load at the end {}", load.trim());
    let costs: Vec<(&str, f64, f64)> =
        ways.into_iter().map(|(name, _, times, memories)| (name, median(times), median(memories))).collect();
    for (name, time, memory) in &costs {
        println!("{name:20} {time:7.2} ms {memory:7.2} MB");
    }
    let (name, time, memory) = costs[0];
    let others = costs[1..].iter().map(|(name, time, _)| (*name, *time)).chain([("target", TARGET.0)]);
    for (other, theirs) in others {
        println!("ratio | {name}, wall | {time:.2} ms | {other}: {theirs:.2} ms | {:.3}", time / theirs);
    }
    println!("ratio | {name}, memory | {memory:.1} MB | target: {:.1} MB | {:.3}", TARGET.1, memory / TARGET.1);
}
