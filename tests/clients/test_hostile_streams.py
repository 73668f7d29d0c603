"""Arrow streams that break the format or lie about themselves, sent message by message."""

from __future__ import annotations

import struct

import conftest
import numpy as np
import pyarrow as pa
import pytest
import wire
from frames import assert_absent, get, load, refused, sql

ROWS = 1_003  # An unusual number, so that its bytes are found once in a header.
TABLE = pa.table({"x": np.arange(ROWS), "s": [f"row {i}" for i in range(ROWS)]})
NUMBERS = TABLE.select(["x"])
TEXTS = TABLE.select(["s"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of this module alone, whose peak memory tells of nothing else."""
    yield from conftest.serve(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def still_answers(server, client):
    """Check after each test that the same process still serves."""
    yield
    assert server.process.poll() is None
    assert sql(client, "SELECT 1 AS one").to_pydict() == {"one": [1]}


@pytest.fixture
def send(server, name):
    """A function that sends (header, body) pairs as one DoPut to the test's dataset."""

    def send(*messages: tuple[bytes, bytes]) -> list[dict]:
        descriptor = wire.path_descriptor(*name.split("/"))
        stream = [
            wire.flight_data(descriptor if place == 0 else None, *message) for place, message in enumerate(messages)
        ]
        with wire.RawFlight(server.flight) as raw:
            return raw.put(stream)

    return send


def patched(message: tuple[bytes, bytes], old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """Replace bytes that occur in the header of a message."""
    assert len(old) == len(new) and old in message[0]
    return message[0].replace(old, new), message[1]


def pair(first: int, second: int) -> bytes:
    """Spell a Buffer (offset, length) or a FieldNode (length, nulls) of the IPC format."""
    return struct.pack("<qq", first, second)


def test_the_messages_made_by_hand_are_a_load(client, name, send):
    """The positive case, without which the refusals below would prove nothing."""
    results = send(*wire.ipc_messages(TABLE))
    assert (results[-1]["state"], results[-1]["version"]) == ("committed", 1)
    assert get(client, name).equals(TABLE)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_bodies_are_read(client, name, send, compression):
    send(*wire.ipc_messages(TABLE, compression=compression))
    assert get(client, name).equals(TABLE)


# The order of messages


def test_no_message_at_all(server, client, name):
    with wire.RawFlight(server.flight) as raw, refused("INVALID_ARGUMENT"):
        raw.put([])


def test_a_descriptor_without_a_schema(client, name, send):
    with refused("INVALID_ARGUMENT", mentions=["schema"]):
        send((b"", b""))
    assert_absent(client, name)


def test_a_batch_before_the_schema(client, name, send):
    schema, batch = wire.ipc_messages(TABLE)
    with refused("INVALID_ARGUMENT", mentions=["schema"]):
        send(batch, schema)
    assert_absent(client, name)


def test_a_body_without_a_header(client, name, send):
    schema, batch = wire.ipc_messages(TABLE)
    with refused("INVALID_ARGUMENT"):
        send(schema, (b"", batch[1]))
    assert_absent(client, name)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.rename_columns(["y", "s"]),
        TABLE.select(["s", "x"]),
        NUMBERS,
        pa.table({"x": np.arange(ROWS, dtype="int32"), "s": TABLE["s"]}),
    ],
    ids=["renamed", "reordered", "fewer", "type"],
)
def test_a_schema_that_changes_in_the_stream(client, name, send, other):
    with refused("INVALID_ARGUMENT", mentions=["schema"]):
        send(*wire.ipc_messages(TABLE), *wire.ipc_messages(other))
    assert_absent(client, name)


@pytest.mark.parametrize(
    "other", [NUMBERS, TEXTS, pa.table({"a": range(5), "b": range(5), "c": range(5)})], ids=["fewer", "kinds", "more"]
)
def test_a_batch_that_is_not_of_the_schema(client, name, send, other):
    schema = wire.ipc_messages(TABLE)[0]
    batch = wire.ipc_messages(other)[1]
    with refused("INVALID_ARGUMENT"):
        send(schema, batch)
    assert_absent(client, name)


def test_a_dictionary_that_the_schema_does_not_know(client, name, send):
    words = wire.ipc_messages(pa.table({"d": pa.array(["a", "b"]).dictionary_encode()}))
    schema, batch = wire.ipc_messages(NUMBERS)
    with refused("INVALID_ARGUMENT"):
        send(schema, words[1], batch)
    assert_absent(client, name)


def test_a_dictionary_column_without_its_dictionary(client, name, send):
    schema, _, batch = wire.ipc_messages(pa.table({"d": pa.array(["a", "b"]).dictionary_encode()}))
    with refused("INVALID_ARGUMENT"):
        send(schema, batch)
    assert_absent(client, name)


def test_dictionary_codes_out_of_range(client, name, send):
    schema, words, (header, body) = wire.ipc_messages(
        pa.table({"d": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), ["a", "b"])})
    )
    honest = struct.pack("<ii", 0, 1)
    assert honest in body
    with refused("INVALID_ARGUMENT"):
        send(schema, words, (header, body.replace(honest, struct.pack("<ii", 0, 99))))
    assert_absent(client, name)


