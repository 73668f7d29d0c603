"""Flight SQL's metadata commands: schemas to the letter of ``FlightSql.proto``, order, filters, SqlInfo, types."""

from __future__ import annotations

from collections.abc import Iterator

import conftest
import flight_sql as fs
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from frames import load, refused, sql

CATALOG = "pandas_db"
UTF8, INT32, BOOL = pa.string(), pa.int32(), pa.bool_()


def required(name: str, kind: pa.DataType) -> pa.Field:
    """Return a field that is never null."""
    return pa.field(name, kind, nullable=False)


TABLE_FIELDS = [
    pa.field("catalog_name", UTF8),
    pa.field("db_schema_name", UTF8),
    required("table_name", UTF8),
    required("table_type", UTF8),
]
FOREIGN_KEYS = pa.schema([
    pa.field("pk_catalog_name", UTF8), pa.field("pk_db_schema_name", UTF8), required("pk_table_name", UTF8),
    required("pk_column_name", UTF8), pa.field("fk_catalog_name", UTF8), pa.field("fk_db_schema_name", UTF8),
    required("fk_table_name", UTF8), required("fk_column_name", UTF8), required("key_sequence", INT32),
    pa.field("fk_key_name", UTF8), pa.field("pk_key_name", UTF8), required("update_rule", pa.uint8()),
    required("delete_rule", pa.uint8()),
])  # fmt: skip
PRIMARY_KEYS = pa.schema([
    pa.field("catalog_name", UTF8), pa.field("db_schema_name", UTF8), required("table_name", UTF8),
    required("column_name", UTF8), pa.field("key_name", UTF8), required("key_sequence", INT32),
])  # fmt: skip
XDBC_TYPES = pa.schema([
    required("type_name", UTF8), required("data_type", INT32), pa.field("column_size", INT32),
    pa.field("literal_prefix", UTF8), pa.field("literal_suffix", UTF8),
    pa.field("create_params", pa.list_(pa.field("item", UTF8, nullable=False))), required("nullable", INT32),
    required("case_sensitive", BOOL), required("searchable", INT32), pa.field("unsigned_attribute", BOOL),
    required("fixed_prec_scale", BOOL), pa.field("auto_increment", BOOL), pa.field("local_type_name", UTF8),
    pa.field("minimum_scale", INT32), pa.field("maximum_scale", INT32), required("sql_data_type", INT32),
    pa.field("datetime_subcode", INT32), pa.field("num_prec_radix", INT32), pa.field("interval_precision", INT32),
])  # fmt: skip
COMMANDS = {
    "catalogs": (fs.command("CommandGetCatalogs"), pa.schema([required("catalog_name", UTF8)])),
    "db_schemas": (fs.db_schemas(), pa.schema([pa.field("catalog_name", UTF8), required("db_schema_name", UTF8)])),
    "tables": (fs.tables(), pa.schema(TABLE_FIELDS)),
    "tables_with_schemas": (
        fs.tables(include_schema=True),
        pa.schema([*TABLE_FIELDS, required("table_schema", pa.binary())]),
    ),
    "table_types": (fs.command("CommandGetTableTypes"), pa.schema([required("table_type", UTF8)])),
    "primary_keys": (fs.keys("CommandGetPrimaryKeys", "orders"), PRIMARY_KEYS),
    "exported_keys": (fs.keys("CommandGetExportedKeys", "orders"), FOREIGN_KEYS),
    "imported_keys": (fs.keys("CommandGetImportedKeys", "orders"), FOREIGN_KEYS),
    "cross_reference": (fs.cross_reference("orders", "order_items"), FOREIGN_KEYS),
    "xdbc_types": (fs.xdbc_type_info(), XDBC_TYPES),
}
DATASETS = ["single", "shop/orders", "shop/order_items", "shop/orderXitems", "sales/eu/2024", "Shop/Orders"]
ALL = [("Shop", "Orders"), ("public", "single"), ("sales/eu", "2024"), ("shop", "orderXitems"), ("shop", "order_items"),
       ("shop", "orders")]  # fmt: skip
