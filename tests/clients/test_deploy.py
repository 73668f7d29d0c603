"""The files of `deploy/`: checkers find nothing, the stack can be made and used, and its role can do what it must.

``PANDAS_DB_DEPLOY_PYTHON`` is an interpreter with the checkers and a stand-in for AWS; ``cargo test`` makes it from
``deploy-requirements.txt``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import conftest
import pyarrow as pa
import pytest
from callers import bearer, client_of
from frames import get, list_names, load, refused

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
TEMPLATE = (DEPLOY / "cloudformation/pandas-db.yaml").read_text()
MANIFESTS = sorted(str(path) for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
LISTENING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
FRAME = pa.table({"x": [1, 2, 3]})

# What a service needs, and what the stand-in needs to make one: it takes a parameter that is a number for text.
SERVICE = {
    "CreateService": "true",
    "Image": "pandas-db:test",
    "CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/00000000-0000-0000-0000-000000000000",
    "ExposeRest": "true",
}
SERVICE_TEMPLATE = TEMPLATE.replace("DesiredCount: !Ref DesiredCount", "DesiredCount: 2")


def deploy_python() -> Path:
    """Return the interpreter of the environment of the checkers."""
    python = os.environ.get("PANDAS_DB_DEPLOY_PYTHON")
    if not python:
        pytest.exit("set PANDAS_DB_DEPLOY_PYTHON to a Python with deploy-requirements.txt installed", returncode=4)
    return Path(python)


def program(name: str) -> str:
    """Return the path of a program of that environment, or of the system where it has none."""
    own = deploy_python().parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is in no package of Python, and not on this machine")
    return found


def run(arguments: list[str], **options) -> subprocess.CompletedProcess:
    """Run a program to its end."""
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=conftest.PATIENCE * 5,
        **options,
    )


def driver(scenario: str, **arguments) -> dict:
    """Return what a scenario of the driver finds."""
    script = Path(__file__).with_name("deploy_driver.py")
    ended = run([str(deploy_python()), str(script), scenario, json.dumps(arguments)])
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


class Cloud:
    """A stand-in for AWS that checks signatures and policies.

    Attributes
    ----------
    url : str
        Where it is.
    """

    def __init__(self, folder: Path):
        settings = {"AUTH": "true", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "0", "IOT_MTLS_ENABLED": "0"}
        self.process = subprocess.Popen(
            [program("ministack")],
            env=conftest.clean_environment(**settings),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines, self.url, self._listens = [], None, threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._listens.wait(conftest.PATIENCE) and self.url, "".join(self.lines)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if found := LISTENING.search(line):
                self.url = found[1]
                self._listens.set()
        self._listens.set()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=conftest.PATIENCE)
        self._thread.join()

    def make(self, name: str, template: str, parameters: dict) -> dict:
        """Create a stack; return its outputs and its resources by their names."""
        found = driver("create", endpoint=self.url, name=name, template=template, parameters=parameters)
        assert found["state"] == "CREATE_COMPLETE", found["failures"]
        return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    """One stand-in for all tests."""
    started = Cloud(tmp_path_factory.mktemp("cloud"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def stack(cloud) -> dict:
    """The stack without a service."""
    return cloud.make("pandas-db", TEMPLATE, {})


@pytest.fixture(scope="module")
def documents() -> dict:
    """All files of `deploy/` that describe something, parsed."""
    return driver("read", folder=str(DEPLOY))


@pytest.fixture(scope="module")
def template(documents) -> dict:
    """The CloudFormation template, parsed."""
    return documents["cloudformation/pandas-db.yaml"][0]


CHECKERS = {
    "cfn-lint": (["cfn-lint"], "cloudformation/pandas-db.yaml", "BillingMode", "BilingMode"),
    "hadolint": (["hadolint"], "docker/Dockerfile", "WORKDIR /src", "WORKDIR src"),
    "compose": (
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"],
        "compose/compose.yaml",
        "depends_on:",
        "depend_on:",
    ),
    "kubernetes": (["kubernetes-validate", "--strict"], "kubernetes/deployment.yaml", "replicas: 2", "replicas: two"),
    "terraform": (["terraform", "fmt", "-check"], "terraform/service.tf", " = ", "="),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_finds_nothing_and_sees_a_mistake(checker, tmp_path):
    (name, *options), file, right, wrong = CHECKERS[checker]
    command = [program(name), *options]
    assert (found := run([*command, str(DEPLOY / file)])).returncode == 0, found.stdout + found.stderr
    text = (DEPLOY / file).read_text()
    assert right in text
    broken = tmp_path / Path(file).name
    broken.write_text(text.replace(right, wrong, 1))
    assert run([*command, str(broken)]).returncode != 0


def test_all_manifests_are_valid_alone_and_together(tmp_path):
    validate = [program("kubernetes-validate"), "--strict"]
    assert len(MANIFESTS) >= 8
    assert (found := run([*validate, *MANIFESTS])).returncode == 0, found.stdout + found.stderr
    built = run([program("kubectl"), "kustomize", str(DEPLOY / "kubernetes")])
    assert built.returncode == 0, built.stderr
    (tmp_path / "all.yaml").write_text(built.stdout)
    assert (found := run([*validate, str(tmp_path / "all.yaml")])).returncode == 0, found.stdout + found.stderr
    assert built.stdout.count("\n---\n") + 1 >= len(MANIFESTS)


def test_all_of_terraform_is_formatted():
    found = run([program("terraform"), "fmt", "-check", "-recursive", str(DEPLOY / "terraform")])
    assert found.returncode == 0, found.stdout + found.stderr


def help_of(*command: str) -> str:
    """Return what the program tells of a command."""
    ended = run([conftest.binary(), *command, "--help"], env=conftest.clean_environment())
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_setting_that_is_used_exists():
    known = set(re.findall(r"\[env: (PANDAS_DB_\w+)", help_of("serve") + help_of("sql")))
    used = {
        (word, str(path.relative_to(DEPLOY)))
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for word in re.findall(r"PANDAS_DB_[A-Z_]+", path.read_text())
    }
    assert len(used) > 40
    assert not {(word, file) for word, file in used if word not in known}


def commands_of_the_guide() -> list[list[str]]:
    """Return the words of each call of the program in the guide's blocks of commands."""
    text = (DEPLOY / "README.md").read_text()
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|\s)pandas-db ((?:-|[a-z]).*)", line) for line in lines]
    return [match[1].split() for match in found if match and not re.match(r"\s*(?:\$ )?aws ", match.string)]


