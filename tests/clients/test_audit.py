"""`--audit-log`: one line for each call, with who, what, which dataset, how much and how it ended.

A server is ended before its lines are read, since they are written behind the calls. The lines that a table shows are
those of an earlier server on the same file.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import callers
import flight_sql as fs
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from callers import add_user, basic, client_of, code_of, flight_calls, http, raw_of
from frames import get, list_names, load, refused, sql, sql_by_ticket
from test_serve import assert_refuses_to_start

ANN = ("ann", "correct horse battery")
FRAME = pa.table({"x": [1, 2, 3]})


def lines(path: Path) -> list[dict]:
    """Return the lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def audited(start_server, tmp_path):
    """A server with users and an audit log, and where that is."""
    users = tmp_path / "users.toml"
    add_user(users, *ANN, "--tenant", "acme")
    log = tmp_path / "audit.log"
    return start_server(auth="users", users_file=users, audit_log=log), log


def test_each_call_leaves_a_line(audited):
    server, log = audited
    with client_of(server.flight, basic(*ANN)) as ann:
        load(ann, FRAME, "sales/eu")
        get(ann, "sales/eu")
        sql(ann, "SELECT * FROM sales.eu WHERE x > 1")
        sql(ann, "INSERT INTO sales.eu VALUES (4)")
        list_names(ann)
        with refused("NOT_FOUND"):
            get(ann, "sales/us")
    with raw_of(server.flight, basic(*ANN)) as raw:
        raw.action("compact", b'{"dataframe_name": "sales/eu"}')
    http(server, "GET", "/dataframes/sales/eu", basic(*ANN))
    http(server, "DELETE", "/dataframes/sales/eu", basic(*ANN))
    with raw_of(server.flight, basic(ANN[0], "a wrong password")) as raw:
        assert code_of(lambda raw: raw.actions(), raw) == "UNAUTHENTICATED"
    assert server.stop() == 0
    found = lines(log)
    by_ann = [line for line in found if line["user"] == "ann"]
    assert all(line["tenant"] == "acme" and line["seconds"] >= 0 for line in by_ann)
    assert len({line["id"] for line in found}) == len(found)

    def only(call: str, **fields: object) -> dict:
        matching = [line for line in found if line["call"] == call]
        matching = [line for line in matching if all(line.get(key) == value for key, value in fields.items())]
        assert len(matching) == 1, f"{call} {fields}: {found}"
        return matching[0]

    loaded = only("do_put", version=1)
    assert (loaded["datasets"], loaded["rows"], loaded["outcome"]) == (["sales/eu"], 3, "ok")
    assert loaded["bytes"] > 0
    assert only("do_get", datasets=["sales/eu"], rows=3)["bytes"] > 0
    assert only("do_get", datasets=["sales/eu"], rows=2)["outcome"] == "ok"
    assert only("get_flight_info", version=2)["rows"] == 1
    assert only("list_flights")["datasets"] == ["sales/eu"]
    assert only("do_get", outcome="NOT_FOUND")["datasets"] == ["sales/us"]
    assert only("do_action", action="compact")["datasets"] == ["sales/eu"]
    assert only("http_get")["rows"] == 4
    assert only("http_delete")["datasets"] == ["sales/eu"]
    refusal = only("list_actions", outcome="UNAUTHENTICATED")
    assert (refusal["user"], refusal["tenant"]) == (None, None)
    assert ANN[1] not in log.read_text() and "a wrong password" not in log.read_text()


def test_every_call_of_flight_and_rest_is_there_once(audited):
    server, log = audited
    calls = flight_calls("data")
    with raw_of(server.flight, basic(*ANN)) as raw:
        for call in calls.values():
            code_of(call, raw)
    for method, path, body in callers.http_calls("data"):
        http(server, method, path, basic(*ANN), body)
    assert server.stop() == 0
    assert len(lines(log)) == len(calls) + len(callers.http_calls("data"))


