"""Statements that ask for too much are told so, and those that people and their tools write are not."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from conftest import Server
from frames import get, load, refused, sql, table_name

T = "(SELECT value AS a, value AS b FROM generate_series(1, 3)) t"


def listed(count: int, separator: str, item: str) -> str:
    """Return an item many times; ``{i}`` in it is its number."""
    return separator.join(item.format(i=i) for i in range(count))


TOO_MUCH = {
    "operators": (f"SELECT {listed(1_100, ' + ', '{i}')}", ["1100", "1000", "parentheses"]),
    "conditions": (f"SELECT * FROM {T} WHERE {listed(1_100, ' OR ', 'a = {i}')}", ["1000", "IN ("]),
    "casts": (f"SELECT a{'::text::bigint' * 600} FROM {T}", ["1000"]),
    "unions": (listed(600, " UNION ALL ", "SELECT {i}"), ["SELECT", "600", "500"]),
    "joins": (f"SELECT 1 FROM {listed(80, ', ', '(SELECT {i}) t{i}')}", ["joins", "79", "64"]),
    "common table expressions": (
        "WITH c0 AS (SELECT 1 AS x), "
        + ", ".join(f"c{i + 1} AS (SELECT a.x FROM c{i} a JOIN c{i} b ON a.x = b.x)" for i in range(16))
        + " SELECT * FROM c16",
        ["131072", "500", "each time it is named"],
    ),
    "sort keys": (f"SELECT * FROM {T} ORDER BY {listed(501, ', ', 'a + {i}')}", ["501", "500"]),
    "groupings": (f"SELECT 1 FROM {T} GROUP BY CUBE ({listed(20, ', ', 'a + {i}')})", ["CUBE", "1048576", "4096"]),
    "windows": (f"SELECT {listed(201, ', ', 'sum(a) OVER (ORDER BY b + {i})')} FROM {T}", ["OVER", "201", "200"]),
    "words": (f"SELECT {listed(26_000, ',', '{i}')}", ["50000", "table"]),
    "bytes": (f"SELECT '{'x' * 300_000}'", ["262144"]),
}


@pytest.mark.parametrize(("query", "mentions"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_too_much_is_refused_by_name(client: flight.FlightClient, query: str, mentions: list[str]) -> None:
    for text in (query, f"EXPLAIN {query}", f"CREATE TABLE never AS {query}"):
        with refused("INVALID_ARGUMENT", mentions=mentions):
            sql(client, text)


def test_a_filter_has_the_same_limits(client: flight.FlightClient, name: str) -> None:
    load(client, pa.table({"x": [1, 2, 3]}), name)
    with refused("INVALID_ARGUMENT", mentions=["filter", "1000"]):
        get(client, name, filter=listed(1_100, " OR ", "x = {i}"))
    with refused("RESOURCE_EXHAUSTED", mentions=["repeat"]):
        get(client, name, filter="length(repeat('x', x * 1000000000)) = 1")
    assert get(client, name, filter=f"x IN ({listed(10_000, ', ', '{i}')})").num_rows == 3


def test_what_tools_write_is_answered(client: flight.FlightClient, name: str) -> None:
    rows = 30_000
    load(client, pa.table({"x": range(rows), "s": [f"value {i}" for i in range(rows)]}), name)
    table = table_name(name)

    def count(condition: str) -> int:
        return sql(client, f"SELECT count(*) AS n FROM {table} WHERE {condition}")["n"][0].as_py()

    assert count(f"x IN ({listed(10_000, ', ', '{i}')})") == 10_000
    assert count(f"s NOT IN ({listed(10_000, ', ', repr('value {i}'))})") == 20_000
    assert count(listed(400, " OR ", "(x = {i} AND s = 'value {i}')")) == 400
    wide = sql(client, f"SELECT {listed(1_000, ', ', 'x + {i} AS c{i}')} FROM {table} WHERE x = 5")
    assert (wide.num_columns, wide["c999"].to_pylist()) == (1_000, [1004])
    cases = listed(500, " ", "WHEN x = {i} THEN 'case {i}'")
    case = sql(client, f"SELECT CASE {cases} END AS c FROM {table} WHERE x IN (7, 900) ORDER BY x")
    assert case["c"].to_pylist() == ["case 7", None]
    assert sql(client, listed(200, " UNION ALL ", f"SELECT count(*) AS n FROM {table} WHERE x < {{i}}")).num_rows == 200


# One call of each would take gigabytes, and none of it would be in a memory pool; and the function that is refused.
AMPLIFYING = {
    "repeat('x', 2000000000)": "repeat",
    "repeat(s, 100000000)": "repeat",
    "lpad(s, 2000000000)": "lpad",
    "rpad('x', 1000000000, 'é')": "rpad",
    "range(1, 1000000000)": "range",
    "generate_series(i, 1000000000)": "generate_series",
    "array_repeat(1, 1000000000)": "array_repeat",
    "array_resize([i], 1000000000)": "array_resize",
    "replace(repeat(s, 100000), '1', repeat('y', 100000))": "replace",
    "regexp_replace(repeat(s, 100000), '1', repeat('y', 100000), 'g')": "regexp_replace",
    f"concat({listed(12, ', ', 'repeat(s, 10000000)')})": "concat",
    listed(12, " || ", "repeat(s, 10000000)"): "||",
    f"array_to_string([{listed(12, ', ', 'repeat(s, 10000000)')}], '')": "make_array",
    "levenshtein(repeat(s, 1000000), repeat('y', 1000000))": "levenshtein",
}
MIB = 1 << 20


@pytest.mark.parametrize(("call", "function"), AMPLIFYING.items(), ids=lambda part: part[:24])
def test_one_call_cannot_take_the_memory(
    client: flight.FlightClient, server: Server, call: str, function: str
) -> None:
    query = f"SELECT {call} AS made FROM (SELECT value AS i, value::text AS s FROM generate_series(1, 3))"
    with refused("RESOURCE_EXHAUSTED", mentions=[f"{function} would"]):
        sql(client, query)
    assert server.peak_bytes() < 2_048 * MIB


def test_many_calls_cannot_take_the_memory(start_server) -> None:
    """Each is within its limit."""
    server = start_server(memory_limit="64MiB")
    calls = listed(40, ", ", "repeat(s, 80000000 + {i})")
    query = f"SELECT length(concat({calls})) AS n FROM (SELECT value::text AS s FROM generate_series(1, 3))"
    with server.connect() as client, refused("RESOURCE_EXHAUSTED", mentions=["would make", "retry later"]):
        sql(client, query)
    assert server.peak_bytes() < 1_536 * MIB


@pytest.mark.parametrize(
    "value",
    [
        "NULL::INT[2000000000]",
        "TRY_CAST(NULL AS INT[2000000000])",
        "[NULL]::INT[20000][20000]",
        "arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
        "arrow_cast(NULL, 'FixedSizeList(2000000000, Int64)')",
    ],
)
def test_a_null_cannot_take_the_memory(client: flight.FlightClient, server: Server, value: str) -> None:
    """A null of a type of fixed size is as large as any other value of it."""
    with refused("INVALID_ARGUMENT", mentions=["fixed size"]):
        sql(client, f"SELECT {value} AS x")
    assert server.peak_bytes() < 2_048 * MIB


def test_doubling_ends(start_server) -> None:
    """Each step is small; thirty of them are a billion times the first."""
    server = start_server()
    steps = ", ".join(f"c{i + 1} AS (SELECT s || s AS s FROM c{i})" for i in range(30))
    with server.connect() as client, refused("RESOURCE_EXHAUSTED", mentions=["||"]):
        sql(client, f"WITH c0 AS (SELECT 'x' || value AS s FROM generate_series(1, 10)), {steps} SELECT s FROM c30")
    assert server.peak_bytes() < 2_048 * MIB


def test_long_constants_do_not_fill_memory(start_server) -> None:
    """A constant is written out for each row of a batch: at the usual 8,192 rows, 2 GiB of this one."""
    server = start_server()
    text = "x" * 250_000
    with server.connect() as client:
        query = f"SELECT count(DISTINCT v || '{text}') AS n FROM (SELECT value AS v FROM generate_series(1, 2000))"
        assert sql(client, query).to_pydict() == {"n": [2_000]}
        found = sql(client, f"SELECT '{text}' AS s FROM generate_series(1, 20)")
        assert found["s"].to_pylist() == [text] * 20
    assert server.peak_bytes() < 2_048 * MIB


def test_values_within_the_limits_are_made(client: flight.FlightClient) -> None:
    assert sql(client, "SELECT length(repeat('x', 200000000)) AS n")["n"].to_pylist() == [200_000_000]
    assert sql(client, "SELECT repeat('ab', 3) AS s").to_pydict() == {"s": ["ababab"]}
    assert sql(client, "SELECT array_length(range(0, 1000000)) AS n")["n"].to_pylist() == [1_000_000]
    assert sql(client, "SELECT 'a' || 1 || NULL AS s, 'a' || 1 AS t").to_pydict() == {"s": [None], "t": ["a1"]}
