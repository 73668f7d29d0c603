"""Statements that write: each of them, what it refuses, and what versions, keys and moments give afterwards."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import backends
import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from frames import (
    LOADS,
    ROWS,
    assert_absent,
    assert_tables_equal,
    categories,
    counted,
    get,
    get_info,
    list_names,
    load,
    refused,
    sql,
    table_name,
)
from other_readers import delta_rows, delta_table, scan_delta
from samples import arrow_tables
from versions import (
    compact,
    delete_version,
    describe,
    just_before,
    list_versions,
    named,
    root_of,
    set_retention,
    vacuum,
)
from writes import rows, write

DAY = datetime.date


def people(*ids: int) -> pa.Table:
    """Return a frame of some rows."""
    return pa.table({"id": pa.array(ids, pa.int64()), "s": [f"s{i}" for i in ids], "x": [i / 4 for i in ids]})


def newest(client, name: str) -> dict:
    """Return the record of the newest version."""
    return list_versions(client, name, include_replaced=True)[-1]


def versions(client, name: str) -> list[tuple[int, str, int]]:
    """Return number, key and rows of each live version."""
    return [(each["version"], each["external_key"], each["rows"]) for each in list_versions(client, name)]


# CREATE TABLE, DROP TABLE


def test_a_created_table_is_an_empty_dataset_of_one_version(client, name):
    columns = "a INT NOT NULL, b VARCHAR, c DOUBLE, d DATE, e TIMESTAMP, f BOOLEAN, g DECIMAL(20, 3), h SMALLINT"
    assert write(client, f"CREATE TABLE {table_name(name)} ({columns})") == 0
    schema = get(client, name).schema
    assert [str(field.type) for field in schema] == [
        "int32",
        "string",
        "double",
        "date32[day]",
        "timestamp[ns]",
        "bool",
        "decimal128(20, 3)",
        "int16",
    ]
    assert [field.nullable for field in schema] == [False] + [True] * 7
    assert versions(client, name) == [(1, "default", 0)]
    assert name in list_names(client, name)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("TEXT", pa.string()),
        ("VARCHAR(10)", pa.string()),
        ("REAL", pa.float32()),
        ("FLOAT(24)", pa.float32()),
        ("FLOAT(53)", pa.float64()),
        ("DOUBLE PRECISION", pa.float64()),
        ("BIGINT UNSIGNED", pa.uint64()),
        ("NUMERIC(38, 5)", pa.decimal128(38, 5)),
        ("TIMESTAMP WITHOUT TIME ZONE", pa.timestamp("ns")),
        ("TIMESTAMP WITH TIME ZONE", pa.timestamp("ns", "UTC")),
        ("TIMESTAMP(3)", pa.timestamp("ms")),
        ("TIME", pa.time64("ns")),
        ("INTERVAL", pa.month_day_nano_interval()),
        ("BYTEA", pa.binary()),
        ("INT[]", pa.list_(pa.int32())),
        ("STRUCT<a INT, b VARCHAR>", pa.struct([("a", pa.int32()), ("b", pa.string())])),
    ],
)
def test_types_of_columns(client, name, word, kind):
    write(client, f"CREATE TABLE {table_name(name)} (c {word})")
    assert write(client, f"INSERT INTO {table_name(name)} VALUES (NULL)") == 1
    assert get(client, name).schema.field("c").type.equals(kind), get(client, name).schema
    copied = f"CREATE TABLE {table_name(name + '-copy')} AS SELECT * FROM {table_name(name)}"
    assert write(client, copied) == 1


def test_a_table_is_created_once(client, name):
    write(client, f"CREATE TABLE {table_name(name)} (a INT)")
    for statement in (f"CREATE TABLE {table_name(name)} (b INT)", f"CREATE TABLE {table_name(name)} AS SELECT 1 AS b"):
        with refused("ALREADY_EXISTS", mentions=[name]):
            write(client, statement)
    assert write(client, f"CREATE TABLE IF NOT EXISTS {table_name(name)} AS SELECT 1 AS b") == 0
    assert get(client, name).column_names == ["a"]


def test_a_table_of_a_query_has_its_rows_in_order_and_its_types(client, name):
    load(client, people(3, 1, 2), name)
    made = f"{name}-made"
    query = f"SELECT id, upper(s) AS s, x * 2 AS x FROM {table_name(name)} ORDER BY id DESC"
    assert write(client, f"CREATE TABLE {table_name(made)} AS {query}") == 3
    assert get(client, made).to_pydict() == {"id": [3, 2, 1], "s": ["S3", "S2", "S1"], "x": [1.5, 1.0, 0.5]}
    assert [str(field.type) for field in get(client, made).schema] == ["int64", "string", "double"]
    assert versions(client, made) == [(1, "default", 3)]


def test_a_table_of_a_query_may_name_and_type_its_columns(client, name):
    write(client, f"CREATE TABLE {table_name(name)} (a SMALLINT, b VARCHAR) AS SELECT 7, 'x'")
    assert get(client, name).schema.equals(pa.schema([("a", pa.int16()), ("b", pa.string())]))
    with refused("INVALID_ARGUMENT"):
        write(client, f"CREATE TABLE {table_name(name + '-2')} (a SMALLINT) AS SELECT 7, 'x'")
    with refused("INVALID_ARGUMENT", mentions=["'a'", "null"]):
        write(client, f"CREATE TABLE {table_name(name + '-2')} (a SMALLINT NOT NULL) AS SELECT CAST(NULL AS SMALLINT)")
    assert_absent(client, f"{name}-2")


def test_or_replace_begins_anew(client, name):
    first = load(client, people(1), name, external_key="k")
    root = root_of(client, name)
    assert (
        write(client, f"CREATE OR REPLACE TABLE {table_name(name)} AS SELECT id + 1 AS n FROM {table_name(name)}") == 1
    )
    assert get(client, name).to_pydict() == {"n": [2]}
    assert versions(client, name) == [(1, "default", 1)]
    assert root_of(client, name) != root
    with refused("NOT_FOUND"):
        get(client, name, external_key="k")
    before = get(client, name, as_of=first["created_at"])
    assert before.num_rows == 0, "nothing of the old one shows"
    assert write(client, f"CREATE OR REPLACE TABLE {table_name(name + '-new')} (a INT)") == 0
    assert versions(client, f"{name}-new") == [(1, "default", 0)]


def test_a_replacement_that_fails_leaves_the_old_table(client, name):
    load(client, people(1), name)
    with refused("INVALID_ARGUMENT"):
        write(client, f"CREATE OR REPLACE TABLE {table_name(name)} AS SELECT 1 / (id - 1) AS n FROM {table_name(name)}")
    assert_tables_equal(get(client, name), people(1))


@pytest.mark.parametrize(
    "clause",
    [
        'PARTITION BY (day, "Item")',
        'PARTITIONED BY (day, "Item")',
        "WITH (columns_keys = 'day:Date,Item:ID')",
        "OPTIONS (columns_keys = 'day:Date, Item:ID')",
    ],
)
@pytest.mark.parametrize("day", ["DATE", "VARCHAR", "TIMESTAMP"])
def test_keys_can_be_given_in_sql(client, name, clause, day):
    columns = f'(day {day}, "Item" INT, x DOUBLE)'
    write(client, f"CREATE TABLE {table_name(name)} {columns} {clause}")
    assert describe(client, name)["columns_keys"] == {"day": "Date", "Item": "ID"}
    write(client, f"INSERT INTO {table_name(name)} VALUES ('2024-01-02', 5, 1), ('2024-01-03', 7, 2), (NULL, 9, 3)")
    partitions = sql(client, f"SELECT partition FROM {named(name, '$chunks')} ORDER BY 1")["partition"].to_pylist()
    assert partitions == [
        "day/2024-01-02/Item/from_5_to_5",
        "day/2024-01-03/Item/from_7_to_7",
        "day/__null__/Item/from_9_to_9",
    ]


def test_options_of_a_query(client, name):
    query = "SELECT DATE '2024-05-06' AS day, 1 AS id"
    options = "WITH (external_key = 'till 1', columns_keys = 'id:ID')"
    write(client, f"CREATE TABLE {table_name(name)} PARTITIONED BY (day) {options} AS {query}")
    assert versions(client, name) == [(1, "till 1", 1)]
    assert describe(client, name)["columns_keys"] == {"day": "Date", "id": "ID"}


@pytest.mark.parametrize(
    ("statement", "code", "words"),
    [
        ("CREATE TABLE {t} (a INT PRIMARY KEY)", "UNIMPLEMENTED", "PRIMARY KEY"),
        ("CREATE TABLE {t} (a INT, UNIQUE (a))", "UNIMPLEMENTED", "constraints"),
        ("CREATE TABLE {t} (a INT DEFAULT 3)", "UNIMPLEMENTED", "DEFAULT"),
        ("CREATE TABLE {t} (a INT CHECK (a > 0))", "UNIMPLEMENTED", "CHECK"),
        ("CREATE TEMPORARY TABLE {t} (a INT)", "UNIMPLEMENTED", "emporary"),
        ("CREATE TABLE {t} (a INT) PARTITION BY (b)", "INVALID_ARGUMENT", "'b'"),
        ("CREATE TABLE {t} (a DOUBLE) PARTITION BY (a)", "INVALID_ARGUMENT", "'a'"),
        ("CREATE TABLE {t} (a INT) PARTITION BY (a % 2)", "INVALID_ARGUMENT", "PARTITION BY"),
        ("CREATE TABLE {t} (a INT) WITH (colour = 'red')", "INVALID_ARGUMENT", "colour"),
        ("CREATE TABLE {t} (a INT) WITH (columns_keys = 'a')", "INVALID_ARGUMENT", "columns_keys"),
        ("CREATE TABLE {t} (a INT) WITH (columns_keys = 'a:Day')", "INVALID_ARGUMENT", "'Day'"),
        ("CREATE TABLE {t} (a INT) WITH (external_key = 'a@b')", "INVALID_ARGUMENT", "external_key"),
        ("CREATE TABLE {t} (a INT, a INT)", "INVALID_ARGUMENT", "a"),
        ("CREATE TABLE {t}", "INVALID_ARGUMENT", "columns"),
        ("CREATE OR REPLACE TABLE IF NOT EXISTS {t} (a INT)", "INVALID_ARGUMENT", ""),
        ("CREATE TABLE {t} (a WIDGET)", "UNIMPLEMENTED", "WIDGET"),
        ("CREATE TABLE {t} LIKE other", "INVALID_ARGUMENT", ""),
        ('CREATE TABLE "a@b" (a INT)', "INVALID_ARGUMENT", "a@b"),
        ('CREATE TABLE "a$b" AS SELECT 1 AS a', "INVALID_ARGUMENT", "a$b"),
        ("CREATE TABLE information_schema.x (a INT)", "INVALID_ARGUMENT", "information_schema"),
        ("CREATE TABLE other.public.x (a INT)", "INVALID_ARGUMENT", "other"),
        ("CREATE TABLE {t} AS SELECT * FROM nowhere", "NOT_FOUND", "nowhere"),
        ("CREATE SCHEMA s", "UNIMPLEMENTED", "schema"),
        ("CREATE VIEW {t} AS SELECT 1 AS a", "INVALID_ARGUMENT", "not allowed"),
        ("CREATE EXTERNAL TABLE {t} (a INT) STORED AS CSV LOCATION '/etc/passwd'", "INVALID_ARGUMENT", "not allowed"),
        ("ALTER TABLE {t} ADD COLUMN a INT", "*", ""),
        ("CREATE INDEX i ON {t} (a)", "*", ""),
        ("DROP SCHEMA s", "*", ""),
        ("DROP VIEW {t}", "*", ""),
        ("DROP TABLE {t}, other", "UNIMPLEMENTED", "one"),
        ("COPY (SELECT 1) TO 'x.csv'", "INVALID_ARGUMENT", ""),
        ("SET datafusion.execution.batch_size = 1", "INVALID_ARGUMENT", "not allowed"),
        ("GRANT SELECT ON {t} TO x", "*", ""),
        ("BEGIN", "*", ""),
    ],
)
def test_what_cannot_be_created_is_refused_by_name(client, name, statement, code, words):
    codes = ["INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND"] if code == "*" else [code]
    with refused(*codes, mentions=[words]):
        write(client, statement.format(t=table_name(name)))
    assert_absent(client, name)


def test_a_schema_is_there_by_its_tables(client, name):
    assert write(client, 'CREATE SCHEMA IF NOT EXISTS "any schema"') == 0


def test_a_dropped_table_is_gone_and_its_name_free(client, name):
    first = load(client, people(1), name)
    assert write(client, f"DROP TABLE {table_name(name)}") == 0
    assert_absent(client, name)
    with refused("NOT_FOUND", mentions=[name]):
        write(client, f"DROP TABLE {table_name(name)}")
    assert write(client, f"DROP TABLE IF EXISTS {table_name(name)}") == 0
    write(client, f"CREATE TABLE {table_name(name)} (a INT)")
    assert get(client, name).column_names == ["a"]
    assert first["version"] == newest(client, name)["version"] == 1


# INSERT


def test_inserted_rows_are_a_version_of_the_default_key(server, client, name):
    load(client, people(1), name, external_key="k")
    table = table_name(name)
    with counted(server) as rise:
        assert write(client, f"INSERT INTO {table} VALUES (2, 'b', 0.5), (3, NULL, NULL)") == 2
    assert (rise[LOADS], rise[ROWS]) == (1, 2)
    assert versions(client, name) == [(1, "k", 1), (2, "default", 2)]
    assert rows(client, name) == [(1, "s1", 0.25), (2, "b", 0.5), (3, None, None)]
    assert get(client, name, use_last=True)["id"].to_pylist() == [2, 3]
    assert get(client, name, external_key="k")["id"].to_pylist() == [1]
    assert get(client, name, version=1)["id"].to_pylist() == [1]
    assert get(client, name, as_of=just_before(newest(client, name)))["id"].to_pylist() == [1]
    assert newest(client, name)["created_by"] == "local"


def test_inserted_rows_keep_the_order_of_their_query(client, name):
    write(client, f"CREATE TABLE {table_name(name)} (n BIGINT)")
    assert (
        write(client, f"INSERT INTO {table_name(name)} SELECT value FROM range(0, 30000) ORDER BY value DESC") == 30_000
    )
    assert get(client, name)["n"].to_pylist() == list(range(29_999, -1, -1))
    write(client, f"INSERT INTO {table_name(name)} VALUES (3), (1), (2)")
    assert get(client, name, use_last=True)["n"].to_pylist() == [3, 1, 2]


def test_named_columns_may_come_in_any_order_and_the_others_are_null(client, name):
    load(client, people(1), name)
    assert write(client, f"INSERT INTO {table_name(name)} (x, id) SELECT 9.5, 7") == 1
    assert rows(client, name) == [(1, "s1", 0.25), (7, None, 9.5)]
    assert get(client, name, use_last=True).column_names == ["id", "s", "x"]


def test_a_query_may_read_what_it_writes(client, name):
    load(client, people(1, 2), name)
    for _ in range(3):
        write(client, f"INSERT INTO {table_name(name)} SELECT * FROM {table_name(name)}")
    assert get(client, name)["id"].to_pylist() == [1, 2] * 8


def test_nothing_inserted_makes_no_version(client, name):
    load(client, people(1), name)
    assert write(client, f"INSERT INTO {table_name(name)} SELECT * FROM {table_name(name)} WHERE id > 5") == 0
    assert versions(client, name) == [(1, "default", 1)]


def test_values_come_in_the_types_of_their_columns(client, name):
    sent = pa.table(
        {
            "i8": pa.array([1], pa.int8()),
            "u64": pa.array([(1 << 64) - 1], pa.uint64()),
            "f16": pa.array([1.5], pa.float16()),
            "dec": pa.array([decimal.Decimal("1.25")], pa.decimal128(30, 10)),
            "large": pa.array(["x"], pa.large_string()),
            "day": pa.array([DAY(2024, 1, 1)]),
            "d64": pa.array([DAY(2024, 1, 1)], pa.date64()),
            "ns": pa.array([1], pa.timestamp("ns")),
            "zone": pa.array([1], pa.timestamp("s", "Europe/Paris")),
            "time": pa.array([1], pa.time64("us")),
            "flag": pa.array([True]),
            "list": pa.array([[1, 2]], pa.list_(pa.int16())),
            "large_list": pa.array([["a"]], pa.large_list(pa.large_string())),
            "struct": pa.array([{"a": 1, "b": "x"}], pa.struct([("a", pa.int32()), ("b", pa.string())])),
            "bytes": pa.array([b"ab"], pa.binary(2)),
            "cat": pa.array(["p"]).dictionary_encode(),
        }
    )
    load(client, sent, name)
    values = (
        "-128, 18446744073709551615, 2.5, 12345678901234567890.0123456789, 'y', '2024-02-29', '2024-02-29',"
        " '2024-01-01T00:00:00.000000001', '2024-07-01T12:00:00+02:00', '12:34:56.5', false, [3, NULL],"
        " ['b', 'c'], named_struct('a', 2, 'b', 'z'), 'cd', 'q'"
    )
    assert write(client, f"INSERT INTO {table_name(name)} VALUES ({values})") == 1
    got = get(client, name)
    assert got.schema.equals(sent.schema, check_metadata=True)
    row = got.slice(1).to_pylist()[0]
    assert row["i8"] == -128 and row["u64"] == (1 << 64) - 1 and float(row["f16"]) == 2.5
    assert row["dec"] == decimal.Decimal("12345678901234567890.0123456789")
    assert row["day"] == row["d64"] == DAY(2024, 2, 29)
    assert got["ns"].cast(pa.int64())[1].as_py() == 1_704_067_200_000_000_001
    assert row["zone"] == datetime.datetime(2024, 7, 1, 10, tzinfo=datetime.timezone.utc)
    assert row["time"] == datetime.time(12, 34, 56, 500_000)
    assert (row["list"], row["large_list"], row["struct"]) == ([3, None], ["b", "c"], {"a": 2, "b": "z"})
    assert (row["bytes"], row["cat"], row["flag"]) == (b"cd", "q", False)
    assert categories(got["cat"]) == ["p", "q"]


def test_pandas_metadata_of_the_frame_stays(client, name):
    frame = pd.DataFrame({"x": [1.5, 2.5]}, index=pd.Index(["a", "b"], name="key"))
    load(client, frame, name)
    write(client, f"INSERT INTO {table_name(name)} (key, x) VALUES ('c', 3.5)")
    write(client, f"UPDATE {table_name(name)} SET x = 0 WHERE key = 'a'")
    expected = pd.DataFrame({"x": [0.0, 2.5, 3.5]}, index=pd.Index(["a", "b", "c"], name="key"))
    pd.testing.assert_frame_equal(get(client, name).to_pandas(), expected)


@pytest.mark.parametrize(
    ("statement", "code", "words"),
    [
        ("INSERT INTO {t} VALUES (1)", "INVALID_ARGUMENT", ["1 values for 3 columns"]),
        ("INSERT INTO {t} (id, s) VALUES (1)", "INVALID_ARGUMENT", ["1 values for 2 columns"]),
        ("INSERT INTO {t} (nope) VALUES (1)", "INVALID_ARGUMENT", ["'nope'", "id, s, x"]),
        ("INSERT INTO {t} (id, id) VALUES (1, 2)", "INVALID_ARGUMENT", ["'id'", "twice"]),
        ("INSERT INTO {t} (id) VALUES ('abc')", "INVALID_ARGUMENT", ["'id'", "abc"]),
        ("INSERT INTO {t} (id) VALUES (1.5)", "INVALID_ARGUMENT", ["'id'", "1.5"]),
        ("INSERT INTO {t} (id) VALUES (1e30)", "INVALID_ARGUMENT", ["'id'"]),
        ("INSERT INTO {t} (id) SELECT 'NaN'::DOUBLE", "INVALID_ARGUMENT", ["'id'", "NaN"]),
        ("INSERT INTO {t} (s) VALUES ('x')", "INVALID_ARGUMENT", ["'id'", "null"]),
        ("INSERT INTO {t} (id) VALUES (NULL)", "INVALID_ARGUMENT", ["'id'", "null"]),
        ("INSERT INTO {t} (id) SELECT * FROM nowhere", "NOT_FOUND", ["nowhere"]),
        ("INSERT INTO {t} (id) VALUES ($1)", "INVALID_ARGUMENT", ["$1"]),
        ("INSERT INTO {t} (id) VALUES (1) RETURNING id", "UNIMPLEMENTED", ["RETURNING"]),
        ("INSERT INTO {t} (id) VALUES (1) ON CONFLICT DO NOTHING", "UNIMPLEMENTED", ["ON CONFLICT"]),
        ("INSERT OVERWRITE {t} SELECT 1", "UNIMPLEMENTED", ["OVERWRITE"]),
        ("INSERT INTO {t} DEFAULT VALUES", "UNIMPLEMENTED", ["DEFAULT"]),
        ("INSERT INTO nowhere VALUES (1)", "NOT_FOUND", ["nowhere"]),
        ("INSERT INTO {last} VALUES (1, 'a', 1)", "INVALID_ARGUMENT", ["@last"]),
        ("INSERT INTO {chunks} VALUES (1)", "INVALID_ARGUMENT", ["$chunks"]),
        ("INSERT INTO {t} (id) VALUES (1); SELECT 1", "INVALID_ARGUMENT", ["one"]),
    ],
)
def test_bad_inserts_are_refused_and_change_nothing(client, name, statement, code, words):
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("s", pa.string()), ("x", pa.float64())])
    sent = people(1).cast(schema)
    load(client, sent, name)
    names = {"t": table_name(name), "last": named(name, "@last"), "chunks": named(name, "$chunks")}
    with refused(code, mentions=words):
        write(client, statement.format(**names))
    assert_tables_equal(get(client, name), sent)
    assert versions(client, name) == [(1, "default", 1)]


def test_inserted_rows_go_to_their_partitions_and_a_bad_date_is_refused(client, name):
    frame = pa.table({"when": ["2024-01-01T23:30:00-02:00"], "n": [1]})
    load(client, frame, name, columns_keys={"when": "Date"})
    write(client, f"INSERT INTO {table_name(name)} VALUES ('2024-03-04', 2)")
    with refused("INVALID_ARGUMENT", mentions=["when", "soon"]):
        write(client, f"INSERT INTO {table_name(name)} VALUES ('soon', 3)")
    partitions = sql(client, f"SELECT partition FROM {named(name, '$chunks')} ORDER BY 1")["partition"].to_pylist()
    assert partitions == ["when/2024-01-02", "when/2024-03-04"]


def test_a_column_of_nulls_alone_gets_the_type_of_its_first_values(client, name):
    load(client, pa.table({"id": [1, 2], "note": pa.nulls(2)}), name)
    write(client, f"INSERT INTO {table_name(name)} VALUES (3, 'inserted')")
    write(client, f"UPDATE {table_name(name)} SET note = 'updated' WHERE id = 1")
    assert rows(client, name) == [(1, "updated"), (2, None), (3, "inserted")]
    assert get(client, name)["note"].type == pa.string()


def test_a_column_of_nulls_alone_may_be_set_first(client, name):
    load(client, pa.table({"id": [1, 2], "when": pa.nulls(2)}), name)
    write(client, f"UPDATE {table_name(name)} SET \"when\" = TIMESTAMP '2024-01-01T00:00:00.000000001' WHERE id = 2")
    assert get(client, name)["when"].cast(pa.int64()).to_pylist() == [None, 1_704_067_200_000_000_001]
    assert sql(client, f'SELECT "when" FROM {table_name(name)} ORDER BY id')["when"].null_count == 1


# DELETE, TRUNCATE


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


# UPDATE


def test_updated_rows_keep_their_place_version_and_key(client, name):
    load(client, people(3, 1), name, external_key="a")
    load(client, people(2), name, external_key="b")
    statement = f"UPDATE {table_name(name)} SET x = x * 10, s = upper(s) || CAST(id AS VARCHAR) WHERE id <> 1"
    assert write(client, statement) == 2
    got = get(client, name)
    assert got.to_pydict() == {"id": [3, 1, 2], "s": ["S33", "s1", "S22"], "x": [7.5, 0.25, 5.0]}
    assert get(client, name, external_key="a")["s"].to_pylist() == ["S33", "s1"]
    assert get(client, name, version=2)["x"].to_pylist() == [5.0]
    assert get(client, name, use_last=True)["id"].to_pylist() == [2]
    before = get(client, name, as_of=just_before(newest(client, name)))
    assert before["s"].to_pylist() == ["s3", "s1", "s2"]
    assert versions(client, name) == [(1, "a", 2), (2, "b", 1), (3, "default", 0)]


def test_expressions_see_the_row_as_it_was(client, name):
    load(client, pa.table({"a": [1, 2], "b": [10, 20]}), name)
    assert write(client, f"UPDATE {table_name(name)} SET a = b, b = a") == 2
    assert get(client, name).to_pydict() == {"a": [10, 20], "b": [1, 2]}


def test_an_update_may_take_from_other_tables_and_queries(client, name):
    load(client, people(1, 2, 3), name)
    load(client, pa.table({"k": [1, 3], "v": ["one", "three"]}), f"{name}-other")
    other = table_name(f"{name}-other")
    assert write(client, f"UPDATE {table_name(name)} AS t SET s = o.v FROM {other} AS o WHERE t.id = o.k") == 2
    assert get(client, name)["s"].to_pylist() == ["one", "s2", "three"]
    assert write(client, f"UPDATE {table_name(name)} AS t SET s = (SELECT max(v) FROM {other} o WHERE o.k = t.id)") == 3
    assert get(client, name)["s"].to_pylist() == ["one", None, "three"]
    assert write(client, f"UPDATE {table_name(name)} SET x = (SELECT sum(x) FROM {table_name(name)})") == 3
    assert get(client, name)["x"].to_pylist() == [1.5] * 3


def test_one_statement_has_one_instant(client, name):
    load(client, pa.table({"id": list(range(500)), "at": pa.nulls(500, pa.timestamp("us", "UTC"))}), name)
    load(client, pa.table({"id": list(range(500)), "at": pa.nulls(500, pa.timestamp("us", "UTC"))}), name)
    write(client, f'UPDATE {table_name(name)} SET "at" = now()')
    assert len(set(get(client, name)["at"].to_pylist())) == 1


def test_a_row_keeps_to_the_type_of_its_version(client, name):
    load(client, pa.table({"n": pa.array([1], pa.int32())}), name)
    load(client, pa.table({"n": pa.array([2], pa.int64())}), name)
    with refused("INVALID_ARGUMENT", mentions=["'n'", "5000000000", "version 1"]):
        write(client, f"UPDATE {table_name(name)} SET n = 5000000000 WHERE n = 1")
    assert write(client, f"UPDATE {table_name(name)} SET n = 5000000000 WHERE n = 2") == 1
    assert get(client, name)["n"].to_pylist() == [1, 5_000_000_000]
    assert get(client, name, version=1).schema.field("n").type == pa.int32()
    load(client, pa.table({"n": pa.array([0.5])}), name)
    with refused("INVALID_ARGUMENT", mentions=["1.5", "version 1"]):
        write(client, f"UPDATE {table_name(name)} SET n = n + 0.5 WHERE n = 1")


def test_a_column_that_came_later_can_be_set_in_older_rows(client, name):
    first = pa.table({"a": [1, 2]})
    load(client, first, name)
    load(client, pa.table({"a": [3], "b": ["x"]}), name)
    write(client, f"UPDATE {table_name(name)} SET b = 'late' WHERE a = 1")
    assert get(client, name).to_pydict() == {"a": [1, 2, 3], "b": ["late", None, "x"]}
    assert_tables_equal(get(client, name, version=1), first)


def test_rows_move_to_the_partition_of_their_new_key(client, name):
    frame = pa.table(
        {
            "day": pa.array([DAY(2024, 1, 1), DAY(2024, 1, 1), DAY(2024, 1, 2), None]),
            "id": [1, 2, 3, 4],
            "s": ["a", "b", "c", "d"],
        }
    )
    load(client, frame, name, columns_keys={"day": "Date", "id": "ID"})
    assert write(client, f"UPDATE {table_name(name)} SET day = '2024-02-03' WHERE id IN (1, 4)") == 2
    write(client, f"UPDATE {table_name(name)} SET id = 1000, s = 'moved' WHERE id = 2")
    write(client, f"UPDATE {table_name(name)} SET day = NULL WHERE id = 3")
    got = get(client, name)
    assert got.to_pydict() == {
        "day": [DAY(2024, 2, 3), DAY(2024, 1, 1), None, DAY(2024, 2, 3)],
        "id": [1, 1000, 3, 4],
        "s": ["a", "moved", "c", "d"],
    }
    partitions = sql(client, f"SELECT partition, rows FROM {named(name, '$chunks')} ORDER BY 1").to_pylist()
    assert [tuple(each.values()) for each in partitions] == [
        ("day/2024-01-01/id/from_1000_to_1000", 1),
        ("day/2024-02-03/id/from_1_to_4", 2),
        ("day/__null__/id/from_3_to_3", 1),
    ]
    assert sql(client, f"SELECT s FROM {table_name(name)} WHERE day = '2024-02-03' ORDER BY s")["s"].to_pylist() == [
        "a",
        "d",
    ]
    assert get(client, name, as_of=just_before(list_versions(client, name)[1])).to_pydict() == frame.to_pydict()


def test_new_categories_are_known_to_every_version_that_has_them(client, name):
    first = pa.table({"id": [1, 2], "c": pa.DictionaryArray.from_arrays([0, 1], ["b", "a"])})
    second = pa.table({"id": [3], "c": pa.DictionaryArray.from_arrays([0], ["z"])})
    load(client, first, name, external_key="one")
    load(client, second, name, external_key="two")
    write(client, f"UPDATE {table_name(name)} SET c = 'new' WHERE id = 1")
    write(client, f"UPDATE {table_name(name)} SET c = 'a' WHERE id = 3")
    got = get(client, name)
    assert got["c"].to_pylist() == ["new", "a", "a"]
    assert categories(got["c"]) == ["b", "a", "z", "new"]
    assert categories(get(client, name, version=1)["c"]) == ["b", "a", "new"]
    assert categories(get(client, name, version=2)["c"]) == ["z", "a"]
    assert_tables_equal(get(client, name, version=1, as_of=None), get(client, name, external_key="one"))
    assert_tables_equal(get(client, name, external_key="one", as_of=just_before(list_versions(client, name)[2])), first)


def test_new_categories_outlive_the_version_that_brought_them(start_server):
    with start_server(vacuum_after="0s").connect() as client:
        name = "categories/outlive"
        load(
            client,
            pa.table({"id": [1, 2], "c": pa.DictionaryArray.from_arrays([0, 1], ["b", "a"])}),
            name,
            external_key="k",
        )
        write(client, f"UPDATE {table_name(name)} SET c = 'category ' || lpad(CAST(id AS VARCHAR), 5, '0')")
        delete_version(client, name, 2)
        vacuum(client, name)
        assert [each["version"] for each in list_versions(client, name, include_replaced=True)] == [1]
        assert get(client, name)["c"].to_pylist() == ["category 00001", "category 00002"]
        assert categories(get(client, name)["c"]) == ["b", "a", "category 00001", "category 00002"]
    with start_server(vacuum_after="0s").connect() as client:
        assert get(client, name, version=1)["c"].to_pylist() == ["category 00001", "category 00002"]


def test_more_categories_than_the_keys_number(client, name):
    few = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), [f"c{n}" for n in range(100)])
    load(client, pa.table({"id": list(range(100)), "c": few}), name)
    write(client, f"UPDATE {table_name(name)} SET c = 'd' || c WHERE id < 60")
    got = get(client, name, version=1)["c"]
    assert got.to_pylist() == [f"dc{n}" if n < 60 else f"c{n}" for n in range(100)]
    assert len(categories(got)) == 160


@pytest.mark.parametrize("how", ["insert", "update"])
def test_more_new_categories_than_the_keys_number(client, name, how):
    one = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["first"])
    load(client, pa.table({"id": pa.array([0], pa.int64()), "c": one}), name)
    texts = "'text ' || CAST(value AS VARCHAR)"
    if how == "insert":
        query = f"SELECT value, {texts} FROM range(1, 20000) ORDER BY value"
        write(client, f"INSERT INTO {table_name(name)} {query}")
        got = get(client, name, version=2)
    else:
        write(client, f"INSERT INTO {table_name(name)} (id) SELECT value FROM range(1, 20000) ORDER BY value")
        write(client, f"UPDATE {table_name(name)} SET c = 'text ' || CAST(id AS VARCHAR) WHERE id > 0")
        got = get(client, name, version=2)
    assert got["c"].to_pylist() == [f"text {number}" for number in range(1, 20_000)]
    assert got["c"].type == pa.dictionary(pa.int16(), pa.string())
    assert get(client, name)["c"].to_pylist()[:2] == ["first", "text 1"]


# Types


SAMPLES = {key: table for key, table in arrow_tables().items() if table.num_rows > 1 and table.num_columns}


def numbered(table: pa.Table) -> pa.Table:
    """Return a table with a column that numbers its rows before the others."""
    return table.add_column(0, "row number", pa.array(range(table.num_rows), pa.int64()))


@pytest.mark.parametrize("sample", SAMPLES)
def test_columns_that_are_not_set_are_not_touched(client, name, sample):
    sent = numbered(SAMPLES[sample])
    load(client, sent, name)
    middle = sent.num_rows // 2
    write(client, f'UPDATE {table_name(name)} SET "row number" = -1 WHERE "row number" = {middle}')
    write(client, f'DELETE FROM {table_name(name)} WHERE "row number" = 0')
    numbers = [-1 if row == middle else row for row in range(sent.num_rows)]
    expected = sent.set_column(0, sent.schema.field(0), pa.array(numbers)).slice(1)
    assert_tables_equal(get(client, name), expected)
    assert_tables_equal(get(client, name, version=1), expected)
    compact(client, name)
    assert_tables_equal(get(client, name), expected)


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_type_comes_through_sql_exactly_or_is_refused(client, name, sample):
    sent = numbered(SAMPLES[sample])
    load(client, sent, name)
    columns = ['"' + field.replace('"', '""') + '"' for field in sent.column_names[1:]]
    try:
        write(client, f"UPDATE {table_name(name)} SET " + ", ".join(f"{c} = {c}" for c in columns))
    except Exception as error:
        assert "[INVALID_ARGUMENT] column '" in str(error) and "does not fit the type" in str(error), error
        pytest.skip(f"refused: {error}")
    assert_tables_equal(get(client, name), sent)
    copied = f'SELECT * FROM {table_name(name)} ORDER BY "row number"'
    assert write(client, f"INSERT INTO {table_name(name)} {copied}") == sent.num_rows
    last = get(client, name, use_last=True)
    assert last.schema.equals(sent.schema, check_metadata=True)
    assert_tables_equal(decoded(last), decoded(sent))


def decoded(table: pa.Table) -> pa.Table:
    """Return a table with the values of its categories: inserted rows have those alone that are used."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = pa.field(field.name, field.type.value_type, field.nullable, field.metadata)
            table = table.set_column(place, plain, table.column(place).cast(field.type.value_type))
    return table


