"""`INSERT`: the version it makes, types, partitions and order of its rows, and what it refuses."""

from __future__ import annotations

import datetime
import decimal

import pandas as pd
import pyarrow as pa
import pytest
from frames import (
    LOADS,
    ROWS,
    assert_tables_equal,
    categories,
    counted,
    get,
    load,
    refused,
    sql,
    table_name,
)
from versions import (
    just_before,
    named,
)
from writes import DAY, newest, people, rows, versions, write


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
