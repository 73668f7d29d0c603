"""The messages of Flight SQL, against bytes that other programs write."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pandas_db_sdk import flight_sql

PREFIX = b"type.googleapis.com/arrow.flight.protocol.sql."


def packed(name: bytes, value: bytes) -> bytes:
    """Return an Any of less than 128 bytes, spelled out."""
    url = PREFIX + name
    return b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(value)]) + value


def test_requests_are_spelled_as_protobuf_spells_them():
    assert flight_sql.create_request("SELECT 1") == packed(b"ActionCreatePreparedStatementRequest", b"\x0a\x08SELECT 1")
    assert flight_sql.query_command(b"h") == packed(b"CommandPreparedStatementQuery", b"\x0a\x01h")
    assert flight_sql.update_command(b"h") == packed(b"CommandPreparedStatementUpdate", b"\x0a\x01h")
    assert flight_sql.close_request(b"h") == packed(b"ActionClosePreparedStatementRequest", b"\x0a\x01h")


def test_lengths_above_127_take_two_bytes():
    request = flight_sql.create_request("x" * 300)
    assert b"\x0a\xac\x02" + b"x" * 300 in request
    assert b"\x12\xaf\x02" in request


def test_answers_are_read_whatever_the_order_of_their_fields():
    schema = pa.schema([("a", pa.int64())]).serialize().to_pybytes()
    length = bytes([len(schema) & 0x7F | 0x80, len(schema) >> 7])
    value = b"\x12" + length + schema + b"\x0a\x03abc" + b"\x20\x05" + b"\x2d\x00\x00\x00\x00" + b"\x31" + b"\x00" * 8
    url = PREFIX + b"ActionCreatePreparedStatementResult"
    size = bytes([len(value) & 0x7F | 0x80, len(value) >> 7])
    body = b"\x12" + size + value + b"\x0a" + bytes([len(url)]) + url
    assert flight_sql.read_create_result(body) == flight_sql.Prepared(b"abc", is_update=False)


@pytest.mark.parametrize("schema", [b"", pa.schema([]).serialize().to_pybytes()], ids=["absent", "empty"])
def test_a_statement_without_columns_writes(schema):
    value = b"\x0a\x01h" + (b"\x12" + bytes([len(schema)]) + schema if schema else b"")
    body = packed(b"ActionCreatePreparedStatementResult", b"")[:-1]
    size = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 0x7F | 0x80, len(value) >> 7])
    assert flight_sql.read_create_result(body + size + value) == flight_sql.Prepared(b"h", is_update=True)


def test_handles_and_counts():
    assert flight_sql.read_bound_handle(b"\x0a\x02hi") == b"hi"
    assert flight_sql.read_bound_handle(b"") is None
    assert flight_sql.read_record_count(b"\x08\x96\x01") == 150
    assert flight_sql.read_record_count(b"") == 0
    assert flight_sql.read_record_count(b"\x08" + b"\xff" * 9 + b"\x01") == -1


@pytest.mark.parametrize("body", [b"\x0a\x05ab", b"\x08\xff", b"\x0b", b"\x08" + b"\xff" * 11, b"\xff"])
def test_damaged_messages_are_refused(body):
    with pytest.raises(ValueError, match="cut|wire type|64 bits"):
        flight_sql.read_record_count(body)


def test_another_message_is_refused():
    with pytest.raises(ValueError, match="in place of"):
        flight_sql.read_create_result(packed(b"Other", b""))


def test_parameters_are_one_row():
    batch = flight_sql.parameters([1, "a", None, 2.5, b"x"])
    assert batch.num_rows == 1
    assert batch.schema.names == ["0", "1", "2", "3", "4"]
    assert [column[0].as_py() for column in batch.columns] == [1, "a", None, 2.5, b"x"]
