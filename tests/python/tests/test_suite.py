"""Which variables a Compose file or Dockerfile has, and what is substituted for them."""

from pathlib import Path

import pytest

from minimill_tests.errors import NotApplicable, NotRun, SuiteError
from minimill_tests.images import ImageFile
from minimill_tests.suite import Choice, Slot, Suite, find


def source(tmp_path: Path) -> ImageFile:
    path = tmp_path / "images.json"
    path.write_text('{"valkey": ["8.0", "8.1"], "nginx": ["1.26", "latest"], "busybox": ["1"]}', encoding="utf-8")
    return ImageFile(path, "registry:5000")


def compose(folder: Path, *images: str) -> Suite:
    lines = [f"  service{number}:\n    image: '{image}'\n" for number, image in enumerate(images)]
    (folder / "compose.yaml").write_text("services:\n" + "".join(lines), encoding="utf-8")
    suite = find(folder)
    assert suite is not None
    return suite


@pytest.mark.parametrize(
    ("reference", "slots"),
    [
        ("${REGISTRY}/valkey:${VERSION}", [Slot("VERSION", "valkey", "latest")]),
        ("$REGISTRY/team/valkey:$VERSION", [Slot("VERSION", "team/valkey", "latest")]),
        ("${REGISTRY:-localhost:5000}/valkey:${VERSION:-8.1}", [Slot("VERSION", "valkey", "8.1")]),
        ("${REGISTRY:?no registry}/valkey:${VERSION-8}", [Slot("VERSION", "valkey", "8")]),
        ("${REGISTRY}/valkey:8.1", []),
        ("docker.example/other:1", []),
    ],
)
def test_variables_of_image_references(folder: Path, reference: str, slots: list[Slot]) -> None:
    assert list(compose(folder, reference).slots) == slots


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (["${REGISTRY}/valkey:8.${MINOR}"], "service `service0`.*the whole tag must be one variable"),
        (["${REGISTRY}/${NAME}:1"], "service `service0`.*variable elsewhere"),
        (["${REGISTRY}/valkey:${V}", "${REGISTRY}/nginx:${V}"], "`V` stands for tags of both valkey and nginx"),
    ],
)
def test_variables_that_can_not_be_substituted_are_refused(folder: Path, images: list[str], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        compose(folder, *images)


@pytest.mark.parametrize("text", ["", "[]", "services: {}", "services: [a]", "services: {a: 1}", "a: [", "\t"])
def test_files_that_are_no_compose_file_are_refused(folder: Path, text: str) -> None:
    (folder / "compose.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SuiteError, match="compose.yaml"):
        find(folder)


def test_every_tag_of_each_image_while_the_others_stay(folder: Path, tmp_path: Path) -> None:
    suite = compose(folder, "${REGISTRY}/valkey:${VALKEY:-8.0}", "${REGISTRY}/nginx:${NGINX}")
    runs = suite.substitutions(source(tmp_path), Choice())
    assert [dict(run.values) for run in runs] == [
        {"VALKEY": "8.0", "NGINX": "latest"},
        {"VALKEY": "8.1", "NGINX": "latest"},
        {"VALKEY": "8.0", "NGINX": "1.26"},
        {"VALKEY": "8.0", "NGINX": "latest"},
    ]
    assert [str(run) for run in runs] == ["valkey:8.0", "valkey:8.1", "nginx:1.26", "nginx:latest"]
    assert [image.reference for image in runs[1].images] == ["registry:5000/valkey:8.1", "registry:5000/nginx:latest"]


def test_two_places_of_one_image_are_told_apart(folder: Path, tmp_path: Path) -> None:
    suite = compose(folder, "${REGISTRY}/valkey:${OLD:-8.0}", "${REGISTRY}/valkey:${NEW:-8.1}")
    runs = suite.substitutions(source(tmp_path), Choice())
    assert [(str(run), *run.values.values()) for run in runs] == [
        ("valkey:8.0 as OLD", "8.0", "8.1"),
        ("valkey:8.1 as OLD", "8.1", "8.1"),
        ("valkey:8.0 as NEW", "8.0", "8.0"),
        ("valkey:8.1 as NEW", "8.0", "8.1"),
    ]


def test_the_suite_of_an_image_has_the_images_name(folder: Path) -> None:
    (folder / "tests").mkdir()
    assert compose(folder / "tests", "${REGISTRY}/valkey:${V}").name == "web"


def test_only_the_candidates_of_an_image(folder: Path, tmp_path: Path) -> None:
    suite = compose(folder, "${REGISTRY}/valkey:${VALKEY}", "${REGISTRY}/nginx:${NGINX:-1.26}")
    choice = Choice(candidates={"nginx": ("latest",)})
    with pytest.raises(NotRun, match="names no image `valkey:latest`"):
        suite.substitutions(source(tmp_path), choice)
    suite = compose(folder, "${REGISTRY}/valkey:${VALKEY:-8.1}", "${REGISTRY}/nginx:${NGINX:-1.26}")
    assert [str(run) for run in suite.substitutions(source(tmp_path), choice)] == ["nginx:latest"]
    with pytest.raises(NotApplicable, match="suite `web` has no image of busybox; it has valkey, nginx"):
        suite.substitutions(source(tmp_path), Choice(candidates={"busybox": ("1",)}))


def test_variables_of_a_dockerfile_and_of_those_that_compose_builds(folder: Path) -> None:
    text = (
        'ARG REGISTRY\nARG VERSION="1"\n# FROM ${REGISTRY}/old:${OLD}\n'
        "FROM --platform=linux/amd64 ${REGISTRY}/busybox:${VERSION} AS build\nFROM build\n"
    )
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    suite = find(folder)
    assert suite is not None and suite.compose is None
    assert list(suite.slots) == [Slot("VERSION", "busybox", "1")]

    (folder / "app").mkdir()
    (folder / "Dockerfile").rename(folder / "app" / "Containerfile")
    for build in ["{context: app, dockerfile: Containerfile}", "app"]:
        (folder / "compose.yaml").write_text(f"services:\n  app:\n    build: {build}\n", encoding="utf-8")
        if build == "app":
            with pytest.raises(SuiteError, match="app/Dockerfile"):
                find(folder)
        else:
            built = find(folder)
            assert built is not None and list(built.slots) == [Slot("VERSION", "busybox", "1")]


def test_a_folder_without_either_is_no_suite(folder: Path) -> None:
    assert find(folder) is None