def test_a_log_goes_on_after_a_restart_and_is_its_owners_alone(start_server, tmp_path):
    log = tmp_path / "audit.log"
    for count in (1, 2):
        server = start_server(audit_log=log)
        with server.connect() as client:
            list_names(client)
        assert server.stop() == 0
        assert [line["user"] for line in lines(log)] == ["local"] * count
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_log_on_stderr(start_server):
    server = start_server(audit_log="stderr", env={"RUST_LOG": "off"})
    with server.connect() as client:
        list_names(client)
    assert server.stop() == 0
    (line,) = server.errors().splitlines()
    assert json.loads(line)["call"] == "list_flights"


def test_a_log_that_cannot_be_opened_stops_the_start(tmp_path):
    place = tmp_path / "no-such-folder" / "audit.log"
    assert_refuses_to_start(["--listen", "127.0.0.1:0", "--audit-log", str(place)], tmp_path, "--audit-log")


# The log as a table

PASSWORD = ANN[1]
AUDIT = '"pandas_db$audit"'
ALL = f"SELECT * FROM {AUDIT} WHERE id LIKE 'id%'"
RULES = """
[[rule]]
principal = "ann"
prefix = "*"
allow = "admin"

[[rule]]
principal = "*"
prefix = "sales"
allow = "admin"

[[rule]]
principal = "deb"
prefix = "*"
allow = "write"
"""
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),
        ("id", pa.string()),
        ("call", pa.string()),
        ("action", pa.string()),
        ("user", pa.string()),
        ("tenant", pa.string()),
        ("datasets", pa.list_(pa.string())),
        ("datasets_total", pa.int64()),
        ("version", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("outcome", pa.string()),
        ("seconds", pa.float64()),
    ]
)


def rows_of(found: list[dict], tenant: str) -> list[dict]:
    """Return the lines of a tenant as rows of the table."""
    own = [line for line in found if line["tenant"] == tenant]
    rows = [{name: line.get(name) for name in SCHEMA.names} for line in own]
    return [row | {"time": datetime.fromisoformat(row["time"])} for row in rows]


def line_of(tenant: str, number: int, **fields: object) -> str:
    """Return a line as a server writes it."""
    line = {"time": "2026-01-01T00:00:00.000001Z", "id": f"id{number}", "call": "do_get", "user": "ann"}
    line |= {"tenant": tenant, "datasets": ["a/b"], "datasets_total": 1, "rows": number, "bytes": 8 * number}
    return json.dumps(line | {"outcome": "ok", "seconds": 0.5} | fields)


def numbers(client: flight.FlightClient) -> list[int]:
    """Return the numbers of the lines that `line_of` made."""
    query = f"SELECT rows FROM {AUDIT} WHERE id LIKE 'id%' ORDER BY rows"
    return sql_by_ticket(client, query)["rows"].to_pylist()


@contextmanager
def as_user(server, name: str) -> Iterator[flight.FlightClient]:
    """Open a client of a user."""
    with client_of(server.flight, basic(name, PASSWORD)) as client:
        yield client


@pytest.fixture(scope="module")
def users_file(tmp_path_factory) -> Path:
    """Users of two tenants."""
    file = tmp_path_factory.mktemp("users") / "users.toml"
    for name, options in {
        "ann": ["--tenant", "acme"],
        "deb": ["--tenant", "acme"],
        "rea": ["--tenant", "acme", "--role", "reader"],
        "wim": ["--tenant", "acme", "--role", "writer"],
        "zed": ["--tenant", "other"],
    }.items():
        add_user(file, name, PASSWORD, *options)
    return file


@pytest.fixture
def start(start_server, users_file, tmp_path) -> Callable:
    """A function that starts a server of those users on one audit log."""
    return lambda **settings: start_server(
        **{"auth": "users", "users_file": users_file, "audit_log": tmp_path / "audit.log"} | settings
    )


