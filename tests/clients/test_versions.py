"""Versions: what each read of them gives, how they end, and what the actions tell of them."""

from __future__ import annotations

import base64
import datetime
import itertools
import json
import time

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from conftest import PATIENCE
from frames import (
    assert_absent,
    assert_tables_equal,
    get,
    get_command,
    get_info,
    list_names,
    load,
    refused,
    sql,
    table_name,
)
from other_readers import delta_rows
from versions import (
    ACTIONS,
    HISTORY,
    KEYS,
    act,
    compact,
    delete_dataframe,
    delete_version,
    describe,
    frame,
    instant,
    just_before,
    list_versions,
    live_numbers,
    load_history,
    root_of,
    rows_of,
    set_retention,
    states,
    vacuum,
    values,
)

# as_of


def test_as_of_gives_the_union_as_it_stood_inclusive(client, name):
    results = load_history(client, name)
    for result, live in zip(results, HISTORY):
        assert values(client, name, as_of=result["created_at"]) == rows_of(*live)
    for result, live in zip(results[1:], HISTORY):
        assert values(client, name, as_of=just_before(result)) == rows_of(*live)
    assert values(client, name, as_of="9999-12-31T23:59:59Z") == rows_of(*HISTORY[-1])


def test_as_of_before_the_first_version_is_empty(client, name):
    first = load_history(client, name)[0]
    for moment in (just_before(first), "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"):
        got = get(client, name, as_of=moment)
        assert got.num_rows == 0
        assert got.schema.equals(frame().schema)


def test_as_of_goes_with_an_external_key_and_with_use_last(client, name):
    results = load_history(client, name)
    for result, live in zip(results, HISTORY):
        moment = result["created_at"]
        of_a = [number for number in live if KEYS[number - 1] == "a"]
        assert values(client, name, as_of=moment, external_key="a") == rows_of(*of_a)
        assert values(client, name, as_of=moment, use_last=True) == rows_of(live[-1])
        assert values(client, name, as_of=moment, external_key="a", use_last=True) == rows_of(of_a[-1])


@pytest.mark.parametrize("as_json", [False, True], ids=["any", "json"])
def test_as_of_takes_any_zone_and_precision(client, name, as_json):
    results = load_history(client, name)
    moment = instant(results[2])
    eastwards = moment.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=45)))
    westwards = moment.astimezone(datetime.timezone(-datetime.timedelta(hours=3, minutes=30)))
    in_utc = moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
    for text in (eastwards.isoformat(), westwards.isoformat(), f"{in_utc}Z", f"{in_utc}000Z", f"{in_utc}999Z"):
        assert values(client, name, as_json=as_json, as_of=text) == rows_of(1, 2, 3), text


@pytest.mark.parametrize(
    "text",
    ["2999-01-01T00:00:00Z", "2999-01-01T00:00:00+14:00", "2999-01-01T00:00:00.5-00:30", "2999-01-01T00:00Z"]
    + ["2999-01-01T00:00:00,25Z", "29990101T000000Z"],
)
def test_as_of_takes_any_form_of_an_instant(client, name, text):
    """Among them ISO 8601's forms without seconds, with a comma, and without separators."""
    load_history(client, name)
    assert values(client, name, as_of=text) == rows_of(4, 5, 6)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01T00:00:00Z", "2024-06-01T25:00:00Z", "12", "now()"])
def test_as_of_that_is_no_instant_is_refused(client, name, text):
    load_history(client, name)
    with refused("INVALID_ARGUMENT", mentions=["as_of"]):
        get(client, name, as_of=text)


def test_as_of_is_not_touched_by_later_ends(client, name):
    results = load_history(client, name)
    delete_version(client, name, 5)
    set_retention(client, name, keep_versions=1)
    assert values(client, name) == rows_of(6)
    for result, live in zip(results, HISTORY):
        assert values(client, name, as_of=result["created_at"]) == rows_of(*live)


