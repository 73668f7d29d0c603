"""Versions in SQL: the names with @ and $, and VERSION AS OF and TIMESTAMP AS OF."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from frames import get, load, refused, sql, sql_by_ticket, table_name
from versions import (
    HISTORY,
    KEYS,
    delete_version,
    describe,
    frame,
    instant,
    just_before,
    list_versions,
    load_history,
    named,
    root_of,
    rows_of,
    set_retention,
)


def rows(client, query: str) -> list[dict]:
    """Run a query both ways; they must agree but for the order of rows."""
    table, by_ticket = sql(client, query), sql_by_ticket(client, query)
    assert by_ticket.schema.equals(table.schema, check_metadata=True)
    assert sorted(map(str, by_ticket.to_pylist())) == sorted(map(str, table.to_pylist()))
    return table.to_pylist()


def shown(client, source: str) -> list[int]:
    """Return the rows of a table expression in the order of load_history."""
    found = [row["x"] for row in rows(client, f"SELECT x FROM {source}")]
    return sorted(found, key=lambda x: (abs(x), -x))


# Names with @


def test_a_name_with_last_is_the_newest_live_version(client, name):
    load_history(client, name)
    assert shown(client, named(name, "@last")) == rows_of(6)
    delete_version(client, name, 6)
    assert shown(client, named(name, "@last")) == rows_of(5)


def test_a_name_with_a_key_is_its_live_versions(client, name):
    load_history(client, name)
    load(client, frame(7), name)
    assert shown(client, named(name, "@key=a")) == rows_of(4, 6)
    assert shown(client, named(name, "@key=b")) == rows_of(5)
    assert shown(client, named(name, "@key=a@last")) == rows_of(6)
    assert shown(client, named(name, "@key=NOW")) == shown(client, named(name, "@key=default")) == [7]


@pytest.mark.parametrize(
    "key", ["with space", "a=b", "a/b", 'quo"te', "it's", "Größe", "$versions", "last", "last=1", "a.b"]
)
def test_a_key_may_hold_what_a_key_may_hold(client, name, key):
    load(client, frame(1), name, external_key=key)
    load(client, frame(2), name, external_key="other")
    load(client, frame(3), name, external_key=key)
    assert shown(client, named(name, f"@key={key}")) == [1, 3]
    assert shown(client, named(name, f"@key={key}@last")) == [3]


def test_a_name_with_a_version_is_that_version(client, name):
    load_history(client, name)
    for number in range(1, 7):
        assert shown(client, named(name, f"@version={number}")) == rows_of(number)


def test_a_name_with_as_of_is_the_union_as_of_then(client, name):
    results = load_history(client, name)
    for result, live in zip(results, HISTORY):
        assert shown(client, named(name, f"@as_of={result['created_at']}")) == rows_of(*live)
        eastwards = instant(result).astimezone(datetime.timezone(datetime.timedelta(hours=2))).isoformat()
        assert shown(client, named(name, f"@as_of={eastwards}")) == rows_of(*live)
    assert shown(client, named(name, f"@as_of={just_before(results[0])}")) == []


def test_a_version_has_its_own_columns_and_types(client, name):
    """A name shows what a frame of that selection has, in the types of SQL."""
    first = load(client, pa.table({"a": pa.array([1], pa.int8()), "b": ["x"]}), name)
    load(client, pa.table({"c": [2.5], "a": pa.array([1 << 40], pa.int64())}), name)
    for suffix, fields in [
        ("@version=1", {"version": 1}),
        ("@version=2", {"version": 2}),
        ("@last", {"use_last": True}),
        (f"@as_of={first['created_at']}", {"as_of": first["created_at"]}),
        ("@key=default", {"external_key": "default"}),
        ("", {}),
    ]:
        table = sql(client, f"SELECT * FROM {named(name, suffix)} ORDER BY a")
        expected = get(client, name, **fields)
        assert table.schema.names == expected.schema.names
        assert table.schema.types == expected.schema.types
        assert table.to_pylist() == expected.to_pylist()


def test_names_are_joined_with_each_other(client, name):
    load_history(client, name)
    query = f"""
        WITH old AS (SELECT x FROM {named(name, "@version=1")})
        SELECT (SELECT count(*) FROM old) AS old, (SELECT sum(x) FROM {named(name, "@key=b")} WHERE x > 0) AS b,
               (SELECT count(*) FROM {table_name(name)} t JOIN {named(name, "@last")} l ON t.x = l.x) AS both
    """
    assert rows(client, query) == [{"old": 2, "b": 5, "both": 2}]
    query = f"SELECT x FROM {named(name, '@last')} UNION ALL SELECT x FROM {named(name, '@version=2')} ORDER BY x"
    assert [row["x"] for row in rows(client, query)] == [-6, -2, 2, 6]


def test_a_name_without_a_schema_is_of_the_public_one(client, name):
    dataset = name.split("/")[1]
    load_history(client, dataset)
    assert shown(client, f'"{dataset}@version=2"') == rows_of(2)
    assert shown(client, f'public."{dataset}@key=b"') == rows_of(5)
    assert shown(client, f'pandas_db.public."{dataset}@last"') == rows_of(6)
    assert shown(client, f'"{dataset}" VERSION AS OF 1') == rows_of(1)


@pytest.mark.parametrize("suffix", ["@version=7", "@version=99999999999999", "@key=nope", "@key=nope@last"])
def test_an_unknown_key_or_version_is_not_found(client, name, suffix):
    load_history(client, name)
    with refused("NOT_FOUND"):
        sql(client, f"SELECT x FROM {named(name, suffix)}")


@pytest.mark.parametrize(
    "suffix",
    [
        "@",
        "@nonsense",
        "@LAST",
        "@version",
        "@version=",
        "@version=x",
        "@version=-1",
        "@version=1.5",
        "@key=",
        "@as_of=",
    ]
    + ["@as_of=yesterday", "@last@last", "@last@key=a", "@version=1@last", "@key=a@version=1"]
    + ["$", "$nonsense", "$versions@last", "$VERSIONS"],
)
def test_a_name_that_says_nothing_known_is_refused(client, name, suffix):
    load_history(client, name)
    with refused("NOT_FOUND", "INVALID_ARGUMENT"):
        sql(client, f"SELECT * FROM {named(name, suffix)}")


@pytest.mark.parametrize(
    "suffix", ["@last", "@version=1", "@key=a", "@as_of=2999-01-01T00:00:00Z", "$versions", "$chunks"]
)
def test_a_name_of_an_unknown_dataset_is_not_found(client, name, suffix):
    with refused("NOT_FOUND", "INVALID_ARGUMENT"):
        sql(client, f"SELECT * FROM {named(name, suffix)}")


def test_only_datasets_are_listed(client, name):
    load_history(client, name)
    query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{name.split('/')[0]}'"
    listed = [row["table_name"] for row in rows(client, query)]
    assert name.split("/")[1] in listed
    assert not [each for each in listed if "@" in each or "$" in each]


# $versions and $chunks


def test_versions_is_a_table_of_every_version(client, name):
    results = load_history(client, name)
    load(client, frame(7), name, idempotency_key="load 7")
    delete_version(client, name, 5)
    set_retention(client, name, keep_versions=1)
    table = sql(client, f"SELECT * FROM {named(name, '$versions')} ORDER BY version")
    assert table.column_names == [
        "version",
        "external_key",
        "state",
        "created_at",
        "created_by",
        "rows",
        "bytes",
        "chunks",
        "idempotency_key",
    ]
    assert pa.types.is_timestamp(table.schema.field("created_at").type)
    assert table["version"].to_pylist() == [1, 2, 3, 4, 5, 6, 7]
    assert table["external_key"].to_pylist() == [*KEYS, "default"]
    assert table["state"].to_pylist() == ["replaced"] * 3 + ["expired", "deleted", "live", "live"]
    assert table["idempotency_key"].to_pylist() == [None] * 6 + ["load 7"]
    assert table["rows"].to_pylist() == [2] * 6 + [1]
    for row, result in zip(table.to_pylist(), results):
        created = row["created_at"]
        assert (created if created.tzinfo else created.replace(tzinfo=datetime.timezone.utc)) == instant(result)
    for row, record in zip(table.to_pylist(), list_versions(client, name, include_replaced=True)):
        for field in ("version", "external_key", "state", "created_by", "rows", "bytes", "chunks"):
            assert row[field] == record[field], field


def test_versions_is_queried_as_any_table(client, name):
    load_history(client, name)
    versions = named(name, "$versions")
    query = f"SELECT state, count(*) AS n, sum(rows) AS rows FROM {versions} GROUP BY state ORDER BY state"
    assert rows(client, query) == [{"state": "live", "n": 3, "rows": 6}, {"state": "replaced", "n": 3, "rows": 6}]
    query = f"SELECT max(version) AS v FROM {versions} WHERE external_key = 'b' AND state = 'replaced'"
    assert rows(client, query) == [{"v": 2}]


def test_chunks_is_a_table_of_what_lies_on_disk(client, name):
    table = pa.table(
        {
            "day": pa.array([0, 1, 1, None], pa.date32()),
            "id": pa.array([7, 3, 9, None], pa.int16()),
            "x": [1, 2, 3, 4],
        }
    )
    keys = {"day": "Date", "id": "ID"}
    results = [load(client, table, name, columns_keys=keys, external_key=key) for key in ("a", "b")]
    found = rows(client, f"SELECT * FROM {named(name, '$chunks')} ORDER BY version, path")
    assert list(found[0])[:6] == ["version", "external_key", "path", "partition", "rows", "bytes"]
    assert set(list(found[0])[6:]) == {"min_day", "max_day", "min_id", "max_id"}
    told = {
        (result["version"], chunk["path"]): (chunk["partition"], chunk["rows"])
        for result in results
        for chunk in result["chunks"]
    }
    assert {(row["version"], row["path"]): (row["partition"], row["rows"]) for row in found} == told
    assert {(row["version"], row["external_key"]) for row in found} == {(1, "a"), (2, "b")}
    root = root_of(client, name)
    assert all((root / row["path"]).stat().st_size == row["bytes"] for row in found)
    assert describe(client, name)["chunks"] == len(found)
    first = datetime.date(1970, 1, 1)
    bounds = {(row["min_day"], row["max_day"], row["min_id"], row["max_id"]) for row in found}
    second = first + datetime.timedelta(1)
    assert (first, first, 7, 7) in bounds
    assert (None, None, None, None) in bounds
    assert {(low, high) for low, high, *_ in bounds} == {(first, first), (second, second), (None, None)}
    assert min(low for *_, low, _ in bounds if low is not None) == 3
    assert max(high for *_, high in bounds if high is not None) == 9


def test_chunks_shows_no_other_folder(server, client, name):
    load_history(client, name)
    assert str(server.storage) not in str(rows(client, f"SELECT * FROM {named(name, '$chunks')}"))


# VERSION AS OF and TIMESTAMP AS OF


def test_version_as_of_is_that_version(client, name):
    load_history(client, name)
    table = table_name(name)
    for number in range(1, 7):
        assert shown(client, f"{table} VERSION AS OF {number}") == rows_of(number)
    assert shown(client, f"{table} version as of 3") == rows_of(3)
    assert shown(client, f"{table} VERSION AS OF 3 AS t") == rows_of(3)
    assert shown(client, f"pandas_db.{table} VERSION AS OF 3") == rows_of(3)


def test_timestamp_as_of_is_the_union_as_of_then(client, name):
    results = load_history(client, name)
    for result, live in zip(results, HISTORY):
        assert shown(client, f"{table_name(name)} TIMESTAMP AS OF '{result['created_at']}'") == rows_of(*live)
    assert shown(client, f"{table_name(name)} TIMESTAMP AS OF '{just_before(results[0])}'") == []


def test_both_stand_wherever_a_table_stands(client, name):
    results = load_history(client, name)
    table, moment = table_name(name), results[2]["created_at"]
    unqualified = f'"{name.split("/")[1]}"'
    for query, expected in {
        f"SELECT a.x FROM {table} VERSION AS OF 4 AS a JOIN {table} VERSION AS OF 4 AS b ON a.x = b.x": [-4, 4],
        f"SELECT a.x FROM {table} VERSION AS OF 4 AS a JOIN {table} VERSION AS OF 3 AS b ON a.x = b.x": [],
        f"SELECT a.x FROM {table} TIMESTAMP AS OF '{moment}' a JOIN {table} VERSION AS OF 2 b ON a.x = b.x": [-2, 2],
        f"SELECT a.x FROM {table} a LEFT JOIN {table} VERSION AS OF 5 b ON a.x = b.x WHERE b.x IS NULL": [-6, -4, 4, 6],
        f"WITH old AS (SELECT * FROM {table} VERSION AS OF 1) SELECT x FROM old": [-1, 1],
        f"SELECT x FROM (SELECT * FROM {table} TIMESTAMP AS OF '{moment}') WHERE x > 1": [2, 3],
        f"SELECT x FROM {table} WHERE x IN (SELECT x FROM {table} VERSION AS OF 5)": [-5, 5],
        f"SELECT x FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM {table} VERSION AS OF 5 o WHERE o.x = t.x)": [
            -6,
            -4,
            4,
            6,
        ],
        f"SELECT x FROM {table} VERSION AS OF 1 UNION ALL SELECT x FROM {table} VERSION AS OF 2": [-2, -1, 1, 2],
        f"SELECT x FROM {table} EXCEPT SELECT x FROM {table} VERSION AS OF 6": [-5, -4, 4, 5],
        f"SELECT a.x FROM {table} VERSION AS OF 1 a, {table} VERSION AS OF 2 b WHERE b.x = 2": [-1, 1],
        f"SELECT (SELECT max(x) FROM {table} VERSION AS OF 3) AS x": [3],
        f"SELECT {unqualified}.x FROM {table} VERSION AS OF 3": [-3, 3],
        f"SELECT count(*) AS x FROM {table} VERSION AS OF 3": [2],
    }.items():
        assert sorted(row["x"] for row in rows(client, query)) == expected, query


def test_as_of_in_explain_is_the_same_table(client, name):
    load_history(client, name)
    for words in ("EXPLAIN", "EXPLAIN ANALYZE"):
        assert sql(client, f"{words} SELECT x FROM {table_name(name)} VERSION AS OF 3").num_rows > 0
    with refused("NOT_FOUND"):
        sql(client, f"EXPLAIN SELECT x FROM {table_name(name)} VERSION AS OF 99")


@pytest.mark.parametrize(
    "clause",
    [
        "VERSION AS OF 7",
        "VERSION AS OF 0",
        "VERSION AS OF -1",
        "VERSION AS OF 1.5",
        "VERSION AS OF 'one'",
        "VERSION AS OF NULL",
        "VERSION AS OF x",
        "VERSION AS OF",
        "TIMESTAMP AS OF 'yesterday'",
        "TIMESTAMP AS OF 7",
        "TIMESTAMP AS OF NULL",
        "TIMESTAMP AS OF x",
        "TIMESTAMP AS OF",
    ],
)
def test_a_moment_that_is_none_is_refused(client, name, clause):
    load_history(client, name)
    with refused("INVALID_ARGUMENT", "NOT_FOUND"):
        sql(client, f"SELECT x FROM {table_name(name)} {clause}")


@pytest.mark.parametrize(
    "clause",
    [
        "FOR SYSTEM_TIME AS OF '2999-01-01T00:00:00Z'",
        "FOR SYSTEM_TIME AS OF TIMESTAMP '2999-01-01 00:00:00'",
        "FOR SYSTEM_VERSION AS OF 1",
        "FOR VERSION AS OF 1",
        "FOR TIMESTAMP AS OF '2999-01-01T00:00:00Z'",
        "AT (VERSION => 1)",
        "AT(TIMESTAMP => '2999-01-01T00:00:00Z'::timestamp)",
        "BEFORE(STATEMENT => '8e5d0ca9')",
        "CHANGES(INFORMATION => DEFAULT) AT(VERSION => 1)",
        "@v1",
    ],
)
def test_other_ways_to_name_a_moment_are_refused_or_right_but_never_ignored(client, name, clause):
    """Where one is taken it must mean what it says: version 1 alone, or the union of far in the future."""
    load_history(client, name)
    try:
        found = shown(client, f"{table_name(name)} {clause}")
    except pa.ArrowException as error:
        assert "[INVALID_ARGUMENT]" in str(error) or "[UNIMPLEMENTED]" in str(error), error
    else:
        assert found == (rows_of(4, 5, 6) if "2999" in clause else rows_of(1))


def test_as_of_on_what_is_no_dataset_is_refused(client, name):
    load_history(client, name)
    table = table_name(name)
    for query in (
        f"WITH c AS (SELECT x FROM {table}) SELECT x FROM c VERSION AS OF 1",
        f"SELECT x FROM {named(name, '@last')} VERSION AS OF 1",
        f"SELECT x FROM {named(name, '@version=2')} VERSION AS OF 1",
        f"SELECT x FROM {named(name, '@key=a')} TIMESTAMP AS OF '2999-01-01T00:00:00Z'",
        f"SELECT version FROM {named(name, '$versions')} VERSION AS OF 1",
        "SELECT table_name FROM information_schema.tables VERSION AS OF 1",
        f"SELECT x FROM (SELECT x FROM {table}) VERSION AS OF 1",
    ):
        with refused("INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND"):
            sql(client, query)
