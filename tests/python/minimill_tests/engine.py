"""The container engine that suites run on: one that is there, or a Docker daemon of its own without networks."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from minimill_tests.errors import NotRun

START_SECONDS = 60
STOP_SECONDS = 20
COMMAND_SECONDS = 180
MAXIMUM_OUTPUT_CHARACTERS = 1 << 20


class Engine:
    """A Docker daemon on a local socket, and Docker Compose."""

    def __init__(self, host: str, folder: Path) -> None:
        #: `unix:///PATH` of the daemon's socket.
        self.host = host
        self._folder = folder
        self.compose = compose_command(self.environment())

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What Docker's commands are run with: this daemon, and no settings of the user's."""
        own = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "COMPOSE_"))}
        return own | {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self._folder)} | dict(more or {})

    def docker(self, *arguments: str, check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
        """Runs `docker` and gives what it printed.

        Raises:
            CommandError: when it fails or takes too long.
        """
        return run(["docker", *arguments], self.environment(), check=check, seconds=seconds)

    def close(self) -> None:
        """Ends what was started; of a daemon that was there before only the settings are removed."""
        shutil.rmtree(self._folder, ignore_errors=True)


class CommandError(AssertionError):
    """A command failed; the text is what it said. A failed assertion, so that it fails the test at hand."""


def run(command: Sequence[str], environment: Mapping[str, str], *, check: bool = True, seconds: float) -> str:
    """Runs a command and gives its output, standard error included, at most 1 Mi characters.

    Raises:
        CommandError: when it fails and `check` is set, or when it takes longer than `seconds`.
    """
    told = " ".join(command)
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C is pytest's to answer; what then takes services down must not hear it.
            start_new_session=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{told}` was ended after {seconds} s") from error
    output = done.stdout.decode(errors="replace")[-MAXIMUM_OUTPUT_CHARACTERS:]
    if check and done.returncode != 0:
        raise CommandError(f"`{told}` ended with {done.returncode}: {output.strip()}")
    return output


def compose_command(environment: Mapping[str, str]) -> list[str]:
    """How Docker Compose is called: as docker's plugin, or as Debian's command.

    Raises:
        NotRun: when neither is installed.
    """
    if shutil.which("docker") is None:
        raise NotRun("docker can't be started: no `docker`; install Debian's docker.io")
    plugin = subprocess.run(["docker", "compose", "version"], env=environment, capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose") is not None:
        return ["docker-compose"]
    raise NotRun("docker can't be started: no Docker Compose; install Debian's docker-compose")


class PrivateEngine(Engine):
    """A daemon of its own, in its own folder, that touches no rules and makes no networks of the machine."""

    def __init__(self) -> None:
        for program in ("docker", "dockerd"):
            if shutil.which(program, path=search_path()) is None:
                raise NotRun(f"docker can't be started: no `{program}`; install Debian's docker.io")
        if os.geteuid() != 0:
            raise NotRun("docker can't be started: dockerd needs root; set DOCKER_HOST to use one that runs")
        # Not below the working folder: the path of a socket may be 107 bytes long.
        self._scratch = Path(tempfile.mkdtemp(prefix="minimill-docker-"))
        self._daemon: subprocess.Popen[bytes] | None = None
        try:
            self._daemon = self._start()
            super().__init__(f"unix://{self._scratch}/socket", self._scratch)
            self._wait(self._daemon)
        except BaseException:
            self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self._scratch
        command = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none"]
        command += [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
        command += [f"--host=unix://{folder}/socket"]
        with (folder / "log").open("wb") as log:
            # In a group of its own, so that Ctrl-C reaches it only after its containers are removed.
            return subprocess.Popen(
                command,
                env={**os.environ, "PATH": search_path()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self, daemon: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and daemon.poll() is None:
            with contextlib.suppress(CommandError):
                self.docker("version", seconds=START_SECONDS)
                return
            time.sleep(0.2)
        lines = (self._scratch / "log").read_text(errors="replace").strip().splitlines()
        raise NotRun(f"docker can't be started: {lines[-1] if lines else 'dockerd said nothing'}")

    def close(self) -> None:
        if self._daemon is not None:
            self._end(self._daemon)
            self._daemon = None
        for mount in reversed(mounts_below(self._scratch)):
            subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _end(self, daemon: subprocess.Popen[bytes]) -> None:
        if daemon.poll() is None and hasattr(self, "host"):
            with contextlib.suppress(CommandError):
                for container in self.docker("ps", "--all", "--quiet", seconds=START_SECONDS).split():
                    self.docker("rm", "--force", "--volumes", container, check=False, seconds=START_SECONDS)
        daemon.terminate()
        try:
            daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # A daemon that is killed leaves its containerd behind.
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self._scratch / "exec/containerd/containerd.pid").read_text()), signal.SIGKILL)
            daemon.kill()
            daemon.wait()


def search_path() -> str:
    """The path with the folders in which Debian keeps daemons."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def mounts_below(folder: Path) -> list[Path]:
    """Places under a folder where something is mounted, outer ones first."""
    text = Path("/proc/self/mountinfo").read_text(errors="replace")
    places = [Path(line.split(" ")[4]) for line in text.splitlines()]
    return [place for place in places if place.is_relative_to(folder)]


def open_engine(choice: str) -> Engine:
    """The engine that is asked for: `private`, `unix:///PATH`, or `auto`: DOCKER_HOST where it is set, else private.

    Raises:
        NotRun: when there is none; the text says why.
    """
    host = os.environ.get("DOCKER_HOST", "private") if choice == "auto" else choice
    if host == "private":
        return PrivateEngine()
    if not host.startswith("unix://"):
        raise NotRun(f"docker can't be used: `{host}` is no local socket, and tests enter networks of containers")
    folder = Path(tempfile.mkdtemp(prefix="minimill-docker-"))
    try:
        engine = Engine(host, folder)
        engine.docker("version")
    except (CommandError, NotRun) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotRun(f"docker can't be used: {error}") from error
    return engine
