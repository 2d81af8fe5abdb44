"""The pytest plugin: fixtures `stack` and `image` are run once for every tag."""

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from minimill_tests import layouts
from minimill_tests.engine import CommandError, Engine, open_engine
from minimill_tests.errors import NotApplicable, NotRun, SuiteError
from minimill_tests.factory import MillServer
from minimill_tests.images import ImageFile, Registry, Source, TaggedImage, checked_name, version_key
from minimill_tests.layouts import Layout, LayoutServer
from minimill_tests.platform import Platform, platform
from minimill_tests.results import NOT_APPLICABLE, NOT_RUN, Check, Results
from minimill_tests.stack import Stack
from minimill_tests.suite import Choice, Substitution, Suite, find, suite_name


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("minimill", "images of Minimill")
    group.addoption("--registry", metavar="HOST:PORT", help="registry that lists tags and that images are pulled from")
    group.addoption("--mill", metavar="PROGRAM", help="serve --home with this `mill` and take its registry")
    group.addoption("--home", metavar="FOLDER", default=".mill", help="the home that --mill serves")
    group.addoption("--layouts", metavar="FOLDER", help="serve the OCI layouts in a folder")
    group.addoption("--layout", metavar="NAME=FOLDER", action="append", default=[], help="run an OCI layout's tags")
    group.addoption("--images", metavar="FILE", help="take tags from `mill --format json image list` instead")
    group.addoption("--tags", choices=["all", "distinct"], default="all", help="every tag, or one for each digest")
    group.addoption(
        "--candidate", metavar="NAME=TAG", action="append", default=[], help="run only this tag of an image"
    )
    group.addoption("--platform", metavar="OS/ARCH", help="run the images of linux/amd64 or linux/arm64")
    group.addoption("--docker", metavar="ENGINE", default="auto", help="auto, private, or unix:///PATH")
    group.addoption("--results", metavar="FILE", help="write the results as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "image(name): run the test with every tag of this image")
    config.pluginmanager.register(Session(config), "minimill-session")


class Session:
    """What one pytest session holds: the registry, the engine, the results."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._server: MillServer | LayoutServer | None = None
        self._source: Source | NotRun | None = None
        self._engine: Engine | NotRun | None = None
        self._runs: dict[Path, tuple[Suite, list[Substitution | NotRun]]] = {}
        self._pending: dict[int, tuple[pytest.Item, pytest.CallInfo[None]]] = {}
        self.results = Results()
        #: Suites or arguments are wrong.
        self.misused = False

    def option(self, name: str) -> Any:
        return self._config.getoption(name)

    @property
    def choice(self) -> Choice:
        """Which tags are gone through."""
        candidates: dict[str, tuple[str, ...]] = {}
        for text in self.option("candidate"):
            name, separator, tag = text.partition("=")
            if not separator or not tag:
                raise SuiteError(f"--candidate `{text}`: expected NAME=TAG")
            candidates[checked_name(name)] = (*candidates.get(name, ()), tag)
        if not candidates:
            for name, layout in layouts.candidates(self.option("layout")).items():
                candidates[name] = tuple(sorted(layout.tags, key=version_key))
        return Choice(self.option("tags") == "distinct", candidates)

    @property
    def source(self) -> Source:
        """Where tags are listed.

        Raises:
            NotRun: when that can't be asked.
        """
        if self._source is None:
            try:
                self._source = self._open_source()
            except NotRun as reason:
                self._source = reason
        if isinstance(self._source, NotRun):
            raise self._source
        return self._source

    def _open_source(self) -> Source:
        registry = self.option("registry")
        if registry is None and self.option("mill") is not None:
            self._server = MillServer(Path(self.option("mill")), Path(self.option("home")))
            registry = self._server.address
        if registry is None and (self.option("layouts") is not None or self.option("layout")):
            self._server = LayoutServer(self._layouts())
            registry = self._server.address
        if self.option("images") is not None:
            return ImageFile(Path(self.option("images")), registry)
        if registry is None:
            raise NotRun("no images: name a registry by --registry, a home by --mill and --home, or OCI layouts")
        return Registry(registry)

    def _layouts(self) -> dict[str, list[Layout]]:
        """The layouts that are asked for, candidates before what is published."""
        folder = self.option("layouts")
        found = layouts.home_layouts(Path(folder)) if folder is not None else {}
        for name, layout in layouts.candidates(self.option("layout")).items():
            found[name] = [layout, *found.get(name, [])]
        return found

    @property
    def engine(self) -> Engine:
        """The container engine, started when it is first asked for.

        Raises:
            NotRun: when it can't be started.
        """
        if self._engine is None:
            try:
                self._engine = open_engine(self.option("docker"))
            except NotRun as reason:
                self._engine = reason
        if isinstance(self._engine, NotRun):
            raise self._engine
        return self._engine

    def platform(self) -> Platform:
        """The platform whose images are run.

        Raises:
            NotRun: when this machine can't.
            SuiteError: when there is no such platform.
        """
        found = platform(self.option("platform"))
        self.results.platform = found
        return found

    def runs(self, folder: Path) -> tuple[Suite, list[Substitution | NotRun]]:
        """The suite of a folder and what is substituted in it, or why that isn't known."""
        if folder not in self._runs:
            suite = find(folder)
            if suite is None:
                raise SuiteError(f"{folder}: fixture `stack` needs a `compose.yaml` or `Dockerfile` beside the test")
            try:
                self._runs[folder] = (suite, [*suite.substitutions(self.source, self.choice)])
            except NotRun as reason:
                self._runs[folder] = (suite, [reason])
        return self._runs[folder]

    @pytest.hookimpl
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        try:
            if "stack" in metafunc.fixturenames:
                _, runs = self.runs(metafunc.definition.path.parent)
                with contextlib.suppress(NotRun):
                    self.platform()
                metafunc.parametrize("stack", runs, ids=name_of, indirect=True, scope="module")
            elif "image" in metafunc.fixturenames and (marker := metafunc.definition.get_closest_marker("image")):
                images = self._images(marker.args[0])
                metafunc.parametrize("image", images, ids=name_of, indirect=True, scope="module")
        except SuiteError as error:
            self.misused = True
            raise pytest.UsageError(str(error)) from error

    def _images(self, name: str) -> list[Substitution | NotRun]:
        try:
            images = [self.source.image(name, tag) for tag in self.choice.tags(self.source, name)]
            if not images:
                raise NotApplicable(f"this is a test of {name}")
        except NotRun as reason:
            return [reason]
        return [Substitution({"VERSION": image.tag}, (image,), "VERSION") for image in images]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
        report: pytest.TestReport = (yield).get_result()
        stack = getattr(item, "funcargs", {}).get("stack")
        if report.failed and isinstance(stack, Stack):
            try:
                report.sections.extend(stack.evidence().items())
            except CommandError as error:
                report.sections.append(("containers", str(error)))
        # Judged when it is told: a plugin that retries tests decides in between what becomes of a failure.
        self._pending[id(report)] = (item, call)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (pending := self._pending.pop(id(report), None)) is not None:
            self._record(*pending, report)

    def _record(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        parameters = dict(getattr(getattr(item, "callspec", None), "params", {}))
        kinds = [kind for kind in ("stack", "image") if kind in parameters]
        if not kinds:
            return
        substitution = parameters.pop(kinds[0])
        kind = {"stack": "compose", "image": "client"}[kinds[0]]
        name = item.originalname if isinstance(item, pytest.Function) else item.name
        name = name.removeprefix("test_").replace("_", "-") + "".join(f"[{value}]" for value in parameters.values())
        run = substitution if isinstance(substitution, Substitution) else None
        check = self.results.check(f"{kind}/{suite_name(item.path.parent)}", relative(item), run, name)
        check.milliseconds += round(report.duration * 1000)
        judge(check, item, call, report)

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        reasons: dict[str, int] = {}
        for _, message in self.results.not_run():
            reasons[message] = reasons.get(message, 0) + 1
        for message, count in reasons.items():
            terminalreporter.write_line(f"{NOT_RUN}{message} ({count} checks)")

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        if (path := self.option("results")) is not None:
            self.results.write(Path(path))

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        try:
            if isinstance(self._engine, Engine):
                self._engine.close()
        finally:
            if self._server is not None:
                self._server.close()


def judge(check: Check, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Adds one phase of a test (setup, call, teardown) to its check. What failed stays failed, unless it is retried."""
    reason = str(call.excinfo.value) if call.excinfo is not None else ""
    first = next(iter(reason.strip().splitlines()), "") or (call.excinfo.typename if call.excinfo else "")
    if report.outcome == "rerun":  # type: ignore[comparison-overlap]
        check.status, check.message = "passed", ""
        check.add_evidence("an attempt failed and was retried", f"{report.when}: {reason}")
    elif report.failed:
        check.status, check.message = "failed", first
        check.add_evidence(f"failed in {report.when}", reason)
        for title, text in report.sections:
            check.add_evidence(title, text)
    elif report.skipped and check.status != "failed":
        known = hasattr(report, "wasxfail")
        check.status = "not-run" if known or first.startswith(NOT_RUN) else "not-applicable"
        told = f"expected to fail: {report.wasxfail}" if known else first
        check.message = told.removeprefix(NOT_RUN).removeprefix(NOT_APPLICABLE)
    elif check.status == "passed" and not check.message:
        function = getattr(item, "function", None)
        check.message = next(iter((getattr(function, "__doc__", None) or check.id).strip().splitlines()))


def relative(item: pytest.Item) -> str:
    """A test's file, from the folder that pytest was started in."""
    path, start = item.path, item.config.invocation_params.dir
    return str(path.relative_to(start) if path.is_relative_to(start) else path)


def name_of(value: object) -> str:
    """How a run is called among its test's names."""
    return skipped(value).split(":")[0].replace(" ", "-") if isinstance(value, NotRun) else str(value)


def skipped(reason: NotRun) -> str:
    """With what words a test is skipped; they tell its status."""
    return f"{NOT_APPLICABLE if isinstance(reason, NotApplicable) else NOT_RUN}{reason}"


def session_of(request: pytest.FixtureRequest) -> Session:
    session = request.config.pluginmanager.get_plugin("minimill-session")
    assert isinstance(session, Session)
    return session


def substitution_of(request: pytest.FixtureRequest) -> Substitution:
    """What is substituted in this run; skips the test where that isn't known."""
    value = getattr(request, "param", None)
    if isinstance(value, NotRun):
        pytest.skip(skipped(value))
    assert isinstance(value, Substitution), "mark the test by `@pytest.mark.image(NAME)`"
    return value


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest) -> TaggedImage:
    """The image that the test is marked with, once for every tag."""
    return substitution_of(request).images[0]


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The suite beside the test, running, once for every tag of each of its images."""
    substitution = substitution_of(request)
    session = session_of(request)
    try:
        suite, _ = session.runs(request.path.parent)
        registry = session.source.registry
        if registry is None:
            raise NotRun("no registry: name it by --registry")
        runs_on = session.platform()
        for tagged in substitution.images:
            platforms = session.source.platforms(tagged)
            if platforms is not None and runs_on.name not in platforms:
                made_for = ", ".join(sorted(platforms))
                raise NotApplicable(f"{tagged.name}:{tagged.tag} is not for {runs_on.name}, but for {made_for}")
        made = Stack(session.engine, suite, substitution, registry, runs_on)
    except NotRun as reason:
        pytest.skip(skipped(reason))
    with made.running() as running:
        yield running
        assert not running.ended(), f"services ended during the tests: {'; '.join(running.ended())}\n{running.logs()}"
