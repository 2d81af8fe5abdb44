"""Charts out of an OCI registry: Debian's docker-registry, pushed and pulled by Helm."""

import hashlib
import json
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from conftest import RealRegistry, free_port
from test_readiness import CATALOG

from minimill_cluster import command


@pytest.fixture
def chart(registry: RealRegistry, tmp_path: Path) -> dict[str, Any]:
    """The catalog's chart of nginx in a registry, as a plan names it."""
    helm_python.package(CATALOG / "images/nginx/tests/helm/chart", destination=tmp_path)
    (archive,) = tmp_path.glob("*.tgz")
    helm_python.push(archive, f"oci://{registry.address}/charts", plain_http=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    reference = f"oci://{registry.address}/charts/nginx"
    return {"release": "web", "chart": reference, "version": "0.1.0", "sha256": digest}


def check(folder: Path, chart: dict[str, Any]) -> tuple[int, dict[str, dict[str, Any]]]:
    """What `minimill-cluster check` makes of a plan with one chart."""
    plan, results = folder / "cluster.yaml", folder / "results.json"
    plan.write_text(yaml.safe_dump({"charts": [chart]}), encoding="utf-8")
    results.unlink(missing_ok=True)
    code = command.main(["check", str(plan), f"--results={results}"])
    runs = json.loads(results.read_text())["runs"] if results.exists() else []
    return code, {check["id"]: check for run in runs for check in run["checks"]}


def test_a_chart_is_fetched_and_checked(folder: Path, chart: dict[str, Any]) -> None:
    code, checks = check(folder, chart)
    assert code == 0
    assert checks["kubernetes/web/chart-web/renders"]["message"] == "2 objects: Deployment/web, Service/web"


def test_another_chart_than_the_plan_says_is_refused(
    folder: Path, chart: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = check(folder, chart | {"sha256": "0" * 64})
    assert (code, checks) == (2, {})
    assert f"has the digest {chart['sha256']}, its plan says {'0' * 64}" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"version": "9.9.9"}, {"chart": f"oci://127.0.0.1:{free_port()}/charts/nginx"}])
def test_a_chart_that_can_not_be_fetched_is_not_run(
    folder: Path, chart: dict[str, Any], change: dict[str, str]
) -> None:
    code, checks = check(folder, chart | change)
    assert code == 3
    (found,) = checks.values()
    assert found["status"] == "not-run" and "can't be fetched" in found["message"]
