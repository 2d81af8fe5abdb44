"""memcached's text protocol."""

from minimill_tests.clients.connection import Connection
from minimill_tests.errors import ProtocolError


class MemcachedClient(Connection):
    """A client that sends one command at a time."""

    def version(self) -> str:
        """The server's version."""
        return self._one("version").removeprefix("VERSION ")

    def set(self, key: str, value: bytes, seconds: int = 0) -> bool:
        """Keeps a value, for ever or some seconds; tells whether the server took it."""
        self.send(f"set {key} 0 {seconds} {len(value)}\r\n".encode() + value + b"\r\n")
        return self._answer() == "STORED"

    def get(self, key: str) -> bytes | None:
        """A value, or None.

        Raises:
            ProtocolError: when the answer is neither.
        """
        self.send(f"get {key}\r\n".encode())
        line = self._answer()
        if line == "END":
            return None
        words = line.split(" ")
        if len(words) < 4 or words[:2] != ["VALUE", key] or not words[3].isdigit() or len(words[3]) > 20:
            raise ProtocolError(f"memcached sent {line[:80]!r}; expected `VALUE {key} FLAGS BYTES`")
        value = self.value(int(words[3]))
        end = self._answer()
        if end != "END":
            raise ProtocolError(f"memcached sent {end[:80]!r} after a value; expected `END`")
        return value

    def delete(self, key: str) -> bool:
        """Forgets a value; tells whether there was one."""
        return self._one(f"delete {key}") == "DELETED"

    def statistics(self) -> dict[str, str]:
        """What the server counts."""
        self.send(b"stats\r\n")
        found = {}
        while (line := self._answer()) != "END":
            words = line.split(" ", 2)
            if len(words) != 3 or words[0] != "STAT":
                raise ProtocolError(f"memcached sent {line[:80]!r}; expected `STAT NAME VALUE` or `END`")
            found[words[1]] = words[2]
        return found

    def _one(self, command: str) -> str:
        self.send(f"{command}\r\n".encode())
        return self._answer()

    def _answer(self) -> str:
        line = self.line().decode(errors="replace")
        if line.split(" ")[0] in ("ERROR", "CLIENT_ERROR", "SERVER_ERROR"):
            raise ProtocolError(f"memcached refused: {line}")
        return line
