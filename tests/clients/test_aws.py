"""Servers on S3 and DynamoDB: what they ask for, several on one storage, faults between them, and what stops a start.

They run on stand-ins of this module's own whatever the backend of the other tests is, with the rights of a node.
"""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import aws_answers
import backends
import conftest
import faulty_proxy
import obstore
import pyarrow as pa
import pytest
import stand_ins
from at_once import all_at_once
from conftest import Server
from faulty_proxy import BUSY, CUT, LOSE_REPLY, PASS
from frames import get, list_names, load, refused, sql
from objects import AwsBackend, store_of
from versions import act_once, frame, live_numbers, values

pytestmark = pytest.mark.any_backend("it has stand-ins of its own")

REQUESTS = re.compile(r'^pandas_db_(s3|dynamodb)_requests_total\{operation="(\w+)"\} (\d+)$', re.MULTILINE)
DAYS = {"day": "Date"}
NO_PORTS = {"listen": "127.0.0.1:0", "http": "off"}
_numbers = count()


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsBackend]:
    """The stand-ins, those of the whole run where it has some."""
    chosen = backends.chosen()
    if isinstance(chosen, AwsBackend):
        yield chosen
        return
    with AwsBackend.running(tmp_path_factory.mktemp("aws")) as own:
        yield own


class Place:
    """A prefix of the bucket and a table, and the servers that a test starts there."""

    def __init__(self, aws: AwsBackend, home: Path):
        self.aws, self.home, self.servers = aws, home, []
        self.name = f"place-{os.getpid()}-{next(_numbers)}"
        self.storage = f"s3://{stand_ins.BUCKET}/{self.name}"

    def settings(self, **settings: object) -> list[str]:
        """Return the settings of storage and version records, and others."""
        places = {"storage": self.storage, "versions": f"dynamodb://{self.name}"}
        return conftest.flags(**{**places, **settings})

    def run(self, command: str, env: dict[str, str] | None = None, **settings: object) -> subprocess.CompletedProcess:
        """Run a command of the program to its end, as a node unless the environment says otherwise."""
        words = [conftest.binary(), command, *self.settings(**settings)]
        environment = conftest.clean_environment(**(self.aws.environment() | (env or {})))
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=conftest.PATIENCE)

    def start(self, env: dict[str, str] | None = None, **settings: object) -> Server:
        """Start a server."""
        listen = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0"}
        log = self.home / f"server-{len(self.servers)}.log"
        words = ["serve", *self.settings(**listen, **settings)]
        self.servers.append(Server(words, self.home, log, self.aws.environment() | (env or {})))
        return self.servers[-1]


@pytest.fixture
def place(aws, tmp_path) -> Iterator[Place]:
    """A place of a test's own, made by ``pandas-db init``."""
    made = Place(aws, tmp_path)
    ended = made.run("init", aws.cloud.administration())
    assert ended.returncode == 0, ended.stderr
    yield made
    for each in made.servers:
        each.kill()


def requests(server: Server) -> dict[str, int]:
    """Return how many requests a server has made, by service and operation."""
    with urllib.request.urlopen(server.http + "/metrics") as page:
        found = REQUESTS.findall(page.read().decode())
    return {f"{service} {operation}": int(number) for service, operation, number in found}


@contextmanager
def asked(server: Server) -> Iterator[dict[str, int]]:
    """Collect the requests that a server makes within the block."""
    before, rise = requests(server), {}
    yield rise
    after = {what: number - before.get(what, 0) for what, number in requests(server).items()}
    rise.update({what: number for what, number in after.items() if number})


def table(rows: int) -> pa.Table:
    """Return a table of one date."""
    return pa.table({"day": pa.array(["2024-05-01"] * rows), "x": range(rows)})


def test_a_small_load_is_one_put_and_one_conditional_put(place):
    server = place.start(maintenance_interval="1h")
    with server.connect() as client:
        load(client, table(100), "a/b", columns_keys=DAYS)
        with asked(server) as made:
            load(client, table(100), "a/b", columns_keys=DAYS)
    assert (made["s3 Put"], made["s3 ConditionalPut"], made.get("s3 List")) == (1, 1, None), made
    writes = {what: number for what, number in made.items() if re.match("dynamodb (Put|Update|Delete|Trans)", what)}
    assert writes == {"dynamodb UpdateItem": 1}, made


