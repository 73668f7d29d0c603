"""Generated queries over loaded frames, answered by the server and by DuckDB; both must agree.

``PANDAS_DB_DIFFERENTIAL_QUERIES`` is how many queries are run (2,400 unless set), and ``PANDAS_DB_DIFFERENTIAL_SEED``
the seed of the first group; a failure tells its seed and its queries. What the two systems do differently by design is
the table ``DIFFERENCES`` of ``query_generator.py``, which no generated query touches.
"""

from __future__ import annotations

import datetime
import decimal
import math
import os
import random
from collections.abc import Iterator

import conftest
import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from frames import FLIGHT_ERRORS, load, sql_by_ticket
from query_generator import WORDS, Generator, Query, Table

FIRST = int(os.environ.get("PANDAS_DB_DIFFERENTIAL_SEED", "0"))
QUERIES = int(os.environ.get("PANDAS_DB_DIFFERENTIAL_QUERIES", "2400"))
OF_A_GROUP = 120
TOLERANCE = 1e-9
SCHEMA = "diff"

FACTS = {
    "id": "small", "day": "date", "dim_id": "small", "small": "small", "big": "big", "unsigned": "unsigned",
    "fin": "finite", "val": "float", "real": "float32", "word": "text", "cat": "text", "flag": "bool", "price": "dec",
    "wide": "wide", "moment": "ts", "late": "small",
}  # fmt: skip
DIMS = {"id": "small", "name": "text", "weight": "finite", "opened": "date", "open": "bool", "fee": "dec"}
TABLES = [
    Table(f"{SCHEMA}.facts", FACTS, ["dim_id", "id"]),
    Table(f"{SCHEMA}.dims", DIMS, ["id"]),
    Table(f"{SCHEMA}.nothing", DIMS, ["id"]),
    Table(f"{SCHEMA}.nulls", DIMS, ["id"]),
]


def column(draw: random.Random, values: list, kind: pa.DataType, rows: int, nulls: float = 0.12) -> pa.Array:
    """Return values drawn from some, or null."""
    return pa.array([None if draw.random() < nulls else draw.choice(values) for _ in range(rows)], kind)


def facts(first: int, rows: int, days: range) -> pa.Table:
    """Return rows of the fact table with the numbers from ``first`` on, on some days of 2024 or none."""
    draw = random.Random(first)
    inf, nan = math.inf, math.nan
    start = datetime.date(2024, 1, 25)
    moments = [datetime.datetime(2024, 2, 1) + datetime.timedelta(minutes=97 * i) for i in range(300)]
    money = [decimal.Decimal(draw.randint(-99_999, 99_999)).scaleb(-2) for _ in range(60)]
    wide = [decimal.Decimal("12345678901234567890.0000000001"), decimal.Decimal(-1).scaleb(-10), decimal.Decimal(7)]
    return pa.table(
        {
            "id": pa.array(range(first, first + rows), pa.int64()),
            "day": column(draw, [start + datetime.timedelta(day) for day in days], pa.date32(), rows, 0.05),
            "dim_id": column(draw, list(range(-3, 45)), pa.int64(), rows),
            "small": column(draw, list(range(-50, 50)), pa.int64(), rows),
            "big": column(
                draw, [0, 1, -1, (1 << 63) - 1, -(1 << 63), 1 << 53, (1 << 53) + 1, -(1 << 40)], pa.int64(), rows
            ),
            "unsigned": column(draw, [0, 1, (1 << 64) - 1, 1 << 63, (1 << 63) - 1, 77], pa.uint64(), rows),
            "fin": column(draw, [quarter / 4 for quarter in range(-400, 400, 7)], pa.float64(), rows),
            "val": column(draw, [0.5, -0.5, 1.5, 1e300, -1e300, 0.1, inf, -inf, nan, 100.0], pa.float64(), rows),
            "real": column(draw, [0.5, -2.25, 1.0, 1e30, nan, inf], pa.float32(), rows),
            "word": column(draw, WORDS, pa.string(), rows),
            "cat": column(draw, ["lo", "mid", "hi"], pa.string(), rows).dictionary_encode(),
            "flag": column(draw, [True, False], pa.bool_(), rows, 0.2),
            "price": column(draw, money, pa.decimal128(12, 2), rows),
            "wide": column(draw, wide, pa.decimal128(38, 10), rows),
            "moment": column(draw, moments, pa.timestamp("us"), rows),
        }
    )


def dims(rows: int) -> pa.Table:
    """Return rows of a table to join with; the names repeat."""
    draw = random.Random(rows)
    money = [decimal.Decimal(n).scaleb(-2) for n in (-5, 0, 1, 250, 99_999)]
    days = [datetime.date(2024, month, 29) for month in (1, 2, 3)]
    return pa.table({
        "id": pa.array(range(rows), pa.int64()),
        "name": column(draw, WORDS, pa.string(), rows),
        "weight": column(draw, [0.25, 1.0, 2.5, -8.0], pa.float64(), rows),
        "opened": column(draw, days, pa.date32(), rows),
        "open": column(draw, [True, False], pa.bool_(), rows),
        "fee": column(draw, money, pa.decimal128(12, 2), rows),
    })  # fmt: skip


def all_null(rows: int) -> pa.Table:
    """Return rows whose columns are null, but for the number."""
    table = dims(rows)
    return pa.table({n: table[n] if n == "id" else pa.nulls(rows, table[n].type) for n in table.column_names})


def fact_loads() -> list[pa.Table]:
    """Return what is loaded into the fact table: three versions, one of no rows, the last with a further column."""
    last = facts(2_000, 500, range(20, 30))
    late = column(random.Random(9), list(range(10)), pa.int64(), 500)
    return [
        facts(0, 1_200, range(0, 12)),
        facts(1_200, 0, range(1)),
        facts(1_200, 800, range(8, 24)),
        last.append_column("late", late),
    ]


