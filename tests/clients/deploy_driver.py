"""Works with the files of ``deploy/`` and with a stand-in for AWS, in an environment that has their libraries.

Run by ``test_deploy.py`` as ``deploy_driver.py SCENARIO ARGUMENTS``, the arguments as JSON; prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path

import boto3
import hcl2
import yaml
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from cfnlint.decode.cfn_yaml import load as load_template

REGION = "us-east-1"
PATIENCE = 120  # Seconds.


def client(endpoint: str, service: str, credentials: dict | None = None, over_tls: bool = True) -> BaseClient:
    """Return a client of the stand-in, which checks signatures and policies.

    Parameters
    ----------
    endpoint : str
        Where the stand-in is.
    service : str
        Which service of AWS.
    credentials : dict, optional
        What STS gave out; those of the account's root otherwise.
    over_tls : bool
        Say that TLS ended in front of the stand-in, as policies want it.
    """
    credentials = credentials or {"AccessKeyId": "test", "SecretAccessKey": "test"}
    made = boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials.get("SessionToken"),
    )
    if over_tls:
        made.meta.events.register(
            "before-sign", lambda request, **_: request.headers.add_header("X-Forwarded-Proto", "https")
        )
    return made


def code_of(call) -> str:
    """Return "ok", or the code of the error that a call ended with."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "ok"


def read(folder: str) -> dict:
    """Parse every file of a folder that describes something: all documents of each."""
    found = {}
    for path in sorted(Path(folder).rglob("*.y*ml")):
        name = str(path.relative_to(folder))
        if "AWSTemplateFormatVersion" in path.read_text():
            found[name] = [load_template(str(path))]
        else:
            found[name] = list(yaml.safe_load_all(path.read_text()))
    for path in sorted(Path(folder).rglob("*.tf")):
        with path.open() as file:
            found[str(path.relative_to(folder))] = [hcl2.load(file)]
    return found


def create(endpoint: str, name: str, template: str, parameters: dict) -> dict:
    """Create a stack, and return its state, its outputs and its resources."""
    cloud = client(endpoint, "cloudformation")
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    cloud.create_stack(StackName=name, TemplateBody=template, Parameters=given, Capabilities=["CAPABILITY_IAM"])
    return stack(endpoint, name)


def stack(endpoint: str, name: str) -> dict:
    """Return the state of a stack, what it says went wrong, its outputs and its resources, once nothing changes."""
    cloud = client(endpoint, "cloudformation")
    until = time.monotonic() + PATIENCE
    while (found := cloud.describe_stacks(StackName=name)["Stacks"][0])["StackStatus"].endswith("_IN_PROGRESS"):
        if time.monotonic() > until:
            break
    events = cloud.describe_stack_events(StackName=name)["StackEvents"]
    pages = cloud.get_paginator("list_stack_resources").paginate(StackName=name)
    resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
    return {
        "state": found["StackStatus"],
        "failures": [
            f"{e['LogicalResourceId']}: {e['ResourceStatusReason']}" for e in events if "FAILED" in e["ResourceStatus"]
        ],
        "outputs": {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])},
        "resources": {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources},
    }


def describe(endpoint: str, resources: dict) -> dict:
    """Describe what a stack made, by asking the services themselves."""
    s3, table = client(endpoint, "s3"), client(endpoint, "dynamodb")
    pool, bucket = client(endpoint, "cognito-idp"), resources["Bucket"]
    ids = {"UserPoolId": resources["UserPool"]}
    secret = client(endpoint, "secretsmanager").get_secret_value(SecretId=resources["HandleKey"])
    return {
        "public_access": s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"],
        "encryption": s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"],
        "versioning": s3.get_bucket_versioning(Bucket=bucket)["Status"],
        "table": table.describe_table(TableName=resources["Table"])["Table"],
        "pool": pool.describe_user_pool(**ids)["UserPool"],
        "client": pool.describe_user_pool_client(**ids, ClientId=resources["UserPoolClient"])["UserPoolClient"],
        "groups": sorted(group["GroupName"] for group in pool.list_groups(**ids)["Groups"]),
        "handle_key": secret["SecretString"],
        "policy": client(endpoint, "ssm").get_parameter(Name=resources["Policy"])["Parameter"]["Value"],
    }


