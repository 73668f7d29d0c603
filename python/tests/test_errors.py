"""Errors of the server are exceptions by their code, with the server's message and nothing added."""

from __future__ import annotations

import socket

import pandas as pd
import pyarrow as pa
import pytest

from pandas_db_sdk import (
    DataFrameClient,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PandasDBError,
    UnavailableError,
)
from pandas_db_sdk.errors import BY_CODE, from_message

FRAME = pd.DataFrame({"day": ["2024-01-01"], "x": [1]})


def assert_clean(error: PandasDBError, code: str, *words: str) -> None:
    """Check the code and the message, and that gRPC and pyarrow put nothing around it."""
    text = str(error)
    assert text.startswith(f"[{code}] ")
    assert error.code == code
    assert text == f"[{code}] {error.message}"
    assert error.from_server
    for noise in ("gRPC", "Client context", "Flight returned", "Detail", "peer ipv4"):
        assert noise not in text
    for each in words:
        assert each in text


def test_what_there_is_not(client, name):
    for call in (
        lambda: client.get_dataframe(name),
        lambda: client.get_dataframe(name, columns=["x"]),
        lambda: list(client.iter_dataframe(name)),
        lambda: client.describe_dataframe(name),
        lambda: client.delete_dataframe(name),
        lambda: client.list_versions(name),
    ):
        with pytest.raises(NotFoundError) as caught:
            call()
        assert_clean(caught.value, "NOT_FOUND", name)
    assert isinstance(caught.value, LookupError)


def test_absent_versions_and_keys(client, name):
    client.load_dataframe(FRAME, name)
    for options in ({"version": 2}, {"external_key": "nobody"}):
        with pytest.raises(NotFoundError) as caught:
            client.get_dataframe(name, **options)
        assert_clean(caught.value, "NOT_FOUND", name)


@pytest.mark.parametrize("bad", ["..", "a//b", "a/../b", "public/x", "x" * 600, "a\nb", " a"])
def test_names_that_cannot_be(client, bad):
    for call in (lambda: client.load_dataframe(FRAME, bad), lambda: client.get_dataframe(bad)):
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert_clean(caught.value, "INVALID_ARGUMENT")
        assert isinstance(caught.value, ValueError)


def test_what_the_server_finds_wrong(client, name):
    client.load_dataframe(FRAME, name, columns_keys={"day": "Date"})
    wrong = [
        (lambda: client.load_dataframe(FRAME, name, columns_keys={"x": "ID"}), "x"),
        (lambda: client.load_dataframe(FRAME.assign(x="text"), name), "x"),
        (lambda: client.load_dataframe(FRAME.assign(day="never"), name), "never"),
        (lambda: client.get_dataframe(name, filter="nonsense > 1"), "nonsense"),
        (lambda: client.get_dataframe(name, as_of="yesterday"), "yesterday"),
        (lambda: client.get_dataframe(name, version=1, use_last=True), "version"),
        (lambda: client.sql("SELEC 1"), "SELEC"),
    ]
    for call, word in wrong:
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert_clean(caught.value, "INVALID_ARGUMENT", word)
    assert len(client.get_dataframe(name)) == 1, "nothing of the wrong loads is stored"


def test_a_key_with_other_content(client, name):
    client.load_dataframe(FRAME, name, idempotency_key="one")
    assert client.load_dataframe(FRAME, name, idempotency_key="one")["duplicate"] is True
    with pytest.raises(InvalidArgumentError) as caught:
        client.load_dataframe(FRAME.assign(x=2), name, idempotency_key="one")
    assert_clean(caught.value, "INVALID_ARGUMENT", "one")


def test_tables_that_name_a_column_twice(client, name):
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(InvalidArgumentError) as caught:
        client.load_dataframe(table, name)
    assert_clean(caught.value, "INVALID_ARGUMENT", "a")


def test_columns_that_there_are_not(client, name):
    client.load_dataframe(FRAME, name)
    with pytest.raises(ValueError, match="columns: there is no column 'z'; the columns are: 'day', 'x'"):
        client.get_dataframe(name, columns=["x", "z"])


def test_a_server_that_is_not_there():
    with DataFrameClient("grpc://127.0.0.1:1", attempts=2) as client:
        with pytest.raises(UnavailableError, match="Connection refused|failed to connect") as caught:
            client.get_dataframe("a")
        assert not caught.value.from_server
        assert isinstance(caught.value, ConnectionError)
        assert "Client context" not in str(caught.value)


def test_a_call_that_takes_longer_than_the_timeout():
    # Who listens and never answers; a server of ours can be quicker than the shortest timeout.
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
    with silent, DataFrameClient(address, timeout=0.001) as client, pytest.raises(DeadlineExceededError) as caught:
        client.get_dataframe("a")
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("code", BY_CODE)
def test_every_code_has_its_class(code):
    error = from_message(f"[{code}] what, where and what to do; [not a code] too")
    assert type(error) is BY_CODE[code]
    assert str(error) == f"[{code}] what, where and what to do; [not a code] too"


def test_a_message_without_a_code_is_none_of_ours():
    assert from_message("what") is None