@pytest.fixture
def read_back(start, tmp_path):
    """A server that was started anew after calls of two tenants, and the lines of those."""
    server = start()
    for name in ("ann", "wim", "zed"):
        with as_user(server, name) as client:
            load(client, FRAME, "sales/eu")
            get(client, "sales/eu")
            with refused("NOT_FOUND"):
                get(client, "sales/none")
    with raw_of(server.flight, basic(*ANN)) as raw:
        raw.action("compact", b'{"dataframe_name": "sales/eu"}')
    with raw_of(server.flight, basic("ann", "a wrong password")) as raw:
        assert code_of(lambda raw: raw.actions(), raw) == "UNAUTHENTICATED"
    assert server.stop() == 0
    return start(), lines(tmp_path / "audit.log")


def test_an_admin_reads_the_lines_of_the_own_tenant_and_no_others(read_back):
    server, found = read_back
    assert {line["tenant"] for line in found} == {"acme", "other", None}
    for name, tenant in (("zed", "other"), ("ann", "acme")):
        with as_user(server, name) as client:
            table = sql_by_ticket(client, f"SELECT * FROM {AUDIT}")
        assert table.schema.names == SCHEMA.names
        assert [field.type for field in table.schema] == [field.type for field in SCHEMA]
        # There may be calls to this server besides.
        shown = {row["id"]: row for row in table.to_pylist()}
        expected = rows_of(found, tenant)
        assert [shown.get(row["id"]) for row in expected] == expected
        assert set(table["tenant"].to_pylist()) == {tenant}


def test_queries_filter_and_aggregate_and_join(read_back):
    server, found = read_back
    own = [line for line in found if line["tenant"] == "acme" and line["call"] == "do_get"]
    with as_user(server, "ann") as ann:
        query = f"""
            SELECT "user", count(*) AS n, sum(rows) AS rows FROM {AUDIT}
            WHERE call = 'do_get' AND outcome = 'ok' AND array_has(datasets, 'sales/eu') AND time > '2020-01-01'
            GROUP BY "user" ORDER BY "user"
        """
        # The second to load has read what both loaded.
        expected = [{"user": "ann", "n": 1, "rows": 3}, {"user": "wim", "n": 1, "rows": 6}]
        assert sql(ann, query).to_pylist() == expected
        failed = f"SELECT id FROM {AUDIT} WHERE call = 'do_get' AND outcome = 'NOT_FOUND' ORDER BY id"
        ids = sorted(line["id"] for line in own if line["outcome"] == "NOT_FOUND")
        assert sql(ann, failed)["id"].to_pylist() == ids and len(ids) == 2
        assert sql(ann, f"SELECT action FROM {AUDIT} WHERE action = 'compact'").num_rows == 1
        assert sql(ann, f"SELECT version FROM {AUDIT} WHERE version = 1 LIMIT 1")["version"].to_pylist() == [1]
        both = f"SELECT count(*) AS n FROM {AUDIT} a JOIN {AUDIT} b ON a.id = b.id WHERE a.id = '{own[0]['id']}'"
        assert sql(ann, both)["n"].to_pylist() == [1]
        sql(ann, f"CREATE TABLE kept AS SELECT id, time FROM {AUDIT} WHERE call = 'do_action'")
        assert get(ann, "kept").num_rows == 1


@pytest.mark.parametrize("form", [AUDIT, f"public.{AUDIT}", f"pandas_db.public.{AUDIT}"])
def test_it_is_in_the_schema_of_names_without_one(read_back, form):
    server, _ = read_back
    with as_user(server, "ann") as ann:
        load(ann, FRAME, "pandas_db")  # Has nothing to do with it.
        load(ann, FRAME, "sales/pandas_db")
        assert sql(ann, f"SELECT id FROM {form} LIMIT 2").num_rows == 2
        for absent in ('sales."pandas_db$audit"', '"pandas_db$AUDIT"', '"kept$audit"', '"pandas_db$audit@last"'):
            with refused("NOT_FOUND"):
                sql(ann, f"SELECT * FROM {absent}")
        with refused("INVALID_ARGUMENT"):
            get(ann, "pandas_db$audit")


