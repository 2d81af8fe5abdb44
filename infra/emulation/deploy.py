#!/usr/bin/env python3
"""Deploys template.yaml to an emulator of AWS, and says what became of every resource.

The template goes through SAM's transform to the emulator's CloudFormation. Each resource that the stack
then names is looked up at its own service and held against the template; what CloudFormation did not make,
or made otherwise, is listed.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import boto3
import complete
import package
import readback
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError
from botocore.httpsession import URLLib3Session

CODE_BUCKET = "minimill-code"
COMPLETED = "made, and completed by the script"
# How long a stack may take, in seconds.
PATIENCE = 300


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="address of the emulator")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--template", type=Path, default=Path(__file__).parents[2] / "template.yaml")
    parser.add_argument("--binaries", type=Path, required=True, help="folder of the functions' binaries")
    parser.add_argument("--catalog", type=Path, required=True, help="what becomes the layer")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--environment",
        action="append",
        default=[],
        metavar="FUNCTION:NAME=VALUE",
        help="what only the emulator needs; listed in the report",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="ROLE:ACTION",
        help="what the emulator asks for beyond AWS, on every resource; listed in the report",
    )
    parser.add_argument("--layer", type=Path, help="where the deployed layer is unpacked, as Lambda does in /opt")
    parser.add_argument("--output", type=Path, required=True, help="where the report goes, as JSON")
    return parser.parse_args()


class Emulator:
    """Clients of the emulator's services, made once."""

    def __init__(self, endpoint: str, region: str):
        self.session = boto3.Session("test", "test", region_name=region)
        self.config = Config(retries={"max_attempts": 3}, s3={"addressing_style": "path"}, proxies={})
        self.endpoint = endpoint
        self.clients = {}

    def client(self, service: str):
        if service not in self.clients:
            self.clients[service] = self.session.client(service, endpoint_url=self.endpoint, config=self.config)
        return self.clients[service]


def set_environment(template: dict, entries: list[str]) -> None:
    """Sets variables of functions; a function is named by its binary."""
    for entry in entries:
        function, _, pair = entry.partition(":")
        name, _, value = pair.partition("=")
        for resource in template["Resources"].values():
            if resource["Type"] != "AWS::Serverless::Function":
                continue
            if resource["Metadata"]["BuildProperties"]["Binary"] == function:
                resource["Properties"]["Environment"]["Variables"][name] = value


def deploy(emulator: Emulator, body: dict, parameters: dict[str, str], stack: str) -> list[dict]:
    """Makes the stack and answers its resources."""
    formation = emulator.client("cloudformation")
    text = json.dumps(body)
    where = {"TemplateBody": text}
    if len(text) > 51_200:
        # CloudFormation's limit for a template that comes with the call.
        emulator.client("s3").put_object(Bucket=CODE_BUCKET, Key="template.json", Body=text.encode())
        where = {"TemplateURL": f"{emulator.endpoint}/{CODE_BUCKET}/template.json"}
    formation.create_stack(
        StackName=stack,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        DisableRollback=True,
        **where,
    )
    deadline = time.monotonic() + PATIENCE
    while True:
        found = formation.describe_stacks(StackName=stack)["Stacks"][0]
        if not found["StackStatus"].endswith("_IN_PROGRESS"):
            break
        if time.monotonic() > deadline:
            sys.exit(f"the stack is `{found['StackStatus']}` after {PATIENCE} s")
        time.sleep(0.5)
    resources = []
    for page in formation.get_paginator("list_stack_resources").paginate(StackName=stack):
        resources += page["StackResourceSummaries"]
    if found["StackStatus"] != "CREATE_COMPLETE":
        for event in formation.describe_stack_events(StackName=stack)["StackEvents"]:
            if event["ResourceStatus"].endswith("FAILED"):
                sys.stderr.write(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}\n")
        sys.exit(f"the stack is `{found['StackStatus']}`: {found.get('StackStatusReason', '')}")
    return resources


def location(region: str) -> dict:
    """Where a bucket is made; the first region is not to be named."""
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def allow(emulator: Emulator, entries: list[str], names: dict[str, str]) -> None:
    """Adds to roles what only the emulator asks for."""
    for entry in entries:
        role, _, action = entry.partition(":")
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        emulator.client("iam").put_role_policy(
            RoleName=names[role], PolicyName=f"emulator-{action.replace(':', '-')}", PolicyDocument=document
        )