# MERGE


def test_merge_updates_deletes_and_inserts(client, name):
    load(client, people(1, 2, 3, 4), name, external_key="a")
    load(client, pa.table({"k": [2, 3, 5, 6], "v": ["two", None, "five", None]}), f"{name}-source")
    statement = f"""
        MERGE INTO {table_name(name)} AS t USING {table_name(name + "-source")} AS s ON t.id = s.k
        WHEN MATCHED AND s.v IS NULL THEN DELETE
        WHEN MATCHED THEN UPDATE SET s = s.v, x = t.x + s.k
        WHEN NOT MATCHED AND s.v IS NOT NULL THEN INSERT (id, s) VALUES (s.k, s.v)
        WHEN NOT MATCHED BY TARGET THEN INSERT VALUES (s.k, 'none', -1)
        WHEN NOT MATCHED BY SOURCE AND t.id = 1 THEN UPDATE SET s = 'alone'
        WHEN NOT MATCHED BY SOURCE THEN DELETE
    """
    assert write(client, statement) == 6
    assert rows(client, name) == [(1, "alone", 0.25), (2, "two", 2.5), (5, "five", None), (6, "none", -1.0)]
    assert versions(client, name) == [(1, "a", 2), (2, "default", 2)]
    assert get(client, name, use_last=True)["id"].to_pylist() == [5, 6]
    assert get(client, name, as_of=just_before(newest(client, name)))["id"].to_pylist() == [1, 2, 3, 4]
    assert write(client, statement.replace("WHEN NOT MATCHED BY SOURCE THEN DELETE", "")) == 5


