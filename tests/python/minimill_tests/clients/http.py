"""HTTP, over connections that somebody else makes."""

import http.client
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minimill_tests.clients.connection import MAXIMUM_VALUE_BYTES, TIMEOUT_SECONDS
from minimill_tests.errors import ProtocolError


@dataclass(frozen=True)
class Answer:
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class HttpClient:
    """A client that makes a new connection for each request."""

    def __init__(self, connect: Callable[[], socket.socket], host: str = "localhost") -> None:
        self._connect = connect
        self._host = host

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks for a path."""
        return self.request("GET", path, headers=headers)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request and reads the whole answer.

        Raises:
            ProtocolError: when the answer is no HTTP, or larger than 64 MiB.
        """
        connection = http.client.HTTPConnection(self._host)
        connection.sock = self._connect()
        connection.sock.settimeout(TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            content = answer.read(MAXIMUM_VALUE_BYTES + 1)
        except http.client.HTTPException as error:
            raise ProtocolError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if len(content) > MAXIMUM_VALUE_BYTES:
            raise ProtocolError(f"{method} {path}: the answer has more than {MAXIMUM_VALUE_BYTES} bytes")
        if answer.length:
            raise ProtocolError(f"{method} {path}: the answer lacks {answer.length} of the bytes that it announced")
        return Answer(answer.status, answer.headers, content)