def test_a_repeated_query_lists_and_writes_nothing(place):
    server = place.start(maintenance_interval="1h")
    with server.connect() as client:
        load(client, table(100), "a/b", columns_keys=DAYS)
        query = "select count(*) as n from a.b where day = '2024-05-01'"
        assert sql(client, query).to_pylist() == [{"n": 100}]
        with asked(server) as made:
            assert sql(client, query).to_pylist() == [{"n": 100}]
    assert not {what for what in made if re.match("s3 (List|Put|Cond|Post|Delete)", what)}, made
    assert {what: number for what, number in made.items() if what.startswith("dynamodb")} == {"dynamodb GetItem": 1}


def test_what_one_server_acknowledges_the_other_reads(place):
    one, other = place.start(), place.start()
    with one.connect() as first, other.connect() as second:
        for number in range(5):
            here, there = (first, second) if number % 2 else (second, first)
            load(here, frame(number), "d")
            assert values(there, "d") == list(range(number + 1))
        assert act_once(second, "delete_version", "d", version=5)["version"] == 5
        assert values(first, "d") == [0, 1, 2, 3]
        assert list_names(first) == list_names(second) == ["d"]


def test_writers_on_two_servers_lose_and_double_nothing(place):
    servers = [place.start(), place.start()]

    def write(client, number: int) -> int:
        return load(client, frame(number), "shared", idempotency_key=f"k{number % 12}")["version"]

    # Every key twice, once on each server; the content differs by what the key stands for.
    numbers = all_at_once(servers, 12, write)
    assert sorted(numbers) == list(range(1, 13))
    with servers[0].connect() as client:
        assert sorted(values(client, "shared")) == list(range(12))
        assert live_numbers(client, "shared") == list(range(1, 13))


def test_one_key_on_two_servers_is_one_version(place):
    servers = [place.start(), place.start()]
    same = frame(7)
    results = all_at_once(servers, 8, lambda client, _: load(client, same, "once", idempotency_key="k"))
    assert {result["version"] for result in results} == {1}
    with servers[1].connect() as client:
        assert values(client, "once") == [7]


def test_servers_take_each_others_tickets(place):
    one, other = place.start(), place.start()
    with one.connect() as first, other.connect() as second:
        load(first, frame(1, 2), "d")
        info = first.get_flight_info(conftest.flight.FlightDescriptor.for_path("d"))
        assert second.do_get(info.endpoints[0].ticket).read_all().num_rows == 2


def test_each_tenant_has_a_bucket(place, aws):
    password = "a-long-enough-password"
    users = place.home / "users.toml"
    prefix = place.name
    for user, tenant in [("ann", "acme"), ("bob", "Weird Tenant/1")]:
        words = [conftest.binary(), "user", "add", user, "--users-file", str(users), "--tenant", tenant]
        subprocess.run([*words, "--role", "admin"], input=f"{password}\n{password}\n", check=True, text=True)
    server = place.start(
        # Nodes that may not make buckets are given those of their tenants.
        aws.cloud.administration(),
        storage=f"s3://{prefix[-20:]}-{{tenant}}",
        create_buckets=True,
        auth="users",
        users_file=users,
    )
    for user, number in [("ann", 1), ("bob", 2)]:
        with server.connect() as client:
            options = conftest.flight.FlightCallOptions(headers=[client.authenticate_basic_token(user, password)])
            descriptor = conftest.flight.FlightDescriptor.for_path("d")
            writer, _ = client.do_put(descriptor, frame(number).schema, options)
            writer.write_table(frame(number))
            writer.close()
            ticket = conftest.flight.Ticket(b'{"dataframe_name": "d"}')
            assert client.do_get(ticket, options).read_all().to_pydict() == {"x": [number]}
    store = store_of(aws.cloud, f"{prefix[-20:]}-acme")
    keys = [entry["path"] for batch in obstore.list(store) for entry in batch]
    assert len([key for key in keys if key.endswith(".parquet")]) == 1, keys


