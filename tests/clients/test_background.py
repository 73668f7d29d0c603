"""What a server does by itself: merging small chunks, ending versions by age, deleting files nobody can read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import conftest
import pyarrow as pa
from frames import assert_tables_equal, get, load, refused
from versions import delete_dataframe, describe, list_versions, root_of, set_retention

SOON = {"maintenance_interval": "100ms", "vacuum_after": "0s"}


def eventually(is_so: Callable[[], bool]) -> None:
    """Ask again and again until it is so."""
    deadline = time.monotonic() + conftest.PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"


def files(root: Path) -> list[Path]:
    """Return the chunks on disk."""
    return [path for path in root.rglob("*.parquet") if path.is_file()]


def row(number: int) -> pa.Table:
    """Return a frame of one row."""
    return pa.table({"x": [number]})


def test_many_small_loads_are_merged_without_being_told(start_server):
    with start_server().connect() as client:
        for number in range(40):
            load(client, row(number), "a")
        eventually(lambda: describe(client, "a")["chunks"] < 20)
        assert get(client, "a")["x"].to_pylist() == list(range(40))
        assert [version["version"] for version in list_versions(client, "a")] == list(range(1, 41))
        assert_tables_equal(get(client, "a", version=17), row(16))


def test_versions_end_when_they_are_too_old(start_server):
    with start_server(maintenance_interval="100ms").connect() as client:
        load(client, row(1), "a")
        set_retention(client, "a", keep_seconds=1)
        eventually(lambda: list_versions(client, "a") == [])
        assert get(client, "a").num_rows == 0
        assert_tables_equal(get(client, "a", version=1), row(1))


def test_what_ended_is_deleted_from_disk(start_server):
    with start_server(**SOON).connect() as client:
        load(client, row(1), "a", keep_last=True)
        root = root_of(client, "a")
        load(client, row(2), "a", keep_last=True)
        eventually(lambda: len(files(root)) == 1)
        assert_tables_equal(get(client, "a"), row(2))
        with refused("NOT_FOUND"):
            get(client, "a", version=1)


def test_a_deleted_dataset_is_deleted_from_disk(start_server):
    with start_server(**SOON).connect() as client:
        load(client, row(1), "a")
        root = root_of(client, "a")
        delete_dataframe(client, "a")
        load(client, row(2), "a")
        eventually(lambda: not any(path.is_file() for path in root.rglob("*")))
        assert_tables_equal(get(client, "a"), row(2))


def test_a_dataset_that_was_not_touched_since_the_start_is_tended_too(start_server):
    with start_server(vacuum_after="0s").connect() as client:
        load(client, row(1), "a", keep_last=True)
        root = root_of(client, "a")
        load(client, row(2), "a", keep_last=True)
    start_server(**SOON)
    eventually(lambda: len(files(root)) == 1)
