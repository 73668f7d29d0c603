"""Statements that write, as verbs; the frames they change, and the versions they make."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pyarrow.flight as flight
from frames import sql, sql_by_ticket, table_name
from versions import list_versions

DAY = datetime.date


def write(client: flight.FlightClient, statement: str) -> int:
    """Run a statement that writes, and return how many rows it says it wrote."""
    answer = sql_by_ticket(client, statement)
    assert [(field.name, field.type) for field in answer.schema] == [("count", pa.int64())]
    (count,) = answer["count"].to_pylist()
    return count


def rows(client: flight.FlightClient, name: str, order: str = "1") -> list[tuple]:
    """Return the rows of a dataset in an order of its columns."""
    table = sql(client, f"SELECT * FROM {table_name(name)} ORDER BY {order}")
    return list(zip(*(column.to_pylist() for column in table.columns))) if table.num_columns else []


def people(*ids: int) -> pa.Table:
    """Return a frame of some rows."""
    return pa.table({"id": pa.array(ids, pa.int64()), "s": [f"s{i}" for i in ids], "x": [i / 4 for i in ids]})


def newest(client: flight.FlightClient, name: str) -> dict:
    """Return the record of the newest version."""
    return list_versions(client, name, include_replaced=True)[-1]


def versions(client: flight.FlightClient, name: str) -> list[tuple[int, str, int]]:
    """Return number, key and rows of each live version."""
    return [(each["version"], each["external_key"], each["rows"]) for each in list_versions(client, name)]