@pytest.fixture
def faulty(place) -> Iterator[Callable[[str], tuple[Server, faulty_proxy.FaultyProxy]]]:
    """A server whose requests to S3 go through a proxy that can fail them."""
    with faulty_proxy.before(place.aws.cloud.s3) as proxy:
        yield place.start(env={"AWS_ENDPOINT_URL_S3": proxy.url}), proxy


def is_commit(method: str, path: str, headers: dict) -> bool:
    """Tell whether a request is a commit."""
    return method == "PUT" and "if-none-match" in headers and "/_delta_log/" in path


def first_of(wanted: Callable[[str, str, dict], bool], fault: str, times: int = 1) -> Callable[[str, str, dict], str]:
    """Return what chooses a fault for the first requests of a kind."""
    left = count(times, -1)
    return lambda *request: fault if wanted(*request) and next(left) > 0 else PASS


@pytest.mark.parametrize("fault", [LOSE_REPLY, CUT, BUSY])
def test_a_commit_whose_answer_fails_is_one_version(faulty, fault):
    server, proxy = faulty
    with server.connect() as client:
        load(client, frame(0), "d")
        proxy.choose = first_of(is_commit, fault)
        assert load(client, frame(1), "d")["version"] == 2
        assert proxy.chosen == [fault]
        assert values(client, "d") == [0, 1] and live_numbers(client, "d") == [1, 2]


@pytest.mark.parametrize("fault", [LOSE_REPLY, CUT, BUSY])
def test_a_chunk_and_a_read_are_tried_again(faulty, fault):
    server, proxy = faulty
    with server.connect() as client:
        proxy.choose = first_of(lambda method, path, headers: path.split("?")[0].endswith(".parquet"), fault)
        load(client, frame(1), "d")
        proxy.choose = first_of(lambda method, path, headers: method == "GET", fault, times=2)
        assert values(client, "d") == [1]
        assert len(proxy.chosen) == 3


def test_while_s3_is_away_calls_are_told_and_then_go_on(faulty):
    server, proxy = faulty
    with server.connect() as client:
        load(client, frame(1), "d")
        proxy.choose = lambda *request: CUT
        with refused("UNAVAILABLE"):
            get(client, "d")
        with refused("UNAVAILABLE"):
            load(client, frame(2), "d")
        proxy.choose = lambda *request: PASS
        assert values(client, "d") == [1]
        load(client, frame(2), "d")
        assert values(client, "d") == [1, 2]


def test_a_large_chunk_goes_up_in_parts(place):
    server = place.start(maintenance_interval="1h")
    # Noise, so that it stays larger than what goes up in one piece.
    noise = pa.table({"x": pa.array([os.urandom(1 << 20) for _ in range(40)])})
    with server.connect() as client:
        with asked(server) as made:
            load(client, noise, "noise", batch_rows=2)
        assert made["s3 Post"] >= 2 and made["s3 Put"] >= 3, made
        assert get(client, "noise").equals(noise)


def refusal(place: Place, ended: subprocess.CompletedProcess) -> str:
    """Return the one line with which a server refused to start, or with which a command failed."""
    assert ended.returncode == (2 if ended.args[1] == "serve" else 1), (ended.returncode, ended.stderr)
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("error: "), ended.stderr
    for secret in (place.aws.cloud.node.id, place.aws.cloud.node.secret, "X-Amz-", "AWS4-HMAC"):
        assert secret not in ended.stderr, ended.stderr
    return line


