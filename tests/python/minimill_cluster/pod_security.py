"""Pod Security Standards, level "restricted", for pods that run Linux.

The rules are those of Kubernetes 1.34 and newer. One is stricter: a pod with a user namespace of its own
(`hostUsers: false`) must not run as root either.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minimill_cluster.manifests import Document, mapping, mappings

Pod = Mapping[str, Any]

APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
)
VOLUMES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
SECCOMP_TYPES = ("RuntimeDefault", "Localhost")


@dataclass(frozen=True)
class Breach:
    """A place in an object that breaks a rule."""

    #: For example `Deployment/nginx: spec.template.spec.hostNetwork`.
    place: str
    #: What stands there; `not set` when nothing does.
    found: str

    def __str__(self) -> str:
        return f"{self.place} is {self.found}"


@dataclass(frozen=True)
class Rule:
    """A control of the standard."""

    id: str
    #: What to do when it is broken.
    remedy: str
    check: Callable[[Pod], Iterator[tuple[str, Any]]]

    def breaches(self, document: Document) -> Iterator[Breach]:
        """Where an object's pod breaks the rule; nowhere for an object without one."""
        found = document.pod()
        if found is not None:
            prefix, pod = found
            for path, value in self.check(pod):
                yield Breach(f"{document}: {prefix}{path}", "not set" if value is None else f"`{value}`")


def containers(pod: Pod) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All containers of a pod, of whatever sort, with their paths."""
    spec = mapping(pod.get("spec"))
    for sort in ("initContainers", "containers", "ephemeralContainers"):
        for container in mappings(spec.get(sort)):
            yield f"spec.{sort}[{container.get('name', '?')}]", container


def contexts(pod: Pod) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The security contexts of the pod and its containers, with their paths."""
    yield "spec.securityContext", mapping(mapping(pod.get("spec")).get("securityContext"))
    for path, container in containers(pod):
        yield f"{path}.securityContext", mapping(container.get("securityContext"))


def host_namespaces(pod: Pod) -> Iterator[tuple[str, Any]]:
    spec = mapping(pod.get("spec"))
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"spec.{key}", spec[key]


