"""Bulk ingest on the wire: the four modes, its options, and what is refused."""

from __future__ import annotations

import json

import flight_sql as fs
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from frames import assert_absent, assert_tables_equal, get, list_names, load, refused, sql, table_name

TABLE = pa.table({"day": pa.array([0, 1, 1], pa.date32()), "id": [1, 2, 3], "s": ["a", "b", None]})


@pytest.fixture
def raw(server):
    """A client without a library."""
    with fs.raw_sql(server.flight) as client:
        yield client


def send(raw: fs.RawSql, name: str, table: pa.Table = TABLE, **fields) -> int:
    """Ingest a table into a dataset, and return the count."""
    *schema, last = name.split("/")
    (result,) = raw.put_table(fs.ingest(last, schema="/".join(schema) or None, **fields), table)
    return fs.record_count(result)


@pytest.mark.parametrize("mode", ["create", "append", "replace", "create_append"])
def test_a_table_that_is_not_there(client, raw, name, mode):
    if mode == "append":
        with refused("NOT_FOUND"):
            send(raw, name, mode=fs.MODES[mode])
        assert_absent(client, name)
    else:
        assert send(raw, name, mode=fs.MODES[mode]) == 3
        assert_tables_equal(get(client, name), TABLE)


@pytest.mark.parametrize("mode", ["create", "append", "replace", "create_append"])
def test_a_table_that_is_there(client, raw, name, mode):
    load(client, TABLE, name)
    other = TABLE.slice(1)
    match mode:
        case "create":
            with refused("ALREADY_EXISTS"):
                send(raw, name, other, mode=fs.MODES[mode])
            assert get(client, name).equals(TABLE)
        case "replace":
            assert send(raw, name, other, mode=fs.MODES[mode]) == 2
            assert get(client, name).equals(other)
        case _:
            assert send(raw, name, other, mode=fs.MODES[mode]) == 2
            assert get(client, name).equals(pa.concat_tables([TABLE, other]))


def test_what_is_replaced_may_have_other_columns_and_leaves_nothing(client, raw, name):
    load(client, TABLE, name, columns_keys={"day": "Date"}, external_key="k")
    other = pa.table({"day": ["not a date"], "x": [1.5]})
    assert send(raw, name, other, mode=fs.MODES["replace"]) == 1
    assert get(client, name).equals(other)
    assert sql(client, f"SELECT * FROM {table_name(name)}").column_names == ["day", "x"]
    assert sql(client, f"SELECT count(*) AS n FROM {table_name(name + '$versions')}")["n"].to_pylist() == [1]
    with refused("NOT_FOUND"):
        get(client, name, external_key="k")


def test_a_replacement_that_fails_leaves_what_was_there(client, raw, name):
    load(client, TABLE, name)
    for fields in ({"options": {"total_rows": "99"}}, {"options": {"columns_keys": '{"s": "ID"}'}}):
        with refused("INVALID_ARGUMENT"):
            send(raw, name, TABLE.slice(1), mode=fs.MODES["replace"], **fields)
    assert get(client, name).equals(TABLE)


@pytest.mark.parametrize(
    "mode", [(0, 0), (0, fs.APPEND), (fs.CREATE, 0), (fs.FAIL_IF_MISSING, fs.FAIL_IF_EXISTS), (9, 9), None], ids=str
)
def test_a_mode_that_says_nothing_is_refused(client, raw, name, mode):
    with refused("INVALID_ARGUMENT"):
        send(raw, name, mode=mode)
    assert_absent(client, name)


def test_the_table_has_what_was_sent(client, raw, name):
    """Types, metadata and all, as with any other load."""
    field = pa.field("c", pa.dictionary(pa.int8(), pa.large_string()), metadata={"k": "v"})
    columns = [
        pa.array(["a", None]).cast(pa.large_string()).dictionary_encode().cast(field.type),
        pa.array(["x", "y"], pa.string_view()),
        pa.array([[1], None], pa.large_list(pa.int32())),
        pa.array([1, 2], pa.duration("us")),
    ]
    schema = pa.schema(
        [field, ("v", pa.string_view()), ("l", pa.large_list(pa.int32())), ("d", pa.duration("us"))],
        metadata={"pandas": "{}"},
    )
    table = pa.table(columns, schema)
    assert send(raw, name, table) == 2
    assert_tables_equal(get(client, name), table)


@pytest.mark.parametrize("rows", [0, 1, 200_000])
def test_the_count_is_that_of_the_rows(client, raw, name, rows):
    table = pa.table({"x": pa.array(range(rows), pa.int64())})
    assert send(raw, name, table) == rows
    assert sql(client, f"SELECT count(*) AS n FROM {table_name(name)}")["n"].to_pylist() == [rows]


def test_a_schema_alone_makes_an_empty_table(client, raw, name):
    *schema, last = name.split("/")
    first = next(fs.put_messages(fs.ingest(last, schema="/".join(schema)), TABLE))
    (result,) = list(raw.put_call([first]))
    assert fs.record_count(result) == 0
    assert get(client, name).equals(TABLE.slice(0, 0))


