"""The Flight SQL clients of npm: lancedb's (grpc-js, Arrow in JavaScript) and lakehouse-rs's (Rust, of an old Arrow).

``PANDAS_DB_NODE_MODULES`` is where they are installed; ``cargo test`` does that from ``npm/package-lock.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from frames import load, sql, table_name

CLIENTS = ["lancedb", "lakehouse"]
ORDERS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "item": ["tea", "milk", None],
        "ratio": [0.5, None, 1.5],
        "flag": [True, False, None],
        "day": pa.array([0, 1, None], pa.date32()),
        "small": pa.array([1, None, -1], pa.int16()),
        "raw": [b"\x01\xff", None, b""],
        "tags": [["a", "b"], [], None],
        "cat": pa.array(["x", None, "y"]).dictionary_encode(),
        "v": pa.array(["v", None, "w"], pa.string_view()),
    }
)


@pytest.fixture
def calls(server) -> Callable[[str, list], list]:
    """A function that makes a client's calls one after another, and returns their answers."""
    modules = os.environ.get("PANDAS_DB_NODE_MODULES")
    if not modules:
        pytest.exit("set PANDAS_DB_NODE_MODULES to a folder with the packages of npm/package.json", returncode=4)
    host, port = server.flight.removeprefix("grpc://").rsplit(":", 1)

    def run(which: str, wanted: list) -> list:
        script = Path(__file__).parent / "npm" / "driver.cjs"
        environment = os.environ | {"NODE_PATH": modules}
        ended = subprocess.run(
            ["node", script, which, host, port],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


def ok(answer: dict) -> dict:
    """Return what an answer holds."""
    assert "error" not in answer, answer
    return answer["ok"]


@pytest.mark.parametrize("which", CLIENTS)
def test_rows_of_every_kind(client, calls, name, which):
    """lakehouse-rs's client panics on views and fails on dictionaries, which queries therefore never send."""
    load(client, ORDERS, name)
    columns = "id, item, ratio, flag, small, raw, tags, cat, v, upper(v) AS up"
    (answer,) = calls(which, [["query", f"SELECT {columns} FROM {table_name(name)} ORDER BY id"]])
    found = ok(answer)
    assert found["columns"] == ["id", "item", "ratio", "flag", "small", "raw", "tags", "cat", "v", "up"]
    assert [row[:5] for row in found["rows"]] == [
        [1, "tea", 0.5, True, 1],
        [2, "milk", None, False, None],
        [3, None, 1.5, None, -1],
    ]
    assert [row[6:] for row in found["rows"]] == [
        [["a", "b"], "x", "v", "V"],
        [[], None, None, None],
        [None, "y", "w", "W"],
    ]


@pytest.mark.parametrize("which", CLIENTS)
def test_a_result_without_rows(client, calls, name, which):
    load(client, ORDERS, name)
    first, second = calls(
        which, [["query", f"SELECT id, item FROM {table_name(name)} WHERE id > 9"], ["query", "SELECT 1 AS x"]]
    )
    assert ok(first)["rows"] == [] and ok(second)["rows"] == [[1]]


@pytest.mark.parametrize("which", CLIENTS)
def test_aggregates(client, calls, name, which):
    load(client, ORDERS, name)
    query = f"SELECT count(*) AS n, sum(id) AS total, max(item) AS last, avg(ratio) AS mean FROM {table_name(name)}"
    (answer,) = calls(which, [["query", query]])
    assert ok(answer)["rows"] == [[3, 6, "tea", 1.0]]


def test_an_error_is_told_in_the_servers_words(calls):
    """lakehouse-rs's client keeps them to itself."""
    first, second = calls("lancedb", [["query", "SELEC 1"], ["query", "SELECT * FROM no_such_table"]])
    assert "[INVALID_ARGUMENT]" in first["error"] and "[NOT_FOUND]" in second["error"]


@pytest.mark.parametrize("which", CLIENTS)
def test_a_client_goes_on_after_an_error(calls, which):
    first, second = calls(which, [["query", "SELECT nope"], ["query", "SELECT 1 AS x"]])
    assert first["error"] and ok(second)["rows"] == [[1]]


def test_a_result_of_many_messages(calls):
    """grpc-js takes four megabytes a message."""
    (answer,) = calls("lancedb", [["count", "SELECT repeat('x', 1000) AS s FROM generate_series(1, 20000)"]])
    assert ok(answer) == 20_000


def test_a_write_runs_once(client, calls, name):
    load(client, ORDERS.select(["id", "item"]), name)
    table = table_name(name)
    answers = calls(
        "lakehouse",
        [["query", f"INSERT INTO {table} VALUES (4, 'rice')"], ["query", f"DELETE FROM {table} WHERE id = 1"]],
    )
    assert len(answers) == 2
    assert sql(client, f"SELECT id FROM {table} ORDER BY id")["id"].to_pylist() == [2, 3, 4]
    calls("lancedb", [["query", f"INSERT INTO {table} VALUES (5, 'salt')"]])
    assert sql(client, f"SELECT id FROM {table} ORDER BY id")["id"].to_pylist() == [2, 3, 4, 5]


def test_metadata(client, calls, name):
    load(client, ORDERS, f"{name}/orders")
    catalogs, schemas, tables, with_schemas, others = calls(
        "lakehouse",
        [
            ["catalogs", None],
            ["schemas", {"dbSchemaFilterPattern": name}],
            ["tables", {"dbSchemaFilterPattern": name}],
            ["tables", {"dbSchemaFilterPattern": name, "includeSchema": True}],
            ["tables", {"dbSchemaFilterPattern": name, "tableTypes": ["VIEW"]}],
        ],
    )
    assert ok(catalogs)["rows"] == [["pandas_db"]]
    assert ok(schemas)["rows"] == [["pandas_db", name]]
    assert ok(tables)["columns"] == ["catalog_name", "db_schema_name", "table_name", "table_type"]
    assert ok(tables)["rows"] == [["pandas_db", name, "orders", "TABLE"]]
    assert ok(with_schemas)["columns"][-1] == "table_schema" and len(ok(with_schemas)["rows"]) == 1
    assert ok(others)["rows"] == []
