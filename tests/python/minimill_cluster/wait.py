"""Waiting for what was installed, with the reason why it is not ready."""

import time
from collections.abc import Callable, Iterator

from kubernetes import client

from minimill_cluster.cluster import ANSWER_SECONDS, REFUSALS, Cluster, reason

#: Reasons for which a container waits and that don't pass by themselves.
HOPELESS = (
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
)


class NotReady(AssertionError):
    """Something did not get ready; the text says what and why."""


def until(pending: Callable[[], list[str]], seconds: float, poll: float) -> None:
    """Asks until nothing is pending. A server that refuses for a while is asked again.

    Raises:
        NotReady: when the time is over, or when it is hopeless.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            left = pending()
        except REFUSALS as error:
            left = [f"the server refuses: {reason(error)}"]
        if not left:
            return
        if time.monotonic() >= end:
            raise NotReady(f"not ready within {seconds:g} s: {'; '.join(left)}")
        time.sleep(poll)


def workloads(cluster: Cluster, namespace: str) -> list[str]:
    """What in a namespace is not ready yet.

    Raises:
        NotReady: when a container waits for something that won't come.
    """
    apps = client.AppsV1Api(cluster.api)
    asked = {"namespace": namespace, "_request_timeout": ANSWER_SECONDS}
    left = list(replicated("Deployment", apps.list_namespaced_deployment(**asked).items))
    left += replicated("StatefulSet", apps.list_namespaced_stateful_set(**asked).items)
    for daemon in apps.list_namespaced_daemon_set(**asked).items:
        wanted, ready = daemon.status.desired_number_scheduled, daemon.status.number_ready
        if not observed(daemon) or ready < wanted or (daemon.status.updated_number_scheduled or 0) < wanted:
            left.append(f"DaemonSet/{daemon.metadata.name} has {ready} of {wanted} pods ready")
    for pod in client.CoreV1Api(cluster.api).list_namespaced_pod(**asked).items:
        told = trouble(pod)
        if told:
            left.append(told)
        elif not pod.metadata.owner_references and pod.status.phase not in ("Running", "Succeeded"):
            left.append(f"Pod/{pod.metadata.name} is {pod.status.phase}")
    return left


def replicated(kind: str, found: list[client.V1Deployment]) -> Iterator[str]:
    """Deployments and stateful sets that lack replicas."""
    for workload in found:
        wanted = 1 if workload.spec.replicas is None else workload.spec.replicas
        ready, updated = workload.status.ready_replicas or 0, workload.status.updated_replicas or 0
        if not observed(workload) or ready < wanted or updated < wanted:
            yield f"{kind}/{workload.metadata.name} has {ready} of {wanted} replicas ready"


def observed(workload: client.V1Deployment) -> bool:
    """Whether its status is about what it is now."""
    return bool((workload.status.observed_generation or 0) >= (workload.metadata.generation or 0))


def trouble(pod: client.V1Pod) -> str | None:
    """Why a pod's container does not run, if it waits for something.

    Raises:
        NotReady: when what it waits for won't come.
    """
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    for status in statuses:
        waiting = status.state.waiting if status.state else None
        if waiting is None or waiting.reason in (None, "ContainerCreating", "PodInitializing"):
            continue
        told = f"Pod/{pod.metadata.name}, container {status.name} ({status.image}): {waiting.reason}"
        told += f": {waiting.message:.300}" if waiting.message else ""
        if waiting.reason in HOPELESS:
            raise NotReady(told)
        return told
    return None


def job(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Whether a job has ended well; what it lacks when it has not ended.

    Raises:
        NotReady: when it failed, or can't start.
    """
    found = client.BatchV1Api(cluster.api).read_namespaced_job(name, namespace, _request_timeout=ANSWER_SECONDS)
    for condition in found.status.conditions or []:
        if condition.status == "True" and condition.type == "Failed":
            raise NotReady(f"the task failed: {condition.reason}{exit_codes(cluster, namespace, name)}")
        if condition.status == "True" and condition.type == "Complete":
            return []
    told = [told for pod in pods_of(cluster, namespace, name) if (told := trouble(pod))]
    return told or [f"Job/{name} has not ended"]


def pods_of(cluster: Cluster, namespace: str, name: str) -> list[client.V1Pod]:
    """The pods of a job."""
    selector = f"batch.kubernetes.io/job-name={name}"
    core = client.CoreV1Api(cluster.api)
    found = core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=ANSWER_SECONDS)
    return list(found.items)


def exit_codes(cluster: Cluster, namespace: str, name: str) -> str:
    """With what the containers of a job's pods ended."""
    statuses = [status for pod in pods_of(cluster, namespace, name) for status in pod.status.container_statuses or []]
    codes = [str(status.state.terminated.exit_code) for status in statuses if status.state and status.state.terminated]
    return f", exit code {', '.join(codes)}" if codes else ""
