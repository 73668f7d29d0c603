"""Requests that are wrong: refused with the right code and words, nothing visible afterwards, the server unharmed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from frames import assert_absent, get, list_names, load, put, refused, sql

TABLE = pa.table({"day": pa.array([0, 1, 2], pa.date32()), "x": [1, 2, 3], "s": ["a", "b", "c"]})


@pytest.fixture(autouse=True)
def still_answers(server, client):
    """Check after each test that the same process still serves."""
    yield
    assert server.process.poll() is None
    assert sql(client, "SELECT 1 AS one").to_pydict() == {"one": [1]}
    probe = "test_bad_input/probe"
    load(client, TABLE, probe, keep_last=True)
    assert get(client, probe).equals(TABLE)


# Keys


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"nope": "Date"}, ["nope"]),
        ({"nope": "ID"}, ["nope"]),
        ({"day": "Date", "X": "ID"}, ["X"]),
        ({"x": "Date"}, ["x", "Date"]),
        ({"s": "ID"}, ["s", "ID"]),
        ({"day": "ID"}, ["day", "ID"]),
        ({"v": "ID"}, ["v", "ID"]),
        ({"v": "Date"}, ["v", "Date"]),
        ({"b": "Date"}, ["b", "Date"]),
        ({"day": "date"}, ["day", "date"]),
        ({"day": ""}, ["day"]),
        ({"day": "Hash"}, ["day", "Hash"]),
        ({"": "Date"}, []),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("rows", [3, 0])
def test_a_key_that_the_frame_cannot_have(client, name, keys, words, rows):
    table = (
        TABLE.append_column("v", pa.array([1.0, 2.0, 3.0]))
        .append_column("b", pa.array([True, False, True]))
        .slice(0, rows)
    )
    with refused("INVALID_ARGUMENT", mentions=words):
        load(client, table, name, columns_keys=keys)
    assert_absent(client, name)


@pytest.mark.parametrize(
    "value",
    [
        "not-a-date",
        "2024-13-01",
        "2023-02-29",
        "2024-01-32",
        "",
        " ",
        "2024-01-01x",
        "01/02/2024",
        "20240",
        "2024-01-01T25:00:00",
        "yesterday",
    ],
)
def test_an_unreadable_date_names_column_row_and_value(client, name, value):
    """The bad row is number 1,234 of 3,000 (or 1,235, if one counts from 1), in a later batch than the first."""
    texts = ["2024-01-01"] * 3_000
    texts[1_234] = value
    with refused("INVALID_ARGUMENT", mentions=["sold_at", value]) as caught:
        load(
            client,
            pa.table({"x": range(3_000), "sold_at": texts}),
            name,
            columns_keys={"sold_at": "Date"},
            batch_rows=1_000,
        )
    message = caught.value.args[0].replace(",", "")
    assert "row 1234" in message or "row 1235" in message, message
    assert_absent(client, name)


def test_an_unreadable_date_in_a_category_is_named(client, name):
    column = pa.array(["2024-01-01", "garbage", "2024-01-01"]).dictionary_encode()
    with refused("INVALID_ARGUMENT", mentions=["sold_at", "garbage"]):
        load(client, pa.table({"sold_at": column}), name, columns_keys={"sold_at": "Date"})
    assert_absent(client, name)


def test_a_category_that_no_row_uses_need_not_be_a_date(client, name):
    column = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), ["2024-01-01", "garbage"])
    assert load(client, pa.table({"sold_at": column}), name, columns_keys={"sold_at": "Date"})["version"] == 1


def test_keys_that_contradict_the_dataset_are_refused(client, name):
    load(client, TABLE, name, columns_keys={"day": "Date"})
    assert load(client, TABLE, name, columns_keys={"day": "Date"}, keep_last=True)["version"] == 2
    for keys in ({"x": "ID"}, {"day": "ID"}, {"day": "Date", "x": "ID"}):
        with refused("INVALID_ARGUMENT"):
            load(client, TABLE, name, columns_keys=keys)
    assert get(client, name).equals(TABLE)
    assert load(client, TABLE, name)["version"] == 3


def test_too_many_partitions_are_refused(client, name):
    days = pa.array(range(10_000), pa.int32()).cast(pa.date32())
    with refused("RESOURCE_EXHAUSTED", mentions=["partition"]):
        load(client, pa.table({"day": days}), name, columns_keys={"day": "Date"})
    assert_absent(client, name)


# Names


BAD_NAMES = [
    "", "/", "a//b", "/a", "a/", ".", "..", "a/../b", "../../etc/passwd", ".hidden", "trailing.", " a", "a ", "a/ b", "x" * 129,
    "/".join(["x" * 100] * 6), "a\\b", "a:b", "a*b", "a?b", "a|b", 'a"b', "a'b", "a<b>", "a%2fb", "a@b", "a$b", "a#b", "a;b", "a,b", "a=b",
    "a\nb", "a\tb", "a\u0000b", "a\u007fb", "a\u200bb", "a\u202eb", "a\u00a0b", "🦀", "public", "public/x", "information_schema", "information_schema/tables",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_NAMES, ids=lambda bad: ascii(bad)[:30])
def test_a_bad_name_is_refused_wherever_it_is_given(client, bad):
    for as_json in (False, True):
        with refused("INVALID_ARGUMENT"):
            load(client, TABLE, bad, as_json=as_json)
        with refused("INVALID_ARGUMENT"):
            get(client, bad, as_json=as_json)
    with refused("INVALID_ARGUMENT"):
        put(client, flight.FlightDescriptor.for_path(bad), TABLE)
    with refused("INVALID_ARGUMENT"):
        client.get_flight_info(flight.FlightDescriptor.for_path(bad))
    assert bad not in list_names(client)


def test_a_path_of_no_segments_is_refused(server):
    batch = wire.ipc_messages(TABLE)
    with wire.RawFlight(server.flight) as raw, refused("INVALID_ARGUMENT"):
        raw.put([wire.flight_data(wire.path_descriptor(), batch[0][0]), wire.flight_data(None, *batch[1])])
    with wire.RawFlight(server.flight) as raw, refused("INVALID_ARGUMENT"):
        raw.info(b"")


@pytest.mark.parametrize("key", ["", "a@b", "a\nb", "a\u0000", "k" * 257], ids=lambda key: ascii(key)[:20])
def test_a_bad_external_key_is_refused(client, name, key):
    with refused("INVALID_ARGUMENT", mentions=["external_key"]):
        load(client, TABLE, name, external_key=key)
    assert_absent(client, name)
    assert load(client, TABLE, name, external_key="k" * 256)["external_key"] == "k" * 256


# Commands


COMMANDS = {
    "not_a_message": b"hello",
    "binary": b"\xff\x00\xff",
    "empty": b"",
    "unknown_type": wire.pack_any("type.googleapis.com/pandas_db.v1.Nonsense", b""),
    "foreign_type": wire.pack_any("type.googleapis.com/google.protobuf.Empty", b""),
    "type_of_another_call": wire.pack_any(wire.GET_DATAFRAME, wire.text(1, "a/b")),
    "cut": wire.load_dataframe({"dataframe_name": "a/b"})[:-2],
    "bad_utf8": wire.pack_any(wire.LOAD_DATAFRAME, wire.text(1, b"\xff\xfe")),
    "json_cut": b'{"dataframe_name": "a/b"',
    "json_no_name": b"{}",
    "json_unknown_field": b'{"dataframe_name": "a/b", "keep_lst": true}',
    "json_wrong_type": b'{"dataframe_name": "a/b", "keep_last": "yes"}',
    "json_name_is_a_number": b'{"dataframe_name": 7}',
    "json_fraction": b'{"dataframe_name": "a/b", "total_rows": 1.5}',
    "json_too_large": b'{"dataframe_name": "a/b", "total_rows": 99999999999999999999}',
    "json_negative": b'{"dataframe_name": "a/b", "total_rows": -1}',
    "json_keys_are_a_list": b'{"dataframe_name": "a/b", "columns_keys": ["day"]}',
    "json_deep": b'{"dataframe_name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "json_bad_utf8": b'{"dataframe_name": "\xff"}',
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_an_unknown_command_is_refused(server, client, command):
    schema, batch = wire.ipc_messages(TABLE)[:2]
    with wire.RawFlight(server.flight) as raw, refused("INVALID_ARGUMENT", "UNIMPLEMENTED"):
        raw.put([wire.flight_data(wire.command_descriptor(command), schema[0]), wire.flight_data(None, *batch)])
    assert_absent(client, "a/b")


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c not in ("type_of_another_call", "json_too_large", "json_fraction", "json_negative")],
)
def test_an_unknown_command_is_refused_for_reads_too(client, command):
    with refused("INVALID_ARGUMENT", "UNIMPLEMENTED"):
        client.get_flight_info(flight.FlightDescriptor.for_command(COMMANDS[command]))
    with refused("INVALID_ARGUMENT", "UNIMPLEMENTED"):
        client.get_schema(flight.FlightDescriptor.for_command(COMMANDS[command]))


def test_an_unknown_action_is_refused(client):
    with refused("INVALID_ARGUMENT", "UNIMPLEMENTED", mentions=["no_such_action"]):
        list(client.do_action(flight.Action("no_such_action", b"")))


# Streams that end early


def endless(name: str) -> Iterator[bytes]:
    """Yield the messages of a load by path that goes on until its call ends."""
    (schema, _), (header, body) = wire.ipc_messages(pa.record_batch({"x": range(65_536)}))
    yield wire.flight_data(wire.path_descriptor(*name.split("/")), schema)
    for _ in range(10_000):
        yield wire.flight_data(None, header, body)


def test_a_load_that_is_cancelled_leaves_nothing(server, client, name):
    """The client ends the call, once the server has told that rows have arrived."""
    with wire.RawFlight(server.flight) as raw:
        call = raw.open_put(endless(name))
        assert wire.load_result(next(call))["state"] == "receiving"
        call.cancel()
    assert_absent(client, name)


def test_a_cancelled_load_leaves_an_existing_dataset_as_it_was(server, client, name):
    load(client, TABLE.select(["x"]), name)
    with wire.RawFlight(server.flight) as raw:
        call = raw.open_put(endless(name))
        next(call)
        call.cancel()
    assert get(client, name)["x"].to_pylist() == [1, 2, 3]
    assert load(client, TABLE.select(["x"]), name)["version"] == 2


# Limits


def test_a_message_over_the_limit_is_refused(start_server):
    server = start_server(max_message_size=1 << 20)
    table = pa.table({"x": range(1_000_000)})
    with server.connect() as client:
        with refused("RESOURCE_EXHAUSTED"):
            load(client, table, "own/data", batch_rows=1_000_000)
        with refused("NOT_FOUND"):
            get(client, "own/data")
        assert load(client, table, "own/data", batch_rows=10_000)["version"] == 1


def test_an_extension_that_makes_clients_run_code_is_not_passed_on(client, name):
    """arrow.py_extension_type is unpickled by old versions of pyarrow."""
    field = pa.field(
        "x",
        pa.int64(),
        metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": "gASV"},
    )
    table = pa.table([pa.array([1])], pa.schema([field]))
    try:
        load(client, table, name)
    except pa.ArrowInvalid as error:
        assert "arrow.py_extension_type" in str(error)
        assert_absent(client, name)
    else:
        assert b"arrow.py_extension_type" not in get(client, name).schema.serialize().to_pybytes()


def test_dates_at_the_edge_of_what_can_be_written(client, name):
    """A year outside 1 to 9999 has no folder name that readers agree on; either it works or it is refused, by name."""
    far = pa.table({"day": pa.array([2_932_897 + 365], pa.date32())})
    try:
        load(client, far, name, columns_keys={"day": "Date"})
    except pa.ArrowInvalid as error:
        assert "day" in str(error)
        assert_absent(client, name)
    else:
        assert get(client, name).equals(far)
