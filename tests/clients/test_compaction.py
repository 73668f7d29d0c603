"""Compaction: few chunks, and the same answers to everything."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
from frames import assert_tables_equal, get, load, sql, table_name
from other_readers import parquet_file
from small_chunks import DATE, answers, assert_delta_readers_agree, assert_same_answers, chunks, load_a_mixture, rows
from versions import (
    compact,
    delete_version,
    describe,
    frame,
    just_before,
    list_versions,
    root_of,
    set_retention,
    states,
    values,
)


def test_a_thousand_small_loads_become_a_handful_of_chunks(client, name):
    results = [
        load(client, rows(100 * number, 100), name, columns_keys=DATE, external_key=f"k{number % 10}")
        for number in range(1_000)
    ]
    assert [result["version"] for result in results] == list(range(1, 1_001))
    moments = [results[number]["created_at"] for number in (0, 333, 998)]

    def sampled() -> dict[str, pa.Table]:
        asked = [{}, {"use_last": True}, {"external_key": "k3"}, {"external_key": "k7", "use_last": True}]
        asked += [{"version": number} for number in (1, 2, 500, 999, 1_000)]
        asked += [{"as_of": moment} for moment in (*moments, just_before(results[0]))]
        return {str(fields): get(client, name, **fields) for fields in asked}

    before = sampled()
    assert before["{}"]["x"].to_pylist() == list(range(100_000))
    told = compact(client, name)
    assert (told["dataframe_name"], told["chunks_before"] >= told["chunks_after"]) == (name, True)
    by_partition: dict[str, int] = {}
    for chunk in chunks(client, name):
        by_partition[chunk["partition"]] = by_partition.get(chunk["partition"], 0) + 1
    assert set(by_partition) == {"day/1970-01-01", "day/1970-01-02"}
    assert max(by_partition.values()) <= 5
    assert told["chunks_after"] == describe(client, name)["chunks"] == sum(by_partition.values())
    assert_same_answers(sampled(), before)
    for number in range(1, 1_001, 13):
        assert_tables_equal(get(client, name, version=number), rows(100 * (number - 1), 100))
    assert_delta_readers_agree(client, name)
    # Versions that share a chunk with a thousand others end as any version does.
    load(client, rows(-100, 100), name, external_key="k3", keep_last=True)
    for number in (1, 500):
        delete_version(client, name, number)
    left = [number for number in range(1_000) if number % 10 != 3 and number not in (0, 499)]
    expected = [100 * number + i for number in left for i in range(100)] + list(range(-100, 0))
    assert get(client, name)["x"].to_pylist() == expected
    assert get(client, name, external_key="k3")["x"].to_pylist() == list(range(-100, 0))
    assert get(client, name, version=1)["x"].to_pylist() == list(range(100))
    assert_same_answers({"{}": get(client, name, as_of=results[-1]["created_at"])}, {"{}": before["{}"]})
    total = sql(client, f"SELECT count(*) AS n, sum(x) AS s FROM {table_name(name)}").to_pylist()
    assert total == [{"n": len(expected), "s": sum(expected)}]
    assert_delta_readers_agree(client, name)


@pytest.mark.parametrize(
    "keys", [DATE, {"day": "Date", "x": "ID"}, {"x": "ID"}, None], ids=["date", "both", "id", "none"]
)
def test_compaction_changes_no_answer(client, name, keys):
    results = load_a_mixture(client, name, keys)
    moments = [moment for result in results for moment in (result["created_at"], just_before(result))]
    before = answers(client, name, moments)
    told = compact(client, name)
    assert told["chunks_after"] < told["chunks_before"] or len(chunks(client, name)) <= 6
    assert_same_answers(answers(client, name, moments), before)
    assert_delta_readers_agree(client, name)
    again = compact(client, name)
    assert again["chunks_after"] == again["chunks_before"] == told["chunks_after"], "there is nothing left to merge"
    assert_same_answers(answers(client, name, moments), before)


def test_a_compacted_dataset_goes_on_as_any_other(client, name):
    results = load_a_mixture(client, name)
    for _ in range(3):
        compact(client, name)
        results += load_a_mixture(client, f"{name}/other", loads=6)
        live = get(client, name)
        more = load(client, rows(10_000, 10, 3), name, external_key="a")
        assert more["version"] == list_versions(client, name)[-1]["version"]
        assert get(client, name)["x"].to_pylist() == [*live["x"].to_pylist(), *range(10_000, 10_010)]
        of_b = get(client, name, external_key="b")["x"].to_pylist()
        load(client, rows(20_000, 5, 3), name, external_key="a", keep_last=True)
        assert get(client, name, external_key="a")["x"].to_pylist() == list(range(20_000, 20_005))
        assert get(client, name, external_key="b")["x"].to_pylist() == of_b
        assert_delta_readers_agree(client, name)


def test_versions_of_a_merged_chunk_end_one_by_one(client, name):
    for number in range(10):
        load(client, rows(10 * number, 10), name, columns_keys=DATE, external_key=f"k{number}")
    compact(client, name)
    left = list(range(10))
    for number in (4, 0, 9, 5):
        delete_version(client, name, number + 1)
        left.remove(number)
        assert get(client, name)["x"].to_pylist() == [10 * each + i for each in left for i in range(10)]
        assert get(client, name, version=number + 1)["x"].to_pylist() == [10 * number + i for i in range(10)]
        assert_delta_readers_agree(client, name)
    load(client, rows(500, 3), name, external_key="k7", keep_last=True)
    left.remove(7)
    assert get(client, name)["x"].to_pylist() == [10 * each + i for each in left for i in range(10)] + [500, 501, 502]
    assert set_retention(client, name, keep_versions=1)["expired"] == []
    assert_delta_readers_agree(client, name)


def test_a_chunk_after_compaction_is_of_one_partition_and_readable(start_server):
    server = start_server(chunk_rows=100)
    with server.connect() as client:
        for number in range(60):
            load(client, rows(10 * number, 10, 3), "own/data", columns_keys={"day": "Date", "x": "ID"})
        compact(client, "own/data")
        root, found = root_of(client, "own/data"), chunks(client, "own/data")
        assert len(found) <= 15
        for chunk in found:
            table = parquet_file(root / chunk["path"]).read()
            assert str(Path(chunk["path"]).parent) == chunk["partition"]
            assert len(table["day"].unique()) == 1
            assert chunk["partition"].startswith(f"day/{table['day'][0].as_py()}/x/from_")
            low, high = chunk["partition"].rsplit("_from_")[-1].rsplit("from_")[-1].split("_to_")
            assert (int(low), int(high)) == (min(table["x"].to_pylist()), max(table["x"].to_pylist()))
            assert table.num_rows <= 200
        assert get(client, "own/data")["x"].to_pylist() == list(range(600))


def test_large_chunks_are_left_alone(start_server):
    with start_server(chunk_rows=100).connect() as client:
        for number in range(10):
            load(client, rows(1_000 * number, 1_000, 1), "own/data", columns_keys=DATE)
        before = {chunk["path"] for chunk in chunks(client, "own/data")}
        told = compact(client, "own/data")
        assert told["chunks_before"] == told["chunks_after"] == len(before)
        assert {chunk["path"] for chunk in chunks(client, "own/data")} == before


def test_there_may_be_nothing_to_compact(client, name):
    load(client, rows(0, 10), name, columns_keys=DATE)
    for _ in range(2):
        assert compact(client, name) == {"dataframe_name": name, "chunks_before": 2, "chunks_after": 2}
    load(client, rows(0, 0), name, keep_last=True)
    assert compact(client, name)["chunks_after"] == 0
    assert get(client, name).num_rows == 0
    delete_version(client, name, 2)
    assert compact(client, name)["chunks_after"] == 0


def test_writers_go_on_during_compaction(server, client, name):
    """Loads and replacements of four writers, while two others compact without end."""
    stop = Event()

    def write(place: int) -> list[int]:
        with server.connect() as own:
            for number in range(30):
                value = 1_000 * place + number
                load(own, frame(value), name, external_key=f"k{place}", keep_last=number % 10 == 9)
        return [1_000 * place + 29]

    def merge() -> None:
        with server.connect() as own:
            while not stop.is_set():
                compact(own, name)

    load(client, frame(-1), name)
    with ThreadPoolExecutor(6) as pool:
        merging = [pool.submit(merge) for _ in range(2)]
        try:
            kept = [value for own in pool.map(write, range(4)) for value in own]
        finally:
            stop.set()
        for each in merging:
            each.result()
    assert sorted(values(client, name)) == [-1, *kept]
    assert list(states(client, name)) == list(range(1, 122))
    for place in range(4):
        assert values(client, name, external_key=f"k{place}") == [1_000 * place + 29]
    table = sql(client, f"SELECT count(*) AS n, count(DISTINCT x) AS d FROM {table_name(name)}").to_pylist()
    assert table == [{"n": 5, "d": 5}]


def test_two_servers_may_compact_and_write_at_once(start_server):
    servers = [start_server(), start_server()]

    def act(place: int) -> None:
        with servers[place % 2].connect() as own:
            for number in range(12):
                if place < 2:
                    compact(own, "own/data")
                else:
                    load(own, rows(1_000 * place + 10 * number, 10), "own/data", external_key=f"k{place}")

    with servers[0].connect() as client:
        load(client, rows(0, 10), "own/data", columns_keys=DATE)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(act, range(6)))
    expected = list(range(10)) + [1_000 * place + i for place in range(2, 6) for i in range(120)]
    for server in servers:
        with server.connect() as client:
            assert sorted(get(client, "own/data")["x"].to_pylist()) == expected
            compact(client, "own/data")
            assert sorted(get(client, "own/data")["x"].to_pylist()) == expected
            for place in range(2, 6):
                of_key = get(client, "own/data", external_key=f"k{place}")["x"].to_pylist()
                assert of_key == [1_000 * place + i for i in range(120)]
            assert_delta_readers_agree(client, "own/data")


def test_a_compacted_dataset_is_the_same_after_a_crash(start_server):
    server = start_server()
    with server.connect() as client:
        moments = [result["created_at"] for result in load_a_mixture(client, "own/data")]
        compact(client, "own/data")
        before = answers(client, "own/data", moments)
    server.kill()
    with start_server().connect() as client:
        assert_same_answers(answers(client, "own/data", moments), before)
        compact(client, "own/data")
        assert_same_answers(answers(client, "own/data", moments), before)