class Pair:
    """The server and DuckDB, with the same tables.

    Parameters
    ----------
    client : flight.FlightClient
    """

    def __init__(self, client: flight.FlightClient):
        self.client, self.reference = client, duckdb.connect()
        self.reference.execute(f"SET TimeZone = 'UTC'; CREATE SCHEMA {SCHEMA}")
        keys = {"day": "Date", "id": "ID"}
        for version in fact_loads():
            load(client, version, f"{SCHEMA}/facts", columns_keys=keys)
        # Versions that are gone leave partitions of which no row is live.
        load(client, facts(9_000, 50, range(40, 60)), f"{SCHEMA}/facts", external_key="gone")
        gone = facts(9_100, 0, range(1))
        load(client, gone, f"{SCHEMA}/facts", external_key="gone", keep_last=True)
        self.keep("facts", pa.concat_tables([*fact_loads(), gone], promote_options="default"))
        for name, table in {"dims": dims(40), "nothing": dims(0), "nulls": all_null(12)}.items():
            load(client, table, f"{SCHEMA}/{name}")
            self.keep(name, table)

    def keep(self, name: str, table: pa.Table) -> None:
        """Store a table in DuckDB."""
        columns = [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in table.columns]
        self.reference.register("given", pa.table(columns, table.column_names))
        self.reference.execute(f"CREATE TABLE {SCHEMA}.{name} AS SELECT * FROM given; DROP VIEW given")

    def difference(self, query: Query) -> str | None:
        """Answer a query on both sides; say how the answers differ, or return None."""
        wanted = self.reference.sql(query.sql).fetchall()
        try:
            table = sql_by_ticket(self.client, query.sql)
        except FLIGHT_ERRORS as error:
            return f"the server refused: {error}"
        got = list(zip(*(c.to_pylist() for c in table.columns)))
        if len(got) != len(wanted):
            return f"{len(got)} rows, DuckDB has {len(wanted)}"
        if not query.ordered:
            got, wanted = sorted(got, key=row_key), sorted(wanted, key=row_key)
        for ours, theirs in zip(got, wanted, strict=True):
            if not all(map(same, ours, theirs)):
                return f"{ours}, DuckDB has {theirs}"
        return None


def row_key(row: tuple) -> tuple:
    """Return what rows in no order are compared by; numbers by nine digits, so that nearly equal ones fall together."""
    return tuple(value_key(value) for value in row)


def value_key(value: object) -> tuple:
    """Return a sort key for a value of any type: nulls first, NaN last among numbers."""
    if value is None:
        return (0,)
    if isinstance(value, (int, float, decimal.Decimal)):
        number = float(value)
        near = 0.0 if math.isnan(number) else float(f"{number:.8e}")
        return (1, math.isnan(number), near, decimal.Decimal(0 if isinstance(value, float) else value))
    return (2, str(value))


def same(ours: object, theirs: object) -> bool:
    """Compare two values: floats nearly, everything else exactly."""
    if isinstance(ours, float) or isinstance(theirs, float):
        if ours is None or theirs is None:
            return ours is theirs
        ours, theirs = float(ours), float(theirs)
        if math.isnan(ours) or math.isnan(theirs):
            return math.isnan(ours) and math.isnan(theirs)
        return ours == theirs or math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return ours == theirs and (ours is None) == (theirs is None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both systems, filled."""
    for server in conftest.serve(tmp_path_factory.mktemp("differential")):
        with server.connect() as client:
            yield Pair(client)


def test_both_hold_the_same_rows(pair):
    for table in TABLES:
        columns = ", ".join(table.kinds)
        assert pair.difference(Query(f"SELECT {columns} FROM {table.name} ORDER BY id", ordered=True)) is None
    assert sql_by_ticket(pair.client, f"SELECT count(*) AS n FROM {SCHEMA}.facts")["n"].to_pylist() == [2_500]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT small, max(val), min(val), max(real), min(real), count(*) FROM diff.facts GROUP BY small",
        "SELECT small, max(val), min(val) FROM diff.facts WHERE val >= CAST('Infinity' AS DOUBLE) GROUP BY small",
        "SELECT small, max(val), min(val) FROM diff.facts WHERE val < CAST('-1e300' AS DOUBLE) GROUP BY small",
        "SELECT DISTINCT (flag IS NOT FALSE) AS c0, (val > 1) IS TRUE AS c1 FROM diff.facts",
        "SELECT coalesce(opened, DATE '2024-01-23') FROM diff.nothing UNION SELECT coalesce(day, NULL) FROM diff.facts",
    ],
    ids=[
        "extremes_with_nan",
        "extremes_of_nan_and_infinity",
        "extremes_of_infinity",
        "distinct_truth",
        "union_of_coalesce",
    ],
)
def test_what_generated_queries_found(pair, query):
    assert pair.difference(Query(query)) is None


@pytest.mark.parametrize("seed", range(FIRST, FIRST + -(-QUERIES // OF_A_GROUP)))
def test_generated_queries(pair, seed, capsys):
    generator = Generator(seed, TABLES)
    queries = [generator.query() for _ in range(OF_A_GROUP)]
    found = {query.sql: difference for query in queries if (difference := pair.difference(query))}
    with capsys.disabled():
        print(f" seed {seed}: {len(queries)} queries, {len(found)} differ", end="")
    shown = "\n\n".join(f"{text}\n--> {difference}" for text, difference in list(found.items())[:5])
    assert not found, f"PANDAS_DB_DIFFERENTIAL_SEED={seed}: {len(found)} of {len(queries)} differ\n{shown}"
