"""Flight SQL's messages, made and read by hand, and calls with them.

Names, numbers and meanings of the fields are those of ``FlightSql.proto`` and ``Flight.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import wire
from wire import number, text

PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."
CREATE, FAIL_IF_MISSING = 1, 2
FAIL_IF_EXISTS, APPEND, REPLACE = 1, 2, 3
# The modes of ADBC's ingest, as TableDefinitionOptions: what to do when the table is not there, and when it is.
MODES = {
    "create": (CREATE, FAIL_IF_EXISTS),
    "append": (FAIL_IF_MISSING, APPEND),
    "replace": (CREATE, REPLACE),
    "create_append": (CREATE, APPEND),
}
CANCELLED, CANCELLING, NOT_CANCELLABLE = 1, 2, 3
NO_SCHEMA = pa.schema([])


def command(name: str, message: bytes = b"") -> bytes:
    """Pack a Flight SQL message in an Any."""
    return wire.pack_any(PREFIX + name, message)


def unpacked(any_bytes: bytes, name: str) -> dict[int, int | bytes]:
    """Read the fields of a Flight SQL message in an Any."""
    found = dict(wire.fields(any_bytes))
    assert found[1].decode() == PREFIX + name
    return dict(wire.fields(found.get(2, b"")))


# Commands


def statement(sql: str, transaction: bytes | None = None) -> bytes:
    """Make a CommandStatementQuery."""
    return command("CommandStatementQuery", text(1, sql) + text(2, transaction))


def update(sql: str, transaction: bytes | None = None) -> bytes:
    """Make a CommandStatementUpdate."""
    return command("CommandStatementUpdate", text(1, sql) + text(2, transaction))


def prepared_query(handle: bytes) -> bytes:
    """Make a CommandPreparedStatementQuery."""
    return command("CommandPreparedStatementQuery", text(1, handle))


def prepared_update(handle: bytes) -> bytes:
    """Make a CommandPreparedStatementUpdate."""
    return command("CommandPreparedStatementUpdate", text(1, handle))


def ingest(
    table: str,
    *,
    mode: tuple[int, int] | None = MODES["create"],
    schema: str | None = None,
    catalog: str | None = None,
    temporary: bool | None = None,
    transaction: bytes | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Make a CommandStatementIngest."""
    definition = None if mode is None else number(1, mode[0]) + number(2, mode[1])
    entries = b"".join(text(1000, text(1, key) + text(2, value)) for key, value in (options or {}).items())
    message = text(1, definition) + text(2, table) + text(3, schema) + text(4, catalog) + number(5, temporary)
    return command("CommandStatementIngest", message + text(6, transaction) + entries)


def sql_info(codes: Iterable[int] = ()) -> bytes:
    """Make a CommandGetSqlInfo."""
    packed = b"".join(map(wire.varint, codes))
    return command("CommandGetSqlInfo", text(1, packed or None))


def db_schemas(catalog: str | None = None, pattern: str | None = None) -> bytes:
    """Make a CommandGetDbSchemas."""
    return command("CommandGetDbSchemas", text(1, catalog) + text(2, pattern))


def tables(
    catalog: str | None = None,
    schema: str | None = None,
    table: str | None = None,
    types: Iterable[str] = (),
    include_schema: bool | None = None,
) -> bytes:
    """Make a CommandGetTables; schema and table are patterns."""
    words = text(1, catalog) + text(2, schema) + text(3, table) + b"".join(text(4, kind) for kind in types)
    return command("CommandGetTables", words + number(5, include_schema))


def keys(name: str, table: str, schema: str | None = None, catalog: str | None = None) -> bytes:
    """Make a CommandGetPrimaryKeys, CommandGetExportedKeys or CommandGetImportedKeys."""
    return command(name, text(1, catalog) + text(2, schema) + text(3, table))


def cross_reference(parent: str, child: str) -> bytes:
    """Make a CommandGetCrossReference between two tables."""
    return command("CommandGetCrossReference", text(3, parent) + text(6, child))


def xdbc_type_info(data_type: int | None = None) -> bytes:
    """Make a CommandGetXdbcTypeInfo."""
    return command("CommandGetXdbcTypeInfo", number(1, data_type))


