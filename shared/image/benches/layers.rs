//! Composing an image of about 100 MB, beside `tar | gzip -6`, `tar | pigz -6 -p2` and `umoci insert`
//! over the same files, each in a process of its own. Rounds take each in turn, since other work on
//! the machine slows them all; printed are the shortest wall time, the least processor time and the
//! most memory of each. Then the memory of composing an image of 1 GB.
//!
//! The files are this machine's own, of `/usr/lib`, `/usr/bin` and `/usr/share`, in packages of 10 MB.
//! `MINIMILL_BENCH_MB`, `MINIMILL_BENCH_ROUNDS` and `MINIMILL_BENCH_LARGE_MB` change how much and how
//! often.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apk::{Architecture, Package, PackageInformation, PackageSpec, build_package_file};
use image::{Composition, Compression, LayerCache, Layering, Layout, PackageFile, Settings, compose, compose_cached};
use wait4::Wait4;

const PACKAGE_BYTES: u64 = 10 << 20;
const LARGEST_FILE: u64 = 8 << 20;
const TIME: i64 = 1_750_000_000;
/// What composing may use for an image of any size.
const MOST_MEMORY: u64 = 256 << 20;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Regular files of this machine, every tenth of each folder in turn, until they have so many bytes.
fn files(bytes: u64) -> Vec<(PathBuf, u64)> {
    let folders = ["/usr/lib", "/usr/bin", "/usr/share"].map(|folder| {
        let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
        let files = entries.filter(|entry| entry.file_type().is_file()).filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            (size < LARGEST_FILE).then(|| (entry.into_path(), size))
        });
        files.collect::<Vec<_>>()
    });
    let mut total = 0;
    let turns = (0..10).flat_map(|turn| folders.iter().map(move |folder| folder.iter().skip(turn).step_by(10)));
    let all = turns.flatten().cloned();
    all.take_while(|(_, size)| {
        total += size;
        total < bytes
    })
    .collect()
}

/// Makes packages of 10 MB of the files, and copies them below a root where one is given.
fn prepare(packages: &Path, root: Option<&Path>, bytes: u64) {
    fs::create_dir_all(packages).unwrap();
    let mut count = 0;
    let mut part = Vec::new();
    let mut size = 0;
    let mut finish = |part: &mut Vec<PathBuf>| {
        let number = count;
        count += 1;
        let own = packages.join(format!("part-{number}"));
        for path in part.drain(..) {
            let inside = path.strip_prefix("/").unwrap();
            for target in [Some(&*own), root].into_iter().flatten().map(|folder| folder.join(inside)) {
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::copy(&path, &target).unwrap();
                fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        let spec = PackageSpec {
            information: PackageInformation {
                name: format!("part-{number}"),
                version: "1-r0".to_owned(),
                origin: format!("part-{number}"),
                architecture: "x86_64".to_owned(),
                licenses: vec!["MIT".to_owned()],
                build_date: TIME,
                ..PackageInformation::default()
            },
            source_date_epoch: TIME as _,
            ..PackageSpec::default()
        };
        build_package_file(&spec, &own, &packages.join(format!("part-{number}.apk"))).unwrap();
        fs::remove_dir_all(own).unwrap();
    };
    for (path, bytes) in files(bytes) {
        part.push(path);
        size += bytes;
        if size >= PACKAGE_BYTES {
            finish(&mut part);
            size = 0;
        }
    }
    if !part.is_empty() {
        finish(&mut part);
    }
}

/// What the process of one way does: composes the packages of a folder into a layout.
fn compose_once(way: &str, packages: &Path, out: &Path) {
    let files = (0..).map(|number| packages.join(format!("part-{number}.apk"))).take_while(|path| path.exists());
    let packages: Vec<PackageFile> =
        files.map(|path| PackageFile { entry: Package::open(&path).unwrap().index_entry(), path }).collect();
    let settings = Settings {
        compression: if way == "zstd" { Compression::Zstd } else { Compression::Gzip },
        layering: way.starts_with("layers").then_some(Layering { budget: 20 }),
        ..Settings::default()
    };
    let composition =
        Composition { packages: &packages, settings: &settings, architecture: Architecture::X86_64, created: TIME };
    let mut layout = Layout::create(out).unwrap();
    if way == "layers cached" {
        let cache = LayerCache::open(&out.parent().unwrap().join("cache"), 8 << 30).unwrap();
        compose_cached(&composition, &cache, &mut layout).unwrap();
    } else {
        compose(&composition, &mut layout).unwrap();
    }
}

/// What one process took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    processor: Duration,
    memory: u64,
}

impl Cost {
    /// The least of both times, and the most memory.
    fn best(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            processor: self.processor.min(other.processor),
            memory: self.memory.max(other.memory),
        }
    }
}

/// Runs a command; `None` when it fails, as where it is not installed.
fn run(command: &mut Command) -> Option<Cost> {
    let start = Instant::now();
    let used = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap().wait4().unwrap();
    let wall = start.elapsed();
    let processor = used.rusage.utime + used.rusage.stime;
    used.status.success().then_some(Cost { wall, processor, memory: used.rusage.maxrss })
}

