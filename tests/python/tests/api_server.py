"""An API server's stand-in on loopback: it keeps objects and answers in the shapes of Kubernetes' API, and plays the
controllers that the tests need: pods of deployments and jobs, events, logs, namespaces that go.

What it answers is held against the JSON schemas of Kubernetes by `test_cluster.py`.
"""

import base64
import copy
import http.server
import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TIME = "2026-01-01T00:00:00Z"
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
#: Resource, kind and whether it lives in a namespace, by group and version.
RESOURCES: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("namespaces", "Namespace", False),
        ("configmaps", "ConfigMap", True),
        ("events", "Event", True),
        ("pods", "Pod", True),
        ("secrets", "Secret", True),
        ("services", "Service", True),
    ],
    "apps/v1": [
        ("daemonsets", "DaemonSet", True),
        ("deployments", "Deployment", True),
        ("statefulsets", "StatefulSet", True),
    ],
    "batch/v1": [("jobs", "Job", True)],
}
PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[a-z.]+/v1))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]))?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
PROTOBUF = b"k8s\x00"


@dataclass
class Behaviour:
    """What goes wrong in this cluster."""

    #: Reasons for which containers wait, by image.
    waiting: dict[str, str] = field(default_factory=dict)
    #: Exit codes of tasks, by a text in their script; 0 for the others.
    exit_codes: dict[str, int] = field(default_factory=dict)
    #: Images whose pods never get ready and never say why.
    slow: set[str] = field(default_factory=set)
    #: Requests that are answered with a status, by `METHOD RESOURCE`.
    refused: dict[str, int] = field(default_factory=dict)
    #: Namespaces that are deleted never go.
    stuck: bool = False
    #: Called with each request's `METHOD PATH`.
    watch: Callable[[str], None] = lambda _request: None


