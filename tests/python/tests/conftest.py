"""What the tests of this package share."""

import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RealRegistry:
    """Debian's docker-registry."""

    def __init__(self, address: str) -> None:
        self.address = address

    def _send(self, method: str, path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (201, 202), f"{method} {path}: {answer.status}"
        return answer

    def _blob(self, name: str, content: bytes) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        place = self._send("POST", f"/v2/{name}/blobs/uploads/", b"", "application/octet-stream").headers["Location"]
        path = place.removeprefix(f"http://{self.address}")
        joint = "&" if "?" in path else "?"
        self._send("PUT", f"{path}{joint}digest={digest}", content, "application/octet-stream")
        return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(content)}

    def push(self, name: str, *tags: str, content: str = "") -> str:
        """Pushes an image without layers under some tags and gives its digest."""
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
        descriptor = self._blob(name, json.dumps(config | {"author": content}).encode())
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": descriptor, "layers": []}).encode()
        for tag in tags:
            self._send("PUT", f"/v2/{name}/manifests/{tag}", manifest, kind)
        return "sha256:" + hashlib.sha256(manifest).hexdigest()

    def push_index(self, name: str, tag: str, *platforms: str) -> None:
        """Pushes an index of one image under several platforms."""
        digest = self.push(name, "platform")
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
        manifests = []
        for platform in platforms:
            system, architecture = platform.split("/")
            manifests.append(entry | {"platform": {"os": system, "architecture": architecture}})
        kind = "application/vnd.oci.image.index.v1+json"
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()
        self._send("PUT", f"/v2/{name}/manifests/{tag}", body, kind)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry on loopback, empty at first."""
    if shutil.which("docker-registry") is None:
        pytest.skip("not run: no docker-registry; `infra/setup/debian.sh test` installs it")
    folder = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        command = ["docker-registry", "serve", str(folder / "registry.yml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), 1).close()
                break
            except OSError:
                assert time.monotonic() < end and process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield RealRegistry(address)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a suite."""
    made = tmp_path / "web"
    made.mkdir()
    return made
