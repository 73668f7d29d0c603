"""Drives flightsql-dbapi, the driver of Superset, in its own environment; prints what it found as JSON.

Run by ``test_superset_driver.py`` as ``superset_driver.py HOST PORT SCENARIO SCHEMA``.
"""

from __future__ import annotations

import json
import sys

import flightsql
import pandas as pd
from flightsql import FlightSQLClient
from sqlalchemy import column, create_engine, inspect, select, table, text
from sqlalchemy.dialects import registry

registry.register(
    "datafusion.flightsql", "flightsql.sqlalchemy", "DataFusionDialect"
)  # As its documentation spells it.


def plain(rows: list) -> list:
    """Return rows as JSON can hold them: the driver gives NaN for null."""
    return [[None if pd.isna(value) else value for value in row] for row in rows]


def client(host: str, port: int) -> FlightSQLClient:
    """Return a client without TLS."""
    return FlightSQLClient(host=host, port=port, insecure=True)


def queries(host: str, port: int, schema: str) -> dict:
    """Run queries as the DBAPI does: the first endpoint alone is read."""
    with flightsql.connect(client(host, port)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT id, item, ratio, flag FROM "{schema}".orders ORDER BY id')
        description = [(name, str(kind())) for name, kind in cursor.description]
        rows = plain(cursor.fetchall())
        cursor.execute(f'SELECT x FROM "{schema}".many')
        many = sorted(row[0] for row in cursor.fetchall())
        cursor.execute(f'SELECT id FROM "{schema}".orders WHERE id > 99')
        return {"description": description, "rows": rows, "many": many, "none": cursor.fetchall()}


def parameters(host: str, port: int, schema: str) -> dict:
    """Bind values, each in a dense union."""
    found = {}
    with flightsql.connect(client(host, port)) as connection:
        for where, values in (
            ("id = ?", [2]),
            ("item = ?", ["tea"]),
            ("ratio > ?", [1.0]),
            ("flag = ?", [True]),
            ("id >= ? AND item = ?", [1, "milk"]),
            ("id = $1 OR item = $2", [3, "tea"]),
        ):
            rows = connection.execute(f'SELECT id FROM "{schema}".orders WHERE {where} ORDER BY id', values).fetchall()
            found[where] = [row[0] for row in rows]
        rows = connection.execute(f'SELECT id FROM "{schema}".orders ORDER BY id LIMIT ?', [1]).fetchall()
        found["limit"] = [row[0] for row in rows]
    return found


def writes(host: str, port: int, schema: str) -> dict:
    """Write through the update call and through the cursor."""
    driver = client(host, port)
    counts = [
        driver.execute_update(f"INSERT INTO \"{schema}\".orders (id, item) VALUES (4, 'rice'), (5, 'salt')"),
        driver.execute_update(f'DELETE FROM "{schema}".orders WHERE id = 1'),
    ]
    with flightsql.connect(driver) as connection, connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{schema}\".orders SET item = 'x' WHERE id > 4")
        cursor.executemany(f'INSERT INTO "{schema}".orders (id, item) VALUES (?, ?)', [[6, "a"], [7, "b"]])
        cursor.execute(f'SELECT id, item FROM "{schema}".orders ORDER BY id')
        return {"counts": counts, "rows": plain(cursor.fetchall())}


def metadata(host: str, port: int, schema: str) -> dict:
    """Ask for everything that the driver can ask for."""
    driver = client(host, port)
    with flightsql.connect(driver) as connection:
        info = connection.flightsql_get_sql_info([0, 2, 3, 504])
        columns = connection.flightsql_get_columns("orders", schema)
        calls = {
            "catalogs": driver.get_catalogs(),
            "table_types": driver.get_table_types(),
            "xdbc": driver.get_xdbc_type_info(None),
            "exported": driver.get_exported_keys(flightsql.TableRef(table="orders")),
            "cross": driver.get_cross_reference(flightsql.TableRef(table="orders"), flightsql.TableRef(table="many")),
        }
        rows = {name: driver.do_get(call.endpoints[0].ticket).read_all().num_rows for name, call in calls.items()}
        return {
            "info": {str(code): value for code, value in info.items()},
            "schemas": connection.flightsql_get_schema_names(),
            "tables": connection.flightsql_get_table_names(schema),
            "columns": [(each["name"], str(each["type"]()), each["nullable"]) for each in columns],
            "primary": connection.flightsql_get_primary_keys("orders", schema),
            "foreign": connection.flightsql_get_foreign_keys("orders", schema),
            "rows": rows,
        }


def engine(host: str, port: int, schema: str) -> dict:
    """Go through SQLAlchemy 1.4, with and without prepared statements."""
    found = {}
    for feature in ("off", "on"):
        url = f"datafusion+flightsql://{host}:{port}?insecure=True&feature-sqlalchemy-prepared-statements={feature}"
        made = create_engine(url)
        inspector = inspect(made)
        orders = table("orders", column("id"), column("item"), schema=schema)
        with made.connect() as connection:
            query = select([orders.c.id]).where(orders.c.item == "tea")
            found[feature] = {
                "text": connection.execute(text("SELECT 1 AS x")).scalar(),
                "core": [row[0] for row in connection.execute(query)],
                "tables": inspector.get_table_names(schema),
                "columns": [each["name"] for each in inspector.get_columns("orders", schema)],
                "quoted": connection.execute(
                    text(f'SELECT "id" FROM "{schema}"."orders" ORDER BY id LIMIT 1')
                ).scalar(),
            }
    return found


if __name__ == "__main__":
    host, port, scenario, schema = sys.argv[1:]
    print(json.dumps(globals()[scenario](host, int(port), schema), default=str))