@pytest.mark.parametrize(
    ("env", "settings", "says"),
    [
        ({}, {"storage": "s3://a-bucket-of-others"}, ["AccessDenied", "ListBucketMultipartUploads"]),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, {}, ["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, {}, ["S3 cannot be reached", "AWS_ENDPOINT_URL_S3"]),
        ({"AWS_ENDPOINT_URL_S3": "nonsense"}, {}, ["AWS_ENDPOINT_URL_S3 'nonsense'"]),
        ({}, {"versions": "dynamodb://no-such-table"}, ["no-such-table", "pandas-db init"]),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1"}, {}, ["DynamoDB"]),
        ({}, {"versions": "embedded"}, ["--versions embedded", "dynamodb://"]),
        ({}, {"storage": "s3://B_A_D"}, ["--storage", "lower-case"]),
    ],
)
def test_what_cannot_work_stops_the_start_with_what_to_do(place, env, settings, says):
    line = refusal(place, place.run("serve", env, **NO_PORTS, **settings))
    for words in says:
        assert words in line, line
    assert "wrong" not in line


def test_a_bucket_that_is_not_there_is_told_to_those_who_may_know(place, aws):
    ended = place.run("serve", aws.cloud.administration(), **NO_PORTS, storage="s3://no-such-bucket-here")
    line = refusal(place, ended)
    assert "NoSuchBucket" in line and "--create-buckets" in line, line


# Of another stand-in than ministack it is not known what it looks at.
by_ministack = pytest.mark.skipif(
    "PANDAS_DB_TEST_DYNAMODB" in os.environ, reason="it may look at no rights and regions"
)


@by_ministack
def test_a_node_may_try_its_rights_and_make_no_table(place):
    ended = place.run("init")
    assert (ended.returncode, ended.stderr) == (0, ""), "no warning either"
    line = refusal(place, place.run("init", versions=f"dynamodb://{place.name}-2"))
    assert "allow the role dynamodb:CreateTable on the table" in line, line


OTHER_REGION = "eu-central-1"
COMMANDS = [("serve", NO_PORTS), ("init", {})]


@pytest.mark.parametrize(("command", "settings"), COMMANDS)
@pytest.mark.parametrize(
    "answers", [aws_answers.at_the_endpoint_of_the_bucket, aws_answers.at_the_endpoint_of_another_region]
)
def test_a_bucket_of_another_region_stops_the_start(place, answers, command, settings):
    """SeaweedFS takes every region; the proxy before it answers as S3 does."""
    with faulty_proxy.before(place.aws.cloud.s3) as proxy:
        proxy.choose, env = answers(), {"AWS_ENDPOINT_URL_S3": proxy.url}
        line = refusal(place, place.run(command, env | {"AWS_REGION": OTHER_REGION}, **settings))
        assert "it is in another region; set AWS_REGION" in line, line
        ended = place.run("init", env)
        assert ended.returncode == 0, ended.stderr


@by_ministack
def test_a_table_of_another_region_stops_the_start(place):
    line = refusal(place, place.run("serve", {"AWS_REGION": OTHER_REGION}, **NO_PORTS))
    for words in (f"'{place.name}'", OTHER_REGION, "look at AWS_REGION", "pandas-db init"):
        assert words in line, line


HOUR = 3_600  # Seconds.


@pytest.mark.parametrize(("command", "settings"), COMMANDS)
@pytest.mark.parametrize("off_by", [HOUR, -HOUR])
def test_a_wrong_clock_stops_the_start(place, off_clock, off_by, command, settings):
    line = refusal(place, place.run(command, off_clock(off_by), **settings))
    assert "RequestTimeTooSkewed" in line and "this machine's clock is wrong" in line, line


@pytest.mark.parametrize("off_by", [HOUR, -HOUR])
def test_dynamodb_alone_tells_the_time(place, off_clock, off_by):
    """The library that asks DynamoDB signs by the clock of its answers, so that no start is refused without S3.

    The stand-in looks at no clock; the proxy before it answers as DynamoDB does.
    """
    with faulty_proxy.before(place.aws.cloud.dynamodb) as proxy:
        proxy.choose = aws_answers.of_dynamodb_by_its_clock()
        env = {"AWS_ENDPOINT_URL_DYNAMODB": proxy.url} | off_clock(off_by)
        ended = place.run("init", env, storage=place.home / "data")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert len(proxy.chosen) == 1, "it learnt the time from the first answer"


def test_an_import_reads_the_first_ones_bucket(place, aws):
    import gzip

    key = f"old-{place.name}/old/stock/external_key/default/2023-05-01/08:30:00/part.csv.gz"
    obstore.put(aws.store, key, gzip.compress(b"item,price\n1,9.5\n2,3.25\n"))
    server = place.start()
    words = [conftest.binary(), "import-legacy", f"s3://{stand_ins.BUCKET}/old-{place.name}", "--server", server.flight]
    environment = conftest.clean_environment(**aws.environment())
    for _ in range(2):
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=conftest.PATIENCE)
    with server.connect() as client:
        assert get(client, "old/stock").to_pydict() == {"item": [1, 2], "price": [9.5, 3.25]}
        assert live_numbers(client, "old/stock") == [1]
