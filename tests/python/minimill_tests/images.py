"""Which tags of an image there are, from a registry or a file."""

import http.client
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit

from minimill_tests.errors import NotRun, SuiteError

MAXIMUM_ANSWER_BYTES = 4 << 20
MAXIMUM_PAGES = 200
TIMEOUT_SECONDS = 30
# The distribution specification's grammars.
NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# Tags that stand for what refers to a digest: the fallback of OCI 1.1, and cosign's older names.
REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(?:\.[a-z]+)?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True)
class TaggedImage:
    """An image under one of its tags."""

    name: str
    tag: str
    #: `sha256:HEX` of what the tag names; none when the source doesn't say.
    digest: str | None
    #: What a container engine pulls: `REGISTRY/NAME:TAG`.
    reference: str


class Source(Protocol):
    """Where tags are listed."""

    #: `HOST:PORT` that images are pulled from; none when there is no registry.
    registry: str | None

    def tags(self, name: str) -> list[str]:
        """All tags of an image that name an image, the newest version last."""

    def image(self, name: str, tag: str) -> TaggedImage:
        """The image under a tag."""

    def platforms(self, image: TaggedImage) -> frozenset[str] | None:
        """What an image is made for, such as `linux/arm64`; none when the source doesn't say."""


def version_key(tag: str) -> tuple[tuple[int, int, str], ...]:
    """Orders tags as versions: numbers by their value, before words; `latest` is after all."""
    parts = re.findall(r"\d+|[A-Za-z]+", tag)
    key = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return ((2, 0, ""),) if tag == "latest" else key


def checked_name(name: str) -> str:
    """The name, when it is one.

    Raises:
        SuiteError: when it is none.
    """
    if not NAME.fullmatch(name):
        raise SuiteError(f"`{name}` is no name of an image; a registry's names are lower-case words between `/`")
    return name


