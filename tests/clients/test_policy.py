"""Who may do what within a tenant: roles of the users file, and the rules of `--policy`."""

from __future__ import annotations

import json
from collections.abc import Callable

import adbc_driver_manager.dbapi
import callers
import flight_sql as fs
import pyarrow.flight as flight
import pytest
from callers import add_user, basic, client_of, code_of, flight_calls, http, raw_of
from frames import assert_absent, get, list_names, load, refused, sql
from test_serve import assert_refuses_to_start

PASSWORD = "correct horse battery"

RULES = """
[[rule]]
principal = "root"
prefix = "*"
allow = "admin"

[[rule]]
group = "analysts"
prefix = "sales"
allow = "read"

[[rule]]
principal = "writer"
prefix = "sales/eu"
allow = "write"
"""


@pytest.fixture
def users_file(tmp_path):
    """Users of one tenant."""
    file = tmp_path / "users.toml"
    for name, options in {
        "root": [],
        "analyst": ["--group", "analysts"],
        "writer": ["--group", "analysts"],
        "nobody": [],
        "reading": ["--role", "reader"],
        "writing": ["--role", "writer"],
    }.items():
        add_user(file, name, PASSWORD, *options)
    return file


@pytest.fixture
def rules_file(tmp_path):
    """The rules."""
    file = tmp_path / "policy.toml"
    file.write_text(RULES)
    return file


@pytest.fixture
def ruled(start_server, users_file, rules_file):
    """A server with rules, on which root has loaded some datasets."""
    server = start_server(auth="users", users_file=users_file, policy=rules_file)
    with as_user(server, "root") as root:
        for name in ("sales/eu", "sales/eu/2024", "sales/us", "sales2", "hr/people"):
            load(root, callers.FRAME, name)
    return server


def as_user(server, name: str):
    """Open a client of a user."""
    return client_of(server.flight, basic(name, PASSWORD))


def test_what_may_not_be_read_is_not_there(ruled):
    with as_user(ruled, "analyst") as analyst:
        assert list_names(analyst) == ["sales/eu", "sales/eu/2024", "sales/us"]
        assert get(analyst, "sales/us").num_rows == 1
        for hidden in ("hr/people", "sales2"):
            assert_absent(analyst, hidden)
        with refused("NOT_FOUND") as caught:
            get(analyst, "hr/people")
        with refused("NOT_FOUND") as missing:
            get(analyst, "hr/animals")
        assert str(caught.value).replace("people", "animals") == str(missing.value)
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema'"
        assert {row["table_name"] for row in sql(analyst, tables).to_pylist()} == {"eu", "2024", "us"}
        assert sorted(fs.fetch(analyst, fs.tables()).column("table_name").to_pylist()) == ["2024", "eu", "us"]
        assert sorted(fs.fetch(analyst, fs.db_schemas()).column("db_schema_name").to_pylist())[-2:] == [
            "sales",
            "sales/eu",
        ]
        for query in ("SELECT * FROM hr.people", "SELECT * FROM public.sales2", 'SELECT * FROM hr."people$versions"'):
            with refused("NOT_FOUND"):
                sql(analyst, query)
        # Nor is it hinted at.
        with refused("NOT_FOUND") as near:
            sql(analyst, "SELECT * FROM hr.peopl")
        assert "people" not in str(near.value)
        with refused("NOT_FOUND"):
            sql(analyst, "SELECT * FROM sales.us WHERE x IN (SELECT x FROM hr.people)")
    header = basic("analyst", PASSWORD)
    listed = json.loads(http(ruled, "GET", "/dataframes", header)[1])["dataframes"]
    assert [each["name"] for each in listed] == ["sales/eu", "sales/eu/2024", "sales/us"]
    assert http(ruled, "GET", "/dataframes/hr/people", header)[0] == 404
    assert http(ruled, "POST", "/sql", header, b'{"sql": "SELECT * FROM hr.people"}')[0] == 404
    with as_user(ruled, "nobody") as nobody:
        assert list_names(nobody) == []


