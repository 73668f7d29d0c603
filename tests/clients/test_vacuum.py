"""Vacuum: nothing stays on disk that no reader needs, and nothing goes that one does."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from conftest import Server
from frames import assert_tables_equal, get, get_command, get_info, list_names, load, refused, sql, table_name
from other_readers import delta_table, parquet_file
from small_chunks import (
    DATE,
    answers,
    assert_delta_readers_agree,
    assert_same_answers,
    chunks,
    files_on_disk,
    load_a_mixture,
    rows,
)
from versions import (
    compact,
    delete_dataframe,
    delete_version,
    describe,
    just_before,
    list_versions,
    named,
    root_of,
    set_retention,
    states,
    vacuum,
)


@pytest.fixture
def eager(start_server: Callable[..., Server]) -> Server:
    """A server that vacuums what has ended at once."""
    return start_server(vacuum_after="0s")


# What goes and what stays


def test_vacuum_keeps_what_ended_less_than_seven_days_ago(client, name):
    results = load_a_mixture(client, name)
    compact(client, name)
    moments = [result["created_at"] for result in results]
    before = answers(client, name, moments)
    files = files_on_disk(root_of(client, name))
    told = vacuum(client, name)
    assert (told["dataframe_name"], told["versions_removed"]) == (name, 0)
    assert_same_answers(answers(client, name, moments), before)
    needed = {chunk["path"] for chunk in chunks(client, name)}
    assert needed <= files_on_disk(root_of(client, name)) <= files


def test_vacuum_leaves_what_is_needed_and_nothing_else(eager):
    with eager.connect() as client:
        load_a_mixture(client, "own/data")
        live = {record["version"] for record in list_versions(client, "own/data")}
        asked = [
            {},
            {"use_last": True},
            *({"version": number} for number in live),
            *({"external_key": k} for k in "abc"),
        ]
        before = [get(client, "own/data", **fields) for fields in asked]
        for step in (lambda: None, lambda: compact(client, "own/data")):
            step()
            vacuum(client, "own/data")
            for fields, table in zip(asked, before):
                assert_tables_equal(get(client, "own/data", **fields), table)
            root = root_of(client, "own/data")
            needed = {chunk["path"] for chunk in chunks(client, "own/data")}
            assert files_on_disk(root) == needed
            uris = delta_table(root).file_uris()
            assert len(uris) == len(needed)
            assert_delta_readers_agree(client, "own/data")
        assert set(states(client, "own/data")) == live


def test_vacuum_tells_what_it_did(start_server):
    server = start_server()
    with server.connect() as client:
        for number in range(5):
            load(client, rows(0, 100 + number), "own/data", columns_keys=DATE, keep_last=True)
        files = files_on_disk(root_of(client, "own/data"))
    server.stop()
    with start_server(vacuum_after="0s").connect() as client:
        root = root_of(client, "own/data")
        sizes = {file: (root / file).stat().st_size for file in files if (root / file).exists()}
        told = vacuum(client, "own/data")
        gone = set(sizes) - files_on_disk(root)
        assert len(files_on_disk(root)) == 2
        if len(sizes) == len(files):  # Otherwise the background was faster, and the action told of the rest alone.
            assert told["versions_removed"] == 4
            assert told["files_deleted"] >= len(gone) == 8
            assert told["bytes_deleted"] >= sum(sizes[file] for file in gone)
        again = vacuum(client, "own/data")
        assert again == {"dataframe_name": "own/data", "files_deleted": 0, "bytes_deleted": 0, "versions_removed": 0}


def test_what_was_vacuumed_is_not_found_and_never_half_there(eager):
    with eager.connect() as client:
        results = [
            load(client, rows(10 * number, 10), "own/data", columns_keys=DATE, external_key="k") for number in range(4)
        ]
        delete_version(client, "own/data", 2)
        last = load(client, rows(100, 10), "own/data", external_key="k", keep_last=True)
        compact(client, "own/data")
        vacuum(client, "own/data")
        for number in (1, 2, 3, 4):
            with refused("NOT_FOUND", mentions=["version"]):
                get(client, "own/data", version=number)
            with refused("NOT_FOUND"):
                sql(client, f"SELECT x FROM {named('own/data', f'@version={number}')}")
            with refused("NOT_FOUND"):
                delete_version(client, "own/data", number)
        for moment in (*(result["created_at"] for result in results), just_before(last), "1970-01-01T00:00:00Z"):
            with refused("INVALID_ARGUMENT", mentions=["as_of"]):
                get(client, "own/data", as_of=moment)
            with refused("INVALID_ARGUMENT"):
                sql(client, f"SELECT x FROM {table_name('own/data')} TIMESTAMP AS OF '{moment}'")
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        for fields in ({}, {"as_of": now}, {"version": 5}, {"external_key": "k"}, {"use_last": True}):
            assert get(client, "own/data", **fields)["x"].to_pylist() == list(range(100, 110))
        assert states(client, "own/data") == {5: "live"}
        assert load(client, rows(0, 1), "own/data")["version"] == 6


def test_a_dataset_whose_versions_were_all_vacuumed_is_empty_with_its_schema(eager):
    with eager.connect() as client:
        load(client, rows(0, 10), "own/data", columns_keys=DATE)
        delete_version(client, "own/data", 1)
        vacuum(client, "own/data")
        got = get(client, "own/data")
        assert got.num_rows == 0
        assert got.schema.equals(rows(0, 1).schema, check_metadata=True)
        assert files_on_disk(root_of(client, "own/data")) == set()
        assert "own/data" in list_names(client)
        assert describe(client, "own/data")["columns_keys"] == DATE
        assert load(client, rows(0, 10), "own/data")["version"] == 2


def test_an_idempotency_key_outlives_the_vacuum_of_its_version(eager):
    """Keys are kept a day at least, whatever becomes of the rows."""
    with eager.connect() as client:
        first = load(client, rows(0, 10), "own/data", idempotency_key="one")
        load(client, rows(10, 10), "own/data", keep_last=True)
        vacuum(client, "own/data")
        again = load(client, rows(0, 10), "own/data", idempotency_key="one")
        assert (again["version"], again["duplicate"], again["created_at"]) == (1, True, first["created_at"])
        assert get(client, "own/data")["x"].to_pylist() == list(range(10, 20))
        with refused("INVALID_ARGUMENT", mentions=["idempotency"]):
            load(client, rows(5, 10), "own/data", idempotency_key="one")


def test_vacuumed_is_vacuumed_after_a_crash(start_server):
    server = start_server(vacuum_after="0s")
    with server.connect() as client:
        load_a_mixture(client, "own/data")
        compact(client, "own/data")
        vacuum(client, "own/data")
        live, known = get(client, "own/data"), states(client, "own/data")
    server.kill()
    with start_server(vacuum_after="0s").connect() as client:
        assert_tables_equal(get(client, "own/data"), live)
        assert states(client, "own/data") == known
        with refused("NOT_FOUND"):
            get(client, "own/data", version=2)
        with refused("INVALID_ARGUMENT"):
            get(client, "own/data", as_of="1970-01-01T00:00:00Z")
        assert_delta_readers_agree(client, "own/data")


def test_vacuum_of_one_dataset_touches_no_other(eager):
    with eager.connect() as client:
        for name in ("own", "own/data", "own/data/b"):
            load_a_mixture(client, name)
        before = {name: get(client, name) for name in ("own", "own/data/b")}
        compact(client, "own/data")
        vacuum(client, "own/data")
        delete_dataframe(client, "own/data")
        for name, table in before.items():
            assert_tables_equal(get(client, name), table)
            assert_delta_readers_agree(client, name)


# Reads that are under way


LARGE = 4_000_000


def large_table() -> pa.Table:
    """Return more bytes than are ever on their way to a client."""
    random = np.random.default_rng(11).integers(0, 1 << 62, LARGE)
    days = pa.array(np.arange(LARGE) // (LARGE // 4), pa.int32()).cast(pa.date32())
    return pa.table({"day": days, "x": random})


@pytest.mark.parametrize("way", ["get", "filtered", "sql"])
def test_a_running_read_outlives_replacement_compaction_and_vacuum(eager, way):
    table = large_table()
    half = LARGE // 2
    with eager.connect() as client:
        for part in (table.slice(0, half), table.slice(half)):
            load(client, part, "own/data", columns_keys=DATE)
        ticket = {
            "get": flight.Ticket(get_command("own/data")),
            "filtered": flight.Ticket(get_command("own/data", filter="x >= 0")),
            "sql": flight.Ticket(b'{"sql": "SELECT x FROM own.data"}'),
        }[way]
        reader = client.do_get(ticket)
        first = reader.read_chunk().data
        with eager.connect() as other:
            compact(other, "own/data")
            vacuum(other, "own/data")
            load(other, table.slice(0, 1), "own/data", keep_last=True)
            compact(other, "own/data")
            vacuum(other, "own/data")
            vacuum(other, "own/data")
        rest = reader.read_all()
        got = pa.concat_tables([pa.Table.from_batches([first]), rest])["x"].to_numpy()
        expected = table["x"].to_numpy()
        assert got.size == LARGE
        assert (np.sort(got) == np.sort(expected)).all() if way == "sql" else (got == expected).all()
        assert get(client, "own/data").num_rows == 1
        vacuum(client, "own/data")
        assert files_on_disk(root_of(client, "own/data")) == {chunk["path"] for chunk in chunks(client, "own/data")}


def test_a_ticket_is_whole_or_refused_after_a_vacuum(eager):
    with eager.connect() as client:
        load_a_mixture(client, "own/data")
        before = get(client, "own/data")
        tickets = [endpoint.ticket for endpoint in get_info(client, "own/data").endpoints]
        compact(client, "own/data")
        vacuum(client, "own/data")
        try:
            got = pa.concat_tables([client.do_get(ticket).read_all() for ticket in tickets])
        except pa.ArrowException as error:
            assert any(f"[{code}]" in str(error) for code in ("NOT_FOUND", "INVALID_ARGUMENT", "ABORTED")), error
        else:
            assert_tables_equal(got, before)
        load(client, rows(0, 1), "own/data", external_key="a", keep_last=True)
        vacuum(client, "own/data")
        try:
            got = pa.concat_tables([client.do_get(ticket).read_all() for ticket in tickets])
        except pa.ArrowException as error:
            assert any(f"[{code}]" in str(error) for code in ("NOT_FOUND", "INVALID_ARGUMENT", "ABORTED")), error
        else:
            assert_tables_equal(got, before)


# Other readers


def test_delta_readers_see_the_live_rows_after_each_step(eager):
    with eager.connect() as client:

        def append(start: int, number: int, key: str | None = None, keep_last: bool = False) -> None:
            load(client, rows(start, number, 3), "own/data", columns_keys=DATE, external_key=key, keep_last=keep_last)

        for number in range(9):
            append(10 * number, 10, f"k{number % 3}")
        for step in (
            lambda: append(100, 10, "k1", keep_last=True),
            lambda: delete_version(client, "own/data", 1),
            lambda: compact(client, "own/data"),
            lambda: append(200, 5, "k2", keep_last=True),
            lambda: delete_version(client, "own/data", 4),
            lambda: vacuum(client, "own/data"),
            lambda: load(client, rows(300, 4, 3).append_column("y", pa.array([1, 2, 3, 4])), "own/data"),
            lambda: compact(client, "own/data"),
            lambda: set_retention(client, "own/data", keep_versions=1),
            lambda: vacuum(client, "own/data"),
            lambda: append(400, 4),
        ):
            assert_delta_readers_agree(client, "own/data")
            step()
        assert_delta_readers_agree(client, "own/data")
        expected = [*range(60, 70), *range(100, 110), *range(200, 205), *range(400, 404)]
        assert get(client, "own/data")["x"].to_pylist() == expected
        root = root_of(client, "own/data")
        for file in files_on_disk(root):
            table = parquet_file(root / file).read()
            hidden = [each for each in table.column_names if each.startswith("__pdb_")]
            assert table.column_names[-len(hidden) :] == hidden
            assert set(table["x"].to_pylist()) & set(expected)
