"""What lies on disk: folders that name partitions, ordinary Parquet chunks, a Delta table for other readers."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
from backends import Place
from frames import assert_tables_equal, get, load, location
from other_readers import delta_rows, delta_table, parquet_file, scan_delta

EPOCH = datetime.date(1970, 1, 1)


def days(*offsets: int | None) -> pa.Array:
    """Return dates, as days since 2024-01-01."""
    first = (datetime.date(2024, 1, 1) - EPOCH).days
    return pa.array([None if offset is None else first + offset for offset in offsets], pa.int32()).cast(pa.date32())


def chunks_by_folder(server, result: dict) -> dict[str, list[pa.Table]]:
    """Return the chunks of a load, read with nothing but pyarrow, by their folder below the dataset's location."""
    root = location(server, result)
    by_folder: dict[str, list[pa.Table]] = {}
    for chunk in result["chunks"]:
        table = parquet_file(root / chunk["path"]).read()
        assert table.num_rows == chunk["rows"]
        folder = str(Path(chunk["path"]).parent)
        assert folder == (chunk["partition"] or ".") or chunk["partition"] == "", chunk
        by_folder.setdefault(folder, []).append(table)
    return by_folder


def ranges(folders: list[str], column: str) -> list[tuple[int, int]]:
    """Return the ID ranges that folders name, in order; the null partition is left out."""
    found = [re.search(rf"(?:^|/){column}/from_(-?\d+)_to_(-?\d+)$", folder) for folder in folders]
    return sorted((int(match[1]), int(match[2])) for match in found if match)


def assert_no_overlap(bounds: list[tuple[int, int]]) -> None:
    """Check that inclusive ranges, in order, neither overlap nor run backwards."""
    assert all(low <= high for low, high in bounds), bounds
    assert all(before[1] < after[0] for before, after in zip(bounds, bounds[1:])), bounds


# Folders


def test_a_date_key_gives_a_folder_per_date(server, client, name):
    table = pa.table({"when": days(1, 0, 1, None, 366), "x": range(5)})
    found = chunks_by_folder(server, load(client, table, name, columns_keys={"when": "Date"}))
    assert {folder: [part["x"].to_pylist() for part in parts] for folder, parts in found.items()} == {
        "when/2024-01-01": [[1]],
        "when/2024-01-02": [[0, 2]],
        "when/2025-01-01": [[4]],
        "when/__null__": [[3]],
    }


@pytest.mark.parametrize(
    "column, dates",
    [
        (pa.array([0, 86_399_999, 86_400_000], pa.timestamp("ms")), ["1970-01-01", "1970-01-01", "1970-01-02"]),
        (pa.array([-1, -86_400_000_000_000, 0], pa.timestamp("ns")), ["1969-12-31", "1969-12-31", "1970-01-01"]),
        (pa.array([86_400 - 3_600, 86_400 - 1, 0], pa.timestamp("s", "Europe/Paris")), ["1970-01-01"] * 3),
        (pa.array([0, 86_400_000, 86_400_000 * 2], pa.date64()), ["1970-01-01", "1970-01-02", "1970-01-03"]),
        (["2024-02-29", "2024-02-29T23:59:59", "2024-03-01 00:00:00.5"], ["2024-02-29", "2024-02-29", "2024-03-01"]),
        (
            ["2024-01-01T23:30:00-05:00", "2024-01-01T00:30:00+01:00", "2024-01-01T00:00Z"],
            ["2024-01-02", "2023-12-31", "2024-01-01"],
        ),
        (pa.array(["2024-05-05"] * 3, pa.large_string()), ["2024-05-05"] * 3),
        (
            pa.array(["2024-05-05", "2024-05-06", "2024-05-05"]).dictionary_encode(),
            ["2024-05-05", "2024-05-06", "2024-05-05"],
        ),
        (pa.array([-719_162, 2_932_896, 0], pa.date32()), ["0001-01-01", "9999-12-31", "1970-01-01"]),
    ],
    ids=["ms", "ns_before_1970", "zone", "date64", "strings", "offsets", "large_string", "categorical", "extremes"],
)
def test_the_date_is_that_of_the_value_in_utc(server, client, name, column, dates):
    table = pa.table({"when": column, "x": range(3)})
    found = chunks_by_folder(server, load(client, table, name, columns_keys={"when": "Date"}))
    expected: dict[str, list[int]] = {}
    for row, date in enumerate(dates):
        expected.setdefault(f"when/{date}", []).append(row)
    assert {folder: parts[0]["x"].to_pylist() for folder, parts in found.items()} == expected
    assert_tables_equal(get(client, name), table)


