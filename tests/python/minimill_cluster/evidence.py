"""What there is to see of a namespace: events, pods, logs."""

from collections.abc import Iterator
from pathlib import Path

from kubernetes import client

from minimill_cluster.cluster import ANSWER_SECONDS, REFUSALS, Cluster, reason

LOG_BYTES = 256 << 10
LOG_LINES = 500
MAXIMUM_PODS = 100


def collect(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Texts by name; where the server refuses, that is the text."""
    return dict(texts(cluster, namespace))


def texts(cluster: Cluster, namespace: str) -> Iterator[tuple[str, str]]:
    """Events, the pods' states, and the logs of every container, those before its last start too."""
    core = client.CoreV1Api(cluster.api)
    try:
        yield "events", "\n".join(events(core, namespace))
        pods = core.list_namespaced_pod(namespace, _request_timeout=ANSWER_SECONDS).items[:MAXIMUM_PODS]
    except REFUSALS as error:
        yield "events", f"can't be had: {reason(error)}"
        return
    yield "pods", "\n".join(f"{pod.metadata.name}: {pod.status.phase}" for pod in pods)
    for pod in pods:
        statuses = {status.name: status for status in pod.status.container_statuses or []}
        for container in [*(pod.spec.init_containers or []), *pod.spec.containers]:
            name = f"log of {pod.metadata.name}, {container.name}"
            status = statuses.get(container.name)
            if status is not None and status.restart_count:
                yield f"{name}, before its restart", log(core, namespace, pod.metadata.name, container.name, True)
            yield name, log(core, namespace, pod.metadata.name, container.name, False)


def events(core: client.CoreV1Api, namespace: str) -> Iterator[str]:
    """One line for each event, in the order of their times."""
    found = core.list_namespaced_event(namespace, _request_timeout=ANSWER_SECONDS).items
    times = {
        id(event): event.last_timestamp or event.event_time or event.metadata.creation_timestamp for event in found
    }
    for event in sorted(found, key=lambda event: str(times[id(event)])):
        of = event.involved_object
        yield f"{times[id(event)]} {event.type} {of.kind}/{of.name} {event.reason}: {event.message}"


def log(core: client.CoreV1Api, namespace: str, pod: str, container: str, previous: bool) -> str:
    """The end of a container's log."""
    try:
        answer = core.read_namespaced_pod_log(
            pod,
            namespace,
            container=container,
            previous=previous,
            limit_bytes=LOG_BYTES,
            tail_lines=LOG_LINES,
            _request_timeout=ANSWER_SECONDS,
            # The client would make a text of it, but takes logs that look like JSON apart.
            _preload_content=False,
        )
        return bytes(answer.data).decode(errors="replace")
    except REFUSALS as error:
        return f"can't be had: {reason(error)}"


def write(found: dict[str, str], folder: Path) -> None:
    """Writes texts into a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        path = folder / f"{''.join(letter if letter.isalnum() or letter in '-.' else '-' for letter in name)}.txt"
        path.write_text(text + "\n", encoding="utf-8")
