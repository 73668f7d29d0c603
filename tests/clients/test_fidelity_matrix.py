"""Every frame of the matrix comes back equal: alone and in a union, with keys and without."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from frames import as_table, assert_tables_equal, get, get_info, load, sql_by_ticket, table_name
from frames_matrix import matrix, with_keys
from pandas.testing import assert_frame_equal

MATRIX = matrix()


def frame_of(table: pa.Table) -> pd.DataFrame | None:
    """Return what Arrow itself makes of a table, without pandas' metadata where that stops it; None where it cannot."""
    for options in ({}, {"ignore_metadata": True}):
        try:
            return table.to_pandas(**options)
        except (TypeError, ValueError, pa.ArrowException):
            continue
    return None


def after_arrow(table: pa.Table) -> pa.Table:
    """Return a table as Arrow's own stream gives it back; to_pandas misreads a few types that are slices."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def union(*tables: pa.Table) -> pa.Table:
    """Return tables one after the other; unlike pyarrow's concat_tables it counts the rows of no columns."""
    return pa.Table.from_batches([batch for table in tables for batch in table.to_batches()], tables[0].schema)


def nested(value: object) -> object:
    """Make lists, arrays and dicts of an object column comparable with ==, NaN equal to NaN."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [nested(item) for item in value]
    if isinstance(value, dict):
        return {key: nested(item) for key, item in value.items()}
    return str(value) if isinstance(value, (float, np.generic)) and value != value else value


def assert_comes_back(got: pa.Table, sent: pa.Table) -> None:
    """Check a table as Arrow sees it and as pandas does."""
    assert_tables_equal(got, sent)
    frame, expected = frame_of(got), frame_of(after_arrow(sent))
    assert (frame is None) == (expected is None)
    if frame is not None:
        # What assert_frame_equal cannot compare inside an object column becomes lists and dicts.
        holds_objects = [position for position, kind in enumerate(expected.dtypes) if kind == object]
        for each in (frame, expected):
            for position in holds_objects:
                each.isetitem(position, pd.Series([nested(value) for value in each.iloc[:, position]], dtype=object))
        assert_frame_equal(frame, expected, check_exact=True)
        assert frame.attrs == expected.attrs


def test_the_matrix_is_large_and_pandas_reads_nearly_all_of_it():
    assert sum(isinstance(sample, pd.DataFrame) for sample in MATRIX.values()) >= 60
    assert sum(frame_of(as_table(sample)) is not None for sample in MATRIX.values()) >= 0.95 * len(MATRIX)


@pytest.mark.parametrize("sample", MATRIX)
def test_a_frame_comes_back_alone_and_twice_in_a_union(client, name, sample):
    sent = as_table(MATRIX[sample])
    load(client, sent, name)
    assert_comes_back(get(client, name), sent)
    assert get_info(client, name).schema.equals(sent.schema, check_metadata=True)
    load(client, sent, name)
    assert_comes_back(get(client, name), union(sent, sent))
    for version in (1, 2):
        assert_comes_back(get(client, name, version=version), sent)


@pytest.mark.parametrize("sample", MATRIX)
def test_a_frame_with_keys_comes_back_alone_and_before_a_part_of_it(client, name, sample):
    sent, keys = with_keys(sample, as_table(MATRIX[sample]))
    part = sent.slice(sent.num_rows // 2)
    result = load(client, sent, name, columns_keys=keys)
    assert result["chunks_total"] >= min(4, sent.num_rows), "the frame stands in several partitions"
    assert_comes_back(get(client, name), sent)
    load(client, part, name)
    assert_comes_back(get(client, name), union(sent, part))
    assert_comes_back(get(client, name, version=1), sent)
    assert_comes_back(get(client, name, version=2), part)


@pytest.mark.parametrize("sample", MATRIX)
def test_halves_come_back_as_one(client, name, sample):
    sent = as_table(MATRIX[sample])
    halves = [sent.slice(0, sent.num_rows // 2), sent.slice(sent.num_rows // 2)]
    for half in halves:
        load(client, half, name)
    assert_comes_back(get(client, name), union(*halves))
    for version, half in enumerate(halves, 1):
        assert_comes_back(get(client, name, version=version), half)


@pytest.mark.parametrize("sample", MATRIX)
def test_sql_reads_every_frame(client, name, sample):
    sent = as_table(MATRIX[sample])
    load(client, sent, name)
    shown = sql_by_ticket(client, f"SELECT * FROM {table_name(name)}")
    assert shown.column_names == sent.column_names
    assert shown.num_rows == sent.num_rows