def test_an_id_key_gives_a_folder_per_range(server, client, name):
    ids = np.random.default_rng(1).permutation(300_000) - 150_000
    result = load(client, pa.table({"id": ids}), name, columns_keys={"id": "ID"})
    found = chunks_by_folder(server, result)
    bounds = ranges(list(found), "id")
    assert len(bounds) == len(found) >= 2
    assert_no_overlap(bounds)
    for low, high in bounds:
        inside = np.concatenate([part["id"].to_numpy() for part in found[f"id/from_{low}_to_{high}"]])
        assert (inside >= low).all() and (inside <= high).all()
    assert sum(part.num_rows for parts in found.values() for part in parts) == 300_000


def test_negative_and_null_ids_have_folders_too(server, client, name):
    table = pa.table({"id": pa.array([-5, None, 10, 3], pa.int16())})
    found = chunks_by_folder(server, load(client, table, name, columns_keys={"id": "ID"}))
    assert set(found) == {"id/from_-5_to_10", "id/__null__"}


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int64(), pa.uint64()], ids=str)
def test_the_extremes_of_an_id_type_are_kept(server, client, name, kind):
    bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    table = pa.table({"id": pa.array([high, low], kind)})
    found = chunks_by_folder(server, load(client, table, name, columns_keys={"id": "ID"}))
    bounds = ranges(list(found), "id")
    assert (bounds[0][0], bounds[-1][1]) == (low, high)
    assert_tables_equal(get(client, name), table)


def test_one_id_is_never_in_two_ranges(start_server):
    server = start_server(chunk_rows=100)
    ids = np.sort(np.random.default_rng(2).zipf(1.3, 5_000) % 40)
    with server.connect() as client:
        result = load(client, pa.table({"id": ids}), "own/data", columns_keys={"id": "ID"})
    bounds = ranges(list(chunks_by_folder(server, result)), "id")
    assert len(bounds) > 1
    assert_no_overlap(bounds)


def test_date_folders_stand_above_id_folders_in_schema_order(server, client, name):
    table = pa.table({"b_id": [4, 4, 9], "day2": days(0, 0, 1), "a_id": [1, 2, 3], "day1": days(5, 5, None)})
    keys = {"a_id": "ID", "b_id": "ID", "day1": "Date", "day2": "Date"}
    found = chunks_by_folder(server, load(client, table, name, columns_keys=keys))
    for folder in found:
        assert folder.split("/")[0:6:2] + folder.split("/")[6:7] == ["day2", "day1", "b_id", "a_id"], folder
    assert {tuple(folder.split("/")[1:4:2]) for folder in found} == {
        ("2024-01-01", "2024-01-06"),
        ("2024-01-02", "__null__"),
    }


def test_id_ranges_do_not_overlap_within_a_date(start_server):
    server = start_server(chunk_rows=1_000)
    random = np.random.default_rng(3)
    day = random.integers(0, 3, 20_000)
    table = pa.table({"day": days(*day.tolist()), "id": random.integers(-500, 500, 20_000)})
    with server.connect() as client:
        result = load(client, table, "own/data", columns_keys={"day": "Date", "id": "ID"})
        assert_tables_equal(get(client, "own/data"), table)
    found = chunks_by_folder(server, result)
    assert {folder.split("/")[1] for folder in found} == {"2024-01-01", "2024-01-02", "2024-01-03"}
    for date in {folder.split("/")[1] for folder in found}:
        bounds = ranges([folder for folder in found if f"/{date}/" in folder], "id")
        assert len(bounds) > 2
        assert_no_overlap(bounds)


@pytest.mark.parametrize(
    "column", ["sold on", "a/b", "..", ".", "100%", "ÿ é", "a=b", "new\nline", "CON", "*?", "__null__"]
)
def test_column_names_are_percent_encoded(server, client, name, column):
    table = pa.table({column: days(0, 1)})
    result = load(client, table, name, columns_keys={column: "Date"})
    folders = set(chunks_by_folder(server, result))
    assert {unquote(folder.split("/")[0]) for folder in folders} == {column}
    assert {folder.split("/")[1] for folder in folders} == {"2024-01-01", "2024-01-02"}
    for folder in folders:
        assert re.fullmatch(r"[A-Za-z0-9_.~%-]+/[0-9-]+", folder), folder
        assert folder.split("/")[0] not in (".", "..")
    assert_tables_equal(get(client, name), table)