def test_every_command_and_flag_of_the_guide_exists():
    subcommands = set(re.findall(r"^  ([a-z-]+)  ", help_of(), re.MULTILINE))
    commands = commands_of_the_guide()
    assert len(commands) >= 4
    for words in commands:
        names = [word for word in words if word in subcommands]
        assert names, words
        deeper = ["add"] if names[0] == "user" else []
        told = help_of(names[0], *deeper) + help_of()
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"(?m)^\s+(?:-\w, )?{flag}\b", told) or flag in ("--server", "--token"), (flag, words)


def test_the_stack_has_what_the_template_promises(cloud, stack, template):
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
    assert found["policy"] == template["Parameters"]["PolicyRules"]["Default"]
    # Those that the stand-in leaves out.
    properties = {name: resource.get("Properties") for name, resource in template["Resources"].items()}
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


def test_data_outlives_the_stack(template):
    kept = {name for name, resource in template["Resources"].items() if resource.get("DeletionPolicy") == "Retain"}
    assert {"Bucket", "Table", "UserPool"} <= kept
    assert all(template["Resources"][name]["UpdateReplacePolicy"] == "Retain" for name in kept)


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
    assert len(needed) == 16
    assert {action for action, refused_calls in needed.items() if not refused_calls} == set()


@pytest.fixture
def serve_stack(template, start_server, tmp_path) -> Callable:
    """A function that starts a server with the settings of a stack's task, on local data."""

    def start(cloud: Cloud, outputs: dict) -> conftest.Server:
        settings, policy = environment_of(container(template, "pandas-db")), tmp_path / "policy.toml"
        policy.write_text(template["Parameters"]["PolicyRules"]["Default"])
        return start_server(
            auth=settings["PANDAS_DB_AUTH"],
            jwt_issuer=outputs["JwtIssuer"],
            jwt_audience=outputs["UserPoolClientId"],
            jwt_tenant_claim=settings["PANDAS_DB_JWT_TENANT_CLAIM"],
            jwks_url=f"{cloud.url}/{outputs['UserPoolId']}/.well-known/jwks.json",
            policy=policy,
            insecure=True,  # The stand-in's keys come over plain HTTP.
        )

    return start