def test_it_is_in_no_listing(read_back):
    server, _ = read_back
    with as_user(server, "ann") as ann:
        tables = sql(ann, "SELECT table_name FROM information_schema.tables")["table_name"].to_pylist()
        assert "eu" in tables and not [each for each in tables if "audit" in each]
        assert fs.fetch(ann, fs.tables())["table_name"].to_pylist() == ["eu"]
        assert list_names(ann) == ["sales/eu"]


def told(client: flight.FlightClient, query: str) -> str:
    """Return the message with which a query is refused."""
    with refused("NOT_FOUND") as caught:
        sql(client, query)
    return str(caught.value)


def assert_not_there(server, name: str) -> None:
    """Check that a user can tell the table from none in no way."""
    header = basic(name, PASSWORD)
    absent = AUDIT.replace("audit", "adieu")
    with as_user(server, name) as client:
        subquery = f"SELECT (SELECT max(id) FROM {AUDIT})"
        for query in (f"SELECT * FROM {AUDIT}", f"EXPLAIN SELECT 1 FROM {AUDIT}", subquery):
            message = told(client, query)
            assert message.replace("audit", "adieu") == told(client, query.replace(AUDIT, absent))
            assert "--audit-log" not in message
    with raw_of(server.flight, header) as raw:
        assert code_of(lambda raw: raw.prepare(f"SELECT * FROM {AUDIT}"), raw) == "NOT_FOUND"
        assert code_of(lambda raw: raw.schema(fs.statement(f"SELECT * FROM {AUDIT}")), raw) == "NOT_FOUND"
    body = json.dumps({"sql": f"SELECT * FROM {AUDIT}"}).encode()
    assert http(server, "POST", "/sql", header, body)[0] == 404


def test_it_is_not_there_for_who_is_no_admin(read_back):
    server, _ = read_back
    for name in ("rea", "wim"):
        assert_not_there(server, name)
    with as_user(server, "wim") as wim, refused("NOT_FOUND"):
        sql(wim, f"INSERT INTO sales.eu SELECT rows FROM {AUDIT}")


