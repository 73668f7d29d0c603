"""``DoGet`` as gRPC: columns without bytes, and requests that no client library of Arrow makes."""

from __future__ import annotations

import grpc
import pandas as pd
import pyarrow as pa
import pytest
import wire
from frames import assert_tables_equal, get, get_command, load, refused

ROWS = 3
TEXTS = pa.array([None, "", None])
LISTS = pa.array([[], None, []], pa.list_(pa.int64()))
NULLS = pa.nulls(ROWS)
TABLES = {
    "texts": {"s": TEXTS},
    "large texts": {"s": TEXTS.cast(pa.large_string())},
    "bytes": {"b": TEXTS.cast(pa.binary())},
    "lists": {"l": LISTS},
    "nulls": {"n": NULLS},
    "nulls after texts": {"s": TEXTS, "n": NULLS},
    "texts between": {"a": pa.array(range(ROWS)), "s": TEXTS, "z": pa.array(range(ROWS))},
    "lists after numbers": {"a": pa.array(range(ROWS)), "l": LISTS},
    "categories of nothing": {"c": pa.array([None] * ROWS, pa.dictionary(pa.int8(), pa.string()))},
}


@pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES)
def test_columns_without_bytes_come_back(client, name, columns):
    table = pa.table(columns)
    load(client, table, name)
    assert_tables_equal(get(client, name), table)


@pytest.fixture
def ticket(client, name) -> bytes:
    """Return the ticket of a small dataset, as protobuf."""
    load(client, pd.DataFrame({"x": [1]}), name)
    return wire.text(1, get_command(name, as_json=True))


def test_a_call_that_no_library_of_arrow_makes(server, ticket):
    with wire.RawFlight(server.flight) as raw:
        call = raw.channel.stream_stream("/arrow.flight.protocol.FlightService/DoGet")
        assert len(list(call(iter([ticket])))) == 2


def test_a_request_without_a_ticket(server):
    with wire.RawFlight(server.flight) as raw:
        call = raw.channel.stream_stream("/arrow.flight.protocol.FlightService/DoGet")
        with refused("INVALID_ARGUMENT", mentions=["ticket"]):
            list(call(iter([])))


def test_a_compressed_request(server, ticket):
    with wire.RawFlight(server.flight) as raw:
        call = raw.channel.unary_stream("/arrow.flight.protocol.FlightService/DoGet")
        with refused("UNIMPLEMENTED", mentions=["gzip"]):
            list(call(ticket, compression=grpc.Compression.Gzip))
        assert len(list(call(ticket))) == 2