COLUMNS = pa.table(
    {
        "id": pa.array([1], pa.int64()),
        "day": pa.array([0], pa.date32()),
        "name": ["x"],
        "price": pa.array([1], pa.decimal128(12, 2)),
        "small": pa.array([1], pa.int16()),
        "byte": pa.array([1], pa.uint8()),
        "ratio": [0.5],
        "flag": [True],
        "raw": [b"x"],
        "at": pa.array([0], pa.timestamp("us", "UTC")),
        "tags": [["a"]],
        "cat": pa.array(["a"]).dictionary_encode(),
        "point": [{"x": 1}],
    }
)
TYPE_NAMES = {
    "id": "BIGINT", "day": "DATE", "name": "VARCHAR", "price": "DECIMAL", "small": "SMALLINT", "ratio": "DOUBLE",
    "flag": "BOOLEAN", "cat": "VARCHAR",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flight.FlightClient]:
    """A client of a server with some tables."""
    for server in conftest.serve(tmp_path_factory.mktemp("metadata")):
        with server.connect() as client:
            for name in DATASETS:
                load(client, COLUMNS, name)
            yield client


def table_names(client: flight.FlightClient, **filters) -> list[tuple[str, str]]:
    """Return the schemas and names that GetTables gives, in its order."""
    found = fs.fetch(client, fs.tables(**filters)).to_pylist()
    assert all(row["catalog_name"] == CATALOG and row["table_type"] == "TABLE" for row in found)
    return [(row["db_schema_name"], row["table_name"]) for row in found]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_schema_is_that_of_the_protocol(shop, name):
    message, schema = COMMANDS[name]
    found = fs.fetch(shop, message).schema
    assert found.equals(schema, check_metadata=True), found


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_server_answers_with_the_same_schema(start_server, name):
    message, schema = COMMANDS[name]
    with start_server().connect() as client:
        assert fs.fetch(client, message).schema.equals(schema, check_metadata=True)


def test_there_is_one_catalog(shop):
    assert fs.fetch(shop, fs.command("CommandGetCatalogs")).to_pydict() == {"catalog_name": [CATALOG]}


def test_table_types_are_those_that_drivers_ask_for(shop):
    assert fs.fetch(shop, fs.command("CommandGetTableTypes"))["table_type"].to_pylist() == ["TABLE"]


@pytest.mark.parametrize(
    "filters, schemas",
    [
        ({}, ["Shop", "public", "sales/eu", "shop"]),
        ({"catalog": CATALOG}, ["Shop", "public", "sales/eu", "shop"]),
        ({"catalog": ""}, []),
        ({"catalog": "other"}, []),
        ({"pattern": "s%"}, ["sales/eu", "shop"]),
        ({"pattern": "_hop"}, ["Shop", "shop"]),
        ({"pattern": ""}, []),
        ({"pattern": "%"}, ["Shop", "public", "sales/eu", "shop"]),
    ],
    ids=str,
)
def test_schemas_and_their_filters(shop, filters, schemas):
    assert fs.fetch(shop, fs.db_schemas(**filters))["db_schema_name"].to_pylist() == schemas


@pytest.mark.parametrize(
    "filters, tables",
    [
        ({}, ALL),
        ({"catalog": CATALOG}, ALL),
        ({"catalog": ""}, []),
        ({"catalog": "PANDAS_DB"}, []),
        ({"schema": "shop"}, ALL[3:]),
        ({"schema": "shop", "table": "order_items"}, [("shop", "orderXitems"), ("shop", "order_items")]),
        ({"schema": "shop", "table": "order\\_items"}, [("shop", "order_items")]),
        ({"table": "o%s"}, ALL[3:]),
        ({"table": "%"}, ALL),
        ({"table": ""}, []),
        ({"schema": "sales/eu", "table": "2024"}, [("sales/eu", "2024")]),
        ({"types": ["TABLE"]}, ALL),
        ({"types": ["TABLE", "VIEW"]}, ALL),
        ({"types": ["VIEW"]}, []),
        ({"types": ["table"]}, []),
    ],
    ids=str,
)
def test_tables_and_their_filters(shop, filters, tables):
    for include_schema in (False, True):
        assert table_names(shop, include_schema=include_schema, **filters) == tables


@pytest.mark.parametrize(
    "pattern",
    [
        "SELECT * FROM shop.orders WHERE id = '1' -- (",
        "[a-z",
        "((((",
        "*",
        "\\",
        "a\\",
        "%" * 10_000,
        "x" * 100_000,
        "表_é",
        "'",
    ],
    ids=lambda pattern: ascii(pattern)[:20],
)
def test_a_pattern_is_no_regular_expression(shop, pattern):
    """pandas asks for a table whose name is like the whole text of a query."""
    for field in ("schema", "table"):
        found = fs.fetch(shop, fs.tables(**{field: pattern})).num_rows
        assert found == (len(ALL) if set(pattern) == {"%"} else 0)


