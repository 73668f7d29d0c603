"""Prepared statements on the wire: their schemas, values for their parameters, and handles that any server knows."""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import hmac
import json

import flight_sql as fs
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from frames import load, refused, sql, table_name

KEY = "a key of at least thirty-two bytes, for tests"
TABLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "s": ["a", "b", None],
        "d": pa.array([0, 1, None], pa.date32()),
        "f": [0.5, None, 2.5],
        "n": pa.array([decimal.Decimal("1.50"), None, None], pa.decimal128(12, 2)),
        "b": [True, False, None],
        "t": pa.array([0, 1, None], pa.timestamp("us")),
        "small": pa.array([7, 8, None], pa.int16()),
    }
)


@pytest.fixture
def table(client, name) -> str:
    """The SQL name of a table with a column of each common type."""
    load(client, TABLE, name)
    return table_name(name)


@pytest.fixture
def raw(server):
    """A client without a library."""
    with fs.raw_sql(server.flight) as client:
        yield client


def rows(client: flight.FlightClient, handle: bytes) -> list[dict]:
    """Run a prepared query."""
    info = client.get_flight_info(flight.FlightDescriptor.for_command(fs.prepared_query(handle)))
    result = client.do_get(info.endpoints[0].ticket).read_all()
    assert result.schema.equals(info.schema)
    return result.to_pylist()


# What is told


@pytest.mark.parametrize(
    "query, types",
    [
        ("SELECT id FROM {t}", []),
        ("SELECT id FROM {t} WHERE id = $1", [pa.int64()]),
        ("SELECT id FROM {t} WHERE id = ?", [pa.int64()]),
        ("SELECT id FROM {t} WHERE s = ? AND d > ? AND f < ?", [pa.string(), pa.date32(), pa.float64()]),
        ("SELECT id FROM {t} WHERE d > $2 AND s = $1", [pa.string(), pa.date32()]),
        ("SELECT id FROM {t} WHERE id BETWEEN ? AND ?", [pa.int64(), pa.int64()]),
        ("SELECT id FROM {t} WHERE id IN (?, ?, ?)", [pa.int64()] * 3),
        ("SELECT id FROM {t} WHERE s LIKE ?", [pa.string()]),
        ("SELECT id FROM {t} WHERE n = ?", [pa.decimal128(12, 2)]),
        ("SELECT id FROM {t} WHERE b = ?", [pa.bool_()]),
        ("SELECT id FROM {t} WHERE t < ?", [pa.timestamp("us")]),
        ("SELECT id FROM {t} WHERE small = ?", [pa.int16()]),
        ("SELECT id FROM {t} LIMIT ?", [pa.int64()]),
        ("SELECT id FROM {t} ORDER BY id LIMIT ? OFFSET ?", [pa.int64()] * 2),
        ("SELECT ?", [pa.string()]),
        ("SELECT id, ? AS x, upper(?) FROM {t}", [pa.string()] * 2),
        ("SELECT '?' AS q, id FROM {t} WHERE id = ? -- ?", [pa.int64()]),
        ("SELECT id FROM {t} WHERE id = $1 OR small = $1", None),
        ("INSERT INTO {t} (id, s, d) VALUES (?, ?, ?)", [pa.int64(), pa.string(), pa.date32()]),
        ("UPDATE {t} SET s = $1 WHERE id = $2", [pa.string(), pa.int64()]),
        ("DELETE FROM {t} WHERE d = ?", [pa.date32()]),
    ],
    ids=str,
)
def test_there_is_a_typed_field_for_each_parameter(raw, table, query, types):
    prepared = raw.prepare(query.format(t=table))
    if types is None:
        assert len(prepared.parameter_schema) == 1
    else:
        assert prepared.parameter_schema.types == types
    assert not any(pa.types.is_null(kind) for kind in prepared.parameter_schema.types)