# Chunks


@pytest.mark.parametrize("chunk_rows", [None, 1_000])
def test_a_large_partition_is_split_into_chunks(start_server, chunk_rows):
    server = start_server(chunk_rows=chunk_rows)
    rows, about = (400_000, 100_000) if chunk_rows is None else (10_000, chunk_rows)
    table = pa.table({"day": days(*[0] * rows), "x": np.arange(rows)})
    with server.connect() as client:
        result = load(client, table, "own/data", columns_keys={"day": "Date"})
        assert_tables_equal(get(client, "own/data"), table)
    sizes = [chunk["rows"] for chunk in result["chunks"]]
    assert sum(sizes) == rows
    assert max(sizes) <= 2 * about
    assert rows // about // 2 <= len(sizes) <= 2 * rows // about


def test_a_chunk_is_zstd_parquet_with_the_hidden_columns_last(server, client, name):
    table = pa.table({"day": days(0, 0, 1), "x": [1.5, None, 2.5], "s": ["a", "b", None]})
    result = load(client, table, name, columns_keys={"day": "Date"})
    root = location(server, result)
    assert [chunk["number"] for chunk in result["chunks"]] == list(range(1, len(result["chunks"]) + 1))
    for chunk in result["chunks"]:
        file = parquet_file(root / chunk["path"])
        names = file.schema_arrow.names
        assert names[:3] == ["day", "x", "s"]
        assert len(names) >= 4 and all(column.startswith("__pdb_") for column in names[3:])
        for group in range(file.metadata.num_row_groups):
            for column in range(file.metadata.num_columns):
                assert file.metadata.row_group(group).column(column).compression == "ZSTD"


def test_chunks_of_one_load_hold_one_partition_each(server, client, name):
    table = pa.table({"day": days(*[i % 5 for i in range(1_000)]), "x": range(1_000)})
    result = load(client, table, name, columns_keys={"day": "Date"})
    for parts in chunks_by_folder(server, result).values():
        for part in parts:
            assert len(part["day"].unique()) == 1
            assert part["x"].to_pylist() == sorted(part["x"].to_pylist())


# Other readers of the same table


def read_as_delta(root: Place) -> pa.Table:
    """Read the table with delta-rs, in order, without the hidden columns."""
    table = delta_rows(root)
    shown = [column for column in table.column_names if not column.startswith("__pdb_")]
    assert table.column_names[: len(shown)] == shown, "hidden columns are the last"
    assert len(shown) < table.num_columns
    return table.select(shown).sort_by("x")


def test_delta_readers_see_the_union_of_the_live_versions(server, client, name):
    def rows(*values: int) -> pa.Table:
        return pa.table(
            {"day": days(*values), "x": pa.array(values, pa.int64()), "s": [str(value) for value in values]}
        )

    result = load(client, rows(3, 1), name, columns_keys={"day": "Date"})
    root = location(server, result)
    load(client, rows(2), name, external_key="k")
    assert read_as_delta(root).to_pylist() == rows(1, 2, 3).to_pylist()
    load(client, rows(7, 8), name, keep_last=True)
    assert read_as_delta(root).to_pylist() == rows(2, 7, 8).to_pylist()
    shown = scan_delta(root).select("day", "x", "s").sort("x").collect()
    assert shown.rows() == [tuple(row.values()) for row in rows(2, 7, 8).to_pylist()]


def test_a_rejected_load_is_not_in_the_delta_table(server, client, name):
    root = location(server, load(client, pa.table({"x": [1]}), name))
    before = delta_table(root).version()
    with pytest.raises(pa.ArrowInvalid):
        load(client, pa.table({"x": [2]}), name, total_rows=9)
    assert delta_table(root).version() == before
    assert read_as_delta(root)["x"].to_pylist() == [1]


def test_names_never_become_paths(server, client, name):
    root = location(server, load(client, pa.table({"x": [1]}), f"{name}/CON"))
    assert server.storage.resolve() in root.resolve().parents
    assert "CON" not in root.parts
