"""SQL through Flight SQL's CommandStatementQuery and through the JSON ticket."""

from __future__ import annotations

import datetime
import decimal
import math
import re

import pandas as pd
import pyarrow as pa
import pytest
from frames import CHUNKS_CONSIDERED, CHUNKS_PRUNED, CHUNKS_READ, counted, load, refused, sql, sql_by_ticket, table_name


def rows(client, query: str) -> list[dict]:
    """Run a query both ways; they must agree."""
    table = sql(client, query)
    assert sql_by_ticket(client, query).equals(table, check_metadata=True)
    return table.to_pylist()


# Names


@pytest.mark.parametrize(
    "dataset, written",
    [
        ("my-project/dataset1", '"my-project".dataset1'),
        ("my-project/dataset1", 'pandas_db."my-project"."dataset1"'),
        ("sales/eu/2024", '"sales/eu"."2024"'),
        ("single_name", "single_name"),
        ("single_name", "public.single_name"),
        ("single_name", 'PANDAS_DB.PUBLIC."single_name"'),
        ("shop/Orders 2024", 'shop."Orders 2024"'),
        ("shop/verkäufe", "shop.verkäufe"),
    ],
    ids=lambda value: value.replace("/", "-"),
)
def test_a_dataset_is_a_table_of_a_schema(start_server, dataset, written):
    with start_server().connect() as client:
        load(client, pa.table({"x": [1, 2]}), dataset)
        assert rows(client, f"SELECT x FROM {written} ORDER BY x") == [{"x": 1}, {"x": 2}]


def test_unquoted_names_fold_to_lower_case_and_quoted_ones_are_exact(start_server):
    with start_server().connect() as client:
        load(client, pa.table({"Amount": [1], "lower": [2]}), "shop/Orders")
        load(client, pa.table({"x": [3]}), "shop/orders")
        assert rows(client, "SELECT X FROM SHOP.ORDERS") == [{"x": 3}]
        assert rows(client, 'SELECT "Amount", LOWER FROM shop."Orders"') == [{"Amount": 1, "lower": 2}]
        with refused("INVALID_ARGUMENT", mentions=["amount"]):
            sql(client, 'SELECT Amount FROM shop."Orders"')


def test_show_tables_lists_datasets_and_no_server_settings(start_server):
    with start_server().connect() as client:
        load(client, pa.table({"x": [1], "y": ["a"]}), "shop/orders")
        shown = sql(client, "SHOW TABLES").to_pylist()
        assert [row for row in shown if row["table_schema"] != "information_schema"] == [
            {
                "table_catalog": "pandas_db",
                "table_schema": "shop",
                "table_name": "orders",
                "table_type": shown[0]["table_type"],
            }
        ]
        assert [row["column_name"] for row in sql(client, "SHOW COLUMNS FROM shop.orders").to_pylist()] == ["x", "y"]


# Queries


@pytest.fixture
def orders(client, name) -> str:
    """The SQL name of a table of 1,000 orders of ten days."""
    first = datetime.date(2024, 1, 1)
    frame = pd.DataFrame(
        {
            "day": [first + datetime.timedelta(i % 10) for i in range(1_000)],
            "id": range(1_000),
            "customer": [f"c{i % 3}" for i in range(1_000)],
        }
    )
    load(client, frame, name, columns_keys={"day": "Date"})
    return table_name(name)


def test_select_star_shows_the_loaded_columns_and_no_others(client, orders):
    table = sql(client, f"SELECT * FROM {orders} LIMIT 1")
    assert table.column_names == ["day", "id", "customer"]
    with refused("INVALID_ARGUMENT"):
        sql(client, f"SELECT __pdb_version FROM {orders}")


def test_a_column_that_the_user_named_like_a_hidden_one_is_shown(client, name):
    load(client, pa.table({"__pdb_row": [7], "x": [1]}), name)
    assert rows(client, f"SELECT * FROM {table_name(name)}") == [{"__pdb_row": 7, "x": 1}]


def test_aggregates(client, orders):
    found = rows(
        client,
        f"SELECT customer, count(*) AS n, sum(id) AS total, min(day) AS first FROM {orders} GROUP BY customer ORDER BY customer",
    )
    assert found == [
        {
            "customer": f"c{i}",
            "n": len(range(i, 1_000, 3)),
            "total": sum(range(i, 1_000, 3)),
            "first": datetime.date(2024, 1, 1),
        }
        for i in range(3)
    ]
    assert rows(client, f"SELECT count(*) AS n FROM {orders}") == [{"n": 1_000}]


