"""The Redis protocol, version 2, as valkey speaks it."""

from typing import TypeAlias

from minimill_tests.clients.connection import Connection
from minimill_tests.errors import ProtocolError

MAXIMUM_DEPTH = 16
MAXIMUM_ENTRIES = 1 << 20

Reply: TypeAlias = "str | int | bytes | ServerError | list[Reply] | None"


class ServerError(Exception):
    """An error that the server answered, such as `ERR unknown command`."""


class ValkeyClient(Connection):
    """A client that sends one command at a time."""

    def command(self, *words: str | bytes | int) -> Reply:
        """Sends a command and gives the answer: `str` for a status, `bytes` for a value, None for no value.

        Raises:
            ServerError: when the server answers an error.
            ProtocolError: when it answers something else than the protocol allows.
        """
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.send(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
        reply = self._reply(0)
        if isinstance(reply, ServerError):
            raise reply
        return reply

    def _reply(self, depth: int) -> Reply:
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode(errors="replace")
        if kind == b"-":
            return ServerError(rest.decode(errors="replace"))
        if kind == b":":
            return number(rest)
        if kind == b"$":
            length = number(rest)
            return None if length == -1 else self.value(length)
        if kind == b"*":
            count = number(rest)
            if count == -1:
                return None
            if depth == MAXIMUM_DEPTH or not 0 <= count <= MAXIMUM_ENTRIES:
                raise ProtocolError(f"the server announced an array of {count} entries at depth {depth}")
            return [self._reply(depth + 1) for _ in range(count)]
        raise ProtocolError(f"the server sent {line[:80]!r}; expected a reply that begins with one of `+-:$*`")


def number(text: bytes) -> int:
    """A decimal number of at most 20 characters."""
    if len(text) > 20 or not text.removeprefix(b"-").isdigit():
        raise ProtocolError(f"the server sent {text[:80]!r}; expected a number")
    return int(text)