def test_a_table_schema_is_what_a_query_gives(shop):
    (row,) = fs.fetch(shop, fs.tables(schema="shop", table="orders", include_schema=True)).to_pylist()
    told = pa.ipc.open_stream(row["table_schema"]).schema
    assert told.equals(pa.ipc.read_schema(pa.py_buffer(row["table_schema"])))
    given = sql(shop, "SELECT * FROM shop.orders").schema
    assert told.remove_metadata().equals(given.remove_metadata()), f"{told}\nis not\n{given}"
    assert [(field.name, field.nullable) for field in told] == [(field.name, field.nullable) for field in given]


def test_columns_tell_their_names_and_types(shop):
    (row,) = fs.fetch(shop, fs.tables(schema="shop", table="orders", include_schema=True)).to_pylist()
    for field in pa.ipc.open_stream(row["table_schema"]).schema:
        told = {key.decode().removeprefix("ARROW:FLIGHT:SQL:"): value.decode() for key, value in field.metadata.items()}
        assert (told["CATALOG_NAME"], told["DB_SCHEMA_NAME"], told["TABLE_NAME"]) == (CATALOG, "shop", "orders")
        assert told["TYPE_NAME"] == TYPE_NAMES.get(field.name, told["TYPE_NAME"])
        assert {told[key] for key in ("IS_AUTO_INCREMENT", "IS_CASE_SENSITIVE", "IS_READ_ONLY", "IS_SEARCHABLE")} <= {
            "0",
            "1",
        }
        if field.name == "price":
            assert (told["PRECISION"], told["SCALE"]) == ("12", "2")


def test_results_of_queries_carry_no_such_metadata(shop):
    for field in sql(shop, "SELECT * FROM shop.orders").schema:
        assert not any(key.startswith(b"ARROW:FLIGHT:SQL") for key in field.metadata or {})


@pytest.mark.parametrize("name", ["CommandGetPrimaryKeys", "CommandGetExportedKeys", "CommandGetImportedKeys"])
@pytest.mark.parametrize("table", ["orders", "nope", ""])
def test_keys_are_answered_although_there_are_none(shop, name, table):
    assert fs.fetch(shop, fs.keys(name, table, "shop", CATALOG)).num_rows == 0


# SqlInfo


UNION = {
    "string_value": pa.string(), "bool_value": pa.bool_(), "bigint_value": pa.int64(), "int32_bitmask": pa.int32(),
    "string_list": "list of text", "int32_to_int32_list_map": "map of lists",
}  # fmt: skip
CHILDREN = {
    "string_value": [0, 1, 2, 6, 7, 504, 513, 514, 529, 530, 531],
    "bool_value": [
        3,
        4,
        5,
        9,
        10,
        11,
        500,
        501,
        502,
        506,
        515,
        516,
        518,
        519,
        520,
        521,
        523,
        524,
        527,
        532,
        536,
        537,
        539,
        556,
        563,
        565,
        566,
        572,
        573,
        574,
        575,
        576,
    ],
    "bigint_value": [*range(541, 556), 557, 558, 559, 560, 561],
    "int32_bitmask": [
        8,
        100,
        101,
        503,
        505,
        507,
        522,
        525,
        526,
        528,
        533,
        534,
        535,
        538,
        540,
        562,
        564,
        *range(567, 572),
    ],
    "string_list": [508, 509, 510, 511, 512],
    "int32_to_int32_list_map": [517],
}
CODES = sorted(code for codes in CHILDREN.values() for code in codes)


def sql_infos(client: flight.FlightClient, codes: list[int]) -> dict[int, tuple[str, object]]:
    """Return the child of the union and the value of each code."""
    table = fs.fetch(client, fs.sql_info(codes)).combine_chunks()
    found = {}
    for chunk_codes, values in zip(table["info_name"].chunks, table["value"].chunks):
        for code, value in zip(chunk_codes.to_pylist(), values):
            found[code] = (values.type.field(value.type_code).name, value.as_py())
    assert len(found) == table.num_rows, "no code comes twice"
    return found


