"""polars' read_database and write_database over ADBC, by connection and by address."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as adbc
import polars as pl
import pytest
from frames import get, load, sql, table_name
from polars.testing import assert_frame_equal

FRAME = pl.DataFrame({"id": [1, 2, 3], "item": ["tea", "milk", None], "price": [1.5, None, 2.25]})


@pytest.fixture
def connection(server) -> Iterator[adbc.Connection]:
    """A connection of ADBC's driver."""
    with adbc.connect(server.flight, autocommit=True) as opened:
        yield opened


@pytest.fixture
def uri(server) -> str:
    """The server's address, as polars finds the driver by it."""
    return server.flight.replace("grpc://", "flightsql://") + "?transport=tcp"


def query_of(name: str) -> str:
    """Return the query for all rows of such a frame."""
    return f"SELECT * FROM {table_name(name)} ORDER BY id"


# Reading


def test_a_query_gives_a_frame(client, connection, name):
    load(client, FRAME.to_arrow(), name)
    assert_frame_equal(pl.read_database(query_of(name), connection), FRAME)


def test_a_query_by_address(client, uri, name):
    load(client, FRAME.to_arrow(), name)
    assert_frame_equal(pl.read_database_uri(query_of(name), uri, engine="adbc"), FRAME)


def test_a_query_in_batches(client, connection, name):
    load(client, FRAME.to_arrow(), name)
    batches = list(pl.read_database(query_of(name), connection, iter_batches=True, batch_size=2))
    assert_frame_equal(pl.concat(batches), FRAME)


@pytest.mark.parametrize("values, ids", [((2,), [2, 3]), ([3], [3]), ((9,), [])])
def test_parameters(client, connection, name, values, ids):
    load(client, FRAME.to_arrow(), name)
    query = f"SELECT id FROM {table_name(name)} WHERE id >= ? ORDER BY id"
    found = pl.read_database(query, connection, execute_options={"parameters": values})
    assert found["id"].to_list() == ids


def test_an_empty_result_has_its_columns(client, connection, name):
    load(client, FRAME.to_arrow(), name)
    found = pl.read_database(f"SELECT * FROM {table_name(name)} WHERE id > 9", connection)
    assert found.schema == FRAME.schema and found.is_empty()


def test_a_cursor(client, connection, name):
    load(client, FRAME.to_arrow(), name)
    with connection.cursor() as cursor:
        assert_frame_equal(pl.read_database(query_of(name), cursor), FRAME)


# Writing


@pytest.mark.parametrize("by", ["connection", "uri"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("mode", ["fail", "replace", "append"])
def test_every_mode(client, connection, uri, name, mode, there, by):
    target = connection if by == "connection" else uri
    table = table_name(name)
    if there:
        FRAME.with_columns(id=pl.col("id") + 6).write_database(table, connection, engine="adbc")
    if mode == "fail" and there:
        with pytest.raises(Exception, match="(?i)already.exists"):
            FRAME.write_database(table, target, engine="adbc", if_table_exists=mode)
    else:
        assert FRAME.write_database(table, target, engine="adbc", if_table_exists=mode) == 3
    expected = {"fail": [7, 8, 9], "replace": [1, 2, 3], "append": [1, 2, 3, 7, 8, 9]}[mode] if there else [1, 2, 3]
    assert sql(client, f"SELECT id FROM {table} ORDER BY id")["id"].to_pylist() == expected


def test_types_that_are_sent_come_back(client, connection, name):
    frame = pl.DataFrame(
        {
            "id": pl.Series([1, 2], dtype=pl.Int32),
            "u": pl.Series([1, None], dtype=pl.UInt8),
            "s": ["a string longer than twelve bytes", None],
            "c": pl.Series(["x", None], dtype=pl.Categorical),
            "d": [datetime.date(2024, 1, 1), None],
            "t": [datetime.datetime(2024, 1, 1), None],
            "n": pl.Series([decimal.Decimal("1.50"), None], dtype=pl.Decimal(12, 2)),
            "l": [[1, 2], None],
            "b": [True, None],
            "raw": [b"\0", None],
            "o": [{"a": 1}, {"a": None}],
            "z": pl.Series([datetime.datetime(2024, 1, 1), None]).dt.replace_time_zone("UTC"),
        }
    )
    assert frame.write_database(table_name(name), connection, engine="adbc") == 2
    assert get(client, name).num_rows == 2
    found = pl.read_database(query_of(name), connection)
    assert_frame_equal(found, frame.with_columns(pl.col("c").cast(pl.String)), check_dtypes=True)


def test_an_empty_frame_makes_a_table(client, connection, name):
    assert FRAME.clear().write_database(table_name(name), connection, engine="adbc") == 0
    assert get(client, name).column_names == ["id", "item", "price"]


def test_a_frame_that_does_not_fit_is_refused(client, connection, name):
    load(client, FRAME.to_arrow(), name)
    with pytest.raises(Exception, match="(?s)INVALID_ARGUMENT.*id"):
        pl.DataFrame({"id": ["x"]}).write_database(
            table_name(name), connection, engine="adbc", if_table_exists="append"
        )
    assert get(client, name).num_rows == 3