def test_users_of_the_pool_do_what_their_groups_may(cloud, stack, serve_stack):
    users = {
        "ann": ("acme", ["admins"]),
        "wim": ("acme", ["writers"]),
        "rea": ("acme", ["readers"]),
        "nemo": ("acme", []),
        "eve": ("other", ["admins"]),
    }
    tokens = driver("log_in", endpoint=cloud.url, resources=stack["resources"], users=users)
    server = serve_stack(cloud, stack["outputs"])

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


def container(template: dict, name: str) -> dict:
    """Return a container of the template's task."""
    found = template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return next(each for each in found if each["Name"] == name)


def environment_of(definition: dict) -> dict:
    """Return the environment of a container of the task."""
    return {each["Name"]: each["Value"] for each in definition["Environment"]}


@pytest.fixture(scope="module")
def service(cloud) -> dict:
    """A stack with a service, and what it made."""
    made = cloud.make("frames", SERVICE_TEMPLATE, SERVICE)
    return made | driver("describe_service", endpoint=cloud.url, resources=made["resources"])


def test_the_service_runs_two_nodes_on_the_stacks_own_data(service, template):
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
    secrets = container(template, "pandas-db")["Secrets"]
    assert secrets == [{"Name": "PANDAS_DB_HANDLE_KEY", "ValueFrom": {"Ref": "HandleKey"}}]


def test_the_load_balancer_speaks_http2_and_asks_whether_nodes_are_ready(service, template):
    resources = service["resources"]
    flight = service["listeners"][resources["FlightListener"]]
    assert flight["Protocol"] == "TLS" and flight["Port"] == 443
    # The stand-in leaves this out.
    assert template["Resources"]["FlightListener"]["Properties"]["AlpnPolicy"] == ["HTTP2Only"]
    for name in ("FlightTargets", "RestTargets"):
        target = service["targets"][resources[name]]
        assert (target["HealthCheckProtocol"], target["HealthCheckPath"]) == ("HTTP", "/readyz")


@pytest.mark.parametrize("missing", ["Image", "CertificateArn"])
def test_a_service_needs_an_image_and_a_certificate(template, missing):
    """CloudFormation checks the rules before it makes anything; the stand-in does not know them."""
    rule = template["Rules"]["AServiceNeedsAnImageAndACertificate"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "CreateService"}, "true"]}
    refuses = {"Fn::Not": [{"Fn::Equals": [{"Ref": missing}, ""]}]}
    assert any(each["Assert"] == refuses for each in rule["Assertions"])


def unquoted(value: object) -> str:
    """Return what hcl2 parsed as the template has it: texts without their quotes, numbers and booleans as texts."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip('"')
    if text.startswith("<<-"):
        return textwrap.dedent("".join(text.splitlines(keepends=True)[1:-1]))
    return text


def snake(name: str) -> str:
    """Return a name of CloudFormation as Terraform spells it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def test_terraform_has_the_parameters_of_the_template(template, documents):
    variables = documents["terraform/variables.tf"][0]["variable"]
    defaults = {name.strip('"'): unquoted(block["default"]) for each in variables for name, block in each.items()}
    own = {"name", "handle_key_version"}  # The name of the stack; CloudFormation has a call for new secrets.
    parameters = {snake(name).replace("gi_b", "gib"): each for name, each in template["Parameters"].items()}
    assert set(defaults) - own == set(parameters)
    same = {"[]": "", "DISABLED": "false"}
    for name, parameter in parameters.items():
        default, wanted = defaults[name], str(parameter["Default"])
        assert same.get(default, default) == same.get(wanted, wanted), name


def test_terraform_gives_the_same_rights_and_settings_and_outputs(template):
    text = "".join(path.read_text() for path in (DEPLOY / "terraform").glob("*.tf"))
    documents = [template["Resources"]["DataPolicy"]["Properties"]["PolicyDocument"]] + [
        policy["PolicyDocument"] for policy in template["Resources"]["ExecutionRole"]["Properties"]["Policies"]
    ]
    statements = [statement for document in documents for statement in document["Statement"]]
    rights = (DEPLOY / "terraform/rights.tf").read_text()
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        block = rights.split(f'"{statement["Sid"]}"')[1].split("Resource")[0]
        assert sorted(re.findall(r'"(\w+:\w+)"', block)) == sorted(actions)
    assert len(re.findall(r"Sid ", rights)) == len(statements)
    environment = re.search(r"\n  environment = \{\n(.*?)\n  \}", text, re.DOTALL)[1]
    assert set(re.findall(r"(\w+) +=", environment)) == set(environment_of(container(template, "pandas-db")))
    outputs = set(re.findall(r'^output "(\w+)"', text, re.MULTILINE))
    assert outputs == {snake(name) for name in template["Outputs"]}


