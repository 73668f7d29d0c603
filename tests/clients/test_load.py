"""Loads: descriptors, results, versions, external keys, keep_last, idempotency, durability."""

from __future__ import annotations

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from frames import OpenLoad, assert_absent, assert_tables_equal, get, list_names, load, load_descriptor, put, refused


def frame(*values: int) -> pa.Table:
    """Return a table whose one column tells the loads apart."""
    return pa.table({"x": pa.array(values, pa.int64())})


def values(client: flight.FlightClient, name: str, **fields) -> list[int]:
    """Read the one column back."""
    return get(client, name, **fields).column("x").to_pylist()


# How a load is addressed


@pytest.mark.parametrize("split", [True, False], ids=["segments", "one_path"])
def test_a_path_descriptor_is_a_load_with_the_defaults(client, name, split):
    path = name.split("/") if split else [name]
    last = put(client, flight.FlightDescriptor.for_path(*path), frame(1, 2))[-1]
    assert (last["state"], last["dataframe_name"], last["version"]) == ("committed", name, 1)
    assert (last["external_key"], last["keep_last"], last["columns_keys"]) == ("default", False, {})
    assert values(client, name) == [1, 2]


@pytest.mark.parametrize("as_json", [False, True], ids=["any", "json"])
def test_a_command_carries_every_option(client, name, as_json):
    table = pa.table({"day": pa.array([0, 1], pa.date32()), "id": [7, 8]})
    for _ in range(2):
        last = load(
            client,
            table,
            name,
            columns_keys={"day": "Date", "id": "ID"},
            external_key="monthly",
            keep_last=True,
            as_json=as_json,
        )
    assert last["columns_keys"] == {"day": "Date", "id": "ID"}
    assert (last["external_key"], last["keep_last"], last["version"]) == ("monthly", True, 2)
    assert get(client, name).num_rows == 2


def test_json_takes_integers_as_strings_too(client, name):
    descriptor = flight.FlightDescriptor.for_command(f'{{"dataframe_name": "{name}", "total_rows": "2"}}'.encode())
    assert put(client, descriptor, frame(1, 2))[-1]["total_rows"] == 2
    wrong = flight.FlightDescriptor.for_command(f'{{"dataframe_name": "{name}", "total_rows": "3"}}'.encode())
    with refused("INVALID_ARGUMENT"):
        put(client, wrong, frame(1, 2))


def test_names_may_nest_without_touching_one_another(client, name):
    for number, dataset in enumerate([name, f"{name}/b", f"{name}/b/c"]):
        load(client, frame(number), dataset)
    assert values(client, name) == [0]
    assert values(client, f"{name}/b") == [1]
    assert values(client, f"{name}/b/c") == [2]
    load(client, frame(9), f"{name}/b", keep_last=True)
    assert (values(client, name), values(client, f"{name}/b"), values(client, f"{name}/b/c")) == ([0], [9], [2])


def test_names_are_composed_and_case_sensitive(client, name):
    load(client, frame(1), f"{name}/cafe\u0301")
    load(client, frame(2), f"{name}/CAFÉ")
    assert values(client, f"{name}/café") == [1]
    assert values(client, f"{name}/CAFÉ") == [2]
    assert sorted(list_names(client, name)) == [f"{name}/CAFÉ", f"{name}/café"]


@pytest.mark.parametrize("segment", ["a b", "2024-01.v2", "данные", "表", "_", "x" * 128], ids=str)
def test_a_name_may_hold_letters_of_any_script(client, name, segment):
    load(client, frame(1), f"{name}/{segment}")
    assert values(client, f"{name}/{segment}") == [1]


# What comes back


def test_the_last_result_describes_the_version(client, name):
    before = datetime.datetime.now(datetime.timezone.utc)
    table = pa.table({"day": pa.array([0, 1, 1], pa.date32()), "x": [1, 2, 3]})
    last = load(client, table, name, columns_keys={"day": "Date"}, external_key="k")
    after = datetime.datetime.now(datetime.timezone.utc)
    assert last["state"] == "committed"
    assert last["rows"] == last["total_rows"] == 3
    assert last["bytes"] >= table.nbytes
    assert (last["dataframe_name"], last["version"], last["external_key"]) == (name, 1, "k")
    assert last["columns_keys"] == {"day": "Date"}
    assert last["keep_last"] is False
    assert last["chunks_total"] == len(last["chunks"]) == 2
    assert [chunk["number"] for chunk in last["chunks"]] == [1, 2]
    assert sum(chunk["rows"] for chunk in last["chunks"]) == 3
    assert {chunk["partition"] for chunk in last["chunks"]} == {"day/1970-01-01", "day/1970-01-02"}
    assert all(chunk["path"].startswith(chunk["partition"] + "/") for chunk in last["chunks"])
    created = datetime.datetime.fromisoformat(last["created_at"].replace("Z", "+00:00"))
    assert before.replace(microsecond=0) <= created <= after + datetime.timedelta(seconds=1)


