"""Suites: which images a Compose file or Dockerfile names by a version variable, and what is substituted."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from minimill_tests.errors import NotApplicable, NotRun, SuiteError
from minimill_tests.images import Source, TaggedImage, checked_name, distinct

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
MAXIMUM_FILE_BYTES = 1 << 20
DEFAULT_TAG = "latest"
REGISTRY_VARIABLE = "REGISTRY"

VARIABLE = r"\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?::?[-?](?P<default>[^}]*))?\})"
REFERENCE = re.compile(
    r"(?:\$REGISTRY/|\$\{REGISTRY(?::?[-?][^}]*)?\}/)(?P<image>[^:$@\s]+):(?P<tag>\S+)",
)


@dataclass(frozen=True)
class Slot:
    """A place for a version: the variable that stands for an image's tag."""

    variable: str
    image: str
    #: The tag while another image's is substituted: the file's own default, else `latest`.
    default: str


@dataclass(frozen=True)
class Substitution:
    """One run of a suite: a tag for every variable, one of which is the substituted one."""

    #: Tags by variable.
    values: Mapping[str, str]
    images: tuple[TaggedImage, ...]
    #: The variable whose tags are gone through; none for a suite without any.
    substituted: str | None

    def __str__(self) -> str:
        names = [image.name for image in self.images]
        for image in self.chosen():
            several = names.count(image.name) > 1
            return f"{image.name}:{image.tag}" + (f" as {self.substituted}" if several else "")
        return "as-it-is"

    def chosen(self) -> Iterator[TaggedImage]:
        """The image under test, if there is one."""
        if self.substituted is not None:
            yield self.images[list(self.values).index(self.substituted)]


@dataclass(frozen=True)
class Suite:
    """A folder with a Compose file or a Dockerfile."""

    folder: Path
    #: Its Compose file; none when there is only a Dockerfile.
    compose: Path | None
    slots: tuple[Slot, ...]

    @property
    def name(self) -> str:
        """What it is called."""
        return suite_name(self.folder)

    def substitutions(self, source: Source, choice: "Choice") -> list[Substitution]:
        """Every tag of each image in turn, the other images at their defaults.

        Raises:
            NotRun: when tags can't be listed.
            NotApplicable: when only other images' tags are asked for.
        """
        if not self.slots:
            return [Substitution({}, (), None)]
        runs = []
        for slot in self.slots:
            for tag in choice.tags(source, slot.image):
                values = {other.variable: other.default for other in self.slots} | {slot.variable: tag}
                images = tuple(source.image(other.image, values[other.variable]) for other in self.slots)
                runs.append(Substitution(values, images, slot.variable))
        if not runs:
            asked = ", ".join(sorted(choice.candidates))
            names = ", ".join(slot.image for slot in self.slots)
            raise NotApplicable(f"suite `{self.name}` has no image of {asked}; it has {names}")
        return runs


@dataclass(frozen=True)
class Choice:
    """Which tags are gone through."""

    #: One tag for each digest instead of every tag.
    distinct: bool = False
    #: Only these tags, by image; every image when empty.
    candidates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tags(self, source: Source, name: str) -> list[str]:
        """The tags of an image that are to be run.

        Raises:
            NotRun: when the source has no such image.
        """
        if self.candidates:
            return list(self.candidates.get(name, ()))
        tags = source.tags(name)
        if not tags:
            raise NotRun(f"{source.registry} has no tag of `{name}`; publish the image first")
        return distinct(source, name, tags) if self.distinct else tags


def suite_name(folder: Path) -> str:
    """The folder's name; that of the image for the folder `tests` of an image."""
    return folder.parent.name if folder.name == "tests" else folder.name


def find(folder: Path) -> Suite | None:
    """The suite of a folder, or none where there is neither a Compose file nor a Dockerfile.

    Raises:
        SuiteError: when its files can't be read.
    """
    compose = next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
    dockerfile = folder / "Dockerfile"
    if compose is not None:
        slots = compose_slots(compose)
    elif dockerfile.is_file():
        slots = dockerfile_slots(dockerfile)
    else:
        return None
    unique: dict[str, Slot] = {}
    for slot in slots:
        other = unique.setdefault(slot.variable, slot)
        if other.image != slot.image:
            message = (
                f"{folder}: `{slot.variable}` stands for tags of both {other.image} and {slot.image}; use two names"
            )
            raise SuiteError(message)
    return Suite(folder, compose, tuple(unique.values()))


def compose_slots(path: Path) -> list[Slot]:
    """The version variables of a Compose file and of the Dockerfiles that it builds.

    Raises:
        SuiteError: when the file is no Compose file.
    """
    services = compose_services(path)
    slots = []
    for name, service in services.items():
        where = f"{path}, service `{name}`"
        if not isinstance(service, Mapping):
            raise SuiteError(f"{where}: expected keys, found `{service}`")
        if isinstance(service.get("image"), str) and "build" not in service:
            slots += reference_slots(service["image"], where, {})
        build = service.get("build")
        if build is not None:
            options = build if isinstance(build, Mapping) else {"context": build}
            context = path.parent / str(options.get("context", "."))
            slots += dockerfile_slots(context / str(options.get("dockerfile", "Dockerfile")))
    return slots


def compose_services(path: Path) -> Mapping[str, Any]:
    """The services of a Compose file.

    Raises:
        SuiteError: when it has none.
    """
    try:
        document = yaml.safe_load(bounded(path))
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: {error}") from error
    services = document.get("services") if isinstance(document, Mapping) else None
    if not isinstance(services, Mapping) or not services:
        raise SuiteError(f"{path}: no `services`; name at least one")
    return services


def dockerfile_slots(path: Path) -> list[Slot]:
    """The version variables of a Dockerfile: those in the tags of its `FROM` lines, with the defaults of its `ARG`s."""
    defaults: dict[str, str] = {}
    slots = []
    for number, line in enumerate(bounded(path).splitlines(), 1):
        words = line.split()
        instruction = words[0].upper() if words else ""
        if instruction == "ARG" and len(words) > 1 and "=" in words[1]:
            variable, default = words[1].split("=", 1)
            defaults[variable] = default.strip("\"'")
        if instruction == "FROM":
            reference = next((word for word in words[1:] if not word.startswith("--")), "")
            slots += reference_slots(reference, f"{path}, line {number}", defaults)
    return slots


def reference_slots(reference: str, where: str, defaults: Mapping[str, str]) -> list[Slot]:
    """The version variable of one image reference, if it has one."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        if re.search(VARIABLE, reference):
            raise SuiteError(
                f"{where}: `{reference}` has a variable elsewhere than in `${{REGISTRY}}/NAME:${{VERSION}}`"
            )
        return []
    tag = re.fullmatch(VARIABLE, match["tag"])
    if tag is None:
        if "$" in match["tag"]:
            raise SuiteError(f"{where}: in `{reference}` the whole tag must be one variable, such as `${{VERSION}}`")
        return []
    variable = tag["bare"] or tag["name"]
    default = tag["default"] or defaults.get(variable) or DEFAULT_TAG
    return [Slot(variable, checked_name(match["image"]), default)]


def bounded(path: Path) -> str:
    """A file's text.

    Raises:
        SuiteError: when it can't be read or is too large.
    """
    try:
        if path.stat().st_size > MAXIMUM_FILE_BYTES:
            raise SuiteError(f"{path}: larger than {MAXIMUM_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: {error}") from error
