"""The compose file of `deploy/`, as it would run but for the containers: its commands, its settings, its stores."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow as pa
import pytest

import conftest
from callers import basic, client_of
from deploy_support import DEPLOY, StandIn, cloud_in, documents, program
from frames import get, list_names, load

FRAME = pa.table({"day": ["2024-01-01", "2024-01-02"], "x": [1, 2]})
PASSWORD = "correct horse battery"
SECRET = "0123456789abcdef0123456789abcdef"
# Each part of SeaweedFS listens on a port and on the one that is so much higher.
STEP = 10_000


def filled_in(text: str, values: dict[str, str]) -> str:
    """Return what compose makes of a text with variables that must be given."""
    for name, value in values.items():
        head, _, rest = text.partition("${" + name + ":?")
        text = head + value + rest.partition("}")[2] if rest else text
    assert "${" not in text, text
    return text


def free_ports(count: int) -> list[int]:
    """Return ports that are free together with those that SeaweedFS takes beside them."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            one, other = (held.enter_context(closing(socket.socket())) for _ in range(2))
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            lower, upper = (port, port + STEP) if port + STEP <= 65_535 else (port - STEP, port)
            try:
                other.bind(("127.0.0.1", upper if lower == port else lower))
            except OSError:
                continue
            found.append(lower)
    return found


class Project:
    """The services of the compose file on this machine.

    Attributes
    ----------
    s3 : StandIn
        SeaweedFS, with the command of the file but for its addresses.
    environment : dict of str to str
        The environment of the service ``pandas-db``, with the addresses of this machine.
    """

    def __init__(self, folder: Path, dynamodb: StandIn):
        self.services, self.folder = documents()["compose/compose.yaml"][0]["services"], folder
        names = [line.partition("=")[0] for line in (DEPLOY / "compose/example.env").read_text().splitlines()]
        self.values = {name: SECRET for name in names if name.isidentifier()} | {"S3_ACCESS_KEY_ID": "pandasdb"}
        self.s3 = self._start_s3()
        self.environment = self._environment(self.services["pandas-db"]) | {
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.url,
            "PANDAS_DB_USERS_FILE": str(folder / "users.toml"),
            "PANDAS_DB_SPILL_DIR": str(folder / "spill"),
        }

    def _environment(self, service: dict) -> dict[str, str]:
        return {name: filled_in(value, self.values) for name, value in service["environment"].items()}

    def _start_s3(self) -> StandIn:
        service, here = self.services["s3"], {"-dir": str(self.folder / "s3"), "-ip": "127.0.0.1"}
        (self.folder / "s3").mkdir()
        parts = ("-s3.port", "-master.port", "-volume.port", "-filer.port", "-admin.port")
        here |= {"-ip.bind": "127.0.0.1"} | {part: str(port) for part, port in zip(parts, free_ports(5), strict=True)}
        mode, *options = service["command"]
        given = dict(option.split("=") for option in options)
        assert set(here) - set(given) == set(parts[1:]), "those of which there is one in a container"
        command = [program("weed"), mode, *(f"{name}={value}" for name, value in (given | here).items())]
        return StandIn(command, r"S3 Endpoint: +(http://\S+)", self.folder, **self._environment(service))

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess:
        """Run the program to its end as one of the services."""
        return subprocess.run(
            [conftest.binary(), *arguments],
            env=conftest.clean_environment(**self.environment),
            input=text,
            capture_output=True,
            text=True,
            timeout=conftest.PATIENCE,
        )


@pytest.fixture
def project(tmp_path) -> Iterator[Project]:
    """The services, with the bucket and the table not yet made."""
    with cloud_in(tmp_path / "cloud", checks=False) as dynamodb:
        made = Project(tmp_path, dynamodb)
        try:
            yield made
        finally:
            made.s3.stop()


def test_what_compose_starts_works_on_two_nodes(project, tmp_path):
    assert project.services["init"]["command"] == ["init"]
    for _ in range(2):
        assert (ended := project.run("init")).returncode == 0, ended.stderr
    user = [*project.services["user"]["entrypoint"][1:], "add", "ann", "--tenant", "acme"]
    assert (ended := project.run(*user, text=PASSWORD)).returncode == 0, ended.stderr

    nodes = []
    try:
        for number in range(2):
            addresses = {"PANDAS_DB_LISTEN": "127.0.0.1:0", "PANDAS_DB_HTTP": "127.0.0.1:0"}
            arguments, log = project.services["pandas-db"]["command"], tmp_path / f"stderr-{number}.log"
            nodes.append(conftest.Server(arguments, tmp_path, log, env=project.environment | addresses))
        one, other = nodes
        with client_of(one.flight, basic("ann", PASSWORD)) as client:
            load(client, FRAME, "shop/prices", columns_keys={"day": "Date"})
        with client_of(other.flight, basic("ann", PASSWORD)) as client:
            assert list_names(client) == ["shop/prices"]
            assert get(client, "shop/prices").equals(FRAME)
            info = client.get_flight_info(conftest.flight.FlightDescriptor.for_path("shop", "prices"))
        with client_of(one.flight, basic("ann", PASSWORD)) as client:
            tables = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
            assert pa.concat_tables(tables).num_rows == 2, "a ticket of the other node"
        assert [node.fetch("/readyz")[0] for node in nodes] == [200, 200]
        assert [node.stop() for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            if node in conftest._running:
                node.kill()


def test_nothing_is_published_beyond_the_machine():
    project = documents()["compose/compose.yaml"][0]
    published = [port for service in project["services"].values() for port in service.get("ports", [])]
    assert len(published) == 2 and all(port.startswith("127.0.0.1:") for port in published), json.dumps(published)
