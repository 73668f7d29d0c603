"""`CREATE TABLE` and `DROP TABLE`: what they make, with which keys and types, and what they refuse."""

from __future__ import annotations

import pyarrow as pa
import pytest
from frames import (
    assert_absent,
    assert_tables_equal,
    get,
    list_names,
    load,
    refused,
    sql,
    table_name,
)
from versions import (
    describe,
    named,
    root_of,
)
from writes import newest, people, versions, write


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
