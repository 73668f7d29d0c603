"""Who was let in and is no more: by ``--revoked``, and in the middle of a call that goes on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager

import callers
import conftest
import issuer as oidc
import jwt
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from callers import add_user, basic, bearer, client_of, code_of, flight_calls, handshake, http, raw_of
from frames import assert_absent, get, list_names, refused
from test_serve import assert_refuses_to_start

pytestmark = pytest.mark.any_backend("it is about who is let in")

PASSWORD = "correct horse battery"
ROWS = pa.table({"x": list(range(1_000))})
ENDLESS = json.dumps({"sql": "SELECT v FROM generate_series(1, 2000000000) t(v)"})
KEY = oidc.Key("first")
RULES = '[[rule]]\nprincipal = "*"\nprefix = "*"\nallow = "admin"\n'


@pytest.fixture
def issuer():
    """An issuer."""
    with oidc.running(KEY) as running:
        yield running


@pytest.fixture
def revoked(tmp_path):
    """A function that writes who is let in no more."""
    file = tmp_path / "revoked.toml"

    def write(**lists: list[str]) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_text("".join(f"{name} = {json.dumps(values)}\n" for name, values in lists.items()))
        os.replace(fresh, file)

    write()
    write.file = file
    return write


@pytest.fixture
def jwt_server(start_server, issuer, revoked):
    """A server that takes the issuer's tokens, and looks at each message whether they are still good."""
    return start_server(**issuer.settings(), revoked=revoked.file, recheck_interval="0s")


@pytest.fixture
def users_server(start_server, tmp_path):
    """A server with a user and rules that looks at each message again."""
    users, rules = tmp_path / "users.toml", tmp_path / "policy.toml"
    add_user(users, "ann", PASSWORD)
    rules.write_text(RULES)
    server = start_server(auth="users", users_file=users, policy=rules, recheck_interval="0s")
    server.users_file, server.rules_file = users, rules
    return server


def assert_nobody(server, header: str) -> None:
    """Check that no call is taken."""
    with raw_of(server.flight, header) as raw:
        for name, call in flight_calls("data").items():
            assert code_of(call, raw) == "UNAUTHENTICATED", name
        assert code_of(handshake, raw) == "UNAUTHENTICATED"
    for method, path, body in callers.http_calls("data"):
        assert http(server, method, path, header, body)[0] == 401, path


def assert_let_in(server, header: str) -> None:
    """Check that a call is taken."""
    with client_of(server.flight, header) as client:
        list_names(client)


def test_tokens_and_users_that_are_revoked_are_let_in_no_more(jwt_server, issuer, revoked):
    first, second = issuer.token(jti="1", origin_jti="log-in"), issuer.token(jti="2", origin_jti="log-in")
    other = issuer.token("bob", jti="3")
    with raw_of(jwt_server.flight, bearer(first)) as raw:
        given, _ = handshake(raw)
    ours = jwt.decode(given.split("pandas_db_")[1], options={"verify_signature": False})["jti"]
    for header in (bearer(first), bearer(second), bearer(other), given):
        assert_let_in(jwt_server, header)
    revoked(tokens=["1"])
    assert_nobody(jwt_server, bearer(first))
    assert_nobody(jwt_server, given)
    assert_let_in(jwt_server, bearer(second))
    revoked(tokens=[ours])
    assert_nobody(jwt_server, given)
    assert_let_in(jwt_server, bearer(first))
    revoked(tokens=["log-in"])
    assert_nobody(jwt_server, bearer(second))
    assert_let_in(jwt_server, bearer(other))
    revoked(users=["bob"])
    assert_nobody(jwt_server, bearer(other))
    assert_let_in(jwt_server, bearer(first))
    revoked()
    assert_let_in(jwt_server, bearer(other))


def test_a_file_that_is_damaged_leaves_what_was_known(jwt_server, issuer, revoked):
    revoked(users=["ann"])
    assert_nobody(jwt_server, bearer(issuer.token()))
    revoked.file.write_text("users = ")
    assert_nobody(jwt_server, bearer(issuer.token()))


def test_a_user_of_the_file_can_be_shut_out_too(start_server, tmp_path, revoked):
    users = tmp_path / "users.toml"
    add_user(users, "ann", PASSWORD)
    server = start_server(auth="users", users_file=users, revoked=revoked.file)
    assert_let_in(server, basic("ann", PASSWORD))
    revoked(users=["ann"])
    assert_nobody(server, basic("ann", PASSWORD))


@contextmanager
def loading(server, header: str, name: str):
    """A load whose first rows were sent."""
    with client_of(server.flight, header) as client:
        writer, _ = client.do_put(flight.FlightDescriptor.for_path(name), ROWS.schema)
        writer.write_table(ROWS)
        yield writer


