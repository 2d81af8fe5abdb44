#!/usr/bin/env python3
"""Stands in for AWS CodeBuild, of which the emulators run no builds without a container engine.

It answers StartBuild, BatchGetBuilds and StopBuild, and runs the commands of a buildspec where the real
service would make a container: in a fresh folder, with the environment cleared of everything but PATH,
so that a command finds no credentials. Source and artifact go through S3 as CodeBuild's own do: a folder
of a bucket before, the buildspec's files after. When a build ends, an event as of EventBridge is put.

What it leaves out: the container itself (commands see this machine), logs, roles, queues and quotas.

usage: codebuild.py --buildspec FILE --endpoint URL [--port N] [--path PATH] [--project NAME] [--event-file FILE]
    --endpoint    the emulator's address, for S3 and events
    --path        where commands are looked for, such as the folder of `mill`
    --project     the project that it knows, by default that of template.yaml with its default prefix
    --event-file  append each build's event there, a JSON line each, and put none

Functions find it by AWS_ENDPOINT_URL_CODEBUILD, which the AWS clients read.

Needs PyYAML and botocore, which ministack brings. Prints `listening on http://127.0.0.1:N` once it does.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
import yaml

ACCOUNT, REGION = "000000000000", "us-east-1"


class Failed(Exception):
    """An answer of the service that is an error: its type and a message."""


def client(service, endpoint):
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    return session.create_client(service, region_name=REGION, endpoint_url=endpoint)


class Builds:
    """The builds of one project."""

    def __init__(self, options):
        self.options = options
        self.buildspec = yaml.safe_load(pathlib.Path(options.buildspec).read_text())
        self.s3 = client("s3", options.endpoint)
        self.lock = threading.Lock()
        self.builds = {}
        self.tokens = {}
        self.processes = {}

    def start(self, request):
        if request.get("projectName") != self.options.project:
            raise Failed("ResourceNotFoundException", f"no project {request.get('projectName')}")
        for name, wanted in (("sourceTypeOverride", "S3"), ("artifactsOverride", None)):
            if name not in request or wanted and request[name] != wanted:
                raise Failed("InvalidInputException", f"{name}: this stand-in knows S3 only")
        with self.lock:
            token = request.get("idempotencyToken")
            if token in self.tokens:
                return {"build": self.builds[self.tokens[token]]}
            name = f"{self.options.project}:{uuid.uuid4()}"
            build = {
                "id": name,
                "arn": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:build/{name}",
                "projectName": self.options.project,
                "buildStatus": "IN_PROGRESS",
                "currentPhase": "QUEUED",
                "startTime": time.time(),
                "source": {"type": "S3", "location": request["sourceLocationOverride"]},
                "phases": [],
            }
            self.builds[name] = build
            if token:
                self.tokens[token] = name
        minutes = request.get("timeoutInMinutesOverride", 60)
        arguments = (build, request["artifactsOverride"], minutes)
        threading.Thread(target=self.run, args=arguments, daemon=True).start()
        return {"build": build}

    def get(self, request):
        found = [self.builds[name] for name in request["ids"] if name in self.builds]
        return {"builds": found, "buildsNotFound": [name for name in request["ids"] if name not in self.builds]}

    def stop(self, request):
        build = self.builds.get(request["id"])
        if build is None:
            raise Failed("ResourceNotFoundException", request["id"])
        with self.lock:
            if build["buildStatus"] == "IN_PROGRESS":
                build["buildStatus"] = "STOPPED"
            process = self.processes.get(request["id"])
        if process:
            os.killpg(process.pid, signal.SIGKILL)
        return {"build": build}

    def run(self, build, artifacts, minutes):
        with tempfile.TemporaryDirectory(prefix="codebuild-") as folder:
            folder = pathlib.Path(folder)
            try:
                for phase, step in (
                    ("DOWNLOAD_SOURCE", lambda: self.download(build, folder)),
                    ("BUILD", lambda: self.commands(build, folder, minutes * 60)),
                    ("UPLOAD_ARTIFACTS", lambda: self.upload(artifacts, folder)),
                ):
                    build["currentPhase"] = phase
                    step()
                status, context = "SUCCEEDED", None
            except subprocess.TimeoutExpired:
                status, context = "TIMED_OUT", {"statusCode": "BUILD_TIMED_OUT", "message": "Build has timed out."}
            except Exception as error:  # whatever a step says is what the build failed of
                status, context = "FAILED", {"statusCode": "COMMAND_EXECUTION_ERROR", "message": str(error)}
        phase = {"phaseType": build["currentPhase"], "phaseStatus": status}
        if context:
            phase["contexts"] = [context]
        with self.lock:
            build["phases"].append(phase)
            if build["buildStatus"] == "IN_PROGRESS":
                build["buildStatus"] = status
            build["currentPhase"] = "COMPLETED"
            build["endTime"] = time.time()
        self.tell(build)

    def download(self, build, folder):
        bucket, _, prefix = build["source"]["location"].partition("/")
        if not prefix.endswith("/"):
            raise RuntimeError(f"{prefix} is no folder")
        listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        if not listed:
            raise RuntimeError(f"{prefix} is empty")
        for entry in listed:
            target = folder / entry["Key"].removeprefix(prefix)
            with target.open("wb") as file:
                for chunk in self.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].iter_chunks(1 << 20):
                    file.write(chunk)

    def commands(self, build, folder, seconds):
        for phase in ("install", "pre_build", "build", "post_build"):
            for command in self.buildspec["phases"].get(phase, {}).get("commands", []):
                with self.lock:
                    if build["buildStatus"] != "IN_PROGRESS":
                        raise RuntimeError("stopped")
                    process = subprocess.Popen(
                        ["/bin/sh", "-c", command],
                        cwd=folder,
                        env={"PATH": f"{self.options.path}:/usr/bin:/bin:/usr/sbin:/sbin"},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                    self.processes[build["id"]] = process
                try:
                    output, _ = process.communicate(timeout=seconds)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    raise
                if process.returncode:
                    text = output.decode(errors="replace")[-2000:]
                    raise RuntimeError(f"Error while executing command: {command}. Reason: exit status {process.returncode}\n{text}")

    def upload(self, artifacts, folder):
        parts = [artifacts.get("path", "").strip("/"), artifacts.get("name", "").strip("/")]
        prefix = "/".join(part for part in parts if part)
        for name in self.buildspec.get("artifacts", {}).get("files", []):
            path = folder / name
            if not path.is_file():
                raise RuntimeError(f"no matching artifact paths found: {name}")
            with path.open("rb") as file:
                self.s3.put_object(Bucket=artifacts["location"], Key=f"{prefix}/{name}", Body=file)

    def tell(self, build):
        detail = {
            "build-status": build["buildStatus"],
            "project-name": build["projectName"],
            "build-id": build["arn"],
            "additional-information": {"source": build["source"]},
            "current-phase": "COMPLETED",
            "version": "1",
        }
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "CodeBuild Build State Change",
            "source": "aws.codebuild",
            "account": ACCOUNT,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "region": REGION,
            "resources": [build["arn"]],
            "detail": detail,
        }
        if self.options.event_file:
            with self.lock, open(self.options.event_file, "a") as file:
                file.write(json.dumps(event) + "\n")
            return
        entry = {"Source": event["source"], "DetailType": event["detail-type"], "Detail": json.dumps(detail)}
        client("events", self.options.endpoint).put_events(Entries=[entry | {"Resources": event["resources"]}])


def serve(builds, port):
    actions = {"StartBuild": builds.start, "BatchGetBuilds": builds.get, "StopBuild": builds.stop}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            action = self.headers.get("x-amz-target", "").rpartition(".")[2]
            try:
                if action not in actions:
                    raise Failed("InvalidInputException", f"this stand-in does not know {action}")
                status, answer = 200, actions[action](json.loads(body))
            except Failed as error:
                kind, message = error.args
                status, answer = 400, {"__type": kind, "message": message}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description="stands in for AWS CodeBuild")
    parser.add_argument("--buildspec", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="/usr/local/bin")
    parser.add_argument("--project", default="minimill-job")
    parser.add_argument("--event-file")
    options = parser.parse_args()
    serve(Builds(options), options.port)


if __name__ == "__main__":
    sys.exit(main())
