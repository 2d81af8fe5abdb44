//! Jobs in real sandboxes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::{Bubblewrap, Ending, Error, Job, Limits, Mount, Outcome, Program};

struct Bench {
    folder: tempfile::TempDir,
    bubblewrap: Bubblewrap,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bubblewrap = Bubblewrap::find(OsStr::new("/usr/bin"), &folder.path().join("scratch")).unwrap();
        Bench { folder, bubblewrap }
    }

    fn job(&self, script: &str) -> Job {
        let link = |target: &str, inside: &str| Mount::Symlink { target: target.into(), inside: inside.into() };
        Job {
            program: Program::Script(script.as_bytes().to_vec()),
            mounts: vec![
                Mount::ReadOnly { host: "/usr".into(), inside: "/usr".into() },
                link("usr/bin", "/bin"),
                link("usr/sbin", "/sbin"),
                link("usr/lib", "/lib"),
                link("usr/lib64", "/lib64"),
            ],
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            working_directory: "/".into(),
            hostname: "build".into(),
            user: (0, 0),
            limits: Limits { wall_time: Duration::from_secs(60), ..Limits::default() },
            log: self.folder.path().join("logs/job.log"),
        }
    }

    async fn run(&self, job: &Job) -> (Outcome, String) {
        let outcome = self.bubblewrap.run(job).await.unwrap();
        let log = std::fs::read_to_string(&job.log).unwrap();
        (outcome, log)
    }

    async fn run_script(&self, script: &str) -> (Outcome, String) {
        self.run(&self.job(script)).await
    }
}

