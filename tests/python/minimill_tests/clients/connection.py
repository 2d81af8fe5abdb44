"""A connection that is read by lines and by counts, within limits."""

import contextlib
import socket
from types import TracebackType
from typing import Self

from minimill_tests.errors import ProtocolError

MAXIMUM_LINE_BYTES = 64 << 10
MAXIMUM_VALUE_BYTES = 64 << 20
TIMEOUT_SECONDS = 10.0


class Connection:
    """A socket; closed at the end of a `with`."""

    def __init__(self, sock: socket.socket, timeout: float = TIMEOUT_SECONDS) -> None:
        sock.settimeout(timeout)
        self._socket = sock
        self._reader = sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(OSError):
            self._reader.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self._socket.sendall(data)

    def line(self) -> bytes:
        """The next line, without its CR LF.

        Raises:
            ProtocolError: when the server closed, or the line is too long or ended by something else.
        """
        line = self._reader.readline(MAXIMUM_LINE_BYTES)
        if not line.endswith(b"\r\n"):
            told = "closed the connection" if len(line) < MAXIMUM_LINE_BYTES and not line.endswith(b"\n") else "sent"
            raise ProtocolError(f"the server {told} after {line[-80:]!r}; expected a line that ends with CR LF")
        return line[:-2]

    def value(self, length: int) -> bytes:
        """The next `length` bytes, and the CR LF behind them, which is left out.

        Raises:
            ProtocolError: when they don't come, or are more than 64 MiB.
        """
        if not 0 <= length <= MAXIMUM_VALUE_BYTES:
            raise ProtocolError(f"the server announced {length} bytes; at most {MAXIMUM_VALUE_BYTES} are taken")
        data = self._reader.read(length + 2)
        if len(data) != length + 2 or not data.endswith(b"\r\n"):
            raise ProtocolError(f"the server sent {len(data)} of {length + 2} bytes of a value that ends with CR LF")
        return data[:-2]
