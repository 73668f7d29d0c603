"""Tables are cut into batches below a size, and no row is lost or moved."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pandas_db_sdk.batches import MAX_BATCH_BYTES, cut

ROWS = 50_000
RANDOM = np.random.default_rng(3)
TABLES = {
    "numbers": pa.table({f"c{number}": RANDOM.random(ROWS) for number in range(40)}),
    "text": pa.table({"s": ["x" * int(length) for length in RANDOM.integers(0, 3_000, ROWS)]}),
    "text_large_at_the_end": pa.table({"s": ["x"] * 40_000 + ["y" * 20_000] * 1_000}),
    "lists": pa.table({"l": [[1.5] * int(length) for length in RANDOM.integers(0, 500, ROWS)]}),
    "structs": pa.table({"s": [{"a": "x" * 500, "b": [1, 2]}] * ROWS}),
    "dictionary": pa.table({"d": pa.array([f"{n % 30_000} {'z' * 200}" for n in range(ROWS)]).dictionary_encode()}),
    "booleans": pa.table({"b": RANDOM.random(ROWS) < 0.5}),
    "nulls": pa.table({"n": pa.nulls(ROWS)}),
    "many_batches": pa.concat_tables([pa.table({"x": [number]}) for number in range(100)]),
    "no_rows": pa.table({"x": pa.array([], pa.int64())}),
}


@pytest.mark.parametrize("sample", TABLES)
def test_batches_are_small_enough_and_together_the_table(sample):
    table = TABLES[sample]
    batches = list(cut(table))
    if batches:
        assert pa.Table.from_batches(batches).equals(table)
    assert sum(batch.num_rows for batch in batches) == table.num_rows
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        dictionaries = sum(
            column.dictionary.nbytes for column in batch.columns if isinstance(column, pa.DictionaryArray)
        )
        assert sink.getvalue().size - dictionaries < 4 << 20
    least = sum(column.nbytes for column in table.columns) / MAX_BATCH_BYTES
    assert len(batches) <= max(3 * least + 1, sum(len(column.chunks) for column in table.columns))


def test_a_row_that_is_too_large_goes_alone():
    table = pa.table({"s": ["a", "x" * 5_000_000, "b", "c"]})
    assert [batch.num_rows for batch in cut(table)] == [1, 1, 2]
    assert pa.Table.from_batches(list(cut(table))).equals(table)


def test_every_type_can_be_measured():
    view = getattr(pa, "string_view", None)
    columns = {"u": pa.array([b"x" * 16] * 10, pa.binary(16)), "i": pa.array([None] * 10, pa.month_day_nano_interval())}
    if view:
        columns["v"] = pa.array(["a string of more than twelve bytes"] * 10, view())
        columns["r"] = pa.compute.run_end_encode(pa.array([1] * 10))
    table = pa.table(columns)
    assert sum(batch.num_rows for batch in cut(table, 64)) == 10
