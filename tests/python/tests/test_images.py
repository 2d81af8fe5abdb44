"""Tags, from a real registry and from files."""

import json
from pathlib import Path

import pytest
from conftest import RealRegistry, free_port

from minimill_tests.errors import NotRun, SuiteError
from minimill_tests.images import ImageFile, Registry, distinct, next_page, version_key


def test_tags_of_a_registry_in_the_order_of_versions_without_those_of_referrers(registry: RealRegistry) -> None:
    old = registry.push("many/valkey", "8.1.9", "8.1.9-202601010000", content="old")
    new = registry.push("many/valkey", "8.1.10", "8.1", "8", "latest", f"sha256-{'0' * 64}", content="new")
    source = Registry(registry.address)
    assert source.tags("many/valkey") == ["8", "8.1", "8.1.9", "8.1.9-202601010000", "8.1.10", "latest"]
    image = source.image("many/valkey", "8.1.9")
    assert (image.digest, image.reference) == (old, f"{registry.address}/many/valkey:8.1.9")
    assert distinct(source, "many/valkey", source.tags("many/valkey")) == ["8.1.9-202601010000", "8.1.10"]
    assert source.image("many/valkey", "latest").digest == new


def test_all_pages_of_a_long_list_are_read(registry: RealRegistry) -> None:
    registry.push("long", *[f"1.{number}" for number in range(130)])
    assert Registry(registry.address).tags("long") == [f"1.{number}" for number in range(130)]


def test_platforms_are_those_of_the_index(registry: RealRegistry) -> None:
    registry.push("plain", "1")
    registry.push_index("both", "1", "linux/amd64", "linux/arm64")
    source = Registry(registry.address)
    assert source.platforms(source.image("both", "1")) == frozenset({"linux/amd64", "linux/arm64"})
    assert source.platforms(source.image("plain", "1")) is None


def test_what_a_registry_lacks_is_not_run(registry: RealRegistry) -> None:
    with pytest.raises(NotRun, match="/v2/absent/tags/list.* status 404"):
        Registry(registry.address).tags("absent")
    with pytest.raises(NotRun, match="can't be asked"):
        Registry(f"127.0.0.1:{free_port()}").tags("valkey")


@pytest.mark.parametrize("name", ["Valkey", "../valkey", "valkey?n=1", "a//b", ""])
def test_names_that_are_none_never_reach_the_registry(name: str) -> None:
    with pytest.raises(SuiteError, match="no name of an image"):
        Registry("127.0.0.1:1").tags(name)


def test_the_next_page_is_on_the_same_path_whatever_the_link_says() -> None:
    assert next_page('<http://elsewhere/v2/other/tags/list?last=a&n=5&x=1>; rel="next"') == "n=5&last=a"
    assert next_page("<?n=5>; rel=next") == "n=5"
    assert next_page(None) is None
    assert next_page('</v2/>; rel="prev"') is None


def test_versions_are_ordered_by_number() -> None:
    tags = ["latest", "10", "9.1-dev", "9.1", "9", "9.1.0"]
    assert sorted(tags, key=version_key) == ["9", "9.1", "9.1.0", "9.1-dev", "10", "latest"]


def test_tags_out_of_what_mill_lists(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    rows = [
        {"name": "valkey", "digest": "sha256:1", "timestamp_tag": "8.1.0-202601010000", "tags": ["8.1", "latest"]},
        {"name": "valkey", "digest": "sha256:2", "timestamp_tag": "8.1.1-202601020000", "tags": ["8.1", "latest"]},
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    source = ImageFile(path, "registry:5000")
    assert source.tags("valkey") == ["8.1", "8.1.0-202601010000", "8.1.1-202601020000", "latest"]
    assert source.image("valkey", "8.1").digest == "sha256:2"
    assert source.image("valkey", "8.1.0-202601010000").digest == "sha256:1"
    with pytest.raises(NotRun, match="names no image `nginx`"):
        source.tags("nginx")


def test_a_file_that_is_none_is_told_with_what_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    for text in ["{", '[{"name": "valkey"}]', '{"Valkey": []}', "[1]"]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SuiteError, match="images.json|no name"):
            ImageFile(path, None)
    path.write_text('{"valkey": ["8", "no tag"]}', encoding="utf-8")
    assert ImageFile(path, None).tags("valkey") == ["8"]