def test_the_first_clause_that_holds_counts(client, name):
    load(client, people(1, 2, 3), name)
    statement = f"""
        MERGE INTO {table_name(name)} t USING (SELECT * FROM {table_name(name)}) s ON t.id = s.id
        WHEN MATCHED AND t.id = 1 THEN UPDATE SET s = 'first', x = 10 / t.id
        WHEN MATCHED AND t.id <= 2 THEN UPDATE SET s = 'second'
        WHEN MATCHED AND 10 / (t.id - 3) > 0 THEN UPDATE SET s = 'never'
    """
    with refused("INVALID_ARGUMENT"):
        write(client, statement)
    assert write(client, statement.replace("t.id - 3", "t.id - 4")) == 2
    assert rows(client, name) == [(1, "first", 10.0), (2, "second", 0.5), (3, "s3", 0.75)]


def test_a_row_of_the_source_may_match_several_rows_but_not_the_other_way(client, name):
    load(client, pa.table({"id": [1, 1, 2], "s": ["a", "b", "c"]}), name)
    source = "(VALUES (1, 'x'), (3, 'y')) AS s(k, v)"
    matched = f"MERGE INTO {table_name(name)} AS t USING {source} ON t.id = s.k WHEN MATCHED THEN UPDATE SET s = s.v"
    assert write(client, matched) == 2
    assert get(client, name)["s"].to_pylist() == ["x", "x", "c"]
    with refused("INVALID_ARGUMENT", mentions=["several"]):
        write(client, matched.replace("(3, 'y')", "(1, 'y')"))
    once = matched.replace("(3, 'y')", "(1, NULL)").replace("WHEN MATCHED", "WHEN MATCHED AND s.v IS NOT NULL")
    assert write(client, once) == 2, "rows that no clause is for do not count"