def test_no_schema_is_refused_and_hangs_nobody(client, raw, name):
    """ADBC opens a DoPut for a table without batches, and sends nothing."""
    for messages in ([], [wire.flight_data(wire.command_descriptor(fs.ingest("x", schema=name)))]):
        with refused("INVALID_ARGUMENT"):
            list(raw.put_call(messages))
    assert_absent(client, f"{name}/x")


# Options


def test_options_are_those_of_a_load(client, raw, name):
    options = {"external_key": "monday", "keep_last": "true", "columns_keys": '{"day": "Date", "id": "ID"}'}
    for _ in range(2):
        assert send(raw, name, mode=fs.MODES["create_append"], options=options) == 3
    versions = sql(
        client, f"SELECT external_key, state FROM {table_name(name + '$versions')} ORDER BY version"
    ).to_pylist()
    assert versions == [{"external_key": "monday", "state": "replaced"}, {"external_key": "monday", "state": "live"}]
    (told,) = client.do_action(flight.Action("describe_dataframe", json.dumps({"dataframe_name": name}).encode()))
    assert json.loads(told.body.to_pybytes())["columns_keys"] == {"day": "Date", "id": "ID"}


def test_an_idempotency_key_stores_once(client, raw, name):
    for _ in range(2):
        assert send(raw, name, mode=fs.MODES["create_append"], options={"idempotency_key": "job-1"}) == 3
    assert get(client, name).num_rows == 3


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"keep_last": "perhaps"},
        {"columns_keys": "{"},
        {"columns_keys": '{"nope": "Date"}'},
        {"external_key": "a@b"},
        {"columns_keys": '{"day": "date"}'},
        {"external_key": ""},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_named(client, raw, name, options):
    (option,) = options
    with refused("INVALID_ARGUMENT", mentions=["nope" if "nope" in str(options) else option]):
        send(raw, name, options=options)
    assert_absent(client, name)


# Names


def test_a_table_without_a_schema_is_public(start_server):
    server = start_server()
    with server.connect() as client, fs.raw_sql(server.flight) as raw:
        assert send(raw, "single") == 3
        assert send(raw, "other", catalog="pandas_db") == 3
        assert send(raw, "a/b/c") == 3
        (result,) = raw.put_table(fs.ingest("third", schema="public", catalog=""), TABLE)
        assert fs.record_count(result) == 3
        assert sorted(list_names(client)) == ["a/b/c", "other", "single", "third"]
        assert send(raw, "Quoted Name") == 3
        assert sql(client, 'SELECT count(*) AS n FROM "Quoted Name"')["n"].to_pylist() == [3]


def test_a_session_schema_is_that_of_tables_without_one(start_server):
    server = start_server()
    with server.connect() as client, fs.raw_sql(server.flight) as raw:
        assert raw.set_options(schema="sales/eu") == {}
        assert send(raw, "2024") == 3
        assert list_names(client) == ["sales/eu/2024"]


@pytest.mark.parametrize(
    "fields", [{"catalog": "other"}, {"temporary": True}, {"transaction": b"t1"}], ids=lambda fields: next(iter(fields))
)
def test_places_that_there_are_not_are_refused(client, raw, name, fields):
    with refused("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"):
        send(raw, name, **fields)
    assert_absent(client, name)


@pytest.mark.parametrize(
    "table",
    ["t$versions", "t$chunks", "t@last", "t@key=k", "", "a/b", ".", "..", "a\nb", "x" * 129, "t;", '"t"'],
    ids=ascii,
)
def test_names_that_no_dataset_can_have_are_refused(server, raw, name, table):
    with refused("INVALID_ARGUMENT"):
        raw.put_table(fs.ingest(table, schema=name), TABLE)
    with server.connect() as client:
        assert list_names(client, name) == []


# Rows that do not fit


@pytest.mark.parametrize("mode", ["append", "create_append"])
def test_a_column_of_another_type_is_named_with_both_types(client, raw, name, mode):
    load(client, TABLE, name)
    with refused("INVALID_ARGUMENT", mentions=["id", "Int64", "Utf8"]):
        send(raw, name, pa.table({"id": ["not a number"]}), mode=fs.MODES[mode])
    assert get(client, name).equals(TABLE)


def test_new_and_missing_columns_are_as_with_any_load(client, raw, name):
    load(client, TABLE, name)
    assert send(raw, name, pa.table({"id": [4], "more": ["x"]}), mode=fs.MODES["append"]) == 1
    found = sql(client, f"SELECT * FROM {table_name(name)} WHERE id = 4").to_pylist()
    assert found == [{"day": None, "id": 4, "s": None, "more": "x"}]


def test_an_ingest_that_is_cut_off_leaves_nothing(client, raw, name):
    *schema, last = name.split("/")
    messages = list(fs.put_messages(fs.ingest(last, schema="/".join(schema)), TABLE))
    bad = wire.flight_data(None, b"\xff" * 40, b"")
    with refused("INVALID_ARGUMENT"):
        list(raw.put_call([*messages, bad]))
    assert_absent(client, name)


def test_the_answer_need_not_be_read(client, name):
    """The client closes its side, and the call ends when the table is there."""
    *schema, last = name.split("/")
    descriptor = flight.FlightDescriptor.for_command(fs.ingest(last, schema="/".join(schema)))
    writer, _ = client.do_put(descriptor, TABLE.schema)
    writer.write_table(TABLE)
    writer.close()
    assert get(client, name).equals(TABLE)