def describe_service(endpoint: str, resources: dict) -> dict:
    """Describe the service of a stack and what is in front of it."""
    ecs, balancing = client(endpoint, "ecs"), client(endpoint, "elbv2")
    task = ecs.describe_task_definition(taskDefinition=resources["TaskDefinition"])["taskDefinition"]
    services = ecs.describe_services(cluster=resources["Cluster"], services=[resources["Service"]])["services"]
    listeners = balancing.describe_listeners(LoadBalancerArn=resources["LoadBalancer"])["Listeners"]
    groups = balancing.describe_target_groups(TargetGroupArns=[resources["FlightTargets"], resources["RestTargets"]])
    return {
        "task": task,
        "service": services[0],
        "listeners": {listener["ListenerArn"]: listener for listener in listeners},
        "targets": {group["TargetGroupArn"]: group for group in groups["TargetGroups"]},
    }


def take_role(endpoint: str, arn: str) -> str | dict:
    """Take a role on as somebody else than Fargate would; return the error's code, or the credentials."""
    request = {"RoleArn": arn, "RoleSessionName": "tests"}
    try:
        return client(endpoint, "sts").assume_role(**request)["Credentials"]
    except ClientError as error:
        return error.response["Error"]["Code"]


def open_role(endpoint: str, arn: str) -> dict:
    """Let everybody take a role on, and take it on."""
    everybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
    client(endpoint, "iam").update_assume_role_policy(RoleName=arn.split("/")[-1], PolicyDocument=document)
    return take_role(endpoint, arn)


def wanted_calls(endpoint: str, credentials: dict, bucket: str, table: str) -> dict:
    """Return every call that pandas-db makes of S3 and DynamoDB, by its name."""
    s3, dynamo = client(endpoint, "s3", credentials), client(endpoint, "dynamodb", credentials)
    key, item = f"pandas-db/{uuid.uuid4().hex}", {"pk": {"S": uuid.uuid4().hex}, "sk": {"S": "-"}}
    of, names = {"Bucket": bucket, "Key": key}, {"TableName": table, "Key": item}

    def upload() -> dict:
        return of | {"UploadId": s3.create_multipart_upload(**of)["UploadId"]}

    def complete() -> None:
        begun = upload()
        tag = s3.upload_part(**begun, PartNumber=1, Body=b"rows")["ETag"]
        s3.complete_multipart_upload(**begun, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})

    other = {"Put": {"TableName": table, "Item": item | {"sk": {"S": "other"}}}}
    in_its_place = {"Delete": names | {"ConditionExpression": "attribute_exists(pk)"}}
    return {
        "PutObject": lambda: s3.put_object(**of, Body=b"rows"),
        "PutObject If-None-Match": lambda: s3.put_object(**of | {"Key": key + "-new"}, Body=b"", IfNoneMatch="*"),
        "GetObject": lambda: s3.get_object(**of),
        "HeadObject": lambda: s3.head_object(**of),
        "ListObjectsV2": lambda: s3.list_objects_v2(Bucket=bucket, Prefix="pandas-db/"),
        "Multipart upload": complete,
        "ListMultipartUploads": lambda: s3.list_multipart_uploads(Bucket=bucket),
        "AbortMultipartUpload": lambda: s3.abort_multipart_upload(**upload()),
        "DeleteObject": lambda: s3.delete_object(**of),
        "DeleteObjects": lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key + "-new"}]}),
        "DescribeTable": lambda: dynamo.describe_table(TableName=table),
        "DescribeTimeToLive": lambda: dynamo.describe_time_to_live(TableName=table),
        "DescribeContinuousBackups": lambda: dynamo.describe_continuous_backups(TableName=table),
        "PutItem": lambda: dynamo.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(pk)"),
        "GetItem": lambda: dynamo.get_item(**names, ConsistentRead=True),
        "UpdateItem": lambda: dynamo.update_item(
            **names, UpdateExpression="SET head = :head", ExpressionAttributeValues={":head": {"N": "1"}}
        ),
        "Query": lambda: dynamo.query(
            TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": item["pk"]}
        ),
        "Scan": lambda: dynamo.scan(TableName=table),
        "TransactWriteItems": lambda: dynamo.transact_write_items(TransactItems=[in_its_place, other]),
        "DeleteItem": lambda: dynamo.delete_item(**names),
    }