class Registry:
    """An OCI registry over plain HTTP, as `mill serve` and a test's docker-registry are."""

    def __init__(self, address: str) -> None:
        self.registry: str | None = address
        self._address = address
        self._tags: dict[str, list[str]] = {}
        self._images: dict[tuple[str, str], TaggedImage] = {}

    def tags(self, name: str) -> list[str]:
        if name not in self._tags:
            self._tags[name] = self._list(checked_name(name))
        return self._tags[name]

    def image(self, name: str, tag: str) -> TaggedImage:
        key = (name, tag)
        if key not in self._images:
            path = f"/v2/{checked_name(name)}/manifests/{tag}"
            _, headers = self._ask("HEAD", path, {"Accept": ", ".join(INDEX_TYPES)})
            digest = headers.get("Docker-Content-Digest")
            if digest is not None and not DIGEST.fullmatch(digest):
                raise NotRun(f"the registry {self._address} gives `{digest}` as the digest of {name}:{tag}")
            self._images[key] = TaggedImage(name, tag, digest, f"{self._address}/{name}:{tag}")
        return self._images[key]

    def platforms(self, image: TaggedImage) -> frozenset[str] | None:
        path = f"/v2/{checked_name(image.name)}/manifests/{image.digest or image.tag}"
        body, _ = self._ask("GET", path, {"Accept": ", ".join(INDEX_TYPES)})
        return index_platforms(body)

    def _list(self, name: str) -> list[str]:
        found: set[str] = set()
        query: str | None = urlencode({"n": 100})
        for _ in range(MAXIMUM_PAGES):
            body, headers = self._ask("GET", f"/v2/{name}/tags/list?{query}", {})
            found.update(tag for tag in listed(body, self._address) if not REFERRERS.fullmatch(tag))
            query = next_page(headers.get("Link"))
            if query is None:
                return sorted(found, key=version_key)
        raise NotRun(f"the registry {self._address} lists the tags of {name} on more than {MAXIMUM_PAGES} pages")

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read(MAXIMUM_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotRun(f"the registry {self._address} can't be asked: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise NotRun(f"the registry {self._address} answers {method} {path} with status {answer.status}")
        if len(body) > MAXIMUM_ANSWER_BYTES:
            raise NotRun(f"the registry {self._address} answers {path} with more than {MAXIMUM_ANSWER_BYTES} bytes")
        return body, answer.headers


def listed(body: bytes, place: str) -> list[str]:
    """The tags of a tags list.

    Raises:
        NotRun: when the bytes are none.
    """
    try:
        document = json.loads(body)
        tags = document["tags"] or []
        if not all(isinstance(tag, str) and TAG.fullmatch(tag) for tag in tags):
            raise ValueError("an entry is no tag")
    except (ValueError, KeyError, TypeError) as error:
        raise NotRun(f"{place} gave no list of tags: {error}") from error
    return list(tags)


def index_platforms(body: bytes) -> frozenset[str] | None:
    """The platforms of an image index; none for other manifests, which don't say."""
    try:
        entries = json.loads(body)["manifests"]
        found = [entry.get("platform", {}) for entry in entries]
        return frozenset(
            f"{platform['os']}/{platform['architecture']}" for platform in found if "architecture" in platform
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def next_page(link: str | None) -> str | None:
    """The query of the next page, from a `Link` header; only `n` and `last` are followed, on the same path."""
    match = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', link or "")
    if match is None:
        return None
    wanted = parse_qs(urlsplit(match.group(1)).query)
    return urlencode([(key, wanted[key][0]) for key in ("n", "last") if key in wanted])


class ImageFile:
    """Tags from a JSON file: what `mill --format json image list` prints, or `{"NAME": ["TAG", ...]}`."""

    def __init__(self, path: Path, registry: str | None) -> None:
        self.registry = registry
        self._path = path
        self._digests = read_images(path)

    def tags(self, name: str) -> list[str]:
        if name not in self._digests:
            raise NotRun(f"{self._path} names no image `{name}`")
        return sorted(self._digests[name], key=version_key)

    def image(self, name: str, tag: str) -> TaggedImage:
        digests = self._digests.get(name, {})
        if tag not in digests:
            raise NotRun(f"{self._path} names no image `{name}:{tag}`")
        return TaggedImage(name, tag, digests[tag], f"{self.registry or ''}/{name}:{tag}".lstrip("/"))

    def platforms(self, image: TaggedImage) -> frozenset[str] | None:
        return None if self.registry is None else Registry(self.registry).platforms(image)


def read_images(path: Path) -> dict[str, dict[str, str | None]]:
    """Digests by image and tag, of a file for [`ImageFile`].

    Raises:
        SuiteError: when the file can't be read or is neither.
    """
    shape = 'what `mill --format json image list` prints, or {"NAME": ["TAG", ...]}'
    try:
        document: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path}: {error}; expected {shape}") from error
    images: dict[str, dict[str, str | None]] = {}
    try:
        if isinstance(document, Mapping):
            for name, tags in document.items():
                images[checked_name(name)] = {tag: None for tag in tags if TAG.fullmatch(tag)}
        else:
            # The list is in the order of publication: what a later entry says of a tag is so now.
            for row in document:
                rows = images.setdefault(checked_name(row["name"]), {})
                for tag in [row.get("timestamp_tag"), *row["tags"]]:
                    if tag is not None and TAG.fullmatch(tag):
                        rows[tag] = row["digest"]
    except (KeyError, TypeError, AttributeError) as error:
        raise SuiteError(f"{path}: an entry lacks {error}; expected {shape}") from error
    return images


def distinct(source: Source, name: str, tags: Sequence[str]) -> list[str]:
    """One tag for each digest: the one that says most, so a full version before a stream. Kept in order."""
    chosen: dict[str, str] = {}
    for tag in tags:
        key = source.image(name, tag).digest or tag
        if key not in chosen or (tag != "latest" and (chosen[key] == "latest" or len(tag) > len(chosen[key]))):
            chosen[key] = tag
    return sorted(chosen.values(), key=version_key)
