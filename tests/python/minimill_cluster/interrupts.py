"""Ctrl-C and SIGTERM: the first ends the work, and what follows it, the removal, goes on undisturbed."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Raises KeyboardInterrupt for the first signal that asks this process to end."""

    def __init__(self) -> None:
        #: A signal has come.
        self.asked = False
        self._raises = True

    @contextlib.contextmanager
    def watched(self) -> Iterator["Interrupts"]:
        """Listens to the signals."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What must not be interrupted; around it, so that there is no moment before the removal in which it could."""
        before, self._raises = self._raises, False
        try:
            yield
        finally:
            self._raises = before

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """The part of what is held that may be interrupted."""
        self._raises = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._raises = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if not self._raises:
            sys.stderr.write("what was made is removed first\n")
        elif first:
            raise KeyboardInterrupt
