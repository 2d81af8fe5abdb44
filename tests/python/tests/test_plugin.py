"""The plugin, in sessions of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import RealRegistry

PACKAGE = Path(__file__).parent.parent
SUITE = """
from minimill_tests.stack import Stack

def test_something(stack: Stack) -> None:
    "It is something."
"""


def work(folder: Path, *arguments: str, path: str | None = None) -> tuple[int, dict[str, Any], str]:
    """Runs the command; gives its exit code, the results it wrote, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTEST_ADDOPTS": ""} | ({"PATH": path} if path else {})
    environment.pop("DOCKER_HOST", None)
    temporary = folder.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    environment["TMPDIR"] = str(temporary)
    command = [sys.executable, "-m", "minimill_tests", "--results=results.json", "--junitxml=junit.xml", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert not list(temporary.iterdir()), "something was left behind"
    results = folder / "results.json"
    return done.returncode, json.loads(results.read_text()) if results.exists() else {}, done.stdout + done.stderr


def checks(document: dict[str, Any]) -> list[tuple[str | None, str, str]]:
    """Substituted image, id and status of every check."""
    found = []
    for run in document["runs"]:
        chosen = next((f"{image['name']}:{image['tag']}" for image in run["images"] if image["substituted"]), None)
        found += [(chosen, check["id"], check["status"]) for check in run["checks"]]
    return found


def test_a_test_of_an_image_runs_for_every_tag_and_tells_how_each_went(registry: RealRegistry, folder: Path) -> None:
    digest = registry.push("plugin", "1.0", "1.1", "latest")
    text = """
import pytest
from minimill_tests.images import TaggedImage

@pytest.mark.image("plugin")
def test_the_tag(image: TaggedImage) -> None:
    "It is the right one."
    assert image.tag != "1.1", "1.1 is bad"

@pytest.mark.image("plugin")
@pytest.mark.parametrize("number", [1, 2])
def test_more(image: TaggedImage, number: int) -> None:
    if image.tag == "latest" and number == 2:
        pytest.skip("there is no second")
"""
    (folder / "test_image.py").write_text(text, encoding="utf-8")
    code, document, output = work(folder, f"--registry={registry.address}", ".")
    assert code == 1, output
    assert checks(document) == [
        *[("plugin:1.0", f"client/web/{name}", "passed") for name in ("the-tag", "more[1]", "more[2]")],
        ("plugin:1.1", "client/web/the-tag", "failed"),
        *[("plugin:1.1", f"client/web/{name}", "passed") for name in ("more[1]", "more[2]")],
        ("plugin:latest", "client/web/the-tag", "passed"),
        ("plugin:latest", "client/web/more[1]", "passed"),
        ("plugin:latest", "client/web/more[2]", "not-applicable"),
    ], output
    run = document["runs"][1]
    assert run["images"][0]["digest"] == digest
    failed = run["checks"][0]
    assert failed["message"] == "1.1 is bad"
    assert "failed in call" in failed["evidence"][0]
    assert document["runs"][0]["checks"][0]["message"] == "It is the right one."
    assert document["runs"][2]["checks"][2]["message"] == "there is no second"
    assert 'failures="1"' in (folder / "junit.xml").read_text()

    code, document, _ = work(folder, f"--registry={registry.address}", "--candidate=plugin=1.0", ".")
    assert code == 0 and {check[0] for check in checks(document)} == {"plugin:1.0"}
    code, document, _ = work(folder, f"--registry={registry.address}", "--tags=distinct", "--candidate=other=1", ".")
    assert {check[2] for check in checks(document)} == {"not-applicable"}


def test_a_retry_is_seen_in_the_results(registry: RealRegistry, folder: Path) -> None:
    registry.push("plugin", "1.0", "1.1", "latest")
    text = """
import pathlib
import pytest

@pytest.mark.image("plugin")
def test_at_the_second_try(image) -> None:
    path = pathlib.Path("tried")
    assert path.exists() or path.write_text("") is None, "the first try"
"""
    (folder / "test_image.py").write_text(text, encoding="utf-8")
    arguments = [f"--registry={registry.address}", "--candidate=plugin=1.0", "."]
    code, document, output = work(folder, "--reruns=1", *arguments)
    assert code == 0, output
    (check,) = document["runs"][0]["checks"]
    assert check["status"] == "passed"
    assert [text.splitlines()[:2] for text in check["evidence"]] == [
        ["an attempt failed and was retried:", "call: the first try"]
    ]


@pytest.mark.parametrize("file", ["compose.yaml", "Dockerfile"])
def test_without_docker_nothing_is_run_and_nothing_passes(registry: RealRegistry, folder: Path, file: str) -> None:
    registry.push("plugin", "1.0", "1.1", "latest")
    text = {
        "compose.yaml": "services: {a: {image: '${REGISTRY}/plugin:${VERSION}'}}",
        "Dockerfile": "ARG REGISTRY\nARG VERSION\nFROM ${REGISTRY}/plugin:${VERSION}\n",
    }
    (folder / file).write_text(text[file], encoding="utf-8")
    (folder / "test_web.py").write_text(SUITE, encoding="utf-8")
    (folder / "bin").mkdir()
    code, document, output = work(folder, f"--registry={registry.address}", ".", path=str(folder / "bin"))
    assert code == 3, output
    tags = ["plugin:1.0", "plugin:1.1", "plugin:latest"]
    assert checks(document) == [(tag, "compose/web/something", "not-run") for tag in tags]
    message = document["runs"][0]["checks"][0]["message"]
    assert message == "docker can't be started: no `docker`; install Debian's docker.io"
    assert f"not run: {message} (3 checks)" in output


def test_an_image_for_other_platforms_is_not_applicable(registry: RealRegistry, folder: Path) -> None:
    registry.push_index("other", "1", "linux/s390x", "linux/ppc64le")
    (folder / "compose.yaml").write_text("services: {a: {image: '${REGISTRY}/other:${VERSION}'}}", encoding="utf-8")
    (folder / "test_web.py").write_text(SUITE, encoding="utf-8")
    arguments = [f"--registry={registry.address}", "--platform=linux/amd64", "--candidate=other=1", "."]
    code, document, output = work(folder, *arguments)
    assert code == 0, output
    assert checks(document) == [("other:1", "compose/web/something", "not-applicable")]
    message = document["runs"][0]["checks"][0]["message"]
    assert message == "other:1 is not for linux/amd64, but for linux/ppc64le, linux/s390x"


def test_without_a_registry_or_an_image_nothing_is_run(registry: RealRegistry, folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {a: {image: '${REGISTRY}/absent:${VERSION}'}}", encoding="utf-8")
    (folder / "test_web.py").write_text(SUITE, encoding="utf-8")
    for arguments, told in {
        (): "no images: name a registry by --registry",
        ("--mill=mill", "--home=absent"): "no images: `absent` is no home",
        (f"--registry={registry.address}",): "status 404",
    }.items():
        code, document, output = work(folder, *arguments, ".")
        assert code == 3, output
        assert checks(document) == [(None, "compose/web/something", "not-run")]
        assert told in document["runs"][0]["checks"][0]["message"]


def test_bad_suites_and_arguments_are_usage_errors(registry: RealRegistry, folder: Path) -> None:
    (folder / "test_web.py").write_text(SUITE, encoding="utf-8")
    code, _, output = work(folder, f"--registry={registry.address}", ".")
    assert code == 2 and "needs a `compose.yaml` or `Dockerfile`" in output
    (folder / "compose.yaml").write_text("services: {a: {image: '${REGISTRY}/x:1${V}'}}", encoding="utf-8")
    code, _, output = work(folder, f"--registry={registry.address}", ".")
    assert code == 2 and "the whole tag must be one variable" in output
    (folder / "compose.yaml").write_text("services: {a: {image: '${REGISTRY}/x:${V}'}}", encoding="utf-8")
    code, _, output = work(folder, f"--registry={registry.address}", "--candidate=x", ".")
    assert code == 2 and "expected NAME=TAG" in output


def test_results_replace_a_file_as_a_whole(folder: Path) -> None:
    (folder / "test_plain.py").write_text("def test_plain(): pass\n", encoding="utf-8")
    (folder / "results.json").write_text("x" * 10_000, encoding="utf-8")
    code, document, _ = work(folder, ".")
    assert code == 0
    assert document["format"] == "minimill-tests/1" and document["runs"] == []
    assert sorted(path.name for path in folder.iterdir()) == ["junit.xml", "results.json", "test_plain.py"]