def test_flight_info_and_schema_follow_the_selection(client, name):
    results = load_history(client, name)
    load(client, pa.table({"x": [7], "y": ["new"]}), name)
    for fields, rows, names in [
        ({"as_of": results[3]["created_at"]}, 4, ["x"]),
        ({"version": 1}, 2, ["x"]),
        ({"use_last": True}, 1, ["x", "y"]),
        ({}, 7, ["x", "y"]),
    ]:
        descriptor = flight.FlightDescriptor.for_command(get_command(name, **fields))
        info = client.get_flight_info(descriptor)
        assert (info.total_records, info.schema.names) == (rows, names)
        assert client.get_schema(descriptor).schema.equals(info.schema, check_metadata=True)
        got = pa.concat_tables([client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints])
        assert got.equals(get(client, name, **fields))


# version = N


def test_a_version_is_read_alone_also_when_it_was_replaced(client, name):
    load_history(client, name)
    for number in range(1, 7):
        assert values(client, name, version=number) == rows_of(number)


@pytest.mark.parametrize("number", [0, -1, 7, 10**15])
def test_an_unknown_version_is_not_found(client, name, number):
    load_history(client, name)
    with refused("NOT_FOUND", "INVALID_ARGUMENT", mentions=["version"]):
        get(client, name, version=number)


def test_a_version_is_not_combined_with_another_selection(client, name):
    first = load_history(client, name)[0]
    for other in ({"external_key": "a"}, {"use_last": True}, {"as_of": first["created_at"]}):
        with refused("INVALID_ARGUMENT", mentions=["version"]):
            get(client, name, version=1, **other)


# list_versions


def test_list_versions_tells_what_each_load_was(client, name):
    results = load_history(client, name)
    keyed = load(client, frame(7), name, external_key="c", idempotency_key="load 7")
    records = list_versions(client, name, include_replaced=True)
    assert [record["version"] for record in records] == [1, 2, 3, 4, 5, 6, 7]
    for record, result in zip(records, [*results, keyed]):
        assert record["external_key"] == result["external_key"]
        assert instant(record) == instant(result)
        assert record["rows"] == result["total_rows"]
        assert record["chunks"] == result["chunks_total"]
        assert record["bytes"] > 0
        assert record["keep_last"] is result["keep_last"]
        assert record["created_by"] == "local"
    assert [record["state"] for record in records] == ["replaced"] * 3 + ["live"] * 4
    assert [record.get("idempotency_key") for record in records] == [None] * 6 + ["load 7"]
    assert list_versions(client, name) == records[3:]


def test_list_versions_of_an_external_key(client, name):
    load_history(client, name)
    load(client, frame(7), name)
    assert live_numbers(client, name, external_key="a") == [4, 6]
    replaced_too = list_versions(client, name, external_key="a", include_replaced=True)
    assert [record["version"] for record in replaced_too] == [1, 3, 4, 6]
    assert live_numbers(client, name, external_key="NOW") == live_numbers(client, name, external_key="default") == [7]
    with refused("NOT_FOUND", mentions=["nope"]):
        list_versions(client, name, external_key="nope")


# describe_dataframe


def test_describe_tells_schema_keys_and_sums(client, name):
    table = pa.table(
        {"day": pa.array([0, 1, 1], pa.date32()), "id": pa.array([1, 2, 3], pa.uint16()), "c": ["a", None, "b"]}
    ).replace_schema_metadata({"owner": "ops"})
    sent = table.set_column(2, "c", table["c"].dictionary_encode())
    for _ in range(2):
        result = load(client, sent, name, columns_keys={"day": "Date", "id": "ID"}, external_key="k")
    load(client, sent, name, external_key="k", keep_last=True)
    load(client, sent.slice(0, 1), name)
    told = describe(client, name)
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(told["schema"])))
    assert schema.equals(sent.schema, check_metadata=True)
    assert (told["dataframe_name"], told["columns_keys"]) == (name, {"day": "Date", "id": "ID"})
    assert (told["versions"], told["rows"]) == (2, 4)
    assert told["chunks"] == result["chunks_total"] + 1
    assert told["bytes"] > 0
    assert told["retention"] == {}
    table = delta_rows(root_of(client, name))
    assert sorted(value.as_py() for value in table["id"]) == [1, 1, 2, 3]


def test_describe_follows_what_happens(client, name):
    load_history(client, name)
    assert (describe(client, name)["versions"], describe(client, name)["rows"]) == (3, 6)
    delete_version(client, name, 4)
    assert (describe(client, name)["versions"], describe(client, name)["rows"]) == (2, 4)
    set_retention(client, name, keep_versions=3, keep_seconds=86_400)
    assert describe(client, name)["retention"] == {"keep_versions": 3, "keep_seconds": 86_400}
    (info,) = [info for info in client.list_flights(criteria=name.encode())]
    assert info.total_records == get_info(client, name).total_records == 4