def settled(emulator: Emulator, resource: dict, identifier: str, names: dict[str, str]) -> tuple[str, str]:
    """How a resource stands; what CloudFormation left out is set first."""
    kind = resource["Type"]
    properties = readback.resolved(resource.get("Properties", {}), names)
    state, detail = readback.held(emulator, kind, properties, identifier)
    if state == readback.AS_WRITTEN or kind not in complete.COMPLETERS:
        return state, detail
    wanted = with_arns(emulator, properties, names)
    try:
        complete.COMPLETERS[kind](emulator, identifier, wanted)
    except (ClientError, ParamValidationError) as error:
        return state, f"{detail}; and it can't be set: {error}"
    after, rest = readback.held(emulator, kind, properties, identifier)
    return (COMPLETED, detail) if after == readback.AS_WRITTEN else (after, rest)


def with_arns(emulator: Emulator, value, names: dict[str, str]):
    """The value with each `Fn::GetAtt` of a key's `Arn` replaced by it."""
    if isinstance(value, dict):
        if set(value) == {"Fn::GetAtt"} and value["Fn::GetAtt"][1] == "Arn":
            identifier = names[value["Fn::GetAtt"][0]]
            return emulator.client("kms").describe_key(KeyId=identifier)["KeyMetadata"]["Arn"]
        return {name: with_arns(emulator, inner, names) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_arns(emulator, inner, names) for inner in value]
    return value


def summary(report: dict, options: argparse.Namespace) -> list[str]:
    """The report for a person: how many resources stand how, and what is to be said of some."""
    counts = Counter((entry["state"], entry["type"]) for entry in report["resources"])
    lines = [f"{state}: {count} x {kind}" for (state, kind), count in sorted(counts.items())]
    lines += [f"{row['state']}: {row['name']}: {row['detail']}" for row in report["resources"] if row["detail"]]
    lines += [f"set for the emulator alone: {entry}" for entry in options.environment]
    lines += [f"allowed for the emulator alone: {entry}" for entry in options.allow]
    return lines


def reported(emulator: Emulator, body: dict, made: dict[str, dict], names: dict[str, str]) -> dict:
    """What became of each resource of the template, and how each function is set."""
    resources, functions = [], {}
    for name, resource in body["Resources"].items():
        entry = {"name": name, "type": resource["Type"]}
        if name in made:
            entry["id"] = made[name]["PhysicalResourceId"]
            entry["state"], entry["detail"] = settled(emulator, resource, entry["id"], names)
        else:
            condition = resource.get("Condition")
            entry["state"] = "condition not met" if condition else readback.ABSENT
            entry["detail"] = condition or "CloudFormation does not name it"
        resources.append(entry)
        if resource["Type"] == "AWS::Lambda::Function" and name in made:
            found = emulator.client("lambda").get_function_configuration(FunctionName=entry["id"])
            variables = found["Environment"]["Variables"]
            functions[variables["MINIMILL_FUNCTION"]] = {
                "name": entry["id"],
                "timeout": found["Timeout"],
                "environment": variables,
            }
    return {"resources": resources, "functions": functions}


def unpack_layers(emulator: Emulator, resources: list[dict], into: Path) -> None:
    """Puts the content of the deployed layers where functions look for it."""
    for entry in resources:
        if entry["type"] == "AWS::Lambda::LayerVersion":
            where = emulator.client("lambda").get_layer_version_by_arn(Arn=entry["id"])["Content"]["Location"]
            answer = URLLib3Session(proxies={}).send(AWSRequest("GET", where).prepare())
            package.unpack(answer.content, into)


def main() -> None:
    options = arguments()
    # SAM's transform asks the environment for the region.
    os.environ["AWS_DEFAULT_REGION"] = options.region
    emulator = Emulator(options.endpoint, options.region)
    parameters = dict(entry.split("=", 1) for entry in options.parameter)
    emulator.client("s3").create_bucket(Bucket=CODE_BUCKET, **location(options.region))

    def put(name: str, content: bytes) -> dict:
        emulator.client("s3").put_object(Bucket=CODE_BUCKET, Key=name, Body=content)
        return {"Bucket": CODE_BUCKET, "Key": name}

    template = package.read(options.template)
    set_environment(template, options.environment)
    packaged = package.package(template, put, options.binaries, options.catalog)
    body = package.transformed(packaged, parameters)
    stack = parameters.get("Prefix", "minimill")
    made = {row["LogicalResourceId"]: row for row in deploy(emulator, body, parameters, stack)}
    names = {name: row["PhysicalResourceId"] for name, row in made.items()}
    for name, parameter in body["Parameters"].items():
        names[name] = parameters.get(name, str(parameter.get("Default", "")))

    report = {"stack": stack, **reported(emulator, body, made, names)}
    allow(emulator, options.allow, names)
    if options.layer:
        unpack_layers(emulator, report["resources"], options.layer)
    stacks = emulator.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    report["outputs"] = {row["OutputKey"]: row["OutputValue"] for row in stacks[0].get("Outputs", [])}
    options.output.write_text(json.dumps(report, indent=1))
    sys.stdout.write("\n".join(summary(report, options)) + "\n")


if __name__ == "__main__":
    main()
