"""Plans and checks of charts, by the command."""

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from minimill_cluster import command, plan
from minimill_cluster.manifests import read
from minimill_cluster.pod_security import RULES
from minimill_tests.errors import SuiteError

CATALOG = Path(__file__).parents[3] / "catalog"
CHARTS = Path(__file__).parent / "charts"
PLAN = {"charts": [{"release": "web", "chart": "chart"}]}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of the catalog's chart of nginx, with a plan beside it."""
    shutil.copytree(CATALOG / "images/nginx/tests/helm/chart", tmp_path / "chart")
    write(tmp_path, PLAN)
    return tmp_path / "chart"


def write(folder: Path, content: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def check(folder: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Runs `minimill-cluster check`; gives its exit code and the checks by their ids."""
    results = folder / "results.json"
    results.unlink(missing_ok=True)
    code = command.main(["check", str(folder), f"--results={results}", *arguments])
    document = json.loads(results.read_text()) if results.exists() else {"runs": []}
    return code, {check["id"]: check for run in document["runs"] for check in run["checks"]}


def test_every_chart_of_the_catalog_is_ready(tmp_path: Path) -> None:
    plans = sorted(CATALOG.rglob("cluster.yaml"))
    assert plans
    variables = ["--variable=REGISTRY=localhost:5000", "--variable=VERSION=1.26"]
    results = tmp_path / "results.json"
    assert command.main(["check", str(CATALOG / "images"), *variables, f"--results={results}"]) == 0
    checks = [check for run in json.loads(results.read_text())["runs"] for check in run["checks"]]
    charts = sum(len(yaml.safe_load(path.read_text())["charts"]) for path in plans)
    assert len(checks) == charts * (3 + len(RULES))
    assert {check["status"] for check in checks} == {"passed"}


def test_a_chart_that_breaks_a_rule_fails_with_what_to_do(chart: Path) -> None:
    template = chart / "templates/deployment.yaml"
    template.write_text(template.read_text().replace("runAsNonRoot: true", "runAsNonRoot: false"), encoding="utf-8")
    code, checks = check(chart.parent, f"--junitxml={chart.parent / 'junit.xml'}")
    assert code == 1
    failed = {name: found for name, found in checks.items() if found["status"] != "passed"}
    assert set(failed) == {"kubernetes/web/chart-web/pod-security/run-as-non-root"}
    assert failed.popitem()[1]["message"] == (
        "Deployment/web: spec.template.spec.securityContext.runAsNonRoot is `False`; "
        "set `runAsNonRoot: true` in the pod's securityContext"
    )
    (suite,) = ElementTree.parse(chart.parent / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("18", "1", "0")
    (failure,) = suite.iter("failure")
    assert "runAsNonRoot" in str(failure.get("message"))


def test_a_chart_that_no_api_server_takes_fails_by_the_schema(chart: Path) -> None:
    template = chart / "templates/service.yaml"
    template.write_text(template.read_text().replace("targetPort", "targetport"), encoding="utf-8")
    code, checks = check(chart.parent)
    found = checks["kubernetes/web/chart-web/schema"]
    assert (code, found["status"]) == (1, "failed")
    assert "Service/web (nginx/templates/service.yaml): spec.ports.0: " in found["message"]
    assert "targetport" in found["message"]


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("templates/service.yaml", "kind: Service", "kind: {{ .Values.absent.kind }}", "nil pointer"),
        ("templates/service.yaml", "kind: Service", "kind: [", "service.yaml"),
        ("templates/service.yaml", "kind: Service", "kind: Service\nkind: Other", "key `kind` stands twice"),
        ("templates/service.yaml", "kind: Service", "sort: Service", "expected an object with"),
        ("values.yaml", "replicas: 2", "replicas: two", "replicas"),
        ("Chart.yaml", "name: nginx", "name: [", "Chart.yaml"),
    ],
)
def test_a_chart_that_does_not_render_fails_with_the_place(
    chart: Path, file: str, old: str, new: str, told: str
) -> None:
    path = chart / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    code, checks = check(chart.parent)
    found = checks["kubernetes/web/chart-web/renders"]
    assert (code, found["status"]) == (1, "failed")
    assert told in found["message"]
    assert "kubernetes/web/chart-web/schema" not in checks


def test_objects_without_a_schema_are_not_run_and_a_chart_without_objects_fails(chart: Path) -> None:
    own = "apiVersion: example.org/v1\nkind: Own\nmetadata: {name: own}\n"
    (chart / "templates/own.yaml").write_text(own, encoding="utf-8")
    code, checks = check(chart.parent)
    found = checks["kubernetes/web/chart-web/schema"]
    assert (code, found["status"]) == (3, "not-run")
    assert "no schema of example.org/v1 Own" in found["message"]
    shutil.rmtree(chart / "templates")
    code, checks = check(chart.parent)
    found = checks["kubernetes/web/chart-web/renders"]
    assert (code, found["status"]) == (1, "failed") and "no objects" in found["message"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [", "cluster.yaml"),
        ("[]", "expected keys"),
        ({}, "`charts` is empty"),
        ({"charts": 1}, "`charts`: expected a list"),
        ({**PLAN, "chart": 1}, "no key `chart`; there are needed, kubernetes"),
        ({**PLAN, "needed": "yes"}, "expected true or false"),
        ({**PLAN, "kubernetes": 1}, 'expected a version such as "1.37"'),
        ({**PLAN, "within": "1h"}, "expected 1s to 3600s"),
        ({**PLAN, "namespace": "UPPER"}, "namespace `UPPER`"),
        ({"charts": [{"release": "web", "chart": "../chart"}]}, "expected a folder with a Chart.yaml"),
        ({"charts": [{"release": "web", "chart": "http://h/c.tgz"}]}, "expected oci://HOST/NAME or https://"),
        ({"charts": [{"release": "web", "chart": "oci://h/c", "version": "1"}]}, "needs `version`, and `sha256`"),
        ({"charts": PLAN["charts"] * 2}, "two charts with the same `release`"),
        ({"charts": [{"release": "a_b", "chart": "chart"}]}, "release `a_b`"),
        ({"charts": [{"release": "web", "chart": "chart", "values": {"a": ["${X}"]}}]}, "variable 'X' is not known"),
        ({**PLAN, "tasks": [{"name": "t", "image": "i"}]}, "expected one script, under one of shell, bash, python"),
        ({**PLAN, "tasks": [{"name": "t", "image": "i", "bash": "", "python": ""}]}, "expected one script"),
        (
            {**PLAN, "tasks": [{"name": "A b", "image": "i", "bash": ""}, {"name": "a-b", "image": "i", "bash": ""}]},
            "two tasks",
        ),
        ({**PLAN, "tasks": [{"image": "i", "bash": "true"}]}, "expected `name` and `image`"),
        ({**PLAN, "tasks": [{"name": "t", "image": "i", "bash": "true", "within": "0s"}]}, "within: 0s"),
    ],
)
def test_a_plan_that_is_none_is_a_usage_error(
    chart: Path, capsys: pytest.CaptureFixture[str], content: Any, told: str
) -> None:
    write(chart.parent, content)
    assert command.main(["check", str(chart.parent)]) == 2
    assert told in capsys.readouterr().err


def test_variables_are_put_into_values_and_images_but_not_into_scripts(chart: Path) -> None:
    content = {
        "charts": [{"release": "web", "chart": "chart", "values": {"image": {"reference": "${IMAGE}"}}}],
        "tasks": [{"name": "t", "image": "${REGISTRY}/x", "python": "print('$HOME')", "within": "5s"}],
    }
    loaded = plan.load(write(chart.parent, content), {"IMAGE": "a/b:c", "REGISTRY": "r"})
    assert loaded.charts[0].values == {"image": {"reference": "a/b:c"}}
    (task,) = loaded.tasks
    assert (task.image, task.script, task.interpreter, task.seconds) == ("r/x", "print('$HOME')", ("python3",), 5)


def test_folders_without_a_plan_and_bad_variables_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["check", str(tmp_path)]) == 2
    assert "no cluster.yaml" in capsys.readouterr().err
    assert command.main(["check", str(tmp_path), "--variable=x"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err


def test_manifests_are_read_as_an_api_server_does() -> None:
    text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {day: 2026-01-01}\n"
    assert read("x", text)[0].content["data"]["day"] == "2026-01-01"
    items = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [{"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}}],
    }
    assert [str(document) for document in read("x", yaml.safe_dump(items) + "---\n---\n" + text)] == [
        "A/a",
        "ConfigMap/a",
    ]
    with pytest.raises(SuiteError, match="aliases are not taken"):
        read("x", "a: &a {}\nb: *a\n")
    for bad in ["kind: A\nmetadata: {name: a}\n", "kind: A\napiVersion: v1\n", "text", "- 1"]:
        with pytest.raises(SuiteError, match="^x: "):
            read("x", bad)