def test_a_result_tells_the_keys_of_the_dataset_also_when_the_load_gave_none(client, name):
    table = pa.table({"day": pa.array([0], pa.date32()), "id": [1]})
    load(client, table, name, columns_keys={"day": "Date", "id": "ID"})
    assert load(client, table, name)["columns_keys"] == {"day": "Date", "id": "ID"}
    last = load(client, table, name, columns_keys={"id": "ID"})
    assert last["columns_keys"] == {"day": "Date", "id": "ID"}
    assert last["chunks"][0]["partition"] == "day/1970-01-01/id/from_1_to_1"


def test_keys_may_be_given_by_a_later_load(client, name):
    table = pa.table({"day": pa.array([0], pa.date32()), "x": [1]})
    assert load(client, table, name)["chunks"][0]["partition"] == ""
    last = load(client, table, name, columns_keys={"day": "Date"})
    assert (last["columns_keys"], last["chunks"][0]["partition"]) == ({"day": "Date"}, "day/1970-01-01")
    assert get(client, name).equals(pa.concat_tables([table, table]))


def test_at_most_a_thousand_chunks_are_listed(start_server):
    server = start_server(chunk_rows=1)
    table = pa.table({"day": pa.array([0] * 1_500, pa.date32()), "x": range(1_500)})
    with server.connect() as client:
        last = load(client, table, "own/data", columns_keys={"day": "Date"})
        assert last["chunks_total"] > 1_000
        assert len(last["chunks"]) == 1_000
        assert_tables_equal(get(client, "own/data"), table)


def test_progress_is_reported_while_rows_arrive(client, name):
    batch = pa.record_batch({"x": np.arange(65_536)})
    upload = OpenLoad(client, load_descriptor(name), batch)
    seen = upload.write_until_progress()
    assert seen["state"] == "receiving"
    assert 0 < seen["rows"] <= upload.rows
    assert 0 < seen["bytes"]
    assert "version" not in seen
    upload.writer.done_writing()
    while (result := upload.results.get(timeout=120))["state"] == "receiving":
        assert seen["rows"] <= result["rows"] <= upload.rows
        seen = result
    assert (result["state"], result["rows"]) == ("committed", upload.rows)
    upload.writer.close()


def test_a_client_that_reads_no_results_still_commits(client, name):
    batch = pa.record_batch({"x": np.arange(65_536)})
    writer, _ = client.do_put(load_descriptor(name), batch.schema)
    for _ in range(200):
        writer.write_batch(batch)
    writer.close()
    assert get(client, name).num_rows == 200 * 65_536


def test_one_large_message_is_taken(client, name):
    """pyarrow's write_table sends a table in one message unless it is told otherwise."""
    table = pa.table({"x": np.arange(4_000_000)})
    load(client, table, name, batch_rows=table.num_rows)
    assert_tables_equal(get(client, name), table)


@pytest.mark.parametrize("batches", ["none", "one_empty", "empty_between"])
def test_zero_rows_make_a_version(client, name, batches):
    table = pa.table({"x": pa.array([], pa.int32()), "s": pa.array([], pa.string())}).replace_schema_metadata(
        {"m": "1"}
    )
    writer, reader = client.do_put(load_descriptor(name, columns_keys={"x": "ID"}, total_rows=0), table.schema)
    if batches != "none":
        empty = pa.RecordBatch.from_pylist([], schema=table.schema)
        for _ in range(1 if batches == "one_empty" else 5):
            writer.write_batch(empty)
    writer.done_writing()
    while reader.read() is not None:
        pass
    writer.close()
    assert_tables_equal(get(client, name), table)
    assert load(client, table, name)["version"] == 2


def test_many_small_batches_become_few_chunks(client, name):
    table = pa.table({"x": np.arange(100_000)})
    last = load(client, table, name, batch_rows=100)
    assert last["chunks_total"] <= 4
    assert_tables_equal(get(client, name), table)


# Versions and external keys


def test_versions_count_from_1_and_read_as_a_union_in_order(client, name):
    assert [load(client, frame(*rows), name)["version"] for rows in ([3, 1], [2], [9, 0])] == [1, 2, 3]
    assert values(client, name) == [3, 1, 2, 9, 0]


