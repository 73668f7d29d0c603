"""Flight SQL statements on the wire: one schema wherever it is told, writes that run once, messages of bounded size."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import flight_sql as fs
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from frames import load, refused, sql, sql_by_ticket, table_name

LIMIT = 4 * 1024 * 1024


def kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Yield a type and those nested in it."""
    yield kind
    for position in range(kind.num_fields):
        yield from kinds(kind.field(position).type)


def assert_plain(schema: pa.Schema) -> None:
    """Check that a schema has no type that old clients misread: no views, dictionaries, run ends or large offsets."""
    bad = (
        pa.types.is_string_view, pa.types.is_binary_view, pa.types.is_dictionary, pa.types.is_run_end_encoded,
        pa.types.is_list_view, pa.types.is_large_list_view, pa.types.is_large_string, pa.types.is_large_binary,
    )  # fmt: skip
    for field in schema:
        for kind in kinds(field.type):
            assert not any(check(kind) for check in bad), field


# One schema


TYPES = {
    "bool": (pa.bool_(), [True, None]),
    "int8": (pa.int8(), [-128, None]),
    "int16": (pa.int16(), [-32_768, None]),
    "int32": (pa.int32(), [1, None]),
    "int64": (pa.int64(), [1 << 62, None]),
    "uint8": (pa.uint8(), [255, None]),
    "uint16": (pa.uint16(), [65_535, None]),
    "uint32": (pa.uint32(), [1 << 31, None]),
    "uint64": (pa.uint64(), [(1 << 64) - 1, None]),
    "float16": (pa.float16(), [0.5, None]),
    "float32": (pa.float32(), [0.5, None]),
    "float64": (pa.float64(), [0.1, None]),
    "string": (pa.string(), ["a", None]),
    "large_string": (pa.large_string(), ["a", None]),
    "string_view": (pa.string_view(), ["a string that is longer than twelve bytes", None]),
    "binary": (pa.binary(), [b"\0", None]),
    "large_binary": (pa.large_binary(), [b"\0", None]),
    "fixed_binary": (pa.binary(3), [b"abc", None]),
    "date32": (pa.date32(), [1, None]),
    "date64": (pa.date64(), [86_400_000, None]),
    "time32": (pa.time32("ms"), [1, None]),
    "time64": (pa.time64("ns"), [1, None]),
    "timestamp_s": (pa.timestamp("s"), [1, None]),
    "timestamp_ns": (pa.timestamp("ns"), [1, None]),
    "timestamp_utc": (pa.timestamp("us", "UTC"), [1, None]),
    "timestamp_zone": (pa.timestamp("us", "Europe/Rome"), [1, None]),
    "duration": (pa.duration("us"), [1, None]),
    "decimal": (pa.decimal128(12, 2), [1, None]),
    "decimal_38": (pa.decimal128(38, 10), [1, None]),
    "decimal_76": (pa.decimal256(76, 4), [1, None]),
    "list": (pa.list_(pa.string()), [["a", None], None]),
    "large_list": (pa.large_list(pa.int8()), [[1], None]),
    "fixed_list": (pa.list_(pa.int32(), 2), [[1, 2], None]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.string_view())]), [{"a": 1, "b": "x"}, None]),
    "map": (pa.map_(pa.string(), pa.int32()), [[("k", 1)], None]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["a", None]),
    "null": (pa.null(), [None, None]),
    "list_of_struct": (pa.list_(pa.struct([("d", pa.date32())])), [[{"d": 0}], None]),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_column_of_each_type_has_one_schema_everywhere(server, client, name, kind):
    load(client, pa.table({"id": [1, 2], "c": pa.array(TYPES[kind][1], TYPES[kind][0])}), name)
    query = f"SELECT id, c, c AS again, coalesce(c, c) AS same FROM {table_name(name)} ORDER BY id"
    table = fs.fetch(client, fs.statement(query))
    assert_plain(table.schema)
    assert table["c"].null_count == table["same"].null_count == (2 if kind == "null" else 1)
    with fs.raw_sql(server.flight) as raw:
        prepared = raw.prepare(query)
        assert prepared.dataset_schema.equals(table.schema, check_metadata=True)
        assert fs.fetch(client, fs.prepared_query(prepared.handle)).equals(table)


