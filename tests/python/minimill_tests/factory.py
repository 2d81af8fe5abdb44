"""A registry over a factory's home, by `mill serve`."""

import re
import subprocess
import tempfile
import time
from pathlib import Path

from minimill_tests.errors import NotRun

START_SECONDS = 30
STOP_SECONDS = 20
ADDRESS = re.compile(r"http://(127\.0\.0\.1:\d+)/v2/")


class MillServer:
    """`mill serve` on a free port of loopback."""

    def __init__(self, mill: Path, home: Path) -> None:
        command = [str(mill), "--home", str(home), "serve", "--listen", "127.0.0.1:0"]
        if not (home / "registry").is_dir():
            raise NotRun(f"no images: `{home}` is no home with a registry; run `mill cycle` first")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
            )
        except OSError as error:
            raise NotRun(f"no images: {error}; build `mill` first") from error
        #: `HOST:PORT`.
        self.address = self._wait()

    def _wait(self) -> str:
        end = time.monotonic() + START_SECONDS
        while True:
            self._log.seek(0)
            told = self._log.read(64 << 10).decode(errors="replace")
            if (match := ADDRESS.search(told)) is not None:
                return match[1]
            if time.monotonic() > end or self._process.poll() is not None:
                self.close()
                raise NotRun(f"no images: `mill serve` does not listen: {told.strip()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the server."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
