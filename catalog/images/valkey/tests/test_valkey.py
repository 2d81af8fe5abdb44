"""valkey with a replica, and with a volume."""

import time

import pytest

from minimill_tests.clients import ServerError, ValkeyClient
from minimill_tests.stack import Stack


@pytest.fixture(scope="module", autouse=True)
def ready(stack: Stack) -> None:
    """Every server listens, and the replica has caught up."""
    stack.connect("kept", 6379).close()
    with stack.valkey("replica", 6380) as replica:
        eventually(replica, "INFO", "replication", contains=b"master_link_status:up")


def eventually(client: ValkeyClient, *command: str, contains: bytes, seconds: float = 30) -> None:
    """Repeats a command until its answer contains something."""
    end = time.monotonic() + seconds
    while contains not in (answer := client.command(*command) or b""):  # type: ignore[operator]
        assert time.monotonic() < end, f"{command}: no {contains!r} in {answer!r}"
        time.sleep(0.1)


def test_what_is_written_reaches_the_replica_which_can_not_be_written(stack: Stack) -> None:
    """A value set on the primary is read from the replica; the replica refuses writes."""
    with stack.valkey("primary") as primary, stack.valkey("replica", 6380) as replica:
        assert primary.command("SET", "mill", "minimal") == "OK"
        assert primary.command("WAIT", 1, 10_000) == 1
        assert replica.command("GET", "mill") == b"minimal"
        with pytest.raises(ServerError, match="READONLY"):
            replica.command("SET", "mill", "other")


def test_memory_stays_within_its_limit_by_forgetting(stack: Stack) -> None:
    """32 MiB of values into a server of 8: it goes on answering, and has evicted most of them."""
    value = b"x" * 65_536
    with stack.valkey("kept") as server:
        for number in range(512):
            assert server.command("SET", f"large:{number}", value) == "OK"
        keys = server.command("DBSIZE")
        assert isinstance(keys, int) and 0 < keys < 128
        server.command("FLUSHALL")


def test_data_in_a_volume_survive_a_restart(stack: Stack) -> None:
    """Asked to stop, the server saves and ends with 0; started again, it has the value."""
    with stack.valkey("kept") as server:
        assert server.command("SET", "mill", "minimal") == "OK"
    ended = stack.stop("kept")
    assert ended.exit_code == 0, stack.logs("kept")
    stack.start("kept")
    with stack.valkey("kept") as server:
        assert server.command("GET", "mill") == b"minimal"
