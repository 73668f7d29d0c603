"""Tickets, handles and cookies that were given to another, or to nobody."""

from __future__ import annotations

import base64
import hmac
import json

import callers
import conftest
import flight_sql as fs
import issuer as oidc
import pyarrow as pa
import pytest
import rights_stage
import wire
from frames import get, load
from rights import FOREIGN_TENANT, NAME, ROLES, TENANT, Access, Caller, attempt
from rights_calls import rows_after
from rights_stage import FRAME, OUTSIDERS, OWN, REFUSED
from rights_statements import SELECT, put, table
from wire import text

pytestmark = pytest.mark.any_backend("it is about who may do what")

OTHERS = [role for role in ROLES if role != "admin"]
stage, before = rights_stage.fixtures()


def grants(owner: Caller, name: str) -> dict[str, bytes]:
    """Return what the server gave its owner, by kind: tickets as they came, and handles."""
    frame = owner.must("GetFlightInfo", wire.path_descriptor(*name.split("/"))).parts[0]
    poll = owner.must("PollFlightInfo", wire.command_descriptor(fs.statement(SELECT.sql(name)))).parts[0]
    handle = owner.prepare(SELECT.sql(name))
    return {
        "frame": fs.read_info(frame).tickets[0],
        "query": owner.info(fs.statement(SELECT.sql(name))).tickets[0],
        "poll": fs.read_info(dict(wire.fields(poll))[1]).tickets[0],
        "metadata": owner.info(fs.tables()).tickets[0],
        "count": owner.info(fs.statement(f"INSERT INTO {table(name)} SELECT * FROM {table(name)} WHERE FALSE")).tickets[
            0
        ],
        "handle": handle,
        "bound": owner.info(fs.prepared_query(handle)).tickets[0],
        "update": owner.prepare(f"INSERT INTO {table(name)} VALUES (7)"),
    }


def token_in(grant: bytes) -> str:
    """Return the signed part of a ticket or handle; of those that are plain commands, nothing."""
    try:
        found = dict(wire.fields(grant))
        grant = dict(wire.fields(found[2]))[1] if 2 in found else grant
    except (ValueError, IndexError, KeyError):
        pass
    return grant.decode() if isinstance(grant, bytes) and grant.count(b".") == 2 else ""


def uses(grant: bytes) -> dict[str, object]:
    """Return every call that takes a ticket or a handle, by name; each is a function of the caller."""
    query, update = fs.prepared_query(grant), fs.prepared_update(grant)
    statement = fs.command("TicketStatementQuery", text(1, grant))
    endpoint = text(1, text(1, grant))
    info = text(3, endpoint)
    cancel_query = fs.command("ActionCancelQueryRequest", text(1, info))
    return {
        "DoGet": lambda caller: caller.flight("DoGet", text(1, grant)),
        "DoGet statement": lambda caller: caller.flight("DoGet", text(1, statement)),
        "DoGet prepared": lambda caller: caller.flight("DoGet", text(1, query)),
        "GetFlightInfo": lambda caller: caller.flight("GetFlightInfo", wire.command_descriptor(query)),
        "GetFlightInfo ticket": lambda caller: caller.flight("GetFlightInfo", wire.command_descriptor(grant)),
        "PollFlightInfo": lambda caller: caller.flight("PollFlightInfo", wire.command_descriptor(query)),
        "GetSchema": lambda caller: caller.flight("GetSchema", wire.command_descriptor(query)),
        "bind": lambda caller: caller.flight("DoPut", *rows_after(wire.command_descriptor(query))),
        "update": lambda caller: caller.flight("DoPut", put(update)),
        "update with rows": lambda caller: caller.flight("DoPut", *rows_after(wire.command_descriptor(update))),
        "CancelFlightInfo": lambda caller: caller.action("CancelFlightInfo", text(1, info)),
        "CancelQuery": lambda caller: caller.action("CancelQuery", cancel_query),
        "RenewFlightEndpoint": lambda caller: caller.action("RenewFlightEndpoint", text(1, endpoint)),
    }


def assert_refused(caller: Caller, role: str, call, words: list[bytes]) -> None:
    """Check that a call is refused, and tells nothing."""
    answer = attempt(call, caller)
    codes = ("UNAUTHENTICATED",) if ROLES[role].access == Access.OPEN else (*REFUSED, "UNIMPLEMENTED")
    assert answer.code in codes, f"{answer.code}: {answer.told[:300]}"
    assert [word for word in words if word in answer.told] == []


@pytest.mark.parametrize("role", OTHERS)
def test_a_ticket_or_handle_is_good_for_its_owner_alone(stage, before, role):
    words = stage.hidden()
    given = {kind: grant for kind, grant in grants(stage.owner, NAME).items() if token_in(grant)}
    assert set(given) >= {"frame", "query", "poll", "count", "handle", "bound", "update"}
    with stage.caller(role) as caller:
        for kind, grant in given.items():
            for form in {grant, token_in(grant).encode()}:
                for use, call in uses(form).items():
                    try:
                        assert_refused(caller, role, call, words)
                    except AssertionError as error:
                        pytest.fail(f"{kind} by {use}: {error}")
        close = fs.command("ActionClosePreparedStatementRequest", text(1, given["handle"]))
        caller.action("ClosePreparedStatement", close)
    assert stage.state() == before
    # They were refused for who they are, and nothing that they tried spoils it for the owner.
    for kind, grant in given.items():
        use = {"handle": "GetFlightInfo", "update": "update"}.get(kind, "DoGet")
        answer = attempt(uses(grant)[use], stage.owner)
        assert answer.code == "OK", f"{kind}: {answer.told[:300]}"