# delete_version


def test_a_deleted_version_is_gone_from_the_union_and_can_still_be_read(client, name):
    results = load_history(client, name)
    assert delete_version(client, name, 5) == {"dataframe_name": name, "version": 5}
    assert values(client, name) == rows_of(4, 6)
    assert values(client, name, external_key="b") == []
    assert values(client, name, version=5) == rows_of(5)
    assert values(client, name, as_of=results[-1]["created_at"]) == rows_of(4, 5, 6)
    assert states(client, name)[5] == "deleted"
    delete_version(client, name, 6)
    assert values(client, name, use_last=True) == rows_of(4)
    assert load(client, frame(7), name)["version"] == 7
    assert values(client, name) == [*rows_of(4), 7]


def test_a_version_to_delete_must_be_given(client, name):
    load(client, frame(1), name)
    with refused("INVALID_ARGUMENT", mentions=["version"]):
        act(client, "delete_version", name)
    assert live_numbers(client, name) == [1]


@pytest.mark.parametrize("number", [1, 5, 7, 0, -1])
def test_only_a_live_version_can_be_deleted(client, name, number):
    """Version 1 is replaced, 5 is deleted already, the others never were."""
    load_history(client, name)
    delete_version(client, name, 5)
    before = list_versions(client, name, include_replaced=True)
    with refused("NOT_FOUND", *(["INVALID_ARGUMENT"] if number < 1 else []), mentions=["version"]):
        delete_version(client, name, number)
    assert list_versions(client, name, include_replaced=True) == before


def test_a_dataset_without_live_versions_is_empty_with_its_last_schema(client, name):
    load(client, frame(1), name)
    last = pa.table({"x": pa.array([2], pa.int64()), "c": pa.array(["a"]).dictionary_encode()})
    load(client, last.replace_schema_metadata({"m": "2"}), name)
    for number in (2, 1):
        delete_version(client, name, number)
    got = get(client, name)
    assert_tables_equal(got, last.slice(0, 0).replace_schema_metadata({"m": "2"}))
    assert name in list_names(client, name)
    assert sql(client, f"SELECT count(*) AS n FROM {table_name(name)}").to_pydict() == {"n": [0]}
    assert (describe(client, name)["versions"], describe(client, name)["rows"]) == (0, 0)
    assert list_versions(client, name) == []
    assert load(client, frame(3), name)["version"] == 3


# delete_dataframe


def test_a_deleted_dataset_is_gone_by_name(client, name):
    load_history(client, name)
    load(client, frame(9), name + "/b")
    assert delete_dataframe(client, name) == {"dataframe_name": name}
    assert_absent(client, name)
    for fields in ({"version": 1}, {"external_key": "a"}, {"use_last": True}, {"as_of": "2999-01-01T00:00:00Z"}):
        with refused("NOT_FOUND", mentions=[name]):
            get(client, name, **fields)
    with refused("NOT_FOUND", "INVALID_ARGUMENT"):
        sql(client, f"SELECT x FROM {table_name(name)}")
    for kind in ACTIONS:
        with refused("NOT_FOUND", mentions=[name]):
            act(client, kind, name, version=4 if kind == "delete_version" else None)
    assert values(client, name + "/b") == [9]


def test_a_name_is_used_anew_and_nothing_of_the_old_shows(client, name):
    old = load(client, frame(1), name, columns_keys={"x": "ID"}, external_key="k", idempotency_key="one")
    load(client, frame(2), name, external_key="k", keep_last=True)
    set_retention(client, name, keep_versions=1)
    root = root_of(client, name)
    ticket = get_info(client, name).endpoints[0].ticket
    delete_dataframe(client, name)
    sent = pa.table({"x": ["text"], "day": pa.array([0], pa.date32())})
    new = load(client, sent, name, columns_keys={"day": "Date"}, idempotency_key="one")
    assert (new["version"], new["columns_keys"]) == (1, {"day": "Date"})
    assert new["chunks"][0]["partition"] == "day/1970-01-01"
    assert_tables_equal(get(client, name), sent)
    assert_tables_equal(get(client, name, version=1), sent)
    assert root_of(client, name) != root
    assert describe(client, name)["retention"] == {}
    assert states(client, name) == {1: "live"}
    for fields in ({"version": 2}, {"external_key": "k"}):
        with refused("NOT_FOUND"):
            get(client, name, **fields)
    assert get(client, name, as_of=old["created_at"]).num_rows == 0
    with refused("NOT_FOUND", "INVALID_ARGUMENT", "ABORTED"):
        client.do_get(ticket).read_all()


