"""Datasets of many small chunks, all that can be asked of them, and how other readers see them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
from backends import Place
from frames import get, load, sql, table_name
from other_readers import delta_rows, scan_delta
from pandas.testing import assert_frame_equal
from versions import delete_version, list_versions, named, root_of, states

DATE = {"day": "Date"}


def rows(start: int, number: int, dates: int = 2) -> pa.Table:
    """Return a frame of some dates whose column ``x`` counts from ``start``."""
    x = np.arange(start, start + number)
    words = pa.array([None if i % 7 == 0 else f"w{i % 5}" for i in x.tolist()], pa.string())
    return pa.table(
        {
            "day": pa.array(x % dates, pa.int32()).cast(pa.date32()),
            "x": x,
            "t": pa.array(x * 1_001, pa.timestamp("ns", "Europe/Paris")),
            "c": words.dictionary_encode(),
            "v": np.where(x % 11 == 0, np.nan, x / 4),
        }
    ).replace_schema_metadata({"owner": "ops"})


def chunks(client: flight.FlightClient, name: str) -> list[dict]:
    """Return the chunks of a dataset without repeats: one that holds several versions has a row for each."""
    found = sql(client, f"SELECT DISTINCT path, partition FROM {named(name, '$chunks')}")
    return found.to_pylist()


def answers(client: flight.FlightClient, name: str, moments: list[str]) -> dict[str, pa.Table]:
    """Return what every kind of read gives now, by what was asked."""
    records = list_versions(client, name, include_replaced=True)
    asked = [{}, {"use_last": True}, {"columns": ["v", "x"]}, {"filter": "x % 3 = 0 AND c = 'w1'"}]
    asked += [{"version": record["version"]} for record in records]
    for key in sorted({record["external_key"] for record in records}):
        asked += [{"external_key": key}, {"external_key": key, "use_last": True}]
    asked += [{"as_of": moment} for moment in moments]
    found = {str(fields): get(client, name, **fields) for fields in asked}
    for query in (
        f"SELECT count(*) AS n, sum(x) AS s, min(t) AS low, max(day) AS high FROM {table_name(name)}",
        f"SELECT day, c, count(*) AS n FROM {table_name(name)} GROUP BY day, c ORDER BY day, c",
        f"SELECT x FROM {table_name(name)} WHERE day = DATE '1970-01-02' ORDER BY x",
        f"SELECT x FROM {named(name, '@last')} ORDER BY x",
        f"SELECT version, external_key, state, rows FROM {named(name, '$versions')} ORDER BY version",
    ):
        found[query] = sql(client, query)
    return found


def assert_same_answers(now: dict[str, pa.Table], before: dict[str, pa.Table]) -> None:
    """Check that every read gives what it gave."""
    assert list(now) == list(before)
    for asked, table in before.items():
        assert now[asked].schema.equals(table.schema, check_metadata=True), asked
        assert_frame_equal(now[asked].to_pandas(), table.to_pandas(), obj=asked)


def files_on_disk(root: Place) -> set[str]:
    """Return the data files below the root of a dataset, whatever it is stored on."""
    return {str(path.relative_to(root)) for path in root.rglob("*.parquet") if "_delta_log" not in path.parts}


def assert_delta_readers_agree(client: flight.FlightClient, name: str) -> None:
    """Check that delta-rs and polars see the rows of the live versions and no others."""
    root, live = root_of(client, name), get(client, name)
    expected = sorted(zip(live["x"].to_pylist(), live["c"].to_pylist(), live["day"].to_pylist()))
    table = delta_rows(root)
    assert sorted(zip(table["x"].to_pylist(), table["c"].to_pylist(), table["day"].to_pylist())) == expected
    assert sorted(scan_delta(root).select("x", "c", "day").collect().rows()) == expected
    assert sorted(scan_delta(root).filter(pl.col("x") < 50).select("x").collect()["x"].to_list()) == [
        x for x, *_ in expected if x < 50
    ]


def load_a_mixture(client: flight.FlightClient, name: str, keys: dict | None = DATE, loads: int = 24) -> list[dict]:
    """Make versions of three keys, some replaced, some deleted, some without rows, some with other columns."""
    results = []
    for number in range(loads):
        table = rows(10 * number, 0 if number % 9 == 8 else 10, 3)
        if number % 4 == 1:
            table = table.append_column(
                f"extra{number % 8}", pa.array([f"e{i}" for i in range(table.num_rows)], pa.string())
            )
        if number % 5 == 2:
            table = table.select(["v", "day", "x", "c", "t"])
        options = {"external_key": "abc"[number % 3], "keep_last": number % 7 == 6}
        results.append(load(client, table, name, columns_keys=keys, **options))
    for version in (2, loads - 1):
        if states(client, name).get(version) == "live":
            delete_version(client, name, version)
    return results
