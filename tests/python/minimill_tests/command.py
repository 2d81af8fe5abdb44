"""The command `minimill-tests`: pytest over suites, with Minimill's exit codes."""

import signal
import sys
from importlib.metadata import entry_points
from types import FrameType

import pytest

from minimill_tests import plugin
from minimill_tests.plugin import Session

PASSED, FAILED, USAGE, ENVIRONMENT = 0, 1, 2, 3
TEST_SECONDS = 300


def main(arguments: list[str] | None = None) -> int:
    """Runs suites. Exit codes: 0 all passed; 1 a test failed; 2 usage; 3 something could not be run."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # pytest now takes down what was started; once is enough.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    watch = Watch()
    # Reports and caches never go into the folders of suites; each suite may have a test of the same name.
    own = ["-p", "no:cacheprovider", "--import-mode=importlib", f"--timeout={TEST_SECONDS}", "--strict-markers"]
    # Where the package is installed pytest finds the plugin by itself, after this module has imported it.
    own += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    plugins = [watch] if installed() else [watch, plugin]
    code = pytest.main([*own, *(sys.argv[1:] if arguments is None else arguments)], plugins=plugins)
    return exit_code(int(code), watch.session)


class Watch:
    """Remembers the session, which is gone when pytest has ended."""

    def __init__(self) -> None:
        self.session: Session | None = None

    @pytest.hookimpl
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        found = session.config.pluginmanager.get_plugin("minimill-session")
        self.session = found if isinstance(found, Session) else None


def installed() -> bool:
    """Whether pytest finds the plugin by itself."""
    return any(point.value == "minimill_tests.plugin" for point in entry_points(group="pytest11"))


def exit_code(code: int, session: Session | None) -> int:
    """Minimill's exit code for one of pytest's."""
    misused = session is not None and session.misused
    if misused or code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        return USAGE
    if code != pytest.ExitCode.OK:
        return FAILED
    return ENVIRONMENT if session is None or session.results.count("not-run") else PASSED


if __name__ == "__main__":
    sys.exit(main())