fn shell(command: &str) -> Option<Cost> {
    run(Command::new("bash").args(["-o", "pipefail", "-c", command]))
}

fn composing(way: &str, packages: &Path, out: &Path) -> Option<Cost> {
    let program = std::env::current_exe().unwrap();
    let cost = run(Command::new(program).args(["compose", way]).arg(packages).arg(out));
    Some(cost.expect("composing does not fail"))
}

/// The bytes of the files in a folder, and of those in its folders.
fn bytes_of(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(fs::Metadata::is_file).map(|metadata| metadata.len()).sum()
}

/// One way to make layers: its name, and what makes them in a folder.
type Way<'a> = (&'a str, Box<dyn Fn(&Path) -> Option<Cost> + 'a>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, way, packages, out] = arguments.as_slice()
        && role == "compose"
    {
        return compose_once(way, Path::new(packages), Path::new(out));
    }
    let scratch = tempfile::tempdir().unwrap();
    let (megabytes, rounds) = (number("MINIMILL_BENCH_MB", 100), number("MINIMILL_BENCH_ROUNDS", 7));
    let (packages, root) = (scratch.path().join("packages"), scratch.path().join("root"));
    prepare(&packages, Some(&root), megabytes << 20);
    let root = root.display().to_string();
    let piped = |compressor: &str, out: &Path| {
        fs::create_dir(out).unwrap();
        shell(&format!("tar -C {root} -cf - . | {compressor} > {}/layer.tar.gz", out.display()))
    };
    let insert = |out: &Path| {
        let layout = out.display();
        let umoci = format!("umoci init --layout {layout} && umoci new --image {layout}:x");
        shell(&format!("{umoci} && umoci insert --image {layout}:x {root} /root"))
    };
    let ways: Vec<Way<'_>> = vec![
        ("tar | gzip -6", Box::new(|out| piped("gzip -n -6", out))),
        ("tar | pigz -6 -p2", Box::new(|out| piped("pigz -n -6 -p2", out))),
        ("umoci insert", Box::new(insert)),
        ("compose, gzip", Box::new(|out| composing("gzip", &packages, out))),
        ("compose, zstd", Box::new(|out| composing("zstd", &packages, out))),
        ("compose, layers", Box::new(|out| composing("layers", &packages, out))),
        ("compose, layers cached", Box::new(|out| composing("layers cached", &packages, out))),
    ];
    let mut costs: Vec<Option<Cost>> = vec![None; ways.len()];
    let mut sizes = vec![0; ways.len()];
    for round in 0..=rounds {
        for (((_, way), best), size) in ways.iter().zip(&mut costs).zip(&mut sizes) {
            let out = scratch.path().join("out");
            let cost = way(&out);
            *size = bytes_of(&out);
            fs::remove_dir_all(out).unwrap();
            // The first round warms caches.
            if round > 0 {
                *best = cost.map(|cost| best.map_or(cost, |best| best.best(cost)));
            }
        }
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{megabytes} MB, best of {rounds} rounds; load at the end {}", load.trim());
    println!("{:24} {:>15} {:>15} {:>23} {:>11}", "", "wall", "processor", "bytes", "memory");
    let baseline = costs[0].expect("tar and gzip are installed");
    for (((name, _), cost), size) in ways.iter().zip(&costs).zip(&sizes) {
        let Some(cost) = cost else {
            println!("{name:24} not run: it is not installed");
            continue;
        };
        let times = [(cost.wall, baseline.wall), (cost.processor, baseline.processor)]
            .map(|(time, other)| format!("{:6.2} s  {:.2}x", time.as_secs_f64(), time.div_duration_f64(other)));
        let ratio = *size as f64 / sizes[0] as f64;
        println!("{name:24} {} {}  {size:>12} {ratio:.3}x  {:>6} MB", times[0], times[1], cost.memory >> 20);
        if name.starts_with("compose") {
            let ours = cost.wall.as_secs_f64();
            for ((other, _), theirs) in ways.iter().zip(&costs).take(2) {
                let Some(theirs) = theirs.map(|theirs| theirs.wall.as_secs_f64()) else { continue };
                println!("ratio | {name} | {ours:.2} s | {other}: {theirs:.2} s | {:.3}", ours / theirs);
            }
            println!("ratio | {name}: size | {size} | {}: {} | {ratio:.3}", ways[0].0, sizes[0]);
        }
    }
    large(scratch.path());
}

fn large(scratch: &Path) {
    let megabytes = number("MINIMILL_BENCH_LARGE_MB", 1024);
    let packages = scratch.join("large");
    prepare(&packages, None, megabytes << 20);
    for way in ["gzip", "layers"] {
        let out = scratch.join("out");
        let cost = composing(way, &packages, &out).unwrap();
        fs::remove_dir_all(out).unwrap();
        println!(
            "compose, {way}, {megabytes} MB: {:.2} s, {} MB of memory",
            cost.wall.as_secs_f64(),
            cost.memory >> 20
        );
        let (memory, most) = (cost.memory >> 20, MOST_MEMORY >> 20);
        let ratio = cost.memory as f64 / MOST_MEMORY as f64;
        println!("ratio | compose, {way}, {megabytes} MB: memory | {memory} MB | at most: {most} MB | {ratio:.3}");
    }
}
