//! Bad input, damage and kills: nothing half-published, and the end is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::archive::{ArchiveKey, Fault, sha256_hex, tarball};
use tests::factory::{Answer, Contents, Factory, rows, text};
use tests::layout;

const MILL: &str = env!("CARGO_BIN_EXE_mill");
/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is yes.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} took longer than {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(factory: &Factory) -> Child {
    let mut command = factory.command();
    command.arg("cycle").stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Files in the home that no undisturbed run leaves: scratch, and parts of what was being written.
/// Registry and cache, which others write too, remove such parts when they are old.
fn leftovers(factory: &Factory) -> Vec<PathBuf> {
    let mut files = every_file(&factory.home());
    files.retain(|path| {
        let relative = path.strip_prefix(factory.home()).unwrap();
        let name = relative.file_name().unwrap().to_str().unwrap();
        let temporary = [".tmp", ".blob-", ".key-"].iter().any(|prefix| name.starts_with(prefix));
        let journal = ["-wal", "-journal"].iter().any(|ending| name.ends_with(ending));
        relative.starts_with("work") || temporary || journal
    });
    files
}

/// Processes that name the factory's folder in their command line or work in it.
fn processes(factory: &Factory) -> Vec<String> {
    let folder = factory.folder().to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let works_in = fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
        if line.contains(&folder) || works_in {
            found.push(line);
        }
    }
    found
}

/// Parts of a time, the same in each run of the test (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn part_of(&mut self, time: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        time * u32::try_from(number % 1000).unwrap() / 1000
    }
}

