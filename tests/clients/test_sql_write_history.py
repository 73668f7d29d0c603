"""Datasets that statements changed: versions, moments, compaction, vacuum, restarts, other readers, and chunks read."""

from __future__ import annotations

from pathlib import Path

import backends
import duckdb
import pyarrow as pa
from frames import (
    assert_tables_equal,
    get,
    get_info,
    load,
    sql,
    table_name,
)
from other_readers import delta_rows, delta_table, scan_delta
from versions import (
    compact,
    delete_version,
    describe,
    list_versions,
    named,
    root_of,
    set_retention,
    vacuum,
)
from writes import DAY, people, versions, write


def history(client, name: str) -> dict:
    """Make versions and statements in turn; return what must be read at each moment."""
    load(client, people(1, 2, 3), name, external_key="a")
    load(client, people(4, 5), name, external_key="b")
    write(client, f"UPDATE {table_name(name)} SET s = 'u' WHERE id IN (2, 4)")
    write(client, f"DELETE FROM {table_name(name)} WHERE id = 3")
    write(client, f"INSERT INTO {table_name(name)} VALUES (6, 'i', 1)")
    write(
        client,
        f"MERGE INTO {table_name(name)} t USING (VALUES (6), (7)) s(k) ON t.id = s.k"
        " WHEN MATCHED THEN UPDATE SET s = 'm' WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'n', 0)",
    )
    records = list_versions(client, name)
    return {record["created_at"]: get(client, name, as_of=record["created_at"]) for record in records}


def assert_history(client, name: str, moments: dict, *, last: list[int]) -> None:
    """Check every moment, the union and the versions."""
    for moment, table in moments.items():
        assert_tables_equal(get(client, name, as_of=moment), table)
    assert get(client, name)["id"].to_pylist() == [1, 2, 4, 5, 6, 7]
    assert get(client, name)["s"].to_pylist() == ["s1", "u", "u", "s5", "m", "n"]
    assert get(client, name, version=1)["id"].to_pylist() == [1, 2]
    assert get(client, name, use_last=True)["id"].to_pylist() == last


def test_compaction_keeps_what_statements_made(client, name):
    moments = history(client, name)
    assert_history(client, name, moments, last=[7])
    assert compact(client, name)["chunks_after"] == 1
    assert_history(client, name, moments, last=[7])
    write(client, f"DELETE FROM {table_name(name)} WHERE id = 7")
    write(client, f"UPDATE {table_name(name)} SET x = -1 WHERE id IN (1, 6)")
    assert get(client, name)["id"].to_pylist() == [1, 2, 4, 5, 6]
    assert get(client, name, use_last=True)["id"].to_pylist() == [], "the newest that brought rows has none left"
    assert [each[2] for each in versions(client, name)] == [2, 2, 0, 0, 1, 0, 0, 0]
    assert_tables_equal(get(client, name, as_of=list(moments)[-1]), list(moments.values())[-1])


def test_a_restart_changes_nothing(start_server):
    name = "writes/restart"
    server = start_server()
    with server.connect() as client:
        moments, told = history(client, name), list_versions(client, name)
    server.kill()
    with start_server().connect() as client:
        assert_history(client, name, moments, last=[7])
        assert list_versions(client, name) == told
        assert get_info(client, name).total_records == describe(client, name)["rows"] == 6


def test_vacuum_leaves_what_counts(start_server):
    with start_server(vacuum_after="0s").connect() as client:
        name = "writes/vacuum"
        history(client, name)
        assert vacuum(client, name)["files_deleted"] > 0
        assert_history(client, name, {}, last=[7])
        write(client, f"DELETE FROM {table_name(name)} WHERE id < 3")
        assert get(client, name)["id"].to_pylist() == [4, 5, 6, 7]


def test_versions_with_changed_rows_end_like_others(client, name):
    history(client, name)
    delete_version(client, name, 1)
    assert get(client, name)["id"].to_pylist() == [4, 5, 6, 7]
    delete_version(client, name, 3)
    assert get(client, name)["s"].to_pylist() == ["u", "s5", "m", "n"], "what an update made stays"
    load(client, people(9), name, external_key="b", keep_last=True)
    assert get(client, name)["id"].to_pylist() == [6, 7, 9]
    load(client, people(8), name, keep_last=True)
    assert get(client, name)["id"].to_pylist() == [9, 8]
    assert get(client, name, version=2)["s"].to_pylist() == ["u", "s5"]
    assert describe(client, name)["rows"] == 2