def test_created_at_rises_with_the_version(client, name):
    stamps = [load(client, frame(1), name)["created_at"] for _ in range(5)]
    assert sorted(set(stamps)) == stamps


def test_an_external_key_reads_its_own_versions(client, name):
    for key, value in [("jan", 1), (None, 2), ("feb", 3), ("NOW", 4), ("default", 5), ("jan", 6)]:
        load(client, frame(value), name, external_key=key)
    assert values(client, name) == [1, 2, 3, 4, 5, 6]
    assert values(client, name, external_key="jan") == [1, 6]
    assert values(client, name, external_key="feb") == [3]
    assert values(client, name, external_key="NOW") == [2, 4, 5]
    assert values(client, name, external_key="default") == [2, 4, 5]


def test_now_is_called_default_in_the_result(client, name):
    assert load(client, frame(1), name, external_key="NOW")["external_key"] == "default"


def test_keep_last_replaces_the_versions_of_its_own_key_alone(client, name):
    for key, value in [("a", 1), ("b", 2), ("a", 3), (None, 4)]:
        load(client, frame(value), name, external_key=key)
    assert load(client, frame(5), name, external_key="a", keep_last=True)["version"] == 5
    assert values(client, name) == [2, 4, 5]
    load(client, frame(6), name, keep_last=True)
    assert values(client, name) == [2, 5, 6]
    load(client, frame(7), name, external_key="a")
    assert values(client, name, external_key="a") == [5, 7]


def test_keep_last_on_a_new_dataset_is_a_plain_load(client, name):
    assert load(client, frame(1), name, keep_last=True)["version"] == 1
    assert values(client, name) == [1]


def test_a_reader_sees_the_old_or_the_new_version_never_both_or_none(client, server, name):
    load(client, frame(*[0] * 100), name, keep_last=True)
    stop, seen = threading.Event(), []

    def read() -> None:
        with server.connect() as reader:
            while not stop.is_set():
                seen.append(values(reader, name))

    with ThreadPoolExecutor() as pool:
        reading = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(1, 20):
                load(client, frame(*[number] * 100), name, keep_last=True)
        finally:
            stop.set()
        for each in reading:
            each.result()
    assert seen
    assert all(len(rows) == 100 and len(set(rows)) == 1 for rows in seen)


def test_loads_at_the_same_time_all_become_versions(server, client, name):
    def one(number: int) -> int:
        with server.connect() as own:
            return load(own, frame(number), name)["version"]

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(one, range(24)))
    assert sorted(versions) == list(range(1, 25))
    in_order = [number for _, number in sorted(zip(versions, range(24)))]
    assert values(client, name) == in_order


# total_rows


@pytest.mark.parametrize("total_rows", [0, 2, 4])
@pytest.mark.parametrize("as_json", [False, True], ids=["any", "json"])
def test_another_number_of_rows_than_announced_rejects_the_load(client, name, total_rows, as_json):
    with refused("INVALID_ARGUMENT", mentions=[str(total_rows), "3"]):
        load(client, frame(1, 2, 3), name, total_rows=total_rows, as_json=as_json)
    assert_absent(client, name)


def test_a_rejected_load_uses_up_no_version_number(client, name):
    load(client, frame(1), name)
    with refused("INVALID_ARGUMENT"):
        load(client, frame(2), name, total_rows=7)
    assert load(client, frame(3), name)["version"] == 2
    assert values(client, name) == [1, 3]


# Durability


def test_an_acknowledged_version_survives_a_crash(start_server):
    server = start_server()
    sent = pa.Table.from_pandas(pd.DataFrame({"day": pd.date_range("2024-01-01", periods=50), "x": range(50)}))
    with server.connect() as client:
        first = load(client, sent, "own/data", columns_keys={"day": "Date"}, external_key="k")
    server.kill()
    with start_server().connect() as client:
        assert_tables_equal(get(client, "own/data"), sent)
        assert get(client, "own/data", external_key="k").num_rows == 50
        assert load(client, sent, "own/data")["version"] == first["version"] + 1


def test_a_load_that_a_crash_cut_off_leaves_nothing(start_server):
    server = start_server()
    with server.connect() as client:
        load(client, pa.table({"x": np.arange(10)}), "own/data")
        upload = OpenLoad(client, load_descriptor("own/data"), pa.record_batch({"x": np.arange(65_536)}))
        upload.write_until_progress()
        server.kill()
    with start_server().connect() as client:
        assert values(client, "own/data") == list(range(10))
        assert load(client, frame(10), "own/data")["version"] == 2
