"""ADBC's Flight SQL driver: the DBAPI of Python, its extensions, and the low level below."""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Callable, Iterator

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import pyarrow as pa
import pytest
from frames import get, load, refused, sql, table_name

ORDERS = pa.table(
    {
        "id": [1, 2, 3],
        "item": ["tea", "milk", None],
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")], pa.decimal128(12, 2)),
        "day": pa.array([0, 1, 2], pa.date32()),
    }
)
ENDLESS = "SELECT a.value * b.value AS x FROM generate_series(1, 30000) a, generate_series(1, 30000) b"


@pytest.fixture
def connection(server) -> Iterator[adbc.Connection]:
    """A connection of the driver."""
    with adbc.connect(server.flight, autocommit=True) as opened:
        yield opened


@pytest.fixture
def cursor(connection) -> Iterator[adbc.Cursor]:
    """A cursor of such a connection."""
    with connection.cursor() as opened:
        yield opened


@pytest.fixture
def orders(client, name) -> str:
    """The SQL name of a table of three rows."""
    load(client, ORDERS, name)
    return table_name(name)


def count(client, table: str) -> int:
    """Return how many rows a table has."""
    return sql(client, f"SELECT count(*) AS n FROM {table}")["n"].to_pylist()[0]


# Connecting


@pytest.mark.parametrize(
    "options",
    [
        {"username": "local", "password": "anything"},
        {"adbc.flight.sql.authorization_header": "Bearer anything"},
        {"adbc.flight.sql.rpc.with_cookie_middleware": "true"},
        {"adbc.flight.sql.rpc.call_header.x-anything": "value"},
        {"adbc.flight.sql.rpc.timeout_seconds.query": "60"},
        {"adbc.flight.sql.client_option.with_block": "true"},
        {"adbc.flight.sql.client_option.with_max_msg_size": "67108864"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_a_connection(server, options):
    """Without accounts on the server any credentials do."""
    with adbc.connect(server.flight, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchone() == (1,)


def test_an_address_in_the_form_of_flightsql(server):
    uri = server.flight.replace("grpc://", "flightsql://") + "?transport=tcp"
    with adbc.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_without_autocommit_says_that_there_are_no_transactions(server):
    with pytest.warns(Warning, match="autocommit"):
        connection = adbc.connect(server.flight)
    with connection, connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchone() == (1,)


def test_many_connections_and_cursors(server):
    connections = [adbc.connect(server.flight, autocommit=True) for _ in range(8)]
    cursors = [connection.cursor() for connection in connections for _ in range(3)]
    for number, cursor in enumerate(cursors):
        cursor.execute("SELECT ? AS x", (number,))
    assert [int(cursor.fetchone()[0]) for cursor in cursors] == list(range(24))
    for closing in [*cursors, *connections]:
        closing.close()


# Queries


def test_rows_are_fetched_one_by_one_and_together(cursor, orders):
    cursor.execute(f"SELECT id, item, price, day FROM {orders} ORDER BY id")
    assert [column[0] for column in cursor.description] == ["id", "item", "price", "day"]
    assert cursor.fetchone() == (1, "tea", decimal.Decimal("1.50"), datetime.date(1970, 1, 1))
    assert cursor.fetchmany(1) == [(2, "milk", None, datetime.date(1970, 1, 2))]
    assert cursor.fetchall() == [(3, None, decimal.Decimal("2.25"), datetime.date(1970, 1, 3))]
    assert cursor.fetchone() is None


def test_arrow_tables_batches_and_frames(cursor, orders):
    query = f"SELECT * FROM {orders} ORDER BY id"
    assert cursor.execute(query).fetch_arrow_table().equals(ORDERS)
    assert cursor.execute(query).fetch_record_batch().read_all().equals(ORDERS)
    assert cursor.execute(query).fetch_df()["id"].tolist() == [1, 2, 3]
    assert cursor.execute(query).fetch_polars()["id"].to_list() == [1, 2, 3]


def test_an_empty_result_has_its_columns(cursor, orders):
    found = cursor.execute(f"SELECT id, item FROM {orders} WHERE id > 9").fetch_arrow_table()
    assert found.num_rows == 0
    assert found.schema.equals(pa.schema([("id", pa.int64()), ("item", pa.string())]))


def test_a_large_result_arrives_whole(cursor):
    found = cursor.execute("SELECT value, repeat('x', 100) AS s FROM generate_series(1, 300000)").fetch_arrow_table()
    assert found.num_rows == 300_000
    assert found["value"].to_pylist() == list(range(1, 300_001))


@pytest.mark.parametrize(
    "where, values, ids",
    [
        ("id = ?", (2,), [2]),
        ("id = $1", (2,), [2]),
        ("item = $2 OR id = $1", (3, "tea"), [1, 3]),
        ("item IN (?, ?)", ("tea", "milk"), [1, 2]),
        ("day > ?", (datetime.date(1970, 1, 1),), [2, 3]),
        ("price = ?", (decimal.Decimal("1.50"),), [1]),
        ("price > ?", (1.75,), [3]),
        ("item = ?", (None,), []),
        ("id < ? AND item LIKE ?", (3, "m%"), [2]),
    ],
)
def test_parameters(cursor, orders, where, values, ids):
    cursor.execute(f"SELECT id FROM {orders} WHERE {where} ORDER BY id", values)
    assert [row[0] for row in cursor.fetchall()] == ids


def test_limits_are_parameters_too(cursor, orders):
    assert cursor.execute(f"SELECT id FROM {orders} ORDER BY id LIMIT ? OFFSET ?", (1, 1)).fetchall() == [(2,)]


def test_an_arrow_batch_of_parameters(cursor, orders):
    batch = pa.record_batch({"anything": [2]})
    assert cursor.execute(f"SELECT item FROM {orders} WHERE id = ?", batch).fetchall() == [("milk",)]


def test_preparing_tells_the_parameters(cursor, orders):
    schema = cursor.adbc_prepare(f"SELECT id FROM {orders} WHERE id = ? AND item = ? LIMIT ?")
    assert schema.types == [pa.int64(), pa.string(), pa.int64()]
    cursor.execute(f"SELECT id FROM {orders} WHERE id = ? AND item = ? LIMIT ?", (1, "tea", 5))
    assert cursor.fetchall() == [(1,)]
    assert len(cursor.adbc_prepare("SELECT 1")) == 0
    assert len(cursor.adbc_prepare(f"INSERT INTO {orders} (id, item) VALUES (?, ?)")) == 2


def test_the_schema_of_a_result_without_running_it(client, cursor, orders):
    assert cursor.adbc_execute_schema(f"SELECT * FROM {orders}").equals(ORDERS.schema)
    assert cursor.adbc_execute_schema(f"SELECT ? AS x, id FROM {orders}").names == ["x", "id"]
    statement = cursor.adbc_statement
    statement.set_sql_query(f"SELECT id FROM {orders}")
    assert pa.Schema._import_from_c(statement.execute_schema().address).names == ["id"]
    assert count(client, orders) == 3


def test_a_result_in_partitions(server, cursor, orders):
    partitions, schema = cursor.adbc_execute_partitions(f"SELECT id FROM {orders} ORDER BY id")
    assert schema.names == ["id"] and len(partitions) == 1
    with adbc.connect(server.flight, autocommit=True) as other, other.cursor() as reader:
        reader.adbc_read_partition(partitions[0])
        assert reader.fetchall() == [(1,), (2,), (3,)]


def test_a_result_in_several_partitions_when_asked_for(server, client, name):
    table = pa.table({"day": pa.array([i % 40 for i in range(4_000)], pa.int32()).cast(pa.date32()), "x": range(4_000)})
    load(client, table, name, columns_keys={"day": "Date"})
    query = f"SELECT x FROM {table_name(name)}"
    options = {"adbc.flight.sql.session.option.endpoints": "4"}
    with adbc.connect(server.flight, conn_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        partitions, _ = cursor.adbc_execute_partitions(query)
        assert len(partitions) > 1
        found = []
        for partition in partitions:
            cursor.adbc_read_partition(partition)
            found += [row[0] for row in cursor.fetchall()]
        assert sorted(found) == list(range(4_000))
        assert sorted(row[0] for row in cursor.execute(query).fetchall()) == list(range(4_000))


def test_an_incremental_execution_polls(server, orders):
    with adbc.connect(server.flight, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        partitions, _ = cursor.adbc_execute_partitions(f"SELECT id FROM {orders}")
        more, _ = cursor.adbc_execute_partitions(f"SELECT id FROM {orders}")
        assert len(partitions) + len(more) >= 1


# Writes


def test_a_write_runs_once_when_its_result_is_never_fetched(client, server, orders):
    with adbc.connect(server.flight, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {orders} (id, item) VALUES (4, 'rice')")
        assert count(client, orders) == 4
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {orders} (id, item) VALUES (5, 'salt')")
            cursor.execute(f"DELETE FROM {orders} WHERE id = 1")
            cursor.execute(f"UPDATE {orders} SET item = 'x' WHERE id >= 4")
    found = sql(client, f"SELECT id, item FROM {orders} ORDER BY id").to_pylist()
    assert found == [{"id": 2, "item": "milk"}, {"id": 3, "item": None}, {"id": 4, "item": "x"}, {"id": 5, "item": "x"}]


@pytest.mark.parametrize(
    "statement, rows",
    [
        ("INSERT INTO {t} (id) VALUES (7), (8)", 2),
        ("UPDATE {t} SET item = 'x'", 3),
        ("DELETE FROM {t} WHERE id > 1", 2),
        ("DELETE FROM {t} WHERE id > 99", 0),
    ],
)
def test_rowcount_tells_the_rows_of_a_write(cursor, orders, statement, rows):
    assert cursor.execute(statement.format(t=orders)).rowcount == rows


def test_a_write_takes_parameters(client, cursor, orders):
    cursor.execute(f"INSERT INTO {orders} (id, item, day) VALUES (?, ?, ?)", (9, "it's", datetime.date(2024, 2, 29)))
    cursor.execute(f"UPDATE {orders} SET item = ? WHERE id = ?", (None, 1))
    found = sql(client, f"SELECT id, item, day FROM {orders} WHERE id IN (1, 9) ORDER BY id").to_pylist()
    assert found == [
        {"id": 1, "item": None, "day": datetime.date(1970, 1, 1)},
        {"id": 9, "item": "it's", "day": datetime.date(2024, 2, 29)},
    ]


def test_executemany_runs_once_for_each_row(client, cursor, orders):
    cursor.executemany(f"INSERT INTO {orders} (id, item) VALUES (?, ?)", [(10, "a"), (11, None), (12, "c")])
    assert cursor.rowcount == 3
    cursor.executemany(f"DELETE FROM {orders} WHERE id = ?", [(10,), (1,), (99,)])
    assert cursor.rowcount == 2
    assert [row["id"] for row in sql(client, f"SELECT id FROM {orders} ORDER BY id").to_pylist()] == [2, 3, 11, 12]


def test_executemany_takes_an_arrow_table(client, cursor, orders):
    cursor.executemany(
        f"INSERT INTO {orders} (id, item) VALUES (?, ?)", pa.record_batch({"a": [20, 21], "b": ["x", "y"]})
    )
    assert count(client, orders) == 5


def test_executemany_without_values_runs_once(client, cursor, orders):
    cursor.executemany(f"INSERT INTO {orders} (id) VALUES (50)", None)
    assert count(client, orders) == 4


def test_executescript_runs_a_statement(client, cursor, orders):
    cursor.executescript(f"DELETE FROM {orders} WHERE id = 1")
    assert count(client, orders) == 2
    with pytest.raises(adbc.ProgrammingError, match="INVALID_ARGUMENT"):
        cursor.executescript(f"DELETE FROM {orders}; DELETE FROM {orders}")
    assert count(client, orders) == 2


def test_tables_are_made_and_dropped(client, cursor, name):
    table = table_name(name)
    cursor.execute(f"CREATE TABLE {table} (id BIGINT, s VARCHAR)")
    cursor.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    assert cursor.execute(f"SELECT * FROM {table}").fetchall() == [(1, "a")]
    cursor.execute(f"DROP TABLE {table}")
    with refused("NOT_FOUND"):
        get(client, name)


# Ingest


MODES = {"create": "create", "append": "append", "replace": "replace", "create_append": "create_append"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "there"])
def test_ingest(client, connection, name, mode, exists):
    *schema, table = name.split("/")
    if exists:
        load(client, ORDERS, name)

    def ingest() -> int:
        with connection.cursor() as cursor:
            return cursor.adbc_ingest(
                table, ORDERS.slice(1), mode=mode, db_schema_name="/".join(schema), catalog_name="pandas_db"
            )

    if (mode, exists) == ("create", True):
        with pytest.raises(adbc.ProgrammingError, match="ALREADY_EXISTS"):
            ingest()
        assert get(client, name).num_rows == 3
    elif (mode, exists) == ("append", False):
        with pytest.raises(adbc.ProgrammingError, match="NOT_FOUND"):
            ingest()
    else:
        assert ingest() == 2
        assert get(client, name).num_rows == (5 if exists and "append" in mode else 2)


@pytest.mark.parametrize("form", ["table", "batch", "reader", "no_rows"])
def test_ingest_of_anything_that_is_arrow(client, cursor, name, form):
    *schema, table = name.split("/")
    data = {
        "table": ORDERS,
        "batch": ORDERS.to_batches()[0],
        "reader": ORDERS.to_reader(max_chunksize=1),
        "no_rows": ORDERS.to_batches()[0].slice(0, 0),
    }[form]
    rows = 0 if form == "no_rows" else 3
    assert cursor.adbc_ingest(table, data, mode="create", db_schema_name="/".join(schema)) == rows
    assert get(client, name).equals(ORDERS.slice(0, rows))


def test_ingest_of_a_mismatched_schema_is_refused(client, cursor, name, orders):
    *schema, table = name.split("/")
    with pytest.raises(adbc.ProgrammingError, match="(?s)INVALID_ARGUMENT.*id") as caught:
        cursor.adbc_ingest(table, pa.table({"id": ["x"]}), mode="append", db_schema_name="/".join(schema))
    assert "Utf8" in str(caught.value) and "Int64" in str(caught.value)
    assert count(client, orders) == 3


def test_ingest_into_a_temporary_table_is_not_offered(cursor):
    with pytest.raises(adbc.NotSupportedError):
        cursor.adbc_ingest("t", ORDERS, temporary=True)


# Metadata


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[adbc.Connection]:
    """A connection to a server with some tables."""
    import conftest

    for server in conftest.serve(tmp_path_factory.mktemp("adbc")):
        with server.connect() as client, adbc.connect(server.flight, autocommit=True) as connection:
            for dataset in ("shop/orders", "shop/items", "single"):
                load(client, ORDERS, dataset)
            yield connection


def objects(connection: adbc.Connection, **filters) -> dict:
    """Return what get_objects gives, as nested dictionaries by name."""
    return {
        catalog["catalog_name"]: None if catalog["catalog_db_schemas"] is None else {
            schema["db_schema_name"]: None if schema["db_schema_tables"] is None else {
                table["table_name"]: (table["table_type"], None if table["table_columns"] is None else
                                      {column["column_name"]: column for column in table["table_columns"]})
                for table in schema["db_schema_tables"]
            }
            for schema in catalog["catalog_db_schemas"]
        }
        for catalog in connection.adbc_get_objects(**filters).read_all().to_pylist()
    }  # fmt: skip


def test_objects_at_every_depth(shop):
    assert objects(shop, depth="catalogs") == {"pandas_db": None}
    schemas = objects(shop, depth="db_schemas")["pandas_db"]
    assert {"public", "shop"} <= set(schemas) and set(schemas.values()) == {None}
    tables = objects(shop, depth="tables")["pandas_db"]["shop"]
    assert tables == {"items": ("TABLE", None), "orders": ("TABLE", None)}
    for depth in ("columns", "all"):
        columns = objects(shop, depth=depth)["pandas_db"]["shop"]["orders"][1]
        assert list(columns) == ORDERS.column_names
        assert [column["ordinal_position"] for column in columns.values()] == [1, 2, 3, 4]
        assert [column["xdbc_type_name"] for column in columns.values()] == ["BIGINT", "VARCHAR", "DECIMAL", "DATE"]


@pytest.mark.parametrize(
    "filters, found",
    [
        ({"catalog_filter": "pandas_db"}, ["items", "orders"]),
        ({"catalog_filter": "other"}, None),
        ({"db_schema_filter": "shop"}, ["items", "orders"]),
        ({"db_schema_filter": "sh%"}, ["items", "orders"]),
        ({"table_name_filter": "orders"}, ["orders"]),
        ({"table_name_filter": "%s"}, ["items", "orders"]),
        ({"table_name_filter": "nope"}, []),
        ({"table_types_filter": ["TABLE"]}, ["items", "orders"]),
        (
            {"table_types_filter": ["TABLE", "VIEW"], "db_schema_filter": "shop", "table_name_filter": "items"},
            ["items"],
        ),
        ({"table_types_filter": ["VIEW"]}, []),
        ({"column_name_filter": "price"}, ["items", "orders"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("depth", ["tables", "all"])
def test_objects_and_their_filters(shop, filters, found, depth):
    told = objects(shop, depth=depth, **filters)
    if found is None:
        assert told == {}
        return
    tables = told["pandas_db"].get("shop") or {}
    assert sorted(tables) == found
    if depth == "all" and "column_name_filter" in filters:
        assert all(list(columns) == ["price"] for _, columns in tables.values())


def test_the_schema_of_a_table(shop):
    schema = shop.adbc_get_table_schema("orders", db_schema_filter="shop")
    assert schema.remove_metadata().equals(ORDERS.schema)
    assert shop.adbc_get_table_schema("single", catalog_filter="pandas_db").names == ORDERS.column_names
    with pytest.raises(adbc.ProgrammingError, match="(?i)not.found"):
        shop.adbc_get_table_schema("nope")


def test_types_of_tables_and_facts_about_the_server(shop):
    assert shop.adbc_get_table_types() == ["TABLE"]
    info = shop.adbc_get_info()
    assert info["vendor_name"] == "pandas-db"
    assert re.match(r"\d+\.\d+", info["vendor_version"]) and info["vendor_arrow_version"]


def test_the_current_catalog_and_schema(server, client, name):
    load(client, ORDERS, f"{name}/orders")
    with adbc.connect(server.flight, autocommit=True) as connection, connection.cursor() as cursor:
        assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("pandas_db", "public")
        connection.adbc_current_db_schema = name
        connection.adbc_current_catalog = "pandas_db"
        assert connection.adbc_current_db_schema == name
        assert len(cursor.execute("SELECT id FROM orders").fetchall()) == 3
        with pytest.raises(adbc.Error):
            connection.adbc_current_catalog = "other"
        with pytest.raises(adbc.Error):
            connection.adbc_current_db_schema = "a//b"
    with adbc.connect(server.flight, autocommit=True) as connection:
        assert connection.adbc_current_db_schema == "public"


@pytest.mark.parametrize("cookies", ["true", "false"])
def test_a_schema_given_with_the_connection(server, client, name, cookies):
    load(client, ORDERS, f"{name}/orders")
    options = {"adbc.connection.catalog": "pandas_db", "adbc.connection.db_schema": name}
    cookie = {"adbc.flight.sql.rpc.with_cookie_middleware": cookies}
    with (
        adbc.connect(server.flight, db_kwargs=cookie, conn_kwargs=options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        assert len(cursor.execute("SELECT id FROM orders").fetchall()) == 3


# Cancelling and errors


def test_cancelling_ends_a_query(connection):
    with connection.cursor() as cursor:
        reader = cursor.execute(ENDLESS).fetch_record_batch()
        assert reader.read_next_batch().num_rows > 0
        cursor.adbc_cancel()
        with pytest.raises((adbc.Error, pa.ArrowException, OSError), match="(?i)cancel"):
            while True:
                reader.read_next_batch()
    with connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchone() == (1,)


def status(act: Callable[[], object]) -> tuple[type, str]:
    """Return the exception's type and its ADBC status."""
    with pytest.raises(adbc.Error) as caught:
        act()
    return type(caught.value), caught.value.status_code.name


@pytest.mark.parametrize(
    "statement, error, code",
    [
        ("SELEC 1", adbc.ProgrammingError, {"INVALID_ARGUMENT"}),
        ("SELECT nope FROM {t}", adbc.ProgrammingError, {"INVALID_ARGUMENT"}),
        ("SELECT 1; SELECT 2", adbc.ProgrammingError, {"INVALID_ARGUMENT"}),
        ("SELECT * FROM no_such_table", adbc.ProgrammingError, {"NOT_FOUND"}),
        ("CREATE TABLE {t} (x INT)", adbc.ProgrammingError, {"ALREADY_EXISTS"}),
        ("DROP TABLE no_such_table", adbc.ProgrammingError, {"NOT_FOUND"}),
        ("INSERT INTO {t} (id) VALUES ('x')", adbc.ProgrammingError, {"INVALID_ARGUMENT"}),
        ("SET datafusion.execution.batch_size = 1", adbc.Error, {"INVALID_ARGUMENT", "NOT_IMPLEMENTED"}),
        ("CREATE VIEW v AS SELECT 1", adbc.Error, {"INVALID_ARGUMENT", "NOT_IMPLEMENTED"}),
        ("DELETE FROM {v}", adbc.ProgrammingError, {"INVALID_ARGUMENT"}),
    ],
)  # fmt: skip
def test_errors_have_their_codes(cursor, orders, statement, error, code):
    text = statement.format(t=orders, v=orders[:-1] + '@last"')
    kind, found = status(lambda: cursor.execute(text))
    assert issubclass(kind, error) and found in code
    assert cursor.execute("SELECT 1").fetchone() == (1,), "the cursor is as good as before"


def test_an_error_in_the_middle_of_a_result_is_raised_when_fetching(cursor):
    cursor.execute("SELECT 1 / (value - 250000) AS x FROM generate_series(1, 300000)")
    with pytest.raises((adbc.Error, pa.ArrowException, OSError), match="(?i)zero"):
        cursor.fetchall()


def test_the_wrong_number_of_values_is_refused(cursor, orders):
    for values in ((), (1,), (1, 2, 3)):
        with pytest.raises(adbc.Error):
            cursor.execute(f"SELECT id FROM {orders} WHERE id = ? AND id = ?", values).fetchall()


# Below the DBAPI


def test_the_low_level(server, client, name):
    load(client, ORDERS, name)
    query = f"SELECT id FROM {table_name(name)} WHERE id >= ? ORDER BY id"
    with (
        adbc_driver_flightsql.connect(server.flight) as database,
        adbc_driver_manager.AdbcConnection(database) as connection,
    ):
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query(query)
            statement.prepare()
            for first in (2, 3):
                batch = pa.record_batch({"0": [first]})
                statement.bind(*batch.__arrow_c_array__()[::-1])
                stream, _ = statement.execute_query()
                found = pa.RecordBatchReader._import_from_c(stream.address).read_all()
                assert found["id"].to_pylist() == list(range(first, 4))
        with adbc_driver_manager.AdbcStatement(connection) as statement:
            statement.set_sql_query(f"DELETE FROM {table_name(name)} WHERE id = 1")
            assert statement.execute_update() == 2 - 1
    assert get(client, name)["id"].to_pylist() == [2, 3]
