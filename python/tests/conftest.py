"""The running server of ``tests/clients``, and a client of it for each test."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pandas_db_sdk import DataFrameClient

ROOT = Path(__file__).resolve().parents[2]


def _load(name: str, path: Path):
    """Import a module of another folder that has a conftest.py too."""
    described = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(described)
    sys.modules[name] = module
    described.loader.exec_module(module)
    return module


# What that conftest.py imports is beside it; behind everything else, so that nothing of here is taken for it.
sys.path.append(str(ROOT / "tests/clients"))
serving = _load("serving", ROOT / "tests/clients/conftest.py")
server, start_server, name = serving.server, serving.start_server, serving.name
pytest_runtest_makereport = serving.pytest_runtest_makereport


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PANDAS_DB_TOKEN", raising=False)


@pytest.fixture(scope="session")
def client(server) -> Iterator[DataFrameClient]:
    """A client of the shared server over Flight."""
    with DataFrameClient(server.flight) as connected:
        yield connected


@pytest.fixture(scope="session")
def rest(server) -> Iterator[DataFrameClient]:
    """A client of the shared server over REST."""
    with DataFrameClient(server.http) as connected:
        yield connected
