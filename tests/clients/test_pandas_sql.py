"""pandas' read_sql and to_sql over ADBC: every mode, types, index."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as adbc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from frames import get, load, refused, sql, table_name

FRAME = pd.DataFrame({"id": [1, 2, 3], "item": ["tea", "milk", None], "price": [1.5, np.nan, 2.25]})


@pytest.fixture
def connection(server) -> Iterator[adbc.Connection]:
    """A connection of ADBC's driver."""
    with adbc.connect(server.flight, autocommit=True) as opened:
        yield opened


@pytest.fixture
def place(name) -> dict:
    """Where a frame goes: the arguments ``name`` and ``schema`` of to_sql."""
    *schema, table = name.split("/")
    return {"name": table, "schema": "/".join(schema)}


# Reading


def test_a_query_gives_a_frame(client, connection, name):
    load(client, FRAME, name)
    found = pd.read_sql(f"SELECT * FROM {table_name(name)} ORDER BY id", connection)
    pd.testing.assert_frame_equal(found, FRAME)


def test_a_query_without_rows_gives_a_frame_with_columns(client, connection, name):
    load(client, FRAME, name)
    found = pd.read_sql(f"SELECT id, item FROM {table_name(name)} WHERE id > 9", connection)
    assert found.empty and list(found.columns) == ["id", "item"]


def test_the_index_and_dates_are_as_asked(client, connection, name):
    load(client, pd.DataFrame({"id": [2, 1], "at": ["2024-01-01", "2024-02-29"]}), name)
    query = f"SELECT * FROM {table_name(name)} ORDER BY id"
    found = pd.read_sql(query, connection, index_col="id", parse_dates=["at"])
    assert found.index.tolist() == [1, 2]
    assert found["at"].tolist() == [pd.Timestamp("2024-02-29"), pd.Timestamp("2024-01-01")]


def test_a_hostile_query_text_is_no_pattern(connection):
    """pandas asks whether there is a table named like the query, before it runs it."""
    found = pd.read_sql("SELECT '%_[a-z](((\\' AS s, 1 AS \"a%b\" -- _%", connection)
    assert found.to_dict("list") == {"s": ["%_[a-z](((\\"], "a%b": [1]}


@pytest.mark.parametrize("backend", ["pyarrow", "numpy_nullable"])
def test_types_of_other_backends(client, connection, name, backend):
    load(client, FRAME, name)
    found = pd.read_sql(f"SELECT * FROM {table_name(name)} ORDER BY id", connection, dtype_backend=backend)
    assert found["id"].tolist() == [1, 2, 3]
    assert found["item"].isna().tolist() == [False, False, True]


def test_a_table_by_its_name(client, connection, name):
    load(client, FRAME, name)
    *schema, table = name.split("/")
    connection.adbc_current_db_schema = "/".join(schema)  # pandas does not pass its argument ``schema`` on.
    found = pd.read_sql_table(table, connection)
    pd.testing.assert_frame_equal(found.sort_values("id", ignore_index=True), FRAME)


def test_types_come_back(client, connection, name):
    table = pa.table(
        {
            "i8": pa.array([1, None], pa.int8()),
            "u64": pa.array([(1 << 64) - 1, 0], pa.uint64()),
            "f32": pa.array([0.5, None], pa.float32()),
            "b": [True, None],
            "d": [datetime.date(2024, 2, 29), None],
            "n": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(9, 2)),
            "t": pa.array([1, None], pa.timestamp("us")),
            "z": pa.array([1, None], pa.timestamp("us", "UTC")),
            "ns": pa.array([1, None], pa.timestamp("ns")),
            "l": [[1, None], None],
            "raw": [b"\0", None],
        }
    )
    load(client, table, name)
    found = pd.read_sql(f"SELECT * FROM {table_name(name)}", connection, dtype_backend="pyarrow")
    assert pa.Table.from_pandas(found, preserve_index=False).cast(table.schema).equals(table)


# Writing


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("mode", ["fail", "replace", "append", "delete_rows"])
def test_every_mode(client, connection, name, place, mode, there):
    first = FRAME.assign(id=[7, 8, 9])
    if there:
        first.to_sql(**place, con=connection, index=False)
    if mode == "fail" and there:
        with pytest.raises(ValueError, match="already exists"):
            FRAME.to_sql(**place, con=connection, index=False, if_exists=mode)
    else:
        assert FRAME.to_sql(**place, con=connection, index=False, if_exists=mode) == 3
    ids = pd.read_sql(f"SELECT id FROM {table_name(name)} ORDER BY id", connection)["id"].tolist()
    expected = {"fail": [7, 8, 9], "append": [1, 2, 3, 7, 8, 9]}.get(mode, [1, 2, 3]) if there else [1, 2, 3]
    assert ids == expected