# Bytes that are cut or not Arrow


@pytest.mark.parametrize("keep", [0, 1, 8, 4_000, -8, -1])
def test_a_body_that_is_cut(client, name, send, keep):
    schema, (header, body) = wire.ipc_messages(NUMBERS)
    with refused("INVALID_ARGUMENT"):
        send(schema, (header, body[:keep]))
    assert_absent(client, name)


@pytest.mark.parametrize("keep", [1, 4, 20, -20, -100])
@pytest.mark.parametrize("which", [0, 1], ids=["schema", "batch"])
def test_a_header_that_is_cut(client, name, send, which, keep):
    messages = wire.ipc_messages(TABLE)
    messages[which] = (messages[which][0][:keep], messages[which][1])
    with refused("INVALID_ARGUMENT"):
        send(*messages)
    assert_absent(client, name)


@pytest.mark.parametrize(
    "rubbish", [b"\x00", b"hello world", b"\xff" * 64, b"\x00" * 200], ids=["zero", "text", "ones", "zeros"]
)
def test_a_header_that_is_rubbish(client, name, send, rubbish):
    schema, batch = wire.ipc_messages(TABLE)
    for messages in ([(rubbish, b"")], [schema, (rubbish, batch[1])]):
        with refused("INVALID_ARGUMENT"):
            send(*messages)
    assert_absent(client, name)


# Lengths that lie


LIES = {
    "buffer_longer_than_the_body": (pair(0, ROWS * 8), pair(0, 1 << 40)),
    "buffer_of_negative_length": (pair(0, ROWS * 8), pair(0, -8)),
    "buffer_at_a_negative_offset": (pair(0, ROWS * 8), pair(-8, ROWS * 8)),
    "buffer_beyond_the_body": (pair(0, ROWS * 8), pair(1 << 40, ROWS * 8)),
    "buffer_whose_end_overflows": (pair(0, ROWS * 8), pair((1 << 63) - 8, ROWS * 8)),
    "buffer_too_short_for_the_rows": (pair(0, ROWS * 8), pair(0, 8)),
    "negative_rows": (pair(ROWS, 0), pair(-1, 0)),
    "more_nulls_than_rows": (pair(ROWS, 0), pair(ROWS, ROWS + 1)),
    "negative_nulls": (pair(ROWS, 0), pair(ROWS, -1)),
    "2_to_31_rows": (struct.pack("<q", ROWS), struct.pack("<q", 1 << 31)),
    "2_to_62_rows": (struct.pack("<q", ROWS), struct.pack("<q", 1 << 62)),
}


@pytest.mark.parametrize("lie", LIES)
def test_lengths_that_lie(client, name, send, lie):
    schema, batch = wire.ipc_messages(NUMBERS)
    with refused("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"):
        send(schema, patched(batch, *LIES[lie]))
    assert_absent(client, name)


def test_more_rows_in_the_batch_than_in_its_columns(client, name, send):
    """The row count of the batch itself stands apart from those of its columns."""
    schema, (header, body) = wire.ipc_messages(NUMBERS)
    rows = struct.pack("<q", ROWS)
    places = [
        place
        for place in range(len(header))
        if header[place : place + 8] == rows and header[place : place + 16] != pair(ROWS, 0)
    ]
    assert len(places) == 1, "the length of the RecordBatch is found once"
    lying = header[: places[0]] + struct.pack("<q", ROWS + 5) + header[places[0] + 8 :]
    with refused("INVALID_ARGUMENT"):
        send(schema, (lying, body))
    assert_absent(client, name)