def unwanted_calls(endpoint: str, credentials: dict, bucket: str, table: str) -> dict:
    """Return calls that nobody who breaks into a node should be able to make, by their names."""
    s3, dynamo = client(endpoint, "s3", credentials), client(endpoint, "dynamodb", credentials)
    iam, secrets = client(endpoint, "iam", credentials), client(endpoint, "secretsmanager", credentials)
    root_s3, root_dynamo = client(endpoint, "s3"), client(endpoint, "dynamodb")
    of, other = {"Bucket": bucket, "Key": "pandas-db/kept"}, {"pk": {"S": "a"}, "sk": {"S": "b"}}
    version = root_s3.put_object(**of, Body=b"rows")["VersionId"]
    not_ours = f"not-ours-{uuid.uuid4().hex}"
    root_s3.create_bucket(Bucket=not_ours)
    root_s3.put_object(Bucket=not_ours, Key="secret", Body=b"rows")
    keys = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
    schema = [{"AttributeName": name, "KeyType": kind} for name, kind in (("pk", "HASH"), ("sk", "RANGE"))]
    shape = {"AttributeDefinitions": keys, "KeySchema": schema, "BillingMode": "PAY_PER_REQUEST"}
    root_dynamo.create_table(TableName=not_ours, **shape)
    return {
        "GetObject of another bucket": lambda: s3.get_object(Bucket=not_ours, Key="secret"),
        "PutObject to another bucket": lambda: s3.put_object(Bucket=not_ours, Key="x", Body=b""),
        "ListObjectsV2 of another bucket": lambda: s3.list_objects_v2(Bucket=not_ours),
        "ListBuckets": s3.list_buckets,
        "CreateBucket": lambda: s3.create_bucket(Bucket=not_ours + "-2"),
        "DeleteBucket": lambda: s3.delete_bucket(Bucket=bucket),
        "DeleteObject of a version": lambda: s3.delete_object(**of, VersionId=version),
        "PutBucketPolicy": lambda: s3.put_bucket_policy(Bucket=bucket, Policy="{}"),
        "PutBucketVersioning": lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "GetItem of another table": lambda: dynamo.get_item(TableName=not_ours, Key=other),
        "PutItem to another table": lambda: dynamo.put_item(TableName=not_ours, Item=other),
        "Scan of another table": lambda: dynamo.scan(TableName=not_ours),
        "TransactWriteItems on another table": lambda: dynamo.transact_write_items(
            TransactItems=[{"Put": {"TableName": not_ours, "Item": other}}]
        ),
        "CreateTable": lambda: dynamo.create_table(TableName=not_ours + "-2", **shape),
        "DeleteTable": lambda: dynamo.delete_table(TableName=table),
        "UpdateTimeToLive": lambda: dynamo.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires_at"}
        ),
        "UpdateTable": lambda: dynamo.update_table(TableName=table, DeletionProtectionEnabled=False),
        "ListTables": dynamo.list_tables,
        "ListSecrets": secrets.list_secrets,
        "ListRoles": iam.list_roles,
    }


def calls(endpoint: str, resources: dict, credentials: dict) -> dict:
    """Make all the calls with some credentials; return how each ended."""
    places = (endpoint, credentials, resources["Bucket"], resources["Table"])
    bucket = client(endpoint, "s3", credentials, over_tls=False)
    return {
        "wanted": {name: code_of(call) for name, call in wanted_calls(*places).items()},
        "unwanted": {name: code_of(call) for name, call in unwanted_calls(*places).items()},
        "without TLS": code_of(lambda: bucket.list_objects_v2(Bucket=resources["Bucket"])),
    }


