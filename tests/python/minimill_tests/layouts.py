"""OCI layouts, served as a registry on loopback that can only be read: images that are not published yet."""

import http.server
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimill_tests.errors import SuiteError
from minimill_tests.images import DIGEST, NAME, REFERRERS, TAG, checked_name

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
MAXIMUM_DOCUMENT_BYTES = 4 << 20
PIECE_BYTES = 1 << 20
PATH = re.compile(rf"/v2/(?P<name>{NAME.pattern})/(?P<kind>manifests|blobs|tags)/(?P<reference>[^/]+)")


@dataclass(frozen=True)
class Layout:
    """A folder in the OCI image layout."""

    folder: Path
    #: Digests by tag.
    tags: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Layout":
        """Reads a layout.

        Raises:
            SuiteError: when it is none.
        """
        path = folder / "index.json"
        try:
            if path.stat().st_size > MAXIMUM_DOCUMENT_BYTES:
                raise SuiteError(f"{path}: larger than {MAXIMUM_DOCUMENT_BYTES} bytes")
            manifests = json.loads(path.read_bytes())["manifests"]
            entries = [(entry.get("annotations", {}).get(REF_NAME), entry["digest"]) for entry in manifests]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SuiteError(f"{folder} is no OCI layout: {error}; `mill image build --output` writes one") from error
        tags = {str(tag): str(digest) for tag, digest in entries if tag is not None}
        for tag, digest in tags.items():
            if not TAG.fullmatch(tag) or not DIGEST.fullmatch(digest):
                raise SuiteError(f"{path}: `{tag}` names `{digest}`; expected a tag and `sha256:HEX`")
        return cls(folder, tags)

    def blob(self, digest: str) -> Path | None:
        """The file of a digest, if the layout has it."""
        path = self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
        return path if DIGEST.fullmatch(digest) and path.is_file() else None


def home_layouts(folder: Path) -> dict[str, list[Layout]]:
    """The layouts of a home's `registry` folder, by their images' names.

    Raises:
        SuiteError: when one is none.
    """
    found = sorted(path.parent for path in folder.rglob("oci-layout"))
    return {checked_name(str(path.relative_to(folder))): [Layout.read(path)] for path in found}


def candidates(texts: Iterable[str]) -> dict[str, Layout]:
    """Layouts out of `NAME=FOLDER`.

    Raises:
        SuiteError: when a text is none, or its folder no layout with a tag.
    """
    found = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        if not separator or not folder:
            raise SuiteError(f"--layout `{text}`: expected NAME=FOLDER")
        layout = Layout.read(Path(folder))
        if not layout.tags:
            raise SuiteError(f"--layout `{text}`: the layout has no tag ({REF_NAME})")
        found[checked_name(name)] = layout
    return found


class LayoutServer:
    """A registry over layouts; where an image has several, a tag is that of the first layout that has it."""

    def __init__(self, layouts: Mapping[str, list[Layout]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.close_connection = not serve(self, layouts)

            do_GET = do_HEAD = answer

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        #: `HOST:PORT`.
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()


def serve(request: http.server.BaseHTTPRequestHandler, layouts: Mapping[str, list[Layout]]) -> bool:
    """Answers a request of the distribution specification's pull category; tells whether all was sent."""
    path = request.path.partition("?")[0]
    if path in ("/v2", "/v2/"):
        return send(request, 200, b"{}", {"Content-Type": "application/json"})
    match = PATH.fullmatch(path)
    found = layouts.get(match["name"]) if match else None
    if match is None or found is None:
        return refuse(request, "NAME_UNKNOWN")
    if match["kind"] == "tags":
        tags = sorted({tag for layout in found for tag in layout.tags if not REFERRERS.fullmatch(tag)})
        body = json.dumps({"name": match["name"], "tags": tags}).encode()
        return send(request, 200, body, {"Content-Type": "application/json"})
    digest = match["reference"]
    if match["kind"] == "manifests":
        digest = next((layout.tags[digest] for layout in found if digest in layout.tags), digest)
    blob = next((blob for layout in found if (blob := layout.blob(digest))), None)
    if blob is None:
        return refuse(request, "MANIFEST_UNKNOWN" if match["kind"] == "manifests" else "BLOB_UNKNOWN")
    headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
    if match["kind"] == "manifests":
        kind = media_type(blob)
        if kind is None:
            return refuse(request, "MANIFEST_INVALID")
        headers["Content-Type"] = kind
    return send(request, 200, blob, headers)


def media_type(path: Path) -> str | None:
    """What kind of manifest a file is, by its own word or by its keys; none when it is no manifest."""
    if path.stat().st_size > MAXIMUM_DOCUMENT_BYTES:
        return None
    try:
        document: Any = json.loads(path.read_bytes())
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    return str(document.get("mediaType") or (INDEX_TYPE if "manifests" in document else MANIFEST_TYPE))


def refuse(request: http.server.BaseHTTPRequestHandler, code: str) -> bool:
    """Answers that there is no such thing."""
    body = json.dumps({"errors": [{"code": code, "message": request.path}]}).encode()
    return send(request, 404, body, {"Content-Type": "application/json"})


def send(
    request: http.server.BaseHTTPRequestHandler, status: int, content: bytes | Path, headers: Mapping[str, str]
) -> bool:
    """Sends an answer; tells whether all of it went."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(size)}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "HEAD":
        return True
    try:
        if isinstance(content, bytes):
            request.wfile.write(content)
            return True
        with content.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                request.wfile.write(piece)
    except OSError:
        return False
    return True