/// Whether a process of the host has `text` in its command line.
fn alive(text: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().any(|entry| {
        std::fs::read(entry.unwrap().path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
}

async fn gone(text: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    while alive(text) {
        assert!(Instant::now() < until, "`{text}` is still running");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_script_runs_and_its_output_is_logged() {
    let bench = Bench::new();
    let (outcome, log) = bench.run_script("echo out; echo err >&2; pwd; hostname").await;
    assert_eq!(outcome.ending, Ending::Exited(0));
    assert_eq!(log, "out\nerr\n/\nbuild\n");
    assert_eq!(outcome.tail, ["out", "err", "/", "build"]);
    outcome.success().unwrap();
}

#[tokio::test]
async fn no_network_but_a_loopback_of_its_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bench = Bench::new();
    let script = format!(
        "/usr/bin/perl -MIO::Socket::INET -e 'for my $to (\"127.0.0.1:{port}\", \"192.0.2.1:80\") {{ \
         my $s = IO::Socket::INET->new(PeerAddr => $to, Timeout => 3); print $s ? \"connected\\n\" : \"$!\\n\" }}'\n\
         cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '; cat /proc/net/route | tail -n +2"
    );
    let (_, log) = bench.run_script(&script).await;
    assert_eq!(log, "Connection refused\nNetwork is unreachable\nlo\n");
}

#[tokio::test]
async fn the_environment_is_the_jobs_own() {
    let bench = Bench::new();
    let mut job = bench.job("");
    job.program = Program::Arguments(vec!["env".into()]);
    job.environment.insert("A".into(), "b c".into());
    let (_, log) = bench.run(&job).await;
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=b c", "PATH=/usr/bin:/bin", "PWD=/"]);
}

#[tokio::test]
async fn without_capabilities_and_with_a_read_only_root() {
    let bench = Bench::new();
    let (_, log) = bench
        .run_script(
            "id -u; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f2; umask\n\
             for place in /x /usr/x /dev/x /run/x; do touch $place 2>/dev/null && echo wrote $place; done\n\
             touch /tmp/x /dev/shm/x && echo wrote temporary files\n\
             mount -t tmpfs x /tmp 2>/dev/null && echo mounted\n\
             ls /; ls /tmp; echo; ls -d /proc/[0-9]* | wc -l",
        )
        .await;
    let none = "0000000000000000";
    assert_eq!(
        log,
        format!(
            "0\n{none}\n{none}\n{none}\n0022\nwrote temporary files\n\
             bin\ndev\nlib\nlib64\nproc\nrun\nsbin\ntmp\nusr\nx\n\n4\n"
        )
    );
}

#[tokio::test]
async fn binds_temporary_folders_and_files() {
    let bench = Bench::new();
    let work = bench.folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("in"), "given\n").unwrap();
    let mut job = bench.job(
        "cat in /etc/note; echo made > out; touch /fixed/x 2>/dev/null || echo fixed\n\
         dd if=/dev/zero of=/small/big bs=1M count=3 2>&1 | grep -o 'No space left on device'",
    );
    job.mounts.extend([
        Mount::ReadWrite { host: work.clone(), inside: "/home/build".into() },
        Mount::ReadOnly { host: work.clone(), inside: "/fixed".into() },
        Mount::Temporary { inside: "/small".into(), size: 1 << 20 },
        Mount::File { inside: "/etc/note".into(), content: b"noted\n".to_vec() },
    ]);
    job.working_directory = "/home/build".into();
    let (_, log) = bench.run(&job).await;
    assert_eq!(log, "given\nnoted\nfixed\nNo space left on device\n");
    assert_eq!(std::fs::read_to_string(work.join("out")).unwrap(), "made\n");
}

#[tokio::test]
async fn a_failure_shows_the_step_and_the_last_lines() {
    let bench = Bench::new();
    let (outcome, _) =
        bench.run_script("echo '::step 1 configure'; seq 1 100; echo '::step 2 make'; echo broken; exit 7").await;
    let error = outcome.success().unwrap_err();
    let Error::Failed { status, step, tail, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(status, "exit code 7");
    assert_eq!(step.as_deref(), Some("step 2 make"));
    assert_eq!(tail.len(), 40);
    let message = error.to_string();
    assert!(message.starts_with("the job failed with exit code 7 in `step 2 make` (log: `"));
    assert!(message.ends_with("\n  100\n  ::step 2 make\n  broken"), "{message}");
}

#[tokio::test]
async fn a_time_limit_ends_all_processes() {
    let bench = Bench::new();
    let mut job = bench.job(
        "fork() { for n in 1 2 3 4 5 6 7 8; do setsid sh -c 'sleep 73111 & sleep 73111' & done; }\n\
         fork; (fork) & nohup sleep 73111 >/dev/null 2>&1 & trap '' TERM INT HUP; echo started; sleep 73111",
    );
    job.limits.wall_time = Duration::from_millis(1500);
    let (outcome, log) = bench.run(&job).await;
    assert_eq!(outcome.ending, Ending::TimedOut(Duration::from_millis(1500)));
    assert!(outcome.duration < Duration::from_secs(10));
    assert_eq!(log, "started\n");
    assert!(!alive("73111"));
    let message = outcome.success().unwrap_err().to_string();
    assert!(message.starts_with("the job was ended: timed out after 1.5 s"), "{message}");
}

#[tokio::test]
async fn a_dropped_job_ends_all_processes() {
    let bench = Bench::new();
    let job = bench.job("setsid sleep 73222 & (sleep 73222 &) ; sleep 73222");
    tokio::select! {
        outcome = bench.bubblewrap.run(&job) => panic!("{outcome:?}"),
        () = async { while !alive("sleep\x0073222") { tokio::time::sleep(Duration::from_millis(20)).await } } => {}
    }
    gone("sleep\x0073222").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_outlives_the_thread_that_asked_for_it() {
    let bench = Bench::new();
    let job = bench.job("sleep 1; echo end");
    let handle = tokio::runtime::Handle::current();
    let bubblewrap = bench.bubblewrap.clone();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Starts the job on this thread, which then ends.
        let mut run = Box::pin(async move { bubblewrap.run(&job).await });
        handle.block_on(async {
            tokio::time::timeout(Duration::from_millis(500), &mut run).await.unwrap_err();
        });
        handle.spawn(async move { sender.send(run.await) });
    })
    .join()
    .unwrap();
    let outcome = receiver.await.unwrap().unwrap();
    assert_eq!((outcome.ending, outcome.tail), (Ending::Exited(0), vec!["end".to_owned()]));
}

#[tokio::test]
async fn output_processes_memory_and_file_sizes_are_limited() {
    let bench = Bench::new();

    let mut job = bench.job("while :; do echo 0123456789abcdef; done");
    job.limits.output = 100_000;
    let (outcome, log) = bench.run(&job).await;
    assert_eq!(outcome.ending, Ending::OutputLimit(100_000));
    assert_eq!(log.len(), 100_000);
    let message = outcome.success().unwrap_err().to_string();
    assert!(message.contains("more than 100000 bytes of output"), "{message}");

    let mut job = bench.job("for n in $(seq 1 60); do sleep 73333 & done; wait");
    job.limits.processes = 30;
    let (outcome, _) = bench.run(&job).await;
    assert_eq!(outcome.ending, Ending::ProcessLimit(30));
    assert!(!alive("73333"));

    let mut job = bench.job("exec perl -e '$a = \"x\" x 200_000_000; sleep 60'");
    job.limits.memory = 100_000_000;
    let (outcome, _) = bench.run(&job).await;
    assert_eq!(outcome.ending, Ending::MemoryLimit(100_000_000));

    let mut job = bench.job("exec dd if=/dev/zero of=/tmp/big bs=64k count=64");
    job.limits.file_size = 1 << 20;
    let (outcome, _) = bench.run(&job).await;
    assert_eq!(outcome.ending, Ending::FileSizeLimit(1 << 20));
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_made_says_why() {
    let bench = Bench::new();
    let mut job = bench.job("");
    job.program = Program::Arguments(vec!["/bin/nowhere".into()]);
    let error = bench.bubblewrap.run(&job).await.unwrap_err();
    assert!(
        error.to_string().starts_with(
            "the sandbox did not start `/bin/nowhere`: bwrap: execvp /bin/nowhere: No such file or directory"
        ),
        "{error}"
    );
    let mut job = bench.job("");
    job.mounts.push(Mount::ReadOnly { host: "/absent".into(), inside: "/x".into() });
    let error = bench.bubblewrap.run(&job).await.unwrap_err();
    assert!(error.is_environment() && error.to_string().contains("Can't find source path /absent"), "{error}");
    let mut job = bench.job("");
    job.mounts.push(Mount::Empty { inside: "x".into() });
    let error = bench.bubblewrap.run(&job).await.unwrap_err();
    assert_eq!(error.to_string(), "the job cannot be run: the mount point `x` is not absolute");
}

#[test]
fn a_missing_bubblewrap_names_the_package() {
    let error = Error::MissingProgram { program: "bwrap".into(), package: "bubblewrap".into() };
    assert!(error.is_environment());
    assert_eq!(error.to_string(), "`bwrap` is not installed; install the Debian package `bubblewrap`");
}

/// As CI does for people who aren't root: the same sandbox, made by an unprivileged user.
#[tokio::test]
async fn the_sandbox_needs_no_privileges() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: this user is unprivileged, as all other tests here then show");
        return;
    }
    let script = "exec bwrap --unshare-all --die-with-parent --new-session --clearenv --cap-drop ALL \
        --uid 0 --gid 0 --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib \
        --symlink usr/lib64 /lib64 --proc /proc --dev /dev --perms 1777 --size 1048576 --tmpfs /tmp \
        --remount-ro /dev --remount-ro / -- /usr/bin/id -u";
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh", "-c", script])
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        ("0\n".into(), "".into())
    );
}

#[tokio::test]
async fn a_package_can_be_compiled_in_the_builder_root() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let root = sandbox::BuilderRoot {
        sysroot: at("sysroot"),
        bootstrap: at("bootstrap"),
        sources: at("sources"),
        work: at("work"),
        repeats: false,
    };
    // Stands in for musl's loader: what runs is what the link in /lib leads to.
    at("sysroot/lib");
    std::fs::copy("/lib64/ld-linux-x86-64.so.2", root.sysroot.join("lib/ld-musl-x86_64.so.1"))
        .or_else(|_| std::fs::copy("/lib64/ld-linux-x86-64.so.2", root.sysroot.join("lib/ld-musl-x86_64.so.1")))
        .unwrap();
    std::fs::write(root.sources.join("sha256:00"), "int main(void) { return 0; }\n").unwrap();
    at("bootstrap/bin");
    let environment = sandbox::BuilderRoot::environment(
        std::env::consts::ARCH,
        1_700_000_000,
        &BTreeMap::from([("CFLAGS".into(), "-Os".into())]),
    );
    let script = "set -e\n\
        echo $PATH $CFLAGS $SOURCE_DATE_EPOCH; pwd\n\
        cp /var/cache/melange/sha256:00 main.c\n\
        gcc main.c -o main && ./main && echo host\n\
        /bin/gcc main.c -o main && ./main && echo merged\n\
        gcc main.c -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1 -o own && ./own && echo own\n\
        readlink /lib/ld-musl-x86_64.so.1; cat /etc/ld-musl-x86_64.path\n\
        awk 'BEGIN { print \"awk\" }'; ls -A /usr/local; id -un\n\
        install -d melange-out/a/usr/bin; install -m755 -o root -g root main melange-out/a/usr/bin/\n";
    let job = root.job(script.as_bytes().to_vec(), environment, Limits::default(), folder.path().join("log")).unwrap();
    let bubblewrap = Bubblewrap::find(OsStr::new("/usr/bin"), &folder.path().join("scratch")).unwrap();
    let outcome = bubblewrap.run(&job).await.unwrap().success().unwrap();
    assert_eq!(
        outcome.tail,
        [
            "/opt/minimill/bin:/usr/sbin:/usr/bin:/sbin:/bin -Os 1700000000",
            "/home/build",
            "host",
            "merged",
            "own",
            "/sysroot/lib/ld-musl-x86_64.so.1",
            "/sysroot/lib",
            "/sysroot/usr/lib",
            "awk",
            "root",
        ]
    );
    assert!(Path::new(&root.work).join("melange-out/a/usr/bin/main").is_file());
}

/// The other half of the next test: runs a job until it is killed.
#[tokio::test]
#[ignore = "started by `a_killed_factory_leaves_no_job`"]
async fn a_factory_with_a_job() {
    let bench = Bench::new();
    let job = bench.job("setsid sleep 73444 & sleep 73444");
    drop(bench.bubblewrap.run(&job).await);
}

#[tokio::test]
async fn a_killed_factory_leaves_no_job() {
    let mut factory = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_factory_with_a_job"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !alive("sleep\x0073444") {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    factory.kill().unwrap();
    factory.wait().unwrap();
    gone("sleep\x0073444").await;
}