def end(writer: flight.FlightStreamWriter) -> None:
    """Send more and end a load."""
    writer.write_table(ROWS)
    writer.done_writing()
    writer.close()


def test_a_load_ends_with_the_token_it_began_with(jwt_server, issuer, revoked):
    token = issuer.token(jti="1")
    with loading(jwt_server, bearer(token), "data") as writer:
        revoked(tokens=["1"])
        with refused("UNAUTHENTICATED", mentions=["revoked"]):
            end(writer)
    with client_of(jwt_server.flight, bearer(issuer.token(jti="2"))) as client:
        assert_absent(client, "data")


def test_a_load_ends_when_its_token_expires(jwt_server, issuer):
    # Within the leeway of half a minute it is still good, for two seconds.
    token = issuer.token(exp=int(time.time()) - 28)

    def load_on(writer: flight.FlightStreamWriter) -> None:
        deadline = time.monotonic() + conftest.PATIENCE
        while time.monotonic() < deadline:
            writer.write_table(ROWS)

    with loading(jwt_server, bearer(token), "data") as writer:
        with refused("UNAUTHENTICATED", mentions=["expired"]):
            load_on(writer)
    with client_of(jwt_server.flight, bearer(issuer.token())) as client:
        assert_absent(client, "data")


def another_password(server) -> None:
    """Give the user another password."""
    add_user(server.users_file, "ann", PASSWORD + "!")


def no_user(server) -> None:
    """Take the user out."""
    command = [conftest.binary(), "user", "remove", "ann", "--users-file", str(server.users_file)]
    subprocess.run(command, check=True, capture_output=True)


def other_rules(server) -> None:
    """Let users only read."""
    server.rules_file.write_text(RULES.replace("admin", "read"))


CHANGES: dict[str, tuple[Callable, str]] = {
    "password": (another_password, "UNAUTHENTICATED"),
    "user": (no_user, "UNAUTHENTICATED"),
    "rules": (other_rules, "PERMISSION_DENIED"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_load_ends_when_its_user_changes(users_server, what):
    change, code = CHANGES[what]
    with loading(users_server, basic("ann", PASSWORD), "data") as writer:
        change(users_server)
        with refused(code):
            end(writer)
    add_user(users_server.users_file, "ann", PASSWORD)
    users_server.rules_file.write_text(RULES)
    with client_of(users_server.flight, basic("ann", PASSWORD)) as client:
        assert_absent(client, "data")


def test_a_change_for_others_ends_no_load(users_server):
    with loading(users_server, basic("ann", PASSWORD), "data") as writer:
        add_user(users_server.users_file, "bob", PASSWORD)
        users_server.rules_file.write_text(RULES + '[[rule]]\nprincipal = "bob"\nprefix = "x"\nallow = "read"\n')
        end(writer)
    with client_of(users_server.flight, basic("ann", PASSWORD)) as client:
        assert get(client, "data").num_rows == 2 * ROWS.num_rows


def test_a_read_ends_with_the_token_it_began_with(jwt_server, issuer, revoked):
    token = issuer.token(jti="1")
    with client_of(jwt_server.flight, bearer(token)) as client:
        reader = client.do_get(flight.Ticket(ENDLESS))
        reader.read_chunk()
        revoked(tokens=["1"])
        with refused("UNAUTHENTICATED", mentions=["revoked"]):
            while True:
                reader.read_chunk()


def test_before_the_interval_has_passed_a_call_goes_on(start_server, issuer, revoked):
    server = start_server(**issuer.settings(), revoked=revoked.file, recheck_interval="1h")
    with client_of(server.flight, bearer(issuer.token(jti="1"))) as client:
        reader = client.do_get(flight.Ticket(ENDLESS))
        rows = reader.read_chunk().data.num_rows
        revoked(tokens=["1"])
        with refused("UNAUTHENTICATED"):
            list_names(client)
        # Far more than what was on its way.
        while rows < 20_000_000:
            rows += reader.read_chunk().data.num_rows
        reader.cancel()


def test_settings_that_cannot_be_are_refused(tmp_path, issuer, revoked):
    jwt_flags = conftest.flags(**issuer.settings())
    assert_refuses_to_start(["--revoked", str(revoked.file)], tmp_path, "--revoked", "--auth")
    assert_refuses_to_start([*jwt_flags, "--revoked", "missing.toml"], tmp_path, "--revoked missing.toml")
    revoked(user=["ann"])
    assert_refuses_to_start([*jwt_flags, "--revoked", str(revoked.file)], tmp_path, "--revoked", "user")
    assert_refuses_to_start(["--recheck-interval", "often"], tmp_path, "--recheck-interval often")