def test_terraform_names_nothing_that_is_not_there():
    """As `terraform validate` would find it, which needs a registry of providers."""
    text = "".join(path.read_text() for path in (DEPLOY / "terraform").glob("*.tf"))
    declared = {f"var.{name}" for name in re.findall(r'^variable "(\w+)"', text, re.MULTILINE)}
    for block in re.findall(r"^locals \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        declared |= {f"local.{name}" for name in re.findall(r"^  (\w+) +=", block, re.MULTILINE)}
    for kind, name in re.findall(r'^(?:resource|ephemeral|data) "(\w+)" "(\w+)"', text, re.MULTILINE):
        declared.add(f"{kind}.{name}")
    code = re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)
    used = set(re.findall(r"(?<![\w.-])((?:var|local)\.\w+|aws_\w+\.\w+)", code))
    used |= set(re.findall(r"(?:data|ephemeral)\.(aws_\w+\.\w+)", code))
    assert used - declared == set()
    assert {name for name in declared - used if name.startswith(("var.", "local."))} == set()


def test_terraform_wants_an_image_and_a_certificate_for_a_service(tmp_path):
    shutil.copy(DEPLOY / "terraform/variables.tf", tmp_path)
    plan = [program("terraform"), f"-chdir={tmp_path}", "plan", "-no-color", "-input=false"]
    given = {"TF_VAR_image": "i", "TF_VAR_certificate_arn": "c"}
    for left_out in (None, *given):
        values = {name: value for name, value in given.items() if name != left_out} | {"TF_VAR_create_service": "true"}
        planned = run(plan, env=os.environ | values)
        assert (planned.returncode == 0) == (left_out is None), planned.stdout
        assert left_out is None or "create_service needs image and certificate_arn" in planned.stdout + planned.stderr


def seconds(text: str) -> int:
    """Return the length of a duration such as 60s."""
    return int(text.removesuffix("s"))