def test_the_table_of_codes_is_whole():
    assert CODES == [*range(12), 100, 101, *range(500, 577)]


def test_sql_info_has_the_schema_of_the_protocol(shop):
    for message in (fs.sql_info(), fs.sql_info([0]), fs.sql_info([99_999])):
        name, value = fs.fetch(shop, message).schema
        assert name.equals(required("info_name", pa.uint32()))
        assert value.name == "value" and value.type.mode == "dense"
        children = {value.type.field(i).name: value.type.field(i).type for i in range(value.type.num_fields)}
        assert list(children) == list(UNION)
        for child, kind in UNION.items():
            assert isinstance(kind, str) or children[child] == kind
        assert pa.types.is_list(children["string_list"]) and children["string_list"].value_type == pa.string()
        mapped = children["int32_to_int32_list_map"]
        assert pa.types.is_map(mapped) and mapped.key_type == pa.int32() and mapped.item_type.value_type == pa.int32()
        assert [value.type.type_codes[i] for i in range(6)] == list(range(6))


def test_every_code_has_a_value_of_its_type(shop):
    found = sql_infos(shop, [])
    assert sorted(found) == CODES
    wrong = {code: found[code] for child, codes in CHILDREN.items() for code in codes if found[code][0] != child}
    assert not wrong
    assert sql_infos(shop, CODES) == found


@pytest.mark.parametrize("codes", [[8], [0, 1, 2], [0, 2, 3, 504], [504, 0], [513], [8, 8], [517]], ids=str)
def test_codes_that_clients_ask_for_come_alone(shop, codes):
    assert set(sql_infos(shop, codes)) == set(codes)


def test_an_unknown_code_is_no_error(shop):
    assert 0 in sql_infos(shop, [0, 4_000])


def test_what_the_codes_say_is_so(shop):
    told = {code: value for code, (_, value) in sql_infos(shop, []).items()}
    assert told[0] == "pandas-db"
    assert (told[3], told[4], told[5], told[9], told[10]) == (False, True, False, True, True)
    assert told[8] == 0 and told[11] is False and told[563] is False and told[573] is False  # No transactions.
    assert (told[504], told[513], told[531], told[532]) == ('"', "\\", "catalog", True)
    assert told[502] is True and told[572] is True and told[574] is False
    for function in told[509] + told[510] + told[512]:
        assert function == function.upper()


# Types


def test_types_come_in_order_and_can_be_asked_for(shop):
    rows = fs.fetch(shop, fs.xdbc_type_info()).to_pylist()
    assert len(rows) > 10
    assert rows == sorted(rows, key=lambda row: (row["data_type"], row["type_name"]))
    for kind in {row["data_type"] for row in rows}:
        assert fs.fetch(shop, fs.xdbc_type_info(kind)).to_pylist() == [row for row in rows if row["data_type"] == kind]
    assert fs.fetch(shop, fs.xdbc_type_info(12_345)).num_rows == 0


def test_the_types_of_all_columns_are_told(shop):
    names = set(fs.fetch(shop, fs.xdbc_type_info())["type_name"].to_pylist())
    (row,) = fs.fetch(shop, fs.tables(schema="shop", table="orders", include_schema=True)).to_pylist()
    assert {
        field.metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"].decode()
        for field in pa.ipc.open_stream(row["table_schema"]).schema
    } <= names


def test_codes_of_types_are_those_of_odbc(shop):
    codes = {row["type_name"]: row["data_type"] for row in fs.fetch(shop, fs.xdbc_type_info()).to_pylist()}
    wanted = {
        "BIGINT": -5,
        "VARCHAR": 12,
        "DOUBLE": 8,
        "DATE": 91,
        "BOOLEAN": -7,
        "SMALLINT": 5,
        "DECIMAL": 3,
        "INTEGER": 4,
    }
    assert {name: codes[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "name", ["CommandGetTables", "CommandGetDbSchemas", "CommandGetSqlInfo", "CommandGetXdbcTypeInfo"]
)
def test_a_damaged_command_is_refused(shop, name):
    for body in (b"\x0a\xff", b"\x0a", b"\xff\xff\xff"):
        with refused("INVALID_ARGUMENT"):
            shop.get_flight_info(flight.FlightDescriptor.for_command(fs.command(name, body)))
