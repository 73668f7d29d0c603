"""The REST API with the client of the first SDK."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from frames import (
    get,
    load,
)
from pandas.testing import assert_frame_equal


def test_the_first_example_of_its_readme(first, name):
    df = pd.DataFrame({"date": ["2024-01-01", "2024-01-02"], "id": [1, 2], "value": [100, 200]})
    metadata = first.load_dataframe(df=df, dataframe_name=name, columns_keys={"date": "Date"})
    chunks = metadata.pop("chunks")
    assert metadata.pop("created_at") and metadata.pop("chunks_total") == 2
    assert metadata == {
        "df_name": name,
        "columns_keys": {"date": "Date"},
        "external_key": "NOW",
        "keep_last": False,
        "total_rows": 2,
        "version": 1,
    }
    assert [(chunk["rows"], chunk["number"]) for chunk in chunks] == [(1, 1), (1, 2)]
    assert [chunk["path"].rsplit("/", 1)[0] for chunk in chunks] == ["date/2024-01-01", "date/2024-01-02"]
    assert_frame_equal(first.get_dataframe(name), df)


def test_versions_keys_and_keep_last(first, name):
    def values(**options):
        return first.get_dataframe(name, **options)["v"].tolist()

    for value, options in [
        (1, {}),
        (2, {"external_key": "k"}),
        (3, {"external_key": "NOW"}),
        (4, {"external_key": "k", "keep_last": True}),
    ]:
        metadata = first.load_dataframe(pd.DataFrame({"v": [value]}), name, **options)
        assert (metadata["version"], metadata["external_key"]) == (value, options.get("external_key", "NOW"))
    assert values() == [1, 3, 4]
    assert values(external_key="k") == [4]
    assert values(external_key="NOW") == values(external_key="default") == [1, 3]
    assert values(use_last=True) == [4]
    assert values(external_key="NOW", use_last=True) == [3]
    first.load_dataframe(pd.DataFrame({"v": [5]}), name, keep_last=True)
    assert values() == [4, 5]


def test_listing_by_prefix(first, name):
    for suffix, rows in [("a", 1), ("b/c", 2)]:
        first.load_dataframe(pd.DataFrame({"v": range(rows)}), f"{name}/{suffix}")
    listed = first.list_dataframes(prefix=name + "/")["dataframes"]
    assert [(each["name"], each["versions"], each["rows"]) for each in listed] == [
        (f"{name}/a", 1, 1),
        (f"{name}/b/c", 1, 2),
    ]
    for each in listed:
        assert each["bytes"] > 0
        written = datetime.datetime.fromisoformat(each["updated_at"])
        assert written.tzinfo and each.keys() == {"name", "versions", "rows", "bytes", "updated_at"}
    assert {each["name"] for each in first.list_dataframes()["dataframes"]} >= {f"{name}/a", f"{name}/b/c"}


def test_its_errors_hold_the_message(first, name):
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        first.get_dataframe(name)
    with pytest.raises(RuntimeError, match="'v' mixes kinds"):
        first.load_dataframe(pd.DataFrame({"v": [1, "a"]}), name)
    first.load_dataframe(pd.DataFrame({"v": [1]}), name)
    with pytest.raises(RuntimeError, match="NOT_FOUND.*external_key"):
        first.get_dataframe(name, external_key="none")


def test_times_that_pandas_writes_as_milliseconds(first, client, name):
    """The first SDK sends timestamps as integers; where one is a key, it is a time again."""
    times = pd.to_datetime(["2024-01-01T10:00", "2024-01-02T11:30:00.5", None, "1950-06-01"], format="ISO8601")
    frame = pd.DataFrame({"t": times, "other": times, "v": [1, 2, 3, 4]})
    metadata = first.load_dataframe(frame, name, columns_keys={"t": "Date"})
    folders = {chunk["path"].rsplit("/", 1)[0] for chunk in metadata["chunks"]}
    assert folders == {"t/2024-01-01", "t/2024-01-02", "t/1950-06-01", "t/__null__"}
    got = first.get_dataframe(name)
    assert got["t"].isna().tolist() == [False, False, True, False]
    assert got["t"].dropna().tolist() == ["2024-01-01T10:00:00", "2024-01-02T11:30:00.500", "1950-06-01T00:00:00"]
    assert got["other"][0] == 1704103200000, "elsewhere nothing tells that it is a time"
    # The keys of the dataset count where a load gives none.
    first.load_dataframe(frame.head(1), name)
    assert get(client, name)["t"].type == pa.timestamp("ms")
    with pytest.raises(RuntimeError, match="'t' .*20240101.*ISO 8601"):
        first.load_dataframe(pd.DataFrame({"t": [20240101]}), name)


def test_a_large_frame_is_the_same_over_rest_and_flight(first, client, name):
    """The round trip of 200,000 rows."""
    random = np.random.default_rng(5)
    rows = 200_000
    frame = pd.DataFrame(
        {
            "day": (np.datetime64("2024-01-01") + random.integers(0, 60, rows)).astype(str),
            "id": random.integers(-(1 << 53), 1 << 53, rows),
            "x": random.normal(0, 1e6, rows).round(4),
            "text": random.choice(["", "ä", 'a longer text with "quotes" and, commas\n', "🦀"], rows),
            "flag": random.random(rows) < 0.5,
        }
    )
    frame.loc[random.integers(0, rows, 1_000), ["x", "text"]] = None
    load(client, frame, name + "/flight", columns_keys={"day": "Date"})
    first.load_dataframe(frame, name + "/rest", columns_keys={"day": "Date"})
    flight, rest = [get(client, f"{name}/{way}").to_pandas() for way in ("flight", "rest")]
    assert_frame_equal(rest, flight, check_dtype=False)
    over_flight = first.get_dataframe(name + "/flight")
    over_rest = first.get_dataframe(name + "/rest")
    assert_frame_equal(over_rest, over_flight)
    assert_frame_equal(over_rest, frame, check_dtype=False)