def test_running_calls_get_their_grace_before_they_are_killed(template, documents):
    limits = template["Parameters"]["ShutdownGraceSeconds"]
    assert container(template, "pandas-db")["StopTimeout"] == 120 > limits["MaxValue"] + 10
    pod = documents["kubernetes/deployment.yaml"][0]["spec"]["template"]["spec"]
    settings = documents["kubernetes/settings.yaml"][0]["data"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + seconds(settings["PANDAS_DB_SHUTDOWN_GRACE"]) + 10
    default = re.search(r"told to stop \[default: (\d+)s\]", help_of("serve"))[1]
    assert seconds(documents["compose/compose.yaml"][0]["services"]["pandas-db"]["stop_grace_period"]) > int(default)


def test_kubernetes_and_fargate_run_the_same(template, documents):
    fargate, settings = (
        environment_of(container(template, "pandas-db")),
        documents["kubernetes/settings.yaml"][0]["data"],
    )
    differ = {"PANDAS_DB_TLS_CERT", "PANDAS_DB_TLS_KEY"}  # TLS ends at the load balancer of Fargate.
    assert set(settings) - differ == set(fargate)
    for name, value in settings.items():
        own = fargate.get(name)
        if isinstance(own, str) and name != "PANDAS_DB_POLICY":
            assert own == value, name
    rules = documents["kubernetes/policy.yaml"][0]["data"]["policy.toml"]
    assert rules == template["Parameters"]["PolicyRules"]["Default"]


def test_no_secret_is_kept_with_the_files():
    for line in (DEPLOY / "compose/example.env").read_text().splitlines():
        assert line.startswith("#") or line == "" or line.endswith("=") or line == "S3_ACCESS_KEY_ID=pandasdb"
    ignored = run(["git", "check-ignore", "deploy/compose/.env"], cwd=REPOSITORY)
    assert ignored.returncode == 0, "filled in, it is not committed"


def blocks_of_the_guide(kind: str, *headings: str) -> list[str]:
    """Return the blocks of a kind in some sections of the guide, in order."""
    sections = re.split(r"^#+ (.*)$", (DEPLOY / "README.md").read_text(), flags=re.MULTILINE)
    texts = dict(zip(sections[1::2], sections[2::2], strict=True))
    return [
        block
        for heading in headings
        for block in re.findall(rf"^```{kind}\n(.*?)^```$", texts[heading], re.MULTILINE | re.DOTALL)
    ]


class Shell:
    """Runs commands of the guide on the stand-in, each part with the variables and functions of the parts before."""

    def __init__(self, cloud: Cloud, folder: Path):
        self.folder = folder
        (folder / "deploy/cloudformation").mkdir(parents=True)
        (folder / "deploy/cloudformation/pandas-db.yaml").write_text(SERVICE_TEMPLATE)
        (folder / "bin").mkdir()
        (folder / "bin/pandas-db").symlink_to(conftest.binary())
        self.env = conftest.clean_environment(
            PATH=f"{folder / 'bin'}:{deploy_python().parent}:{os.environ['PATH']}",
            AWS_ENDPOINT_URL=cloud.url,
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",  # As the first generation of the CLI wants it.
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_CONFIG_FILE=str(folder / "none"),
            AWS_SHARED_CREDENTIALS_FILE=str(folder / "none"),
        )

    def run(self, commands: str, **variables: str) -> str:
        """Return what commands print; all must succeed."""
        lines = ["set -euo pipefail", "touch state", "source ./state", "set -a", commands, "set +a"]
        lines += ["declare -p BACKUP PASSWORD POOL PANDAS_DB_TOKEN 2>/dev/null > state || true", "declare -f >> state"]
        ended = run(["bash", "-c", "\n".join(lines)], env=self.env | variables, cwd=self.folder)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture
def own_cloud(tmp_path) -> Iterator[Cloud]:
    """A stand-in of a test's own."""
    (tmp_path / "cloud").mkdir()
    started = Cloud(tmp_path / "cloud")
    yield started
    started.stop()


def test_the_commands_of_the_guide_lead_to_what_it_shows(own_cloud, serve_stack, tmp_path):
    shell = Shell(own_cloud, tmp_path / "shell")
    shell.run("".join(blocks_of_the_guide("sh", "The stack", "The service", "Users")))
    stack = driver("stack", endpoint=own_cloud.url, name="pandas-db")
    assert stack["state"] == "UPDATE_COMPLETE" and "Service" in stack["resources"], stack["failures"]

    server = serve_stack(own_cloud, stack["outputs"])
    shown, shown_by_python = blocks_of_the_guide("text", "The first query")
    (commands,) = blocks_of_the_guide("sh", "The first query")
    assert "grpc+tls://frames.example.com:443" in commands
    assert shell.run(commands.replace("grpc+tls://frames.example.com:443", server.flight)) == shown
    (code,) = blocks_of_the_guide("python", "The first query")
    (tmp_path / "shell/first.py").write_text(code)
    sources = str(REPOSITORY / "python/src")
    run_it = f'PYTHONPATH="{sources}" PANDAS_DB_SERVER={server.flight} "{sys.executable}" first.py'
    assert shell.run(run_it) == shown_by_python


def test_a_backup_copies_the_logs_before_what_they_name(own_cloud, tmp_path):
    shell = Shell(own_cloud, tmp_path / "shell")
    stack = own_cloud.make("pandas-db", TEMPLATE, {})
    shell.run(blocks_of_the_guide("sh", "The stack")[1])
    table = "pandas-db/tenants/acme/01J"
    objects = [f"{table}/1/x.parquet", f"{table}/_delta_log/0.json", f"{table}/_pandas_db/c", f"{table}/day/x.parquet"]
    others = ["pandas-db/tenants/acme2/01J/_delta_log/0.json"]
    driver("put_objects", endpoint=own_cloud.url, bucket=stack["outputs"]["Bucket"], keys=objects + others)
    driver("keys", endpoint=own_cloud.url, bucket="backups")
    (commands,) = blocks_of_the_guide("sh", "Backup and restore")
    printed = shell.run(commands, BACKUP_BUCKET="backups")
    copied = [line.rsplit("/tenants/acme/")[1].split(" to ")[0] for line in printed.splitlines() if "copy: " in line]
    assert "_delta_log" in copied[0] and len(copied) == len(objects)
    kept = driver("keys", endpoint=own_cloud.url, bucket="backups")
    assert [key.split("/", 3)[3] for key in kept] == [key.removeprefix("pandas-db/tenants/acme/") for key in objects]
