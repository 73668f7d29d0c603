"""`DELETE` and `TRUNCATE`: which rows go and where they stay to be seen, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from frames import (
    assert_tables_equal,
    get,
    get_info,
    load,
    refused,
    sql,
    table_name,
)
from versions import (
    describe,
    just_before,
    list_versions,
    named,
)
from writes import newest, people, rows, versions, write


def test_deleted_rows_are_gone_from_their_versions_and_stay_in_the_past(client, name):
    first = load(client, people(1, 2, 3), name, external_key="a")
    second = load(client, people(4, 5), name, external_key="b")
    assert write(client, f"DELETE FROM {table_name(name)} WHERE id IN (2, 5)") == 2
    assert get(client, name)["id"].to_pylist() == [1, 3, 4]
    assert get(client, name, version=1)["id"].to_pylist() == [1, 3]
    assert get(client, name, external_key="b")["id"].to_pylist() == [4]
    assert get(client, name, use_last=True)["id"].to_pylist() == [4], "a statement that brought no rows is passed over"
    assert get(client, name, version=3).num_rows == 0
    assert get(client, name, as_of=first["created_at"])["id"].to_pylist() == [1, 2, 3]
    assert get(client, name, as_of=second["created_at"])["id"].to_pylist() == [1, 2, 3, 4, 5]
    assert versions(client, name) == [(1, "a", 2), (2, "b", 1), (3, "default", 0)]
    assert get_info(client, name).total_records == 3
    assert describe(client, name)["rows"] == 3
    told = sql(client, f"SELECT version, rows FROM {named(name, '$versions')} ORDER BY 1").to_pylist()
    assert told == [{"version": 1, "rows": 2}, {"version": 2, "rows": 1}, {"version": 3, "rows": 0}]
    ids = sql(client, f"SELECT id FROM {named(name, f'@as_of={just_before(newest(client, name))}')} ORDER BY 1")
    assert ids["id"].to_pylist() == [1, 2, 3, 4, 5]


def test_nothing_deleted_makes_no_version(client, name):
    load(client, people(1), name)
    for statement in (
        "DELETE FROM {t} WHERE id = 7",
        "DELETE FROM {t} WHERE false",
        "UPDATE {t} SET x = 1 WHERE id = 7",
    ):
        assert write(client, statement.format(t=table_name(name))) == 0
    assert versions(client, name) == [(1, "default", 1)]


@pytest.mark.parametrize(
    "statement", ["DELETE FROM {t}", "TRUNCATE TABLE {t}", "TRUNCATE {t}", "DELETE FROM {t} WHERE true"]
)
def test_all_rows_may_go(client, name, statement):
    load(client, people(1, 2), name, external_key="a")
    load(client, people(3), name)
    assert write(client, statement.format(t=table_name(name))) == 3
    got = get(client, name)
    assert (got.num_rows, got.schema) == (0, people(1).schema)
    assert versions(client, name) == [(1, "a", 0), (2, "default", 0), (3, "default", 0)]
    assert write(client, statement.format(t=table_name(name))) == 0
    load(client, people(9), name)
    assert get(client, name)["id"].to_pylist() == [9]
    assert get(client, name, as_of=just_before(list_versions(client, name)[2]))["id"].to_pylist() == [1, 2, 3]


def test_truncate_takes_one_table_that_is_there(client, name):
    with refused("NOT_FOUND"):
        write(client, f"TRUNCATE TABLE {table_name(name)}")
    assert write(client, f"TRUNCATE TABLE IF EXISTS {table_name(name)}") == 0
    with refused("UNIMPLEMENTED"):
        write(client, f"TRUNCATE TABLE {table_name(name)}, other")


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("x IS NULL", [1, 2, 3, 5]),
        ("x = 'NaN'", [1, 2, 4, 5]),
        ("x > 1", [1, 4, 5]),
        ("NOT (x > 1)", [2, 3, 4]),
        ("id IN (SELECT max(id) FROM {t})", [1, 2, 3, 4]),
        ("id < (SELECT avg(id) FROM {t})", [3, 4, 5]),
        ("EXISTS (SELECT 1 FROM {t} AS o WHERE o.id = own.id + 2)", [4, 5]),
        ("own.id = (SELECT max(o.id) FROM {t} AS o WHERE o.x = own.x)", [4]),
        ("NULL", [1, 2, 3, 4, 5]),
    ],
)
def test_conditions_of_every_kind(client, name, condition, left):
    load(client, pa.table({"id": [1, 2, 3], "x": [1.0, 2.0, float("nan")]}), name)
    load(client, pa.table({"id": [4, 5], "x": [None, 0.5]}), name)
    write(client, f"DELETE FROM {table_name(name)} AS own WHERE {condition.format(t=table_name(name))}")
    assert sorted(get(client, name)["id"].to_pylist()) == left


def test_other_tables_may_be_named(client, name):
    load(client, people(1, 2, 3), name)
    load(client, people(2, 3, 3), f"{name}-gone")
    using = f"USING {table_name(name + '-gone')} AS g WHERE {table_name(name)}.id = g.id"
    assert write(client, f"DELETE FROM {table_name(name)} {using}") == 2, "a row is deleted once"
    assert get(client, name)["id"].to_pylist() == [1]


def test_columns_may_be_qualified_in_every_way(client, name):
    load(client, people(*range(1, 8)), name)
    schema, table = table_name(name).split('".')
    for number, qualifier in enumerate([table, f'{schema}".{table}', f'pandas_db.{schema}".{table}'], 1):
        assert write(client, f"DELETE FROM {table_name(name)} WHERE {qualifier}.id = {number}") == 1
    assert write(client, f"DELETE FROM {table_name(name)} T WHERE t.id = 4") == 1
    assert write(client, f"UPDATE {table_name(name)} T SET t.s = 'x' WHERE T.id = 5") == 1
    assert write(client, f"UPDATE {table_name(name)} SET {table}.s = {schema}\".{table}.s || '!' WHERE id = 6") == 1
    assert rows(client, name) == [(5, "x", 1.25), (6, "s6!", 1.5), (7, "s7", 1.75)]
    with refused("INVALID_ARGUMENT"):
        write(client, f"DELETE FROM {table_name(name)} T WHERE {table}.id = 5")
    with refused("INVALID_ARGUMENT", mentions=["other.s"]):
        write(client, f"UPDATE {table_name(name)} SET other.s = 'x'")


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM {t} WHERE nope = 1", "INVALID_ARGUMENT"),
        ("DELETE FROM {t} WHERE id", "INVALID_ARGUMENT"),
        ("DELETE FROM {t} WHERE id / (id - 1) = 1", "INVALID_ARGUMENT"),
        ("DELETE FROM {t} WHERE id = 1 LIMIT 1", "UNIMPLEMENTED"),
        ("DELETE FROM {t} WHERE id = 1 RETURNING id", "UNIMPLEMENTED"),
        ("DELETE FROM {last}", "INVALID_ARGUMENT"),
        ("DELETE FROM {t} VERSION AS OF 1", "INVALID_ARGUMENT"),
        ("DELETE FROM {versions}", "INVALID_ARGUMENT"),
        ("DELETE FROM nowhere", "NOT_FOUND"),
        ("DELETE FROM range(3)", "INVALID_ARGUMENT"),
        ("DELETE FROM {t}, nowhere", "UNIMPLEMENTED"),
        ("UPDATE {t} SET nope = 1", "INVALID_ARGUMENT"),
        ("UPDATE {t} SET id = 1, id = 2", "INVALID_ARGUMENT"),
        ("UPDATE {t} SET (id, s) = (1, 'a')", "UNIMPLEMENTED"),
        ("UPDATE {t} SET id = 'x'", "INVALID_ARGUMENT"),
        ("UPDATE {t} SET id = NULL", "INVALID_ARGUMENT"),
        ("UPDATE {t} SET id = sum(id)", "INVALID_ARGUMENT"),
        ("UPDATE {t} SET s = s || repeat('x', 1) RETURNING s", "UNIMPLEMENTED"),
        ("UPDATE {last} SET id = 1", "INVALID_ARGUMENT"),
        ('UPDATE {t} SET "__pdb_row" = 1', "INVALID_ARGUMENT"),
        ("UPDATE {t} JOIN nowhere n ON true SET id = 1", "UNIMPLEMENTED"),
        ("UPDATE {t} SET id = o.id FROM nowhere o", "NOT_FOUND"),
        ("UPDATE {t} SET x = o.column1 FROM (VALUES (1.0), (2.0)) o", "INVALID_ARGUMENT"),
        ("MERGE INTO {t} USING nowhere o ON true WHEN MATCHED THEN DELETE", "NOT_FOUND"),
        ("MERGE INTO {last} USING {t} o ON true WHEN MATCHED THEN DELETE", "INVALID_ARGUMENT"),
        ("MERGE INTO {t} t USING (VALUES (1), (1)) o ON t.id = o.column1 WHEN MATCHED THEN DELETE", "INVALID_ARGUMENT"),
        ("MERGE INTO {t} t USING (VALUES (9)) o ON false WHEN NOT MATCHED THEN INSERT VALUES (1)", "INVALID_ARGUMENT"),
        (
            "MERGE INTO {t} t USING (VALUES (9)) o ON false WHEN NOT MATCHED THEN INSERT (s) VALUES ('x')",
            "INVALID_ARGUMENT",
        ),
        ("MERGE INTO {t} t USING (VALUES (9)) o ON false WHEN NOT MATCHED THEN DELETE", "INVALID_ARGUMENT"),
        ("EXPLAIN ANALYZE DELETE FROM {t}", "INVALID_ARGUMENT"),
    ],
)
def test_bad_statements_are_refused_and_change_nothing(client, name, statement, code):
    sent = people(1, 2).cast(
        pa.schema([pa.field("id", pa.int64(), nullable=False), ("s", pa.string()), ("x", pa.float64())])
    )
    load(client, sent, name)
    names = {"t": table_name(name), "last": named(name, "@last"), "versions": named(name, "$versions")}
    with refused(code):
        write(client, statement.format(**names))
    assert_tables_equal(get(client, name), sent)
    assert versions(client, name) == [(1, "default", 2)]
