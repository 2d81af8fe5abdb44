"""What is done in a cluster, in its order: namespace, charts, waiting, tasks; then evidence and removal, always."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client

from minimill_cluster import evidence, objects, wait
from minimill_cluster.cluster import ANSWER_SECONDS, REFUSALS, Cluster, reason
from minimill_cluster.helm import Releases
from minimill_cluster.interrupts import Interrupts
from minimill_cluster.plan import Chart, Plan, Task
from minimill_cluster.readiness import Recorder
from minimill_tests.results import Check


@dataclass(frozen=True)
class Settings:
    """How a sequence works."""

    #: Seconds between two questions to the server.
    poll: float = 1.0
    #: How long the removal may take.
    removal_seconds: int = 180
    #: The namespace stays, to look at.
    keep: bool = False
    #: Where events and logs are written.
    output: Path | None = None


class Sequence:
    """One run of a plan in a cluster, in a namespace of its own."""

    def __init__(
        self, plan: Plan, cluster: Cluster, recorder: Recorder, settings: Settings, interrupts: Interrupts
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._recorder = recorder
        self._settings = settings
        self._interrupts = interrupts
        self._core = client.CoreV1Api(cluster.api)
        self._checks: list[Check] = []
        self._made = False
        #: Never one that is there already, so that nothing of others is removed.
        self.namespace = f"minimill-{plan.name[:40]}-{secrets.token_hex(4)}"

    def run(self) -> None:
        """Does everything, and removes it; each step is a check. An interruption is recorded, not raised."""
        releases = Releases(self._cluster.kubeconfig, self._cluster.context, self.namespace)
        with contextlib.closing(releases), self._interrupts.held():
            try:
                with contextlib.suppress(KeyboardInterrupt), self._interrupts.raising():
                    self._work(releases)
            finally:
                self._collect()
                if self._settings.keep:
                    self._recorder.check("cluster/removal").message = f"namespace `{self.namespace}` is kept, as asked"
                else:
                    self._step("removal", lambda: self._remove(releases), "nothing is left")

    def _work(self, releases: Releases) -> None:
        steps = list(self._steps(releases))
        for number, (name, work, good) in enumerate(steps):
            passed = self._step(name, work, good)
            if not passed and not name.startswith("task-"):
                for left, _, _ in steps[number + 1 :]:
                    self._recorder.not_run(f"cluster/{left}", f"`{name}` failed")
                return

    def _steps(self, releases: Releases) -> Iterator[tuple[str, Callable[[], None], str]]:
        plan, namespace = self._plan, self.namespace
        yield "namespace", self._make_namespace, f"`{namespace}` enforces Pod Security restricted"
        for chart in plan.charts:

            def install(chart: Chart = chart) -> None:
                releases.install(chart.path, chart.release, chart.values, plan.seconds)

            yield f"install-{chart.release}", install, "Helm installed it"
        yield "ready", self._wait, "everything that was installed is ready"
        for number, task in enumerate(plan.tasks):

            def run(number: int = number, task: Task = task) -> None:
                self._run_task(f"task-{number}", task)

            yield f"task-{task.slug}", run, task.name

    def _step(self, name: str, work: Callable[[], None], good: str) -> bool:
        check = self._recorder.check(f"cluster/{name}")
        self._checks.append(check)
        start = time.monotonic()
        check.message = good
        try:
            work()
        except AssertionError as error:
            check.status, check.message = "failed", str(error)
        except REFUSALS as error:
            check.status, check.message = "failed", f"the server refuses: {reason(error)}"
        except KeyboardInterrupt:
            check.status, check.message = "failed", "it was interrupted"
            raise
        finally:
            check.milliseconds = round((time.monotonic() - start) * 1000)
        return check.status == "passed"

    def _make_namespace(self) -> None:
        # Whatever the answer, it may be there from now on.
        self._made = True
        self._core.create_namespace(objects.namespace(self.namespace), _request_timeout=ANSWER_SECONDS)

    def _wait(self) -> None:
        settings = self._settings
        wait.until(lambda: wait.workloads(self._cluster, self.namespace), self._plan.seconds, settings.poll)

    def _run_task(self, name: str, task: Task) -> None:
        asked = {"namespace": self.namespace, "_request_timeout": ANSWER_SECONDS}
        self._core.create_namespaced_config_map(body=objects.script(name, task), **asked)
        client.BatchV1Api(self._cluster.api).create_namespaced_job(body=objects.job(name, task), **asked)
        # The cluster itself ends a job after its deadline; a little later it is known.
        seconds = objects.deadline(task) + ANSWER_SECONDS
        wait.until(lambda: wait.job(self._cluster, self.namespace, name), seconds, self._settings.poll)

    def _collect(self) -> None:
        """Keeps what there is to see; with the checks that failed, the end of it."""
        failed = [check for check in self._checks if check.status == "failed"]
        if not self._made or not (failed or self._settings.output):
            return
        found = evidence.collect(self._cluster, self.namespace)
        for check in failed:
            for title, text in found.items():
                check.add_evidence(title, text)
        if self._settings.output is not None:
            evidence.write(found, self._settings.output / self.namespace)

    def _remove(self, releases: Releases) -> None:
        if not self._made:
            return
        problems = []
        for chart in reversed(self._plan.charts):
            try:
                releases.uninstall(chart.release, self._settings.removal_seconds)
            except AssertionError as error:
                problems.append(f"{chart.release}: {error}")
        wait.until(self._delete_namespace, self._settings.removal_seconds, self._settings.poll)
        assert not problems, f"Helm did not uninstall {'; '.join(problems)}"

    def _delete_namespace(self) -> list[str]:
        try:
            found = self._core.read_namespace(self.namespace, _request_timeout=ANSWER_SECONDS)
            if found.metadata.deletion_timestamp is None:
                self._core.delete_namespace(self.namespace, _request_timeout=ANSWER_SECONDS)
        except client.ApiException as error:
            if error.status == 404:
                return []
            raise
        return [f"namespace `{self.namespace}` is still there; look at its finalizers, then delete it by hand"]
