"""The command `minimill-cluster`."""

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree

from minimill_cluster import cluster, fetch, plan, readiness
from minimill_cluster.interrupts import Interrupts
from minimill_cluster.plan import Plan
from minimill_cluster.readiness import Recorder
from minimill_cluster.sequence import Sequence, Settings
from minimill_tests.errors import NotRun, SuiteError
from minimill_tests.results import Results

PASSED, FAILED, USAGE, ENVIRONMENT = 0, 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Checks plans, or runs them. Exit codes: 0 all passed; 1 one failed; 2 usage; 3 one that counts was not run."""
    options = parser().parse_args(arguments)
    results = Results()
    try:
        variables = dict(variable(text) for text in options.variable)
        plans = [plan.load(path, variables) for path in readiness.plans(options.plans)]
        recorders = [Recorder(results, loaded) for loaded in plans]
        with fetch.fetched(plans) as found:
            work = []
            images: set[str] = set()
            for loaded, recorder in zip(found, recorders, strict=True):
                if isinstance(loaded, NotRun):
                    recorder.not_run("charts", str(loaded))
                else:
                    images |= readiness.check_charts(loaded, recorder)
                    work.append((loaded, recorder))
            if options.command == "run" and work:
                run(work, images, options)
    except SuiteError as error:
        told(f"minimill-cluster: {error}")
        return USAGE
    if options.results is not None:
        results.write(options.results)
    if options.junitxml is not None:
        options.junitxml.write_bytes(junit(results))
    summary(results)
    if results.count("failed"):
        return FAILED
    needless = sum(recorder.needless for recorder in recorders)
    return ENVIRONMENT if results.count("not-run") > needless else PASSED


def run(work: list[tuple[Plan, Recorder]], images: set[str], options: argparse.Namespace) -> None:
    """Runs plans in a cluster, one after the other; until one is interrupted."""
    settings = Settings(options.poll, options.removal, options.keep, options.output)
    with Interrupts().watched() as interrupts:
        try:
            with cluster.opened(options.kubeconfig, options.context, options.kind, images) as opened:
                for loaded, recorder in work:
                    if interrupts.asked:
                        recorder.without_cluster("an earlier plan was interrupted", options.require_cluster)
                    elif recorder.failed:
                        recorder.without_cluster("the charts have failed", True)
                    else:
                        Sequence(loaded, opened, recorder, settings, interrupts).run()
        except NotRun as reason:
            for _, recorder in work:
                recorder.without_cluster(str(reason), options.require_cluster)
        except KeyboardInterrupt:
            for _, recorder in work:
                recorder.without_cluster("it was interrupted", True)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(prog="minimill-cluster", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="render charts and hold them against schemas and Pod Security")
    runs = commands.add_parser("run", help="the same, then install them in a cluster and run the plans' tasks")
    for command in (check, runs):
        command.add_argument("plans", nargs="+", type=Path, metavar="PLAN", help="cluster.yaml, or a folder of some")
        command.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="for `${NAME}`")
        command.add_argument("--results", type=Path, metavar="FILE", help="write the results as JSON")
        command.add_argument("--junitxml", type=Path, metavar="FILE", help="write the results as JUnit XML")
    where = runs.add_mutually_exclusive_group()
    where.add_argument("--kubeconfig", type=Path, metavar="FILE", help="the cluster; by default KUBECONFIG's")
    where.add_argument("--kind", action="store_true", help="make a cluster with kind, and remove it")
    runs.add_argument("--context", metavar="NAME", help="a context of the kubeconfig, by default its current one")
    runs.add_argument("--require-cluster", action="store_true", help="without a cluster nothing counts as passed")
    runs.add_argument("--keep", action="store_true", help="leave the namespaces, to look at")
    runs.add_argument("--output", type=Path, metavar="FOLDER", help="write events and logs of each namespace")
    runs.add_argument("--removal", type=int, default=180, metavar="SECONDS", help="how long the removal may take")
    runs.add_argument("--poll", type=float, default=1.0, metavar="SECONDS", help=argparse.SUPPRESS)
    return made


def variable(text: str) -> tuple[str, str]:
    """A variable of the command line."""
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise SuiteError(f"--variable `{text}`: expected NAME=VALUE")
    return name, value


def summary(results: Results) -> None:
    """Tells what did not pass, and how many did."""
    for run_ in results.document()["runs"]:
        for check in run_["checks"]:
            if check["status"] != "passed":
                told(f"{check['status'].replace('-', ' ')}: {check['message']} ({check['id']})")
    counts = {status: results.count(status) for status in ("passed", "failed", "not-run")}
    told(", ".join(f"{count} {status.replace('-', ' ')}" for status, count in counts.items() if count))


def told(text: str) -> None:
    """Says something to the person in front."""
    sys.stderr.write(text + "\n")


def junit(results: Results) -> bytes:
    """The results as JUnit XML."""
    root = ElementTree.Element("testsuites")
    for run_ in results.document()["runs"]:
        suite = ElementTree.SubElement(root, "testsuite", name=run_["suite"])
        counts = {"tests": 0, "failures": 0, "skipped": 0}
        for check in run_["checks"]:
            counts["tests"] += 1
            seconds = f"{check['milliseconds'] / 1000:.3f}"
            case = ElementTree.SubElement(suite, "testcase", classname=run_["suite"], name=check["id"], time=seconds)
            if check["status"] == "failed":
                counts["failures"] += 1
                failure = ElementTree.SubElement(case, "failure", message=printable(check["message"]))
                failure.text = printable("\n".join(check["evidence"]))
            elif check["status"] != "passed":
                counts["skipped"] += 1
                reason = f"{check['status'].replace('-', ' ')}: {check['message']}"
                ElementTree.SubElement(case, "skipped", message=printable(reason))
        suite.attrib.update({key: str(count) for key, count in counts.items()})
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def printable(text: str) -> str:
    """The text without what XML can't hold."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


if __name__ == "__main__":
    sys.exit(main())
