"""Puts code and catalog where CloudFormation takes them from, and applies SAM's transform.

This is what `sam package` and the service's own transform do on AWS.
"""

import copy
import io
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# The oldest time that a zip archive can state, so that the same content gives the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def read(path: Path) -> dict:
    """The template, with CloudFormation's short forms written out."""
    return yaml_parse(path.read_text())


def archive(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A zip archive of files: name to content and mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name in sorted(files):
            content, mode = files[name]
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = (0o100000 | mode) << 16
            out.writestr(info, content)
    return buffer.getvalue()


def folder(path: Path) -> bytes:
    """A folder's files as a zip archive; of the modes the executable bit counts."""
    files = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            mode = 0o755 if os.access(file, os.X_OK) else 0o644
            files[file.relative_to(path).as_posix()] = (file.read_bytes(), mode)
    return archive(files)


def unpack(content: bytes, into: Path) -> None:
    """Unpacks a zip archive, with the modes of its files."""
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        for info in zipped.infolist():
            path = Path(zipped.extract(info, into))
            if info.external_attr >> 16:
                path.chmod((info.external_attr >> 16) & 0o777)


def stripped(binary: Path) -> bytes:
    """A binary without what only a debugger reads, as a release has none."""
    with tempfile.NamedTemporaryFile() as smaller:
        subprocess.run(["strip", "-o", smaller.name, binary], check=True)
        return Path(smaller.name).read_bytes()


def package(template: dict, put, binaries: Path, catalog: Path) -> dict:
    """The template with its code in a bucket. `put` stores bytes under a name and answers where."""
    packaged = copy.deepcopy(template)
    for resource in packaged["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            name = resource["Metadata"]["BuildProperties"]["Binary"]
            properties["CodeUri"] = put(f"{name}.zip", archive({"bootstrap": (stripped(binaries / name), 0o755)}))
        elif resource["Type"] == "AWS::Serverless::LayerVersion":
            properties["ContentUri"] = put("catalog.zip", folder(catalog))
    return packaged


def transformed(template: dict, parameters: dict[str, str]) -> dict:
    """The template after SAM's transform."""
    no_policies = SimpleNamespace(load=dict)
    return transform(copy.deepcopy(template), dict(parameters), no_policies)