def test_a_name_can_be_deleted_and_used_again_and_again(client, name):
    roots = set()
    for number in range(5):
        assert load(client, frame(number), name)["version"] == 1
        assert values(client, name) == [number]
        roots.add(root_of(client, name))
        delete_dataframe(client, name)
        assert_absent(client, name)
    assert len(roots) == 5


def test_a_deleted_dataset_stays_deleted_after_a_crash(start_server):
    server = start_server()
    with server.connect() as client:
        for each in ("own/gone", "own/anew"):
            load(client, frame(1), each)
            delete_dataframe(client, each)
        load(client, frame(2), "own/anew")
    server.kill()
    with start_server().connect() as client:
        assert_absent(client, "own/gone")
        assert values(client, "own/anew") == [2]
        assert states(client, "own/anew") == {1: "live"}


# set_retention


def test_retention_by_count_is_per_external_key(client, name):
    for number in range(1, 10):
        load(client, frame(number), name, external_key="abc"[number % 3])
    told = set_retention(client, name, keep_versions=2)
    assert sorted(told.pop("expired")) == [1, 2, 3]
    assert told == {"dataframe_name": name, "keep_versions": 2}
    assert live_numbers(client, name) == [4, 5, 6, 7, 8, 9]
    assert values(client, name) == [4, 5, 6, 7, 8, 9]
    assert {states(client, name)[number] for number in (1, 2, 3)} == {"expired"}
    assert values(client, name, version=2) == [2]


def test_retention_is_applied_on_each_later_load(client, name):
    results = [load(client, frame(1), name)]
    set_retention(client, name, keep_versions=2)
    for number in range(2, 6):
        results.append(load(client, frame(number), name))
        load(client, frame(100 + number), name, external_key="other", keep_last=True)
        newest = [result["version"] for result in results][-2:]
        assert live_numbers(client, name, external_key="NOW") == newest
        assert values(client, name, external_key="NOW") == list(range(max(1, number - 1), number + 1))
    assert values(client, name, external_key="other") == [105]
    assert values(client, name, as_of=results[1]["created_at"]) == [1, 2]


def test_a_load_and_what_it_expires_are_one_commit(client, name):
    """At no instant are there more versions than the policy keeps, or fewer."""
    load(client, frame(0), name)
    set_retention(client, name, keep_versions=1)
    results = [load(client, frame(number), name) for number in range(1, 6)]
    for number, result in enumerate(results, 1):
        assert values(client, name, as_of=result["created_at"]) == [number]
        assert values(client, name, as_of=just_before(result)) == [number - 1]


def test_retention_by_age_ends_versions_of_every_key(client, name):
    for key in ("a", "b", "a"):
        load(client, frame(0), name, external_key=key)
    assert set_retention(client, name, keep_seconds=10**9)["expired"] == []
    told = set_retention(client, name, keep_seconds=1)
    assert told["keep_seconds"] == 1
    deadline = time.monotonic() + PATIENCE
    records = list_versions(client, name, include_replaced=True)
    while any(record["state"] == "live" for record in records[:3]):
        assert time.monotonic() < deadline, "versions older than a second are still live"
        load(client, frame(0), name, external_key="c")
        records = list_versions(client, name, include_replaced=True)
    ended = [record["version"] for record in records if record["state"] == "expired"]
    assert ended == list(range(1, len(ended) + 1)), "the older ones went, the younger ones stayed"
    assert {record["state"] for record in records[len(ended) :]} <= {"live"}


