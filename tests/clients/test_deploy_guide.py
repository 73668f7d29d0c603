"""The guide of `deploy/`: its commands are run, on a stand-in for AWS, and print what it shows."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import conftest
from deploy_support import (
    DEPLOY,
    REPOSITORY,
    SERVICE_TEMPLATE,
    TEMPLATE,
    StandIn,
    cloud_in,
    deploy_python,
    driver,
    help_of,
    make_stack,
    run,
    user_pool_settings,
)
from frames import list_names, load
from versions import act, frame, values

pytestmark = pytest.mark.any_backend("it has stand-ins of its own")

ADDRESS = "grpc+tls://frames.example.com:443"


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

    def __init__(self, cloud: StandIn, folder: Path):
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
        lines += [
            "declare -p BACKUP TENANT PASSWORD POOL PANDAS_DB_TOKEN 2>/dev/null > state || true",
            "declare -f >> state",
        ]
        ended = run(["bash", "-c", "\n".join(lines)], env=self.env | variables, cwd=self.folder)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture
def cloud(tmp_path) -> Iterator[StandIn]:
    """A stand-in of a test's own."""
    with cloud_in(tmp_path / "cloud") as started:
        yield started


def test_the_commands_of_the_guide_lead_to_what_it_shows(cloud, start_server, tmp_path):
    shell = Shell(cloud, tmp_path / "shell")
    shell.run("".join(blocks_of_the_guide("sh", "The stack", "The service", "Users")))
    stack = driver("stack", endpoint=cloud.url, name="pandas-db")
    assert stack["state"] == "UPDATE_COMPLETE" and "Service" in stack["resources"], stack["failures"]

    server = start_server(**user_pool_settings(cloud, stack["outputs"], tmp_path))
    shown, shown_by_python = blocks_of_the_guide("text", "The first query")
    (commands,) = blocks_of_the_guide("sh", "The first query")
    assert ADDRESS in commands
    assert shell.run(commands.replace(ADDRESS, server.flight)) == shown
    (code,) = blocks_of_the_guide("python", "The first query")
    (tmp_path / "shell/first.py").write_text(code)
    sources = str(REPOSITORY / "python/src")
    run_it = f'PYTHONPATH="{sources}" PANDAS_DB_SERVER={server.flight} "{sys.executable}" first.py'
    assert shell.run(run_it) == shown_by_python


def test_a_backup_copies_the_logs_before_what_they_name(cloud, tmp_path):
    shell = Shell(cloud, tmp_path / "shell")
    stack = make_stack(cloud, "pandas-db", TEMPLATE, {})
    shell.run(blocks_of_the_guide("sh", "The stack")[1])
    table = "pandas-db/tenants/acme/01J"
    objects = [f"{table}/1/x.parquet", f"{table}/_delta_log/0.json", f"{table}/_pandas_db/c", f"{table}/day/x.parquet"]
    others = ["pandas-db/tenants/acme2/01J/_delta_log/0.json"]
    driver("complete", endpoint=cloud.url, resources=stack["resources"])
    driver("put_objects", endpoint=cloud.url, bucket=stack["outputs"]["Bucket"], keys=objects + others)
    driver("keys", endpoint=cloud.url, bucket="backups")
    (commands,) = blocks_of_the_guide("sh", "Backup and restore")
    printed = shell.run(commands, BACKUP_BUCKET="backups")
    copied = [line.rsplit("/tenants/acme/")[1].split(" to ")[0] for line in printed.splitlines() if "copy: " in line]
    assert "_delta_log" in copied[0] and len(copied) == len(objects)
    kept = driver("keys", endpoint=cloud.url, bucket="backups")
    assert [key.split("/", 3)[3] for key in kept] == [key.removeprefix("pandas-db/tenants/acme/") for key in objects]


def test_a_tenant_is_brought_back_as_the_guide_says(cloud, start_server, tmp_path):
    shell = Shell(cloud, tmp_path / "shell")
    stack = make_stack(cloud, "pandas-db", TEMPLATE, {})
    driver("complete", endpoint=cloud.url, resources=stack["resources"])
    outputs = stack["outputs"]
    driver("keys", endpoint=cloud.url, bucket="backups")
    shell.run(blocks_of_the_guide("sh", "The stack")[1])
    places = {"storage": outputs["Storage"], "versions": outputs["Versions"]}
    shell.run(f"pandas-db init --storage {places['storage']} --versions {places['versions']}")
    aws = {name: value for name, value in shell.env.items() if name.startswith("AWS_")}

    def start() -> conftest.Server:
        return start_server(env=aws, spill_dir=tmp_path / "spill", **places)

    server = start()
    with server.connect() as client:
        for value in (1, 2):
            load(client, frame(value), "shop/kept")
            load(client, frame(value), "shop/ended")
        (commands,) = blocks_of_the_guide("sh", "Backup and restore")
        shell.run(commands.replace("/acme", "/default"), BACKUP_BUCKET="backups")
        load(client, frame(3), "shop/kept")
        act(client, "delete_dataframe", "shop/ended")
        load(client, frame(4), "shop/later")
    assert server.stop() == 0

    (restore,) = blocks_of_the_guide("console", "Backup and restore")
    lines = [line.removeprefix("$ ") for line in restore.splitlines() if "aws ecs" not in line]
    shell.run("\n".join(lines).replace("acme", "default"))
    server = start()
    with server.connect() as client:
        assert list_names(client) == ["shop/ended", "shop/kept"]
        assert values(client, "shop/kept") == values(client, "shop/ended") == [1, 2]
        load(client, frame(5), "shop/kept")
        assert values(client, "shop/kept") == [1, 2, 5]
    assert server.stop() == 0
