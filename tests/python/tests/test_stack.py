"""Suites on a real engine: Debian's docker, with images out of its static busybox."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RealRegistry
from test_plugin import PACKAGE, SUITE, checks, work

from minimill_tests.engine import Engine, mounts_below, open_engine
from minimill_tests.errors import NotRun

BUSYBOX = Path("/bin/busybox")
HEADER = "from minimill_tests.stack import Stack\n"


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    """A daemon, for all tests here and the sessions that they start."""
    try:
        engine = open_engine("auto")
    except NotRun as reason:
        pytest.skip(f"not run: {reason}")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tool(docker: Engine, registry: RealRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with a shell, under the tags 1.0 and 1.1, each of which says its version."""
    if not BUSYBOX.exists():
        pytest.skip("not run: no static busybox; `infra/setup/debian.sh test` installs it")
    for version in ("1.0", "1.1"):
        context = tmp_path_factory.mktemp("tool")
        shutil.copy(BUSYBOX, context / "busybox")
        (context / "version").write_text(version, encoding="utf-8")
        (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/busybox\nCOPY version /version\n")
        name = f"{registry.address}/tool:{version}"
        docker.docker("build", "--network=none", f"--tag={name}", str(context))
        docker.docker("push", name)
        docker.docker("image", "rm", name)
    return "tool"


def suite(folder: Path, docker: Engine, registry: RealRegistry, test: str, *more: str) -> list[str]:
    """Writes a suite's test and gives the arguments to run it with."""
    (folder / "test_web.py").write_text(HEADER + test, encoding="utf-8")
    return [f"--registry={registry.address}", f"--docker={docker.host}", *more, "."]


def service(folder: Path, script: str) -> None:
    """Writes a Compose file with one service, `main`, that runs a script of the shell."""
    command = ["sh", "-c", script]
    text = (
        "services: {main: {image: '${REGISTRY}/tool:${VERSION:-1.0}', network_mode: none, "
        f"volumes: ['data:/data'], entrypoint: [/bin/busybox], command: {command!r}}}}}\nvolumes: {{data: {{}}}}\n"
    )
    (folder / "compose.yaml").write_text(text, encoding="utf-8")


def left(docker: Engine) -> str:
    """Containers and volumes that the daemon still has."""
    return (docker.docker("ps", "--all", "--quiet") + docker.docker("volume", "ls", "--quiet")).strip()


@pytest.mark.usefixtures("tool")
def test_every_tag_is_substituted_in_a_dockerfile(folder: Path, docker: Engine, registry: RealRegistry) -> None:
    text = (
        "ARG REGISTRY\nARG VERSION=1.0\nFROM ${REGISTRY}/tool:${VERSION}\n"
        'ENTRYPOINT ["/bin/busybox", "nc", "-ll", "-p", "7", "-e", "/bin/busybox", "cat", "/version"]\n'
    )
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    test = """
def test_the_version(stack: Stack) -> None:
    with stack.connect("main", 7) as connection:
        assert connection.recv(100).decode() == stack.image("tool").tag
"""
    code, document, output = work(folder, *suite(folder, docker, registry, test))
    assert code == 0, output
    name = "compose/web/the-version"
    assert checks(document) == [("tool:1.0", name, "passed"), ("tool:1.1", name, "passed")]
    assert left(docker) == ""


@pytest.mark.usefixtures("tool")
def test_a_tag_that_has_moved_is_pulled_again(folder: Path, docker: Engine, registry: RealRegistry) -> None:
    moving = f"{registry.address}/tool:moving"
    for version in ("1.0", "1.1"):
        source = f"{registry.address}/tool:{version}"
        docker.docker("pull", "--quiet", source)
        docker.docker("tag", source, moving)
        docker.docker("push", "--quiet", moving)
    # What the engine has under the tag is not what the registry has.
    docker.docker("tag", f"{registry.address}/tool:1.0", moving)
    service(folder, "while :; do nc -l -p 7 -e cat /version; done")
    test = """
def test_the_version(stack: Stack) -> None:
    with stack.connect("main", 7) as connection:
        assert connection.recv(100) == b"1.1"
"""
    code, document, output = work(folder, *suite(folder, docker, registry, test, "--candidate=tool=moving"))
    assert code == 0, output
    (image,) = document["runs"][0]["images"]
    found = docker.docker("image", "inspect", '--format={{join .RepoDigests " "}}', moving)
    assert image["digest"] in found
    assert (document["platform"].split("/")[0], document["emulated"]) == ("linux", False)


@pytest.mark.usefixtures("tool")
def test_a_service_that_ends_by_itself_fails_its_tests(folder: Path, docker: Engine, registry: RealRegistry) -> None:
    service(folder, "echo out of luck; exit 3")
    test = """
import time
def test_nothing(stack: Stack) -> None:
    while stack.container("main")["State"]["Running"]:
        time.sleep(0.05)
"""
    code, document, output = work(folder, *suite(folder, docker, registry, test, "--candidate=tool=1.0"))
    assert code == 1, output
    (check,) = document["runs"][0]["checks"]
    assert check["status"] == "failed"
    assert check["message"] == "services ended during the tests: main ended with 3"
    assert any("out of luck" in text for text in check["evidence"])
    assert left(docker) == ""


@pytest.mark.usefixtures("tool")
def test_a_port_that_nobody_listens_on_fails_with_what_the_service_wrote(
    folder: Path, docker: Engine, registry: RealRegistry
) -> None:
    service(folder, "echo still loading; exec sleep 600")
    test = """
def test_it_listens(stack: Stack) -> None:
    stack.connect("main", 80, within=0.5)

def test_it_hangs_when_stopped(stack: Stack) -> None:
    assert stack.stop("main", seconds=1).exit_code == 0
"""
    code, document, output = work(folder, *suite(folder, docker, registry, test, "--candidate=tool=1.1"))
    assert code == 1, output
    listens, hangs = document["runs"][0]["checks"]
    assert listens["message"].startswith("`main` does not listen on port 80: [Errno 111]")
    assert any("still loading" in text for text in listens["evidence"])
    assert hangs["status"] == "failed" and "137" in hangs["message"]


@pytest.mark.usefixtures("tool")
def test_a_suite_that_is_told_to_end_leaves_nothing_behind(folder: Path, registry: RealRegistry) -> None:
    service(folder, "exec sleep 600")
    test = """
import pathlib, time
def test_for_ever(stack: Stack) -> None:
    pathlib.Path("socket").write_text(stack.engine.host)
    time.sleep(600)
"""
    (folder / "test_web.py").write_text(HEADER + test, encoding="utf-8")
    arguments = [f"--registry={registry.address}", "--docker=private", "."]
    process = subprocess.Popen(
        [sys.executable, "-m", "minimill_tests", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    mark = folder / "socket"
    end = time.monotonic() + 90
    while not (mark.exists() and mark.read_text()):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.1)
    scratch = Path(mark.read_text().removeprefix("unix://")).parent
    daemon = int((scratch / "pid").read_text())
    assert scratch.is_dir() and mounts_below(scratch)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert not scratch.exists() and not mounts_below(scratch), output
    assert not Path(f"/proc/{daemon}").exists(), output


def test_an_engine_that_does_not_answer_is_not_run(folder: Path, registry: RealRegistry) -> None:
    registry.push("plugin", "1.0")
    (folder / "compose.yaml").write_text("services: {a: {image: '${REGISTRY}/plugin:${VERSION}'}}", encoding="utf-8")
    (folder / "test_web.py").write_text(SUITE, encoding="utf-8")
    for engine, told in {"unix:///absent": "docker can't be used", "tcp://127.0.0.1:1": "is no local socket"}.items():
        code, document, output = work(folder, f"--registry={registry.address}", f"--docker={engine}", ".")
        assert code == 3, output
        assert {check[2] for check in checks(document)} == {"not-run"}
        assert told in document["runs"][0]["checks"][0]["message"]
