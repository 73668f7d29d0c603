"""Listing, describing, deleting, retention, compaction and vacuum."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from pandas_db_sdk import NotFoundError

FRAME = pd.DataFrame({"day": ["2024-01-01", "2024-01-02"], "x": [1, 2]})


def test_list_dataframes(client, name):
    assert client.list_dataframes(name) == []
    for suffix, rows in (("a", 1), ("a/b", 2), ("b", 0)):
        client.load_dataframe(FRAME[:rows], f"{name}/{suffix}")
    listed = client.list_dataframes(f"{name}/a")
    assert [(each["name"], each["rows"]) for each in listed] == [(f"{name}/a", 1), (f"{name}/a/b", 2)]
    assert all(each["bytes"] > 0 for each in listed)
    assert {each["name"] for each in client.list_dataframes()} >= {f"{name}/a", f"{name}/a/b", f"{name}/b"}


def test_list_versions(client, name):
    client.load_dataframe(FRAME, name, external_key="k", keep_last=True, idempotency_key="first")
    client.load_dataframe(FRAME, name, external_key="k", keep_last=True)
    client.load_dataframe(FRAME, name)
    assert [version["version"] for version in client.list_versions(name)] == [2, 3]
    assert [version["version"] for version in client.list_versions(name, "k")] == [2]
    [first, *_] = client.list_versions(name, include_replaced=True)
    expected = {"version": 1, "state": "replaced", "external_key": "k", "rows": 2, "idempotency_key": "first"}
    assert {key: first[key] for key in expected} == expected


def test_describe_dataframe(client, name):
    client.load_dataframe(FRAME, name, columns_keys={"day": "Date"})
    told = client.describe_dataframe(name)
    assert told["dataframe_name"] == name
    assert told["columns_keys"] == {"day": "Date"}
    assert (told["versions"], told["rows"], told["chunks"], told["newest_version"]) == (1, 2, 2, 1)
    assert isinstance(told["schema"], pa.Schema)
    assert told["schema"].names == ["day", "x"]
    assert told["location"].startswith("file://")


def test_delete_version_and_dataframe(client, name):
    client.load_dataframe(FRAME, name)
    client.load_dataframe(FRAME.assign(x=7), name)
    client.delete_version(name, 1)
    assert client.get_dataframe(name)["x"].tolist() == [7, 7]
    with pytest.raises(NotFoundError):
        client.delete_version(name, 9)
    client.delete_dataframe(name)
    with pytest.raises(NotFoundError):
        client.get_dataframe(name)
    assert client.load_dataframe(FRAME, name)["version"] == 1, "the name can be used anew"


def test_set_retention(client, name):
    for number in range(4):
        client.load_dataframe(FRAME.assign(x=number), name)
    assert client.set_retention(name, keep_versions=2)["expired"] == [1, 2]
    assert client.describe_dataframe(name)["retention"] == {"keep_versions": 2}
    assert client.get_dataframe(name)["x"].unique().tolist() == [2, 3]
    client.set_retention(name, keep_seconds=3_600)
    assert client.describe_dataframe(name)["retention"] == {"keep_seconds": 3600}
    client.set_retention(name)
    assert client.describe_dataframe(name)["retention"] == {}


def test_compact_and_vacuum(client, name):
    for _ in range(4):
        client.load_dataframe(FRAME, name)
    before = client.get_dataframe(name)
    done = client.compact(name)
    assert done["chunks_after"] < done["chunks_before"]
    pd.testing.assert_frame_equal(client.get_dataframe(name), before)
    assert client.vacuum(name)["files_deleted"] == 0, "nothing is old enough"
