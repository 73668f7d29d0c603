"""Many writers at once: in one process and in two on the same storage, every load becomes exactly one version."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight
from at_once import all_at_once
from conftest import Server
from frames import FLIGHT_ERRORS, get, load, sql, table_name
from versions import delete_version, frame, instant, list_versions, set_retention, states, values

WRITERS = 32


def assert_all_are_versions(servers: list[Server], name: str, results: list[dict], first: int = 1) -> None:
    """Check that the loads of one value each became versions without a gap, on every server."""
    order = sorted(range(len(results)), key=lambda place: results[place]["version"])
    assert [results[place]["version"] for place in order] == list(range(first, first + len(results)))
    stamps = [instant(results[place]) for place in order]
    assert sorted(set(stamps)) == stamps, "created_at rises with the version"
    for server in servers:
        with server.connect() as client:
            for place in order:
                assert values(client, name, version=results[place]["version"]) == [place]
            records = list_versions(client, name, include_replaced=True)[first - 1 :]
            assert [record["version"] for record in records] == [results[place]["version"] for place in order]
            assert [instant(record) for record in records] == stamps


# Loads


def test_every_load_of_many_writers_is_a_version(servers, name):
    results = all_at_once(servers, WRITERS, lambda client, place: load(client, frame(place), name))
    for server in servers:
        with server.connect() as client:
            by_version = sorted(range(WRITERS), key=lambda place: results[place]["version"])
            assert values(client, name) == by_version
            total = sql(client, f"SELECT count(*) AS n, sum(x) AS s FROM {table_name(name)}").to_pylist()
            assert total == [{"n": WRITERS, "s": sum(range(WRITERS))}]
    assert_all_are_versions(servers, name, results)


def test_writers_that_go_on_lose_nothing_and_double_nothing(servers, name):
    """Each of 16 writers loads eight times, one after the other."""

    def several(client: flight.FlightClient, place: int) -> list[dict]:
        return [load(client, frame(place * 8 + number), name) for number in range(8)]

    by_writer = all_at_once(servers, 16, several)
    for own in by_writer:
        versions = [result["version"] for result in own]
        assert versions == sorted(versions), "a writer's own loads keep their order"
    results = [result for own in by_writer for result in own]
    assert_all_are_versions(servers, name, results)
    for server in servers:
        with server.connect() as client:
            assert sorted(values(client, name)) == list(range(128))


def test_many_writers_of_partitions_and_new_columns(servers, name):
    """Each load has dates of its own and a column that no other has."""

    def one(client: flight.FlightClient, place: int) -> dict:
        days = pa.array([place % 5, place % 3], pa.int32()).cast(pa.date32())
        table = pa.table({"day": days, "x": [place, -place], f"c{place}": ["a", "b"]})
        return load(client, table, name, columns_keys={"day": "Date"})

    results = all_at_once(servers, WRITERS, one)
    by_version = sorted(range(WRITERS), key=lambda place: results[place]["version"])
    assert [results[place]["version"] for place in by_version] == list(range(1, WRITERS + 1))
    for server in servers:
        with server.connect() as client:
            got = get(client, name)
            assert got.column_names == ["day", "x", *(f"c{place}" for place in by_version)]
            assert got["x"].to_pylist() == [x for place in by_version for x in (place, -place)]
            for place in by_version:
                alone = get(client, name, version=results[place]["version"])
                assert alone.column_names == ["day", "x", f"c{place}"]
                assert alone[f"c{place}"].to_pylist() == ["a", "b"]


def test_first_loads_at_the_same_time_make_one_dataset(servers, name):
    """Also the creation of a dataset is raced for, several times over."""
    for number in range(5):
        dataset = f"{name}/{number}"
        results = all_at_once(servers, 8, lambda client, place: load(client, frame(place), dataset))
        assert_all_are_versions(servers, dataset, results)


def test_datasets_do_not_wait_for_each_other(servers, name):
    results = all_at_once(servers, WRITERS, lambda client, place: load(client, frame(place), f"{name}/{place}"))
    assert {result["version"] for result in results} == {1}
    for server in servers:
        with server.connect() as client:
            assert [values(client, f"{name}/{place}") for place in range(WRITERS)] == [[x] for x in range(WRITERS)]


# keep_last


def assert_replaced_in_order(servers: list[Server], name: str, results: list[dict]) -> None:
    """Check that what is live, now and at every earlier instant, follows from the order of the versions alone."""
    assert_all_are_versions(servers, name, results)
    value_of = {result["version"]: place for place, result in enumerate(results)}
    live: list[dict] = []
    for result in sorted(results, key=lambda result: result["version"]):
        if result["keep_last"]:
            live = [other for other in live if other["external_key"] != result["external_key"]]
        live.append(result)
        for server in servers:
            with server.connect() as client:
                expected = [value_of[each["version"]] for each in live]
                assert values(client, name, as_of=result["created_at"]) == expected
    for server in servers:
        with server.connect() as client:
            assert values(client, name) == [value_of[each["version"]] for each in live]
            for key in {result["external_key"] for result in results}:
                of_key = [value_of[each["version"]] for each in live if each["external_key"] == key]
                assert values(client, name, external_key=key) == of_key
                assert values(client, name, external_key=key, use_last=True) == of_key[-1:]
            now_live = [version for version, state in states(client, name).items() if state == "live"]
            assert now_live == [each["version"] for each in live]


def test_keep_last_of_many_writers_leaves_the_newest_of_each_key(servers, name):
    def one(client: flight.FlightClient, place: int) -> dict:
        return load(client, frame(place), name, external_key="abcd"[place % 4], keep_last=True)

    results = all_at_once(servers, WRITERS, one)
    with servers[0].connect() as client:
        assert len(values(client, name)) == 4
    assert_replaced_in_order(servers, name, results)


def test_some_keep_last_and_some_do_not(servers, name):
    def one(client: flight.FlightClient, place: int) -> dict:
        return load(client, frame(place), name, external_key="ab"[place % 2], keep_last=place % 3 == 0)

    assert_replaced_in_order(servers, name, all_at_once(servers, WRITERS, one))


def test_readers_see_one_version_of_each_key_while_two_servers_replace_it(two_servers, name):
    """Every read is one state: four keys, each with the hundred rows of one load."""
    with two_servers[0].connect() as client:
        for key in "abcd":
            load(client, frame(*[ord(key)] * 100), name, external_key=key, keep_last=True)

    def one(client: flight.FlightClient, place: int) -> list[list[int]]:
        key = "abcd"[place % 4]
        if place < 8:
            for number in range(1, 6):
                load(client, frame(*[number * 1_000 + ord(key)] * 100), name, external_key=key, keep_last=True)
            return []
        return [values(client, name) for _ in range(10)]

    for seen in all_at_once(two_servers, 12, one):
        for rows in seen:
            assert len(rows) == 400
            assert {value % 1_000 for value in rows} == {ord(key) for key in "abcd"}
            assert len(set(rows)) == 4


# Ends


def test_a_version_is_deleted_once(servers, name):
    with servers[0].connect() as client:
        for number in range(4):
            load(client, frame(number), name)

    def one(client: flight.FlightClient, place: int) -> bool:
        try:
            delete_version(client, name, place % 4 + 1)
        except FLIGHT_ERRORS as error:
            assert "[NOT_FOUND]" in str(error), error
            return False
        return True

    deleted = all_at_once(servers, 16, one)
    assert [sum(deleted[number::4]) for number in range(4)] == [1] * 4
    for server in servers:
        with server.connect() as client:
            assert values(client, name) == []
            assert set(states(client, name).values()) == {"deleted"}


def test_retention_holds_among_many_writers(servers, name):
    with servers[0].connect() as client:
        load(client, frame(-1), name)
        set_retention(client, name, keep_versions=3)
    results = all_at_once(servers, WRITERS, lambda client, place: load(client, frame(place), name))
    assert_all_are_versions(servers, name, results, first=2)
    place_of = {result["version"]: place for place, result in enumerate(results)}
    for server in servers:
        with server.connect() as client:
            assert values(client, name) == [place_of[version] for version in (31, 32, 33)]


# Idempotency keys


def same(result: dict) -> dict:
    """Return the part of a result that a repeat must give again."""
    return {key: value for key, value in result.items() if key not in ("duplicate", "bytes")}


def test_repeats_of_one_idempotency_key_make_one_version(servers, name):
    results = all_at_once(servers, 16, lambda client, _: load(client, frame(7), name, idempotency_key="one"))
    assert all(same(result) == same(results[0]) for result in results)
    assert sum(not result.get("duplicate", False) for result in results) == 1
    for server in servers:
        with server.connect() as client:
            assert values(client, name) == [7]
    with servers[-1].connect() as client:
        assert load(client, frame(8), name)["version"] == 2


def test_of_different_loads_with_one_idempotency_key_one_is_taken(servers, name):
    """The others are refused, and none is answered with what it did not send."""

    def one(client: flight.FlightClient, place: int) -> int | None:
        try:
            load(client, frame(place % 4), name, idempotency_key="one")
        except FLIGHT_ERRORS as error:
            assert "[INVALID_ARGUMENT]" in str(error), error
            return None
        return place % 4

    taken = {value for value in all_at_once(servers, 16, one) if value is not None}
    assert len(taken) == 1
    for server in servers:
        with server.connect() as client:
            assert values(client, name) == list(taken)


def test_many_keys_each_sent_twice_make_a_version_each(servers, name):
    results = all_at_once(
        servers, WRITERS, lambda client, place: load(client, frame(place // 2), name, idempotency_key=f"k{place // 2}")
    )
    assert {result["version"] for result in results} == set(range(1, WRITERS // 2 + 1))
    for place in range(0, WRITERS, 2):
        assert same(results[place]) == same(results[place + 1])
    for server in servers:
        with server.connect() as client:
            assert sorted(values(client, name)) == list(range(WRITERS // 2))


# Two servers


def test_what_one_server_acknowledged_the_other_reads_at_once(two_servers, name):
    with two_servers[0].connect() as first, two_servers[1].connect() as second:
        for number in range(20):
            writer, reader = (first, second) if number % 2 else (second, first)
            assert load(writer, frame(number), name)["version"] == number + 1
            assert values(reader, name) == list(range(number + 1))
            assert values(reader, name, use_last=True) == [number]
            count = sql(reader, f"SELECT count(*) AS n FROM {table_name(name)}").to_pydict()
            assert count == {"n": [number + 1]}


def test_a_repeat_on_the_other_server_gives_the_first_answer(two_servers, name):
    with two_servers[0].connect() as first, two_servers[1].connect() as second:
        sent = load(first, frame(1), name, idempotency_key="one")
        again = load(second, frame(1), name, idempotency_key="one")
        assert same(again) == same(sent)
        assert again["duplicate"] is True
        assert values(first, name) == [1]


def test_a_writer_that_is_killed_stops_no_other(start_server, name):
    """One of two servers dies in the middle of its loads; what it acknowledged is there, and the other goes on."""
    survivor, victim = start_server(), start_server()
    acknowledged: list[int] = []

    def one(client: flight.FlightClient, place: int) -> None:
        for number in range(20):
            value = place * 20 + number
            try:
                load(client, frame(value), name)
            except FLIGHT_ERRORS:
                assert place % 2 == 1, "only loads on the killed server fail"
                return
            acknowledged.append(value)
            if len(acknowledged) == 40:
                victim.kill()

    all_at_once([survivor, victim], 8, one)
    with survivor.connect() as client:
        got = values(client, name)
        assert set(acknowledged) <= set(got)
        assert len(got) == len(set(got))
        assert {value for value in range(160) if value // 20 % 2 == 0} <= set(got)
        records = list_versions(client, name)
        assert [record["version"] for record in records] == list(range(1, len(got) + 1))
