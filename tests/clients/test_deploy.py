"""The files of `deploy/`: checkers find nothing, all settings exist, and what is said twice is said the same."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from pathlib import Path

import pytest

from deploy_support import DEPLOY, REPOSITORY, container, documents, environment_of, help_of, program, run, template

pytestmark = pytest.mark.any_backend("it looks at files of deploy/")

MANIFESTS = sorted(str(path) for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")

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


def assert_valid(*manifests: str) -> None:
    """Check manifests against the schemas of Kubernetes."""
    found = run([program("kubernetes-validate"), "--strict", *manifests])
    assert found.returncode == 0, found.stdout + found.stderr


def test_all_manifests_are_valid():
    assert len(MANIFESTS) >= 8
    assert_valid(*MANIFESTS)


def test_all_manifests_are_valid_together(tmp_path):
    built = run([program("kubectl"), "kustomize", str(DEPLOY / "kubernetes")])
    assert built.returncode == 0, built.stderr
    assert built.stdout.count("\n---\n") + 1 >= len(MANIFESTS)
    assert "image: pandas-db\n" not in built.stdout
    (tmp_path / "all.yaml").write_text(built.stdout)
    assert_valid(str(tmp_path / "all.yaml"))


def test_all_of_terraform_is_formatted():
    found = run([program("terraform"), "fmt", "-check", "-recursive", str(DEPLOY / "terraform")])
    assert found.returncode == 0, found.stdout + found.stderr


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


def test_data_outlives_the_stack():
    kept = {name for name, resource in template()["Resources"].items() if resource.get("DeletionPolicy") == "Retain"}
    assert {"Bucket", "Table", "UserPool"} <= kept
    assert all(template()["Resources"][name]["UpdateReplacePolicy"] == "Retain" for name in kept)


@pytest.mark.parametrize("missing", ["Image", "CertificateArn"])
def test_a_service_needs_an_image_and_a_certificate(missing):
    """CloudFormation checks the rules before it makes anything; the stand-in does not know them."""
    rule = template()["Rules"]["AServiceNeedsAnImageAndACertificate"]
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


def test_terraform_has_the_parameters_of_the_template():
    variables = documents()["terraform/variables.tf"][0]["variable"]
    defaults = {name.strip('"'): unquoted(block["default"]) for each in variables for name, block in each.items()}
    own = {"name", "handle_key_version"}  # The name of the stack; CloudFormation has a call for new secrets.
    parameters = {snake(name).replace("gi_b", "gib"): each for name, each in template()["Parameters"].items()}
    assert set(defaults) - own == set(parameters)
    same = {"[]": "", "DISABLED": "false"}
    for name, parameter in parameters.items():
        default, wanted = defaults[name], str(parameter["Default"])
        assert same.get(default, default) == same.get(wanted, wanted), name


def test_terraform_gives_the_same_rights_and_settings_and_outputs():
    text = "".join(path.read_text() for path in (DEPLOY / "terraform").glob("*.tf"))
    documents = [template()["Resources"]["DataPolicy"]["Properties"]["PolicyDocument"]] + [
        policy["PolicyDocument"] for policy in template()["Resources"]["ExecutionRole"]["Properties"]["Policies"]
    ]
    statements = [statement for document in documents for statement in document["Statement"]]
    rights = (DEPLOY / "terraform/rights.tf").read_text()
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        block = rights.split(f'"{statement["Sid"]}"')[1].split("Resource")[0]
        assert sorted(re.findall(r'"(\w+:\w+)"', block)) == sorted(actions)
    assert len(re.findall(r"Sid ", rights)) == len(statements)
    environment = re.search(r"\n  environment = \{\n(.*?)\n  \}", text, re.DOTALL)[1]
    assert set(re.findall(r"(\w+) +=", environment)) == set(environment_of(container(template(), "pandas-db")))
    outputs = set(re.findall(r'^output "(\w+)"', text, re.MULTILINE))
    assert outputs == {snake(name) for name in template()["Outputs"]}


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


def test_running_calls_get_their_grace_before_they_are_killed():
    limits = template()["Parameters"]["ShutdownGraceSeconds"]
    assert container(template(), "pandas-db")["StopTimeout"] == 120 > limits["MaxValue"] + 10
    pod = documents()["kubernetes/deployment.yaml"][0]["spec"]["template"]["spec"]
    settings = documents()["kubernetes/settings.yaml"][0]["data"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + seconds(settings["PANDAS_DB_SHUTDOWN_GRACE"]) + 10
    default = re.search(r"told to stop \[default: (\d+)s\]", help_of("serve"))[1]
    assert seconds(documents()["compose/compose.yaml"][0]["services"]["pandas-db"]["stop_grace_period"]) > int(default)


def test_kubernetes_and_fargate_run_the_same():
    fargate, settings = (
        environment_of(container(template(), "pandas-db")),
        documents()["kubernetes/settings.yaml"][0]["data"],
    )
    differ = {"PANDAS_DB_TLS_CERT", "PANDAS_DB_TLS_KEY"}  # TLS ends at the load balancer of Fargate.
    assert set(settings) - differ == set(fargate)
    for name, value in settings.items():
        own = fargate.get(name)
        if isinstance(own, str) and name != "PANDAS_DB_POLICY":
            assert own == value, name
    rules = documents()["kubernetes/policy.yaml"][0]["data"]["policy.toml"]
    assert rules == template()["Parameters"]["PolicyRules"]["Default"]


def test_no_secret_is_kept_with_the_files():
    for line in (DEPLOY / "compose/example.env").read_text().splitlines():
        assert line.startswith("#") or line == "" or line.endswith("=") or line == "S3_ACCESS_KEY_ID=pandasdb"
    ignored = run(["git", "check-ignore", "deploy/compose/.env"], cwd=REPOSITORY)
    assert ignored.returncode == 0, "filled in, it is not committed"