# Answers


@dataclass
class Info:
    """A FlightInfo."""

    schema: pa.Schema
    tickets: list[bytes]
    locations: list[str]
    total_records: int
    ordered: bool
    raw: bytes
    endpoints: list[bytes]


def signed(value: int) -> int:
    """Read a varint as a 64-bit number with a sign."""
    return value - (1 << 64) if value >> 63 else value


def read_schema(message: bytes) -> pa.Schema:
    """Read a schema in an IPC message; no bytes are no columns."""
    return pa.ipc.read_schema(pa.py_buffer(message)) if message else NO_SCHEMA


def read_info(message: bytes) -> Info:
    """Read a FlightInfo."""
    found = dict(wire.fields(message))
    endpoints = [value for field, value in wire.fields(message) if field == 3]
    tickets = [dict(wire.fields(dict(wire.fields(endpoint))[1])).get(1, b"") for endpoint in endpoints]
    locations = [
        dict(wire.fields(value)).get(1, b"").decode()
        for endpoint in endpoints
        for field, value in wire.fields(endpoint)
        if field == 2
    ]
    schema = read_schema(found.get(1, b""))
    total = signed(found.get(4, 0))
    return Info(schema, tickets, locations, total, bool(found.get(6)), message, endpoints)


@dataclass
class Prepared:
    """An ActionCreatePreparedStatementResult."""

    handle: bytes
    dataset_schema: pa.Schema | None
    parameter_schema: pa.Schema
    is_update: bool | None


def record_count(put_result: bytes) -> int:
    """Read the DoPutUpdateResult in a PutResult."""
    return signed(dict(wire.fields(dict(wire.fields(put_result)).get(1, b""))).get(1, 0))


def read_option(message: bytes) -> object:
    """Read a SessionOptionValue."""
    for field, value in wire.fields(message):
        match field:
            case 1:
                return value.decode()
            case 2:
                return bool(value)
            case 3:
                return struct.unpack("<q", value)[0]
            case 4:
                return struct.unpack("<d", value)[0]
            case 5:
                return [item.decode() for _, item in wire.fields(value)]
    return None


def write_option(value: object) -> bytes:
    """Make a SessionOptionValue; None erases an option."""
    match value:
        case None:
            return b""
        case bool():
            return number(2, value)
        case int():
            return wire.varint(3 << 3 | 1) + struct.pack("<q", value)
        case float():
            return wire.varint(4 << 3 | 1) + struct.pack("<d", value)
        case list():
            return text(5, b"".join(text(1, item) for item in value))
    return text(1, str(value))


