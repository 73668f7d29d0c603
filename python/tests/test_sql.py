"""SQL: queries, parameters, statements that write, and which statements those are."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

from pandas_db_sdk import InvalidArgumentError, NotFoundError
from pandas_db_sdk.statement import is_write

FRAME = pd.DataFrame({"day": ["2024-01-01", "2024-01-02", "2024-01-03"], "x": [1, 2, 3], "s": ["a", "b", "it's"]})


@pytest.fixture
def table(client, name):
    """The name in SQL of a dataset that holds FRAME."""
    client.load_dataframe(FRAME, name)
    schema, _, last = name.rpartition("/")
    return f'"{schema}"."{last}"'


def test_queries(client, table):
    assert_frame_equal(client.sql(f"SELECT * FROM {table} ORDER BY x"), FRAME)
    got = client.sql(f"SELECT s, sum(x) AS n FROM {table} WHERE x > 1 GROUP BY s ORDER BY s", as_="arrow")
    assert isinstance(got, pa.Table)
    assert got.to_pylist() == [{"s": "b", "n": 2}, {"s": "it's", "n": 3}]
    assert client.sql(f"SELECT x FROM {table} WHERE false").shape == (0, 1)


def test_errors(client):
    with pytest.raises(NotFoundError):
        client.sql("SELECT * FROM no.such")
    with pytest.raises(InvalidArgumentError):
        client.sql("SELECT $1 +")


@pytest.mark.parametrize(
    "value",
    [
        1,
        -(1 << 60),
        np.int32(7),
        2.5,
        True,
        "it's; DROP TABLE x --",
        "",
        "ünï🦀",
        b"\x00\xff",
        datetime.date(2024, 1, 2),
        datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
        decimal.Decimal("12.50"),
    ],
    ids=str,
)
def test_a_parameter_is_the_value_that_was_given(client, value):
    got = client.sql("SELECT $1 AS v", [value], as_="arrow")["v"][0].as_py()
    assert got == value


def test_parameters_select_rows(client, table):
    assert client.sql(f"SELECT x FROM {table} WHERE s = $1", ["it's"])["x"].tolist() == [3]
    assert client.sql(f"SELECT x FROM {table} WHERE x >= ? AND x < ? ORDER BY x", [2, 4])["x"].tolist() == [2, 3]
    assert client.sql(f"SELECT x FROM {table} WHERE s = $1", ("nobody",)).shape == (0, 1)
    assert client.sql(f"SELECT x FROM {table} WHERE x = $1 OR $1 = 0", [np.int64(2)])["x"].tolist() == [2]
    assert client.sql(f"SELECT count(*) AS n FROM {table} WHERE x = $1", [None])["n"].tolist() == [0]


def test_wrong_parameters(client, table):
    with pytest.raises(InvalidArgumentError):
        client.sql(f"SELECT x FROM {table} WHERE x = $1 AND s = $2", [1])
    with pytest.raises(InvalidArgumentError):
        client.sql(f"SELECT x FROM {table} WHERE nope = $1", [1])


def test_statements_that_write_give_the_number_of_rows(client, table, name):
    assert client.sql(f"INSERT INTO {table} VALUES ('2024-01-04', 4, 'd'), ('2024-01-05', 5, 'e')") == 2
    assert client.sql(f"UPDATE {table} SET s = 'z' WHERE x > 3") == 2
    assert client.sql(f"DELETE FROM {table} WHERE x = $1", [5]) == 1
    assert client.sql(f"INSERT INTO {table} VALUES ($1, $2, $3)", ["2024-01-06", 6, "it's"]) == 1
    assert client.get_dataframe(name).sort_values("x")["s"].tolist() == ["a", "b", "it's", "z", "it's"]


@pytest.mark.parametrize(
    "query",
    [
        "insert into t values (1)",
        "  -- a comment\n/* and another; SELECT */ UPDATE t SET x = 1",
        "DELETE FROM t",
        "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
        "Create Table t AS SELECT 1",
        "DROP TABLE t",
        "TRUNCATE TABLE t",
        "WITH s AS (SELECT 1) INSERT INTO t SELECT * FROM s",
        "WITH RECURSIVE s(n) AS (VALUES (1) UNION SELECT n FROM s) DELETE FROM t USING s",
    ],
)
def test_which_statements_write(query):
    assert is_write(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'INSERT INTO t' AS \"DELETE\"",
        "(SELECT 1)",
        "((SELECT 1) UNION (SELECT 2))",
        'WITH "INSERT" AS (SELECT \'x\'), u AS (SELECT (1) AS "update") SELECT * FROM u',
        "EXPLAIN DELETE FROM t",
        "SHOW TABLES",
        "VALUES (1)",
        "DESCRIBE t",
        "-- DELETE FROM t\nSELECT 1",
        "",
    ],
)
def test_which_statements_do_not(query):
    assert not is_write(query)
