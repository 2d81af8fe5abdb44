"""Sets through the services' own calls what the emulator's CloudFormation leaves out, from the same template."""

from collections.abc import Callable


def table(emulator, name: str, wanted: dict) -> None:
    client = emulator.client("dynamodb")
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=wanted["TimeToLiveSpecification"])
    client.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification=wanted["PointInTimeRecoverySpecification"]
    )
    encryption = wanted["SSESpecification"]
    client.update_table(
        TableName=name,
        SSESpecification={
            "Enabled": encryption["SSEEnabled"],
            "SSEType": encryption["SSEType"],
            "KMSMasterKeyId": encryption["KMSMasterKeyId"],
        },
    )


def bucket(emulator, name: str, wanted: dict) -> None:
    rules = [
        {
            "BucketKeyEnabled": rule["BucketKeyEnabled"],
            "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
        }
        for rule in wanted["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    ]
    emulator.client("s3").put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})


def topic(emulator, arn: str, wanted: dict) -> None:
    client = emulator.client("sns")
    client.set_topic_attributes(TopicArn=arn, AttributeName="KmsMasterKeyId", AttributeValue=wanted["KmsMasterKeyId"])


COMPLETERS: dict[str, Callable] = {
    "AWS::DynamoDB::Table": table,
    "AWS::S3::Bucket": bucket,
    "AWS::SNS::Topic": topic,
}
