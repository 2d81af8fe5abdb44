"""The objects that the set-up tool itself makes."""

from typing import Any

from minimill_cluster.plan import Task

MANAGED_BY = {"app.kubernetes.io/managed-by": "minimill-cluster"}
USER = 65532
#: How long a task's pod may take to start, beside the time that the task itself has.
START_SECONDS = 120


def deadline(task: Task) -> int:
    """Seconds after which a task's Job is ended."""
    return task.seconds + START_SECONDS


def namespace(name: str) -> dict[str, Any]:
    """A namespace in which the cluster itself enforces Pod Security "restricted"."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": MANAGED_BY | labels}}


def script(name: str, task: Task) -> dict[str, Any]:
    """The ConfigMap that holds a task's script."""
    metadata = {"name": name, "labels": MANAGED_BY}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"script": task.script}}


def job(name: str, task: Task) -> dict[str, Any]:
    """The Job that runs a task once, as a user without rights; the namespace is in its environment."""
    container = {
        "name": "task",
        "image": task.image,
        # Also of `latest`: kind's nodes have images that no registry gives them.
        "imagePullPolicy": "IfNotPresent",
        "command": [*task.interpreter, "/task/script"],
        "workingDir": "/tmp",  # noqa: S108
        "env": [{"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "task", "mountPath": "/task", "readOnly": True},
            {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "task", "configMap": {"name": name}}, {"name": "temporary", "emptyDir": {}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": MANAGED_BY},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline(task),
            "template": {"metadata": {"labels": MANAGED_BY}, "spec": pod},
        },
    }