/// Starts `mill cycle` and kills it after a while; when it had ended before, answers how long it took.
fn kill_after(factory: &Factory, time: Duration) -> Option<Duration> {
    let mut child = start(factory);
    let begin = Instant::now();
    while begin.elapsed() < time {
        if child.try_wait().unwrap().is_some() {
            return Some(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = child.try_wait().unwrap().map(|_| begin.elapsed());
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

/// An update of both packages upstream, which takes a cycle through every stage.
fn update(factory: &mut Factory) {
    factory.release("hello-mill", "1.1.0");
    factory.release("greeting-data", "2025b");
    factory.at("2026-03-05T06:00:00Z");
}

fn undisturbed(make: impl Fn() -> Factory) -> (Contents, Duration) {
    let factory = make();
    let begin = Instant::now();
    factory.cycle().expect_code(0);
    let took = begin.elapsed();
    assert_eq!(leftovers(&factory), Vec::<PathBuf>::new());
    (factory.contents(), took)
}

/// Kills `cycles` cycles while they work, at moments spread over an undisturbed one's time, two in
/// each home, and lets a last one in each home end.
fn kill(make: impl Fn() -> Factory, cycles: u32, seed: u64) {
    let (expected, mut took) = undisturbed(&make);
    let mut numbers = Numbers(seed);
    // The first kill in a home has each tenth of the time in turn, the second is anywhere in the rest.
    let (mut killed, mut missed) = (0, 0);
    while killed < cycles {
        assert!(missed < 2 * cycles, "{killed} cycles were killed while they worked, {missed} ended before");
        let factory = make();
        let first = took * (killed * 7 % cycles) / cycles + numbers.part_of(took / cycles);
        let second = numbers.part_of(took.saturating_sub(first));
        for time in [first, second] {
            if let Some(whole) = kill_after(&factory, time) {
                // This machine is less busy by now.
                took = took.min(whole);
                missed += 1;
                break;
            }
            killed += 1;
            for entry in fs::read_dir(factory.home().join("registry")).into_iter().flatten() {
                let layout = entry.unwrap().path();
                assert_eq!(layout::problems(&layout), Vec::<String>::new(), "killed at {first:?} and {second:?}");
            }
        }
        let told = format!("killed at {first:?} and {second:?} of {took:?}");
        let last = factory.cycle();
        assert_eq!(last.code, Some(0), "{told}\n{}\n{:#}", last.stderr, last.json);
        assert_eq!(factory.contents(), expected, "{told}");
        assert_eq!(leftovers(&factory), Vec::<PathBuf>::new(), "{told}");
        wait_until("the end of all processes", || processes(&factory).is_empty());
    }
    println!("{killed} cycles were killed while they worked, {missed} ended before");
}

/// The seed of the kills; another one finds other moments.
fn seed() -> u64 {
    std::env::var("MINIMILL_TEST_SEED").map_or(2, |seed| seed.parse().unwrap())
}

#[test]
fn killed_at_any_moment_a_first_cycle_ends_in_the_same_digests() {
    kill(|| Factory::new(MILL), 10, seed());
}

#[test]
fn killed_at_any_moment_an_update_ends_in_the_same_digests() {
    // Three streams share tags with each other, so that the order of their publishing matters.
    let base = Factory::after_first_cycle(MILL);
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        base.add_package("library", version, &[], "mkdir -p ${{targets.destdir}}/usr/share/library");
        base.cycle().expect_code(0);
    }
    let make = || {
        let mut factory = Factory::after_first_cycle(MILL);
        fs::remove_dir_all(factory.home()).unwrap();
        tests::factory::copy(&base.home(), &factory.home());
        factory.add_package("library", "2.0.0", &[], "mkdir -p ${{targets.destdir}}/usr/share/library");
        factory.add_package("dependent", "1.0", &["library"], "cp -r /sysroot/usr ${{targets.destdir}}/");
        factory.add_image("many", "library", &[("1.0", "~1.0"), ("1.1", "~1.1"), ("2", "~2")]);
        update(&mut factory);
        factory
    };
    kill(make, 10, seed() + 1);
}

/// Changes one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn one_changed_byte_is_found_and_named() {
    let factory = Factory::after_first_cycle(MILL);
    let key = factory.home().join("keys/minimill.rsa.pub");
    for name in ["hello-1.0.0-r0.apk", "APKINDEX.tar.gz"] {
        let path = factory.home().join("apk/x86_64").join(name);
        let verify = || factory.run(&["apk", "verify", path.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        verify().expect_code(0);
        damage(&path);
        let answer = verify();
        answer.expect_code(1);
        assert!(answer.stderr.contains(name), "{}", answer.stderr);
    }
    // The package file is also the blob that images are composed from: they are, with the bytes
    // that were published, or not at all.
    factory.edit("images/hello/image.yaml", "title: Hello", "title: Hello again");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("image-build", "hello:1");
    let signed = sha256_hex(&fs::read(factory.home().join("apk/x86_64/hello-1.0.0-r0.apk")).unwrap());
    assert!(failure.contains(&signed), "the digest found is not named in `{failure}`");

    let layout = factory.layout("hello");
    let digest = layout::tags(&layout)["1"].clone();
    let platform = text(&layout::document(&layout, &digest)["manifests"][0]["digest"]).to_owned();
    let layer = text(&layout::document(&layout, &platform)["layers"][0]["digest"]).to_owned();
    factory.run(&["verify", "hello:1"]).expect_code(0);
    for damaged in [&layer, &platform, &digest] {
        let path = layout::blob(&layout, damaged);
        let good = fs::read(&path).unwrap();
        damage(&path);
        let answer = factory.run(&["verify", "hello:1"]);
        answer.expect_code(1);
        let told = format!("{}\n{:#}", answer.stderr, answer.json);
        assert!(told.contains(damaged.as_str()), "{damaged} is not named in\n{told}");
        fs::write(&path, good).unwrap();
    }
    factory.run(&["verify", "hello:1"]).expect_code(0);
}

/// A cycle that must fail, and leave nothing of `hello` where strangers look.
fn refused(factory: &Factory) -> Answer {
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let published: Vec<String> = factory.package_index().into_keys().collect();
    assert!(published.iter().all(|name| !name.starts_with("hello")), "{published:?}");
    assert!(!factory.layout("hello").exists());
    assert_eq!(rows(&cycle.json["images"]).len(), 0);
    let apk = factory.home().join("apk/x86_64");
    for entry in fs::read_dir(apk).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with("hello"), "{name}");
    }
    cycle
}

fn assert_names(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "no `{part}` in `{told}`");
    }
}