def host_process(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, context in contexts(pod):
        value = mapping(context.get("windowsOptions")).get("hostProcess")
        if value:
            yield f"{path}.windowsOptions.hostProcess", value


def privileged(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, context in contexts(pod):
        if context.get("privileged"):
            yield f"{path}.privileged", context["privileged"]


def host_ports(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, container in containers(pod):
        for number, port in enumerate(mappings(container.get("ports"))):
            if port.get("hostPort"):
                yield f"{path}.ports[{number}].hostPort", port["hostPort"]


def host_probes(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, container in containers(pod):
        handlers = {key: container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
        lifecycle = mapping(container.get("lifecycle"))
        handlers |= {f"lifecycle.{key}": lifecycle.get(key) for key in ("postStart", "preStop")}
        for name, handler in handlers.items():
            for action in ("httpGet", "tcpSocket"):
                host = mapping(mapping(handler).get(action)).get("host")
                if host:
                    yield f"{path}.{name}.{action}.host", host


def app_armor(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, context in contexts(pod):
        kind = mapping(context.get("appArmorProfile")).get("type")
        if kind not in (None, "RuntimeDefault", "Localhost"):
            yield f"{path}.appArmorProfile.type", kind
    annotations = mapping(mapping(pod.get("metadata")).get("annotations"))
    for key, value in annotations.items():
        allowed = value in ("", "runtime/default") or str(value).startswith("localhost/")
        if key.startswith(APPARMOR_ANNOTATION) and not allowed:
            yield f"metadata.annotations[{key}]", value


def selinux(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, context in contexts(pod):
        options = mapping(context.get("seLinuxOptions"))
        if options.get("type", "") not in SELINUX_TYPES:
            yield f"{path}.seLinuxOptions.type", options["type"]
        for key in ("user", "role"):
            if options.get(key):
                yield f"{path}.seLinuxOptions.{key}", options[key]


def proc_mount(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, context in contexts(pod):
        if context.get("procMount") not in (None, "Default"):
            yield f"{path}.procMount", context["procMount"]


def sysctls(pod: Pod) -> Iterator[tuple[str, Any]]:
    context = mapping(mapping(pod.get("spec")).get("securityContext"))
    for number, sysctl in enumerate(mappings(context.get("sysctls"))):
        if sysctl.get("name") not in SYSCTLS:
            yield f"spec.securityContext.sysctls[{number}].name", sysctl.get("name")


def volume_types(pod: Pod) -> Iterator[tuple[str, Any]]:
    for volume in mappings(mapping(pod.get("spec")).get("volumes")):
        for kind in volume:
            if kind != "name" and kind not in VOLUMES:
                yield f"spec.volumes[{volume.get('name', '?')}]", kind


def privilege_escalation(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, container in containers(pod):
        value = mapping(container.get("securityContext")).get("allowPrivilegeEscalation")
        if value is not False:
            yield f"{path}.securityContext.allowPrivilegeEscalation", value


def run_as_non_root(pod: Pod) -> Iterator[tuple[str, Any]]:
    yield from inherited(pod, ("runAsNonRoot",), lambda value: value is True)


def run_as_user(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, context in contexts(pod):
        if context.get("runAsUser") == 0:
            yield f"{path}.runAsUser", 0


def seccomp(pod: Pod) -> Iterator[tuple[str, Any]]:
    yield from inherited(pod, ("seccompProfile", "type"), lambda value: value in SECCOMP_TYPES)


def inherited(pod: Pod, keys: tuple[str, ...], good: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """Bad places of a setting that containers take from their pod where they lack it."""

    def value_of(context: Any) -> Any:
        for key in keys:
            context = mapping(context).get(key)
        return context

    of_pod = value_of(mapping(pod.get("spec")).get("securityContext"))
    if of_pod is not None and not good(of_pod):
        yield f"spec.securityContext.{'.'.join(keys)}", of_pod
    for path, container in containers(pod):
        own = value_of(container.get("securityContext"))
        if (own is None and of_pod is None) or (own is not None and not good(own)):
            yield f"{path}.securityContext.{'.'.join(keys)}", own


def capabilities(pod: Pod) -> Iterator[tuple[str, Any]]:
    for path, container in containers(pod):
        found = mapping(mapping(container.get("securityContext")).get("capabilities"))
        if "ALL" not in (found.get("drop") or []):
            yield f"{path}.securityContext.capabilities.drop", found.get("drop")
        for name in found.get("add") or []:
            if name != "NET_BIND_SERVICE":
                yield f"{path}.securityContext.capabilities.add", name


RULES = (
    Rule("host-namespaces", "remove `hostNetwork`, `hostPID` and `hostIPC`, or set them to false", host_namespaces),
    Rule("host-process", "remove `windowsOptions.hostProcess`", host_process),
    Rule("privileged", "remove `privileged`, or set it to false", privileged),
    Rule("host-ports", "remove `hostPort`; give the port out by a Service", host_ports),
    Rule("host-probes", "remove `host` from probes and lifecycle handlers; they ask the pod itself", host_probes),
    Rule("app-armor", "set the AppArmor profile to RuntimeDefault or Localhost, or leave it out", app_armor),
    Rule("selinux", f"leave out user and role; type is one of {', '.join(SELINUX_TYPES[1:])}, or left out", selinux),
    Rule("proc-mount", "set `procMount` to Default, or leave it out", proc_mount),
    Rule("sysctls", f"set only safe sysctls: {', '.join(SYSCTLS)}", sysctls),
    Rule("volume-types", f"use only volumes of types {', '.join(VOLUMES)}", volume_types),
    Rule("privilege-escalation", "set `allowPrivilegeEscalation: false` in every container", privilege_escalation),
    Rule("run-as-non-root", "set `runAsNonRoot: true` in the pod's securityContext", run_as_non_root),
    Rule("run-as-user", "leave out `runAsUser`, or set it to another user than 0", run_as_user),
    Rule("seccomp", "set `seccompProfile: {type: RuntimeDefault}` in the pod's securityContext", seccomp),
    Rule("capabilities", "drop ALL capabilities in every container, and add none but NET_BIND_SERVICE", capabilities),
)