def keys_without_each_action(endpoint: str, document: dict) -> dict:
    """For each action of a policy, return the access key of a user who has all but this one."""
    iam, found = client(endpoint, "iam"), {}
    for action in [action for statement in document["Statement"] for action in statement["Action"]]:
        statements = [
            statement | {"Action": [each for each in statement["Action"] if each != action]}
            for statement in document["Statement"]
        ]
        name = f"without-{uuid.uuid4().hex}"
        iam.create_user(UserName=name)
        rest = {"Version": "2012-10-17", "Statement": [each for each in statements if each["Action"]]}
        iam.put_user_policy(UserName=name, PolicyName="rest", PolicyDocument=json.dumps(rest))
        found[action] = iam.create_access_key(UserName=name)["AccessKey"]
    return found


def calls_without_each_action(endpoint: str, resources: dict, document: dict) -> dict:
    """For each action of a policy, return the calls that are refused to a user who has all but this one."""
    refused = {}
    for action, key in keys_without_each_action(endpoint, document).items():
        tried = wanted_calls(endpoint, key, resources["Bucket"], resources["Table"])
        refused[action] = [call for call, made in tried.items() if code_of(made).startswith("AccessDenied")]
    return refused


def policy_document(endpoint: str, arn: str) -> dict:
    """Return what a managed policy says, as IAM has it."""
    iam = client(endpoint, "iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def log_in(endpoint: str, resources: dict, users: dict) -> dict:
    """Make users as an administrator does; return the ID token that each gets for the password."""
    pool, tokens = client(endpoint, "cognito-idp"), {}
    ids = {"UserPoolId": resources["UserPool"]}
    for name, (tenant, groups) in users.items():
        password = uuid.uuid4().hex + "Aa1"
        attributes = [{"Name": "custom:tenant", "Value": tenant}]
        pool.admin_create_user(**ids, Username=name, UserAttributes=attributes)
        pool.admin_set_user_password(**ids, Username=name, Password=password, Permanent=True)
        for group in groups:
            pool.admin_add_user_to_group(**ids, Username=name, GroupName=group)
        answer = pool.initiate_auth(
            ClientId=resources["UserPoolClient"],
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": password},
        )
        tokens[name] = answer["AuthenticationResult"]["IdToken"]
    return tokens


def complete(endpoint: str, resources: dict) -> None:
    """Do what the stand-in leaves out of a stack, and take the policy away that wants TLS, which it does not speak."""
    table, names = client(endpoint, "dynamodb"), {"TableName": resources["Table"]}
    expiry = {"Enabled": True, "AttributeName": "expires_at"}
    table.update_time_to_live(**names, TimeToLiveSpecification=expiry)
    table.update_continuous_backups(**names, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    client(endpoint, "s3").delete_bucket_policy(Bucket=resources["Bucket"])


def put_objects(endpoint: str, bucket: str, keys: list[str]) -> None:
    """Put objects into a bucket."""
    s3 = client(endpoint, "s3")
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


def keys(endpoint: str, bucket: str) -> list[str]:
    """Return the keys of a bucket, which is made if it is not there."""
    s3 = client(endpoint, "s3")
    if code_of(lambda: s3.head_bucket(Bucket=bucket)) != "ok":
        s3.create_bucket(Bucket=bucket)
    return [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


SCENARIOS = (
    read,
    create,
    stack,
    describe,
    describe_service,
    take_role,
    open_role,
    calls,
    keys_without_each_action,
    calls_without_each_action,
    policy_document,
    log_in,
    complete,
    put_objects,
    keys,
)

if __name__ == "__main__":
    scenario = {each.__name__: each for each in SCENARIOS}[sys.argv[1]]
    print(json.dumps(scenario(**json.loads(sys.argv[2])), default=str))