def test_with_rules_an_admin_is_who_may_do_everything_under_every_name(start, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(RULES)
    server = start(policy=policy)
    with as_user(server, "ann") as ann:
        assert sql(ann, f"SELECT * FROM {AUDIT} LIMIT 0").num_rows == 0
    for name in ("deb", "zed", "rea"):
        assert_not_there(server, name)


@pytest.mark.parametrize("place", ["off", "stderr", "/dev/null"])
def test_without_a_file_there_is_nothing_to_read(start, place):
    server = start(audit_log=place)
    with as_user(server, "ann") as ann, refused("NOT_FOUND", mentions=["--audit-log"]):
        sql(ann, f"SELECT * FROM {AUDIT}")
    assert_not_there(server, "rea")


def test_lines_that_cannot_be_read_are_left_out_and_counted(start, tmp_path):
    good = [line_of("acme", number) for number in range(1, 5)]
    lost = json.dumps({"time": "2026-01-01T00:00:00Z", "lost": 3})
    bad = ["", "{", good[0][:-9], "\x00\xff", "[]", line_of("acme", 9, rows="x"), line_of("acme", 9, time="never")]
    too_long = line_of("acme", 9, user="x" * (1 << 20))
    text = [good[0], *bad, line_of("other", 9), good[1], too_long, lost, good[2], line_of("acme", 9, rows=-(1 << 80))]
    (tmp_path / "audit.log").write_bytes("\n".join([*text, good[3], ""]).encode("latin-1"))
    server = start()
    with as_user(server, "ann") as ann:
        assert numbers(ann) == [1, 2, 3, 4]
    assert server.stop() == 0
    told_of = [json.loads(line) for line in server.errors().splitlines()]
    assert [line["lines"] for line in told_of if "cannot be read" in line["message"]] == [len(bad) + 2]


def test_a_line_that_is_not_ended_is_not_read_yet(start, tmp_path):
    whole = line_of("acme", 1) + "\n"
    (tmp_path / "audit.log").write_text(whole + line_of("acme", 2))
    server = start()
    with as_user(server, "ann") as ann:
        assert numbers(ann) == [1]
    assert server.stop() == 0
    assert "cannot be read" not in server.errors()


def test_a_file_that_was_moved_away_or_emptied_is_not_there_any_more(start, tmp_path):
    log = tmp_path / "audit.log"
    log.write_text(line_of("acme", 1) + "\n")
    server = start()
    with as_user(server, "ann") as ann:
        assert numbers(ann) == [1]
        log.rename(tmp_path / "audit.log.1")
        assert numbers(ann) == []
        log.write_text(line_of("acme", 2) + "\n")
        assert numbers(ann) == [2]


def test_reading_it_is_audited_and_so_is_wanting_to(start, tmp_path):
    server = start()
    with as_user(server, "ann") as ann:
        sql_by_ticket(ann, f"SELECT count(*) FROM {AUDIT}")
    with as_user(server, "rea") as rea, refused("NOT_FOUND"):
        sql_by_ticket(rea, f"SELECT count(*) FROM {AUDIT}")
    assert server.stop() == 0
    found = [(line["user"], line["datasets"], line["outcome"]) for line in lines(tmp_path / "audit.log")]
    assert found == [("ann", ["pandas_db$audit"], "ok"), ("rea", ["pandas_db$audit"], "NOT_FOUND")]


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO {AUDIT} SELECT * FROM {AUDIT}",
        f"UPDATE {AUDIT} SET outcome = 'ok'",
        f"DELETE FROM {AUDIT}",
        f"TRUNCATE TABLE {AUDIT}",
        f"MERGE INTO {AUDIT} a USING (SELECT 'x' AS id) s ON a.id = s.id WHEN MATCHED THEN DELETE",
        f"CREATE TABLE {AUDIT} AS SELECT 1 AS x",
        f"CREATE OR REPLACE TABLE {AUDIT} AS SELECT 1 AS x",
        f"DROP TABLE {AUDIT}",
    ],
)
def test_it_cannot_be_written(start, tmp_path, statement):
    log = tmp_path / "audit.log"
    log.write_text(line_of("acme", 1) + "\n")
    server = start()
    with as_user(server, "ann") as ann:
        with refused("INVALID_ARGUMENT"):
            sql(ann, statement)
        assert list_names(ann) == [] and numbers(ann) == [1]
    assert log.read_text().startswith(line_of("acme", 1))


def test_nothing_can_be_loaded_under_its_name(start):
    server = start()
    with raw_of(server.flight, basic(*ANN)) as raw, refused("INVALID_ARGUMENT"):
        raw.put_table(fs.ingest("pandas_db$audit"), FRAME)
    with as_user(server, "ann") as ann, refused("INVALID_ARGUMENT"):
        load(ann, FRAME, "pandas_db$audit")


def test_a_large_file_is_read_within_bounds(start, tmp_path):
    mib, size = 1 << 20, 96
    with (tmp_path / "audit.log").open("w") as log:
        piece = "".join(line_of(("acme", "other")[number % 2], number) + "\n" for number in range(5_000))
        repeats = size * mib // len(piece) + 1
        for _ in range(repeats):
            log.write(piece)
    server = start()
    with as_user(server, "ann") as ann:
        get_one = f"SELECT rows FROM {AUDIT} LIMIT 1"
        assert sql_by_ticket(ann, get_one).num_rows == 1
        before = server.peak_bytes()
        counted = sql_by_ticket(ann, f"SELECT count(*) AS n, max(rows) AS most FROM {AUDIT} WHERE id LIKE 'id%'")
        rows = sum(batch.data.num_rows for batch in ann.do_get(flight.Ticket(json.dumps({"sql": ALL}).encode())))
    assert counted.to_pylist() == [{"n": 2_500 * repeats, "most": 4_998}]
    assert rows == 2_500 * repeats
    assert server.peak_bytes() - before < 48 * mib, f"{(server.peak_bytes() - before) // mib} MiB more"
