//! Composing an image of about 100 MB, beside `tar | gzip -6`, `tar | pigz -6` and `umoci insert`
//! over the same files: medians of wall time over rounds that take each in turn, sizes, and the most
//! memory that composing took.
//!
//! The files are this machine's own, of `/usr/lib`, `/usr/bin` and `/usr/share`, in packages of 10 MB.
//! `MINIMILL_BENCH_MB` and `MINIMILL_BENCH_ROUNDS` change how much and how often.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use apk::{Architecture, Package, PackageInformation, PackageSpec, build_package_file};
use image::{Composition, Compression, LayerCache, Layering, Layout, PackageFile, Settings, compose, compose_cached};

const PACKAGE_BYTES: u64 = 10 << 20;
const LARGEST_FILE: u64 = 8 << 20;
const TIME: i64 = 1_750_000_000;

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

/// Copies the files below a root, and makes packages of 10 MB of them.
fn prepare(scratch: &Path, bytes: u64) -> (PathBuf, Vec<PackageFile>) {
    let root = scratch.join("root");
    let mut packages = Vec::new();
    let mut part = Vec::new();
    let mut size = 0;
    let mut finish = |part: &mut Vec<PathBuf>| {
        let number = packages.len();
        let own = scratch.join(format!("part-{number}"));
        for path in part.drain(..) {
            let inside = path.strip_prefix("/").unwrap();
            for target in [own.join(inside), root.join(inside)] {
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
        let path = scratch.join(format!("part-{number}.apk"));
        build_package_file(&spec, &own, &path).unwrap();
        fs::remove_dir_all(own).unwrap();
        packages.push(PackageFile { entry: Package::open(&path).unwrap().index_entry(), path });
    };
    for (path, bytes) in files(bytes) {
        part.push(path);
        size += bytes;
        if size >= PACKAGE_BYTES {
            finish(&mut part);
            size = 0;
        }
    }
    finish(&mut part);
    (root, packages)
}

fn shell(command: &str) -> bool {
    let status = Command::new("bash").args(["-o", "pipefail", "-c", command]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn blobs(layout: &Path) -> u64 {
    fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// One way to make layers: its name, and what makes them in a folder and says their size in bytes.
type Way<'a> = (&'a str, Box<dyn FnMut(&Path) -> Option<u64> + 'a>);

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let (megabytes, rounds) = (number("MINIMILL_BENCH_MB", 100), number("MINIMILL_BENCH_ROUNDS", 7));
    let (root, packages) = prepare(scratch.path(), megabytes << 20);
    let root = root.display().to_string();
    let settings = |compression, layering| Settings { compression, layering, ..Settings::default() };
    let single = settings(Compression::Gzip, None);
    let zstd = settings(Compression::Zstd, None);
    let layered = settings(Compression::Gzip, Some(Layering { budget: 20 }));
    let cache = LayerCache::open(&scratch.path().join("cache"), 8 << 30).unwrap();
    let run = |settings: &Settings, cache: Option<&LayerCache>, out: &Path| {
        let composition =
            Composition { packages: &packages, settings, architecture: Architecture::X86_64, created: TIME };
        let mut layout = Layout::create(out).unwrap();
        match cache {
            Some(cache) => compose_cached(&composition, cache, &mut layout),
            None => compose(&composition, &mut layout),
        }
        .unwrap();
        Some(blobs(out))
    };
    let piped = |compressor: &str, out: &Path| {
        let file = out.join("layer.tar.gz");
        let command = format!("tar -C {root} -cf - . | {compressor} > {}", file.display());
        shell(&command).then(|| fs::metadata(file).unwrap().len())
    };
    let insert = |out: &Path| {
        let layout = out.join("layout").display().to_string();
        let umoci = format!("umoci init --layout {layout} && umoci new --image {layout}:x");
        shell(&format!("{umoci} && umoci insert --image {layout}:x {root} /root")).then(|| blobs(Path::new(&layout)))
    };
    let mut ways: Vec<Way<'_>> = vec![
        ("tar | gzip -6", Box::new(|out| piped("gzip -n -6", out))),
        ("tar | pigz -6 -p2", Box::new(|out| piped("pigz -n -6 -p2", out))),
        ("umoci insert", Box::new(insert)),
        ("compose, gzip", Box::new(|out| run(&single, None, out))),
        ("compose, zstd", Box::new(|out| run(&zstd, None, out))),
        ("compose, layers", Box::new(|out| run(&layered, None, out))),
        ("compose, layers cached", Box::new(|out| run(&layered, Some(&cache), out))),
    ];
    // Making the packages is not part of what is measured.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let mut times = vec![Vec::new(); ways.len()];
    let mut sizes = vec![None; ways.len()];
    for round in 0..=rounds {
        for (index, (_, way)) in ways.iter_mut().enumerate() {
            let out = tempfile::tempdir_in(scratch.path()).unwrap();
            let start = Instant::now();
            sizes[index] = way(out.path());
            // The first round warms caches.
            if round > 0 {
                times[index].push(start.elapsed().as_secs_f64());
            }
        }
    }
    let mut median = |index: usize| {
        let times: &mut Vec<f64> = &mut times[index];
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!("{megabytes} MB in {} packages, median of {rounds} rounds", packages.len());
    let (baseline, size) = (median(0), sizes[0].unwrap() as f64);
    for (index, (name, _)) in ways.iter().enumerate() {
        match sizes[index] {
            None => println!("{name:24} not run: it is not installed"),
            Some(bytes) => {
                let (time, ratio) = (median(index), bytes as f64 / size);
                println!("{name:24} {time:6.2} s  {:.2}x   {bytes:>11} bytes  {ratio:.3}x", time / baseline);
            }
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or(" unknown");
    println!("most memory of composing: {}", peak.trim());
}