class ApiServer:
    """The stand-in; it serves until it is closed."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.requests: list[str] = []
        #: Objects by resource, namespace and name.
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._version = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 1 << 16

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                outer.behaviour.watch(f"{self.command} {self.path}")
                code, content = outer.serve(self.command, self.path, body)
                text = isinstance(content, str)
                encoded = str(content).encode() if text else json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain" if text else "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path) -> Path:
        """Writes a kubeconfig for this server."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": {"token": "token"}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "tester"}}],
            "current-context": "stand-in",
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def names(self, resource: str) -> list[str]:
        """The names of all objects of a resource."""
        return sorted(name for kind, _, name in self.objects if kind == resource)

    def serve(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Answers one request."""
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        with self._lock:
            self.requests.append(f"{method} {url.path}")
            found = discovery(url.path.rstrip("/"))
            if found is not None:
                return 200, found
            match = PATH.fullmatch(url.path)
            group = (match["core"] or match["group"]) if match else ""
            kind = next(
                (entry[1] for entry in RESOURCES.get(group, []) if match and entry[0] == match["resource"]), None
            )
            if match is None or kind is None:
                return status(404, "NotFound", f"there is no {url.path}")
            refused = self.behaviour.refused.get(f"{method} {match['resource']}")
            if refused is not None:
                return status(refused, "InternalError", "the stand-in was told to refuse this")
            key = (match["resource"], match["namespace"] or "", match["name"] or "")
            if match["sub"] == "log":
                return 200, self._log(key, query)
            return self._answer(method, key, kind, group, query, body)

    def _answer(
        self, method: str, key: tuple[str, str, str], kind: str, group: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        resource, namespace, name = key
        if method == "GET" and not name:
            items = [entry for at, entry in sorted(self.objects.items()) if at[:2] == (resource, namespace)]
            items = [entry for entry in items if selected(entry, query.get("labelSelector", ""))]
            metadata = {"resourceVersion": str(self._version)}
            return 200, {"kind": f"{kind}List", "apiVersion": group, "metadata": metadata, "items": items}
        if method == "POST":
            content = decoded(body)
            key = (resource, namespace, content["metadata"]["name"])
            if key in self.objects:
                return status(409, "AlreadyExists", f'{resource} "{key[2]}" already exists')
            return 201, self._store(key, kind, group, content)
        if method == "PATCH" and key not in self.objects:
            return 201, self._store(key, kind, group, decoded(body))
        if key not in self.objects:
            return status(404, "NotFound", f'{resource} "{name}" not found')
        if method in ("PATCH", "PUT"):
            return 200, self._store(key, kind, group, merged(self.objects[key], decoded(body)))
        if method == "DELETE":
            return 200, self._delete(key)
        return 200, self.objects[key]

    def _delete(self, key: tuple[str, str, str]) -> Any:
        gone = self.objects[key]
        if key[0] == "namespaces":
            if self.behaviour.stuck:
                gone["metadata"]["deletionTimestamp"] = TIME
                gone["status"] = {"phase": "Terminating"}
                return gone
            for other in [at for at in self.objects if at[1] == key[2]]:
                del self.objects[other]
        owned = [at for at, entry in self.objects.items() if gone["metadata"]["uid"] in owners(entry)]
        for at in [*owned, key]:
            self.objects.pop(at, None)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _store(self, key: tuple[str, str, str], kind: str, group: str, content: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        made = copy.deepcopy(content)
        made |= {"kind": kind, "apiVersion": group}
        metadata = made.setdefault("metadata", {})
        metadata |= {"name": key[2], "resourceVersion": str(self._version)}
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", TIME)
        metadata["generation"] = metadata.get("generation", 0) + 1
        if key[1]:
            metadata["namespace"] = key[1]
        self.objects[key] = made
        if kind == "Namespace":
            made["status"] = {"phase": "Active"}
        if kind in ("Deployment", "StatefulSet", "DaemonSet"):
            self._roll_out(made)
        if kind == "Job":
            self._run(made)
        return made

    def _roll_out(self, owner: dict[str, Any]) -> None:
        """Plays the controllers of workloads."""
        count = 1 if owner["kind"] == "DaemonSet" else owner["spec"].get("replicas", 1)
        ready = 0
        for number in range(count):
            pod = self._pod(owner, f"{owner['metadata']['name']}-{number}")
            ready += pod["status"]["phase"] == "Running"
        observed = {"observedGeneration": owner["metadata"]["generation"]}
        if owner["kind"] == "DaemonSet":
            numbers = {"desiredNumberScheduled": count, "currentNumberScheduled": count, "numberMisscheduled": 0}
            owner["status"] = observed | numbers | {"numberReady": ready, "updatedNumberScheduled": count}
        else:
            numbers = {"replicas": count, "updatedReplicas": count, "readyReplicas": ready, "availableReplicas": ready}
            owner["status"] = observed | numbers

    def _run(self, job: dict[str, Any]) -> None:
        """Plays the controller of jobs."""
        pod = self._pod(job, f"{job['metadata']['name']}-x", {"batch.kubernetes.io/job-name": job["metadata"]["name"]})
        state = pod["status"]["containerStatuses"][0]["state"]
        if "waiting" in state or pod["status"]["phase"] == "Pending":
            job["status"] = {"active": 1, "startTime": TIME}
            return
        script = self._script(job)
        code = next((code for text, code in self.behaviour.exit_codes.items() if text in script), 0)
        pod["status"]["phase"] = "Failed" if code else "Succeeded"
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": TIME, "finishedAt": TIME}
        pod["status"]["containerStatuses"][0] |= {"ready": False, "state": {"terminated": ended}}
        condition = {"type": "Failed" if code else "Complete", "status": "True", "lastTransitionTime": TIME}
        condition["reason"] = "BackoffLimitExceeded" if code else "CompletionsReached"
        job["status"] = {"startTime": TIME, "conditions": [condition], "failed" if code else "succeeded": 1}

    def _script(self, job: dict[str, Any]) -> str:
        for volume in job["spec"]["template"]["spec"].get("volumes", []):
            name = volume.get("configMap", {}).get("name")
            entry = self.objects.get(("configmaps", job["metadata"]["namespace"], name or ""))
            if entry is not None:
                return "\n".join(entry["data"].values())
        return ""

    def _pod(self, owner: dict[str, Any], name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
        template = owner["spec"]["template"]
        metadata = copy.deepcopy(template.get("metadata", {}))
        metadata |= {"name": name, "namespace": owner["metadata"]["namespace"], "uid": str(uuid.uuid4())}
        metadata |= {"creationTimestamp": TIME, "labels": metadata.get("labels", {}) | (labels or {})}
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
        metadata["ownerReferences"] = [reference | {key: owner["metadata"][key] for key in ("name", "uid")}]
        spec = copy.deepcopy(template["spec"])
        statuses = []
        phase = "Running"
        for container in spec["containers"]:
            reason = self.behaviour.waiting.get(container["image"])
            slow = container["image"] in self.behaviour.slow
            state = (
                {"waiting": {"reason": reason, "message": "as told"}} if reason else {"running": {"startedAt": TIME}}
            )
            if reason or slow:
                phase = "Pending"
            status_ = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
            statuses.append(status_ | {"ready": not (reason or slow), "started": not reason, "state": state})
            if reason:
                self._event(metadata, reason)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        pod["status"] = {"phase": phase, "containerStatuses": statuses, "startTime": TIME}
        self.objects[("pods", metadata["namespace"], name)] = pod
        return pod

    def _event(self, of: dict[str, Any], reason: str) -> None:
        name = f"{of['name']}.{uuid.uuid4().hex[:8]}"
        involved = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": of["name"],
            "namespace": of["namespace"],
            "uid": of["uid"],
        }
        self.objects[("events", of["namespace"], name)] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": name,
                "namespace": of["namespace"],
                "uid": str(uuid.uuid4()),
                "creationTimestamp": TIME,
            },
            "involvedObject": involved,
            "type": "Warning",
            "reason": reason,
            "message": f"container of {of['name']}: {reason}",
            "count": 1,
            "firstTimestamp": TIME,
            "lastTimestamp": TIME,
            "source": {"component": "kubelet"},
        }

    def _log(self, key: tuple[str, str, str], query: dict[str, str]) -> str:
        pod = self.objects.get(key)
        name = query.get("container", "")
        return f"log of {key[2]}, {name}\n" if pod else ""


def discovery(path: str) -> Any:
    """What there is."""
    if path == "/version":
        build = {"gitCommit": "0", "gitTreeState": "clean", "buildDate": TIME, "goVersion": "go", "compiler": "gc"}
        return {"major": "1", "minor": "37", "gitVersion": "v1.37.0", "platform": "linux/amd64", **build}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        groups = []
        for version in RESOURCES:
            if "/" in version:
                entry = {"groupVersion": version, "version": "v1"}
                groups.append({"name": version.split("/")[0], "versions": [entry], "preferredVersion": entry})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path == "/openapi/v3":
        places = {place(version)[1:]: {"serverRelativeURL": f"/openapi/v3{place(version)}"} for version in RESOURCES}
        return {"paths": places}
    for version, resources in RESOURCES.items():
        if path == f"/openapi/v3{place(version)}":
            return openapi(version, resources)
        if path == place(version):
            listed = [
                {"name": name, "singularName": kind.lower(), "namespaced": inside, "kind": kind, "verbs": VERBS}
                for name, kind, inside in resources
            ]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}
    return None


def place(version: str) -> str:
    """Where a version of a group is."""
    return ("/api/" if version == "v1" else "/apis/") + version


def openapi(version: str, resources: list[tuple[str, str, bool]]) -> Any:
    """That objects are validated by the server, which is all that Helm wants to know."""
    group, _, number = version.rpartition("/")
    paths = {}
    for name, kind, inside in resources:
        operation = {
            "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
            "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
            "responses": {"200": {"description": "OK"}},
        }
        middle = "/namespaces/{namespace}" if inside else ""
        paths[f"{place(version)}{middle}/{name}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "stand-in", "version": "v1.37.0"}, "paths": paths}


def status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    """An answer that says no."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, {**body, "reason": reason, "message": message, "code": code}


def selected(entry: dict[str, Any], selector: str) -> bool:
    """Whether labels match a selector of equalities."""
    labels = entry["metadata"].get("labels", {})
    return all(labels.get(pair.partition("=")[0]) == pair.partition("=")[2] for pair in selector.split(",") if pair)


def owners(entry: dict[str, Any]) -> set[str]:
    """Who owns an object."""
    return {reference["uid"] for reference in entry["metadata"].get("ownerReferences", [])}


def merged(old: Any, new: Any) -> Any:
    """A merge patch."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    result = dict(old)
    for key, value in new.items():
        result[key] = merged(old.get(key), value)
    return {key: value for key, value in result.items() if value is not None}


def decoded(body: bytes) -> dict[str, Any]:
    """An object as it was sent: JSON, YAML, or a secret of Helm's as protocol buffers."""
    if not body.startswith(PROTOBUF):
        content = yaml.safe_load(body)
        assert isinstance(content, dict), content
        return content
    raw = next(value for number, value in fields(body[len(PROTOBUF) :]) if number == 2)
    secret = list(fields(raw))
    metadata = list(fields(next(value for number, value in secret if number == 1)))
    labels = dict(pair(value) for number, value in metadata if number == 11)
    name = next(value for number, value in metadata if number == 1).decode()
    kind = next((value for number, value in secret if number == 3), b"").decode()
    data = {
        key: base64.b64encode(value).decode()
        for key, value in (entry(value) for number, value in secret if number == 2)
    }
    return {"metadata": {"name": name, "labels": labels}, "type": kind, "data": data}


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message of protocol buffers that have lengths."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        tag = varint()
        if tag & 7 == 2:
            length = varint()
            yield tag >> 3, data[place : place + length]
            place += length
        else:
            assert tag & 7 == 0, tag
            varint()


def entry(data: bytes) -> tuple[str, bytes]:
    """An entry of a map."""
    found = dict(fields(data))
    return found.get(1, b"").decode(), found.get(2, b"")


def pair(data: bytes) -> tuple[str, str]:
    """An entry of a map of texts."""
    key, value = entry(data)
    return key, value.decode()
