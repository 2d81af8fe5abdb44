"""Images out of OCI layouts."""

import hashlib
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from test_plugin import checks, work

from minimill_tests.errors import NotRun, SuiteError
from minimill_tests.images import Registry
from minimill_tests.layouts import Layout, LayoutServer, candidates, home_layouts


def write(folder: Path, **tags: str) -> dict[str, str]:
    """Writes a layout in which each tag names a manifest with a word in it; gives the digests."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    digests: dict[str, str] = {}
    for tag, word in tags.items():
        body = json.dumps({"schemaVersion": 2, "config": {}, "layers": [], "annotations": {"word": word}}).encode()
        hexadecimal = hashlib.sha256(body).hexdigest()
        (blobs / hexadecimal).write_bytes(body)
        digests[tag] = f"sha256:{hexadecimal}"
    entries: list[dict[str, Any]] = [
        {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": tag}} for tag, digest in digests.items()
    ]
    entries.append({"digest": "sha256:" + "0" * 64})
    (folder / "index.json").write_text(json.dumps({"manifests": entries}), encoding="utf-8")
    return digests


def test_a_home_is_served_with_a_candidate_in_front(tmp_path: Path) -> None:
    home, new = tmp_path / "registry", tmp_path / "new"
    published = write(home / "valkey", v1="one", latest="one")
    write(home / "team" / "nginx", latest="other")
    made = write(new, latest="two")
    layouts = home_layouts(home)
    assert sorted(layouts) == ["team/nginx", "valkey"]
    layouts["valkey"].insert(0, candidates([f"valkey={new}"])["valkey"])
    server = LayoutServer(layouts)
    try:
        source = Registry(server.address)
        assert source.tags("valkey") == ["v1", "latest"]
        assert source.image("valkey", "latest").digest == made["latest"]
        assert source.image("valkey", "v1").digest == published["v1"]
        assert source.tags("team/nginx") == ["latest"]
        for digest in (made["latest"], published["v1"]):
            kind, body = ask(server, f"/v2/valkey/blobs/{digest}")
            assert kind == "application/octet-stream" and "sha256:" + hashlib.sha256(body).hexdigest() == digest
            assert ask(server, f"/v2/valkey/manifests/{digest}")[0] == "application/vnd.oci.image.manifest.v1+json"
        with pytest.raises(NotRun, match="status 404"):
            source.tags("absent")
    finally:
        server.close()


def ask(server: LayoutServer, path: str, method: str = "GET") -> tuple[str | None, bytes]:
    """The content type and body of an answer; the status as the type where it is not 200."""
    connection = http.client.HTTPConnection(server.address, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return (answer.headers["Content-Type"] if answer.status == 200 else str(answer.status)), body


def test_nothing_but_content_of_the_layouts_is_served(tmp_path: Path) -> None:
    write(tmp_path / "registry" / "valkey", latest="one")
    (tmp_path / "registry" / "valkey" / "blobs" / "sha256" / "secret").write_text("secret", encoding="utf-8")
    server = LayoutServer(home_layouts(tmp_path / "registry"))
    try:
        for path in [
            "/",
            "/v2/valkey/index.json",
            "/v2/valkey/blobs/secret",
            "/v2/valkey/blobs/sha256:secret",
            "/v2/valkey/blobs/..%2f..%2findex.json",
            "/v2/valkey/blobs/../../index.json",
            "/v2/../valkey/manifests/latest",
            "/v2/valkey/manifests/absent",
            f"/v2/valkey/blobs/sha256:{'1' * 64}",
        ]:
            kind, body = ask(server, path)
            assert kind == "404" and b"secret\n" not in body, path
        assert ask(server, "/v2/valkey/tags/list", "POST")[0] == "501"
    finally:
        server.close()


@pytest.mark.parametrize(
    "index", ["{", "[]", '{"manifests": [{}]}', '{"manifests": {"a": 1}}', '{"manifests": [1]}', '{"a": []}']
)
def test_folders_that_are_no_layout_are_told(tmp_path: Path, index: str) -> None:
    (tmp_path / "index.json").write_text(index, encoding="utf-8")
    with pytest.raises(SuiteError, match="is no OCI layout"):
        Layout.read(tmp_path)


def test_bad_tags_and_arguments_are_told(tmp_path: Path) -> None:
    write(tmp_path / "empty")
    entry = {"digest": "sha256:../..", "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "index.json").write_text(json.dumps({"manifests": [entry]}), encoding="utf-8")
    for text, told in {
        "valkey": "expected NAME=FOLDER",
        f"valkey={tmp_path / 'empty'}": "has no tag",
        f"valkey={tmp_path / 'bad'}": "expected a tag and `sha256:HEX`",
        f"valkey={tmp_path / 'absent'}": "is no OCI layout",
    }.items():
        with pytest.raises(SuiteError, match=told):
            candidates([text])


def test_the_command_runs_only_the_candidates_tags(tmp_path: Path, folder: Path) -> None:
    write(tmp_path / "registry" / "valkey", v1="one", latest="one")
    made = write(tmp_path / "new", latest="two", next="three")
    text = """
import pytest

@pytest.mark.image("valkey")
def test_it(image) -> None:
    assert image.tag

@pytest.mark.image("nginx")
def test_other(image) -> None:
    assert image.tag
"""
    (folder / "test_image.py").write_text(text, encoding="utf-8")
    arguments = [f"--layouts={tmp_path / 'registry'}", "."]
    code, document, output = work(folder, f"--layout=valkey={tmp_path / 'new'}", *arguments)
    assert code == 0, output
    assert checks(document) == [(f"valkey:{tag}", "client/web/it", "passed") for tag in ("next", "latest")] + [
        (None, "client/web/other", "not-applicable")
    ]
    assert [run["images"][0]["digest"] for run in document["runs"][:2]] == [made["next"], made["latest"]]
    code, _, output = work(folder, "--layout=valkey", *arguments)
    assert code == 2 and "expected NAME=FOLDER" in output
