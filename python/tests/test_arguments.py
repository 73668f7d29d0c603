"""Wrong arguments raise ValueError, before anything is sent, and say what they should be."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from kinds import objects
from pandas_db_sdk import DataFrameClient

FRAME = pd.DataFrame({"day": ["2024-01-01"], "x": [1]})


@pytest.fixture(scope="module")
def unreached():
    """A client of an address where nobody listens: whatever it raises it found by itself."""
    with DataFrameClient("grpc://127.0.0.1:1", attempts=1) as client:
        yield client


@pytest.mark.parametrize("url", ["", None, 7, "127.0.0.1:50051", "grpc://", "ftp://host:1", "grpc:/host:1", "http:///"])
def test_addresses(url):
    with pytest.raises(ValueError, match="api_url"):
        DataFrameClient(url)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auth_token": "a\nb"}, "auth_token"),
        ({"auth_token": 7}, "auth_token"),
        ({"auth_token": "tökén"}, "auth_token"),
        ({"attempts": 0}, "attempts must be an integer of at least 1"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"tls_root_certs": "/no/such/file"}, "tls_root_certs"),
    ],
)
def test_options_of_the_client(options, words):
    with pytest.raises(ValueError, match=words):
        DataFrameClient("grpc://127.0.0.1:1", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"df": None}, "df must be a pandas DataFrame"),
        ({"df": [1]}, "not builtins.list"),
        ({"df": FRAME["x"]}, "Series"),
        ({"dataframe_name": ""}, "dataframe_name"),
        ({"dataframe_name": None}, "dataframe_name"),
        ({"columns_keys": ["day"]}, "columns_keys must be a dict"),
        ({"columns_keys": {"day": "date"}}, r"columns_keys\['day'\] must be 'Date' or 'ID', not 'date'"),
        ({"columns_keys": {"when": "Date"}}, "there is no column 'when'; the columns are: 'day', 'x'"),
        ({"columns_keys": {1: "Date"}}, "there is no column 1"),
        ({"external_key": ""}, "external_key"),
        ({"external_key": None}, "external_key"),
        ({"keep_last": "yes"}, "keep_last must be True or False"),
        ({"keep_last": 1}, "keep_last must be True or False"),
        ({"idempotency_key": 5}, "idempotency_key"),
        ({"progress": "bar"}, "progress"),
    ],
)
def test_of_a_load(unreached, options, words):
    with pytest.raises(ValueError, match=words):
        unreached.load_dataframe(**{"df": FRAME, "dataframe_name": "a/b", **options})


@pytest.mark.parametrize("method", ["get_dataframe", "iter_dataframe"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataframe_name": b"a"}, "dataframe_name"),
        ({"external_key": 7}, "external_key"),
        ({"use_last": None}, "use_last"),
        ({"columns": "x"}, "columns must be a list"),
        ({"columns": []}, "columns is empty"),
        ({"filter": 7}, "filter"),
        ({"filter": ""}, "filter"),
        ({"version": 0}, "version must be an integer of at least 1"),
        ({"version": True}, "version"),
        ({"version": "1"}, "version"),
        ({"as_of": 5}, "as_of"),
        ({"as_of": datetime.datetime(2024, 1, 1)}, "no time zone"),
        ({"as_of": pd.NaT}, "as_of"),
        ({"as_": "numpy"}, "as_ must be one of 'pandas', 'arrow', 'polars'"),
        ({"progress": 1}, "progress"),
    ],
)
def test_of_a_read(unreached, method, options, words):
    with pytest.raises(ValueError, match=words):
        getattr(unreached, method)(**{"dataframe_name": "a/b", **options})


def test_of_the_other_calls(unreached):
    wrong = [
        lambda: unreached.iter_dataframe("a", batch_rows=0),
        lambda: unreached.list_dataframes(7),
        lambda: unreached.sql(""),
        lambda: unreached.sql("SELECT 1", "x"),
        lambda: unreached.sql("SELECT 1", {"a": 1}),
        lambda: unreached.sql("SELECT $1", [object()]),
        lambda: unreached.sql("SELECT 1", as_="csv"),
        lambda: unreached.list_versions("a", external_key=""),
        lambda: unreached.list_versions("a", include_replaced=None),
        lambda: unreached.describe_dataframe(None),
        lambda: unreached.delete_dataframe(""),
        lambda: unreached.delete_version("a", None),
        lambda: unreached.set_retention("a", keep_versions=-1),
        lambda: unreached.set_retention("a", keep_seconds=1.5),
        lambda: unreached.compact(None),
        lambda: unreached.vacuum(None),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match="."):
            call()


class Opaque:
    """A value that nothing can store."""

    def __repr__(self) -> str:
        return "<opaque>"


def cyclic() -> list:
    """Return a list that holds itself."""
    ring: list = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"a": [1], "b": objects([Opaque()])}), r"column 'b': row 0 holds <opaque> of type Opaque"),
        (
            pd.DataFrame({"b": objects([1, "x", [1, Opaque()]])}),
            r"column 'b': row 2 holds \[1, <opaque>\] of type list",
        ),
        (pd.DataFrame({7: objects(["x", Opaque()])}), r"column 7: row 1 holds <opaque>"),
        (pd.DataFrame({"b": objects([1, cyclic()])}), r"column 'b': row 1"),
        (pd.DataFrame({"b": np.array([1], "clongdouble")}), r"column 'b': complex256"),
        (pd.DataFrame({("a", 1): [1], frozenset({Opaque}): [2]}), r"label frozenset.* cannot be stored"),
        (pd.DataFrame({"x": [1]}, index=pd.Index(objects([Opaque()]))), r"level 0 of the index: row 0 holds <opaque>"),
    ],
    ids=["object", "mixed", "number_as_label", "cycle", "wide_complex", "label", "index"],
)
def test_what_cannot_be_stored_is_named(unreached, frame, words):
    with pytest.raises(ValueError, match=words):
        unreached.load_dataframe(frame, "a/b")


def test_attrs_that_cannot_be_stored_are_named(unreached):
    frame = FRAME.copy()
    frame.attrs = {"fine": 1, "model": Opaque()}
    with pytest.raises(ValueError, match=r"attrs\['model'\] cannot be stored: <opaque>"):
        unreached.load_dataframe(frame, "a/b")


def test_a_key_that_two_columns_have(unreached):
    frame = pd.DataFrame([[1, 2]], columns=["id", "id"])
    with pytest.raises(ValueError, match="there are 2 columns 'id'"):
        unreached.load_dataframe(frame, "a/b", columns_keys={"id": "ID"})


def test_keys_are_given_by_the_labels_of_the_frame(client, name):
    frame = pd.DataFrame({0: ["2024-01-01", "2024-01-02"], ("id", 1): [1, 2], "c": [1j, 2]})
    result = client.load_dataframe(frame, name, columns_keys={0: "Date", ("id", 1): "ID"})
    assert result["columns_keys"] == {0: "Date", ("id", 1): "ID"}
    assert len(result["chunks"]) == 2
    assert result["chunks"][0]["partition"].startswith("0/2024-01-01/")


def test_a_key_may_be_a_level_of_the_index(client, name):
    frame = pd.DataFrame({"x": range(3)}, index=pd.date_range("2024-01-01", periods=3, name="day"))
    result = client.load_dataframe(frame, name, columns_keys={"day": "Date"})
    assert result["columns_keys"] == {"day": "Date"}
    assert len(result["chunks"]) == 3