@pytest.mark.parametrize("offsets", [(0, 1 << 30), (5, 2), (-1, 3)], ids=["beyond", "backwards", "negative"])
def test_string_offsets_that_lie(client, name, send, offsets):
    schema, (header, body) = wire.ipc_messages(pa.table({"s": ["aaa", "bbb", "ccc"]}))
    honest = struct.pack("<iiii", 0, 3, 6, 9)
    assert honest in body
    with refused("INVALID_ARGUMENT"):
        send(schema, (header, body.replace(honest, struct.pack("<iiii", 0, *offsets, 9))))
    assert_absent(client, name)


def test_strings_that_are_not_utf8(client, name, send):
    schema, (header, body) = wire.ipc_messages(pa.table({"s": ["aaa", "bbb", "ccc"]}))
    with refused("INVALID_ARGUMENT"):
        send(schema, (header, body.replace(b"bbb", b"\xff\xfe\xfd")))
    assert_absent(client, name)


def test_a_null_where_the_schema_allows_none(client, name, send):
    strict = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    batch = wire.ipc_messages(pa.table({"x": pa.array([1, None, 3])}))[1]
    with refused("INVALID_ARGUMENT", mentions=["x"]):
        send(wire.ipc_messages(strict.empty_table())[0], batch)
    assert_absent(client, name)


# Compressed bodies


@pytest.mark.parametrize(
    "length", [1 << 46, (1 << 63) - 1, -2, -(1 << 63), 1 << 33], ids=["2_to_46", "most", "minus_2", "least", "2_to_33"]
)
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_an_uncompressed_length_that_lies(server, client, name, send, compression, length):
    """A decoder that believes the length aborts the process when it allocates."""
    schema, (header, body) = wire.ipc_messages(NUMBERS, compression=compression)
    assert body[:8] == struct.pack("<q", ROWS * 8)
    before = server.peak_bytes()
    with refused("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"):
        send(schema, (header, struct.pack("<q", length) + body[8:]))
    assert server.peak_bytes() < before + (64 << 20)
    assert_absent(client, name)


@pytest.mark.parametrize("length", [0, 8, ROWS * 8 - 8, ROWS * 8 + 8])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_an_uncompressed_length_that_is_a_little_wrong(client, name, send, compression, length):
    schema, (header, body) = wire.ipc_messages(NUMBERS, compression=compression)
    with refused("INVALID_ARGUMENT"):
        send(schema, (header, struct.pack("<q", length) + body[8:]))
    assert_absent(client, name)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_body_that_is_not(client, name, send, compression):
    schema, (header, body) = wire.ipc_messages(NUMBERS, compression=compression)
    with refused("INVALID_ARGUMENT"):
        send(schema, (header, body[:8] + b"\x5a" * (len(body) - 8)))
    assert_absent(client, name)


def test_a_bomb_is_refused_before_it_is_unpacked(server, client, name, send):
    """512 MiB of zeros in a few kilobytes."""
    schema, batch = wire.ipc_messages(pa.table({"x": np.zeros(1 << 26)}), compression="zstd")
    assert len(batch[1]) < 100_000
    before = server.peak_bytes()
    with refused("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"):
        send(schema, batch)
    assert server.peak_bytes() < before + (64 << 20)
    assert_absent(client, name)


# Odd, but right


def test_an_application_message_without_data_is_passed_over(server, client, name):
    schema, batch = wire.ipc_messages(NUMBERS)
    with wire.RawFlight(server.flight) as raw:
        results = raw.put(
            [
                wire.flight_data(wire.path_descriptor(*name.split("/")), schema[0]),
                wire.flight_data(None, metadata=b"a note"),
                wire.flight_data(None, *batch, metadata=b"another"),
            ]
        )
    assert results[-1]["total_rows"] == ROWS
    assert get(client, name).equals(NUMBERS)


def test_a_failed_stream_leaves_an_existing_dataset_as_it_was(client, name, send):
    load(client, NUMBERS, name)
    schema, batch = wire.ipc_messages(NUMBERS)
    with refused("INVALID_ARGUMENT"):
        send(schema, batch, (batch[0], batch[1][:-8]))
    assert get(client, name).equals(NUMBERS)
    assert load(client, NUMBERS, name)["version"] == 2
