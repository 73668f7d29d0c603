"""Makes a user of IAM with the rights that the template in ``deploy/`` gives to the nodes of a stack.

Run by ``stand_ins.py`` as ``stand_ins_user.py ENDPOINT TEMPLATE`` in the environment of the stand-ins; prints the
user's access key as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3
import yaml

# Each storage of the tests has a table of its own.
EVERY_TABLE = "arn:aws:dynamodb:*:*:table/*"
ROOT = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


class Template(yaml.SafeLoader):
    """Reads a template of CloudFormation, whose short functions are tags: ``!Ref X`` becomes ``{"Ref": "X"}``."""


Template.add_multi_constructor("!", lambda loader, tag, node: {tag: node.value})


def actions_of_a_node(template: str) -> list[str]:
    """Return what the role of the nodes may do with DynamoDB."""
    resources = yaml.load(template, Template)["Resources"]
    role = resources["TaskRole"]["Properties"]
    assert "Policies" not in role, "it has rights of its own now: they belong here too"
    policies = [resources[policy["Ref"]]["Properties"] for policy in role["ManagedPolicyArns"]]
    statements = [each for policy in policies for each in policy["PolicyDocument"]["Statement"]]
    actions = [action for each in statements for action in each["Action"] if action.startswith("dynamodb:")]
    assert actions, "the role may do nothing with DynamoDB"
    return actions


def make_user(endpoint: str, actions: list[str]) -> dict[str, str]:
    """Make the user, and return its access key."""
    iam, name = boto3.client("iam", endpoint_url=endpoint, **ROOT), "node"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": actions, "Resource": EVERY_TABLE}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="data", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


if __name__ == "__main__":
    print(json.dumps(make_user(sys.argv[1], actions_of_a_node(Path(sys.argv[2]).read_text()))))