def test_a_retention_can_be_widened_and_cleared(client, name):
    for number in range(1, 4):
        load(client, frame(number), name)
    assert set_retention(client, name, keep_versions=2)["expired"] == [1]
    assert set_retention(client, name, keep_versions=9) == {"dataframe_name": name, "keep_versions": 9, "expired": []}
    assert live_numbers(client, name) == [2, 3]
    assert set_retention(client, name) == {"dataframe_name": name, "expired": []}
    assert describe(client, name)["retention"] == {}
    for number in range(4, 16):
        load(client, frame(number), name)
    assert live_numbers(client, name) == list(range(2, 16))


@pytest.mark.parametrize("field", ["keep_versions", "keep_seconds"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_a_retention_that_keeps_nothing_is_refused(client, name, field, value):
    load(client, frame(1), name)
    with refused("INVALID_ARGUMENT", mentions=[field] if isinstance(value, int) else []):
        set_retention(client, name, **{field: value})
    assert describe(client, name)["retention"] == {}
    assert live_numbers(client, name) == [1]


# Actions in general


def test_list_actions_names_them_all_with_what_they_take(client):
    told = {action.type: action.description for action in client.list_actions()}
    assert set(ACTIONS) <= set(told)
    for kind, field in [("list_versions", "external_key"), ("delete_version", "version"), ("set_retention", "keep")]:
        assert field in told[kind]
    assert all("dataframe_name" in told[kind] for kind in ACTIONS)


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"{", b"{}", b"[]", b"\xff\x00", b'{"dataframe_name": 7}', b'{"dataframe_name": ""}']
    + [b'{"dataframe_name": "../x"}', b'{"dataframe_name": "a/b", "nonsense": true}'],
    ids=repr,
)
def test_a_malformed_action_is_refused(client, kind, body):
    with refused("INVALID_ARGUMENT"):
        list(client.do_action(flight.Action(kind, body)))


@pytest.mark.parametrize("kind", ACTIONS)
def test_an_action_on_an_unknown_dataset_is_not_found(client, name, kind):
    with refused("NOT_FOUND", mentions=[name]):
        act(client, kind, name, version=1 if kind == "delete_version" else None)


def test_integers_of_actions_may_be_strings(client, name):
    load_history(client, name)
    for kind, fields in [("delete_version", {"version": "4"}), ("set_retention", {"keep_versions": "1"})]:
        body = json.dumps({"dataframe_name": name, **fields}).encode()
        list(client.do_action(flight.Action(kind, body)))
    assert live_numbers(client, name) == [5, 6]


def test_versions_and_their_ends_survive_a_crash(start_server):
    server = start_server()
    with server.connect() as client:
        results = load_history(client, "own/data")
        delete_version(client, "own/data", 5)
        set_retention(client, "own/data", keep_versions=1)
        before = list_versions(client, "own/data", include_replaced=True)
        told = describe(client, "own/data")
    server.kill()
    with start_server().connect() as client:
        assert list_versions(client, "own/data", include_replaced=True) == before
        assert describe(client, "own/data") == told
        assert [record["state"] for record in before] == ["replaced"] * 3 + ["expired", "deleted", "live"]
        for number, (result, live) in enumerate(zip(results, HISTORY), 1):
            assert values(client, "own/data", version=number) == rows_of(number)
            assert values(client, "own/data", as_of=result["created_at"]) == rows_of(*live)
        load(client, frame(7), "own/data", external_key="a")
        assert live_numbers(client, "own/data") == [7]


def test_ends_of_every_kind_come_in_any_order(client, name):
    """Each pair of ways to end a version, one after the other, leaves what neither ended."""
    ways = {
        "delete": lambda: delete_version(client, each, 2),
        "replace": lambda: load(client, frame(6), each, external_key="k", keep_last=True),
        "expire": lambda: set_retention(client, each, keep_versions=2),
        "compact": lambda: compact(client, each),
        "vacuum": lambda: vacuum(client, each),
    }
    for first, second in itertools.permutations(ways, 2):
        each = f"{name}/{first}-{second}"
        for number in range(1, 6):
            load(client, frame(number), each, external_key="k" if number % 2 else "l")
        live = {1, 2, 3, 4, 5}
        for way in (first, second):
            ways[way]()
            match way:
                case "delete":
                    live -= {2}
                case "replace":
                    live = live & {2, 4} | {6}
                case "expire":
                    live -= {1}
        assert values(client, each) == sorted(live), (first, second)
        assert live_numbers(client, each) == sorted(live)