#[test]
fn a_source_with_another_checksum_is_refused() {
    let factory = Factory::new(MILL);
    let wrong = "1".repeat(64);
    let path = factory.catalog().join("packages/hello.yaml");
    let definition = fs::read_to_string(&path).unwrap();
    let right = definition.lines().find_map(|line| line.trim().strip_prefix("expected-sha256: ")).unwrap();
    let right = right.trim_matches('"').to_owned();
    factory.edit("packages/hello.yaml", &right, &wrong);
    let failure = refused(&factory).failure("package-build", "hello");
    assert_names(&failure, &["packages/hello.yaml:", &wrong, &right]);
    // The rest of the catalog does not suffer.
    assert!(factory.package_index().contains_key("greeting-data 2025a-r0"));
}

#[test]
fn an_archive_that_nobody_or_a_stranger_signed_is_refused() {
    for stranger in [false, true] {
        let factory = Factory::new(MILL);
        factory.archive.set(|settings| {
            settings.plain_in_release = !stranger;
            settings.signed_by = stranger.then(ArchiveKey::generate);
        });
        factory.archive.publish();
        let cycle = refused(&factory);
        let failure = cycle.failure("package-build", "hello");
        assert_names(&failure, &["dists/trixie/InRelease"]);
        assert!(failure.contains("sign") || failure.contains("key"), "{failure}");
        assert_eq!(factory.package_index().len(), 0);
    }
}

#[test]
fn a_release_that_is_not_authentic_changes_nothing() {
    let mut factory = Factory::after_first_cycle(MILL);
    let before = factory.contents();
    factory.at("2026-03-05T06:00:00Z");
    factory.release("hello-mill", "1.1.0");
    let bytes = tests::factory::source_archive("hello-mill", "1.1.0");
    factory.archive.misstate(&"2".repeat(64), u64::try_from(bytes.len()).unwrap());
    factory.archive.publish();
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("upstream-check", "hello");
    assert_names(&failure, &["1.1.0 is not authentic", &"2".repeat(64), &sha256_hex(&bytes)]);
    assert_eq!(factory.contents(), before);
}

#[test]
fn a_truncated_source_is_refused() {
    let factory = Factory::new(MILL);
    factory.archive.fail("pool/main/h/hello-mill/hello-mill_1.0.0.orig.tar.gz", Fault::Truncate(100));
    let failure = refused(&factory).failure("package-build", "hello");
    assert_names(&failure, &["hello-mill_1.0.0.orig.tar.gz"]);

    // Signed, and truncated before it was: the sandboxed unpacking finds it.
    let factory = Factory::new(MILL);
    let mut bytes = tests::factory::source_archive("hello-mill", "1.0.0");
    bytes.truncate(bytes.len() / 2);
    offer(&factory, bytes);
    let failure = refused(&factory).failure("package-build", "hello");
    assert_names(&failure, &["exit code", "tar: "]);
    assert!(factory.package_index().contains_key("greeting-data 2025a-r0"));

    // Whole again, the next cycle publishes.
    let factory = Factory::new(MILL);
    factory.archive.fail("pool/main/h/hello-mill/hello-mill_1.0.0.orig.tar.gz", Fault::Truncate(100));
    refused(&factory);
    factory.archive.heal();
    factory.cycle().expect_code(0);
    assert!(factory.package_index().contains_key("hello 1.0.0-r0"));
}

/// Makes the catalog want version 9.0.0 of `hello-mill`, which upstream offers with these bytes.
fn offer(factory: &Factory, bytes: Vec<u8>) {
    let path = factory.catalog().join("packages/hello.yaml");
    let definition = fs::read_to_string(&path).unwrap();
    let old = sha256_hex(&tests::factory::source_archive("hello-mill", "1.0.0"));
    let new = sha256_hex(&bytes);
    fs::write(path, definition.replace(&old, &new).replace("version: 1.0.0", "version: 9.0.0")).unwrap();
    factory.release_bytes("hello-mill", "9.0.0", bytes);
}

