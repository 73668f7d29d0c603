"""Statements that write at the same time as others, in one process and in two, and one that a crash cuts off."""

from __future__ import annotations

import re
import threading
from threading import Event

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from at_once import all_at_once
from conftest import Server
from frames import FLIGHT_ERRORS, get, load, sql, table_name
from versions import compact, list_versions, named, vacuum
from writes import write

WRITERS = 8


def code(error: Exception) -> str:
    """Return the code that a refusal begins with."""
    return re.search(r"\[([A-Z_]+)\] \S", str(error)).group(1)


def insist(client: flight.FlightClient, statement: str, is_alone: bool) -> int:
    """Run a statement until no writer of another process is in its way; within one process none ever is."""
    while True:
        try:
            return write(client, statement)
        except FLIGHT_ERRORS as error:
            assert code(error) == "ABORTED" and not is_alone, error


def test_no_increment_is_lost(servers, name):
    with servers[0].connect() as client:
        load(client, pa.table({"k": ["a", "b"], "n": [0, 0]}), name)
    times = 4

    def increment(client: flight.FlightClient, index: int) -> None:
        for _ in range(times):
            statement = f"UPDATE {table_name(name)} SET n = n + 1 WHERE k = 'a'"
            assert insist(client, statement, len(servers) == 1) == 1

    all_at_once(servers, WRITERS, increment)
    for server in servers:
        with server.connect() as client:
            assert get(client, name).to_pydict() == {"k": ["a", "b"], "n": [WRITERS * times, 0]}
            assert [each["version"] for each in list_versions(client, name)] == list(range(1, WRITERS * times + 2))


def test_loads_race_deletes(servers, name):
    with servers[0].connect() as client:
        load(client, pa.table({"id": pa.array([], pa.int64())}), name)
    loads, size = 5, 20

    def act(client: flight.FlightClient, index: int) -> int:
        if index % 2:
            delete = f"DELETE FROM {table_name(name)} WHERE id % 2 = 1"
            return sum(insist(client, delete, len(servers) == 1) for _ in range(loads))
        for number in range(loads):
            first = (index * loads + number) * size
            load(client, pa.table({"id": list(range(first, first + size))}), name, external_key=f"k{index}")
        return 0

    deleted = sum(all_at_once(servers, WRITERS, act))
    sent = [id for index in range(0, WRITERS, 2) for id in range(index * loads * size, (index + 1) * loads * size)]
    with servers[0].connect() as client:
        deleted += write(client, f"DELETE FROM {table_name(name)} WHERE id % 2 = 1")
        assert sorted(get(client, name)["id"].to_pylist()) == [id for id in sent if id % 2 == 0]
        assert deleted == len(sent) // 2, "each row was deleted by one statement"
        assert sum(each["rows"] for each in list_versions(client, name)) == len(sent) // 2


def test_merges_of_the_same_keys_make_one_row_each(servers, name):
    with servers[0].connect() as client:
        write(client, f"CREATE TABLE {table_name(name)} (k BIGINT, n BIGINT)")
    statement = f"""
        MERGE INTO {table_name(name)} t USING (SELECT value AS k FROM range(0, 20)) s ON t.k = s.k
        WHEN MATCHED THEN UPDATE SET n = n + 1
        WHEN NOT MATCHED THEN INSERT VALUES (s.k, 1)
    """
    counts = all_at_once(servers, WRITERS, lambda client, _: insist(client, statement, len(servers) == 1))
    assert counts == [20] * WRITERS
    with servers[-1].connect() as client:
        assert sorted(get(client, name).to_pylist(), key=str) == sorted(
            ({"k": k, "n": WRITERS} for k in range(20)), key=str
        )


def test_merges_of_chunks_and_vacuums_do_not_disturb_statements(servers, name):
    with servers[0].connect() as client:
        for number in range(12):
            load(client, pa.table({"id": [number], "n": [0]}), name)

    def act(client: flight.FlightClient, index: int) -> None:
        for _ in range(3):
            if index % 4 == 3:
                compact(client, name)
                vacuum(client, name)
            else:
                insist(client, f"UPDATE {table_name(name)} SET n = n + 1 WHERE id >= {index}", len(servers) == 1)

    all_at_once(servers, WRITERS, act)
    expected = [3 * sum(index <= id for index in range(WRITERS) if index % 4 != 3) for id in range(12)]
    with servers[0].connect() as client:
        assert get(client, name).to_pydict() == {"id": list(range(12)), "n": expected}