EXPRESSIONS = [
    "count(*), sum(i), avg(i), min(s), max(f), stddev(f)",
    "count(*) FILTER (WHERE i > 1), bool_or(i > 1), array_agg(s ORDER BY s), string_agg(s, ',' ORDER BY s)",
    "CASE WHEN count(*) > 1 THEN 'many' END, 1, 'a', NULL, TRUE, 1.5, 1e300, X'00ff'",
    "coalesce(min(i), 0), nullif(max(s), 'b'), arrow_cast(max(s), 'Utf8View'), arrow_cast(max(s), 'LargeUtf8')",
    "arrow_cast(max(s), 'Dictionary(Int32, Utf8)'), CAST(sum(i) AS DECIMAL(38, 4)), CAST(1 AS DECIMAL(76, 0))",
    "INTERVAL '1 month 2 days', DATE '2024-01-01', TIMESTAMP '2024-01-01T00:00:00', TIME '12:00:00', now()",
    "make_array(1, NULL), named_struct('a', 1, 'b', 's'), MAP {'a': 1}, make_array(make_array('x'))",
    "date_trunc('day', now()), extract(year FROM now()), DATE '2024-01-02' - DATE '2024-01-01'",
    "arrow_cast(1, 'Timestamp(Second, Some(\"+02:00\"))'), arrow_cast('a', 'BinaryView')",
    "arrow_cast(1, 'Duration(Second)'), arrow_cast(1, 'Date64'), arrow_cast('12:00:00', 'Time32(Second)')",
]


@pytest.mark.parametrize("items", EXPRESSIONS)
def test_expressions_have_one_schema_everywhere(server, client, name, items):
    load(client, pa.table({"i": [1, 2, None], "s": ["a", "b", None], "f": [0.5, 1.5, None]}), name)
    for where in ("", " WHERE i < 0"):
        query = f"SELECT {items} FROM {table_name(name)}{where}"
        table = fs.fetch(client, fs.statement(query))
        assert_plain(table.schema)
        with fs.raw_sql(server.flight) as raw:
            assert raw.prepare(query).dataset_schema.equals(table.schema, check_metadata=True)


@pytest.mark.parametrize(
    "shape",
    [
        "SELECT i, s FROM {t} UNION ALL SELECT 1, 'x'",
        "SELECT i, s FROM {t} UNION SELECT NULL, NULL",
        "SELECT a.i, b.s FROM {t} a LEFT JOIN {t} b ON a.i = b.i AND b.i > 1",
        "SELECT a.i, b.s FROM {t} a FULL JOIN {t} b ON a.i = b.i",
        "SELECT i, row_number() OVER (ORDER BY i), lag(s) OVER (ORDER BY i), sum(i) OVER () FROM {t}",
        "SELECT DISTINCT s FROM {t}",
        "SELECT s, count(*) FROM {t} GROUP BY ROLLUP(s)",
        "SELECT i FROM {t} WHERE i IN (SELECT max(i) FROM {t})",
        "SELECT (SELECT max(s) FROM {t}) AS m, i FROM {t}",
        "SELECT unnest(make_array(i, 1)) FROM {t}",
        "SELECT DISTINCT (i > 1) IS NOT FALSE, coalesce(s, '') FROM {t}",
        "VALUES (1, 'a'), (2, NULL)",
        "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT x FROM n",
        "EXPLAIN SELECT i FROM {t}",
        "SHOW TABLES",
    ],
)
def test_queries_have_one_schema_everywhere(server, client, name, shape):
    load(client, pa.table({"i": [1, 2, None], "s": ["a", "b", None]}), name)
    query = shape.format(t=table_name(name))
    table = fs.fetch(client, fs.statement(query))
    assert_plain(table.schema)
    with fs.raw_sql(server.flight) as raw:
        assert raw.prepare(query).dataset_schema.equals(table.schema, check_metadata=True)
    assert sql_by_ticket(client, query).schema.equals(table.schema, check_metadata=True)


# Streams


