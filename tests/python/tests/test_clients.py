"""Clients against bytes as servers send them, and as they must not."""

import socket
from collections.abc import Callable

import pytest

from minimill_tests.clients import HttpClient, MemcachedClient, ServerError, ValkeyClient
from minimill_tests.clients.connection import Connection
from minimill_tests.errors import ProtocolError


def answered(kind: type[Connection], answer: bytes, use: Callable[..., object]) -> tuple[object, bytes]:
    """What a client makes of a server that sends `answer` and closes, and what it had asked."""
    ours, theirs = socket.socketpair()
    with theirs, kind(ours, timeout=5) as client:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        result = use(client)
        theirs.settimeout(5)
        return result, theirs.recv(1 << 16)


def valkey(answer: bytes, *command: str | bytes | int) -> object:
    return answered(ValkeyClient, answer, lambda client: client.command(*(command or ("PING",))))[0]


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"+OK\r\n", "OK"),
        (b":-12\r\n", -12),
        (b"$-1\r\n", None),
        (b"$0\r\n\r\n", b""),
        (b"$6\r\na\r\nb\xff\x00\r\n", b"a\r\nb\xff\x00"),
        (b"*-1\r\n", None),
        (b"*3\r\n:1\r\n$1\r\nx\r\n*1\r\n+y\r\n", [1, b"x", ["y"]]),
    ],
)
def test_replies_of_valkey(answer: bytes, reply: object) -> None:
    assert valkey(answer) == reply


def test_a_command_is_sent_as_an_array_of_values() -> None:
    _, asked = answered(ValkeyClient, b"+OK\r\n", lambda client: client.command("SET", b"k\r\n", 7))
    assert asked == b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$1\r\n7\r\n"


def test_an_error_of_valkey_is_raised_with_its_words() -> None:
    with pytest.raises(ServerError, match="^WRONGTYPE not a list$"):
        valkey(b"-WRONGTYPE not a list\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"+OK",
        b"+OK\n",
        b"?\r\n",
        b"$x\r\n",
        b"$5\r\nab\r\n",
        b"$2\r\nabcd",
        b"$-2\r\n",
        b"$99999999999\r\n",
        b"*99999999\r\n",
        b"*1\r\n" * 20,
        b":" + b"1" * 40 + b"\r\n",
        b"+" + b"x" * (1 << 17),
    ],
)
def test_what_is_no_reply_of_valkey_is_told(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="the server"):
        valkey(answer)


def memcached(answer: bytes, use: Callable[[MemcachedClient], object]) -> object:
    return answered(MemcachedClient, answer, use)[0]


def test_answers_of_memcached() -> None:
    assert memcached(b"VERSION 1.6.38\r\n", lambda client: client.version()) == "1.6.38"
    assert memcached(b"STORED\r\n", lambda client: client.set("k", b"v")) is True
    assert memcached(b"NOT_STORED\r\n", lambda client: client.set("k", b"v")) is False
    assert memcached(b"VALUE k 0 4\r\n\r\n\r\n\r\nEND\r\n", lambda client: client.get("k")) == b"\r\n\r\n"
    assert memcached(b"END\r\n", lambda client: client.get("k")) is None
    assert memcached(b"NOT_FOUND\r\n", lambda client: client.delete("k")) is False
    assert memcached(b"STAT a 1\r\nSTAT b c d\r\nEND\r\n", MemcachedClient.statistics) == {"a": "1", "b": "c d"}
    _, asked = answered(MemcachedClient, b"STORED\r\n", lambda client: client.set("k", b"\r\n", 5))
    assert asked == b"set k 0 5 2\r\n\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"ERROR\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"VALUE other 0 1\r\nx\r\nEND\r\n",
        b"VALUE k 0 x\r\n",
        b"VALUE k 0 9\r\nx\r\n",
        b"VALUE k 0 1\r\nx\r\nMORE\r\n",
    ],
)
def test_what_memcached_must_not_answer(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        memcached(answer, lambda client: client.get("k"))


def http(answer: bytes) -> HttpClient:
    ours, theirs = socket.socketpair()
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    http.open.append(theirs)  # type: ignore[attr-defined]
    return HttpClient(lambda: ours)


http.open = []  # type: ignore[attr-defined]


def test_answers_over_http() -> None:
    answer = http(b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nno").get("/")
    assert (answer.status, answer.headers["server"], answer.text) == (404, "nginx", "no")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno"])
def test_what_is_no_http_is_told(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="GET /"):
        http(answer).get("/")
