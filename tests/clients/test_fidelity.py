"""What goes in comes out: types, values, nullability, metadata, index, categories and row order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from frames import assert_tables_equal, categories, get, get_info, load, refused
from pandas.testing import assert_frame_equal
from samples import arrow_tables, pandas_frames, polars_frames, with_date

TABLES = arrow_tables() | polars_frames()
FRAMES = pandas_frames()


@pytest.mark.parametrize("keys", [None, {"when": "Date"}], ids=["no_keys", "date_key"])
@pytest.mark.parametrize("sample", TABLES)
def test_an_arrow_table_comes_back_equal(client, name, sample, keys):
    sent = with_date(TABLES[sample])
    load(client, sent, name, columns_keys=keys)
    assert_tables_equal(get(client, name), sent)
    assert get_info(client, name).schema.equals(sent.schema, check_metadata=True)


@pytest.mark.parametrize("keys", [None, {"when": "Date"}], ids=["no_keys", "date_key"])
@pytest.mark.parametrize("sample", FRAMES)
def test_a_pandas_frame_comes_back_equal(client, name, sample, keys):
    sent = FRAMES[sample].copy()
    if sample != "multi_columns":
        sent["when"] = pd.to_datetime(
            ["2024-01-04", "2024-01-01", "2024-01-05", "2024-01-01", "2024-01-02", "2024-01-04"]
        )
    elif keys:
        keys = {"('a', 'x')": "ID"}
        sent[("a", "x")] = [5, 3, 3, 1, 4, 2]
    table = pa.Table.from_pandas(sent)
    load(client, table, name, columns_keys=keys)
    got = get(client, name)
    assert_tables_equal(got, table)
    frame = got.to_pandas()
    assert_frame_equal(frame, table.to_pandas(), check_freq=False)
    assert_frame_equal(frame.reset_index(drop=True), sent.reset_index(drop=True), check_freq=False)
    assert frame.attrs == sent.attrs
    assert frame.index.equals(sent.index)
    assert frame.index.names == sent.index.names


@pytest.mark.parametrize("sample", TABLES)
def test_two_loads_come_back_one_after_the_other(client, name, sample):
    sent = with_date(TABLES[sample])
    for external_key in ("one", "two"):
        load(client, sent, name, columns_keys={"when": "Date"}, external_key=external_key)
    assert_tables_equal(get(client, name), pa.concat_tables([sent, sent]))
    assert_tables_equal(get(client, name, external_key="two"), sent)


@pytest.mark.parametrize("sample", TABLES)
def test_an_empty_table_keeps_its_schema(client, name, sample):
    sent = TABLES[sample].slice(0, 0)
    load(client, sent, name)
    assert_tables_equal(get(client, name), sent)


def test_a_range_index_of_two_loads_counts_on(client, name):
    frame = pd.DataFrame({"x": range(5)})
    load(client, frame, name)
    load(client, frame, name)
    assert_frame_equal(get(client, name).to_pandas(), pd.concat([frame, frame], ignore_index=True))


@pytest.mark.parametrize("keys", [{"day": "Date"}, {"id": "ID"}, {"day": "Date", "id": "ID"}], ids="_".join)
def test_row_order_is_kept_when_partitions_are_shuffled(client, name, keys):
    random = np.random.default_rng(7)
    rows = 250_000
    sent = pa.table(
        {
            "row": np.arange(rows),
            "day": pa.array(random.integers(0, 90, rows), pa.int32()).cast(pa.date32()),
            "id": pa.array(random.integers(-1_000_000, 1_000_000, rows), mask=random.random(rows) < 0.01),
            "v": random.normal(size=rows),
        }
    )
    load(client, sent, name, columns_keys=keys)
    load(client, sent.slice(0, 1_000), name)
    got = get(client, name)
    assert got.equals(pa.concat_tables([sent, sent.slice(0, 1_000)]))


def test_dictionaries_that_change_between_batches_come_back_with_every_value(client, name):
    """Each record batch of a stream may bring a new dictionary."""
    parts = [
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), words) for words in (["a", "b"], ["b", "c"])
    ]
    sent = pa.table({"c": pa.chunked_array(parts)})
    load(client, sent, name)
    got = get(client, name)
    assert got.schema.equals(sent.schema)
    assert got["c"].to_pylist() == ["a", "b", "a", "b", "c", "b"]
    assert categories(got["c"]) == ["a", "b", "c"]


def test_categories_of_a_union_are_appended_in_version_order(client, name):
    for words in (["b", "a"], ["c", "a"]):
        load(client, pa.table({"c": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), words)}), name)
    got = get(client, name)
    assert got["c"].to_pylist() == ["b", "a", "c", "a"]
    assert categories(got["c"]) == ["b", "a", "c"]


# A later load of another schema


def test_new_columns_are_null_before_and_absent_ones_after(client, name):
    load(client, pa.table({"a": [1], "b": ["x"]}), name)
    load(client, pa.table({"c": [2.5], "a": [2]}), name)
    got = get(client, name)
    assert got.column_names == ["a", "b", "c"]
    assert got.to_pylist() == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": 2.5}]


def test_the_union_has_the_metadata_of_the_newest_version(client, name):
    for owner in ("old", "new"):
        load(client, pa.table({"a": [1]}).replace_schema_metadata({"owner": owner}), name)
    assert get(client, name).schema.metadata == {b"owner": b"new"}


WIDENING = {
    "int8_to_int64": (pa.int8(), pa.int64(), pa.int64()),
    "int64_then_int16": (pa.int64(), pa.int16(), pa.int64()),
    "null_to_string": (pa.null(), pa.string(), pa.string()),
    "string_then_null": (pa.string(), pa.null(), pa.string()),
    "uint8_to_uint32": (pa.uint8(), pa.uint32(), pa.uint32()),
}


@pytest.mark.parametrize("first, second, union", WIDENING.values(), ids=WIDENING.keys())
def test_types_widen_without_loss(client, name, first, second, union):
    parts = [pa.table({"c": pc.cast(pa.array([None if kind == pa.null() else 7]), kind)}) for kind in (first, second)]
    for part in parts:
        load(client, part, name)
    got = get(client, name)
    assert got.schema.field("c").type == union
    assert got["c"].to_pylist() == [*parts[0]["c"].cast(union).to_pylist(), *parts[1]["c"].cast(union).to_pylist()]


@pytest.mark.parametrize(
    "first, second, named",
    [
        (pa.array([1]), pa.array(["x"]), ["Int64", "Utf8"]),
        (pa.array([(1 << 53) + 1]), pa.array([0.5]), ["Int64", "Float64"]),
        (pa.array(["x"]), pa.array([b"x"]), ["Utf8", "Binary"]),
        (pa.array([True]), pa.array([1]), ["Boolean", "Int64"]),
        (pa.array([0], pa.timestamp("us")), pa.array([0], pa.timestamp("us", "UTC")), ["Timestamp"]),
    ],
    ids=["int_string", "inexact_int_float", "string_binary", "bool_int", "naive_zoned"],
)
def test_a_type_that_cannot_widen_rejects_the_load(client, name, first, second, named):
    """The message names the column and both types; how it spells a type is its own affair, but for case."""
    load(client, pa.table({"amount": first}), name)
    with refused("INVALID_ARGUMENT", mentions=["amount"]) as caught:
        load(client, pa.table({"amount": second}), name)
    message = caught.value.args[0].lower()
    assert all(kind.lower() in message or kind.lower().replace("utf8", "string") in message for kind in named), message
    assert get(client, name).to_pylist() == [{"amount": first[0].as_py()}]
