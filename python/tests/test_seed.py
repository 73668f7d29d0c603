"""The first SDK's README: its code runs as written, but for the address and the token."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from pandas_db_sdk.client import DataFrameClient

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (Path(__file__).parent / "seed_blocks.md").read_text(), re.M | re.S)
ADDRESS, TOKEN = "'your-api-url'", "'your-cognito-token'"
ROWS = 250

FRAME = pd.DataFrame(
    {
        "timestamp": pd.date_range("2024-01-01", periods=ROWS, freq="7min"),
        "user_id": [row % 40 for row in range(ROWS)],
        "transaction_date": [f"2024-02-{row % 28 + 1:02}" for row in range(ROWS)],
        "customer_id": range(1_000, 1_000 + ROWS),
        "amount": [row / 7 for row in range(ROWS)],
    }
)


def block(words: str) -> str:
    """Return the one block that holds these words."""
    [found] = [text for text in BLOCKS if words in text]
    return found


@pytest.fixture(params=["flight", "http"])
def fresh(request, start_server):
    """An empty server, and the address of one of its two ways in."""
    return getattr(start_server(), request.param)


def quick_start(address: str) -> dict:
    """Run the Quick Start as a user pastes it, and return its names."""
    code = block("from pandas_db_sdk.client import DataFrameClient")
    assert code.count(ADDRESS) == code.count(TOKEN) == 1
    names: dict = {}
    exec(compile(code.replace(ADDRESS, repr(address)).replace(TOKEN, "None"), "seed", "exec"), names)
    return names


def test_there_are_all_blocks():
    assert len(BLOCKS) == 7


def test_quick_start(fresh):
    names = quick_start(fresh)
    assert_frame_equal(names["df_retrieved"], names["df"])


@pytest.mark.parametrize(
    ("words", "dataset", "chunks"),
    [
        ("timeseries/daily_metrics", "timeseries/daily_metrics", 2),
        ("users/profiles", "users/profiles", 1),
        ("'transactions'", "transactions", 28),
    ],
)
def test_usage_examples(fresh, words, dataset, chunks):
    client = quick_start(fresh)["client"]
    exec(compile(block(words), "seed", "exec"), {"client": client, "df": FRAME})
    got = client.get_dataframe(dataset)
    if fresh.startswith("grpc"):
        assert_frame_equal(got, FRAME)
        assert client.describe_dataframe(dataset)["chunks"] == chunks
    assert len(got) == ROWS
    assert got["amount"].tolist() == FRAME["amount"].tolist()
    assert got["customer_id"].tolist() == FRAME["customer_id"].tolist()


def test_version_management_keeps_the_newest_alone(fresh):
    client = quick_start(fresh)["client"]
    for amount in (1.0, 2.0):
        frame = FRAME.assign(amount=amount)
        exec(compile(block("'reports/daily'"), "seed", "exec"), {"client": client, "df": frame})
    assert client.get_dataframe("reports/daily")["amount"].tolist() == [2.0] * ROWS


def test_names_of_any_depth(fresh):
    client = quick_start(fresh)["client"]
    names = re.findall(r"^'(\S+)'", block("# Three levels"), re.M)
    assert names == ["project/dataset", "project/dataset/subset", "single_name"]
    for number, name in enumerate(names):
        client.load_dataframe(pd.DataFrame({"x": [number]}), name)
    for number, name in enumerate(names):
        assert client.get_dataframe(name)["x"].tolist() == [number]
    assert [each["name"] for each in client.list_dataframes("project/")] == names[:2]


def test_the_signatures_are_those_of_the_reference():
    names = {"pd": pd, "Optional": typing.Optional, "Dict": dict}
    exec(compile(block("class DataFrameClient:"), "seed", "exec"), names)
    for method in ("load_dataframe", "get_dataframe"):
        promised = list(inspect.signature(getattr(names["DataFrameClient"], method)).parameters.values())
        ours = list(inspect.signature(getattr(DataFrameClient, method)).parameters.values())
        same = [(each.name, each.kind, each.default) for each in promised]
        assert [(each.name, each.kind, each.default) for each in ours[: len(same)]] == same
        assert all(each.kind is each.KEYWORD_ONLY for each in ours[len(same) :]), "what is new is given by name"


def test_the_metadata_dictionary(fresh):
    client = quick_start(fresh)["client"]
    result = client.load_dataframe(FRAME, "m", {"transaction_date": "Date"}, "NOW", True)
    assert result["df_name"] == "m"
    assert result["columns_keys"] == {"transaction_date": "Date"}
    assert result["external_key"] == "NOW"
    assert result["keep_last"] is True
    assert result["total_rows"] == ROWS
    assert result["version"] == 1
    assert [chunk["number"] for chunk in result["chunks"]] == list(range(1, 29))
    assert sum(chunk["rows"] for chunk in result["chunks"]) == ROWS
    assert all("2024-02-" in chunk["path"] for chunk in result["chunks"])


def test_external_keys_and_use_last(fresh):
    client = quick_start(fresh)["client"]
    for key, number in (("a", 1), ("b", 2), ("a", 3), ("NOW", 4)):
        client.load_dataframe(pd.DataFrame({"x": [number]}), "k", external_key=key)
    assert client.get_dataframe("k")["x"].tolist() == [1, 2, 3, 4]
    assert client.get_dataframe("k", "a")["x"].tolist() == [1, 3]
    assert client.get_dataframe("k", "a", True)["x"].tolist() == [3]
    assert client.get_dataframe("k", external_key="NOW")["x"].tolist() == [4]
    assert client.get_dataframe("k", use_last=True)["x"].tolist() == [4]
