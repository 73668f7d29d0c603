"""Protobuf messages and Flight calls made by hand.

The suite must be able to send what no client library would send, so it encodes the few messages it needs itself
and speaks gRPC without generated code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import grpc
import pyarrow as pa

STATEMENT_QUERY = "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
LOAD_DATAFRAME = "type.googleapis.com/pandas_db.v1.LoadDataframe"
GET_DATAFRAME = "type.googleapis.com/pandas_db.v1.GetDataframe"

_SERVICE = "/arrow.flight.protocol.FlightService/"


def varint(value: int) -> bytes:
    """Encode an integer as a protobuf varint (negative ones as 64-bit two's complement)."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int | None) -> bytes:
    """Encode a varint field; nothing when the value is None."""
    return b"" if value is None else varint(field << 3) + varint(int(value))


def text(field: int, value: str | bytes | None) -> bytes:
    """Encode a length-delimited field; nothing when the value is None."""
    if value is None:
        return b""
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Split a message into (field number, value); values of eight bytes stay bytes."""
    position = 0

    def take() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        key = take()
        if key & 7 == 1:
            yield key >> 3, message[position : position + 8]
            position += 8
            continue
        value = take()
        if key & 7 == 2:
            yield key >> 3, message[position : position + value]
            position += value
        elif key & 7 == 0:
            yield key >> 3, value
        else:
            raise ValueError(f"wire type {key & 7} of field {key >> 3} is not expected")


def pack_any(type_url: str, message: bytes) -> bytes:
    """Encode a google.protobuf.Any."""
    return text(1, type_url) + text(2, message)


def statement(sql: str) -> bytes:
    """Encode Flight SQL's CommandStatementQuery in an Any."""
    return pack_any(STATEMENT_QUERY, text(1, sql))


def load_dataframe(command: dict) -> bytes:
    """Encode a LoadDataframe, given by its proto field names, in an Any."""
    keys = b"".join(
        text(2, text(1, column) + text(2, kind)) for column, kind in command.get("columns_keys", {}).items()
    )
    message = (
        text(1, command["dataframe_name"])
        + keys
        + text(3, command.get("external_key"))
        + number(4, command.get("keep_last"))
        + text(5, command.get("idempotency_key"))
        + number(6, command.get("total_rows"))
    )
    return pack_any(LOAD_DATAFRAME, message)


def get_dataframe(command: dict) -> bytes:
    """Encode a GetDataframe, given by its proto field names, in an Any."""
    message = (
        text(1, command["dataframe_name"])
        + text(2, command.get("external_key"))
        + number(3, command.get("use_last"))
        + number(4, command.get("version"))
        + text(5, command.get("as_of"))
        + b"".join(text(6, column) for column in command.get("columns", []))
        + text(7, command.get("filter"))
    )
    return pack_any(GET_DATAFRAME, message)


def path_descriptor(*segments: str) -> bytes:
    """Encode a FlightDescriptor of type PATH."""
    return number(1, 1) + b"".join(text(3, segment) for segment in segments)


def command_descriptor(command: bytes) -> bytes:
    """Encode a FlightDescriptor of type CMD."""
    return number(1, 2) + text(2, command)


def flight_data(
    descriptor: bytes | None = None, header: bytes = b"", body: bytes = b"", metadata: bytes = b""
) -> bytes:
    """Encode a FlightData message; empty parts are left out, as gRPC clients do."""
    return text(1, descriptor) + text(2, header or None) + text(3, metadata or None) + text(1000, body or None)


def ipc_messages(table: pa.Table | pa.RecordBatch, *, compression: str | None = None) -> list[tuple[bytes, bytes]]:
    """Encode a table as Arrow IPC and split it into (header, body) pairs, the schema first."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write(table)
    messages = []
    for message in pa.ipc.MessageReader.open_stream(sink.getvalue()):
        body = b"" if message.body is None or message.body.size == 0 else message.body.to_pybytes()
        messages.append((message.metadata.to_pybytes(), body))
    return messages


class RawFlight:
    """Flight calls whose messages are bytes, so that anything can be sent.

    Parameters
    ----------
    location : str
        The server's address, ``grpc://host:port``.
    max_receive : int, optional
        The largest message that this client takes; gRPC's own default is 4 MiB.
    """

    def __init__(self, location: str, *, max_receive: int = 4 * 1024 * 1024):
        options = [
            ("grpc.max_receive_message_length", max_receive),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # A connection of its own: session options are kept by connection.
        ]
        self.channel = grpc.insecure_channel(location.removeprefix("grpc://"), options=options)

    def __enter__(self) -> RawFlight:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def open_put(self, messages: Iterable[bytes]) -> grpc.Call:
        """Start a DoPut; the returned call is an iterator over PutResult bytes, and can be cancelled."""
        return self.channel.stream_stream(_SERVICE + "DoPut")(iter(messages))

    def put(self, messages: Iterable[bytes]) -> list[dict]:
        """Run a DoPut to its end and return its LoadResults."""
        return [load_result(reply) for reply in self.open_put(messages)]

    def get(self, ticket: bytes) -> Iterator[bytes]:
        """Run a DoGet and yield its FlightData messages, undecoded."""
        yield from self.channel.unary_stream(_SERVICE + "DoGet")(text(1, ticket))

    def info(self, descriptor: bytes) -> bytes:
        """Run a GetFlightInfo and return the FlightInfo, undecoded."""
        return self.channel.unary_unary(_SERVICE + "GetFlightInfo")(descriptor)


def load_result(put_result: bytes) -> dict:
    """Decode the LoadResult in the app_metadata of a PutResult."""
    return json.loads(dict(fields(put_result))[1])
