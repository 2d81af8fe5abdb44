"""Helm, by its own SDK: rendering without a cluster, and releases in one."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import helm_python

from minimill_cluster.manifests import Document, read
from minimill_tests.errors import SuiteError

T = TypeVar("T")
CANCEL_SECONDS = 30.0
POLL_SECONDS = 0.1
MANIFESTS = (".yaml", ".yml", ".json")
ERROR_SEVERITY = 3


class HelmFailed(AssertionError):
    """Helm refused; the text is what it said."""


def render(chart: Path, values: Mapping[str, Any], release: str, namespace: str) -> list[Document]:
    """The objects that a chart makes, its custom resource definitions and hooks among them.

    Raises:
        SuiteError: when the chart can't be rendered, or not to manifests.
    """
    try:
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(dict(values))
            rendered = loaded.render(dict(values), name=release, namespace=namespace)
            definitions = {entry["name"]: entry["data"] for entry in loaded.crds}
    except helm_python.HelmError as error:
        raise SuiteError(f"{chart}: {error}") from error
    texts = {name: text for name, text in rendered.items() if name.endswith(MANIFESTS)} | definitions
    return [document for name, text in sorted(texts.items()) for document in read(name, text)]


def lint(chart: Path, values: Mapping[str, Any]) -> list[str]:
    """What Helm's own linter says against a chart; its advice is left out.

    Raises:
        SuiteError: when the chart can't be read.
    """
    try:
        found = helm_python.lint(chart, dict(values))
    except helm_python.HelmError as error:
        raise SuiteError(f"{chart}: {error}") from error
    return [f"{entry['path']}: {entry['error']}" for entry in found["messages"] if entry["severity"] >= ERROR_SEVERITY]


class Releases:
    """Releases in one namespace of a cluster."""

    def __init__(self, kubeconfig: Path, context: str | None, namespace: str) -> None:
        self._config = helm_python.Config(
            kubeconfig_path=kubeconfig, kube_context=context, namespace=namespace, storage_driver="secret"
        )

    def close(self) -> None:
        """Lets go of the connection."""
        self._config.close()

    def install(self, chart: Path, release: str, values: Mapping[str, Any], seconds: int) -> None:
        """Installs a chart and runs its hooks; whether what it made gets ready is asked elsewhere.

        Raises:
            HelmFailed: when Helm refuses.
        """

        def work(context: helm_python.HelmContext) -> None:
            self._config.install(chart, release, dict(values), context=context, timeout=seconds, wait="hookOnly")

        interruptible(work)

    def uninstall(self, release: str, seconds: int) -> None:
        """Removes a release, if it is there.

        Raises:
            HelmFailed: when Helm refuses.
        """
        try:
            self._config.uninstall(release, ignore_not_found=True, timeout=seconds, wait="hookOnly")
        except helm_python.HelmNotFoundError:
            return
        except helm_python.HelmError as error:
            raise HelmFailed(str(error)) from error


def interruptible(work: Callable[[helm_python.HelmContext], T]) -> T:
    """Runs a call of Helm's in a thread, so that Ctrl-C is heard meanwhile; then Helm is told to stop.

    Raises:
        HelmFailed: when Helm refuses.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    context = helm_python.HelmContext()

    def run() -> None:
        try:
            results.append(work(context))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
    except BaseException:
        context.cancel()
        thread.join(CANCEL_SECONDS)
        raise
    if errors:
        raise HelmFailed(str(errors[0])) from errors[0]
    return results[0]
