"""The CloudFormation stack of `deploy/`, really made on a stand-in for AWS: its data, its rights, its users."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from callers import bearer, client_of
from deploy_support import (
    SERVICE_TEMPLATE,
    TEMPLATE,
    StandIn,
    cloud_in,
    container,
    driver,
    make_stack,
    template,
    user_pool_settings,
)
from conftest import flags
from frames import get, list_names, load, refused, sql
from test_serve import run_to_end
from versions import act

pytestmark = pytest.mark.any_backend("it has stand-ins of its own")

FRAME = pa.table({"x": [1, 2, 3]})
# What a service needs.
SERVICE = {
    "CreateService": "true",
    "Image": "pandas-db:test",
    "CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/00000000-0000-0000-0000-000000000000",
    "ExposeRest": "true",
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[StandIn]:
    """One stand-in for all tests."""
    with cloud_in(tmp_path_factory.mktemp("cloud")) as started:
        yield started


@pytest.fixture(scope="module")
def stack(cloud) -> dict:
    """The stack without a service."""
    return make_stack(cloud, "pandas-db", TEMPLATE, {})


def test_the_stack_has_what_the_template_promises(cloud, stack):
    found = driver("describe", endpoint=cloud.url, resources=stack["resources"])
    assert all(found["public_access"].values()) and len(found["public_access"]) == 4
    assert found["encryption"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert found["versioning"] == "Enabled"
    table = found["table"]
    assert {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]} == {"pk": "HASH", "sk": "RANGE"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST" and table["DeletionProtectionEnabled"]
    assert found["pool"]["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"]
    assert found["groups"] == ["admins", "readers", "writers"]
    assert len(found["handle_key"]) >= 32
    assert found["policy"] == template()["Parameters"]["PolicyRules"]["Default"]
    # Those that the stand-in leaves out.
    properties = {name: resource.get("Properties") for name, resource in template()["Resources"].items()}
    assert properties["Table"]["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["Table"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    rules = properties["Bucket"]["LifecycleConfiguration"]["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    assert [sorted(rule)[0] for rule in rules] == ["ExpiredObjectDeleteMarker", "AbortIncompleteMultipartUpload"]


def test_nobody_moves_to_another_tenant(cloud, stack):
    """Cognito lets users write every attribute that the client may write."""
    found = driver("describe", endpoint=cloud.url, resources=stack["resources"])["client"]
    assert "custom:tenant" in found["ReadAttributes"] and found["WriteAttributes"] == ["email"]
    assert "ClientSecret" not in found and found["PreventUserExistenceErrors"] == "ENABLED"


@pytest.fixture(scope="module")
def calls(cloud, stack) -> dict:
    """How the calls of a node, and others, end with the rights of the role."""
    role = stack["outputs"]["TaskRoleArn"]
    assert driver("take_role", endpoint=cloud.url, arn=role) == "AccessDenied", "only Fargate takes it on"
    credentials = driver("open_role", endpoint=cloud.url, arn=role)
    return driver("calls", endpoint=cloud.url, resources=stack["resources"], credentials=credentials)


def test_the_role_may_do_all_that_a_node_does(calls):
    assert len(calls["wanted"]) >= 19
    assert {name: code for name, code in calls["wanted"].items() if code != "ok"} == {}


def test_the_role_may_do_nothing_else(calls):
    assert len(calls["unwanted"]) >= 19
    assert {name: code for name, code in calls["unwanted"].items() if not code.startswith("AccessDenied")} == {}


def test_the_bucket_is_not_reached_without_tls(calls):
    assert calls["without TLS"] == "AccessDenied"


def test_the_role_has_no_right_that_no_call_needs(cloud, stack):
    document = driver("policy_document", endpoint=cloud.url, arn=stack["outputs"]["DataPolicyArn"])
    needed = driver("calls_without_each_action", endpoint=cloud.url, resources=stack["resources"], document=document)
    assert len(needed) == 15
    assert {action for action, refused_calls in needed.items() if not refused_calls} == set()


def environment_with(cloud: StandIn, credentials: dict) -> dict[str, str]:
    """Return the environment of a program that has credentials, with a session or without."""
    session = {"AWS_SESSION_TOKEN": credentials["SessionToken"]} if "SessionToken" in credentials else {}
    return session | {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
    }


def places_of(outputs: dict) -> dict[str, str]:
    """Return the settings of a node that say where the data is."""
    return {"storage": outputs["Storage"], "versions": outputs["Versions"]}


@pytest.fixture(scope="module")
def node(cloud) -> dict:
    """The outputs of a stack with all that a node needs."""
    made = make_stack(cloud, "node", TEMPLATE, {})
    driver("complete", endpoint=cloud.url, resources=made["resources"])
    return made["outputs"]


def test_init_names_each_right_that_is_missing(cloud, node, tmp_path):
    document = driver("policy_document", endpoint=cloud.url, arn=node["DataPolicyArn"])
    unnamed, words = [], ["init", *flags(**places_of(node))]
    for action, key in driver("keys_without_each_action", endpoint=cloud.url, document=document).items():
        ended = run_to_end(words, tmp_path, **environment_with(cloud, key))
        # Servers do without backups.
        code = 0 if action == "dynamodb:DescribeContinuousBackups" else 1
        if ended.returncode != code or action.split(":")[1] not in ended.stderr:
            unnamed.append((action, ended.returncode, ended.stderr))
    assert unnamed == []


def test_a_node_runs_with_the_rights_of_the_role(cloud, node, start_server, tmp_path):
    """The program itself, from the trial of its rights to deleting what it made."""
    credentials = driver("open_role", endpoint=cloud.url, arn=node["TaskRoleArn"])
    env, places = environment_with(cloud, credentials), places_of(node)
    for _ in range(2):
        ended = run_to_end(["init", *flags(**places)], tmp_path, **env)
        assert (ended.returncode, ended.stderr) == (0, ""), "no warning either"
    server = start_server(env=env, **places, spill_dir=tmp_path / "spill", vacuum_after="0s")
    with server.connect() as client:
        for _ in range(2):
            load(client, FRAME, "sales/eu", keep_last=True)
        assert get(client, "sales/eu").equals(FRAME)
        assert sql(client, "SELECT sum(x) AS total FROM sales.eu")["total"].to_pylist() == [6]
        act(client, "vacuum", "sales/eu")
        act(client, "delete_dataframe", "sales/eu")
        assert list_names(client) == []
    assert server.fetch("/readyz") == (200, "ready\n")
    assert server.stop() == 0
    assert "AccessDenied" not in server.errors()


def test_users_of_the_pool_do_what_their_groups_may(cloud, stack, start_server, tmp_path):
    users = {
        "ann": ("acme", ["admins"]),
        "wim": ("acme", ["writers"]),
        "rea": ("acme", ["readers"]),
        "nemo": ("acme", []),
        "eve": ("other", ["admins"]),
    }
    tokens = driver("log_in", endpoint=cloud.url, resources=stack["resources"], users=users)
    server = start_server(**user_pool_settings(cloud, stack["outputs"], tmp_path))

    def as_user(name: str, do: Callable):
        with client_of(server.flight, bearer(tokens[name])) as client:
            return do(client)

    assert as_user("wim", lambda client: load(client, FRAME, "sales/eu"))["version"] == 1
    assert as_user("rea", lambda client: get(client, "sales/eu")).equals(FRAME)
    with refused("PERMISSION_DENIED"):
        as_user("rea", lambda client: load(client, FRAME, "sales/eu"))
    assert as_user("ann", list_names) == ["sales/eu"]
    assert as_user("nemo", list_names) == as_user("eve", list_names) == []
    assert as_user("eve", lambda client: load(client, FRAME, "sales/eu"))["version"] == 1, "a name of her own"


@pytest.fixture(scope="module")
def service(cloud) -> dict:
    """A stack with a service, and what it made."""
    made = make_stack(cloud, "frames", SERVICE_TEMPLATE, SERVICE)
    return made | driver("describe_service", endpoint=cloud.url, resources=made["resources"])


def test_the_service_runs_two_nodes_on_the_stacks_own_data(service):
    outputs, task = service["outputs"], service["task"]
    assert service["service"]["desiredCount"] == 2 and service["service"]["launchType"] == "FARGATE"
    assert task["taskRoleArn"] == outputs["TaskRoleArn"]
    node = next(each for each in task["containerDefinitions"] if each["name"] == "pandas-db")
    settings = {each["name"]: each["value"] for each in node["environment"]}
    assert settings["PANDAS_DB_STORAGE"] == outputs["Storage"] == f"s3://{outputs['Bucket']}/pandas-db"
    assert settings["PANDAS_DB_VERSIONS"] == outputs["Versions"] == f"dynamodb://{outputs['Table']}"
    assert settings["PANDAS_DB_JWT_ISSUER"] == outputs["JwtIssuer"]
    assert settings["PANDAS_DB_JWT_AUDIENCE"] == outputs["UserPoolClientId"]
    assert node["user"] == "65532:65532" and node["readonlyRootFilesystem"]
    secrets = container(template(), "pandas-db")["Secrets"]
    assert secrets == [{"Name": "PANDAS_DB_HANDLE_KEY", "ValueFrom": {"Ref": "HandleKey"}}]


def test_the_load_balancer_speaks_http2_and_asks_whether_nodes_are_ready(service):
    resources = service["resources"]
    flight = service["listeners"][resources["FlightListener"]]
    assert flight["Protocol"] == "TLS" and flight["Port"] == 443
    # The stand-in leaves this out.
    assert template()["Resources"]["FlightListener"]["Properties"]["AlpnPolicy"] == ["HTTP2Only"]
    for name in ("FlightTargets", "RestTargets"):
        target = service["targets"][resources[name]]
        assert (target["HealthCheckProtocol"], target["HealthCheckPath"]) == ("HTTP", "/readyz")
