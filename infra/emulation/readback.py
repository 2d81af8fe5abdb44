"""Asks each service for what CloudFormation says that it made, and holds it against the template.

A reader answers properties in the template's own shape. What the template writes out is compared; where it
refers to something else, there has to be a value.
"""

import json
from collections.abc import Callable, Iterator

from botocore.exceptions import BotoCoreError, ClientError

AS_WRITTEN = "as the template says"
OTHERWISE = "made otherwise"
ABSENT = "not made"
UNKNOWN = "not looked up"


def queue(emulator, url: str) -> dict:
    found = emulator.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    policy = json.loads(found.get("RedrivePolicy", "{}"))
    return {
        "FifoQueue": found.get("FifoQueue", "false"),
        "KmsMasterKeyId": found.get("KmsMasterKeyId"),
        "VisibilityTimeout": found.get("VisibilityTimeout"),
        "MessageRetentionPeriod": found.get("MessageRetentionPeriod"),
        "RedrivePolicy": policy,
        "DeduplicationScope": found.get("DeduplicationScope"),
        "FifoThroughputLimit": found.get("FifoThroughputLimit"),
    }


def table(emulator, name: str) -> dict:
    client = emulator.client("dynamodb")
    found = client.describe_table(TableName=name)["Table"]
    expiry = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    encryption = found.get("SSEDescription", {})
    return {
        "BillingMode": found.get("BillingModeSummary", {}).get("BillingMode"),
        "DeletionProtectionEnabled": found.get("DeletionProtectionEnabled"),
        "AttributeDefinitions": found["AttributeDefinitions"],
        "KeySchema": found["KeySchema"],
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": recovery == "ENABLED"},
        "SSESpecification": {
            "SSEEnabled": encryption.get("Status") == "ENABLED",
            "SSEType": encryption.get("SSEType"),
            "KMSMasterKeyId": encryption.get("KMSMasterKeyArn"),
        },
        "TimeToLiveSpecification": {
            "AttributeName": expiry.get("AttributeName"),
            "Enabled": expiry.get("TimeToLiveStatus") == "ENABLED",
        },
    }


def bucket(emulator, name: str) -> dict:
    client = emulator.client("s3")
    rules = client.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    block = client.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    return {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {
                    "BucketKeyEnabled": rule.get("BucketKeyEnabled"),
                    "ServerSideEncryptionByDefault": rule["ApplyServerSideEncryptionByDefault"],
                }
                for rule in rules
            ]
        },
        "PublicAccessBlockConfiguration": block,
        "OwnershipControls": client.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"],
        "VersioningConfiguration": {"Status": client.get_bucket_versioning(Bucket=name).get("Status")},
    }


def bucket_policy(emulator, name: str) -> dict:
    policy = json.loads(emulator.client("s3").get_bucket_policy(Bucket=name)["Policy"])
    return {"PolicyDocument": policy}


def key(emulator, identifier: str) -> dict:
    client = emulator.client("kms")
    found = client.describe_key(KeyId=identifier)["KeyMetadata"]
    rotates = False
    if found["KeySpec"] == "SYMMETRIC_DEFAULT":
        rotates = client.get_key_rotation_status(KeyId=identifier)["KeyRotationEnabled"]
    return {
        "KeySpec": found["KeySpec"],
        "KeyUsage": found["KeyUsage"],
        "EnableKeyRotation": rotates,
        "KeyPolicy": json.loads(client.get_key_policy(KeyId=identifier, PolicyName="default")["Policy"]),
    }


def role(emulator, name: str) -> dict:
    client = emulator.client("iam")
    found = client.get_role(RoleName=name)["Role"]
    policies = []
    for policy in client.list_role_policies(RoleName=name)["PolicyNames"]:
        document = client.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        policies.append({"PolicyName": policy, "PolicyDocument": document})
    return {"AssumeRolePolicyDocument": found["AssumeRolePolicyDocument"], "Policies": policies}


def log_group(emulator, name: str) -> dict:
    found = emulator.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    group = next(group for group in found if group["logGroupName"] == name)
    return {"RetentionInDays": group.get("retentionInDays"), "KmsKeyId": group.get("kmsKeyId")}


def function(emulator, name: str) -> dict:
    found = emulator.client("lambda").get_function_configuration(FunctionName=name)
    logging = found["LoggingConfig"]
    return {
        "Handler": found["Handler"],
        "Runtime": found["Runtime"],
        "Timeout": found["Timeout"],
        "MemorySize": found["MemorySize"],
        "EphemeralStorage": found["EphemeralStorage"],
        "TracingConfig": found["TracingConfig"],
        "LoggingConfig": logging,
        "Role": found["Role"],
        "Layers": [layer["Arn"] for layer in found.get("Layers", [])],
        "Environment": {"Variables": found["Environment"]["Variables"]},
    }


def event_source(emulator, identifier: str) -> dict:
    found = emulator.client("lambda").get_event_source_mapping(UUID=identifier)
    return {
        "BatchSize": found["BatchSize"],
        "EventSourceArn": found["EventSourceArn"],
        "FunctionResponseTypes": found.get("FunctionResponseTypes"),
        "ScalingConfig": found.get("ScalingConfig"),
    }


def layer(emulator, arn: str) -> dict:
    found = emulator.client("lambda").get_layer_version_by_arn(Arn=arn)
    return {"LayerName": found["LayerArn"].rsplit(":", 1)[1]}


def schedule(emulator, name: str) -> dict:
    found = emulator.client("scheduler").get_schedule(Name=name.rsplit("/", 1)[-1])
    return {name: found.get(name) for name in ("ScheduleExpression", "FlexibleTimeWindow", "Target")}