/// A tar archive whose member has this very name, which no library lets one write.
fn hostile_tarball(name: &str, content: &[u8]) -> Vec<u8> {
    let plain = tarball("hello-mill-9.0.0", 1, &[("placeholder-of-the-same-length-as-any-name", content)]);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(plain.as_slice()), &mut bytes).unwrap();
    let old = b"hello-mill-9.0.0/placeholder-of-the-same-length-as-any-name";
    let header = bytes.windows(old.len()).position(|window| window == old).unwrap();
    bytes[header..header + 100].fill(0);
    bytes[header..header + name.len()].copy_from_slice(name.as_bytes());
    bytes[header + 148..header + 156].fill(b' ');
    let sum: u32 = bytes[header..header + 512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_source_that_reaches_out_of_its_folder_touches_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    for name in ["../../../../../../../../../../../tmp/minimill-escape", victim.to_str().unwrap()] {
        let factory = Factory::new(MILL);
        offer(&factory, hostile_tarball(name, b"escaped"));
        let failure = refused(&factory).failure("package-build", "hello");
        assert_names(&failure, &["exit code"]);
        assert!(!victim.exists() && !Path::new("/tmp/minimill-escape").exists());
        let home = every_file(&factory.home());
        assert!(home.iter().all(|path| fs::read(path).map_or(true, |bytes| bytes != b"escaped")));
    }
}

#[test]
fn a_build_that_links_its_output_elsewhere_touches_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().to_str().unwrap();
    let factory = Factory::new(MILL);
    let scripts = [
        ("tree", format!("rm -rf ${{{{targets.destdir}}}}\nln -s {victim} ${{{{targets.destdir}}}}")),
        ("folder", format!("mkdir -p ${{{{targets.destdir}}}}\nln -s {victim} ${{{{targets.destdir}}}}/var")),
        ("whole", format!("rm -rf melange-out\nln -s {victim} melange-out")),
    ];
    for (name, script) in &scripts {
        factory.add_package(name, "1.0", &[], script);
    }
    let cycle = factory.cycle();
    cycle.expect_code(1);
    for (name, _) in &scripts {
        assert_names(&cycle.failure("package-build", name), &["must be a folder"]);
    }
    assert_eq!(every_file(outside.path()), Vec::<PathBuf>::new());
    assert_eq!(cycle.image("hello", "1")["version"], "1.0.0", "the others are published");
}

#[test]
fn wrong_definitions_are_named_with_their_place() {
    let factory = Factory::new(MILL);
    factory.edit("packages/hello.yaml", "uses: autoconf/make-install", "uses: autoconf/make-instal");
    factory.add_package("first", "1.0", &["second"], "true");
    factory.add_package("second", "1.0", &["first"], "true");
    factory.add_package("misspelt", "1.0", &[], "true");
    factory.edit("packages/misspelt.yaml", "description:", "descripton:");
    let cycle = refused(&factory);
    let failure = cycle.failure("package-build", "hello");
    assert_names(&failure, &["packages/hello.yaml:26:11:", "autoconf/make-instal"]);
    let failed: Vec<&str> = rows(&cycle.json["failed"]).iter().map(|entry| text(&entry["text"])).collect();
    assert!(failed.iter().any(|text| text.contains("first -> second -> first")), "{failed:#?}");
    let misspelt = cycle.failure("catalog", "misspelt");
    assert_names(&misspelt, &["packages/misspelt.yaml:", "descripton", "did you mean `description`"]);
    assert!(factory.package_index().contains_key("greeting-data 2025a-r0"), "the rest is built");
}

#[test]
fn a_home_serves_one_cycle_at_a_time() {
    let factory = Factory::after_first_cycle(MILL);
    factory.add_package("slow", "1.0", &[], "sleep 2");
    let mut first = start(&factory);
    let log = factory.home().join("logs/slow-1.0-r0-x86_64.log");
    wait_until("the start of the build", || log.exists());
    let second = factory.cycle();
    second.expect_code(3);
    assert_names(&second.stderr, &["home", "another"]);
    // Looking is allowed meanwhile.
    factory.run(&["image", "list"]).expect_code(0);
    assert!(first.try_wait().unwrap().is_none());
    assert!(first.wait().unwrap().success());
    assert_eq!(leftovers(&factory), Vec::<PathBuf>::new());
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, kibibytes: u64) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={kibibytes}k");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().unwrap();
    }
}

