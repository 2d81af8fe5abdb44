"""Every rule, by pods that break it and pods that just don't, rendered by Helm."""

import copy
from pathlib import Path
from typing import Any

import pytest

from minimill_cluster import helm, schema
from minimill_cluster.manifests import POD_TEMPLATES, Document
from minimill_cluster.pod_security import RULES
from minimill_tests.errors import NotRun, SuiteError

CHART = Path(__file__).parent / "charts" / "pod"
GOOD: dict[str, Any] = {
    "metadata": {"labels": {"app": "pod"}},
    "spec": {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "main",
                "image": "image",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}
ANNOTATION = "container.apparmor.security.beta.kubernetes.io/main"
MAIN = "spec.containers[main]"
CONTEXT = f"{MAIN}.securityContext"


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The good pod with values put at paths such as `spec.containers.0.image`; None removes what is there."""
    pod = copy.deepcopy(GOOD)
    for path, value in changes:
        *parents, last = path.split("/")
        place: Any = pod
        for key in parents:
            place = place[int(key)] if key.isdigit() else place.setdefault(key, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return pod


def render(pod: dict[str, Any], *kinds: str) -> list[Document]:
    return helm.render(CHART, {"pod": pod, "kinds": list(kinds or ("Pod",))}, "pod", "default")


def broken(documents: list[Document]) -> list[tuple[str, str]]:
    """Which rules are broken, and where."""
    return [(rule.id, str(breach)) for rule in RULES for document in documents for breach in rule.breaches(document)]


MAIN_CONTEXT = "spec/containers/0/securityContext"
SIDECAR = {"name": "side", "image": "image"}
BROKEN: list[tuple[str, tuple[tuple[str, Any], ...], str]] = [
    ("host-namespaces", (("spec/hostNetwork", True),), "spec.hostNetwork is `True`"),
    ("host-namespaces", (("spec/hostPID", True),), "spec.hostPID is `True`"),
    ("host-namespaces", (("spec/hostIPC", True),), "spec.hostIPC is `True`"),
    (
        "host-process",
        (("spec/securityContext/windowsOptions", {"hostProcess": True}),),
        "spec.securityContext.windowsOptions.hostProcess is `True`",
    ),
    (
        "host-process",
        ((f"{MAIN_CONTEXT}/windowsOptions", {"hostProcess": True}),),
        f"{CONTEXT}.windowsOptions.hostProcess is `True`",
    ),
    ("privileged", ((f"{MAIN_CONTEXT}/privileged", True),), f"{CONTEXT}.privileged is `True`"),
    (
        "host-ports",
        (("spec/containers/0/ports", [{"containerPort": 1}, {"containerPort": 2, "hostPort": 80}]),),
        f"{MAIN}.ports[1].hostPort is `80`",
    ),
    (
        "host-probes",
        (("spec/containers/0/livenessProbe", {"httpGet": {"port": 1, "host": "10.0.0.1"}}),),
        f"{MAIN}.livenessProbe.httpGet.host is `10.0.0.1`",
    ),
    (
        "host-probes",
        (("spec/containers/0/readinessProbe", {"tcpSocket": {"port": 1, "host": "10.0.0.1"}}),),
        f"{MAIN}.readinessProbe.tcpSocket.host is `10.0.0.1`",
    ),
    (
        "host-probes",
        (("spec/containers/0/lifecycle", {"preStop": {"httpGet": {"port": 1, "host": "h"}}}),),
        f"{MAIN}.lifecycle.preStop.httpGet.host is `h`",
    ),
    (
        "app-armor",
        (("spec/securityContext/appArmorProfile", {"type": "Unconfined"}),),
        "spec.securityContext.appArmorProfile.type is `Unconfined`",
    ),
    (
        "app-armor",
        (("metadata/annotations", {ANNOTATION: "unconfined"}),),
        f"metadata.annotations[{ANNOTATION}] is `unconfined`",
    ),
    (
        "selinux",
        ((f"{MAIN_CONTEXT}/seLinuxOptions", {"type": "spc_t"}),),
        f"{CONTEXT}.seLinuxOptions.type is `spc_t`",
    ),
    (
        "selinux",
        (("spec/securityContext/seLinuxOptions", {"user": "system_u"}),),
        "spec.securityContext.seLinuxOptions.user is `system_u`",
    ),
    (
        "selinux",
        (("spec/securityContext/seLinuxOptions", {"role": "sysadm_r"}),),
        "spec.securityContext.seLinuxOptions.role is `sysadm_r`",
    ),
    ("proc-mount", ((f"{MAIN_CONTEXT}/procMount", "Unmasked"),), f"{CONTEXT}.procMount is `Unmasked`"),
    (
        "sysctls",
        (("spec/securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}]),),
        "spec.securityContext.sysctls[0].name is `kernel.msgmax`",
    ),
    (
        "volume-types",
        (("spec/volumes", [{"name": "host", "hostPath": {"path": "/"}}]),),
        "spec.volumes[host] is `hostPath`",
    ),
    (
        "volume-types",
        (("spec/volumes", [{"name": "i", "image": {"reference": "r"}}]),),
        "spec.volumes[i] is `image`",
    ),
    (
        "volume-types",
        (("spec/volumes", [{"name": "n", "nfs": {"server": "s", "path": "/"}}]),),
        "spec.volumes[n] is `nfs`",
    ),
    (
        "privilege-escalation",
        ((f"{MAIN_CONTEXT}/allowPrivilegeEscalation", None),),
        f"{CONTEXT}.allowPrivilegeEscalation is not set",
    ),
    (
        "privilege-escalation",
        ((f"{MAIN_CONTEXT}/allowPrivilegeEscalation", True),),
        f"{CONTEXT}.allowPrivilegeEscalation is `True`",
    ),
    ("run-as-non-root", (("spec/securityContext/runAsNonRoot", None),), f"{CONTEXT}.runAsNonRoot is not set"),
    ("run-as-non-root", ((f"{MAIN_CONTEXT}/runAsNonRoot", False),), f"{CONTEXT}.runAsNonRoot is `False`"),
    (
        "run-as-non-root",
        (("spec/securityContext/runAsNonRoot", False), (f"{MAIN_CONTEXT}/runAsNonRoot", True)),
        "spec.securityContext.runAsNonRoot is `False`",
    ),
    ("run-as-user", (("spec/securityContext/runAsUser", 0),), "spec.securityContext.runAsUser is `0`"),
    ("run-as-user", ((f"{MAIN_CONTEXT}/runAsUser", 0),), f"{CONTEXT}.runAsUser is `0`"),
    ("seccomp", (("spec/securityContext/seccompProfile", None),), f"{CONTEXT}.seccompProfile.type is not set"),
    (
        "seccomp",
        ((f"{MAIN_CONTEXT}/seccompProfile", {"type": "Unconfined"}),),
        f"{CONTEXT}.seccompProfile.type is `Unconfined`",
    ),
    ("capabilities", ((f"{MAIN_CONTEXT}/capabilities", None),), f"{CONTEXT}.capabilities.drop is not set"),
    (
        "capabilities",
        ((f"{MAIN_CONTEXT}/capabilities", {"drop": ["NET_RAW"]}),),
        f"{CONTEXT}.capabilities.drop is `['NET_RAW']`",
    ),
    (
        "capabilities",
        ((f"{MAIN_CONTEXT}/capabilities/add", ["NET_BIND_SERVICE", "SYS_ADMIN"]),),
        f"{CONTEXT}.capabilities.add is `SYS_ADMIN`",
    ),
]
KEPT: list[tuple[tuple[str, Any], ...]] = [
    (),
    (("spec/hostNetwork", False), ("spec/hostPID", False), (f"{MAIN_CONTEXT}/privileged", False)),
    (("spec/containers/0/ports", [{"containerPort": 80, "hostPort": 0}]),),
    (("spec/containers/0/livenessProbe", {"httpGet": {"port": 80, "host": ""}}),),
    (("spec/securityContext/appArmorProfile", {"type": "Localhost", "localhostProfile": "p"}),),
    (("metadata/annotations", {ANNOTATION: "localhost/mine", "other": "unconfined"}),),
    (("spec/securityContext/seLinuxOptions", {"type": "container_t", "level": "s0"}),),
    (("spec/securityContext/sysctls", [{"name": "net.ipv4.tcp_rmem", "value": "1"}]),),
    (("spec/volumes", [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": "s"}}]),),
    (("spec/securityContext/runAsNonRoot", None), (f"{MAIN_CONTEXT}/runAsNonRoot", True)),
    (("spec/securityContext/runAsUser", 65532), (f"{MAIN_CONTEXT}/procMount", "Default")),
    (("spec/securityContext/seccompProfile", None), (f"{MAIN_CONTEXT}/seccompProfile", {"type": "Localhost"})),
    ((f"{MAIN_CONTEXT}/capabilities/add", ["NET_BIND_SERVICE"]),),
]


@pytest.mark.parametrize(("rule", "changes", "told"), BROKEN)
def test_what_breaks_one_rule_is_told_by_that_rule_with_its_place(
    rule: str, changes: tuple[tuple[str, Any], ...], told: str
) -> None:
    assert broken(render(changed(*changes))) == [(rule, f"Pod/pod: {told}")]


@pytest.mark.parametrize("changes", KEPT)
def test_what_just_keeps_to_the_rules_passes(changes: tuple[tuple[str, Any], ...]) -> None:
    assert broken(render(changed(*changes))) == []


def test_every_rule_is_broken_here_and_says_what_to_do() -> None:
    assert {rule.id for rule in RULES} == {case[0] for case in BROKEN}
    for rule in RULES:
        assert len(rule.remedy) > 20, rule.id


@pytest.mark.parametrize("sort", ["initContainers", "ephemeralContainers"])
def test_containers_of_every_sort_count(sort: str) -> None:
    found = broken(render(changed((f"spec/{sort}", [SIDECAR]))))
    place = f"Pod/pod: spec.{sort}[side].securityContext"
    assert found == [
        ("privilege-escalation", f"{place}.allowPrivilegeEscalation is not set"),
        ("capabilities", f"{place}.capabilities.drop is not set"),
    ]


def test_pods_are_found_in_every_kind_that_makes_them() -> None:
    kinds = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"]
    documents = render(changed(("spec/hostPID", True)), *kinds)
    places = dict(place.removesuffix(".hostPID is `True`").split("/pod: ") for _, place in broken(documents))
    assert places == {kind: "".join(f"{key}." for key in POD_TEMPLATES[kind]) + "spec" for kind in kinds}


def test_the_good_pods_are_of_kubernetes_and_strange_keys_are_not() -> None:
    version = schema.newest_version()
    for document in render(changed(), "Deployment", "CronJob", "Pod"):
        if document.kind != "Deployment":
            assert list(schema.problems(document, version)) == []
    (problem,) = schema.problems(render(changed(("spec/hostNetworks", True)))[0], version)
    assert problem.startswith("Pod/pod (pod/templates/objects.yaml): spec: ") and "hostNetworks" in problem
    (problem,) = schema.problems(render(changed(("spec/containers/0/image", 7)))[0], version)
    assert "spec.containers.0.image: 7 is not of type" in problem


def test_kinds_and_versions_without_a_schema_are_told() -> None:
    own = Document("own.yaml", {"apiVersion": "example.org/v1", "kind": "Own", "metadata": {"name": "own"}})
    with pytest.raises(NotRun, match=r"no schema of example.org/v1 Own in Kubernetes 1\.37"):
        list(schema.problems(own, "1.37"))
    with pytest.raises(SuiteError, match=r"no schemas of Kubernetes 1\.99; there are 1\.25, .*1\.37"):
        list(schema.problems(own, "1.99"))
