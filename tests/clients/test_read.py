"""Reads that are not SQL: GetFlightInfo, GetSchema, ListFlights, DoGet with its kinds of tickets."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from frames import assert_tables_equal, get, get_command, get_info, list_names, load, refused, sql_by_ticket

TABLE = pa.table(
    {
        "day": pa.array([i % 5 for i in range(100)], pa.int32()).cast(pa.date32()),
        "x": pa.array(range(100), pa.int32()),
        "s": [None if i % 7 == 0 else f"it's {i}" for i in range(100)],
    }
).replace_schema_metadata({"owner": "ops"})


@pytest.fixture
def loaded(client, name) -> str:
    """The name of a dataset that holds TABLE."""
    load(client, TABLE, name, columns_keys={"day": "Date"})
    return name


# GetFlightInfo, GetSchema, ListFlights


def descriptors(name: str) -> dict[str, flight.FlightDescriptor]:
    """Return the ways to name a dataset in a descriptor."""
    return {
        "segments": flight.FlightDescriptor.for_path(*name.split("/")),
        "one_path": flight.FlightDescriptor.for_path(name),
        "any": flight.FlightDescriptor.for_command(get_command(name)),
        "json": flight.FlightDescriptor.for_command(get_command(name, as_json=True)),
    }


@pytest.mark.parametrize("way", descriptors("a"))
def test_flight_info_tells_schema_and_size_and_how_to_fetch(client, loaded, way):
    info = client.get_flight_info(descriptors(loaded)[way])
    assert info.schema.equals(TABLE.schema, check_metadata=True)
    assert info.total_records == 100
    assert info.total_bytes > 0
    parts = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert_tables_equal(pa.concat_tables(parts), TABLE)


@pytest.mark.parametrize("way", descriptors("a"))
def test_get_schema_gives_the_schema_with_its_metadata(client, loaded, way):
    assert client.get_schema(descriptors(loaded)[way]).schema.equals(TABLE.schema, check_metadata=True)


def test_the_endpoints_name_no_location(client, loaded):
    """A location would send clients to an address that they may not reach; none means this connection."""
    assert all(not endpoint.locations for endpoint in get_info(client, loaded).endpoints)


def test_flight_info_of_a_command_is_narrowed_as_the_read_is(client, loaded):
    load(client, TABLE.slice(0, 3), loaded, external_key="k")
    info = client.get_flight_info(
        flight.FlightDescriptor.for_command(get_command(loaded, external_key="k", columns=["s", "x"]))
    )
    assert info.schema.names == ["s", "x"]
    assert info.total_records == 3
    got = pa.concat_tables([client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints])
    assert_tables_equal(got, TABLE.slice(0, 3).select(["s", "x"]))


def test_datasets_are_listed_by_prefix(client, name):
    names = sorted(f"{name}/{rest}" for rest in ("a", "a/b", "ab", "b"))
    for each in names:
        load(client, TABLE, each)
    assert sorted(list_names(client, name + "/")) == names
    assert sorted(list_names(client, f"{name}/a")) == names[:3]
    assert list_names(client, f"{name}/b") == [f"{name}/b"]
    assert list_names(client, f"{name}/none") == []
    assert set(names) <= set(list_names(client))
    for info in client.list_flights(criteria=f"{name}/a/b".encode()):
        assert info.schema.equals(TABLE.schema)
        assert info.total_records == 100


# DoGet


@pytest.mark.parametrize("as_json", [False, True], ids=["any", "json"])
def test_a_command_is_a_ticket(client, loaded, as_json):
    assert_tables_equal(get(client, loaded, as_json=as_json), TABLE)


def test_a_json_ticket_may_be_sql(client, loaded):
    got = sql_by_ticket(client, f'SELECT count(*) AS n FROM "{loaded.split("/")[0]}"."{loaded.split("/")[1]}"')
    assert got.to_pydict() == {"n": [100]}


@pytest.mark.parametrize("columns", [["s"], ["x", "day"], ["s", "x", "day"]], ids="_".join)
@pytest.mark.parametrize("as_json", [False, True], ids=["any", "json"])
def test_columns_are_given_in_the_order_asked_for(client, loaded, columns, as_json):
    assert get(client, loaded, as_json=as_json, columns=columns).equals(TABLE.select(columns))


@pytest.mark.parametrize(
    "text, keep",
    [
        ("x >= 90", lambda row: row["x"] >= 90),
        ("s IS NULL", lambda row: row["s"] is None),
        ("s = 'it''s 8'", lambda row: row["s"] == "it's 8"),
        ("s LIKE '%9' AND (x < 30 OR x > 80)", lambda row: (row["s"] or "").endswith("9") and not 30 <= row["x"] <= 80),
        ("day = DATE '1970-01-03'", lambda row: row["x"] % 5 == 2),
        ("day >= '1970-01-04' AND x % 2 = 0", lambda row: row["x"] % 5 >= 3 and row["x"] % 2 == 0),
        ("x IN (1, 2, 300)", lambda row: row["x"] in (1, 2)),
        ("NOT (s <> 'it''s 8')", lambda row: row["s"] == "it's 8"),
        ("false", lambda row: False),
    ],
    ids=["compare", "null", "quote", "or", "date", "date_text", "in", "three_valued", "false"],
)
def test_a_filter_keeps_the_rows_for_which_it_is_true_in_order(client, loaded, text, keep):
    kept = [row["x"] for row in TABLE.to_pylist() if keep(row)]
    got = get(client, loaded, filter=text)
    assert got.schema.equals(TABLE.schema, check_metadata=True)
    assert_tables_equal(got, TABLE.take(pa.array(kept, pa.int64())))


def test_a_filter_may_use_columns_that_are_not_asked_for(client, loaded):
    assert get(client, loaded, columns=["s"], filter="x = 8").to_pydict() == {"s": ["it's 8"]}


def test_use_last_gives_the_newest_version_alone(client, name):
    for key, value in [("a", 1), ("b", 2), ("a", 3), ("b", 4)]:
        load(client, pa.table({"x": [value]}), name, external_key=key)
    assert get(client, name, use_last=True)["x"].to_pylist() == [4]
    assert get(client, name, use_last=True, external_key="a")["x"].to_pylist() == [3]
    assert get(client, name, use_last=True, filter="x < 4").num_rows == 0


@pytest.mark.parametrize(
    "fields, word",
    [
        ({"columns": ["x", "nope"]}, "nope"),
        ({"columns": ["X"]}, "X"),
        ({"columns": ["__pdb_row"]}, "__pdb_row"),
        ({"filter": "nope = 1"}, "nope"),
        ({"filter": "__pdb_version = 1"}, "__pdb_version"),
        ({"filter": "x ="}, ""),
        ({"filter": "x"}, ""),
        ({"filter": "x = 1; SELECT 1"}, ""),
        ({"filter": "x = 1) UNION ALL SELECT (1"}, ""),
        ({"filter": "x IN (SELECT 1)"}, ""),
        ({"filter": "count(*) > 1"}, ""),
    ],
    ids=lambda value: "_".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_bad_projection_or_filter_is_refused(client, loaded, fields, word):
    with refused("INVALID_ARGUMENT", mentions=[word]):
        get(client, loaded, **fields)


def test_a_column_that_the_user_named_like_a_hidden_one_can_be_read(client, name):
    load(client, pa.table({"__pdb_row": [7, 8], "__pdb_version": ["a", "b"]}), name)
    assert get(client, name, columns=["__pdb_version"], filter="__pdb_row = 8").to_pydict() == {"__pdb_version": ["b"]}


# What is not there


@pytest.mark.parametrize("way", descriptors("a"))
def test_an_unknown_dataset_is_not_found(client, name, way):
    descriptor = descriptors(name)[way]
    with refused("NOT_FOUND", mentions=[name]):
        client.get_flight_info(descriptor)
    with refused("NOT_FOUND", mentions=[name]):
        client.get_schema(descriptor)
    with refused("NOT_FOUND", mentions=[name]):
        get(client, name)


def test_parts_of_a_name_are_not_datasets(client, loaded):
    for other in (loaded.split("/")[0], loaded + "/x", loaded[:-1]):
        with refused("NOT_FOUND"):
            get(client, other)


@pytest.mark.parametrize("use_last", [False, True])
def test_an_unknown_external_key_is_not_found(client, loaded, use_last):
    with refused("NOT_FOUND", mentions=["nope"]):
        get(client, loaded, external_key="nope", use_last=use_last)


# Tickets


def test_a_ticket_that_was_altered_is_refused(client, loaded):
    ticket = bytearray(get_info(client, loaded).endpoints[0].ticket.ticket)
    assert_tables_equal(client.do_get(flight.Ticket(bytes(ticket))).read_all(), TABLE)
    for position in range(len(ticket)):
        ticket[position] ^= 1 << position % 8
        with refused("NOT_FOUND", "INVALID_ARGUMENT", "UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED"):
            client.do_get(flight.Ticket(bytes(ticket))).read_all()
        ticket[position] ^= 1 << position % 8
    with refused("NOT_FOUND", "INVALID_ARGUMENT"):
        client.do_get(flight.Ticket(bytes(ticket[:-1]))).read_all()


def test_a_ticket_of_another_server_is_refused(client, loaded, start_server):
    with start_server().connect() as other:
        load(other, TABLE, loaded, columns_keys={"day": "Date"})
        ticket = get_info(other, loaded).endpoints[0].ticket
        with refused("NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED"):
            client.do_get(ticket).read_all()


def test_a_ticket_outlives_a_restart(start_server):
    server = start_server()
    with server.connect() as client:
        load(client, TABLE, "own/data")
        ticket = get_info(client, "own/data").endpoints[0].ticket
    assert server.stop() == 0
    with start_server().connect() as client:
        assert_tables_equal(client.do_get(ticket).read_all(), TABLE)


@pytest.mark.parametrize(
    "ticket",
    [
        b"",
        b"\x00",
        b"nonsense",
        b"{",
        b"{}",
        b"[]",
        b'{"sql": 1}',
        b'{"dataframe_name": 7}',
        b'{"dataframe_name": "a", "colums": ["x"]}',
        b"\xff" * 64,
    ],
    ids=repr,
)
def test_a_ticket_that_is_none_of_ours_is_refused(client, ticket):
    with refused("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"):
        client.do_get(flight.Ticket(ticket)).read_all()


# Messages


@pytest.mark.parametrize("keys", [None, {"day": "Date"}], ids=["no_keys", "date_key"])
def test_no_message_is_larger_than_4_mib(server, client, name, keys):
    """Several clients refuse more, whatever the size of the batch that was loaded."""
    table = pa.table(
        {
            "day": pa.array([0] * 500_000, pa.date32()),
            "x": np.random.default_rng(4).random((500_000,)),
            "s": ["x" * 60] * 500_000,
        }
    )
    load(client, table, name, columns_keys=keys, batch_rows=250_000)
    with wire.RawFlight(server.flight, max_receive=4 * 1024 * 1024) as raw:
        sizes = [len(message) for message in raw.get(json.dumps({"dataframe_name": name}).encode())]
    assert sum(sizes) > table.nbytes * 0.9
    assert max(sizes) < 4 * 1024 * 1024
    assert get(client, name).equals(table)


def test_a_read_that_is_dropped_half_way_does_no_harm(client, name):
    table = pa.table({"x": np.arange(2_000_000)})
    load(client, table, name)
    for _ in range(5):
        reader = client.do_get(flight.Ticket(get_command(name)))
        reader.read_chunk()
        reader.cancel()
    assert get(client, name).equals(table)


def test_a_running_read_is_not_touched_by_keep_last(client, name):
    table = pa.table({"x": np.arange(2_000_000)})
    load(client, table, name)
    reader = client.do_get(flight.Ticket(get_command(name)))
    first = reader.read_chunk().data
    load(client, pa.table({"x": [1]}), name, keep_last=True)
    rest = reader.read_all()
    assert pa.concat_tables([pa.Table.from_batches([first]), rest]).equals(table)
    assert get(client, name)["x"].to_pylist() == [1]
