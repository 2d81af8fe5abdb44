"""Charts that don't lie beside their plan: fetched from an OCI registry or a chart repository, and held to a digest."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import helm_python

from minimill_cluster.plan import Chart, Plan
from minimill_tests.errors import NotRun, SuiteError

MAXIMUM_CHART_BYTES = 64 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@contextlib.contextmanager
def fetched(plans: list[Plan]) -> Iterator[list[Plan | NotRun]]:
    """The plans with all their charts on this machine, or why they can't be had.

    Raises:
        SuiteError: when a chart is another than its plan says.
    """
    with tempfile.TemporaryDirectory(prefix="minimill-charts-") as folder:
        found: list[Plan | NotRun] = []
        for number, plan in enumerate(plans):
            try:
                charts = tuple(local(chart, Path(folder) / f"{number}-{chart.release}") for chart in plan.charts)
                found.append(replace(plan, charts=charts))
            except NotRun as reason:
                found.append(reason)
        yield found


def local(chart: Chart, folder: Path) -> Chart:
    """A chart on this machine.

    Raises:
        NotRun: when it can't be fetched.
        SuiteError: when it is another than its plan says.
    """
    if chart.source is None:
        return chart
    source = chart.source
    folder.mkdir()
    plain = urlsplit(source.reference).hostname in LOOPBACK
    try:
        helm_python.pull(source.reference, version=source.version, destination=folder, plain_http=plain)
    except helm_python.HelmError as error:
        raise NotRun(f"chart {source.reference} {source.version} can't be fetched: {error}") from error
    archives = list(folder.glob("*.tgz"))
    if len(archives) != 1 or archives[0].stat().st_size > MAXIMUM_CHART_BYTES:
        raise SuiteError(f"chart {source.reference}: expected one archive of at most {MAXIMUM_CHART_BYTES} bytes")
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != source.sha256:
        raise SuiteError(
            f"chart {source.reference} {source.version} has the digest {digest}, its plan says {source.sha256}; "
            "look at what has changed before you take it"
        )
    return replace(chart, path=archives[0], source=None)