def test_merge_without_a_match_only_inserts(client, name):
    load(client, people(1), name)
    statement = (
        f"MERGE INTO {table_name(name)} AS t USING (SELECT 2 AS id, 'n' AS s, 0.5 AS x) n ON t.id = n.id"
        " WHEN NOT MATCHED THEN INSERT ROW"
    )
    assert write(client, statement) == 1
    assert write(client, statement) == 0
    assert get(client, name).to_pydict() == {"id": [1, 2], "s": ["s1", "n"], "x": [0.25, 0.5]}
    assert len(versions(client, name)) == 2


def test_a_random_source_is_the_same_for_all_clauses(client, name):
    load(client, pa.table({"k": list(range(200)), "n": [0] * 200}), name)
    statement = f"""
        MERGE INTO {table_name(name)} t USING (SELECT value AS k FROM range(0, 400) WHERE random() < 0.5) s ON t.k = s.k
        WHEN MATCHED THEN UPDATE SET n = 1
        WHEN NOT MATCHED THEN INSERT VALUES (s.k, 2)
        WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = 3
    """
    count = write(client, statement)
    got = get(client, name).to_pydict()
    assert sorted(set(got["k"])) == sorted(got["k"]), "no row twice"
    assert got["n"].count(0) == 0 and count == len(got["n"])


# What is done to a dataset besides


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