def _part(content: dict | bytes) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def sign(claims: dict, key: bytes, algorithm: str = "HS256", digest: str = "sha256", **header: object) -> str:
    """Sign claims, in whatever way a header says."""
    content = f"{_part({'typ': 'JWT', 'alg': algorithm} | header)}.{_part(claims)}"
    return f"{content}.{_part(hmac.digest(key, content.encode(), digest))}"


def forged(own: str, owners: str) -> dict[str, str]:
    """Return tokens made of one's own and of another's: claims changed, signatures changed, algorithms changed."""
    claims, others = (json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")) for token in (own, owners))
    as_owner = claims | {"sub": others["sub"], "tenant": others["tenant"]}
    in_tenant = claims | {"tenant": others["tenant"]}
    for_me = others | {"sub": claims["sub"], "tenant": claims["tenant"]}
    header, payload, signature = owners.split(".")
    own_header, own_payload, own_signature = own.split(".")
    unsigned = {name: sign(for_me, b"", name).rsplit(".", 1)[0] + "." for name in ("none", "None", "NONE", "")}
    return {f"algorithm {name!r}": token for name, token in unsigned.items()} | {
        "empty key": sign(for_me, b""),
        "key of zeros": sign(for_me, bytes(32)),
        "guessed key": sign(for_me, b"secret" * 8),
        "key that it brings": sign(for_me, b"k" * 32, jwk={"kty": "oct", "k": _part(b"k" * 32)}, kid="../../dev/null"),
        "other hash": sign(for_me, b"k" * 64, "HS512", "sha512"),
        "algorithm of another kind": sign(for_me, b"k" * 32, "RS256"),
        "own signature, claims of another": f"{header}.{payload}.{own_signature}",
        "signature of another, own claims": f"{own_header}.{own_payload}.{signature}",
        "grant of another for me": f"{header}.{_part(for_me)}.{signature}",
        "own token as the owner": f"{header}.{_part(as_owner)}.{own_signature}",
        "own token in the tenant": f"{header}.{_part(in_tenant)}.{own_signature}",
        "no signature": f"{header}.{payload}.",
        "cut": owners[:-1],
        "four parts": f"{owners}.{signature}",
        "spaces": f" {owners} ",
        "empty parts": "..",
    }


@pytest.mark.parametrize("role", [*OUTSIDERS, "reader_by_role", "writer_by_rule"])
def test_a_forged_ticket_or_handle_is_refused(stage, before, role):
    words = stage.hidden()
    owners = {kind: token_in(grant) for kind, grant in grants(stage.owner, NAME).items()}
    with stage.caller(role) as caller:
        name = OWN if role in OUTSIDERS else NAME
        own = token_in(caller.info(fs.statement(SELECT.sql(name))).tickets[0])
        own_handle = token_in(caller.prepare(SELECT.sql(name)))
        for kind in ("query", "handle", "update"):
            for what, token in forged(own if kind == "query" else own_handle, owners[kind]).items():
                for use, call in uses(token.encode()).items():
                    try:
                        assert_refused(caller, role, call, words)
                    except AssertionError as error:
                        pytest.fail(f"{kind}, {what}, by {use}: {error}")
    assert stage.state() == before


def test_a_ticket_of_a_server_with_another_key_is_refused(stage, before, tmp_path):
    for server in conftest.serve(tmp_path):
        with Caller(server, None) as there:
            with server.connect() as client:
                load(client, FRAME, NAME)
            for kind, grant in grants(there, NAME).items():
                if token_in(grant):
                    assert stage.owner.flight("DoGet", text(1, grant)).code == "INVALID_ARGUMENT", kind


def test_a_session_is_its_owners_alone(stage, before):
    option = text(1, text(1, "schema") + text(2, fs.write_option("matrix")))
    channel = stage.owner.raw.channel
    call = channel.unary_stream(wire._SERVICE + "DoAction")(
        text(1, "SetSessionOptions") + text(2, option), metadata=stage.owner.raw.headers
    )
    assert list(call)
    cookie = dict(call.initial_metadata())["set-cookie"].split(";")[0]
    get_options = text(1, "GetSessionOptions")
    for role, header in stage.headers.items():
        with fs.RawSql(stage.server.flight, headers=[("cookie", cookie)]) as raw:
            raw.headers += [("authorization", header)] if header else []
            caller = Caller(stage.server, header)
            caller.raw = raw
            answer = caller.flight("DoAction", get_options)
        if role == "admin":
            assert answer.code == "OK" and b"matrix" in answer.told
        elif ROLES[role].access == Access.OPEN:
            assert answer.code == "UNAUTHENTICATED"
        else:
            assert b"matrix" not in answer.told, role


def test_one_subject_in_two_tenants_is_two_callers(start_server, tmp_path):
    with oidc.running(oidc.Key("one")) as issuer:
        server = start_server(**issuer.settings(), jwt_tenant_claim="org")
        headers = [callers.bearer(issuer.token("ann", org=org)) for org in (TENANT, FOREIGN_TENANT)]
        with Caller(server, headers[0]) as one, Caller(server, headers[1]) as two:
            for caller, value in ((one, 1), (two, 2)):
                with callers.client_of(server.flight, caller.header) as client:
                    load(client, pa.table({"x": [value]}), NAME)
            for kind, grant in grants(one, NAME).items():
                if token_in(grant):
                    for use, call in uses(grant).items():
                        answer = attempt(call, two)
                        assert answer.code in (*REFUSED, "UNIMPLEMENTED"), f"{kind} by {use}: {answer.told[:300]}"
            with callers.client_of(server.flight, headers[1]) as client:
                assert get(client, NAME)["x"].to_pylist() == [2]