def changes(name: str) -> dict[str, Callable[[flight.FlightClient], object]]:
    """Return what changes rows of a dataset, by name."""
    table = ".".join(f'"{part}"' for part in name.rsplit("/", 1))
    return {
        "load": lambda client: load(client, callers.FRAME, name),
        "insert": lambda client: sql(client, f"INSERT INTO {table} VALUES (5)"),
        "update": lambda client: sql(client, f"UPDATE {table} SET x = 6"),
        "delete": lambda client: sql(client, f"DELETE FROM {table} WHERE x = 6"),
        "insert select": lambda client: sql(client, f"INSERT INTO {table} SELECT x FROM {table}"),
    }


def test_readers_change_nothing(ruled):
    with as_user(ruled, "analyst") as analyst:
        for what, change in changes("sales/eu").items():
            with refused("PERMISSION_DENIED"):
                change(analyst)
            assert get(analyst, "sales/eu").num_rows == 1, what
        for what, change in changes("hr/people").items():
            with refused("PERMISSION_DENIED" if what == "load" else "NOT_FOUND"):
                change(analyst)
        for what, change in changes("new/one").items():
            with refused("PERMISSION_DENIED" if what == "load" else "NOT_FOUND"):
                change(analyst)
        with refused("PERMISSION_DENIED"):
            sql(analyst, "CREATE TABLE sales.copy AS SELECT 1 AS x")
    upload = callers.http_calls("sales/eu")[1]
    assert http(ruled, upload[0], upload[1], basic("analyst", PASSWORD), upload[2])[0] == 403


def test_writers_write_where_they_may_and_end_nothing(ruled):
    with as_user(ruled, "writer") as writer:
        for change in changes("sales/eu").values():
            change(writer)
        load(writer, callers.FRAME, "sales/eu/new")
        for change in changes("sales/us").values():
            with refused("PERMISSION_DENIED"):
                change(writer)
        with refused("PERMISSION_DENIED"):
            sql(writer, 'DROP TABLE sales.eu')
        with refused("PERMISSION_DENIED"):
            sql(writer, "CREATE OR REPLACE TABLE sales.eu AS SELECT 1 AS x")
    with raw_of(ruled.flight, basic("writer", PASSWORD)) as raw:
        for action in ("delete_dataframe", "set_retention", "compact", "vacuum"):
            with refused("PERMISSION_DENIED"):
                raw.action(action, json.dumps({"dataframe_name": "sales/eu"}).encode())
        for action in ("list_versions", "describe_dataframe"):
            raw.action(action, json.dumps({"dataframe_name": "sales/eu"}).encode())
    assert http(ruled, "DELETE", "/dataframes/sales/eu", basic("writer", PASSWORD))[0] == 403
    with as_user(ruled, "root") as root:
        sql(root, "DROP TABLE sales.eu")
        assert_absent(root, "sales/eu")


def test_a_right_that_is_taken_away_ends_tickets_and_handles(ruled, rules_file):
    with as_user(ruled, "analyst") as analyst, raw_of(ruled.flight, basic("analyst", PASSWORD)) as raw:
        frame = analyst.get_flight_info(flight.FlightDescriptor.for_path("sales", "us")).endpoints[0].ticket
        query = raw.query_info(fs.statement("SELECT * FROM sales.us"))
        handle = raw.prepare("SELECT * FROM sales.us").handle
        assert analyst.do_get(frame).read_all().num_rows == 1
        rules_file.write_text(RULES.replace('"analysts"', '"others"'))
        with refused("NOT_FOUND"):
            analyst.do_get(frame).read_all()
        with refused("NOT_FOUND"):
            raw.query_info(fs.prepared_query(handle))
        assert query is not None
        assert list_names(analyst) == []
        rules_file.write_text("[[rule]]\nnonsense = 1")
        assert list_names(analyst) == []
        rules_file.write_text(RULES)
        assert analyst.do_get(frame).read_all().num_rows == 1


