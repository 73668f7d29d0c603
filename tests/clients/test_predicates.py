"""Generated conditions, each evaluated by the server and by DuckDB on the same rows in memory; both must agree.

DuckDB orders floats as DataFusion does: NaN equals NaN and is greater than everything else. The two differ in what is
left out here: division, rounding, overflow, the signs of zero and of NaN, and how far IS DISTINCT FROM reaches without
parentheses.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from conftest import Server, flags
from frames import FLIGHT_ERRORS, get, load, sql_by_ticket, table_name
from versions import compact

GROUPS, OF_A_GROUP = 55, 10
NAME = "own/data"
FIRST_DAY = datetime.date(2024, 1, 30)
KEYS = {"day": "Date", "id": "ID"}
LONG = "a common beginning that is longer than any bound of a string that a chunk keeps, " * 2
WORDS = ["", " ", "a", "A", "ab", "b%", "a_b", "it's", "ünï", "表", LONG, LONG + "a", LONG + "b", "zz"]
FLOATS = [0.0, 0.5, -0.5, 1.5, 2.0, 1e300, -1e300, 1e-300, 0.1, float("inf"), float("-inf"), float("nan")]
BIG = [0, 1, -1, (1 << 63) - 1, -(1 << 63), 1 << 53, (1 << 53) + 1, -(1 << 40)]
BIG_UNSIGNED = [0, 1, (1 << 64) - 1, 1 << 63, (1 << 63) - 1, 77]


def rows(start: int, number: int, seed: int) -> pa.Table:
    """Return rows that ``r`` numbers from ``start``, each value of the other columns now and then null."""
    draw = random.Random(seed)

    def column(values: list, kind: pa.DataType, nulls: float = 0.15) -> pa.Array:
        return pa.array([None if draw.random() < nulls else draw.choice(values) for _ in range(number)], kind)

    days = [FIRST_DAY + datetime.timedelta(day) for day in range(6)]
    moments = [1_706_600_000_000_000 + hour * 3_600_000_000 for hour in range(0, 150, 7)]
    small = [np.float32(value) for value in (0.1, 0.5, -2.25, 1e30, float("nan"), float("inf"))]
    columns = {
        "r": pa.array(range(start, start + number), pa.int64()),
        "day": column(days, pa.date32(), 0.05),
        "id": column(list(range(-20, 60)), pa.int32(), 0.05),
        "i": column(list(range(-9, 10)), pa.int16()),
        "big": column(BIG, pa.int64()),
        "u": column(BIG_UNSIGNED, pa.uint64()),
        "v": column(FLOATS, pa.float64()),
        "f": column(small, pa.float32()),
        "s": column(WORDS, pa.string()),
        "b": column([True, False], pa.bool_(), 0.3),
        "t": column(moments, pa.timestamp("us")),
        "n": column([moment * 1_000 + 123 for moment in moments], pa.timestamp("ns")),
        "c": column(["lo", "mid", "hi"], pa.string()).dictionary_encode(),
        "all_null": pa.nulls(number, pa.int64()),
    }
    return pa.table(columns)


def loads() -> list[tuple[str, bool, pa.Table]]:
    """Return the loads: external key, keep_last and rows; the columns grow, shrink and widen from one to the next."""
    first = rows(0, 200, 1).append_column("gone", pa.array([f"g{i % 5}" for i in range(200)]))
    second = rows(200, 150, 2).append_column(
        "late", pa.array([None if i % 4 == 0 else i % 7 for i in range(150)], pa.int8())
    )
    third = rows(350, 250, 3).append_column("late", pa.array([i % 1_000 for i in range(250)], pa.int64()))
    nothing = rows(600, 0, 4)
    few = rows(600, 3, 5).select(["id", "day", "v", "r"])
    replaced, replacing = rows(10_000, 100, 6), rows(700, 60, 7)
    return [("a", False, first), ("b", False, replaced), ("a", False, second), ("a", False, nothing)] + [
        ("b", True, replacing), ("c", False, third), ("a", False, few),
    ]  # fmt: skip


LOADS = loads()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flight.FlightClient]:
    """A client of a server that keeps the rows in many small chunks."""
    home = tmp_path_factory.mktemp("predicates")
    arguments = flags(listen="127.0.0.1:0", http="off", storage=home / "data", chunk_rows=25)
    server = Server(["serve", *arguments], home / "data", home / "stderr.log")
    with server.connect() as client:
        for key, keep_last, table in LOADS:
            load(client, table, NAME, columns_keys=KEYS, external_key=key, keep_last=keep_last)
        yield client
    assert server.stop() == 0, server.errors()


@pytest.fixture(scope="module")
def compacted(loaded: flight.FlightClient) -> flight.FlightClient:
    """The same rows after compaction."""
    compact(loaded, NAME)
    return loaded


@pytest.fixture(scope="module")
def memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """The live rows in memory."""
    live = [table for _, _, table in LOADS if table.num_rows == 0 or table["r"][0].as_py() < 10_000]
    with duckdb.connect() as connection:
        connection.register("live", pa.concat_tables(live, promote_options="permissive"))
        connection.execute("CREATE TABLE data AS SELECT * FROM live")
        yield connection


class Conditions:
    """Random SQL conditions over the columns of ``rows``.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def one_of(self, *makers) -> str:
        """Call one of some functions."""
        return self.random.choice(makers)()

    def condition(self, depth: int = 3) -> str:
        """Return a condition in parentheses, of conditions up to some depth."""
        if depth == 0 or self.random.random() < 0.35:
            return f"({self.simple()})"

        def inner() -> str:
            return self.condition(depth - 1)

        joined = self.one_of(
            lambda: f"{inner()} AND {inner()}",
            lambda: f"{inner()} AND {inner()} AND {inner()}",
            lambda: f"{inner()} OR {inner()}",
            lambda: f"{inner()} OR {inner()} OR {inner()}",
            lambda: f"{inner()} AND {inner()} OR {inner()}",
            lambda: f"NOT {inner()}",
            lambda: f"{inner()} IS {self.random.choice(['TRUE', 'NOT TRUE', 'FALSE', 'NOT FALSE'])}",
            lambda: f"{inner()} IS {self.random.choice(['NULL', 'NOT NULL'])}",
            lambda: f"{inner()} = {inner()}",
            lambda: f"CASE WHEN {inner()} THEN {inner()} ELSE {inner()} END",
            lambda: f"CASE WHEN {inner()} THEN {inner()} END",
            lambda: f"COALESCE({inner()}, {inner()})",
        )
        return f"({joined})"

    def simple(self) -> str:
        """Return a condition without conditions inside."""
        return self.one_of(
            self.on_day, self.on_day, self.on_id, self.on_id, self.on_integer, self.on_big, self.on_unsigned,
            self.on_float, self.on_float, self.on_text, self.on_text, self.on_instant, self.on_boolean, self.on_null,
            self.on_category, self.on_two_columns, self.on_grown_column, self.constant,
        )  # fmt: skip

    def comparison(self) -> str:
        """Return an operator."""
        return self.random.choice(["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])

    def on(self, columns: list[str], literal) -> str:
        """Return a comparison of a column or expression with literals that a function makes."""
        column = self.random.choice(columns)

        def some(most: int, nulls: float = 0.1) -> str:
            number = self.random.randint(1, most)
            return ", ".join("NULL" if self.random.random() < nulls else literal() for _ in range(number))

        no = self.random.choice(["", "NOT "])
        return self.one_of(
            lambda: f"{column} {self.comparison()} {literal()}",
            lambda: f"{column} {self.comparison()} {literal()}",
            lambda: f"{literal()} {self.random.choice(['=', '<', '>', '<=', '>=', '<>'])} {column}",
            lambda: f"{column} {no}BETWEEN {literal()} AND {literal()}",
            lambda: f"{column} {no}IN ({some(4)})",
            lambda: f"{column} {no}IN ({some(40, 0.01)})",
            lambda: f"NULLIF({column}, {literal()}) IS {no}NULL",
            lambda: f"COALESCE({column}, {literal()}) {self.comparison()} {literal()}",
        )

    def on_day(self) -> str:
        """Return a condition on the Date key."""

        def literal() -> str:
            return f"DATE '{FIRST_DAY + datetime.timedelta(self.random.randint(-2, 8))}'"

        return self.one_of(
            lambda: self.on(["day"], literal),
            lambda: self.on(["day"], literal),
            lambda: f"day {self.random.choice(['=', '<', '>=', '<>'])} {literal().removeprefix('DATE ')}",
            lambda: f"EXTRACT(MONTH FROM day) {self.comparison()} {self.random.choice([1, 2, 3])}",
            lambda: f"EXTRACT(DAY FROM day) IN (1, {self.random.randint(2, 31)})",
            lambda: f"CAST(day AS VARCHAR) LIKE '2024-0{self.random.randint(1, 3)}%'",
            lambda: f"day + INTERVAL '{self.random.randint(0, 3)} days' {self.comparison()} {literal()}",
        )

    def on_id(self) -> str:
        """Return a condition on the ID key."""
        columns = ["id", "id", "id", "id + 1", "id * 2", "-id", "abs(id)", "id % 7", "CAST(id AS BIGINT)"]
        return self.one_of(
            lambda: self.on(columns, lambda: str(self.random.randint(-25, 65))),
            lambda: self.on(columns, lambda: str(self.random.randint(-25, 65))),
            lambda: f"id {self.comparison()} {self.random.randint(-50, 120) / 2}e0",
            lambda: f"CAST(id AS VARCHAR) LIKE '{self.random.choice(['1', '-', '4', '_'])}%'",
        )

    def on_integer(self) -> str:
        """Return a condition on small integers."""
        columns = ["i", "i", "i + id", "i * i", "i % 3", "CASE WHEN b THEN i ELSE -i END"]
        return self.on(columns, lambda: str(self.random.randint(-12, 12)))

    def on_big(self) -> str:
        """Return a condition on integers to the limits of 64 bits."""
        return self.on(["big"], lambda: f"CAST('{self.random.choice(BIG)}' AS BIGINT)")

    def on_unsigned(self) -> str:
        """Return a condition on unsigned integers."""
        return self.on(["u"], lambda: str(self.random.choice(BIG_UNSIGNED)))

    def on_float(self) -> str:
        """Return a condition on floats."""
        words = [
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "0",
            "0.5",
            "-0.5",
            "1.5",
            "2",
            "0.1",
            "1e300",
            "-1e300",
            "-2.25",
            "7e29",
        ]
        return self.on(
            ["v", "v", "f", "v * 2", "v + i", "abs(v)"], lambda: f"CAST({self.random.choice(words)} AS DOUBLE)"
        )

    def on_text(self) -> str:
        """Return a condition on strings."""
        words = [word.replace("'", "''") for word in WORDS]
        patterns = [
            "%",
            "a%",
            "%b",
            "_",
            "_%",
            "%''%",
            "a_b",
            "A%",
            "%a%",
            LONG[:20] + "%",
            LONG + "_",
            "",
            "ü%",
            "%表%",
        ]
        no = self.random.choice(["", "NOT "])
        return self.one_of(
            lambda: self.on(
                ["s", "s", "upper(s)", "s || 'b'", "substr(s, 1, 1)"], lambda: f"'{self.random.choice(words)}'"
            ),
            lambda: self.on(["s"], lambda: f"'{self.random.choice(words)}'"),
            lambda: f"s {no}LIKE '{self.random.choice(patterns)}'",
            lambda: f"s {no}ILIKE '{self.random.choice(patterns)}'",
            lambda: f"length(s) {self.comparison()} {self.random.randint(0, 4)}",
            lambda: f"starts_with(s, '{self.random.choice(words)}')",
        )

    def on_instant(self) -> str:
        """Return a condition on timestamps of microseconds and of nanoseconds."""

        def literal() -> str:
            moment = datetime.datetime(2024, 1, 30, 7, 33, 20) + datetime.timedelta(hours=self.random.randint(-5, 155))
            return f"TIMESTAMP '{moment}'"

        return self.one_of(
            lambda: self.on(["t", "n"], literal),
            lambda: f"CAST(t AS DATE) {self.comparison()} day",
            lambda: f"EXTRACT(HOUR FROM t) < {self.random.randint(0, 24)}",
        )

    def on_boolean(self) -> str:
        """Return a condition on booleans."""
        return self.random.choice(
            ["b", "NOT b", "b = TRUE", "b <> TRUE", "b IS TRUE", "b IS NOT FALSE", "b IN (TRUE, NULL)", "b = (i > 0)"]
        )

    def on_null(self) -> str:
        """Return a test for null."""
        columns = ["day", "id", "i", "big", "u", "v", "f", "s", "b", "t", "n", "c", "all_null", "gone", "late", "r"]
        return f"{self.random.choice(columns)} IS {self.random.choice(['NULL', 'NOT NULL'])}"

    def on_category(self) -> str:
        """Return a condition on a categorical column."""
        return self.on(["c"], lambda: self.random.choice(["'lo'", "'mid'", "'hi'", "'none'", "''"]))

    def on_two_columns(self) -> str:
        """Return a comparison of two columns."""
        pairs = [("i", "id"), ("id", "i"), ("i", "v"), ("v", "f"), ("f", "v"), ("s", "c"), ("id", "late"), ("r", "id")]
        left, right = self.random.choice([*pairs, ("big", "i"), ("v", "v"), ("gone", "s"), ("all_null", "i")])
        return f"{left} {self.comparison()} {right}"

    def on_grown_column(self) -> str:
        """Return a condition on a column that not every version has."""
        return self.one_of(
            lambda: self.on(["late"], lambda: str(self.random.randint(-1, 300))),
            lambda: self.on(["gone"], lambda: f"'g{self.random.randint(0, 6)}'"),
            lambda: f"all_null {self.comparison()} {self.random.randint(0, 2)}",
        )

    def constant(self) -> str:
        """Return a condition without columns."""
        return self.random.choice(["TRUE", "FALSE", "1 = 1", "1 > 2", "CAST(NULL AS BOOLEAN)", "NULL IS NULL"])


def expected_rows(memory: duckdb.DuckDBPyConnection, condition: str) -> list[int]:
    """Return the rows for which DuckDB finds a condition true."""
    return [row for (row,) in memory.execute(f"SELECT r FROM data WHERE {condition} ORDER BY r").fetchall()]


def rows_by_sql(client: flight.FlightClient, condition: str) -> list[int]:
    """Return the rows that SQL finds; it promises no order."""
    return sorted(sql_by_ticket(client, f"SELECT r FROM {table_name(NAME)} WHERE {condition}")["r"].to_pylist())


def rows_by_filter(client: flight.FlightClient, condition: str) -> list[int]:
    """Return the rows that the filter of GetDataframe keeps, which are in the order of the loads."""
    found = get(client, NAME, columns=["r"], filter=condition)["r"].to_pylist()
    place = {row: number for number, row in enumerate(row for *_, table in LOADS for row in table["r"].to_pylist())}
    assert found == sorted(found, key=place.__getitem__), condition
    return sorted(found)


WAYS = {"sql": rows_by_sql, "filter": rows_by_filter}


def assert_agree(
    client: flight.FlightClient, memory: duckdb.DuckDBPyConnection, way: str, conditions: list[str]
) -> None:
    """Check what the server finds against the rows in memory, and tell every condition on which they differ."""
    wrong = []
    for condition in conditions:
        expected = expected_rows(memory, condition)
        try:
            found = WAYS[way](client, condition)
        except FLIGHT_ERRORS as error:
            wrong.append(f"{condition}\n    {error}")
            continue
        if found != expected:
            wrong.append(f"{condition}\n    found {len(found)} rows where {len(expected)} are expected")
    assert not wrong, "\n".join(wrong)


def group(seed: int) -> list[str]:
    """Return the conditions of one test."""
    conditions = Conditions(seed)
    return [conditions.condition() for _ in range(OF_A_GROUP)]


def test_the_conditions_are_many_and_tell_rows_apart(memory):
    conditions = [condition for seed in range(GROUPS) for condition in group(seed)]
    assert len(set(conditions)) >= 500
    found = [len(expected_rows(memory, condition)) for condition in conditions]
    every = len(expected_rows(memory, "TRUE"))
    assert sum(0 < number < every for number in found) >= 300


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(GROUPS))
def test_conditions_keep_the_rows_for_which_they_are_true(loaded, memory, seed, way):
    assert_agree(loaded, memory, way, group(seed))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "condition",
    [
        "b IS DISTINCT FROM TRUE AND i > 0",
        "i IS NOT DISTINCT FROM 3 OR id = 7",
        "b IS NOT DISTINCT FROM NULL AND i = 1 OR id = 7",
        "NOT i IS DISTINCT FROM 3",
        "i + 1 IS NOT DISTINCT FROM 2 * 2 AND b",
    ],
)
def test_is_distinct_from_ends_where_a_comparison_ends(loaded, memory, condition, way):
    assert_agree(loaded, memory, way, [condition])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(GROUPS, GROUPS + 8))
def test_conditions_keep_the_same_rows_after_compaction(compacted, memory, seed, way):
    assert_agree(compacted, memory, way, group(seed))