#[test]
fn a_full_disk_publishes_nothing_by_halves_and_room_mends_it() {
    let whole = Factory::after_first_cycle(MILL);
    let mut update_of_whole = Factory::after_first_cycle(MILL);
    update(&mut update_of_whole);
    update_of_whole.cycle().expect_code(0);
    let (before, after) = (whole.contents(), update_of_whole.contents());
    let used: u64 = every_file(&whole.home()).iter().map(|path| fs::metadata(path).unwrap().blocks() / 2).sum();
    let mut full = 0;
    for spare in [40, 80, 120, 160, 240, 320] {
        let mut factory = Factory::new(MILL);
        let keys = fs::read(whole.home().join("keys/minimill")).unwrap();
        assert_eq!(fs::read(factory.home().join("keys/minimill")).unwrap(), keys);
        fs::remove_dir_all(factory.home()).unwrap();
        let Some(_disk) = SmallDisk::mount(factory.home(), used + spare) else {
            println!("not run: this user can't mount a file system");
            return;
        };
        tests::factory::copy(&whole.home().join("."), &factory.home());
        update(&mut factory);
        let cycle = factory.cycle();
        if cycle.code == Some(0) {
            continue;
        }
        full += 1;
        let told = format!("{}\n{:#}", cycle.stderr, cycle.json);
        assert_eq!(cycle.code, Some(1), "{told}");
        assert!(told.contains("No space left on device") || told.contains("disk is full"), "{told}");
        assert!(told.contains(factory.home().to_str().unwrap()), "{told}");
        let halfway = factory.contents();
        assert!(before.tags.keys().all(|tag| halfway.tags.contains_key(tag)), "{halfway:#?}");
        assert_eq!(halfway.tags["hello:1.0.0-202603040600"], before.tags["hello:1.0.0"]);
        factory.run(&["verify", "hello:1"]).expect_code(0);
        let mut command = Command::new("mount");
        assert!(command.args(["-o", "remount,size=64m"]).arg(factory.home()).status().unwrap().success());
        factory.cycle().expect_code(0);
        let mended = factory.contents();
        assert_eq!(mended.packages, after.packages);
        // An image of version 1.0.0 with the other package's update may have been published before
        // the disk was full.
        let newest = after.tags.iter().filter(|(tag, _)| !tag.starts_with("hello:1.0"));
        for (tag, digest) in newest {
            assert_eq!(mended.tags.get(tag), Some(digest), "{tag}");
        }
        assert_eq!(leftovers(&factory), Vec::<PathBuf>::new());
    }
    assert!(full >= 3, "the disk was full {full} times");
}

#[test]
fn without_a_network_everything_stays_and_the_reason_is_told() {
    let mut factory = Factory::after_first_cycle(MILL);
    let before = factory.contents();
    factory.disconnect();
    let cycle = factory.cycle();
    cycle.expect_code(1);
    for package in ["hello", "greeting-data"] {
        let failure = cycle.failure("upstream-check", package);
        assert_names(&failure, &["dists/trixie/InRelease", "Connection refused"]);
    }
    assert_eq!(rows(&cycle.json["failed"]).len(), 2, "nothing else fails: {:#}", cycle.json);
    assert_eq!(cycle.texts("skipped", "image-plan", "hello:1").len(), 1);
    assert_eq!(cycle.image("hello", "1")["version"], "1.0.0");
    assert_eq!(factory.contents(), before);
    factory.run(&["verify", "hello:1"]).expect_code(0);

    // What has been fetched can be built again.
    factory.edit("packages/hello.yaml", "prints its version and a greeting", "greets");
    let cycle = factory.cycle();
    cycle.expect_code(1);
    assert_eq!(cycle.image("hello", "1")["reason"], "hello 1.0.0-r0 -> 1.0.0-r1");
}