def test_a_join_of_two_datasets_and_a_cte(client, name, orders):
    load(client, pa.table({"customer": ["c0", "c2"], "city": ["Rome", "Oslo"]}), name + "/customers")
    query = f"""
        WITH recent AS (SELECT * FROM {orders} WHERE day >= DATE '2024-01-09')
        SELECT c.city, count(*) AS n FROM recent r JOIN {table_name(name + "/customers")} c ON r.customer = c.customer
        GROUP BY c.city ORDER BY c.city"""
    counts = {i: sum(1 for order in range(1_000) if order % 10 >= 8 and order % 3 == i) for i in (0, 2)}
    assert rows(client, query) == [{"city": "Oslo", "n": counts[2]}, {"city": "Rome", "n": counts[0]}]


def test_windows_and_subqueries(client, orders):
    query = f"""
        SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY customer ORDER BY id DESC) AS place FROM {orders})
        WHERE place = 1 AND id IN (SELECT max(id) FROM {orders} GROUP BY customer) ORDER BY id"""
    assert rows(client, query) == [{"id": 997}, {"id": 998}, {"id": 999}]


@pytest.mark.parametrize("by", ["id % 2, -id", "CASE WHEN customer = 'c0' THEN -id ELSE id END, id"])
@pytest.mark.parametrize(
    "where", ["coalesce(customer, 'c0') = 'c0'", "coalesce(id % 2, 0) = 0", "abs(id) = id", "id = abs(id)"]
)
def test_what_a_filter_makes_equal_may_be_in_what_is_sorted_by(client, orders, where, by):
    first, second = {
        "id % 2, -id": (lambda i: i % 2, lambda i: -i),
        "CASE WHEN customer = 'c0' THEN -id ELSE id END, id": (lambda i: i if i % 3 else -i, lambda i: i),
    }[by]
    kept = {"coalesce(customer, 'c0') = 'c0'": lambda i: i % 3 == 0, "coalesce(id % 2, 0) = 0": lambda i: i % 2 == 0}
    ids = sorted(filter(kept.get(where, lambda i: True), range(20)), key=lambda i: (first(i), second(i)))
    columns = f"id, row_number() OVER (ORDER BY {by}) AS place"
    query = f"SELECT {columns} FROM {orders} WHERE {where} AND id < 20 ORDER BY {by}"
    assert rows(client, query) == [{"id": i, "place": place} for place, i in enumerate(ids, 1)]


@pytest.mark.parametrize("where", ["id < 0", "day = DATE '1999-01-01'", "false"])
def test_an_empty_result_carries_its_schema(client, orders, where):
    found = sql(client, f"SELECT customer, id, day FROM {orders} WHERE {where}")
    assert found.num_rows == 0
    assert found.schema.names == ["customer", "id", "day"]
    assert found.schema.types == [pa.string(), pa.int64(), pa.date32()]


def test_an_empty_dataset_is_a_table(client, name):
    load(client, pa.table({"x": pa.array([], pa.int64())}), name)
    assert rows(client, f"SELECT x FROM {table_name(name)}") == []
    assert rows(client, f"SELECT count(*) AS n FROM {table_name(name)}") == [{"n": 0}]


def test_versions_are_one_table_and_a_later_column_is_null_before(client, name):
    load(client, pa.table({"x": [1]}), name)
    load(client, pa.table({"x": [2], "y": ["b"]}), name, external_key="k")
    assert rows(client, f"SELECT * FROM {table_name(name)} ORDER BY x") == [{"x": 1, "y": None}, {"x": 2, "y": "b"}]
    load(client, pa.table({"x": [3], "y": ["c"]}), name, external_key="k", keep_last=True)
    assert rows(client, f"SELECT x, y FROM {table_name(name)} WHERE x > 0 ORDER BY x") == [
        {"x": 1, "y": None},
        {"x": 3, "y": "c"},
    ]


def test_a_query_without_a_table(client):
    assert rows(client, "SELECT 1 AS one, 'a' AS a") == [{"one": 1, "a": "a"}]


# Types


@pytest.mark.parametrize("kind", ["FixedSizeList(0, Int64)", "List(FixedSizeList(0, Int64))"])
def test_lists_of_a_fixed_size_of_nothing_are_refused(client, kind):
    """The engine's casts forget how many there are, and rows would be missing."""
    with refused("INVALID_ARGUMENT", mentions=["at least one"]):
        sql(client, f"SELECT arrow_cast([], '{kind}') AS l FROM generate_series(1, 3)")


@pytest.mark.parametrize("start, stop", [("s", "ns"), ("ns", "s"), ("ms", "us")])
def test_a_series_of_times_of_two_units_is_not_too_long(client, start, stop):
    first, last = "timestamp '2021-01-01'", "timestamp '2021-01-01 15:00:00'"
    series = f"arrow_cast({first}, 'Timestamp({start})'), arrow_cast({last}, 'Timestamp({stop})'), interval '1 hour'"
    assert rows(client, f"SELECT array_length(generate_series({series})) AS n") == [{"n": 16}]