def test_what_is_replaced_may_have_other_columns(client, connection, name, place):
    FRAME.to_sql(**place, con=connection, index=False)
    other = pd.DataFrame({"id": ["x"], "y": [1]})
    other.to_sql(**place, con=connection, index=False, if_exists="replace")
    pd.testing.assert_frame_equal(pd.read_sql(f"SELECT * FROM {table_name(name)}", connection), other)


def test_the_index_is_a_column(client, connection, name, place):
    frame = FRAME.set_index("id")
    frame.to_sql(**place, con=connection)
    assert sql(client, f"SELECT * FROM {table_name(name)}").column_names == ["item", "price", "id"]
    pd.testing.assert_frame_equal(get(client, name).to_pandas(), frame)


def test_an_unnamed_index_is_a_column_too(client, connection, name, place):
    frame = pd.DataFrame({"x": [1, 2]}, index=[10, 20])
    frame.to_sql(**place, con=connection)
    assert sql(client, f"SELECT __index_level_0__ AS i FROM {table_name(name)} ORDER BY i")["i"].to_pylist() == [10, 20]


def test_types_that_are_sent_come_back(client, connection, name, place):
    frame = pd.DataFrame(
        {
            "i": np.array([1, 2], "int16"),
            "u": np.array([1, 2], "uint32"),
            "f": np.array([0.5, np.nan], "float32"),
            "b": [True, False],
            "s": ["a", None],
            "c": pd.Categorical(["x", "y"], ["y", "x"]),
            "t": pd.to_datetime(["2024-01-01", None]),
            "z": pd.to_datetime(["2024-01-01", "2024-07-01"]).tz_localize("Europe/Rome"),
            "d": pd.to_timedelta([1, 2], "s"),
            "n": [decimal.Decimal("1.50"), None],
            "day": [datetime.date(2024, 1, 1), None],
            "l": [[1, 2], None],
            "raw": [b"\0", None],
        }
    )
    frame.to_sql(**place, con=connection, index=False)
    pd.testing.assert_frame_equal(get(client, name).to_pandas(), frame)
    found = pd.read_sql(f"SELECT * FROM {table_name(name)}", connection)
    assert found["c"].tolist() == ["x", "y"] and found["i"].tolist() == [1, 2]
    assert found["t"].tolist()[0] == pd.Timestamp("2024-01-01")


def test_a_frame_that_does_not_fit_is_refused(client, connection, name, place):
    FRAME.to_sql(**place, con=connection, index=False)
    with pytest.raises(Exception) as caught:
        pd.DataFrame({"id": ["x"]}).to_sql(**place, con=connection, index=False, if_exists="append")
    assert "INVALID_ARGUMENT" in str(caught.value.__cause__) and "'id'" in str(caught.value.__cause__)
    assert get(client, name).num_rows == 3


def test_a_large_frame(client, connection, name, place):
    frame = pd.DataFrame({"x": np.arange(500_000), "y": np.random.default_rng(0).random(500_000)})
    assert frame.to_sql(**place, con=connection, index=False) == 500_000
    pd.testing.assert_frame_equal(pd.read_sql(f"SELECT * FROM {table_name(name)} ORDER BY x", connection), frame)


def test_without_autocommit(server, client, name, place):
    """The default of the driver, which pandas' own documentation uses."""
    with pytest.warns(Warning, match="autocommit"):
        connection = adbc.connect(server.flight)
    with connection:
        FRAME.to_sql(**place, con=connection, index=False)
        FRAME.to_sql(**place, con=connection, index=False, if_exists="replace")
        pd.testing.assert_frame_equal(pd.read_sql(f"SELECT * FROM {table_name(name)} ORDER BY id", connection), FRAME)


def test_a_frame_becomes_a_single_name(start_server):
    server = start_server()
    with adbc.connect(server.flight, autocommit=True) as connection, server.connect() as client:
        FRAME.to_sql("prices", connection, index=False)
        pd.testing.assert_frame_equal(pd.read_sql("prices", connection), FRAME)
        with refused("NOT_FOUND"):
            get(client, "other")
