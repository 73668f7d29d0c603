"""Every method, command, action, statement and route x every kind of caller: who is answered, and how.

Whatever there is to call comes from the server (ListActions, openapi.json) and from the protocol's own descriptors;
what is not in the tables of ``rights_calls`` fails the first tests here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import protocol
import pytest
import rights_calls
import rights_stage
import wire
from rights import (
    ABSENT,
    COLUMN,
    IDEMPOTENCY_KEY,
    KEY,
    NAME,
    ROLES,
    VALUE,
    Access,
    Answer,
    Call,
    Caller,
    Role,
    attempt,
    expected,
)
from rights_stage import Stage

pytestmark = pytest.mark.any_backend("it is about who may do what")

CALLS = rights_calls.every_call()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server with a user of each kind."""
    with rights_stage.set_up(tmp_path_factory.mktemp("rights")) as stage:
        yield stage


# Everything is classified


def test_every_method_of_the_service_is_classified():
    assert set(rights_calls.METHODS) == set(protocol.flight_methods())


def test_every_command_of_flight_sql_is_classified():
    assert set(rights_calls.COMMANDS) == set(protocol.sql_commands())


def test_every_action_is_classified(stage):
    answer = stage.owner.flight("ListActions", b"")
    told = {dict(wire.fields(part))[1].decode() for part in answer.parts}
    assert set(rights_calls.ACTIONS) == told
    requests = [name.removeprefix("Action") for name in protocol.sql_action_requests()]
    requests += protocol.plain_action_requests()
    known = {*rights_calls.ACTIONS, *rights_calls.NOT_OFFERED}
    assert {name.removesuffix("Request") for name in requests} <= known
    assert not set(rights_calls.NOT_OFFERED) & told


def test_every_route_is_classified(stage):
    status, body = stage.server.fetch("/openapi.json")
    assert status == 200
    verbs = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    told = {(verb, path) for path, item in json.loads(body)["paths"].items() for verb in verbs & set(item)}
    assert set(rights_calls.ROUTES) == told


def test_routes_that_ask_for_nobody_are_those_the_document_calls_open(stage):
    document = json.loads(stage.server.fetch("/openapi.json")[1])
    for (verb, path), calls in rights_calls.ROUTES.items():
        is_open = document["paths"][path][verb].get("security") == []
        assert all((call.access == Access.OPEN) == is_open for call in calls), f"{verb} {path}"


def test_no_method_of_http_but_those_classified_is_taken(stage):
    routes = {path.replace("{name}", NAME) for _, path in rights_calls.ROUTES}
    taken = {(verb.upper(), path.replace("{name}", NAME)) for verb, path in rights_calls.ROUTES}
    taken |= {("HEAD", path) for verb, path in taken if verb == "GET"}
    for path in sorted(routes):
        for verb in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LINK"):
            if (verb, path) not in taken:
                assert stage.owner.http(verb, path).code == "405", f"{verb} {path}"


# Who is answered what


def group_of(call: Call) -> str:
    """Return which of the tests below makes a call."""
    if " by " in call.about:
        return "statements"
    return "commands" if "Command" in call.about or "Ticket" in call.about else "others"


def assert_tells_nothing(call: Call, caller: Caller, answer: Answer, words: list[bytes]) -> None:
    """Check that an answer is that of a name which nobody uses, and that it holds nothing of the dataset."""
    sent = (COLUMN.encode(), KEY.encode(), IDEMPOTENCY_KEY.encode(), str(VALUE).encode())
    other = attempt(call.run, caller, ABSENT)
    assert other.code == answer.code
    if answer.code != "OK":
        # What the caller wrote may come back; the rest is the same for a name that there is not.
        assert answer.told.replace(b"secret_zq", b"absent_zq") == other.told
    for word in words:
        if word in answer.told:
            assert word in sent and word in other.told, word
    if call.lists:
        assert b"secret_zq" not in answer.told


def check(call: Call, role: Role, caller: Caller, stage: Stage, before: dict) -> bool:
    """Check one call of one caller; return whether it may have changed the dataset."""
    words = stage.hidden() if role.access < Access.READ else []
    answer = attempt(call.run, caller, NAME)
    codes = expected(role, call)
    assert answer.code in codes, f"{answer.code}, not {' or '.join(codes)}: {answer.told[:500]}"
    if role.access >= call.access and call.access >= Access.WRITE:
        return True
    assert stage.state() == before, "it changed the dataset"
    if role.access >= Access.READ:
        assert not call.lists or b"secret_zq" in answer.told
        return False
    if role.is_foreign and answer.code == "OK" and call.creates:
        # It made a dataset in its own tenant. It goes again, so that the name is free for the next call.
        assert caller.ours("delete_dataframe", NAME).code == "OK"
        assert stage.state() == before
        return False
    assert_tells_nothing(call, caller, answer, words)
    return False


@pytest.mark.parametrize("group", ["statements", "commands", "others"])
@pytest.mark.parametrize("role", ROLES)
def test_who_is_answered_what(stage, role, group):
    calls = [call for call in CALLS if group_of(call) == group]
    assert calls
    wrong = []
    before = stage.set()
    for call in calls:
        with stage.caller(role) as caller:
            try:
                changed = check(call, ROLES[role], caller, stage, before)
            except AssertionError as error:
                wrong.append(f"{call.about}: {error}")
                changed = True
        if changed:
            before = stage.set()
    assert not wrong, "\n".join(wrong)
    assert stage.rows() == 1