def test_strings_are_utf8_whatever_was_loaded(client, name):
    words = ["a", None, "a string longer than twelve bytes"]
    kinds = {
        "s": pa.string(),
        "l": pa.large_string(),
        "v": pa.string_view(),
        "d": pa.dictionary(pa.int8(), pa.string()),
    }
    load(client, pa.table({column: pa.array(words).cast(kind) for column, kind in kinds.items()}), name)
    found = sql(client, f"SELECT s, l, v, d, upper(s) AS u, s || l AS both FROM {table_name(name)}")
    assert found.schema.types == [pa.string()] * 6
    assert found["v"].to_pylist() == found["d"].to_pylist() == found["l"].to_pylist() == words
    grouped = sql(client, f"SELECT d, count(*) AS n FROM {table_name(name)} WHERE d = 'a' GROUP BY d")
    assert grouped.schema.types == [pa.string(), pa.int64()]
    assert grouped.to_pylist() == [{"d": "a", "n": 1}]


@pytest.mark.parametrize(
    "kind, value",
    [
        (pa.int8(), -128),
        (pa.uint32(), 4_294_967_295),
        (pa.uint64(), 18_446_744_073_709_551_615),
        (pa.float32(), 0.5),
        (pa.bool_(), True),
        (pa.date32(), datetime.date(2024, 2, 29)),
        (pa.timestamp("us", "UTC"), datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)),
        (pa.timestamp("ns"), pd.Timestamp("2024-02-29 12:00:00.123456789")),
        (pa.decimal128(10, 2), decimal.Decimal("12.50")),
        (pa.list_(pa.int64()), [1, None]),
        (pa.binary(), b"\x00\xff"),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_values_are_exact(client, name, kind, value):
    load(client, pa.table({"c": pa.array([value, None], kind)}), name)
    assert sql(client, f"SELECT c FROM {table_name(name)}")["c"].to_pylist() == [value, None]
    assert rows(client, f"SELECT count(c) AS n FROM {table_name(name)}") == [{"n": 1}]


# NaN: greater than everything, equal to itself


def above(value: float | None) -> float:
    """Return a sort key under which NaN is the greatest."""
    return math.inf if value is not None and math.isnan(value) else (value if value != math.inf else 1e308)


FLOATS = [1.0, 200.0, math.nan, None, math.inf, -math.inf, -5.0, math.nan, 100.0]
PREDICATES = {
    "v > 100": lambda v: above(v) > 100,
    "v >= 100": lambda v: above(v) >= 100,
    "v < 0": lambda v: above(v) < 0,
    "v <= 100": lambda v: above(v) <= 100,
    "NOT (v <= 100)": lambda v: above(v) > 100,
    "v <> 1": lambda v: v != 1,
    "v = v": lambda v: True,
    "isnan(v)": math.isnan,
    "v = 'NaN'::double": math.isnan,
    "v BETWEEN 50 AND 250": lambda v: 50 <= above(v) <= 250,
    "v > 1e300": lambda v: above(v) > 1e300,
    "v IS NULL": lambda v: False,
}


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()], ids=str)
@pytest.mark.parametrize("predicate", PREDICATES)
def test_predicates_on_floats_keep_nan_rows(client, name, kind, predicate):
    """The same rows with and without statistics to prune by: every value is alone in its date, or all are in one chunk."""
    days = pa.array(range(len(FLOATS)), pa.int32()).cast(pa.date32())
    table = pa.table({"day": days, "row": range(len(FLOATS)), "v": pa.array(FLOATS, pa.float64()).cast(kind)})
    load(client, table, name + "/keyed", columns_keys={"day": "Date"})
    load(client, table, name + "/plain")
    expected = [
        row
        for row, v in enumerate(FLOATS)
        if (v is None and predicate == "v IS NULL") or (v is not None and PREDICATES[predicate](v))
    ]
    for dataset in ("keyed", "plain"):
        found = rows(client, f"SELECT row FROM {table_name(name + '/' + dataset)} WHERE {predicate} ORDER BY row")
        assert [row["row"] for row in found] == expected, dataset


# Chunks that need not be read


def load_a_year(client, name: str) -> str:
    """Load 365 dates of 20 rows and return the SQL name of the table."""
    days = [datetime.date(2023, 1, 1) + datetime.timedelta(i % 365) for i in range(365 * 20)]
    load(client, pa.table({"day": days, "x": range(365 * 20)}), name, columns_keys={"day": "Date"})
    return table_name(name)


