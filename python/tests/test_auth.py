"""A server that wants to know who calls: a token is sent with every call, and without one nothing is told."""

from __future__ import annotations

import subprocess

import pandas as pd
import pyarrow.flight as flight
import pytest
from pandas.testing import assert_frame_equal

from conftest import serving
from pandas_db_sdk import DataFrameClient, NotFoundError, UnauthenticatedError

FRAME = pd.DataFrame({"day": ["2024-01-01"], "x": [1]})
PASSWORD = "correct horse battery"


@pytest.fixture
def guarded(start_server, tmp_path):
    """A server that knows ann and bob, who have nothing in common."""
    users = tmp_path / "users.toml"
    for user in ("ann", "bob"):
        subprocess.run(
            [serving.binary(), "user", "add", user, "--users-file", str(users), "--tenant", user],
            input=PASSWORD + "\n",
            text=True,
            check=True,
            capture_output=True,
            env=serving.clean_environment(),
        )
    return start_server(auth="users", users_file=users)


def token_of(server, user: str) -> str:
    """Log in, and return the token that the server answers with."""
    with flight.connect(server.flight) as client:
        _, token = client.authenticate_basic_token(user, PASSWORD)
    return token.decode()[len("Bearer ") :]


@pytest.mark.parametrize("way", ["flight", "http"])
def test_a_token_opens_what_is_its_users_own(guarded, way, monkeypatch):
    address = getattr(guarded, way)
    with DataFrameClient(address, token_of(guarded, "ann")) as ann:
        ann.load_dataframe(FRAME, "secret/plans", columns_keys={"day": "Date"})
        assert_frame_equal(ann.get_dataframe("secret/plans"), FRAME)
        assert [each["name"] for each in ann.list_dataframes()] == ["secret/plans"]
        assert ann.sql("SELECT x FROM secret.plans")["x"].tolist() == [1]
    monkeypatch.setenv("PANDAS_DB_TOKEN", token_of(guarded, "bob"))
    with DataFrameClient(address) as bob:
        assert bob.list_dataframes() == []
        with pytest.raises(NotFoundError):
            bob.get_dataframe("secret/plans")


@pytest.mark.parametrize("way", ["flight", "http"])
@pytest.mark.parametrize("token", [None, "made-up"])
def test_without_a_good_token_nothing_is_told(guarded, way, token):
    with DataFrameClient(getattr(guarded, way), token) as nobody:
        for call in (
            lambda: nobody.load_dataframe(FRAME, "a"),
            lambda: nobody.get_dataframe("a"),
            lambda: nobody.list_dataframes(),
            lambda: nobody.sql("SELECT 1"),
            lambda: nobody.delete_dataframe("a"),
        ):
            with pytest.raises(UnauthenticatedError) as caught:
                call()
            assert caught.value.from_server
            assert str(caught.value).startswith("[UNAUTHENTICATED] ")