def test_an_empty_result_sends_its_schema(server, client, name):
    load(client, pa.table({"i": [1], "s": ["a"]}), name)
    with fs.raw_sql(server.flight) as raw:
        info = raw.query_info(fs.statement(f"SELECT i, s FROM {table_name(name)} WHERE i > 5"))
        assert info.schema.names == ["i", "s"] and len(info.tickets) == 1 and not info.locations
        first = dict(wire.fields(next(raw.get(info.tickets[0]))))
    assert fs.read_schema(b"\xff\xff\xff\xff" + len(first[2]).to_bytes(4, "little") + first[2]).equals(info.schema)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT repeat('x', 1000) AS s FROM generate_series(1, 20000)",
        "SELECT make_array(repeat('x', 500), repeat('y', 500)) AS s FROM generate_series(1, 10000)",
        "SELECT value, value + 1, value * 2, CAST(value AS VARCHAR) AS s FROM generate_series(1, 300000)",
    ],
)
def test_messages_stay_below_what_clients_take_by_default(server, query):
    """gRPC's own clients take four megabytes."""
    with fs.raw_sql(server.flight, max_receive=LIMIT) as raw:
        sizes = [len(message) for message in raw.get(raw.query_info(fs.statement(query)).tickets[0])]
    assert max(sizes) < LIMIT
    assert sum(sizes) > 2 * LIMIT


def test_one_row_that_is_larger_comes_alone(server, client, name):
    words = ["a", "x" * (6 << 20), "b"]
    load(client, pa.table({"s": words}), name)
    assert sql(client, f"SELECT s FROM {table_name(name)}")["s"].to_pylist() == words
    with fs.raw_sql(server.flight, max_receive=64 << 20) as raw:
        info = raw.query_info(fs.statement(f"SELECT s FROM {table_name(name)}"))
        sizes = sorted(len(message) for message in raw.get(info.tickets[0]))
    assert sizes[-1] < (6 << 20) + 10_000
    assert sizes[-2] < LIMIT


# Writes


@pytest.fixture
def numbers(client, name) -> str:
    """The SQL name of a table with one column and three rows."""
    load(client, pa.table({"x": [1, 2, 3]}), name)
    return table_name(name)


def content(client: flight.FlightClient, table: str) -> list[int]:
    """Return the column of such a table, sorted."""
    return sql(client, f"SELECT x FROM {table} ORDER BY x")["x"].to_pylist()


