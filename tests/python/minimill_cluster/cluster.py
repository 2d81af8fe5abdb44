"""The cluster that plans are run in: whatever a kubeconfig names, or one that kind makes for it."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3
from kubernetes import client, config

from minimill_tests.errors import NotRun

ANSWER_SECONDS = 15
KIND_SECONDS = 600
USUAL_KUBECONFIG = "~/.kube/config"
#: What a call of the API fails with: an answer that says no, or none.
REFUSALS = (client.ApiException, urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers."""

    kubeconfig: Path
    context: str | None
    api: client.ApiClient
    #: What its server calls itself, such as `v1.37.0`.
    version: str


@contextlib.contextmanager
def opened(kubeconfig: Path | None, context: str | None, kind: bool, images: Iterable[str]) -> Iterator[Cluster]:
    """The cluster that is asked for; one that kind makes gets the images, and is removed at the end.

    Raises:
        NotRun: when there is none; the text says why.
    """
    if kind:
        with made_by_kind(images) as made:
            yield connect(made, None)
        return
    yield connect(kubeconfig or usual_kubeconfig(), context)


def usual_kubeconfig() -> Path:
    """The file that KUBECONFIG names, else the one in the user's home.

    Raises:
        NotRun: when there is none.
    """
    named = os.environ.get("KUBECONFIG", "")
    if os.pathsep in named:
        raise NotRun("no cluster: KUBECONFIG names several files; name one by --kubeconfig")
    path = Path(named or USUAL_KUBECONFIG).expanduser()
    if not path.is_file():
        raise NotRun(f"no cluster: no kubeconfig at {path}; name one by --kubeconfig, or let --kind make a cluster")
    return path


def connect(kubeconfig: Path, context: str | None) -> Cluster:
    """Connects to the cluster of a kubeconfig.

    Raises:
        NotRun: when it can't be read, or its server does not answer.
    """
    try:
        api = config.new_client_from_config(config_file=str(kubeconfig), context=context)
    except (config.ConfigException, OSError, ValueError) as error:
        raise NotRun(f"no cluster: {kubeconfig}: {error}") from error
    # Polls ask again by themselves; here a server that is away is to be told soon.
    api.rest_client.pool_manager.connection_pool_kw["retries"] = False
    try:
        version = client.VersionApi(api).get_code(_request_timeout=ANSWER_SECONDS).git_version
    except REFUSALS as error:
        raise NotRun(f"no cluster: {api.configuration.host} does not answer: {reason(error)}") from error
    return Cluster(kubeconfig, context, api, str(version))


def reason(error: BaseException) -> str:
    """Why a call failed, in one line: the server's own words where it has any."""
    if isinstance(error, client.ApiException) and error.status:
        body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
        return f"{error.status} {error.reason}: {' '.join(body.split()):.300}"
    return " ".join(str(error).split())[:300]


@contextlib.contextmanager
def made_by_kind(images: Iterable[str]) -> Iterator[Path]:
    """A cluster that kind makes, by its kubeconfig, with images on its nodes, which can't reach a registry on this
    machine's loopback; removed at the end.

    Raises:
        NotRun: when kind is not installed, or can't make one.
    """
    program = shutil.which("kind")
    if program is None:
        raise NotRun("no cluster: no `kind` in PATH; install it, or name a cluster by --kubeconfig")
    name = f"minimill-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="minimill-kind-") as folder:
        path = Path(folder) / "kubeconfig"
        common = ["--name", name, "--kubeconfig", str(path)]
        try:
            done = run([program, "create", "cluster", *common, "--wait", "300s"])
            if done.returncode != 0:
                raise NotRun(f"no cluster: kind made none: {last_line(done)}")
            for image in sorted(images):
                for command in (["docker", "pull", image], [program, "load", "docker-image", image, "--name", name]):
                    done = run(command)
                    if done.returncode != 0:
                        raise NotRun(f"no cluster: `{' '.join(command)}` failed: {last_line(done)}")
            yield path
        finally:
            run([program, "delete", "cluster", *common])


def last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last thing that a program said, else its exit code."""
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Runs a program; one that is not there, or takes too long, counts as failed."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C is ours to answer: what was made is removed afterwards.
            start_new_session=True,
            timeout=KIND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, 1, (error.stdout or b"") + b"\nit took too long")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, str(error).encode())
