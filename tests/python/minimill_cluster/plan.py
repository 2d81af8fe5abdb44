"""Plans: a `cluster.yaml` beside an image's tests says what is installed in a cluster and tried there."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minimill_tests.errors import SuiteError
from minimill_tests.suite import bounded

FILE = "cluster.yaml"
RELEASE = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
SECONDS = range(1, 3601)
INTERPRETERS: Mapping[str, tuple[str, ...]] = {"shell": ("/bin/sh",), "bash": ("bash",), "python": ("python3",)}
KEYS = ("needed", "kubernetes", "namespace", "within", "charts", "tasks")


@dataclass(frozen=True)
class Source:
    """Where a chart is fetched from."""

    #: `oci://HOST/NAME`, or the address of an archive in a chart repository.
    reference: str
    version: str
    #: Of the archive, hexadecimal.
    sha256: str


@dataclass(frozen=True)
class Chart:
    """A chart to install."""

    release: str
    #: A folder or an archive.
    path: Path
    values: Mapping[str, Any]
    #: None for a chart that is at `path`.
    source: Source | None = None


@dataclass(frozen=True)
class Task:
    """A script that is run in the cluster, as a Job."""

    name: str
    image: str
    #: What the script is given to.
    interpreter: tuple[str, ...]
    script: str
    seconds: int

    @property
    def slug(self) -> str:
        """The name as part of an id."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Plan:
    """What is checked, installed and tried."""

    path: Path
    name: str
    #: The image may not be published while no cluster has run this.
    needed: bool
    #: The version of Kubernetes whose schemas hold; the newest when none is said.
    kubernetes: str | None
    charts: tuple[Chart, ...]
    tasks: tuple[Task, ...]
    #: How long everything may take to get ready.
    seconds: int


def load(path: Path, variables: Mapping[str, str]) -> Plan:
    """Reads a plan, in which `${NAME}` stands for a variable; in scripts it is the shell's own.

    Raises:
        SuiteError: when it can't be read or says something that no plan says.
    """
    try:
        document = yaml.safe_load(bounded(path))
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: {error}") from error
    reader = Reader(path, variables)
    plan = reader.mapping("the plan", document, KEYS)
    charts = tuple(reader.chart(number, entry) for number, entry in enumerate(reader.entries("charts", plan)))
    if not charts:
        raise SuiteError(f"{path}: `charts` is empty; name at least one")
    releases = [chart.release for chart in charts]
    if len(set(releases)) != len(releases):
        raise SuiteError(f"{path}: two charts with the same `release`; there are {', '.join(releases)}")
    tasks = tuple(reader.task(number, entry) for number, entry in enumerate(reader.entries("tasks", plan)))
    if len({task.slug for task in tasks}) != len(tasks):
        raise SuiteError(f"{path}: two tasks with the same `name`; there are {', '.join(task.name for task in tasks)}")
    version = plan.get("kubernetes")
    if version is not None and not re.fullmatch(r"\d+\.\d+", str(version)):
        raise SuiteError(f'{path}: `kubernetes: {version}`: expected a version such as "1.37", in quotes')
    needed = plan.get("needed", False)
    if not isinstance(needed, bool):
        raise SuiteError(f"{path}: `needed: {needed}`: expected true or false")
    return Plan(
        path=path,
        name=reader.name(plan.get("namespace") or charts[0].release, "namespace"),
        needed=needed,
        kubernetes=None if version is None else str(version),
        charts=charts,
        tasks=tasks,
        seconds=reader.seconds(plan, "the plan", 300),
    )