def test_statements_without_rows_take_no_place_of_a_retention(client, name):
    load(client, people(1), name)
    load(client, people(2), name)
    set_retention(client, name, keep_versions=2)
    for value in range(5):
        write(client, f"UPDATE {table_name(name)} SET x = {value}")
    assert get(client, name)["id"].to_pylist() == [1, 2]
    write(client, f"INSERT INTO {table_name(name)} VALUES (3, 'c', 0)")
    assert get(client, name)["id"].to_pylist() == [2, 3]
    write(
        client,
        f"MERGE INTO {table_name(name)} t USING (VALUES (4)) s(k) ON t.id = s.k"
        " WHEN NOT MATCHED THEN INSERT (id) VALUES (s.k)",
    )
    assert get(client, name)["id"].to_pylist() == [3, 4]


def test_other_readers_see_the_rows_as_they_are(client, name, tmp_path):
    frame = pa.table({"day": pa.array([DAY(2024, 1, 1 + n % 3) for n in range(9)]), "id": list(range(9))})
    load(client, frame, name, columns_keys={"day": "Date"})
    load(client, frame, name)
    write(client, f"DELETE FROM {table_name(name)} WHERE id % 2 = 0")
    write(client, f"UPDATE {table_name(name)} SET day = '2024-02-01' WHERE id = 3")
    write(client, f"INSERT INTO {table_name(name)} VALUES ('2024-03-01', 100)")
    source = "(VALUES (5), (200)) AS s(id)"
    matched = "WHEN MATCHED THEN UPDATE SET id = 500 WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)"
    assert write(client, f"MERGE INTO {table_name(name)} AS t USING {source} ON t.id = s.id {matched}") == 3
    expected = sorted(map(str, get(client, name).to_pylist()))
    root = root_of(client, name)
    by_delta = delta_rows(root).select(["day", "id"]).to_pylist()
    by_polars = scan_delta(root).select(["day", "id"]).collect().to_dicts()
    assert sorted(map(str, by_delta)) == sorted(map(str, by_polars)) == expected
    files = [str(tmp_path / f"{number}.parquet") for number, _ in enumerate(delta_table(root).file_uris())]
    for file, stored in zip(files, delta_table(root).file_uris()):
        Path(file).write_bytes(backends.named(stored).read_bytes())
    by_duckdb = duckdb.sql(f"SELECT count(*), sum(id) FROM read_parquet({files})").fetchall()[0]
    assert by_duckdb == (len(expected), sum(get(client, name)["id"].to_pylist()))


def test_only_chunks_with_changed_rows_are_made_anew(client, name):
    frame = pa.table({"day": pa.array([DAY(2024, 1, 1 + n) for n in range(10)]), "n": list(range(10))})
    load(client, frame, name, columns_keys={"day": "Date"})
    paths = f"SELECT path FROM {named(name, '$chunks')}"
    before = set(sql(client, paths)["path"].to_pylist())
    write(client, f"UPDATE {table_name(name)} SET n = -1 WHERE n IN (2, 3)")
    after = set(sql(client, paths)["path"].to_pylist())
    assert len(before - after) == len(after - before) == 2


def test_chunks_are_ruled_out_before_they_are_read(server, client, name):
    days = pa.array([DAY(2024, 1, 1 + n) for n in range(10)])
    load(client, pa.table({"day": days, "n": list(range(10))}), name, columns_keys={"day": "Date"})
    for number in (1, 4):
        root = root_of(client, name)
        (gone,) = (root / "day" / f"2024-01-{number:02}").iterdir()
        gone.unlink()  # Whoever reads it fails.
    assert write(client, f"UPDATE {table_name(name)} SET n = 0 WHERE day = '2024-01-03'") == 1
    assert write(client, f"DELETE FROM {table_name(name)} WHERE n = 8") == 1


def test_a_large_table_is_changed_group_by_group(client, name):
    rows_each, loads = 300_000, 3
    for number in range(loads):
        ids = range(number * rows_each, (number + 1) * rows_each)
        load(client, pa.table({"id": pa.array(ids, pa.int64()), "s": [f"text of row {i:08}" for i in ids]}), name)
    total = rows_each * loads
    assert write(client, f"UPDATE {table_name(name)} SET s = 'new' WHERE id % 3 = 0") == total // 3
    assert write(client, f"DELETE FROM {table_name(name)} WHERE id % 3 = 1") == total // 3
    got = get(client, name)
    assert got["id"].to_pylist() == [i for i in range(total) if i % 3 != 1]
    assert got["s"].slice(0, 4).to_pylist() == ["new", "text of row 00000002", "new", "text of row 00000005"]
