//! Containers made by runc, of a root file system with busybox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox::{ContainerJob, Ending, Error, Exchange, Limits, Network, Process, Request, Runc, TemporaryFolder, User};

struct Bench {
    folder: tempfile::TempDir,
    runc: Runc,
}

impl Bench {
    async fn new() -> Option<Self> {
        if !Path::new("/bin/busybox").is_file() {
            println!("not run: the Debian package `busybox-static` is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let runc = match Runc::find(OsStr::new("/usr/bin"), folder.path()).await {
            Ok(runc) => runc,
            Err(error) if error.is_environment() => {
                println!("not run: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let bin = folder.path().join("root/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir(folder.path().join("root/data")).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "id", "sleep", "nc", "ip", "touch", "seq", "mount", "grep", "hostname"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        Some(Bench { folder, runc })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn job(&self, script: &str) -> ContainerJob {
        let limits = Limits { wall_time: Duration::from_secs(30), ..Limits::default() };
        ContainerJob::new(self.root(), shell(script), limits)
    }

    /// What runc has on record.
    fn containers(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("runc")).unwrap().count()
    }
}

fn shell(script: &str) -> Process {
    Process {
        arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: vec!["PATH=/bin".into(), "A=b".into()],
        user: User { id: 1000, group: 1001, other_groups: vec![7] },
        working_directory: "/data".into(),
    }
}

fn alive(text: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().any(|entry| {
        std::fs::read(entry.unwrap().path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_process_is_as_configured_and_alone() {
    let Some(bench) = Bench::new().await else { return };
    let finished = bench
        .runc
        .run(&bench.job(
            "id; echo $A; echo $$; ip -o link | grep -c .; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; \
             echo failed >&2; exit 3",
        ))
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::Exited(3));
    assert_eq!(
        text(&finished.stdout),
        "uid=1000 gid=1001 groups=7\nb\n1\n1\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n"
    );
    assert_eq!(text(&finished.stderr), "failed\n");
    assert_eq!(bench.containers(), 0);
}

#[tokio::test]
async fn a_read_only_root_has_only_its_temporary_folders() {
    let Some(bench) = Bench::new().await else { return };
    let mut job = bench.job("touch /data/x || echo fixed; touch /tmp/x && echo temporary");
    job.process.user = User::default();
    job.read_only = true;
    job.temporary.push(TemporaryFolder { inside: "/tmp".into(), size: 1 << 20 });
    std::fs::create_dir(bench.root().join("tmp")).unwrap();
    let finished = bench.runc.run(&job).await.unwrap();
    assert_eq!(text(&finished.stdout), "fixed\ntemporary\n");
    job.read_only = false;
    let finished = bench.runc.run(&job).await.unwrap();
    assert_eq!(text(&finished.stdout), "temporary\n");
    assert!(bench.root().join("data/x").exists());
}

#[tokio::test]
async fn a_temporary_folder_has_the_owner_of_the_one_it_covers() {
    let Some(bench) = Bench::new().await else { return };
    let mut job = bench.job("touch /data/x && echo own; touch /closed/x || echo closed");
    let closed = bench.root().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let mode = || std::os::unix::fs::PermissionsExt::from_mode(0o750);
    std::fs::set_permissions(&closed, mode()).unwrap();
    std::fs::set_permissions(bench.root().join("data"), mode()).unwrap();
    std::os::unix::fs::chown(bench.root().join("data"), Some(1000), Some(5)).unwrap();
    job.read_only = true;
    for inside in ["/data", "/closed"] {
        job.temporary.push(TemporaryFolder { inside: inside.into(), size: 1 << 20 });
    }
    let finished = bench.runc.run(&job).await.unwrap();
    assert_eq!(text(&finished.stdout), "own\nclosed\n");
}

#[tokio::test]
async fn a_server_answers_on_its_own_network_and_ends_by_a_signal() {
    let Some(bench) = Bench::new().await else { return };
    let server = "trap 'echo bye; exit 0' TERM; nc -ll -p 6379 -e /bin/sh -c 'read line; echo +$line' & \
                  while :; do sleep 1 & wait $!; done";
    let container = bench.runc.start(&bench.job(server)).await.unwrap();
    let request = |port, seconds| Request { port, send: b"PING\n".to_vec(), within: Duration::from_secs(seconds) };
    let answer = container.exchange(request(6379, 10), |bytes| bytes == b"+PING\n").await.unwrap();
    assert_eq!(answer, Exchange::Answered { bytes: b"+PING\n".to_vec(), complete: true });
    let answer = container.exchange(request(6379, 2), |bytes| bytes == b"+PONG\n").await.unwrap();
    assert_eq!(answer, Exchange::Answered { bytes: b"+PING\n".to_vec(), complete: false });
    let answer = container.exchange(request(6380, 1), |_| true).await.unwrap();
    assert!(matches!(&answer, Exchange::NoConnection(reason) if reason.contains("refused")), "{answer:?}");
    assert!(std::net::TcpStream::connect("127.0.0.1:6379").is_err());

    let finished = container.exec(&shell("hostname; exit 4"), &Limits::default()).await.unwrap();
    assert_eq!((finished.ending, text(&finished.stdout)), (Ending::Exited(4), format!("{}\n", container.id())));
    let limits = Limits { wall_time: Duration::from_millis(500), ..Limits::default() };
    let finished = container.exec(&shell("sleep 74111"), &limits).await.unwrap();
    assert_eq!(finished.ending, Ending::TimedOut(limits.wall_time));
    assert!(!alive("74111"));

    let finished = container.stop("TERM", Duration::from_secs(5)).await.unwrap();
    assert_eq!((finished.ending, text(&finished.stdout)), (Ending::Exited(0), "bye\n".to_owned()));
    assert_eq!(bench.containers(), 0);
}

#[tokio::test]
async fn the_hosts_network_only_when_asked_for() {
    let Some(bench) = Bench::new().await else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut job = bench.job(&format!("nc 127.0.0.1 {port} </dev/null >/dev/null 2>&1 && echo connected"));
    assert_eq!(text(&bench.runc.run(&job).await.unwrap().stdout), "");
    job.network = Network::Host;
    let accept = std::thread::spawn(move || drop(listener.accept()));
    assert_eq!(text(&bench.runc.run(&job).await.unwrap().stdout), "connected\n");
    accept.join().unwrap();
}

#[tokio::test]
async fn a_hung_container_is_ended() {
    let Some(bench) = Bench::new().await else { return };
    let mut job = bench.job("trap '' TERM; (sleep 74222 &); sleep 74222; sleep 74222");
    job.limits.wall_time = Duration::from_secs(1);
    let finished = bench.runc.run(&job).await.unwrap();
    assert_eq!(finished.ending, Ending::TimedOut(Duration::from_secs(1)));
    assert!(!alive("74222"));

    job.limits.wall_time = Duration::from_secs(60);
    let container = bench.runc.start(&job).await.unwrap();
    let within = Duration::from_millis(500);
    let finished = container.stop("TERM", within).await.unwrap();
    assert_eq!(finished.ending, Ending::TimedOut(within));
    assert!(!alive("74222"));
    assert_eq!(bench.containers(), 0);
}

#[tokio::test]
async fn output_and_processes_are_limited() {
    let Some(bench) = Bench::new().await else { return };
    let mut job = bench.job("while :; do echo 0123456789; done");
    job.limits.output = 10_000;
    let finished = bench.runc.run(&job).await.unwrap();
    assert_eq!((finished.ending, finished.stdout.len()), (Ending::OutputLimit(10_000), 10_000));
    let mut job = bench.job("for n in $(seq 1 40); do sleep 74333 & done; wait");
    job.limits.processes = 20;
    assert_eq!(bench.runc.run(&job).await.unwrap().ending, Ending::ProcessLimit(20));
    assert!(!alive("74333"));
}

#[tokio::test]
async fn a_dropped_container_is_removed() {
    let Some(bench) = Bench::new().await else { return };
    let job = bench.job("sleep 74444");
    tokio::select! {
        finished = bench.runc.run(&job) => panic!("{finished:?}"),
        () = async { while !alive("sleep\x0074444") { tokio::time::sleep(Duration::from_millis(20)).await } } => {}
    }
    assert!(!alive("sleep\x0074444"));
    assert_eq!(bench.containers(), 0);
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept() {
    let Some(bench) = Bench::new().await else { return };
    // As if made by a process that is gone: no process can have this id.
    let id = &format!("minimill-4999999-{}", std::process::id());
    let bundle = bench.folder.path().join("left");
    std::fs::create_dir(&bundle).unwrap();
    let state = bench.folder.path().join("runc");
    let runc = |arguments: &[&str]| {
        std::process::Command::new("runc")
            .arg("--root")
            .arg(&state)
            .args(arguments)
            .current_dir(&bundle)
            .status()
            .unwrap()
    };
    assert!(runc(&["spec"]).success());
    let specification = std::fs::read_to_string(bundle.join("config.json")).unwrap();
    let specification = specification
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace("\"path\": \"rootfs\"", &format!("\"path\": \"{}\"", bench.root().display()))
        .replace("\"sh\"", "\"/bin/sleep\", \"74555\"");
    std::fs::write(bundle.join("config.json"), specification).unwrap();
    assert!(runc(&["run", "--detach", id]).success());
    let until = Instant::now() + Duration::from_secs(5);
    while !alive("74555") {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Runc::find(OsStr::new("/usr/bin"), bench.folder.path()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while alive("74555") {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.containers(), 0);
}

#[tokio::test]
async fn a_container_that_cannot_be_started_says_why() {
    let Some(bench) = Bench::new().await else { return };
    let mut job = bench.job("");
    job.process.arguments = vec!["/bin/nowhere".into()];
    let error = bench.runc.run(&job).await.unwrap_err();
    assert!(matches!(error, Error::Runc { action: "start", .. }), "{error}");
    assert!(error.to_string().contains("/bin/nowhere") && error.to_string().contains("no such file"), "{error}");
    assert_eq!(bench.containers(), 0);
}