@pytest.mark.parametrize(
    "text, is_update",
    [("SELECT id FROM {t}", False), ("EXPLAIN SELECT 1", False), ("SHOW TABLES", False), ("VALUES (1)", False),
     ("WITH q AS (SELECT 1 AS x) SELECT * FROM q WHERE x = ?", False), ("INSERT INTO {t} (id) VALUES (9)", True),
     ("UPDATE {t} SET s = 'x'", True), ("DELETE FROM {t}", True), ("DROP TABLE {t}", True),
     ("CREATE TABLE other_{n} (x INT)", True), ("CREATE TABLE other_{n} AS SELECT 1 AS x", True)],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_only_an_update_has_no_dataset_schema(client, raw, table, text, is_update):
    """By that drivers tell which of the two it is."""
    prepared = raw.prepare(text.format(t=table, n="x"))
    assert (prepared.dataset_schema is None) == is_update
    assert prepared.is_update == is_update
    assert sql(client, f"SELECT count(*) AS n FROM {table}")["n"].to_pylist() == [3]


@pytest.mark.parametrize(
    "text", ["", "SELEC 1", "SELECT nope FROM {t}", "SELECT 1; SELECT 2", "SELECT ?, $1", "SELECT $0", "SELECT $x"]
)
def test_what_cannot_be_run_cannot_be_prepared(raw, table, text):
    with refused("INVALID_ARGUMENT"):
        raw.prepare(text.format(t=table))


def test_preparing_against_an_unknown_table_names_it(raw):
    with refused("NOT_FOUND", "INVALID_ARGUMENT", mentions=["nowhere_at_all"]):
        raw.prepare("SELECT * FROM nowhere_at_all")


# Values


def spelled(value: object) -> str:
    """Return the name of a parameter, the same in each process: arrays are printed with their address."""
    if not isinstance(value, dict):
        return str(value)
    told = {key: f"{each.type}{each.to_pylist()}" for key, each in value.items() if isinstance(each, pa.Array)}
    return str(value | told)


@pytest.mark.parametrize(
    "query, values, ids",
    [
        ("SELECT id FROM {t} WHERE id = ?", {"0": [2]}, [2]),
        ("SELECT id FROM {t} WHERE id = ?", {"0": pa.array([2], pa.int8())}, [2]),
        ("SELECT id FROM {t} WHERE id = ?", {"0": pa.array([2], pa.uint64())}, [2]),
        ("SELECT id FROM {t} WHERE id = ?", {"0": ["2"]}, [2]),
        ("SELECT id FROM {t} WHERE id = ?", {"0": pa.array([None], pa.null())}, []),
        ("SELECT id FROM {t} WHERE s = ?", {"x": ["a"]}, [1]),
        ("SELECT id FROM {t} WHERE s = ?", {"x": pa.array(["a"], pa.large_string())}, [1]),
        ("SELECT id FROM {t} WHERE s = ?", {"x": pa.array(["a"], pa.string_view())}, [1]),
        ("SELECT id FROM {t} WHERE s = ?", {"x": pa.array(["a"]).dictionary_encode()}, [1]),
        ("SELECT id FROM {t} WHERE d = ?", {"x": [datetime.date(1970, 1, 2)]}, [2]),
        ("SELECT id FROM {t} WHERE d = ?", {"x": ["1970-01-02"]}, [2]),
        ("SELECT id FROM {t} WHERE n = ?", {"x": [decimal.Decimal("1.5")]}, [1]),
        ("SELECT id FROM {t} WHERE f > ?", {"x": [2]}, [3]),
        ("SELECT id FROM {t} WHERE b = ?", {"x": [True]}, [1]),
        ("SELECT id FROM {t} WHERE t = ?", {"x": pa.array([0], pa.timestamp("ns"))}, [1]),
        ("SELECT id FROM {t} WHERE s = $2 OR id = $1", {"$1": [3], "$2": ["a"]}, [1, 3]),
        ("SELECT id FROM {t} WHERE id >= $1 AND small >= $1", {"$1": [1]}, [1, 2]),
        ("SELECT id FROM {t} ORDER BY id LIMIT ?", {"0": [2]}, [1, 2]),
        ("SELECT id FROM {t} ORDER BY id LIMIT ? OFFSET ?", {"0": pa.array([1], pa.int32()), "1": [1]}, [2]),
        ("SELECT id FROM {t} WHERE id IN (?, ?)", {"0": [1], "1": [3]}, [1, 3]),
        ("SELECT id FROM {t} WHERE s LIKE ?", {"0": ["%"]}, [1, 2]),
    ],
    ids=spelled,
)
def test_values_are_bound(client, raw, table, query, values, ids):
    handle = raw.bind(raw.prepare(query.format(t=table)).handle, pa.table(values))
    assert sorted(row["id"] for row in rows(client, handle)) == ids


def test_a_value_is_a_value_and_no_sql(client, raw, table):
    for text in ("a' OR '1'='1", "'; DROP TABLE x; --", "$1", "?", "\\"):
        handle = raw.bind(
            raw.prepare(f"SELECT ? AS x, id FROM {table} WHERE s = ?").handle, pa.table({"0": [text], "1": [text]})
        )
        assert rows(client, handle) == []
        handle = raw.bind(raw.prepare("SELECT ? AS x").handle, pa.table({"0": [text]}))
        assert rows(client, handle) == [{"x": text}]


def dense_union(value: object) -> pa.Array:
    """Return one value as flightsql-dbapi sends it: in a dense union of all types it knows."""
    children = {str: pa.array([], pa.string()), bytes: pa.array([], pa.binary()), int: pa.array([], pa.int64()),
                float: pa.array([], pa.float64()), bool: pa.array([], pa.bool_())}  # fmt: skip
    position = list(children).index(type(value))
    arrays = list(children.values())
    arrays[position] = pa.array([value], arrays[position].type)
    names = ["string", "bytes", "bigint", "float", "bool"]
    return pa.UnionArray.from_dense(pa.array([position], pa.int8()), pa.array([0], pa.int32()), arrays, names)


@pytest.mark.parametrize(
    "query, value", [("id = ?", 2), ("s = ?", "b"), ("b = ?", False), ("f < ?", 0.1), ("f > ?", 0.7)]
)
def test_values_in_unions_are_bound(client, raw, table, query, value):
    batch = pa.record_batch([dense_union(value)], ["param_0"])
    handle = raw.bind(raw.prepare(f"SELECT id FROM {table} WHERE {query}").handle, batch)
    expected = {2: [2], "b": [2], False: [2], 0.1: [], 0.7: [3]}[value]
    assert [row["id"] for row in rows(client, handle)] == expected


def test_the_handle_of_before_knows_its_values_too(client, raw, table):
    """Clients that pass the answer to a binding over go on with the handle they have."""
    handle = raw.prepare(f"SELECT id FROM {table} WHERE id = ?").handle
    raw.bind(handle, pa.table({"0": [2]}))
    assert rows(client, handle) == [{"id": 2}]
    raw.bind(handle, pa.table({"0": [3]}))
    assert rows(client, handle) == [{"id": 3}]


def test_two_bindings_of_one_statement_do_not_meet(client, raw, table):
    handle = raw.prepare(f"SELECT id FROM {table} WHERE id = ?").handle
    bound = [raw.bind(handle, pa.table({"0": [value]})) for value in (1, 2)]
    assert len(set(bound)) == 2, "a binding answers with a handle of its own"
    assert [rows(client, each) for each in bound] == [[{"id": 1}], [{"id": 2}]]


@pytest.mark.parametrize(
    "query, values",
    [
        ("SELECT id FROM {t} WHERE id = ? AND s = ?", {"0": [1]}),
        ("SELECT id FROM {t} WHERE id = ?", {"0": [1], "1": [2]}),
        ("SELECT id FROM {t}", {"0": [1]}),
        ("SELECT id FROM {t} WHERE id = ?", {"0": ["two"]}),
        ("SELECT id FROM {t} WHERE d = ?", {"0": ["not a date"]}),
        ("SELECT id FROM {t} LIMIT ?", {"0": ["x"]}),
        ("SELECT id FROM {t} LIMIT ?", {"0": [-1]}),
        ("SELECT id FROM {t} WHERE b = ?", {"0": [[1, 2]]}),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(client, raw, table, query, values):
    handle = raw.prepare(query.format(t=table)).handle
    with refused("INVALID_ARGUMENT"):
        rows(client, raw.bind(handle, pa.table(values)))


def test_a_statement_without_its_values_is_refused(client, raw, table):
    handle = raw.prepare(f"SELECT id FROM {table} WHERE id = ?").handle
    with refused("INVALID_ARGUMENT", mentions=["parameter"]):
        rows(client, handle)
    with refused("INVALID_ARGUMENT", mentions=["parameter"]):
        sql(client, f"SELECT id FROM {table} WHERE id = $1")


# Updates


def test_an_update_runs_once_for_each_row_of_values(client, raw, table):
    handle = raw.prepare(f"INSERT INTO {table} (id, s) VALUES (?, ?)").handle
    (result,) = raw.put_table(fs.prepared_update(handle), pa.table({"0": [10, 11, 12], "1": ["x", None, "z"]}))
    assert fs.record_count(result) == 3
    found = sql(client, f"SELECT id, s FROM {table} WHERE id >= 10 ORDER BY id").to_pylist()
    assert found == [{"id": 10, "s": "x"}, {"id": 11, "s": None}, {"id": 12, "s": "z"}]
    handle = raw.prepare(f"DELETE FROM {table} WHERE id = $1").handle
    (result,) = raw.put_table(fs.prepared_update(handle), pa.table({"0": [10, 11, 99]}))
    assert fs.record_count(result) == 2


def test_an_insert_of_many_rows_is_one_version(client, raw, table, name):
    handle = raw.prepare(f"INSERT INTO {table} (id) VALUES (?)").handle
    (result,) = raw.put_table(fs.prepared_update(handle), pa.table({"0": range(1_000)}))
    assert fs.record_count(result) == 1_000
    versions = table_name(name + "$versions")
    assert sql(client, f"SELECT max(version) AS n FROM {versions}")["n"].to_pylist() == [2]


def test_values_that_do_not_fit_an_update_change_nothing(client, raw, table):
    handle = raw.prepare(f"INSERT INTO {table} (id, d) VALUES (?, ?)").handle
    for values in ({"0": [10, 11], "1": ["2024-01-01", "no date"]}, {"0": [10]}, {"0": ["x"], "1": ["2024-01-01"]}):
        with refused("INVALID_ARGUMENT"):
            raw.put_table(fs.prepared_update(handle), pa.table(values))
    assert sql(client, f"SELECT count(*) AS n FROM {table}")["n"].to_pylist() == [3]


def test_a_prepared_statement_sees_what_was_written_since(client, raw, table):
    handle = raw.prepare(f"SELECT count(*) AS n FROM {table}").handle
    assert rows(client, handle) == [{"n": 3}]
    load(client, TABLE, table.replace('"."', "/").strip('"'))
    assert rows(client, handle) == [{"n": 6}]


def test_an_insert_through_the_query_calls_with_values_runs_once(client, raw, table):
    """As sqlalchemy-adbc does: bind, then GetFlightInfo, and perhaps no DoGet."""
    handle = raw.bind(raw.prepare(f"INSERT INTO {table} (id) VALUES (?)").handle, pa.table({"0": [77]}))
    assert raw.query_info(fs.prepared_query(handle)).total_records == 1
    assert sql(client, f"SELECT count(*) AS n FROM {table} WHERE id = 77")["n"].to_pylist() == [1]


def test_an_update_as_jdbc_runs_it(client, raw, table):
    """Prepare, see that there is no dataset schema, send an empty schema and no batch, close."""
    prepared = raw.prepare(f"DELETE FROM {table} WHERE id = 1")
    assert prepared.dataset_schema is None
    empty = next(fs.put_messages(fs.prepared_update(prepared.handle), pa.table({})))
    (result,) = list(raw.put_call([empty]))
    assert fs.record_count(result) == 1
    raw.close(prepared.handle)
    assert sql(client, f"SELECT count(*) AS n FROM {table}")["n"].to_pylist() == [2]


def test_a_query_as_jdbc_runs_it(client, raw, table):
    """Values go in exactly the types that preparing told."""
    prepared = raw.prepare(f"SELECT id, s FROM {table} WHERE id > ? AND d = ? ORDER BY id")
    values = [pa.array([1], pa.int32()).cast(kind) for kind in prepared.parameter_schema.types]
    handle = raw.bind(prepared.handle, pa.table(values, schema=prepared.parameter_schema))
    assert rows(client, handle) == [{"id": 2, "s": "b"}]
    raw.close(handle)


def test_closing_is_always_right(raw, table):
    handle = raw.prepare(f"SELECT id FROM {table}").handle
    for _ in range(2):
        raw.close(handle)


# Handles and tickets


def altered(token: bytes) -> list[bytes]:
    """Return versions of a token that was tampered with."""
    flipped = bytes([token[len(token) // 2] ^ 1])
    middle = token[: len(token) // 2] + flipped + token[len(token) // 2 + 1 :]
    return [middle, token[:-4], token + b"AAAA", b"", b"x" * len(token), token[::-1]]


def test_an_altered_handle_is_refused(client, raw, table):
    handle = raw.prepare(f"SELECT id FROM {table}").handle
    for bad in altered(handle):
        for call in (
            lambda: rows(client, bad),
            lambda: raw.bind(bad, pa.table({"0": [1]})),
            lambda: raw.execute_update(fs.prepared_update(bad)),
        ):
            with refused("INVALID_ARGUMENT"):
                call()


def test_an_altered_ticket_is_refused(client, raw, table):
    ticket = raw.query_info(fs.statement(f"SELECT id FROM {table}")).tickets[0]
    assert client.do_get(flight.Ticket(ticket)).read_all().num_rows == 3
    for bad in altered(ticket):
        with refused("INVALID_ARGUMENT", "UNIMPLEMENTED"):
            client.do_get(flight.Ticket(bad)).read_all()


def test_a_handle_is_no_ticket_and_a_ticket_no_handle(client, raw, table):
    handle = raw.prepare(f"SELECT id FROM {table}").handle
    with refused("INVALID_ARGUMENT"):
        client.do_get(flight.Ticket(handle)).read_all()
    ticket = raw.query_info(fs.statement(f"SELECT id FROM {table}")).tickets[0]
    signed = fs.unpacked(ticket, "TicketStatementQuery")[1] if ticket.startswith(b"\n") else ticket
    with refused("INVALID_ARGUMENT"):
        rows(client, signed)


def resigned(token: bytes, key: str, **claims: object) -> bytes:
    """Return a signed token with other claims, signed anew."""
    header, payload, _ = token.split(b".")
    content = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))) | claims
    payload = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")
    signature = hmac.new(key.encode(), header + b"." + payload, hashlib.sha256).digest()
    return header + b"." + payload + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def test_a_token_of_another_time_caller_or_key_is_refused(start_server):
    server = start_server(handle_key=KEY)
    with server.connect() as client, fs.raw_sql(server.flight) as raw:
        load(client, TABLE, "own/data")
        handle = raw.prepare("SELECT count(*) AS n FROM own.data").handle
        assert rows(client, resigned(handle, KEY)) == [{"n": 3}], "the token is signed as this test does it"
        for bad in (
            resigned(handle, KEY, exp=1),
            resigned(handle, KEY, sub="somebody else"),
            resigned(handle, KEY, tenant="another"),
            resigned(handle, KEY, iss="another"),
            resigned(handle, "another key of at least thirty-two bytes here"),
        ):
            with refused("INVALID_ARGUMENT"):
                rows(client, bad)
        header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=")
        with refused("INVALID_ARGUMENT"):
            rows(client, header + b"." + handle.split(b".")[1] + b".")


@pytest.mark.parametrize("key", [None, KEY], ids=["kept", "given"])
def test_a_second_server_serves_the_handles_of_the_first(start_server, key):
    first, second = start_server(handle_key=key), start_server(handle_key=key)
    with (
        first.connect() as client,
        second.connect() as other,
        fs.raw_sql(first.flight) as raw,
        fs.raw_sql(second.flight) as raw_other,
    ):
        load(client, TABLE, "own/data")
        query = "SELECT id FROM own.data WHERE id >= ? ORDER BY id"
        bound = raw.bind(raw.prepare(query).handle, pa.table({"0": [2]}))
        assert rows(other, bound) == rows(client, bound) == [{"id": 2}, {"id": 3}]
        rebound = raw_other.bind(bound, pa.table({"0": [3]}))
        assert rows(client, rebound) == [{"id": 3}]
        for ticket in raw.query_info(fs.statement("SELECT id FROM own.data")).tickets:
            assert other.do_get(flight.Ticket(ticket)).read_all().num_rows == 3
        insert = raw.prepare("INSERT INTO own.data (id) VALUES (?)").handle
        (result,) = raw_other.put_table(fs.prepared_update(insert), pa.table({"0": [4]}))
        assert fs.record_count(result) == 1
        assert sql(client, "SELECT count(*) AS n FROM own.data")["n"].to_pylist() == [4]


def test_a_server_with_another_key_does_not(start_server):
    first, second = start_server(handle_key=KEY), start_server(handle_key=KEY[::-1])
    with first.connect() as client, second.connect() as other, fs.raw_sql(first.flight) as raw:
        load(client, TABLE, "own/data")
        with refused("INVALID_ARGUMENT"):
            rows(other, raw.prepare("SELECT id FROM own.data").handle)
        with refused("INVALID_ARGUMENT"):
            other.do_get(flight.Ticket(raw.query_info(fs.statement("SELECT id FROM own.data")).tickets[0])).read_all()


def test_a_handle_outlives_its_server(start_server):
    first = start_server()
    with first.connect() as client, fs.raw_sql(first.flight) as raw:
        load(client, TABLE, "own/data")
        handle = raw.bind(raw.prepare("SELECT id FROM own.data WHERE id = ?").handle, pa.table({"0": [2]}))
    assert first.stop() == 0
    with start_server().connect() as client:
        assert rows(client, handle) == [{"id": 2}]


def test_a_ticket_holds_what_was_there(client, raw, table, name):
    """A ticket is of its moment: what is fetched is what was counted."""
    info = raw.query_info(fs.statement(f"SELECT id FROM {table}"))
    load(client, TABLE, name)
    assert client.do_get(flight.Ticket(info.tickets[0])).read_all().num_rows == 3
    assert (
        raw.query_info(wire.pack_any(wire.STATEMENT_QUERY, wire.text(1, f"SELECT id FROM {table}"))).tickets
        != info.tickets
    )
