"""The compose file of `deploy/`, as it would run but for the containers: its commands, its settings, its stores."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import conftest
from callers import basic, client_of
from deploy_support import DEPLOY, REPOSITORY, StandIn, cloud_in, documents, program, run
from frames import get, list_names, load

pytestmark = pytest.mark.any_backend("it has stand-ins of its own")

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


@pytest.fixture
def nodes(project, tmp_path) -> Iterator[tuple[conftest.Server, conftest.Server]]:
    """Two servers as the file describes one, and the user ann; ``init`` ran twice before."""
    assert project.services["init"]["command"] == ["init"]
    for _ in range(2):
        assert (ended := project.run("init")).returncode == 0, ended.stderr
    user = [*project.services["user"]["entrypoint"][1:], "add", "ann", "--tenant", "acme"]
    assert (ended := project.run(*user, text=PASSWORD)).returncode == 0, ended.stderr
    own = {"PANDAS_DB_LISTEN": "127.0.0.1:0", "PANDAS_DB_HTTP": "127.0.0.1:0", "PANDAS_DB_MAINTENANCE_INTERVAL": "1h"}
    command, env = project.services["pandas-db"]["command"], project.environment | own
    started: list[conftest.Server] = []
    try:
        for number in range(2):
            started.append(conftest.Server(command, tmp_path, tmp_path / f"stderr-{number}.log", env=env))
        yield tuple(started)
        assert [server.stop() for server in started] == [0, 0]
    finally:
        for server in started:
            if server.process.poll() is None:
                server.kill()


def test_what_compose_starts_works_on_two_nodes(nodes):
    one, other = nodes
    with client_of(one.flight, basic("ann", PASSWORD)) as client:
        load(client, FRAME, "shop/prices", columns_keys={"day": "Date"})
    with client_of(other.flight, basic("ann", PASSWORD)) as client:
        assert list_names(client) == ["shop/prices"]
        assert get(client, "shop/prices").equals(FRAME)
        info = client.get_flight_info(flight.FlightDescriptor.for_path("shop", "prices"))
    with client_of(one.flight, basic("ann", PASSWORD)) as client:
        tables = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
        assert pa.concat_tables(tables).num_rows == 2, "a ticket of the other node"
    assert [node.fetch("/readyz")[0] for node in nodes] == [200, 200]


def test_loads_and_queries_ask_for_little(nodes):
    one, other = nodes
    with one.connect() as client:
        token = client.authenticate_basic_token("ann", PASSWORD)[1].decode().removeprefix("Bearer ")
    addresses = ["--server", one.flight, "--http", one.http, "--cold-server", other.flight, "--cold-http", other.http]
    command = [sys.executable, str(REPOSITORY / "benches/aws_requests.py"), *addresses, "--repeat", "10"]
    ended = run(command, env=conftest.clean_environment(PANDAS_DB_TOKEN=token))
    assert ended.returncode == 0, ended.stderr
    print(ended.stdout)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines()]
    titles = [cells[0] for cells in rows]
    small, dated, known, first = ([float(cell.replace(",", "")) for cell in cells[1:]] for cells in rows)
    put, conditional, lists, gets, reads, writes = range(6)
    assert small[put] <= 2_200 and small[conditional] <= 1_200 and small[lists] == 0
    # The background may merge chunks of the loads before meanwhile.
    assert dated[put] <= 12_000 and dated[conditional] <= 2_000 and dated[lists] == 0
    assert [known[which] for which in (put, conditional, lists, writes)] == [0, 0, 0, 0] and known[reads] == 1_000
    assert [first[which] for which in (put, conditional, lists, writes)] == [0, 0, 0, 0]
    assert small[writes] >= 1_000 and first[gets] >= 1_000
    guide = (DEPLOY / "README.md").read_text()
    assert all(f"\n| {title} | " in guide for title in titles)


def test_nothing_is_published_beyond_the_machine():
    project = documents()["compose/compose.yaml"][0]
    published = [port for service in project["services"].values() for port in service.get("ports", [])]
    assert len(published) == 2 and all(port.startswith("127.0.0.1:") for port in published), json.dumps(published)
