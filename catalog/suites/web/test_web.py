"""nginx in front of an application in front of valkey."""

import pytest

from minimill_tests.stack import Stack


@pytest.fixture(scope="module", autouse=True)
def ready(stack: Stack) -> None:
    """Every service listens."""
    for service, port in {"valkey": 6379, "app": 8000, "nginx": 8080}.items():
        stack.connect(service, port).close()


def test_visits_are_counted_through_all_three(stack: Stack) -> None:
    """A request goes through nginx and the application to valkey, and what valkey keeps comes back."""
    web = stack.http("nginx", 8080)
    answers = [web.get("/counted") for _ in range(3)]
    assert [(answer.status, answer.text) for answer in answers] == [(200, "1"), (200, "2"), (200, "3")]
    assert [answer.headers["Server"] for answer in answers] == ["nginx"] * 3
    with stack.valkey("valkey") as valkey:
        assert valkey.command("GET", "visits:/counted") == b"3"


def test_a_bad_request_is_the_clients_fault(stack: Stack) -> None:
    """What the application refuses reaches the client as it was said."""
    assert stack.http("nginx", 8080).get("/UPPER").status == 400


def test_without_valkey_the_site_says_so_and_recovers(stack: Stack) -> None:
    """While valkey is down the application answers 503; nginx goes on; afterwards visits are counted again."""
    web = stack.http("nginx", 8080)
    with stack.valkey("valkey") as valkey:
        valkey.command("CONFIG", "SET", "maxclients", "1")
        assert web.get("/visits").status == 503
        assert web.get("/healthz").text == "ok\n"
        valkey.command("CONFIG", "SET", "maxclients", "100")
    assert web.get("/visits").status == 200


def test_every_service_ends_in_order(stack: Stack) -> None:
    """Asked to stop, nginx and valkey end by themselves with exit code 0."""
    for service in ("nginx", "valkey"):
        ended = stack.stop(service)
        assert ended.exit_code == 0, stack.logs(service)
        assert ended.seconds < 10
