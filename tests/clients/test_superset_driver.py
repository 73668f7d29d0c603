"""flightsql-dbapi, the driver of Superset: a subprocess in its own environment, as it wants an old SQLAlchemy.

``PANDAS_DB_SUPERSET_PYTHON`` is the interpreter of that environment; ``cargo test`` makes it from
``superset-requirements.txt``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from frames import load

ORDERS = pa.table(
    {"id": [1, 2, 3], "item": ["tea", "milk", None], "ratio": [0.5, 1.5, None], "flag": [True, False, None]}
)


@pytest.fixture
def run(server, client, name):
    """A function that runs a scenario against a schema of this test's own, and returns what it found."""
    python = os.environ.get("PANDAS_DB_SUPERSET_PYTHON")
    if not python:
        pytest.exit("set PANDAS_DB_SUPERSET_PYTHON to a Python that has flightsql-dbapi", returncode=4)
    load(client, ORDERS, f"{name}/orders")
    days = pa.array([i % 30 for i in range(3_000)], pa.int32()).cast(pa.date32())
    load(client, pa.table({"day": days, "x": range(3_000)}), f"{name}/many", columns_keys={"day": "Date"})
    host, port = server.flight.removeprefix("grpc://").rsplit(":", 1)

    def scenario(which: str) -> dict:
        script = Path(__file__).with_name("superset_driver.py")
        ended = subprocess.run(
            [python, script, host, port, which, name],
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return scenario


def test_queries(run):
    found = run("queries")
    assert found["description"] == [["id", "BIGINT"], ["item", "TEXT"], ["ratio", "FLOAT"], ["flag", "BOOLEAN"]]
    assert found["rows"] == [[1, "tea", 0.5, True], [2, "milk", 1.5, False], [3, None, None, None]]
    assert found["many"] == list(range(3_000)), "the driver reads the first endpoint alone"
    assert found["none"] == []


def test_parameters(run):
    assert run("parameters") == {
        "id = ?": [2],
        "item = ?": [1],
        "ratio > ?": [2],
        "flag = ?": [1],
        "id >= ? AND item = ?": [2],
        "id = $1 OR item = $2": [1, 3],
        "limit": [1],
    }


def test_writes(run):
    found = run("writes")
    assert found["counts"] == [2, 1]
    assert found["rows"] == [[2, "milk"], [3, None], [4, "rice"], [5, "x"], [6, "a"], [7, "b"]]


def test_metadata(run, name):
    found = run("metadata")
    assert (
        found["info"]["0"] == "pandas-db"
        and found["info"]["504"] == '"'
        and found["info"]["3"] is False
        and found["info"]["2"]
    )
    assert name in found["schemas"] and sorted(found["tables"]) == ["many", "orders"]
    assert found["columns"] == [
        ["id", "BIGINT", True],
        ["item", "TEXT", True],
        ["ratio", "FLOAT", True],
        ["flag", "BOOLEAN", True],
    ]
    assert found["primary"] == found["foreign"] == []
    assert found["rows"]["catalogs"] == found["rows"]["table_types"] == 1
    assert found["rows"]["xdbc"] > 10 and found["rows"]["exported"] == found["rows"]["cross"] == 0


def test_the_dialect(run):
    for found in run("engine").values():
        assert (found["text"], found["core"], found["quoted"]) == (1, [1], 1)
        assert sorted(found["tables"]) == ["many", "orders"] and found["columns"] == ORDERS.column_names
