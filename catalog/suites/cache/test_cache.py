"""nginx serves pages out of memcached."""

import pytest

from minimill_tests.stack import Stack


@pytest.fixture(scope="module", autouse=True)
def ready(stack: Stack) -> None:
    """Every service listens."""
    for service, port in {"memcached": 11211, "nginx": 8080}.items():
        stack.connect(service, port).close()


def test_a_page_is_served_out_of_the_cache(stack: Stack) -> None:
    """What is put into memcached is what nginx serves, until it is deleted."""
    web = stack.http("nginx", 8080)
    with stack.memcached("memcached") as cache:
        assert web.get("/page").status == 404
        assert cache.set("/page", b"minimal")
        answer = web.get("/page")
        assert (answer.status, answer.text) == (200, "minimal")
        assert cache.delete("/page")
        assert web.get("/page").status == 404
        assert int(cache.statistics()["get_hits"]) >= 1


def test_a_large_value_comes_back_as_it_was(stack: Stack) -> None:
    """Half a megabyte of every byte there is survives the way."""
    value = bytes(range(256)) * 2048
    with stack.memcached("memcached") as cache:
        assert cache.set("/large", value)
        assert cache.get("/large") == value
    assert stack.http("nginx", 8080).get("/large").body == value


def test_the_running_version_is_the_tags(stack: Stack) -> None:
    """The program's own version is the one that the image's full tag names."""
    tag = stack.image("memcached").tag
    with stack.memcached("memcached") as cache:
        version = cache.version()
    if tag != "latest":
        assert version == tag.split("-")[0] or version.startswith(tag + ".")


def test_every_service_ends_in_order(stack: Stack) -> None:
    """Asked to stop, both end by themselves with exit code 0."""
    for service in ("nginx", "memcached"):
        ended = stack.stop(service)
        assert ended.exit_code == 0, stack.logs(service)
        assert ended.seconds < 10
