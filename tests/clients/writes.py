"""Statements that write, as verbs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight
from frames import sql, sql_by_ticket, table_name


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
