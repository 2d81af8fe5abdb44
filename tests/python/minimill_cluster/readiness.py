"""Checks of charts that need no cluster."""

import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from minimill_cluster import helm, schema
from minimill_cluster.manifests import Document
from minimill_cluster.plan import Chart, Plan
from minimill_cluster.pod_security import RULES, Rule, containers
from minimill_tests.errors import NotRun, SuiteError
from minimill_tests.results import Check, Results

MAXIMUM_TOLD = 20


class Recorder:
    """Checks of one plan, as they are kept in the results."""

    def __init__(self, results: Results, plan: Plan) -> None:
        self._results = results
        self._plan = plan
        #: Checks that were not run and need not have been: those in a cluster, of an image that needs none.
        self.needless = 0
        self._checks: list[Check] = []

    @property
    def failed(self) -> bool:
        """Whether a check of this plan has failed."""
        return any(check.status == "failed" for check in self._checks)

    def without_cluster(self, reason: str, required: bool) -> None:
        """Records that the cluster's part was not run; whether that counts is the plan's or the policy's to say."""
        if any(check.id.endswith("/cluster") for check in self._checks):
            return
        check = self.not_run("cluster", reason)
        if not (required or self._plan.needed):
            check.blocks = False
            self.needless += 1

    def check(self, name: str) -> Check:
        """A new check."""
        check = self._results.check(f"kubernetes/{self._plan.name}", str(self._plan.path), None, name)
        self._checks.append(check)
        return check

    def not_run(self, name: str, reason: str) -> Check:
        """Records a check that was not run."""
        check = self.check(name)
        check.status, check.message = "not-run", reason
        return check

    def judge(self, name: str, problems: Callable[[], Iterable[str]], good: str, remedy: str = "") -> Check:
        """Records a check that fails with the first problem, and tells all of them as evidence."""
        check = self.check(name)
        start = time.monotonic()
        try:
            found = list(problems())
        except NotRun as reason:
            check.status, check.message = "not-run", str(reason)
        except (AssertionError, SuiteError) as error:
            check.status, check.message = "failed", str(error)
        else:
            check.message = good
            if found:
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                check.status = "failed"
                check.message = found[0] + more + (f"; {remedy}" if remedy else "")
                check.evidence += found[:MAXIMUM_TOLD] if more else []
        finally:
            check.milliseconds = round((time.monotonic() - start) * 1000)
        return check


def check_charts(plan: Plan, recorder: Recorder) -> set[str]:
    """Renders every chart of a plan and holds what comes out against the schemas and the rules; gives the images that
    the charts and tasks run."""
    images = {task.image for task in plan.tasks}
    for chart in plan.charts:
        for document in check_chart(chart, plan.kubernetes or schema.newest_version(), recorder):
            _, pod = document.pod() or ("", {})
            images.update(str(container["image"]) for _, container in containers(pod) if "image" in container)
    return images


def check_chart(chart: Chart, version: str, recorder: Recorder) -> list[Document]:
    """Checks one chart with its plan's values; gives its objects."""
    prefix = f"chart-{chart.release}"
    recorder.judge(
        f"{prefix}/lint", lambda: helm.lint(chart.path, chart.values), "Helm's linter has nothing against it"
    )
    documents: list[Document] = []

    def rendered() -> Iterable[str]:
        documents.extend(helm.render(chart.path, chart.values, chart.release, "default"))
        return [] if documents else [f"{chart.path}: no objects; does a value turn them all off?"]

    check = recorder.judge(f"{prefix}/renders", rendered, "")
    if check.status != "passed":
        return []
    check.message = f"{len(documents)} objects: {', '.join(str(document) for document in documents)}"
    recorder.judge(
        f"{prefix}/schema",
        lambda: [problem for document in documents for problem in schema.problems(document, version)],
        f"all objects are of Kubernetes {version}",
    )

    def breaches(rule: Rule) -> Iterable[str]:
        return (str(breach) for document in documents for breach in rule.breaches(document))

    pods = [document for document in documents if document.pod() is not None]
    for rule in RULES:
        recorder.judge(
            f"{prefix}/pod-security/{rule.id}",
            functools.partial(breaches, rule),
            f"{len(pods)} of {len(pods)} pods keep to it" if pods else "there are no pods",
            rule.remedy,
        )
    return documents


def plans(paths: Iterable[Path]) -> list[Path]:
    """The plans in files and folders.

    Raises:
        SuiteError: when there is none.
    """
    found: list[Path] = []
    for path in paths:
        here = [path] if path.is_file() else sorted(path.rglob("cluster.yaml"))
        if not here:
            raise SuiteError(f"{path}: no cluster.yaml; write one beside the image's chart")
        found += here
    return found