@pytest.mark.parametrize(
    "statement, count, left",
    [
        ("INSERT INTO {t} VALUES (4), (5)", 2, [1, 2, 3, 4, 5]),
        ("INSERT INTO {t} SELECT x + 10 FROM {t}", 3, [1, 2, 3, 11, 12, 13]),
        ("DELETE FROM {t} WHERE x >= 2", 2, [1]),
        ("DELETE FROM {t} WHERE x > 100", 0, [1, 2, 3]),
        ("DELETE FROM {t}", 3, []),
        ("UPDATE {t} SET x = x + 1 WHERE x > 1", 2, [1, 3, 4]),
        ("TRUNCATE TABLE {t}", 3, []),
        ("MERGE INTO {t} USING (VALUES (3), (4)) s(x) ON {t}.x = s.x WHEN MATCHED THEN UPDATE SET x = 30 "
         "WHEN NOT MATCHED THEN INSERT (x) VALUES (s.x)", 2, [1, 2, 4, 30]),
    ],
    ids=["insert", "insert_select", "delete", "delete_none", "delete_all", "update", "truncate", "merge"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["update", "query", "prepared_update", "prepared_query", "poll", "ticket"])
def test_a_write_is_run_once_whichever_call_carries_it(server, client, numbers, statement, count, left, way):
    """The result of a query call need not be fetched, and may be fetched more than once."""
    text = statement.format(t=numbers)
    with fs.raw_sql(server.flight) as raw:
        match way:
            case "update":
                assert raw.execute_update(fs.update(text)) == count
            case "prepared_update":
                assert raw.execute_update(fs.prepared_update(raw.prepare(text).handle)) == count
            case "ticket":
                assert sql_by_ticket(client, text).to_pydict() == {"count": [count]}
            case "poll":
                poll = raw.poll(wire.command_descriptor(fs.statement(text)))
                assert fs.read_info(poll[1]).total_records == count and 2 not in poll
            case _:
                message = fs.prepared_query(raw.prepare(text).handle) if way == "prepared_query" else fs.statement(text)
                info = raw.query_info(message)
                assert info.total_records == count
                assert content(client, numbers) == left
                for _ in range(2):
                    result = client.do_get(flight.Ticket(info.tickets[0])).read_all()
                    assert result.schema.equals(info.schema)
    assert content(client, numbers) == left


def test_what_only_asks_runs_nothing(server, client, numbers):
    text = f"INSERT INTO {numbers} VALUES (4)"
    with fs.raw_sql(server.flight) as raw:
        assert raw.prepare(text).dataset_schema is None
        raw.schema(fs.statement(text))
    for explain in ("EXPLAIN", "EXPLAIN ANALYZE"):
        try:
            sql(client, f"{explain} {text}")
        except pa.ArrowInvalid as error:
            assert "[INVALID_ARGUMENT]" in str(error)
    assert content(client, numbers) == [1, 2, 3]


def test_tables_come_and_go(server, client, name):
    table = table_name(name)
    with fs.raw_sql(server.flight) as raw:
        assert raw.execute_update(fs.update(f"CREATE TABLE {table} (id BIGINT NOT NULL, s VARCHAR, d DATE)")) == 0
        schema = sql(client, f"SELECT * FROM {table}").schema
        assert schema.names == ["id", "s", "d"] and schema.types == [pa.int64(), pa.string(), pa.date32()]
        with refused("ALREADY_EXISTS"):
            raw.execute_update(fs.update(f"CREATE TABLE {table} (id BIGINT)"))
        raw.execute_update(fs.update(f"CREATE TABLE IF NOT EXISTS {table} (id BIGINT)"))
        raw.execute_update(fs.update(f"DROP TABLE {table}"))
        with refused("NOT_FOUND"):
            raw.execute_update(fs.update(f"DROP TABLE {table}"))
        raw.execute_update(fs.update(f"DROP TABLE IF EXISTS {table}"))
        assert raw.execute_update(fs.update(f"CREATE TABLE {table} AS SELECT 1 AS x UNION ALL SELECT 2")) in (2, 0)
    assert content(client, table) == [1, 2]


def test_an_update_is_answered_before_the_client_ends_its_stream(server, client, numbers):
    """Superset's driver waits for the count before it half-closes; the server must not wait for that."""
    messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    messages.put(wire.flight_data(wire.command_descriptor(fs.update(f"INSERT INTO {numbers} VALUES (4)"))))
    with fs.raw_sql(server.flight) as raw:
        call = raw.put_call(iter(messages.get, None))
        assert fs.record_count(next(call)) == 1
        messages.put(None)
        assert list(call) == []
    assert content(client, numbers) == [1, 2, 3, 4]


def test_an_update_may_come_with_an_empty_schema(client, numbers):
    """As pyarrow sends it."""
    descriptor = flight.FlightDescriptor.for_command(fs.update(f"DELETE FROM {numbers} WHERE x = 1"))
    writer, reader = client.do_put(descriptor, fs.NO_SCHEMA)
    assert fs.record_count(wire.text(1, reader.read().to_pybytes())) == 1
    writer.close()
    assert content(client, numbers) == [2, 3]


def test_a_query_as_an_update_is_refused_or_counts_nothing(server, client, numbers):
    with fs.raw_sql(server.flight) as raw:
        try:
            assert raw.execute_update(fs.update(f"SELECT x FROM {numbers}")) in (-1, 0, 3)
        except Exception as error:
            assert error.details().startswith("[INVALID_ARGUMENT]")
    assert content(client, numbers) == [1, 2, 3]


# Refusals


@pytest.mark.parametrize(
    "suffix", ["$versions", "$chunks", "@last", "@version=1", "@key=k", "@as_of=2024-01-01T00:00:00Z"]
)
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {t} VALUES (4)",
        "DELETE FROM {t}",
        "UPDATE {t} SET x = 1",
        "DROP TABLE {t}",
        "CREATE TABLE {t} (x INT)",
        "CREATE TABLE {t} AS SELECT 1 AS x",
        "TRUNCATE TABLE {t}",
    ],
)
def test_names_that_stand_for_versions_cannot_be_written(server, client, name, numbers, suffix, statement):
    written = table_name(name)[:-1] + suffix + '"'
    with fs.raw_sql(server.flight) as raw, refused("INVALID_ARGUMENT"):
        raw.execute_update(fs.update(statement.format(t=written)))
    assert content(client, numbers) == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["SELECT 1; SELECT 2", "INSERT INTO {t} VALUES (4); INSERT INTO {t} VALUES (5)", "", ";", "SELEC 1"]
)
def test_anything_but_one_statement_is_refused_by_every_call(server, client, numbers, text):
    text = text.format(t=numbers)
    with fs.raw_sql(server.flight) as raw:
        for call in (
            lambda: raw.query_info(fs.statement(text)),
            lambda: raw.schema(fs.statement(text)),
            lambda: raw.execute_update(fs.update(text)),
            lambda: raw.prepare(text),
            lambda: raw.poll(wire.command_descriptor(fs.statement(text))),
        ):
            with refused("INVALID_ARGUMENT"):
                call()
    assert content(client, numbers) == [1, 2, 3]