@pytest.mark.parametrize("query", ["(n BIGINT)", "AS SELECT 1 AS n"])
def test_of_many_creators_one_succeeds(servers, name, query):
    def create(client: flight.FlightClient, _: int) -> str:
        try:
            write(client, f"CREATE TABLE {table_name(name)} {query}")
        except FLIGHT_ERRORS as error:
            return code(error)
        return "created"

    outcomes = all_at_once(servers, WRITERS, create)
    assert sorted(outcomes) == ["ALREADY_EXISTS"] * (WRITERS - 1) + ["created"]
    with servers[0].connect() as client:
        assert len(list_versions(client, name)) == 1
        assert get(client, name).num_rows == (1 if "SELECT" in query else 0)
        chunks = sql(client, f"SELECT path FROM {named(name, '$chunks')}").num_rows
        assert chunks == (1 if "SELECT" in query else 0)


def test_a_replacement_is_seen_whole(servers, name):
    with servers[0].connect() as client:
        write(client, f"CREATE TABLE {table_name(name)} AS SELECT 0 AS n FROM range(0, 100)")
    done = Event()

    def act(client: flight.FlightClient, index: int) -> None:
        if index < 2:
            try:
                for number in range(6):
                    again = f"SELECT {index * 10 + number} AS n FROM range(0, 100)"
                    write(client, f"CREATE OR REPLACE TABLE {table_name(name)} AS {again}")
            finally:
                done.set()
            return
        while not done.is_set():
            found = get(client, name)["n"].to_pylist()
            assert len(found) == 100 and len(set(found)) == 1, found

    all_at_once(servers, 4, act)
    with servers[0].connect() as client:
        assert [each["version"] for each in list_versions(client, name)] == [1]


def test_inserts_of_many_writers_are_a_version_each(servers, name):
    with servers[0].connect() as client:
        write(client, f"CREATE TABLE {table_name(name)} (n BIGINT)")

    def insert(client: flight.FlightClient, index: int) -> None:
        for number in range(3):
            assert write(client, f"INSERT INTO {table_name(name)} VALUES ({index}), ({number + 100})") == 2

    all_at_once(servers, WRITERS, insert)
    with servers[0].connect() as client:
        assert len(list_versions(client, name)) == 3 * WRITERS + 1
        assert get(client, name).num_rows == 6 * WRITERS


def test_a_crash_leaves_all_of_a_statement_or_nothing(start_server):
    name, rows = "races/crash", 40_000
    server = start_server()
    with server.connect() as client:
        ids = pa.array(range(rows), pa.int64())
        frame = pa.table(
            {"id": ids, "day": pa.array([18_000 + i % 20 for i in range(rows)], pa.int32()).cast(pa.date32())}
        )
        load(client, frame.append_column("n", pa.array([0] * rows)), name, columns_keys={"day": "Date"})
    for turn in range(4):
        began = Event()

        def update(server: Server = server, began: Event = began) -> None:
            with server.connect() as client:
                while True:
                    try:
                        write(client, f"UPDATE {table_name(name)} SET n = n + 1")
                    except FLIGHT_ERRORS:
                        return
                    began.set()

        thread = threading.Thread(target=update)
        thread.start()
        began.wait()
        with server.connect() as client:
            for _ in range(turn * 5):  # So that each crash comes at another point of a statement.
                list_versions(client, name)
        server.kill()
        thread.join()
        server = start_server()
        with server.connect() as client:
            table = get(client, name)
            assert table["id"].to_pylist() == list(range(rows))
            assert len(set(table["n"].to_pylist())) == 1, "some rows were updated and some not"
            brought = [each for each in list_versions(client, name) if each["version"] > 1]
            assert len(brought) == table["n"][0].as_py()
