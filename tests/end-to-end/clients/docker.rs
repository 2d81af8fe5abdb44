//! Debian's `dockerd` pulls and runs the images.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Server, factory, installed, run, told};

/// A daemon of its own, without networks, in its own folder.
struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Result<Self, String> {
        // Not in the target folder: the path of a socket may be 107 bytes long.
        let folder = tempfile::Builder::new().prefix("mill-docker-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new("dockerd")
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["--host", &format!("unix://{}", path("socket").display())])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        let mut daemon = Self { child, folder };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            if daemon.docker(&["version"]).status.success() {
                return Ok(daemon);
            }
            if daemon.child.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(250));
        }
        let log = fs::read_to_string(daemon.folder.path().join("log")).unwrap();
        Err(format!("dockerd does not start: {}", log.lines().last().unwrap_or_default()))
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", self.folder.path().join("socket").display()))
            .env("DOCKER_CONFIG", self.folder.path())
            .env_remove("DOCKER_CONTEXT")
            .args(arguments)
            .output()
            .unwrap()
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Repeats a command until it says what is expected, as servers need their time.
    fn eventually(&self, arguments: &[&str], expected: &str) {
        let start = Instant::now();
        loop {
            let output = self.docker(arguments);
            if told(&output).contains(expected) {
                return;
            }
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(30), "docker {arguments:?}: no `{expected}` in {}", told(&output));
            sleep(Duration::from_millis(200));
        }
    }

    /// Starts an image as a server with no more rights than it asks for.
    fn serve(&self, name: &str, image: &str, arguments: &[&str]) {
        let mut all = vec!["run", "--detach", "--name", name, "--network=none", "--cap-drop=ALL", "--read-only"];
        all.extend(["--tmpfs=/tmp", "--tmpfs=/run:mode=1777", "--security-opt=no-new-privileges"]);
        all.extend(arguments);
        all.push(image);
        self.succeed(&all);
    }

    /// Stops a server by the signal its image asks for; it must end by itself, in order.
    fn stop(&self, name: &str) {
        let start = Instant::now();
        self.succeed(&["stop", "--time=20", name]);
        let took = start.elapsed();
        let code = self.succeed(&["inspect", "--format={{.State.ExitCode}}", name]);
        let log = told(&self.docker(&["logs", "--tail=20", name]));
        assert_eq!(code, "0", "{name}: {log}");
        assert!(took < Duration::from_secs(10), "{name} took {took:?} to stop: {log}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let containers = self.docker(&["ps", "--all", "--quiet"]);
        for container in String::from_utf8_lossy(&containers.stdout).lines() {
            self.docker(&["rm", "--force", container]);
        }
        let end = |signal: &str, pid: &str| drop(Command::new("kill").args([signal, pid]).status());
        let own = self.child.id().to_string();
        let start = Instant::now();
        end("-TERM", &own);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > Duration::from_secs(20) {
                // A daemon that is killed leaves its containerd behind.
                if let Ok(pid) = fs::read_to_string(self.folder.path().join("exec/containerd/containerd.pid")) {
                    end("-KILL", pid.trim());
                }
                end("-KILL", &own);
            }
            sleep(Duration::from_millis(100));
        }
        for mount in mounts(self.folder.path()).iter().rev() {
            drop(Command::new("umount").arg("--lazy").arg(mount).status());
        }
    }
}

/// Places under a folder where something is mounted.
fn mounts(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = text.lines().filter_map(|line| line.split(' ').nth(4));
    places.filter(|place| Path::new(place).starts_with(folder)).map(str::to_owned).collect()
}

#[test]
fn docker_pulls_every_image_and_the_servers_answer_and_stop() {
    let Some(factory) = factory() else { return };
    if !installed("dockerd") || !installed("docker") {
        return;
    }
    if run(Command::new("id").arg("-u")).trim() != "0" {
        println!("not run: dockerd needs root");
        return;
    }
    let daemon = match Daemon::start() {
        Ok(daemon) => daemon,
        Err(reason) => {
            println!("not run: {reason}");
            return;
        }
    };
    let server = Server::start(&factory.home);
    let mut places = Vec::new();
    for image in factory.images() {
        let place = format!("{}/{}:{}", server.address, image.name, image.tag);
        daemon.succeed(&["pull", "--quiet", &place]);
        let digests = daemon.succeed(&["image", "inspect", "--format={{join .RepoDigests \" \"}}", &place]);
        assert_eq!(digests, format!("{}/{}@{}", server.address, image.name, image.digest));
        let user = daemon.succeed(&["image", "inspect", "--format={{.Config.User}}", &place]);
        assert_eq!(user.split(':').next(), Some("65532"), "{place}");
        places.push((image.name, place));
    }
    let image = |name: &str| places.iter().find(|(other, _)| other == name).unwrap().1.as_str();

    let first = daemon.docker(&["run", "--rm", "--network=none", image("busybox"), "-c", "id -u; echo $((6 * 7))"]);
    if first.status.code() == Some(125) {
        println!("not run: dockerd starts no container here: {}", told(&first));
        return;
    }
    assert_eq!(told(&first), "65532\n42\n");

    daemon.serve("valkey", image("valkey"), &["--tmpfs=/var/lib/valkey:uid=65532,gid=65532"]);
    daemon.eventually(&["exec", "valkey", "valkey-cli", "ping"], "PONG");
    assert_eq!(daemon.succeed(&["exec", "valkey", "valkey-cli", "set", "key", "value"]), "OK");
    assert_eq!(daemon.succeed(&["exec", "valkey", "valkey-cli", "get", "key"]), "value");

    // The other images hold no client; the busybox image beside them does.
    let beside = |server: &str, script: &str, expected: &str| {
        let network = format!("--network=container:{server}");
        daemon.eventually(&["run", "--rm", &network, image("busybox"), "-c", script], expected);
    };
    beside("valkey", "printf 'PING\\r\\nQUIT\\r\\n' | nc 127.0.0.1 6379", "+PONG");
    daemon.serve("memcached", image("memcached"), &[]);
    beside("memcached", "printf 'version\\r\\nquit\\r\\n' | nc 127.0.0.1 11211", "VERSION 1.");
    daemon.serve("nginx", image("nginx"), &["--tmpfs=/run/nginx:uid=65532", "--tmpfs=/var/lib/nginx:uid=65532"]);
    beside("nginx", "wget -q -O - http://127.0.0.1:8080/", "<html");
    for name in ["valkey", "memcached", "nginx"] {
        daemon.stop(name);
    }
}