def alarm(emulator, name: str) -> dict:
    found = emulator.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
    names = (
        "AlarmDescription",
        "Namespace",
        "MetricName",
        "Dimensions",
        "Statistic",
        "Period",
        "EvaluationPeriods",
        "Threshold",
        "ComparisonOperator",
        "TreatMissingData",
        "AlarmActions",
    )
    return {name: found.get(name) for name in names}


def dashboard(emulator, name: str) -> dict:
    found = emulator.client("cloudwatch").get_dashboard(DashboardName=name)
    # Without JSON in it there would be nothing to see.
    return {"DashboardName": name, "DashboardBody": json.loads(found["DashboardBody"])["widgets"]}


def project(emulator, name: str) -> dict:
    found = emulator.client("codebuild").batch_get_projects(names=[name])["projects"][0]
    environment = found["environment"]
    return {
        "Name": found["name"],
        "ServiceRole": found["serviceRole"],
        "TimeoutInMinutes": found["timeoutInMinutes"],
        "Source": {
            "Type": found["source"]["type"],
            "Location": found["source"].get("location"),
            "BuildSpec": found["source"].get("buildspec"),
        },
        "Environment": {
            "Type": environment["type"],
            "ComputeType": environment["computeType"],
            "Image": environment["image"],
            "PrivilegedMode": environment.get("privilegedMode"),
        },
    }


def rule(emulator, name: str) -> dict:
    # The id is the name, after the bus where it is not the default one.
    name = name.rsplit("|", 1)[-1]
    found = emulator.client("events").describe_rule(Name=name)
    targets = emulator.client("events").list_targets_by_rule(Rule=name)["Targets"]
    return {"Name": found["Name"], "EventPattern": json.loads(found["EventPattern"]), "Targets": targets}


def permission(emulator, function: str) -> dict:
    policy = json.loads(emulator.client("lambda").get_policy(FunctionName=function)["Policy"])
    statement = policy["Statement"][0]
    principal = statement["Principal"]
    return {
        "Action": statement["Action"],
        "Principal": principal["Service"] if isinstance(principal, dict) else principal,
        "SourceArn": statement.get("Condition", {}).get("ArnLike", {}).get("AWS:SourceArn"),
    }


def queue_policy(emulator, url: str) -> dict:
    found = emulator.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    return {"PolicyDocument": json.loads(found["Policy"])}


def topic(emulator, arn: str) -> dict:
    found = emulator.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
    return {"KmsMasterKeyId": found.get("KmsMasterKeyId")}


READERS: dict[str, Callable] = {
    "AWS::SQS::Queue": queue,
    "AWS::DynamoDB::Table": table,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": bucket_policy,
    "AWS::KMS::Key": key,
    "AWS::IAM::Role": role,
    "AWS::Logs::LogGroup": log_group,
    "AWS::Lambda::Function": function,
    "AWS::Lambda::EventSourceMapping": event_source,
    "AWS::Lambda::LayerVersion": layer,
    "AWS::Scheduler::Schedule": schedule,
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::CloudWatch::Dashboard": dashboard,
    "AWS::CodeBuild::Project": project,
    "AWS::Events::Rule": rule,
    "AWS::Lambda::Permission": permission,
    "AWS::SQS::QueuePolicy": queue_policy,
    "AWS::SNS::Topic": topic,
}

# What the emulator gives an id of its own is looked up by what it belongs to.
BELONGS_TO: dict[str, Callable] = {
    "AWS::S3::BucketPolicy": lambda properties: properties["Bucket"],
    "AWS::SQS::QueuePolicy": lambda properties: properties["Queues"][0],
    "AWS::Lambda::Permission": lambda properties: properties["FunctionName"],
}


def resolved(value, names: dict[str, str]):
    """The value with each `Ref` to a name that is known replaced by what it stands for."""
    if isinstance(value, dict):
        if set(value) == {"Ref"} and value["Ref"] in names:
            return names[value["Ref"]]
        return {name: resolved(inner, names) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, names) for inner in value]
    return value


def refers(value) -> bool:
    """Whether a value of the template is still another one's name."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def same(wanted, found) -> bool:
    """Whether two scalars mean the same; services answer numbers and booleans as text."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return str(wanted).lower() == str(found).lower()
    try:
        return float(wanted) == float(found)
    except (TypeError, ValueError):
        return wanted == found


def differences(wanted, found, path: str) -> Iterator[str]:
    """What is otherwise than the template says."""
    if refers(wanted):
        if found in (None, "", [], {}):
            yield f"{path} has no value"
    elif isinstance(wanted, dict):
        if not isinstance(found, dict):
            yield f"{path} is {found!r}"
            return
        for name, value in wanted.items():
            yield from differences(value, found.get(name), f"{path}.{name}")
    elif isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            yield f"{path} is {found!r}"
            return
        for index, (value, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(value, other, f"{path}[{index}]")
    elif not same(wanted, found):
        yield f"{path} is {found!r}, not {wanted!r}"


def held(emulator, kind: str, properties: dict, identifier: str) -> tuple[str, str]:
    """How a resource of a kind stands, and what is to be said of it."""
    reader = READERS.get(kind)
    if reader is None:
        return UNKNOWN, f"no reader of `{kind}`"
    if kind in BELONGS_TO:
        identifier = BELONGS_TO[kind](properties)
    try:
        found = reader(emulator, identifier)
    except (BotoCoreError, ClientError, LookupError, StopIteration) as error:
        # Whatever the service says is the answer.
        return ABSENT, f"{type(error).__name__}: {error}"
    wanted = {name: value for name, value in properties.items() if name in found}
    wrong = list(differences(wanted, found, ""))
    return (OTHERWISE, "; ".join(wrong)) if wrong else (AS_WRITTEN, "")
