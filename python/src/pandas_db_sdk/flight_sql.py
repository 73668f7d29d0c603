"""The few messages of Flight SQL that a statement with parameters takes, written and read by hand.

They are Protocol Buffers, which are fields of a number, a wire type and a value. Doing these by hand spares every user
a protobuf package. From ``FlightSql.proto`` and ``google/protobuf/any.proto``:

| message | fields |
|---|---|
| ``google.protobuf.Any`` | 1 ``type_url`` string, 2 ``value`` bytes |
| ``ActionCreatePreparedStatementRequest`` | 1 ``query`` string |
| ``ActionCreatePreparedStatementResult`` | 1 ``prepared_statement_handle``, 2 ``dataset_schema``, 3 ``parameter_schema``, all bytes |
| ``CommandPreparedStatementQuery``, ``CommandPreparedStatementUpdate`` | 1 ``prepared_statement_handle`` bytes |
| ``DoPutPreparedStatementResult`` | 1 ``prepared_statement_handle`` bytes, optional |
| ``DoPutUpdateResult`` | 1 ``record_count`` int64 |
| ``ActionClosePreparedStatementRequest`` | 1 ``prepared_statement_handle`` bytes |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

TYPE_PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."
CREATE_ACTION = "CreatePreparedStatement"
CLOSE_ACTION = "ClosePreparedStatement"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Prepared:
    """A statement that the server prepared.

    Attributes
    ----------
    handle : bytes
    is_update : bool
        Whether it writes, and so gives a number of rows and no rows.
    """

    handle: bytes
    is_update: bool


def create_request(query: str) -> bytes:
    """Return the body of the action that prepares a statement."""
    return _any("ActionCreatePreparedStatementRequest", _field(1, query.encode()))


def read_create_result(body: bytes) -> Prepared:
    """Read the answer to that action.

    Raises
    ------
    ValueError
        When it is no such answer.
    """
    fields = _fields(_unpack("ActionCreatePreparedStatementResult", body))
    return Prepared(_bytes(fields.get(1, b"")), is_update=not _has_columns(_bytes(fields.get(2, b""))))


def query_command(handle: bytes) -> bytes:
    """Return the command that binds parameters to a prepared query, and the one that runs it."""
    return _any("CommandPreparedStatementQuery", _field(1, handle))


def update_command(handle: bytes) -> bytes:
    """Return the command that runs a prepared statement that writes."""
    return _any("CommandPreparedStatementUpdate", _field(1, handle))


def close_request(handle: bytes) -> bytes:
    """Return the body of the action that forgets a prepared statement."""
    return _any("ActionClosePreparedStatementRequest", _field(1, handle))


def read_bound_handle(body: bytes) -> bytes | None:
    """Return the handle to go on with after parameters were bound, if the server gave a new one."""
    handle = _fields(body).get(1)
    return None if handle is None else _bytes(handle)


def read_record_count(body: bytes) -> int:
    """Return how many rows a statement changed; -1 is not known."""
    count = _fields(body).get(1, 0)
    if not isinstance(count, int):
        raise ValueError("the answer to an update has no number of rows")
    return count - (1 << 64) if count >= 1 << 63 else count


def parameters(values: Sequence[Any]) -> pa.RecordBatch:
    """Return the parameters of one run: a batch of one row whose columns are ``0``, ``1`` and so on.

    Raises
    ------
    ValueError
        Naming a value that Arrow has no type for.
    """
    arrays = []
    for number, value in enumerate(values, 1):
        scalar = value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufUS" else value
        try:
            arrays.append(pa.array([scalar], from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"params: ${number} is {value!r}, which is no value of SQL: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, names=[str(number) for number in range(len(arrays))])


# Protocol Buffers


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _any(name: str, value: bytes) -> bytes:
    return _field(1, (TYPE_PREFIX + name).encode()) + _field(2, value)


def _unpack(name: str, body: bytes) -> bytes:
    fields = _fields(body)
    told = _bytes(fields.get(1, b""))
    if not told.decode("utf-8", "replace").endswith("." + name):
        raise ValueError(f"{told!r} came in place of {name}")
    return _bytes(fields.get(2, b""))


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where bytes belong")
    return value


def _fields(body: bytes) -> dict[int, int | bytes]:
    """Return the fields of a message, by number; of a repeated one the last."""
    return dict(_each_field(body))


def _each_field(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(body):
        key, at = _read_varint(body, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _read_varint(body, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _read_varint(body, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at + length > len(body):
            raise ValueError("a message is cut")
        yield number, body[at : at + length]
        at += length


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(body):
            raise ValueError("a message is cut")
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number has more than 64 bits")


def _has_columns(schema: bytes) -> bool:
    """Return whether a schema, as an IPC message, has columns; a statement that writes has none."""
    return bool(schema) and len(pa.ipc.read_schema(pa.py_buffer(schema))) > 0
