"""A suite's services while they run, and the way into their network."""

import contextlib
import ctypes
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minimill_tests.clients import HttpClient, MemcachedClient, ValkeyClient
from minimill_tests.engine import COMMAND_SECONDS, Engine, run
from minimill_tests.errors import NotRun
from minimill_tests.images import TaggedImage
from minimill_tests.platform import Platform
from minimill_tests.suite import REGISTRY_VARIABLE, Substitution, Suite

CLONE_NEWNET = 0x40000000
PULL_SECONDS = 600
READY_SECONDS = 30.0


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    exit_code: int
    #: From the signal to the end.
    seconds: float
    #: It took more memory than its limit.
    out_of_memory: bool


class Stack:
    """The services of a suite, running with one substitution.

    Clients connect from inside the network of a service, so nothing is published on the machine and suites do not
    disturb each other.
    """

    def __init__(
        self, engine: Engine, suite: Suite, substitution: Substitution, registry: str, platform: Platform
    ) -> None:
        self.engine = engine
        self.platform = platform
        self.suite = suite
        self.substitution = substitution
        self._project = re.sub(r"[^a-z0-9]", "", suite.name.lower()) + os.urandom(4).hex()
        own = {REGISTRY_VARIABLE: registry, "DOCKER_DEFAULT_PLATFORM": platform.name}
        self._environment = engine.environment(own | dict(substitution.values))
        self._stopped: set[str] = set()
        self._scratch = tempfile.TemporaryDirectory(prefix="minimill-suite-")
        self._file = suite.compose or self._around_dockerfile()

    def _around_dockerfile(self) -> Path:
        """A Compose file for a folder with nothing but a Dockerfile: one service, `main`."""
        arguments = [REGISTRY_VARIABLE, *self.substitution.values]
        build = {"context": str(self.suite.folder.resolve()), "args": arguments, "network": "none"}
        service = {"build": build, "network_mode": "none", "read_only": True, "cap_drop": ["ALL"]}
        path = Path(self._scratch.name) / "compose.yaml"
        path.write_text(yaml.safe_dump({"services": {"main": service}}), encoding="utf-8")
        return path

    def compose(self, *arguments: str, check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
        """Runs Docker Compose on this stack and gives what it printed."""
        command = [*self.engine.compose, "--project-name", self._project, "--file", str(self._file), *arguments]
        return run(command, self._environment, check=check, seconds=seconds)

    @contextlib.contextmanager
    def running(self) -> Iterator["Stack"]:
        """Starts the services; at the end removes them, whatever happened."""
        try:
            self._pull()
            self.compose("up", "--detach", "--build", seconds=PULL_SECONDS)
            yield self
        finally:
            with self._scratch:
                self._remove()

    def _remove(self) -> None:
        """Removes containers, networks and volumes by the project's label, which costs less than asking Compose to."""
        label = f"--filter=label=com.docker.compose.project={self._project}"
        for kind, force in (("container", ["--force", "--volumes"]), ("network", []), ("volume", [])):
            everything = ["--all"] if kind == "container" else []
            if found := self.engine.docker(kind, "ls", *everything, "--quiet", label).split():
                self.engine.docker(kind, "rm", *force, *found)

    def _pull(self) -> None:
        """Gets what the tags name now, which an engine that was there before may have as it was then."""
        for image in self.substitution.images:
            asked = ["--quiet", f"--platform={self.platform.name}", image.reference]
            self.engine.docker("pull", *asked, seconds=PULL_SECONDS)
            if image.digest is not None:
                found = self.engine.docker("image", "inspect", '--format={{join .RepoDigests " "}}', image.reference)
                digests = {place.partition("@")[2] for place in found.split()}
                assert image.digest in digests, f"{image.reference} became {found.strip()}, it was {image.digest}"

    def image(self, name: str) -> TaggedImage:
        """The image of this run under a name."""
        return next(image for image in self.substitution.images if image.name == name)

    def services(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each service's container (`docker inspect`)."""
        listed = self.engine.docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self._project}"
        )
        if not listed.split():
            return {}
        documents = json.loads(self.engine.docker("inspect", *listed.split()))
        return {document["Config"]["Labels"]["com.docker.compose.service"]: document for document in documents}

    def container(self, service: str) -> dict[str, Any]:
        """What the engine knows of one service's container."""
        found = self.services()
        assert service in found, f"no container of `{service}`; there are {sorted(found)}"
        return found[service]

    def logs(self, service: str = "", lines: int = 50) -> str:
        """The last lines that a service, or all of them, wrote."""
        names = [service] if service else []
        return self.compose("logs", "--no-color", "--tail", str(lines), *names, check=False)

    def ended(self) -> list[str]:
        """Services that ended although no test stopped them."""
        states = {name: document["State"] for name, document in self.services().items()}
        return [
            f"{name} ended with {state['ExitCode']}{' out of memory' if state['OOMKilled'] else ''}"
            for name, state in sorted(states.items())
            if not state["Running"] and name not in self._stopped
        ]

    def stop(self, service: str, seconds: int = 20) -> Ended:
        """Stops a service by its image's own signal; after `seconds` it is killed, which shows as exit code 137."""
        container = self.container(service)["Id"]
        self._stopped.add(service)
        start = time.monotonic()
        self.engine.docker("stop", f"--time={seconds}", container)
        took = time.monotonic() - start
        state = self.container(service)["State"]
        return Ended(state["ExitCode"], took, state["OOMKilled"])

    def start(self, service: str) -> None:
        """Starts a service that was stopped."""
        self._stopped.discard(service)
        self.engine.docker("start", self.container(service)["Id"])

    def execute(self, service: str, *command: str, check: bool = True) -> str:
        """Runs a command in a service's container and gives what it printed."""
        return self.engine.docker("exec", self.container(service)["Id"], *command, check=check)

    def connect(self, service: str, port: int, within: float = READY_SECONDS) -> socket.socket:
        """A connection to a port, made inside the service's network, as soon as somebody listens there."""
        end = time.monotonic() + within
        while True:
            state = self.container(service)["State"]
            if state["Running"] and state["Pid"]:
                try:
                    return connect_inside(state["Pid"], port)
                except OSError as error:
                    reason = str(error)
            else:
                reason = f"it has ended with {state['ExitCode']}"
            if time.monotonic() > end or not state["Running"]:
                raise AssertionError(f"`{service}` does not listen on port {port}: {reason}\n{self.logs(service)}")
            time.sleep(0.1)

    def http(self, service: str, port: int) -> HttpClient:
        """An HTTP client of a service."""
        return HttpClient(lambda: self.connect(service, port))

    def valkey(self, service: str, port: int = 6379) -> ValkeyClient:
        """A client of a service that speaks the Redis protocol."""
        return ValkeyClient(self.connect(service, port))

    def memcached(self, service: str, port: int = 11211) -> MemcachedClient:
        """A client of a service that speaks memcached's text protocol."""
        return MemcachedClient(self.connect(service, port))

    def evidence(self) -> Mapping[str, str]:
        """What there is to see of a failure: the containers' states and what they wrote."""
        states = {name: document["State"]["Status"] for name, document in self.services().items()}
        return {
            "containers": ", ".join(f"{name}: {state}" for name, state in sorted(states.items())),
            "logs": self.logs(),
        }


def connect_inside(pid: int, port: int, timeout: float = 5.0) -> socket.socket:
    """A connection to a port of loopback, in the network of a process.

    Raises:
        NotRun: when this process may not enter that network.
        OSError: when nothing listens there.
    """
    return in_network(pid, lambda: socket.create_connection(("127.0.0.1", port), timeout))


def in_network(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """Makes a socket in the network of a process. A thread enters it and ends; this one never leaves its own."""
    made: list[socket.socket] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with Path(f"/proc/{pid}/ns/net").open("rb") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET) != 0:
                    reason = os.strerror(ctypes.get_errno())
                    raise NotRun(f"the network of process {pid} can't be entered: {reason}; run as root")
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
