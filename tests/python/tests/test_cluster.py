"""The sequence in a cluster, with real Helm and Kubernetes' own client, against a stand-in of the API server."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import ApiServer
from test_readiness import CATALOG

from minimill_cluster import command, objects, schema
from minimill_cluster.manifests import Document
from minimill_cluster.plan import Task
from minimill_cluster.pod_security import RULES

PACKAGE = Path(__file__).parent.parent
NGINX = CATALOG / "images/nginx/tests/helm/cluster.yaml"
VARIABLES = ["--variable=REGISTRY=local", "--variable=VERSION=1"]
TASKS = ["task-serves-its-page-through-the-service", "task-tells-no-version"]
STEPS = ["namespace", "install-nginx", "ready", *TASKS, "removal"]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A stand-in in which all goes well, until the test says otherwise."""
    made = ApiServer()
    yield made
    made.close()


class Outcome:
    """What `minimill-cluster run` came to."""

    def __init__(self, code: int, results: Path) -> None:
        self.code = code
        document = json.loads(results.read_text()) if results.exists() else {"runs": []}
        #: The checks in the cluster, by their step.
        self.steps: dict[str, dict[str, Any]] = {}
        for run in document["runs"]:
            for check in run["checks"]:
                _, _, step = check["id"].partition("/cluster")
                if step or check["id"].endswith("/cluster"):
                    self.steps[step.strip("/")] = check

    @property
    def statuses(self) -> dict[str, str]:
        return {step: check["status"] for step, check in self.steps.items()}


def arguments(server: ApiServer | None, folder: Path, plan: Path = NGINX) -> list[str]:
    kubeconfig = ["--kubeconfig", str(server.kubeconfig(folder / "kubeconfig"))] if server else []
    return ["run", str(plan), *VARIABLES, *kubeconfig, "--poll=0.05", f"--results={folder / 'results.json'}"]


def run(server: ApiServer | None, folder: Path, *more: str, plan: Path = NGINX) -> Outcome:
    code = command.main([*arguments(server, folder, plan), *more])
    return Outcome(code, folder / "results.json")


def quick(folder: Path, **changes: Any) -> Path:
    """The plan of nginx, with little time."""
    content = yaml.safe_load(NGINX.read_text()) | {"within": "1s"} | changes
    content["charts"][0]["chart"] = os.path.relpath(NGINX.parent / "chart", folder)
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def left(server: ApiServer) -> list[tuple[str, str, str]]:
    """What the stand-in still holds."""
    return sorted(server.objects)


