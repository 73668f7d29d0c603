"""What the tests of `deploy/` share: its files, the environment of the checkers, and stand-ins for AWS.

``PANDAS_DB_DEPLOY_PYTHON`` is an interpreter with the checkers and the stand-ins; ``cargo test`` makes it from
``deploy-requirements.txt``.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import conftest

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
TEMPLATE = (DEPLOY / "cloudformation/pandas-db.yaml").read_text()
# The stand-in takes a parameter that is a number for text, and cannot count with it.
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


@functools.cache
def documents() -> dict:
    """Return all files of `deploy/` that describe something, parsed."""
    return driver("read", folder=str(DEPLOY))


def template() -> dict:
    """Return the CloudFormation template, parsed."""
    return documents()["cloudformation/pandas-db.yaml"][0]


def container(template: dict, name: str) -> dict:
    """Return a container of the template's task."""
    found = template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return next(each for each in found if each["Name"] == name)


def environment_of(definition: dict) -> dict:
    """Return the environment of a container of the task."""
    return {each["Name"]: each["Value"] for each in definition["Environment"]}


def help_of(*command: str) -> str:
    """Return what the program tells of a command."""
    ended = run([conftest.binary(), *command, "--help"], env=conftest.clean_environment())
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class StandIn:
    """A running program that stands in for a service.

    Parameters
    ----------
    command : list of str
        The command line.
    listening : str
        A pattern of the line that says that it is ready; its first group is where.
    folder : Path
        Where it runs.
    **settings : str
        Extra environment variables.

    Attributes
    ----------
    url : str
        Where it is.
    """

    def __init__(self, command: list[str], listening: str, folder: Path, **settings: str):
        self.process = subprocess.Popen(
            command,
            env=conftest.clean_environment(**settings),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines, self.url, self._listening = [], None, re.compile(listening)
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._told.wait(conftest.PATIENCE) and self.url, "".join(self.lines)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if found := self._listening.search(line):
                self.url = found[1]
                self._told.set()
        self._told.set()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(timeout=conftest.PATIENCE)
        finally:
            self.process.kill()
        self._thread.join()


@contextmanager
def cloud_in(folder: Path, checks: bool = True) -> Iterator[StandIn]:
    """Run a stand-in for AWS, which checks signatures and policies unless told otherwise."""
    settings = {"AUTH": str(checks).lower(), "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": "0", "IOT_MTLS_ENABLED": "0"}
    folder.mkdir(parents=True, exist_ok=True)
    started = StandIn([program("ministack")], r"Running on (http://\S+)", folder, **settings)
    try:
        yield started
    finally:
        started.stop()


def make_stack(cloud: StandIn, name: str, body: str, parameters: dict) -> dict:
    """Create a stack; return its outputs and its resources by their names."""
    found = driver("create", endpoint=cloud.url, name=name, template=body, parameters=parameters)
    assert found["state"] == "CREATE_COMPLETE", found["failures"]
    return found


def user_pool_settings(cloud: StandIn, outputs: dict, folder: Path) -> dict:
    """Return the settings of a server that takes the tokens of a stack's user pool, as the stack's task has them."""
    settings, policy = environment_of(container(template(), "pandas-db")), folder / "policy.toml"
    policy.write_text(template()["Parameters"]["PolicyRules"]["Default"])
    return {
        "auth": settings["PANDAS_DB_AUTH"],
        "jwt_issuer": outputs["JwtIssuer"],
        "jwt_audience": outputs["UserPoolClientId"],
        "jwt_tenant_claim": settings["PANDAS_DB_JWT_TENANT_CLAIM"],
        "jwks_url": f"{cloud.url}/{outputs['UserPoolId']}/.well-known/jwks.json",
        "policy": policy,
        "insecure": True,  # The stand-in's keys come over plain HTTP.
    }