def test_an_unknown_name_suggests_the_nearest(server, start_server):
    with start_server().connect() as client:
        for dataset in ("shop/orders", "shop/customers", "archive/orders"):
            load(client, pa.table({"customer": ["a"]}), dataset)
        for query, word in {
            "SELECT * FROM shop.ordrs": "orders",
            "SELECT * FROM shop.costumers": "customers",
            "SELECT * FROM shp.orders": "shop",
            "SELECT costumer FROM shop.orders": "customer",
        }.items():
            with refused("NOT_FOUND", "INVALID_ARGUMENT", mentions=[word]):
                sql(client, query)


@pytest.mark.parametrize("call", ["query", "update", "prepare"])
def test_a_transaction_is_refused(server, client, numbers, call):
    text = f"INSERT INTO {numbers} VALUES (4)"
    with fs.raw_sql(server.flight) as raw, refused("INVALID_ARGUMENT", "UNIMPLEMENTED"):
        match call:
            case "query":
                raw.query_info(fs.statement(text, b"t1"))
            case "update":
                raw.execute_update(fs.update(text, b"t1"))
            case "prepare":
                raw.prepare(text, b"t1")
    assert content(client, numbers) == [1, 2, 3]


def test_what_is_not_offered_says_so(server):
    plan = wire.text(1, wire.text(1, b"plan") + wire.text(2, "0.50"))
    with fs.raw_sql(server.flight) as raw:
        substrait = fs.command("CommandStatementSubstraitPlan", plan)
        for call in (
            lambda: raw.query_info(substrait),
            lambda: raw.schema(substrait),
            lambda: raw.execute_update(substrait),
            lambda: raw.action(
                "CreatePreparedSubstraitPlan", fs.command("ActionCreatePreparedSubstraitPlanRequest", plan)
            ),
            lambda: raw.action("BeginTransaction", fs.command("ActionBeginTransactionRequest")),
            lambda: raw.action(
                "EndTransaction", fs.command("ActionEndTransactionRequest", wire.text(1, b"t") + wire.number(2, 1))
            ),
            lambda: raw.action(
                "BeginSavepoint", fs.command("ActionBeginSavepointRequest", wire.text(1, b"t") + wire.text(2, "s"))
            ),
            lambda: raw.action(
                "EndSavepoint", fs.command("ActionEndSavepointRequest", wire.text(1, b"t") + wire.number(2, 1))
            ),
        ):
            with refused("UNIMPLEMENTED"):
                call()


@pytest.mark.parametrize(
    "name_of_command", ["CommandStatementUpdate", "CommandStatementIngest", "CommandPreparedStatementUpdate"]
)
def test_a_command_of_another_call_is_refused(server, name_of_command):
    with fs.raw_sql(server.flight) as raw:
        for call in (raw.query_info, raw.schema):
            with refused("INVALID_ARGUMENT"):
                call(fs.command(name_of_command, wire.text(1, "SELECT 1")))
        with refused("INVALID_ARGUMENT"):
            raw.execute_update(fs.statement("SELECT 1"))


@pytest.mark.parametrize(
    "name_of_command",
    [
        "CommandStatementQuery",
        "CommandPreparedStatementQuery",
        "CommandStatementUpdate",
        "CommandPreparedStatementUpdate",
        "CommandStatementIngest",
        "CommandNonsense",
    ],
)
@pytest.mark.parametrize("body", [b"\x0a\xff", b"\xff", b"\x0a\x02\xff\xfe"], ids=["cut", "tag", "utf8"])
def test_a_damaged_command_is_refused(server, name_of_command, body):
    message = fs.command(name_of_command, body)
    with fs.raw_sql(server.flight) as raw:
        for call in (raw.query_info, raw.execute_update):
            with refused("INVALID_ARGUMENT", "UNIMPLEMENTED"):
                call(message)


def test_an_empty_put_is_refused_and_hangs_nobody(server):
    with fs.raw_sql(server.flight) as raw, refused("INVALID_ARGUMENT"):
        list(raw.put_call([]))
