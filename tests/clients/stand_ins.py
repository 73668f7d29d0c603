"""Servers that stand in for AWS on this machine: SeaweedFS for S3, ministack for DynamoDB.

They listen on the loopback address alone, on free ports, and keep what they have in a folder of the session. The
environment variable ``PANDAS_DB_STAND_INS`` names a Python that has what ``stand-ins-requirements.txt`` asks for;
without it one is made in that folder. ``PANDAS_DB_TEST_DYNAMODB`` names an endpoint to use in the place of ministack,
which has to take any key.

Both know an administrator, who may do everything, and a node, which may do what the template in ``deploy/`` lets the
nodes of a stack do.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120  # Seconds after which a stand-in that does not answer is taken for hung.
REGION, BUCKET = "us-east-1", "pandas-db-tests"
ROOT_KEY = "test"  # The key that ministack takes for the account's root.
EVERYTHING = ["Admin", "Read", "Write", "List", "Tagging"]
GRPC_OFFSET = 10_000  # SeaweedFS takes for each port the one this much higher too.
HIGHEST_PORT = 55_000
REQUIREMENTS = Path(__file__).with_name("stand-ins-requirements.txt")
TEMPLATE = Path(__file__).resolve().parents[2] / "deploy/cloudformation/pandas-db.yaml"


@dataclass(frozen=True)
class Key:
    """An access key and its secret."""

    id: str
    secret: str

    @classmethod
    def new(cls, key: str) -> Key:
        """Return an access key with a secret that nobody can guess."""
        return cls(key, secrets.token_hex(20))


@dataclass(frozen=True)
class Cloud:
    """Where the stand-ins are, and who may use them.

    Attributes
    ----------
    s3, dynamodb : str
        The endpoints.
    administrator : Key
        Of who may do everything.
    node : Key
        Of who may do what the role of a node may.
    """

    s3: str
    dynamodb: str
    administrator: Key
    node: Key

    def environment(self) -> dict[str, str]:
        """Return the environment of a node: the ecosystem's own variables."""
        return self._environment_of(self.node)

    def administration(self) -> dict[str, str]:
        """Return the environment of a program that may do everything."""
        return self._environment_of(self.administrator)

    def _environment_of(self, key: Key) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.s3,
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(number: int) -> list[int]:
    """Return ports that are free, as are those that SeaweedFS takes with them."""
    found: list[int] = []
    while len(found) < number:
        port = 20_000 + secrets.randbelow(HIGHEST_PORT - GRPC_OFFSET - 20_000)
        if port not in found and _is_free(port) and _is_free(port + GRPC_OFFSET):
            found.append(port)
    return found


def _python(home: Path) -> Path:
    """Return a Python that has the stand-ins."""
    given = os.environ.get("PANDAS_DB_STAND_INS")
    if given:
        return Path(given)
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    python = home / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
    subprocess.run(install, check=True)
    return python


@contextmanager
def _running(
    command: list[object], home: Path, answers: Callable[[], bool], **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block, which begins when it answers."""
    home.mkdir()
    log = home / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=os.environ | env,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + PATIENCE
        while not answers():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not answer:\n{log.read_text(errors='replace')[-4_000:]}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
        yield process
    finally:
        # What they hold goes with the session's folder, so there is nothing to wait for.
        process.kill()
        process.wait(timeout=PATIENCE)


def _answers(url: str) -> bool:
    """Tell whether a server gives any answer at all, a refusal too."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def _identity(name: str, key: Key, actions: list[str]) -> dict:
    """Return what SeaweedFS is told of somebody."""
    return {"name": name, "credentials": [{"accessKey": key.id, "secretKey": key.secret}], "actions": actions}


@contextmanager
def _seaweedfs(python: Path, home: Path, administrator: Key, node: Key) -> Iterator[str]:
    """Run SeaweedFS, and yield where its S3 is."""
    home.mkdir()
    # Its actions are coarser than those of AWS: which of S3's a node needs is what ``test_deploy_stack`` tells.
    of_a_node = [f"{action}:{BUCKET}" for action in ("Read", "Write", "List")]
    known = [_identity("administrator", administrator, EVERYTHING), _identity("node", node, of_a_node)]
    identities, data = home / "s3.json", home / "data"
    identities.write_text(json.dumps({"identities": known}))
    data.mkdir()
    s3, master, volume, filer, admin = _free_ports(5)
    command = [
        *(python.with_name("weed"), "mini", f"-dir={data}", f"-s3.config={identities}", f"-bucket={BUCKET}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
        *(f"-admin.port={admin}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-filer.localSocket={home / 'filer.sock'}", f"-s3.localSocket={home / 's3.sock'}"),
    ]
    url = f"http://127.0.0.1:{s3}"
    try:
        with _running(command, home / "process", lambda: _answers(f"{url}/{BUCKET}")):
            yield url
    finally:
        for port in (s3, master, volume, filer, admin):
            for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + GRPC_OFFSET}.sock"):
                left.unlink()


@contextmanager
def _ministack(python: Path, home: Path) -> Iterator[str]:
    """Run ministack, and yield where it is."""
    (port,) = _free_ports(1)
    url = f"http://127.0.0.1:{port}"
    env = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # Or it listens to everybody, on a port of its own.
        "SERVICES": "dynamodb,dynamodbstreams,iam,sts",
    }
    with _running([python.with_name("ministack")], home, lambda: _answers(url), **env):
        yield url


def _make_node(python: Path, endpoint: str) -> Key:
    """Make the user of IAM that a node is, and return its access key."""
    script = Path(__file__).with_name("stand_ins_user.py")
    ended = subprocess.run([python, script, endpoint, TEMPLATE], capture_output=True, text=True, timeout=PATIENCE)
    if ended.returncode != 0:
        raise RuntimeError(f"{script.name} failed:\n{ended.stderr}")
    return Key(**json.loads(ended.stdout))


@contextmanager
def _dynamodb(python: Path, home: Path) -> Iterator[tuple[str, Key]]:
    """Have a DynamoDB, and yield where it is and the key of a node."""
    given = os.environ.get("PANDAS_DB_TEST_DYNAMODB")
    if given:
        yield given, Key.new("node")
        return
    with _ministack(python, home) as endpoint:
        yield endpoint, _make_node(python, endpoint)


@contextmanager
def running(home: Path) -> Iterator[Cloud]:
    """Run the stand-ins until the end of the block.

    Parameters
    ----------
    home : Path
        A folder of their own.
    """
    python, administrator = _python(home), Key.new(ROOT_KEY)
    with (
        _dynamodb(python, home / "dynamodb") as (dynamodb, node),
        _seaweedfs(python, home / "s3", administrator, node) as s3,
    ):
        yield Cloud(s3, dynamodb, administrator, node)