@pytest.mark.parametrize(
    "where, count",
    [
        ("day = DATE '2023-07-04'", 1),
        ("day = '2023-07-04'", 1),
        ("day BETWEEN '2023-07-04' AND '2023-07-10'", 7),
        ("day IN ('2023-01-01', '2023-12-31')", 2),
        ("x < 5", 5),
        ("day IS NULL", 0),
        ("day > '2024-06-01'", 0),
    ],
    ids=["date", "text", "week", "two", "other_column", "null", "none"],
)
def test_a_query_reads_the_chunks_of_its_dates_alone(server, client, name, where, count):
    table = load_a_year(client, name)
    with counted(server) as rise:
        found = sql_by_ticket(client, f"SELECT count(*) AS n, sum(x) AS total FROM {table} WHERE {where}")
    assert found["n"].to_pylist() == [5 if where == "x < 5" else 20 * count]
    assert rise[CHUNKS_CONSIDERED] == 365
    assert rise[CHUNKS_PRUNED] == 365 - count
    assert rise[CHUNKS_READ] == count


def test_explain_analyze_tells_chunks_and_bytes(client, name):
    table = load_a_year(client, name)
    plan = "\n".join(
        " ".join(map(str, row.values()))
        for row in sql(client, f"EXPLAIN ANALYZE SELECT sum(x) FROM {table} WHERE day = DATE '2023-07-04'").to_pylist()
    )

    def figure(words: str) -> int:
        found = re.search(words.replace(" ", "[ _]") + r"\s*[=:]\s*(\d+)", plan)
        assert found, f"{words!r} is not in\n{plan}"
        return int(found.group(1))

    assert figure("chunks considered") == 365
    assert figure("chunks pruned") == 364
    assert figure("bytes read") > 0


def test_plans_name_no_path_of_the_server(server, client, name):
    table = load_a_year(client, name)
    for query in (
        f"EXPLAIN SELECT x FROM {table}",
        f"EXPLAIN ANALYZE SELECT x FROM {table}",
        f"EXPLAIN VERBOSE SELECT x FROM {table}",
    ):
        assert str(server.storage) not in str(sql(client, query).to_pylist())


def test_an_id_is_found_in_its_range(server, start_server):
    server = start_server(chunk_rows=1_000)
    with server.connect() as client:
        load(client, pa.table({"id": range(10_000)}), "own/data", columns_keys={"id": "ID"})
        with counted(server) as rise:
            assert sql_by_ticket(client, "SELECT id FROM own.data WHERE id = 4321")["id"].to_pylist() == [4321]
    assert rise[CHUNKS_READ] == 1
    assert rise[CHUNKS_CONSIDERED] >= 5


# Refusals


@pytest.mark.parametrize(
    "query",
    [
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO 'pandas-db-copied.csv'",
        "COPY {table} TO 'pandas-db-copied.parquet' STORED AS PARQUET",
        "SET datafusion.execution.batch_size = 1",
        "SHOW ALL",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'pandas-db-copied.csv'",
        "EXPLAIN ANALYZE INSERT INTO {table} VALUES (DATE '2024-01-01', 1, 'x')",
        "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
        "PREPARE p AS SELECT 1",
        "SELECT 1; SELECT 2",
    ],
)
def test_statements_that_reach_outside_are_refused(client, orders, query):
    for run in (sql, sql_by_ticket):
        with refused("INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND", "PERMISSION_DENIED"):
            run(client, query.format(table=orders))
    assert rows(client, f"SELECT count(*) AS n FROM {orders}") == [{"n": 1_000}]


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        ";",
        "SELEC 1",
        "SELECT * FORM x",
        "SELECT 'open",
        "SELECT nope",
        "SELECT nope(1)",
        "SELECT 1 +",
        "SELECT 'a' + DATE '2024-01-01'",
    ],
)
def test_sql_that_cannot_be_planned_is_an_invalid_argument(client, query):
    for run in (sql, sql_by_ticket):
        with refused("INVALID_ARGUMENT"):
            run(client, query)


def test_an_error_in_the_middle_of_a_result_is_reported(client, orders):
    with refused("INVALID_ARGUMENT", mentions=["zero"]):
        sql_by_ticket(client, f"SELECT 1 / (id - 500) AS x FROM {orders}")


@pytest.mark.parametrize("table", ["nope", "nope.nope", '"a/b"."c"', "other_catalog.public.t", "public.dataset1"])
def test_an_unknown_table_is_named(client, table):
    with refused("NOT_FOUND", "INVALID_ARGUMENT", mentions=[table.split(".")[-1].strip('"')]):
        sql(client, f"SELECT * FROM {table}")
