"""Tables cut into record batches that every server takes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

MAX_BATCH_BYTES = 3_500_000
"""Bytes of the rows of one batch. With its headers a message stays below 4 MiB, which is what gRPC servers take by
default. A single row that is larger goes alone."""


def cut(table: pa.Table, max_bytes: int = MAX_BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """Cut a table into batches, in order.

    Parameters
    ----------
    table : pyarrow.Table
    max_bytes : int
        The most bytes of one batch, dictionaries not counted: they travel by themselves.
    """
    for batch in table.to_batches():
        size = _row_bytes(batch)
        rows = max(1, batch.num_rows * max_bytes // size) if size else batch.num_rows
        for start in range(0, batch.num_rows, max(1, rows)):
            yield from _halve(batch.slice(start, rows), max_bytes)


def _halve(batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    if batch.num_rows <= 1 or _row_bytes(batch) <= max_bytes:
        yield batch
        return
    middle = batch.num_rows // 2
    yield from _halve(batch.slice(0, middle), max_bytes)
    yield from _halve(batch.slice(middle), max_bytes)


def _row_bytes(batch: pa.RecordBatch) -> int:
    return sum(map(_column_bytes, batch.columns))


def _column_bytes(column: pa.Array) -> int:
    if isinstance(column, pa.ExtensionArray):
        return _column_bytes(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return _column_bytes(column.indices)
    try:
        # Nested dictionaries are in both.
        return int(column.nbytes) - int(column.slice(0, 0).nbytes)
    except (NotImplementedError, pa.ArrowException, TypeError):  # No such measure of this type yet.
        share = len(column) / max(1, _whole_rows(column))
        return int(column.get_total_buffer_size() * share)


def _whole_rows(column: pa.Array) -> int:
    return int(column.offset) + len(column)
