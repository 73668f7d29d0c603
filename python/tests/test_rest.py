"""The REST API through the SDK: what it carries comes back, what it cannot is said."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

from pandas_db_sdk import (
    AbortedError,
    DataFrameClient,
    InvalidArgumentError,
    NotFoundError,
    PandasDBError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from pandas_db_sdk.rest_backend import _raise_status
from pandas_db_sdk.retry import is_worth_a_retry
from proxy import Proxy

FRAME = pd.DataFrame(
    {
        "date": ["2024-01-01", "2024-01-02", "2024-01-02"],
        "id": [1, -(1 << 53), 1 << 62],
        "value": [0.1, -1e300, 5e-324],
        "text": ["", 'ünï\x00\n"quoted" 🦀', "c"],
        "flag": [True, False, True],
    }
)


def test_a_frame_comes_back(rest, name):
    result = rest.load_dataframe(FRAME, name, columns_keys={"date": "Date"}, external_key="k", keep_last=True)
    assert result["df_name"] == name
    assert result["columns_keys"] == {"date": "Date"}
    assert (result["external_key"], result["keep_last"], result["version"]) == ("k", True, 1)
    assert [chunk["number"] for chunk in result["chunks"]] == [1, 2]
    assert_frame_equal(rest.get_dataframe(name), FRAME)
    assert_frame_equal(rest.get_dataframe(name, external_key="k", use_last=True), FRAME)


def test_two_hundred_thousand_rows_are_those_of_flight(rest, client, name):
    rows = 200_000
    random = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "date": [f"2024-{row % 12 + 1:02}-01" for row in range(rows)],
            "n": random.integers(-(1 << 62), 1 << 62, rows),
            "f": random.normal(size=rows),
        }
    )
    rest.load_dataframe(frame, f"{name}/rest", columns_keys={"date": "Date"})
    client.load_dataframe(frame, f"{name}/flight", columns_keys={"date": "Date"})
    expected = client.get_dataframe(f"{name}/flight")
    assert_frame_equal(expected, frame)
    for reader in (rest, client):
        assert_frame_equal(reader.get_dataframe(f"{name}/rest"), frame)
    assert_frame_equal(rest.get_dataframe(f"{name}/flight"), frame)


def test_missing_values_and_times(rest, name):
    frame = pd.DataFrame(
        {
            "f": [1.5, np.nan, np.inf],
            "t": [pd.Timestamp("2024-01-01 01:02:03.000004"), pd.NaT, pd.Timestamp("2024-01-02")],
            "day": [datetime.date(2024, 1, 1)] * 3,
            "n": pd.array([1, None, 3], "Int64"),
            "l": [[1, 2], [], [3]],
        }
    )
    rest.load_dataframe(frame, name)
    got = rest.get_dataframe(name)
    assert got["f"].tolist()[0] == 1.5
    assert got["f"].isna().tolist() == [False, True, True]
    assert pd.Timestamp(got["t"][0]) == pd.Timestamp("2024-01-01 01:02:03.000004")
    assert got["t"].isna().tolist() == [False, True, False]
    assert got["day"].str.slice(0, 10).tolist() == ["2024-01-01"] * 3
    assert got["n"].fillna(-1).tolist() == [1, -1, 3]
    assert got["l"].tolist() == [[1, 2], [], [3]]


def test_other_kinds_of_frames(rest, name):
    table = pa.table({"x": [1, 2], "s": ["a", None]})
    rest.load_dataframe(table, name)
    assert rest.get_dataframe(name, as_="arrow").to_pylist() == table.to_pylist()
    rest.load_dataframe(pd.DataFrame({7: [1], ("a", 1): [2]}), f"{name}/labels")
    assert list(rest.get_dataframe(f"{name}/labels").columns) == ["7", "('a', '1')"]


def test_list_delete_and_sql(rest, client, name):
    rest.load_dataframe(FRAME, name)
    [listed] = rest.list_dataframes(name)
    assert (listed["name"], listed["rows"], listed["versions"]) == (name, 3, 1)
    schema, _, last = name.rpartition("/")
    got = rest.sql(f'SELECT id, value FROM "{schema}"."{last}" WHERE flag ORDER BY id')
    assert_frame_equal(got, client.sql(f'SELECT id, value FROM "{schema}"."{last}" WHERE flag ORDER BY id'))
    assert isinstance(rest.sql("SELECT 1 AS one", as_="arrow"), pa.Table)
    rest.delete_dataframe(name)
    with pytest.raises(NotFoundError):
        rest.get_dataframe(name)
    assert rest.list_dataframes(name) == []


def test_the_options_of_a_read(rest, name):
    first = rest.load_dataframe(FRAME, name)
    rest.load_dataframe(FRAME.assign(flag=False), name, external_key="ü & b")
    assert len(rest.get_dataframe(name)) == 6
    assert_frame_equal(rest.get_dataframe(name, version=1), FRAME)
    assert_frame_equal(rest.get_dataframe(name, as_of=first["created_at"]), FRAME)
    assert_frame_equal(rest.get_dataframe(name, use_last=True), FRAME.assign(flag=False))
    assert_frame_equal(rest.get_dataframe(name, external_key="ü & b"), FRAME.assign(flag=False))
    got = rest.get_dataframe(name, columns=["text", "id"], filter="flag AND id = 1")
    assert got.to_dict("records") == [{"text": "", "id": 1}]
    assert rest.get_dataframe(name, filter="id = 0").empty


def test_statements_that_write(rest, name):
    rest.load_dataframe(FRAME, name)
    schema, _, last = name.rpartition("/")
    assert rest.sql(f'DELETE FROM "{schema}"."{last}" WHERE id = 1') == 1
    assert len(rest.get_dataframe(name)) == 2


def test_names_are_quoted_in_the_path(rest, name):
    odd = f"{name}/ünï 2024/a.b-c_d"
    rest.load_dataframe(FRAME, odd)
    assert_frame_equal(rest.get_dataframe(odd), FRAME)


def test_errors_are_those_of_flight(rest, name):
    with pytest.raises(NotFoundError, match=r"^\[NOT_FOUND\] "):
        rest.get_dataframe(name)
    with pytest.raises(InvalidArgumentError, match="never"):
        rest.load_dataframe(FRAME.assign(date="never"), name, columns_keys={"date": "Date"})
    with pytest.raises(InvalidArgumentError):
        rest.load_dataframe(FRAME, "..")
    with pytest.raises(InvalidArgumentError):
        rest.sql("SELEC 1")


def test_what_rest_cannot_do_is_said(rest, name):
    rest.load_dataframe(FRAME, name)
    cannot = {
        "iter_dataframe": lambda: list(rest.iter_dataframe(name)),
        "params=": lambda: rest.sql("SELECT $1", [1]),
        "list_versions": lambda: rest.list_versions(name),
        "describe_dataframe": lambda: rest.describe_dataframe(name),
        "delete_version": lambda: rest.delete_version(name, 1),
        "set_retention": lambda: rest.set_retention(name),
        "compact": lambda: rest.compact(name),
        "vacuum": lambda: rest.vacuum(name),
    }
    for what, call in cannot.items():
        with pytest.raises(UnimplementedError, match=f"{what} is not part of the REST API; give a grpc:// api_url"):
            call()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns 'a'"),
        (pd.DataFrame({"c": [1j]}), "column 'c': row 0 holds 1j of type complex"),
        (pd.DataFrame({"o": [object]}), "column 'o': row 0"),
    ],
    ids=["twice", "complex", "object"],
)
def test_what_json_has_nothing_for(rest, name, frame, words):
    with pytest.raises(ValueError, match=words):
        rest.load_dataframe(frame, name)


@pytest.mark.parametrize(("after_sent", "after_received"), [(100, None), (20_000, None), (None, 0), (None, 50)])
def test_a_load_whose_connection_is_cut_is_stored_once(server, client, name, after_sent, after_received):
    frame = pd.DataFrame({"x": range(20_000)})
    with Proxy(server.http, cuts=2, after_sent=after_sent, after_received=after_received) as proxy:
        with DataFrameClient(proxy.url) as cut:
            assert cut.load_dataframe(frame, name)["version"] == 1
            assert_frame_equal(cut.get_dataframe(name), frame)
        assert proxy.cut == 2
    assert len(client.list_versions(name, include_replaced=True)) == 1


def test_a_server_that_is_not_there():
    with DataFrameClient("http://127.0.0.1:1", attempts=2) as client:
        with pytest.raises(UnavailableError, match="failed to connect") as caught:
            client.get_dataframe("a")
        assert not caught.value.from_server


@pytest.mark.parametrize(
    ("status", "body", "kind", "again"),
    [
        (400, b'{"error": "wrong"}', InvalidArgumentError, False),
        (404, b'{"error": "[NOT_FOUND] gone"}', NotFoundError, False),
        (409, b'{"error": "lost a race"}', AbortedError, True),
        (413, b'{"error": "[RESOURCE_EXHAUSTED] too large"}', ResourceExhaustedError, False),
        (429, b"slow", ResourceExhaustedError, True),
        (500, b"", PandasDBError, False),
        (503, b"<html>", UnavailableError, True),
        (418, b'{"error": 7}', PandasDBError, False),
    ],
)
def test_statuses(status, body, kind, again):
    with pytest.raises(kind) as caught:
        _raise_status(status, body)
    assert is_worth_a_retry(caught.value) is again
