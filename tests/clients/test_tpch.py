"""TPC-H at scale factor 0.1: all 22 queries through Flight SQL give what DuckDB gives on the same files."""

from __future__ import annotations

import decimal
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import conftest
import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as parquet
import pytest
from frames import load, sql

SCALE_FACTOR = "0.1"
QUERIES = sorted((Path(__file__).parents[1] / "sql" / "tpch").glob("q*.sql"))
TABLES = ("region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem")
# The largest tables are several chunks, and lineitem several versions too, as they would be in use.
KEYS = {"orders": {"o_orderkey": "ID"}, "lineitem": {"l_orderkey": "ID"}}
VERSIONS = {"lineitem": 3}
FLOAT_TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one Parquet file for each table."""
    folder = tmp_path_factory.mktemp("tpch")
    generator = Path(sys.executable).parent / "tpchgen-cli"
    subprocess.run([generator, "parquet", "-s", SCALE_FACTOR, "-o", folder], check=True, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def database(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[flight.FlightClient]:
    """A client of a server that holds the tables, under the single names that the queries use."""
    for server in conftest.serve(tmp_path_factory.mktemp("tpch-server")):
        with server.connect() as client:
            for name in TABLES:
                load_table(client, name, parquet.read_table(data / f"{name}.parquet"))
            yield client


def load_table(client: flight.FlightClient, name: str, table: pa.Table) -> None:
    """Load a table in as many versions of equal size as it should have."""
    count = VERSIONS.get(name, 1)
    step = -(-table.num_rows // count)
    for version in range(count):
        part = table.slice(version * step, step)
        assert load(client, part, name, columns_keys=KEYS.get(name))["version"] == version + 1


@pytest.fixture(scope="module")
def reference(data: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB on the same files."""
    with duckdb.connect() as connection:
        for name in TABLES:
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{data / name}.parquet')")
        yield connection


def order_columns(query: str) -> list[str]:
    """Return the columns of the outermost ORDER BY."""
    found = re.search(r"^order by (.*)$", query, re.MULTILINE)
    return [part.split()[0] for part in found.group(1).split(",")] if found else []


def tolerance(kind: pa.DataType) -> decimal.Decimal:
    """Return how far a value may be off because its type holds so many digits: one unit of a decimal's last place.

    An average or quotient of decimals is a decimal here (of six or more digits after the point) and a double in DuckDB.
    """
    return decimal.Decimal(1).scaleb(-kind.scale) if pa.types.is_decimal(kind) else decimal.Decimal(0)


def same(got: object, wanted: object, unit: decimal.Decimal) -> bool:
    """Compare two values, numbers by their size."""
    if got is None or wanted is None or isinstance(got, str) or not isinstance(got, (int, float, decimal.Decimal)):
        return got == wanted
    got, wanted = decimal.Decimal(got), decimal.Decimal(wanted)
    return abs(got - wanted) <= max(unit, abs(wanted) * decimal.Decimal(FLOAT_TOLERANCE))


def exact_part(row: tuple, exact: list[int]) -> tuple:
    """Return what rows are put in one order by, whatever order their query left open."""
    return tuple((row[column] is None, row[column]) for column in exact)


def test_all_queries_are_there():
    assert [path.stem for path in QUERIES] == [f"q{number:02}" for number in range(1, 23)]


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_query(database, reference, path):
    query = path.read_text()
    got, wanted = sql(database, query), reference.sql(query).to_arrow_table()
    assert got.column_names == wanted.column_names or path.stem == "q18"  # sum(l_quantity) has no name of its own.
    assert got.num_rows == wanted.num_rows > 0
    units = [tolerance(field.type) for field in got.schema]
    for name in order_columns(query):
        column = got.column_names.index(name)
        for ours, theirs in zip(got[column].to_pylist(), wanted[column].to_pylist(), strict=True):
            assert same(ours, theirs, units[column]), f"{name}: {ours} in the place of {theirs}"
    exact = [i for i, field in enumerate(wanted.schema) if not pa.types.is_floating(field.type)]
    exact = [i for i in exact if not pa.types.is_decimal(got.schema[i].type)]
    rows = [sorted(zip(*(c.to_pylist() for c in t.columns)), key=lambda r: exact_part(r, exact)) for t in (got, wanted)]
    for ours, theirs in zip(*rows, strict=True):
        assert all(map(same, ours, theirs, units)), f"{ours} is not {theirs}"