class RawSql(wire.RawFlight):
    """Flight SQL without a client library.

    Parameters
    ----------
    location : str
        The server's address.
    headers : list of (str, str)
        What each call carries.
    """

    def __init__(self, location: str, *, headers: Iterable[tuple[str, str]] = (), **options):
        super().__init__(location, **options)
        self.headers = list(headers)

    def _unary(self, call: str, request: bytes) -> bytes:
        return self.channel.unary_unary(wire._SERVICE + call)(request, metadata=self.headers)

    def query_info(self, message: bytes) -> Info:
        """Call GetFlightInfo with a command."""
        return read_info(self._unary("GetFlightInfo", wire.command_descriptor(message)))

    def schema(self, message: bytes) -> pa.Schema:
        """Call GetSchema with a command."""
        return read_schema(dict(wire.fields(self._unary("GetSchema", wire.command_descriptor(message))))[1])

    def poll(self, descriptor: bytes) -> dict[int, int | bytes]:
        """Call PollFlightInfo, and return the fields of the PollInfo."""
        return dict(wire.fields(self._unary("PollFlightInfo", descriptor)))

    def action(self, kind: str, body: bytes = b"") -> list[bytes]:
        """Call DoAction, and return the bodies of the results."""
        call = self.channel.unary_stream(wire._SERVICE + "DoAction")
        results = call(text(1, kind) + text(2, body or None), metadata=self.headers)
        return [dict(wire.fields(result)).get(1, b"") for result in results]

    def actions(self) -> dict[str, str]:
        """Call ListActions: names, and what is said about them."""
        results = self.channel.unary_stream(wire._SERVICE + "ListActions")(b"", metadata=self.headers)
        found = [dict(wire.fields(result)) for result in results]
        return {each[1].decode(): each.get(2, b"").decode() for each in found}

    def put_call(self, messages: Iterable[bytes]) -> grpc.Call:
        """Start a DoPut."""
        return self.channel.stream_stream(wire._SERVICE + "DoPut")(iter(messages), metadata=self.headers)

    def execute_update(self, message: bytes) -> int:
        """Run an update that is a descriptor and no more, and return the count."""
        (result,) = list(self.put_call([wire.flight_data(wire.command_descriptor(message))]))
        return record_count(result)

    def put_table(self, message: bytes, table: pa.Table | pa.RecordBatch) -> list[bytes]:
        """Send a table with a command, and return the PutResults."""
        return list(self.put_call(put_messages(message, table)))

    def prepare(self, sql: str, transaction: bytes | None = None) -> Prepared:
        """Create a prepared statement."""
        body = command("ActionCreatePreparedStatementRequest", text(1, sql) + text(2, transaction))
        (result,) = self.action("CreatePreparedStatement", body)
        found = unpacked(result, "ActionCreatePreparedStatementResult")
        dataset = found.get(2, b"")
        is_update = bool(found[4]) if 4 in found else None
        return Prepared(found[1], read_schema(dataset) if dataset else None, read_schema(found.get(3, b"")), is_update)

    def close(self, handle: bytes) -> list[bytes]:
        """Close a prepared statement."""
        return self.action("ClosePreparedStatement", command("ActionClosePreparedStatementRequest", text(1, handle)))

    def bind(self, handle: bytes, values: pa.Table | pa.RecordBatch) -> bytes:
        """Bind values to a prepared query, and return the handle to go on with."""
        results = self.put_table(prepared_query(handle), values)
        told = [dict(wire.fields(dict(wire.fields(result)).get(1, b""))).get(1) for result in results]
        return next((handle for handle in told if handle), handle)

    def set_options(self, **options: object) -> dict[str, int]:
        """Set session options; return the errors by name."""
        entries = b"".join(text(1, text(1, name) + text(2, write_option(value))) for name, value in options.items())
        (result,) = self.action("SetSessionOptions", entries)
        errors = (dict(wire.fields(entry)) for _, entry in wire.fields(result))
        return {error.get(1, b"").decode(): dict(wire.fields(error[2])).get(1, 0) for error in errors}

    def get_options(self) -> dict[str, object]:
        """Return the session options."""
        (result,) = self.action("GetSessionOptions")
        entries = (dict(wire.fields(entry)) for _, entry in wire.fields(result))
        return {entry.get(1, b"").decode(): read_option(entry.get(2, b"")) for entry in entries}


def put_messages(message: bytes, table: pa.Table | pa.RecordBatch) -> Iterator[bytes]:
    """Return the messages of a DoPut: the first has the command."""
    descriptor: bytes | None = wire.command_descriptor(message)
    for header, body in wire.ipc_messages(table):
        yield wire.flight_data(descriptor, header, body)
        descriptor = None


def fetch(client: flight.FlightClient, message: bytes) -> pa.Table:
    """Run a command as a query: all three ways to its schema agree, and its endpoints name no other place."""
    descriptor = flight.FlightDescriptor.for_command(message)
    info = client.get_flight_info(descriptor)
    assert client.get_schema(descriptor).schema.equals(info.schema, check_metadata=True)
    parts = []
    for endpoint in info.endpoints:
        assert not endpoint.locations
        parts.append(client.do_get(endpoint.ticket).read_all())
        assert parts[-1].schema.equals(info.schema, check_metadata=True), f"{parts[-1].schema} is not {info.schema}"
    return pa.concat_tables(parts)


@contextmanager
def raw_sql(location: str, **options) -> Iterator[RawSql]:
    """Open a raw client, and close it."""
    with RawSql(location, **options) as client:
        yield client
