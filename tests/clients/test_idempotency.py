"""Idempotency keys: a repeated load stores nothing and gives the first one's answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from frames import assert_tables_equal, get, load, load_descriptor, refused

TABLE = pa.table({"x": np.arange(1_000), "s": [f"row {i % 7}" for i in range(1_000)]})


def same(result: dict) -> dict:
    """Return the part of a result that a repeat must give again; `rows` and `bytes` tell what arrived this time."""
    return {key: value for key, value in result.items() if key not in ("duplicate", "bytes")}


def test_a_repeat_gives_the_first_answer_and_stores_nothing(client, name):
    first = load(client, TABLE, name, idempotency_key="one")
    again = load(client, TABLE, name, idempotency_key="one")
    assert same(again) == same(first)
    assert again["duplicate"] is True
    assert not first.get("duplicate", False)
    assert get(client, name).num_rows == 1_000
    assert load(client, TABLE, name, idempotency_key="two")["version"] == 2
    assert same(load(client, TABLE, name, idempotency_key="one")) == same(first)


def test_a_repeat_with_all_options_gives_the_first_answer(client, name):
    options = {"columns_keys": {"x": "ID"}, "external_key": "k", "keep_last": True, "idempotency_key": "one"}
    first = load(client, TABLE, name, **options)
    load(client, TABLE.slice(0, 10), name, external_key="k", keep_last=True)
    assert same(load(client, TABLE, name, **options)) == same(first)
    assert get(client, name).num_rows == 10


@pytest.mark.parametrize("batch_rows", [1, 7, 999, 100_000])
def test_other_batch_sizes_are_the_same_content(client, name, batch_rows):
    first = load(client, TABLE, name, idempotency_key="one", batch_rows=300)
    assert same(load(client, TABLE, name, idempotency_key="one", batch_rows=batch_rows)) == same(first)
    assert get(client, name).num_rows == 1_000


def test_a_sliced_table_is_the_same_content(client, name):
    """Offsets and unused buffer parts are not content."""
    wide = pa.table(
        {
            "x": pa.array([None, 1, None, 3, 4]),
            "s": ["a", "bb", None, "dddd", "e"],
            "b": [True, None, False, True, None],
        }
    )
    part = wide.slice(1, 3)
    copy = pa.Table.from_pylist(part.to_pylist(), schema=part.schema)
    first = load(client, part, name, idempotency_key="one")
    assert same(load(client, copy, name, idempotency_key="one")) == same(first)


def test_concurrent_repeats_make_one_version(server, client, name):
    def one(_: int) -> dict:
        with server.connect() as own:
            return load(own, TABLE, name, idempotency_key="one")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(16)))
    assert all(same(result) == same(results[0]) for result in results)
    assert sum(not result.get("duplicate", False) for result in results) == 1
    assert get(client, name).num_rows == 1_000


@pytest.mark.parametrize("number", range(4))
def test_a_repeat_after_a_lost_reply_makes_one_version(server, client, name, number):
    """The connection is gone before the answer is read, and so it may be unknown whether the load was stored."""
    table = pa.table({"x": list(range(10_000))})
    descriptor = load_descriptor(name, idempotency_key="lost", total_rows=table.num_rows)
    with server.connect() as lost:
        writer, _ = lost.do_put(descriptor, table.schema)
        writer.write_table(table, max_chunksize=3_000)
        if number % 2:
            writer.done_writing()
    again = load(client, table, name, idempotency_key="lost", total_rows=table.num_rows)
    assert again["version"] == 1
    assert_tables_equal(get(client, name), table)
    assert load(client, table, name, idempotency_key="lost", total_rows=table.num_rows)["duplicate"]


def test_a_repeat_after_a_crash_gives_the_first_answer(start_server):
    server = start_server()
    with server.connect() as client:
        first = load(client, TABLE, "own/data", idempotency_key="one")
    server.kill()
    with start_server().connect() as client:
        assert same(load(client, TABLE, "own/data", idempotency_key="one")) == same(first)
        assert get(client, "own/data").num_rows == 1_000
        with refused("INVALID_ARGUMENT"):
            load(client, TABLE.slice(1), "own/data", idempotency_key="one")


OTHER = {
    "one_value": (TABLE.set_column(0, "x", pa.array([*range(999), -1])), {}),
    "null_for_a_value": (TABLE.set_column(0, "x", pa.array([None, *range(1, 1_000)], pa.int64())), {}),
    "row_order": (TABLE.take(np.arange(999, -1, -1)), {}),
    "fewer_rows": (TABLE.slice(0, 999), {}),
    "column_name": (TABLE.rename_columns(["y", "s"]), {}),
    "column_type": (TABLE.set_column(0, "x", TABLE["x"].cast(pa.int32())), {}),
    "metadata": (TABLE.replace_schema_metadata({"a": "b"}), {}),
    "external_key": (TABLE, {"external_key": "k"}),
    "keep_last": (TABLE, {"keep_last": True}),
    "columns_keys": (TABLE, {"columns_keys": {"x": "ID"}}),
}


@pytest.mark.parametrize("table, options", OTHER.values(), ids=OTHER.keys())
def test_the_same_key_with_something_else_is_refused(client, name, table, options):
    load(client, TABLE, name, idempotency_key="one")
    with refused("INVALID_ARGUMENT", mentions=["idempotency"]):
        load(client, table, name, idempotency_key="one", **options)
    assert get(client, name).num_rows == 1_000
    assert load(client, TABLE, name)["version"] == 2


def test_the_same_key_on_another_dataset_is_another_load(client, name):
    load(client, TABLE, name, idempotency_key="one")
    assert not load(client, TABLE.slice(5), name + "/b", idempotency_key="one").get("duplicate", False)
    assert get(client, name + "/b").num_rows == 995


def test_a_failed_load_frees_its_key(client, name):
    with refused("INVALID_ARGUMENT"):
        load(client, TABLE, name, idempotency_key="one", total_rows=5)
    assert load(client, TABLE.slice(3), name, idempotency_key="one")["version"] == 1
    assert get(client, name).num_rows == 997


def test_a_load_without_a_key_is_always_a_new_version(client, name):
    assert [load(client, TABLE, name)["version"] for _ in range(2)] == [1, 2]
    assert get(client, name).num_rows == 2_000