ADMIN = {"delete_dataframe", "set_retention", "compact", "vacuum"}
WRITE = {"DoPut", "DoPut update", "delete_version"}


@pytest.mark.parametrize("name", ["nobody", "analyst", "reading", "writing", "root"])
def test_every_call_of_every_kind_of_caller(start_server, users_file, tmp_path, name):
    """The least right that each call wants; who has none at all is not told that there is something."""
    rules = tmp_path / "matrix.toml"
    everyone = "".join(
        f'[[rule]]\nprincipal = "{user}"\nprefix = "data"\nallow = "admin"\n' for user in ("reading", "writing", "root")
    )
    rules.write_text(everyone + '[[rule]]\ngroup = "analysts"\nprefix = "data"\nallow = "read"\n')
    server = start_server(auth="users", users_file=users_file, policy=rules)
    with as_user(server, "root") as root:
        load(root, callers.FRAME, "data")
    rank = {"nobody": 0, "analyst": 1, "reading": 1, "writing": 2, "root": 3}[name]
    about_data = {"GetFlightInfo", "GetFlightInfo sql", "PollFlightInfo", "GetSchema", "DoGet", "DoGet sql"}
    about_data |= {"CreatePreparedStatement", "list_versions", "describe_dataframe"} | WRITE | ADMIN
    with raw_of(server.flight, basic(name, PASSWORD)) as raw:
        for call, make in flight_calls("data").items():
            needed = 3 if call in ADMIN else 2 if call in WRITE else 1
            code = code_of(make, raw)
            if call == "delete_version":
                # The body lacks a version, which is said first.
                assert code == "INVALID_ARGUMENT"
            elif call not in about_data or rank >= needed:
                assert code not in ("UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"), f"{call}: {code}"
            elif rank == 0 and call != "DoPut":
                assert code == "NOT_FOUND", f"{call}: {code}"
            else:
                assert code == "PERMISSION_DENIED", f"{call}: {code}"
        assert ("data" in [n for n in list_names_of(server, "root")]) == (rank < 3)


def list_names_of(server, user: str) -> list[str]:
    """List what a user sees."""
    with as_user(server, user) as client:
        return list_names(client)


def test_roles_count_without_rules(start_server, users_file):
    server = start_server(auth="users", users_file=users_file)
    with as_user(server, "writing") as writing, as_user(server, "reading") as reading:
        load(writing, callers.FRAME, "sales/eu")
        assert get(reading, "sales/eu").num_rows == 1
        for change in changes("sales/eu").values():
            with refused("PERMISSION_DENIED"):
                change(reading)
        with refused("PERMISSION_DENIED"):
            sql(writing, "DROP TABLE sales.eu")


def test_a_driver_shows_the_refusal(ruled):
    import adbc_driver_flightsql.dbapi as adbc

    way = {"username": "analyst", "password": PASSWORD}
    with adbc.connect(ruled.flight, db_kwargs=way) as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.dbapi.Error, match="PERMISSION_DENIED"):
            cursor.adbc_ingest("us", callers.FRAME, mode="append", db_schema_name="sales")
        cursor.execute("SELECT count(*) FROM sales.us")
        assert cursor.fetchall() == [(1,)]


def test_rules_that_cannot_be_read_stop_the_start(tmp_path, users_file):
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nprefix = 'a'\nallow = 'read'\n")
    users = ["--listen", "127.0.0.1:0", "--auth", "users", "--users-file", str(users_file)]
    assert_refuses_to_start([*users, "--policy", str(rules)], tmp_path, "--policy", "rule 1")
    assert_refuses_to_start([*users, "--policy", str(tmp_path / "missing")], tmp_path, "--policy")