def test_all_steps_pass_in_their_order_and_nothing_is_left(server: ApiServer, tmp_path: Path) -> None:
    seen: dict[str, list[dict[str, Any]]] = {}

    def watch(_request: str) -> None:
        for (resource, _, _), found in list(server.objects.items()):
            seen.setdefault(resource, []).append(json.loads(json.dumps(found)))

    server.behaviour.watch = watch
    outcome = run(server, tmp_path, f"--output={tmp_path / 'seen'}")
    assert outcome.code == 0, outcome.steps
    assert list(outcome.statuses.items()) == [(step, "passed") for step in STEPS]
    assert left(server) == []

    changes = [request for request in server.requests if not request.startswith("GET")]
    (namespace,) = {found["metadata"]["name"] for found in seen["namespaces"]}
    assert namespace.startswith("minimill-nginx-")
    inside = f"/namespaces/{namespace}"
    assert [change for change in changes if "/secrets" not in change] == [
        "POST /api/v1/namespaces",
        f"PATCH /api/v1{inside}/services/nginx",
        f"PATCH /apis/apps/v1{inside}/deployments/nginx",
        f"POST /api/v1{inside}/configmaps",
        f"POST /apis/batch/v1{inside}/jobs",
        f"POST /api/v1{inside}/configmaps",
        f"POST /apis/batch/v1{inside}/jobs",
        f"DELETE /api/v1{inside}/services/nginx",
        f"DELETE /apis/apps/v1{inside}/deployments/nginx",
        f"DELETE /api/v1{inside}",
    ]
    labels = seen["namespaces"][0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert any("wget" in found["data"]["script"] for found in seen["configmaps"])
    written = {path.name for path in (tmp_path / "seen" / namespace).iterdir()}
    assert {"events.txt", "pods.txt", "log-of-nginx-0--nginx.txt", "log-of-task-0-x--task.txt"} <= written


@pytest.mark.parametrize("plan", sorted(CATALOG.rglob("cluster.yaml")), ids=lambda path: path.parts[-4])
def test_every_plan_of_the_catalog_runs(server: ApiServer, tmp_path: Path, plan: Path) -> None:
    outcome = run(server, tmp_path, plan=plan)
    assert outcome.code == 0, outcome.steps
    assert set(outcome.statuses.values()) == {"passed"} and len(outcome.steps) >= 5
    assert left(server) == []


def test_what_the_stand_in_holds_is_of_kubernetes(server: ApiServer, tmp_path: Path) -> None:
    server.behaviour.waiting["local/busybox:latest"] = "ImagePullBackOff"
    run(server, tmp_path, "--keep")
    kinds = set()
    for found in server.objects.values():
        if found["kind"] != "Secret":
            assert list(schema.problems(Document("stand-in", found), "1.37")) == []
        kinds.add(found["kind"])
    assert {"ConfigMap", "Deployment", "Event", "Job", "Namespace", "Pod", "Service"} <= kinds


def test_what_the_tool_makes_is_of_kubernetes_and_restricted() -> None:
    task = Task("t", "image", ("bash",), "true", 60)
    for made in (objects.namespace("n"), objects.script("s", task), objects.job("j", task)):
        document = Document("tool", made)
        assert list(schema.problems(document, "1.37")) == []
        assert [str(breach) for rule in RULES for breach in rule.breaches(document)] == []
    (job,) = [objects.job("j", task)["spec"]]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (0, 180)
    assert job["template"]["spec"]["containers"][0]["command"] == ["bash", "/task/script"]


def test_an_image_that_can_not_be_pulled_is_told_at_once_and_all_is_removed(server: ApiServer, tmp_path: Path) -> None:
    server.behaviour.waiting["local/nginx:1"] = "ImagePullBackOff"
    start = time.monotonic()
    outcome = run(server, tmp_path)
    assert time.monotonic() - start < 20
    assert outcome.code == 1
    assert outcome.statuses == {
        **dict.fromkeys(["namespace", "install-nginx"], "passed"),
        "ready": "failed",
        **dict.fromkeys(TASKS, "not-run"),
        "removal": "passed",
    }
    ready = outcome.steps["ready"]
    assert ready["message"] == "Pod/nginx-0, container nginx (local/nginx:1): ImagePullBackOff: as told"
    assert any("Warning Pod/nginx-0 ImagePullBackOff" in text for text in ready["evidence"])
    assert any(text.startswith("log of nginx-0, nginx:") for text in ready["evidence"])
    assert outcome.steps[TASKS[0]]["message"] == "`ready` failed"
    assert left(server) == []


def test_what_does_not_get_ready_in_time_is_named(server: ApiServer, tmp_path: Path) -> None:
    server.behaviour.slow.add("local/nginx:1")
    outcome = run(server, tmp_path, plan=quick(tmp_path))
    assert outcome.code == 1
    assert outcome.steps["ready"]["message"] == "not ready within 1 s: Deployment/nginx has 0 of 2 replicas ready"
    assert left(server) == []


def test_a_task_that_fails_is_told_with_its_exit_code_and_log_and_the_next_one_runs(
    server: ApiServer, tmp_path: Path
) -> None:
    server.behaviour.exit_codes["Welcome"] = 3
    outcome = run(server, tmp_path)
    assert outcome.code == 1
    assert [outcome.statuses[task] for task in TASKS] == ["failed", "passed"]
    failed = outcome.steps[TASKS[0]]
    assert failed["message"] == "the task failed: BackoffLimitExceeded, exit code 3"
    assert "log of task-0-x, task:\nlog of task-0-x, task" in failed["evidence"]
    assert left(server) == []


@pytest.mark.parametrize(
    ("refused", "step", "told"),
    [
        ("POST namespaces", "namespace", "the server refuses: 403"),
        ("PATCH deployments", "install-nginx", "the stand-in was told to refuse this"),
        ("POST jobs", TASKS[0], "the server refuses: 403"),
        ("GET pods", "ready", "the server refuses: 403"),
    ],
)
def test_a_server_that_refuses_fails_that_step_and_all_is_removed(
    server: ApiServer, tmp_path: Path, refused: str, step: str, told: str
) -> None:
    server.behaviour.refused[refused] = 403
    outcome = run(server, tmp_path, plan=quick(tmp_path))
    assert outcome.code == 1
    assert outcome.statuses[step] == "failed", outcome.statuses
    assert told in outcome.steps[step]["message"]
    assert outcome.statuses["removal"] == "passed", outcome.steps["removal"]
    assert left(server) == []


def test_a_namespace_that_does_not_go_is_told(server: ApiServer, tmp_path: Path) -> None:
    server.behaviour.stuck = True
    outcome = run(server, tmp_path, "--removal=1")
    assert outcome.code == 1
    assert "is still there; look at its finalizers" in outcome.steps["removal"]["message"]


def test_a_namespace_is_kept_when_that_is_asked_for(server: ApiServer, tmp_path: Path) -> None:
    outcome = run(server, tmp_path, "--keep")
    assert outcome.code == 0
    (namespace,) = server.names("namespaces")
    assert outcome.steps["removal"]["message"] == f"namespace `{namespace}` is kept, as asked"
    assert server.names("deployments") == ["nginx"]


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("PATCH /apis/apps/v1", signal.SIGINT),
        ("POST /apis/batch/v1", signal.SIGTERM),
        ("DELETE /api/v1", signal.SIGINT),
    ],
)
def test_after_an_interruption_all_is_removed(
    server: ApiServer, tmp_path: Path, place: str, number: signal.Signals
) -> None:
    server.behaviour.slow.add("local/busybox:latest")
    reached = threading.Event()
    server.behaviour.watch = lambda request: reached.set() if request.startswith(place) else None
    process = subprocess.Popen(
        [sys.executable, "-m", "minimill_cluster", *arguments(server, tmp_path)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if place.startswith("DELETE"):
        # The first signal lets the removal begin, during which the second comes.
        server.behaviour.watch = lambda request: (
            process.send_signal(number)
            if request.startswith("POST /apis/batch/v1")
            else reached.set()
            if request.startswith(place)
            else None
        )
    assert reached.wait(60), process.communicate()[0]
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    outcome = Outcome(process.returncode, tmp_path / "results.json")
    assert "it was interrupted" in [check["message"] for check in outcome.steps.values()], output
    assert outcome.statuses["removal"] == "passed", output
    assert left(server) == []


def test_without_a_cluster_only_an_image_that_needs_one_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    told = f"no cluster: no kubeconfig at {tmp_path / 'absent'}; name one by --kubeconfig, or let --kind make a cluster"
    outcome = run(None, tmp_path)
    (check,) = outcome.steps.values()
    assert (outcome.code, check["status"], check["message"], check["blocks"]) == (0, "not-run", told, False)
    assert f"not run: {told} (kubernetes/nginx/cluster)" in capsys.readouterr().err
    outcome = run(None, tmp_path, "--require-cluster")
    assert (outcome.code, outcome.steps[""]["blocks"]) == (3, True)
    outcome = run(None, tmp_path, plan=quick(tmp_path, needed=True))
    assert (outcome.code, outcome.steps[""]["status"], outcome.steps[""]["blocks"]) == (3, "not-run", True)


def test_a_cluster_that_does_not_answer_is_none(server: ApiServer, tmp_path: Path) -> None:
    server.close()
    outcome = run(server, tmp_path)
    (check,) = outcome.steps.values()
    assert (outcome.code, check["status"]) == (0, "not-run")
    assert check["message"].startswith(f"no cluster: {server.url} does not answer: ")
    (tmp_path / "bad").write_text("kind: Config\n", encoding="utf-8")
    outcome = run(None, tmp_path, f"--kubeconfig={tmp_path / 'bad'}")
    assert outcome.steps[""]["message"].startswith(f"no cluster: {tmp_path / 'bad'}: ")


def test_a_chart_that_has_failed_is_not_installed(server: ApiServer, tmp_path: Path) -> None:
    plan = quick(tmp_path)
    content = yaml.safe_load(plan.read_text())
    content["charts"][0]["values"]["replicas"] = "two"
    plan.write_text(yaml.safe_dump(content), encoding="utf-8")
    outcome = run(server, tmp_path, plan=plan)
    assert (outcome.code, outcome.steps[""]["message"]) == (1, "the charts have failed")
    assert server.requests == ["GET /version/"]


KIND = """#!/bin/sh
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
case "$*" in *"$(cat "$(dirname "$0")/absent" 2>/dev/null || echo nothing)"*) echo "no such image"; exit 1 ;; esac
while [ $# -gt 0 ]; do [ "$1" = --kubeconfig ] && file=$2; [ "$1" = create ] && create=1; shift; done
[ -z "$create" ] || cp "$(dirname "$0")/kubeconfig" "$file" || { echo "no nodes"; exit 1; }
"""


def kind(folder: Path) -> Path:
    """Programs in the places of kind, which is not to be had here, and docker; they note their calls."""
    (folder / "bin").mkdir()
    for name in ("kind", "docker"):
        program = folder / "bin" / name
        program.write_text(KIND, encoding="utf-8")
        program.chmod(0o755)
    return folder / "bin"


def test_a_cluster_of_kind_is_made_and_removed_also_after_a_failure(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kind(tmp_path)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    outcome = run(None, tmp_path, "--kind")
    assert (outcome.code, outcome.steps[""]["message"]) == (0, "no cluster: kind made none: no nodes")
    server.kubeconfig(folder / "kubeconfig")
    assert run(None, tmp_path, "--kind").code == 0
    server.behaviour.refused["POST namespaces"] = 500
    assert run(None, tmp_path, "--kind").code == 1
    calls = [line.split() for line in (folder / "calls").read_text().splitlines()]
    loads = [["docker", "pull"], ["kind", "load"]] * 2
    full = [["kind", "create"], *loads, ["kind", "delete"]]
    assert [call[:2] for call in calls] == [["kind", "create"], ["kind", "delete"], *full, *full]
    assert [call[2] for call in calls if call[0] == "docker"] == ["local/busybox:latest", "local/nginx:1"] * 2
    names = [call[call.index("--name") + 1] for call in calls if call[1] in ("create", "delete")]
    assert names[0::2] == names[1::2] and len(set(names)) == 3
    (folder / "absent").write_text("pull local/nginx:1", encoding="utf-8")
    outcome = run(None, tmp_path, "--kind")
    assert outcome.steps[""]["message"] == "no cluster: `docker pull local/nginx:1` failed: no such image"
    assert (folder / "calls").read_text().splitlines()[-1].startswith("kind delete cluster")
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = run(None, tmp_path, "--kind")
    assert outcome.steps[""]["message"].startswith("no cluster: no `kind` in PATH")