class Reader:
    """Reads parts of a plan; errors name the file and the place."""

    def __init__(self, path: Path, variables: Mapping[str, str]) -> None:
        self._path = path
        self._variables = variables

    def error(self, text: str) -> SuiteError:
        return SuiteError(f"{self._path}: {text}")

    def mapping(self, where: str, value: Any, keys: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.error(f"{where}: expected keys, found `{value!s:.80}`")
        unknown = [str(key) for key in value if key not in keys]
        if unknown:
            raise self.error(f"{where}: no key `{unknown[0]}`; there are {', '.join(keys)}")
        return value

    def entries(self, key: str, plan: Mapping[str, Any]) -> list[Any]:
        value = plan.get(key) or []
        if not isinstance(value, list):
            raise self.error(f"`{key}`: expected a list, found `{value!s:.80}`")
        return value

    def name(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not RELEASE.fullmatch(value):
            raise self.error(f"{where} `{value}`: expected lower-case letters, digits and `-`, at most 53")
        return value

    def seconds(self, value: Mapping[str, Any], where: str, default: int) -> int:
        found = value.get("within", f"{default}s")
        match = re.fullmatch(r"(\d{1,5})s", str(found))
        if match is None or int(match[1]) not in SECONDS:
            raise self.error(f"{where}: `within: {found}`: expected 1s to {SECONDS[-1]}s")
        return int(match[1])

    def chart(self, number: int, entry: Any) -> Chart:
        where = f"charts[{number}]"
        chart = self.mapping(where, entry, ("release", "chart", "version", "sha256", "values"))
        source, path = self.source(where, chart), self._path.parent / str(chart.get("chart"))
        if source is None and not (path / "Chart.yaml").is_file():
            told = "expected a folder with a Chart.yaml, beside the plan, or oci://HOST/NAME"
            raise self.error(f"{where}: `chart: {chart.get('chart')}`: {told}")
        values = chart.get("values") or {}
        if not isinstance(values, Mapping):
            raise self.error(f"{where}: `values`: expected keys, found `{values!s:.80}`")
        release = self.name(chart.get("release"), f"{where}: release")
        return Chart(release, path, self.substitute(values, f"{where}.values"), source)

    def source(self, where: str, chart: Mapping[str, Any]) -> Source | None:
        """Where a chart is fetched from; none when it lies beside the plan."""
        reference = chart.get("chart")
        if not isinstance(reference, str) or "://" not in reference:
            return None
        version, sha256 = str(chart.get("version", "")), str(chart.get("sha256", ""))
        if not reference.startswith(("oci://", "https://")):
            raise self.error(f"{where}: `chart: {reference}`: expected oci://HOST/NAME or https://HOST/NAME.tgz")
        if not version or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise self.error(
                f"{where}: `{reference}` needs `version`, and `sha256` of its archive in 64 hexadecimal digits"
            )
        return Source(str(self.substitute(reference, f"{where}.chart")), version, sha256)

    def task(self, number: int, entry: Any) -> Task:
        where = f"tasks[{number}]"
        task = self.mapping(where, entry, ("name", "image", "within", *INTERPRETERS))
        scripts = [key for key in INTERPRETERS if key in task]
        if len(scripts) != 1 or not isinstance(task[scripts[0]], str):
            raise self.error(f"{where}: expected one script, under one of {', '.join(INTERPRETERS)}")
        name, image = task.get("name"), task.get("image")
        if not isinstance(name, str) or not name or not isinstance(image, str):
            raise self.error(f"{where}: expected `name` and `image`")
        return Task(
            name=name,
            image=str(self.substitute(image, f"{where}.image")),
            interpreter=INTERPRETERS[scripts[0]],
            script=task[scripts[0]],
            seconds=self.seconds(task, where, 60),
        )

    def substitute(self, value: Any, where: str) -> Any:
        """Puts variables in the places of their names, in all texts of a value."""
        if isinstance(value, str):
            try:
                return string.Template(value).substitute(self._variables)
            except (KeyError, ValueError) as error:
                known = ", ".join(sorted(self._variables)) or "none"
                raise self.error(
                    f"{where}: `{value}`: variable {error} is not known; --variable gave {known}"
                ) from error
        if isinstance(value, Mapping):
            return {key: self.substitute(entry, f"{where}.{key}") for key, entry in value.items()}
        if isinstance(value, list):
            return [self.substitute(entry, where) for entry in value]
        return value
