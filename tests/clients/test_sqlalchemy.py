"""SQLAlchemy 2 with sqlalchemy-adbc: text queries, Core statements, reflection, pandas over an engine."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from frames import load, sql, table_name

ORDERS = pa.table(
    {
        "id": [1, 2, 3],
        "item": ["tea", "milk", None],
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")], pa.decimal128(12, 2)),
        "day": pa.array([0, 1, 2], pa.date32()),
        "ratio": [0.5, 1.5, None],
        "flag": [True, False, None],
    }
)


@pytest.fixture
def engine(server) -> Iterator[sa.Engine]:
    """An engine of the shared server."""
    made = sa.create_engine(server.flight.replace("grpc://", "adbc+flightsql://") + "?tls=false")
    yield made
    made.dispose()


@pytest.fixture
def schema(client, name) -> str:
    """A schema of this test alone, with the table ``orders``."""
    load(client, ORDERS, f"{name}/orders")
    return name


@pytest.fixture
def orders(schema) -> sa.Table:
    """The table, as a program declares it."""
    return sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger),
        sa.Column("item", sa.String),
        sa.Column("price", sa.Numeric(12, 2)),
        sa.Column("day", sa.Date),
        sa.Column("ratio", sa.Float),
        sa.Column("flag", sa.Boolean),
        schema=schema,
    )


def test_a_query_as_text(engine, schema):
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(f'SELECT id, item FROM "{schema}".orders WHERE id >= :first ORDER BY id'), {"first": 2}
        )
        assert list(found.keys()) == ["id", "item"]
        assert found.all() == [(2, "milk"), (3, None)]


def test_a_pool_hands_out_connections_again(engine):
    for _ in range(5):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_a_select_with_a_limit(engine, orders):
    query = sa.select(orders.c.id, orders.c.price).where(orders.c.id > 1).order_by(orders.c.id.desc()).limit(1)
    with engine.connect() as connection:
        assert connection.execute(query).all() == [(3, decimal.Decimal("2.25"))]
        assert connection.execute(query.offset(1)).all() == [(2, None)]


@pytest.mark.parametrize(
    "where, ids",
    [
        (lambda t: t.c.item == "tea", [1]),
        (lambda t: t.c.item.is_(None), [3]),
        (lambda t: t.c.item.in_(["tea", "milk"]), [1, 2]),
        (lambda t: t.c.item.like("%il%"), [2]),
        (lambda t: t.c.day >= datetime.date(1970, 1, 2), [2, 3]),
        (lambda t: t.c.price == decimal.Decimal("1.50"), [1]),
        (lambda t: t.c.ratio.between(0.1, 0.9), [1]),
        (lambda t: sa.or_(t.c.id == 1, t.c.item == "milk"), [1, 2]),
    ],
)
def test_conditions(engine, orders, where, ids):
    with engine.connect() as connection:
        found = connection.execute(sa.select(orders.c.id).where(where(orders)).order_by(orders.c.id))
        assert found.scalars().all() == ids


def test_aggregates_and_joins(engine, orders):
    other = orders.alias()
    query = (
        sa.select(orders.c.item, sa.func.count().label("n"), sa.func.max(other.c.id).label("last"))
        .join(other, orders.c.id <= other.c.id)
        .group_by(orders.c.item)
        .order_by(sa.func.count().desc())
    )
    with engine.connect() as connection:
        assert connection.execute(query).all() == [("tea", 3, 3), ("milk", 2, 3), (None, 1, 3)]


def test_inserts_updates_and_deletes(client, engine, orders, schema):
    with engine.begin() as connection:
        connection.execute(
            sa.insert(orders),
            {"id": 4, "item": "rice", "price": decimal.Decimal("3.00"), "day": datetime.date(2024, 2, 29)},
        )
        connection.execute(sa.insert(orders), [{"id": 5, "item": "salt"}, {"id": 6, "item": None}])
        connection.execute(sa.update(orders).where(orders.c.id == 5).values(item="pepper"))
        connection.execute(sa.delete(orders).where(orders.c.id <= 2))
    found = sql(client, f"SELECT id, item FROM {table_name(schema + '/orders')} ORDER BY id").to_pylist()
    assert found == [
        {"id": 3, "item": None},
        {"id": 4, "item": "rice"},
        {"id": 5, "item": "pepper"},
        {"id": 6, "item": None},
    ]


def test_tables_are_made_and_dropped(client, engine, name):
    table = sa.Table("made", sa.MetaData(), sa.Column("id", sa.BigInteger), sa.Column("s", sa.String), schema=name)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), {"id": 1, "s": "a"})
        assert connection.execute(sa.select(table)).all() == [(1, "a")]
    table.drop(engine)
    assert not sa.inspect(engine).has_table("made", schema=name)


def test_reflection(engine, schema):
    inspector = sa.inspect(engine)
    assert schema in inspector.get_schema_names()
    # Its get_table_names finds the type "table" alone, in small letters; JDBC's tools ask for "TABLE", which it is.
    assert inspector.get_view_names(schema=schema) == []
    assert inspector.has_table("orders", schema=schema) and not inspector.has_table("nope", schema=schema)
    columns = {column["name"]: column["type"] for column in inspector.get_columns("orders", schema=schema)}
    assert list(columns) == ORDERS.column_names
    kinds = [sa.BigInteger, sa.String, sa.Numeric, sa.Date, sa.Float, sa.Boolean]
    assert all(isinstance(kind, wanted) for kind, wanted in zip(columns.values(), kinds, strict=True)), columns
    assert inspector.get_pk_constraint("orders", schema=schema)["constrained_columns"] == []
    assert inspector.get_foreign_keys("orders", schema=schema) == []
    assert inspector.get_indexes("orders", schema=schema) == []


def test_a_reflected_table_can_be_queried(engine, schema):
    table = sa.Table("orders", sa.MetaData(), autoload_with=engine, schema=schema)
    with engine.connect() as connection:
        assert connection.execute(sa.select(table.c.id).order_by(table.c.id)).scalars().all() == [1, 2, 3]


def test_pandas_over_an_engine(engine, schema):
    found = pd.read_sql(
        sa.text(f'SELECT id, item FROM "{schema}".orders WHERE id > :id ORDER BY id'), engine, params={"id": 1}
    )
    assert found["id"].tolist() == [2, 3]


def test_an_error_is_sqlalchemys(engine):
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="INVALID_ARGUMENT"):
        connection.execute(sa.text("SELEC 1"))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
